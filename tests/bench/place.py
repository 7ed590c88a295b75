"""Where everybody is benched: three namespaces, a certificate, two sinks, the load, and the clocks of who used which CPU.

    client eth0 ---- in0 box out0 ---- eth0 server      the middle is in the box
    client eth1 ---------------------- eth1 server      the direct wire

Sink FULL gives no ticket, so each of its TLS handshakes is a full one; sink RESUMED gives tickets to whoever wants them.
"""
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

from lab import state
from lab.appliance import BUILD, Appliance
from lab.ca import Authority
from lab.namespaces import MTU, Namespaces, ipv4, run

FULL, RESUMED = 11, 12        # last number of the sinks' addresses
SMTP, SMTPS, OTHER = 25, 465, 2500  # OTHER: a port that waxseal does not look into
DIRECT = "10.77.100"
SOURCES = f"{ipv4('client', 1)}/40"
HOSTNAME = "sink.bench"
TICK = os.sysconf("SC_CLK_TCK")
NAME = "wxbench"
ANSWER_SECONDS = 30


def machine_cpu():
    """Seconds that all CPUs have worked: user, nice, system, interrupts; not idle, not stolen."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[i]) for i in (0, 1, 2, 5, 6)) / TICK


def tree_cpu(roots):
    """Seconds used by those processes, their descendants, and what they have waited for."""
    parents, used = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(fields[1])
                used[int(entry)] = sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICK
    wanted = {pid for pid in roots if pid in used}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in wanted and pid not in wanted}
        wanted |= more
        grown = bool(more)
    return sum(used[pid] for pid in wanted)


def resident_bytes(roots):
    """Memory of those processes and their direct children; huge pages, which are reserved anyway, are not in it."""
    total, pids = 0, set(roots)
    for pid in roots:
        with contextlib.suppress(OSError):
            pids |= set(map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


class Sink:
    def __init__(self, place, number, *options):
        self.process = place.server.popen(
            BUILD / "bench/sink", "--cert", place.certificate[0], "--key", place.certificate[1],
            *(word for host in (ipv4("server", number), f"{DIRECT}.{number}") for word in
              ("--listen", f"{host}:{SMTP}", "--listen", f"{host}:{OTHER}", "--listen-tls", f"{host}:{SMTPS}")), *options,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        if self.line() != "ready\n":
            raise RuntimeError("the sink does not start")

    def line(self):
        if not select.select([self.process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise RuntimeError("the sink does not answer")
        return self.process.stdout.readline()

    def ask(self, word="peek"):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def settled(self, mails=None, seconds=3.0):
        """The counters, once no session is open and, if asked for, that many mails have come."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self.ask()
            there = not seen["open"] if mails is None else seen["mails_tls"] + seen["mails_clear"] >= mails
            if there or time.monotonic() > deadline:
                return seen
            time.sleep(0.02)

    def reset(self):
        self.settled()
        self.ask("reset")


class Place:
    def __init__(self):
        self.stack = contextlib.ExitStack()
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def make(self):
        state.clean_leftovers([data["name"] for _, data in state.records()
                               if data["name"] == NAME and state.started_at(data["owner"]) != data["owner_start"]])
        if any(data["name"] == NAME for _, data in state.records()):
            raise SystemExit("bench: another bench runs")
        self.record = state.State(NAME)
        self.stack.callback(self.record.clean)
        self.folder = pathlib.Path(tempfile.gettempdir(), f"waxseal-{NAME}-{os.getpid()}")
        for folder in (self.folder, f"/var/run/dpdk/{NAME}", f"/var/run/dpdk/{NAME}-testpmd"):
            self.record.add("folders", folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o755)
        self.namespaces = Namespaces(self.record)
        self.client, self.box, self.server = self.namespaces.client, self.namespaces.box, self.namespaces.server
        self.direct_wire()
        for namespace in (self.client, self.box, self.server):
            namespace.run("sh", "-c", "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range; echo 4096 > /proc/sys/net/core/somaxconn")
        self.ca = Authority(self.folder / "ca")
        self.certificate = self.ca.certificate("sink", HOSTNAME)
        self.sinks = {FULL: Sink(self, FULL, "--no-resume"), RESUMED: Sink(self, RESUMED)}
        self.appliance = Appliance(self.box, self.folder / "appliance", self.ca.file, NAME)
        self.stack.callback(self.appliance.close)

    def direct_wire(self):
        run("ip", "link", "add", "eth1", "mtu", MTU, "netns", self.client.name, "type", "veth",
            "peer", "name", "eth1", "mtu", MTU, "netns", self.server.name)
        for end, hosts in ((self.client, (1,)), (self.server, (FULL, RESUMED))):
            end.run("ethtool", "-K", "eth1", "tx", "off", "tso", "off", "gso", "off", "gro", "on")
            for host in hosts:
                end.run("ip", "address", "add", f"{DIRECT}.{host}/24", "dev", "eth1")
            end.run("ip", "link", "set", "eth1", "up")

    def forget_neighbours(self):
        for end in (self.client, self.server):
            end.run("ip", "neigh", "flush", "all")

    def load_command(self, number, *options, port=SMTP, direct=False):
        host = f"{DIRECT}.{number}" if direct else ipv4("server", number)
        sources = () if direct else ("--sources", SOURCES)
        return self.client.command(BUILD / "bench/load", "--connect", f"{host}:{port}", *sources, *options)

    def load(self, number, *options, **more):
        """Runs the load to its end: (its report, its CPU seconds)."""
        process = subprocess.Popen(self.load_command(number, *options, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        out, errors = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not out:
            raise RuntimeError(f"load: {process.returncode} {errors.strip()}")
        return json.loads(out.splitlines()[-1]), usage.ru_utime + usage.ru_stime

    @contextlib.contextmanager
    def held(self, number, count, *options):
        """That many sessions stand behind RCPT."""
        process = subprocess.Popen(self.load_command(number, "--hold", "--sessions", str(count), *options), stdout=subprocess.PIPE,
                                   stdin=subprocess.PIPE, text=True, start_new_session=True)
        try:
            if not select.select([process.stdout], [], [], ANSWER_SECONDS)[0] or process.stdout.readline() != f"held {count}\n":
                raise RuntimeError(f"{count} sessions cannot be held")
            yield
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()

    def close(self):
        self.stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
