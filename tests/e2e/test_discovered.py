"""What an agent would have found decides: DANE, MTA-STS, probes, stripping. Compiled from a file of findings, so that each
state of the DNS is as it is written here; tests/e2e/table has the real DNS and the real agent."""
import json
import time

import pytest

from lab.ca import tlsa as record
from lab.dialogue import Dialogue, client_context
from lab.lab import EXPIRED, PLAIN, SELF_SIGNED, TLS, WRONG_NAME
from lab.mta import Message, headers, swaks, wait_for
from lab.namespaces import ipv4, ipv6

pytestmark = pytest.mark.sanitize

WRONG_PIN = "3 1 1 " + "ab" * 32


@pytest.fixture(autouse=True)
def servers(lab):
    lab.postfix


@pytest.fixture
def compiled(xdp, tmp_path):
    """compiled(rules, **findings): puts them into force, without an agent."""
    xdp.agent.terminate()
    xdp.agent.wait(10)

    def put(rules, **found):
        (tmp_path / "rules").write_text("\n".join(rules) + "\n")
        (tmp_path / "found").write_text(json.dumps(found))
        before = xdp.status()["waxseald"].get("generation")
        wait_for("another second, which is the generation's number", lambda: int(time.time()) != before)
        made = xdp.command("policy", "compile", str(tmp_path / "rules"), "--discovered", str(tmp_path / "found"))
        generation = int(made.rsplit(" ", 1)[1])
        wait_for("the image in force", lambda: xdp.status()["waxseald"].get("generation") == generation)
    yield put
    xdp.start_agent()
    xdp.rules(default={"level": "may", "mode": "enforce"})


def mx(domain, name, number, secure=True):
    return [{"domain": domain, "mx": name, "addr": address, "preference": 10, "secure": secure}
            for address in (ipv4("server", number), ipv6("server", number))]


def tlsa(*records, state="secure"):
    return {"state": state, "records": list(records)}


def key_record(lab, name):
    return record(lab.certificates[name], 3, 1, 1)


def how(lab, number, domain):
    """"tls", "clear", or the code and the text of the refusal."""
    message = Message()
    code, transcript = swaks(lab.client, ipv4("server", number), message, f"{message.name}@{domain}")
    if code:
        return transcript[transcript.find("<** ") + 4:].splitlines()[0]
    received = headers(lab.postfix.mail.wait(message), "Received")[0]
    return "tls" if "using TLS" in received else "clear"


def reasons(box, name):
    destinations = [d for d in box.counters()["destinations"] if d["name"] == name]
    return {key: value for key, value in (destinations[0] if destinations else {}).items() if key.startswith("reasons.")}


def event_of(box, domain, seconds=10):
    """The last session with a recipient of that domain."""
    def found():
        return [e for e in box.events() if domain in [r["domain"] for r in e.get("recipient_domains", [])]]
    wait_for(f"an event of {domain}", found, seconds)
    return found()[-1]


