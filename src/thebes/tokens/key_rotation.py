"""Exchange the keys that sign bearer tokens, without downtime, in three steps that somebody sees.

1. *Published*: a new key verifies everywhere and stands in the key set; it signs nothing. After two reload
   intervals every process knows it.
2. *Promoted*: it signs; the one before still verifies.
3. *Retired*: the one before verifies until no token of its time can be valid any more, then nothing.

A key that leaked has no such time: `replace` does all three at once, and every bearer token ends.

Sources: ASVS 5.0.0, 11.2.2 and 13.3.4; RFC 7517, 4.5 (kid); TOK-41, SEC-09.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from thebes.errors import ThebesError
from thebes.stores.keys import KeyState, KeyStore, StoredKey
from thebes.tokens.claims import MAX_LEEWAY, MAX_LIFETIME
from thebes.tokens.jws import Algorithm, PrivateKey
from thebes.tokens.signing_keys import (
    RELOAD_INTERVAL,
    SealingKeys,
    UnusableKey,
    new_key,
    open_key,
    promoted_last,
    seal_key,
)

PUBLISHED_SECONDS = 2 * RELOAD_INTERVAL.total_seconds()
# A process that is late signs with the key before for two intervals more; its last token lives as long as a
# token may, whatever this service's setting is now or was then.
OVERLAP_SECONDS = PUBLISHED_SECONDS + (MAX_LIFETIME + MAX_LEEWAY).total_seconds()


class RotationConflict(ThebesError):
    """Somebody else changed the key meanwhile; nothing was done by this call."""

    def __init__(self) -> None:
        super().__init__(
            "another process is rotating the signing keys: look at `thebes secrets keys`, then run it again"
        )


@dataclass(frozen=True, slots=True)
class RotationStep:
    """What one call did, and what comes next.

    Attributes:
        step: `published`, `promoted`, `retired`: what was done. `waiting`: nothing, it's too early.
        kid: The key that it was done to; for `waiting`, the one that will be promoted.
        due_at: Seconds since the epoch: the earliest instant of the next step; for `retired`, when the key
            verifies nothing any more.
    """

    step: Literal["published", "promoted", "retired", "waiting"]
    kid: str
    due_at: float


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """Where one signing key stands. Instants are seconds since the epoch.

    Attributes:
        kid: Its id, as in tokens and in the key set.
        alg: Its algorithm.
        status: As in the store.
        created_at: When it was made.
        promoted_at: When it came into use.
        retire_at: From when on it verifies nothing.
        is_in_use: Whether it signs new tokens.
        is_current: Whether it is sealed under the master key in use; else `reseal` it before that one goes.
        problem: Why it can't be used; None if it can, or if its time is over.
    """

    kid: str
    alg: str
    status: KeyState
    created_at: float
    promoted_at: float | None
    retire_at: float | None
    is_in_use: bool
    is_current: bool
    problem: str | None


class KeyRotation:
    """The steps of a rotation, for an operator or a schedule; several at once do no harm.

    Args:
        store: Where the keys lie.
        seals: What they are sealed with.
        algorithm: Of new keys.
    """

    __slots__ = ("_algorithm", "_seals", "_store")

    def __init__(self, store: KeyStore, seals: SealingKeys, *, algorithm: Algorithm = "ES256") -> None:
        self._store = store
        self._seals = seals
        self._algorithm: Algorithm = algorithm

    async def advance(self, *, now: float | None = None) -> RotationStep:
        """Take the next step: promote what was published, else retire what was replaced, else publish anew.

        Args:
            now: Seconds since the epoch; the system clock if None.

        Raises:
            RotationConflict: Somebody else was quicker.
        """
        instant = time.time() if now is None else now
        usable = dict(self._usable(await self._store.keys()))
        for row, key in usable.items():
            if row.status == "published":
                return await self._promote_when_due(row, key, instant)
        signer = promoted_last(usable)
        for row in usable:
            if row.status == "promoted" and signer is not None and row is not signer:
                end = (signer.promoted_at or instant) + OVERLAP_SECONDS
                return await self._retire(row, max(instant, end))
        return await self._publish(instant)

    async def replace(self, *, now: float | None = None) -> RotationStep:
        """Let a new key sign at once and every other verify nothing: for keys that leaked or can't be opened.

        All bearer tokens end as soon as each process has read the keys, within `RELOAD_INTERVAL`.

        Args:
            now: Seconds since the epoch; the system clock if None.

        Raises:
            RotationConflict: Somebody else changed a key meanwhile: run it again.
        """
        instant = time.time() if now is None else now
        before = await self._store.keys()
        fresh = new_key(self._seals, self._algorithm, now=instant)
        await self._store.publish(fresh)
        step = await self._promote(fresh, open_key(self._seals, fresh), instant)
        for row in before:
            if row.retire_at is None or row.retire_at > instant:
                await self._retire(row, instant)
        return step

    async def reseal(self) -> int:
        """Seal again what lies under another master key than the one in use; return how many keys that were.

        Raises:
            RotationConflict: Somebody else changed a key meanwhile: run it again.
        """
        count = 0
        for row, key in self._usable(await self._store.keys()):
            if not self._seals.is_current(row.sealed):
                sealed = seal_key(self._seals, row, key).sealed
                _require(await self._store.reseal(row.kid, was=row.sealed, sealed=sealed))
                count += 1
        return count

    async def standings(self, *, now: float | None = None) -> tuple[KeyStanding, ...]:
        """Return where each key stands, the oldest first.

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        instant = time.time() if now is None else now
        rows = await self._store.keys()
        problems = {row.kid: self._problem(row, instant) for row in rows}
        signer = promoted_last(row for row in rows if problems[row.kid] is None)
        return tuple(
            KeyStanding(
                kid=row.kid,
                alg=row.alg,
                status=row.status,
                created_at=row.created_at,
                promoted_at=row.promoted_at,
                retire_at=row.retire_at,
                is_in_use=row is signer,
                is_current=self._seals.is_current(row.sealed),
                problem=problems[row.kid],
            )
            for row in rows
        )

    async def _publish(self, now: float) -> RotationStep:
        key = new_key(self._seals, self._algorithm, now=now)
        await self._store.publish(key)
        return RotationStep("published", key.kid, now + PUBLISHED_SECONDS)

    async def _promote_when_due(self, row: StoredKey, key: PrivateKey, now: float) -> RotationStep:
        due_at = row.created_at + PUBLISHED_SECONDS
        return (
            await self._promote(row, key, now) if now >= due_at else RotationStep("waiting", row.kid, due_at)
        )

    async def _promote(self, row: StoredKey, key: PrivateKey, now: float) -> RotationStep:
        sealed = seal_key(self._seals, row, key, status="promoted", promoted_at=now).sealed
        _require(await self._store.promote(row.kid, was=row.sealed, sealed=sealed, now=now))
        return RotationStep("promoted", row.kid, now)

    async def _retire(self, row: StoredKey, retire_at: float) -> RotationStep:
        sealed = row.sealed  # one that can't be opened stays so: it only goes out of the way
        with contextlib.suppress(UnusableKey):
            key = open_key(self._seals, row)
            sealed = seal_key(self._seals, row, key, status="retired", retire_at=retire_at).sealed
        _require(await self._store.retire(row.kid, was=row.sealed, sealed=sealed, retire_at=retire_at))
        return RotationStep("retired", row.kid, retire_at)

    def _usable(self, rows: Iterable[StoredKey]) -> Iterator[tuple[StoredKey, PrivateKey]]:
        for row in rows:
            with contextlib.suppress(UnusableKey):
                yield row, open_key(self._seals, row)

    def _problem(self, row: StoredKey, now: float) -> str | None:
        if row.retire_at is not None and row.retire_at <= now:
            return None  # its time is over, and nobody opens it again
        try:
            open_key(self._seals, row)
        except UnusableKey as error:
            return error.problem
        return None


def _require(is_done: bool) -> None:
    if not is_done:
        raise RotationConflict
