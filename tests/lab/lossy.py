"""Many large mails over bad wires: what was sent, when, and whether all of it arrived once and whole."""
import contextlib
import os
import time

from .dialogue import client_context, send_many
from .lab import TLS
from .mta import Message, domain_of, headers
from .namespaces import ipv4

AT_ONCE = 20
BODIES = 4  # bodies that differ; the mails of a run share them, and each has its own last line
# Each way, of each wire that is bad: loss, reordering and duplicates in percent, microseconds of delay.
BAD = {"loss": 5, "reorder": 3, "duplicate": 1, "delay": 5000, "jitter": 1000}


def seed():
    return int(os.environ.get("SEED", 0)) or time.time_ns() % 1_000_000


def bad_wires(first_seed, sides=("client", "server")):
    return {side: {**BAD, "seed": first_seed + i} for i, side in enumerate(sides)}


def send(lab, mails, size, tls=False, congestion=None):
    """By the event-driven client to Postfix, AT_ONCE at a time; the messages, and the seconds that each session took."""
    messages, context = [Message(size, seed=i % BODIES) for i in range(mails)], client_context() if tls else None
    outcomes = send_many(lab.client, [(ipv4("server", TLS), message, recipient_of(message), context) for message in messages],
                         AT_ONCE, congestion)
    refused = [(outcome.last.text, outcome.error) for outcome in outcomes if outcome.last.code != 250 or outcome.error]
    assert not refused, f"{len(refused)} of {mails}: {refused[:5]}"
    return messages, [outcome.seconds for outcome in outcomes]


def recipient_of(message):
    return f"{message.name}@{domain_of(ipv4('server', TLS))}"


def arrived(lab, messages, over_tls):
    """Every one of them once, byte for byte, and over TLS or not."""
    for message in messages:
        stored = lab.postfix.mail.wait(message, 60, lab.postfix.log)
        assert message.arrived_whole(stored), f"{message.name}: its body has changed"
        assert ("using TLSv1" in headers(stored, "Received")[0]) == over_tls, headers(stored, "Received")[0]
    log = lab.postfix.log()
    twice = [message.name for message in messages if log.count(f"from=<{message.sender}>, size=") != 1]
    assert not twice, f"taken more than once: {twice}"


def impairments_happened(impairers):
    """Both ways; and nothing was lost that the options do not ask for."""
    for side, impairer in impairers.items():
        counts = impairer.finish()
        for way in ("end", "box"):
            one = counts[way]
            assert one["lost"] and one["reordered"] and one["duplicated"], (side, counts)
            assert not one["oversize"] + one["overflow"] + one["unseen"] + one["refused"], (side, counts)
    return {side: impairer.counts for side, impairer in impairers.items()}


@contextlib.contextmanager
def bridged(lab):
    """A Linux bridge in the appliance's place."""
    lab.namespaces.bridge()
    try:
        yield
    finally:
        lab.namespaces.unbridge()
