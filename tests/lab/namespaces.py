"""Three network namespaces: client (inside), box (the appliance's two ports), server (outside).

    client eth0 ---- in0 box out0 ---- eth0 server
                         box mgmt0 ---- mgmt0 server     (manage)

Client and servers are in one subnet and have many addresses; the box has none there: it is a bump in the wire.
What its agent asks (DNS, HTTPS, the servers themselves) it reaches by an interface of its own.
"""
import contextlib
import ctypes
import os
import socket
import subprocess

from . import state

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
MTU = 1500
NETS = {"client": (1, 40), "server": (2, 250)}  # third number of 10.77.x.n, and how many addresses


def ipv4(side, n):
    return f"10.77.{NETS[side][0]}.{n}"


def ipv6(side, n):
    return f"fd77::{NETS[side][0]}:{n}"


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Namespace:
    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"

    def command(self, *command):
        """The command line that runs `command` here. Not `ip netns exec`, which would hide /sys/fs/bpf."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, command)]

    def run(self, *command, **options):
        return run(*self.command(*command), **options)

    def popen(self, *command, **options):
        return subprocess.Popen(self.command(*command), **options)

    @contextlib.contextmanager
    def entered(self):
        """This thread is inside: sockets made here belong to the namespace for their life."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            if LIBC.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
            yield
        finally:
            LIBC.setns(back, CLONE_NEWNET)
            os.close(there)
            os.close(back)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        with self.entered():
            return socket.socket(family, kind, protocol)

    def connect(self, address, port=25, timeout=10, source=None):
        """A TCP connection from here."""
        s = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        s.settimeout(timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            s.bind((source, 0))
        s.connect((address, port))
        return s

    def lose(self, percent):
        """Drops that share of the packets that arrive here, and nothing any more for 0."""
        self.run("sh", "-c", "nft delete table inet loss 2>/dev/null || true")
        if percent:
            self.run("nft", "-f", "-", input=(
                "table inet loss {\n chain input {\n  type filter hook input priority -300; policy accept;\n"
                f"  tcp dport 1-65535 numgen random mod 100 < {percent} drop\n }}\n}}\n"))


class Namespaces:
    def __init__(self, record):
        prefix = record.data["name"]
        self.client, self.box, self.server = (Namespace(f"{prefix}-{part}") for part in ("client", "box", "server"))
        for namespace in (self.client, self.box, self.server):
            record.add("namespaces", namespace.name)
            run("ip", "netns", "add", namespace.name)
            namespace.run("ip", "link", "set", "lo", "up")
        for side, port in (("client", "in0"), ("server", "out0")):
            self.link(getattr(self, side), side, port)
        self.box.run("ip", "link", "set", "in0", "up")
        self.box.run("ip", "link", "set", "out0", "up")

    def link(self, end, side, port):
        run("ip", "link", "add", "eth0", "mtu", MTU, "netns", end.name, "type", "veth",
            "peer", "name", port, "mtu", MTU, "netns", self.box.name)
        end.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra")
        # Without this, checksums arrive unfilled and segments larger than a frame; gro turns NAPI on in a
        # veth, without which a frame redirected into its peer is lost.
        end.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "on")
        self.box.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{port}/disable_ipv6")
        self.box.run("ethtool", "-K", port, "tx", "off", "tso", "off", "gso", "off")
        lines = [f"address add {ipv4(side, n)}/16 dev eth0\naddress add {ipv6(side, n)}/64 dev eth0 nodad"
                 for n in range(1, NETS[side][1] + 1)]
        end.run("ip", "-batch", "-", input="\n".join(lines) + "\n")
        end.run("ip", "link", "set", "eth0", "up")

    def manage(self):
        """The box's management interface; the servers' addresses are behind it, too."""
        run("ip", "link", "add", "mgmt0", "netns", self.box.name, "type", "veth", "peer", "name", "mgmt0", "netns", self.server.name)
        for end, number in ((self.box, 1), (self.server, 2)):
            end.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/mgmt0/accept_dad")
            end.run("ip", "address", "add", f"10.77.100.{number}/24", "dev", "mgmt0")
            end.run("ip", "address", "add", f"fd77:100::{number}/64", "dev", "mgmt0", "nodad")
            end.run("ip", "link", "set", "mgmt0", "up")
        self.box.run("ip", "route", "add", f"10.77.{NETS['server'][0]}.0/24", "dev", "mgmt0")
        self.box.run("ip", "-6", "route", "add", f"fd77::{NETS['server'][0]}:0/112", "dev", "mgmt0")

    def bridge(self):
        """A plain Linux bridge in the appliance's place: what fails with it is not the appliance's fault."""
        self.box.run("ip", "link", "add", "br0", "type", "bridge")
        self.box.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/br0/disable_ipv6")
        for port in ("in0", "out0"):
            self.box.run("ip", "link", "set", port, "master", "br0")
        self.box.run("ip", "link", "set", "br0", "up")

    def unbridge(self):
        self.box.run("ip", "link", "del", "br0")
