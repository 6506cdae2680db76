"""The load: raw keep-alive connections that count nothing but right answers.

A server that refuses everything looks fast, so every answer is compared with what the handler must
say, and a hostile request, sent before anything is measured, shows which server guards.

The client is blocking on purpose: it asks on one connection, then waits on the next, and is faster
than the server, which therefore always has work. Requests are made once, before the clock is read.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

CONNECTIONS = 8
WARM_LAPS = 3  # questions on each fresh connection before the clock is read
TIMEOUT_S = 30.0
BUFFER_BYTES = 64 * 1024

USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
)
ACCEPT = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;"
    "q=0.8,application/signed-exchange;v=b3;q=0.7"
)

# The 13 fields of a navigation, as Chromium 156 sends them.
NAVIGATION = f"""\
GET {{target}} HTTP/1.1
Host: {{host}}
Connection: keep-alive
sec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: {USER_AGENT}
Accept: {ACCEPT}
Sec-Fetch-Site: none
Sec-Fetch-Mode: navigate
Sec-Fetch-Dest: document
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
"""

# The 16 fields of a fetch() with a JSON body.
FETCH = f"""\
POST {{target}} HTTP/1.1
Host: localhost
Connection: keep-alive
Content-Length: {{length}}
sec-ch-ua-platform: "Linux"
User-Agent: {USER_AGENT}
sec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"
Content-Type: application/json
sec-ch-ua-mobile: ?0
Accept: */*
Origin: {{origin}}
Sec-Fetch-Site: {{site}}
Sec-Fetch-Mode: cors
Sec-Fetch-Dest: empty
Referer: {{origin}}/
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
"""

# The 11 fields of `new WebSocket(...)`. Compression is not offered: it would make messages dearer
# on both sides and so bring the ratio nearer to 1.
HANDSHAKE = f"""\
GET {{target}} HTTP/1.1
Host: localhost
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: {USER_AGENT}
Upgrade: websocket
Origin: {{origin}}
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
"""

# What a proxy in front adds.
FORWARDED = """\
X-Forwarded-For: 203.0.113.7
X-Forwarded-Proto: https
"""

OWN_ORIGIN = "https://localhost"
"""Where the protected app lives in the eyes of a browser: behind the proxy, on the default port."""

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class WrongAnswerError(Exception):
    """The server did not say what the handler says: nothing measured would mean anything."""


class Conversation(Protocol):
    """One kind of question and answer, on connections that stay open."""

    def open(self, port: int) -> socket.socket:
        """Return a connection on which `ask` may be called."""
        ...

    def ask(self, connection: socket.socket) -> None:
        """Send one question."""
        ...

    def hear(self, connection: socket.socket) -> None:
        """Wait for one answer. Raises WrongAnswerError unless it is the expected one."""
        ...


@dataclass(frozen=True, slots=True)
class HttpConversation:
    """The same request again and again, answered by 200 and the same body.

    Attributes:
        shows: What else must stand in the head of each answer.
    """

    request: bytes
    body: bytes
    shows: bytes = field(default=b"", kw_only=True)

    def open(self, port: int) -> socket.socket:
        """Return a connection to the server."""
        return _connect(port)

    def ask(self, connection: socket.socket) -> None:
        """Send the request."""
        connection.sendall(self.request)

    def hear(self, connection: socket.socket) -> None:
        """Wait for the answer. Raises WrongAnswerError unless it is 200 with the expected body."""
        head, body = read_answer(connection)
        if not head.startswith(b"HTTP/1.1 200 ") or body != self.body or self.shows not in head:
            expected = f"200, {self.shows!r} and {self.body!r}"
            raise WrongAnswerError(f"expected {expected}, got {head!r} and {body[:300]!r}")


@dataclass(frozen=True, slots=True)
class TurnsConversation:
    """One request after the other, all answered alike.

    Attributes:
        requests: The next is sent with each question; it must not run out.
        answer: What every answer has to be.
    """

    requests: Iterator[bytes]
    answer: HttpConversation

    def open(self, port: int) -> socket.socket:
        """Return a connection to the server."""
        return _connect(port)

    def ask(self, connection: socket.socket) -> None:
        """Send the request whose turn it is."""
        connection.sendall(next(self.requests))

    def hear(self, connection: socket.socket) -> None:
        """Wait for the answer. Raises WrongAnswerError unless it is the expected one."""
        self.answer.hear(connection)


@dataclass(frozen=True, slots=True)
class WebSocketConversation:
    """The same text message again and again, echoed (RFC 6455): at most 125 bytes, one frame."""

    handshake: bytes
    message: bytes

    def open(self, port: int) -> socket.socket:
        """Return a connection after the handshake. Raises WrongAnswerError unless it succeeds."""
        connection = _connect(port)
        connection.sendall(self.handshake)
        head, _ = read_answer(connection)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise WrongAnswerError(f"expected 101, got {head!r}")
        return connection

    def ask(self, connection: socket.socket) -> None:
        """Send the message; the mask is all zeros, which leaves the text as it is."""
        connection.sendall(
            bytes((0x81, 0x80 | len(self.message), 0, 0, 0, 0)) + self.message,
        )

    def hear(self, connection: socket.socket) -> None:
        """Wait for the echo. Raises WrongAnswerError unless it is the message in one frame."""
        expected = bytes((0x81, len(self.message))) + self.message
        frame = connection.recv(BUFFER_BYTES)
        while 0 < len(frame) < len(expected):
            frame += _receive_more(connection, frame)
        if frame != expected:
            raise WrongAnswerError(f"expected the echo {expected!r}, got {frame[:300]!r}")


def cost_ns(conversation: Conversation, port: int, *, count: int, cpu_ns: Callable[[], int]) -> float:
    """Return the server's CPU time for one exchange in nanoseconds, as `cpu_ns` tells it.

    Connections are fresh for each call, since the server closes what idles for 5 s, and warmed.

    Args:
        count: Exchanges to measure; rounded up to fill all connections.
        cpu_ns: The CPU time that the server has used so far, in nanoseconds.

    Raises:
        WrongAnswerError: An answer was not the expected one.
    """
    laps = max(1, -(-count // CONNECTIONS) - 1)
    with ExitStack() as stack:
        connections = [stack.enter_context(conversation.open(port)) for _ in range(CONNECTIONS)]
        for _ in range(WARM_LAPS):
            _lap(conversation, connections)
        before = cpu_ns()
        for connection in connections:
            conversation.ask(connection)
        for connection in itertools.chain.from_iterable(itertools.repeat(connections, laps)):
            conversation.hear(connection)
            conversation.ask(connection)
        for connection in connections:
            conversation.hear(connection)
        return (cpu_ns() - before) / ((laps + 1) * CONNECTIONS)


def status_of(port: int, request: bytes) -> int:
    """Return the status code that one request gets."""
    return int(answer_of(port, request)[0].split(b" ", 2)[1])


def answer_of(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Return head and body of the answer that one request gets on a connection of its own."""
    with _connect(port) as connection:
        connection.sendall(request)
        return read_answer(connection)


def navigation(target: str, *, host: str = "localhost") -> bytes:
    """Return the request that Chromium sends for a navigation to `target`."""
    return _head(NAVIGATION.format(target=target, host=host))


def fetch(target: str, body: bytes, *, site: str, origin: str) -> bytes:
    """Return the POST of a JSON body that the `fetch()` of a page of `origin` sends."""
    head = FETCH.format(target=target, length=len(body), site=site, origin=origin)
    return _head(head) + body


def handshake(target: str, *, origin: str) -> bytes:
    """Return the request that opens a WebSocket from a page of `origin`."""
    return _head(HANDSHAKE.format(target=target, origin=origin))


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of one answer, framed by its Content-Length (0 without one)."""
    data = connection.recv(BUFFER_BYTES)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _receive_more(connection, data)
    head = data[:end]
    length = _CONTENT_LENGTH.search(head)
    total = end + 4 + (int(length[1]) if length else 0)
    while len(data) < total:
        data += _receive_more(connection, data)
    return head, data[end + 4 :]


def with_field(request: bytes, name: str, value: str) -> bytes:
    """Return a request with one more field of the browser's: behind its others, before the proxy's."""
    proxys = b"\r\nX-Forwarded-For: "
    return request.replace(proxys, f"\r\n{name}: {value}".encode("ascii") + proxys, 1)


def _head(text: str) -> bytes:
    return f"{text}{FORWARDED}\n".replace("\n", "\r\n").encode("ascii")


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _lap(conversation: Conversation, connections: list[socket.socket]) -> None:
    for connection in connections:
        conversation.ask(connection)
    for connection in connections:
        conversation.hear(connection)


def _receive_more(connection: socket.socket, so_far: bytes) -> bytes:
    more = connection.recv(BUFFER_BYTES)
    if not more:
        raise WrongAnswerError(f"the server closed the connection after {so_far[:300]!r}")
    return more
