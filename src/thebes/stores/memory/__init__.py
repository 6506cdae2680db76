"""A store in memory: for tests, and for trying things out in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping

from thebes.stores.memory.accounts import AccountStore
from thebes.stores.memory.failures import FailureStore
from thebes.stores.memory.jobs import JobStore
from thebes.stores.memory.keys import KeyStore
from thebes.stores.memory.purging import purge
from thebes.stores.memory.sessions import SessionStore
from thebes.stores.memory.tables import MemoryTables


class MemoryStore:
    """`thebes.stores.store.Store` whose contents end with the process.

    Attributes:
        accounts: Accounts and their single-use tokens.
        sessions: Sessions and revocations.
        failures: Failed attempts to sign in.
        jobs: What has to happen after a change.
        keys: Signing keys, sealed.
    """

    def __init__(self) -> None:
        self._tables = MemoryTables()
        self.accounts = AccountStore(self._tables)
        self.sessions = SessionStore(self._tables)
        self.failures = FailureStore(self._tables)
        self.jobs = JobStore(self._tables)
        self.keys = KeyStore(self._tables)

    async def start(self) -> None:
        """Do nothing: it is there."""

    async def close(self) -> None:
        """Do nothing: what it holds stays until nobody refers to it."""

    async def purge(self, *, now: float | None = None) -> Mapping[str, int]:
        """Delete what nobody needs any more, at most 500 rows of a table."""
        return purge(self._tables, time.time() if now is None else now)
