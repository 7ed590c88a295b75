"""Runs frames through the classifier at both attach points, and reads the verdicts.

Enters: (frame, side) pairs. Leaves: a Verdict each, from the kernel (run_xdp) and from librte_bpf (run_dpdk).
"""
import collections
import os
import pathlib
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BPF = ROOT / os.environ.get("WAXSEAL_BUILD", "build") / "bpf"

INSIDE, OUTSIDE = 0, 1
FORWARD, SMTP, FRAGMENT, UNPARSED, ICMP = range(5)
V6, TO_25, FROM_25 = 1, 2, 4
XDP_DROP, XDP_REDIRECT = 1, 4

Verdict = collections.namedtuple("Verdict", "magic action destination worker flags tags l3 l4 hash")

SEED = 0x5EED
WORKERS = 4
# Pool 0 is all four workers; 1 is worker 3 alone, 2 is workers 1 and 2.
POOLS = ["3", "1,2"]
PREFIXES = {
    "0.0.0.0/1": (90, 0), "198.51.100.0/24": (1, 0), "198.51.100.128/25": (2, 1), "198.51.100.200/32": (3, 2),
    "203.0.113.0/24": (4, 1), "2001:db8::/32": (5, 0), "2001:db8:1::/48": (6, 1), "2001:db8:1::25/128": (7, 2),
}


def options():
    words = ["--seed", SEED, "--workers", WORKERS]
    for pool in POOLS:
        words += ["--pool", pool]
    for prefix, (destination, pool) in PREFIXES.items():
        words += ["--prefix", f"{prefix}={destination}:{pool}"]
    return [str(word) for word in words]


def run(program, frames, *more, last=0):
    data = b"".join(struct.pack("<II", len(frame), side) + frame for frame, side in frames)
    done = subprocess.run([BPF / program, BPF, *options(), *more], input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(frames) + last, done.stdout.decode()
    return lines


def verdicts(program, frames, *more):
    return [Verdict(*map(int, line.split())) for line in run(program, frames, *more)]
