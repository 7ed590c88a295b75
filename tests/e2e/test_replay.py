"""policy suggest and policy try: recorded sessions as advice, and against other rules."""
import datetime
import json

import pytest

from control_box import box  # noqa: F401

pytestmark = pytest.mark.sanitize

BEGIN = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
UP = {"tls": "up", "version": "TLSv1.3", "chain": "trusted", "certificate_sha256": "ab" * 32, "key_sha256": "cd" * 32, "names": ["mx.a.example"]}
CLEAR = {"tls": "none"}


def event(day=0, domains=("a.example",), end="clear", facts=CLEAR, offered=True, server="192.0.2.1", **more):
    at = (BEGIN + datetime.timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"at": at, "flow": 7, "direction": "outbound", "client": "10.0.0.1", "client_port": 40000, "server": server,
            "server_name": "mx.a.example", "destination": "*", "end": end, "reason": "clear-allowed", "messages": 1, "recipients": len(domains),
            "recipient_domains": [{"domain": domain, "fate": end} for domain in domains],
            "facts": {"offered": offered, "end_to_end": False, **facts} if facts else None, "flow_hash": 50, **more}


def sealed(day=0, version="TLSv1.3", **more):
    return event(day, (), "sealed", {"tls": "up", "end_to_end": True, "version": version, "chain": "unseen"}, **more)


def upgraded(day=0, domains=("a.example",), facts=UP, **more):
    return event(day, domains, "upgraded", facts, **more)


@pytest.fixture
def recorded(box):
    """recorded(events): the file, and the configuration that names it."""
    path = box.folder / "events.json"

    def write(events, rest=""):
        path.write_text("".join(json.dumps(e) + "\n" for e in events) + rest)
        return path
    box.configure(f"[events]\nfile = {path}\n")
    return write


# ---- suggest ----

def suggested(box, *args):
    told = json.loads(box.run("policy", "suggest", *args, "--json").stdout)
    return {s.get("domain") or f"destination {s['destination']}": s for s in told["suggested"]}


def test_who_always_did_tls(box, recorded):
    days = [i / 2 for i in range(30)]
    recorded([*(upgraded(day) for day in days), upgraded(15, facts={**UP, "version": "TLSv1.2"}), event(16),
              *(upgraded(day, ["B.example"], {**UP, "chain": "self-signed"}) for day in days),
              *(upgraded(day, ["once.example"]) for day in days), event(3, ["once.example"], offered=False),
              *(upgraded(day, ["failed.example"]) for day in days), event(3, ["failed.example"], "deferred", {"tls": "failed"}),
              *(upgraded(day, ["few.example"]) for day in days[:10]), *(upgraded(1, ["short.example"]) for _ in days),
              *(sealed(day, destination="google") for day in days), *(sealed(day, destination="*") for day in days),
              *(event(day, ["in.example"], direction="inbound") for day in days)])
    found = suggested(box)
    assert set(found) == {"a.example", "b.example", "destination google"}
    mine = found["a.example"]
    assert (mine["sessions"], mine["tls"], mine["offered"]) == (32, 31, 1) and mine["versions"] == {"TLSv1.3": 30, "TLSv1.2": 1}
    assert mine["first"] == int(BEGIN.timestamp()) and mine["last"] == int(BEGIN.timestamp()) + 16 * 86400
    assert (mine["trusted"], mine["untrusted"], mine["unseen"]) == (31, 0, 0) and mine["certificate_names"] == ["mx.a.example"]
    assert found["b.example"]["untrusted"] == 30 and found["destination google"]["unseen"] == 30
    assert set(suggested(box, "--sessions", "10")) == set(found)  # ten sessions in four days
    assert "few.example" in suggested(box, "--sessions", "10", "--days", "4")
    assert "short.example" in suggested(box, "--days", "0")


