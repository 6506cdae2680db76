"""Signing keys on SQLite: each verb is one statement, or one transaction, that compares before it writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import cast

from thebes.stores.keys import StoredKey
from thebes.stores.sqlite.database import Database

_COLUMNS = "kid, alg, status, created_at, promoted_at, retire_at, sealed"
_INSERT = f"INSERT INTO thebes_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
_ALL = f"SELECT {_COLUMNS} FROM thebes_keys ORDER BY created_at, kid"  # noqa: S608 - a constant
_PROMOTE = """
UPDATE thebes_keys SET status = 'promoted', promoted_at = :now, sealed = :sealed
WHERE kid = :kid AND sealed = :was AND status = 'published'
"""
_RETIRE = """
UPDATE thebes_keys SET status = 'retired', retire_at = :retire_at, sealed = :sealed
WHERE kid = :kid AND sealed = :was
AND EXISTS (SELECT 1 FROM thebes_keys AS other WHERE other.kid != :kid AND other.status = 'promoted')
"""
_RESEAL = "UPDATE thebes_keys SET sealed = :sealed WHERE kid = :kid AND sealed = :was"


class KeyStore:
    """`thebes.stores.keys.KeyStore` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_first(self, key: StoredKey) -> StoredKey:
        """Keep the key if the store holds none at all, and return the oldest key that it holds then."""

        def work(connection: sqlite3.Connection) -> StoredKey:
            known = _keys(connection)
            if known:
                return known[0]
            connection.execute(_INSERT, _values(key))
            return key

        return cast("StoredKey", await self._database.write(work))

    async def publish(self, key: StoredKey) -> None:
        """Keep a further key, whose status is `published`.

        Raises:
            ValueError: The status is another, or a key with this id is there.
        """
        if key.status != "published":
            raise ValueError(f"a key that is {key.status} can't be published")
        statement = f"{_INSERT} ON CONFLICT (kid) DO NOTHING"
        if not await self._changes(statement, _values(key)):
            raise ValueError(f"a key with the id {key.kid} is there already")

    async def promote(self, kid: str, *, was: str, sealed: str, now: float) -> bool:
        """Let a published key sign."""
        return await self._changes(_PROMOTE, {"kid": kid, "was": was, "sealed": sealed, "now": now})

    async def retire(self, kid: str, *, was: str, sealed: str, retire_at: float) -> bool:
        """Give a key an end, if another one is promoted."""
        values = {"kid": kid, "was": was, "sealed": sealed, "retire_at": retire_at}
        return await self._changes(_RETIRE, values)

    async def reseal(self, kid: str, *, was: str, sealed: str) -> bool:
        """Replace the sealed text alone."""
        return await self._changes(_RESEAL, {"kid": kid, "was": was, "sealed": sealed})

    async def keys(self) -> Sequence[StoredKey]:
        """Return all keys, the oldest first."""
        return self._database.read(_keys)

    async def _changes(self, statement: str, values: dict[str, object] | tuple[object, ...]) -> bool:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(statement, values).rowcount

        return await self._database.write(work) == 1


def _keys(connection: sqlite3.Connection) -> list[StoredKey]:
    return [StoredKey(*row) for row in connection.execute(_ALL).fetchall()]


def _values(key: StoredKey) -> tuple[object, ...]:
    return (key.kid, key.alg, key.status, key.created_at, key.promoted_at, key.retire_at, key.sealed)
