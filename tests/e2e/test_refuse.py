"""TLS as the policy wants it cannot be had: the reply says why, nothing reaches the server, and the session goes on."""
import pytest

from lab.dialogue import Dialogue
from lab.lab import EXPIRED, OPENSMTPD, PLAIN, REFUSES_TLS, SELF_SIGNED, SINKS, TLS, WRONG_NAME
from lab.mta import Message, headers, swaks
from lab.namespaces import ipv4, ipv6

pytestmark = pytest.mark.sanitize

VERIFY = {"level": "verify", "match": "mx.selfsigned.lab:mx.wrongname.lab:mx.plain.lab"}
CASES = [
    ("encrypt-plain", {"level": "encrypt"}, PLAIN, "451 4.7.4"),
    ("encrypt-plain-reject", {"level": "encrypt", "on_fail": "reject"}, PLAIN, "554 5.7.4"),
    ("encrypt-454", {"level": "encrypt"}, REFUSES_TLS, "451 4.7.4"),
    ("verify-selfsigned", VERIFY, SELF_SIGNED, "451 4.7.5"),
    ("verify-expired", {"level": "verify", "match": "mx.expired.lab"}, EXPIRED, "451 4.7.5"),
    ("verify-wrongname", VERIFY, WRONG_NAME, "451 4.7.5"),
    ("verify-wrongname-reject", {"level": "verify", "match": ".wrongname.lab", "on_fail": "reject"}, WRONG_NAME, "554 5.7.5"),
    ("verify-other-match", {"level": "verify", "match": "mx.elsewhere.lab"}, TLS, "451 4.7.5"),
    ("verify-plain", VERIFY, PLAIN, "451 4.7.4"),
    ("block", {"level": "block"}, TLS, "451 4.7.1"),
    ("block-reject", {"level": "block", "on_fail": "reject"}, TLS, "554 5.7.1"),
]


@pytest.fixture(autouse=True)
def servers(lab):
    lab.postfix, lab.refuses_tls


