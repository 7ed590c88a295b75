"""waxseal explain beyond the rules: answers by servers, clients, sessions from outside, failures; and rules that have ended."""
import datetime
import json
import time

import pytest

from control_box import box, live, until, waxseald  # noqa: F401

pytestmark = pytest.mark.sanitize

UP = {"tls": "up", "version": "TLSv1.3", "chain": "trusted", "certificate_sha256": "ab" * 32, "key_sha256": "cd" * 32, "names": ["mx.a.example"]}


def event(minutes=0, domains=("a.example",), end="clear", facts=None, offered=True, server="192.0.2.1", **more):
    at = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"at": at, "flow": 7, "direction": "outbound", "client": "10.0.0.1", "server": server, "server_name": "mx1.a.example", "destination": "*",
            "end": end, "reason": "clear-allowed", "recipient_domains": [{"domain": domain, "fate": end} for domain in domains],
            "facts": {"offered": offered, "end_to_end": False, **(facts or {"tls": "none"})}, "flow_hash": 50, **more}


@pytest.fixture
def explain(box):
    """explain(rules, events, *arguments): what is told."""
    events_file = box.folder / "events.json"
    box.configure(f"[events]\nfile = {events_file}\n")

    def ask(rules, events, *args):
        path = box.folder / "rules.txt"
        path.write_text(rules)
        events_file.write_text("".join(json.dumps(e) + "\n" for e in events))
        box.run("policy", "compile", str(path))
        return json.loads(box.run("explain", *args, "--json").stdout)
    ask.box = box
    return ask


def in_clear(told):
    return told["answers"][0]["in_clear"]


def test_what_nobody_has_seen_is_assumed(explain):
    told = explain("* may\na.example verify match=mx.a.example\n", [], "a.example", "192.0.2.1")
    assert told["answers"][0]["offered"] == "assumed" and in_clear(told)["assumed"] and in_clear(told)["outcome"] == "upgraded"
    page = explain.box.run("explain", "a.example", "192.0.2.1").stdout
    assert "upgraded (assumed)" in page and "nobody has seen what it offers" in page
    assert "No server is known" in explain.box.run("explain", "a.example").stdout


def test_sessions_tell(explain):
    rules = "* may\na.example verify match=mx.a.example\n"
    told = explain(rules, [event(5, facts=UP)], "user@a.example", "192.0.2.1")
    assert in_clear(told)["outcome"] == "upgraded" and not in_clear(told)["assumed"] and told["answers"][0]["offered"] is True
    told = explain(rules, [event(5, facts=UP), event(4, facts={**UP, "chain": "expired"})], "user@a.example", "192.0.2.1")
    assert in_clear(told)["reply"] == ("451 4.7.5 Valid certificate required by policy verify for a.example, expired or not yet valid: "
                                       "that of mx1.a.example")
    assert in_clear(told)["result_type"] == "certificate-expired"
    # The newest counts; one with the domain itself goes before another's.
    told = explain(rules, [event(4, facts={**UP, "chain": "expired"}), event(5, facts=UP), event(1, ["b.example"], facts={**UP, "chain": "invalid"})],
                   "user@a.example", "192.0.2.1")
    assert in_clear(told)["reason"] == "expired"
    told = explain(rules, [event(3, offered=False)], "user@a.example", "192.0.2.1")
    assert in_clear(told)["reply"].startswith("451 4.7.4") and told["answers"][0]["own_tls"]["outcome"] == "sealed"
    # Without an address the servers that the sessions know.
    told = explain(rules, [event(3, offered=False), event(2, server="fd77::9")], "user@a.example")
    assert [server["server"] for server in told["answers"]] == ["192.0.2.1", "fd77::9"]


def test_mode_and_percent(explain):
    told = explain("* may\na.example encrypt mode=observe\n", [event(3, offered=False)], "a.example", "192.0.2.1")
    assert in_clear(told)["outcome"] == "clear" and in_clear(told)["observed"] and in_clear(told)["would"].startswith("451 4.7.4")
    told = explain("* may\na.example encrypt percent=30\n", [event(3, offered=False)], "a.example", "192.0.2.1")
    assert in_clear(told)["outcome"] == "deferred" and in_clear(told)["percent"] == 30
    assert "a.example is enforced for 30 % of the connections" in explain.box.run("explain", "a.example", "192.0.2.1").stdout


