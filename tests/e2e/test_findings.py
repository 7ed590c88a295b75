"""What the agent finds out: TLSA, MTA-STS, postures of servers, where STARTTLS was seen; by the lab's signed DNS and servers.

Agent, DNS, HTTPS and mail servers stand in one network namespace, where all of 10.77.0.0/16 is local.
"""
import json
import os
import ssl
import time
import warnings

import pytest

from control_box import Appliance, until
from lab.ca import Authority, pin, tlsa
from lab.namespaces import Namespace, run
from lab.sink import Behaviour, Sink, server_context
from lab.sts import Site, Web, policy
from lab.zones import Zones

pytestmark = pytest.mark.sanitize
AUTHORITY, RESOLVER, WEB = "10.77.0.1", "10.77.0.2", "10.77.0.3"


class Place:
    """The namespace with what all tests of this file share."""

    def __init__(self, folder):
        self.namespace = Namespace(f"fnd{os.getpid()}")
        run("ip", "netns", "add", self.namespace.name)
        self.namespace.run("ip", "link", "set", "lo", "up")
        self.namespace.run("ip", "address", "add", "10.77.0.1/16", "dev", "lo")
        self.ca = Authority(folder / "ca")
        self.zones = Zones(self.namespace, folder / "zones", AUTHORITY, RESOLVER)
        self.zones.publish()
        self.open = []
        self.number = 0

    def address(self):
        self.number += 1
        return f"10.77.{1 + self.number // 250}.{1 + self.number % 250}"

    def server(self, name, domain, pair=None, records=(), tls=None, **behaviour):
        """A mail server, the only MX of the domain; returns its address."""
        address = self.address()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old versions are the matter
            context = server_context(pair, **(tls or {})) if pair else None
        behaviour.setdefault("starttls", "offer" if pair else "none")
        self.open.append(Sink(self.namespace, [address], Behaviour(hostname=name, context=context, **behaviour)))
        self.zones.put(domain, "MX", f"10 {name}.")
        self.zones.put(name, "A", address)
        if records:
            self.zones.put(f"_25._tcp.{name}", "TLSA", *records)
        return address

    def close(self):
        for one in self.open:
            one.close()
        self.zones.close()
        run("ip", "netns", "del", self.namespace.name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("place"))
    yield made
    made.close()


def make_box(folder, place, socket=None, extra=""):
    box = Appliance(folder)
    if socket:
        box.redis_lines = f"address = unix:{socket}\n"
    box.events = folder / "events.json"
    box.dns_lines = (f"servers = {RESOLVER}\ntrust_anchor = {place.zones.anchor}\nttl_min_s = 1\ntimeout_s = 3\n"
                     f"[tls]\nca_file = {place.ca.file}\n[events]\nfile = {box.events}\n[probe]\ninterval_s = 2\ntimeout_s = 2\n{extra}")
    box.configure()
    box.rule = lambda key, **attributes: box.client.hset(f"waxseal:{key}", mapping=attributes)
    box.found = lambda domain: box.client.hgetall(f"waxseal:discovered:{domain}")
    box.posture = lambda address: box.client.hgetall(f"waxseal:posture:{address}")

    def start(**options):
        with place.namespace.entered():
            return Appliance.start_agent(box, **options)
    box.start_agent = start
    return box


@pytest.fixture
def box(tmp_path, place):
    made = make_box(tmp_path, place)
    made.start_redis()
    yield made
    made.close()


def state_of(box, domain, mx):
    """The state and the records that Redis has of one MX."""
    found = dict(one.split("=", 1) for one in box.found(domain).get("tlsa", "").split())
    state, *records = found.get(mx, "unasked@0").split(",")
    return state.split("@")[0], records


