"""What a limit says: `Rate` and `Quota`, read from text, and how clients are told of them.

`Rate` is for traffic: it admits a burst at once and then refills evenly, so in one period it can admit
the burst *and* the refill. `Quota` is for "at most N": never more than N in any window, wherever it begins.

Sources: ITU-T I.371 (the generic cell rate algorithm); draft-ietf-httpapi-ratelimit-headers-11; RFC 9651.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from thebes.errors import ConfigurationError

SECOND_NS = 1_000_000_000
# The size of one rule's table. A Rate has a million cells in it, a Quota of 10 has 160,000.
MEMORY_BYTES = 8 << 20
MIN_MEMORY_BYTES = 64 << 10
MAX_MEMORY_BYTES = 4 << 30
# Beyond it the clock of a cell, 32 bits, would get coarser than a sixteenth of a request.
MAX_BURST = 1 << 20
# Every hit of a Quota is remembered with its time.
MAX_QUOTA = 100

_PERIODS = {
    "second": SECOND_NS,
    "minute": 60 * SECOND_NS,
    "hour": 3600 * SECOND_NS,
    "day": 86400 * SECOND_NS,
}
_LIMIT = re.compile(r"\s*([0-9]+)\s*/\s*(?:([0-9]+)\s+)?([a-z]+?)s?\s*\Z")
_WITH_BURST = re.compile(r"(.*\S)\s+burst\s+([0-9]+)\s*\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class Rate:
    """So many a period, evenly, with a burst: for general limits. One object is one counter.

    >>> Rate("300/minute", burst=100)
    Rate('300/minute', burst=100)

    Args:
        limit: Such as `5/second`, `300/minute`, `1000/2 hours`, `1/day`.
        burst: How many may come at once; as many as in a period unless given.
        name: What clients and events call it; by default the route, or `default`.
        monitor: Whether it only counts and reports, and refuses nothing.
        memory: Bytes of its table, 64 KiB to 4 GiB: fixed, whatever comes (default 8 MiB).

    Raises:
        ConfigurationError: Text that can't be read, or a number outside its bounds.
    """

    __slots__ = ("burst", "count", "memory", "monitor", "name", "period_ns")

    def __init__(
        self,
        limit: str,
        *,
        burst: int | None = None,
        name: str | None = None,
        monitor: bool = False,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self.count, self.period_ns = parse_limit(limit)
        self.burst = self.count if burst is None else burst
        self.name = _checked_name(name)
        self.monitor = monitor
        self.memory = _checked_memory(memory)
        if not 1 <= self.burst <= MAX_BURST:
            raise ConfigurationError(
                f"Rate({limit!r}): a burst of {self.burst}; allowed are 1 to {MAX_BURST:,}, so give burst=..."
            )

    @property
    def most_at_once(self) -> int:
        """The most that can be admitted at one moment: published as `q`."""
        return self.burst

    @property
    def window_s(self) -> int:
        """Seconds, rounded up, in which an empty budget is full again: published as `w`."""
        return max(1, -(-self.burst * self.period_ns // (self.count * SECOND_NS)))

    @property
    def described(self) -> str:
        """What it admits, for people."""
        return f"{self.burst} at once, and {_shown(self.count, self.period_ns)} besides"

    def __str__(self) -> str:
        return f"{_shown(self.count, self.period_ns)} burst {self.burst}"

    def __repr__(self) -> str:
        return f"Rate({_shown(self.count, self.period_ns)!r}, burst={self.burst})"


class Quota:
    """At most N in any window, exactly (a sliding log): for mails, attempts. One object is one counter.

    >>> Quota("100/15 minutes")
    Quota('100/15 minutes')

    Args:
        limit: Such as `10/minute` or `100/15 minutes`; N is at most 100.
        name: What clients and events call it; by default the route, or `default`.
        monitor: Whether it only counts and reports, and refuses nothing.
        memory: Bytes of its table, 64 KiB to 4 GiB: fixed, whatever comes (default 8 MiB).

    Raises:
        ConfigurationError: Text that can't be read, or a number outside its bounds.
    """

    __slots__ = ("count", "memory", "monitor", "name", "period_ns")

    def __init__(
        self, limit: str, *, name: str | None = None, monitor: bool = False, memory: int = MEMORY_BYTES
    ) -> None:
        self.count, self.period_ns = parse_limit(limit)
        self.name = _checked_name(name)
        self.monitor = monitor
        self.memory = _checked_memory(memory)
        if self.count > MAX_QUOTA:
            raise ConfigurationError(
                f"{limit!r} as a quota remembers {self.count} times a client; at most {MAX_QUOTA} are "
                f"allowed: write Rate({limit!r}), which needs one number"
            )

    @property
    def most_at_once(self) -> int:
        """The most that can be admitted at one moment: published as `q`."""
        return self.count

    @property
    def window_s(self) -> int:
        """Seconds of the window: published as `w`."""
        return self.period_ns // SECOND_NS

    @property
    def described(self) -> str:
        """What it admits, for people."""
        return f"never more than {self.count} in any {_window(self.period_ns)}"

    def __str__(self) -> str:
        return _shown(self.count, self.period_ns)

    def __repr__(self) -> str:
        return f"Quota({str(self)!r})"


Rule = Rate | Quota
# Far above what one person's browser asks for; shared addresses (an office, a mobile network) fit too.
DEFAULT_RATE = ("1200/minute", 600)


def default_rule() -> Rate:
    """Return the rule of an app that declares none: 1200 a minute, 600 at once, for each address."""
    return Rate(DEFAULT_RATE[0], burst=DEFAULT_RATE[1])


def read_rules(value: Rule | str | Iterable[Rule | str]) -> tuple[Rule, ...]:
    """Return rules from what a user wrote: a bare `10/minute` is a `Quota`, one with `burst` a `Rate`.

    >>> read_rules("10/minute")
    (Quota('10/minute'),)
    >>> read_rules("1200/minute burst 600, 20000/day burst 5000")
    (Rate('1200/minute', burst=600), Rate('20000/day', burst=5000))

    Raises:
        ConfigurationError: Text that can't be read, another type, or nothing at all.
    """
    if isinstance(value, str):
        rules = [_read_rule(part) for part in value.split(",")]
    elif isinstance(value, Rate | Quota):
        rules = [value]
    else:
        rules = [item if isinstance(item, Rate | Quota) else _read_rule(item) for item in value]
    if not rules:
        raise ConfigurationError("no limit is given; write limit=None to lift it")
    return tuple(rules)


def parse_limit(text: str) -> tuple[int, int]:
    """Return N and the period in nanoseconds of `N/period`.

    >>> parse_limit("100/15 minutes")
    (100, 900000000000)

    Raises:
        ConfigurationError: It can't be read, or N or the period is 0.
    """
    match = _LIMIT.match(text) if isinstance(text, str) else None
    if match is None or match[3] not in _PERIODS:
        raise ConfigurationError(
            f"{text!r} is no limit: write a number, a slash and a period of {', '.join(_PERIODS)}, "
            "such as '300/minute' or '100/15 minutes'"
        )
    count, period_ns = int(match[1]), int(match[2] or 1) * _PERIODS[match[3]]
    if count < 1 or period_ns < 1:
        raise ConfigurationError(
            f"{text!r}: neither number may be 0; to close a route, answer 403 in the app"
        )
    return count, period_ns


def sf_string(name: str) -> str:
    """Return an ASCII text as a structured field's String (RFC 9651, 4.1.6).

    >>> print(sf_string('a "b"'))
    "a \\"b\\""
    """
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def policy_item(name: str, quota: int, window_s: int) -> bytes:
    """Return an item of RateLimit-Policy: `q` is what may be spent within `w` seconds."""
    return f"{sf_string(name)};q={quota};w={window_s}".encode("ascii")


def service_item(name: str, remaining: int, seconds: int) -> bytes:
    """Return an item of RateLimit: no more than `r` may be spent within the next `t` seconds."""
    return f"{sf_string(name)};r={remaining};t={seconds}".encode("ascii")


def _read_rule(text: object) -> Rule:
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r} is no limit: write Rate(...), Quota(...) or '10/minute'")
    match = _WITH_BURST.match(text)
    return Quota(text.strip()) if match is None else Rate(match[1].strip(), burst=int(match[2]))


def _checked_name(name: str | None) -> str | None:
    if name is not None and not _NAME.match(name):
        raise ConfigurationError(f"name={name!r}: write up to 64 letters, digits, '.', '_' and '-'")
    return name


def _checked_memory(size: int) -> int:
    if not MIN_MEMORY_BYTES <= size <= MAX_MEMORY_BYTES:
        raise ConfigurationError(
            f"memory={size}; allowed are {MIN_MEMORY_BYTES:,} to {MAX_MEMORY_BYTES:,} bytes"
        )
    return size


def _shown(count: int, period_ns: int) -> str:
    return f"{count}/{_window(period_ns)}"


def _window(period_ns: int) -> str:
    fitting = (pair for pair in reversed(_PERIODS.items()) if period_ns % pair[1] == 0)
    word, unit = next(fitting)
    periods = period_ns // unit
    return word if periods == 1 else f"{periods} {word}s"
