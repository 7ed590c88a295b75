"""Part `sessions`: 10,000 sessions of every kind through a waxseald with AddressSanitizer and UBSan, which is then ended in
order: each has come to its own end, and LeakSanitizer finds nothing. Wants WAXSEAL_BUILD=build/sanitize."""
import contextlib
import os
import socket
import threading
import time

from lab.appliance import BUILD, VDEV, XDP
from lab.dialogue import Dialogue, client_context, send_many
from lab.lab import SINKS, Lab
from lab.mta import Message
from lab.namespaces import ipv4, ipv6

SESSIONS = int(os.environ.get("WAXSEAL_SESSIONS", 10_000))
AT_ONCE = 100
OFFERS, PLAIN, OTHER = range(SINKS, SINKS + 3)
MAILS = {"sealed": 250, "upgraded": 250, "deferred": 451, "rejected": 554, "clear": 250}
KINDS = (*MAILS, "cut", "unknown")
SIZE = 3000


def jobs(kind, count):
    number, domain, context = {"sealed": (OFFERS, "strict.example", client_context()), "upgraded": (OFFERS, "strict.example", None),
                               "deferred": (PLAIN, "strict.example", None), "rejected": (OFFERS, "never.example", None),
                               "clear": (PLAIN, "lax.example", None)}[kind]
    messages = [Message(SIZE, seed=0) for _ in range(count)]
    return [((ipv4, ipv6)[i % 2]("server", number), message, f"{message.name}@{domain}", context) for i, message in enumerate(messages)]


def mail(lab, kind, count):
    outcomes = send_many(lab.client, jobs(kind, count))
    wrong = [(outcome.last.text, outcome.error) for outcome in outcomes if outcome.last.code != MAILS[kind] or outcome.error]
    assert not wrong, f"{kind}: {len(wrong)} of {count}: {wrong[:3]}"


def cut(lab, count):
    """Plaintext behind STARTTLS."""
    for i in range(count):
        with Dialogue(lab.client, (ipv4, ipv6)[i % 2]("server", OFFERS)) as client:
            client.ehlo()
            client.write(b"STARTTLS\r\nNOOP\r\n")
            client.ended()


class NoSmtp(threading.Thread):
    """Another protocol's server on port 25."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.listener = lab.server.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((ipv4("server", OTHER), 25))
        self.listener.listen(64)
        self.start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return  # closed
            with s, contextlib.suppress(OSError):
                s.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                while s.recv(4096):
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(5)


def unknown(lab, count):
    """No SMTP to see: the default of the rule's `nonsmtp` lets it pass, and it is counted."""
    for _ in range(count):
        with lab.client.connect(ipv4("server", OTHER)) as s:
            assert s.recv(4096).startswith(b"SSH")
            s.sendall(b"SSH-2.0-client\r\n")


def round_of(lab, counts):
    for kind, count in counts.items():
        if count:
            mail(lab, kind, count) if kind in MAILS else {"cut": cut, "unknown": unknown}[kind](lab, count)


def play(lab, mode, sessions):
    """{end: sessions} as waxseald counted them."""
    appliance = lab.start_appliance(mode)
    appliance.rules(count=True, default={"level": "may", "mode": "enforce"}, domain__strict_example={"level": "encrypt"},
                    domain__never_example={"level": "block", "on_fail": "reject"})
    servers, other = [lab.sink(OFFERS), lab.sink(PLAIN, starttls="none")], NoSmtp(lab)
    wanted = {kind: sessions // len(KINDS) for kind in KINDS}
    wanted["sealed"] += sessions - sum(wanted.values())
    left = dict(wanted)
    while any(left.values()):
        counts = {kind: min(n, AT_ONCE // len(KINDS) + 1) for kind, n in left.items()}
        round_of(lab, counts)
        left = {kind: n - counts[kind] for kind, n in left.items()}
        for server in servers:
            server.sessions.clear()
    appliance.counted(120, **wanted)
    found = appliance.sessions(appliance.scope)
    other.close()
    for server in servers:
        server.close()
        lab.sinks.remove(server)
    lab.end_appliance()
    return found


def run():
    if "sanitize" not in BUILD.name:
        raise SystemExit("soak: sessions: wants WAXSEAL_BUILD=build/sanitize, made by `make SANITIZER=address,undefined`")
    with Lab(f"soak{os.getpid()}") as lab:
        lab.appliance.start_control()
        for mode, sessions in ((XDP, SESSIONS - SESSIONS // 5), (VDEV, SESSIONS // 5)):
            began = time.monotonic()
            found = play(lab, mode, sessions)
            ends = ", ".join(f"{n} {kind}" for kind, n in sorted(found.items()))
            print(f"sessions: {mode}: {sum(found.values())} in {time.monotonic() - began:.0f} s: {ends}", flush=True)
        lab.appliance.close()
        reports = lab.appliance.sanitizer_reports()
        assert not reports, "\n".join(reports)
        print("sessions: no report of AddressSanitizer, LeakSanitizer or UBSan")
