"""Packet fixtures: name, frame, side, and the verdict that both attach points must give.

Each is as an endpoint, or an adversary, could put it on the wire. `worker` None: any of the default pool's.
"""
import struct
from dataclasses import dataclass

from scapy.config import conf
from scapy.layers.inet import ICMP as ICMP4, IP, IPOption_NOP, IPOption_Router_Alert, TCP, UDP, TCPerror, IPerror
from scapy.layers.inet6 import (ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded,
                                IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Dot3, Ether, LLC
from scapy.packet import Raw

from runners import FORWARD, FRAGMENT, FROM_25, ICMP, INSIDE, OUTSIDE, SMTP, TO_25, UNPARSED, V6

conf.verb = 0
A, B = "192.0.2.1", "198.51.100.7"  # B is destination 1, pool 0
A6, B6 = "2001:db8:ffff::1", "2001:db8:1::7"  # B6 is destination 6, pool 1: worker 3
ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
DATA = b"MAIL FROM:<a@example.org>\r\n"


@dataclass
class Fixture:
    name: str
    frame: bytes
    action: int
    side: int = INSIDE
    destination: int = 0
    worker: int = 0
    flags: int = 0
    tags: int = 0
    l3: int = 14
    l4: int = 0


def ethernet(payload):
    return bytes(ETHERNET / payload)


def ip4(payload, src=A, dst=B, **fields):
    return IP(src=src, dst=dst, **fields) / payload


def ip6(payload, src=A6, dst=B6, **fields):
    return IPv6(src=src, dst=dst, **fields) / payload


def tcp(sport=40000, dport=25, data=DATA):
    return TCP(sport=sport, dport=dport, flags="PA") / Raw(data)


def forward(name, frame, side=INSIDE):
    return Fixture(name, frame if isinstance(frame, bytes) else ethernet(frame), FORWARD, side, l3=0)


def smtp4(name, packet, destination=1, worker=None, side=INSIDE, flags=TO_25, l4=34, **fields):
    return Fixture(name, packet if isinstance(packet, bytes) else ethernet(packet), SMTP, side, destination, worker, flags, l4=l4, **fields)


def smtp6(name, packet, destination=6, worker=3, side=INSIDE, flags=TO_25, l4=54, **fields):
    return Fixture(name, packet if isinstance(packet, bytes) else ethernet(packet), SMTP, side, destination, worker, V6 | flags, l4=l4, **fields)


def ipv4():
    yield smtp4("v4 to 25", ip4(tcp()))
    yield smtp4("v4 from 25", ip4(tcp(25, 40000), src=B, dst=A), flags=FROM_25, side=OUTSIDE)
    yield smtp4("v4 the server is inside", ip4(tcp(25, 40000), src=B, dst=A), flags=FROM_25)
    yield smtp4("v4 without payload", ip4(TCP(sport=40000, dport=25, flags="S")))
    yield smtp4("v4 header options", ip4(tcp(), options=[IPOption_NOP()] * 4 + [IPOption_Router_Alert()]), l4=42)
    yield smtp4("v4 60 bytes of header", ip4(tcp(), options=[IPOption_NOP()] * 40), l4=74)
    yield smtp4("v4 don't fragment", ip4(tcp(), flags="DF"))
    yield smtp4("v4 reserved flag", ip4(tcp(), flags="evil"))
    yield smtp4("v4 Ethernet padding", ethernet(ip4(TCP(sport=40000, dport=25))) + bytes(20))
    yield smtp4("v4 total length past the frame", ethernet(ip4(tcp(), len=1000)))
    yield smtp4("v4 malformed TCP header", ip4(TCP(sport=40000, dport=25, dataofs=1)))
    yield smtp4("v4 ports and no more", ethernet(ip4(Raw(struct.pack("!HH", 40000, 25)), proto=6)))
    yield forward("v4 other port", ip4(tcp(dport=587)))
    yield forward("v4 port 25 in the other byte", ip4(tcp(sport=0x1900, dport=0x1900)))
    yield forward("v4 UDP port 25", ip4(UDP(sport=25, dport=25) / Raw(DATA)))
    yield forward("v4 in v4", ip4(ip4(tcp())))
    yield forward("v4 version 5", ethernet(ip4(tcp(), version=5)))
    yield forward("v4 header of 16 bytes", ethernet(ip4(tcp(), ihl=4)))
    yield forward("v4 total length ends before the ports", ethernet(ip4(tcp(), len=23)))
    yield forward("v4 total length of 0", ethernet(ip4(tcp(), len=0)))
    for cut in (14, 15, 30, 33, 34, 37):
        yield forward(f"v4 cut at {cut}", ethernet(ip4(tcp()))[:cut])
    yield forward("v4 cut in its options", ethernet(ip4(tcp(), options=[IPOption_NOP()] * 40))[:60])


def ipv6():
    hop, opts, routing = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]), IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]), IPv6ExtHdrRouting()
    long_opts = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 252), PadN(optdata=b"\0" * 250)])
    yield smtp6("v6 to 25", ip6(tcp()))
    yield smtp6("v6 from 25", ip6(tcp(25, 40000), src=B6, dst=A6), flags=FROM_25, side=OUTSIDE)
    yield smtp6("v6 hop-by-hop", ip6(hop / tcp()), l4=62)
    yield smtp6("v6 destination options of 16", ip6(opts / tcp()), l4=70)
    yield smtp6("v6 routing", ip6(routing / tcp()), l4=62)
    yield smtp6("v6 authentication header", ip6(AH(nh=6, payloadlen=4, spi=1, seq=1, icv=b"\1" * 12) / tcp()), l4=78)
    yield smtp6("v6 long options", ip6(long_opts / tcp()), l4=54 + len(bytes(long_opts)))
    yield smtp6("v6 six headers", ip6(hop / opts / routing / opts / hop / routing / tcp()), l4=54 + 8 + 16 + 8 + 16 + 8 + 8)
    for number in (135, 139, 140):  # mobility, HIP, Shim6: type and length as in other headers
        yield smtp6(f"v6 header {number}", ip6(Raw(bytes([6, 1]) + bytes(14)) / tcp(), nh=number), l4=70)
    yield smtp6("v6 atomic fragment", ip6(IPv6ExtHdrFragment(offset=0, m=0) / tcp()), l4=62)
    yield smtp6("v6 fragment header's reserved bytes", ip6(IPv6ExtHdrFragment(offset=0, m=0, res1=255, res2=3) / tcp()), l4=62)
    yield smtp6("v6 payload length past the frame", ethernet(ip6(tcp(), plen=1400)))
    yield Fixture("v6 seven headers", ethernet(ip6(hop / opts / routing / opts / hop / routing / opts / tcp())), UNPARSED, flags=V6)
    yield Fixture("v6 seven headers in a fragment", ethernet(ip6(IPv6ExtHdrFragment(m=1) / hop / opts / routing / opts / hop / routing / tcp())),
                  UNPARSED, flags=V6)
    yield forward("v6 other port", ip6(tcp(dport=465)))
    yield forward("v6 other port behind headers", ip6(hop / opts / tcp(dport=80)))
    yield forward("v6 six headers, UDP", ip6(hop / opts / routing / opts / hop / routing / UDP(dport=25)))
    yield forward("v6 ESP", ip6(ESP(spi=1, seq=1, data=b"\0" * 32)))
    yield forward("v6 no next header", ip6(Raw(bytes(8)) / tcp(), nh=59))
    yield forward("v6 unknown header 253", ip6(Raw(bytes([6, 0]) + bytes(6)) / tcp(), nh=253))
    yield forward("v6 version 4", ethernet(ip6(tcp(), version=4)))
    yield forward("v6 payload length of 0", ethernet(ip6(tcp(), plen=0)))
    yield forward("v6 payload length ends before the ports", ethernet(ip6(tcp(), plen=3)))
    yield forward("v6 options past the frame", ethernet(ip6(Raw(bytes([6, 255]) + bytes(6)) / tcp(), nh=60)))
    for cut in (40, 53, 54, 57):
        yield forward(f"v6 cut at {cut}", ethernet(ip6(tcp()))[:cut])


