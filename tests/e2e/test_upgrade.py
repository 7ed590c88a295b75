"""A client in clear, a server with STARTTLS: the mail arrives over TLS, byte for byte, and the client never knows."""
import pytest

from lab.dialogue import Dialogue
from lab.lab import EXIM, OPENSMTPD, SINKS, TLS
from lab.mta import Message, headers, swaks, wait_for
from lab.namespaces import ipv4, ipv6

ENCRYPT = {"level": "encrypt", "mode": "enforce"}
SERVERS = pytest.mark.parametrize("server, number, over_tls", [
    ("postfix", TLS, "using TLSv1.3"), ("exim", EXIM, "esmtps"), ("opensmtpd", OPENSMTPD, "ESMTPS")])
FAMILIES = pytest.mark.parametrize("family", [ipv4, ipv6], ids=["ipv4", "ipv6"])
BIG = 20_000_000


def arrived(lab, server, message, over_tls):
    stored = getattr(lab, server).mail.wait(message, 60, getattr(lab, server).log)
    received = headers(stored, "Received")[0]
    assert over_tls in received, received
    assert message.arrived_whole(stored)


@pytest.mark.sanitize
@SERVERS
@FAMILIES
def test_swaks(lab, both, server, number, over_tls, family):
    both.rules(default=ENCRYPT)
    getattr(lab, server)
    message = Message(5000)
    code, transcript = swaks(lab.client, family("server", number), message)
    assert code == 0, transcript
    arrived(lab, server, message, over_tls)


@pytest.mark.parametrize("sender", ["postfix_client", "exim_client", "opensmtpd_client"])
@SERVERS
@FAMILIES
def test_real_clients(lab, both, sender, server, number, over_tls, family):
    both.rules(default=ENCRYPT)
    getattr(lab, server)
    client, message = getattr(lab, sender), Message(20000)
    status, reply = client.result(client.send(message, family("server", number)))
    assert status == "sent", reply
    arrived(lab, server, message, over_tls)


def test_20_mb_between_real_servers(lab, both):
    both.rules(default=ENCRYPT)
    lab.postfix
    client, message = lab.postfix_client, Message(BIG)
    status, reply = client.result(client.send(message, ipv6("server", TLS)), 120)
    assert status == "sent", reply
    arrived(lab, "postfix", message, "using TLSv1.3")


@pytest.mark.parametrize("loss", ["none", "client", "server"])
def test_20_mb_byte_for_byte(lab, both, sink, loss):
    """Compared as they stood on the wire, dots and line ends included; with 2 % of the packets lost on either side."""
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS), Message(BIG)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.socket.settimeout(120)
        client.ehlo()
        if loss == "none":
            reply = client.mail(message, "a@b.example")
        else:
            with lab.loss(loss, 2):
                reply = client.mail(message, "a@b.example")
        assert reply.code == 250, reply
        client.quit()
    mail, = server.mails()
    assert mail.tls == "TLSv1.3" and mail.data == message.wire("a@b.example")[:-3]


@pytest.mark.sanitize
def test_bytes_are_not_interpreted(lab, both, sink):
    """Bare LF and CR, NUL, 8-bit, dots at buffers' ends, and a line without end in the middle."""
    both.rules(default=ENCRYPT)
    server = sink(SINKS)
    data = (b"Subject: odd\r\n\r\n\n.\nbare\rreturn\r\n..\r\n.\x00\x01\xff\xfe\n\r\n" + b"x" * 300_000 + b"\r\n" +
            b"\r\n.\rnot the end\r\n.x\r\n")
    with Dialogue(lab.client, ipv6("server", SINKS)) as client:
        client.ehlo()
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"):
            assert client.command(command).code in (250, 354)
        client.write(data + b".\r\n")
        assert client.reply().code == 250
        client.quit()
    mail, = server.mails()
    assert mail.tls and mail.data == data


