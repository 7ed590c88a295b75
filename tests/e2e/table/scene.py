"""The table's lab: a server, a domain and a rule for each row, all put up at once, and then one session a row.

Every server stands at an address of its own (10.77.2.51 and up); rows whose dns says `mx=ROW` share that row's. The
rules go to Redis in one transaction, the zones are signed once, and sessions begin when an image with all that the
agent has found out is in force.
"""
import concurrent.futures
import contextlib
import dataclasses
import functools
import ssl
import time
import warnings

from lab.ca import Authority, der, pin, tlsa, with_chain
from lab.dialogue import Dialogue, client_context
from lab.lab import AUTHORITY, RESOLVER, WEB, XDP, server_context
from lab.mta import Message, wait_for
from lab.namespaces import NETS, ipv4, ipv6
from lab.postfix import PostfixServer
from lab.sink import Behaviour, Sink
from lab.sts import Site, Web, policy
from table_rows import ROWS

FIRST = 51             # the first row's server
PARALLEL = 8
DISCOVERY_SECONDS = 120
EVENT_SECONDS = 30
CHANGING = "sts-changes.sec"  # a domain of no row, whose policy changes
CLIENT = 1             # number of the client's address, unless the row says another

# What a row's `server` is: a certificate's name (pairs), or one of these behaviours.
TLS = {"tls1.0": ssl.TLSVersion.TLSv1, "tls1.1": ssl.TLSVersion.TLSv1_1, "tls1.2": ssl.TLSVersion.TLSv1_2,
       "tls1.3": ssl.TLSVersion.TLSv1_3}
WITHOUT_TLS = ("none", "454", "absurd", "garbage", "hangup")
LAX = "lax"            # good, and takes all versions from TLS 1.0 on
WEAK = "weakroot"      # signed with SHA-1
CIPHERS = {"chacha": "ECDHE-ECDSA-CHACHA20-POLY1305"}
SNI = {"sni": "{mx}", "sni-alt": "alt.{d}"}