def tags():
    one, two, three = Dot1Q(vlan=7), Dot1AD(vlan=9) / Dot1Q(vlan=7), Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3)
    yield smtp4("802.1Q v4", one / ip4(tcp()), tags=1, l3=18, l4=38)
    yield smtp4("802.1Q priority only", Dot1Q(vlan=0, prio=5) / ip4(tcp()), tags=1, l3=18, l4=38)
    yield smtp4("802.1ad alone", ethernet(Dot1AD(vlan=7) / ip4(tcp())), tags=1, l3=18, l4=38)
    yield smtp4("QinQ v4", two / ip4(tcp()), tags=2, l3=22, l4=42)
    yield smtp4("two 802.1Q tags", Dot1Q(vlan=1) / Dot1Q(vlan=2) / ip4(tcp()), tags=2, l3=22, l4=42)
    yield smtp6("802.1Q v6", one / ip6(tcp()), tags=1, l3=18, l4=58)
    yield smtp6("QinQ v6 with headers", two / ip6(IPv6ExtHdrDestOpt() / tcp()), tags=2, l3=22, l4=70)
    yield Fixture("QinQ v4 fragment", ethernet(two / ip4(tcp(), flags="MF")), FRAGMENT, tags=2, l3=22)
    yield forward("three tags", three / ip4(tcp()))
    yield forward("802.1Q other port", one / ip4(tcp(dport=443)))
    yield forward("a tag and nothing", ethernet(one)[:18])
    yield forward("half a tag", ethernet(one)[:16])
    yield forward("ARP", ARP(pdst=B))
    yield forward("802.3 with LLC", bytes(Dot3(src="02:00:00:00:00:01", dst="01:80:c2:00:00:00") / LLC() / Raw(bytes(40))))
    yield forward("v6 bytes as v4", bytes(Ether(type=0x0800) / Raw(bytes(ip6(tcp())))))
    yield forward("v4 bytes as v6", bytes(Ether(type=0x86DD) / Raw(bytes(ip4(tcp())) + bytes(40))))
    yield forward("zeros", bytes(60))
    yield forward("ones", b"\xff" * 60)


