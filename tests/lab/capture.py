"""What crossed a wire: tcpdump while it runs, and the byte streams of its connections afterwards."""
import contextlib
import signal
import struct
import subprocess

from .mta import wait_for

ETHERTYPES = {0x0800: 4, 0x86DD: 6}
VLAN_TAGS = (0x8100, 0x88A8)


class Capture(contextlib.AbstractContextManager):
    def __init__(self, namespace, path, what):
        self.path, self.errors = path, path.with_suffix(".tcpdump")
        path.unlink(missing_ok=True)
        with self.errors.open("wb") as out:
            self.process = namespace.popen("tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-B", "32768", "-s", "0", "-Z", "root",
                                           "-w", path, *([what] if what else []), start_new_session=True, stderr=out, stdout=subprocess.DEVNULL)
        wait_for(lambda: f"tcpdump listens: {self.errors.read_text()}", lambda: "listening on" in self.errors.read_text())

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(10)

    def __exit__(self, *_):
        self.stop()

    def frames(self):
        data = self.path.read_bytes()
        at = 24
        while at + 16 <= len(data):
            length, = struct.unpack_from("<I", data, at + 8)
            yield data[at + 16:at + 16 + length]
            at += 16 + length

    def streams(self):
        """{(address, port, address, port): bytes}: one entry a direction, in order of sequence numbers, each byte as it
        first crossed."""
        pieces = {}
        for frame in self.frames():
            parsed = parse_tcp(frame)
            if parsed:
                key, sequence, syn, payload = parsed
                entry = pieces.setdefault(key, {"first": None, "parts": []})
                if syn:
                    entry["first"] = sequence + 1
                elif entry["first"] is None:
                    entry["first"] = sequence
                if payload:
                    entry["parts"].append(((sequence - entry["first"]) & 0xFFFFFFFF, payload))
        return {key: join(entry["parts"]) for key, entry in pieces.items()}


def join(parts):
    stream = bytearray()
    for offset, payload in sorted(parts, key=lambda part: part[0]):
        if offset > 1 << 31:
            continue  # before the first byte: a keepalive probe
        if offset > len(stream):
            stream += b"\0" * (offset - len(stream))
        stream += payload[len(stream) - offset:] if offset < len(stream) else payload
    return bytes(stream)


def parse_tcp(frame):
    """(four-tuple, sequence number, SYN?, payload), or None."""
    at, kind = 14, struct.unpack_from(">H", frame, 12)[0]
    while kind in VLAN_TAGS:
        kind, at = struct.unpack_from(">H", frame, at + 2)[0], at + 4
    version = ETHERTYPES.get(kind)
    if version == 4 and frame[at + 9] == 6:
        source, destination = frame[at + 12:at + 16], frame[at + 16:at + 20]
        end, tcp = at + struct.unpack_from(">H", frame, at + 2)[0], at + (frame[at] & 15) * 4
    elif version == 6 and frame[at + 6] == 6:
        source, destination = frame[at + 8:at + 24], frame[at + 24:at + 40]
        end, tcp = at + 40 + struct.unpack_from(">H", frame, at + 4)[0], at + 40
    else:
        return None
    ports = struct.unpack_from(">HH", frame, tcp)
    sequence, = struct.unpack_from(">I", frame, tcp + 4)
    return ((source, ports[0], destination, ports[1]), sequence, bool(frame[tcp + 13] & 2),
            frame[tcp + (frame[tcp + 12] >> 4) * 4:end])
