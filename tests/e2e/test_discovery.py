"""MX and addresses of rules' domains in the image, by the agent against a DNS server of the test's own."""
import ipaddress
import json
import pathlib
import struct
import time

import pytest

from control_box import box, until  # noqa: F401
from dns_server import MUTE, REFUSED, SERVFAIL, Dns

pytestmark = pytest.mark.sanitize


def image_places(path):
    """{"10.0.0.1/32": (destination, rule, server name)}, straight from the file (dataplane/policy/image.h)."""
    data = pathlib.Path(path).read_bytes()
    sections = [struct.unpack_from("<QII", data, 64 + 16 * i) for i in range(7)]
    strings, rules, _, _, destinations, prefix4, prefix6 = sections

    def text(offset):
        at = strings[0] + offset
        return data[at:data.index(b"\0", at)].decode()

    def destination(index):
        name, rule, _, servername = struct.unpack_from("<IIII", data, destinations[0] + index * destinations[2])
        return text(name), text(struct.unpack_from("<I", data, rules[0] + rule * rules[2])[0]), text(servername)

    found = {}
    for i in range(prefix4[1]):
        addr, _, index, length = struct.unpack_from("<IIIB", data, prefix4[0] + i * prefix4[2])
        found[f"{ipaddress.IPv4Address(addr)}/{length}"] = destination(index)
    for i in range(prefix6[1]):
        addr, _, index, length = struct.unpack_from("<16sIIB", data, prefix6[0] + i * prefix6[2])
        found[f"{ipaddress.IPv6Address(addr)}/{length}"] = destination(index)
    return found


@pytest.fixture
def dns():
    server = Dns()
    yield server
    server.close()


@pytest.fixture
def found(box, dns):
    """With Redis, and an agent that asks the test's server; its TTLs may be short."""
    box.dns_lines = f"servers = 127.0.0.1@{dns.port}\nttl_min_s = 1\nkeep_s = 600\ntimeout_s = 2\n"
    box.configure()
    box.start_redis()
    box.places = lambda: image_places(box.image)
    box.place = lambda addr: box.places().get(f"{addr}/{32 if '.' in addr else 128}")
    box.dns = lambda: box.agent_json()["dns"]
    box.rule = lambda key, **attributes: box.client.hset(f"waxseal:{key}", mapping=attributes)
    return box


def test_mx_with_several_addresses(found, dns):
    dns.set("one.test", "MX", "10 MX1.one.test.", "20 mx2.one.test.")
    dns.set("mx1.one.test", "A", "10.77.1.1", "10.77.1.2")
    dns.set("mx1.one.test", "AAAA", "fd77::1")
    dns.set("mx2.one.test", "A", "10.77.1.3")
    found.rule("policy:one.test", level="encrypt")
    found.start_agent()
    expected = {"10.77.1.1/32": ("one.test", "one.test", "mx1.one.test"), "10.77.1.2/32": ("one.test", "one.test", "mx1.one.test"),
                "fd77::1/128": ("one.test", "one.test", "mx1.one.test"), "10.77.1.3/32": ("one.test", "one.test", "mx2.one.test")}
    until("all of its addresses", lambda: found.places() == expected)
    until("the hash", lambda: found.client.hget("waxseal:discovered:one.test", "time"))
    told = found.client.hgetall("waxseal:discovered:one.test")
    assert told["mx"] == "mx1.one.test mx2.one.test" and told["error"] == "" and told["ttl"] == "1"
    assert told["addresses"] == "mx1.one.test=10.77.1.1,10.77.1.2,fd77::1 mx2.one.test=10.77.1.3"
    assert abs(int(told["time"]) - time.time()) < 10 and 0 < found.client.ttl("waxseal:discovered:one.test") <= 600