def fragments():
    yield Fixture("v4 first fragment", ethernet(ip4(tcp(), flags="MF")), FRAGMENT)
    yield Fixture("v4 first fragment from 25", ethernet(ip4(tcp(25, 40000), src=B, dst=A, flags="MF")), FRAGMENT, OUTSIDE)
    yield Fixture("v4 tiny first fragment", ethernet(ip4(Raw(bytes(tcp())[:8]), proto=6, flags="MF")), FRAGMENT)
    yield Fixture("v4 first fragment without ports", ethernet(ip4(Raw(b""), proto=6, flags="MF")), FRAGMENT)
    yield Fixture("v4 first fragment, ports in the padding", ethernet(ip4(tcp(dport=80), flags="MF", len=22)), FRAGMENT)
    yield forward("v4 first fragment, other port", ip4(tcp(dport=80), flags="MF"))
    yield forward("v4 first fragment, UDP", ip4(UDP(dport=25), flags="MF"))
    yield forward("v4 later fragment", ip4(tcp(), flags="MF", frag=1))
    yield forward("v4 last fragment", ip4(tcp(), frag=185))
    yield Fixture("v6 first fragment", ethernet(ip6(IPv6ExtHdrFragment(m=1) / tcp())), FRAGMENT, flags=V6)
    yield Fixture("v6 first fragment ends in a header", ethernet(ip6(IPv6ExtHdrFragment(m=1, nh=60) / Raw(bytes([6, 20]) + bytes(6)))),
                  FRAGMENT, flags=V6)
    yield Fixture("v6 first fragment ends before the ports", ethernet(ip6(IPv6ExtHdrFragment(m=1) / IPv6ExtHdrDestOpt(nh=6))), FRAGMENT, flags=V6)
    yield Fixture("v6 first fragment behind headers", ethernet(ip6(IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(m=1) / IPv6ExtHdrDestOpt() / tcp())),
                  FRAGMENT, flags=V6)
    yield Fixture("v6 atomic, then first fragment", ethernet(ip6(IPv6ExtHdrFragment(m=0) / IPv6ExtHdrFragment(m=1) / tcp())), FRAGMENT, flags=V6)
    yield forward("v6 first fragment, other port", ip6(IPv6ExtHdrFragment(m=1) / tcp(dport=80)))
    yield forward("v6 later fragment", ip6(IPv6ExtHdrFragment(m=1, offset=1) / tcp()))
    yield forward("v6 last fragment", ip6(IPv6ExtHdrFragment(m=0, offset=180) / tcp()))
    yield forward("v6 fragment header, other port", ip6(IPv6ExtHdrFragment(m=0) / tcp(dport=80)))


