"""waxseal-agent and waxseal against a real Redis, without a dataplane.

A private redis-server on a unix socket per test; waxseald's place on the telemetry socket is taken by a
thread that answers as dataplane/stats/stats.h says. What is in force is read out of the image itself.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
import redis

pytestmark = pytest.mark.sanitize

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("WAXSEAL_BUILD", "build")
LEVELS = ["none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure", "block"]


def until(what, condition, seconds=5.0):
    """Waits for the condition and returns how long that took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if condition():
                return time.monotonic() - start
        time.sleep(0.01)
    pytest.fail(f"not within {seconds} s: {what}")


def image_rules(path):
    """{name: {"level", "mode"}} and the generation, straight from the file (dataplane/policy/image.h)."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"WAXSEAL1"
    generation, = struct.unpack_from("<Q", data, 32)
    sections = [struct.unpack_from("<QII", data, 64 + 16 * i) for i in range(7)]
    strings, rules = sections[0], sections[1]
    found = {}
    for i in range(rules[1]):
        at = rules[0] + i * rules[2]
        name, kind, level, mode = struct.unpack_from("<IBBB", data, at)
        text = data[strings[0] + name:data.index(b"\0", strings[0] + name)].decode()
        found[(kind, text)] = {"level": LEVELS[level], "mode": ["enforce", "observe"][mode]}
    return {text: rule for (_, text), rule in sorted(found.items(), reverse=True)}, generation


class Appliance:
    """One configuration in a folder, with Redis, agent and command that use it."""

    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.image = folder / "policy.image"
        self.state = folder / "agent.json"
        self.conf = folder / "waxseal.conf"
        self.prefix = f"ctl{os.getpid()}-{folder.name}"
        self.metrics_port = 0
        self.redis_lines = f"address = unix:{self.socket}\n"
        self.server = self.agent = self.client = None
        self.log = folder / "agent.log"
        self.configure()

    def configure(self, extra=""):
        metrics = f"127.0.0.1:{self.metrics_port}" if self.metrics_port else ""
        self.conf.write_text(
            f"[dataplane]\nfile_prefix = {self.prefix}\n[policy]\nimage = {self.image}\n[redis]\n{self.redis_lines}"
            f"[agent]\nmetrics = {metrics}\nstate = {self.state}\nrules = {self.folder}/rules.json\n{extra}")

    def start_redis(self, *options):
        self.server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder), *options],
            stdout=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)
        until("redis-server answers", self.redis_up)
        return self.client

    def redis_up(self):
        try:
            return self.client.ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def stop_redis(self):
        self.server.kill()
        self.server.wait()

    def start_agent(self, live=True):
        self.agent = subprocess.Popen([BUILD / "waxseal-agent", "--config", self.conf], stderr=self.log.open("ab"))
        if live:
            until("the agent is live", lambda: self.redis_state() == "live")
        return self.agent

    def stop_agent(self):
        self.agent.send_signal(signal.SIGTERM)
        assert self.agent.wait(5) == 0, self.log.read_text()

    def agent_json(self):
        state = json.loads(self.state.read_text())
        return state if state["pid"] == self.agent.pid else {"redis": {"state": "not yet"}}

    def redis_state(self):
        return self.agent_json()["redis"]["state"]

    def rules(self):
        return image_rules(self.image)[0]

    def level(self, name):
        return self.rules().get(name, {}).get("level")

    def refused(self):
        return {r["key"]: r["error"] for r in self.agent_json()["refused"]}

    def run(self, *args, code=0):
        done = subprocess.run([BUILD / "waxseal", *args, "--config", self.conf], capture_output=True, text=True, timeout=20)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def close(self):
        for process in (self.agent, self.server):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if self.log.exists():
            text = self.log.read_text()
            assert "Sanitizer" not in text and "runtime error" not in text, text


@pytest.fixture
def box(tmp_path):
    appliance = Appliance(tmp_path)
    yield appliance
    appliance.close()


@pytest.fixture
def live(box):
    """With Redis and agent running and one rule in force."""
    box.start_redis()
    box.client.hset("waxseal:policy:first.example", mapping={"level": "encrypt"})
    box.start_agent()
    until("the first rule is in the image", lambda: box.level("first.example") == "encrypt")
    return box


# ---- the agent ----

def test_fresh_appliance_observes(box):
    box.start_redis()
    box.start_agent()
    until("an image", lambda: box.rules()["*"] == {"level": "may", "mode": "observe"})
    assert not box.agent_json()["empty_refused"]


def test_edits_by_redis_cli_are_in_the_image_within_a_second(live):
    redis_cli = ["redis-cli", "-s", str(live.socket)]
    for level in ("may", "encrypt", "block"):
        subprocess.run([*redis_cli, "HSET", "waxseal:policy:edit.example", "level", level], check=True, stdout=subprocess.DEVNULL)
        assert until(f"level {level}", lambda: live.level("edit.example") == level) < 1.0
    live.client.delete("waxseal:policy:edit.example")
    assert until("deletion", lambda: live.level("edit.example") is None) < 1.0
    assert live.level("first.example") == "encrypt"


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
    until("all of them", lambda: len(live.rules()) >= 5001, 10)
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


def test_a_stopped_redis_is_noticed(live):
    live.server.send_signal(signal.SIGSTOP)
    until("silence is noticed", lambda: live.redis_state() != "live", 6)
    assert "no answer" in live.agent_json()["redis"]["error"]
    done = live.run("status", "--json", code=1)
    assert "error" in json.loads(done.stdout)["redis"]
    assert live.level("first.example") == "encrypt"
    live.server.send_signal(signal.SIGCONT)
    until("live again", lambda: live.redis_state() == "live", 8)
    live.client.hset("waxseal:policy:first.example", "level", "block")
    assert until("and edits arrive", lambda: live.level("first.example") == "block") < 1.0


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
    until("over", lambda: live.level("soon.example") is None, 6)


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
    until("and cured", lambda: live.level("full.example") == "block", 5)
    until("and that is told", lambda: not live.agent_json()["image"]["error"])


# ---- waxseald's telemetry, by a thread in its place ----

ANSWERS = {
    "/waxseal/status": {"version": "0.1", "uptime_s": 3700, "inside": "in0", "outside": "out0", "fail": "open", "workers": 1,
                        "image": "/i", "generation": 7, "compiled_at": 4000000000, "image_error": "", "images_refused": 0},
    "/waxseal/worker,0": {"flows": 2, "flows_max": 65536, "takeovers": 1, "takeovers_max": 4096, "buffers": 3, "buffers_max": 100,
                          "busy_permille": 31, "stalled": "false"},
    "/waxseal/port,0": {"name": "in0", "driver": "net_af_xdp", "xdp": "true", "link_up": "true", "rx_packets": 10, "tx_packets": 11,
                        "rx_missed": 0, "tx_errors": 0},
    "/waxseal/port,1": {"name": "out0", "driver": "net_af_xdp", "xdp": "true", "link_up": "true", "rx_packets": 11, "tx_packets": 10,
                        "rx_missed": 0, "tx_errors": 0},
    "/waxseal/counters": {"rx_packets": 21, "drop_checksum": 2, "tls_failed": 1, "injections": 0},
    "/waxseal/destination,0": {"name": "*", "sessions.outbound.sealed": 5, "sessions.outbound.clear": 2, "recipients.clear": 3,
                               "reasons.clear-allowed": 2, "messages": 7, "bytes": 1000},
    "/waxseal/destination,1": {"name": "goo\"gle", "sessions.outbound.upgraded": 4, "sessions.outbound.deferred": 1,
                               "recipients.upgraded": 4, "reasons.name-mismatch": 1, "versions.TLSv1.3": 4, "messages": 4, "bytes": 9},
    "/waxseal/flows,0": [{"id": 1, "client": "10.77.0.2:4000", "server": "10.77.0.3:25", "state": "TAKEN", "phase": "data", "age_s": 3,
                          "destination": "google", "rule": "*", "bytes_client": 5, "bytes_server": 6}],
    "/waxseal/flows,1": [],
}


class Waxseald:
    def __init__(self, prefix, answers):
        self.folder = pathlib.Path("/var/run/dpdk") / prefix
        self.folder.mkdir(parents=True, exist_ok=True)
        self.answers = answers
        self.mute = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(self.folder / "dpdk_telemetry.v2"))
        self.socket.listen(8)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.send(json.dumps({"version": "DPDK 22.11.0", "pid": 1, "max_output_len": 16384}).encode())
            while True:
                command = connection.recv(4096).decode()
                if not command:
                    return
                if self.mute:
                    continue
                empty = {} if command.split(",")[0] in ("/waxseal/worker", "/waxseal/port", "/waxseal/destination") else None
                answer = self.answers.get(command, empty)
                text = answer if isinstance(answer, bytes) else json.dumps({command.split(",")[0]: answer}).encode()
                connection.send(text)

    def close(self):
        self.socket.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def waxseald(box):
    fake = Waxseald(box.prefix, dict(ANSWERS))
    yield fake
    fake.close()


def test_status_when_all_is_well(waxseald, live):
    done = live.run("status")
    assert "Nothing is wrong." in done.stdout
    assert "\033" not in done.stdout
    for part in ("waxseald  up for 61 min, version 0.1", "image     generation", "1 domains", "agent     Redis live", "redis     unix:",
                 "inside   in0   net_af_xdp  up", "0  2 of 65536", "1 of 4096"):
        assert part in done.stdout, done.stdout
    status = json.loads(live.run("status", "--json").stdout)
    assert status["ok"] and not status["warnings"]
    assert status["waxseald"]["generation"] == 7 and len(status["ports"]) == 2 and len(status["workers"]) == 1
    assert status["agent"]["redis"]["state"] == "live"


def test_status_names_what_is_down(waxseald, live):
    live.agent.send_signal(signal.SIGSTOP)
    time.sleep(6)
    assert "has not been heard of" in live.run("status", code=1).stdout
    live.agent.send_signal(signal.SIGCONT)
    until("well again", lambda: json.loads(live.state.read_text())["heartbeat_ms"] > time.time() * 1000 - 1500)
    live.run("status")
    live.stop_agent()
    assert "waxseal-agent was stopped" in live.run("status", code=1).stdout
    live.image.write_bytes(live.image.read_bytes()[:-3])
    assert "no usable policy image" in live.run("status", code=1).stdout
    waxseald.mute = True
    start = time.monotonic()
    assert "does not answer within" in live.run("status", code=1).stdout
    assert time.monotonic() - start < 4


def test_counters(waxseald, box):
    done = box.run("counters")
    assert "DESTINATION  SEALED  UPGRADED  CLEAR  DEFERRED  REJECTED  CUT" in done.stdout
    assert "certificate is for another name" in done.stdout
    assert "drop_checksum" in done.stdout and "injections" not in done.stdout
    assert "Still unencrypted: 2 of 11 sessions that carried mail (18.2 %), 3 recipients." in done.stdout
    assert "policy allows clear text (2)" in done.stdout
    numbers = json.loads(box.run("counters", "--json").stdout)
    assert numbers["counters"]["rx_packets"] == 21 and [d["name"] for d in numbers["destinations"]] == ["*", "goo\"gle"]
    done = box.run("counters", 'goo"gle')
    assert "versions.TLSv1.3" in done.stdout and "No mail travels unencrypted" in done.stdout
    assert "nothing counted under this name" in box.run("counters", "nobody", code=1).stderr


def test_counters_watch(waxseald, box):
    process = subprocess.Popen([BUILD / "waxseal", "counters", "--watch", "--config", box.conf], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    process.wait(5)
    assert lines[0].startswith("DESTINATION")


def test_flows(waxseald, box):
    done = box.run("flows")
    assert "10.77.0.2:4000" in done.stdout and "TAKEN" in done.stdout
    assert json.loads(box.run("flows", "--json").stdout)[0]["bytes_server"] == 6
    waxseald.answers["/waxseal/flows,0"] = []
    assert "no connections" in box.run("flows").stdout


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"/waxseal/counters": 3}', b'{"/waxseal/counters": null}', b"\xff\xfe", b"x" * 60000])
def test_nonsense_from_telemetry(waxseald, box, answer):
    waxseald.answers["/waxseal/counters"] = answer or b"{}"
    waxseald.answers["/waxseal/destination,0"] = answer or b"{}"
    done = subprocess.run([BUILD / "waxseal", "counters", "--config", box.conf], capture_output=True, text=True, timeout=10)
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or done.stderr.count("\n") == 1


def test_without_waxseald(box):
    for command in ("counters", "flows"):
        done = box.run(command, code=1)
        assert "waxseald is not running" in done.stderr and done.stderr.count("\n") == 1
    assert "waxseald is down" in box.run("status", code=1).stdout


def scrape(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_metrics(waxseald, box):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        box.metrics_port = probe.getsockname()[1]
    box.configure()
    box.start_redis()
    box.client.hset("waxseal:policy:m.example", mapping={"level": "block"})
    box.client.hset("waxseal:policy:bad.example", mapping={"level": "?"})
    box.start_agent()
    until("metrics of one rule", lambda: "waxseal_agent_rules 1\n" in scrape(box.metrics_port))
    text = scrape(box.metrics_port)
    for line in ("waxseal_agent_redis_up 1", "waxseal_agent_rules_refused 1", "waxseal_agent_empty_refused 0", "waxseal_up 1",
                 "waxseal_rx_packets_total 21", 'waxseal_worker_flows{worker="0"} 2', 'waxseal_port_link_up{port="1"} 1',
                 'waxseal_sessions_total{destination="*",direction="outbound",end="sealed"} 5',
                 'waxseal_decisions_total{destination="goo\\"gle",reason="name-mismatch"} 1',
                 'waxseal_tls_versions_total{destination="goo\\"gle",version="TLSv1.3"} 4',
                 'waxseal_bytes_total{destination="*"} 1000'):
        assert line + "\n" in text, text
    names = [line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    order = list(dict.fromkeys(names))
    assert [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n] == order, "samples of one metric stand together"
    with pytest.raises(urllib.error.HTTPError) as wrong:
        scrape(box.metrics_port, "/")
    assert wrong.value.code == 404
    waxseald.mute = True
    assert "waxseal_up 0\n" in scrape(box.metrics_port)
    assert until("the agent goes on meanwhile", lambda: box.redis_state() == "live") < 1.0


# ---- policy commands ----

def test_policy_set_show_list_rm(box):
    box.start_redis()
    assert "no rules" in box.run("policy", "list").stdout
    assert box.run("policy", "set", "Example.ORG", "level=verify", "match=mx.example.org:.example.org").stdout == \
        "example.org level=verify match=mx.example.org:.example.org\n"
    box.run("policy", "set", "example.org", "mode=observe", "reason=a bank, until May")
    assert box.client.hgetall("waxseal:policy:example.org") == {
        "level": "verify", "match": "mx.example.org:.example.org", "mode": "observe", "reason": "a bank, until May"}
    assert box.client.get("waxseal:generation") == "2"
    box.run("policy", "set", "example.org", "mode=", "level=encrypt", "match=")
    assert box.client.hgetall("waxseal:policy:example.org") == {"level": "encrypt", "reason": "a bank, until May"}

    before = box.client.hgetall("waxseal:policy:example.org")
    for bad in (["level=encript"], ["colour=red"], ["level=verify", "percent=101"], ["protocols=>=SSLv9"]):
        done = box.run("policy", "set", "example.org", *bad, code=1)
        assert bad[-1].split("=")[0] in done.stderr and done.stderr.count("\n") == 1
    assert "example.org" in box.run("policy", "set", "exa mple.org", "level=may", code=1).stderr.replace("exa mple.org", "example.org")
    assert box.client.hgetall("waxseal:policy:example.org") == before
    assert box.client.get("waxseal:generation") == "3"

    box.run("policy", "set", "*", "encrypt", "on_fail=reject")
    box.run("policy", "set", "provider:lab", "nets=10.77.0.0/16,fd77::/16", "level=may")
    box.client.hset("waxseal:policy:broken.example", mapping={"level": "x"})
    done = box.run("policy", "list")
    assert done.stdout.splitlines()[0].split() == ["KEY", "LEVEL", "MODE", "OTHER", "ATTRIBUTES"]
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["*", "broken.example", "example.org", "provider:lab"]
    assert "waxseal:policy:broken.example: refused" in done.stderr
    listed = {rule["key"]: rule for rule in json.loads(box.run("policy", "list", "--json").stdout)}
    assert listed["*"]["attributes"] == {"level": "encrypt", "on_fail": "reject"} and listed["*"]["error"] is None
    assert listed["broken.example"]["error"]
    shown = json.loads(box.run("policy", "show", "example.org", "--json").stdout)
    assert shown["attributes"]["reason"] == "a bank, until May"
    assert "a bank, until May" in box.run("policy", "show", "example.org").stdout

    box.run("policy", "rm", "example.org")
    assert not box.client.exists("waxseal:policy:example.org")
    assert box.client.get("waxseal:generation") == "6"
    assert "no such rule" in box.run("policy", "rm", "example.org", code=1).stderr
    assert "no such rule" in box.run("policy", "show", "example.org", code=1).stderr
    box.client.hset("waxseal:policy:not a domain", mapping={"level": "may"})
    box.run("policy", "rm", "not a domain")
    assert not box.client.exists("waxseal:policy:not a domain")


def test_concurrent_writers_lose_nothing(box):
    box.start_redis()
    attributes = [f"{name}={value}" for name, value in
                  (("level", "encrypt"), ("mode", "observe"), ("percent", "50"), ("on_fail", "reject"), ("owner", "o"), ("reason", "r"))]
    box.client.hset("waxseal:policy:w.example", "level", "may")
    writers = [subprocess.Popen([BUILD / "waxseal", "policy", "set", "w.example", a, "--config", box.conf], stdout=subprocess.DEVNULL)
               for a in attributes]
    codes = [w.wait(20) for w in writers]
    stored = box.client.hgetall("waxseal:policy:w.example")
    for code, attribute in zip(codes, attributes):
        name, value = attribute.split("=")
        assert code == 0 and stored[name] == value


def test_check_and_compile(box):
    rules = box.folder / "rules.txt"
    rules.write_text("# the bank\n\nexample.org level=verify match=mx.example.org reason=\"two words\"\n"
                     "* level=encrypt\nprovider:lab level=block nets=10.77.9.0/24\n")
    assert "3 rules" in box.run("policy", "check", str(rules)).stdout
    assert not box.image.exists()
    box.run("policy", "compile", str(rules))
    assert box.level("example.org") == "verify" and box.level("*") == "encrypt"
    other = box.folder / "other.image"
    assert json.loads(box.run("policy", "compile", str(rules), "-o", str(other), "--json").stdout)["rules"] == 3
    assert image_rules(other)[0]["*"]["level"] == "encrypt"

    good = box.image.read_bytes()
    rules.write_text("example.org level=verifi\n* level=encrypt\nexample.net colour=red\n")
    done = box.run("policy", "compile", str(rules), code=1)
    assert f"{rules}:1:" in done.stderr and f"{rules}:3:" in done.stderr and "2 bad lines" in done.stderr
    assert box.image.read_bytes() == good
    assert "No such file" in box.run("policy", "check", "/nonexistent/rules", code=1).stderr
    rules.write_text("* level=may\n")
    assert "nonexistent" in box.run("policy", "compile", str(rules), "-o", "/nonexistent/x", code=1).stderr

    assert box.run("policy", "check", "--rule", "example.org verify match=mx.example.org").stdout.startswith("example.org level=verify ")
    assert "match" in box.run("policy", "check", "--rule", "example.org level=verify match=bad..name", code=1).stderr
    assert box.run("policy", "check", "--rule", "", code=1).stderr.count("\n") == 1


def test_usage(box):
    for command in (["policy", "set"], ["policy", "show"], ["policy", "list"], ["policy", "rm"], ["policy", "compile"], ["policy", "check"],
                    ["counters"], ["flows"], ["status"]):
        done = box.run(*command, "--help")
        assert done.stdout.startswith("usage: waxseal " + " ".join(command)) and not done.stderr
    assert "waxseal policy set" in box.run("--help").stdout
    for wrong in ([], ["polici"], ["policy"], ["policy", "sett"], ["policy", "set"], ["policy", "set", "k", "level=may", "=x"],
                  ["policy", "set", "k", "level=may", "level=none"], ["policy", "rm"], ["policy", "check"], ["flows", "x"],
                  ["counters", "--wach"], ["status", "--x"], ["policy", "compile", "-o"]):
        done = box.run(*wrong, code=2)
        assert done.stderr.startswith("waxseal: ") and not done.stdout
    box.conf.write_text("[redis]\naddress = x\n")
    assert "waxseal.conf:2:" in box.run("policy", "list", code=1).stderr


def test_unreachable_redis(box):
    for command in (["policy", "list"], ["policy", "set", "a.example", "may"], ["policy", "rm", "a.example"], ["policy", "show", "a.example"]):
        done = box.run(*command, code=1)
        assert "redis.sock" in done.stderr and done.stderr.count("\n") == 1


# ---- explain, completion, and what hostile hands write into Redis ----

def test_explain(box):
    rules = box.folder / "rules.txt"
    rules.write_text("* may\nexample.org verify\n.example.org encrypt\nprovider:lab level=block nets=10.77.9.0/24\n")
    assert "No such file" in box.run("explain", "example.org", code=1).stderr
    box.run("policy", "compile", str(rules))
    lines = box.run("explain", "User@Example.ORG").stdout.splitlines()
    assert lines[1].split()[:3] == ["wins", "example.org", "verify"] and lines[2].split()[:2] == ["loses", "*"]
    told = json.loads(box.run("explain", "a.example.org", "10.77.9.1", "--json").stdout)
    assert [r["rule"] for r in told["rules"]] == [".example.org", "lab", "*"]
    assert [r["wins"] for r in told["rules"]] == [True, False, False]
    assert json.loads(box.run("explain", "10.77.9.1", "--json").stdout)["rules"][0]["level"] == "block"
    for wrong in ([], ["a.example", "b.example"], ["10.0.0.1", "10.0.0.2"], ["--all"], ["a.example", "10.0.0.1", "x"]):
        assert box.run("explain", *wrong, code=2).stderr.count("\n") == 1
    for wrong in ("a..b", "*", ".example.org", "provider:lab", "user@", "inbound:*"):
        assert box.run("explain", wrong, code=1).stderr.count("\n") == 1


def complete(*words):
    """What bash offers for the last word."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _waxseal 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", ROOT / "control/cli/waxseal.bash-completion", *map(str, words)],
                          capture_output=True, text=True, timeout=20, check=False)
    return set(done.stdout.split())


def test_completion_knows_every_command_and_attribute(box):
    program = BUILD / "waxseal"
    usage = [line.split()[1:] for line in box.run("--help").stdout.splitlines() if line.startswith("  waxseal ") and "COMMAND" not in line]
    assert {words[0] for words in usage} <= complete(program, "")
    policy = {words[1] for words in usage if words[0] == "policy"}
    assert policy and policy == {word for word in complete(program, "policy", "") if not word.startswith("-")}
    message = box.run("policy", "check", "--rule", "example.org colour=red", code=1).stderr
    attributes = message.split("one of ")[1].split()
    offered = {word.rstrip("=") for word in complete(program, "policy", "set", "example.org", "")}
    assert len(attributes) > 15 and set(attributes) == offered
    for name in ("level", "mode", "on_fail", "e2e", "unknown", "nonsmtp", "overload"):
        message = box.run("policy", "check", "--rule", f"example.org {name}=?", code=1).stderr
        words = set(message.split("one of ")[1].split())
        assert words == {word.split("=")[-1] for word in complete(program, "policy", "set", "example.org", f"{name}=")}, name
    shown = box.run("policy", "set", "--help").stdout
    assert all(f"\n  {name} " in shown for name in attributes)


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
