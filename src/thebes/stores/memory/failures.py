"""Failure rows in memory. The tables' lock is the transaction; nothing waits while it is held."""

from __future__ import annotations

import time
from collections.abc import Sequence

from thebes.stores.failures import Answer, FailureJudge, Failures
from thebes.stores.memory.tables import MemoryTables


class FailureStore:
    """`thebes.stores.failures.FailureStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._lock = tables.lock
        self._rows = tables.failures

    async def settle(
        self, keys: Sequence[bytes], judge: FailureJudge[Answer], *, now: float | None = None
    ) -> Answer:
        """Let `judge` decide on the rows of these keys together."""
        with self._lock:
            moment = time.time() if now is None else now
            verdict = judge([self._rows.get(key) for key in keys], moment)
            for key, row in zip(keys, verdict.rows, strict=False):
                self._write(key, row)
        return verdict.answer

    async def clear(self, keys: Sequence[bytes]) -> None:
        """Delete rows."""
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)

    def _write(self, key: bytes, row: Failures | None) -> None:
        if row is None:
            return
        if row.count == 0:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row