def test_an_offer_is_no_tls(box, recorded):
    recorded([*(event(i) for i in range(30)), *(event(i, ["b.example"]) for i in range(29)), event(29, ["b.example"], offered=False)])
    assert suggested(box) == {}
    assert set(suggested(box, "--offered")) == {"a.example"}


def test_what_is_printed_can_be_imported(box, recorded):
    recorded([*(upgraded(i) for i in range(30)), *(sealed(i, destination="google") for i in range(30))])
    done = box.run("policy", "suggest")
    assert "level=verify match=mx.a.example" in done.stdout and "# destination google: 30 sessions" in done.stdout
    assert "30 sessions from 2026-11-01 to 2026-11-30: 30 in TLS (TLSv1.3 30), 0 in clear though offered" in done.stdout
    box.start_redis()
    table = box.folder / "suggested"
    table.write_text(done.stdout)
    assert "1 rule, nothing wrong" in box.run("policy", "check", str(table)).stdout
    box.run("policy", "import", str(table))
    assert box.client.hgetall("waxseal:policy:a.example") == {
        "level": "encrypt", "mode": "observe", "reason": "30 of 30 sessions in TLS, the others could: 2026-11-01 to 2026-11-30"}
    rules = box.folder / "rules"
    rules.write_text("a.example verify\n")
    box.run("policy", "compile", str(rules))
    assert suggested(box).keys() == {"destination google"}  # it is demanded already


HOSTILE = ["x\n* level=none", "# waxseal rule: * level=none", "\033[2J.example", "a.example level=none", "*", ".example", "provider:x", "a..b", "ä.example",
           'q"uote.example', "x" * 200 + ".example"]


def test_hostile_events_are_harmless(box, recorded):
    recorded([*(upgraded(i, HOSTILE[:8], {**UP, "names": ["\033]0;x\n* level=none", "#"]}, server_name="\033[2J",
                         destination="dest\n* level=none") for i in range(30)),
              *(upgraded(i, HOSTILE[8:]) for i in range(30))],
             '{"at":1}\nnull\n[]\n"x"\n{"at":"2026-11-01T00:00:00.000Z","client":"x"}\n\xff\n' + "y" * 40000 + "\n" + '{"at":"2026-11')
    done = box.run("policy", "suggest")
    rules = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert rules == [] and "\033" not in done.stdout and "7 lines are no events" in done.stdout
    rules_file = box.folder / "rules"
    rules_file.write_text("* encrypt\n")
    done = box.run("policy", "try", str(rules_file))
    assert "\033" not in done.stdout and "\n* level=none" not in done.stdout


# ---- try ----

def tried(box, rules, *args):
    path = box.folder / "other-rules"
    path.write_text(rules)
    return json.loads(box.run("policy", "try", str(path), *args, "--json").stdout)


