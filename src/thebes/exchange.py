"""One exchange: the app's answer, or ours in its place, on the way to the server.

Whoever speaks, the response rules are applied to the fields of the first message; a refusal in the
middle of a body drops what the app sends later; and each reply of ours is recorded as an event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from thebes.answers import UNCAUGHT, Rendered, render
from thebes.events import Events, Outcome, Severity
from thebes.facts import Answer, Denial, Field, Message, Reply, RequestFacts, Scope, Send

NO_STORE: Field = (b"cache-control", b"no-store")
WAITING, BEGUN, CLOSED = range(3)
# A rule's `__call__`, bound: it is called faster than the object.
Apply = Callable[[RequestFacts, list[Field]], None]


class Exchange:
    """One answer on its way: who has begun it, and what is added to its fields.

    Attributes:
        stage: `WAITING` for an answer; `BEGUN` by the app; `CLOSED` to the app, since the answer is ours.
        is_refused: Whether the pass refused while the app was at work.
    """

    # One lies on the way of each message: slots are one block of memory, and read the fastest.
    __slots__ = ("_events", "_facts", "_offered", "_rules", "_send", "is_refused", "stage")

    def __init__(self, rules: Sequence[Apply], events: Events, facts: RequestFacts, send: Send) -> None:
        self._rules = rules
        self._events = events
        self._facts = facts
        self._send = send
        self._offered: Answer | None = None
        self.stage = WAITING
        self.is_refused = False

    # A plain function that returns the server's awaitable: a coroutine of our own would cost a layer
    # for every chunk of every body.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the app sends, with the rules applied to its first message."""
        stage = self.stage
        if stage:
            return self._send(message) if stage == BEGUN else _dropped()
        if message["type"] not in _STARTS:
            return self._before_start(message)
        if self._offered is not None and not _answers(message, self._offered):
            return self.answer(self._offered)
        if self._facts.renewal is not None:
            return self._renew_and_send(message)
        self.stage = BEGUN
        return self._send(self._completed(message))

    async def _renew_and_send(self, message: Message) -> None:
        """Begin the answer with what the renewal of the session adds to it."""
        self.stage = BEGUN  # a refusal in the middle of the body must not answer too
        try:
            renewed = await self._renewed()
        except BaseException:
            self.stage = WAITING  # nothing is sent yet, so there can be an answer still
            raise
        await self._send(self._completed(message, renewed))

    async def _renewed(self) -> Sequence[Field]:
        renewal, self._facts.renewal = self._facts.renewal, None
        return () if renewal is None else tuple(await renewal())

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
        was_waiting, self.stage = self.stage == WAITING, CLOSED
        if was_waiting:
            await self._deliver(rendered)

    async def refuse(self, denial: Denial) -> None:
        """Refuse in the middle of a body; too late for an answer, the rest is still dropped."""
        self.is_refused = True
        await self.answer(denial)

    async def fail(self) -> None:
        """Record that the app failed, and answer for it unless somebody has answered already."""
        if self.stage == WAITING:
            await self.answer(UNCAUGHT)
        else:
            self._record(UNCAUGHT)

    async def finish(self) -> None:
        """Answer for an app that has returned without an answer.

        Nothing is recorded for a request: an app may return when its client has left.
        """
        if self._facts.is_websocket:
            self._record(UNCAUGHT)
        await self._deliver(render(UNCAUGHT, self._facts))

    async def _close_handshake(self, message: Message) -> None:
        """Let an app's refusal of a handshake carry our fields too, where the server can send them."""
        if _takes_responses(self._facts.scope):
            await self._deliver(Rendered(403, ((b"content-length", b"0"),), b""))
        else:
            self.stage = BEGUN
            await self._send(message)

    async def _deliver(self, rendered: Rendered) -> None:
        self.stage = CLOSED
        prefix = ""
        scope = self._facts.scope
        if scope["type"] == "websocket":
            if not _takes_responses(scope):
                # 1008 is "policy violation"; before the handshake servers answer it with 403.
                await self._send({"type": "websocket.close", "code": 1008})
                return
            prefix = "websocket."
        headers = list(rendered.headers)
        start = {"type": prefix + "http.response.start", "status": rendered.status}
        renewed = await self._renewed()
        await self._send(self._completed({**start, "headers": headers}, renewed))
        body = b"" if scope.get("method") == "HEAD" else rendered.body
        await self._send({"type": prefix + "http.response.body", "body": body})

    def _completed(self, message: Message, renewed: Sequence[Field] = ()) -> Message:
        """Return the first message of an answer with all that is added to its fields."""
        facts = self._facts
        # Both are copied: an app may send the same message, or the same list of fields, again and again.
        headers = list(message.get("headers", ()))
        for rule in self._rules:
            rule(facts, headers)
        if renewed:
            # No cache may keep an answer that carries somebody's cookies (HTTP-06), whatever the app says.
            headers = [pair for pair in headers if pair[0].lower() != b"cache-control"]
            headers += (NO_STORE, *renewed)
        begun = dict(message)
        begun["headers"] = headers
        return begun

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