def test_tlsa(box, place):
    zones, record = place.zones, "3 1 1 " + "AB" * 32
    as_told = "3-1-1-" + "ab" * 32
    for zone in ("sec", "ins", "bogus"):
        place.server(f"mx.t.{zone}", f"t.{zone}", records=[record])
    place.server("mx.none.sec", "none.sec")
    zones.put("alias.sec", "MX", "10 a.alias.sec.")
    zones.put("a.alias.sec", "CNAME", "mx.t.sec.")
    zones.put("mixed.ins", "MX", "10 mx.t.sec.")  # an insecure MX may lead to a secure host
    zones.put("mixed.sec", "MX", "10 mx.t.ins.")
    zones.publish()
    for domain in ("t.sec", "t.ins", "t.bogus", "none.sec", "alias.sec", "mixed.ins", "mixed.sec"):
        box.rule(f"policy:{domain}", level="dane")
    box.start_agent()
    for domain, mx, expected, mx_secure in (
            ("t.sec", "mx.t.sec", ("secure", [as_told]), "1"), ("t.ins", "mx.t.ins", ("none-insecure", []), "0"),
            ("none.sec", "mx.none.sec", ("none", []), "1"), ("alias.sec", "a.alias.sec", ("secure", [as_told]), "1"),
            ("mixed.ins", "mx.t.sec", ("secure", [as_told]), "0"), ("mixed.sec", "mx.t.ins", ("none-insecure", []), "1")):
        until(f"{domain}: {box.found(domain)}", lambda d=domain, m=mx, e=expected: state_of(box, d, m) == e)
        assert box.found(domain)["mx_secure"] == mx_secure, domain
    until("the bogus one failed, alone", lambda: "DNSSEC" in box.found("t.bogus").get("error", ""))
    until("counted", lambda: box.agent_json()["dns"]["failing"] == 1)
    new = "3 1 1 " + "CD" * 32
    zones.put("_25._tcp.mx.t.sec", "TLSA", record, new)
    zones.publish()
    until("a rollover", lambda: len(state_of(box, "t.sec", "mx.t.sec")[1]) == 2)
    zones.take("_25._tcp.mx.t.sec", "TLSA")
    zones.publish()
    until("they went", lambda: state_of(box, "t.sec", "mx.t.sec") == ("none", []))


def test_tlsa_known_last_survives_the_dns(box, place):
    zones = place.zones
    place.server("mx.keep.sec", "keep.sec", records=["3 1 1 " + "AB" * 32])
    zones.publish()
    box.rule("policy:keep.sec", level="dane-only")
    box.start_agent()
    until("known", lambda: state_of(box, "keep.sec", "mx.keep.sec")[0] == "secure")
    box.stop_agent()
    box.dns_lines = box.dns_lines.replace(RESOLVER, "10.77.0.99")  # nobody
    box.configure()
    box.client.flushall()
    box.rule("policy:keep.sec", level="dane-only")
    box.start_agent()
    until("told from memory", lambda: state_of(box, "keep.sec", "mx.keep.sec") == ("secure", ["3-1-1-" + "ab" * 32]))
    until("the failure, too", lambda: box.found("keep.sec").get("error"))


