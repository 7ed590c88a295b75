"""Flows handed over as sealed: what passes in the kernel, what still comes up, and what is noted of it."""
import pytest
from fixtures import A, A6, B, B6, ETHERNET, Dot1AD, Dot1Q, IP, IPv6, Raw, TCP, ethernet, ip4, ip6
from runners import FORWARD, INSIDE, OUTSIDE, SMTP, XDP_DROP, XDP_REDIRECT, Verdict, run

PORT = 40000
SEALED = f"{A}={B}={PORT}=0=0"
SEALED6 = f"{A6}={B6}={PORT}=0=0"
DATA = Raw(b"x" * 100)


def client(flags="PA", data=DATA, seq=1000, ack=5000, **fields):
    return TCP(sport=PORT, dport=25, flags=flags, seq=seq, ack=ack, **fields) / data


def server(flags="PA", data=DATA, seq=5000, ack=1000, **fields):
    return TCP(sport=25, dport=PORT, flags=flags, seq=seq, ack=ack, **fields) / data


def tagged(packet, *tags):
    frame = ETHERNET
    for kind, vlan in tags:
        frame = frame / kind(vlan=vlan, prio=5)
    return bytes(frame / packet)


def passed(frames, sealed=SEALED):
    """Which of the frames pass, and the numbers kept of the flow."""
    *lines, last = run("run_xdp", frames, "--sealed", sealed, last=1)
    seen = [Verdict(*map(int, line.split())).action for line in lines]
    assert set(seen) <= {FORWARD, SMTP}
    return [action == FORWARD for action in seen], last if last == "gone" else list(map(int, last.split()))


def test_data_passes_both_ways_and_is_noted():
    frames = [(ethernet(ip4(client())), INSIDE), (ethernet(ip4(server(ack=1100, window=500), src=B, dst=A)), OUTSIDE),
              (ethernet(ip4(client(seq=1100, ack=5100, window=300))), INSIDE),
              (ethernet(ip4(client("A", b"", seq=1200, ack=5100))) + bytes(6), INSIDE)]  # Ethernet padding is no payload
    assert passed(frames) == ([True] * 4, [3, 200, 1200, 5100, 5100 + 8192 * 4, 0, 1, 100, 5100, 1100, 1600, 0])


def test_ipv6_passes():
    assert passed([(ethernet(ip6(client())), INSIDE), (ethernet(ip6(server(), src=B6, dst=A6)), OUTSIDE)], SEALED6)[0] == [True, True]


def test_what_goes_back_moves_no_number():
    frames = [(ethernet(ip4(client(seq=900, ack=4000))), INSIDE), (ethernet(ip4(client(seq=700, ack=999999))), INSIDE)]
    assert passed(frames) == ([True, True], [2, 200, 1000, 5000, 0, 0, 0, 0, 5000, 1000, 0, 0])


def test_numbers_wrap():
    frames = [(ethernet(ip4(client(seq=0x7fffff00 + 1000, ack=5000))), INSIDE), (ethernet(ip4(client(seq=0xfffffff0, ack=5000))), INSIDE),
              (ethernet(ip4(client(seq=0xfffffff0 + 100 - (1 << 32), ack=5000))), INSIDE)]
    assert passed(frames)[1][2] == 0xfffffff0 + 200 - (1 << 32)


@pytest.mark.parametrize("flags", ("S", "SA", "R", "RA", "SF", "SR", "FR"))
def test_what_could_break_or_begin_a_connection_comes_up(flags):
    frames = [(ethernet(ip4(client(flags))), INSIDE), (ethernet(ip4(server(flags), src=B, dst=A)), OUTSIDE)]
    seen, numbers = passed(frames)
    assert seen == [False, False] and numbers[0] == numbers[6] == 0


def of_client(*args, **fields):
    return ethernet(ip4(client(*args, **fields))), INSIDE


def of_server(*args, **fields):
    return ethernet(ip4(server(*args, **fields), src=B, dst=A)), OUTSIDE


def test_fins_pass_and_the_last_ack_comes_up():
    frames = [of_client("FPA"), of_server("A", b"", ack=1101), of_server(ack=1101), of_client("A", b"", seq=1101, ack=5100),
              of_server("FA", b"", seq=5100, ack=1101), of_client("FPA"), of_client("A", b"", seq=1101, ack=5101)]
    assert passed(frames) == ([True] * 6 + [False], [3, 200, 1101, 5100, 5100 + 8192 * 4, 1, 3, 100, 5101, 1101, 1101 + 8192, 1])


def test_both_ends_at_once():
    frames = [of_client("FA", b""), of_server("FA", b""), of_client("A", b"", seq=1001, ack=5001), of_server("A", b"", seq=5001, ack=1001)]
    assert passed(frames)[0] == [True, True, True, False]