def test_dane_by_the_state_of_the_dns(lab, xdp, compiled):
    domains = ("good", "bad", "roll", "unusable", "failed", "none", "unasked", "insecure")
    hosts = {f"{d}.mx.lab": d for d in domains}
    compiled([f"{d}.dane dane" for d in domains] + ["* may"],
             mx=[entry for host, d in hosts.items() for entry in mx(f"{d}.dane", host, SELF_SIGNED, d != "insecure")] +
                mx("none.dane", "none.mx.lab", PLAIN) + mx("good.dane", "stripped.mx.lab", PLAIN) + mx("unasked.dane", "x.mx.lab", PLAIN),
             tlsa={"good.mx.lab": tlsa(key_record(lab, "selfsigned")), "bad.mx.lab": tlsa(WRONG_PIN),
                   "roll.mx.lab": tlsa(WRONG_PIN, key_record(lab, "selfsigned")), "unusable.mx.lab": tlsa("1 1 1 " + "ab" * 32),
                   "failed.mx.lab": tlsa(state="failed"), "none.mx.lab": tlsa(state="none"),
                   "stripped.mx.lab": tlsa(WRONG_PIN), "insecure.mx.lab": tlsa(key_record(lab, "selfsigned"))})
    assert how(lab, SELF_SIGNED, "good.dane") == "tls"
    assert how(lab, SELF_SIGNED, "good.dane") == "tls"  # resumed
    assert how(lab, SELF_SIGNED, "roll.dane") == "tls"
    assert how(lab, SELF_SIGNED, "unusable.dane") == "tls"
    assert how(lab, SELF_SIGNED, "none.dane") == "tls"
    assert how(lab, SELF_SIGNED, "insecure.dane") == "tls"
    assert how(lab, PLAIN, "none.dane") == "clear"
    assert how(lab, PLAIN, "good.dane").startswith("451 4.7.4")
    assert how(lab, PLAIN, "unasked.dane").startswith("451 4.7.4")
    assert how(lab, SELF_SIGNED, "bad.dane").startswith("451 4.7.5 Certificate with a TLSA record required by policy dane for bad.dane")
    assert how(lab, SELF_SIGNED, "failed.dane").startswith("451 4.7.5 TLSA records wanted by policy dane for failed.dane")
    assert event_of(xdp, "bad.dane")["result_type"] == "tlsa-invalid"
    assert event_of(xdp, "failed.dane")["result_type"] == "dnssec-invalid"
    assert reasons(xdp, "bad.dane") == {"reasons.tlsa": 1}


def test_dane_only(lab, xdp, compiled):
    compiled(["good.only dane-only", "none.only dane-only on_fail=reject", "insecure.only dane-only", "unusable.only dane-only", "* may"],
             mx=mx("good.only", "good.mx.lab", EXPIRED) + mx("none.only", "none.mx.lab", EXPIRED) + mx("unusable.only", "unusable.mx.lab", EXPIRED) +
                mx("insecure.only", "good.mx.lab", EXPIRED, secure=False),
             tlsa={"good.mx.lab": tlsa(key_record(lab, "expired")), "none.mx.lab": tlsa(state="none"),
                   "unusable.mx.lab": tlsa("0 1 1 " + "ab" * 32)})
    assert how(lab, EXPIRED, "good.only") == "tls"
    assert how(lab, EXPIRED, "none.only").startswith("554 5.7.5 TLSA records required by policy dane-only for none.only")
    assert how(lab, EXPIRED, "insecure.only").startswith("451 4.7.5 TLSA records required")
    assert how(lab, EXPIRED, "unusable.only").startswith("451 4.7.5 Certificate with a TLSA record required")
    assert event_of(xdp, "none.only")["result_type"] == "dane-required"
    assert event_of(xdp, "unusable.only")["result_type"] == "tlsa-invalid"


def test_dane_ta_asks_for_the_name(lab, xdp, compiled):
    anchor = record((lab.ca.file, None), 2, 0, 0)  # it brings the certificate that the server does not show
    compiled(["base.ta dane", "mx.tls.lab dane", "other.ta dane", "* may"],
             mx=mx("base.ta", "mx.tls.lab", TLS) + mx("other.ta", "another.lab", TLS) + mx("mx.tls.lab", "another.lab", TLS),
             tlsa={"mx.tls.lab": tlsa(anchor), "another.lab": tlsa(anchor)})
    assert how(lab, TLS, "base.ta") == "tls"
    assert how(lab, TLS, "mx.tls.lab") == "tls"  # the next-hop domain will do
    assert how(lab, TLS, "other.ta").startswith("451 4.7.5 Certificate with a matching name required")
    assert event_of(xdp, "other.ta")["result_type"] == "certificate-host-mismatch"