def test_implicit_null_and_no_mx(found, dns):
    dns.set("implicit.test", "A", "10.77.2.1")
    dns.set("null.test", "MX", "0 .")
    dns.set("null.test", "A", "10.77.2.2")
    dns.set("alias.test", "CNAME", "real.test.")
    dns.set("real.test", "MX", "10 mx.alias.test.")
    dns.set("mx.alias.test", "CNAME", "host.real.test.")
    dns.set("host.real.test", "A", "10.77.2.3")
    dns.set("nowhere.test", "MX", "10 mx.nowhere.test.")
    for name in ("implicit", "null", "alias", "nxdomain", "nowhere"):
        found.rule(f"policy:{name}.test", level="encrypt")
    found.start_agent()
    until("both that there are", lambda: found.places() == {
        "10.77.2.1/32": ("implicit.test", "implicit.test", "implicit.test"),
        "10.77.2.3/32": ("alias.test", "alias.test", "mx.alias.test")})
    until("all were asked", lambda: found.client.exists(*[f"waxseal:discovered:{n}.test" for n in ("null", "nxdomain", "nowhere")]) == 3)
    assert found.client.hget("waxseal:discovered:null.test", "mx") == "."
    assert found.client.hget("waxseal:discovered:nxdomain.test", "mx") == ""
    assert found.dns()["failing"] == 0


@pytest.mark.alone
def test_changes_and_negative_answers_arrive(found, dns):
    dns.set("move.test", "MX", "10 mx.move.test.")
    dns.set("mx.move.test", "A", "10.77.3.1")
    found.rule("policy:move.test", level="encrypt")
    found.start_agent()
    until("the first address", lambda: found.place("10.77.3.1"))
    dns.set("mx.move.test", "A", "10.77.3.2")
    assert until("the second", lambda: found.place("10.77.3.2")) < 4  # the TTL, the resolver's whole seconds, the image
    assert not found.place("10.77.3.1")
    dns.unset("move.test")
    until("nothing: NXDOMAIN is an answer", lambda: not found.places())
    found.client.delete("waxseal:policy:move.test")
    until("the rule is gone", lambda: found.level("move.test") is None)
    asked = len(dns.asked)
    time.sleep(2.5)
    assert len(dns.asked) == asked


@pytest.mark.alone
def test_an_answer_is_in_the_image_within_a_second(found, dns):
    found.start_agent()
    dns.set("mx.fresh.test", "A", "10.77.4.1")
    dns.set("fresh.test", "MX", "10 mx.fresh.test.")
    found.rule("policy:fresh.test", level="verify")
    assert until("its address", lambda: found.place("10.77.4.1")) < 1.0


def test_failures_touch_only_their_own_name(found, dns):
    for i, name in enumerate(("servfail", "refused", "mute", "good")):
        dns.set(f"{name}.test", "MX", f"10 mx.{name}.test.")
        dns.set(f"mx.{name}.test", "A", f"10.77.5.{i}")
        found.rule(f"policy:{name}.test", level="encrypt")
    dns.set("half.test", "MX", "10 a.half.test.", "20 b.half.test.")
    dns.set("a.half.test", "A", "10.77.5.20")
    dns.set("b.half.test", "A", "10.77.5.21")
    found.rule("policy:half.test", level="encrypt")
    found.start_agent()
    until("all of them", lambda: len(found.places()) == 6)
    for name, fate in (("servfail", SERVFAIL), ("refused", REFUSED), ("mute", MUTE)):
        dns.set(f"{name}.test", "MX", fate)
    dns.set("b.half.test", "A", SERVFAIL)
    dns.set("a.half.test", "A", "10.77.5.22")
    dns.set("mx.good.test", "A", "10.77.5.99")
    until("the good one's new address", lambda: found.place("10.77.5.99"))
    until("the half one's, too", lambda: found.place("10.77.5.22"))
    until("all failures are known", lambda: found.dns()["failing"] == 4)
    for last in (0, 1, 2, 21):
        assert found.place(f"10.77.5.{last}"), found.places()
    for name, why in (("servfail", "SERVFAIL"), ("refused", ""), ("mute", "mute.test: "), ("half", "b.half.test: SERVFAIL")):
        until("why, in Redis", lambda: why in (found.client.hget(f"waxseal:discovered:{name}.test", "error") or "") != "")
    assert found.client.hget("waxseal:discovered:good.test", "error") == ""
    dns.set("servfail.test", "MX", "10 mx.good.test.")
    until("it heals", lambda: not found.place("10.77.5.0"))


