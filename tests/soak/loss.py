"""Part `loss`: 200 mails of 1 MB over wires that lose 5 % each way; all of them arrive, and how fast they do is measured
beside a Linux bridge in the appliance's place, with the same endpoints, wires and seeds."""
import os

from lab import lossy
from lab.lab import Lab

MAILS = int(os.environ.get("WAXSEAL_MAILS", 200))
ROUND = 40  # mails, of each middle in turn: so that the machine's other load meets all alike
SIZE = 1_000_000
WIRES = {"both wires": ("client", "server"), "the server's wire": ("server",)}


def session_rate(seconds):
    """MB/s of a session in the mean: bytes of all by the time of all. The last stragglers do not weigh more than others."""
    return len(seconds) * SIZE / 1e6 / sum(seconds)


def times(lab, sides, seed, middle, tls, mails, congestion):
    """Seconds of each session; every mail has arrived."""
    with lab.impaired(**lossy.bad_wires(seed, sides)) as impairers:
        if middle == "waxseal":
            lab.start_appliance().rules(default={"level": "encrypt", "mode": "enforce"})
            messages, seconds = lossy.send(lab, mails, SIZE, tls, congestion)
            lossy.arrived(lab, messages, over_tls=True)
            lab.end_appliance()
        else:
            with lossy.bridged(lab):
                messages, seconds = lossy.send(lab, mails, SIZE, tls, congestion)
                lossy.arrived(lab, messages, over_tls=tls)
        lossy.impairments_happened(impairers)
    return seconds


def run():
    seed = lossy.seed()
    print(f"loss: {MAILS} mails of {SIZE} octets, {lossy.AT_ONCE} at once, swept in rounds of {ROUND}; each way of a bad wire: {lossy.BAD}; SEED={seed}")
    worst = None
    with Lab(f"soak{os.getpid()}") as lab:
        lab.postfix
        lab.appliance.start_control()
        for name, sides in WIRES.items():
            kinds = [("waxseal", "waxseal", False), ("bridge, in clear", "bridge", False), ("bridge, client's TLS", "bridge", True)]
            seconds = {kind: [] for kind, *_ in kinds}
            for first in range(0, MAILS, ROUND):
                for kind, middle, tls in kinds:
                    seconds[kind] += times(lab, sides, seed + first, middle, tls, min(ROUND, MAILS - first))
            mean = {kind: session_rate(all_) for kind, all_ in seconds.items()}
            ratio = mean["waxseal"] / max(mean["bridge, in clear"], mean["bridge, client's TLS"])
            worst = ratio if worst is None else min(worst, ratio)
            print(f"loss: {name} bad: {MAILS} of {MAILS} upgraded mails arrived once and whole; "
                  + ", ".join(f"{kind} {value:.3f} MB/s a session" for kind, value in mean.items()) + f"; waxseal is at {ratio:.2f} of the faster bridge", flush=True)
    print(f"loss: {'at least half' if worst >= 0.5 else 'BELOW HALF'} of the bridge's throughput everywhere")
