"""waxseald, waxseal-agent and a private Redis in the box's namespace, and the operator's command beside them."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess

import redis

from .mta import wait_for
from .namespaces import ipv4, ipv6

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("WAXSEAL_BUILD", "build")
XDP, VDEV = "xdp", "vdev"
PORTS = {XDP: ("in0", "out0"), VDEV: ("vdev:net_af_packet0,iface=in0", "vdev:net_af_packet1,iface=out0")}
PINS = ("waxseal_config", "waxseal_dest4", "waxseal_dest6", "waxseal_pools", "waxseal_sealed")
START_SECONDS = 30
# The last one; of labs beside each other (pytest-xdist's workers) each has another.
CPUS = sorted(os.sched_getaffinity(0), reverse=True)
CPU = CPUS[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(CPUS)]
SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:handle_abort=1", "UBSAN_OPTIONS": "print_stacktrace=1",
                     "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lab/leaks.txt:print_suppressions=0"}


class Appliance:
    scopes = 0

    def __init__(self, box, folder, ca_file, name):
        self.box, self.folder, self.name = box, folder, name
        folder.mkdir()
        self.conf = folder / "waxseal.conf"
        self.log = folder / "waxseald.log"
        self.agent_log = folder / "agent.log"
        self.events_file = folder / "events.json"
        self.events_at, self.events_read = 0, []
        self.image = folder / "policy.image"
        self.redis_socket = folder / "redis.sock"
        self.ca_file = ca_file
        self.waxseald = self.agent = self.redis_server = None
        self.mode, self.fail = None, None
        self.generation, self.scope = 0, None
        self.client = redis.Redis(unix_socket_path=str(self.redis_socket), decode_responses=True)
        self.configure(XDP)

    # ---- configuration ----

    def configure(self, mode, fail="open", **changes):
        """`changes`: section_option=value, such as tls_ca_file="x"; None takes the option away."""
        self.mode, self.fail = mode, fail
        options = {
            "ports_inside": PORTS[mode][0], "ports_outside": PORTS[mode][1], "ports_fail": fail,
            "dataplane_cpus": str(CPU), "dataplane_memory_mb": "256", "dataplane_mbufs": "8192",
            "dataplane_file_prefix": self.name, "dataplane_bpf_dir": str(BUILD / "bpf"),
            "policy_image": str(self.image), "tls_ca_file": str(self.ca_file), "tls_failure_memory_s": "3600",
            "limits_takeovers": "1024", "limits_buffer_mb": "64", "events_file": str(self.events_file),
            "redis_address": f"unix:{self.redis_socket}", "agent_metrics": "", "agent_state": str(self.folder / "agent.json"),
            "agent_rules": str(self.folder / "agent-rules.json"), **changes}
        sections = {}
        for name, value in options.items():
            section, _, option = name.partition("_")
            if value is not None:
                sections.setdefault(section, []).append(f"{option} = {value}")
        fresh = self.conf.with_suffix(".new")
        fresh.write_text("\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items()) + "\n")
        fresh.rename(self.conf)  # an agent that is just starting reads the one or the other, never a half

    # ---- Redis and agent ----

    def start_control(self):
        with (self.folder / "redis.log").open("ab") as out:
            self.redis_server = self.box.popen("redis-server", "--port", "0", "--unixsocket", self.redis_socket, "--save", "",
                                               "--dir", self.folder, stdout=out, stderr=out, start_new_session=True)

        def answers():
            with contextlib.suppress(redis.ConnectionError):
                return self.client.ping()
        wait_for("redis-server answers", answers)
        self.start_agent()

    def start_agent(self):
        with self.agent_log.open("ab") as out:
            self.agent = self.box.popen(BUILD / "waxseal-agent", "--config", self.conf, stdout=out, stderr=out,
                                        start_new_session=True, env={**os.environ, **SANITIZER_OPTIONS})
        wait_for(lambda: f"the agent writes {self.image}: {self.agent_log.read_text()}", self.image.exists)

    def rules(self, count=None, **rules):
        """Replaces all rules, and returns when they are in force. Names: default, domain__example_org (dots for single
        underscores), provider__name, client__name; values: dicts of attributes.

        A session counts when waxseald has forgotten it, which may be long after a test saw its end. What counted() is
        to see therefore goes to a destination of its own: count=True makes one of all servers, with the default's rule;
        count="name" names a provider among the rules that no other test uses."""
        self.scope = count
        if count is True:
            Appliance.scopes += 1
            self.scope = f"t{Appliance.scopes}"
            rules[f"provider__{self.scope}"] = {"nets": "10.77.2.0/24,fd77::2:0/112", **rules["default"]}
        self.put_rules({self.redis_key(name): attributes for name, attributes in rules.items()})

    @staticmethod
    def redis_key(name):
        if name == "default":
            return "waxseal:policy:*"
        kind, _, rest = name.partition("__")
        return f"waxseal:policy:{rest.replace('_', '.')}" if kind == "domain" else f"waxseal:{kind}:{rest}"

    def put_rules(self, wanted):
        """`wanted`: {redis key: attributes}, as anyone with redis-cli would write them, in one transaction."""
        pipe = self.client.pipeline(transaction=True)
        for key in self.client.scan_iter("waxseal:*", count=1000):
            if key.split(":")[1] in ("policy", "provider", "client", "inbound"):
                pipe.delete(key)
        for key, attributes in wanted.items():
            pipe.hset(key, mapping=attributes)
        pipe.incr("waxseal:generation")
        self.generation = pipe.execute()[-1]
        if self.waxseald:
            self.wait_generation()
        else:
            wait_for("the agent compiles", lambda: self.agent_state()["image"]["generation"] == self.generation)

    def provider(self, level, number, **more):
        """A rule for the server with that number, both address families."""
        return {"nets": f"{ipv4('server', number)}/32,{ipv6('server', number)}/128", "level": level, **more}

    def wait_generation(self, seconds=30):
        wait_for(lambda: f"generation {self.generation} in force; agent says {self.agent_log.read_text()[-1500:]}",
                 lambda: self.status()["waxseald"].get("generation") == self.generation, seconds)

    def agent_state(self):
        return json.loads((self.folder / "agent.json").read_text())

    # ---- waxseald ----

    def launch(self):
        """Starts waxseald without waiting."""
        with self.log.open("ab") as out:
            self.waxseald = self.box.popen(BUILD / "waxseald", "--config", self.conf, stdout=out, stderr=out,
                                           start_new_session=True, env={**os.environ, **SANITIZER_OPTIONS})

    def start(self):
        before = len(self.log_text())
        self.launch()

        def ready():
            if self.waxseald.poll() is not None:
                raise AssertionError(f"waxseald ended with {self.waxseald.returncode}: {self.log_text()[before:]}")
            return "waxseald: ready" in self.log_text()[before:]
        wait_for(lambda: f"waxseald is ready: {self.log_text()[before:]}", ready, START_SECONDS)

    def stop(self, number=signal.SIGTERM):
        """Ends waxseald; its classifier stays on the ports (its fail mode holds) until detach()."""
        if self.waxseald and self.waxseald.poll() is None:
            process, self.waxseald = self.waxseald, None
            process.send_signal(number)
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"waxseald did not end on signal {number}: {self.log_text()[-4000:]}") from None
            if number == signal.SIGTERM:
                assert code == 0, f"waxseald ended with {code}: {self.log_text()[-4000:]}"
        self.waxseald = None

    def kill(self):
        self.stop(signal.SIGKILL)

    def detach(self):
        done = self.run_program("waxseald", "--detach", "--config", self.conf)
        assert done.returncode == 0, done.stderr

    def run_program(self, program, *args, timeout=60):
        return subprocess.run(self.box.command(BUILD / program, *args), capture_output=True, text=True, timeout=timeout,
                              check=False, env={**os.environ, **SANITIZER_OPTIONS})

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def agent_log_text(self):
        return self.agent_log.read_text(errors="replace") if self.agent_log.exists() else ""

    def sanitizer_reports(self):
        found = []
        for name, text in (("waxseald", self.log_text()), ("waxseal-agent", self.agent_log_text())):
            for mark in ("Sanitizer", "runtime error:"):
                at = text.find(mark)
                if at >= 0:
                    found.append(f"{name}: {text[max(0, at - 500):at + 4000]}")
        return found

    # ---- what it says ----

    def command(self, *args):
        """Output of the operator's command; JSON if asked for."""
        done = self.run_program("waxseal", *args, "--config", self.conf)
        if "--json" not in args:
            assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
            return done.stdout
        return json.loads(done.stdout)

    def status(self):
        return self.command("status", "--json")

    def counters(self):
        return self.command("counters", "--json")

    def flows(self):
        return self.command("flows", "--json")

    def sessions(self, name=None):
        """{end: sessions} in both directions, of one destination or of all."""
        sums = {}
        for destination in self.counters()["destinations"]:
            for key, value in destination.items():
                if key.startswith("sessions.") and name in (None, destination["name"]):
                    end = key.rpartition(".")[2]
                    sums[end] = sums.get(end, 0) + value
        return {end: n for end, n in sums.items() if n}

    def counted(self, seconds=30, **wanted):
        """The sessions under the rules in force have ended just so. What is left of one before, which its ends have not let
        go of and say again (unknown), is not of them."""
        def found():
            return {end: n for end, n in self.sessions(self.scope).items() if end in wanted or end != "unknown"}
        wait_for(lambda: f"sessions to be {wanted}, and are {self.sessions(self.scope)}; flows: {self.flows()}",
                 lambda: sum(found().values()) >= sum(wanted.values()), seconds, 0.05)
        assert found() == wanted, f"sessions are {self.sessions(self.scope)}, wanted {wanted}"

    def counter(self, name):
        return self.counters()["counters"][name]

    def events(self):
        """All so far. What was read once is not read again: after many tests the file is long."""
        if self.events_file.exists():
            with self.events_file.open("rb") as file:
                file.seek(self.events_at)
                whole = file.read().rpartition(b"\n")[0]
            self.events_read += [json.loads(line) for line in whole.splitlines()]
            self.events_at += len(whole) + 1 if whole else 0
        return list(self.events_read)

    def cpu_seconds(self):
        ticks = pathlib.Path(f"/proc/{self.waxseald.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        """Ends all of it; the classifier comes off the ports."""
        if self.waxseald and self.waxseald.poll() is None:
            self.waxseald.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.waxseald.wait(20)
        for process in (self.waxseald, self.agent, self.redis_server):
            if process and process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            self.detach()
        self.waxseald = self.agent = self.redis_server = None
