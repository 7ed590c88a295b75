"""Load from tests/lab/flood.c, and the books: every frame that a generator sent is somewhere."""
import json
import pathlib
import re
import socket
import threading
import time

from .appliance import BUILD
from .dialogue import Dialogue, client_context
from .lab import SINKS, XDP
from .mta import Message, wait_for
from .namespaces import ipv4

FLOOD = BUILD / "lab/flood"
PATIENCE = 120  # seconds for an answer while the machine does nothing but flood
OUT = ("tx_packets", "taken_packets", "flows_refused", "flows_refused_prefix")


def generate(lab, what, *arguments):
    """Runs the generator to its end; what it says of itself."""
    command = [FLOOD, what, lab.client.path, *([lab.server.path] if what != "syn" else []), *arguments]
    done = lab.box.popen(*map(str, command), stdout=-1, stderr=-1, text=True)
    out, errors = done.communicate()
    assert done.returncode == 0, f"{what}: {out}{errors}"
    return json.loads(out)


def telemetry(appliance, command):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(5)
        s.connect(f"/var/run/dpdk/{appliance.name}/dpdk_telemetry.v2")
        s.recv(1024)
        s.send(command.encode())
        return json.loads(s.recv(65536))[command.partition(",")[0]]


def interface(namespace, name):
    """Counters of a veth by ethtool, and what its own side could not send."""
    counts = {}
    for line in namespace.run("ethtool", "-S", name).splitlines()[1:]:
        key, _, value = line.partition(":")
        counts[key.strip()] = int(value)
    shown = json.loads(namespace.run("ip", "-j", "-s", "link", "show", name))[0]["stats64"]
    return {**counts, "sent": shown["tx"]["packets"], "refused": shown["tx"]["dropped"]}


class Books:
    """All counters, before and after."""

    def __init__(self, lab):
        self.lab, self.appliance = lab, lab.appliance
        self.before = self.read_at_rest()

    def read_at_rest(self):
        """Nothing moves, or the counters would not be of one moment."""
        def still():
            first = self.read()
            time.sleep(0.2)
            second = self.read()
            return first == second and second
        return wait_for("the wires to be at rest", still, 60)

    def read(self):
        return {"waxseal": self.appliance.counters()["counters"],
                "port": [telemetry(self.appliance, f"/waxseal/port,{i}") for i in range(2)],
                "wire": {name: interface(namespace, name if name != "client" and name != "server" else "eth0")
                         for name, namespace in (("client", self.lab.client), ("server", self.lab.server),
                                                 ("in0", self.lab.box), ("out0", self.lab.box))}}

    def close(self):
        """The differences, checked."""
        after = self.read_at_rest()
        counted = {name: after["waxseal"][name] - self.before["waxseal"][name] for name in after["waxseal"]}
        came = counted["rx_packets"] + counted["built_packets"] + counted["split_segments"]
        drops = {name: n for name, n in counted.items() if name.startswith("drop_") and name != "drop_no_mbuf" and n}
        went = sum(counted[name] for name in OUT) + sum(drops.values())
        assert came == went, f"{came} packets came or were made, {went} are accounted for: {counted}"
        received = sum(a["rx_packets"] - b["rx_packets"] for a, b in zip(after["port"], self.before["port"]))
        sent = sum(a["tx_packets"] - b["tx_packets"] for a, b in zip(after["port"], self.before["port"]))
        assert received == counted["rx_packets"] + counted["forward_packets"], (received, counted)
        assert sent == counted["tx_packets"] + counted["forward_packets"] - counted["unsent_port"] - counted["unsent_ring"], (sent, counted)
        self.wire = {side: {key: after["wire"][side][key] - self.before["wire"][side][key] for key in after["wire"][side]}
                     for side in after["wire"]}
        if self.appliance.mode == XDP:
            self.check_wires(received)
        return {"came": came, "went": went, "drops": drops, "received": received, "sent": sent,
                **{name: counted[name] for name in ("rx_packets", "tx_packets", "built_packets", "split_segments", "taken_packets", "flows_opened",
                                                    "flows_evicted", "flows_refused", "flows_refused_prefix", "unsent_port", "unsent_ring")}}


    def check_wires(self, received):
        """What an end sent has come to its port; what came to the ports went to waxseald, to the other port inside the
        kernel, or was dropped because waxseald's ring was full."""
        wire, ports = self.wire, ("in0", "out0")

        def queues(port, what):
            return sum(n for name, n in wire[port].items() if re.fullmatch(what.replace("queue", r"queue_\d+"), name))
        for end, port in zip(("client", "server"), ports):
            assert wire[end]["sent"] == queues(port, "rx_queue_xdp_packets") + queues(port, "rx_queue_xdp_tx"), (end, wire)
        came = sum(queues(port, "rx_queue_xdp_packets") for port in ports)
        self.passed = sum(queues(port, "tx_queue_xdp_xmit") for port in ports)
        self.missed = sum(queues(port, "rx_queue_drops") + queues(port, "rx_queue_xdp_drops") for port in ports)
        assert came == received + self.passed + self.missed, (came, received, self.passed, self.missed, wire)


