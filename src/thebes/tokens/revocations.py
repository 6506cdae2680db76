"""What this process knows of ended sessions: a small set that every request asks.

An access token is believed for minutes by its signature alone. What ends a session earlier, or makes what its
tokens say untrue, is a row in the store with a number that rises. Each process keeps the rows that still
matter. On every request it compares a number in memory, without asking the store:

- the number has moved: the rows are read, by one read for all requests that wait for it, before any of them
  goes on. So a session that was ended is over at the next request on the same machine;
- a second has passed since the last read: they are read too, for rows of other machines and for a number
  that didn't move although it should have (TOK-24 and TOK-40 allow 2 seconds);
- the number has moved, and its row isn't there: the transaction that raised it isn't finished, or was given
  up. They are read on each request, until the row is there or no transaction can last any longer.

Entries are held by session id, or by account and epoch, never by a token's text, of which there may be many
(TOK-25), until the last token that they concern has expired by itself.

If the rows can't be read, `catch_up` raises: what nobody knows to be good isn't believed.

Does not protect: requests that were let in before the session ended; other machines within their second.

Sources: ASVS 5.0.0, 7.4.1, 7.4.2, 8.3.2; TOK-24, TOK-25, TOK-40.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from thebes.errors import StoreUnavailable
from thebes.stores.sessions import Revocation, SessionStore

SAFETY_NET_SECONDS = 1.0  # half of what TOK-24 allows, since a read takes time too
TRANSACTION_SECONDS = 10.0  # no transaction of the store lasts longer
SWEEP_SECONDS = 60.0
# TOK-13: an access token may be believed so much longer than it says, by a clock that differs so much.
SKEW_SECONDS = 60.0


class Revocations:
    """The revocations of one process, on one event loop at a time.

    Args:
        store: Holds the rows.
        clock: Seconds that never go back, for intervals.
    """

    __slots__ = (
        "_accounts", "_applied", "_clock", "_finished", "_lock", "_marks", "_read_at", "_seen", "_sessions",
        "_settled", "_started", "_store", "_swept_at",
    )  # fmt: skip

    def __init__(self, store: SessionStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._sessions: dict[str, float] = {}
        self._accounts: dict[str, tuple[int, float]] = {}
        # The number of the last row that was applied; and the number up to which each row was applied or
        # given up, so that reading begins behind it. Between them a transaction may still be under way.
        self._applied = 0
        self._settled = 0
        # Numbers that were seen, with the time of that, the oldest first; and the last of them.
        self._marks: deque[tuple[float, int]] = deque()
        self._seen = 0
        self._read_at = -math.inf
        self._swept_at = -math.inf
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._started = 0
        self._finished: tuple[int, StoreUnavailable | None] = (0, None)

    def __len__(self) -> int:
        """Return how many entries are held."""
        return len(self._sessions) + len(self._accounts)

    def is_behind(self) -> bool:
        """Say whether `catch_up` must be awaited before `concerns` is asked; costs no I/O."""
        number = self._store.sequence()
        return (
            number != self._seen
            or (number > self._applied and number > self._settled)
            or self._clock() - self._read_at >= SAFETY_NET_SECONDS
        )

    def concerns(self, session_id: str, account_id: str, epoch: int) -> bool:
        """Say whether a token of this session, account and epoch must not be believed; costs no I/O."""
        if session_id in self._sessions:
            return True
        known = self._accounts.get(account_id)
        return known is not None and epoch < known[0]

    async def catch_up(self, *, now: float | None = None) -> None:
        """Read the rows that this process hasn't applied; return when one whole read began after the call.

        Requests that wait share the next read. One under way doesn't serve them: it may have begun before the
        revocation that they have to know of.

        Args:
            now: Seconds since the epoch; the clocks of this process and the store if None.

        Raises:
            StoreUnavailable: The rows can't be read, so nobody's token can be believed.
        """
        latest = self._started
        async with self._lock_here():
            finished, error = self._finished
            if finished <= latest:
                self._started += 1
                await self._read(self._started, now)
            elif error is not None:
                raise StoreUnavailable(*error.args) from error

    def _lock_here(self) -> asyncio.Lock:
        # A lock belongs to its loop; tests of an app run one loop after another on the same object.
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]

    async def _read(self, number: int, now: float | None) -> None:
        began = self._clock()
        self._observe(self._store.sequence(), began)
        try:
            rows = await self._store.revocations(self._settled, now=now)
        except StoreUnavailable as error:
            self._finished = (number, error)
            raise
        self._apply(rows)
        self._settle(began)
        self._read_at = began
        self._sweep(began, time.time() if now is None else now)
        self._finished = (number, None)

    def _observe(self, sequence: int, began: float) -> None:
        if sequence < self._seen:
            # Another history of the store: its rows have the old numbers again.
            self._applied = self._settled = 0
            self._marks.clear()
        if not self._marks or sequence != self._seen:
            self._marks.append((began, sequence))
        self._seen = sequence

    def _apply(self, rows: Iterable[Revocation]) -> None:
        for row in rows:
            if row.kind == "session":
                self._sessions[row.subject] = max(row.until, self._sessions.get(row.subject, 0.0))
            else:
                epoch, until = self._accounts.get(row.subject, (0, 0.0))
                self._accounts[row.subject] = (max(row.epoch, epoch), max(row.until, until))
            self._applied = max(self._applied, row.sequence)
            if row.sequence == self._settled + 1:
                self._settled = row.sequence

    def _settle(self, began: float) -> None:
        """Give up the rows of numbers that were seen so long before this read that nobody writes them."""
        while self._marks and began - self._marks[0][0] >= TRANSACTION_SECONDS:
            self._settled = max(self._settled, self._marks.popleft()[1])
        if not self._marks:
            self._marks.append((began, self._seen))

    def _sweep(self, began: float, now: float) -> None:
        if began - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = began
        over = now - SKEW_SECONDS
        self._sessions = {one: until for one, until in self._sessions.items() if until > over}
        self._accounts = {one: known for one, known in self._accounts.items() if known[1] > over}
