"""waxseal-agent against a real Redis, without a dataplane: what is in the image, and when."""
import json
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis

from control_box import BUILD, box, image_rules, live, until  # noqa: F401

pytestmark = pytest.mark.sanitize


def test_fresh_appliance_observes(box):
    box.start_redis()
    box.start_agent()
    until("an image", lambda: box.rules()["*"] == {"level": "may", "mode": "observe"})
    assert not box.agent_json()["empty_refused"]


@pytest.mark.alone
def test_edits_by_redis_cli_are_in_the_image_within_a_second(live):
    redis_cli = ["redis-cli", "-s", str(live.socket)]
    for level in ("may", "encrypt", "block"):
        subprocess.run([*redis_cli, "HSET", "waxseal:policy:edit.example", "level", level], check=True, stdout=subprocess.DEVNULL)
        assert until(f"level {level}", lambda: live.level("edit.example") == level) < 1.0
    live.client.delete("waxseal:policy:edit.example")
    assert until("deletion", lambda: live.level("edit.example") is None) < 1.0
    assert live.level("first.example") == "encrypt"


@pytest.mark.alone
def test_edits_arrive_while_others_never_stop(live):
    stop = threading.Event()
    errors = []

    def storm():
        client = redis.Redis(unix_socket_path=str(live.socket))
        try:
            i = 0
            while not stop.is_set():
                client.hset(f"waxseal:policy:storm{i % 50}.example", mapping={"level": ("may", "encrypt")[i % 2]})
                i += 1
                time.sleep(0.002)
        except redis.RedisError as error:
            errors.append(error)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        time.sleep(0.5)
        for level in ("block", "encrypt", "none"):
            live.client.hset("waxseal:policy:mine.example", "level", level)
            assert until(level, lambda: live.level("mine.example") == level) < 1.0
    finally:
        stop.set()
        thread.join()
    assert not errors


def test_a_burst_makes_few_images(live):
    before = live.agent_json()["counts"]["images"]
    pipe = live.client.pipeline(transaction=False)
    for i in range(5000):
        pipe.hset(f"waxseal:policy:d{i}.example", mapping={"level": "may"})
    pipe.execute()
    until("all of them", lambda: len(live.rules()) >= 5001)
    until("the heartbeat tells", lambda: live.agent_json()["rules"] == 5001)
    assert live.agent_json()["counts"]["images"] - before < 30


def test_a_bad_value_is_refused_alone(live):
    live.client.hset("waxseal:policy:first.example", mapping={"level": "encript", "mode": "enforce"})
    live.client.hset("waxseal:policy:second.example", mapping={"level": "block"})
    live.client.set("waxseal:policy:string.example", "encrypt")
    live.client.hset("waxseal:policy:not a domain", mapping={"level": "may"})
    until("the good one", lambda: live.level("second.example") == "block")
    assert live.level("first.example") == "encrypt"
    until("three refusals", lambda: len(live.refused()) == 3)
    assert "encript" in live.refused()["waxseal:policy:first.example"]
    assert "level" in live.refused()["waxseal:policy:first.example"]
    assert "not a hash" in live.refused()["waxseal:policy:string.example"]
    assert "refused key=waxseal:policy:first.example" in live.log.read_text()
    done = live.run("status", code=1)  # there is no waxseald
    assert "refused, last good form stays in force: waxseal:policy:first.example" in done.stdout

    # The agent's restart does not forget the good form; correcting and deleting do what they say.
    live.stop_agent()
    live.image.unlink()
    live.start_agent()
    until("the image is back", lambda: live.level("second.example") == "block")
    assert live.level("first.example") == "encrypt"
    live.client.hset("waxseal:policy:first.example", "level", "may")
    until("the corrected one", lambda: live.level("first.example") == "may")
    live.client.hset("waxseal:policy:first.example", "level", "nonsense")
    until("refused again", lambda: "waxseal:policy:first.example" in live.refused())
    live.client.delete("waxseal:policy:first.example", "waxseal:policy:string.example", "waxseal:policy:not a domain")
    until("gone", lambda: live.level("first.example") is None)
    until("nothing refused", lambda: not live.refused())


