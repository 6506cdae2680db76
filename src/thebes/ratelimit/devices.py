"""Cookies of known devices: browsers in which somebody has signed in to this account before.

Failed attempts from a known device are counted apart (`bruteforce`), so whoever exhausts an account's
attempts from outside doesn't lock its owner out. A cookie is bound by a MAC to the account, to the device and
to the password's epoch: another password makes strangers of all devices.

It signs nobody in, and it is no second factor: whoever steals it may only guess, on a count of its own with
the same cap. Give it out after a successful sign-in alone.

Does not protect: an account whose owner's browser is in the attacker's hands.

Sources: OWASP "Slow Down Online Guessing Attacks with Device Cookies"; ASVS 5.0.0, 6.1.1; RFC 6265bis, 5.5
(browsers keep a cookie for 400 days at most).
"""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Protocol

from thebes.encoding import decode, encode, random_id

DEVICE_LIFETIME = timedelta(days=400)
_VALUE = re.compile(r"v1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{24})\.([0-9]{1,11})\.([A-Za-z0-9_-]{43})")


class DeviceKeys(Protocol):
    """MACs for this purpose alone."""

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the message's MAC under it."""

    def verify(self, key_id: str, message: bytes, tag: bytes) -> bool:
        """Say whether `mac` made the tag; False too for a key that isn't on the list."""


class DeviceCookies:
    """Write and read the cookie of a known device: `v1.<key id>.<device id>.<issued at>.<MAC>`.

    Args:
        keys: For the MACs; no other purpose may use them.
        lifetime: For how long a device is known after its last sign-in; at most 400 days.

    Raises:
        ValueError: A lifetime of more than 400 days, or none at all.
    """

    __slots__ = ("_keys", "max_age")

    max_age: int
    """Seconds, for the cookie's own `Max-Age`."""

    def __init__(self, keys: DeviceKeys, *, lifetime: timedelta = DEVICE_LIFETIME) -> None:
        if not timedelta(seconds=1) <= lifetime <= DEVICE_LIFETIME:
            raise ValueError(f"devices can be known for a second up to {DEVICE_LIFETIME.days} days")
        self._keys = keys
        self.max_age = int(lifetime.total_seconds())

    def issue(
        self,
        account_id: str,
        password_epoch: int,
        *,
        device_id: str | None = None,
        now: float | None = None,
    ) -> str:
        """Return the value for a device in which somebody has just signed in to this account.

        Args:
            account_id: Whose device it is from now on.
            password_epoch: The account's.
            device_id: What `read` returned, if the device was known; else it gets a new one.
            now: Seconds since the epoch; the system clock if None.
        """
        device_id = device_id or random_id()
        issued_at = max(0, int(time.time() if now is None else now))
        key_id, tag = self._keys.mac(_message(account_id, password_epoch, device_id, issued_at))
        return f"v1.{key_id}.{device_id}.{issued_at}.{encode(tag)}"

    def read(
        self, value: bytes | None, account_id: str, password_epoch: int, *, now: float | None = None
    ) -> str | None:
        """Return the id of the device, if it is a known one of this account; else None.

        Args:
            value: Of the cookie, as it came.
            account_id: Of the account that somebody is signing in to.
            password_epoch: That account's.
            now: Seconds since the epoch; the system clock if None.
        """
        match = _VALUE.fullmatch((value or b"").decode("latin-1"))
        if match is None:
            return None
        key_id, device_id, issued_at, text = match.groups()
        try:
            tag = decode(text)
        except ValueError:
            return None
        message = _message(account_id, password_epoch, device_id, int(issued_at))
        if not self._keys.verify(key_id, message, tag):
            return None
        age = (time.time() if now is None else now) - int(issued_at)
        return device_id if age < self.max_age else None


def _message(account_id: str, password_epoch: int, device_id: str, issued_at: int) -> bytes:
    # The last three can't hold a NUL, so no other parts give the same bytes.
    return f"{account_id}\0{password_epoch}\0{device_id}\0{issued_at}".encode()