def test_dns_gone_and_restart(found, dns):
    dns.set("keep.test", "MX", "10 mx.keep.test.")
    dns.set("mx.keep.test", "A", "10.77.6.1")
    found.rule("policy:keep.test", level="encrypt")
    found.start_agent()
    until("its address", lambda: found.place("10.77.6.1"))
    dns.gone = True
    until("the failure is seen", lambda: found.dns()["failing"] == 1)
    assert found.place("10.77.6.1")
    found.stop_agent()
    found.stop_redis()
    found.image.unlink()
    found.start_agent(live=False)
    until("the address, without DNS and Redis", lambda: found.place("10.77.6.1") == ("keep.test", "keep.test", "mx.keep.test"))
    assert found.level("keep.test") == "encrypt"
    found.start_redis()
    found.rule("policy:keep.test", level="encrypt")
    found.rule("policy:new.test", level="encrypt")
    until("a rule, with the DNS still gone", lambda: found.level("new.test") == "encrypt")
    assert found.place("10.77.6.1")


def test_kept_no_longer_than_told(found, dns):
    found.dns_lines = found.dns_lines.replace("keep_s = 600", "keep_s = 3")
    found.configure()
    dns.set("old.test", "MX", "10 mx.old.test.")
    dns.set("mx.old.test", "A", "10.77.7.1")
    found.rule("policy:old.test", level="encrypt")
    found.start_agent()
    until("its address", lambda: found.place("10.77.7.1"))
    dns.set("old.test", "MX", SERVFAIL)
    until("it is too old", lambda: not found.places())
    assert found.level("old.test") == "encrypt"


def test_providers(found, dns):
    """Nets first, then who lists the domain; two of them are told; a stranger gives a provider's address no name."""
    dns.set("listed.test", "MX", "10 mx.big.test.")
    dns.set("mx.big.test", "A", "10.77.8.1", "10.78.0.1", "10.79.0.1")
    dns.set("other.test", "MX", "10 mx.other.test.")
    dns.set("mx.other.test", "A", "10.77.8.1", "10.78.0.2")
    dns.set("guest.test", "MX", "10 liar.guest.test.")
    dns.set("liar.guest.test", "A", "10.78.0.1", "10.79.0.9")
    found.rule("provider:big", level="encrypt", domains="listed.test", nets="10.78.0.0/16")
    found.rule("provider:alpha", level="may", domains="other.test")
    found.rule("policy:guest.test", level="block")
    found.start_agent()
    until("all", lambda: found.places() == {
        "10.78.0.0/16": ("big", "big", ""),
        "10.77.8.1/32": ("alpha", "alpha", "mx.other.test"),
        "10.78.0.1/32": ("big", "big", "mx.big.test"),
        "10.79.0.1/32": ("big", "big", "mx.big.test"),
        "10.79.0.9/32": ("liar.guest.test", "*", "liar.guest.test")})
    until("the tie is told", lambda: found.dns()["ties"] == 1)
    assert "10.77.8.1/32: MX of domains of provider:alpha and of provider:big" in found.dns()["tie"]
    assert "provider:alpha and of provider:big" in found.log.read_text()


