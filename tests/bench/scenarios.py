"""What is done through a middle, and whether it was what it claims.

Each function runs one scenario once and returns a dict of figures, with "wrong": "" or why the run does not count.
Figures are per 1,000 sessions, or per GB of one message; `cpu` is the middle's own processes, `machine` all CPUs of
the machine (the load's and the sink's work and the kernel's forwarding are in it).
"""
import json
import subprocess
import threading
import time

from .place import FULL, OTHER, RESUMED, machine_cpu, resident_bytes, tree_cpu

SIZE = 4096
PARALLEL = 32
WARM_UP = 40
RESUMED_LEAST = 0.5          # a scenario of resumed sessions is one from here on; the table says how many were
QUEUE_SECONDS = 90           # for what a queueing relay still holds when the load is done
POSTFIX_SESSIONS_A_SECOND = 60
HELD_BEFORE, HELD_UPGRADED = 100, 400
BUSY_SECONDS = 0.25


class Sampler(threading.Thread):
    """busy_permille of the middle while a scenario runs. Each is of one second, so the greatest lies inside the run."""

    def __init__(self, middle):
        super().__init__(daemon=True)
        self.middle, self.ended, self.samples = middle, threading.Event(), []

    def run(self):
        while not self.ended.wait(BUSY_SECONDS):
            value = self.middle.busy_permille()
            if value is None:
                return
            self.samples.append(value)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def busy(self):
        return max(self.samples) / 1000 if self.samples else None


def complaints(load, sink, size, tls, queued=False, noop=False, resumed=None):
    """Why a run does not count: what the load did against what the sink saw."""
    sessions, found = load["sessions"], []

    def must(holds, text):
        if not holds:
            found.append(text)
    must(sessions > 0, "no session was completed")
    must(not load["failed"] and not load["stuck"], f"{load['failed']} failed, {load['stuck']} stuck: {load['error']}")
    must(not sink["injected"] and not sink["unknown"], f"{sink['injected']} injected, {sink['unknown']} unknown commands")
    if not noop:
        wanted, other = ("mails_tls", "mails_clear") if tls else ("mails_clear", "mails_tls")
        must(sink[wanted] == sessions and not sink[other], f"{sessions} sessions; at the sink {sink['mails_tls']} mails in TLS, {sink['mails_clear']} in clear")
        whole = sessions * size
        must(sink["bytes"] >= whole if queued else sink["bytes"] == whole, f"{whole} bytes were sent, {sink['bytes']} came")
    if tls and not queued:
        must(sink["tls"] == sessions, f"{sessions} sessions, {sink['tls']} TLS handshakes at the sink")
    if resumed is not None and sink["tls"]:
        share = sink["resumed"] / sink["tls"]
        must(share >= RESUMED_LEAST if resumed else not share, f"{share:.0%} of the TLS sessions were resumed")
    return "; ".join(found)


def measured(middle, number, *options, **more):
    """(load's report, sink's counters, figures)."""
    place = middle.place
    sink = place.sinks[number]
    queued = more.pop("queued", 0)
    sink.reset()
    told = middle.counters()
    began, cpu, machine, sink_cpu = time.monotonic(), middle.cpu(), machine_cpu(), tree_cpu([sink.process.pid])
    with Sampler(middle) as sampler:
        load, load_cpu = place.load(number, *options, direct=middle.direct, **more)
        seen = sink.settled(queued or None, QUEUE_SECONDS if queued else 3.0)
    figures = {"seconds": time.monotonic() - began, "cpu_s": middle.cpu() - cpu, "machine_s": machine_cpu() - machine,
               "load_s": load_cpu, "sink_s": tree_cpu([sink.process.pid]) - sink_cpu, "busy": sampler.busy()}
    figures["counters"] = {name: value - told.get(name, 0) for name, value in middle.counters().items() if value != told.get(name, 0)}
    return load, seen, figures


def sessions(middle, seconds, number, client_tls, tls, resumed=None):
    options = ("--starttls", "--ca", middle.place.ca.file) if client_tls else ()
    queued = middle.name == "postfix"
    amount = ("--sessions", str(int(POSTFIX_SESSIONS_A_SECOND * seconds))) if queued else ("--seconds", str(seconds))
    middle.place.load(number, "--sessions", str(WARM_UP), "--parallel", "4", *options, direct=middle.direct)
    if queued:
        middle.place.sinks[number].settled(WARM_UP, QUEUE_SECONDS)
    load, sink, figures = measured(middle, number, "--parallel", str(PARALLEL), "--size", str(SIZE), *amount, *options,
                                   queued=int(amount[1]) if queued else 0)
    done = max(load["sessions"], 1)
    return {**figures, "wrong": complaints(load, sink, SIZE, tls, queued, resumed=resumed),
            "rate": load["sessions"] / figures["seconds"] if queued else load["rate"],
            "cpu": figures["cpu_s"] / done * 1000, "machine": figures["machine_s"] / done * 1000,
            "resumed": sink["resumed"] / max(sink["tls"], 1), "p50_us": load["p50_us"], "p99_us": load["p99_us"]}


