"""Which rule holds, what each level does, and changes while it runs."""
import subprocess
import time

import pytest

from lab.dialogue import Dialogue
from lab.lab import PLAIN, SINKS, TLS
from lab.mta import Message, headers, swaks, wait_for
from lab.namespaces import ipv4, ipv6

pytestmark = pytest.mark.sanitize

MAY = {"level": "may", "mode": "enforce"}
ENCRYPT = {"level": "encrypt", "mode": "enforce"}


@pytest.fixture(autouse=True)
def servers(lab):
    lab.postfix


def send(lab, number, domain="example.org", family=ipv4, *options):
    """("refused", transcript) or ("tls" or "clear", Received)."""
    message = Message()
    code, transcript = swaks(lab.client, family("server", number), message, f"{message.name}@{domain}", *options)
    if code:
        return "refused", transcript
    received = headers(lab.postfix.mail.wait(message), "Received")[0]
    return ("tls" if "using TLS" in received else "clear"), received


def how(lab, *args):
    what, detail = send(lab, *args)
    return what if what != "refused" else detail[detail.find("<** "):][4:13]


def test_none_touches_nothing(lab, both):
    both.rules(count=True, default={"level": "none"})
    assert how(lab, TLS) == "clear"
    both.counted(clear=1)


def test_may_upgrades_where_offered(lab, both):
    both.rules(count=True, default=MAY)
    assert how(lab, TLS) == "tls"
    assert how(lab, PLAIN) == "clear"
    both.counted(clear=1, upgraded=1)


def test_may_remembers_failed_tls(lab, xdp, sink):
    """The session in which TLS failed does not fall back to clear; the retry does."""
    xdp.rules(default=MAY)
    server, hits = sink(SINKS + 3, starttls="absurd"), xdp.counter("tls_memory_hits")
    with Dialogue(lab.client, ipv4("server", SINKS + 3)) as client:
        client.ehlo()
        assert client.mail(Message(), "a@b.example").code in (451, 421)
    assert "MAIL" not in server.sessions[0].verbs()
    message = Message()
    with Dialogue(lab.client, ipv4("server", SINKS + 3)) as client:
        client.ehlo()
        assert client.mail(message, "a@b.example").code == 250
        client.quit()
    assert server.mails()[0].data == message.wire("a@b.example")[:-3] and not server.mails()[0].tls
    assert xdp.counter("tls_memory_hits") == hits + 1


def test_may_passes_where_starttls_is_refused(lab, xdp):
    xdp.rules(default=MAY)
    message, server = Message(), lab.refuses_tls
    with Dialogue(lab.client, ipv4("server", 6)) as client:
        client.ehlo()
        assert client.mail(message, "a@b.example").code in (250, 451)
    if not server.mails():
        with Dialogue(lab.client, ipv4("server", 6)) as client:
            client.ehlo()
            assert client.mail(message, "a@b.example").code == 250
    assert server.mails()[-1].data == message.wire("a@b.example")[:-3]


@pytest.mark.parametrize("rule", [{"level": "encrypt", "mode": "observe"}, {"level": "encrypt", "percent": "0"}],
                         ids=["observe", "percent-0"])
def test_observe_decides_counts_and_does_nothing(lab, both, rule):
    both.rules(count=True, default=rule)
    assert how(lab, PLAIN) == "clear"
    both.counted(clear=1)
    destination, = (d for d in both.counters()["destinations"] if d["name"] == both.scope)
    assert destination["would.defer"] == 1


def test_nearest_rule_wins(lab, xdp):
    xdp.rules(default=MAY, domain__exact_org=ENCRYPT, **{"domain___parent_org": {"level": "block"}},
              domain__lax_parent_org={"level": "none"}, provider__plain=xdp.provider("encrypt", PLAIN))
    assert how(lab, PLAIN, "anything.else") == "451 4.7.4"  # the provider's
    assert how(lab, TLS, "anything.else") == "tls"          # *
    assert how(lab, TLS, "sub.parent.org") == "451 4.7.1"
    assert how(lab, TLS, "parent.org") == "tls"             # .parent.org is what is below it
    xdp.rules(default=MAY, domain__exact_org=ENCRYPT)
    assert how(lab, PLAIN, "exact.org") == "451 4.7.4"
    assert how(lab, PLAIN, "Exact.ORG") == "451 4.7.4"
    assert how(lab, PLAIN, "notexact.org") == "clear"


@pytest.mark.alone
def test_redis_cli_is_obeyed_within_a_second(lab, both):
    both.rules(default=MAY, domain__edit_example=ENCRYPT)
    redis_cli = ["redis-cli", "-s", str(both.redis_socket), "HSET", "waxseal:policy:edit.example", "level"]
    for level, accepted in (("may", True), ("encrypt", False), ("may", True)):
        subprocess.run([*redis_cli, level], check=True, stdout=subprocess.DEVNULL)
        start = time.monotonic()

        def holds(want=accepted):
            with Dialogue(lab.client, ipv4("server", PLAIN)) as client:
                client.ehlo()
                client.command("MAIL FROM:<a@b.example>")
                reply = client.command("RCPT TO:<c@edit.example>")
                client.quit()
                return (reply.code == 250) == want
        wait_for(f"{level} in force", holds, 5, 0.001)
        assert time.monotonic() - start < 1.0


def test_enforcement_outlives_redis_and_agent(lab, both):
    both.rules(default=ENCRYPT)
    for process in (both.agent, both.redis_server):
        process.kill()
        process.wait()
    try:
        assert how(lab, PLAIN) == "451 4.7.4"
        assert how(lab, TLS) == "tls"
        both.stop()
        both.start()
        assert how(lab, PLAIN) == "451 4.7.4"
        assert how(lab, TLS, "example.org", ipv6) == "tls"
    finally:
        both.start_control()


def test_a_rule_from_a_text_file(lab, xdp, tmp_path):
    """Without Redis: `waxseal policy compile` writes the image that waxseald picks up."""
    rules = tmp_path / "rules"
    rules.write_text("* level=block on_fail=reject\n")
    xdp.agent.terminate()
    xdp.agent.wait(10)
    try:
        xdp.command("policy", "compile", str(rules))
        wait_for("the image in force", lambda: how(lab, TLS) == "554 5.7.1")
    finally:
        xdp.start_agent()
        xdp.rules(default=MAY)