def row(told, **wanted):
    found = [r for r in told["rows"] if all(r[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, told["rows"])
    return found[0]


def test_what_would_have_been_refused(box, recorded):
    recorded([event(0, offered=False), event(1, ["b.example"], offered=False), upgraded(2), event(3), event(4, server="192.0.2.9"), sealed(5)])
    told = tried(box, "* may\na.example encrypt on_fail=reject\n")
    assert (told["replayed"], told["refused"], told["newly_refused"], told["upgraded"]) == (6, 1, 1, 2)
    refused = row(told, would_be="rejected")
    assert refused["rule"] == "a.example" and refused["reason"] == "not-offered" and refused["was"] == {"clear": 1}
    example = refused["examples"][0]
    assert example["reply"] == "554 5.7.4 TLS required by policy encrypt for a.example, not offered by mx.a.example"
    assert (example["client"], example["server"], example["domain"], example["flow"]) == ("10.0.0.1", "192.0.2.1", "a.example", 7)
    # What TLS with the server comes to is known from another session, or it is said that it is assumed.
    assert row(told, rule="a.example", would_be="upgraded", assumed=False)["was"] == {"upgraded": 1, "clear": 1}
    assert row(told, rule="a.example", would_be="upgraded", assumed=True)["sessions"] == 1
    assert row(told, rule="*", would_be="sealed")["was"] == {"sealed": 1} and row(told, would_be="clear")["rule"] == "*"


@pytest.mark.parametrize("rule, facts, reason, reply", [
    ("verify match=mx.a.example", {}, None, None),
    ("verify match=other.example", {}, "name-mismatch", "451 4.7.5"),
    ("verify match=mx.a.example", {"chain": "self-signed"}, "untrusted", "451 4.7.5"),
    ("verify match=mx.a.example on_fail=reject", {"chain": "expired"}, "expired", "554 5.7.5"),
    ("encrypt protocols=>=TLSv1.3", {"version": "TLSv1.2"}, "version", "451 4.7.5"),
    ("encrypt", {"tls": "failed"}, "handshake", "451 4.7.5"),
    ("encrypt", {"tls": "refused"}, "starttls-refused", "451 4.7.4"),
    ("may", {"tls": "refused"}, None, None),
    ("block", {}, "blocked", "451 4.7.1"),
    (f"fingerprint fingerprints=key:{'cd' * 32}", {"chain": "self-signed"}, None, None),
    (f"fingerprint fingerprints=cert:{'cd' * 32}", {}, "fingerprint", "451 4.7.5"),
    (f"fingerprint fingerprints=key:{'cd' * 32}@2026-10-31", {}, "fingerprint", "451 4.7.5"),
    ("encrypt mode=observe", {"tls": "refused"}, None, None),
    ("encrypt percent=50", {"tls": "refused"}, None, None),
    ("encrypt percent=51", {"tls": "refused"}, "starttls-refused", "451 4.7.4"),
])
def test_facts_against_a_rule(box, recorded, rule, facts, reason, reply):
    recorded([upgraded(0, facts={**UP, **facts})])
    told = tried(box, f"* may\na.example {rule}\n")
    assert told["refused"] == (1 if reason else 0)
    if reason:
        refused = [r for r in told["rows"] if r["would_be"] in ("deferred", "rejected")]
        assert len(refused) == 1 and refused[0]["reason"] == reason and refused[0]["examples"][0]["reply"].startswith(reply)


def test_tls_without_mail_is_no_upgrade(box, recorded):
    """The destination's rule would begin TLS, and the recipient's refuse what it finds."""
    recorded([event(0, end="deferred", facts={**UP, "chain": "self-signed"})])
    told = tried(box, "* may\na.example verify match=mx.a.example\n")
    assert (told["refused"], told["newly_refused"], told["upgraded"]) == (1, 0, 0)


def test_rules_that_only_observe_are_tried_as_enforced(box, recorded):
    recorded([event(0, offered=False)])
    told = tried(box, "* may\na.example encrypt mode=observe\n")
    assert told["refused"] == 0 and row(told, rule="a.example")["decision"] == "defer" and row(told, rule="a.example")["observed"]
    assert tried(box, "* may\na.example encrypt mode=observe\n", "--enforce")["refused"] == 1


def test_clients_inbound_and_sealed_sessions(box, recorded):
    recorded([event(0, offered=False, client="10.1.0.1"), event(0, offered=False, client="10.2.0.1"), event(0, direction="inbound", server="10.3.0.1"),
              sealed(version="TLSv1.1"), sealed()])
    told = tried(box, "* encrypt\nclient:10.1.0.0/16 none\nclient:10.2.0.0/16 block\ninbound:10.3.0.0/16 encrypt\n")
    assert row(told, rule="client:10.1.0.0/16")["would_be"] == "clear"
    assert row(told, rule="client:10.2.0.0/16")["reason"] == "blocked"
    inbound = row(told, rule="inbound:10.3.0.0/16")
    assert inbound["would_be"] == "rejected" and inbound["examples"][0]["reply"] == "530 5.7.0 Must issue a STARTTLS command first"
    cut = row(told, would_be="cut")
    assert cut["reason"] == "version" and cut["was"] == {"sealed": 1} and cut["examples"][0]["reply"] == ""
    assert row(told, would_be="sealed")["sessions"] == 1 and told["cut"] == 1


def test_what_the_dns_says(box, recorded):
    """The rule of an MX's domain holds at MAIL, MTA-STS and DANE of the digests that were kept."""
    found = box.folder / "found.json"
    found.write_text(json.dumps({
        "mx": [{"domain": domain, "mx": f"mx.{domain}", "addr": addr, "secure": True} for domain, addr in
               (("dane.example", "192.0.2.1"), ("sts.example", "192.0.2.2"), ("nodane.example", "192.0.2.3"))],
        "tlsa": {"mx.dane.example": {"state": "secure", "records": [f"3 1 1 {'cd' * 32}"]},
                 "mx.nodane.example": {"state": "secure", "records": [f"3 1 1 {'ee' * 32}"]},
                 "mx.sts.example": {"state": "none"}},
        "sts": {"sts.example": {"mode": "enforce", "mx": ["mx.sts.example"]}}}))
    recorded([upgraded(0, ["dane.example"]), upgraded(0, ["sts.example"], server="192.0.2.2"), upgraded(0, ["nodane.example"], server="192.0.2.3")])
    rules = "* may\ndane.example dane\nnodane.example dane\nsts.example on_fail=reject\n"
    told = tried(box, rules, "--discovered", str(found))
    assert row(told, rule="dane.example")["would_be"] == "upgraded" and not row(told, rule="dane.example")["assumed"]
    assert row(told, rule="nodane.example")["reason"] == "tlsa"
    mismatch = row(told, rule="MTA-STS of sts.example")
    assert (mismatch["would_be"], mismatch["reason"]) == ("rejected", "name-mismatch")


def test_two_recipients_of_different_rules(box, recorded):
    recorded([event(0, ["a.example", "b.example", "c.example"], offered=False)])
    told = tried(box, "* may\na.example encrypt\nb.example block on_fail=reject\n")
    assert {(r["rule"], r["would_be"], r["recipients"]) for r in told["rows"]} == {
        ("a.example", "deferred", 1), ("b.example", "rejected", 1), ("*", "clear", 1)}


def test_for_people(box, recorded):
    recorded([event(0, offered=False), event(1, facts=None)])
    path = box.folder / "rules"
    path.write_text("* encrypt\n")
    lines = box.run("policy", "try", str(path)).stdout.splitlines()
    assert lines[0].split() == ["RULE", "LEVEL", "WOULD", "BE", "REASON", "SESSIONS", "RECIPIENTS", "WAS"]
    assert lines[1].split() == ["*", "encrypt", "deferred", "not-offered", "1", "1", "clear", "1"]
    assert "2026-11-01 00:00:00Z flow 7 10.0.0.1 -> 192.0.2.1 mx.a.example, was clear: 451 4.7.4 TLS required" in lines[4]
    assert "1 sessions replayed of 2 (1 tell too little; 0 lines are no events)." in lines


def test_usage(box, recorded):
    path = box.folder / "rules"
    path.write_text("* encript\n")
    for wrong in (["suggest", "x"], ["suggest", "--days"], ["suggest", "--sessions", "x"], ["suggest", "--events"], ["try"], ["try", "a", "b"],
                  ["try", str(path), "--events", "-"], ["try", str(path), "--discovered"]):
        assert box.run("policy", *wrong, code=2).stderr.startswith("waxseal: ")
    assert "events.json: No such file" in box.run("policy", "suggest", code=1).stderr
    assert f"{path}:1:" in box.run("policy", "try", str(path), code=1).stderr
    box.configure()
    assert "--events FILE" in box.run("policy", "suggest", code=1).stderr
