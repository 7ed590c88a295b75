"""What happens when waxseald is killed, and when it comes back."""
import hashlib
import os
import socket
import struct
import subprocess
import threading
import time

import pytest

from lab.dialogue import Dialogue, client_context
from lab.lab import SINKS
from lab.mta import Message, wait_for
from lab.namespaces import ipv4

ENCRYPT = {"level": "encrypt", "mode": "enforce"}
GAP_MAX = 1.0
OTHER_PORT = 8026


@pytest.fixture(params=["open", "closed"])
def fail(request):
    return request.param


@pytest.fixture
def killed(lab):
    """start(fail) gives the appliance in AF_XDP mode; whatever a test does to it, the next one starts it anew."""
    def start(fail):
        appliance = lab.start_appliance("xdp", fail)
        appliance.rules(default=ENCRYPT)
        return appliance
    yield start
    appliance = lab.appliance
    appliance.stop()
    appliance.detach()
    lab.running = None


class Traffic:
    """A transfer on another port and pings; remembers the longest time in which nothing came."""

    def __init__(self, lab):
        self.listener = lab.server.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((ipv4("server", 30), OTHER_PORT))
        self.listener.listen(1)
        self.ended, self.longest, self.received = threading.Event(), 0.0, 0
        self.sent, self.got = hashlib.sha256(), hashlib.sha256()
        self.client = lab.client.connect(ipv4("server", 30), OTHER_PORT)
        self.server, _ = self.listener.accept()
        self.server.settimeout(20)
        self.threads = [threading.Thread(target=self.send, daemon=True), threading.Thread(target=self.receive, daemon=True)]
        self.ping = lab.client.popen("ping", "-D", "-i", "0.02", "-W", "1", ipv4("server", 30), stdout=subprocess.PIPE, text=True)
        for thread in self.threads:
            thread.start()

    def send(self):
        while not self.ended.is_set():
            block = os.urandom(8192)
            self.client.sendall(block)
            self.sent.update(block)
            time.sleep(0.005)
        self.client.shutdown(socket.SHUT_WR)

    def receive(self):
        last = time.monotonic()
        while True:
            data = self.server.recv(65536)
            now = time.monotonic()
            if not data:
                return
            self.longest, last = max(self.longest, now - last), now
            self.got.update(data)
            self.received += len(data)

    def finish(self):
        """Asserts that nothing was lost for longer than GAP_MAX."""
        self.ended.set()
        for thread in self.threads:
            thread.join(20)
        self.ping.send_signal(2)
        answered = [float(line.split("]")[0][1:]) for line in self.ping.communicate(timeout=10)[0].splitlines() if "bytes from" in line]
        gaps = [later - earlier for earlier, later in zip(answered, answered[1:])]
        for s in (self.client, self.server, self.listener):
            s.close()
        assert self.got.digest() == self.sent.digest() and self.received > 0
        assert self.longest < GAP_MAX, f"the transfer stood still for {self.longest:.2f} s"
        assert len(answered) > 10 and max(gaps) < GAP_MAX, f"no ping came back for {max(gaps):.2f} s"


