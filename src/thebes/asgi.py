"""The pass: one ASGI middleware, outermost, once for each request.

It asks the checks in their order, guards the body, lets the app answer, and applies the response rules
to whatever is answered: the app's words, denials and errors alike. It knows facts and checks only and
names no practice; with a single check it is the middleware of that one practice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from thebes.answers import MISCONFIGURED
from thebes.checks import (
    ArrivalCheck,
    AwaitedCheck,
    BodyGuard,
    BodyReader,
    Charging,
    CountingCheck,
    InstantCheck,
    ResponseRule,
)
from thebes.errors import ConfigurationError, ThebesError
from thebes.events import Events
from thebes.exchange import WAITING, Apply, Exchange
from thebes.facts import (
    SCOPE_KEY,
    USUAL_METHODS,
    Answer,
    ASGIApp,
    Denial,
    Message,
    Receive,
    Reply,
    RequestFacts,
    Scope,
    Send,
    Surroundings,
)
from thebes.forwarding import Arrival
from thebes.lifespan import serve_lifespan

# A check that has to wait, for a store say, answers with an awaitable; most never do.
REPLIES = (Answer, Denial)
_LAST_WORDS = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")
Ask = Callable[[RequestFacts], "Reply | Awaitable[Reply | None] | None"]


class OwnRoutes(Protocol):
    """The paths that the package answers itself, behind the same checks as the app's."""

    @property
    def may_own(self) -> Callable[[str], object]:
        """Say for little whether a path as it came could be one of them; most never are."""

    def owns(self, path: str | None, /) -> bool:
        """Say whether a plain path is one of them; None is a path that isn't plain."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Answer, as an ASGI application."""


class Service(Protocol):
    """What has to be opened before the first request, and closed after the last."""

    async def start(self, *, lives: bool) -> None:
        """Open it; `lives` says whether somebody will close it (a lifespan), so that work may go on."""

    async def close(self) -> None:
        """Finish what has begun, and close it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the pass does, settled when the app starts: checks and rules in their order."""

    checks: Sequence[InstantCheck | AwaitedCheck] = ()
    rules: Sequence[ResponseRule] = ()
    surroundings: Surroundings = field(default_factory=Surroundings)
    events: Events = field(default_factory=Events)
    readers: Sequence[BodyReader] = ()
    own: OwnRoutes | None = None
    service: Service | None = None
    guards: Sequence[BodyGuard] = field(init=False)
    arrival_checks: Sequence[ArrivalCheck] = field(init=False)
    # Who may refuse a request: one of any kind; and one whose arrival passes, by its method, with a body or
    # without. As bound methods, which are called faster than objects.
    all_checks: Sequence[Ask] = field(init=False)
    with_body: Mapping[str, Sequence[Ask]] = field(init=False)
    without_body: Mapping[str, Sequence[Ask]] = field(init=False)
    apply: Sequence[Apply] = field(init=False)
    counters: Sequence[CountingCheck] = field(init=False)

    def __post_init__(self) -> None:
        guards = tuple(check for check in self.checks if isinstance(check, BodyGuard))
        arrival_checks = tuple(check for check in self.checks if isinstance(check, ArrivalCheck))
        further = [check for check in self.checks if check not in arrival_checks]
        bodyless = [check for check in further if check not in guards]
        object.__setattr__(self, "guards", guards)
        object.__setattr__(self, "arrival_checks", arrival_checks)
        object.__setattr__(self, "all_checks", tuple(check.__call__ for check in self.checks))
        object.__setattr__(self, "with_body", {one: _asked(further, one) for one in USUAL_METHODS})
        object.__setattr__(self, "without_body", {one: _asked(bodyless, one) for one in USUAL_METHODS})
        object.__setattr__(self, "apply", tuple(rule.__call__ for rule in self.rules))
        object.__setattr__(self, "counters", tuple(c for c in self.checks if isinstance(c, Charging)))

    def passes(self, arrival: Arrival) -> bool:
        """Ask those who judge arrivals, and remember it with the arrival if none objects."""
        passes = all(check.passes(arrival) for check in self.arrival_checks)
        if passes:
            arrival.passed = self
        return passes

    def charge(self, facts: RequestFacts, answered_by: Ask) -> None:
        """Let those count the request that were not asked, since an earlier check has answered."""
        for check in self.counters:
            if answered_by != check.__call__:
                check.charge(facts)


