"""Sessions and revocations on SQLite: each verb is one transaction, each read one statement."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

from thebes.stores.jobs import NewJob
from thebes.stores.sessions import Judge, Owner, Revocation, Session, Verdict
from thebes.stores.settling import refuse_another
from thebes.stores.sqlite.database import Database
from thebes.stores.sqlite.revoking import end_everything, end_session, end_sessions, queue, revoke_session

Answer = TypeVar("Answer")

COLUMNS = tuple(field.name for field in fields(Session))
# What stays as it was opened. No index is touched by the rest, so a refresh writes one page.
FIXED = ("id", "account_id", "mode", "created_at")
MOST_AT_ONCE = 500  # revocations that are read on the spot: about a millisecond
_SELECTED = ", ".join(f"thebes_sessions.{column}" for column in COLUMNS)
_AMR = COLUMNS.index("amr")
_REMEMBERED = COLUMNS.index("is_remembered")

_FIND = f"""
SELECT {_SELECTED},
    thebes_accounts.is_enabled, thebes_accounts.verified_at IS NOT NULL, thebes_accounts.epoch,
    thebes_accounts.roles, thebes_accounts.scopes
FROM thebes_sessions JOIN thebes_accounts ON thebes_accounts.id = thebes_sessions.account_id
WHERE thebes_sessions.id = ?
"""  # noqa: S608 - column names of ours
# Another epoch than the account's is an end as well; so are a time that has come and one of disuse.
_LIVE = f"""
SELECT {_SELECTED}
FROM thebes_sessions JOIN thebes_accounts ON thebes_accounts.id = thebes_sessions.account_id
WHERE thebes_sessions.account_id = :account_id
    AND thebes_sessions.revoked_at IS NULL
    AND thebes_sessions.expires_at > :now
    AND thebes_sessions.used_at + thebes_sessions.idle_seconds > :now
    AND thebes_sessions.epoch = thebes_accounts.epoch
ORDER BY thebes_sessions.created_at DESC, thebes_sessions.rowid DESC
"""  # noqa: S608 - column names of ours
_INSERT = f"""
INSERT INTO thebes_sessions ({", ".join(COLUMNS)}) VALUES ({", ".join(f":{column}" for column in COLUMNS)})
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - column names of ours
_UPDATE = f"""
UPDATE thebes_sessions SET {", ".join(f"{column} = :{column}" for column in COLUMNS if column not in FIXED)}
WHERE id = :id
"""  # noqa: S608 - column names of ours
_END_ONE = "SELECT id FROM thebes_sessions WHERE id = ? AND account_id = ?"


