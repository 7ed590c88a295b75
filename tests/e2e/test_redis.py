"""Redis as it is run, and every kind of outage of it: what is in force stays, it is seen, and it heals by itself.

test_control.py has the flush, the refused and the stopped one, the ACL user, the database and TCP; test_outages.py the same
with sessions, and the Sentinel.
"""
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis

from control_box import box, image_rules, live, until  # noqa: F401
from dns_server import Dns
from lab.frozen import frozen

pytestmark = pytest.mark.sanitize


class Slow:
    """Between agent and Redis: passes bytes on, each way, no sooner than `delay` later; or not at all while `hangs`. The
    command `held`, and what is asked behind it, waits for `seconds` more; `holding` is set meanwhile."""

    def __init__(self, path, target):
        self.target, self.delay, self.hangs = str(target), 0.0, False
        self.held, self.seconds, self.holding = None, 0.15, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(self.target)
                except OSError:
                    near.close()
                    continue
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                while self.hangs:
                    time.sleep(0.05)
                time.sleep(self.delay)
                if not data:
                    break
                before, held, behind = data.partition(b"\r\n%s\r\n" % (self.held or b"\0"))
                sink.sendall(before)
                if held:
                    self.holding.set()
                    time.sleep(self.seconds)
                    self.holding.clear()
                    sink.sendall(held + behind)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


@pytest.fixture
def between(box):
    """The agent reaches Redis through the test."""
    proxy = Slow(box.folder / "between.sock", box.socket)
    box.redis_lines = f"address = unix:{box.folder}/between.sock\n"
    box.configure()
    box.start_redis()
    box.client.hset("waxseal:policy:first.example", mapping={"level": "encrypt"})
    box.start_agent()
    until("the first rule is in the image", lambda: box.level("first.example") == "encrypt")
    yield proxy
    proxy.close()


def stop(box, between):
    box.server.send_signal(signal.SIGSTOP)
    return lambda: box.server.send_signal(signal.SIGCONT)


def kill(box, between):
    box.stop_redis()

    def heal():
        box.socket.unlink(missing_ok=True)
        box.start_redis()
        box.client.hset("waxseal:policy:first.example", mapping={"level": "encrypt"})
    return heal


def hang(box, between):
    between.hangs = True

    def heal():
        between.hangs = False
    return heal


def loading(box, between):
    """Every answer is an error, as while a big dump is read."""
    box.client.execute_command("ACL", "SETUSER", "default", "-@all", "+acl")
    return lambda: box.client.execute_command("ACL", "SETUSER", "default", "+@all")


def write(box, level):
    """Five rules and the generation in one transaction; returns what is to be waited for."""
    pipe = box.client.pipeline(transaction=True)
    for name in range(5):
        pipe.hset(f"waxseal:policy:{name}.example", "level", level)
    wanted = pipe.incr("waxseal:generation").execute()[-1]

    def told():
        rules, generation = image_rules(box.image)
        found = [rules.get(f"{name}.example", {}).get("level") for name in range(5)]
        assert found.count(found[0]) == 5, f"half of a transaction is in force: {found}"
        assert generation != wanted or found[0] == level, f"generation {wanted} is told and {found[0]} in force"
        return generation == wanted
    return told


def test_a_generation_is_told_with_all_its_rules(box, between):
    """However late Redis answers: whoever sees the new number (waxseal status, a script that waits for it) sees its rules."""
    between.held = b"HGETALL"
    for level in ("encrypt", "none", "verify"):
        until("the generation", write(box, level))


def test_a_generation_that_comes_while_all_is_read_is_told_with_its_rules(box, between):
    """The rules have been read, the generation has not: it may be one of later rules."""
    write(box, "none")
    box.stop_agent()
    between.held, between.seconds = b"GET", 0.5
    box.start_agent(live=False)
    assert between.holding.wait(20)
    until("the generation", write(box, "verify"))


