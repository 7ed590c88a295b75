"""The same verdict at both attach points, and the one that is right; what happens without a socket."""
import ipaddress
import random

import pytest

import fixtures
from fixtures import FIXTURES, ethernet, ip4, ip6, tcp
from runners import (FORWARD, FRAGMENT, ICMP, INSIDE, OUTSIDE, PREFIXES, SMTP, UNPARSED, WORKERS, XDP_DROP, XDP_REDIRECT, run, verdicts)

MUTATIONS = 4000


@pytest.fixture(scope="module")
def both():
    frames = [(fixture.frame, fixture.side) for fixture in FIXTURES]
    return verdicts("run_xdp", frames), verdicts("run_dpdk", frames)


def test_names_are_unique():
    names = [fixture.name for fixture in FIXTURES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("at", range(len(FIXTURES)), ids=[fixture.name for fixture in FIXTURES])
def test_verdict(both, at):
    expected = FIXTURES[at]
    for where, verdict in zip(("XDP", "librte_bpf"), (both[0][at], both[1][at])):
        assert verdict.magic == 1
        assert (verdict.action, verdict.destination, verdict.flags, verdict.tags, verdict.l3, verdict.l4) == \
            (expected.action, expected.destination, expected.flags, expected.tags, expected.l3, expected.l4), where
        assert verdict.worker == expected.worker or (expected.worker is None and verdict.worker < WORKERS), where
        assert bool(verdict.hash) == (expected.action in (SMTP, ICMP)), where
    assert both[0][at] == both[1][at]


def pairs(count):
    rng = random.Random(25)
    for _ in range(count):
        port = rng.randrange(1024, 65536)
        client, server = (".".join(str(rng.randrange(1, 224)) for _ in range(4)) for _ in range(2))
        yield ip4, client, server, port
        client, server = (f"2001:db8:{rng.randrange(65536):x}::{rng.randrange(65536):x}" for _ in range(2))
        yield ip6, client, server, port


def test_both_directions_meet():
    there, back = [], []
    for ip, client, server, port in pairs(200):
        there.append((ethernet(ip(tcp(port, 25), src=client, dst=server)), INSIDE))
        back.append((ethernet(ip(tcp(25, port), src=server, dst=client)), OUTSIDE))
    one, other = verdicts("run_xdp", there), verdicts("run_xdp", back)
    assert [(v.hash, v.worker, v.destination) for v in one] == [(v.hash, v.worker, v.destination) for v in other]
    assert len({v.hash for v in one}) == len(one)
    assert one == verdicts("run_dpdk", there)


def test_longest_prefix_against_a_plain_search():
    rng, prefixes, frames, expected = random.Random(7), dict(PREFIXES), [], []
    while len(prefixes) < 60:
        base, lengths = rng.choice((("198.51.100.0", range(8, 33)), ("2001:db8:1::", range(20, 129)), ("0.0.0.0", [0]), ("::", [0, 1])))
        length = rng.choice(lengths)
        bits = int(ipaddress.ip_address(base)) ^ rng.getrandbits(32 if "." in base else 96) & rng.getrandbits(32 if "." in base else 96)
        network = ipaddress.ip_network((type(ipaddress.ip_address(base))(bits), length), strict=False)
        prefixes.setdefault(str(network), (100 + len(prefixes), rng.randrange(3)))
    known = [(ipaddress.ip_network(prefix), destination) for prefix, (destination, _) in prefixes.items()]
    for network, _ in known:
        for _ in range(20):
            host = network.network_address + (rng.getrandbits(network.max_prefixlen) & int(network.hostmask))
            frames.append((ethernet(ip4(tcp(), dst=str(host)) if host.version == 4 else ip6(tcp(), dst=str(host))), INSIDE))
            matching = [(n.prefixlen, d) for n, d in known if n.version == host.version and host in n]
            expected.append(max(matching)[1])
    more = [word for prefix, (d, pool) in prefixes.items() if prefix not in PREFIXES for word in ("--prefix", f"{prefix}={d}:{pool}")]
    for program in ("run_xdp", "run_dpdk"):
        assert [verdict.destination for verdict in verdicts(program, frames, *more)] == expected


def test_flows_spread_over_workers():
    frames = [(ethernet(ip4(tcp(port, 25), dst="9.9.9.9")), INSIDE) for port in range(10000, 11000)]
    workers = [verdict.worker for verdict in verdicts("run_xdp", frames)]
    assert set(workers) == set(range(WORKERS))
    assert min(workers.count(w) for w in range(WORKERS)) > len(frames) / WORKERS * 0.7


def test_icmp_meets_the_flow_it_is_about():
    quote = ip4(tcp(40000, 25))
    error = ethernet(ip4(fixtures.ICMP4(type=3, code=4) / fixtures.Raw(bytes(quote)), src="203.0.113.250", dst=fixtures.A))
    flow, about = verdicts("run_xdp", [(ethernet(quote), INSIDE), (error, OUTSIDE)])
    assert (flow.hash, flow.worker, flow.destination) == (about.hash, about.worker, about.destination)


def test_mutated_frames_get_one_verdict():
    """Bytes changed and frames cut at random, headers above all: both attach points still agree."""
    rng = random.Random(1)
    frames = []
    for _ in range(MUTATIONS):
        fixture = rng.choice(FIXTURES)
        frame = bytearray(fixture.frame)
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(12, min(len(frame), 100))] = rng.choice((0, 1, 4, 6, 25, 43, 44, 51, 58, 60, 0x45, 0xff, rng.randrange(256)))
        if rng.random() < 0.3:
            del frame[rng.randrange(14, len(frame) + 1):]
        frames.append((bytes(frame), rng.choice((INSIDE, OUTSIDE))))
    for frame, xdp, dpdk in zip(frames, verdicts("run_xdp", frames), verdicts("run_dpdk", frames)):
        assert xdp == dpdk if xdp.action != FORWARD else dpdk.action == FORWARD, frame[0].hex()


def test_frames_shorter_than_ethernet():
    """The kernel has none; librte_bpf is given whatever a device hands over."""
    for verdict in verdicts("run_dpdk", [(bytes(len_), INSIDE) for len_ in range(14)]):
        assert verdict.action == FORWARD


@pytest.mark.parametrize("fail", ("open", "closed"))
def test_without_a_socket_the_fail_mode_decides(fail):
    uninspected = {SMTP: XDP_REDIRECT if fail == "open" else XDP_DROP}
    uninspected[FRAGMENT] = uninspected[UNPARSED] = uninspected[SMTP]
    expected = [uninspected.get(fixture.action, XDP_REDIRECT) for fixture in FIXTURES]
    returned = [int(line) for line in run("run_xdp", [(fixture.frame, fixture.side) for fixture in FIXTURES], "--fail", fail)]
    for fixture, value, right in zip(FIXTURES, returned, expected):
        assert value == right, fixture.name