def bulk(middle, megabytes, client_tls, tls, port=None):
    options = ("--starttls", "--ca", middle.place.ca.file) if client_tls else ()
    size = megabytes * 1000000 // 64 * 64
    load, sink, figures = measured(middle, FULL, "--sessions", "1", "--seconds", "60", "--size", str(size), *options, **({"port": port} if port else {}))
    speed = load["bytes"] / load["content_seconds"] / 1e6 if load["content_seconds"] else 0
    return {**figures, "wrong": complaints(load, sink, size, tls), "mb_s": speed, "gbit_s": speed * 8 / 1000,
            "cpu_gb": figures["cpu_s"] / size * 1e9, "machine_gb": figures["machine_s"] / size * 1e9}


def upgraded(middle, settings):
    return sessions(middle, settings.seconds, FULL, False, True, resumed=False)


def upgraded_resumed(middle, settings):
    return sessions(middle, settings.seconds, RESUMED, False, True, resumed=True)


def sealed(middle, settings):
    return sessions(middle, settings.seconds, FULL, True, True, resumed=False)


def plain(middle, settings):
    return sessions(middle, settings.seconds, FULL, False, False)


def latency(middle, settings):
    load, sink, figures = measured(middle, FULL, "--noop", "--starttls", "--seconds", str(min(settings.seconds, 2)))
    return {**figures, "wrong": complaints(load, sink, 0, True, noop=True), "p50_us": load["p50_us"], "p99_us": load["p99_us"]}


def flooded_latency(middle, settings):
    """The round trip in a sealed session while 32 others at once come in plain text, to be upgraded where the middle does that."""
    seconds = min(settings.seconds, 2)
    flood = subprocess.Popen(middle.place.load_command(RESUMED, "--parallel", str(PARALLEL), "--size", str(SIZE), "--seconds", str(seconds + 1),
                                                       direct=middle.direct), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        load, sink, figures = measured(middle, FULL, "--noop", "--starttls", "--seconds", str(seconds))
        ended = flood.poll() is not None
    finally:
        told = json.loads(flood.communicate(timeout=30)[0].splitlines()[-1])
    wrong = complaints(load, sink, 0, True, noop=True) or ("the flood ended too early" if ended else "") or ("" if told["sessions"] else "there was no flood")
    return {**figures, "wrong": wrong, "p50_us": load["p50_us"], "p99_us": load["p99_us"], "flood": told["sessions"] / (seconds + 1)}


def upgraded_bulk(middle, settings):
    return bulk(middle, settings.megabytes, False, True)


def sealed_bulk(middle, settings):
    return bulk(middle, settings.megabytes, True, True)


def plain_bulk(middle, settings):
    return bulk(middle, settings.megabytes, False, False)


def forward(middle, settings):
    return bulk(middle, settings.megabytes, False, False, OTHER)


def idle(middle, settings):
    """CPUs that the middle uses for nothing."""
    before, began = middle.cpu(), time.monotonic()
    time.sleep(min(settings.seconds, 2))
    return {"wrong": "", "cpus": (middle.cpu() - before) / (time.monotonic() - began), "busy": middle.busy_permille() and middle.busy_permille() / 1000}


def memory(middle, count):
    """Bytes by which the middle has grown for each session that stands idle behind RCPT. From cold, and beside others that
    stand already: what a session needs is neither what was kept for it from an earlier one, nor what is made once for all."""
    place = middle.place
    with place.held(FULL, HELD_BEFORE):
        time.sleep(0.2)
        before = resident_bytes(middle.roots())
        with place.held(FULL, count):
            time.sleep(0.2)
            after, sink = resident_bytes(middle.roots()), place.sinks[FULL].ask()
    wrong = "" if sink["open"] == HELD_BEFORE + count else f"{sink['open']} of {HELD_BEFORE + count} sessions at the sink"
    return {"wrong": wrong, "bytes": (after - before) / count}


def upgraded_memory(middle, _):
    return memory(middle, HELD_UPGRADED)


WIRE = (sealed, latency, sealed_bulk, forward)
UPGRADE = (upgraded, upgraded_resumed, upgraded_bulk)
# In this order; those of FIRST only in the first round, and those of COLD in a middle started for nothing else.
FIRST = (upgraded_memory, idle)
COLD = (upgraded_memory,)
SCENARIOS = {
    "direct": (*WIRE, plain, plain_bulk),
    "bridge": (*WIRE, flooded_latency, plain, plain_bulk),
    "waxseal": (upgraded_memory, idle, *UPGRADE, *WIRE, flooded_latency),
    "owned": (idle, *UPGRADE, *WIRE),
    "testpmd": (idle, *WIRE, plain, plain_bulk),
    "stunnel": (upgraded_memory, idle, *UPGRADE),
    "haproxy_tcp": (idle, sealed, latency, sealed_bulk),
    "haproxy_tls": (upgraded_memory, idle, *UPGRADE),
    "nginx": (upgraded_memory, idle, *UPGRADE),
    "postfix": (idle, upgraded),
}
