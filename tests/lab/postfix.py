"""Real Postfix: one instance with several faces as servers, one as a client that sends by the recipient's domain.

Each face is an smtpd service of its own in master.cf, on its own addresses, with its own certificate, name and
log tag. Only PostfixPolicyClient asks the DNS: the lab's.
"""
import pathlib
import smtplib

from .mta import MAIL_USER, Mailboxes, Server, bound, domain_of
from .namespaces import ipv4, ipv6, run

MASTER = "/usr/lib/postfix/sbin/master"
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")
SUBMISSION = 10025
ROUTES = 250  # servers that PostfixClient knows

COMMON = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_protocols = all
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
local_header_rewrite_clients =
append_dot_mydomain = no
message_size_limit = 0
mailbox_size_limit = 0
virtual_mailbox_limit = 0
default_process_limit = 250
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
smtpd_timeout = 120s
smtpd_tls_session_cache_database =
smtp_connect_timeout = 10s
smtp_connection_cache_on_demand = no
minimal_backoff_time = 3600s
queue_run_delay = 3600s
notify_classes =
bounce_queue_lifetime = 0
"""
WITHOUT_DNS = """
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_dns_support_level = disabled
"""
SERVICES = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    dns = WITHOUT_DNS

    def __init__(self, namespace, folder, main, services):
        super().__init__(namespace, folder)
        self.log_file = folder / "log"
        config = folder / "config"
        config.mkdir()
        (config / "main.cf").write_text(COMMON.format(folder=folder) + self.dns + main)
        (config / "master.cf").write_text(services + SERVICES)
        queue = folder / "queue"
        queue.mkdir()
        for name in QUEUES + ("maildrop", "public", "pid"):
            (queue / name).mkdir(mode=0o700)
            if name != "pid":
                run("chown", "postfix", queue / name)
        run("chown", "postfix:postdrop", queue / "maildrop", queue / "public")
        (queue / "maildrop").chmod(0o1730)
        (queue / "public").chmod(0o2710)
        (queue / "pid").chmod(0o755)
        (folder / "data").mkdir()
        run("chown", "postfix", folder / "data")
        self.launch(*self.command(MASTER, "-c", config))

    def command(self, *command):
        return command


class PostfixServer(Postfix):
    """`faces`: {name: (number of its addresses, hostname, (certificate, key) or None)}."""

    def __init__(self, namespace, folder, faces):
        self.mail = Mailboxes(pathlib.Path(str(folder) + "-mail"))
        run("chown", MAIL_USER, self.mail.folder)
        services = ""
        for name, (number, hostname, pair) in faces.items():
            options = f" -o syslog_name=face-{name} -o myhostname={hostname}"
            if pair:
                options += (f" -o smtpd_tls_security_level=may -o smtpd_tls_cert_file={pair[0]} -o smtpd_tls_key_file={pair[1]}"
                            " -o smtpd_tls_received_header=yes -o smtpd_tls_loglevel=1")
            for address in (ipv4("server", number), f"[{ipv6('server', number)}]"):
                services += f"{address}:25 inet n - n - - smtpd{options}\n"
        # Not virtual(8), which would have to know every mailbox; pipe(8) hands the bytes over as they are.
        services += (f"store unix - n n - 20 pipe flags= user={MAIL_USER} null_sender= argv=/bin/sh {self.mail.script} "
                     "${user} ${queue_id}\n")
        main = f"""
