"""Start and stop: what is missing is named before the first request.

The pass checks its settings when the server says `lifespan.startup`. Apps that know no lifespan
(Django raises on it) are answered for; an app that fails in the middle of its own start fails the start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from thebes.errors import ThebesError
from thebes.facts import ASGIApp, Message, Receive, Scope, Send


async def serve_lifespan(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, start: Callable[[], Awaitable[object]]
) -> None:
    """Run `start` at startup, then the app's own lifespan, if it has one."""
    try:
        await start()
    except Exception as error:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": _message(error)})
        raise  # servers keep quiet about it by now, and test clients would wait for ever
    talk = _Talk(receive, send)
    try:
        await app(scope, talk.receive, talk.send)
    except Exception as error:
        if talk.was_answered:
            raise
        if talk.was_received:
            await send({"type": "lifespan.startup.failed", "message": _message(error)})
            raise
    if not talk.was_answered:
        await _answer_for_the_app(talk, send)


def _message(error: Exception) -> str:
    if isinstance(error, ThebesError):
        return f"thebes: {error}"
    return f"the app failed to start: {type(error).__name__}"


async def _answer_for_the_app(talk: _Talk, send: Send) -> None:
    if not talk.was_received:
        await talk.receive()
    await send({"type": "lifespan.startup.complete"})
    await talk.receive()
    await send({"type": "lifespan.shutdown.complete"})


class _Talk:
    """What the server and the app have said to each other so far."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.was_received = False
        self.was_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.was_received = True
        return message

    async def send(self, message: Message) -> None:
        self.was_answered = True
        await self._send(message)
