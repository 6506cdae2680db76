"""Accounts in memory. The tables' lock is the transaction; nothing waits while it is held."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

from thebes.stores import changes
from thebes.stores.accounts import Account, NewToken, TokenPurpose
from thebes.stores.jobs import NewJob
from thebes.stores.memory.revoking import end_sessions, forget_sessions, queue, revoke_account
from thebes.stores.memory.tables import MemoryTables


class AccountStore:
    """`thebes.stores.accounts.AccountStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def create(
        self,
        account: Account,
        *,
        token: NewToken | None = None,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> bool:
        """Insert an account; False, and nothing has happened, if the address is taken."""
        tables = self._tables
        with tables.lock:
            if account.email_key in tables.account_ids or account.id in tables.accounts:
                return False
            tables.accounts[account.id] = account
            tables.account_ids[account.email_key] = account.id
            if token is not None:
                tables.tokens[token.digest] = token
            queue(tables, jobs, _moment(now))
            return True

    async def by_id(self, account_id: str) -> Account | None:
        """Return an account."""
        return self._tables.accounts.get(account_id)

    async def by_email(self, email_key: str) -> Account | None:
        """Return the account of an address."""
        with self._tables.lock:
            return self._tables.accounts.get(self._tables.account_ids.get(email_key, ""))

    async def page(self, *, after: str | None = None, most: int = 100) -> Sequence[Account]:
        """Return accounts in the order of their ids, those behind `after`."""
        with self._tables.lock:
            ids = sorted(self._tables.accounts)
            behind = (one for one in ids if after is None or one > after)
            return [self._tables.accounts[one] for one in islice(behind, most)]

    async def issue(self, token: NewToken, *, jobs: Sequence[NewJob] = (), now: float | None = None) -> None:
        """Keep a token, and void the account's earlier ones of that purpose; nothing for no account."""
        with self._tables.lock:
            if token.account_id not in self._tables.accounts:
                return
            self._void(token.account_id, (token.purpose,))
            self._tables.tokens[token.digest] = token
            queue(self._tables, jobs, _moment(now))

    async def look(self, digest: bytes, purpose: TokenPurpose, *, now: float | None = None) -> Account | None:
        """Return whose unused, unexpired token of this purpose and address this is, without using it."""
        with self._tables.lock:
            return self._owner(digest, purpose, _moment(now))

    async def confirm_email(
        self, digest: bytes, *, jobs: Sequence[NewJob] = (), now: float | None = None
    ) -> Account | None:
        """Use a `verify` token and mark the address as confirmed; None if it is no good (any more)."""
        moment = _moment(now)
        with self._tables.lock:
            account = self._owner(digest, "verify", moment)
            if account is None:
                return None
            del self._tables.tokens[digest]
            queue(self._tables, jobs, moment)
            return self._put(changes.with_confirmed_address(account, moment))

    async def reset_password(
        self,
        digest: bytes,
        purpose: Literal["reset", "invite"],
        password_hash: str,
        *,
        failure_keys: Sequence[bytes] = (),
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Use a token, set the password, end every session and forget the failures; None if it is no good."""
        moment = _moment(now)
        with self._tables.lock:
            account = self._owner(digest, purpose, moment)
            if account is None:
                return None
            self._void(account.id, changes.SET_A_PASSWORD)
            for key in failure_keys:
                self._tables.failures.pop(key, None)
            renewed = changes.with_password(changes.with_confirmed_address(account, moment), password_hash)
            return self._ended(renewed, "password_reset", None, jobs, moment)

    async def change_password(
        self,
        account_id: str,
        expected_hash: str,
        password_hash: str,
        *,
        keeps: str | None = None,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Set another password where the present one is still `expected_hash`; None if it isn't."""
        with self._tables.lock:
            account = self._tables.accounts.get(account_id)
            if account is None or account.password_hash != expected_hash:
                return None
            self._void(account_id, changes.SET_A_PASSWORD)
            renewed = changes.with_password(account, password_hash)
            return self._ended(renewed, "password_changed", keeps, jobs, _moment(now))

    async def upgrade_hash(self, account_id: str, expected_hash: str, password_hash: str) -> bool:
        """Replace a hash by another one of the same password; no epoch rises."""
        with self._tables.lock:
            account = self._tables.accounts.get(account_id)
            if account is None or account.password_hash != expected_hash:
                return False
            self._put(replace(account, password_hash=password_hash))
            return True

    async def set_enabled(
        self,
        account_id: str,
        is_enabled: bool,
        *,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Enable or disable an account. Disabling ends its sessions at once, and its epoch rises."""
        moment = _moment(now)
        with self._tables.lock:
            account = self._tables.accounts.get(account_id)
            if account is None:
                return None
            changed = changes.enabled(account, is_enabled)
            if not is_enabled:
                return self._ended(changed, "disabled", None, jobs, moment)
            queue(self._tables, jobs, moment)
            return self._put(changed)

    async def grant(
        self,
        account_id: str,
        *,
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Add roles and scopes. The epoch rises, and that of live sessions with it."""
        return self._regrant(account_id, lambda old: changes.granted(old, roles, scopes), jobs, _moment(now))

    async def revoke_grant(
        self,
        account_id: str,
        *,
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Take roles and scopes away, as `grant` adds them."""
        return self._regrant(
            account_id, lambda old: changes.without_grants(old, roles, scopes), jobs, _moment(now)
        )

    async def mark_compromised(self, account_id: str, *, now: float | None = None) -> Account | None:
        """Demand another password before anything else, and end every session."""
        with self._tables.lock:
            account = self._tables.accounts.get(account_id)
            if account is None:
                return None
            return self._ended(changes.compromised(account), "compromised", None, (), _moment(now))

    async def delete(self, account_id: str, *, jobs: Sequence[NewJob] = (), now: float | None = None) -> bool:
        """Delete an account with its sessions and tokens; its revocation rows stay."""
        tables, moment = self._tables, _moment(now)
        with tables.lock:
            account = tables.accounts.pop(account_id, None)
            if account is None:
                return False
            revoke_account(tables, account_id, account.epoch + 1, moment)
            del tables.account_ids[account.email_key]
            self._void(account_id, ("verify", "reset", "invite"))
            forget_sessions(tables, account_id)
            queue(tables, jobs, moment)
            return True

    def _owner(self, digest: bytes, purpose: TokenPurpose, now: float) -> Account | None:
        token = self._tables.tokens.get(digest)
        if token is None or token.purpose != purpose or token.expires_at <= now:
            return None
        account = self._tables.accounts[token.account_id]
        return account if account.email_key == token.email_key else None

    def _void(self, account_id: str, purposes: Collection[TokenPurpose]) -> None:
        tokens = self._tables.tokens
        theirs = [one for one in tokens.values() if one.account_id == account_id and one.purpose in purposes]
        for token in theirs:
            del tokens[token.digest]

    def _put(self, account: Account) -> Account:
        self._tables.accounts[account.id] = account
        return account

    def _ended(
        self, account: Account, reason: changes.Reason, keeps: str | None, jobs: Sequence[NewJob], now: float
    ) -> Account:
        """Put an account whose epoch has risen, and end its sessions besides one, which follows."""
        revoke_account(self._tables, account.id, account.epoch, now)
        end_sessions(self._tables, account_id=account.id, besides=keeps, reason=reason, now=now)
        self._follow(account)
        queue(self._tables, jobs, now)
        return self._put(account)

    def _regrant(
        self, account_id: str, change: Callable[[Account], Account], jobs: Sequence[NewJob], now: float
    ) -> Account | None:
        with self._tables.lock:
            old = self._tables.accounts.get(account_id)
            if old is None:
                return None
            account = change(old)
            revoke_account(self._tables, account_id, account.epoch, now)
            self._follow(account)
            queue(self._tables, jobs, now)
            return self._put(account)

    def _follow(self, account: Account) -> None:
        """Let the live sessions go on in the new epoch: their access tokens are void, and renewed."""
        sessions = self._tables.sessions
        for session_id in self._tables.sessions_of.get(account.id, ()):
            session = sessions[session_id]
            # One of an earlier epoch has ended with that epoch, whatever else its row says.
            if session.revoked_at is None and session.epoch == account.epoch - 1:
                sessions[session_id] = replace(session, epoch=account.epoch)


def _moment(now: float | None) -> float:
    return time.time() if now is None else now