@pytest.mark.parametrize("name, rule, number, wanted", CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("family", [ipv4, ipv6], ids=["ipv4", "ipv6"])
def test_at_mail(lab, xdp, name, rule, number, wanted, family):
    """A rule for the server: no transaction begins."""
    provider = f"tested-{name}-{family.__name__}"
    xdp.rules(count=provider, default={"level": "none"}, **{f"provider__{provider}": xdp.provider(number=number, **rule)})
    message = Message()
    with Dialogue(lab.client, family("server", number)) as client:
        client.ehlo()
        reply = client.command(f"MAIL FROM:<{message.sender}>")
        assert str(reply).startswith(wanted), reply
        assert rule["level"] in str(reply) and provider in str(reply), "the reply names the rule"
        assert client.command("NOOP").code == 250
        assert client.command("RSET").code == 250
        assert str(client.command(f"MAIL FROM:<{message.sender}>")).startswith(wanted)
        assert client.quit().code == 221
    xdp.counted(**{"deferred" if wanted[0] == "4" else "rejected": 1})
    assert lab.postfix.mail.stored(message.name) is None


@pytest.mark.parametrize("name, rule, number, wanted", CASES, ids=[case[0] for case in CASES])
def test_at_rcpt(lab, both, name, rule, number, wanted):
    """A rule for the recipient's domain, with swaks; another recipient of the same server is none of its business."""
    both.rules(default={"level": "may", "mode": "observe"}, domain__tested_example=rule)
    message = Message()
    code, transcript = swaks(lab.client, ipv4("server", number), message, f"{message.name}@tested.example")
    assert code != 0 and wanted in transcript, transcript
    assert "tested.example" in transcript.split(wanted)[1]
    if number != REFUSES_TLS:
        other = Message()
        code, transcript = swaks(lab.client, ipv4("server", number), other, f"{other.name}@other.example")
        assert code == 0, transcript
        assert "using TLS" not in headers(lab.postfix.mail.wait(other), "Received")[0]


def test_other_recipients_of_the_same_mail_go_on(lab, both):
    both.rules(default={"level": "may", "mode": "enforce"}, domain__strict_example={"level": "encrypt"})
    message = Message()
    with Dialogue(lab.client, ipv4("server", PLAIN)) as client:
        client.ehlo()
        assert client.command(f"MAIL FROM:<{message.sender}>").code == 250
        assert str(client.command("RCPT TO:<x@strict.example>")).startswith("451 4.7.4")
        assert client.command(f"RCPT TO:<{message.name}@lax.example>").code == 250
        assert str(client.command("RCPT TO:<y@strict.example>")).startswith("451 4.7.4")
        assert client.command("DATA").code == 354
        client.write(message.wire(f"{message.name}@lax.example"))
        assert client.reply().code == 250
        assert client.quit().code == 221
    assert message.arrived_whole(lab.postfix.mail.wait(message))


def test_a_refused_recipient_in_a_pipelined_group(lab, both, sink):
    """Replies stay in order, and the server's state is not disturbed."""
    both.rules(default={"level": "encrypt"}, domain__blocked_example={"level": "block"})
    server, message = sink(SINKS), Message()
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        client.write(f"MAIL FROM:<{message.sender}>\r\nRCPT TO:<a@ok.example>\r\nRCPT TO:<b@blocked.example>\r\n"
                     f"RCPT TO:<c@ok.example>\r\nDATA\r\n".encode())
        replies = [client.reply() for _ in range(5)]
        assert [r.code for r in replies] == [250, 250, 451, 250, 354], list(map(str, replies))
        client.write(message.wire("a@ok.example"))
        assert client.reply().code == 250
        client.quit()
    mail, = server.mails()
    assert [r for r in mail.recipients] == ["<a@ok.example>", "<c@ok.example>"]


@pytest.mark.parametrize("number, certificate", [(SELF_SIGNED, "selfsigned"), (EXPIRED, "expired"), (WRONG_NAME, "wrongname")])
def test_encrypt_takes_any_certificate(lab, both, number, certificate):
    both.rules(default={"level": "encrypt"})
    message = Message()
    code, transcript = swaks(lab.client, ipv4("server", number), message)
    assert code == 0, transcript
    assert "using TLSv1.3" in headers(lab.postfix.mail.wait(message), "Received")[0]


@pytest.mark.parametrize("rule", [{"match": "mx.tls.lab"}, {}, {"match": "mx.other.lab:.tls.lab"}], ids=["match", "hostname", "parent"])
def test_verify_takes_the_right_one(lab, both, rule):
    both.rules(default={"level": "verify", **rule})
    message = Message()
    code, transcript = swaks(lab.client, ipv6("server", TLS), message)
    assert code == 0, transcript
    assert "using TLSv1.3" in headers(lab.postfix.mail.wait(message), "Received")[0]


def test_a_failed_handshake_is_told(lab, both, sink):
    both.rules(default={"level": "encrypt"})
    server = sink(SINKS, starttls="absurd")
    with Dialogue(lab.client, ipv4("server", SINKS)) as client:
        client.ehlo()
        assert str(client.mail(Message(), "a@b.example")).startswith("451 4.7.5")
        assert client.quit().code == 221
    assert not server.mails() and "MAIL" not in server.sessions[0].verbs()


def test_a_real_client_queues(lab, xdp):
    xdp.rules(default={"level": "encrypt"})
    client, message = lab.postfix_client, Message()
    status, reply = client.result(client.send(message, ipv4("server", PLAIN)))
    assert status == "deferred" and "451 4.7.4" in reply, (status, reply)
    client, message = lab.exim_client, Message()
    status, reply = client.result(client.send(message, ipv4("server", PLAIN)))
    assert status == "deferred" and "451 4.7.4" in reply, (status, reply)


def test_a_real_client_bounces(lab, xdp):
    xdp.rules(default={"level": "encrypt", "on_fail": "reject"})
    client, message = lab.postfix_client, Message()
    status, reply = client.result(client.send(message, ipv4("server", PLAIN)))
    assert status == "bounced" and "554 5.7.4" in reply, (status, reply)


def test_opensmtpd_queues(lab, xdp):
    xdp.rules(default={"level": "block"})
    lab.opensmtpd
    client, message = lab.opensmtpd_client, Message()
    status, reply = client.result(client.send(message, ipv4("server", OPENSMTPD)))
    assert status == "deferred" and "4.7.1" in reply, (status, reply)