def test_postures(box, place):
    ca = place.ca
    good = ca.certificate("good", "mx.good.sec", "*.other.example")
    rows = {
        "good.sec": ({"pair": good}, {"starttls": "1", "version": "TLSv1.3", "chain": "trusted", "names": "mx.good.sec *.other.example", "error": "",
                                      "cert": pin(good, "certificate").rpartition(":")[2].lower(), "dane": "none", "mx": "mx.good.sec"}),
        "self.sec": ({"pair": ca.self_signed("self", "mx.self.sec")}, {"chain": "self-signed", "version": "TLSv1.3"}),
        "old.sec": ({"pair": ca.expired("old", "mx.old.sec")}, {"chain": "expired", "not_after": "1580515200"}),
        "match.sec": ({"pair": good, "records": [tlsa(good, 3, 1, 1)]}, {"dane": "matched", "chain": "trusted"}),
        "differs.sec": ({"pair": good, "records": ["3 1 1 " + "00" * 32]}, {"dane": "no-match"}),
        "clear.sec": ({"starttls": "none"}, {"starttls": "0", "version": "", "error": "STARTTLS is not offered"}),
        "no.sec": ({"starttls": "454"}, {"starttls": "1", "version": "", "error": "STARTTLS is answered 454"}),
        "absurd.sec": ({"starttls": "absurd"}, {"starttls": "1", "version": "", "chain": ""}),
        "hangup.sec": ({"starttls": "hangup"}, {"starttls": "1", "version": ""}),
        "helo.sec": ({"helo_only": True}, {"starttls": "0", "error": "EHLO is answered 502"}),
        "slow.sec": ({"delay": 5}, {"starttls": "", "error": "no answer in time"}),
    }
    addresses = {domain: place.server(f"mx.{domain}", domain, **options) for domain, (options, _) in rows.items()}
    place.zones.put("dead.sec", "A", addresses.setdefault("dead.sec", place.address()))
    rows["dead.sec"] = ({}, {"starttls": "", "error": "cannot connect: Connection refused"})
    place.zones.publish()
    for domain in rows:
        box.rule(f"policy:{domain}", level="dane" if domain in ("match.sec", "differs.sec") else "verify")
    box.rule("policy:unasked.sec", level="encrypt")
    box.start_agent()
    for domain, (_, expected) in rows.items():
        def matches(domain=domain, expected=expected):
            posture = box.posture(addresses[domain])
            return posture and all(posture[name] == value for name, value in expected.items())
        until(f"{domain}: {expected}", matches)
    assert abs(int(box.posture(addresses["good.sec"])["time"]) - time.time()) < 10
    assert 0 < box.client.ttl(f"waxseal:posture:{addresses['good.sec']}") <= 604800
    had = [domain for domain in rows if rows[domain][1].get("version") or "chain" in rows[domain][1] and rows[domain][1]["chain"]]
    until("seen where TLS was had", lambda: {box.client.hget(f"waxseal:seen:{addresses[d]}", "how") for d in had} == {"probe"})
    for domain in ("clear.sec", "no.sec", "absurd.sec", "hangup.sec"):  # an offer alone is nothing to miss
        assert not box.client.exists(f"waxseal:seen:{addresses[domain]}"), domain
    probes = box.agent_json()["dns"]["probes"]
    assert probes["addresses"] == len(rows) and probes["failed"] > 0 and probes["left_out"] == 0, probes
    with place.namespace.entered():
        shown = box.run("probe", "match.sec").stdout.splitlines()[1].split()
        assert shown[:4] == [addresses["match.sec"], "mx.match.sec", "TLSv1.3", "trusted"] and shown[5] == "matched", shown
        told = json.loads(box.run("probe", "old.sec", "--json").stdout)
        assert told[0]["chain"] == "expired" and told[0]["not_after"] == "1580515200"
        assert "STARTTLS is not offered" in box.run("probe", "mx.clear.sec", addresses["clear.sec"], code=1).stdout
        assert "no answer in time" in box.run("probe", "slow.sec", code=1).stdout
    place.zones.put("_25._tcp.mx.good.sec", "TLSA", tlsa(good, 3, 0, 1))
    place.zones.publish()
    until("other records, another look", lambda: box.posture(addresses["good.sec"])["dane"] == "matched")


