"""The accept loop: caps before TLS, the certificate of this moment, and release with the socket.

uvicorn runs on it unchanged. The event loop that it is given answers its call of `create_server`, and no
other, with a server of ours. `Gate.assert_taken` says after the start whether that happened.

A TLS layer costs 46 KiB on uvloop and 280 on asyncio. To wait with it for a client's first byte would
make silent clients cheaper, but only those who don't send that byte; the caps bound both.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from thebes.serve.connections import Connections, CountedSocket
from thebes.serve.guards import Guards

if TYPE_CHECKING:
    import ssl

    from uvicorn.server import ServerState

LoopKind = Literal["uvloop", "asyncio"]
# So many accepts, then the others' turn: under a flood each step of an honest handshake waits for one row.
ACCEPTS_IN_A_ROW = 16
# Nothing to accept with: it gets better when connections end. Trying on would burn the core.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
REST_SECONDS = 1.0
# SO_LINGER with 0 s: closing sends a reset, and the kernel keeps no state of the connection.
_RESET = struct.pack("ii", 1, 0)

ACCEPT_PAUSED = "accept-paused"
# Who was let in before the stop may finish its handshake: two round trips on the slowest of lines.
HANDSHAKE_GRACE_SECONDS = 2.0
# As often as uvicorn looks whether what it waits for is over.
LOOK_SECONDS = 0.1
# What both loops grant by default; the protocol ends earlier where a client only keeps silent.
TLS_SHUTDOWN_SECONDS = 30.0

Factory = Callable[[], asyncio.Protocol]


class Door(Enum):
    """What a listening socket is for."""

    TLS = "tls"
    PROXY = "proxy"  # plain HTTP from a proxy in front
    REDIRECT = "redirect"  # plain HTTP from anybody, who is sent to https


class Gatekeeper(Protocol):
    """What accepting needs to know and to tell; the gate is one."""

    guards: Guards
    connections: Connections

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context for the next connection."""

    def load_certificate(self) -> None:
        """Read the certificate, in the process that will serve it."""

    def open(
        self, loop: asyncio.AbstractEventLoop, factory: Factory, listening: socket.socket, backlog: int, /
    ) -> Listener:
        """Start to accept on a bound socket."""

    def closed(self, listener: Listener, /) -> None:
        """Forget a listener."""

    def tell(self, kind: str, client: str | None, /) -> None:
        """Record that a connection was refused, or that none can be accepted."""


