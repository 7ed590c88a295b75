"""Generations: each write of the command with its author, what it changed, the way back, and edits made beside it."""
import json
import subprocess

import pytest

from control_box import BUILD, box  # noqa: F401

pytestmark = pytest.mark.sanitize


@pytest.fixture
def written(box):
    """Four generations: 1 and 2 set, 3 a change, 4 a deletion."""
    box.start_redis()
    box.run("policy", "set", "a.example", "encrypt", "--author", "alice")
    box.run("policy", "set", "b.example", "may", "--author=bob")
    box.run("policy", "set", "a.example", "level=verify", "reason=the bank")
    box.run("policy", "rm", "b.example")
    return box


def log(box, *args):
    return json.loads(box.run("policy", "log", *args, "--json").stdout)


def rules(box):
    return {key: box.client.hgetall(key) for key in box.client.scan_iter("waxseal:policy:*")}


def test_log(written):
    entries = log(written)
    assert [e["generation"] for e in entries] == [1, 2, 3, 4]
    assert [e["author"] for e in entries[:2]] == ["alice", "bob"] and "@" in entries[2]["author"]
    assert [e["what"] for e in entries] == ["set a.example", "set b.example", "set a.example", "rm b.example"]
    assert entries[2]["changes"] == {"waxseal:policy:a.example": {"before": {"level": "encrypt"},
                                                                  "after": {"level": "verify", "reason": "the bank"}}}
    assert entries[3]["changes"]["waxseal:policy:b.example"] == {"before": {"level": "may"}, "after": None}
    now = int(written.client.time()[0])
    assert all(now - 60 < e["time"] <= now for e in entries)
    lines = written.run("policy", "log", "-n", "2").stdout.splitlines()
    assert lines[0].split() == ["GENERATION", "TIME", "AUTHOR", "RULES", "WHAT"]
    assert [line.split()[0] for line in lines[1:]] == ["4", "3"] and lines[1].endswith("1  rm b.example")
    assert written.client.get("waxseal:generation") == "4"


def test_what_changes_nothing_is_no_generation(written):
    assert written.run("policy", "set", "a.example", "verify").stdout == 'a.example level=verify reason="the bank"\n'
    assert written.client.get("waxseal:generation") == "4" and len(log(written)) == 4


def test_diff(written):
    assert written.run("policy", "diff").stdout == "no difference between 4 and now\n"
    assert written.run("policy", "diff", "2").stdout == ('- a.example level=encrypt\n+ a.example level=verify reason="the bank"\n'
                                                        "- b.example level=may\n")
    assert written.run("policy", "diff", "0", "2").stdout == "+ a.example level=encrypt\n+ b.example level=may\n"
    assert written.run("policy", "diff", "2", "1").stdout == "- b.example level=may\n"
    written.client.hset("waxseal:policy:a.example", "level", "may")
    assert written.run("policy", "diff").stdout == '- a.example level=verify reason="the bank"\n+ a.example level=may reason="the bank"\n'
    told = json.loads(written.run("policy", "diff", "3", "--json").stdout)
    assert told["from"] == "3" and told["to"] == "now" and set(told["changes"]) == {"waxseal:policy:a.example", "waxseal:policy:b.example"}
    assert "the last one is 4" in written.run("policy", "diff", "9", code=1).stderr
    rules_file = written.folder / "rules.txt"
    rules_file.write_text('a.example  may reason="the bank"\n.c.example verify  protocols=TLSv1.3\n')
    assert written.run("policy", "diff", "now", str(rules_file)).stdout == "+ .c.example level=verify protocols=>=TLSv1.3\n"
    assert written.run("policy", "diff", str(rules_file)).stdout == "- .c.example level=verify protocols=>=TLSv1.3\n"
    rules_file.write_text("a.example mai\n")
    assert f"{rules_file}:1:" in written.run("policy", "diff", str(rules_file), code=1).stderr
    assert "nonexistent" in written.run("policy", "diff", "/nonexistent", code=1).stderr


