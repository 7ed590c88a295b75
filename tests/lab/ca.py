"""The lab's certificate authority, and certificates good and bad."""
import hashlib
import subprocess

from .namespaces import run

CA_CONFIG = """
[ca]
default_ca = lab
[lab]
dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""


class Authority:
    """With `issuer`, an intermediate one below it, else one with a root of its own."""

    def __init__(self, folder, name="waxseal lab CA", issuer=None):
        self.folder = folder
        folder.mkdir()
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1000\n")
        (folder / "ca.conf").write_text(CA_CONFIG.format(folder=folder))
        self.file = folder / "ca.pem"
        extensions = ("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        if issuer:
            request = folder / "ca.csr"
            run("openssl", "req", "-new", *self.key("ca"), "-out", request, *extensions)
            issuer.sign(request, self.file, ("-days", "30"))
        else:
            run("openssl", "req", "-x509", *self.key("ca"), "-out", self.file, "-days", "30", *extensions)

    def key(self, name, rsa=False):
        kind = ("rsa:2048",) if rsa else ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        return ("-newkey", *kind, "-nodes", "-keyout", self.folder / f"{name}.key")

    def sign(self, request, out, dates):
        run("openssl", "ca", "-batch", "-notext", "-config", self.folder / "ca.conf", "-cert", self.file,
            "-keyfile", self.folder / "ca.key", "-in", request, "-out", out, *dates)

    def certificate(self, name, *hostnames, dates=(), rsa=False, digest="sha256"):
        """Signed by this authority. Returns (certificate, key)."""
        request = self.folder / f"{name}.csr"
        run("openssl", "req", "-new", *self.key(name, rsa), "-out", request, *subject(hostnames))
        self.sign(request, self.folder / f"{name}.pem", (*(dates or ("-days", "30")), "-md", digest))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def expired(self, name, *hostnames):
        return self.certificate(name, *hostnames, dates=("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"))

    def self_signed(self, name, *hostnames):
        run("openssl", "req", "-x509", *self.key(name), "-out", self.folder / f"{name}.pem", "-days", "30", *subject(hostnames))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


def subject(hostnames):
    return ("-subj", f"/CN={hostnames[0]}", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in hostnames))


def with_chain(pair, *issuers):
    """The same pair, which shows the issuers' certificates too."""
    chain = pair[0].with_suffix(".chain.pem")
    chain.write_text("".join(path.read_text() for path in (pair[0], *issuers)))
    return chain, pair[1]


def der(pair, what):
    """"certificate" or "key" of a pair, as TLSA and pins take it."""
    command = (("x509", "-in", pair[0], "-outform", "DER") if what == "certificate" else
               ("pkey", "-in", pair[1], "-pubout", "-outform", "DER"))
    return subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True).stdout


def pin(pair, what):
    """As a rule's fingerprints= takes it."""
    return f"{'cert' if what == 'certificate' else 'key'}:{hashlib.sha256(der(pair, what)).hexdigest()}"


def tlsa(pair, usage, selector, matching):
    """The rdata of a TLSA record of that kind for the certificate (RFC 6698, section 2.1)."""
    data = der(pair, "key" if selector == 1 else "certificate")
    digests = {1: hashlib.sha256, 2: hashlib.sha512}
    return f"{usage} {selector} {matching} {digests[matching](data).hexdigest() if matching in digests else data.hex()}"
