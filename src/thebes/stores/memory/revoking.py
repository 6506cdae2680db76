"""What a change brings with it: sessions that end, revocations, jobs. The caller holds the tables' lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from thebes.stores.jobs import NewJob
from thebes.stores.memory.tables import MemoryTables, QueuedJob
from thebes.stores.retention import REVOCATION_SECONDS
from thebes.stores.sessions import Revocation


def end_sessions(
    tables: MemoryTables, *, account_id: str, besides: str | None, reason: str, now: float
) -> Sequence[str]:
    """End the sessions of an account that weren't ended, all besides one; return their ids, the oldest first.

    Expired ones too: an access token may outlive the session that it was made in.
    """
    theirs = [tables.sessions[session_id] for session_id in tables.sessions_of.get(account_id, ())]
    theirs.sort(key=lambda session: session.created_at)  # stable: of one instant, the one opened first
    chosen = [session.id for session in theirs if session.id != besides]
    return [session_id for session_id in chosen if end_session(tables, session_id, reason=reason, now=now)]


def end_session(tables: MemoryTables, session_id: str, *, reason: str, now: float) -> bool:
    """End one session; False if there is none that wasn't ended."""
    session = tables.sessions.get(session_id)
    if session is None or session.revoked_at is not None:
        return False
    revoke_session(tables, session_id, now)
    tables.sessions[session_id] = replace(session, revoked_at=now, revoked_for=reason)
    return True


def forget_sessions(tables: MemoryTables, account_id: str) -> None:
    """Delete the sessions of an account that is deleted."""
    for session_id in tables.sessions_of.pop(account_id, ()):
        del tables.sessions[session_id]


def revoke_session(tables: MemoryTables, session_id: str, now: float) -> None:
    """Note that the access tokens of a session are void."""
    _note(tables, "session", session_id, 0, now)


def revoke_account(tables: MemoryTables, account_id: str, epoch: int, now: float) -> None:
    """Note that the access tokens of an account with an epoch below this one are void."""
    _note(tables, "account", account_id, epoch, now)


def queue(tables: MemoryTables, jobs: Sequence[NewJob], now: float) -> None:
    """Queue jobs, due at once; one whose id is there already is left as it is."""
    for job in jobs:
        tables.jobs.setdefault(job.id, QueuedJob(job=job, due_at=now))


def _note(
    tables: MemoryTables, kind: Literal["session", "account"], subject: str, epoch: int, now: float
) -> None:
    entry = Revocation(tables.sequence + 1, kind, subject, epoch, now + REVOCATION_SECONDS)
    tables.revocations.append(entry)
    tables.sequence = entry.sequence
