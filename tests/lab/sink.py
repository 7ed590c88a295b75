"""An event-driven SMTP server that keeps every byte it was given, and misbehaves on request.

It runs in the test's own process, on sockets of the servers' namespace, with one thread for all its sessions:
hundreds at once cost nothing. What real servers never do (454 to STARTTLS, a byte a segment, AUTH, a reply late)
is an argument.
"""
import asyncio
import dataclasses
import hashlib
import socket
import ssl
import threading

LINE_MAX = 1 << 20


@dataclasses.dataclass
class Mail:
    sender: str
    recipients: list
    tls: str          # "TLSv1.3", or "" in clear
    data: bytes       # as on the wire, between DATA's 354 and the final dot; a BDAT's chunks joined
    bdat: bool = False

    @property
    def digest(self):
        return hashlib.sha256(self.data).hexdigest()


@dataclasses.dataclass
class Session:
    peer: tuple
    commands: list = dataclasses.field(default_factory=list)  # (in TLS?, line without its end)
    mails: list = dataclasses.field(default_factory=list)
    tls: str = ""
    ended: str = ""   # "quit", "eof", "error: ..."

    def verbs(self, tls=None):
        return [line.split(b" ")[0].split(b":")[0].upper().decode("latin-1") for in_tls, line in self.commands if tls in (None, in_tls)]


@dataclasses.dataclass
class Behaviour:
    hostname: str = "sink.lab"
    starttls: str = "offer"       # offer; none; 454: offers and refuses; 220 and then no TLS: absurd, garbage, hangup
    context: ssl.SSLContext = None
    extensions: tuple = ("PIPELINING", "8BITMIME", "SIZE 0", "CHUNKING", "ENHANCEDSTATUSCODES")
    tls_extensions: tuple = None  # what EHLO says inside TLS, if it is something else
    bytewise: bool = False        # every reply one byte a segment
    banner: tuple = ("{host} ESMTP sink",)
    refuse_rcpt: bytes = b""      # recipients that contain this get 550
    delay: float = 0              # before each reply
    helo_only: bool = False       # 502 to EHLO


AFTER_220 = {"absurd": b"\x15\x03\x01\x00\x02\x02\x28", "garbage": b"250 sink.lab is glad to see you\r\n", "hangup": b""}


