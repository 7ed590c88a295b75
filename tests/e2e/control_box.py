"""What the tests of agent and command share: an appliance's control side in a folder of its own, without a dataplane.

A private redis-server on a unix socket per test; waxseald's place on the telemetry socket is taken by a thread
that answers as dataplane/stats/stats.h says. What is in force is read out of the image itself.
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

import pytest
import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("WAXSEAL_BUILD", "build")
LEVELS = ["none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure", "block"]


def until(what, condition, seconds=30.0):
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
        self.dns_lines = "enabled = no\n"
        self.server = self.agent = self.client = None
        self.log = folder / "agent.log"
        self.configure()

    def configure(self, extra=""):
        metrics = f"127.0.0.1:{self.metrics_port}" if self.metrics_port else ""
        self.conf.write_text(
            f"[dataplane]\nfile_prefix = {self.prefix}\n[policy]\nimage = {self.image}\n[redis]\n{self.redis_lines}"
            f"[agent]\nmetrics = {metrics}\nstate = {self.state}\nrules = {self.folder}/rules.json\n"
            f"id = {self.folder.name[:60]}\n[dns]\n{self.dns_lines}{extra}")

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
    "/waxseal/flows,0": {"next": 7, "silent": 0, "id": [1], "client": ["10.77.0.2:4000"], "server": ["10.77.0.3:25"], "state": ["TAKEN"],
                         "phase": ["data"], "age_s": [3], "destination": ["google"], "rule": ["*"], "bytes_client": [5], "bytes_server": [6]},
    "/waxseal/flows,7": {"next": 0, "silent": 0, "id": [2, 3], "client": ["10.77.0.2:4001", "10.77.0.2:4002"], "server": ["10.77.0.3:25"] * 2,
                         "state": ["SEALED", "CLEAR"], "phase": ["", "x"], "age_s": [4, 5], "destination": ["google", "*"], "rule": ["", "*"],
                         "bytes_client": [1, 2], "bytes_server": [3, 4]},
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


@pytest.fixture
def waxseald(box):
    fake = Waxseald(box.prefix, dict(ANSWERS))
    yield fake
    fake.close()