@pytest.mark.alone
def test_conflicting_rules_stop_no_others(live):
    live.client.hset("waxseal:provider:one", mapping={"nets": "10.77.1.0/24", "level": "encrypt"})
    until("provider one", lambda: live.level("one") == "encrypt")
    live.client.hset("waxseal:provider:two", mapping={"nets": "10.77.1.0/24", "level": "block"})
    until("refused for the conflict", lambda: "waxseal:provider:two" in live.refused())
    live.client.hset("waxseal:policy:later.example", mapping={"level": "block"})
    assert until("an edit behind the conflict", lambda: live.level("later.example") == "block") < 1.0
    assert live.level("one") == "encrypt" and live.level("two") is None
    live.client.delete("waxseal:provider:one")
    until("two takes the place", lambda: live.level("two") == "block" and live.level("one") is None)
    until("nothing refused", lambda: not live.refused())


def test_two_spellings_of_a_rule(live):
    live.client.hset("waxseal:policy:First.EXAMPLE", mapping={"level": "block"})
    until("the other spelling is named", lambda: "waxseal:policy:First.EXAMPLE" in live.refused())
    assert live.level("first.example") == "encrypt"
    live.client.delete("waxseal:policy:first.example")
    until("it takes over", lambda: live.level("first.example") == "block")


@pytest.mark.alone
def test_a_flush_empties_nothing(live):
    live.client.flushall()
    until("refused", lambda: live.agent_json()["empty_refused"])
    time.sleep(0.5)
    assert live.level("first.example") == "encrypt"
    assert "Redis has no rules, which removes none" in live.run("status", code=1).stdout
    # A restart in that state, and a Redis that lost its data, change nothing either.
    live.stop_agent()
    live.stop_redis()
    live.start_redis()
    live.start_agent()
    until("refused after the restart", lambda: live.agent_json()["empty_refused"])
    assert live.level("first.example") == "encrypt"
    # From the first rule on Redis is believed again, all of it.
    live.client.hset("waxseal:policy:new.example", mapping={"level": "block"})
    assert until("the new rule alone", lambda: live.level("new.example") == "block" and live.level("first.example") is None) < 1.0
    until("no more refused", lambda: not live.agent_json()["empty_refused"])


def test_flush_and_reload_is_one_change(live):
    for i in range(20):
        live.client.hset(f"waxseal:policy:k{i}.example", mapping={"level": "encrypt"})
    until("twenty", lambda: live.level("k19.example") == "encrypt")
    stop = threading.Event()
    seen = []

    def look():
        while not stop.is_set():
            seen.append(live.level("first.example"))
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    live.client.flushdb()
    live.client.hset("waxseal:policy:first.example", mapping={"level": "encrypt"})
    until("the rest is gone", lambda: live.level("k19.example") is None)
    stop.set()
    thread.join()
    assert set(seen) == {"encrypt"}


@pytest.mark.alone
def test_the_last_rule_can_be_removed_on_purpose(live):
    live.run("policy", "rm", "first.example")
    assert until("gone", lambda: live.level("first.example") is None) < 1.0
    assert not live.agent_json()["empty_refused"]
    # Also while nobody watched: the generation says that it was meant.
    live.run("policy", "set", "again.example", "level=block")
    until("there", lambda: live.level("again.example") == "block")
    live.stop_agent()
    live.run("policy", "rm", "again.example")
    live.start_agent()
    until("gone", lambda: live.level("again.example") is None)
    assert not live.agent_json()["empty_refused"]