@pytest.mark.sanitize
def test_chunking(lab, both, sink):
    both.rules(default=ENCRYPT)
    server, chunk = sink(SINKS), bytes(range(256)) * 1000
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert "CHUNKING" in client.extensions
        assert client.command("MAIL FROM:<a@b.example>").code == 250
        assert client.command("RCPT TO:<c@d.example>").code == 250
        for last in (b"", b"", b" LAST"):
            client.write(b"BDAT %d%s\r\n" % (len(chunk), last) + chunk)
            assert client.reply().code == 250
        client.quit()
    mail, = server.mails()
    assert mail.bdat and mail.tls and mail.data == chunk * 3


@pytest.mark.sanitize
def test_several_transactions_in_one_session(lab, both, sink):
    both.rules(count=True, default=ENCRYPT)
    server, messages = sink(SINKS, refuse_rcpt=b"nobody"), [Message(2000) for _ in range(5)]
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        for message in messages:
            assert client.command(f"MAIL FROM:<{message.sender}>").code == 250
            assert client.command("RCPT TO:<nobody@b.example>").code == 550
            assert client.command("RSET").code == 250
            assert client.mail(message, "a@b.example").code == 250
        assert client.command("NOOP").code == 250
        assert client.quit().code == 221
    assert [m.data for m in server.mails()] == [m.wire("a@b.example")[:-3] for m in messages]
    assert {m.tls for m in server.mails()} == {"TLSv1.3"}
    both.counted(upgraded=1)


@pytest.mark.sanitize
def test_inside_tls_the_whole_envelope(lab, both, sink):
    """What the server saw in clear is the opening alone; EHLO again inside, with the client's name."""
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS), Message()
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo("its.own.name")
        assert client.mail(message, "a@b.example").code == 250
        client.quit()
    session, = server.sessions
    assert session.verbs(tls=False) == ["EHLO", "STARTTLS"]
    assert session.verbs(tls=True) == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert session.commands[2][1] == b"EHLO its.own.name"


def test_sessions_are_resumed(lab, xdp, sink):
    xdp.rules(default=ENCRYPT)
    sink(SINKS)
    resumed = xdp.counter("tls_resumed")
    for _ in range(3):
        with Dialogue(lab.client, ipv4("server", SINKS)) as client:
            client.ehlo()
            assert client.mail(Message(), "a@b.example").code == 250
            client.quit()
    assert xdp.counter("tls_resumed") >= resumed + 2


def test_nothing_of_the_envelope_crosses_the_wire(lab, both, sink):
    both.rules(default=ENCRYPT)
    sink(SINKS)
    message = Message(2000)
    with lab.capture("outside") as outside, lab.capture("inside", "client") as inside:
        with Dialogue(lab.client, ipv6("server", SINKS)) as client:
            client.ehlo()
            assert client.mail(message, "secret@b.example").code == 250
            client.quit()
        wait_for(lambda: "tcpdump writes the session down", lambda: b"QUIT" in b"".join(inside.streams().values()))
    seen = b"".join(outside.streams().values())
    assert b"STARTTLS" in seen
    for word in (b"MAIL FROM", b"secret@b.example", message.name.encode()):
        assert word not in seen and word in b"".join(inside.streams().values())


def out_of_order(lab):
    """Segments that came to each end's TCP before one that was sent earlier, so far."""
    def of(namespace):
        names, values = (line.split()[1:] for line in namespace.run("cat", "/proc/net/netstat").splitlines() if line.startswith("TcpExt:"))
        return int(dict(zip(names, values))["TCPOFOQueue"])
    return {"client": of(lab.client), "server": of(lab.server)}


@FAMILIES
@pytest.mark.parametrize("size", [4_096, 50_000])  # no ring between runs over
def test_segments_arrive_in_order(lab, both, sink, family, size):
    """On a wire that loses nothing. An end that coalesces what it receives (GRO) must not turn them round either."""
    both.rules(default=ENCRYPT)
    sink(SINKS)
    before = out_of_order(lab)
    for _ in range(5):
        with Dialogue(lab.client, family("server", SINKS)) as client:
            client.ehlo()
            assert client.mail(Message(size), "a@b.example").code == 250
            client.quit()
    assert out_of_order(lab) == before