def icmp(name, packet, **fields):
    fields = {"flags": TO_25, "destination": 1, "worker": None, "side": OUTSIDE, **fields}
    return Fixture(name, ethernet(packet), ICMP, **fields)


def errors():
    quote, router = IPerror(src=A, dst=B) / TCPerror(sport=40000, dport=25), "203.0.113.250"
    for kind, code, what in ((3, 4, "too big"), (3, 1, "unreachable"), (4, 0, "quench"), (11, 0, "time exceeded"), (12, 0, "parameter")):
        yield icmp(f"icmp {what}", ip4(ICMP4(type=kind, code=code) / quote, src=router, dst=A))
    eight = Raw(bytes(ip4(tcp()))[:28])
    yield icmp("icmp quotes 8 bytes", ip4(ICMP4(type=3, code=4) / eight, src=router, dst=A))
    yield icmp("icmp quotes what the server sent", ip4(ICMP4(type=3, code=4) / IPerror(src=B, dst=A) / TCPerror(sport=25, dport=40000), src=router, dst=B),
               flags=FROM_25, side=INSIDE)
    optioned = Raw(bytes(ip4(tcp(), options=[IPOption_NOP()] * 8)))
    yield icmp("icmp quotes options", ip4(ICMP4(type=3, code=4) / optioned, src=router, dst=A))
    yield icmp("icmp behind a tag", Dot1Q(vlan=3) / ip4(ICMP4(type=3, code=4) / quote, src=router, dst=A), tags=1, l3=18)
    yield forward("icmp echo", ip4(ICMP4(type=8) / quote), OUTSIDE)
    yield forward("icmp redirect", ip4(ICMP4(type=5, code=1) / quote), OUTSIDE)
    yield forward("icmp type 67", ip4(ICMP4(type=67) / quote), OUTSIDE)
    yield forward("icmp quotes UDP", ip4(ICMP4(type=3, code=4) / Raw(bytes(ip4(UDP(sport=25, dport=25))))), OUTSIDE)
    yield forward("icmp quotes another port", ip4(ICMP4(type=3, code=4) / Raw(bytes(ip4(tcp(dport=80))))), OUTSIDE)
    yield forward("icmp quotes a later fragment", ip4(ICMP4(type=3, code=4) / Raw(bytes(ip4(tcp(), frag=3)))), OUTSIDE)
    yield forward("icmp quotes too little", ip4(ICMP4(type=3, code=4) / Raw(bytes(ip4(tcp()))[:22])), OUTSIDE)
    yield forward("icmp as a fragment", ip4(ICMP4(type=3, code=4) / quote, flags="MF"), OUTSIDE)
    yield forward("icmp inside IPv6", ip6(Raw(bytes(ICMP4(type=3, code=4) / quote)), nh=1), OUTSIDE)
    quote6, fields = ip6(tcp()), {"destination": 6, "worker": 3, "flags": V6 | TO_25}
    for message, what in ((ICMPv6PacketTooBig(mtu=1280), "too big"), (ICMPv6DestUnreach(), "unreachable"), (ICMPv6TimeExceeded(), "time exceeded"),
                          (ICMPv6ParamProblem(), "parameter")):
        yield icmp(f"icmpv6 {what}", ip6(message / Raw(bytes(quote6)), src="2001:db8:2::1", dst=A6), **fields)
    yield icmp("icmpv6 behind hop-by-hop", ip6(IPv6ExtHdrHopByHop() / ICMPv6PacketTooBig() / Raw(bytes(quote6)[:48]), src="2001:db8:2::1", dst=A6), **fields)
    yield forward("icmpv6 echo", ip6(ICMPv6EchoRequest(data=bytes(quote6))), OUTSIDE)
    yield forward("icmpv6 quotes another port", ip6(ICMPv6PacketTooBig() / Raw(bytes(ip6(tcp(dport=80))))), OUTSIDE)
    yield forward("icmpv6 quotes IPv4", ip6(ICMPv6PacketTooBig() / Raw(bytes(ip4(tcp())) + bytes(20))), OUTSIDE)
    yield forward("icmpv6 inside IPv4", ip4(Raw(bytes(ICMPv6PacketTooBig() / Raw(bytes(quote6)))), proto=58), OUTSIDE)


