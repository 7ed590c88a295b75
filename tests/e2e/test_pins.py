"""Pinned keys and certificates, and the rule of a customer's prefix beside that of the destination."""
import ssl

import pytest

from lab.ca import pin
from lab.dialogue import Dialogue, client_context
from lab.lab import EXPIRED, PLAIN, SELF_SIGNED, TLS
from lab.mta import Message, headers, swaks
from lab.namespaces import ipv4, ipv6

pytestmark = pytest.mark.sanitize

MAY = {"level": "may", "mode": "enforce"}
ENCRYPT = {"level": "encrypt", "mode": "enforce"}
PAST, FUTURE = "2020-01-01", "2090-01-01"


def certificate_pin(lab, name):
    return pin(lab.certificates[name], "certificate")


def key_pin(lab, name):
    return pin(lab.certificates[name], "key")


def pinned(*pins, **more):
    return {"level": "fingerprint", "fingerprints": ",".join(pins), **more}


def how(lab, number, family=ipv4, domain="example.org"):
    """"tls", "clear", or the code of the refusal."""
    message = Message()
    code, transcript = swaks(lab.client, family("server", number), message, f"{message.name}@{domain}")
    if code:
        return transcript[transcript.find("<** "):][4:13]
    received = headers(lab.postfix.mail.wait(message), "Received")[0]
    return "tls" if "using TLS" in received else "clear"


@pytest.fixture(autouse=True)
def servers(lab):
    lab.postfix


@pytest.mark.parametrize("family", [ipv4, ipv6])
def test_a_pin_is_the_whole_proof(lab, both, family):
    """Self-signed or expired: whoever pinned it knows why."""
    both.rules(count=True, default=pinned(certificate_pin(lab, "selfsigned"), key_pin(lab, "expired")))
    assert how(lab, SELF_SIGNED, family) == "tls"
    assert how(lab, EXPIRED, family) == "tls"
    assert how(lab, EXPIRED, family) == "tls"  # resumed: no certificate is shown
    assert how(lab, TLS, family) == "451 4.7.5"
    assert how(lab, PLAIN, family) == "451 4.7.4"
    both.counted(upgraded=3, deferred=2)


def test_a_rollover_pair(lab, xdp):
    xdp.rules(default=pinned(f"{key_pin(lab, 'tls')}@{PAST}", f"{key_pin(lab, 'expired')}@{FUTURE}", on_fail="reject"))
    assert how(lab, TLS) == "554 5.7.5"
    assert how(lab, EXPIRED) == "tls"


def test_pins_of_a_recipients_domain(lab, xdp):
    xdp.rules(default=ENCRYPT, domain__pinned_example=pinned(key_pin(lab, "expired")))
    assert how(lab, TLS, domain="pinned.example") == "451 4.7.5"
    assert how(lab, TLS, domain="other.example") == "tls"
    assert how(lab, EXPIRED, domain="pinned.example") == "tls"
    with Dialogue(lab.client, ipv4("server", TLS)) as client:
        client.ehlo()
        client.command("MAIL FROM:<a@b.example>")
        text = client.command("RCPT TO:<c@pinned.example>").text
        client.quit()
    assert "fingerprint" in text and "pinned.example" in text


def client_rules(box, rules, **others):
    """Rules for prefixes, whose names no keyword can spell."""
    box.put_rules({**{box.redis_key(name): value for name, value in others.items()},
                   **{f"waxseal:client:{net}": value for net, value in rules.items()}})


@pytest.mark.parametrize("family, net", [(ipv4, "10.77.1.0/24"), (ipv6, "fd77::1:0/112")])
def test_a_minimum_for_a_customer(lab, both, family, net):
    client_rules(both, {net: ENCRYPT}, default={"level": "none"}, domain__old_example={"level": "none"})
    assert how(lab, TLS, family) == "tls"
    assert how(lab, PLAIN, family, "old.example") == "451 4.7.4"
    other = ipv6 if family is ipv4 else ipv4
    assert how(lab, PLAIN, other) == "clear"


def test_an_exempt_customer(lab, both):
    """The /32 within the /24: the longest prefix is the customer's."""
    client_rules(both, {"10.77.1.0/24": {"level": "block"}, f"{ipv4('client', 1)}/32": {"level": "none"}},
                 default=ENCRYPT, domain__example_org={"level": "block"})
    assert how(lab, PLAIN) == "clear"
    assert how(lab, TLS) == "clear"
    assert how(lab, TLS, ipv6) == "451 4.7.1"
    with Dialogue(lab.client, ipv4("server", TLS), ipv4("client", 2)) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@b.example>").text.startswith("451 4.7.1")
        client.quit()


def test_a_customers_own_tls_is_held_to_the_minimum(lab, xdp):
    """The destination takes any TLS, the customer's prefix asks for 1.3: sealed sessions below it are cut."""
    client_rules(xdp, {"10.77.1.0/24": {**ENCRYPT, "protocols": ">=TLSv1.3"}}, default=MAY)
    for version, passes in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
        context = client_context(lab.ca.file)
        context.maximum_version = version
        with Dialogue(lab.client, ipv4("server", TLS)) as client:
            client.ehlo()
            if passes:
                client.starttls(context)
                assert client.tls.version() == "TLSv1.3"
            else:
                with pytest.raises((OSError, EOFError)):
                    client.starttls(context)
