"""Three network namespaces: client (inside), box (the appliance's two ports), server (outside).

    client eth0 ---- in0 box out0 ---- eth0 server
                         box mgmt0 ---- mgmt0 server     (manage)

Client and servers are in one subnet and have many addresses; the box has none there: it is a bump in the wire.
What its agent asks (DNS, HTTPS, the servers themselves) it reaches by an interface of its own. A wire can be made bad
(impair.c, in a namespace of its own): eth0 ---- end bad box ---- in0.
"""
import contextlib
import ctypes
import json
import os
import socket
import subprocess

from . import state

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
MTU = 1500
NETS = {"client": (1, 40), "server": (2, 450)}  # third number of 10.77.x.n, and how many addresses; past 250 the next x
PORTS = {"client": "in0", "server": "out0"}
MACS = {"client": "02:77:00:00:00:01", "server": "02:77:00:00:00:02"}


def ipv4(side, n):
    return f"10.77.{NETS[side][0] + (n - 1) // 250}.{(n - 1) % 250 + 1}"


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


class Impairer:
    """impair.c at work. `how`: its options by name."""

    def __init__(self, namespace, program, how):
        options = [word for name, value in how.items() for word in (f"--{name}", value)]
        self.process = namespace.popen(*map(str, (program, *options, "end", "box")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       start_new_session=True)
        self.counts = None
        if self.process.stderr.readline() != "ready\n":
            raise RuntimeError("the impairer does not start")

    def finish(self):
        """What became of every frame: {"end": {"in", "out", "lost", ...}, "box": ...}, by the side it came from."""
        if self.counts is None:
            self.process.terminate()
            out, errors = self.process.communicate(timeout=10)
            if self.process.returncode:
                raise RuntimeError(f"the impairer ended with {self.process.returncode}: {errors}")
            self.counts = json.loads(out)
        return self.counts


class Namespaces:
    def __init__(self, record):
        prefix = record.data["name"]
        self.client, self.box, self.server = (Namespace(f"{prefix}-{part}") for part in ("client", "box", "server"))
        for namespace in (self.client, self.box, self.server):
            record.add("namespaces", namespace.name)
            run("ip", "netns", "add", namespace.name)
            namespace.run("ip", "link", "set", "lo", "up")
        self.record = record
        for side, port in PORTS.items():
            self.link(getattr(self, side), side, port)

    def link(self, end, side, port, impairer=None):
        """The wire between that side's end and the box's port; through the impairer's namespace, if there is one."""
        # The same address always: a wire made anew must not make the other end's neighbours wrong.
        self.pair(end, "eth0", *((impairer, "end") if impairer else (self.box, port)), address=MACS[side])
        if impairer:
            self.pair(impairer, "box", self.box, port)
            for name in ("end", "box"):
                impairer.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
                # gro for NAPI, see below; but nothing is to be coalesced: a frame in, a frame out.
                impairer.run("ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "on")
                impairer.run("ip", "link", "set", name, "gro_max_size", MTU, "up")
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
        self.box.run("ip", "link", "set", port, "up")

    @staticmethod
    def pair(left, left_name, right, right_name, address=None):
        run("ip", "link", "add", left_name, "mtu", MTU, *(("address", address) if address else ()), "netns", left.name, "type", "veth",
            "peer", "name", right_name, "mtu", MTU, "netns", right.name)

    @contextlib.contextmanager
    def impaired(self, program, **impairments):
        """Those sides' wires are bad: client={"loss": 5, "delay": 5000, "seed": 1}. Gives the impairers. The ports are
        made anew, before and afterwards: nothing may use them. The ends' addresses stay, and sockets bound to them."""
        impairers = {}
        try:
            for side, how in impairments.items():
                namespace = Namespace(f"{self.record.data['name']}-bad-{side}")
                self.record.add("namespaces", namespace.name)
                run("ip", "netns", "add", namespace.name)
                self.relink(side, namespace)
                impairers[side] = Impairer(namespace, program, how)
            yield impairers
        finally:
            for side in impairments:
                if side in impairers:
                    impairers[side].finish()
                self.relink(side)
                name = f"{self.record.data['name']}-bad-{side}"
                if os.path.exists(f"/run/netns/{name}"):
                    run("ip", "netns", "del", name)

    def relink(self, side, impairer=None):
        end, port = getattr(self, side), PORTS[side]
        end.run("ip", "link", "del", "eth0")
        self.box.run("sh", "-c", f"ip link del {port} 2>/dev/null || true")  # its pair went with eth0 unless there was an impairer
        self.link(end, side, port, impairer)

    def manage(self):
        """The box's management interface; the servers' addresses are behind it, too."""
        run("ip", "link", "add", "mgmt0", "netns", self.box.name, "type", "veth", "peer", "name", "mgmt0", "netns", self.server.name)
        for end, number in ((self.box, 1), (self.server, 2)):
            end.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/mgmt0/accept_dad")
            end.run("ip", "address", "add", f"10.77.100.{number}/24", "dev", "mgmt0")
            end.run("ip", "address", "add", f"fd77:100::{number}/64", "dev", "mgmt0", "nodad")
            end.run("ip", "link", "set", "mgmt0", "up")
        self.box.run("ip", "route", "add", f"10.77.{NETS['server'][0]}.0/23", "dev", "mgmt0")
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
