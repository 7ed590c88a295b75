"""The HTTPS server of MTA-STS policies (RFC 8461, section 3.3), and all that can be wrong with it.

It runs in the test's own process, on a socket of the servers' namespace; SNI chooses the site. A site is a
policy's text and how it is served; a host that is no site gets no TLS.
"""
import dataclasses
import http.server
import socketserver
import ssl
import threading
import time

from .sink import server_context

PATH = "/.well-known/mta-sts.txt"


@dataclasses.dataclass
class Site:
    text: str
    status: int = 200
    content_type: str = "text/plain"
    location: str = ""
    delay: float = 0
    certificate: str = "good"   # name of a pair
    asked: int = 0


def policy(mode, *mx, version="STSv1", max_age="86400", end="\r\n"):
    return end.join([f"version: {version}", f"mode: {mode}", *(f"mx: {one}" for one in mx), f"max_age: {max_age}", ""])


class Web:
    def __init__(self, namespace, address, pairs):
        """`pairs`: {name: (certificate, key)}."""
        self.sites = {}
        self.contexts = {name: server_context(pair) for name, pair in pairs.items()}
        chooser = server_context(next(iter(pairs.values())))
        chooser.sni_callback = self.choose
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self):
                self.site = None
                self.request.settimeout(30)
                self.request = chooser.wrap_socket(self.request, server_side=True)
                super().setup()

            def do_GET(self):
                host = self.headers.get("Host", "").partition(":")[0].lower()
                site = web.sites.get(host)
                if not site or self.path != PATH:
                    return self.send_error(404)
                site.asked += 1
                time.sleep(site.delay)
                body = site.text.encode()
                self.send_response(site.status)
                if site.location:
                    self.send_header("Location", site.location)
                if site.content_type:
                    self.send_header("Content-Type", site.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A client that leaves, or takes no such certificate, is what the lab is for."""

        self.server = Server((address, 443), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = namespace.socket()
        self.server.allow_reuse_address = True
        self.server.server_bind()
        self.server.server_activate()
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self.thread.start()

    def choose(self, connection, name, _):
        site = self.sites.get((name or "").lower())
        if not site:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = self.contexts[site.certificate]
        return None

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
