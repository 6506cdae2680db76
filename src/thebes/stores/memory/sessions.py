"""Sessions and revocations in memory: each verb holds the tables' lock from first look to last change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from thebes.stores.jobs import NewJob
from thebes.stores.memory.revoking import end_session, end_sessions, queue, revoke_session
from thebes.stores.memory.tables import MemoryTables
from thebes.stores.sessions import Judge, Owner, Revocation, Session
from thebes.stores.settling import refuse_another

Answer = TypeVar("Answer")


class SessionStore:
    """`thebes.stores.sessions.SessionStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

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
        with self._tables.lock:
            instant = _instant(now)
            account = self._tables.accounts.get(session.account_id)
            if account is None or not account.is_enabled or account.epoch != session.epoch:
                return False
            if session.id in self._tables.sessions:
                raise ValueError(f"a session with the id {session.id} is there already")
            if replaces is not None:
                end_session(self._tables, replaces, reason="replaced", now=instant)
            for other in self._live(session.account_id, instant)[max(most - 1, 0) :]:
                end_session(self._tables, other.id, reason="crowded_out", now=instant)
            self._tables.sessions[session.id] = session
            self._tables.sessions_of.setdefault(session.account_id, {})[session.id] = None
            queue(self._tables, jobs, instant)
            return True

    async def find(self, session_id: str) -> tuple[Session, Owner] | None:
        """Return a session, ended or not, with its owner."""
        with self._tables.lock:
            return self._find(session_id)

    async def settle(
        self,
        session_id: str,
        judge: Judge[Answer],
        *,
        begin_within: float | None = None,  # noqa: ARG002 - nothing to wait for
        now: float | None = None,
    ) -> Answer | None:
        """Let `judge` decide on a row and do what it says, at once."""
        with self._tables.lock:
            instant = _instant(now)
            found = self._find(session_id)
            before, owner = found if found is not None else (None, None)
            verdict = judge(before, owner, instant)
            after = verdict.session
            if after is not None:
                refuse_another(before, after)
                self._tables.sessions[session_id] = after
                if before is not None and before.revoked_at is None and after.revoked_at is not None:
                    revoke_session(self._tables, session_id, instant)
            queue(self._tables, verdict.jobs, instant)
            return verdict.answer

    async def of_account(self, account_id: str, *, now: float | None = None) -> Sequence[Session]:
        """Return the account's live sessions, the newest first."""
        with self._tables.lock:
            return self._live(account_id, _instant(now))

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
        with self._tables.lock:
            instant = _instant(now)
            if session_id is None:
                ended = end_sessions(
                    self._tables, account_id=account_id, besides=besides, reason=reason, now=instant
                )
            else:
                is_ended = (
                    session_id in self._tables.sessions_of.get(account_id, ())
                    and session_id != besides
                    and end_session(self._tables, session_id, reason=reason, now=instant)
                )
                ended = (session_id,) if is_ended else ()
            if ended:  # nobody is told of what didn't happen
                queue(self._tables, jobs, instant)
            return ended

    async def revoke_everything(self, *, reason: str, now: float | None = None) -> int:
        """End the sessions of all accounts; return how many."""
        with self._tables.lock:
            instant = _instant(now)
            return sum(
                end_session(self._tables, session_id, reason=reason, now=instant)
                for session_id in tuple(self._tables.sessions)
            )

    def sequence(self) -> int:
        """Return the sequence of the last revocation."""
        return self._tables.sequence

    async def revocations(self, after: int, *, now: float | None = None) -> Sequence[Revocation]:
        """Return the entries behind `after` that still matter, in their order."""
        with self._tables.lock:
            instant = _instant(now)
            return [
                entry
                for entry in self._tables.revocations
                if entry.sequence > after and entry.until > instant
            ]

    def _find(self, session_id: str) -> tuple[Session, Owner] | None:
        session = self._tables.sessions.get(session_id)
        if session is None:
            return None
        account = self._tables.accounts[session.account_id]
        owner = Owner(
            id=account.id,
            is_enabled=account.is_enabled,
            is_verified=account.verified_at is not None,
            epoch=account.epoch,
            roles=account.roles,
            scopes=account.scopes,
        )
        return session, owner

    def _live(self, account_id: str, now: float) -> Sequence[Session]:
        account = self._tables.accounts.get(account_id)
        theirs = [self._tables.sessions[found] for found in self._tables.sessions_of.get(account_id, ())]
        live = [
            session
            for session in reversed(theirs)
            if account is not None
            and session.revoked_at is None
            and session.expires_at > now
            and session.used_at + session.idle_seconds > now
            and session.epoch == account.epoch
        ]
        return sorted(live, key=lambda session: session.created_at, reverse=True)


def _instant(now: float | None) -> float:
    return time.time() if now is None else now
