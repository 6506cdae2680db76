"""Serve an app through the accept loop, with deadlines short enough for tests, and speak to it byte for byte."""

import asyncio
import itertools
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from issuing import Authority
from live import PATIENCE_SECONDS, eventually
from thebes import Events
from thebes.serve.accepting import Door, LoopKind
from thebes.serve.gate import Gate
from thebes.serve.guards import Guards
from thebes.serve.renewal import CertificateFiles

SECONDS = 0.3
"""The deadlines of tests."""

# The handshake keeps its 10 s: on a busy machine an honest one may take longer than the deadlines of tests.
QUICK = Guards(
    header_seconds=SECONDS,
    body_seconds=SECONDS,
    idle_seconds=SECONDS,
    stalled_seconds=SECONDS,
    linger_seconds=SECONDS,
    stop_seconds=5,
)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True)
class Said:
    """All that a server said on one connection, and how long it took from the first byte sent to the end.

    Attributes:
        was_reset: The end was a reset, not an orderly close.
    """

    raw: bytes
    seconds: float
    was_reset: bool

    @property
    def statuses(self) -> list[int]:
        """The status codes, in order."""
        return [int(status) for status in _STATUS.findall(self.raw)]

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the first answer, by lower-case name."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


class Gated:
    """A running server.

    Attributes:
        app: What it serves.
        gate: Its gate, with the counters.
        lines: Security events as written.
        ports: The port of each door.
    """

    def __init__(
        self,
        app: Any,
        gate: Gate,
        server: uvicorn.Server,
        ports: dict[Door, int],
        lines: list[str],
        root: Any,
    ) -> None:
        self.app = app
        self.gate = gate
        self.server = server
        self.ports = ports
        self.lines = lines
        self._root = root

    @property
    def open_connections(self) -> int:
        """How many connections are counted now."""
        return self.gate.connections.total

    def tls_context(self) -> ssl.SSLContext:
        """Return a client's context that verifies the server."""
        return ssl.create_default_context(cafile=self._root)

    def connect(self, door: Door = Door.PROXY, *, source: str = "127.0.0.1") -> socket.socket:
        """Return a connection from an address of this machine, after the handshake where there is one."""
        plain = self.connect_tcp(door, source=source)
        if door is not Door.TLS:
            return plain
        try:
            return self.tls_context().wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def connect_tcp(self, door: Door = Door.PROXY, *, source: str = "127.0.0.1") -> socket.socket:
        """Return a connection on which nothing was said."""
        address = ("127.0.0.1", self.ports[door])
        connection = socket.create_connection(address, PATIENCE_SECONDS, source_address=(source, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def say(self, *pieces: bytes | float, door: Door = Door.PROXY, source: str = "127.0.0.1") -> Said:
        """Send pieces, with pauses where a number of seconds stands, and read until the server ends it."""
        with self.connect(door, source=source) as connection:
            began = time.monotonic()
            with suppress(OSError):
                for piece in pieces:
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    else:
                        time.sleep(piece)
            raw, was_reset = read_to_end(connection)
            return Said(raw, time.monotonic() - began, was_reset)


def events_to(lines: list[str]) -> Events:
    """Return events that write every line at once: a minute passes between any two of them."""
    minutes = itertools.count(step=60)
    return Events(lambda _severity, line: lines.append(line), clock=lambda: next(minutes))


def read_to_end(connection: socket.socket) -> tuple[bytes, bool]:
    """Return what is still said on a connection, and whether a reset ended it."""
    raw = b""
    try:
        while piece := connection.recv(65536):
            raw += piece
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        return raw, True
    return raw, False


def read_answer(connection: socket.socket) -> bytes:
    """Return one answer that has a Content-Length."""
    raw = b""
    while (end := raw.find(b"\r\n\r\n")) < 0:
        raw += _more(connection)
    length = re.search(rb"\r\ncontent-length: (\d+)", raw[:end].lower())
    assert length, raw
    while len(raw) < end + 4 + int(length[1]):
        raw += _more(connection)
    return raw


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    assert piece, "the server closed in the middle of an answer"
    return piece


@contextmanager
def gated(
    app: Any,
    *,
    loop: LoopKind,
    authority: Authority | None = None,
    guards: Guards = QUICK,
    doors: tuple[Door, ...] = (Door.PROXY,),
    hsts: bytes | None = b"max-age=63072000",
    unlimited: tuple[Any, ...] = (),
    prepare: Callable[[Gate], None] = lambda gate: None,
    hosts: tuple[str, ...] = ("localhost",),
    **options: Any,
) -> Iterator[Gated]:
    """Serve an app on loopback ports until the block ends; with an authority there is a TLS door too.

    Args:
        prepare: Called with the gate before it opens.
        options: For `uvicorn.Config`.
    """
    files = None
    if authority is not None:
        doors = (*doors, Door.TLS)
        files = CertificateFiles(certificate=authority.certificate, key=authority.key, hosts=hosts)
    bound = [(_bound(), door) for door in doors]
    lines: list[str] = []
    gate = Gate(
        guards,
        {listening.getsockname(): door for listening, door in bound},
        files=files,
        hsts=hsts,
        unlimited=unlimited,
        events=events_to(lines),
        watch_seconds=SECONDS / 6,
    )
    prepare(gate)
    settings: dict[str, Any] = {"log_config": None, "lifespan": "off", "access_log": False}
    server = uvicorn.Server(gate.config(app, loop=loop, **(settings | options)))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[listening for listening, _ in bound])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started, errors
        ports = {door: listening.getsockname()[1] for listening, door in bound}
        yield Gated(app, gate, server, ports, lines, authority.root if authority else None)
    finally:
        server.should_exit = True
        thread.join(2 * PATIENCE_SECONDS)
        for listening, _ in bound:
            listening.close()
    assert not thread.is_alive(), "the server did not stop"
    assert not errors, errors


def _bound() -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    return listening


def slower(guards: Guards = QUICK, **changes: Any) -> Guards:
    """Return guards with some values changed."""
    return replace(guards, **changes)


class Echo:
    """An ASGI app that answers with path and length of the body, and notes what reached it.

    `/slow` reads its body only once `gate` is set, `/late` then answers without reading, `/listen` listens for
    the client's going until then; `/early` answers at once without reading, `/large` answers 8 MiB, `/fails`
    raises; a WebSocket sends every text back.
    """

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.scopes: list[Any] = []
        self.outcomes: list[str] = []
        self.gate = threading.Event()

    def forget(self) -> None:
        """Start with empty notes."""
        self.reached.clear()
        self.scopes.clear()
        self.outcomes.clear()
        self.gate.clear()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.reached.append(scope["path"])
        if scope["type"] == "websocket":
            await self._echo(receive, send)
            return
        length = 0
        if scope["path"] in ("/slow", "/late"):
            await self._wait()
        if scope["path"] not in ("/early", "/late"):
            while (message := await receive())["type"] == "http.request":
                length += len(message["body"])
                if not message["more_body"]:
                    break
            self.outcomes.append(message["type"])
            if message["type"] == "http.disconnect":
                return
        if scope["path"] == "/listen":
            await self._wait(receive)
        if scope["path"] == "/fails":
            raise RuntimeError("as it was asked to")
        body = bytes(8 * 1024 * 1024) if scope["path"] == "/large" else f"{scope['path']} {length}".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _wait(self, receive: Any = None) -> None:
        listening = asyncio.ensure_future(receive()) if receive else None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.gate.is_set():
                await asyncio.sleep(0.005)
        if listening is not None:
            listening.cancel()

    async def _echo(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
