"""What a change brings with it: sessions that end, revocation rows, jobs.

Plain functions over a connection inside a transaction, for the verbs of every part. A revocation row is
numbered by the SQL function `thebes_following_sequence()`, which raises the shared number there and then:
before the commit that makes the row visible (see `sequence`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from thebes.stores.jobs import NewJob
from thebes.stores.retention import REVOCATION_SECONDS


def end_sessions(
    connection: sqlite3.Connection, *, account_id: str, besides: str | None, reason: str, now: float
) -> Sequence[str]:
    """End the sessions of an account that weren't ended, all besides one; return their ids, the oldest first.

    Expired ones too: an access token may outlive the session that it was made in.
    """
    query = """
        SELECT id FROM thebes_sessions
        WHERE account_id = ? AND revoked_at IS NULL AND id IS NOT ?
        ORDER BY created_at, rowid
    """
    ended = [found for (found,) in connection.execute(query, (account_id, besides)).fetchall()]
    for session_id in ended:
        end_session(connection, session_id, reason=reason, now=now)
    return ended


def end_everything(connection: sqlite3.Connection, *, reason: str, now: float) -> int:
    """End the sessions of all accounts that weren't ended; return how many."""
    note = """
        INSERT INTO thebes_revocations (sequence, kind, subject, epoch, until)
        SELECT thebes_following_sequence(), 'session', id, 0, ? FROM thebes_sessions WHERE revoked_at IS NULL
    """
    connection.execute(note, (now + REVOCATION_SECONDS,))
    change = "UPDATE thebes_sessions SET revoked_at = ?, revoked_for = ? WHERE revoked_at IS NULL"
    return connection.execute(change, (now, reason)).rowcount


def end_session(connection: sqlite3.Connection, session_id: str, *, reason: str, now: float) -> bool:
    """End one session; False if there is none that wasn't ended."""
    change = "UPDATE thebes_sessions SET revoked_at = ?, revoked_for = ? WHERE id = ? AND revoked_at IS NULL"
    if connection.execute(change, (now, reason, session_id)).rowcount == 0:
        return False
    revoke_session(connection, session_id, now)
    return True


def revoke_session(connection: sqlite3.Connection, session_id: str, now: float) -> None:
    """Note that the access tokens of a session are void."""
    _note(connection, "session", session_id, 0, now)


def revoke_account(connection: sqlite3.Connection, account_id: str, epoch: int, now: float) -> None:
    """Note that the access tokens of an account with an epoch below this one are void."""
    _note(connection, "account", account_id, epoch, now)


def queue(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: float) -> None:
    """Queue jobs, due at once; one whose id is there already is left as it is."""
    change = """
        INSERT INTO thebes_jobs (id, kind, sealed, attempts, due_at, expires_at) VALUES (?, ?, ?, 0, ?, ?)
        ON CONFLICT (id) DO NOTHING
    """
    for job in jobs:
        connection.execute(change, (job.id, job.kind, job.sealed, now, job.expires_at))


def _note(connection: sqlite3.Connection, kind: str, subject: str, epoch: int, now: float) -> None:
    connection.execute(
        "INSERT INTO thebes_revocations (sequence, kind, subject, epoch, until)"
        " VALUES (thebes_following_sequence(), ?, ?, ?, ?)",
        (kind, subject, epoch, now + REVOCATION_SECONDS),
    )