def test_shared_hosting_is_left_to_the_recipient(found, dns):
    dns.set("strict.test", "MX", "10 mx.strict.test.")
    dns.set("mild.test", "MX", "10 mx.strict.test.")
    dns.set("mx.strict.test", "A", "10.77.9.1")
    for name in ("a", "b"):
        dns.set(f"tenant-{name}.test", "MX", "10 mx.hoster.test.")
    dns.set("mx.hoster.test", "A", "10.77.9.2")
    dns.set("nexthop.test", "A", "10.77.9.3")
    dns.set("none.test", "A", "10.77.9.4")
    found.rule("policy:strict.test", level="verify")
    found.rule("policy:tenant-a.test", level="encrypt")
    found.rule("policy:tenant-b.test", level="encrypt")
    found.rule("policy:nexthop.test", level="secure")
    found.rule("policy:none.test", level="none")
    found.start_agent()
    until("alone behind its own server", lambda: found.place("10.77.9.1") == ("strict.test", "strict.test", "mx.strict.test"))
    until("a hoster's server keeps the rule of *", lambda: found.place("10.77.9.2") == ("mx.hoster.test", "*", "mx.hoster.test"))
    until("neither does what cannot decide at MAIL", lambda: found.place("10.77.9.3") == ("nexthop.test", "*", "nexthop.test"))
    until("nor what would close the eyes", lambda: found.place("10.77.9.4") == ("none.test", "*", "none.test"))
    found.rule("policy:mild.test", level="may")
    until("shared", lambda: found.place("10.77.9.1") == ("mx.strict.test", "*", "mx.strict.test"))
    found.rule("policy:mild.test", level="verify", owner="somebody else")
    until("alike", lambda: found.place("10.77.9.1") == ("strict.test", "strict.test", "mx.strict.test"))


def test_hostile_answers(found, dns):
    secret = b"\x1b[2J private text of somebody"
    dns.set("many.test", "MX", *[f"{i} mx{i:03}.many.test." for i in range(300)])
    for i in range(300):
        dns.set(f"mx{i:03}.many.test", "A", *[f"10.80.{i % 256}.{j}" for j in range(1, 5)])
    dns.set("wide.test", "A", *[f"10.81.{j // 200}.{j % 200 + 1}" for j in range(1000)])
    dns.set("odd.test", "MX", "10 ok.odd.test.", struct.pack("!HB", 5, len(secret)) + secret + b"\4test\0",
            struct.pack("!HB", 6, 7) + b"dot.dot\4test\0", "1 .")
    dns.set("ok.odd.test", "A", "10.82.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.1.1")
    dns.set("ok.odd.test", "AAAA", "::1", "::", "ff02::1", "fe80::1", "::ffff:10.82.0.9", "fd77::82")
    dns.set("loop.test", "CNAME", "loop.test.")
    for name in ("many", "wide", "odd", "loop"):
        found.rule(f"policy:{name}.test", level="encrypt")
    found.start_agent()
    until("the good ones", lambda: found.place("10.82.0.1") and found.place("fd77::82"))
    until("as many MX as the limit lets in", lambda: sum(p.startswith("10.80.") for p in found.places()) == 16 * 4)
    until("and addresses", lambda: sum(p.startswith("10.81.") for p in found.places()) == 32)
    assert sum(p.startswith("10.82.") or ":" in p for p in found.places()) == 2
    assert set(p for p in found.places() if p.startswith("10.81.")) == {f"10.81.0.{j}/32" for j in range(1, 33)}
    until("counted", lambda: found.dns()["ignored"] > 300 - 16)
    image = found.image.read_bytes()
    for path in (found.image, found.state, found.log, found.folder / "rules.json"):
        assert b"private text" not in path.read_bytes(), path
    assert "private" not in str(found.client.hgetall("waxseal:discovered:odd.test")) and b"dot.dot" not in image