@pytest.mark.parametrize("outage", [stop, kill, hang, loading])
def test_an_outage_leaves_what_is_in_force(box, between, outage):
    before = box.image.read_bytes()
    heal = outage(box, between)
    until("it is seen", lambda: box.redis_state() != "live")
    until("and why", lambda: box.agent_json()["redis"]["error"])
    assert "redis" in box.run("status", code=1).stdout.lower()
    assert box.image.read_bytes() == before
    heal()
    until("it heals by itself", lambda: box.redis_state() == "live")
    box.client.hset("waxseal:policy:after.example", mapping={"level": "encrypt"})
    until("an edit", lambda: box.level("after.example") == "encrypt")
    assert box.level("first.example") == "encrypt"


def test_a_slow_redis_is_no_outage(box, between):
    between.delay = 0.4
    failures = box.agent_json()["counts"]["failures"]
    for i in range(3):
        box.client.hset("waxseal:policy:slow.example", mapping={"level": ("encrypt", "verify", "block")[i]})
        until("the edit", lambda i=i: box.level("slow.example") == ("encrypt", "verify", "block")[i])
    assert box.redis_state() == "live" and box.agent_json()["counts"]["failures"] == failures


def test_older_data_are_believed(box):
    """What Redis has after a restart from an old dump is what the operator has: rules of then, no more and no fewer."""
    box.start_redis("--dbfilename", "dump.rdb")
    box.client.hset("waxseal:policy:old.example", mapping={"level": "may"})
    box.client.save()
    box.client.hset("waxseal:policy:old.example", mapping={"level": "block"})
    box.client.hset("waxseal:policy:new.example", mapping={"level": "encrypt"})
    box.start_agent()
    until("both", lambda: box.level("new.example") == "encrypt" and box.level("old.example") == "block")
    box.stop_redis()
    box.socket.unlink(missing_ok=True)
    until("it is seen", lambda: box.redis_state() != "live")
    box.start_redis("--dbfilename", "dump.rdb")
    until("the rules of then", lambda: box.level("old.example") == "may" and box.level("new.example") is None)
    until("live again", lambda: box.redis_state() == "live")


WRONG = {"SET": "x", "LPUSH": "x", "SADD": "x"}


def test_keys_of_wrong_types_are_refused_alone(live):
    for verb, value in WRONG.items():
        live.client.execute_command(verb, f"waxseal:policy:{verb.lower()}.example", value)
        live.client.execute_command(verb, f"waxseal:discovered:{verb.lower()}.example", value)
        live.client.execute_command(verb, f"waxseal:posture:10.77.0.{len(verb)}", value)
        live.client.execute_command(verb, f"waxseal:seen:10.77.0.{len(verb)}", value)
    live.client.lpush("waxseal:generation", "x")
    live.client.hset("waxseal:policy:good.example", mapping={"level": "encrypt"})
    until("the good one", lambda: live.level("good.example") == "encrypt")
    until("each is told", lambda: set(live.refused()) == {f"waxseal:policy:{verb.lower()}.example" for verb in WRONG})
    live.client.delete("waxseal:generation", *[f"waxseal:policy:{verb.lower()}.example" for verb in WRONG])
    until("none", lambda: not live.refused())
    assert live.redis_state() == "live"


def test_a_million_keys_of_others(box):
    box.start_redis("--enable-debug-command", "yes")
    box.client.execute_command("DEBUG", "POPULATE", 500000, "waxseal:seen:10.0")
    box.client.execute_command("DEBUG", "POPULATE", 500000, "other")
    box.client.hset("waxseal:policy:first.example", mapping={"level": "encrypt"})
    box.start_agent(live=False)
    until("its rule", lambda: box.level("first.example") == "encrypt", 60)
    until("live", lambda: box.redis_state() == "live", 60)
    box.client.hset("waxseal:policy:second.example", mapping={"level": "encrypt"})
    until("an edit", lambda: box.level("second.example") == "encrypt")


def answers(client):
    with contextlib.suppress(redis.ConnectionError):
        return client.ping()


