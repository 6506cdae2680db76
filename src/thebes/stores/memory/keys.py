"""Signing keys in memory. The tables' lock is the transaction; nothing waits while it is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thebes.stores.keys import StoredKey
from thebes.stores.memory.tables import MemoryTables


class KeyStore:
    """`thebes.stores.keys.KeyStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._lock = tables.lock
        self._rows = tables.keys

    async def insert_first(self, key: StoredKey) -> StoredKey:
        """Keep the key if the store holds none at all, and return the oldest key that it holds then."""
        with self._lock:
            if not self._rows:
                self._rows[key.kid] = key
            return self._sorted()[0]

    async def publish(self, key: StoredKey) -> None:
        """Keep a further key, whose status is `published`.

        Raises:
            ValueError: The status is another, or a key with this id is there.
        """
        with self._lock:
            if key.status != "published":
                raise ValueError(f"a key that is {key.status} can't be published")
            if key.kid in self._rows:
                raise ValueError(f"a key with the id {key.kid} is there already")
            self._rows[key.kid] = key

    async def promote(self, kid: str, *, was: str, sealed: str, now: float) -> bool:
        """Let a published key sign."""
        with self._lock:
            row = self._unchanged(kid, was)
            if row is None or row.status != "published":
                return False
            self._rows[kid] = replace(row, status="promoted", promoted_at=now, sealed=sealed)
            return True

    async def retire(self, kid: str, *, was: str, sealed: str, retire_at: float) -> bool:
        """Give a key an end, if another one is promoted."""
        with self._lock:
            row = self._unchanged(kid, was)
            others = (other for other in self._rows.values() if other.kid != kid)
            if row is None or not any(other.status == "promoted" for other in others):
                return False
            self._rows[kid] = replace(row, status="retired", retire_at=retire_at, sealed=sealed)
            return True

    async def reseal(self, kid: str, *, was: str, sealed: str) -> bool:
        """Replace the sealed text alone."""
        with self._lock:
            row = self._unchanged(kid, was)
            if row is None:
                return False
            self._rows[kid] = replace(row, sealed=sealed)
            return True

    async def keys(self) -> Sequence[StoredKey]:
        """Return all keys, the oldest first."""
        with self._lock:
            return self._sorted()

    def _sorted(self) -> list[StoredKey]:
        return sorted(self._rows.values(), key=lambda row: (row.created_at, row.kid))

    def _unchanged(self, kid: str, was: str) -> StoredKey | None:
        row = self._rows.get(kid)
        return row if row is not None and row.sealed == was else None
