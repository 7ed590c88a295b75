"""A whole lab: namespaces, certificate authority, mail servers, an appliance or a bridge in its place.

    with Lab("name") as lab:
        lab.appliance.configure(XDP); lab.start_appliance()
        lab.postfix                     # servers and clients start when they are first asked for

Everything is recorded (state.py) before it is made, so that whoever comes next can clean up after a kill.
"""
import contextlib
import functools
import os
import pathlib
import shutil
import signal
import sys
import tempfile

from . import state
from .appliance import BUILD, PINS, VDEV, XDP, Appliance
from .ca import Authority
from .capture import Capture
from .exim import EximClient, EximServer
from .namespaces import Namespaces, ipv4, ipv6
from .opensmtpd import OpenSmtpdClient, OpenSmtpdServer
from .postfix import PostfixClient, PostfixServer
from .sink import Behaviour, Sink, server_context
from .sts import Web
from .zones import Zones

__all__ = ["BUILD", "VDEV", "XDP", "Behaviour", "Lab", "Sink", "server_context"]

# Numbers of the servers' addresses: 10.77.2.n and fd77::2:n. From SINKS on they are the tests' own.
TLS, SELF_SIGNED, EXPIRED, WRONG_NAME, PLAIN, REFUSES_TLS, EXIM, OPENSMTPD = range(1, 9)
SINKS = 11
AUTHORITY, RESOLVER, WEB = 248, 249, 250
FACES = {"tls": TLS, "selfsigned": SELF_SIGNED, "expired": EXPIRED, "wrongname": WRONG_NAME, "plain": PLAIN}


