"""The lab's certificate authority, and certificates good and bad."""
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
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1000\n")
        (folder / "ca.conf").write_text(CA_CONFIG.format(folder=folder))
        self.file = folder / "ca.pem"
        run("openssl", "req", "-x509", *self.key("ca"), "-out", self.file, "-days", "30", "-subj", "/CN=waxseal lab CA",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def key(self, name, rsa=False):
        kind = ("rsa:2048",) if rsa else ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        return ("-newkey", *kind, "-nodes", "-keyout", self.folder / f"{name}.key")

    def certificate(self, name, hostname, dates=(), rsa=False):
        """Signed by the lab's CA. Returns (certificate, key)."""
        request = self.folder / f"{name}.csr"
        run("openssl", "req", "-new", *self.key(name, rsa), "-out", request, "-subj", f"/CN={hostname}",
            "-addext", f"subjectAltName=DNS:{hostname}")
        run("openssl", "ca", "-batch", "-notext", "-config", self.folder / "ca.conf", "-cert", self.file,
            "-keyfile", self.folder / "ca.key", "-in", request, "-out", self.folder / f"{name}.pem",
            *(dates or ("-days", "30")))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def expired(self, name, hostname):
        return self.certificate(name, hostname, ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"))

    def self_signed(self, name, hostname):
        run("openssl", "req", "-x509", *self.key(name), "-out", self.folder / f"{name}.pem", "-days", "30",
            "-subj", f"/CN={hostname}", "-addext", f"subjectAltName=DNS:{hostname}")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"
