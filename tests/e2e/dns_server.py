"""A small authoritative DNS server for tests: UDP and TCP on one high port of 127.0.0.1, answers changed as the test goes.

zone[(name, type)] is a list of rdata in zone-file form, or one of the words below; a name without any entry is NXDOMAIN.
TTLs are per server (`ttl`). Every question is kept in `asked`. TCP, because long answers are truncated on UDP.
"""
import contextlib
import socketserver
import struct
import threading

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

SERVFAIL, REFUSED, MUTE = "servfail", "refused", "mute"
IN = dns.rdataclass.IN


class Dns:
    def __init__(self):
        self.zone = {}
        self.asked = []
        self.ttl = 1
        self.gone = False  # says nothing to anybody
        self.lock = threading.Lock()
        self.start(0)

    def start(self, port):
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                reply = outer.reply(self.request[0], 1232)
                if reply:
                    self.request[1].sendto(reply, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError, struct.error):
                    while True:
                        size, = struct.unpack("!H", self.rfile.read(2))
                        reply = outer.reply(self.rfile.read(size), 65535)
                        if not reply:
                            return
                        self.wfile.write(struct.pack("!H", len(reply)) + reply)

        class Server(socketserver.ThreadingMixIn):
            daemon_threads = True
            allow_reuse_address = True

        class UdpServer(Server, socketserver.UDPServer):
            pass

        class TcpServer(Server, socketserver.TCPServer):
            pass

        tcp = TcpServer(("127.0.0.1", port), Tcp)
        self.port = tcp.server_address[1]
        self.servers = [tcp, UdpServer(("127.0.0.1", self.port), Udp)]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def set(self, name, kind, *rdata):
        """Without rdata the name is there and has no such record."""
        with self.lock:
            self.zone[(name.lower(), kind)] = rdata[0] if rdata and rdata[0] in (SERVFAIL, REFUSED, MUTE) else list(rdata)

    def unset(self, name):
        with self.lock:
            self.zone = {key: value for key, value in self.zone.items() if key[0] != name}

    def questions(self, name):
        return sum(asked == name for asked, _ in self.asked)

    def reply(self, wire, size):
        if self.gone:
            return None
        query = dns.message.from_wire(wire)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, kind))
        reply = dns.message.make_response(query, recursion_available=True)
        with self.lock:
            fate = self.answer(reply, question.name, name, kind)
        if fate == MUTE:
            return None
        if fate is not None:
            reply.set_rcode(fate)
        with contextlib.suppress(dns.exception.TooBig):
            return reply.to_wire(max_size=size)
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()

    def answer(self, reply, owner, name, kind):
        for _ in range(8):
            if (name, "CNAME") in self.zone and kind != "CNAME":
                target = self.zone[(name, "CNAME")][0]
                reply.answer.append(dns.rrset.from_text(owner, self.ttl, IN, "CNAME", target))
                owner, name = dns.name.from_text(target), target.rstrip(".").lower()
                continue
            there = self.zone.get((name, kind))
            if there in (SERVFAIL, REFUSED):
                return {SERVFAIL: dns.rcode.SERVFAIL, REFUSED: dns.rcode.REFUSED}[there]
            if there == MUTE:
                return MUTE
            if there:
                rrset = dns.rrset.RRset(owner, IN, dns.rdatatype.from_text(kind))
                rrset.update(dns.rrset.from_rdata_list(owner, self.ttl, [self.rdata(kind, text) for text in there]))
                reply.answer.append(rrset)
                return None
            soa = f"ns.test. hostmaster.test. 1 60 60 60 {self.ttl}"
            reply.authority.append(dns.rrset.from_text(owner, self.ttl, IN, "SOA", soa))
            return None if any(key[0] == name for key in self.zone) else dns.rcode.NXDOMAIN
        return dns.rcode.SERVFAIL

    @staticmethod
    def rdata(kind, value):
        if isinstance(value, bytes):
            return dns.rdata.from_wire(IN, dns.rdatatype.from_text(kind), value, 0, len(value))
        return dns.rdata.from_text(IN, dns.rdatatype.from_text(kind), value)