def _asked(checks: Sequence[InstantCheck | AwaitedCheck], method: str) -> Sequence[Ask]:
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
        self._made: Plan | None = None
        self._plan: Plan | None = None  # made, and its service is open

    # One function, since a call more is paid for by every request.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0912
        """Serve one request, handshake or lifespan."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        plan = self._plan
        if plan is None:
            plan = await self._start_late(scope, send)
        facts = RequestFacts(scope, plan.surroundings)
        exchange = Exchange(plan.apply, plan.events, facts, send)
        asked = plan.all_checks
        arrival = facts.arrival
        if (arrival.passed is plan or plan.passes(arrival)) and not facts.is_websocket:
            by_method = plan.with_body if facts.may_have_body else plan.without_body
            asked = by_method.get(facts.method, asked)
        for ask in asked:
            reply = ask(facts)
            if reply is None:
                continue
            if not isinstance(reply, REPLIES):
                reply = await reply
            if reply is not None and not exchange.offers(reply):
                plan.charge(facts, ask)
                await exchange.answer(reply)
                return
        if facts.may_have_body:
            for guard in plan.guards:
                receive = guard.guard(facts, receive, exchange.refuse)
        inner = dict(scope)  # copied whole and added to: two thirds of the price of {**scope, ...}
        inner[SCOPE_KEY] = facts
        if facts.app_headers is not None:
            inner["headers"] = facts.app_headers
        app: ASGIApp = self.app
        if plan.own is not None and plan.own.may_own(scope["path"]) and plan.own.owns(facts.path):
            app = plan.own
        elif plan.readers and not facts.is_websocket:
            denial, receive = await _read(plan.readers, facts, receive)
            if denial is not None:
                await exchange.answer(denial)
                return
        try:
            if facts.socket is None:
                await app(inner, receive, exchange.send)
            else:
                await facts.socket(app, inner, receive, exchange.send)
        except Exception:
            if exchange.is_refused:
                return  # frameworks raise when a client goes away; here it was we who refused
            await exchange.fail()
            # The full error is the server's to log; whoever calls us in a test wants to see it.
            raise
        if exchange.stage == WAITING:
            await exchange.finish()

    async def _start_late(self, scope: Scope, send: Send) -> Plan:
        """Start with the first request, where no lifespan did."""
        try:
            return await self._start(scope, lives=False)
        except ThebesError:
            facts = RequestFacts(scope, Surroundings())
            await Exchange((), Events(), facts, send).answer(MISCONFIGURED)
            raise

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def app(inner: Scope, receive: Receive, send: Send) -> None:
            await self.app({**inner, SCOPE_KEY: True}, receive, send)

        async def send_at_last(message: Message) -> None:
            # Once the server has been told that all is over it cancels whatever is still at work.
            if message["type"] in _LAST_WORDS:
                await self._stop()
            await send(message)

        try:
            await serve_lifespan(app, scope, receive, send_at_last, lambda: self._start(scope, lives=True))
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._plan is not None:
            plan, self._plan, self._made = self._plan, None, None
            if plan.service is not None:
                # What is closed stays closed: a later lifespan, as test clients have, gets its own.
                await plan.service.close()
            plan.events.flush()

    async def _start(self, scope: Scope, *, lives: bool) -> Plan:
        if SCOPE_KEY in scope:
            raise ConfigurationError("this app stands behind two passes: protect or wrap it once")
        if self._made is None:
            self._made = self._make_plan()
        plan = self._made
        if plan.service is not None:
            # Whoever comes first opens it, the others wait for the same.
            await plan.service.start(lives=lives)
        self._plan = plan
        return plan


async def _read(
    readers: Sequence[BodyReader], facts: RequestFacts, receive: Receive
) -> tuple[Reply | None, Receive]:
    for reader in readers:
        if reader.concerns(facts):
            reply, receive = await reader.read(facts, receive)
            if reply is not None:
                return reply, receive
    return None, receive
