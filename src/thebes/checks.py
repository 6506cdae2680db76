"""What the pass asks: checks, each in as few words as it needs, and rules about answers.

A room's class is a check by its shape alone and inherits nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from thebes.facts import Denial, Field, Receive, Reply, RequestFacts
from thebes.forwarding import Arrival

Refuse = Callable[[Denial], Awaitable[None]]


class InstantCheck(Protocol):
    """A check that never waits: pure, cheap, and first.

    It may have a set `indifferent_to`: methods of HTTP requests that it never refuses, so that it isn't
    asked about them.
    """

    @property
    def name(self) -> str:
        """The name by which `without`, `exempt` and events speak of it."""

    def __call__(self, facts: RequestFacts, /) -> Reply | None:
        """Return what to answer instead of the app, or None to go on."""


class AwaitedCheck(Protocol):
    """A check that may have to wait, for a store say; it answers at once where it can."""

    @property
    def name(self) -> str:
        """The name by which `without`, `exempt` and events speak of it."""

    def __call__(self, facts: RequestFacts, /) -> Reply | Awaitable[Reply | None] | None:
        """Return what to answer instead of the app, None to go on, or an awaitable of either."""


class ResponseRule(Protocol):
    """A rule about the fields of every answer, denials and errors too."""

    @property
    def name(self) -> str:
        """The name by which `without` speaks of it."""

    def __call__(self, facts: RequestFacts, headers: list[Field], /) -> None:
        """Change the fields of the answer in place; names stand in the case that the app wrote."""


@runtime_checkable
class ArrivalCheck(Protocol):
    """An instant check that may know by the arrival alone that a request passes; then it isn't asked."""

    def passes(self, arrival: Arrival, /) -> bool:
        """Say whether each request that arrives like this passes, whatever else it holds."""


@runtime_checkable
class Charging(Protocol):
    """A check that counts requests, those too that an earlier one answered."""

    def charge(self, facts: RequestFacts, /) -> None:
        """Count a request that this check was not asked about."""


@runtime_checkable
class BodyGuard(Protocol):
    """A check that watches the body too, while it is received; asked only where one may come."""

    def guard(self, facts: RequestFacts, receive: Receive, refuse: Refuse, /) -> Receive:
        """Return a `receive` that calls `refuse` and then reports a disconnect when it is too much."""


class CountingCheck(InstantCheck, Charging, Protocol):
    """A check that counts."""


class BodyReader(Protocol):
    """A check that has to read the body of some requests before the app may see them."""

    def concerns(self, facts: RequestFacts, /) -> bool:
        """Say whether it has to read this one."""

    async def read(self, facts: RequestFacts, receive: Receive, /) -> tuple[Reply | None, Receive]:
        """Return what to answer, or None, and a `receive` that replays what was read."""