def test_domains_of_one_server_in_one_session(lab, xdp, compiled):
    """Each recipient's own rule, MX name and TLSA records count, and an upgraded session serves those that it meets."""
    compiled(["one.pair dane", "two.pair dane", "sts.pair", "foreign.pair", "* may"],
             mx=mx("one.pair", "one.mx.lab", TLS) + mx("two.pair", "two.mx.lab", TLS) + mx("sts.pair", "mx.tls.lab", TLS) +
                mx("foreign.pair", "mx.tls.lab", TLS),
             tlsa={"one.mx.lab": tlsa(key_record(lab, "tls")), "two.mx.lab": tlsa(WRONG_PIN)},
             sts={"sts.pair": {"mode": "enforce", "mx": ["*.tls.lab"]}, "foreign.pair": {"mode": "enforce", "mx": ["mx.elsewhere.lab"]}})
    with Dialogue(lab.client, ipv4("server", TLS)) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@b.example>").code == 250
        assert client.command("RCPT TO:<a@one.pair>").code == 250
        assert client.command("RCPT TO:<a@two.pair>").text.startswith("451 4.7.5 Certificate with a TLSA record required")
        assert client.command("RCPT TO:<a@sts.pair>").code == 250
        refused = client.command("RCPT TO:<a@foreign.pair>")
        assert refused.text.startswith("451 4.7.5 Server refused by MTA-STS for foreign.pair")
        assert client.command("RCPT TO:<a@free.pair>").code == 250
        client.quit()


def test_mta_sts(lab, xdp, compiled):
    policy = {"mode": "enforce", "mx": ["mx.wrongname.lab", "mx.tls.lab", "mx.expired.lab", "*.deep.lab"]}
    compiled(["right.sts", "wrong.sts", "expired.sts", "plain.sts", "testing.sts", "failed.sts", "own.sts may", "x.under.sts", ".under.sts encrypt", "* may"],
             mx=mx("right.sts", "mx.tls.lab", TLS) + mx("wrong.sts", "mx.wrongname.lab", WRONG_NAME) + mx("expired.sts", "mx.expired.lab", EXPIRED) +
                mx("plain.sts", "mx.tls.lab", PLAIN) + mx("testing.sts", "mx.foreign.lab", PLAIN) + mx("own.sts", "mx.foreign.lab", PLAIN),
             sts={"right.sts": policy, "wrong.sts": policy, "expired.sts": policy, "plain.sts": policy, "own.sts": policy,
                  "testing.sts": {**policy, "mode": "testing"}, "x.under.sts": {**policy, "mode": "testing"},
                  "failed.sts": {"mode": "none", "error": "sts-webpki-invalid"}})
    assert how(lab, TLS, "right.sts") == "tls"
    assert how(lab, WRONG_NAME, "wrong.sts").startswith("451 4.7.5 Certificate with a matching name required by MTA-STS for wrong.sts")
    assert how(lab, EXPIRED, "expired.sts").startswith("451 4.7.5 Valid certificate required by MTA-STS for expired.sts")
    assert how(lab, PLAIN, "plain.sts").startswith("451 4.7.4 TLS required by MTA-STS for plain.sts, not offered")
    assert how(lab, PLAIN, "testing.sts") == "clear"
    assert how(lab, PLAIN, "x.under.sts").startswith("451 4.7.4 TLS required by policy encrypt for x.under.sts")
    assert how(lab, PLAIN, "failed.sts") == "clear"
    assert how(lab, PLAIN, "own.sts") == "clear"
    event = event_of(xdp, "wrong.sts")
    assert (event["rule"], event["result_type"]) == ("MTA-STS of wrong.sts", "certificate-host-mismatch")
    assert event_of(xdp, "testing.sts")["recipient_domains"][0]["fate"] == "would-defer"
    assert reasons(xdp, "failed.sts") == {"reasons.sts-webpki": 1}
    assert reasons(xdp, "testing.sts") == {"reasons.sts-mx": 1}


