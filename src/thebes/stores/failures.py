"""Failed attempts to sign in, by identifier or device: one durable row each, known or not.

A key is a keyed digest: the store never sees an identifier. Whether an attempt may be made is decided by a
function that the caller passes in and the store calls inside its transaction, so that parallel guesses are
charged one by one (RAT-08 to RAT-11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """What is known of one key.

    Attributes:
        count: Consecutive failures, those under way included: an attempt is charged before it is made.
        last_at: When the last was charged, seconds since the epoch.
        blocked_until: No attempt is made before.
    """

    count: int
    last_at: float
    blocked_until: float = 0.0


@dataclass(frozen=True, slots=True)
class FailureVerdict(Generic[Answer]):
    """What `settle` has to do, and what it returns.

    Attributes:
        answer: Returned as it is.
        rows: The rows as they shall be, in the order of the keys: None leaves one as it is, and a row
            with a count of 0 is deleted.
    """

    answer: Answer
    rows: Sequence[Failures | None] = ()


FailureJudge = Callable[[Sequence[Failures | None], float], FailureVerdict[Answer]]
"""Pure: called with the rows of the keys, None for those without one, and the store's clock."""


class FailureStore(Protocol):
    """Failure rows. `now` is seconds since the epoch; None is the store's clock."""

    async def settle(
        self, keys: Sequence[bytes], judge: FailureJudge[Answer], *, now: float | None = None
    ) -> Answer:
        """Let `judge` decide on the rows of these keys together, in one transaction."""

    async def clear(self, keys: Sequence[bytes]) -> None:
        """Delete rows, as a completed reset does."""
