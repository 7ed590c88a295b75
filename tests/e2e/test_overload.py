"""Peers that do not read, buffers and takeovers used up, a worker that stands still: the outcome is the configured one,
counted, and when the pressure ends so does its effect."""
import contextlib
import os
import threading

import pytest

from lab import pressure
from lab.dialogue import Dialogue, client_context
from lab.frozen import frozen, threads
from lab.lab import SINKS
from lab.mta import Message, wait_for
from lab.namespaces import ipv4

ENCRYPT = {"level": "encrypt", "mode": "enforce"}
WORKER = "/waxseal/worker,0"


@pytest.fixture
def started(lab):
    """start(**changes): the appliance so configured; the next test gets another."""
    def start(**changes):
        appliance = lab.start_appliance("xdp", **changes)
        appliance.rules(count=True, default=ENCRYPT)
        return appliance
    yield start
    lab.end_appliance()


def to_data(lab, **options):
    client = Dialogue(lab.client, ipv4("server", SINKS), **options)
    client.ehlo()
    for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"):
        assert client.command(command).code in (250, 354)
    return client


def one_mail(lab):
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        reply = client.mail(Message(), "a@b.example")
        client.quit()
    return reply.code


def stuff(client):
    """Writes until nothing is taken any more; how much that was."""
    client.socket.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += client.socket.send(b"x" * 900 + b"\r\n")
    client.socket.settimeout(60)
    return sent


def test_a_server_that_does_not_read(lab, started, sink):
    """What waxseal keeps for it is bounded, others do not notice, and all of it arrives once the server reads again."""
    appliance, server = started(), sink(SINKS)
    slow = to_data(lab)
    release = threading.Event()
    server.loop.call_soon_threadsafe(release.wait)  # its one thread stands still
    sent = stuff(slow)
    kept = pressure.telemetry(appliance, WORKER)
    assert 0 < kept["buffers"] * 4096 <= 3 * 256 * 1024, kept
    release.set()
    assert one_mail(lab) == 250
    slow.write(b"\r\n.\r\n")
    assert slow.reply().code == 250
    slow.quit()
    mail, = [m for m in server.mails() if "<c@d.example>" in m.recipients]
    assert mail.data.replace(b"\r\n", b"").count(b"x") == len(mail.data.replace(b"\r\n", b"")) and len(mail.data) >= sent
    wait_for("buffers to be given back", lambda: pressure.telemetry(appliance, WORKER)["buffers"] == 0, 60)


def test_a_client_that_does_not_read(lab, started, sink):
    """Its replies wait; its commands are not taken without end; then all is answered in order."""
    started()
    sink(SINKS)
    client = Dialogue(lab.client, ipv4("server", SINKS))
    client.ehlo()
    assert client.command("MAIL FROM:<a@b.example>").code == 250
    commands = 20_000
    writer = threading.Thread(target=client.socket.sendall, args=(b"NOOP\r\n" * commands,), daemon=True)
    client.socket.settimeout(60)
    writer.start()
    writer.join(2)  # stands still by now, or has found room for all of it
    assert one_mail(lab) == 250  # others do not notice
    assert {client.reply().code for _ in range(commands)} == {250}
    writer.join(30)
    assert not writer.is_alive() and client.quit().code == 221


def test_a_client_that_writes_an_octet_at_a_time(lab, started, sink):
    appliance, server, message = started(), sink(SINKS), Message(300)
    client = to_data(lab, bytewise=True)
    client.write(message.wire("c@d.example"))
    assert client.reply().code == 250
    client.quit()
    assert server.mails()[0].data == message.wire("c@d.example")[:-3]
    appliance.counted(upgraded=1)


def test_buffers_used_up(lab, started, sink):
    """Past buffer_mb the rule's `overload` decides: from encrypt on a 421, counted. Sessions that have buffers keep them."""
    appliance, server = started(limits_buffer_mb="1"), sink(SINKS)
    slow = [to_data(lab) for _ in range(8)]
    release = threading.Event()
    server.loop.call_soon_threadsafe(release.wait)
    for client in slow:
        stuff(client)
    kept = pressure.telemetry(appliance, WORKER)
    assert kept["buffers_max"] * 3 // 4 <= kept["buffers"] <= kept["buffers_max"], kept
    release.set()
    for client in slow:
        client.write(b"\r\n.\r\n")
        assert client.reply().code == 250
        client.quit()
    wait_for("buffers to be given back", lambda: pressure.telemetry(appliance, WORKER)["buffers"] == 0, 60)
    assert one_mail(lab) == 250


def test_takeovers_used_up(lab, started, sink):
    appliance = started(limits_takeovers="2")
    sink(SINKS)
    refused = appliance.counter("takeover_no_memory")
    taken = [to_data(lab) for _ in range(2)]
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        reply = client.command("MAIL FROM:<a@b.example>")
        assert str(reply).startswith("421 4.3.2"), reply
    assert appliance.counter("takeover_no_memory") == refused + 1
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:  # who seals by himself needs no takeover
        client.ehlo()
        assert client.starttls(client_context())
        client.ehlo()
        assert client.mail(Message(), "a@b.example").code == 250
        client.quit()
    for client in taken:
        client.write(b".\r\n")
        assert client.reply().code == 250
        client.quit()
    wait_for("room for another", lambda: one_mail(lab) == 250, 60)


def lcores(appliance):
    """Threads that turn, in their order: I/O first if there are several workers."""
    return [name for name in sorted(threads(appliance.waxseald.pid)) if "worker" in name or "lcore" in name]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_stands_still(lab, started, sink, workers):
    """The watchdog says so on stderr, in the status and by telemetry; the ring to it fills, which is counted, and the other
    worker's sessions go on. When it turns again, so do its sessions."""
    cpu = max(os.sched_getaffinity(0))
    appliance = started(dataplane_workers=str(workers), dataplane_cpus=",".join([str(cpu)] * (workers if workers == 1 else workers + 1)))
    sink(SINKS)
    names = lcores(appliance)
    assert len(names) == (1 if workers == 1 else workers + 1), threads(appliance.waxseald.pid)
    books = pressure.Books(lab)
    clients = [to_data(lab) for _ in range(8)]
    log = len(appliance.log_text())
    with frozen(appliance.waxseald.pid, names[-1]):
        wait_for("the watchdog to notice", lambda: "does not turn: its sessions stand still" in appliance.log_text()[log:])
        wait_for("telemetry to say so", lambda: pressure.telemetry(appliance, f"/waxseal/worker,{workers - 1}")["stalled"])
        assert any("stands still" in warning or "does not turn" in warning for warning in appliance.status()["warnings"]), appliance.status()["warnings"]
        pressure.generate(lab, "syn", 0.5)  # more than its ring holds
        if workers > 1:
            assert not pressure.telemetry(appliance, "/waxseal/worker,0")["stalled"]
            assert appliance.counter("drop_ring")
    wait_for("the watchdog to take it back", lambda: "turns again" in appliance.log_text()[log:])
    for client in clients:
        client.write(b".\r\n")
        assert client.reply().code == 250
        client.quit()
    assert not pressure.telemetry(appliance, f"/waxseal/worker,{workers - 1}")["stalled"]
    found = books.close()
    assert workers == 1 or found["drops"]["drop_ring"]
