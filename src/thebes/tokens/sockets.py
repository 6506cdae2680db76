"""Open WebSockets of sessions: closed within seconds of the session's end.

A handshake is authenticated once, and the connection lives on for hours. So each signed-in one is kept here,
and one task for all of them asks every second what has ended: by the list of revocations, which costs nothing
while it stands still, and at the time when a session would expire by its row in the store. A socket whose
session is over gets a close frame, its app a disconnect, and nothing passes in either direction any more.

If nobody can say for seconds whether sessions have ended, the sockets are closed too: what nobody knows to be
good isn't believed.

Does not protect: what was said before; other transports that stay open, such as server-sent events.

Sources: CSR-11; ASVS 5.0.0, 4.4.1 and 7.4.1; RFC 6455, 7.4.1 (1008, policy violation; 1013 is IANA's).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from thebes.errors import StoreUnavailable
from thebes.facts import ASGIApp, Message, Receive, Scope, Send, ServeSocket
from thebes.stores.sessions import Owner, Session, SessionStore
from thebes.tokens.claims import Claims, SessionClaims
from thebes.tokens.revocations import Revocations

# CSR-11 allows 5 seconds: one until it is noticed, and as long as PATIENCE where the store is away.
TICK_SECONDS = 1.0
PATIENCE_SECONDS = 3.0
ENDED = (1008, "the session has ended")
UNKNOWN = (1013, "try again later")

SocketClaims = Claims | SessionClaims

_log = logging.getLogger(__name__)


class OpenSockets:
    """The signed-in WebSockets of one process.

    Args:
        revocations: What this process knows of ended sessions.
        store: Holds the sessions; asked at each handshake, and when one would expire.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        revocations: Revocations,
        store: SessionStore,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._revocations = revocations
        self._store = store
        self._clock = clock
        self._open: set[_Socket] = set()
        self._known_at = 0.0
        self._watching: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def watched(self, claims: SocketClaims) -> ServeSocket:
        """Return what serves the connection of a handshake that is signed in, by these claims."""
        return partial(self._serve, claims)

    async def _serve(
        self, claims: SocketClaims, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        socket = _Socket(claims, receive, send)
        self._begin(socket)
        try:
            with suppress(StoreUnavailable):  # then the first look asks again
                await self._look_at_row(socket, self._clock())
            if not socket.is_over:
                await app(scope, socket.receive, socket.send)
        finally:
            self._forget(socket)
            await socket.leave()

    async def look(self, now: float | None = None) -> None:
        """Close the sockets whose session has ended by now; the task does it every second."""
        instant = self._clock() if now is None else now
        try:
            if self._revocations.is_behind():
                await self._revocations.catch_up(now=now)
            for socket in [one for one in self._open if not one.is_over]:
                claims = socket.claims
                if self._revocations.concerns(claims.sid, claims.sub, claims.epoch):
                    socket.end(*ENDED)
                elif instant >= socket.look_at:
                    await self._look_at_row(socket, instant)
            self._known_at = instant
        except Exception:
            # Whatever keeps us from knowing: the task must live, and nobody may profit from it.
            if instant - self._known_at > PATIENCE_SECONDS:
                _log.exception("open WebSockets are closed: nobody can say whether their sessions have ended")
                for socket in self._open:
                    socket.end(*UNKNOWN)

    async def _look_at_row(self, socket: _Socket, now: float) -> None:
        row, owner = await self._store.find(socket.claims.sid) or (None, None)
        ends_at = _end_of(row, owner, socket.claims.epoch)
        if now >= ends_at:
            socket.end(*ENDED)
        socket.look_at = ends_at

    def _begin(self, socket: _Socket) -> None:
        if not self._open:
            self._known_at = self._clock()
            self._watching = asyncio.create_task(self._watch())
        self._open.add(socket)

    def _forget(self, socket: _Socket) -> None:
        self._open.discard(socket)
        if not self._open and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.look()


class _Socket:
    """One connection between its server and its app.

    Attributes:
        look_at: When its session would expire, as far as is known.
        is_over: Whether nothing passes any more.
    """

    def __init__(self, claims: SocketClaims, receive: Receive, send: Send) -> None:
        self.claims = claims
        self.look_at = 0.0
        self.is_over = False
        self._receive = receive
        self._send = send
        self._ended: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._reading: asyncio.Future[Message] | None = None
        self._closing: asyncio.Task[None] | None = None

    def end(self, code: int, reason: str) -> None:
        """Close the connection; the app gets a disconnect at once, whatever the client does."""
        if self.is_over:
            return
        self.is_over = True
        self._ended.set_result({"type": "websocket.disconnect", "code": code, "reason": reason})
        # A task of its own: a client that reads nothing would keep the others waiting.
        self._closing = asyncio.create_task(self._close(code, reason))

    async def receive(self) -> Message:
        """Return the client's next message, or the disconnect once the session is over."""
        if not self._ended.done():
            # Kept while nobody waits for it: a message that came isn't lost if the app gives up waiting.
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._receive())
            await asyncio.wait((self._reading, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            return self._ended.result()
        reading, self._reading = self._reading, None
        message = reading.result()  # type: ignore[union-attr] # it is done, or we would wait
        if message["type"] == "websocket.disconnect":
            self.is_over = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the app says.

        Raises:
            OSError: The session is over; frameworks take it for a client that has left (ASGI 2.4).
        """
        is_close = message["type"] == "websocket.close"
        if self._ended.done():
            if is_close:
                return
            raise ConnectionResetError("the session has ended")
        if is_close:
            self.is_over = True
        await self._send(message)

    async def leave(self) -> None:
        """Let go of what is still waited for, and see the close frame off: the app has returned."""
        self.is_over = True
        if self._reading is not None:
            self._reading.cancel()
        if self._closing is not None:
            await self._closing

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except Exception:
            # Servers raise what they like where the client was quicker.
            _log.debug("a connection was closed already", exc_info=True)


def _end_of(row: Session | None, owner: Owner | None, epoch: int) -> float:
    """Return until when a session goes on unless it is used or ended: 0 if it is over."""
    if row is None or owner is None or row.revoked_at is not None or not owner.is_enabled:
        return 0.0
    if owner.epoch != epoch:
        return 0.0  # what the handshake's token said isn't true any longer
    return min(row.expires_at, row.used_at + row.idle_seconds)