def test_explain_and_status(found, dns):
    dns.set("say.test", "MX", "10 mx1.say.test.", "20 mx2.say.test.")
    dns.set("mx1.say.test", "A", "10.77.11.1")
    dns.set("mx2.say.test", "AAAA", "fd77::11")
    dns.set("null.test", "MX", "0 .")
    found.rule("policy:say.test", level="encrypt")
    found.rule("policy:null.test", level="encrypt")
    found.start_agent()
    until("its addresses", lambda: found.place("fd77::11"))
    until("both hashes", lambda: found.client.exists("waxseal:discovered:say.test", "waxseal:discovered:null.test") == 2)
    text = found.run("explain", "user@say.test").stdout
    assert "Mail for say.test goes to: mx1.say.test mx2.say.test; the DNS said so " in text and "(Redis)" in text
    assert ["10.77.11.1", "mx1.say.test"] in [line.split() for line in text.splitlines()]
    assert "takes none (MX 0 .)" in found.run("explain", "null.test").stdout
    assert "is not known" in found.run("explain", "else.test").stdout
    text = found.run("explain", "10.77.11.1").stdout
    assert "for SNI and for match=hostname: mx1.say.test" in text and "destination say.test has 10.77.11.1/32" in text
    told = json.loads(found.run("explain", "say.test", "fd77::11", "--json").stdout)
    assert told["server"] == "mx2.say.test" and told["discovered"]["addresses"] == "mx1.say.test=10.77.11.1 mx2.say.test=fd77::11"
    until("status", lambda: found.dns()["resolved"] == 1 and found.dns()["addresses"] == 2)
    assert "dns       2 domains, 1 with servers, 0 failing; 2 addresses in the image" in found.run("status", code=1).stdout
    dns.set("say.test", "MX", SERVFAIL)
    until("it fails", lambda: found.client.hget("waxseal:discovered:say.test", "error"))
    assert "what was known is kept: say.test: SERVFAIL" in found.run("explain", "say.test").stdout
    found.stop_redis()
    until("what the agent keeps itself", lambda: "rules.json)" in found.run("explain", "say.test").stdout)
    assert "goes to: mx1.say.test mx2.say.test" in found.run("explain", "say.test").stdout


def test_a_burst_makes_few_images(found, dns):
    for i in range(300):
        dns.set(f"d{i}.test", "MX", f"10 mx.d{i}.test.")
        dns.set(f"mx.d{i}.test", "A", f"10.83.{i // 250}.{i % 250 + 1}")
    dns.ttl = 300
    with found.client.pipeline() as pipe:
        for i in range(300):
            pipe.hset(f"waxseal:policy:d{i}.test", "level", "encrypt")
        pipe.execute()
    found.start_agent()
    until("all addresses", lambda: len(found.places()) == 300)
    assert found.agent_json()["counts"]["images"] <= 40
    until("each was asked once", lambda: found.dns()["questions"] == 900)


def test_a_redis_that_takes_no_writes_stops_nothing(found, dns):
    dns.set("ro.test", "A", "10.77.10.1")
    found.rule("policy:ro.test", level="encrypt")
    found.client.execute_command("ACL", "SETUSER", "default", "-hset")
    found.start_agent()
    until("the address", lambda: found.place("10.77.10.1"))
    until("the refusal is told", lambda: "hset" in found.agent_json()["redis"]["write_error"].lower())
    assert found.redis_state() == "live"


def test_no_resolver_stops_nothing(found):
    found.dns_lines = f"servers = {found.folder}/resolv.conf\nttl_min_s = 1\n"
    found.configure()
    found.rule("policy:any.test", level="encrypt")
    found.start_agent()
    until("the rule", lambda: found.level("any.test") == "encrypt")
    until("why", lambda: "resolv.conf" in found.dns()["error"] and found.dns()["failing"] == 1)
    found.conf.write_text(found.conf.read_text().replace("ttl_min_s = 1", "ttl_min_s = 0"))
    assert json.loads(found.state.read_text())["running"]
    assert "[dns] ttl_min_s = 0: not a number of seconds from 1" in found.run("policy", "list", code=1).stderr