class SessionStore:
    """`thebes.stores.sessions.SessionStore` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self,
        session: Session,
        *,
        replaces: str | None = None,
        most: int,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> bool:
        """Insert a session, and end the one that it replaces and the account's oldest beyond `most`."""

        def work(connection: sqlite3.Connection) -> bool:
            instant = _instant(now)
            query = "SELECT 1 FROM thebes_accounts WHERE id = ? AND is_enabled AND epoch = ?"
            if connection.execute(query, (session.account_id, session.epoch)).fetchone() is None:
                return False
            if connection.execute(_INSERT, _values(session)).rowcount == 0:
                raise ValueError(f"a session with the id {session.id} is there already")
            if replaces is not None and replaces != session.id:
                end_session(connection, replaces, reason="replaced", now=instant)
            others = [one for one in _live(connection, session.account_id, instant) if one.id != session.id]
            for other in others[max(most - 1, 0) :]:
                end_session(connection, other.id, reason="crowded_out", now=instant)
            queue(connection, jobs, instant)
            return True

        return bool(await self._database.write(work))

    async def find(self, session_id: str) -> tuple[Session, Owner] | None:
        """Return a session, ended or not, with its owner."""
        return self._database.read(lambda connection: _find(connection, session_id))

    async def settle(
        self,
        session_id: str,
        judge: Judge[Answer],
        *,
        begin_within: float | None = None,
        now: float | None = None,
    ) -> Answer | None:
        """Let `judge` decide on a row and do what it says, in one transaction."""

        def work(connection: sqlite3.Connection) -> Answer:
            instant = _instant(now)
            found = _find(connection, session_id)
            before, owner = found if found is not None else (None, None)
            verdict: Verdict[Answer] = judge(before, owner, instant)
            after = verdict.session
            if after is not None:
                refuse_another(before, after)
                connection.execute(_UPDATE, _values(after))
                if before is not None and before.revoked_at is None and after.revoked_at is not None:
                    revoke_session(connection, session_id, instant)
            queue(connection, verdict.jobs, instant)
            return verdict.answer

        return await self._database.write(work, begin_within=begin_within)

    async def of_account(self, account_id: str, *, now: float | None = None) -> Sequence[Session]:
        """Return the account's live sessions, the newest first."""
        return self._database.read(lambda connection: _live(connection, account_id, _instant(now)))

    async def revoke(
        self,
        account_id: str,
        session_id: str | None = None,
        *,
        besides: str | None = None,
        reason: str,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Sequence[str]:
        """End one session of an account, all of them, or all besides one; return the ids of those ended."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            instant = _instant(now)
            if session_id is None:
                ended = end_sessions(
                    connection, account_id=account_id, besides=besides, reason=reason, now=instant
                )
            else:
                theirs = connection.execute(_END_ONE, (session_id, account_id)).fetchone() is not None
                is_ended = (
                    theirs
                    and session_id != besides
                    and end_session(connection, session_id, reason=reason, now=instant)
                )
                ended = (session_id,) if is_ended else ()
            if ended:  # nobody is told of what didn't happen
                queue(connection, jobs, instant)
            return ended

        return cast("Sequence[str]", await self._database.write(work))

    async def revoke_everything(self, *, reason: str, now: float | None = None) -> int:
        """End the sessions of all accounts; return how many."""

        def work(connection: sqlite3.Connection) -> int:
            return end_everything(connection, reason=reason, now=_instant(now))

        return cast("int", await self._database.write(work))

    def sequence(self) -> int:
        """Return the sequence of the last revocation of any process on this machine."""
        return self._database.sequence()

    async def revocations(self, after: int, *, now: float | None = None) -> Sequence[Revocation]:
        """Return the entries behind `after` that still matter, in their order."""
        instant = _instant(now)
        entries = self._database.read(lambda connection: _entries(connection, after, instant, MOST_AT_ONCE))
        if len(entries) < MOST_AT_ONCE:
            return entries
        # After `revoke_everything` there may be a million: not while the event loop waits.
        return await self._database.scan(lambda connection: _entries(connection, after, instant, -1))


def _instant(now: float | None) -> float:
    return time.time() if now is None else now


def _find(connection: sqlite3.Connection, session_id: str) -> tuple[Session, Owner] | None:
    row = connection.execute(_FIND, (session_id,)).fetchone()
    if row is None:
        return None
    session = _session(row[: len(COLUMNS)])
    is_enabled, is_verified, epoch, roles, scopes = row[len(COLUMNS) :]
    owner = Owner(
        id=session.account_id,
        is_enabled=bool(is_enabled),
        is_verified=bool(is_verified),
        epoch=epoch,
        roles=tuple(json.loads(roles)),
        scopes=tuple(json.loads(scopes)),
    )
    return session, owner


def _live(connection: sqlite3.Connection, account_id: str, now: float) -> Sequence[Session]:
    rows = connection.execute(_LIVE, {"account_id": account_id, "now": now}).fetchall()
    return [_session(row) for row in rows]


def _entries(connection: sqlite3.Connection, after: int, now: float, most: int) -> Sequence[Revocation]:
    query = """
        SELECT sequence, kind, subject, epoch, until FROM thebes_revocations
        WHERE sequence > ? AND until > ? ORDER BY sequence LIMIT ?
    """
    return [Revocation(*row) for row in connection.execute(query, (after, now, most)).fetchall()]


def _session(row: Sequence[Any]) -> Session:
    known = dict(zip(COLUMNS, row, strict=True))
    known["amr"] = tuple(json.loads(row[_AMR]))
    known["is_remembered"] = bool(row[_REMEMBERED])
    return Session(**known)


def _values(session: Session) -> dict[str, Any]:
    values = {column: getattr(session, column) for column in COLUMNS}
    values["amr"] = json.dumps(session.amr)
    return values