class Lab:
    def __init__(self, name):
        if not (BUILD / "waxseald").exists():
            raise SystemExit(f"lab: {BUILD / 'waxseald'} is not built; `make` builds it")
        self.stack = contextlib.ExitStack()
        # Interrupted is ended in order: namespaces, processes and pins go.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda n, _: sys.exit(128 + n))
        try:
            self.make(name)
        except BaseException:
            self.close()
            raise

    def make(self, name):
        self.stack.enter_context(state.one_appliance())
        state.clean_leftovers()
        if state.standing():
            raise SystemExit(f"lab: a lab stands already ({', '.join(state.standing())}); `make lab-down` ends it")
        self.record = state.State(name)
        self.stack.callback(self.record.clean)
        self.folder = pathlib.Path(tempfile.gettempdir(), f"waxseal-lab-{name}-{os.getpid()}")
        self.record.add("folders", self.folder)
        self.record.add("folders", f"/var/run/dpdk/{name}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o755)
        for pin in PINS:
            self.record.add("pins", pin)
        self.namespaces = Namespaces(self.record)
        self.client, self.box, self.server = self.namespaces.client, self.namespaces.box, self.namespaces.server
        self.ca = Authority(self.folder / "ca")
        self.appliance = Appliance(self.box, self.folder / "appliance", self.ca.file, name)
        self.stack.callback(self.appliance.close)
        self.sinks = []
        self.stack.callback(lambda: [sink.close() for sink in self.sinks])
        self.bridged = False

    # ---- between the ports ----

    def bridge(self):
        self.namespaces.bridge()
        self.bridged = True

    def start_appliance(self, mode=XDP, fail="open", **changes):
        """The appliance in that mode; runs on if it is what already runs."""
        appliance = self.appliance
        wanted = (mode, fail, changes)
        if appliance.waxseald and appliance.waxseald.poll() is None and getattr(self, "running", None) == wanted:
            return appliance
        if appliance.waxseald:
            appliance.stop()
        if getattr(self, "running", None):
            appliance.configure(*self.running[:2], **self.running[2])
            appliance.detach()
        appliance.configure(mode, fail, **changes)
        if not appliance.agent:
            appliance.start_control()
        appliance.start()
        self.running = wanted
        return appliance

    # ---- mail servers: started when first asked for ----

    @functools.cached_property
    def certificates(self):
        ca = self.ca
        return {"tls": ca.certificate("tls", "mx.tls.lab"), "selfsigned": ca.self_signed("selfsigned", "mx.selfsigned.lab"),
                "expired": ca.expired("expired", "mx.expired.lab"), "wrongname": ca.certificate("wrongname", "other.example"),
                "exim": ca.certificate("exim", "mx.exim.lab"),
                "opensmtpd": ca.certificate("opensmtpd", "mx.opensmtpd.lab", rsa=True),  # it fails with others
                "sink": ca.certificate("sink", "sink.lab")}

    @functools.cached_property
    def postfix(self):
        return PostfixServer(self.server, self.folder / "postfix", {
            face: (number, f"mx.{face}.lab", self.certificates.get(face)) for face, number in FACES.items()})

    @functools.cached_property
    def exim(self):
        return EximServer(self.server, self.folder / "exim", EXIM, "mx.exim.lab", self.certificates["exim"])

    @functools.cached_property
    def opensmtpd(self):
        return OpenSmtpdServer(self.server, self.folder / "opensmtpd", OPENSMTPD, "mx.opensmtpd.lab", self.certificates["opensmtpd"])

    @functools.cached_property
    def refuses_tls(self):
        """Offers STARTTLS and answers 454."""
        return self.sink(REFUSES_TLS, hostname="mx.refuses.lab", starttls="454")

    def sink(self, number, **behaviour):
        """An event-driven server at that number (SINKS or above); its certificate is for sink.lab unless given."""
        if behaviour.get("starttls", "offer") == "offer":
            behaviour.setdefault("context", server_context(self.certificates["sink"]))
        sink = Sink(self.server, [ipv4("server", number), ipv6("server", number)], Behaviour(**behaviour))
        self.sinks.append(sink)
        return sink

    # ---- what the agent asks ----

    @functools.cached_property
    def zones(self):
        """The DNS, from the root down; the box reaches it, and clients too, through the appliance."""
        self.namespaces.manage()
        zones = Zones(self.server, self.folder / "zones", ipv4("server", AUTHORITY), ipv4("server", RESOLVER))
        self.stack.callback(zones.close)
        return zones

    def web(self, pairs):
        """The HTTPS server of MTA-STS policies, with those certificates by name; the first is shown first."""
        web = Web(self.server, ipv4("server", WEB), pairs)
        self.stack.callback(web.close)
        return web

    # ---- mail clients ----

    @functools.cached_property
    def postfix_client(self):
        return PostfixClient(self.client, self.folder / "postfix-client")

    @functools.cached_property
    def exim_client(self):
        return EximClient(self.client, self.folder / "exim-client")

    @functools.cached_property
    def opensmtpd_client(self):
        return OpenSmtpdClient(self.client, self.folder / "opensmtpd-client",
                               [address(n) for n in range(1, 30) for address in (functools.partial(ipv4, "server"), functools.partial(ipv6, "server"))])

    # ---- wire ----

    @contextlib.contextmanager
    def loss(self, side, percent):
        """Drops that share of what arrives at that side's end ("client" or "server")."""
        namespace = getattr(self, side)
        namespace.lose(percent)
        try:
            yield
        finally:
            namespace.lose(0)

    @contextlib.contextmanager
    def impaired(self, **impairments):
        """client={"loss": 5, ...}, server=...: those wires are bad (impair.c; namespaces.py); gives their impairers. Whatever
        stands in the box is ended before, and is to be ended by the caller."""
        if self.appliance.waxseald:
            self.end_appliance()
        with self.namespaces.impaired(BUILD / "lab/impair", **impairments) as impairers:
            yield impairers
            if self.appliance.waxseald:
                self.end_appliance()

    def end_appliance(self):
        self.appliance.stop()
        self.appliance.detach()
        self.running = None

    def capture(self, name="wire", side="server", what="tcp port 25"):
        return Capture(getattr(self, side), self.folder / f"{name}.pcap", what)

    def leave_standing(self):
        """Nothing is ended: `tests/lab/lab down` will."""
        self.record.set(standing=True)
        self.stack.pop_all()

    def close(self):
        self.stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
