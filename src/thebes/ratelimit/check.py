"""The check that counts each request for its client's address, and refuses with 429 what is too much.

Every public route is covered without being named; a route is free of it only by `limit=None`. A request
counts once, under its route's own limit or else the app's. All keys of an address are looked at first,
and charged only if all agree: what is refused costs nothing.

Does not protect: from a flood that fills the line or the accept queue (this is no DDoS protection), nor
from a botnet whose members each stay below the limit.

Sources: RFC 6585, 4; RFC 9110, 10.2.3; draft-ietf-httpapi-ratelimit-headers-11; ASVS 2.4.1, 15.3.4.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from threading import Lock
from time import monotonic_ns
from typing import Literal, Protocol, cast

from thebes.errors import ConfigurationError
from thebes.facts import Denial, RequestFacts
from thebes.ratelimit.budgets import NETWORK_MARK, Bound, Budget, Excess, Policy
from thebes.ratelimit.limits import Limit
from thebes.ratelimit.rules import Rule, default_rule

# What a route's `limit` is unless it has one of its own, or None.
DEFAULT = "default"
MAX_NAME = 64  # characters, so that a long pattern doesn't fill a header field

Event = Literal["limit_exceeded", "limit_overflow"]


class LimitedRoute(Protocol):
    """What is declared of limits for a route."""

    @property
    def limit(self) -> object:
        """`"default"`, None (free), or a tuple of rules."""

    @property
    def cost(self) -> int:
        """What one request costs; 1 unless declared."""


class Report(Protocol):
    """What is called when something happened that no answer tells."""

    def __call__(self, event: Event, *, policy: str, facts: RequestFacts | None) -> None:
        """Record that a rule that only monitors was exceeded, or that a table overflowed."""


# Before an account's id, so that it is no address: whoever is signed in counts under that, wherever they are.
ACCOUNT = "account "


class RateLimits:
    """Count requests by address; the instant check named `limits`.

    Args:
        default: The rules of every route that declares none; 1200 a minute with a burst of 600 if None.
        routes: Patterns with what is declared for them, so that their tables are there from the start.
        monitor: Whether all rules only count and report, and nothing is refused.
        report: Told of rules that only monitor and of tables that overflow.
        clock: Nanoseconds of a monotonic clock.

    Attributes:
        refused: How many requests each policy has refused.
        observed: How many it would have refused, if it did more than monitor.

    Raises:
        ConfigurationError: A route whose cost its limit could never pay.
    """

    name = "limits"

    def __init__(
        self,
        default: Iterable[Rule] | None = None,
        *,
        routes: Iterable[tuple[str, LimitedRoute]] = (),
        monitor: bool = False,
        report: Report | None = None,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.refused: Counter[str] = Counter()
        self.observed: Counter[str] = Counter()
        self._monitor = monitor
        self._report = report
        self._clock = clock
        # One for all rules of a request: all are looked at, then all are charged.
        self._lock = Lock()
        self._policies: dict[Rule, Policy] = {}
        self._budgets: dict[tuple[Rule, ...], Budget] = {}
        self._default = self._budget(tuple(default or (default_rule(),)), None)
        for pattern, route in routes:
            budget = self._budget_of(route, pattern)
            if budget is not None and not 1 <= route.cost <= budget.most_at_once:
                raise ConfigurationError(
                    f"{pattern} costs {route.cost}; its limit allows 1 to {budget.most_at_once}"
                )

    def __call__(self, facts: RequestFacts) -> Denial | None:
        """Count a request or handshake; 429 when its budget is spent (RAT-01, 02, 05)."""
        surroundings = facts.surroundings
        if surroundings.health is not None and facts.is_health:
            return None
        if facts.claims is not None:
            client = ACCOUNT + facts.claims.sub
        else:
            client = (facts.arrival.client or facts.client).address
        if surroundings.routes.is_empty:
            budget, cost = self._default, 1
        elif facts.path is None:
            return self._count_unclear(facts, client)
        else:
            route = cast("LimitedRoute", facts.route)
            declared = self._budget_of(route)
            if declared is None:
                return None
            budget, cost = declared, route.cost
        slack = budget.spend(client, cost)
        if slack >= 0:
            return None
        excesses = budget.excesses(client, cost, slack)
        return self._judge(excesses, facts) if excesses else None

    def _count_unclear(self, facts: RequestFacts, client: str) -> Denial | None:
        """Count a request whose path could be read in two ways under every limit that it could mean.

        Else `/api%2Fsearch`, which many routers take for `/api/search`, would be free of that route's limit.
        """
        costs = {self._default: 1}
        for possible in cast("Sequence[LimitedRoute]", facts.possible_routes):
            budget = self._budget_of(possible)
            if budget is not None:
                costs[budget] = max(costs.get(budget, 1), possible.cost)
        excesses = self._default.spend_together(costs, client)
        return self._judge(excesses, facts) if excesses else None

    def is_spent(self, facts: RequestFacts) -> Denial | None:
        """Return what an address has earned already, and charge nothing: before costly work for strangers."""
        if facts.is_health:
            return None
        excesses = self._default.overdrawn(facts.client.address)
        violated = [excess for excess in excesses if not excess.policy.monitor]
        return denial(violated) if violated else None

    def charge(self, facts: RequestFacts, cost: int = 1) -> None:
        """Charge a client for a request that another check refused; here it isn't refused for that.

        Health checks and free routes cost nothing. For requests that this check didn't see, or for what
        they cost beyond: a request counts once.
        """
        if facts.is_health:
            return
        is_default = facts.surroundings.routes.is_empty
        budget = self._default if is_default else self._budget_of(cast("LimitedRoute", facts.route))
        if budget is not None:
            budget.charge(facts.client.address, cost)

    def bounds(self) -> list[Bound]:
        """Return every rule with what it admits and what it takes up."""
        return [policy.bound() for policy in self._policies.values()]

    def live(self) -> Mapping[str, int]:
        """Return how many keys each policy counts at this moment; reads every table whole."""
        now = self._clock()
        return {policy.name: policy.limit.live(now=now) for policy in self._policies.values()}

    def _budget_of(self, route: LimitedRoute, pattern: str | None = None) -> Budget | None:
        limit = route.limit
        if limit is None:
            return None
        if limit == DEFAULT:
            return self._default
        rules = cast("tuple[Rule, ...]", limit)
        return self._budgets.get(rules) or self._budget(rules, pattern)

    def _budget(self, rules: tuple[Rule, ...], pattern: str | None) -> Budget:
        policies = [self._policy(rule, pattern) for rule in rules]
        budget = self._budgets[rules] = Budget(policies, self._lock, self._clock, self._overflowed)
        return budget

    def _policy(self, rule: Rule, pattern: str | None) -> Policy:
        # A rule that two routes share is one counter.
        policy = self._policies.get(rule)
        if policy is None:
            name = self._unused(rule.name or _slug(pattern or DEFAULT))
            limit = Limit(rule, lock=self._lock)
            policy = self._policies[rule] = Policy(name, pattern, limit, rule.monitor or self._monitor)
        return policy

    def _unused(self, name: str) -> str:
        """Return a name that means no other policy, with or without the mark of a whole IPv6 network."""
        taken = {policy.name for policy in self._policies.values()}
        others = (f"{name}-{number}" for number in count(2))
        return next(
            found
            for found in chain([name], others)
            if not taken & {found, found + NETWORK_MARK, found.removesuffix(NETWORK_MARK)}
        )

    def _judge(self, excesses: Sequence[Excess], facts: RequestFacts) -> Denial | None:
        for excess in excesses:
            policy = excess.policy
            (self.observed if policy.monitor else self.refused)[policy.name] += 1
            if policy.monitor and self._report is not None:
                self._report("limit_exceeded", policy=policy.name, facts=facts)
        violated = [excess for excess in excesses if not excess.policy.monitor]
        return denial(violated) if violated else None

    def _overflowed(self, policy: Policy) -> None:
        if self._report is not None:
            self._report("limit_overflow", policy=policy.name, facts=None)


def denial(violated: Sequence[Excess]) -> Denial:
    """Return the answer 429 that names each violated policy (RAT-02, 03); no key is published (RAT-04)."""
    wait = max(excess.seconds for excess in violated)
    names = ", ".join(excess.name for excess in violated)
    return Denial(
        429,
        "quota-exceeded",
        "Too many requests",
        f"Over the limit: {names}. Try again in {wait} second{'' if wait == 1 else 's'}.",
        headers=(
            (b"retry-after", b"%d" % wait),
            (b"ratelimit-policy", b", ".join(excess.policy_item for excess in violated)),
            (b"ratelimit", b", ".join(excess.service_item for excess in violated)),
        ),
        hint=f"over {', '.join(f'{excess.name} ({excess.policy.limit.rule})' for excess in violated)}",
    )


def _slug(pattern: str) -> str:
    """Return a name that may stand in a header field.

    >>> _slug("POST /search/*")
    'post-search'
    """
    return re.sub(r"[^a-z0-9]+", "-", pattern.lower()).strip("-")[:MAX_NAME] or "route"