def server_context(pair, only=None, ciphers=None, oldest=None):
    """`only`: a version; `oldest`: that one and all above. Those below 1.2 need what OpenSSL 3 calls security level 0."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        context.set_ciphers(ciphers)
    context.load_cert_chain(*map(str, pair))
    if only:
        context.minimum_version = context.maximum_version = only
    if oldest:
        context.minimum_version = oldest
    return context


class Sink:
    def __init__(self, namespace, addresses, behaviour, port=25):
        self.behaviour, self.sessions = behaviour, []
        self.loop = asyncio.new_event_loop()
        self.sockets = []
        for address in addresses:
            s = namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in address:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((address, port))
            s.listen(1024)
            s.setblocking(False)
            self.sockets.append(s)
        self.thread = threading.Thread(target=self.run, name=f"sink {addresses}", daemon=True)
        self.started = threading.Event()
        self.thread.start()
        self.started.wait()

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.tasks = set()
        for s in self.sockets:
            self.loop.create_task(self.accept(s))
        self.loop.call_soon(self.started.set)
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))

    async def accept(self, listener):
        while True:
            s, peer = await self.loop.sock_accept(listener)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self.loop.create_task(self.serve(s, peer))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def serve(self, s, peer):
        session = Session(peer)
        self.sessions.append(session)
        talk = Talk(s, session, self.behaviour)
        try:
            await talk.run()
        except (OSError, EOFError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            session.ended = "eof" if isinstance(error, (EOFError, asyncio.IncompleteReadError)) else f"error: {error}"
        finally:
            talk.close()

    def mails(self):
        return [mail for session in list(self.sessions) for mail in session.mails]

    def find(self, name):
        """The mails of which a recipient has that name."""
        return [mail for mail in self.mails() if any(name in r for r in mail.recipients)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        for s in self.sockets:
            s.close()


class Talk:
    """One session."""

    def __init__(self, s, session, behaviour):
        self.socket, self.session, self.how = s, session, behaviour
        self.reader = self.writer = None
        self.reset()

    def reset(self):
        self.sender, self.recipients, self.chunks = None, [], b""

    def close(self):
        if self.writer:
            self.writer.close()
        else:
            self.socket.close()

    async def say(self, text, more=()):
        """A reply: `text` is its last line, `more` those before it."""
        code = text[:3]
        data = b"".join(f"{code}-{line}\r\n".encode() for line in more) + text.encode() + b"\r\n"
        if self.how.delay:
            await asyncio.sleep(self.how.delay)
        if not self.how.bytewise:
            self.writer.write(data)
        else:
            for i in range(len(data)):
                self.writer.write(data[i:i + 1])
                await asyncio.sleep(0)
        await self.writer.drain()

    async def run(self):
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=LINE_MAX, loop=loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, self.socket)
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        lines = [line.format(host=self.how.hostname) for line in self.how.banner]
        await self.say(f"220 {lines[-1]}", lines[:-1])
        while not self.session.ended:
            line = await self.reader.readuntil(b"\n")
            line = line.rstrip(b"\r\n")
            self.session.commands.append((bool(self.session.tls), line))
            verb = line.split(b" ")[0].split(b":")[0].upper().decode("latin-1")
            await getattr(self, f"on_{verb.lower()}", self.on_unknown)(line)

    async def on_unknown(self, line):
        await self.say("500 5.5.2 what?")

    async def on_helo(self, line):
        self.reset()
        await self.say(f"250 {self.how.hostname}")

    async def on_ehlo(self, line):
        if self.how.helo_only:
            return await self.say("502 5.5.1 not implemented")
        self.reset()
        offered = list(self.how.extensions)
        if self.session.tls and self.how.tls_extensions is not None:
            offered = list(self.how.tls_extensions)
        if self.how.starttls != "none" and not self.session.tls:
            offered.append("STARTTLS")
        lines = [self.how.hostname, *offered]
        return await self.say(f"250 {lines[-1]}", lines[:-1])

    async def on_starttls(self, line):
        if self.how.starttls == "none" or self.session.tls:
            return await self.say("503 5.5.1 not offered")
        if self.how.starttls == "454":
            return await self.say("454 4.7.0 TLS not available due to temporary reason")
        self.writer.transport.pause_reading()  # what follows belongs to TLS
        if self.how.starttls == "garbage":  # in one segment: in a second one it may meet a handshake that has begun
            self.writer.write(b"220 2.0.0 ready to start TLS\r\n" + AFTER_220["garbage"])
            raise EOFError
        await self.say("220 2.0.0 ready to start TLS")
        if self.how.starttls in AFTER_220:
            self.writer.write(AFTER_220[self.how.starttls])
            raise EOFError
        loop = asyncio.get_running_loop()
        transport, protocol = self.writer.transport, self.writer.transport.get_protocol()
        secure = await loop.start_tls(transport, protocol, self.how.context, server_side=True, ssl_handshake_timeout=30)
        self.reader._transport, protocol._over_ssl = secure, True  # what StreamWriter.start_tls does for itself
        self.writer = asyncio.StreamWriter(secure, protocol, self.reader, loop)
        self.session.tls = secure.get_extra_info("ssl_object").version()
        return self.reset()

    async def on_auth(self, line):
        await self.say("235 2.7.0 authenticated")

    async def on_noop(self, line):
        await self.say("250 2.0.0 ok")

    async def on_vrfy(self, line):
        await self.say("252 2.0.0 perhaps")

    async def on_rset(self, line):
        self.reset()
        await self.say("250 2.0.0 reset")

    async def on_mail(self, line):
        self.sender = line.partition(b":")[2].decode("latin-1")
        await self.say("250 2.1.0 sender ok")

    async def on_rcpt(self, line):
        if self.sender is None:
            return await self.say("503 5.5.1 MAIL first")
        if self.how.refuse_rcpt and self.how.refuse_rcpt in line:
            return await self.say("550 5.1.1 nobody here")
        self.recipients.append(line.partition(b":")[2].decode("latin-1"))
        return await self.say("250 2.1.5 recipient ok")

    def keep(self, data, bdat=False):
        self.session.mails.append(Mail(self.sender, self.recipients, self.session.tls, data, bdat))
        self.reset()

    async def on_data(self, line):
        if not self.recipients:
            return await self.say("503 5.5.1 RCPT first")
        await self.say("354 go on")
        data = bytearray()
        while not (data.endswith(b"\r\n.\r\n") or data == b".\r\n"):
            data += await self.reader.readuntil(b"\n")
        self.keep(bytes(data[:-3]))
        return await self.say("250 2.0.0 kept")

    async def on_bdat(self, line):
        words = line.split()
        self.chunks += await self.reader.readexactly(int(words[1]))
        if len(words) > 2 and words[2].upper() == b"LAST":
            self.keep(self.chunks, True)
        await self.say("250 2.0.0 chunk kept")

    async def on_quit(self, line):
        await self.say("221 2.0.0 bye")
        self.session.ended = "quit"
