"""A store: everything that has to last, behind Protocols of atomic verbs.

Anyone can bring another one: the Protocols say their contract in prose, and `thebes.testing` holds the suite
that a store has to pass. No Protocol offers a plain "set": between a read and a write there is always room
for somebody else, and that is where limits and the detection of reused tokens die.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from thebes.stores.accounts import AccountStore
from thebes.stores.failures import FailureStore
from thebes.stores.jobs import JobStore
from thebes.stores.keys import KeyStore
from thebes.stores.sessions import SessionStore


class Store(Protocol):
    """The parts of one store, which share its transactions."""

    @property
    def accounts(self) -> AccountStore:
        """Accounts and their single-use tokens."""

    @property
    def sessions(self) -> SessionStore:
        """Sessions and revocations."""

    @property
    def failures(self) -> FailureStore:
        """Failed attempts to sign in."""

    @property
    def jobs(self) -> JobStore:
        """What has to happen after a change."""

    @property
    def keys(self) -> KeyStore:
        """Signing keys, sealed."""

    async def start(self) -> None:
        """Open it, bring its schema up to date where that is its way, and read the present sequence.

        Raises:
            StoreUnavailable: It can't be opened.
            ConfigurationError: Its schema is newer than this version, or has to be upgraded by a command.
        """

    async def close(self) -> None:
        """Finish what has begun, refuse what hasn't, and close."""

    async def purge(self, *, now: float | None = None) -> Mapping[str, int]:
        """Delete what nobody needs any more, at most `retention.PIECE` rows of each table a call (LOG-09).

        Sealed successors of refresh tokens are cleared once their grace is over (TOK-17).

        Returns:
            How many rows went, by table, and how many `successors`; all 0 when nothing is left to do.
        """