def test_probe_finds_the_servers_of_a_domain_without_a_rule(box, place):
    """MX, addresses and TLSA by the DNS, where neither Redis nor the agent's memory has them; and it says which it was."""
    zones, ca = place.zones, place.ca
    names = [f"mx.{d}" for d in ("own.sec", "own.ins", "other.own.sec", "real.own.sec")] + ["apex.sec"]
    pair = ca.certificate("own", *names)
    record = tlsa(pair, 3, 1, 1)
    text = record.replace(" ", "-").lower()
    addresses = {d: place.server(f"mx.{d}", d, pair, records=[record]) for d in ("own.sec", "own.ins")}
    place.server("mx.real.own.sec", "real.own.sec", pair, records=[record])
    zones.put("own.sec", "MX", "10 mx.own.sec.", "20 mx.other.own.sec.")
    addresses["other"] = place.server("mx.other.own.sec", "other.own.sec", pair)
    zones.put("aka.sec", "MX", "10 aka.own.sec.")
    zones.put("aka.own.sec", "CNAME", "mx.real.own.sec.")
    zones.put("apex.sec", "A", place.server("apex.sec", "x.apex.sec", pair))
    zones.put("null.sec", "MX", "0 .")
    zones.put("broken.bogus", "MX", "10 mx.own.sec.")
    zones.publish()
    fresh = [(domain, "MX") for domain in ("own.sec", "own.ins", "aka.sec", "null.sec")] + [("apex.sec", "A"), ("mx.other.own.sec", "A")]
    fresh += [(f"mx.{domain}", "A") for domain in ("own.sec", "own.ins", "real.own.sec")]
    fresh += [(f"_25._tcp.{name}", "TLSA") for name in ("mx.own.sec", "mx.real.own.sec")]
    until("the resolver holds no older no", lambda: all(zones.ask(*one) for one in fresh))

    def probe(domain, code=0):
        with place.namespace.entered():
            text = box.run("probe", domain, code=code)
            return text.stdout or text.stderr, json.loads(box.run("probe", domain, "--json").stdout) if not code else None

    page, rows = probe("OWN.sec.")
    assert [(row["address"], row["mx"], row["dane"]) for row in rows] == [
        (addresses["own.sec"], "mx.own.sec", "matched"), (addresses["other"], "mx.other.own.sec", "none")]
    assert {row["servers_from"] for row in rows} == {row["tlsa_from"] for row in rows} == {"DNS now"}
    assert "Servers of own.sec: DNS now, 0 s ago, validated by DNSSEC. TLSA records: DNS now." in page, page
    assert f"TLSA of mx.own.sec: secure, 0 s ago: {text}." in page and "TLSA of mx.other.own.sec: none, 0 s ago." in page, page
    page, rows = probe("own.ins")
    assert rows[0]["dane"] == "none" and "not validated by DNSSEC" in page and "TLSA of mx.own.ins: none-insecure" in page, page
    assert [row["dane"] for row in probe("aka.sec")[1]] == ["matched"]
    assert [row["mx"] for row in probe("apex.sec")[1]] == ["apex.sec"]
    assert "null.sec: it takes no mail (MX 0 .)" in probe("null.sec", 1)[0]
    assert "DNSSEC validation failed" in probe("broken.bogus", 1)[0]
    assert "the DNS has no address of a mail server of it" in probe("nobody.sec", 1)[0]
    box.rule("policy:own.sec", level="encrypt")
    box.start_agent()
    until("the agent knows", lambda: state_of(box, "own.sec", "mx.own.sec")[0] == "secure")
    box.stop_agent()
    page, rows = probe("own.sec")
    assert rows[0]["servers_from"] == rows[0]["tlsa_from"] == "Redis" and rows[0]["dane"] == "matched"
    box.client.hset("waxseal:discovered:own.sec", mapping={"tlsa": "mx.own.sec=unasked@0 mx.other.own.sec=none@5"})
    page, rows = probe("own.sec")
    assert rows[0]["servers_from"] == "Redis" and rows[0]["tlsa_from"] == "DNS now" and rows[0]["dane"] == "matched", page
    assert [row["dane"] for row in rows] == ["matched", "none"]
    box.stop_redis()
    assert probe("own.ins")[1][0]["servers_from"] == "DNS now"
    page, rows = probe("own.sec")
    assert rows[0]["servers_from"] == str(box.folder / "rules.json") and rows[0]["tlsa_from"] == "DNS now", page


def test_probe_says_what_it_leaves_out(box, place):
    """A domain with more addresses than are looked at is not said to be well, or to be looked at."""
    def probe(count):
        addresses = ",".join(f"127.9.0.{n}" for n in range(1, count + 1))
        box.client.hset("waxseal:discovered:many.sec", mapping={"addresses": f"mx.many.sec={addresses}", "tlsa": "mx.many.sec=none@5", "time": "5"})
        with place.namespace.entered():
            return box.run("probe", "many.sec", code=1), box.run("probe", "many.sec", "--json", code=1)
    for done in probe(64):
        assert "looked at" not in done.stderr and "127.9.0.64" in done.stdout, done
    page, told = probe(67)
    assert "many.sec: 3 of its 67 addresses are not looked at (64 at most); waxseal probe many.sec ADDRESS looks at one" in page.stderr, page
    assert "127.9.0.65" not in page.stdout and len(json.loads(told.stdout)) == 64 and "3 of its 67" in told.stderr


OLD = {"ciphers": "ALL:@SECLEVEL=0"}
VERSIONS = {  # domain: (what its server takes, the answers for TLS 1.0 to 1.3)
    "modern.sec": ({}, "refused refused taken taken"),
    "lax.sec": ({**OLD, "oldest": ssl.TLSVersion.TLSv1}, "taken taken taken taken"),
    "middle.sec": ({"only": ssl.TLSVersion.TLSv1_2}, "refused refused taken refused"),
    "ancient.sec": ({**OLD, "only": ssl.TLSVersion.TLSv1_1}, "refused taken refused refused"),
}


def answers(versions):
    return " ".join(one.partition("=")[2].partition("@")[0] for one in versions.split())


