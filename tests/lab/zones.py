"""The lab's DNS: nsd as the authoritative server of every zone from the root down, unbound as a validating resolver.

    .       signed; its key is the lab's trust anchor
    sec.    signed, with a DS in the root: what stands here is secure
    ins.    not signed, no DS: insecure
    bogus.  signed, and the DS in the root is of another key: every answer from here is bogus

put() and take() change names, publish() signs and loads what has changed. TTLs are short, so that a change is
seen as soon as an agent asks again.
"""
import pathlib
import signal
import subprocess

import dns.message
import dns.query
import dns.rcode

from .mta import wait_for
from .namespaces import run

ZONES = (".", "sec.", "ins.", "bogus.")
SIGNED = (".", "sec.", "bogus.")
TTL = 5

NSD = """
server:
    ip-address: {address}@53
    do-ip6: no
    username: ""
    zonesdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    xfrdfile: ""
    xfrdir: "{folder}"
    database: ""
    pidfile: "{folder}/nsd.pid"
    logfile: "{folder}/nsd.log"
    server-count: 1
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""
UNBOUND = """
server:
    interface: {resolver}
    access-control: 10.77.0.0/16 allow
    outgoing-interface: {resolver}
    do-ip6: no
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    use-syslog: no
    logfile: "{folder}/unbound.log"
    root-hints: "{folder}/hints"
    trust-anchor-file: "{folder}/anchor"
    module-config: "validator iterator"
    val-log-level: 2
    cache-max-negative-ttl: {ttl}
    val-bogus-ttl: {ttl}
    infra-host-ttl: 5
    qname-minimisation: no
    num-threads: 1
remote-control:
    control-enable: no
"""


def absolute(name):
    return name if name.endswith(".") else name + "."


def zone_of(name):
    return absolute(name).rstrip(".").rpartition(".")[2] + "."


class Zones:
    def __init__(self, namespace, folder, authority, resolver):
        self.namespace, self.folder = namespace, pathlib.Path(folder)
        self.authority, self.resolver = authority, resolver
        self.folder.mkdir(mode=0o755)
        self.records = {zone: {} for zone in ZONES}
        self.serial, self.written = 0, {}
        self.stale = set(ZONES)
        self.servers = []
        self.keys = {zone: self.make_key(zone) for zone in SIGNED}
        self.anchor = self.folder / "anchor"
        self.anchor.write_text(self.key_record("."))
        (self.folder / "hints").write_text(f". 3600 NS ns.\nns. 3600 A {authority}\n")

    # ---- names ----

    def put(self, name, kind, *rdata):
        """The name's records of that kind, in zone-file form; what stood there goes."""
        zone = zone_of(name)
        self.records[zone][(absolute(name), kind)] = [str(one) for one in rdata]
        self.stale.add(zone)

    def take(self, name, kind):
        self.records[zone_of(name)].pop((absolute(name), kind), None)
        self.stale.add(zone_of(name))

    def publish(self):
        """Signs and loads the zones that have changed; returns when the server answers with them."""
        self.serial += 1
        for zone in sorted(self.stale):
            self.write(zone)
        self.stale.clear()
        if not self.servers:
            self.start()
        else:
            self.servers[0].send_signal(signal.SIGHUP)
        wait_for(lambda: f"nsd has serial {self.serial}: {self.log('nsd')}", self.is_current, 20, 0.02)

    def is_current(self):
        for zone in ZONES:
            answer = self.ask(zone, "SOA", self.authority)
            if not answer or answer[0].serial != self.written[zone]:
                return False
        return True

    # ---- zone files ----

    def file(self, zone):
        return self.folder / f"zone-{zone.rstrip('.') or 'root'}"

    def make_key(self, zone):
        out = run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone, cwd=self.folder)
        return out.strip()

    def key_record(self, zone):
        return (self.folder / f"{self.keys[zone]}.key").read_text()

    def ds_record(self, zone):
        if zone == "bogus.":  # of a key that signed nothing
            return (self.folder / f"{self.make_key(zone)}.ds").read_text()
        return (self.folder / f"{self.keys[zone]}.ds").read_text()

    def write(self, zone):
        self.written[zone] = self.serial
        lines = [f"$TTL {TTL}", f"{zone} SOA ns. root.ns. {self.serial} 3600 600 864000 {TTL}", f"{zone} 3600 NS ns."]
        if zone == ".":
            lines.append(f"ns. 3600 A {self.authority}")
            for child in ZONES[1:]:
                lines.append(f"{child} 3600 NS ns.")
                if child in SIGNED:
                    lines.append(self.ds_record(child))
        for (name, kind), rdata in self.records[zone].items():
            lines += [f"{name} {kind} {one}" for one in rdata]
        path = self.file(zone)
        path.write_text("\n".join(lines) + "\n")
        if zone in SIGNED:
            run("ldns-signzone", "-o", zone, "-f", f"{path}.new", path, self.folder / self.keys[zone])
            pathlib.Path(f"{path}.new").rename(path)

    # ---- servers ----

    def start(self):
        values = {"folder": self.folder, "address": self.authority, "resolver": self.resolver, "ttl": TTL}
        zones = "".join(f'zone:\n    name: "{zone}"\n    zonefile: "{self.file(zone)}"\n' for zone in ZONES)
        (self.folder / "nsd.conf").write_text(NSD.format(**values) + zones)
        (self.folder / "unbound.conf").write_text(UNBOUND.format(**values))
        for command in (("/usr/sbin/nsd", "-d", "-c", self.folder / "nsd.conf"),
                        ("/usr/sbin/unbound", "-d", "-c", self.folder / "unbound.conf")):
            with (self.folder / "output").open("ab") as out:
                self.servers.append(self.namespace.popen(*command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                                         start_new_session=True))
        wait_for(lambda: f"unbound validates: {self.log('unbound')}", lambda: self.validated("ns.", "A"), 20, 0.05)

    def log(self, which):
        texts = [path.read_text(errors="replace") for path in (self.folder / "output", self.folder / f"{which}.log") if path.exists()]
        return "\n".join(texts)[-3000:]

    def query(self, name, kind, server=None):
        query = dns.message.make_query(absolute(name), kind, want_dnssec=True)
        with self.namespace.entered():
            return dns.query.udp_with_fallback(query, server or self.resolver, timeout=2)[0]

    def ask(self, name, kind, server=None):
        """The answer's first record set, or nothing."""
        try:
            found = self.query(name, kind, server)
        except (OSError, dns.exception.DNSException):
            return None
        return found.answer[0] if found.answer else None

    def validated(self, name, kind):
        """Does the resolver say so, and that it is secure?"""
        try:
            found = self.query(name, kind)
        except (OSError, dns.exception.DNSException):
            return False
        return bool(found.flags & dns.flags.AD) and bool(found.answer)

    def fate(self, name, kind):
        """"secure", "insecure", "bogus"; of a name that is not there or has none of that kind too."""
        found = self.query(name, kind)
        if found.rcode() == dns.rcode.SERVFAIL:
            return "bogus"
        return "secure" if found.flags & dns.flags.AD else "insecure"

    def close(self):
        for process in self.servers:
            if process.poll() is None:
                process.terminate()
        for process in self.servers:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