def test_dane_before_mta_sts(lab, xdp, compiled):
    """A server whose records do not match is refused, whatever MTA-STS would say of it; one without records is MTA-STS's."""
    compiled(["both.order", "* may"], mx=mx("both.order", "bound.lab", TLS) + mx("both.order", "mx.wrongname.lab", WRONG_NAME),
             tlsa={"bound.lab": tlsa(WRONG_PIN), "mx.wrongname.lab": tlsa(state="none")},
             sts={"both.order": {"mode": "enforce", "mx": ["bound.lab", "mx.wrongname.lab"]}})
    assert how(lab, TLS, "both.order").startswith("451 4.7.5 Certificate with a TLSA record required by DANE for both.order")
    assert how(lab, WRONG_NAME, "both.order").startswith("451 4.7.5 Certificate with a matching name required by MTA-STS for both.order")


def test_secure_for_all_the_world_waits_for_the_recipient(lab, xdp, compiled):
    compiled(["* secure"])
    assert how(lab, TLS, "tls.lab") == "tls"  # .tls.lab is in the certificate
    assert how(lab, TLS, "other.lab").startswith("451 4.7.5 Certificate with a matching name required by policy secure for other.lab")
    assert how(lab, SELF_SIGNED, "selfsigned.lab").startswith("451 4.7.5 Trusted certificate required")


@pytest.mark.parametrize("protocols, version", [("TLSv1.2", "TLSv1.2"), ("<=TLSv1.2", "TLSv1.2"), (">=TLSv1.2", "TLSv1.3"),
                                                ("!TLSv1:!TLSv1.1", "TLSv1.3"), ("!TLSv1.3", "TLSv1.2")])
def test_versions_as_postfix_names_them(lab, xdp, compiled, protocols, version):
    compiled([f"* encrypt protocols={protocols}"])
    message = Message()
    code, transcript = swaks(lab.client, ipv4("server", TLS), message, f"{message.name}@versions.lab")
    assert code == 0, transcript
    assert f"using {version} " in headers(lab.postfix.mail.wait(message), "Received")[0]


def test_stripping(lab, xdp, compiled):
    seen = {ipv4("server", PLAIN): int(time.time()) - 60, ipv4("server", TLS): int(time.time()) - 60}
    before = xdp.counter("stripped")
    compiled(["* may"], seen=seen)
    assert how(lab, PLAIN, "pass.strip") == "clear"
    assert how(lab, TLS, "pass.strip") == "tls"
    assert xdp.counter("stripped") == before + 1
    compiled(["* may stripped=refuse"], seen=seen)
    assert how(lab, PLAIN, "refuse.strip").startswith("451 4.7.4 TLS required by policy may for all destinations, given before and no longer by ")
    assert xdp.counter("stripped") == before + 2
    wait_for("the events", lambda: [e for e in xdp.events() if e.get("stripped") and e.get("reason") == "stripped"])
    assert event_of(xdp, "pass.strip").get("stripped") is None  # the later one was in TLS
    compiled(["* may stripped=refuse"], seen={ipv4("server", PLAIN): int(time.time()) - 91 * 86400})
    assert how(lab, PLAIN, "old.strip") == "clear"


def sealed(lab, number):
    """Does a session that the client encrypts itself get through?"""
    with Dialogue(lab.client, ipv4("server", number)) as client:
        client.ehlo()
        try:
            client.starttls(client_context(lab.ca.file))
            done = client.command("NOOP").code == 250
            client.quit()
            return done
        except (OSError, EOFError):
            return False


def test_probes_prove_what_the_client_hides(lab, xdp, compiled):
    now, address = int(time.time()), ipv4("server", TLS)
    good = {"at": now - 60, "version": "TLSv1.3", "chain": "trusted", "names": ["mx.tls.lab"]}
    rules = ["* verify match=mx.tls.lab e2e=probe"]
    for probe, passes in ((good, True), ({**good, "at": now - 3 * 86400}, False), ({**good, "names": ["other.lab"]}, False),
                          ({**good, "chain": "self-signed"}, False), ({**good, "version": "none", "chain": "unseen"}, False), (None, False)):
        compiled(rules, probe={address: probe} if probe else {})
        assert sealed(lab, TLS) is passes, probe
    compiled(["* verify match=mx.tls.lab"])
    assert sealed(lab, TLS)
