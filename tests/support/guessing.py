"""Guess passwords at the sign-in protection, with a clock that passes when a test says so."""

import itertools
from typing import Any, Literal

from thebes.ratelimit.bruteforce import Attempt, SignInProtection, Wait
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Purpose
from token_making import NOW, ring

Outcome = Literal["in", "wrong", "off"] | int
ACCOUNT = "0192f0c1-7c1e-7d6a-9b1e-0123456789ab"
ADA = "ada@example.com"


def keys(*ids: str) -> BoundKeys:
    """Return keys of one purpose, from the master keys with these ids."""
    return BoundKeys(ring(*(ids or ("old",))), Purpose.PEPPER)


class Guesser:
    """Somebody who signs in, or tries to.

    Attributes:
        now: Seconds since the epoch.
        told: The events that were reported.
        checked: How many passwords were looked at, and could have been right.
        protection: What is tested.
    """

    def __init__(self, store: Any, *, ids: tuple[str, ...] = ("old",)) -> None:
        self.now = NOW
        self.told: list[tuple[str, str | None]] = []
        self.checked = 0
        self._addresses = (f"198.51.{number >> 8 & 255}.{number & 255}" for number in itertools.count())
        self.protection = SignInProtection(
            store.failures, keys(*ids), report=lambda *event: self.told.append(event), clock=self.monotonic
        )

    def monotonic(self) -> int:
        """Return nanoseconds that pass with `now`."""
        return round((self.now - NOW + 1e6) * 1e9)

    async def charge(self, identifier: str = ADA, **settings: Any) -> Attempt | Wait:
        """Charge an attempt, from an address that nobody has used, on an account that exists."""
        settings = {"address": next(self._addresses), "account_id": ACCOUNT, "now": self.now} | settings
        return await self.protection.charge(identifier, **settings)

    async def guess(self, identifier: str = ADA, *, is_right: bool = False, **settings: Any) -> Outcome:
        """Sign in, as the accounts do it; an int is the seconds of `Retry-After`."""
        outcome = await self.charge(identifier, **settings)
        if isinstance(outcome, Wait):
            return outcome.seconds
        if outcome.is_off:
            return "off"
        self.checked += 1
        if not is_right:
            return "wrong"
        await self.protection.succeeded(outcome)
        return "in"

    async def patiently(self, times: int, **settings: Any) -> list[Outcome]:
        """Guess wrongly so many times, each as soon as it may be."""
        outcomes = []
        for _ in range(times):
            outcome = await self.guess(**settings)
            if isinstance(outcome, int):
                self.now += outcome
                outcome = await self.guess(**settings)
            outcomes.append(outcome)
        return outcomes
