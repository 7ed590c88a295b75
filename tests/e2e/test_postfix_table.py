"""policy import and export: Postfix's smtp_tls_policy_maps into Redis and back, and what Postfix itself reads of it."""
import json
import shutil
import subprocess

import pytest

from control_box import BUILD, box, live, until  # noqa: F401

pytestmark = pytest.mark.sanitize

DIGEST = "00112233445566778899aabbccddeeff" * 2
TABLE = f"""# from the old relay
Example.ORG        verify match=mx.example.org:.example.org
                   protocols=!SSLv2:!SSLv3:!TLSv1:!TLSv1.1
.example.org       encrypt ciphers=high
pinned.example     fingerprint match={DIGEST}
plain.example      none
"""


def rules(box):
    return {key.split(":", 2)[2]: box.client.hgetall(key) for key in box.client.scan_iter("waxseal:policy:*")}


def imported(box, text, *args, code=0):
    table = box.folder / "table"
    table.write_text(text)
    return box.run("policy", "import", str(table), *args, code=code)


def test_import_is_one_generation(box):
    box.start_redis()
    box.run("policy", "set", "plain.example", "may", "owner=noc")
    box.run("policy", "set", "other.example", "block")
    done = imported(box, TABLE, "--dry-run")
    assert done.stdout.splitlines()[-1] == "nothing was written: --dry-run" and "- plain.example level=may owner=noc" in done.stdout
    assert rules(box)["plain.example"] == {"level": "may", "owner": "noc"} and box.client.get("waxseal:generation") == "2"
    done = imported(box, TABLE, "--author", "mallory")
    assert done.stdout.splitlines()[-1] == "generation 3: 4 rules, 4 of them changed"
    assert rules(box) == {
        "example.org": {"level": "verify", "match": "mx.example.org:.example.org", "protocols": ">=TLSv1.2"},
        ".example.org": {"level": "encrypt", "ciphers": "high"}, "plain.example": {"level": "none"}, "other.example": {"level": "block"},
        "pinned.example": {"level": "fingerprint", "fingerprints": f"cert:{DIGEST},key:{DIGEST}"}}
    assert "all rules stand there so" in imported(box, TABLE).stdout and box.client.get("waxseal:generation") == "3"
    box.run("policy", "rollback", "2")
    assert set(rules(box)) == {"plain.example", "other.example"} and rules(box)["plain.example"] == {"level": "may", "owner": "noc"}


def test_what_cannot_be_said_is_named_and_nothing_written(box):
    box.start_redis()
    text = "a.example encrypt\n[mx.example]:587 encrypt\nb.example secure tafile=/x\n\nc.example may connection_reuse=yes\n"
    done = imported(box, text, code=1)
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and "table:2: [mx.example]:587: a next hop in brackets" in lines[0] and "table:3: b.example: tafile" in lines[1]
    assert "table:5: c.example: connection_reuse" in lines[2] and "2 lines cannot be said" in lines[3] and "other 2" in lines[3]
    assert not done.stdout and rules(box) == {}
    told = json.loads(imported(box, text, "--partial", "--json").stdout)
    assert told["written"] and told["rules"] == 2 and told["refused"] == 2
    assert [(line["line"], line["refused"]) for line in told["lines"]] == [(2, True), (3, True), (5, False)]
    assert rules(box) == {"a.example": {"level": "encrypt"}, "c.example": {"level": "may"}}


def test_round_trip_through_redis(box):
    box.start_redis()
    written = [("*", "level=may"), ("a.example", "level=secure", "on_fail=reject", 'reason=the "bank", x=y'), (".b.example", "level=dane"),
               ("provider:lab", "nets=192.0.2.0/24", "level=encrypt", "mode=observe"), ("client:10.1.0.0/16", "level=none"),
               ("inbound:*", "level=encrypt"), ("c.example", "level=encrypt", "percent=5", "expires=2099-01-01", "owner=x")]
    for rule in written:
        box.run("policy", "set", *rule)
    first = box.run("policy", "export")
    assert "4 of 7" not in first.stderr and "5 of 7 rules have no line for Postfix" in first.stderr
    before = {rule["key"]: rule["attributes"] for rule in json.loads(box.run("policy", "list", "--json").stdout)}
    box.client.flushall()
    assert imported(box, first.stdout).stdout.splitlines()[-1] == "generation 1: 7 rules, 7 of them changed"
    assert box.run("policy", "export").stdout == first.stdout
    after = {rule["key"]: rule["attributes"] for rule in json.loads(box.run("policy", "list", "--json").stdout)}
    before["c.example"]["expires"] = "2099-01-01T00:00:00Z"
    assert after == before


@pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix is not installed")
def test_postfix_reads_what_is_exported(box):
    box.start_redis()
    imported(box, TABLE)
    box.run("policy", "set", "example.org", "on_fail=reject")
    box.run("policy", "set", "seen.example", "encrypt", "mode=observe")
    table = box.folder / "tls_policy"
    table.write_text(box.run("policy", "export").stdout)

    def ask(key):
        return subprocess.run(["postmap", "-q", key, f"texthash:{table}"], capture_output=True, text=True, check=False)
    assert ask("example.org").stdout == "verify match=mx.example.org:.example.org protocols=>=TLSv1.2\n"
    assert ask(".example.org").stdout == "encrypt ciphers=high\n"
    assert ask("pinned.example").stdout == f"fingerprint match={DIGEST}\n"
    assert ask("seen.example").returncode == 1 and not ask("seen.example").stderr


def test_the_agent_has_all_of_an_import(live):
    """In one image on a fast machine, in a few on a slow one: debounce.h's limit."""
    count = 5000
    text = "".join(f"d{i}.example encrypt\n" for i in range(count))
    imported(live, text)
    until("the import is in force", lambda: len([name for name in live.rules() if name.startswith("d")]) == count)
    assert json.loads(live.run("policy", "log", "-n", "1", "--json").stdout)[0]["generation"] == 1
    live.run("policy", "rollback", "0")
    until("all of it is gone again", lambda: not [name for name in live.rules() if name.startswith("d")])
    assert live.level("first.example") == "encrypt"


def test_bad_files(box):
    box.start_redis()
    assert "nonexistent" in box.run("policy", "import", "/nonexistent", code=1).stderr
    assert "cannot be read" in box.run("policy", "import", str(box.folder), code=1).stderr
    table = box.folder / "table"
    table.write_bytes(b"a.example may\n\x00\xff\x1b[2J encrypt\nb.example\xff encrypt\n")
    done = box.run("policy", "import", str(table), code=1)
    assert "\033" not in done.stderr and "table:2:" in done.stderr and "table:3:" in done.stderr
    box.client.hset("waxseal:policy:broken.example", "level", "x")
    assert "broken.example: refused, and not exported" in box.run("policy", "export", code=1).stderr
    table.write_text("a.example may\n")
    done = subprocess.run([BUILD / "waxseal", "policy", "import", "-", "--config", box.conf], input="z.example encrypt\n", text=True,
                          capture_output=True, timeout=20, check=False)
    assert done.returncode == 0 and rules(box)["z.example"] == {"level": "encrypt"}
    for wrong in (["import"], ["import", "--x"], ["import", "a", "b"], ["export", "x"]):
        assert box.run("policy", *wrong, code=2).stderr.startswith("waxseal: ")
