"""A client that does STARTTLS by itself: end to end, untouched, counted as sealed; below the floor it is cut."""
import ssl

import pytest

from lab.dialogue import Dialogue, client_context
from lab.lab import EXIM, OPENSMTPD, SINKS, TLS, WRONG_NAME, server_context
from lab.mta import Message, headers, swaks
from lab.namespaces import ipv4, ipv6

ENCRYPT = {"level": "encrypt", "mode": "enforce"}


def own_certificate(lab, name):
    return ssl.PEM_cert_to_DER_cert(lab.certificates[name][0].read_text())


@pytest.mark.sanitize
@pytest.mark.parametrize("family", [ipv4, ipv6])
def test_the_client_sees_the_servers_own_certificate(lab, both, family):
    both.rules(count=True, default=ENCRYPT)
    server, message = lab.postfix, Message(3000)
    with Dialogue(lab.client, family("server", TLS)) as client:
        client.ehlo()
        assert client.starttls(client_context(lab.ca.file)) == own_certificate(lab, "tls")
        assert client.tls.version() == "TLSv1.3"
        client.ehlo()
        assert client.mail(message, f"{message.name}@a.example").code == 250
        client.quit()
    stored = server.mail.wait(message)
    assert message.arrived_whole(stored) and "using TLSv1.3" in headers(stored, "Received")[0]
    both.counted(sealed=1)


@pytest.mark.parametrize("sender", ["swaks", "postfix_client", "exim_client", "opensmtpd_client"])
@pytest.mark.parametrize("server, number", [("postfix", TLS), ("exim", EXIM), ("opensmtpd", OPENSMTPD)])
def test_real_clients_seal(lab, xdp, sender, server, number):
    xdp.rules(count=True, default=ENCRYPT)
    mailboxes, message, address = getattr(lab, server).mail, Message(3000), ipv4("server", number)
    if sender == "swaks":
        code, transcript = swaks(lab.client, address, message, None, "--tls")
        assert code == 0, transcript
    else:
        client = getattr(lab, sender)
        status, reply = client.result(client.send(message, address, tls=True))
        assert status == "sent", reply
    assert message.arrived_whole(mailboxes.wait(message, logs=getattr(lab, server).log))
    xdp.counted(sealed=1)


def test_verify_trusts_the_clients_own_tls(lab, xdp):
    xdp.rules(count=True, default={"level": "verify", "match": "mx.wrongname.lab"})
    lab.postfix
    message = Message()
    code, transcript = swaks(lab.client, ipv4("server", WRONG_NAME), message, None, "--tls")
    assert code == 0, transcript
    xdp.counted(sealed=1)


@pytest.mark.sanitize
def test_a_large_sealed_mail_is_untouched(lab, both, sink):
    both.rules(default=ENCRYPT)
    server, message = sink(SINKS), Message(5_000_000)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        client.starttls(client_context())
        client.ehlo()
        assert client.mail(message, "a@b.example").code == 250
        client.quit()
    assert server.mails()[0].data == message.wire("a@b.example")[:-3]


def test_a_sealed_mail_passes_in_the_kernel(lab, xdp, sink):
    """The opening comes up, the mail does not; its bytes are counted all the same."""
    xdp.rules(count=True, default=ENCRYPT)
    server, message, names = sink(SINKS), Message(2_000_000), ("rx_packets", "kernel_flows", "kernel_bytes")
    before = {name: xdp.counter(name) for name in names}
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        client.starttls(client_context())
        client.ehlo()
        assert client.mail(message, "a@b.example").code == 250
        assert any(flow["state"] == "sealed" and flow["bytes_client"] > 2_000_000 for flow in xdp.flows())
        client.quit()
    assert server.mails()[0].data == message.wire("a@b.example")[:-3]
    xdp.counted(sealed=1)
    rx_packets, flows, passed = (xdp.counter(name) - before[name] for name in names)
    assert flows == 1 and passed > 2_000_000 and rx_packets < 60
    assert sum(d["bytes"] for d in xdp.counters()["destinations"] if d["name"] == xdp.scope) > 2_000_000


@pytest.mark.parametrize("version, floor", [(ssl.TLSVersion.TLSv1_2, ">=TLSv1.3")])
def test_below_the_floor_it_is_cut(lab, xdp, sink, version, floor):
    xdp.rules(count=True, default={**ENCRYPT, "protocols": floor})
    server = sink(SINKS, context=server_context(lab.certificates["sink"], version))
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        with pytest.raises((OSError, EOFError)):
            client.starttls(client_context())
            client.mail(Message(), "a@b.example")
    xdp.counted(cut=1)
    assert not server.mails()


@pytest.mark.sanitize
@pytest.mark.parametrize("group", [b"STARTTLS\r\nNOOP\r\n", b"STARTTLS\r\nMAIL FROM:<injected@x.example>\r\n"])
def test_a_command_behind_starttls_is_an_injection(lab, xdp, sink, group):
    xdp.rules(count=True, default=ENCRYPT)
    server, injections = sink(SINKS), xdp.counter("injections")
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        client.write(group)
        client.ended()
    xdp.counted(cut=1)
    assert xdp.counter("injections") == injections + 1
    assert "MAIL" not in server.sessions[0].verbs() and "NOOP" not in server.sessions[0].verbs()


@pytest.mark.sanitize
def test_plaintext_after_220_never_reaches_the_server(lab, xdp, sink):
    xdp.rules(count=True, default=ENCRYPT)
    server = sink(SINKS)
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert client.command("STARTTLS").code == 220
        client.write(b"MAIL FROM:<injected@x.example>\r\n")
        client.ended()
    xdp.counted(cut=1)
    assert "MAIL" not in server.sessions[0].verbs()