def test_rollback_is_a_generation_itself(written):
    assert written.run("policy", "rollback", "2", "--dry-run").stdout.endswith("nothing was written (--dry-run); that is the way to generation 2\n")
    assert len(log(written)) == 4
    done = written.run("policy", "rollback", "2", "--author", "carol")
    assert done.stdout.splitlines()[-1] == "generation 5: 2 rules as after generation 2"
    assert rules(written) == {"waxseal:policy:a.example": {"level": "encrypt"}, "waxseal:policy:b.example": {"level": "may"}}
    last = log(written, "-n", "1")[0]
    assert last["generation"] == 5 and last["author"] == "carol" and last["what"] == "rollback to 2"
    assert "nothing to do" in written.run("policy", "rollback", "2").stdout
    written.run("policy", "rollback", "4")
    assert rules(written) == {"waxseal:policy:a.example": {"level": "verify", "reason": "the bank"}}
    written.run("policy", "rollback", "0")
    assert rules(written) == {} and written.client.get("waxseal:generation") == "7"


def test_edits_by_hand_are_not_undone_in_silence(written):
    written.client.hset("waxseal:policy:a.example", "owner", "noc")
    written.client.hset("waxseal:policy:hand.example", "level", "block")
    before = rules(written)
    done = written.run("policy", "rollback", "1", code=1)
    assert "waxseal:policy:a.example: was changed since without this command" in done.stderr and "--force" in done.stderr
    assert rules(written) == before and written.client.get("waxseal:generation") == "4"
    # A rule that no generation has touched is nobody's to set back.
    written.run("policy", "rollback", "1", "--force")
    assert rules(written) == {"waxseal:policy:a.example": {"level": "encrypt"}, "waxseal:policy:hand.example": {"level": "block"}}
    # And the edit is not lost: the generation has it as what it found.
    assert log(written, "-n", "1")[0]["changes"]["waxseal:policy:a.example"]["before"]["owner"] == "noc"
    written.run("policy", "rollback", "4", "--force")
    assert rules(written)["waxseal:policy:a.example"] == {"level": "verify", "reason": "the bank"}


def test_numbers_without_history(written):
    written.client.incr("waxseal:generation")
    written.client.incr("waxseal:generation")
    written.run("policy", "set", "c.example", "may")
    done = written.run("policy", "rollback", "3")
    assert "generation 5 to 6" in done.stderr
    assert set(rules(written)) == {"waxseal:policy:a.example", "waxseal:policy:b.example"}
    written.client.xtrim("waxseal:history", maxlen=2, approximate=False)
    assert "the history begins with 7" in written.run("policy", "rollback", "2", code=1).stderr
    written.client.delete("waxseal:history")
    assert "there is no history" in written.run("policy", "rollback", "2", code=1).stderr
    assert "no history" in written.run("policy", "log").stdout


def test_history_is_bounded(box):
    box.start_redis()
    pipe = box.client.pipeline()
    for i in range(1005):
        pipe.xadd("waxseal:history", {"generation": i + 1, "time": 1700000000, "author": "x", "what": "y", "changes": "{}"})
    pipe.execute()
    box.client.set("waxseal:generation", 1005)
    box.run("policy", "set", "a.example", "may")
    assert box.client.xlen("waxseal:history") == 1000
    assert log(box, "-n", "1")[0]["generation"] == 1006


def entry_bytes(box):
    """Of each entry of the history, the oldest first."""
    return [sum(len(name.encode()) + len(value.encode()) for name, value in fields.items()) for _, fields in box.client.xrange("waxseal:history")]