def test_clients(explain):
    rules = "* may\na.example encrypt\nclient:10.1.0.0/16 none\nclient:10.2.0.0/16 block on_fail=reject\n"
    events = [event(3, offered=False)]
    told = explain(rules, events, "a.example", "192.0.2.1", "--client", "10.1.2.3")
    assert told["rules"][0]["rule"] == "client:10.1.0.0/16" and [r["wins"] for r in told["rules"]] == [True, False, False]
    assert in_clear(told)["outcome"] == "clear" and in_clear(told)["rule"] == "client:10.1.0.0/16"
    told = explain(rules, events, "a.example", "192.0.2.1", "--client=10.2.2.3")
    assert [r.get("role") for r in told["rules"]] == [None, "beside", None] and told["rules"][0]["wins"]
    assert in_clear(told)["reply"] == "554 5.7.1 Delivery refused by policy block for client:10.2.0.0/16, server mx1.a.example"
    assert "beside  client:10.2.0.0/16" in explain.box.run("explain", "a.example", "192.0.2.1", "--client", "10.2.2.3").stdout
    told = explain(rules, events, "a.example", "192.0.2.1", "--client", "10.3.2.3")
    assert len(told["rules"]) == 2 and in_clear(told)["reply"].startswith("451 4.7.4")


def test_inbound(explain):
    rules = "* may\na.example block\ninbound:a.example encrypt\ninbound:192.0.2.0/24 may\n"
    told = explain(rules, [event(1, direction="inbound", end="rejected", reason="clear-session", rule="inbound:a.example")],
                   "a.example", "192.0.2.1", "--inbound")
    assert [r["rule"] for r in told["rules"]] == ["inbound:a.example", "inbound:192.0.2.0/24", "inbound:*"] and told["rules"][0]["wins"]
    assert in_clear(told)["reply"] == "530 5.7.0 Must issue a STARTTLS command first"
    assert told["answers"][0]["own_tls"]["outcome"] == "sealed" and told["failures"][0]["reason"] == "clear-session"


def test_the_last_failures(explain):
    events = [event(20 - i, end="deferred", reason="not-offered", rule="a.example", detail=f"number {i}", offered=False) for i in range(8)]
    events += [event(1, ["b.example"], end="deferred", reason="handshake"), event(1)]
    told = explain("* may\n", events, "a.example", "192.0.2.1")
    assert [f["detail"] for f in told["failures"]] == [f"number {i}" for i in range(3, 8)]
    page = explain.box.run("explain", "a.example", "192.0.2.1").stdout
    at = page.index("The last refusals:")
    assert page[at:].splitlines()[2].split()[:4] == ["13", "min", "deferred", "not-offered"] and "number 7" in page[at:].splitlines()[2]
    events = [event(1, end="cut", reason="\033[2J\nx", detail="\033]0;pwned\007", server_name="\033[1m")]
    assert "\033" not in explain.box.run("explain", "a.example", "192.0.2.1").stdout
    assert explain("* may\n", events, "a.example", "192.0.2.1")["failures"][0]["detail"] == "?]0;pwned?"


def test_mta_sts_and_dane_in_the_place_of_a_rule(explain):
    found = explain.box.folder / "found.json"
    found.write_text(json.dumps({
        "mx": [{"domain": "s.example", "mx": "mx.s.example", "addr": "192.0.2.1", "secure": True}],
        "tlsa": {"mx.s.example": {"state": "none"}}, "sts": {"s.example": {"mode": "enforce", "mx": ["mx.s.example"]}},
        "probe": {"192.0.2.1": {"at": int(time.time()) - 60, "version": "TLSv1.2", "chain": "self-signed", "names": ["mx.s.example"],
                                "cert": "ab" * 32, "key": "cd" * 32}}, "seen": {"192.0.2.1": int(time.time()) - 120}}))
    rules = explain.box.folder / "rules"
    rules.write_text("* may\ns.example on_fail=reject\n")
    explain.box.run("policy", "compile", str(rules), "--discovered", str(found))
    told = json.loads(explain.box.run("explain", "s.example", "192.0.2.1", "--json").stdout)
    assert told["rules"][0]["rule"] == "MTA-STS of s.example" and told["rules"][0]["wins"]
    answer = told["answers"][0]
    assert answer["mx"] == "mx.s.example" and answer["tlsa"] == "none" and answer["probe"]["chain"] == "self-signed"
    assert answer["in_clear"]["rule"] == "MTA-STS of s.example" and answer["in_clear"]["reply"].startswith("554 5.7.5 Trusted certificate")
    page = explain.box.run("explain", "s.example", "192.0.2.1").stdout
    assert "STARTTLS seen 2 min ago; TLSA none; probed " in page and " ago: TLSv1.2, certificate self-signed." in page


