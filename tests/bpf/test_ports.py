"""Real ports on veth pairs in namespaces: what crosses, where, and what is left behind.

    client eth0 ---- in0 box out0 ---- eth0 server

run_ports stands in for waxseald. Frames are sent and caught raw, so that every byte is compared. Each test has
namespaces and processes of its own and ends them. The box has a mount namespace too, with a bpffs of its own: pinned
maps have one name, and a waxseald may be running on this machine.
"""
import contextlib
import ctypes
import itertools
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from runners import BPF, FORWARD, SMTP, TO_25

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET, SOL_PACKET, PACKET_AUXDATA, VLAN_VALID, VLAN_TPID_VALID = 0x40000000, 263, 8, 0x10, 0x40
PINS = ("waxseal_config", "waxseal_dest4", "waxseal_dest6", "waxseal_pools", "waxseal_sealed")
MAC = {"client": "02:00:00:00:00:01", "server": "02:00:00:00:00:02"}
WAIT_S = 5
QUIET_S = 0.3
SERIAL = itertools.count()

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Space:
    def __init__(self, name):
        self.path = f"/run/netns/{name}"
        self.mounts = None
        subprocess.run(["ip", "netns", "add", name], check=True)

    def command(self, *words):
        mounts = [f"--mount=/proc/{self.mounts.pid}/ns/mnt"] if self.mounts else []
        return ["nsenter", f"--net={self.path}", *mounts, "--", *map(str, words)]

    def mount_bpffs(self):
        """From here on what runs here sees a bpffs that nobody else sees; it goes with the process that holds it."""
        self.mounts = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                        "mount -t bpf bpf /sys/fs/bpf && echo mounted && exec sleep infinity"], stdout=subprocess.PIPE, text=True)
        assert self.mounts.stdout.readline() == "mounted\n"

    def run(self, *words):
        return subprocess.run(self.command(*words), check=True, capture_output=True, text=True).stdout

    def raw_socket(self, device="eth0"):
        back, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(self.path, os.O_RDONLY)
        try:
            assert LIBC.setns(there, CLONE_NEWNET) == 0
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        finally:
            LIBC.setns(back, CLONE_NEWNET)
            os.close(there)
            os.close(back)
        made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        made.bind((device, 3))
        return made


def catch(sock, sender, count=None, quiet=None):
    """Frames that came from that side's MAC: `count` of them, or all until `quiet` seconds pass without one."""
    frames, mac = [], bytes.fromhex(MAC[sender].replace(":", ""))
    while count is None or len(frames) < count:
        if not select.select([sock], [], [], WAIT_S if quiet is None else quiet)[0]:
            break
        frame, ancillary, _, address = sock.recvmsg(65536, 256)
        if address[2] == socket.PACKET_OUTGOING or frame[6:12] != mac:
            continue
        for _, kind, data in ancillary:
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if kind == PACKET_AUXDATA and status & VLAN_VALID:  # the kernel has taken the tag off for us
                frame = frame[:12] + struct.pack("!HH", tpid if status & VLAN_TPID_VALID else 0x8100, tci) + frame[12:]
        frames.append(frame)
    return frames


