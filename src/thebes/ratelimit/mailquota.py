"""How many mails somebody can make us send: to one account, and from one address.

A form that sends mails to an address that anyone may type in is a weapon against its owner. At most 3 an hour
go to one address, whoever asks and for whatever purpose; a client address has 10 requests an hour.

The first is durable and shared by all workers. Beyond it nothing is sent and the answer stays what it was,
also for an address that nobody has an account with: so neither says whether there is one (ACC-01).

Does not protect: the count by client address is this process's own (see `addressquota`).

Sources: ASVS 5.0.0, 2.1.3 and 2.3.2; OWASP Forgot Password Cheat Sheet; RAT-13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final

from thebes.errors import ConfigurationError
from thebes.ratelimit.addressquota import AddressQuota
from thebes.ratelimit.bruteforce import FailureKeys, Wait, mac
from thebes.ratelimit.rules import Quota
from thebes.stores.failures import Failures, FailureStore, FailureVerdict

MAILS_AN_HOUR: Final = 3
BY_ADDRESS: Final = "10/hour"
BY_ADDRESS_MEMORY: Final = 1 << 20
HOUR_SECONDS: Final = 3600.0


class MailQuota:
    """Count the mails that were asked for.

    Args:
        store: Where the counts are kept.
        keys: For the MACs under which they are kept.
        most: Mails an hour to one address.
        by_address: Requests of one client address; 10 an hour if None.
        clock: Nanoseconds of a monotonic clock, for the client addresses.

    Raises:
        ConfigurationError: `most` is less than 1.
    """

    def __init__(
        self,
        store: FailureStore,
        keys: FailureKeys,
        *,
        most: int = MAILS_AN_HOUR,
        by_address: Quota | None = None,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        if most < 1:
            raise ConfigurationError(f"{most} mails an hour; at least 1 is needed, or nobody can sign up")
        self._store = store
        self._keys = keys
        self._most = most
        self._addresses = AddressQuota(by_address or Quota(BY_ADDRESS, name="mail", memory=BY_ADDRESS_MEMORY))
        self._clock = clock

    async def take(self, identifier: str, *, address: str, now: float | None = None) -> bool | Wait:
        """Count a request for a mail, and say whether it may be sent.

        Args:
            identifier: The address that the mail would go to, as accounts are looked up by it; known or not.
            address: The client's.
            now: Seconds since the epoch; the store's clock if None.

        Returns:
            True: send it, if there is an account. False: send nothing, and answer alike. Wait: 429.

        Raises:
            StoreUnavailable: It can't be counted, so nothing may be sent.
        """
        seconds = self._addresses.take(address, now=self._clock())
        if seconds:
            return Wait(seconds)
        # Under the key in use alone: after an exchange of master keys an hour begins anew, once.
        key = mac(self._keys.derived(), "mail", identifier)
        return await self._store.settle((key,), self._judge, now=now)

    def _judge(self, rows: Sequence[Failures | None], now: float) -> FailureVerdict[bool]:
        # A run is of mails with less than an hour between each and the next. Of one run only `most` go out,
        # so no window of an hour ever holds more, and one number with one instant is all that is kept.
        row = rows[0]
        count = 0 if row is None or now - row.last_at >= HOUR_SECONDS else row.count
        if count >= self._most:
            return FailureVerdict(False)
        return FailureVerdict(True, (Failures(count=count + 1, last_at=now),))
