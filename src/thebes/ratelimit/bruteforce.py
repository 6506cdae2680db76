"""Stop the guessing of passwords, without locking the owner out and without telling who has an account.

An attempt is charged before the password is looked at, in one transaction: so parallel guesses can't share a
charge. Three things are counted:

- an identifier, known or not: from the 5th consecutive failure on each one doubles a delay, from 30 s up to
  1 h. The row is durable, and gone a day after the last failure;
- an account: at 100 consecutive failures its password is off until it is reset. That count outlives the day,
  else a patient attacker would have a dozen guesses every day for ever;
- a client's address: 20 failures in 5 minutes, whatever the identifiers (one password sprayed over many
  accounts).

A known device (`devices`) has rows of its own, with the same delay and the same cap, and is not held up by
those three: so the owner signs in while somebody keeps the account exhausted.

From outside, a password that is off can't be told from a wrong one: attempts go on being charged and delayed
as for any identifier, and only never succeed. So neither delay nor cap says whether there is an account.

Does not protect: against guesses from many addresses on many accounts, a few on each (leaked passwords tried
by a botnet): that is what the list of breached passwords is for. The count by address is this process's own:
N workers allow N times as many.

Sources: NIST SP 800-63B-4, 3.1.1.2 and 3.2.2; ASVS 5.0.0, 6.1.1 and 6.3.1; the OWASP Cheat Sheets on
Authentication and on Credential Stuffing Prevention; RAT-08 to RAT-11, RAT-14.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic_ns
from typing import Final, Literal, Protocol

from thebes.ratelimit.addressquota import AddressQuota
from thebes.ratelimit.rules import Quota
from thebes.secret import Secret
from thebes.stores.failures import Failures, FailureStore, FailureVerdict

FREE_FAILURES: Final = 5  # RAT-09: a person who mistypes isn't delayed
FIRST_DELAY: Final = 30.0
LONGEST_DELAY: Final = 3600.0
# NIST SP 800-63B-4, 3.2.2: no more than 100 consecutive failures. No setting raises it.
MOST_FAILURES: Final = 100
SPRAYING: Final = "20/5 minutes"  # RAT-14
SPRAYING_MEMORY: Final = (
    1 << 20
)  # some 10,000 addresses that failed within 5 minutes; more share coarse cells
# The daily purge goes by the instant of the last failure, and what lies on the account has to outlive it. For
# a device it matters as long as its cookie does.
KEPT_ON_ACCOUNT: Final = 100 * 365.25 * 86400.0
KEPT_ON_DEVICE: Final = 400 * 86400.0

Event = Literal["sign_in_delayed", "sign_in_sprayed", "password_disabled"]
Report = Callable[[Event, str | None], None]


class FailureKeys(Protocol):
    """Keys for the MACs under which rows are kept; no other purpose may use them."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys that count, the one in use first."""

    def derived(self, key_id: str | None = None) -> Secret:
        """Return a key itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt that was charged and may be made now.

    Attributes:
        is_off: The password is off: hash as ever, for the time that it takes, and refuse whatever comes out.
        failures: How many consecutive ones came before; from 5 on the owner is told of a success (ACC-14).
        disables: Whether the password goes off if this one fails: then the owner is to be told.
        is_known_device: Whether it came from one: those are hashed first when there is a queue.
        curve: The keys of the row that holds the delay: under each key of the list, the one in use first.
        cap: The keys of the row that holds the count up to the cap; none for an unknown identifier.
        blocked_until: What the delay was set to.
        address: What counts by address; None for a known device.
        charged_ns: When, on the monotonic clock.
    """

    is_off: bool
    failures: int
    disables: bool
    is_known_device: bool
    curve: tuple[bytes, ...]
    cap: tuple[bytes, ...]
    blocked_until: float
    address: str | None
    charged_ns: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No attempt now: don't look at the password, and answer as an ordinary failure plus `Retry-After`.

    Attributes:
        seconds: Whole ones, at least 1.
    """

    seconds: int


class SignInProtection:
    """Charge attempts to sign in, and give back those that succeed.

    Args:
        store: Where failures are kept. When it can't be asked, nobody signs in.
        keys: For the MACs under which they are kept.
        by_address: How many failures one client address may have; 20 in 5 minutes if None.
        report: Told of delays, of spraying, and of the attempt that switches a password off, with the
            account's id where there is one.
        clock: Nanoseconds of a monotonic clock, for the addresses.
    """

    def __init__(
        self,
        store: FailureStore,
        keys: FailureKeys,
        *,
        by_address: Quota | None = None,
        report: Report | None = None,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        rule = by_address or Quota(SPRAYING, name="sign-in", memory=SPRAYING_MEMORY)
        self._store = store
        self._keys = keys
        self._addresses = AddressQuota(rule)
        self._report = report
        self._clock = clock

    async def charge(
        self,
        identifier: str,
        *,
        address: str,
        account_id: str | None,
        device_id: str | None = None,
        now: float | None = None,
    ) -> Attempt | Wait:
        """Charge an attempt before its password is looked at.

        Args:
            identifier: As accounts are looked up by it, so that two spellings of one are one.
            address: The client's.
            account_id: Of the account that the identifier belongs to, if there is one.
            device_id: What `DeviceCookies.read` returned for that account.
            now: Seconds since the epoch; the store's clock if None.

        Raises:
            StoreUnavailable: It can't be charged, so it can't be made.
            ValueError: A known device of no account.
        """
        charged_ns = self._clock()
        if device_id is None:
            seconds = self._addresses.take(address, now=charged_ns)
            if seconds:
                self._tell("sign_in_sprayed", account_id)
                return Wait(seconds)
        curve, cap = self._rows(identifier, account_id, device_id)
        where = address if device_id is None else None
        judge = _Charge(curve=curve, cap=cap, address=where, charged_ns=charged_ns)
        outcome = await self._store.settle((*curve, *cap), judge, now=now)
        if isinstance(outcome, Wait):
            self._tell("sign_in_delayed", account_id)
        elif outcome.disables:
            self._tell("password_disabled", account_id)
        return outcome

    async def succeeded(self, attempt: Attempt) -> None:
        """Take a charge back, and forget the failures before it: of this device alone, if it is a known one.

        Raises:
            ValueError: The password is off, so nothing can have succeeded.
        """
        if attempt.is_off:
            raise ValueError("the password of this account is off: the attempt has failed")
        self._refund(attempt)
        await self._store.clear((*attempt.curve, *attempt.cap))

    async def withdraw(self, attempt: Attempt) -> None:
        """Take a charge back whose password was never looked at: the queue of the hashing lanes was full."""

        def judge(rows: Sequence[Failures | None], _now: float) -> FailureVerdict[None]:
            reduced = [row and replace(row, count=row.count - 1) for row in rows]
            first = reduced[0]
            if first is not None and first.blocked_until == attempt.blocked_until:
                reduced[0] = replace(first, blocked_until=0.0)  # nobody was charged since
            return FailureVerdict(None, reduced)

        self._refund(attempt)
        await self._store.settle((attempt.curve[0], *attempt.cap[:1]), judge)

    def keys_of(self, identifier: str, account_id: str) -> tuple[bytes, ...]:
        """Return the keys of all failures that a reset forgets, in the transaction that sets the password.

        Known devices have no part in it: another password makes strangers of them.
        """
        curve, cap = self._rows(identifier, account_id, None)
        return (*curve, *cap)

    async def forget(self, identifier: str, account_id: str) -> None:
        """Forget the failures of an account, as an operator does, or when it is deleted."""
        await self._store.clear(self.keys_of(identifier, account_id))

    def _rows(
        self, identifier: str, account_id: str | None, device_id: str | None
    ) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return the keys of the row with the delay, and of the row with the count up to the cap."""
        if device_id is None:
            cap = () if account_id is None else self._macs("account", account_id)
            return self._macs("identifier", identifier), cap
        if account_id is None:
            raise ValueError("a device is known for an account")
        device = f"{account_id}\0{device_id}"
        return self._macs("device", device), self._macs("device's account", device)

    def _macs(self, kind: str, name: str) -> tuple[bytes, ...]:
        # Under every key of the list: a count must not vanish when another master key comes into use.
        return tuple(mac(self._keys.derived(key_id), kind, name) for key_id in self._keys.ids)

    def _refund(self, attempt: Attempt) -> None:
        if attempt.address is not None:
            self._addresses.refund(attempt.address, attempt.charged_ns, now=self._clock())

    def _tell(self, event: Event, account_id: str | None) -> None:
        if self._report is not None:
            self._report(event, account_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charge:
    """Judges an attempt, inside the store's transaction; for the attributes see `Attempt`."""

    curve: tuple[bytes, ...]
    cap: tuple[bytes, ...]
    address: str | None
    charged_ns: int

    def __call__(self, rows: Sequence[Failures | None], now: float) -> FailureVerdict[Attempt | Wait]:
        delaying, capping = rows[: len(self.curve)], rows[len(self.curve) :]
        delayed, capped = _united(delaying), _united(capping)
        wait = delayed.blocked_until - now
        if wait > LONGEST_DELAY:
            # Longer than any delay of ours: the clock was put back. That must lock nobody out for years.
            delayed = replace(delayed, blocked_until=now + LONGEST_DELAY)
            return FailureVerdict(Wait(int(LONGEST_DELAY)), _moved(delaying, delayed))
        if wait > 0:
            return FailureVerdict(Wait(math.ceil(wait)))
        delay = delay_after(delayed.count + 1)
        charged = Failures(count=delayed.count + 1, last_at=now, blocked_until=now + delay if delay else 0.0)
        kept = KEPT_ON_ACCOUNT if self.address is not None else KEPT_ON_DEVICE
        counted = Failures(count=min(capped.count + 1, MOST_FAILURES), last_at=now + kept)
        attempt = Attempt(
            is_off=capped.count >= MOST_FAILURES,
            failures=max(delayed.count, capped.count),
            disables=capped.count == MOST_FAILURES - 1,
            is_known_device=self.address is None,
            curve=self.curve,
            cap=self.cap,
            blocked_until=charged.blocked_until,
            address=self.address,
            charged_ns=self.charged_ns,
        )
        return FailureVerdict(attempt, [*_moved(delaying, charged), *_moved(capping, counted)])


def delay_after(count: int) -> float:
    """Return the seconds for which nothing is evaluated after so many consecutive failures (RAT-09).

    >>> [delay_after(count) for count in (4, 5, 6, 11, 12, 1000)]
    [0.0, 30.0, 60.0, 1920.0, 3600.0, 3600.0]
    """
    if count < FREE_FAILURES:
        return 0.0
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(count - FREE_FAILURES, 32))


def mac(key: Secret, kind: str, name: str) -> bytes:
    """Return the key of a row: what it is about can't be told from it, nor tried, without the keys."""
    message = f"{kind}\0{name}".encode("utf-8", "surrogatepass")
    return hmac.digest(key.reveal(), message, "sha256")


def _united(rows: Sequence[Failures | None]) -> Failures:
    """Return what is known under all keys of the list together."""
    found = [row for row in rows if row is not None]
    return Failures(
        count=sum(row.count for row in found),
        last_at=max((row.last_at for row in found), default=0.0),
        blocked_until=max((row.blocked_until for row in found), default=0.0),
    )


def _moved(rows: Sequence[Failures | None], row: Failures) -> list[Failures | None]:
    """Return the rows with all that is known under the key in use."""
    return [row, *(old and replace(old, count=0) for old in rows[1:])] if rows else []
