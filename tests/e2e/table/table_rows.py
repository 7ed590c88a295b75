"""The rows: read from rows/*.txt, one line a row, columns between bars.

id | rule | server | dns | client | end | reply | result type | counters | postfix

id       names the row's domain, {id}.sec unless dns says otherwise, its MX mx.{id}.sec and its server's address
rule     attributes of policy:{d}, or `key: attributes` of others, with ` ; ` between them; {d} {mx} {a} {c} stand for domain,
         MX, the server's and the client's address, {cert:NAME} {key:NAME} for the pins of a certificate; "-": no rule
server   how it behaves (scene.py's SERVERS); `postfix-` in front: a real Postfix with that certificate
dns      "-": a signed zone with MX and address. Words: ins (not signed), bogus, insmx (only the MX record is not signed), nomx (the
         domain is its own MX), alias (the MX is a CNAME), deep (its name has a label more), v6; mx=ROW: that row's server;
         tlsa=USM[:CERTIFICATE] or junk, tlsabogus, tlsains; sts=MODE[,PROBLEM...] (scene.py's STS), txt=... (TXT), nohost: the
         policy's host has no address; seen=N: STARTTLS was, N seconds ago
client   plain, helo, pipelined, tls, tls1.2, tls1.1, inbound, asks (for TLS itself, and is refused); `from=N`: its address;
         `rcpt=ROW`: a second recipient, of that row's domain; `rcpt=ROW,first`: before the own one
end      how the event says that the session ended; `cut` also: the client saw its connection end
reply    of each RCPT, or of the command that was refused instead
result   type of RFC 8460 in the event; "-": none
counters of the destination, beside sessions.DIRECTION.END, each raised by one (NAME*2: by two); without a dot: reasons.NAME;
         @NAME: of the destination that the row's own domain names, where the server belongs to another; @DESTINATION:NAME
postfix  "=": the same rule given to Postfix's smtp comes to the same; a word: what Postfix comes to instead, and README.md says
         why; "-": Postfix cannot be given the row
"""
import dataclasses
import pathlib

FOLDER = pathlib.Path(__file__).parent / "rows"
COLUMNS = ("id", "rule", "server", "dns", "client", "end", "reply", "result", "counters", "postfix")
ENDS = ("sealed", "upgraded", "clear", "deferred", "rejected", "cut", "nothing")


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    rule: str
    server: str
    dns: tuple
    client: tuple
    end: str
    replies: tuple
    result: str
    counters: tuple
    postfix: str
    line: str

    def option(self, name, words=None):
        """The values of `name=value` words."""
        return [word.partition("=")[2] for word in (self.dns if words is None else words) if word.startswith(f"{name}=")]

    @property
    def domain(self):
        for zone in ("ins", "bogus"):
            if zone in self.dns or (zone == "ins" and "insmx" in self.dns):
                return f"{self.id}.{zone}"
        return f"{self.id}.sec"

    @property
    def host(self):
        """The MX's name."""
        zone = "sec" if "insmx" in self.dns else self.domain.rpartition(".")[2]
        if "nomx" in self.dns:
            return self.domain
        return f"{'deep.' if 'deep' in self.dns else ''}mx.{self.id}.{zone}"

    @property
    def inbound(self):
        return self.client[0].startswith("inbound")

    @property
    def counted(self):
        """[(destination, "" for the server's, counter, how much the row adds to it)]."""
        found = [("", f"sessions.{'inbound' if self.inbound else 'outbound'}.{self.end}", 1)]
        for word in self.counters:
            name, _, times = word.partition("*")
            destination = ""
            if name.startswith("@"):
                destination, _, name = name[1:].rpartition(":")
                destination = destination or self.domain
            found.append((destination, name if "." in name else f"reasons.{name}", int(times or 1)))
        return found

    @property
    def other(self):
        """(row whose domain is the second recipient's, does it come first?), or nothing."""
        for value in self.option("rcpt", self.client):
            name, _, place = value.partition(",")
            return name, place == "first"
        return None


def read_row(line):
    cells = [cell.strip() for cell in line.split("|")]
    assert len(cells) == len(COLUMNS), f"{len(cells)} columns, not {len(COLUMNS)}: {line}"
    cells = ["" if cell == "-" else cell for cell in cells]
    name, rule, server, dns, client, end, reply, result, counters, postfix = cells
    assert end in ENDS, line
    return Row(name, rule, server, tuple(dns.split()), tuple(client.split()), end,
               tuple(one.strip() for one in reply.split("/")), result, tuple(counters.split()), postfix, line.strip())


def read_rows():
    rows = []
    for path in sorted(FOLDER.glob("*.txt")):
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                rows.append(read_row(line))
    names = [row.id for row in rows]
    assert len(set(names)) == len(names), f"twice: {sorted(n for n in set(names) if names.count(n) > 1)}"
    return rows


ROWS = read_rows()