def test_history_is_bounded_by_bytes(box, tmp_path):
    """history_mb holds what many rules at a time would outgrow; what goes for it is said, and the way back ends there."""
    box.start_redis()
    box.redis_lines += "history_mb = 1\n"
    box.configure()
    table = tmp_path / "table"

    def write(level, count=5000):
        table.write_text("".join(f"d{i}.example {level}\n" for i in range(count)))
        done = box.run("policy", "import", str(table), "--author", "x")
        assert int(box.client.get("waxseal:history_bytes")) == sum(entry_bytes(box))
        return done.stderr
    assert "history" not in write("may") + write("encrypt")
    said = write("dane")
    assert "the oldest generation was dropped from the history, to keep it within [redis] history_mb = 1" in said, said
    assert [e["generation"] for e in log(box, "-n", "100")] == [2, 3] and 500000 < sum(entry_bytes(box)) <= 1 << 20
    box.client.delete("waxseal:history_bytes")  # of a Redis that an older waxseal has written to: counted anew
    assert "the oldest generation was dropped" in write("verify")
    box.client.set("waxseal:history_bytes", 1 << 40)  # a lie: counted anew, too, once nothing is left to drop
    said = write("may", 10)
    assert "2 oldest generations were dropped" in said and [e["generation"] for e in log(box, "-n", "100")] == [5], said
    said = write("encrypt", 20000)  # one that is larger than all of it is kept all the same
    assert "the oldest generation was dropped" in said and [e["generation"] for e in log(box, "-n", "100")] == [6]
    assert sum(entry_bytes(box)) > 1 << 20
    assert "the history begins with 6" in box.run("policy", "rollback", "3", code=1).stderr
    assert "the oldest generation was dropped" in box.run("policy", "set", "d1.example", "may").stderr
    assert box.client.xlen("waxseal:history") == 1 and box.run("policy", "set", "d1.example", "encrypt").stderr == ""


def test_many_writers_at_once_lose_nothing(box):
    box.start_redis()
    writers = [subprocess.Popen([BUILD / "waxseal", "policy", "set", f"w{i % 4}.example", "may", f"owner=o{i}", "--config", box.conf],
                                stdout=subprocess.DEVNULL) for i in range(16)]
    assert [w.wait(60) for w in writers] == [0] * 16
    entries = log(box, "-n", "1000")
    assert [e["generation"] for e in entries] == list(range(1, 17)) and box.client.get("waxseal:generation") == "16"
    state = {}
    for entry in entries:
        for key, change in entry["changes"].items():
            assert change["before"] == state.get(key)
            state[key] = change["after"]
    assert state == rules(box)


def test_hostile_history_and_keys(written):
    written.client.xadd("waxseal:history", {"generation": "x", "what": "y"})
    written.client.xadd("waxseal:history", {"generation": "9", "time": "1", "author": "\033[2Jmallory", "what": "\033]0;x", "changes": "{}"})
    written.client.xadd("waxseal:history", {"generation": "9", "time": "1", "author": "m", "what": "w", "changes": "[1"})
    done = written.run("policy", "log")
    assert "\033" not in done.stdout and "mallory" in done.stdout
    written.client.hset("waxseal:policy:bin.example", b"own\xffer", b"\xfe\x1b[0m")
    written.run("policy", "rm", "bin.example")
    assert log(written, "-n", "1")[0]["changes"]["waxseal:policy:bin.example"]["before"] == {"own?er": "??[0m"}
    written.client.set("waxseal:policy:text.example", "x")
    assert "not a hash" in written.run("policy", "set", "text.example", "may", code=1).stderr
    written.run("policy", "rm", "text.example")
    assert not written.client.exists("waxseal:policy:text.example")


def test_what_redis_would_do_by_halves_is_not_begun(written):
    before = rules(written)
    for key, value in (("waxseal:generation", "many"), ("waxseal:history", "text")):
        kept = written.client.dump(key)
        written.client.delete(key)
        written.client.set(key, value)
        assert key in written.run("policy", "set", "z.example", "may", code=1).stderr
        assert rules(written) == before
        written.client.delete(key)
        written.client.restore(key, 0, kept)
    written.client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-xadd"], keys=["*"])
    assert "XADD" in written.run("policy", "set", "z.example", "may", code=1).stderr
    assert rules(written) == before and written.client.get("waxseal:generation") == "4"


def test_usage(box):
    for wrong in (["log", "x"], ["log", "-n", "0"], ["log", "-n"], ["diff", "1", "2", "3"], ["diff", "--x"], ["rollback"], ["rollback", "x"],
                  ["rollback", "-1"], ["rollback", "1", "2"]):
        assert box.run("policy", *wrong, code=2).stderr.startswith("waxseal: ")
    for command in ("log", "diff", "rollback"):
        assert box.run("policy", command, "--help").stdout.startswith(f"usage: waxseal policy {command}")
        assert "redis.sock" in box.run("policy", command, *(["1"] if command == "rollback" else []), code=1).stderr
