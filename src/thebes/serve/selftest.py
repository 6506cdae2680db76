"""Attack ourselves before the port opens: a guard that no longer bites stops the start.

Most guards stand on what uvicorn, httptools, the event loop and OpenSSL do, in whatever versions are
installed. So each start serves a trivial app on a loopback port, through the same accept loop, with
deadlines of a tenth of a second, and tries what the internet will try. It takes half a second.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import uvicorn

from thebes.errors import ConfigurationError
from thebes.events import Events
from thebes.facts import Message, Receive, Scope, Send
from thebes.serve.accepting import Door, LoopKind
from thebes.serve.gate import Gate
from thebes.serve.guards import Guards
from thebes.serve.protocol import GuardedProtocol
from thebes.serve.renewal import CertificateFiles

DEADLINE_SECONDS = 0.1
# A busy machine may be late, and miss such deadlines itself; a guard that is gone stays gone.
PATIENCE_SECONDS = 3.0
ATTEMPTS = 3
SHARE = 6
QUICK = Guards(
    handshake_seconds=DEADLINE_SECONDS,
    header_seconds=DEADLINE_SECONDS,
    body_seconds=DEADLINE_SECONDS,
    idle_seconds=DEADLINE_SECONDS,
    linger_seconds=DEADLINE_SECONDS,
    connections_per_address=SHARE,
)
_HOST = b"Host: localhost\r\n"
_GET = b"GET / HTTP/1.1\r\n" + _HOST
_HOLD = b"GET /hold HTTP/1.1\r\n" + _HOST + b"\r\n"
_POST = b"POST / HTTP/1.1\r\n" + _HOST

# What must be answered with which status, and be the last on its connection.
REFUSED = {
    "a bare LF": (400, _GET + b"X: a\nY: b\r\n\r\n"),
    "a bare CR": (400, _GET + b"X: a\rY: b\r\n\r\n"),
    "a folded line": (400, _GET + b"X: a\r\n b\r\n\r\n"),
    "a space before the colon": (400, _GET + b"X : a\r\n\r\n"),
    "two lengths": (400, _POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    "a signed length": (400, _POST + b"Content-Length: +1\r\n\r\na"),
    "a length beside a coding": (
        400,
        _POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a coding other than chunked": (400, _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a header section over the limit": (431, _GET + b"X: " + b"a" * QUICK.header_bytes + b"\r\n\r\n"),
    "too many header fields": (431, _GET + b"X: a\r\n" * QUICK.header_fields + b"\r\n"),
    "a target over the limit": (
        414,
        b"GET /" + b"a" * QUICK.target_bytes + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
    ),
}
# What must be answered with 408 once its deadline is over.
TOO_SLOW = {
    "a header section that doesn't end": _GET,
    "a body that doesn't end": _POST + b"Content-Length: 2\r\n\r\na",
}
SLOW_HANDSHAKE = "a TLS handshake that doesn't end"


def self_test(
    loop: LoopKind,
    files: CertificateFiles | None = None,
    *,
    protocol: type[GuardedProtocol] = GuardedProtocol,
) -> None:
    """Try every guard on a loopback port.

    Args:
        loop: The kind of event loop that will serve.
        files: The certificate, where TLS will be served.
        protocol: For tests: one that lacks something.

    Raises:
        ConfigurationError: A guard doesn't bite; one sentence for each.
    """
    for _ in range(ATTEMPTS):
        problems = _problems(loop, files, protocol)
        if not problems:
            return
    raise ConfigurationError(
        *(f"self-test: {problem}" for problem in problems),
        f"nothing is served; this is uvicorn {uvicorn.__version__}: install the versions that"
        " thebes[standard] asks for",
    )


def _problems(
    loop: LoopKind, files: CertificateFiles | None, protocol: type[GuardedProtocol]
) -> Sequence[str]:
    with _serving(loop, files, protocol) as (gate, plain_port, tls_port), contextlib.ExitStack() as stack:
        try:
            slow: dict[str, socket.socket] = {}
            for name, request in TOO_SLOW.items():
                slow[name] = stack.enter_context(_sent(plain_port, request))
            if tls_port is not None:
                slow[SLOW_HANDSHAKE] = stack.enter_context(_sent(tls_port, b"\x16"))
            return [*_refusals(plain_port), *_deadlines(slow), *_caps(gate, plain_port)]
        except OSError as error:
            return [f"no answer at all ({error})"]


def _refusals(port: int) -> Iterator[str]:
    if _status_of(_sent(port, _GET + b"Connection: close\r\n\r\n")) != 200:
        yield "an honest request is not answered"
    for name, (expected, request) in REFUSED.items():
        # The second request must go unanswered.
        if _status_of(_sent(port, request + _GET + b"\r\n")) != expected:
            yield f"{name} is not answered with {expected} and the end of the connection"


def _deadlines(slow: Mapping[str, socket.socket]) -> Iterator[str]:
    """Say which slow clients were not cut off. They began together, so they end together."""
    for name, connection in slow.items():
        if _status_of(connection) != (0 if name == SLOW_HANDSHAKE else 408):
            yield f"{name} is not cut off after {DEADLINE_SECONDS} s"


def _caps(gate: Gate, port: int) -> Iterator[str]:
    """Say whether one address gets more than its share, and whether all is given back."""
    count = gate.connections
    if not _wait_until(lambda: count.total == 0):
        yield f"{count.total} connections are counted that are closed"
        return
    with contextlib.ExitStack() as stack:
        for _ in range(SHARE):
            stack.enter_context(_sent(port, _HOLD))
        _wait_until(lambda: count.total == SHARE)
        if _gets_in(port):
            yield f"one address gets more than the {SHARE} connections that it may have"
    if not _wait_until(lambda: count.total == 0 and not count.by_address):
        yield f"of {SHARE} connections that were closed {count.total} are still counted"


@contextlib.contextmanager
def _serving(
    loop: LoopKind, files: CertificateFiles | None, protocol: type[GuardedProtocol]
) -> Iterator[tuple[Gate, int, int | None]]:
    sockets = [_listening() for _ in range(1 if files is None else 2)]
    doors = dict(zip((bound.getsockname() for bound in sockets), (Door.PROXY, Door.TLS), strict=False))
    gate = Gate(QUICK, doors, files=files, events=Events(lambda _severity, _line: None))
    options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
    server = uvicorn.Server(gate.config(_trivial_app, loop=loop, protocol=protocol, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, daemon=True)
    thread.start()
    try:
        _wait_until(lambda: server.started or not thread.is_alive())
        ports = [bound.getsockname()[1] for bound in sockets]
        yield gate, ports[0], ports[1] if len(ports) > 1 else None
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        for bound in sockets:
            bound.close()


async def _trivial_app(scope: Scope, receive: Receive, send: Send) -> None:
    message: Message = {"more_body": True}
    while message.get("more_body") or (scope["path"] == "/hold" and message["type"] != "http.disconnect"):
        message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def _gets_in(port: int) -> bool:
    """Say whether another connection is served; a reset may come while it is made."""
    try:
        return _status_of(_sent(port, _GET + b"\r\n")) != 0
    except ConnectionError:
        return False


def _listening() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    return bound


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


def _sent(port: int, request: bytes) -> socket.socket:
    connection = _connected(port)
    with contextlib.suppress(ConnectionError):  # a refused connection may be gone already
        connection.sendall(request)
    return connection


def _status_of(connection: socket.socket) -> int:
    """Read to the end; return the status of the only answer, 0 if none came, -1 in any other case."""
    answer = b""
    with connection:
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionError:
            pass
        except TimeoutError:
            return -1
    if not answer:
        return 0
    return int(answer[9:12]) if answer.count(b"HTTP/1.1 ") == 1 else -1


def _wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()
