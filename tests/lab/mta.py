"""What all mail servers of the lab share: mailboxes, messages, logs, and a place to run in.

A mail's first recipient's local part is its name: every server stores m17@any.domain in <mail>/m17/, a maildir.
"""
import contextlib
import functools
import os
import pathlib
import random
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNPACKED = ROOT / "build/mta/root"
UNPACKED_JAILED = pathlib.Path("/var/lib/unpacked")  # the same for who is jailed: any user gets there, and the tree may be in root's home
# Users that come with packages which are not installed; they exist only in the servers' own /etc/passwd.
USERS = {"opensmtpd": 7001, "opensmtpq": 7002, "Debian-exim": 7003}
MAIL_USER = "nobody"


def wait_for(what, condition, seconds=30.0, interval=0.01):
    """Waits for the condition to give something true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            value = condition()
            if value:
                return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(interval)


class Message:
    """A mail, and whether what arrived is what was sent, byte for byte."""
    count = 0

    def __init__(self, size=400, seed=None, sender=None):
        Message.count += 1
        self.name = f"m{os.getpid()}x{Message.count}"
        self.sender = sender or f"{self.name}@sender.example"
        self.body = self.text(size, seed if seed is not None else Message.count) + b"end of " + self.name.encode() + b"\n"

    @staticmethod
    @functools.lru_cache(maxsize=8)  # many large mails may share a seed
    def text(size, seed):
        chance = random.Random(seed)
        lines = [b".", b"..two dots", b".one dot", b"", b"From a line that looks like an envelope", b"  indented \t"]
        length = sum(len(line) + 1 for line in lines)
        letters = bytes(range(33, 127)).translate(None, b"%\\") + b" "  # swaks expands those two
        while length < size:
            line = bytes(chance.choices(letters, k=min(chance.choice((20, 76, 300, 990)), size - length)))
            lines.append(line.strip() or b"x")
            length += len(lines[-1]) + 1
        return b"\n".join(lines) + b"\n"

    def data(self, recipient):
        """With LF line ends; the dots are not doubled yet."""
        return (f"From: <{self.sender}>\nTo: <{recipient}>\nSubject: {self.name}\nDate: Mon, 01 Jan 2024 00:00:00 +0000\n"
                f"Message-ID: <{self.name}@sender.example>\nMIME-Version: 1.0\n"
                f"Content-Type: text/plain; charset=us-ascii\n\n").encode() + self.body

    def wire(self, recipient):
        """As DATA carries it, with the final dot."""
        return re.sub(rb"(?m)^\.", b"..", self.data(recipient)).replace(b"\n", b"\r\n") + b".\r\n"

    def arrived_whole(self, stored):
        return stored.replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip(b"\n") == self.body.rstrip(b"\n")


def headers(stored, name):
    """The values of that header, unfolded, first (latest) first."""
    top = re.sub(r"\r?\n[ \t]+", " ", re.split(r"\r?\n\r?\n", stored.decode("latin-1"), maxsplit=1)[0])
    return [line.partition(":")[2].strip() for line in top.splitlines() if line.lower().startswith(name.lower() + ":")]


class Mailboxes:
    """`script NAME ID` puts a mail from its standard input there, byte for byte; Exim says both by environment."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        self.script = folder / "store"
        self.script.write_text(f"set -e; cd {folder}; umask 0; set -- ${{1:-$LOCAL_PART}} ${{2:-$MESSAGE_ID}}\n"
                               "mkdir -p $1/tmp $1/new; cat > $1/tmp/$2; mv $1/tmp/$2 $1/new/\n")

    def stored(self, name):
        files = list((self.folder / name / "new").glob("*"))
        return files[0].read_bytes() if files else None

    def wait(self, message, seconds=30.0, logs=None):
        return wait_for(lambda: f"{message.name} in {self.folder}\n{logs()[-4000:] if logs else ''}",
                        lambda: self.stored(message.name), seconds)

    def count(self, name):
        return len(list((self.folder / name / "new").glob("*")))


class Server:
    """A mail server's process, folder and log."""

    def __init__(self, namespace, folder):
        self.namespace, self.folder = namespace, folder
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self.output = folder / "output"
        self.process = None
        self.log_file = self.output

    def launch(self, *command):
        with self.output.open("ab") as out:
            self.process = self.namespace.popen(*command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                                start_new_session=True)

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_log(self, pattern, seconds=30.0):
        """The match of the pattern in the log, once it is there."""
        return wait_for(lambda: f"{pattern!r} in {self.log_file}:\n{self.log()[-4000:]}",
                        lambda: re.search(pattern, self.log()), seconds)

    def wait_listening(self, addresses, port=25):
        def listens():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.folder.name} ended with {self.process.returncode}: {self.output.read_text()}")
            shown = self.namespace.run("ss", "-Hltn")
            return all(f"{f'[{a}]' if ':' in a else a}:{port} " in shown for a in addresses)
        wait_for(lambda: f"{self.folder.name} listens on {addresses}: {self.output.read_text()}", listens, 20, 0.05)


def jailed(folder, *command):
    """A command line that runs the command with users, /run, /var/lib and /var/spool of its own: OpenSMTPD has
    its paths and users compiled in, Exim its user."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group"):
        lines = pathlib.Path("/etc", name).read_text().splitlines()
        lines = [line for line in lines if line.split(":")[0] not in USERS]
        for user, number in USERS.items():
            lines.append(f"{user}:x:{number}:" + (f"{number}::/nonexistent:/usr/sbin/nologin" if name == "passwd" else ""))
        (folder / name).write_text("\n".join(lines) + "\n")
    for name in ("run", "lib", "spool", "lib/opensmtpd/empty", "lib/unpacked"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "spool").chmod(0o755)
    # First what is in the tree: that may be below /var/lib.
    binds = [(UNPACKED, folder / "lib/unpacked"), (UNPACKED / "usr/libexec", "/usr/libexec"),
             (folder / "passwd", "/etc/passwd"), (folder / "group", "/etc/group"), (folder / "lib", "/var/lib"),
             (folder / "spool", "/var/spool"), (folder / "run", "/run")]
    return bound(binds, *command)


def bound(binds, *command):
    """A command line that runs the command in a mount namespace of its own, where (here, there) stand for each other."""
    script = "set -e; " + "".join(f"mount --rbind '{here}' '{there}'; " for here, there in binds) + 'exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "jail", *map(str, command)]


def domain_of(address, tls=False):
    """a4-7.lab and a6-7.lab are addresses of servers: the lab has no DNS, and client MTAs route by the recipient's domain.
    s4-7.lab is the same address for a client that does STARTTLS by itself."""
    return f"{'s' if tls else 'a'}{'6' if ':' in address else '4'}-{re.split('[.:]', address)[-1]}.lab"


def swaks(namespace, address, message, recipient=None, *options, sender=None, timeout=60):
    """Real swaks; returns (exit code, transcript)."""
    recipient = recipient or f"{message.name}@example.org"
    done = subprocess.run(
        namespace.command("swaks", "--server", f"[{address}]" if ":" in address else address, *(("-6",) if ":" in address else ()),
                          "--port", "25", "--from", sender or message.sender, "--to", recipient, "--ehlo", "client.lab",
                          "--timeout", "30", "--hide-informational", "--data", "-", *options),
        input=message.data(recipient).decode("latin-1"), capture_output=True, text=True, timeout=timeout, check=False)
    return done.returncode, done.stdout + done.stderr

