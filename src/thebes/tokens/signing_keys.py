"""The keys that sign bearer tokens: sealed in the store, opened in each process, read anew now and then.

Protects against a copied database (the keys in it are sealed) and against one that was written to: a key
counts only where its row could be opened, and the seal is bound to the row's id, algorithm, status and
validity. So nobody adds a key, revives a retired one or passes one off for another algorithm without the
master keys.

Does not protect against an older row that is put back whole, or against who reads the process's memory.

Sources: ASVS 5.0.0, 11.2.2 and 13.3.4; RFC 7517; RFC 9068, 2.1 (`at+jwt`); TOK-41, TOK-42.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from thebes.encoding import random_id
from thebes.errors import ConfigurationError, ThebesError
from thebes.stores.keys import KeyStore, StoredKey
from thebes.tokens.jws import Algorithm, KeySet, PrivateKey, PublicKey, header_segment

TYPE = "at+jwt"  # RFC 9068, 2.1: explicit typing; `application/` is left out
# Each process reads the keys this often. A new key signs after two intervals, so that everybody knows it
# then.
RELOAD_INTERVAL = timedelta(seconds=30)
# A token with an unknown header segment may be signed by a key that is newer than the last reading. Anybody
# can send one, so they cause one reading a second in all.
STRANGER_INTERVAL_SECONDS = 1.0

Report = Callable[[str | None, str], None]


class SealingKeys(Protocol):
    """Sealing for this purpose alone, bound to an owner; the keyring has it."""

    def seal(self, plaintext: bytes, associated_data: bytes) -> str:
        """Encrypt under the key in use."""
        ...

    def open(self, sealed: str, associated_data: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            ThebesError: Whatever is wrong with it; the message holds nothing of it.
        """
        ...

    def is_current(self, sealed: str) -> bool:
        """Say whether a sealed text was made under the key in use."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """What verifies the tokens that name one key.

    Attributes:
        kid: The key's id.
        public: The key.
        retire_at: From when on it verifies nothing, in seconds since the epoch.
    """

    kid: str
    public: PublicKey
    retire_at: float


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """What signs new tokens: a key, and the one header segment that goes with it."""

    kid: str
    header: bytes
    private: PrivateKey


class SigningKeys:
    """The signing keys of one service, as this process knows them.

    Args:
        store: Where they lie.
        seals: What they are sealed with.
        algorithm: Of the first key, made where the store holds none; `rotate` makes the later ones.
        report: Told of a key that can't be used, by its id, once; and of a store that couldn't be read for a
            stranger's token, without an id.
    """

    __slots__ = (
        "_adopted",
        "_algorithm",
        "_begun",
        "_known",
        "_read_at",
        "_reading",
        "_report",
        "_seals",
        "_signing",
        "_store",
        "verifying",
    )

    verifying: KeySet[VerificationKey]
    """What verifies, by header segment; another object after each change."""

    def __init__(
        self,
        store: KeyStore,
        seals: SealingKeys,
        *,
        algorithm: Algorithm = "ES256",
        report: Report | None = None,
    ) -> None:
        self._store = store
        self._seals = seals
        self._algorithm: Algorithm = algorithm
        self._report = report
        self._known: dict[StoredKey, PrivateKey | None] = {}
        self._signing: SigningKey | None = None
        self._begun = self._adopted = 0
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self.verifying = KeySet({})

    @property
    def in_use(self) -> SigningKey:
        """What signs new tokens: the key promoted last.

        Raises:
            ConfigurationError: None can be used, or none was loaded yet.
        """
        if self._signing is None:
            raise ConfigurationError(
                "no signing key in the store can be used with these secret keys: "
                "put the master key back that sealed them, or run `thebes secrets rotate --at-once`"
            )
        return self._signing

    async def load(self, *, now: float | None = None) -> None:
        """Read the keys, and make the first one where there is none: before the first request.

        Args:
            now: Seconds since the epoch; the system clock if None.

        Raises:
            ConfigurationError: There are keys, and none of them can sign.
            StoreUnavailable: The store can't be asked.
        """
        instant = time.time() if now is None else now
        await self.reload(now=instant)
        if not self._known:
            first = new_key(self._seals, self._algorithm, now=instant, is_first=True)
            await self._store.insert_first(first)  # of several workers one wins, and all read its key
            await self.reload(now=instant)
        _ = self.in_use  # raises, rather than let the app start without

    async def reload(self, *, now: float | None = None) -> None:
        """Read the keys as they are by now: every `RELOAD_INTERVAL`, in each process.

        What didn't change isn't opened again, and the verified tokens stay known.

        Args:
            now: Seconds since the epoch; the system clock if None.

        Raises:
            StoreUnavailable: The store can't be asked; the keys known so far stay.
        """
        instant = self._read_at = time.time() if now is None else now
        self._begun = turn = self._begun + 1
        rows = await self._store.keys()
        # Of two readings that overlap, the older one's rows may lack what the younger one has seen.
        if turn > self._adopted:
            self._adopted = turn
            self._adopt(row for row in rows if _end(row) > instant)

    async def reload_for_a_stranger(self, *, now: float | None = None) -> None:
        """Read the keys unless that was done a second ago; whoever comes meanwhile waits for the same.

        A store that can't be asked is reported: the token is then none of ours, as it would be without
        asking.

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        if not self.may_be_old(now=now):
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._reload_or_report(now))
            self._reading.add_done_callback(self._forget_reading)
        await asyncio.shield(self._reading)

    def may_be_old(self, *, now: float | None = None) -> bool:
        """Say whether the last reading is a second old, or is under way.

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        instant = time.time() if now is None else now
        # A negative age is that of a clock that was set back.
        return self._reading is not None or not 0 <= instant - self._read_at < STRANGER_INTERVAL_SECONDS

    async def _reload_or_report(self, now: float | None) -> None:
        try:
            await self.reload(now=now)
        except ThebesError as error:
            self._tell(None, str(error))

    def _forget_reading(self, _: asyncio.Task[None]) -> None:
        self._reading = None

    def _adopt(self, rows: Iterable[StoredKey]) -> None:
        current = {row: self._known[row] if row in self._known else self._opened(row) for row in rows}
        if current.keys() == self._known.keys():
            return
        usable = {row: key for row, key in current.items() if key is not None}
        signer = promoted_last(usable)
        self._known = current
        self._signing = (
            SigningKey(signer.kid, _header(signer), usable[signer]) if signer is not None else None
        )
        self.verifying = KeySet(
            {_header(row): VerificationKey(row.kid, key.public, _end(row)) for row, key in usable.items()}
        )

    def _opened(self, row: StoredKey) -> PrivateKey | None:
        try:
            return open_key(self._seals, row)
        except UnusableKey as error:
            self._tell(row.kid, error.problem)
            return None

    def _tell(self, kid: str | None, problem: str) -> None:
        if self._report is not None:
            self._report(kid, problem)


class UnusableKey(ThebesError):
    """A signing key of the store must not be used; `problem` says why, and holds nothing of it."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"signing key refused: {problem}")
        self.problem = problem


