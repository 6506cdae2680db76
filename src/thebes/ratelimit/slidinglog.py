"""A `Quota`'s way of counting: the time of every hit that still matters, at most 100 for each key."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from threading import Lock

from thebes.ratelimit.meters import (
    UNPLACED,
    K_contra,
    Spend,
    Verdict,
    checked_cost,
    power_of_two,
    reduced,
)
from thebes.ratelimit.rules import SECOND_NS, Quota
from thebes.ratelimit.table import BUCKET, MASK, Cells, Place

# The most ticks in a window: 1/4096 of the clock's turn. A second is a whole number of ticks.
MAX_WINDOW_TICKS = 1 << 20

# Where a cell's ring lies, the newest entry in it, how many count, and what still fits in the newest.
_Log = tuple[int, int, int, int]


class QuotaMeter:
    """The exact sliding log: a ring of N times and a state word, 8 + 4N bytes a cell.

    Whether `cost` fits needs one look, at the entry that would have to go. For a budget 16 times as large an
    entry stands for up to 16 hits and has the time of the last of them, so the bound holds there too.
    Entries are stamped in ticks rounded up, and now is read rounded down: none goes too early.

    The state word: position of the newest entry (8 bits), how many count (8), hits in the newest (16).
    """

    def __init__(self, rule: Quota, *, cells: Cells | None = None) -> None:
        self._count = rule.count
        self.cells = cells or Cells(rule.memory, 2 + rule.count)
        self._words = self.cells.words
        period_s = rule.period_ns // SECOND_NS
        ticks_a_second = power_of_two(MAX_WINDOW_TICKS // period_s)
        self._window = period_s * ticks_a_second
        self._multiplier, self._divisor = reduced(ticks_a_second, SECOND_NS)

    def unit(self, share: int) -> int:
        """Return how many hits one entry stands for."""
        return share

    def spender(
        self,
        place_of: Callable[[K_contra], Place | None],
        learn: Callable[[K_contra], Place | None],
        lock: Lock,
        clock: Callable[[], int],
    ) -> Spend[K_contra]:
        """Return the verb that decides; what it returns is 0, or minus the ticks to wait."""

        def spend(key: K_contra, cost: int = 1, now: int | None = None) -> int:
            place = place_of(key) or learn(key)
            if place is None:
                return UNPLACED
            checked_cost(cost, self._count)
            with lock:
                return self._take(place, cost, clock() if now is None else now)

        return spend

    def look(self, place: Place, cost: int, now: int) -> int:
        """Return what spending would, and change nothing."""
        ticks = now * self._multiplier // self._divisor
        cell = self.cells.find(place, ticks, self)
        if cell is None:
            return 0
        return -self._wait(self._read(cell, place.unit, ticks), place.unit, cost, ticks)

    def charge(self, place: Place, cost: int, now: int) -> None:
        """Log `cost` hits, or as many as a window can hold; the oldest make room."""
        ticks = now * self._multiplier // self._divisor
        cell = self.cells.settle(place, ticks, self)
        log = self._read(cell, place.unit, ticks)
        self._write(cell, log, place.unit, min(cost, self._count * place.unit), now)

    def refund(self, place: Place, cost: int, now: int) -> None:
        """Forget the `cost` oldest hits that still count, if the key has a live cell of its own.

        Which hit is given back isn't known. What stays is never older than it should be, so a window
        holds at most N of those that weren't given back.
        """
        ticks = now * self._multiplier // self._divisor
        cell = self.cells.find(place, ticks, self)
        if cell is None or cell == place.spare:
            return
        state = self._words[cell + BUCKET]
        kept = max(0, self._counting(cell, ticks) - cost // place.unit)
        self._words[cell + BUCKET] = state & ~0xFF00 | kept << 8

    def verdict(self, place: Place, slack: int, _unspent: int, now: int, /) -> Verdict:
        """Say in words what spending or a look returned."""
        ticks = now * self._multiplier // self._divisor
        wait = self.seconds(-slack)
        cell = self.cells.find(place, ticks, self)
        if cell is None:
            return Verdict(slack >= 0, self._count * place.unit, wait, 0)
        in_newest = self._words[cell + BUCKET] >> 16
        left = (self._count - self._counting(cell, ticks)) * place.unit + max(0, place.unit - in_newest)
        newest = self._words[self._ring(cell) + (self._words[cell + BUCKET] & 0xFF)]
        return Verdict(slack >= 0, left, wait, self.seconds(self._window - self._age(newest, ticks)))

    def seconds(self, ticks: int) -> int:
        """Return ticks as whole seconds, rounded up."""
        return -(-ticks * self._divisor // (self._multiplier * SECOND_NS))

    def live(self, now: int) -> int:
        """Count the keys that have a live cell of their own."""
        return self.cells.live(now * self._multiplier // self._divisor, self)

    def is_live(self, cell: int, now: int) -> bool:
        """Say whether the newest hit lies within the window (`now` in ticks)."""
        state = self._words[cell + BUCKET]
        if not state & 0xFF00:
            return False
        return self._age(self._words[self._ring(cell) + (state & 0xFF)], now) < self._window

    def first_dead(self, base: int, now: int) -> int | None:
        """Return the first cell of a bucket with no hit in the window (`now` in ticks)."""
        cells = range(base, base + BUCKET)
        return next((cell for cell in cells if not self.is_live(cell, now)), None)

    def clear(self, cell: int, _now: int, /) -> None:
        """Let no entry of the ring count."""
        self._words[cell + BUCKET] = 0

    def _take(self, place: Place, cost: int, now: int) -> int:
        ticks = now * self._multiplier // self._divisor
        cell = place.cell
        if self._words[cell] != place.tag:
            cell = self.cells.settle(place, ticks, self)
        log = self._read(cell, place.unit, ticks)
        wait = self._wait(log, place.unit, cost, ticks)
        if not wait:
            self._write(cell, log, place.unit, cost, now)
        return -wait

    def _ring(self, cell: int) -> int:
        slot = cell % self.cells.bucket_words
        return cell - slot + 2 * BUCKET + slot * self._count

    def _age(self, time: int, now: int) -> int:
        """Return the ticks since `time`; negative, by a window at most, if the caller's clock lags."""
        return ((now - time + self._window) & MASK) - self._window

    def _read(self, cell: int, unit: int, now: int) -> _Log:
        state, ring = self._words[cell + BUCKET], self._ring(cell)
        newest, counting = state & 0xFF, state >> 8 & 0xFF
        if not counting or self._age(self._words[ring + newest], now) >= self._window:
            return ring, newest, 0, 0
        return ring, newest, counting, max(0, unit - (state >> 16))

    def _wait(self, log: _Log, unit: int, cost: int, now: int) -> int:
        """Return the ticks until `cost` hits fit, 0 if they do."""
        ring, newest, counting, room = log
        surplus = counting + _entries(cost - room, unit) - self._count
        if surplus <= 0:
            return 0
        leaving = self._words[ring + (newest - counting + surplus) % self._count]
        return max(0, self._window - self._age(leaving, now))

    def _write(self, cell: int, log: _Log, unit: int, cost: int, now: int) -> None:
        words = self._words
        ring, newest, counting, room = log
        time = -(-now * self._multiplier // self._divisor)
        if counting:
            # A caller whose clock lags must not break the order of the ring.
            time = max(time, time - self._age(words[ring + newest], time))
        if room:
            words[ring + newest] = time & MASK
        entries = _entries(cost - room, unit)
        for _ in range(entries):
            newest = (newest + 1) % self._count
            words[ring + newest] = time & MASK
        used = cost + unit - room if not entries else (cost - room - 1) % unit + 1
        words[cell + BUCKET] = newest | min(self._count, counting + entries) << 8 | used << 16

    def _counting(self, cell: int, now: int) -> int:
        """Return how many entries lie within the window; they are in the order of their times."""
        words, ring, state = self._words, self._ring(cell), self._words[cell + BUCKET]
        newest, counting = state & 0xFF, state >> 8 & 0xFF
        oldest = newest - counting + 1

        def counts(index: int) -> bool:
            return self._age(words[ring + (oldest + index) % self._count], now) < self._window

        return counting if counts(0) else counting - bisect_left(range(counting), True, key=counts)


def _entries(hits: int, unit: int) -> int:
    """Return how many entries so many hits need."""
    return -(-max(0, hits) // unit)