# What can be wrong with an MTA-STS policy: {word: changes to the Site}; `text` gets the mode and the MX.
STS = {
    "404": {"status": 404}, "500": {"status": 500}, "204": {"status": 204},
    "301": {"status": 301, "location": "https://mta-sts.good.sec/.well-known/mta-sts.txt"},
    "html": {"content_type": "text/html"}, "untyped": {"content_type": ""}, "charset": {"content_type": "text/plain; charset=utf-8"},
    "big": {"text": lambda mode, mx: policy(mode, mx) + "comment: " + "x" * 70000 + "\r\n"},
    "slow": {"delay": 90},
    "wrongname": {"certificate": "wrongname"}, "expired": {"certificate": "expired"}, "selfsigned": {"certificate": "selfsigned"},
    "untrusted": {"certificate": "untrusted"},
    "badsyntax": {"text": lambda mode, mx: "this is not a policy\r\n"},
    "nomode": {"text": lambda mode, mx: f"version: STSv1\r\nmx: {mx}\r\nmax_age: 86400\r\n"},
    "nomx": {"text": lambda mode, mx: policy(mode)},
    "noage": {"text": lambda mode, mx: f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\n"},
    "badage": {"text": lambda mode, mx: policy(mode, mx, max_age="a day")},
    "hugeage": {"text": lambda mode, mx: policy(mode, mx, max_age="99999999999")},
    "version2": {"text": lambda mode, mx: policy(mode, mx, version="STSv2")},
    "lf": {"text": lambda mode, mx: policy(mode, mx, end="\n")},
    "extra": {"text": lambda mode, mx: policy(mode, mx) + "future: yes\r\n"},
    "othermx": {"text": lambda mode, mx: policy(mode, "mx.elsewhere.sec")},
    "wildmx": {"text": lambda mode, mx: policy(mode, "*." + mx.partition(".")[2])},
}
TXT = {"txt=two": ('"v=STSv1; id=1;"', '"v=STSv1; id=2;"'), "txt=noid": ('"v=STSv1;"',), "txt=v2": ('"v=STSv2; id=1;"',),
       "txt=other": ('"v=spf1 -all"', '"v=STSv1; id=1"'), "txt=badid": ('"v=STSv1; id=not-alphanumeric;"',)}


@dataclasses.dataclass
class Ran:
    """What came of a row."""
    transcript: list = dataclasses.field(default_factory=list)
    replies: list = dataclasses.field(default_factory=list)  # of each RCPT, or the refusal before it
    ended: str = ""         # how the client saw the end
    local: tuple = ()
    name: str = ""          # of the message
    event: dict = None
    foretold: dict = None   # by waxseal explain, before the session
    explained: dict = None  # after it


class Recorded(Dialogue):
    """Keeps what was said."""

    def __init__(self, ran, *args, **options):
        self.ran = ran
        super().__init__(*args, greet=False, **options)
        ran.local = self.socket.getsockname()[:2]
        self.banner = self.reply()

    def write(self, data):
        self.ran.transcript += [f"C: {line}" for line in data.decode("latin-1").splitlines()[:8]]
        super().write(data)

    def line(self):
        line = super().line()
        self.ran.transcript.append(f"S: {line}")
        return line

    def starttls(self, context, hostname=None):
        found = super().starttls(context, hostname)
        self.ran.transcript.append(f"-- {self.tls.version()}" if self.tls else "-- no TLS")
        return found


def own_tls(newest):
    """For a client that encrypts by itself, and trusts anybody."""
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
    return context


class Scene:
    def __init__(self, lab):
        self.lab, self.appliance = lab, lab.appliance
        self.rows = ROWS
        self.by_id = {row.id: row for row in ROWS}
        own = [row for row in ROWS if not row.option("mx") and not row.inbound]
        free = [n for n in range(FIRST, NETS["server"][1] + 1) if n not in (AUTHORITY, RESOLVER, WEB)]
        assert len(own) <= len(free), "more rows than addresses"
        self.numbers = dict(zip((row.id for row in own), free))
        self.ran = {row.id: Ran() for row in ROWS}
        self.sinks, self.stack = {}, contextlib.ExitStack()
        lab.stack.callback(self.stack.close)

    # ---- addresses and certificates ----

    def server_of(self, row):
        """The row whose server this row's mail goes to."""
        for name in row.option("mx"):
            return self.by_id[name]
        return row

    def address(self, row):
        row = self.server_of(row)
        if row.inbound:
            return ipv4("client", 30 + [r.id for r in self.rows if r.inbound].index(row.id))
        return (ipv6 if "v6" in row.dns else ipv4)("server", self.numbers[row.id])

    def client_address(self, row):
        for number in row.option("from", row.client):
            return ipv4("client", int(number))
        return (ipv6 if "v6" in row.dns else ipv4)("server" if row.inbound else "client", CLIENT)

    @functools.cached_property
    def pairs(self):
        """{name: (certificate, key)}. One certificate of a kind has the names of all rows' servers, but where the name is the matter."""
        ca, folder = self.lab.ca, self.lab.folder
        other, issuer = Authority(folder / "other-ca", "somebody's CA"), Authority(folder / "issuer", "waxseal lab issuer", ca)
        self.authorities = {"ca": ca, "issuer": issuer, "other": other}
        leaf = issuer.certificate("leaf", *self.hosts("intermediate", "nointermediate"))
        nexthop = ca.certificate("nexthop", *(row.domain for row in self.rows if row.server in ("nexthop", "nexthoproot")))
        return {
            "good": ca.certificate("good", *self.hosts("good", LAX, *TLS, *CIPHERS)), "second": ca.certificate("second", *self.hosts("second")),
            "few": ca.certificate("few", *self.hosts("few", *SNI)),  # good, and with so few names that a probe keeps them all
            "rsa": ca.certificate("rsa", *self.hosts("rsa"), rsa=True),
            "expired": ca.expired("texpired", *self.hosts("expired")), "selfsigned": ca.self_signed("tself", *self.hosts("selfsigned")),
            "future": ca.certificate("future", *self.hosts("future"), dates=("-startdate", "20900101000000Z", "-enddate", "20910101000000Z")),
            "wrongname": ca.certificate("twrong", "other.example"), "untrusted": other.certificate("untrusted", *self.hosts("untrusted")),
            "intermediate": with_chain(leaf, issuer.file), "nointermediate": leaf,
            "withroot": with_chain(ca.certificate("withroot", *self.hosts("withroot")), ca.file),
            WEAK: with_chain(ca.certificate("weakroot", *self.hosts(WEAK), digest="sha1"), ca.file),
            "expiredroot": with_chain(ca.expired("expiredroot", *self.hosts("expiredroot")), ca.file),
            "untrustedroot": with_chain(other.certificate("otherroot", *self.hosts("untrustedroot")), other.file),
            "otherwithroot": with_chain(other.certificate("othername", "other.example"), other.file),
            "nexthop": nexthop, "nexthoproot": with_chain(nexthop, ca.file),
            "expiredwrong": ca.expired("expiredwrong", "other.example"),
            "wildcard": ca.certificate("wildcard", *(f"*.{row.id}.sec" for row in self.rows if row.server == "wildcard")),
            "partwild": ca.certificate("partwild", *(f"m*.{row.id}.sec" for row in self.rows if row.server == "partwild")),
            "widewild": ca.certificate("widewild", "*.sec"),
        }

    def hosts(self, *kinds):
        """Names of the servers that show such a certificate."""
        return [row.host for row in self.rows if row.server.removeprefix("postfix-") in kinds]

    def file_pair(self, name):
        """A pair, or an authority's own certificate under the same roof."""
        if name in self.authorities:
            authority = self.authorities[name]
            return authority.file, authority.folder / "ca.key"
        return self.pairs[name]

    # ---- servers ----

    def behaviour(self, row):
        kind = row.server
        if kind in WITHOUT_TLS:
            context = server_context(self.pairs["good"]) if kind in ("absurd", "garbage", "hangup") else None
            return Behaviour(hostname=row.host, starttls=kind, context=context)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old versions are the matter
            return Behaviour(hostname=row.host, context=self.sni_context(row) if kind in SNI else self.context(kind))

    def sni_context(self, row):
        """The right certificate for one name in SNI, and somebody else's for all others."""
        context, right = server_context(self.pairs["wrongname"]), server_context(self.pairs["few"])
        wanted = SNI[row.server].format(mx=row.host, d=row.domain)

        def choose(connection, name, _):
            if name == wanted:
                connection.context = right
        context.sni_callback = choose
        return context

    def context(self, kind):
        if kind in TLS:
            old = kind in ("tls1.0", "tls1.1")
            return server_context(self.pairs["good"], TLS[kind], "ALL:@SECLEVEL=0" if old else None)
        if kind == LAX:
            return server_context(self.pairs["good"], ciphers="ALL:@SECLEVEL=0", oldest=ssl.TLSVersion.TLSv1)
        if kind == WEAK:
            return server_context(self.pairs[kind], ciphers="ALL:@SECLEVEL=0")
        if kind in CIPHERS:
            return server_context(self.pairs["good"], ssl.TLSVersion.TLSv1_2, CIPHERS[kind] + ":@SECLEVEL=0")
        return server_context(self.pairs[kind])

    def start_servers(self):
        faces = {}
        for row in self.rows:
            if row.option("mx"):
                continue
            if row.server.startswith("postfix-"):
                kind = row.server.partition("-")[2]
                faces[row.id] = (self.numbers[row.id], row.host, None if kind == "none" else self.pairs[kind])
                continue
            sink = Sink(self.lab.client if row.inbound else self.lab.server, [self.address(row)], self.behaviour(row))
            self.sinks[row.id] = sink
            self.stack.callback(sink.close)
        self.postfix = PostfixServer(self.lab.server, self.lab.folder / "table-postfix", faces) if faces else None

    # ---- names ----

    def put_names(self):
        zones = self.lab.zones
        for row in self.rows:
            if row.inbound:
                continue
            server = self.server_of(row)
            host = server.host
            if "nomx" not in row.dns:
                zones.put(row.domain, "MX", f"10 {host}.")
            if server is row:
                owner = f"real.{host}" if "alias" in row.dns else host
                if owner != host:
                    zones.put(host, "CNAME", f"{owner}.")
                zones.put(owner, "AAAA" if "v6" in row.dns else "A", self.address(row))
                self.put_tlsa(row, owner)
            self.put_sts(row, host)

    def put_tlsa(self, row, host):
        records = []
        for value in row.option("tlsa"):
            kind, _, name = value.partition(":")
            if kind == "junk":
                records.append("3 1 1 abcd")
                continue
            usage, selector, matching = (int(n) for n in kind.split(",")) if "," in kind else map(int, kind)
            pair = self.file_pair(name or row.server.removeprefix("postfix-"))
            records.append(tlsa(pair, usage, selector, matching) if matching in (0, 1, 2) and selector in (0, 1)
                           else f"{usage} {selector} {matching} {der(pair, 'certificate')[:32].hex()}")
        zones = self.lab.zones
        if records:
            zones.put(f"_25._tcp.{host}", "TLSA", *records)
        if "tlsabogus" in row.dns:
            zones.put(f"_25._tcp.{host}", "CNAME", "tlsa.bogus.")
        if "tlsains" in row.dns:
            zones.put(f"_25._tcp.{host}", "CNAME", f"tlsa-{row.id}.ins.")
            zones.put(f"tlsa-{row.id}.ins", "TLSA", tlsa(self.pairs["second"], 3, 1, 1))

    def put_sts(self, row, host):
        for value in row.option("sts"):
            mode, *problems = value.split(",")
            changes = {}
            for problem in problems:
                changes.update(STS[problem])
            text = changes.pop("text", policy)
            self.web.sites[f"mta-sts.{row.domain}"] = Site(text(mode, host), **changes)
            txt = ('"v=STSv1; id=20240101;"',)
            for word, records in TXT.items():
                txt = records if word in row.dns else txt
            self.lab.zones.put(f"_mta-sts.{row.domain}", "TXT", *txt)
            if "nohost" not in row.dns:
                self.lab.zones.put(f"mta-sts.{row.domain}", "A", ipv4("server", WEB))

    def start_web(self):
        names = [f"mta-sts.{row.domain}" for row in self.rows if row.option("sts")] + [f"mta-sts.{CHANGING}"]
        other = self.authorities["other"]
        self.web = Web(self.lab.server, ipv4("server", WEB), {
            "good": self.lab.ca.certificate("sts", *names), "expired": self.lab.ca.expired("sts-expired", *names),
            "selfsigned": self.lab.ca.self_signed("sts-self", *names), "wrongname": self.lab.ca.certificate("sts-wrong", "www.example"),
            "untrusted": other.certificate("sts-other", *names)})
        self.stack.callback(self.web.close)

    # ---- rules ----

    def fill(self, text, row):
        def word(name):
            kind, _, which = name.partition(":")
            if kind in ("cert", "key"):
                pair = self.file_pair(which or row.server)
                return pin(pair, "certificate" if kind == "cert" else "key")
            return {"d": row.domain, "mx": row.host, "a": self.address(row), "c": self.client_address(row), "id": row.id}[kind]
        for part in [piece.partition("}")[0] for piece in text.split("{")[1:]]:
            text = text.replace("{" + part + "}", word(part))
        return text

    def rules(self):
        """{Redis' key: attributes}."""
        wanted = {"waxseal:policy:*": {"level": "may", "mode": "observe"}}
        for row in self.rows:
            for rule in filter(None, (one.strip() for one in row.rule.split(" ; "))):
                key, colon, attributes = rule.partition(": ")
                if not colon:
                    key, attributes = f"{'inbound' if row.inbound else 'policy'}:{{d}}", rule
                words = dict(word.partition("=")[::2] for word in self.fill(attributes, row).split())
                wanted[f"waxseal:{self.fill(key, row)}"] = words
        return wanted

    # ---- all of it up ----

    def start(self):
        self.start_servers()
        self.start_web()
        self.put_names()
        self.lab.zones.publish()
        self.start_agent()
        for row in self.rows:
            for stamp in row.option("seen"):
                self.appliance.client.hset(f"waxseal:seen:{self.address(row)}", mapping={
                    "time": int(time.time()) - int(stamp), "how": "probe", "by": "elsewhere"})
        self.appliance.put_rules(self.rules())
        refused = self.appliance.agent_state()["refused"]
        assert not refused, refused
        self.wait_discovered()
        self.wait_probed()
        self.appliance.put_rules(self.rules())

    def start_agent(self):
        lab, appliance = self.lab, self.appliance
        lab.start_appliance(XDP, dns_servers=f"{lab.zones.resolver}", dns_trust_anchor=str(lab.zones.anchor), dns_ttl_min_s="1",
                            dns_timeout_s="5")
        appliance.agent.terminate()
        appliance.agent.wait(10)
        appliance.start_agent()
        self.stack.callback(self.stop_agent)

    def stop_agent(self):
        """The other tests' agent asks no DNS."""
        self.lab.start_appliance(XDP)
        self.appliance.agent.terminate()
        self.appliance.agent.wait(10)
        self.appliance.start_agent()
        self.appliance.rules(default={"level": "may"})

    def wait_discovered(self):
        rows = sorted((row for row in self.rows if self.discovers(row)), key=lambda row: row.domain)

        def missing():
            pipe = self.appliance.client.pipeline()
            for row in rows:
                pipe.hgetall(f"waxseal:discovered:{row.domain}")
            return [row.domain for row, told in zip(rows, pipe.execute()) if not self.settled(row, told)]
        wait_for(lambda: f"the agent knows of {missing()}: {self.appliance.agent_log.read_text()[-1500:]}",
                 lambda: not missing(), DISCOVERY_SECONDS, 0.1)

    def wait_probed(self):
        """Where the agent's own probe decides, it has been there."""
        addresses = [self.address(row) for row in self.rows if "e2e=probe" in row.rule]

        def missing():
            return [one for one in addresses if not self.appliance.client.exists(f"waxseal:posture:{one}")]
        wait_for(lambda: f"no probe yet of {missing()}: {self.appliance.agent_log.read_text()[-1500:]}", lambda: not missing(),
                 DISCOVERY_SECONDS, 0.1)

    def discovers(self, row):
        """Does the agent look up the row's domain? Those with a rule by name, and of providers."""
        return not row.inbound and ("domains={d}" in row.rule or
                                    any(not rule.partition(": ")[1] for rule in row.rule.split(" ; ") if rule.strip()))

    def settled(self, row, told):
        """Is all known of the row's domain? A web server that takes longer than a minute is not waited for."""
        sts = any(value and not value.endswith(",slow") for value in row.option("sts")) and not self.has_level(row)
        return bool(told.get("time")) and "=unasked" not in told.get("tlsa", "") and (not sts or bool(told.get("sts_checked")))

    @staticmethod
    def has_level(row):
        return "level=" in row.rule

    # ---- sessions ----

    def explain(self, row):
        """What waxseal explain says of the row's recipient, server and client."""
        return self.appliance.command("explain", f"user@{row.domain}", self.address(row), "--client", self.client_address(row),
                                      *(["--inbound"] if row.inbound else []), "--json")

    def foretell(self):
        """What it says before anybody has sent anything."""
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            for row, told in zip(self.rows, pool.map(self.explain, self.rows)):
                self.ran[row.id].foretold = told

    def run(self):
        messages = [Message(200) for _ in self.rows]  # here: they count themselves, and threads would miscount
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            for done in [pool.submit(self.session, row, message) for row, message in zip(self.rows, messages)]:
                done.result()
        self.gather_events()

    def session(self, row, message):
        ran = self.ran[row.id]
        ran.name = message.name
        try:
            namespace = self.lab.server if row.inbound else self.lab.client
            with Recorded(ran, namespace, self.address(row), self.client_address(row)) as client:
                self.talk(row, client, message)
        except (OSError, EOFError, ssl.SSLError) as error:
            ran.ended = f"{type(error).__name__}: {error}"
            ran.transcript.append(f"-- {ran.ended}")

    def talk(self, row, client, message):
        kind, ran = row.client[0], client.ran
        if kind == "helo":
            client.command("HELO client.lab")
        else:
            client.ehlo()
        if kind in ("tls", "tls1.2", "tls1.1", "inbound-tls", "asks"):
            client.starttls(own_tls(TLS.get(kind, ssl.TLSVersion.TLSv1_3)))
            client.ehlo()
        recipients = [f"{message.name}@{domain}" for domain in self.recipients(row)]
        if kind == "pipelined":
            self.talk_pipelined(client, message, recipients)
        else:
            self.talk_in_turn(client, message, recipients)
        with contextlib.suppress(OSError, EOFError):
            client.quit()
        ran.ended = "quit"

    def talk_in_turn(self, client, message, recipients):
        reply = client.command(f"MAIL FROM:<{message.sender}>")
        if reply.code >= 400:
            client.ran.replies.append(reply)
            return
        client.ran.replies += [client.command(f"RCPT TO:<{one}>") for one in recipients]
        self.content(client, message, recipients, client.command("DATA") if any(r.code == 250 for r in client.ran.replies) else None)

    def talk_pipelined(self, client, message, recipients):
        lines = [f"MAIL FROM:<{message.sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
        client.write("".join(f"{line}\r\n" for line in lines).encode())
        mail, *rest, data = [client.reply() for _ in lines]
        client.ran.replies = [mail] if mail.code >= 400 else rest
        self.content(client, message, recipients, data)

    @staticmethod
    def content(client, message, recipients, reply):
        if reply and reply.code == 354:
            client.write(message.wire(recipients[0]))
            final = client.reply()
            if final.code >= 400:
                client.ran.replies = [final]

    # ---- what it left ----

    def gather_events(self):
        wanted = {(*ran.local, self.address(self.by_id[row_id])): row_id for row_id, ran in self.ran.items() if ran.local}

        def all_there():
            for event in self.appliance.events():
                row_id = wanted.get((event["client"], event["client_port"], event["server"]))
                if row_id:
                    self.ran[row_id].event = event
            return all(self.ran[row_id].event for row_id in wanted.values())
        with contextlib.suppress(AssertionError):  # the rows without an event fail by themselves
            wait_for("an event for each row", all_there, EVENT_SECONDS, 0.2)
        counters = self.appliance.counters()
        self.totals, self.counters = counters["counters"], {one["name"]: one for one in counters["destinations"]}

    def arrived(self, row, name=None):
        """Mails of that name, the row's own if none is said, at the row's server: [("TLSv1.3" or "")]."""
        server, name = self.server_of(row), name or self.ran[row.id].name
        if server.id in self.sinks:
            return [mail.tls for mail in self.sinks[server.id].find(f"<{name}@")]
        stored = self.postfix.mail.stored(name)
        return [] if stored is None else ["TLS" if b"using TLS" in stored else ""]

    def leaked(self, row):
        """What the server saw in clear of recipients that were refused, and of any where the row's mail goes by TLS."""
        sink, ran = self.sinks.get(self.server_of(row).id), self.ran[row.id]
        if not sink:
            return []
        domains = self.recipients(row)
        if row.end == "clear":
            domains = [domain for domain, reply in zip(domains, ran.replies) if reply.code >= 400]
        return [line for session in sink.sessions if session.peer[:2] == ran.local for in_tls, line in session.commands
                if not in_tls and any(domain.encode() in line for domain in domains)]

    def recipients(self, row):
        """Their domains, in order."""
        domains = [row.domain]
        if row.other:
            other, first = row.other
            domains.insert(0 if first else 1, self.by_id[other].domain)
        return domains

    def report(self, row, what):
        """All there is to a row, for whoever has to find out."""
        ran = self.ran[row.id]
        destination = (ran.event or {}).get("destination", "")
        return "\n".join([what, f"row: {row.line}", "transcript:", *(f"  {line}" for line in ran.transcript), f"event: {ran.event}",
                          f"counters of {destination!r}: {self.counters.get(destination)}", f"explain: {ran.explained}",
                          f"discovered: {self.appliance.client.hgetall('waxseal:discovered:' + row.domain)}",
                          f"arrived: {self.arrived(row)}"])