def new_key(seals: SealingKeys, algorithm: Algorithm, *, now: float, is_first: bool = False) -> StoredKey:
    """Return a new key to publish; the very first may sign at once, since nobody knows another."""
    row = StoredKey(
        kid=random_id(),
        alg=algorithm,
        status="promoted" if is_first else "published",
        created_at=now,
        promoted_at=now if is_first else None,
        retire_at=None,
        sealed="",
    )
    return seal_key(seals, row, PrivateKey.generate(algorithm))


def seal_key(seals: SealingKeys, row: StoredKey, key: PrivateKey, **changes: Any) -> StoredKey:
    """Return the row with changed fields, its key sealed for exactly these."""
    changed = replace(row, **changes)
    return replace(changed, sealed=seals.seal(key.dump(), _bound(changed)))


def open_key(seals: SealingKeys, row: StoredKey) -> PrivateKey:
    """Return the key of a row that is as we wrote it.

    Raises:
        UnusableKey: It isn't, or its master key is gone.
    """
    try:
        key = PrivateKey.load(seals.open(row.sealed, _bound(row)))
    except ThebesError as error:
        raise UnusableKey(str(error)) from error
    except ValueError:
        raise UnusableKey("no key of a kind that signs tokens") from None
    if key.public.alg != row.alg:
        raise UnusableKey("its kind isn't that of its algorithm")
    return key


def promoted_last(rows: Iterable[StoredKey]) -> StoredKey | None:
    """Return the row whose key signs: the same one in every process that sees the same rows."""
    promoted = (row for row in rows if row.status == "promoted")
    return max(promoted, key=lambda row: (row.promoted_at or 0.0, row.kid), default=None)


def _bound(row: StoredKey) -> bytes:
    """Return what a key's seal is bound to: all of the row but the seal itself."""
    instants = [
        None if instant is None else float(instant)
        for instant in (row.created_at, row.promoted_at, row.retire_at)
    ]
    return msgspec.json.encode(["signing key", row.kid, row.alg, row.status, *instants])


def _header(row: StoredKey) -> bytes:
    return header_segment(alg=row.alg, kid=row.kid, typ=TYPE)


def _end(row: StoredKey) -> float:
    return math.inf if row.retire_at is None else row.retire_at
