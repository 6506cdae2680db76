"""A rule with its table: the verbs `take`, `look`, `charge` and `refund`, each atomic.

There is no plain "set" and no "get, then set": between the two, parallel requests would share one charge.

Does not protect: several processes each have their own table, so with N workers each address has N
budgets; a restart begins anew. Both until tables can be shared.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic_ns
from typing import Generic, TypeVar

from thebes.errors import ConfigurationError
from thebes.ratelimit.gcra import RateMeter
from thebes.ratelimit.meters import Meter, Spend, Verdict
from thebes.ratelimit.rules import Rate, Rule, read_rules
from thebes.ratelimit.slidinglog import QuotaMeter
from thebes.ratelimit.table import Place

# Where a key belongs is remembered for the keys of the last moments: found again in a tenth of the time.
# 4096 take up about 1.5 MB; a key that is forgotten is only looked for again.
MAX_REMEMBERED = 4096
# A client may choose what it is called; a long name must not fill the memory.
MAX_REMEMBERED_KEY = 64

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A memory of the newest entries; each new one drops the oldest, so that no moment is a long one.

    Not safe for threads: whoever adds holds a lock. `get` is safe.
    """

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        self._entries: dict[K, V] = {}
        self._order: list[K | None] = [None] * size
        self._next = 0
        self.get = self._entries.get

    def add(self, key: K, value: V) -> None:
        """Remember a value."""
        oldest = self._order[self._next]
        if oldest is not None:
            self._entries.pop(oldest, None)
        self._order[self._next] = key
        self._next = (self._next + 1) % len(self._order)
        self._entries[key] = value

    def __len__(self) -> int:
        return len(self._entries)


class Limit:
    """One rule and its counters, for keys of any kind. Safe for threads.

    >>> limit = Limit("2/minute")
    >>> [limit.take("ada", now=0).allowed for _ in range(3)]
    [True, True, False]
    >>> limit.take("ada", now=0)
    Verdict(allowed=False, remaining=0, retry_after=60, reset=60)

    `spend` is the quick form of `take`: below 0 means refused, and nothing else is said.

    A key is bytes or text; a text is the same key as its UTF-8 bytes. `cost` is at least 1 and at most what
    can be had at once, else a ValueError. `now` is nanoseconds of a monotonic clock that never goes back;
    the system's if None.

    Args:
        rule: A `Rate`, a `Quota`, or text as `read_rules` takes it (a bare `10/minute` is a Quota).
        lock: Shared with limits that are taken together; its own if None.

    Raises:
        ConfigurationError: Text that can't be read, or more than one rule.
    """

    def __init__(self, rule: Rule | str, *, lock: Lock | None = None) -> None:
        rules = read_rules(rule)
        if len(rules) > 1:
            raise ConfigurationError(f"{rule!r}: a Limit has one rule")
        self.rule = rules[0]
        self.meter: Meter = _meter(self.rule)
        self.most_at_once = self.rule.most_at_once
        self._lock = lock or Lock()
        self._places: Recent[bytes | str, Place] = Recent()
        self._place_of = self._places.get
        self.spend: Spend[bytes | str] = self.meter.spender(
            self._place_of, self._learn, self._lock, monotonic_ns
        )

    def take(self, key: bytes | str, cost: int = 1, *, now: int | None = None) -> Verdict:
        """Spend `cost` if there is enough, else nothing."""
        slack = self.spend(key, cost, now)
        place = self._place_of(key) or self._learn(key)
        with self._lock:
            now = monotonic_ns() if now is None else now
            return self.meter.verdict(place, slack, 0 if slack >= 0 else cost, now)

    def look(self, key: bytes | str, cost: int = 1, *, now: int | None = None) -> Verdict:
        """Say what `take` would, and spend nothing; `remaining` is before the cost."""
        self._check(cost, self.most_at_once)
        place = self._place_of(key) or self._learn(key)
        with self._lock:
            now = monotonic_ns() if now is None else now
            slack = self.meter.look(place, cost, now)
            return self.meter.verdict(place, slack, cost, now)

    def charge(self, key: bytes | str, cost: int = 1, *, now: int | None = None) -> None:
        """Spend `cost` unasked, at most until nothing is left: for what has happened already."""
        self._check(cost)
        place = self._place_of(key) or self._learn(key)
        with self._lock:
            self.meter.charge(place, cost, monotonic_ns() if now is None else now)

    def refund(self, key: bytes | str, cost: int = 1, *, now: int | None = None) -> None:
        """Give back what was taken, when it turned out well: a sign-in that succeeded.

        Call it while the charge still counts: when a window has passed, another's hit would be forgotten.
        What was counted in a cell that keys share (the table was full) stays spent.
        """
        self._check(cost)
        place = self._place_of(key) or self._learn(key)
        with self._lock:
            self.meter.refund(place, cost, monotonic_ns() if now is None else now)

    def live(self, *, now: int | None = None) -> int:
        """Count the keys that have spent something; reads the whole table, a quarter second for 8 MiB."""
        with self._lock:
            return self.meter.live(monotonic_ns() if now is None else now)

    @property
    def size(self) -> int:
        """Bytes of the table; it never grows."""
        return self.meter.cells.size

    @property
    def cells(self) -> int:
        """How many keys can have a cell of their own at once, if they spread evenly."""
        return self.meter.cells.count

    @property
    def overflows(self) -> int:
        """How often a key found no room and was counted together with its neighbours."""
        return self.meter.cells.overflows

    def _check(self, cost: int, most: int | None = None) -> None:
        # A negative cost would give budget away.
        if cost < 1 or (most is not None and cost > most):
            raise ValueError(f"a cost of {cost}; {self.rule!r} can be asked for 1 to {self.most_at_once}")

    def _learn(self, key: bytes | str) -> Place:
        exact = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        place = self.meter.cells.place(exact, None, self.meter.unit(1))
        if len(key) <= MAX_REMEMBERED_KEY:
            with self._lock:
                self._places.add(key, place)
        return place


def _meter(rule: Rule) -> Meter:
    return RateMeter(rule) if isinstance(rule, Rate) else QuotaMeter(rule)
