"""A `Rate`'s way of counting: one time for each key (the generic cell rate algorithm).

Sources: ITU-T I.371, A.1 (virtual scheduling), here in whole ticks of a clock of 32 bits.
"""

from __future__ import annotations

import struct
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
from thebes.ratelimit.rules import SECOND_NS, Rate
from thebes.ratelimit.table import BUCKET, MASK, Cells, Place

# Ticks in the time that one request takes to refill: the most, and the least (for huge bursts). Sixteen
# at least, since a /48 has a budget 16 times as large and so pays a sixteenth.
MAX_TICKS = 256
MIN_TICKS = 16
# The most ticks of a whole burst: 1/256 of the clock's turn.
MAX_BURST_TICKS = 1 << 24

_times = struct.Struct(f"{BUCKET}I").unpack_from


class RateMeter:
    """The generic cell rate algorithm in whole numbers: 8 bytes a cell.

    A cell holds the theoretical arrival time (TAT): the moment at which its key has a full budget again.
    Spending moves it on by a unit for each cost of 1; it may lie at most a burst ahead of now. The clock
    is read in ticks, 256 for each request of the rate, so a request may come that little too early.
    """

    def __init__(self, rule: Rate, *, cells: Cells | None = None) -> None:
        self.cells = cells or Cells(rule.memory, 2)
        self._words = self.cells.words
        self._ticks = max(MIN_TICKS, min(MAX_TICKS, power_of_two(MAX_BURST_TICKS // rule.burst)))
        self._multiplier, self._divisor = reduced(self._ticks * rule.count, rule.period_ns)
        self._most = rule.burst
        self._horizon = rule.burst * self._ticks
        # Twice the horizon: a caller whose clock lags a little must not find a full cell dead.
        self._last = 2 * self._horizon

    def unit(self, share: int) -> int:
        """Return the ticks that a cost of 1 takes from a budget `share` (a divisor of 16) times as large."""
        return self._ticks // share

    def spender(
        self,
        place_of: Callable[[K_contra], Place | None],
        learn: Callable[[K_contra], Place | None],
        lock: Lock,
        clock: Callable[[], int],
    ) -> Spend[K_contra]:
        """Return the verb that decides; what it returns is the ticks that are left, below 0 if too few."""
        # Every request goes through here, so all that never changes is a local name, the lock is used by its
        # methods (half the time of `with`), and one function does it all.
        words, settle, last, horizon = self._words, self.cells.settle, self._last, self._horizon
        multiplier, divisor = self._multiplier, self._divisor
        acquire, release, most = lock.acquire, lock.release, self._most

        def spend(key: K_contra, cost: int = 1, now: int | None = None) -> int:
            place = place_of(key)
            if place is None:
                place = learn(key)
                if place is None:
                    return UNPLACED
            step = place.unit
            if cost != 1:
                step *= checked_cost(cost, most)
            acquire()
            try:
                # Read under the lock: nobody may come with an older time than the one before.
                now = (clock() if now is None else now) * multiplier // divisor
                cell = place.cell
                if words[cell] != place.tag:
                    cell = settle(place, now, self)
                tat = cell + BUCKET
                ahead = (words[tat] - now) & MASK
                if ahead > last:
                    ahead = 0
                ahead += step
                if ahead <= horizon:
                    words[tat] = (now + ahead) & MASK
                return horizon - ahead
            finally:
                release()

        return spend

    def look(self, place: Place, cost: int, now: int) -> int:
        """Return what spending would, and change nothing."""
        now = now * self._multiplier // self._divisor
        cell = self.cells.find(place, now, self)
        ahead = 0 if cell is None else (self._words[cell + BUCKET] - now) & MASK
        return self._horizon - ahead - cost * place.unit

    def charge(self, place: Place, cost: int, now: int) -> None:
        """Spend `cost`, or all that is left."""
        now = now * self._multiplier // self._divisor
        words, cell = self._words, place.cell
        if words[cell] != place.tag:
            cell = self.cells.settle(place, now, self)
        ahead = (words[cell + BUCKET] - now) & MASK
        if ahead > self._last:
            ahead = 0
        # Never beyond the horizon: a value that lies further ahead would be dead.
        spent = min(self._horizon, ahead + cost * place.unit)
        words[cell + BUCKET] = (now + max(ahead, spent)) & MASK

    def refund(self, place: Place, cost: int, now: int) -> None:
        """Give back `cost`, if the key has a live cell of its own."""
        now = now * self._multiplier // self._divisor
        cell = self.cells.find(place, now, self)
        if cell is None or cell == place.spare:
            return
        ahead = (self._words[cell + BUCKET] - now) & MASK
        self._words[cell + BUCKET] = (now + max(0, ahead - cost * place.unit)) & MASK

    def verdict(self, place: Place, slack: int, unspent: int, _now: int, /) -> Verdict:
        """Say in words what spending or a look returned."""
        left = max(0, slack + unspent * place.unit)
        wait = 0 if slack >= 0 else self.seconds(-slack)
        return Verdict(slack >= 0, left // place.unit, wait, self.seconds(self._horizon - left))

    def seconds(self, ticks: int) -> int:
        """Return ticks as whole seconds, rounded up."""
        return -(-ticks * self._divisor // (self._multiplier * SECOND_NS))

    def live(self, now: int) -> int:
        """Count the keys that have a live cell of their own."""
        return self.cells.live(now * self._multiplier // self._divisor, self)

    def is_live(self, cell: int, now: int) -> bool:
        """Say whether the TAT lies ahead of now, no further than it can (`now` in ticks)."""
        return 0 < (self._words[cell + BUCKET] - now) & MASK <= self._last

    def first_dead(self, base: int, now: int) -> int | None:
        """Return the first cell of a bucket whose TAT has passed (`now` in ticks)."""
        last = self._last
        for slot, time in enumerate(_times(self.cells.buffer, (base + BUCKET) * 4)):
            if not 0 < (time - now) & MASK <= last:
                return base + slot
        return None

    def clear(self, cell: int, now: int, /) -> None:
        """Set the TAT to now: 0, which a new cell holds, lies ahead once in every turn of the clock."""
        self._words[cell + BUCKET] = now & MASK
