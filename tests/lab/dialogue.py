"""SMTP clients of the lab that are told what to do: one that blocks, and one that runs hundreds of sessions at once.

Both say exactly what the test says, byte by byte if it wants so, and keep what came back.
"""
import asyncio
import dataclasses
import socket
import ssl
import time

REPLY_SECONDS = 20


def client_context(ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        context.load_verify_locations(str(ca))
    return context


@dataclasses.dataclass
class Reply:
    code: int
    lines: list

    @property
    def text(self):
        return "\n".join(self.lines)

    def __str__(self):
        return self.text


class Dialogue:
    """One SMTP session over a blocking socket."""

    def __init__(self, namespace, address, source=None, bytewise=False, port=25, greet=True, patience=REPLY_SECONDS):
        self.socket = namespace.connect(address, port, patience, source)
        self.bytewise, self.tls, self.pending = bytewise, None, b""
        self.banner = self.reply() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        (self.tls or self.socket).close()

    def write(self, data):
        s = self.tls or self.socket
        if not self.bytewise:
            s.sendall(data)
        else:
            for i in range(len(data)):
                s.sendall(data[i:i + 1])

    def line(self):
        while b"\n" not in self.pending:
            got = (self.tls or self.socket).recv(65536)
            if not got:
                raise EOFError(f"closed by the other side; before: {self.pending!r}")
            self.pending += got
        line, _, self.pending = self.pending.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def reply(self):
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return Reply(int(lines[-1][:3]), lines)

    def command(self, text):
        self.write(text.encode("latin-1") + b"\r\n")
        return self.reply()

    def ehlo(self, name="client.lab"):
        reply = self.command(f"EHLO {name}")
        self.extensions = {line[4:].split(" ")[0].upper() for line in reply.lines[1:]}
        return reply

    def starttls(self, context, hostname=None):
        """Returns the server's certificate (DER), or None where STARTTLS was refused."""
        reply = self.command("STARTTLS")
        if reply.code != 220:
            return None
        self.tls = context.wrap_socket(self.socket, server_hostname=hostname)
        return self.tls.getpeercert(binary_form=True)

    def mail(self, message, recipient, sender=None):
        """A whole transaction; returns the first reply that is not positive, or the last."""
        for command in (f"MAIL FROM:<{sender or message.sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = self.command(command)
            if reply.code >= 400:
                return reply
        self.write(message.wire(recipient))
        return self.reply()

    def quit(self):
        reply = self.command("QUIT")
        self.close()
        return reply

    def ended(self):
        """How the other side ended the connection: "eof" or "reset"."""
        try:
            while (self.tls or self.socket).recv(65536):
                pass
            return "eof"
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            return "reset"


@dataclasses.dataclass
class Outcome:
    name: str
    replies: list
    tls: str = ""
    error: str = ""
    seconds: float = 0

    @property
    def last(self):
        return self.replies[-1] if self.replies else Reply(0, [self.error])


async def _reply(reader):
    lines = []
    while not lines or lines[-1][3:4] == "-":
        line = await asyncio.wait_for(reader.readuntil(b"\n"), 60)
        lines.append(line.rstrip(b"\r\n").decode("latin-1"))
    return Reply(int(lines[-1][:3]), lines)


async def send_one(s, address, message, recipient, context=None, pause=None):
    """One mail over the given unconnected socket, with STARTTLS if there is a context. `pause`: an awaitable factory
    that is awaited before DATA's content ends."""
    loop = asyncio.get_running_loop()
    outcome = Outcome(message.name, [])
    s.setblocking(False)
    writer = None
    try:
        await asyncio.wait_for(loop.sock_connect(s, (address, 25)), 30)
        reader, writer = await asyncio.open_connection(sock=s, limit=65536)

        async def say(data):
            writer.write(data)
            await writer.drain()
            outcome.replies.append(await _reply(reader))
            return outcome.replies[-1].code

        outcome.replies.append(await _reply(reader))
        await say(b"EHLO many.lab\r\n")
        if context:
            if await say(b"STARTTLS\r\n") != 220:
                return outcome
            protocol = writer.transport.get_protocol()
            secure = await loop.start_tls(writer.transport, protocol, context, ssl_handshake_timeout=60)
            reader._transport, protocol._over_ssl = secure, True  # what StreamWriter.start_tls does for itself
            writer = asyncio.StreamWriter(secure, protocol, reader, loop)
            outcome.tls = secure.get_extra_info("ssl_object").version()
            await say(b"EHLO many.lab\r\n")
        for command in (f"MAIL FROM:<{message.sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            if await say(command.encode() + b"\r\n") >= 400:
                break
        else:
            data = message.wire(recipient)
            writer.write(data[:len(data) // 2])
            if pause:
                await pause()
            await say(data[len(data) // 2:])
        result = outcome.replies[-1]
        await say(b"QUIT\r\n")
        outcome.replies.append(result)  # the one that tells stays last
    except (OSError, EOFError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
        outcome.error = f"{type(error).__name__}: {error}"
    finally:
        if writer:
            writer.close()
        else:
            s.close()
    return outcome


def send_many(namespace, jobs, at_once=None, congestion=None):
    """`jobs`: (address, message, recipient, context or None); all at once, or that many. Their outcomes, in order.
    `congestion`: the clients' congestion control, if not the system's default."""
    with namespace.entered():
        sockets = [socket.socket(socket.AF_INET6 if ":" in job[0] else socket.AF_INET) for job in jobs]
    for s in sockets if congestion else ():
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())

    async def everything():
        places = asyncio.Semaphore(at_once or len(jobs) or 1)

        async def one(s, job):
            async with places:
                began = time.monotonic()
                outcome = await send_one(s, *job)
                outcome.seconds = time.monotonic() - began
                return outcome
        return await asyncio.gather(*(one(s, job) for s, job in zip(sockets, jobs)))

    return asyncio.run(everything())