@pytest.fixture
def replica(box):
    """The agent reads from a replica; the master is another server on TCP, which the test may end."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    path = box.folder / "master.sock"
    process = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(path), "--save", "", "--dir",
                                str(box.folder), "--repl-diskless-sync-delay", "0"], stdout=subprocess.DEVNULL)
    box.master = redis.Redis(unix_socket_path=str(path), decode_responses=True)
    until("the master answers", lambda: answers(box.master))
    box.start_redis("--replicaof", "127.0.0.1", str(port))
    until("the replica is in step", lambda: box.client.info("replication")["master_link_status"] == "up")
    dns = Dns()
    dns.set("one.test", "A", "10.77.1.1")
    dns.set("two.test", "A", "10.77.1.2")
    box.dns_lines = f"servers = 127.0.0.1@{dns.port}\nttl_min_s = 1\n[probe]\nenabled = no\n"
    box.configure()
    box.master_process, box.dns = process, dns
    yield box
    dns.close()
    if process.poll() is None:
        process.terminate()
        process.wait()


def test_findings_go_to_the_master_of_a_replica(replica):
    replica.master.hset("waxseal:policy:one.test", mapping={"level": "encrypt"})
    replica.start_agent()
    until("the rule", lambda: replica.level("one.test") == "encrypt")
    until("the finding, at the master", lambda: replica.master.hget("waxseal:discovered:one.test", "addresses") == "one.test=10.77.1.1")
    until("and by way of it here", lambda: replica.client.hget("waxseal:discovered:one.test", "addresses"))
    until("no complaint is left", lambda: replica.agent_json()["redis"]["write_error"] == "")
    until("the appliance itself, too", lambda: replica.master.exists(f"waxseal:appliance:{replica.folder.name[:60]}"))


def test_a_master_that_is_silent(replica):
    """It takes connections and says nothing: what is written there is not waited for, and is told again when it is back."""
    replica.master.hset("waxseal:policy:one.test", mapping={"level": "encrypt"})
    replica.start_agent()
    at_master = lambda: replica.master.hget("waxseal:discovered:one.test", "addresses")  # noqa: E731
    complaint = lambda: replica.agent_json()["redis"]["write_error"]  # noqa: E731
    until("the finding, at the master", lambda: at_master() == "one.test=10.77.1.1")
    until("no complaint is left", lambda: complaint() == "")
    with frozen(replica.master_process.pid, "redis-server"):
        replica.dns.set("one.test", "A", "10.77.1.9")
        until("the finding is made", lambda: b"\x0a\x4d\x01\x09" in replica.image.read_bytes())
        until("silence is told", lambda: complaint().endswith("no answer for 3 s") and "the master 127.0.0.1:" in complaint())
        assert replica.redis_state() == "live"
        replica.stop_agent()
        replica.start_agent()  # and one that finds it silent from the start
        until("told again", lambda: complaint().endswith("no answer for 3 s"))
        assert replica.redis_state() == "live"
    until("what was held is at the master", lambda: at_master() == "one.test=10.77.1.9", 60)
    until("no complaint is left", lambda: complaint() == "")


def test_a_replica_without_its_master(replica):
    replica.master.hset("waxseal:policy:one.test", mapping={"level": "encrypt"})
    until("it is here", lambda: replica.client.exists("waxseal:policy:one.test"))
    replica.master_process.kill()
    replica.master_process.wait()
    replica.start_agent()
    until("the rule", lambda: replica.level("one.test") == "encrypt")
    until("it is told that nothing can be written", lambda: "READONLY" in replica.agent_json()["redis"]["write_error"])
    assert replica.redis_state() == "live"
    replica.client.execute_command("REPLICAOF", "NO", "ONE")
    replica.client.hset("waxseal:policy:two.test", mapping={"level": "encrypt"})
    until("an edit", lambda: replica.level("two.test") == "encrypt")
    until("what was refused is told after all", lambda: replica.client.hget("waxseal:discovered:one.test", "addresses"))
    assert os.path.exists(replica.image)
