"""One exchange: the app's answer, or ours in its place, on the way to the server.

Whoever speaks, the response rules are applied to the fields of the first message; a refusal in the
middle of a body drops what the app sends later; and each reply of ours is recorded as an event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from thebes.answers import UNCAUGHT, Rendered, render
from thebes.events import Events, Outcome, Severity
from thebes.facts import Answer, Denial, Field, Message, Reply, RequestFacts, Scope, Send

# A rule's `__call__`, bound: it is called faster than the object.
Apply = Callable[[RequestFacts, list[Field], Mapping[bytes, bytes]], None]


class Exchange:
    """One answer on its way: who has begun it, and what is added to its fields.

    Attributes:
        is_started: Whether anybody has begun an answer.
        is_closed: Whether what the app sends is dropped from now on.
        is_refused: Whether that is so since the pass refused while the app was at work.
    """

    # As class attributes these cost nothing on the requests, nearly all, that never change them.
    is_started = False
    is_closed = False
    is_refused = False
    _offered: Answer | None = None

    def __init__(
        self,
        rules: Sequence[Apply],
        events: Events,
        facts: RequestFacts,
        scope: Scope,
        send: Send,
    ) -> None:
        self._rules = rules
        self._events = events
        self._facts = facts
        self._scope = scope
        self._send = send

    # A plain function that returns the server's awaitable: a coroutine of our own would cost a layer
    # for every chunk of every body.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the app sends, with the rules applied to its first message."""
        if self.is_closed:
            return _dropped()
        if self.is_started:
            return self._send(message)
        if message["type"] not in _STARTS:
            return self._before_start(message)
        if self._offered is not None and not _answers(message, self._offered):
            return self.answer(self._offered)
        return self._send(self._begin(message))

    def _before_start(self, message: Message) -> Awaitable[None]:
        is_refusal = message["type"] == "websocket.close"
        return self._close_handshake(message) if is_refusal else self._send(message)

    def offers(self, reply: Reply) -> bool:
        """Keep an answer that the app may give itself (its own CORS, say), for when it doesn't."""
        if not isinstance(reply, Answer) or reply.unless is None:
            return False
        self._offered = reply
        return True

    async def answer(self, reply: Reply) -> None:
        """Answer in place of the app, and close the exchange to it."""
        rendered = render(reply, self._facts)
        self._record(reply)
        begun, self.is_closed = self.is_started, True
        if not begun:
            await self._deliver(rendered)

    async def refuse(self, denial: Denial) -> None:
        """Refuse in the middle of a body; too late for an answer, the rest is still dropped."""
        self.is_refused = True
        await self.answer(denial)

    async def fail(self) -> None:
        """Record that the app failed, and answer for it unless somebody has answered already."""
        if self.is_started:
            self._record(UNCAUGHT)
        else:
            await self.answer(UNCAUGHT)

    async def finish(self) -> None:
        """Answer for an app that has returned without an answer.

        Nothing is recorded for a request: an app may return when its client has left.
        """
        if self._facts.is_websocket:
            self._record(UNCAUGHT)
        await self._deliver(render(UNCAUGHT, self._facts))

    async def _close_handshake(self, message: Message) -> None:
        """Let an app's refusal of a handshake carry our fields too, where the server can send them."""
        if _takes_responses(self._scope):
            await self._deliver(Rendered(403, ((b"content-length", b"0"),), b""))
        else:
            self.is_started = True
            await self._send(message)

    async def _deliver(self, rendered: Rendered) -> None:
        prefix = ""
        if self._scope["type"] == "websocket":
            if not _takes_responses(self._scope):
                # 1008 is "policy violation"; before the handshake servers answer it with 403.
                await self._send({"type": "websocket.close", "code": 1008})
                return
            prefix = "websocket."
        headers = list(rendered.headers)
        start = {"type": prefix + "http.response.start", "status": rendered.status}
        await self._send(self._begin({**start, "headers": headers}))
        body = b"" if self._scope.get("method") == "HEAD" else rendered.body
        await self._send({"type": prefix + "http.response.body", "body": body})

    def _begin(self, message: Message) -> Message:
        self.is_started = True
        facts = self._facts
        headers = list(message.get("headers", ()))
        fields: dict[bytes, bytes] = dict(headers)
        for rule in self._rules:
            rule(facts, headers, fields)
        return {**message, "headers": headers}

    def _record(self, reply: Reply) -> None:
        facts = self._facts
        if facts.is_health:
            return
        if isinstance(reply, Answer):
            if reply.event:
                self._emit(facts, reply.event, "info", "allowed", None, None)
        elif reply.status >= 500:
            self._emit(facts, "request_failed", "error", "failed", reply.kind, reply.hint)
        else:
            self._emit(facts, "request_denied", "warning", "denied", reply.kind, reply.hint)

    def _emit(
        self,
        facts: RequestFacts,
        event: str,
        severity: Severity,
        outcome: Outcome,
        reason: str | None,
        detail: str | None,
    ) -> None:
        self._events.emit(
            event,
            severity=severity,
            outcome=outcome,
            reason=reason,
            client=facts.client.address,
            request_id=facts.request_id,
            method=facts.method,
            route=facts.scope["path"],
            detail=detail,
        )


def _takes_responses(scope: Scope) -> bool:
    """Say whether the server can answer a handshake with a whole response."""
    return "websocket.http.response" in (scope.get("extensions") or {})


def _answers(message: Message, offered: Answer) -> bool:
    """Say whether the app's own answer holds the field by which it speaks for itself."""
    return any(name.lower() == offered.unless for name, _ in message.get("headers", ()))


async def _dropped() -> None:
    """Stand for a message that nobody will get."""


_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
