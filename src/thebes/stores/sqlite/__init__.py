"""A store in one SQLite file: for one machine, with any number of worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from thebes.stores.sqlite.accounts import AccountStore
from thebes.stores.sqlite.database import Database
from thebes.stores.sqlite.failures import FailureStore
from thebes.stores.sqlite.jobs import JobStore
from thebes.stores.sqlite.keys import KeyStore
from thebes.stores.sqlite.purging import purge
from thebes.stores.sqlite.sessions import SessionStore


class SQLiteStore:
    """`thebes.stores.store.Store` in a file, which it makes if there is none.

    Attributes:
        accounts: Accounts and their single-use tokens.
        sessions: Sessions and revocations.
        failures: Failed attempts to sign in.
        jobs: What has to happen after a change.
        keys: Signing keys, sealed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the file; nothing is opened before `start`.

        Args:
            path: On a local disk, in a directory that not everyone may write into. Beside it lie
                `-wal` and `-shm` (SQLite's) and `-sequence` (see `sequence`).
        """
        self._database = Database(Path(path))
        self.accounts = AccountStore(self._database)
        self.sessions = SessionStore(self._database)
        self.failures = FailureStore(self._database)
        self.jobs = JobStore(self._database)
        self.keys = KeyStore(self._database)

    async def start(self) -> None:
        """Open the file, and apply the migrations that it hasn't had.

        Raises:
            StoreUnavailable: It can't be opened.
            ConfigurationError: It must not lie there, or its schema is newer than this version.
        """
        await self._database.start()

    async def close(self) -> None:
        """Finish what has begun, refuse what hasn't, and close."""
        await self._database.close()

    async def purge(self, *, now: float | None = None) -> Mapping[str, int]:
        """Delete what nobody needs any more, at most 500 rows of a table."""
        return await purge(self._database, time.time() if now is None else now)