class Sessions(threading.Thread):
    """Real ones beside the load: some are established and say NOOP in turn, and new ones send mail, until told to end. A new
    one may be broken by a flood: the oldest unfinished handshake gives way to a newer one. None that is established may."""

    def __init__(self, lab, established, sealed):
        super().__init__(daemon=True)
        self.lab, self.ending = lab, threading.Event()
        self.answers, self.slowest, self.mails, self.broken, self.failed = 0, 0.0, 0, 0, []
        self.sink = lab.sink(SINKS)
        self.open = [self.dialogue(sealed(i)) for i in range(established)]

    def connect(self):
        return Dialogue(self.lab.client, ipv4("server", SINKS), patience=PATIENCE)

    def dialogue(self, sealed):
        client = self.connect()
        client.ehlo()
        if sealed:
            assert client.starttls(client_context())
            client.ehlo()
        assert client.command("MAIL FROM:<a@b.example>").code == 250
        return client

    def ask(self):
        """Every established session answers."""
        for client in self.open:
            began = time.monotonic()
            assert client.command("NOOP").code == 250
            self.answers += 1
            self.slowest = max(self.slowest, time.monotonic() - began)

    def run(self):
        new = threading.Thread(target=self.run_new, daemon=True)
        new.start()
        try:
            while not self.ending.is_set():
                self.ask()
        except (OSError, EOFError, AssertionError) as error:
            self.failed.append(f"an established session: {error!r}")
        new.join()

    def run_new(self):
        while not self.ending.is_set():
            try:
                self.send_mail()
                self.mails += 1
            except (OSError, EOFError):
                self.broken += 1

    def send_mail(self):
        with self.connect() as client:
            client.ehlo()
            assert client.mail(Message(), "a@b.example").code == 250
            client.quit()

    def finish(self):
        """The load is over: every session goes on."""
        self.ending.set()
        self.join(3 * PATIENCE)
        assert not self.is_alive() and not self.failed, self.failed
        during, mails = self.answers, self.mails
        self.ask()
        self.send_mail()
        for client in self.open:
            client.quit()
        self.sink.close()
        self.lab.sinks.remove(self.sink)
        return {"established": len(self.open), "answers": during, "slowest_s": round(self.slowest, 2), "new_mails": mails, "new_broken": self.broken}


def memory(appliance):
    """Bytes: resident, of them huge pages."""
    found = {"Rss": 0, "Private_Hugetlb": 0, "Shared_Hugetlb": 0}
    for line in pathlib.Path(f"/proc/{appliance.waxseald.pid}/smaps_rollup").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0]) * 1024
    return {"ordinary": found["Rss"], "huge": found["Private_Hugetlb"] + found["Shared_Hugetlb"]}