def test_a_fin_that_acknowledges_one_is_not_the_last():
    frames = [of_server("FA", b""), of_client("FA", b"", ack=5001), of_server("A", b"", seq=5001, ack=1001)]
    assert passed(frames)[0] == [True, True, False]


def test_a_fin_of_which_something_before_is_missing_comes_up():
    seen, numbers = passed([of_client("FA", seq=1001), of_client("FA", b"", seq=999), of_client("F", seq=800)])
    assert seen == [False] * 3 and numbers[:6] == [0, 0, 1000, 5000, 0, 0]


def test_what_is_said_behind_a_fin_comes_up():
    frames = [of_client("FA", b""), of_client(seq=1000), of_client(seq=1001), of_client("FA", b"", seq=1001), of_client(seq=901), of_client("FA", b"")]
    seen, numbers = passed(frames)
    assert seen == [True, False, False, False, True, True] and numbers[:6] == [3, 100, 1001, 5000, 5000 + 8192 * 4, 1]


@pytest.mark.parametrize("name, frame, side", [
    ("by the other port", ethernet(ip4(client())), OUTSIDE),
    ("the server's by the other port", ethernet(ip4(server(), src=B, dst=A)), INSIDE),
    ("another port", ethernet(ip4(TCP(sport=PORT + 1, dport=25, flags="PA") / DATA)), INSIDE),
    ("another client", ethernet(ip4(client(), src="192.0.2.2")), INSIDE),
    ("another server", ethernet(ip4(client(), dst="198.51.100.8")), INSIDE),
    ("both ports are 25", ethernet(ip4(TCP(sport=25, dport=25, flags="PA") / DATA)), INSIDE),
    ("with a tag", tagged(IP(src=A, dst=B) / client(), (Dot1Q, 7)), INSIDE),
    ("with tag 0 before it", tagged(IP(src=A, dst=B) / client(), (Dot1Q, 0), (Dot1Q, 7)), INSIDE),
    ("longer than its frame", ethernet(ip4(client(), len=200)), INSIDE),
    ("a TCP header too short", ethernet(ip4(client(dataofs=4))), INSIDE),
    ("a TCP header past the end", ethernet(ip4(client("A", b"", dataofs=6))), INSIDE),
    ("half a TCP header", ethernet(ip4(Raw(bytes(client("A", b""))[:12]), proto=6)), INSIDE),
    ("an IPv6 flow that ends the same", ethernet(ip6(client(), src="::192.0.2.1", dst="::198.51.100.7")), INSIDE),
])
def test_what_is_not_the_flow_comes_up(name, frame, side):
    seen, numbers = passed([(frame, side)])
    assert seen == [False] and numbers[0] == numbers[6] == 0, name


@pytest.mark.parametrize("vlans, tags", [("7=0", [(Dot1Q, 7)]), ("7=9", [(Dot1AD, 7), (Dot1Q, 9)])])
def test_a_flow_of_a_vlan(vlans, tags):
    sealed = f"{A}={B}={PORT}={vlans}"
    frames = [(tagged(IP(src=A, dst=B) / client(), *tags), INSIDE), (tagged(IP(src=B, dst=A) / server(), *tags), OUTSIDE),
              (ethernet(ip4(client())), INSIDE), (tagged(IP(src=A, dst=B) / client(), (Dot1Q, 8)), INSIDE)]
    assert passed(frames, sealed)[0] == [True, True, False, False]


def test_short_frames_with_two_tags():
    frame = tagged(IPv6(src=A6, dst=B6) / client("A", b""), (Dot1AD, 7), (Dot1Q, 9))
    assert passed([(frame, INSIDE)], f"{A6}={B6}={PORT}=7=9")[0] == [True]


@pytest.mark.parametrize("fail", ("open", "closed"))
def test_without_waxseald_it_goes_on_until_a_connection_begins(fail):
    """A sealed session outlives waxseald, whatever the fail mode; a new one of the same addresses and ports is not it."""
    data, syn = (ethernet(ip4(client())), INSIDE), (ethernet(ip4(client("S", b"", seq=77))), INSIDE)
    uninspected = XDP_REDIRECT if fail == "open" else XDP_DROP
    *returned, last = run("run_xdp", [data, syn, data], "--fail", fail, "--sealed", SEALED, last=1)
    assert [int(line) for line in returned] == [XDP_REDIRECT, uninspected, uninspected] and last == "gone"
    *returned, last = run("run_xdp", [data, (ethernet(ip4(client("R"))), INSIDE)], "--fail", fail, "--sealed", SEALED, last=1)
    assert [int(line) for line in returned] == [XDP_REDIRECT, uninspected] and last != "gone"
