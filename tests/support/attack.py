"""Attack a protected app over a socket: serve it in a mode, and write each request byte for byte."""

import base64
import itertools
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import pytest

from live import PATIENCE_SECONDS, serving
from thebes import Events, Security

Fields = Iterable[tuple[str, str | bytes]]

# What a browser sends when a person opens a page, and what a script's fetch() of the same page sends.
NAVIGATION = (("Accept", "text/html,*/*;q=0.8"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none"))
FETCH = (("Accept", "*/*"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin"))
HTTPS = ("X-Forwarded-Proto", "https")
PLAIN = ("X-Forwarded-Proto", "http")
_HANDSHAKE = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),  # RFC 6455, 1.3
)
_unseen = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back on the wire."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def every(self, name: str) -> list[str]:
        """Return all values of a field, in order."""
        return [value for known, value in self.fields if known.lower() == name]

    def only(self, name: str) -> str:
        """Return the value of a field that must stand exactly once."""
        values = self.every(name)
        assert len(values) == 1, f"{name} stands {len(values)} times: {values}"
        return values[0]

    @property
    def kind(self) -> str:
        """The problem's own name; empty where the answer is none of the package's problems."""
        if self.every("content-type") != ["application/problem+json"]:
            return ""
        return str(json.loads(self.body)["type"]).removeprefix("urn:thebes:problem:")


class Served:
    """A protected app that listens on loopback.

    Attributes:
        app: The object that was protected.
        base: Fields that each request carries unless it is told otherwise.
        lines: Security events as written; of the same event and reason in one second only the first.
    """

    def __init__(self, url: str, app: Any, security: Security, lines: list[str], base: Fields) -> None:
        self.url = url
        self.app = app
        self.security = security
        self.lines = lines
        self.base = tuple(base)
        self._port = int(url.rpartition(":")[2])

    @property
    def events(self) -> list[dict[str, Any]]:
        """The security events, decoded."""
        return [json.loads(line) for line in self.lines]

    @property
    def reached(self) -> list[str]:
        """What got through to the board."""
        return self.app.state.reached  # type: ignore[no-any-return]

    def forget(self) -> None:
        """Start with empty lists again."""
        self.reached.clear()
        self.security.events.flush()
        self.security.events.counts.clear()
        self.lines.clear()

    def ask(
        self,
        method: str = "GET",
        target: str = "/page",
        fields: Fields = (),
        *,
        body: bytes = b"",
        base: Fields | None = None,
        version: str = "1.1",
    ) -> Answered:
        """Send one request exactly as written and read the answer."""
        pairs = [*(self.base if base is None else base), *fields, ("Connection", "close")]
        if body or method in {"POST", "PUT", "PATCH"}:
            pairs.append(("Content-Length", str(len(body))))
        return self.send(_request(method, target, pairs, version) + body, method)

    def handshake(
        self, fields: Fields = (), *, base: Fields | None = None, target: str = "/socket"
    ) -> Answered:
        """Ask for a WebSocket: 101 is a success."""
        pairs = [*(self.base if base is None else base), *_HANDSHAKE, *fields]
        return self.send(_request("GET", target, pairs, "1.1"))

    def send(self, raw: bytes, method: str = "GET") -> Answered:
        """Write bytes to a new connection and read one answer."""
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS) as connection:
            connection.sendall(raw)
            response = HTTPResponse(connection, method=method)
            try:
                response.begin()
                body = b"" if response.status == 101 else response.read()
                return Answered(response.status, tuple(response.getheaders()), body)
            finally:
                response.close()


@contextmanager
def protecting(
    app: Any,
    *,
    mode: str = "production",
    without: Iterable[str] = (),
    prepare: Callable[[Security], None] = lambda security: None,
    wrap: bool = False,
    server: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Serve `app` behind the pass until the block ends.

    Args:
        mode: Production has the host example.com and the declared proxy 127.0.0.1 unless told otherwise.
        without: Names of defences to take out.
        prepare: Called with the Security before the app is protected.
        wrap: Whether the app is wrapped in place of protected.
        server: Options for uvicorn.
        settings: Of `Security`.
    """
    lines: list[str] = []

    def note(_severity: str, line: str) -> None:
        # These clients write no X-Forwarded-For, which would be said of every one of them.
        if '"client_uncertain"' not in line:
            lines.append(line)

    # Hundreds of attacks come from one address: the limit is as wide as it can be, and the check stays.
    chosen: dict[str, Any] = {"events": Events(note), "limits": "1000000/second burst 1000000"}
    if mode == "production":
        chosen |= {"hosts": ["example.com", "www.example.com"], "proxies": ["127.0.0.1"]}
        chosen |= {"health": "GET /healthz"}
    complete = Security(**(chosen | settings))
    prepare(complete)
    security = complete.without(*without)
    protected = security.wrap(app) if wrap else security.protect(app)
    with ExitStack() as stack:
        # The plan is read while the server starts; afterwards the process is as it was.
        with in_mode(mode):
            url = stack.enter_context(serving(protected, **(server or {})))
        is_production = mode == "production"
        host = "example.com" if is_production else url.partition("://")[2]
        base = [("Host", host), *([HTTPS] if is_production else [])]
        yield Served(url, app, security, lines, base)


@contextmanager
def in_mode(mode: str) -> Iterator[pytest.MonkeyPatch]:
    """Put this process into a mode, in an empty project that has what production needs."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("THEBES_ENV", mode)
        for name, value in needed_in_production().items():
            patch.setenv(name, value)
        yield patch


def unseen_address() -> str:
    """Return a client's address that no request came from yet, of the network for benchmarks (RFC 2544)."""
    number = next(_unseen)
    return f"198.18.{number >> 8}.{number & 255}"


def named_client(address: str | None = None) -> list[tuple[str, str]]:
    """Return the field by which a declared proxy names a client; one that is unseen if None."""
    return [("X-Forwarded-For", address or unseen_address())]


def needed_in_production() -> dict[str, str]:
    """Return settings without which nothing starts in production: fresh keys, a store, a mail server."""
    return {
        "THEBES_SECRET_KEYS": strong_keys(),
        "THEBES_DATABASE_URL": "sqlite:///accounts.db",
        "THEBES_MAIL_URL": "smtps://localhost",
    }


def strong_keys() -> str:
    """Return a fresh value for THEBES_SECRET_KEYS."""
    return "k1:" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def _request(method: str, target: str, pairs: Fields, version: str) -> bytes:
    lines = [f"{method} {target} HTTP/{version}".encode("latin-1")]
    for name, value in pairs:
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
    return b"\r\n".join([*lines, b"", b""])