def test_deleted_while_the_agent_was_away(live):
    live.client.hset("waxseal:policy:other.example", mapping={"level": "block"})
    until("both", lambda: live.level("other.example") == "block")
    live.stop_agent()
    live.client.delete("waxseal:policy:first.example")
    live.start_agent()
    until("one", lambda: live.level("first.example") is None)
    assert live.level("other.example") == "block"


def test_redis_down_and_back(live):
    live.stop_redis()
    until("the agent knows", lambda: live.redis_state() != "live")
    assert live.level("first.example") == "encrypt"
    live.start_redis()
    live.client.hset("waxseal:policy:after.example", mapping={"level": "block"})
    until("in step again", lambda: live.level("after.example") == "block" and live.level("first.example") is None)


@pytest.mark.alone
def test_a_stopped_redis_is_noticed(live):
    live.server.send_signal(signal.SIGSTOP)
    until("silence is noticed", lambda: live.redis_state() != "live")
    assert "no answer" in live.agent_json()["redis"]["error"]
    done = live.run("status", "--json", code=1)
    assert "error" in json.loads(done.stdout)["redis"]
    assert live.level("first.example") == "encrypt"
    live.server.send_signal(signal.SIGCONT)
    until("live again", lambda: live.redis_state() == "live")
    live.client.hset("waxseal:policy:first.example", "level", "block")
    assert until("and edits arrive", lambda: live.level("first.example") == "block") < 1.0


@pytest.mark.alone
def test_killed_subscription_is_made_anew(live):
    for client in live.client.client_list():
        if client["sub"] == "1":
            live.client.client_kill(client["addr"] or None) if client["addr"] and not client["addr"].startswith("/") \
                else live.client.execute_command("CLIENT", "KILL", "ID", client["id"])
    live.client.hset("waxseal:policy:missed.example", mapping={"level": "block"})
    assert until("nothing is missed", lambda: live.level("missed.example") == "block") < 1.0


def test_acl_user_database_and_prefix(box):
    box.redis_lines += "user = seal\npassword = s3cr#t=1\ndatabase = 3\nprefix = lab*[1]:\n"
    box.configure()
    client = box.start_redis()
    client.execute_command("ACL", "SETUSER", "seal", "on", ">s3cr#t=1", "~lab*", "&*", "+@all")
    three = redis.Redis(unix_socket_path=str(box.socket), db=3)
    three.hset("lab*[1]:policy:a.example", mapping={"level": "block"})
    three.hset("labx1:policy:b.example", mapping={"level": "block"})
    client.hset("lab*[1]:policy:c.example", mapping={"level": "block"})
    box.start_agent()
    until("its rule", lambda: box.level("a.example") == "block")
    assert box.level("b.example") is None and box.level("c.example") is None
    box.run("policy", "set", "d.example", "encrypt")
    until("the command's rule", lambda: box.level("d.example") == "encrypt")
    assert three.hget("lab*[1]:policy:d.example", "level") == b"encrypt"
    client.execute_command("ACL", "SETUSER", "seal", "resetpass", ">other")
    client.execute_command("CLIENT", "KILL", "USER", "seal")
    until("the refusal is told", lambda: "WRONGPASS" in box.agent_json()["redis"]["error"])
    assert "s3cr" not in box.log.read_text() + box.state.read_text()
    assert "WRONGPASS" in box.run("policy", "list", code=1).stderr
    assert box.level("a.example") == "block"


def test_redis_over_tcp(box):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    box.redis_lines = f"address = 127.0.0.1:{port}\n"
    box.configure()
    box.start_redis("--port", str(port), "--bind", "127.0.0.1")
    box.client.hset("waxseal:policy:tcp.example", mapping={"level": "block"})
    box.start_agent()
    until("its rule", lambda: box.level("tcp.example") == "block")
    assert "tcp.example" in box.run("policy", "list").stdout


