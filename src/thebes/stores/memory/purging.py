"""Delete from memory what nobody needs any more (LOG-09), by the rules of `retention`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from thebes.stores.memory.tables import MemoryTables
from thebes.stores.retention import (
    ENDED_SESSION_SECONDS,
    FAILURE_SECONDS,
    PIECE,
    RETIRED_KEY_SECONDS,
)
from thebes.stores.sessions import Session

Key = TypeVar("Key")
Row = TypeVar("Row")


def purge(tables: MemoryTables, now: float) -> Mapping[str, int]:
    """Delete at most 500 rows of each table; return how many went."""
    with tables.lock:
        return {
            "sessions": _purge_sessions(tables, now - ENDED_SESSION_SECONDS),
            "tokens": _drop(tables.tokens, lambda token: token.expires_at <= now),
            "revocations": _purge_revocations(tables, now),
            "failures": _drop(
                tables.failures,
                lambda row: row.last_at <= now - FAILURE_SECONDS and row.blocked_until <= now,
            ),
            "successors": _clear_successors(tables, now),
            "keys": _drop(
                tables.keys,
                lambda key: (
                    key.status == "retired"
                    and key.retire_at is not None
                    and key.retire_at <= now - RETIRED_KEY_SECONDS
                ),
            ),
        }


def _drop(table: dict[Key, Row], is_over: Callable[[Row], bool]) -> int:
    chosen = list(islice((key for key, row in table.items() if is_over(row)), PIECE))
    for key in chosen:
        del table[key]
    return len(chosen)


def _purge_sessions(tables: MemoryTables, ended_by: float) -> int:
    def is_over(session: Session) -> bool:
        ends = [session.expires_at, session.used_at + session.idle_seconds]
        if session.revoked_at is not None:
            ends.append(session.revoked_at)
        return min(ends) <= ended_by

    before = dict(tables.sessions)
    count = _drop(tables.sessions, is_over)
    for session_id in before.keys() - tables.sessions.keys():
        theirs = tables.sessions_of[before[session_id].account_id]
        del theirs[session_id]
        if not theirs:
            del tables.sessions_of[before[session_id].account_id]
    return count


def _clear_successors(tables: MemoryTables, now: float) -> int:
    """Forget the sealed tokens whose grace is over: their digests are all that may last (TOK-17)."""
    over = (one for one in tables.sessions.values() if one.successor and one.rotated_at + one.grace <= now)
    chosen = list(islice(over, PIECE))
    for session in chosen:
        tables.sessions[session.id] = replace(session, successor=None)
    return len(chosen)


def _purge_revocations(tables: MemoryTables, now: float) -> int:
    over = [entry for entry in tables.revocations if entry.until <= now][:PIECE]
    gone = {entry.sequence for entry in over}
    tables.revocations[:] = [entry for entry in tables.revocations if entry.sequence not in gone]
    return len(over)