def test_versions(box, place):
    """All that a server takes, with no more than one connection beside each look."""
    pair = place.ca.certificate("versions", *(f"mx.{domain}" for domain in VERSIONS))
    addresses, sinks = {}, {}
    for domain, (tls, _) in VERSIONS.items():
        addresses[domain] = place.server(f"mx.{domain}", domain, pair, tls=tls)
        sinks[domain] = place.open[-1]
    place.zones.publish()
    for domain in VERSIONS:
        box.rule(f"policy:{domain}", level="verify", protocols=">=TLSv1")
    box.start_agent()
    for domain, (_, expected) in VERSIONS.items():
        until(f"{domain}: {expected}: {box.posture(addresses[domain])}",
              lambda d=domain, e=expected: answers(box.posture(addresses[d]).get("versions", "")) == e, 40)
    counts = lambda: box.agent_json()["dns"]["probes"]  # noqa: E731
    until("three of those that have 1.3, two and one of the others", lambda: counts()["versions_asked"] == 9)
    looks = counts()["started"]
    until("two more looks at each", lambda: counts()["started"] >= looks + 8)
    assert counts()["versions_asked"] == 9, "an answer holds for a day"
    posture = box.posture(addresses["modern.sec"])
    assert posture["version"] == "TLSv1.3" and all(0 <= time.time() - int(at.partition("@")[2]) < 60 for at in posture["versions"].split())
    box.stop_agent()
    asked = {domain: len(sink.sessions) for domain, sink in sinks.items()}
    with place.namespace.entered():
        shown = {domain: box.run("probe", domain).stdout.splitlines() for domain in VERSIONS}
        told = json.loads(box.run("probe", "modern.sec", "--json").stdout)[0]
    assert answers(told["versions"]) == VERSIONS["modern.sec"][1]
    assert len(sinks["lax.sec"].sessions) == asked["lax.sec"] + 4 and len(sinks["ancient.sec"].sessions) == asked["ancient.sec"] + 2

    def cell(domain, heading):
        at, follows = shown[domain][0].index(heading), {"TAKES": "REFUSES", "REFUSES": "NOT TRIED"}[heading]
        return shown[domain][1][at:shown[domain][0].index(follows)].strip()
    assert [cell(domain, "TAKES") for domain in VERSIONS] == ["1.2 1.3", "1.0 1.1 1.2 1.3", "1.2", "1.1"], shown
    assert [cell(domain, "REFUSES") for domain in VERSIONS] == ["1.0 1.1", "-", "1.0 1.1 1.3", "1.0 1.2 1.3"], shown


def test_versions_are_not_asked_for_where_nobody_wants_it(box, place):
    box.dns_lines = box.dns_lines.replace("interval_s", "versions = no\ninterval_s")
    box.configure()
    address = place.server("mx.shy.sec", "shy.sec", place.ca.certificate("shy", "mx.shy.sec"))
    place.zones.publish()
    box.rule("policy:shy.sec", level="verify")
    box.start_agent()
    until("two looks", lambda: box.agent_json()["dns"]["probes"]["reached"] >= 2)
    assert answers(box.posture(address)["versions"]) == "untried untried untried taken"
    assert box.agent_json()["dns"]["probes"]["versions_asked"] == 0


def test_a_posture_is_kept_while_the_server_is_gone(box, place):
    pair = place.ca.certificate("gone", "mx.gone.sec")
    address = place.server("mx.gone.sec", "gone.sec", pair)
    place.zones.publish()
    box.rule("policy:gone.sec", level="encrypt", e2e="probe")
    box.start_agent()
    until("a posture", lambda: box.posture(address).get("chain") == "trusted")
    sink = place.open.pop()
    sink.close()
    until("it is gone", lambda: "cannot connect" in box.posture(address)["error"])
    assert box.posture(address)["chain"] == "trusted"
    box.stop_agent()
    memory = json.loads((box.folder / "rules.json").read_text())
    assert memory["posture"][address]["chain"] == "trusted" and address in memory["sightings"]["seen"]


def event(server, end, direction="outbound"):
    at = time.strftime("%Y-%m-%dT%H:%M:%S.123Z", time.gmtime())
    return json.dumps({"at": at, "direction": direction, "server": server, "end": end}) + "\n"


def seen(box):
    return {key.partition("seen:")[2] for key in box.client.scan_iter("waxseal:seen:*")}


