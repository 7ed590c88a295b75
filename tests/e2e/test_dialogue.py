"""Clients and servers that talk in their own ways: byte by byte, pipelined, HELO, AUTH, long banners, half-closed."""
import socket

import pytest

from lab.dialogue import Dialogue, client_context
from lab.lab import REFUSES_TLS, SINKS, TLS
from lab.mta import Message
from lab.namespaces import ipv4, ipv6

pytestmark = pytest.mark.sanitize

ENCRYPT = {"level": "encrypt", "mode": "enforce"}
MAY = {"level": "may", "mode": "enforce"}


@pytest.mark.parametrize("slow_client", [False, True])
@pytest.mark.parametrize("slow_server", [False, True])
def test_one_byte_a_segment(lab, both, sink, slow_client, slow_server):
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS, bytewise=slow_server), Message(1500)
    with Dialogue(lab.client, ipv4("server", SINKS), bytewise=slow_client) as client:
        client.ehlo()
        assert client.command("NOOP").code == 250
        assert client.mail(message, "a@b.example").code == 250
        assert client.quit().code == 221
    mail, = server.mails()
    assert mail.tls and mail.data == message.wire("a@b.example")[:-3]


@pytest.mark.parametrize("slow_server", [False, True])
def test_one_byte_a_segment_sealed(lab, both, sink, slow_server):
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS, bytewise=slow_server), Message(1500)
    with Dialogue(lab.client, ipv6("server", SINKS), bytewise=True) as client:
        client.ehlo()
        assert client.starttls(client_context())
        client.ehlo()
        assert client.mail(message, "a@b.example").code == 250
        client.quit()
    assert server.mails()[0].tls


def test_a_whole_transaction_pipelined(lab, both, sink):
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS), Message(3000)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        for _ in range(2):
            client.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
            assert [client.reply().code for _ in range(3)] == [250, 250, 354]
            client.write(message.wire("c@d.example") + b"NOOP\r\nRSET\r\n")
            assert [client.reply().code for _ in range(3)] == [250, 250, 250]
        client.write(b"QUIT\r\n")
        assert client.reply().code == 221
    assert [m.data for m in server.mails()] == [message.wire("c@d.example")[:-3]] * 2
    assert server.sessions[0].tls


def test_ehlo_in_one_segment_with_the_transaction(lab, both, sink):
    """Not allowed by RFC 2920 (EHLO ends a group), and seen from spammers and scripts."""
    both.rules(default=ENCRYPT)
    server = sink(SINKS)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.write(b"EHLO early.lab\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRSET\r\nQUIT\r\n")
        assert [client.reply().code for _ in range(5)] == [250, 250, 250, 250, 221]
    assert server.sessions[0].verbs(tls=True)[:2] == ["EHLO", "MAIL"]


def test_before_mail_anything_goes(lab, both, sink):
    both.rules(default=ENCRYPT)
    server = sink(SINKS)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        for command, code in (("NOOP", 250), ("RSET", 250), ("VRFY postmaster", 252), ("EHLO again.lab", 250), ("NOOP x", 250),
                              ("NONSENSE", 500)):
            assert client.command(command).code == code, command
        assert client.mail(Message(), "a@b.example").code == 250
        client.quit()
    session, = server.sessions
    assert session.mails[0].tls
    assert [line for tls, line in session.commands if tls][0] == b"EHLO again.lab"


def test_helo(lab, both, sink):
    """A client that says HELO is upgraded too: waxseal says EHLO."""
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS), Message()
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        assert client.command("HELO old.lab").code == 250
        assert client.mail(message, "a@b.example").code == 250
        client.quit()
    session, = server.sessions
    assert session.mails[0].tls and session.mails[0].data == message.wire("a@b.example")[:-3]
    assert [line for tls, line in session.commands if tls][0] == b"EHLO old.lab"


def test_helo_only_server(lab, both, sink):
    both.rules(default=ENCRYPT)
    sink(SINKS, helo_only=True, starttls="none")
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        assert client.ehlo().code == 502
        assert client.command("HELO old.lab").code == 250
        assert str(client.mail(Message(), "a@b.example")).startswith("451 4.7.4")
        assert client.quit().code == 221


def test_auth_is_a_decision_point(lab, both, sink):
    """Credentials never leave in clear where TLS is to be had."""
    both.rules(default=ENCRYPT)
    server = sink(SINKS, extensions=("PIPELINING", "AUTH PLAIN LOGIN"))
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert client.command("AUTH PLAIN AGEAYg==").code == 235
        assert client.mail(Message(), "a@b.example").code == 250
        client.quit()
    session, = server.sessions
    assert "AUTH" in session.verbs(tls=True) and "AUTH" not in session.verbs(tls=False)


def test_454_to_the_clients_own_starttls(lab, both):
    """The client may try in clear then, and the policy decides."""
    both.rules(default=ENCRYPT)
    lab.refuses_tls
    with Dialogue(lab.client, ipv4("server", REFUSES_TLS)) as client:
        client.ehlo()
        assert client.starttls(client_context()) is None
        assert str(client.mail(Message(), "a@b.example")).startswith("451 4.7.4")
        assert client.quit().code == 221
    both.rules(default={"level": "none"})
    with Dialogue(lab.client, ipv4("server", REFUSES_TLS)) as client:
        client.ehlo()
        assert client.starttls(client_context()) is None
        assert client.mail(Message(), "a@b.example").code == 250


def test_a_long_banner_and_many_extensions(lab, both, sink):
    both.rules(default=ENCRYPT)
    server = sink(SINKS, banner=("first line", "x" * 400, *("line %d" % i for i in range(20)), "{host} at last"),
                  extensions=("PIPELINING", "8BITMIME", *(f"X-EXTENSION-{i} {'v' * 60}" for i in range(30))))
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        assert client.banner.lines[-1].endswith("at last")
        assert len(client.ehlo().lines) >= 33
        assert client.mail(Message(), "a@b.example").code == 250
        client.quit()
    assert server.mails()[0].tls


def test_a_client_that_closes_its_half_is_answered(lab, both, sink):
    """Postfix takes the end of a TLS stream for the end of both halves: it must not see it before it has answered."""
    both.rules(default=ENCRYPT)
    server, message = lab.postfix, Message()
    with Dialogue(lab.client, ipv4("server", TLS)) as client:
        client.ehlo()
        for command in ("MAIL FROM:<a@b.example>", f"RCPT TO:<{message.name}@d.example>", "DATA"):
            client.command(command)
        client.write(message.wire("c@d.example") + b"QUIT\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply().code == 250
        assert client.reply().code == 221
        assert client.ended() == "eof"
    assert message.arrived_whole(server.mail.wait(message))


def test_a_client_that_vanishes_before_mail(lab, both, sink):
    both.rules(default=MAY)
    server = sink(SINKS)
    with Dialogue(lab.client, ipv6("server", SINKS)) as client:
        client.ehlo()
    with Dialogue(lab.client, ipv6("server", SINKS)) as client:
        assert client.quit().code == 221
    assert [s.verbs() for s in server.sessions][1] == ["QUIT"]


def test_a_slow_server(lab, both, sink):
    both.rules(default=ENCRYPT)
    server = sink(SINKS, delay=0.3)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert client.mail(Message(), "a@b.example").code == 250
        client.quit()
    assert server.mails()[0].tls
