"""Part `loss`: 200 mails of 1 MB over wires that lose 5 % each way; all of them arrive, and how fast they do is measured
beside a Linux bridge in the appliance's place, with the same endpoints, wires and seeds, and the client in clear."""
import os
import statistics

from lab import lossy
from lab.lab import Lab

MAILS = int(os.environ.get("WAXSEAL_MAILS", 200))
ROUND = 50  # mails, of each middle in turn: so that the machine's other load meets all alike
SIZE = 1_000_000
WIRES = {"both wires": ("client", "server"), "the server's wire": ("server",)}
CONGESTION = ("cubic", "bbr")  # of the Linux endpoint that sends; cubic is Linux' default


def rate(seconds):
    """MB/s of the median session: an endpoint's SYN lost three times over says nothing of the middle."""
    return SIZE / 1e6 / statistics.median(seconds)


def times(lab, sides, seed, middle, mails, congestion):
    """Seconds of each session; every mail has arrived, once and whole."""
    with lab.impaired(**lossy.bad_wires(seed, sides)) as impairers:
        if middle == "waxseal":
            lab.start_appliance().rules(default={"level": "encrypt", "mode": "enforce"})
            messages, seconds = lossy.send(lab, mails, SIZE, congestion=congestion)
            lossy.arrived(lab, messages, over_tls=True)
            lab.end_appliance()
        else:
            with lossy.bridged(lab):
                messages, seconds = lossy.send(lab, mails, SIZE, congestion=congestion)
                lossy.arrived(lab, messages, over_tls=False)
        lossy.impairments_happened(impairers)
    return seconds


def run():
    seed = lossy.seed()
    print(f"loss: {MAILS} mails of {SIZE} octets, {lossy.AT_ONCE} at once; each way of a bad wire: {lossy.BAD}; SEED={seed}", flush=True)
    with Lab(f"soak{os.getpid()}") as lab:
        lab.postfix
        lab.appliance.start_control()
        for name, sides in WIRES.items():
            for congestion in CONGESTION:
                seconds = {"waxseal": [], "bridge": []}
                for first in range(0, MAILS, ROUND):
                    for middle, all_ in seconds.items():
                        all_ += times(lab, sides, seed + first, middle, min(ROUND, MAILS - first), congestion)
                waxseal, bridge = rate(seconds["waxseal"]), rate(seconds["bridge"])
                print(f"loss: {name} bad, endpoints with {congestion}: {MAILS} of {MAILS} upgraded mails arrived once and whole; waxseal {waxseal:.2f} MB/s a session, "
                      f"a bridge {bridge:.2f}: {waxseal / bridge:.2f} of it", flush=True)