def test_sessions_are_seen_through_rotation_truncation_and_restart(box):
    box.rule("policy:*", level="may")
    box.start_agent()
    box.events.write_text(event("10.77.50.1", "sealed") + event("10.77.50.2", "upgraded") + event("10.77.50.3", "clear") + "nonsense\n{\n"
                          + event("127.0.0.1", "sealed") + event("10.77.50.4", "sealed", "inbound"))
    until("two", lambda: seen(box) == {"10.77.50.1", "10.77.50.2"})
    first = box.client.hgetall("waxseal:seen:10.77.50.1")
    assert first["how"] == "session" and first["by"] == box.folder.name[:60] and abs(int(first["time"]) - time.time()) < 10
    box.events.rename(box.folder / "events.1")
    with (box.folder / "events.1").open("a") as old:  # waxseald has it open for a while yet
        old.write(event("10.77.50.5", "sealed"))
    box.events.write_text(event("10.77.50.6", "sealed"))
    until("both files", lambda: {"10.77.50.5", "10.77.50.6"} <= seen(box))
    box.events.write_text("")
    until("read to its end", lambda: box.agent_json()["dns"]["seen"]["events"] >= 9)
    time.sleep(1.2)  # a tick of the agent's over the empty file
    box.events.write_text(event("10.77.50.7", "sealed"))
    until("after a truncation", lambda: "10.77.50.7" in seen(box))
    box.stop_agent()
    with box.events.open("a") as grown:
        grown.write(event("10.77.50.8", "upgraded"))
    box.client.flushall()
    box.rule("policy:*", level="may")
    box.start_agent()
    until("what came while it was away", lambda: "10.77.50.8" in seen(box))
    until("and an empty Redis is told all of it", lambda: len(seen(box)) == 6)
    assert box.agent_json()["dns"]["seen"]["events"] == 1, "it went on where it was"


def test_seen_by_another_appliance(box, place, tmp_path):
    box.rule("policy:*", level="may")
    box.events.write_text(event("10.77.51.1", "sealed"))
    box.start_agent()
    until("told", lambda: seen(box) == {"10.77.51.1"})
    box.client.hset("waxseal:seen:10.77.51.2", mapping={"time": int(time.time()) - 5, "how": "session", "by": "x"})
    box.client.hset("waxseal:seen:nonsense", mapping={"time": "1"})
    box.client.hset("waxseal:seen:10.77.51.3", mapping={"time": "a lie"})
    box.client.set("waxseal:seen:10.77.51.4", "of another type")
    (tmp_path / "two").mkdir()
    other = make_box(tmp_path / "two", place, box.socket)
    try:
        other.start_agent()
        until("both addresses", lambda: other.agent_json()["dns"]["seen"]["addresses"] == 2)
    finally:
        other.close()


@pytest.fixture
def web(place):
    other = Authority(place.ca.folder.parent / f"other{place.number}", "nobody knows this CA")
    place.number += 1
    names = [f"mta-sts.{name}.sec" for name in STS_NAMES]
    pairs = {"good": place.ca.certificate(f"web{place.number}", *names), "wrong": place.ca.certificate(f"ww{place.number}", "else.sec"),
             "expired": place.ca.expired(f"we{place.number}", *names), "untrusted": other.certificate("wu", *names)}
    server = Web(place.namespace, WEB, pairs)
    yield server
    server.close()


MX = ("mx.sts.example", "*.sts.example")
STS_ROWS = {  # name: (site, what Redis says, with the mode)
    "enforce": (Site(policy("enforce", *MX)), "ok", "enforce"),
    "testing": (Site(policy("testing", *MX, end="\n")), "ok", "testing"),
    "nothing": (Site(policy("none")), "ok", "none"),
    "redirect": (Site(policy("enforce", *MX), status=301, location="https://mta-sts.enforce.sec/.well-known/mta-sts.txt"), "sts-policy-fetch-error", None),
    "missing": (Site("no", status=404), "sts-policy-fetch-error", None),
    "html": (Site(policy("enforce", *MX), content_type="text/html"), "sts-policy-fetch-error", None),
    "untyped": (Site(policy("enforce", *MX), content_type=""), "sts-policy-fetch-error", None),
    "charset": (Site(policy("enforce", *MX), content_type="text/plain; charset=utf-8"), "ok", "enforce"),
    "long": (Site(policy("enforce", *MX) + "x: y\r\n" * 20000), "sts-policy-fetch-error", None),
    "invalid": (Site("version: STSv1\nmode: enforce\nmax_age: 5\n"), "sts-policy-invalid", None),
    "version": (Site(policy("enforce", *MX, version="STSv2")), "sts-policy-invalid", None),
    "wrong": (Site(policy("enforce", *MX), certificate="wrong"), "sts-webpki-invalid", None),
    "expired": (Site(policy("enforce", *MX), certificate="expired"), "sts-webpki-invalid", None),
    "untrusted": (Site(policy("enforce", *MX), certificate="untrusted"), "sts-webpki-invalid", None),
}
STS_NAMES = [*STS_ROWS, "norecord", "two", "badid", "nohost", "share", "keep"]


