"""What stands in the middle, in turn: nothing, waxseal, and those who do a part of its job.

A middle starts in the box, names the processes whose CPU is its own, and leaves the box as it found it. Whoever
does TLS towards the sink verifies its chain against the same CA, as waxseal does; nobody writes a log of sessions.
"""
import contextlib
import json
import pathlib
import socket
import subprocess
import time

from lab import state
from lab.appliance import PINS, VDEV, XDP
from lab.mta import wait_for
from lab.namespaces import ipv4
from lab.postfix import Postfix

from .place import FULL, HOSTNAME, NAME, RESUMED, SMTP, SMTPS, tree_cpu

LISTEN = {FULL: 20000 + FULL, RESUMED: 20000 + RESUMED}  # where the proxies are, behind the redirect
LOCAL_TABLE = 100
FLOWS = 262144


class Middle:
    name = ""
    direct = False
    note = ""

    def __init__(self, place):
        self.place, self.box = place, place.box
        self.process = None
        self.folder = place.folder / f"{self.name}-{time.monotonic_ns()}"

    def __enter__(self):
        self.folder.mkdir()
        self.stack = contextlib.ExitStack()
        try:
            self.start()
            self.place.forget_neighbours()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def start(self):
        pass

    def roots(self):
        return [self.process.pid] if self.process else []

    def cpu(self):
        return tree_cpu(self.roots())

    def busy_permille(self):
        return None

    def counters(self):
        """What the middle itself has counted so far: kept with each run, to explain one that is wrong."""
        return {}

    def launch(self, *command, **options):
        self.log = self.folder / "log"
        with self.log.open("ab") as out:
            self.process = self.box.popen(*command, stdout=out, stderr=out, start_new_session=True,
                                          **{"stdin": subprocess.DEVNULL, **options})
        self.stack.callback(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def said(self):
        return self.log.read_text(errors="replace")[-1500:]

    def wait_listening(self, ports):
        def listens():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            shown = self.box.run("ss", "-Hltn")
            return all(f":{port} " in shown for port in ports)
        wait_for(lambda: f"{self.name} listens: {self.said()}", listens, 20, 0.05)


class Direct(Middle):
    name, direct, note = "direct", True, "one veth pair, no middle"


class Bridge(Middle):
    name, note = "bridge", "a Linux bridge"

    def start(self):
        self.place.namespaces.bridge()
        self.stack.callback(self.place.namespaces.unbridge)


class Waxseal(Middle):
    name, mode, note = "waxseal", XDP, "AF_XDP ports, one worker, one CPU"

    def start(self):
        place, appliance = self.place, self.place.appliance
        self.stack.enter_context(state.one_appliance())
        if state.standing():
            raise RuntimeError("a lab stands already; `make lab-down` ends it")
        for pin in PINS:
            place.record.add("pins", pin)
        self.stack.callback(lambda: place.record.set(pins=[]))
        rules = self.folder / "rules"
        rules.write_text("* level=encrypt mode=enforce\n")
        appliance.configure(self.mode, events_file=None, limits_flows=str(FLOWS), limits_takeovers="8192", limits_buffer_mb="512")
        compiled = appliance.run_program("waxseal", "policy", "compile", rules, "-o", appliance.image)
        if compiled.returncode:
            raise RuntimeError(compiled.stdout + compiled.stderr)
        self.stack.callback(self.finish)
        appliance.start()
        self.process = appliance.waxseald

    def finish(self):
        self.place.appliance.stop()
        self.place.appliance.detach()
        for port in ("in0", "out0"):
            self.box.run("ip", "link", "set", port, "xdp", "off")

    def ask(self, command):
        """The answer of DPDK's telemetry socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(2)
            s.connect(f"/var/run/dpdk/{NAME}/dpdk_telemetry.v2")
            s.recv(1024)
            s.send(command.encode())
            return json.loads(s.recv(65536))[command.partition(",")[0]]

    def busy_permille(self):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return self.ask("/waxseal/worker,0")["busy_permille"]
        return None

    def counters(self):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return self.ask("/waxseal/counters")
        return {}


class WaxsealOwned(Waxseal):
    name, mode, note = "owned", VDEV, "waxseal, ports owned by DPDK (net_af_packet)"


class Testpmd(Middle):
    name, note = "testpmd", "DPDK's own forwarder over AF_XDP, polling"

    def start(self):
        reader = subprocess.PIPE  # it ends when its standard input does
        self.launch("stdbuf", "-o0", "dpdk-testpmd", "-l", "0,1", "--no-pci", "-m", "256", "--file-prefix", f"{NAME}-testpmd", "--huge-unlink", "--no-telemetry",
                    "--vdev", "net_af_xdp0,iface=in0", "--vdev", "net_af_xdp1,iface=out0", "--", "--forward-mode=io", "--auto-start",
                    "--nb-cores=1", "--total-num-mbufs=16384", stdin=reader)
        self.stack.callback(lambda: [self.box.run("ip", "link", "set", port, "xdp", "off") for port in ("in0", "out0")])
        self.stack.callback(self.end)  # before the line above
        wait_for(lambda: f"testpmd forwards: {self.said()}", lambda: "Press enter" in self.log.read_text(errors="replace"), 20, 0.05)

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        super().end()


class Routed(Middle):
    """The box as a router in one subnet (proxy ARP), which hands port 25 to a proxy of its own by an nft redirect."""
    transparent = False
    services = (FULL, RESUMED)

    def start(self):
        self.route()
        self.proxy()
        self.wait_listening([LISTEN[n] for n in self.services])

    def route(self):
        box = self.box
        script = "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
        for port, net in (("in0", "10.77.1"), ("out0", "10.77.2")):
            script += (f"ip address add {net}.254/24 dev {port}\necho 1 > /proc/sys/net/ipv4/conf/{port}/proxy_arp\n"
                       f"echo 0 > /proc/sys/net/ipv4/neigh/{port}/proxy_delay\n"
                       f"echo 0 > /proc/sys/net/ipv4/conf/{port}/rp_filter\n")
        script += "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter\n"
        redirects = "".join(f"  iifname in0 ip daddr {ipv4('server', n)} tcp dport {SMTP} redirect to :{LISTEN[n]}\n" for n in self.services)
        rules = f"table ip bench {{\n chain to_proxy {{\n  type nat hook prerouting priority -100;\n{redirects} }}\n"
        # A connection on to the server with the client's address and port would be taken for the one redirected.
        rules += (" chain from_server {\n  type filter hook prerouting priority -300;\n  iifname out0 notrack\n }\n"
                  " chain to_server {\n  type filter hook output priority -300;\n  oifname out0 notrack\n }\n}\n")
        if self.transparent:
            script += (f"ip rule add iif out0 ipproto tcp sport {SMTP} lookup {LOCAL_TABLE}\n"
                       f"ip route add local 0.0.0.0/0 dev lo table {LOCAL_TABLE}\n")
        self.stack.callback(self.unroute)
        box.run("sh", "-ec", script)
        box.run("nft", "-f", "-", input=rules)

    def unroute(self):
        script = ("nft delete table ip bench 2>/dev/null || true\n"
                  "ip address flush dev in0; ip address flush dev out0\n"
                  f"ip rule del lookup {LOCAL_TABLE} 2>/dev/null || true\nip route flush table {LOCAL_TABLE} 2>/dev/null || true\n"
                  "echo 0 > /proc/sys/net/ipv4/ip_forward\n")
        self.box.run("sh", "-c", script)

    def proxy(self):
        raise NotImplementedError

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


class Stunnel(Routed):
    name, transparent, note = "stunnel", True, "protocol = smtp, transparent = source"

    def proxy(self):
        text = (f"foreground = yes\npid =\ndebug = 3\nsyslog = no\nCAfile = {self.place.ca.file}\nverifyChain = yes\n"
                "client = yes\nprotocol = smtp\ntransparent = source\nTIMEOUTclose = 0\n")
        for n in self.services:
            text += f"[s{n}]\naccept = 0.0.0.0:{LISTEN[n]}\nconnect = {ipv4('server', n)}:{SMTP}\nsni = {HOSTNAME}\n"
        self.launch("sh", "-c", "ulimit -n 65536; exec stunnel4 \"$1\"", "sh", self.write("stunnel.conf", text))


class Haproxy(Routed):
    def server(self, n):
        raise NotImplementedError

    def proxy(self):
        text = ("global\n maxconn 8192\ndefaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n")
        for n in self.services:
            text += f"listen l{n}\n bind 0.0.0.0:{LISTEN[n]}\n server s {self.server(n)}\n"
        self.launch("sh", "-c", "ulimit -n 65536; exec haproxy -db -q -f \"$1\"", "sh", self.write("haproxy.cfg", text))


class HaproxyTcp(Haproxy):
    name, note = "haproxy_tcp", "forwards TCP; the client does TLS"

    def server(self, n):
        return f"{ipv4('server', n)}:{SMTP}"


class HaproxyTls(Haproxy):
    name, note = "haproxy_tls", "to implicit TLS; no STARTTLS spoken"

    def server(self, n):
        return f"{ipv4('server', n)}:{SMTPS} ssl verify required ca-file {self.place.ca.file} sni str({HOSTNAME})"


class Nginx(Routed):
    name, note = "nginx", "stream, proxy_ssl to implicit TLS; no STARTTLS spoken"

    def proxy(self):
        module = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        text = (f"load_module {module};\nuser root;\ndaemon off;\npid {self.folder}/pid;\nerror_log {self.folder}/error.log error;\n"
                "worker_processes auto;\nworker_rlimit_nofile 65536;\nevents { worker_connections 16384; }\nstream {\n")
        for n in self.services:
            text += (f" server {{\n  listen 0.0.0.0:{LISTEN[n]} backlog=4096;\n  proxy_pass {ipv4('server', n)}:{SMTPS};\n  proxy_ssl on;\n"
                     f"  proxy_ssl_protocols TLSv1.2 TLSv1.3;\n  proxy_ssl_server_name on;\n  proxy_ssl_name {HOSTNAME};\n"
                     f"  proxy_ssl_verify on;\n  proxy_ssl_trusted_certificate {self.place.ca.file};\n }}\n")
        self.launch("nginx", "-c", self.write("nginx.conf", text + "}\n"))


class PostfixRelay(Routed):
    name, services, note = "postfix", (FULL,), "queues, then sends with smtp_tls_security_level = encrypt"

    def proxy(self):
        main = (f"\nmyhostname = relay.bench\nmynetworks = 10.77.0.0/16\ninet_protocols = ipv4\nrelayhost = [{ipv4('server', FULL)}]:{SMTP}\n"
                "smtpd_relay_restrictions = permit_mynetworks, reject\nsmtp_tls_security_level = encrypt\n"
                f"smtp_tls_CAfile = {self.place.ca.file}\n")
        self.postfix = Postfix(self.box, self.folder / "postfix", main, f"0.0.0.0:{LISTEN[FULL]} inet n - n - - smtpd\n")
        self.process, self.log = self.postfix.process, self.postfix.output
        self.stack.callback(self.end)

    def end(self):
        super().end()
        # master(8) leaves its children a moment; what still runs in the box would be counted as the next middle's.
        state.end_all([self.box.name])


ALL = (Direct, Bridge, Waxseal, WaxsealOwned, Testpmd, Stunnel, HaproxyTcp, HaproxyTls, Nginx, PostfixRelay)