@pytest.mark.alone
def test_generation_is_redis_own(live):
    live.run("policy", "set", "g.example", "level=may")
    live.client.set("waxseal:generation", 41)
    live.client.incr("waxseal:generation")
    assert until("generation 42", lambda: image_rules(live.image)[1] == 42) < 1.0
    until("and told", lambda: live.agent_json()["image"]["generation"] == 42)


def test_an_exception_ends_by_itself(live):
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    live.client.hset("waxseal:policy:soon.example", mapping={"level": "none", "expires": expires, "owner": "anna"})
    until("in force", lambda: live.level("soon.example") == "none")
    until("over", lambda: live.level("soon.example") is None)


def test_once(box):
    command = [BUILD / "waxseal-agent", "--config", box.conf, "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.returncode == 1 and "redis.sock" in done.stderr
    assert not box.image.exists()
    box.start_redis()
    box.client.hset("waxseal:policy:once.example", mapping={"level": "verify", "match": "mx.once.example"})
    assert subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    assert box.level("once.example") == "verify"
    box.client.flushall()
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.returncode == 1 and "empty" in done.stderr
    assert box.level("once.example") == "verify"


def test_an_image_of_unknown_origin_is_not_emptied(box):
    rules = box.folder / "rules.txt"
    rules.write_text("text.example level=block\n")
    box.run("policy", "compile", str(rules))
    box.start_redis()
    box.start_agent()
    until("refused", lambda: box.agent_json()["empty_refused"])
    assert box.level("text.example") == "block"


@pytest.mark.parametrize("text, what", [
    ("[redis]\naddres = x\n", "no such option"),
    ("[redis]\naddress = nowhere\n", "host:port"),
    ("[agent]\nstate = /nonexistent/agent.json\n", "must exist"),
    ("[agent]\nmetrics = 192.0.2.1:9825\n", "choose a free"),
])
def test_bad_configuration_is_one_line(box, text, what):
    box.conf.write_text(text + ("" if "[agent]" not in text or "state" in text else f"state = {box.state}\n"))
    done = subprocess.run([BUILD / "waxseal-agent", "--config", box.conf], capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert what in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_unwritable_image_is_told_and_tried_again(live):
    live.image.unlink()
    live.image.mkdir()
    live.client.hset("waxseal:policy:full.example", mapping={"level": "block"})
    until("the error is told", lambda: live.agent_json()["image"]["error"])
    live.image.rmdir()
    until("and cured", lambda: live.level("full.example") == "block")
    until("and that is told", lambda: not live.agent_json()["image"]["error"])


def test_hostile_bytes_in_redis_stay_on_their_line(live):
    raw = redis.Redis(unix_socket_path=str(live.socket))
    raw.hset(b"waxseal:policy:evil\n2026 waxseal-agent: all is well\x1b[2J", mapping={b"level": b"may"})
    raw.hset(b"waxseal:policy:\xff\xfe.example", mapping={b"level": b"may"})
    raw.hset(b"waxseal:policy:texts.example", mapping={b"level": b"may", b"owner": b"\xff\xfe", b"\x1b]0;x\x07": b"\n\n"})
    raw.hset(b"waxseal:policy:owned.example", mapping={b"level": b"may", b"owner": "Jörg".encode()})
    until("three are refused", lambda: len(live.refused()) == 3)
    until("the good one is in force", lambda: live.level("owned.example") == "may")
    assert all(key.isprintable() and error.isprintable() for key, error in live.refused().items())
    log = live.log.read_bytes()
    assert b"\x1b" not in log and b"\xff" not in log and all(line.startswith(b"waxseal-agent: ") for line in log.splitlines())
    listed = json.loads(live.run("policy", "list", "--json").stdout)
    assert len(listed) == 5 and sum(rule["error"] is not None for rule in listed) == 3
    assert "Jörg" in json.dumps(listed, ensure_ascii=False)
    done = live.run("policy", "list")
    assert "\x1b" not in done.stdout + done.stderr and done.stderr.count("\n") == 3
    live.run("status", code=1)