def sts_domain(place, web, name, site, identity="1"):
    place.zones.put(f"_mta-sts.{name}.sec", "TXT", f'"v=STSv1; id={identity};"')
    if site:
        place.zones.put(f"mta-sts.{name}.sec", "A", WEB)
        web.sites[f"mta-sts.{name}.sec"] = site


def test_sts_of_every_kind(box, place, web):
    for name, (site, _, _) in STS_ROWS.items():
        sts_domain(place, web, name, site)
    sts_domain(place, web, "nohost", None)
    place.zones.put("_mta-sts.two.sec", "TXT", '"v=STSv1; id=1;"', '"v=STSv1; id=2;"')
    place.zones.put("_mta-sts.badid.sec", "TXT", '"v=STSv1; id=1-2;"', '"v=spf1 -all"')
    place.zones.publish()
    expected = {name: (state, mode) for name, (_, state, mode) in STS_ROWS.items()}
    expected |= {"nohost": ("sts-policy-fetch-error", None), "two": ("none", None), "badid": ("none", None), "norecord": ("none", None)}
    for name in expected:
        box.rule(f"policy:{name}.sec", owner="test")
    box.start_agent()
    for name, (state, mode) in expected.items():
        until(f"{name}: {state} {mode}", lambda n=name, s=state, m=mode: (box.found(f"{n}.sec").get("sts"), box.found(f"{n}.sec").get("sts_mode")) == (s, m))
    told = box.found("enforce.sec")
    assert told["sts_mx"] == "mx.sts.example *.sts.example" and told["sts_max_age"] == "86400" and told["sts_id"] == "1"
    assert STS_ROWS["enforce"][0].asked == 1, "the redirect was not followed, nor the policy fetched again"
    report = lambda: box.agent_json()["dns"]["sts"]  # noqa: E731
    until("counted", lambda: report()["policies"] == 4 and report()["failing"] == 11)


def test_sts_is_shared_and_kept(box, place, web, tmp_path):
    site = Site(policy("enforce", *MX, max_age="20"))
    sts_domain(place, web, "keep", site)
    shared = Site(policy("enforce", *MX))
    sts_domain(place, web, "share", shared)
    place.zones.publish()
    for name in ("keep", "share"):
        box.rule(f"policy:{name}.sec", owner="test")
    box.start_agent()
    until("both", lambda: box.found("share.sec").get("sts_mode") == box.found("keep.sec").get("sts_mode") == "enforce")
    (tmp_path / "two").mkdir()
    other = make_box(tmp_path / "two", place, box.socket)
    try:
        other.start_agent()
        until("taken from Redis", lambda: other.agent_json()["dns"]["sts"]["shared"] >= 1)
        assert shared.asked == 1
    finally:
        other.close()
    site.status = 500
    place.zones.put("_mta-sts.keep.sec", "TXT", '"v=STSv1; id=2;"')
    place.zones.publish()
    until("another id, and no policy", lambda: box.found("keep.sec")["sts"] == "sts-policy-fetch-error")
    assert box.agent_json()["dns"]["sts"]["policies"] == 2, "the old one goes on"
    until("for its max_age", lambda: box.agent_json()["dns"]["sts"]["policies"] == 1)
    site.status = 200
    until("it heals", lambda: box.agent_json()["dns"]["sts"]["policies"] == 2)
    box.stop_agent()
    box.stop_redis()
    shared.status = 500
    box.start_agent(live=False)
    until("a restart remembers it", lambda: box.agent_json()["dns"]["sts"]["policies"] >= 1)
