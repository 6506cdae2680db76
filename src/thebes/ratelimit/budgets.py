"""All rules that one request counts under, for each client: looked at together, charged together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from threading import Lock

from thebes.ratelimit.addresses import WIDE_SHARE, Key, address_keys
from thebes.ratelimit.limits import MAX_REMEMBERED_KEY, Limit, Recent
from thebes.ratelimit.meters import UNPLACED, Meter, Spend
from thebes.ratelimit.rules import policy_item, service_item
from thebes.ratelimit.table import Place

NETWORK_MARK = "-48"
"""Behind a policy's name: its budget for a whole IPv6 network."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One rule as `thebes audit` prints it.

    Attributes:
        policy: Its published name.
        route: The pattern that it stands for, or None for all routes that declare none.
        text: What it admits.
        memory: Bytes of its table, which never grows.
        cells: How many keys can have a cell of their own at once.
        monitor: Whether it refuses nothing.
    """

    policy: str
    route: str | None
    text: str
    memory: int
    cells: int
    monitor: bool

    def __str__(self) -> str:
        kind = " (monitor: refuses nothing)" if self.monitor else ""
        return f"{self.policy}: {self.text}{kind}; {self.memory:,} bytes for {self.cells:,} clients"


@dataclass(slots=True)
class Policy:
    """A rule in use.

    Attributes:
        name: What clients and events call it.
        route: The pattern that it was declared for, or None.
        monitor: Whether it only counts.
        reported_overflows: How many overflows of its table have been told.
    """

    name: str
    route: str | None
    limit: Limit
    monitor: bool
    reported_overflows: int = field(default=0)

    def bound(self) -> Bound:
        """Return what `thebes audit` prints."""
        limit = self.limit
        return Bound(self.name, self.route, limit.rule.described, limit.size, limit.cells, self.monitor)


@dataclass(frozen=True, slots=True)
class Excess:
    """A policy that a request would have exceeded.

    Attributes:
        name: The policy's name, with `NETWORK_MARK` for the budget of a whole IPv6 network.
        quota: The most that this budget allows at once.
        remaining: What is left of it, less than the request costs.
        seconds: Whole seconds, rounded up, after which the request would fit.
    """

    policy: Policy
    name: str
    quota: int
    remaining: int
    seconds: int

    @property
    def policy_item(self) -> bytes:
        """Its item of the RateLimit-Policy field."""
        return policy_item(self.name, self.quota, self.policy.limit.rule.window_s)

    @property
    def service_item(self) -> bytes:
        """Its item of the RateLimit field."""
        # A Quota rounds its clock up, so the wait may exceed the window by a second; `t` may not.
        seconds = min(self.seconds, self.policy.limit.rule.window_s)
        return service_item(self.name, min(self.remaining, self.quota), seconds)


class Budget:
    """The rules of some routes, with the counters of every client.

    Args:
        policies: All that a request counts under.
        lock: Shared by all limits of these policies.
        clock: Nanoseconds of a monotonic clock.
        overflowed: Called when a policy's table has overflowed, once a new client comes.

    Attributes:
        most_at_once: The highest cost that could ever be paid.
        spend: Charges a client that counts under one key of one policy, as most do, and returns 0 or
            more; whatever else it returns, nothing was charged, and `excesses` decides.
    """

    def __init__(
        self,
        policies: Sequence[Policy],
        lock: Lock,
        clock: Callable[[], int],
        overflowed: Callable[[Policy], None],
    ) -> None:
        self.most_at_once = min(policy.limit.most_at_once for policy in policies)
        self._policies = policies
        self._lock = lock
        self._clock = clock
        self._overflowed = overflowed
        # Clients with one key under one policy, as most have, and all others.
        self._single: Recent[str, Place] = Recent()
        self._several: Recent[str, Sequence[Step]] = Recent()
        meter = policies[0].limit.meter
        self.spend: Spend[str] = meter.spender(self._single.get, self._learn, lock, clock)

    def excesses(self, client: str, cost: int, slack: int) -> Sequence[Excess]:
        """Return what refuses a client (then nothing is charged), or is exceeded unenforced.

        Args:
            slack: What `spend` returned. A client with several keys is charged only here, if all agree.
        """
        steps = self._steps(client)
        if slack == UNPLACED:
            return self._admit_all([(step, cost) for step in steps])
        (step,) = steps
        return (step.excess(cost, slack, self._clock()),)

    def spend_together(self, costs: Mapping[Budget, int], client: str) -> Sequence[Excess]:
        """Charge a client under several budgets that share a lock, each policy once; or under none.

        Args:
            costs: What is spent from each, this one included if it is meant.

        Returns:
            What refuses the client, or is exceeded unenforced.
        """
        charges: dict[tuple[int, int], Charge] = {}
        for budget, cost in sorted(costs.items(), key=itemgetter(1)):
            charges |= {(id(step.policy), step.share): (step, cost) for step in budget._steps(client)}
        return self._admit_all(charges.values())

    def overdrawn(self, client: str) -> Sequence[Excess]:
        """Return which policies would refuse a client's next request; nothing is charged."""
        steps = self._steps(client)
        with self._lock:
            now = self._clock()
            looks = [(step, step.meter.look(step.place, 1, now)) for step in steps]
        return [step.excess(1, slack, now) for step, slack in looks if slack < 0]

    def charge(self, client: str, cost: int) -> None:
        """Charge a client unasked, at most until nothing is left."""
        steps = self._steps(client)
        with self._lock:
            now = self._clock()
            for step in steps:
                step.meter.charge(step.place, cost, now)

    def _admit_all(self, charges: Iterable[Charge]) -> Sequence[Excess]:
        excesses, fitting = [], []
        with self._lock:
            now = self._clock()
            for step, cost in charges:
                slack = step.meter.look(step.place, cost, now)
                if slack < 0:
                    excesses.append(step.excess(cost, slack, now))
                else:
                    fitting.append((step, cost))
            if all(excess.policy.monitor for excess in excesses):
                for step, cost in fitting:
                    # Not taken but charged: if two keys of this request share a coarse cell, the first may
                    # have emptied it.
                    step.meter.charge(step.place, cost, now)
        return excesses

    def _steps(self, client: str) -> Sequence[Step]:
        steps = self._several.get(client)
        if steps is None:
            place = self._single.get(client)
            if place is not None:
                return (Step(self._policies[0], place, 1),)
            keys = address_keys(client)
            steps = [Step.of(policy, key) for policy in self._policies for key in keys]
        return steps

    def _learn(self, client: str) -> Place | None:
        """Remember where a new client belongs, and return its place if it has a single one."""
        if self._several.get(client) is not None:
            return None
        for policy in self._policies:
            overflows = policy.limit.overflows
            if overflows > policy.reported_overflows:
                policy.reported_overflows = overflows
                self._overflowed(policy)
        steps = self._steps(client)
        place = steps[0].place if len(steps) == 1 else None
        if len(client) <= MAX_REMEMBERED_KEY:
            with self._lock:
                if place is not None:
                    self._single.add(client, place)
                else:
                    self._several.add(client, steps)
        return place


@dataclass(frozen=True, slots=True)
class Step:
    """One key of one client under one policy."""

    policy: Policy
    place: Place
    share: int

    @classmethod
    def of(cls, policy: Policy, key: Key) -> Step:
        """Return where an address's key belongs under a policy."""
        meter = policy.limit.meter
        place = meter.cells.place(key.exact, key.coarse, meter.unit(key.share))
        return cls(policy, place, key.share)

    @property
    def meter(self) -> Meter:
        """What counts it."""
        return self.policy.limit.meter

    def excess(self, cost: int, slack: int, now: int) -> Excess:
        """Return what a request of this cost would have exceeded; the caller need not hold the lock."""
        verdict = self.meter.verdict(self.place, slack, cost, now)
        name = self.policy.name + (NETWORK_MARK if self.share == WIDE_SHARE else "")
        quota = self.policy.limit.most_at_once * self.share
        return Excess(self.policy, name, quota, verdict.remaining, max(1, verdict.retry_after))


Charge = tuple[Step, int]
"""A key of a client, and what it pays."""