class Box:
    def __init__(self, name):
        self.client, self.space, self.server = (Space(f"{name}-{part}") for part in ("client", "box", "server"))
        self.running = []
        for end, port in ((self.client, "in0"), (self.server, "out0")):
            subprocess.run(["ip", "link", "add", "eth0", "netns", end.path.split("/")[-1], "type", "veth",
                            "peer", "name", port, "netns", self.space.path.split("/")[-1]], check=True)
            end.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "on")
            for space, device in ((end, "eth0"), (self.space, port)):
                space.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6")
                space.run("ip", "link", "set", device, "up")
        self.space.mount_bpffs()
        self.socket = {"client": self.client.raw_socket(), "server": self.server.raw_socket()}

    def start(self, *words, ports=("in0", "out0")):
        process = subprocess.Popen(self.space.command(BPF / "run_ports", *ports, BPF, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.running.append(process)
        while True:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            if line == "ready\n":
                return process

    def refused(self, *words):
        done = subprocess.run(self.space.command(BPF / "run_ports", *words), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1
        return done.stderr

    def detach(self):
        subprocess.run(self.space.command(BPF / "run_ports", "--detach", "in0", "out0", BPF), check=True)

    def end(self, process, number=signal.SIGTERM):
        """Returns the verdicts that it saw: (side, magic, action, ...)."""
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
        self.running.remove(process)
        assert process.returncode == (0 if number == signal.SIGTERM else -number), errors
        return [tuple(map(int, line.split())) for line in out.splitlines() if line[0] in "01"]

    def pass_on(self, frames, sender="client"):
        """What of these frames comes out at the other end."""
        other = {"client": "server", "server": "client"}[sender]
        for frame in frames:
            self.socket[sender].send(frame)
        return catch(self.socket[other], sender, len(frames))

    def stays_out(self, frames, sender="client"):
        for frame in frames:
            self.socket[sender].send(frame)
        return not catch(self.socket[{"client": "server", "server": "client"}[sender]], sender, quiet=QUIET_S)

    def pins(self):
        return set(os.listdir(f"/proc/{self.space.mounts.pid}/root" + "/sys/fs/bpf")) & set(PINS)

    def program(self, port):
        return "prog/xdp" in self.space.run("ip", "-d", "link", "show", port)

    def close(self):
        for process in self.running:
            process.kill()
            process.communicate()
        for sock in self.socket.values():
            sock.close()
        for space in (self.client, self.space, self.server):
            subprocess.run(["ip", "netns", "del", space.path.split("/")[-1]], check=False)
        self.space.mounts.kill()
        self.space.mounts.communicate()


@pytest.fixture
def box():
    with contextlib.closing(Box(f"wxports{os.getpid()}-{next(SERIAL)}")) as made:
        yield made


def frame(packet, sender="client"):
    other = {"client": "server", "server": "client"}[sender]
    return bytes(Ether(src=MAC[sender], dst=MAC[other]) / packet)


def smtp(number=0, size=100, dst="10.77.2.1"):
    return IP(src="10.77.1.1", dst=dst, id=number) / TCP(sport=40000, dport=25) / Raw(bytes(size))


PASSING = [ARP(pdst="10.77.2.1"), IP(dst="10.77.2.1") / UDP(dport=53) / Raw(b"x" * 40), IP(dst="10.77.2.1") / ICMP(),
           IP(dst="10.77.2.1") / TCP(dport=443) / Raw(b"x" * 1400), Dot1Q(vlan=5) / IP(dst="10.77.2.1") / UDP() / Raw(b"x" * 40),
           IPv6(dst="fd77::1") / UDP() / Raw(b"x" * 40), IP(dst="10.77.2.1", frag=5) / Raw(b"x" * 80)]
MAIL = [smtp(), IPv6(src="fd77::1", dst="fd77::2") / TCP(dport=25) / Raw(b"x" * 60), Dot1Q(vlan=7, prio=3) / smtp(), smtp(size=1460),
        IP(src="10.77.1.1", dst="10.77.2.1") / TCP(sport=25, dport=4000)]
DROPPED = [IP(dst="10.77.2.1", flags="MF") / TCP(dport=25) / Raw(bytes(80)),
           IPv6(dst="fd77::1") / IPv6ExtHdrFragment(m=1) / TCP(dport=25) / Raw(bytes(80))]
XDP = ("in0", "out0")
# DPDK's net_af_packet asks the kernel to reassemble IPv4, so no IPv4 fragment arrives there as it was.
FRAGMENTED = (PASSING[-1], DROPPED[0])
PACKET = ("vdev:net_af_packet0,iface=in0", "vdev:net_af_packet1,iface=out0")


@pytest.mark.parametrize("ports", (XDP, PACKET), ids=("af_xdp", "af_packet"))
@pytest.mark.parametrize("sender", ("client", "server"))
def test_frames_cross_unchanged(box, ports, sender):
    process = box.start("--prefix", "10.77.2.0/24=11:0", ports=ports)
    mail, passing, dropped = ([frame(p, sender) for p in group if ports == XDP or p not in FRAGMENTED] for group in (MAIL, PASSING, DROPPED))
    assert box.pass_on(passing, sender) == passing
    assert box.pass_on(mail, sender) == mail
    assert box.stays_out(dropped, sender)
    side = {"client": 0, "server": 1}[sender]
    seen = [verdict for verdict in box.end(process) if verdict[0] == side]
    assert all(verdict[1] == 1 for verdict in seen)
    actions = [verdict[2] for verdict in seen]
    # In AF_XDP mode what is not mail never enters user space.
    assert actions.count(FORWARD) == (0 if ports == XDP else len(passing))
    assert actions.count(SMTP) == len(mail)
    first = next(verdict for verdict in seen if verdict[2] == SMTP)
    assert first[3] == 11 and first[5] == TO_25


def queues(box, tmp_path, monkeypatch, **how):
    """Both ports get two queues, and waxseald is told of them as a NIC would (tests/lab/queues.c)."""
    for space, device in ((box.space, "in0"), (box.space, "out0"), (box.client, "eth0"), (box.server, "eth0")):
        space.run("ethtool", "-L", device, "rx", "2", "tx", "2")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", tmp_path / "queues.so", pathlib.Path(__file__).parents[1] / "lab/queues.c"], check=True)
    for name, value in {"LD_PRELOAD": tmp_path / "queues.so", "WAXSEAL_COMBINED": 2, **how}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("key, lcores, said", [("mZ", 2, False), ("mZ!", 2, True), ("mZ!", 1, False)])
def test_two_queues_of_a_netdev(box, tmp_path, monkeypatch, key, lcores, said):
    """Of one lcore or of two; that their RSS is not symmetric matters to two."""
    queues(box, tmp_path, monkeypatch, WAXSEAL_KEY=key)
    process = box.start("--lcores", str(lcores))
    frames = [frame(smtp(number), sender) for sender in ("client", "server") for number in range(64)]
    for sender in ("client", "server"):
        mine = [one for one in frames if one[6:12] == bytes.fromhex(MAC[sender].replace(":", ""))]
        assert sorted(box.pass_on(mine, sender)) == sorted(mine)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=30)[1]
    box.running.remove(process)
    assert process.returncode == 0
    assert [f"{port}: its RSS is not known to be symmetric" in errors for port in XDP] == [said] * 2, errors


@pytest.mark.parametrize("ports, said", [(("vdev:net_null0,no-rx=1", "vdev:net_null1,no-rx=1"), False),
                                         (tuple(f"{port},qpairs=2" for port in PACKET), True)], ids=("null", "af_packet"))
def test_rss_is_made_symmetric_where_it_can_be(box, ports, said):
    process = box.start("--lcores", "2", ports=ports)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=30)[1]
    box.running.remove(process)
    assert process.returncode == 0
    assert [f"{port}: its RSS cannot be set from here" in errors for port in ports] == [said] * 2, errors


def test_two_tags_cross_in_the_kernel(box):
    box.start()
    frames = [frame(Dot1AD(vlan=9) / Dot1Q(vlan=7) / smtp()), frame(Dot1AD(vlan=9) / Dot1Q(vlan=7) / IP(dst="10.77.2.1") / UDP() / Raw(bytes(40)))]
    assert sorted(box.pass_on(frames)) == sorted(frames)


def test_buffers_do_not_run_out(box):
    """More frames than buffers, both ways: one that lay outside the sockets' memory would be missed by now."""
    process, total, burst = box.start("--print", "no"), 12000, 24
    for sender in ("client", "server"):
        for first in range(0, total, burst):
            frames = [frame(smtp(number), sender) for number in range(first, first + burst)]
            assert box.pass_on(frames, sender) == frames
    box.end(process)


IPV4, IPV6 = IP(src="10.77.1.1", dst="10.77.2.1", id=65530, tos=0x28), IPv6(src="fd77::1", dst="fd77::2", fl=77)


@pytest.mark.parametrize("network", (IPV4, Dot1Q(vlan=7, prio=3) / IPV4, IPV6, Dot1Q(vlan=7) / IPV6), ids=("ipv4", "ipv4-vlan", "ipv6", "ipv6-vlan"))
@pytest.mark.parametrize("size", (1448 - 20, 100))
def test_a_train_comes_out_as_its_frames(box, network, size):
    """Consecutive segments that were built here leave as one packet of the kernel's, and are the same frames on the wire. The
    last one is short and has PSH: it goes by AF_XDP, behind them."""
    count = 20
    box.space.run("ethtool", "-K", "out0", "tx", "off", "tso", "off")  # a veth that could do it would leave it to nobody
    box.server.run("ethtool", "-K", "eth0", "gro", "off")  # or the far end would join them again
    frames = []
    for i in range(count):
        packet, last = network.copy(), i == count - 1
        if IP in packet:
            packet[IP].id = (packet[IP].id + i) % 65536
        segment = TCP(sport=40000, dport=25, seq=(2 ** 32 - 3 * size + i * size) % 2 ** 32, ack=9, window=500, flags="PA" if last else "A",
                      options=[("NOP", None), ("NOP", None), ("Timestamp", (5, 6))])
        frames.append(frame(packet / segment / Raw(bytes([65 + i]) * (size - 7 if last else size))))
    with contextlib.closing(box.space.raw_socket("out0")) as tap:
        process = box.start("--train", str(count))
        assert box.pass_on(frames) == frames
        box.end(process)
        tap.setblocking(False)
        left = 0
        with contextlib.suppress(BlockingIOError):
            while True:  # AF_XDP's own sending shows no tap anything: these went by the kernel's way
                left += tap.recvfrom(65536)[1][2] == socket.PACKET_OUTGOING
        assert left == count - 1


@pytest.mark.parametrize("fail", ("open", "closed"))
@pytest.mark.parametrize("death", (signal.SIGTERM, signal.SIGKILL))
def test_after_the_end_the_kernel_goes_on(box, fail, death):
    process = box.start("--fail", fail, "--end", "keep")
    passing, mail = [frame(p) for p in PASSING], [frame(p) for p in MAIL + DROPPED]
    box.end(process, death)
    assert box.program("in0") and box.program("out0")
    assert box.pass_on(passing) == passing
    if fail == "open":
        assert box.pass_on(mail) == mail
    else:
        assert box.stays_out(mail)
    again = box.start("--fail", fail, "--prefix", "10.77.2.1/32=3:0")
    assert box.pass_on(mail[:1]) == mail[:1]
    assert [verdict[3] for verdict in box.end(again)] == [3]
    assert not box.program("in0") and not box.program("out0")


def test_a_restart_takes_old_prefixes_away(box):
    box.end(box.start("--end", "keep", "--prefix", "10.77.2.1/32=3:0", "--prefix", "10.77.0.0/16=4:0"))
    process = box.start("--prefix", "10.77.0.0/16=5:0")
    assert len(box.pass_on([frame(smtp())])) == 1
    assert [verdict[3] for verdict in box.end(process)] == [5]


def test_a_restart_leaves_a_small_gap(box):
    """What is not mail, one frame a millisecond, over a restart: the gap is the driver's loading of the program."""
    box.end(box.start("--end", "keep"))
    ping = frame(IP(dst="10.77.2.1") / UDP() / Raw(b"x" * 40))
    process = subprocess.Popen(box.space.command(BPF / "run_ports", *XDP, BPF), stdout=subprocess.PIPE, text=True)
    box.running.append(process)
    sent = 0
    while not select.select([process.stdout], [], [], 0.001)[0]:
        box.socket["client"].send(ping)
        sent += 1
    received = len(catch(box.socket["server"], "client", quiet=QUIET_S))
    print(f"{sent - received} of {sent} frames fell into the gap")
    assert sent > 50
    assert sent - received < sent / 2


def test_detach_leaves_nothing(box):
    before = [box.space.run("sh", "-c", f"ethtool -k {port}; ip link show {port} | head -1") for port in XDP]
    box.end(box.start("--end", "keep"))
    assert "PROMISC" in box.space.run("ip", "link", "show", "in0")
    assert "rx-vlan-offload: off" in box.space.run("ethtool", "-k", "in0")
    # A second run must not take the first one's changes for the state to go back to.
    box.end(box.start("--end", "keep"))
    assert box.pins() == set(PINS)
    box.detach()
    assert not box.pins()
    assert not box.program("in0") and not box.program("out0")
    assert [box.space.run("sh", "-c", f"ethtool -k {port}; ip link show {port} | head -1") for port in XDP] == before
    box.detach()  # nothing there: no error


@pytest.mark.parametrize("ports", (XDP, PACKET), ids=("af_xdp", "af_packet"))
def test_the_end_puts_everything_back(box, ports):
    before = [box.space.run("sh", "-c", f"ethtool -k {port}; ip link show {port} | head -1") for port in XDP]
    box.end(box.start(ports=ports))
    assert [box.space.run("sh", "-c", f"ethtool -k {port}; ip link show {port} | head -1") for port in XDP] == before


def test_what_is_wrong_is_said(box):
    assert "nope0: there is no such network interface" in box.refused("nope0", "out0", BPF)
    assert "are one device" in box.refused("in0", "in0", BPF)
    assert "one kind" in box.refused("in0", "vdev:net_tap0,iface=x", BPF)
    assert "bpf_dir" in box.refused("in0", "out0", "/nonexistent")
    assert "nope0: there is no such" in box.refused("vdev:net_af_packet0,iface=nope0", "vdev:net_af_packet1,iface=out0", BPF)
    box.space.run("ip", "link", "set", "in0", "mtu", "9000")
    assert "in0: its MTU is 9000" in box.refused("in0", "out0", BPF)
    box.space.run("ip", "link", "set", "in0", "mtu", "1500")
    box.space.run("ip", "link", "set", "out0", "down")
    assert "out0: is down: ip link set out0 up" in box.refused("in0", "out0", BPF)


def test_a_start_that_fails_leaves_what_was(box):
    too_many, passing = ("in0", "out0", BPF, "--mbufs", "1000000000"), [frame(p) for p in PASSING]
    assert "in0: no memory for 1000000000 packet buffers" in box.refused(*too_many)
    assert not box.program("in0") and not box.program("out0") and not box.pins()
    box.end(box.start("--end", "keep"))
    assert "no memory for" in box.refused(*too_many)
    assert box.program("in0") and box.program("out0")
    assert box.pass_on(passing) == passing


def test_ports_of_a_running_one_are_refused(box):
    process = box.start()
    assert "in0: is taken by another waxseald" in box.refused("in0", "out0", BPF)
    assert "in0: is taken by another waxseald" in box.refused("--detach", "in0", "out0", BPF)
    assert len(box.pass_on([frame(smtp())])) == 1
    box.end(process)


def test_somebody_elses_program_stays(box, tmp_path):
    source = tmp_path / "other.c"
    source.write_text('__attribute__((section("xdp"), used)) int other(void *ctx) { (void)ctx; return 2; }\n'
                      'char name[] __attribute__((section("license"), used)) = "GPL";\n')
    subprocess.run(["clang", "-O2", "-target", "bpf", "-c", source, "-o", tmp_path / "other.o"], check=True)
    box.space.run("ip", "link", "set", "out0", "xdp", "obj", tmp_path / "other.o", "sec", "xdp")
    assert "out0: another XDP program (other" in box.refused("in0", "out0", BPF)
    assert "out0: another XDP program" in box.refused("--detach", "in0", "out0", BPF)
    assert box.program("out0") and not box.program("in0")


def test_an_address_on_a_port_is_a_warning(box):
    box.space.run("ip", "address", "add", "10.77.9.9/16", "dev", "in0")
    process = box.start()
    process.send_signal(signal.SIGTERM)
    assert "in0 has an address" in process.communicate(timeout=30)[1]
    box.running.remove(process)
