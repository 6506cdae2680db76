"""Pwned Passwords on this machine: by range over TLS, with a switch for each kind of trouble, or as a file."""

import hashlib
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from issuing import Authority
from thebes.passwords import PwnedRanges
from thebes.secret import Secret

BREACHED = "canary-5bd1-was-breached"
FINE = "canary-5bd1-is-nobodys"


def sha1(password: str) -> Secret:
    return Secret(hashlib.sha1(password.encode()).hexdigest().upper())


class PwnedService(ThreadingHTTPServer):
    """Pwned Passwords as its API describes it, over TLS, with a switch for each kind of trouble."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.certificate, authority.key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.server_address[1]}"
        self.cafile = authority.root
        self.framing = "close"
        self.trouble = ""
        self.seen: list[str] = []
        self.goes_on = threading.Event()

    def finish_request(self, request, client_address) -> None:
        request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests."""

    def source(self, **options) -> PwnedRanges:
        return PwnedRanges(self.url, cafile=self.cafile, **options)


class Handler(BaseHTTPRequestHandler):
    server: PwnedService

    def log_message(self, *arguments) -> None:
        """Nothing to the terminal."""

    def setup(self) -> None:
        if self.server.framing != "close":
            self.protocol_version = "HTTP/1.1"  # the connection stays open behind the answer
        super().setup()

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.requestline}\n{self.headers}")
        trouble = self.server.trouble
        if trouble == "silence":
            self.server.goes_on.wait(10)
            return
        prefix = self.path.removeprefix("/range/")
        lines = [f"{secrets.token_hex(18)[:35].upper()}:{secrets.randbelow(100) + 1}" for _ in range(800)]
        lines += [f"{secrets.token_hex(18)[:35].upper()}:0" for _ in range(200)]
        for password, count in ((BREACHED, 3), ("only padding", 0)):
            if sha1(password).reveal_text().startswith(prefix):
                lines.append(f"{sha1(password).reveal_text()[5:]}:{count}")
        body = "\r\n".join(sorted(lines)).encode()
        if trouble == "flood":
            body *= 40
        if trouble == "slow head":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 1000)
            return
        self.send_response({"error": 500, "redirect": 302}.get(trouble, 200))
        self.send_header("Location", self.server.url)
        if self.server.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            chunks = [body[place : place + 5000] for place in range(0, len(body), 5000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
        elif self.server.framing == "length" or trouble:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if trouble == "drip":
            self.drip(body)
        elif trouble == "half":
            self.wfile.write(body[:1000])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def drip(self, body: bytes) -> None:
        for place in range(200):
            self.wfile.write(body[place : place + 1])
            self.server.goes_on.wait(0.02)


@contextmanager
def breach_service(authority: Authority) -> Iterator[PwnedService]:
    """Serve it until the block ends."""
    made = PwnedService(authority)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.goes_on.set()
        made.shutdown()
        thread.join()
        made.server_close()


def listed(path: Path, passwords: list[str], ending: str = "\r\n", last: str = "\r\n") -> Path:
    """Write passwords down as the downloaded list has them, and return its path."""
    lines = sorted(sha1(one).reveal_text() for one in passwords)
    path.write_bytes(
        (ending.join(f"{line}:{7 ** (place % 9)}" for place, line in enumerate(lines)) + last).encode()
    )
    return path
