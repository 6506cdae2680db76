"""The pass: one ASGI middleware, outermost, once for each request.

It asks the checks in their order, guards the body, lets the app answer, and applies the response rules
to whatever is answered: the app's words, denials and errors alike. It knows facts and checks only and
names no practice; with a single check it is the middleware of that one practice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thebes.answers import MISCONFIGURED, UNCAUGHT, Rendered, render
from thebes.errors import ConfigurationError, ThebesError
from thebes.events import Events, Outcome, Severity
from thebes.facts import (
    SCOPE_KEY,
    USUAL_METHODS,
    Answer,
    ASGIApp,
    BodyGuard,
    Denial,
    InstantCheck,
    Message,
    Receive,
    Reply,
    RequestFacts,
    ResponseRule,
    Scope,
    Send,
    Surroundings,
)
from thebes.lifespan import serve_lifespan


@dataclass(frozen=True, slots=True)
class Plan:
    """What the pass does, settled when the app starts: checks and rules in their order."""

    checks: Sequence[InstantCheck] = ()
    rules: Sequence[ResponseRule] = ()
    surroundings: Surroundings = field(default_factory=Surroundings)
    events: Events = field(default_factory=Events)
    guards: Sequence[BodyGuard] = field(init=False)
    # By method: who has anything to say about a request with a body, and about one without.
    with_body: Mapping[str, Sequence[InstantCheck]] = field(init=False)
    without_body: Mapping[str, Sequence[InstantCheck]] = field(init=False)

    def __post_init__(self) -> None:
        guards = [check for check in self.checks if isinstance(check, BodyGuard)]
        asked = {
            method: tuple(check for check in self.checks if method not in _indifferent(check))
            for method in USUAL_METHODS
        }
        object.__setattr__(self, "guards", tuple(guards))
        object.__setattr__(self, "with_body", asked)
        without = {method: tuple(c for c in checks if c not in guards) for method, checks in asked.items()}
        object.__setattr__(self, "without_body", without)

    def checks_for(self, facts: RequestFacts) -> Sequence[InstantCheck]:
        """Return the checks that may refuse this request, in their order."""
        if facts.is_websocket:
            return self.checks
        asked = self.with_body if facts.may_have_body else self.without_body
        return asked.get(facts.method, self.checks)


def _indifferent(check: InstantCheck) -> frozenset[str]:
    methods: frozenset[str] = getattr(check, "indifferent_to", frozenset())
    return methods


class SecurityMiddleware:
    """An ASGI 3 application that protects another.

    Args:
        app: The application behind the pass.
        checks: Asked in this order until one answers.
        rules: Applied to the fields of every answer.
        plan: Returns the whole plan when the app starts, instead of `checks` and `rules`; what it
            raises as `ConfigurationError` fails the start, or each request where there is no lifespan.
    """

    def __init__(
        self,
        app: ASGIApp,
        checks: Sequence[InstantCheck] = (),
        rules: Sequence[ResponseRule] = (),
        *,
        plan: Callable[[], Plan] | None = None,
    ) -> None:
        self.app = app
        self._make_plan = plan or (lambda: Plan(checks, rules))
        self._plan: Plan | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, handshake or lifespan."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        plan = self._plan
        if plan is None:
            try:
                plan = self._start(scope)
            except ThebesError:
                facts = RequestFacts(scope, Surroundings())
                await _Exchange(Plan(), facts, scope, send).answer(MISCONFIGURED)
                raise
        facts = RequestFacts(scope, plan.surroundings)
        exchange = _Exchange(plan, facts, scope, send)
        for check in plan.checks_for(facts):
            reply = check(facts)
            if reply is not None and not exchange.offers(reply):
                await exchange.answer(reply)
                return
        if facts.may_have_body:
            for guard in plan.guards:
                receive = guard.guard(facts, receive, exchange.refuse)
        try:
            await self.app({**scope, SCOPE_KEY: facts}, receive, exchange.send)
        except Exception:
            if exchange.was_refused:
                return  # frameworks raise when a client goes away; here it was we who refused
            await exchange.fail()
            # The full error is the server's to log; whoever calls us in a test wants to see it.
            raise
        if not exchange.is_begun:
            await exchange.finish()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def app(inner: Scope, receive: Receive, send: Send) -> None:
            await self.app({**inner, SCOPE_KEY: True}, receive, send)

        await serve_lifespan(app, scope, receive, send, lambda: self._start(scope))
        if self._plan is not None:
            self._plan.events.flush()

    def _start(self, scope: Scope) -> Plan:
        if SCOPE_KEY in scope:
            raise ConfigurationError("this app stands behind two passes: protect or wrap it once")
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan


class _Exchange:
    """One answer on its way: who has begun it, and what is added to its fields."""

    _is_started = False
    _is_closed = False
    _is_refused = False
    _offered: Answer | None = None

    def __init__(self, plan: Plan, facts: RequestFacts, scope: Scope, send: Send) -> None:
        self._plan = plan
        self._facts = facts
        self._scope = scope
        self._send = send

    # A plain function that returns the server's awaitable: a coroutine of our own would cost a layer
    # for every chunk of every body.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the app sends, with the rules applied to its first message."""
        if self._is_closed:
            return _dropped()
        if not self._is_started and message["type"] in _STARTS:
            if self._offered is not None and not _answers(message, self._offered):
                return self.answer(self._offered)
            message = self._begin(message)
        elif not self._is_started and message["type"] == "websocket.close":
            return self._close_handshake(message)
        return self._send(message)

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
        begun, self._is_closed = self._is_started, True
        if not begun:
            await self._deliver(rendered)

    async def refuse(self, denial: Denial) -> None:
        """Refuse in the middle of a body; too late for an answer, the rest is still dropped."""
        self._is_refused = True
        await self.answer(denial)

    async def fail(self) -> None:
        """Record that the app failed, and answer for it unless somebody has answered already."""
        if self._is_started:
            self._record(UNCAUGHT)
        else:
            await self.answer(UNCAUGHT)

    @property
    def was_refused(self) -> bool:
        """Whether the pass has refused while the app was at work."""
        return self._is_refused

    @property
    def is_begun(self) -> bool:
        """Whether anybody has begun an answer."""
        return self._is_started or self._is_closed

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
            self._is_started = True
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
        self._is_started = True
        facts = self._facts
        headers = list(message.get("headers", ()))
        fields: dict[bytes, bytes] = dict(headers)
        for rule in self._plan.rules:
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
        self._plan.events.emit(
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