def steering():
    """Longest prefix of the port-25 endpoint, its pool's workers, and who is the server when both ports are 25."""
    for dst, destination, worker in (("9.9.9.9", 90, None), ("198.51.100.127", 1, None), ("198.51.100.128", 2, 3), ("198.51.100.201", 2, 3),
                                     ("203.0.113.9", 4, 3), ("223.255.255.255", 0, None)):
        yield smtp4(f"prefix of {dst}", ip4(tcp(), dst=dst, src="203.0.113.1"), destination, worker)
    yield smtp4("prefix of the source, from 25", ip4(tcp(25, 4000), src="198.51.100.130", dst="203.0.113.1"), 2, 3, flags=FROM_25)
    for dst, destination, worker in (("2001:db8:2::1", 5, None), ("2001:db8:1::24", 6, 3), ("2001:db9::1", 0, None)):
        yield smtp6(f"prefix of {dst}", ip6(tcp(), dst=dst), destination, worker)
    both, there = TO_25 | FROM_25, "203.0.113.9"
    yield smtp4("both ports 25, from inside", ip4(tcp(25, 25), src=B, dst=there), 4, 3, INSIDE, both)
    yield smtp4("both ports 25, from outside", ip4(tcp(25, 25), src=there, dst=B), 4, 3, OUTSIDE, both)
    yield smtp6("both ports 25, v6 from inside", ip6(tcp(25, 25), src=B6, dst="2001:db8:2::1"), 5, None, INSIDE, both)
    yield smtp6("both ports 25, v6 from outside", ip6(tcp(25, 25), src="2001:db8:2::1", dst=B6), 5, None, OUTSIDE, both)
    quote = Raw(bytes(ip4(tcp(25, 25), src=B, dst=there)))
    yield icmp("both ports 25, icmp from outside", ip4(ICMP4(type=3, code=4) / quote), destination=4, worker=3, flags=both)
    quote = Raw(bytes(ip4(tcp(25, 25), src=there, dst=B)))
    yield icmp("both ports 25, icmp from inside", ip4(ICMP4(type=3, code=4) / quote), destination=4, worker=3, flags=both, side=INSIDE)


FIXTURES = [fixture for group in (ipv4, ipv6, tags, fragments, errors, steering) for fixture in group()]
