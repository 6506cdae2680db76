"""The pass: one ASGI middleware, outermost, once for each request.

It asks the checks in their order, guards the body, lets the app answer, and applies the response rules
to whatever is answered: the app's words, denials and errors alike. It knows facts and checks only and
names no practice; with a single check it is the middleware of that one practice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from thebes.answers import MISCONFIGURED
from thebes.errors import ConfigurationError, ThebesError
from thebes.events import Events
from thebes.exchange import Apply, Exchange
from thebes.facts import (
    SCOPE_KEY,
    USUAL_METHODS,
    ASGIApp,
    BodyGuard,
    Charging,
    InstantCheck,
    Receive,
    Reply,
    RequestFacts,
    ResponseRule,
    Scope,
    Send,
    Surroundings,
)
from thebes.lifespan import serve_lifespan

Ask = Callable[[RequestFacts], Reply | None]


class CountingCheck(InstantCheck, Charging, Protocol):
    """A check that counts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the pass does, settled when the app starts: checks and rules in their order."""

    checks: Sequence[InstantCheck] = ()
    rules: Sequence[ResponseRule] = ()
    surroundings: Surroundings = field(default_factory=Surroundings)
    events: Events = field(default_factory=Events)
    guards: Sequence[BodyGuard] = field(init=False)
    # Who may refuse a request, by its method: with a body, without one, and of any kind. As bound methods,
    # which are called faster than objects.
    with_body: Mapping[str, Sequence[Ask]] = field(init=False)
    without_body: Mapping[str, Sequence[Ask]] = field(init=False)
    all_checks: Sequence[Ask] = field(init=False)
    apply: Sequence[Apply] = field(init=False)
    counters: Sequence[CountingCheck] = field(init=False)

    def __post_init__(self) -> None:
        guards = tuple(check for check in self.checks if isinstance(check, BodyGuard))
        bodyless = [check for check in self.checks if check not in guards]
        object.__setattr__(self, "guards", guards)
        object.__setattr__(self, "with_body", {one: _asked(self.checks, one) for one in USUAL_METHODS})
        object.__setattr__(self, "without_body", {one: _asked(bodyless, one) for one in USUAL_METHODS})
        object.__setattr__(self, "all_checks", tuple(check.__call__ for check in self.checks))
        object.__setattr__(self, "apply", tuple(rule.__call__ for rule in self.rules))
        object.__setattr__(self, "counters", tuple(c for c in self.checks if isinstance(c, Charging)))

    def charge(self, facts: RequestFacts, answered_by: Ask) -> None:
        """Let those count the request that were not asked, since an earlier check has answered."""
        for check in self.counters:
            if answered_by != check.__call__:
                check.charge(facts)


def _asked(checks: Sequence[InstantCheck], method: str) -> Sequence[Ask]:
    asked = (check for check in checks if method not in getattr(check, "indifferent_to", ()))
    return tuple(check.__call__ for check in asked)


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
                await Exchange((), Events(), facts, scope, send).answer(MISCONFIGURED)
                raise
        facts = RequestFacts(scope, plan.surroundings)
        exchange = Exchange(plan.apply, plan.events, facts, scope, send)
        by_method = plan.with_body if facts.may_have_body else plan.without_body
        for ask in plan.all_checks if facts.is_websocket else by_method.get(facts.method, plan.all_checks):
            reply = ask(facts)
            if reply is not None and not exchange.offers(reply):
                plan.charge(facts, ask)
                await exchange.answer(reply)
                return
        if facts.may_have_body:
            for guard in plan.guards:
                receive = guard.guard(facts, receive, exchange.refuse)
        try:
            await self.app({**scope, SCOPE_KEY: facts}, receive, exchange.send)
        except Exception:
            if exchange.is_refused:
                return  # frameworks raise when a client goes away; here it was we who refused
            await exchange.fail()
            # The full error is the server's to log; whoever calls us in a test wants to see it.
            raise
        if not (exchange.is_started or exchange.is_closed):
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