def sealed_session(lab, message, recipient):
    """A sealed session with half of its mail sent."""
    client = Dialogue(lab.client, ipv4("server", SINKS))
    client.ehlo()
    assert client.starttls(client_context())
    client.ehlo()
    for command in (f"MAIL FROM:<{message.sender}>", f"RCPT TO:<{recipient}>", "DATA"):
        assert client.command(command).code in (250, 354)
    data = message.wire(recipient)
    client.write(data[:len(data) // 2])
    return client, data[len(data) // 2:]


@pytest.mark.alone
def test_what_is_not_smtp_does_not_notice(lab, killed, fail):
    appliance = killed(fail)
    traffic = Traffic(lab)
    wait_for("traffic to flow", lambda: traffic.received > 100_000)
    for _ in range(2):
        appliance.kill()
        seen = traffic.received
        wait_for("traffic to flow without waxseald", lambda: traffic.received > seen + 300_000)  # noqa: B023
        appliance.start()
        seen = traffic.received
        wait_for("traffic to flow with a new one", lambda: traffic.received > seen + 300_000)  # noqa: B023
    appliance.stop()
    seen = traffic.received
    wait_for("traffic to flow after an orderly end", lambda: traffic.received > seen + 300_000)
    traffic.finish()


def test_sealed_sessions_complete_with_fail_open(lab, killed, sink):
    appliance, server, message = killed("open"), sink(SINKS), Message(300_000)
    client, rest = sealed_session(lab, message, "a@b.example")
    appliance.kill()
    client.write(rest)
    assert client.reply().code == 250
    assert client.quit().code == 221
    assert server.mails()[0].data == message.wire("a@b.example")[:-3]


def test_sealed_sessions_go_on_without_waxseald(lab, killed, sink, fail):
    """What has been sealed and handed to the kernel needs no waxseald, with `closed` neither; its end does."""
    appliance, server, message = killed(fail), sink(SINKS), Message(300_000)
    client, rest = sealed_session(lab, message, "a@b.example")
    appliance.kill()
    client.write(rest)
    assert client.reply().code == 250
    assert server.mails()[0].data == message.wire("a@b.example")[:-3]
    appliance.start()
    assert client.quit().code == 221


def test_a_session_in_clear_is_not_the_sealed_one_before_it(lab, killed, sink):
    """Same addresses and ports: begun while waxseald was dead and fail = open, it is cut when there is a waxseald again."""
    appliance, server = killed("open"), sink(SINKS)
    client, _ = sealed_session(lab, Message(300_000), "a@b.example")
    port = client.tls.getsockname()[1]
    appliance.kill()
    client.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # by a RST, which nobody inspects
    wait_for("the server's end", lambda: server.sessions[0].ended)
    plain = lab.client.socket()
    plain.settimeout(10)
    plain.bind(("0.0.0.0", port))
    plain.connect((ipv4("server", SINKS), 25))
    assert plain.recv(512).startswith(b"220")
    plain.sendall(b"EHLO client.example\r\n")
    assert plain.recv(512).startswith(b"250")
    appliance.start()
    plain.sendall(b"MAIL FROM:<a@b.example>\r\n")
    with pytest.raises(OSError):
        assert not plain.recv(512)
        raise ConnectionResetError
    assert "MAIL" not in server.sessions[-1].verbs()
    plain.close()


@pytest.mark.sanitize
def test_sealed_sessions_survive_a_restart(lab, killed, sink, fail):
    """Joined in the middle: what is TLS passes (`unknown` = tls)."""
    appliance, server, message = killed(fail), sink(SINKS), Message(300_000)
    client, rest = sealed_session(lab, message, "a@b.example")
    appliance.kill()
    appliance.start()
    client.write(rest)
    assert client.reply().code == 250
    assert client.quit().code == 221
    assert server.mails()[0].data == message.wire("a@b.example")[:-3]
    assert appliance.counter("flows_joined") == 1


@pytest.mark.parametrize("unknown, tls, passes", [("pass", False, True), ("tls", False, False), ("tls", True, True), ("reset", True, False)])
def test_the_rule_for_what_is_joined(lab, killed, sink, unknown, tls, passes):
    appliance, server, message = killed("open"), sink(SINKS), Message()
    appliance.rules(default={**ENCRYPT, "unknown": unknown})
    appliance.kill()
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        if tls:
            client.starttls(client_context())
            client.ehlo()
        appliance.start()
        try:
            passed = client.mail(message, "a@b.example").code == 250
        except (OSError, EOFError):
            passed = False
    assert passed == passes and bool(server.mails()) == passes


def test_new_sessions_pass_with_fail_open(lab, killed, sink):
    appliance, server, message = killed("open"), sink(SINKS, starttls="none"), Message()
    appliance.kill()
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert client.mail(message, "a@b.example").code == 250
        client.quit()
    assert server.find("a@b") and not server.mails()[0].tls


def test_new_sessions_are_cut_with_fail_closed(lab, killed, sink):
    appliance, server = killed("closed"), sink(SINKS)
    appliance.kill()
    with pytest.raises(TimeoutError):
        lab.client.connect(ipv4("server", SINKS), 25, 2)
    assert not server.sessions
    appliance.start()
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert client.mail(Message(), "a@b.example").code == 250
    assert server.mails()[0].tls


@pytest.mark.sanitize
def test_restarts_over_a_stale_program(lab, killed, sink, fail):
    appliance, server = killed(fail), sink(SINKS)
    for _ in range(3):
        appliance.kill()
        appliance.start()
        with Dialogue(lab.client, ipv4("server", SINKS)) as client:
            client.ehlo()
            assert client.mail(Message(), "a@b.example").code == 250
            client.quit()
    assert len(server.mails()) == 3 and all(m.tls for m in server.mails())


@pytest.mark.sanitize
def test_an_orderly_end_ends_what_was_taken_over(lab, killed, sink):
    """Its streams no longer fit: both ends must know at once, not wait for a timeout."""
    appliance = killed("open")
    server = sink(SINKS)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@b.example>").code == 250
        appliance.stop()
        assert str(client.reply()).startswith("421 4.3.2")
        client.ended()
    wait_for("the server's end", lambda: server.sessions[0].ended)


def test_ports_of_dpdk_bridge_nothing_when_gone(lab, killed, sink):
    """As README says: there is no kernel program behind a port that DPDK owns."""
    killed("open")
    lab.start_appliance("vdev").kill()
    done = subprocess.run(lab.client.command("ping", "-c", "2", "-i", "0.1", "-W", "1", ipv4("server", 1)), capture_output=True, text=True, check=False)
    assert "100% packet loss" in done.stdout
    lab.appliance.start()
    assert lab.appliance.status()["waxseald"]["fail"] == "open"