def new_loop(kind: LoopKind, gate: Gatekeeper) -> asyncio.AbstractEventLoop:
    """Return an event loop on which uvicorn's servers accept through the gate.

    Raises:
        CertificateError: The gate's certificate can't serve.
    """
    gate.load_certificate()
    base: type[asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
    if kind == "uvloop":
        import uvloop  # noqa: PLC0415 - not on Windows

        base = uvloop.Loop

    class AcceptingLoop(base):  # type: ignore[valid-type, misc]
        async def create_server(self, protocol_factory: Any, *arguments: Any, **options: Any) -> Any:
            if getattr(protocol_factory, "__module__", "") != "uvicorn.server":
                return await super().create_server(protocol_factory, *arguments, **options)
            return gate.open(self, protocol_factory, options["sock"], options["backlog"])

    return AcceptingLoop()


class Listener(asyncio.AbstractServer):
    """Accepts on one listening socket.

    Args:
        gate: Counts, and knows what the socket is for.
        loop: The running loop.
        factory: Makes the protocol of a connection.
        listening: A bound socket; whoever bound it closes it.
        door: What it is for.
    """

    def __init__(
        self,
        gate: Gatekeeper,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        listening: socket.socket,
        door: Door,
    ) -> None:
        self.sockets = (listening,)
        self._gate = gate
        self._loop = loop
        self._factory = factory
        self._listening = listening
        self._door = door
        self._kind = (int(listening.family), int(listening.type), listening.proto)
        self._is_tcp = listening.family in (socket.AF_INET, socket.AF_INET6)
        self._handshakes: set[asyncio.Task[None]] = set()
        self._served: ServerState | None = None  # uvicorn's, once a protocol was made
        self._has_late = False  # a handshake ended after `close`
        self._rest: asyncio.TimerHandle | None = None
        self._row = 1
        self._backlog = 0
        self._is_open = False

    def open(self, backlog: int) -> None:
        """Listen."""
        self._listening.setblocking(False)
        self._listening.listen(backlog)
        self._backlog = backlog
        self._is_open = True
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more but whom the kernel has; they may finish their handshakes, and ask once."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._listening.fileno())
        if self._rest is None:
            self._row = self._backlog
            self._accept()
        if self._rest is not None:
            self._rest.cancel()
        if self._handshakes:
            self._loop.call_later(HANDSHAKE_GRACE_SECONDS, self._drop_handshakes)
        self._gate.closed(self)

    async def wait_closed(self) -> None:
        """Wait for the handshakes that were under way, and for all that came of them.

        uvicorn waits for its connections first, within the same time limit, and then ends the app.
        """
        if self._handshakes:
            await asyncio.wait(self._handshakes)
        while self._has_late and self._is_serving_on():  # noqa: ASYNC110 - uvicorn's sets tell nobody
            await asyncio.sleep(LOOK_SECONDS)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that it accepts on."""
        return self._loop

    def is_serving(self) -> bool:
        """Say whether it accepts."""
        return self._is_open

    async def start_serving(self) -> None:
        """Do nothing: it accepts from `open` on."""

    async def serve_forever(self) -> None:
        """Refuse: uvicorn's own loop runs the server.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("uvicorn serves")

    def _accept(self) -> None:
        """Accept a row of connections: longer from call to call while there are more than fit in one."""
        # Not until there are none left, which most often would cost a system call and an exception for one.
        for _ in range(self._row):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                self._row = 1
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    continue  # this one client has gone again
                self._gate.tell(ACCEPT_PAUSED, None)
                self._loop.remove_reader(self._listening.fileno())
                self._rest = self._loop.call_later(REST_SECONDS, self._accept_again)
                return
            self._admit(accepted, peer)
        self._row = min(2 * self._row, ACCEPTS_IN_A_ROW)

    def _accept_again(self) -> None:
        self._rest = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def _admit(self, accepted: socket.socket, peer: Any) -> None:
        host = peer[0] if self._is_tcp else None
        release = self._gate.connections.admit(host)
        if isinstance(release, str):
            self._gate.tell(release, host)
            if self._is_tcp:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            accepted.close()
            return
        connection = CountedSocket(*self._kind, fileno=accepted.detach())
        connection.on_close = release
        connection.setblocking(False)
        if self._is_tcp:
            # The loops set it only where the socket's protocol is named, which depends on who bound it.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(connection))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, connection: CountedSocket) -> None:
        tls: dict[str, Any] = {}
        if self._door is Door.TLS:
            tls = {
                "ssl": self._gate.context,
                "ssl_handshake_timeout": self._gate.guards.handshake_seconds,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
            }
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._make_protocol, connection, **tls)
        except OSError:
            # Not TLS, no common version, too slow, or gone: nothing that a handshake could still be told.
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            if not self._is_open:
                self._stop_late(transport)

    def _stop_late(self, transport: asyncio.Transport) -> None:
        """Tell a connection that the server stops: uvicorn told those that it had."""
        self._has_late = True
        owner: Any = transport.get_protocol()  # may be that of a WebSocket; None where the client has gone
        if owner is not None:
            owner.shutdown()

    def _is_serving_on(self) -> bool:
        served = self._served
        return served is not None and bool(served.connections or served.tasks)

    def _drop_handshakes(self) -> None:
        for task in self._handshakes:
            task.cancel()

    def _make_protocol(self) -> asyncio.Protocol:
        protocol: Any = self._factory()
        self._served = protocol.server_state
        if self._door is Door.REDIRECT:
            protocol.is_plain_listener = True
        return protocol  # type: ignore[no-any-return]
