"""Real OpenSMTPD (unpacked beside, not installed), as a server and as a client.

Its users, spool and control socket have names compiled in: it runs with a private view of them (mta.jailed).
As a server it needs an RSA key and opensmtpd_key.c.
"""
import pathlib

from .mta import MAIL_USER, UNPACKED_JAILED, Mailboxes, Server, domain_of, jailed
from .namespaces import ipv4, ipv6, run
from .postfix import submit

SMTPD = UNPACKED_JAILED / "usr/sbin/smtpd"
SUBMISSION = 10026


class OpenSmtpd(Server):
    def __init__(self, namespace, folder, text):
        super().__init__(namespace, folder)
        self.config = folder / "smtpd.conf"
        self.config.write_text(text)
        self.config.chmod(0o600)
        key = folder / "key.so"
        run("gcc", "-shared", "-fPIC", "-O1", "-o", key, pathlib.Path(__file__).with_name("opensmtpd_key.c"))
        self.launch("env", f"LD_PRELOAD={key}", *jailed(folder / "jail", SMTPD, "-d", "-v", "-f", self.config))


class OpenSmtpdServer(OpenSmtpd):
    def __init__(self, namespace, folder, number, hostname, pair):
        self.mail = Mailboxes(pathlib.Path(str(folder) + "-mail"))
        run("chown", MAIL_USER, self.mail.folder)
        addresses = ipv4("server", number), ipv6("server", number)
        listeners = "".join(f"listen on {a} port 25 tls pki lab hostname {hostname}\n" for a in addresses)
        super().__init__(namespace, folder, f"""
pki lab cert "{pair[0]}"
pki lab key "{pair[1]}"
smtp max-message-size 64M
table everyone {{ "@" = "{MAIL_USER}" }}
{listeners}
action "store" maildir "{self.mail.folder}/%{{rcpt.user}}" virtual <everyone>
match from any for any action "store"
""")
        self.wait_listening(addresses)


class OpenSmtpdClient(OpenSmtpd):
    """`addresses`: where it can be asked to send to. A session ends behind its mail: one kept for the next would be cut with the
    next restart of the appliance, and that mail deferred."""

    def __init__(self, namespace, folder, addresses):
        rules = ""
        for address in addresses:
            for tls in (False, True):
                domain = domain_of(address, tls)
                host = f"[{address}]" if ":" in address else address
                rules += (f'action "{domain}" relay host "smtp+{"tls" if tls else "notls"}://{host}"'
                          f'{" tls no-verify" if tls else ""} helo "opensmtpd-client.lab"\n'
                          f'match from any for domain "{domain}" action "{domain}"\n')
        super().__init__(namespace, folder, "smtp max-message-size 64M\nmta limit session-keepalive 0\n"
                         f"listen on lo port {SUBMISSION} hostname opensmtpd-client.lab\n{rules}")
        self.wait_listening(["127.0.0.1"], SUBMISSION)

    def send(self, message, address, tls=False):
        recipient = f"{message.name}@{domain_of(address, tls)}"
        submit(self.namespace, SUBMISSION, message, recipient)
        return recipient

    def result(self, recipient, seconds=60.0):
        found = self.wait_log(rf'(delivery|envelope) evpid=\S+ .*to=<{recipient}>.* result="(\w+)" stat="(.*)"', seconds)
        return {"Ok": "sent", "TempFail": "deferred", "PermFail": "bounced"}[found.group(2)], found.group(3)