myhostname = postfix.lab
virtual_mailbox_domains = regexp:{folder}/domains
virtual_mailbox_maps = static:all
virtual_transport = store
store_destination_recipient_limit = 1
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions =
"""
        super().__init__(namespace, folder, main, services)
        (folder / "domains").write_text("/./ any\n")
        self.faces = faces
        self.wait_listening([a for n, _, _ in faces.values() for a in (ipv4("server", n), ipv6("server", n))])

    def face_log(self, name):
        return [line for line in self.log().splitlines() if f"face-{name}/" in line]


class PostfixClient(Postfix):
    """Sends what it is given at its submission port to the address that the recipient's domain names."""

    def __init__(self, namespace, folder):
        main = f"""
myhostname = postfix-client.lab
transport_maps = texthash:{folder}/routes
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_loglevel = 1
smtp_tls_security_level = none
smtp_destination_concurrency_failed_cohort_limit = 0
"""
        services = (f"127.0.0.1:{SUBMISSION} inet n - n - - smtpd\n"
                    "smtptls unix - - n - - smtp -o smtp_tls_security_level=encrypt -o syslog_name=sealing\n")
        super().__init__(namespace, folder, main, services)
        (folder / "routes").write_text("".join(
            f"{domain_of(address, tls)} {'smtptls' if tls else 'smtp'}:[{address}]\n"
            for n in range(1, ROUTES + 1) for address in (ipv4("server", n), ipv6("server", n)) for tls in (False, True)))
        self.wait_listening(["127.0.0.1"], SUBMISSION)

    def send(self, message, address, tls=False):
        """Returns the recipient; what came of it is in the log: to=<...> ... status=sent (250 ...)."""
        recipient = f"{message.name}@{domain_of(address, tls)}"
        submit(self.namespace, SUBMISSION, message, recipient)
        return recipient

    def result(self, recipient, seconds=60.0):
        """(status, the server's or waxseal's reply)."""
        found = self.wait_log(rf"to=<{recipient}>.*status=(\w+) \((.*)\)", seconds)
        return found.group(1), found.group(2)


class PostfixPolicyClient(Postfix):
    """Looks up where mail goes, and sends it by smtp_tls_policy_maps (`policy`: {domain: text}). Postfix believes the
    resolver's AD bit."""
    dns = """
smtp_host_lookup = dns
smtp_dns_support_level = dnssec
"""

    def __init__(self, namespace, folder, resolver, ca_file, policy):
        self.resolv_conf = folder.with_suffix(".resolv.conf")
        self.resolv_conf.write_text(f"nameserver {resolver}\noptions edns0 trust-ad\n")
        texts = folder.with_suffix(".policy")
        texts.write_text("".join(f"{domain} {text}\n" for domain, text in policy.items()))
        main = f"""
myhostname = postfix-policy.lab
inet_protocols = ipv4
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_loglevel = 1
smtp_tls_security_level = may
smtp_tls_dane_insecure_mx_policy = dane
smtp_tls_CAfile = {ca_file}
smtp_tls_fingerprint_digest = sha256
smtp_tls_policy_maps = texthash:{texts}
smtp_destination_concurrency_failed_cohort_limit = 0
"""
        super().__init__(namespace, folder, main, f"127.0.0.1:{SUBMISSION} inet n - n - - smtpd\n")
        self.wait_listening(["127.0.0.1"], SUBMISSION)

    def command(self, *command):
        return bound([(self.resolv_conf, "/etc/resolv.conf")], *command)

    def send(self, message, domain):
        submit(self.namespace, SUBMISSION, message, f"{message.name}@{domain}")

    def result(self, name, seconds=60.0):
        """(status, why) of the message of that name."""
        found = self.wait_log(rf"to=<{name}@[^>]*>.*status=(\w+) \((.*)\)", seconds)
        return found.group(1), found.group(2)


def submit(namespace, port, message, recipient):
    """Gives a client MTA its mail, over loopback in its own namespace."""
    data = message.wire(recipient)
    with namespace.connect("127.0.0.1", port, timeout=60) as s:
        client = smtplib.SMTP()
        client.sock, client.file = s, None
        assert client.getreply()[0] == 220
        assert client.ehlo("submitter.lab")[0] == 250
        assert client.mail(message.sender)[0] == 250
        code, text = client.rcpt(recipient)
        assert code == 250, text
        assert client.docmd("DATA")[0] == 354
        s.sendall(data)
        code, text = client.getreply()
        assert code == 250, text
        client.docmd("QUIT")

