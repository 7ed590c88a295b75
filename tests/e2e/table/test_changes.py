"""What changes in the DNS and at the web while rules stand: keys roll over, policies get another id, servers fail."""
import contextlib
import dataclasses

import pytest

from lab.ca import tlsa
from lab.dialogue import Dialogue
from lab.lab import WEB, server_context
from lab.mta import Message, wait_for
from lab.namespaces import ipv4
from lab.sink import Behaviour, Sink
from lab.sts import Site, policy

KNOWN_SECONDS = 30  # TTL, what unbound keeps, and what the agent's own ttl_min_s adds
SLOW_SECONDS = 75


@dataclasses.dataclass
class Domain:
    """A domain of its own with one server, whose certificate can be changed, beside the rows'."""
    scene: object
    name: str
    number: int
    sink: Sink

    @property
    def host(self):
        return f"mx.{self.name}"

    def show(self, certificate):
        self.sink.behaviour.context = server_context(self.scene.pairs[certificate])

    def tlsa(self, *certificates):
        zones = self.scene.lab.zones
        zones.put(f"_25._tcp.{self.host}", "TLSA", *(tlsa(self.scene.pairs[one], 3, 1, 1) for one in certificates))
        zones.publish()
        wanted = {tlsa(self.scene.pairs[one], 3, 1, 1).split()[-1] for one in certificates}
        self.known(lambda told: {digest for digest in told.get("tlsa", "").replace(",", "-").split("-") if len(digest) == 64} == wanted)

    def known(self, condition):
        """Waits until the agent knows so much, and the image too."""
        appliance = self.scene.appliance

        def told():
            return appliance.client.hgetall(f"waxseal:discovered:{self.name}")
        wait_for(lambda: f"the agent knows of {self.name} only {told()}", lambda: condition(told()), KNOWN_SECONDS, 0.05)
        generation = appliance.client.incr("waxseal:generation")
        wait_for("an image with that", lambda: appliance.status()["waxseald"]["generation"] >= generation, 10, 0.02)

    def send(self):
        """"tls", "clear", or the code of the refusal."""
        message = Message(200)
        with Dialogue(self.scene.lab.client, ipv4("server", self.number)) as client:
            client.ehlo()
            reply = client.mail(message, f"{message.name}@{self.name}")
            with contextlib.suppress(OSError, EOFError):
                client.quit()
        if reply.code >= 400:
            return reply.text[:9]
        mail, = self.sink.find(f"<{message.name}@")
        return "tls" if mail.tls else "clear"


@pytest.fixture
def domain(scene, request):
    """A domain named after the test, with a server at the first address below the rows'."""
    name, number = request.node.name.removeprefix("test_").replace("_", "-") + ".sec", 50
    with Sink(scene.lab.server, [ipv4("server", number)], Behaviour(hostname=f"mx.{name}", context=server_context(scene.pairs["good"]))) as sink:
        made = Domain(scene, name, number, sink)
        zones = scene.lab.zones
        zones.put(name, "MX", f"10 mx.{name}.")
        zones.put(f"mx.{name}", "A", ipv4("server", number))
        yield made
        scene.appliance.client.delete(f"waxseal:policy:{name}")


def rule(domain, **attributes):
    domain.scene.appliance.client.hset(f"waxseal:policy:{domain.name}", mapping=attributes)


def test_rollover(domain):
    """RFC 7671, section 8.1: the new record is there before the new key is, and the old one goes after it."""
    rule(domain, level="dane")
    domain.tlsa("good")
    assert domain.send() == "tls"
    domain.tlsa("good", "second")
    assert domain.send() == "tls"
    domain.show("second")
    assert domain.send() == "tls"
    domain.tlsa("second")
    assert domain.send() == "tls"
    domain.show("good")
    assert domain.send() == "451 4.7.5"


def test_sts_changes(domain):
    """Another id brings another policy; a policy in force outlives a web server that fails, and a record that is gone."""
    scene, zones, host = domain.scene, domain.scene.lab.zones, f"mta-sts.{domain.name}"
    site = scene.web.sites[host] = Site(policy("enforce", f"mx.{domain.name}"))
    zones.put(host, "A", ipv4("server", WEB))
    zones.put(f"_mta-sts.{domain.name}", "TXT", '"v=STSv1; id=1;"')
    zones.publish()
    domain.show("untrusted")
    rule(domain, owner="table")
    domain.known(lambda told: told.get("sts_id") == "1")
    assert domain.send() == "451 4.7.5"
    site.status = 500
    zones.put(f"_mta-sts.{domain.name}", "TXT", '"v=STSv1; id=2;"')
    zones.publish()
    domain.known(lambda told: told.get("sts") == "sts-policy-fetch-error")
    assert domain.send() == "451 4.7.5"
    zones.take(f"_mta-sts.{domain.name}", "TXT")
    zones.publish()
    domain.known(lambda told: told.get("sts") == "none")
    assert domain.send() == "451 4.7.5"
    site.status, site.text = 200, policy("none")
    zones.put(f"_mta-sts.{domain.name}", "TXT", '"v=STSv1; id=3;"')
    zones.publish()
    domain.known(lambda told: told.get("sts_id") == "3")
    assert domain.send() == "clear"


def test_a_slow_web_server_is_given_up(scene):
    """RFC 8461, section 3.3: a minute. The row's own session did not wait for it."""
    wait_for("the minute to be over", lambda: scene.appliance.client.hget("waxseal:discovered:sts-slow.sec", "sts") == "sts-policy-fetch-error",
             SLOW_SECONDS, 0.5)
    assert "time" in scene.appliance.client.hget("waxseal:discovered:sts-slow.sec", "sts_error").lower()
