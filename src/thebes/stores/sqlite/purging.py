"""Delete what nobody needs any more (LOG-09), by the rules of `retention`.

What is to go is looked for by a reader, who stands in nobody's way however large the table is, and then
deleted by its key in one short transaction, if the rule still holds: a session that was used meanwhile stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from thebes.stores.retention import ENDED_SESSION_SECONDS, FAILURE_SECONDS, PIECE, RETIRED_KEY_SECONDS
from thebes.stores.sqlite.database import Database


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of a table may go.

    Attributes:
        table: Without the prefix.
        key: Its primary key.
        condition: SQL; `:now` is the store's clock.
    """

    table: str
    key: str
    condition: str

    @property
    def find(self) -> str:
        """SQL for the keys of some rows that may go."""
        return f"SELECT {self.key} FROM thebes_{self.table} WHERE {self.condition} LIMIT {PIECE}"  # noqa: S608

    @property
    def delete(self) -> str:
        """SQL that deletes one of them, if it still may."""
        return f"DELETE FROM thebes_{self.table} WHERE {self.key} = :key AND ({self.condition})"  # noqa: S608


RULES: Final = (
    Rule(
        "sessions",
        "id",
        f"min(expires_at, used_at + idle_seconds, coalesce(revoked_at, expires_at))"
        f" <= :now - {ENDED_SESSION_SECONDS}",
    ),
    Rule("tokens", "digest", "expires_at <= :now"),
    Rule("revocations", "sequence", "until <= :now"),
    Rule("failures", "key", f"last_at <= :now - {FAILURE_SECONDS} AND blocked_until <= :now"),
    Rule("keys", "kid", f"status = 'retired' AND retire_at <= :now - {RETIRED_KEY_SECONDS}"),
)


async def purge(database: Database, now: float) -> Mapping[str, int]:
    """Delete at most 500 rows of each table, and as many sealed successors; return how many went."""
    gone: dict[str, int] = {}
    for rule in RULES:
        keys = await database.scan(partial(_found, rule=rule, now=now))
        gone[rule.table] = await _delete(database, rule, keys, now) if keys else 0
    gone["successors"] = await _clear_successors(database, now)
    return gone


async def _clear_successors(database: Database, now: float) -> int:
    """Forget the sealed tokens whose grace is over: their digests are all that may last (TOK-17)."""
    condition = "successor IS NOT NULL AND rotated_at + grace <= :now"
    find = f"SELECT id FROM thebes_sessions WHERE {condition} LIMIT {PIECE}"  # noqa: S608
    change = f"UPDATE thebes_sessions SET successor = NULL WHERE id = :id AND {condition}"  # noqa: S608
    keys = await database.scan(lambda connection: connection.execute(find, {"now": now}).fetchall())

    def work(connection: sqlite3.Connection) -> int:
        return sum(connection.execute(change, {"id": key, "now": now}).rowcount for (key,) in keys)

    return (await database.write(work) or 0) if keys else 0


def _found(connection: sqlite3.Connection, *, rule: Rule, now: float) -> Sequence[Any]:
    return [key for (key,) in connection.execute(rule.find, {"now": now}).fetchall()]


async def _delete(database: Database, rule: Rule, keys: Sequence[Any], now: float) -> int:
    def work(connection: sqlite3.Connection) -> int:
        return sum(connection.execute(rule.delete, {"key": key, "now": now}).rowcount for key in keys)

    return await database.write(work) or 0