def test_what_the_agent_keeps_in_redis(explain):
    """MX, TLSA, MTA-STS and postures with their ages."""
    box, now = explain.box, int(time.time())
    box.start_redis()
    box.dns_lines = "enabled = yes\n"
    box.configure(f"[events]\nfile = {box.folder}/events.json\n")
    box.client.hset("waxseal:discovered:a.example", mapping={
        "mx": "mx.a.example", "addresses": "mx.a.example=192.0.2.1", "time": now - 180, "ttl": 300,
        "tlsa": f"mx.a.example=secure@{now - 240},3-1-1-ab12", "sts": "sts-policy-fetch-error", "sts_error": "HTTP 404 \033[2J",
        "sts_checked": now - 60, "sts_mode": "enforce", "sts_mx": "mx.a.example *.b.example", "sts_id": "7", "sts_time": now - 7200})
    box.client.hset("waxseal:posture:192.0.2.1", mapping={
        "time": now - 600, "version": "TLSv1.3", "chain": "expired", "not_after": now - 86400, "dane": "matched", "error": "\033]0;x",
        "versions": f"TLSv1=refused@{now - 700} TLSv1.1=untried TLSv1.2=taken@5 odd  "})
    told = explain("* may\na.example encrypt\n", [], "a.example")
    assert told["answers"][0]["server"] == "192.0.2.1" and told["answers"][0]["posture"]["chain"] == "expired"
    page = box.run("explain", "a.example").stdout
    for part in ("Mail for a.example goes to: mx.a.example; the DNS said so 3 min ago (Redis).", "TLSA of mx.a.example: secure, 4 min ago: 3-1-1-ab12.",
                 "MTA-STS: enforce, servers mx.a.example *.b.example, id 7, fetched 2 h ago; last look: sts-policy-fetch-error: HTTP 404 ?[2J, ",
                 "probed 10 min ago: TLSv1.3, TLSv1 refused, TLSv1.1 untried, TLSv1.2 taken, odd, certificate expired, ends since ",
                 ", DANE matched (?]0;x)"):
        assert part in page, page
    assert "\033" not in page


@pytest.mark.alone
def test_a_rule_that_ends_by_itself(waxseald, live):
    """It ends within a second of its time, and says whose it was."""
    live.client.hset("waxseal:policy:later.example", mapping={"level": "may", "expires": int(time.time()) + 86400, "owner": "bob", "reason": "moving"})
    end = int(time.time()) + 3
    live.run("policy", "set", "exception.example", "none", f"expires={end}", "owner=anna", "reason=until the new relay")
    until("the exception holds", lambda: live.level("exception.example") == "none")
    assert json.loads(live.run("explain", "exception.example", "--json").stdout)["not_in_force"] == []
    until("it has ended", lambda: "exception.example" not in live.rules())
    assert end <= time.time() < end + 1
    told = json.loads(live.run("explain", "exception.example", "--json").stdout)
    assert told["rules"][0]["rule"] == "*" and told["not_in_force"][0]["state"] == "expired"
    assert "owner: anna; reason: until the new relay" in told["not_in_force"][0]["why"]
    assert "Not in force: exception.example: ended by itself" in live.run("explain", "exception.example").stdout
    until("the agent tells", lambda: any(rule["over"] for rule in live.agent_json()["expiring"]))
    page = live.run("status").stdout
    assert "! exception.example ended by itself" in page and "owner: anna; reason: until the new relay" in page
    assert "ends      later.example in 23 h" in page and "owner: bob; reason: moving" in page
    live.run("policy", "rm", "exception.example")
    until("nobody speaks of it", lambda: [rule["key"] for rule in live.agent_json()["expiring"]] == ["later.example"])


def test_a_refused_rule_is_told(live):
    live.client.hset("waxseal:policy:first.example", "percent", "many")
    told = json.loads(live.run("explain", "x@first.example", "--json").stdout)
    assert told["not_in_force"][0]["state"] == "refused" and "percent=many" in told["not_in_force"][0]["why"]


def test_usage(box):
    for wrong in (["a.example", "--client"], ["a.example", "--client", "x"], ["--inbound"], ["a.example", "--events"]):
        assert box.run("explain", *wrong, code=2).stderr.count("\n") == 1
