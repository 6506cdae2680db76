"""What every way of counting has in common: its verbs, its words, and its clock.

Times are whole ticks of the monotonic clock modulo 2**32. A value that lies further from now than it ever
could if it mattered is dead: so the clock may wrap around, as often as it likes. A cell that nobody
touched for one whole turn of the clock (9.7 days for 1200/minute) can look used again for a moment,
which costs its key a part of one burst: coarser, never looser.

But for what `spender` returns, nothing is safe for threads: whoever calls holds the lock. `now` is
nanoseconds of a clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from threading import Lock
from typing import NamedTuple, Protocol, TypeVar

from thebes.ratelimit.table import Cells, Place


class Verdict(NamedTuple):
    """What a limit says.

    Attributes:
        allowed: Whether it may go on.
        remaining: How much could be spent at this moment, after what was taken.
        retry_after: Whole seconds after which the same would be allowed; 0 if it was.
        reset: Whole seconds until everything is available again.
    """

    allowed: bool
    remaining: int
    retry_after: int
    reset: int


K_contra = TypeVar("K_contra", contravariant=True)
# What `Spend` returns for a key that has no place: less than anybody could have to wait.
UNPLACED = -(1 << 62)


class Spend(Protocol[K_contra]):
    """The verb that decides."""

    def __call__(self, key: K_contra, cost: int = 1, now: int | None = None) -> int:
        """Spend `cost` from a key's budget and return 0 or more; or spend nothing and return less than 0.

        Args:
            key: Whose budget.
            cost: At least 1, at most what can be had at once.
            now: Nanoseconds of a monotonic clock that never goes back; the system's if None.

        Returns:
            Below 0 the ticks to wait, with a minus; or `UNPLACED`, if nobody knew the key's place.

        Raises:
            ValueError: A cost that no budget could ever pay.
        """


class Meter(Protocol):
    """One rule's way of counting, on its own table."""

    cells: Cells

    def unit(self, share: int) -> int:
        """Return what a place's unit is for a budget `share` times as large."""

    def spender(
        self,
        place_of: Callable[[K_contra], Place | None],
        learn: Callable[[K_contra], Place | None],
        lock: Lock,
        clock: Callable[[], int],
    ) -> Spend[K_contra]:
        """Return the verb that decides, atomically.

        Args:
            place_of: Where a key belongs; asked without the lock.
            learn: Asked, without the lock too, about a key that `place_of` doesn't know.
            lock: Held while the cell is read and written.
            clock: Nanoseconds of a monotonic clock.
        """

    def look(self, place: Place, cost: int, now: int) -> int:
        """Return what spending would, and change nothing."""

    def charge(self, place: Place, cost: int, now: int) -> None:
        """Spend `cost` whether there is enough or not, at most until nothing is left."""

    def refund(self, place: Place, cost: int, now: int) -> None:
        """Give back what was spent in the key's own cell; a coarse one belongs to others too."""

    def verdict(self, place: Place, slack: int, unspent: int, now: int, /) -> Verdict:
        """Say in words what spending or a look returned; `unspent` is the cost, 0 if it was spent."""

    def seconds(self, ticks: int) -> int:
        """Return ticks as whole seconds, rounded up."""

    def live(self, now: int) -> int:
        """Count the keys that have a live cell of their own."""


def checked_cost(cost: int, most: int) -> int:
    """Return the cost, if a budget that allows `most` at once could pay it.

    Raises:
        ValueError: It couldn't; or the cost is negative and would give budget away.
    """
    if not 1 <= cost <= most:
        raise ValueError(f"a cost of {cost}; it can be 1 to {most}, what the limit allows at once")
    return cost


def power_of_two(number: int) -> int:
    """Return the largest power of two that isn't larger, at least 1."""
    return 1 << max(0, number.bit_length() - 1)


def reduced(above: int, below: int) -> tuple[int, int]:
    """Return the fraction in lowest terms."""
    divisor = gcd(above, below)
    return above // divisor, below // divisor
