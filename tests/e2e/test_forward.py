"""What is not SMTP crosses untouched: ICMP, other TCP ports, UDP, VLAN tags, unknown ethertypes, fragments."""
import hashlib
import os
import re
import socket
import struct
import subprocess
import threading

import pytest

from lab.lab import XDP
from lab.mta import wait_for
from lab.namespaces import ipv4, ipv6

PORT = 8025
BOTH_FAMILIES = pytest.mark.parametrize("address", [ipv4("server", 1), ipv6("server", 1)])


def listening(lab, address, port, kind=socket.SOCK_STREAM):
    s = lab.server.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.settimeout(10)
    if kind == socket.SOCK_STREAM:
        s.listen(8)
    return s


def echo(lab, address, port, size):
    """Sends `size` random bytes there and back; True if the same came back."""
    data = os.urandom(size)

    def serve(listener):
        s, _ = listener.accept()
        with s:
            s.settimeout(20)
            while True:
                got = s.recv(65536)
                if not got:
                    return
                s.sendall(got)
    with listening(lab, address, port) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with lab.client.connect(address, port) as s:
            s.settimeout(20)
            sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)), daemon=True)
            sender.start()
            back = hashlib.sha256()
            while True:
                got = s.recv(65536)
                if not got:
                    break
                back.update(got)
            sender.join(5)
        thread.join(5)
    return back.digest() == hashlib.sha256(data).digest()


@pytest.mark.sanitize
@BOTH_FAMILIES
@pytest.mark.parametrize("size", [56, 1472])
def test_ping(lab, both, address, size):
    ping(lab, address, size)


@BOTH_FAMILIES
def test_ping_in_fragments(lab, xdp, address):
    """Not with net_af_packet, which has the kernel reassemble IPv4 fragments, and so receives frames that it cannot send."""
    ping(lab, address, 4000)


def ping(lab, address, size):
    """With -w it goes on until so many have come back: one that is late is not lost, and one that is lost is missing."""
    count = 20
    done = subprocess.run(lab.client.command("ping", "-c", str(count), "-i", "0.01", "-w", "20", "-s", str(size), address),
                          capture_output=True, text=True, check=False)
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", done.stdout)}
    assert answered >= set(range(1, count + 1)), done.stdout + done.stderr


@pytest.mark.sanitize
@BOTH_FAMILIES
def test_tcp_on_another_port(lab, both, address):
    assert echo(lab, address, PORT, 4_000_000)


def test_the_kernel_forwards_what_is_not_smtp(lab, xdp):
    def entered():
        return [port["rx_packets"] for port in xdp.status()["ports"]], xdp.counter("rx_packets")
    before = entered()
    assert echo(lab, ipv4("server", 1), PORT, 1_000_000)
    assert entered() == before


def test_udp_port_25_is_not_smtp(lab, both):
    with listening(lab, ipv4("server", 1), 25, socket.SOCK_DGRAM) as server:
        with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"\x00\x01\x02 not mail", (ipv4("server", 1), 25))
            assert server.recvfrom(100)[0] == b"\x00\x01\x02 not mail"


def frame(ethertype, payload, tags=()):
    tagged = b"".join(struct.pack(">HH", kind, number) for kind, number in tags)
    return b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + tagged + struct.pack(">H", ethertype) + payload


@pytest.mark.sanitize
@pytest.mark.parametrize("side", ["client", "server"])
def test_tags_and_unknown_ethertypes_pass_unchanged(lab, both, mode, side):
    outer = 0x88A8 if mode == XDP else 0x8100  # net_af_packet gets tags from the kernel, and puts each back as 802.1Q
    other = "server" if side == "client" else "client"
    frames = [frame(0x88B5, b"experimental ethertype".ljust(60, b"!")),
              frame(0x0800, b"\x45 not much of a packet".ljust(60, b"!"), [(0x8100, 77)]),
              frame(0x86DD, b"\x60 nor this".ljust(60, b"!"), [(outer, 5), (0x8100, 4094)]),
              frame(0x0806, b"odd arp".ljust(60, b"?"), [(0x8100, 0x6001)]),
              frame(0x88B6, b"full size".ljust(1500, b"."))]
    with lab.capture("frames", other, "") as capture:
        with getattr(lab, side).socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind(("eth0", 0))
            for one in frames:
                s.send(one)
        wait_for("all frames to arrive", lambda: all(one in list(capture.frames()) for one in frames))


@pytest.mark.sanitize
@BOTH_FAMILIES
def test_a_closed_port_25_says_so_at_once(lab, both, address):
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(address[:-1] + "39", 25, 5)


def test_fragments_of_udp_pass(lab, both):
    data = os.urandom(9000)
    with listening(lab, ipv6("server", 2), PORT, socket.SOCK_DGRAM) as server:
        with lab.client.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.sendto(data, (ipv6("server", 2), PORT))
            assert server.recvfrom(10000)[0] == data


def test_ports_are_of_the_kind_that_was_asked_for(both, mode):
    assert all(bool(port["xdp"]) == (mode == XDP) for port in both.status()["ports"])
