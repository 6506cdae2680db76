"""Accounts on SQLite: every verb one transaction, read and written by one thread at a time."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from thebes.stores import changes
from thebes.stores.accounts import Account, NewToken, TokenPurpose
from thebes.stores.jobs import NewJob
from thebes.stores.sqlite.database import Database
from thebes.stores.sqlite.failures import forget
from thebes.stores.sqlite.revoking import end_sessions, queue, revoke_account

_COLUMNS = """
a.id, a.email, a.email_key, a.password_hash, a.password_epoch, a.epoch, a.is_enabled, a.is_compromised,
a.verified_at, a.roles, a.scopes, a.created_at
"""
_BY_ID = f"SELECT {_COLUMNS} FROM thebes_accounts AS a WHERE a.id = ?"  # noqa: S608 - a constant
_BY_EMAIL = f"SELECT {_COLUMNS} FROM thebes_accounts AS a WHERE a.email_key = ?"  # noqa: S608 - a constant
_PAGE = f"SELECT {_COLUMNS} FROM thebes_accounts AS a WHERE a.id > ? ORDER BY a.id LIMIT ?"  # noqa: S608
_OWNER = f"""
SELECT {_COLUMNS} FROM thebes_tokens AS t JOIN thebes_accounts AS a ON a.id = t.account_id
WHERE t.digest = ? AND t.purpose = ? AND t.expires_at > ? AND t.email_key = a.email_key
"""  # noqa: S608 - constants
_INSERT = """
INSERT INTO thebes_accounts (id, email, email_key, password_hash, password_epoch, epoch, is_enabled,
    is_compromised, verified_at, roles, scopes, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_UPDATE = """
UPDATE thebes_accounts SET password_hash = ?, password_epoch = ?, epoch = ?, is_enabled = ?,
    is_compromised = ?, verified_at = ?, roles = ?, scopes = ? WHERE id = ?
"""
_KEEP = """
INSERT INTO thebes_tokens (digest, purpose, account_id, email_key, expires_at) VALUES (?, ?, ?, ?, ?)
"""
_VOID = "DELETE FROM thebes_tokens WHERE account_id = ? AND purpose = ?"
# A session of an earlier epoch has ended with that epoch, whatever else its row says. Shown as older than its
# grace, the current refresh token is rotated when it is presented next (TOK-27).
_FOLLOW = """
UPDATE thebes_sessions SET epoch = :epoch
WHERE account_id = :id AND revoked_at IS NULL AND epoch = :epoch - 1
"""


class AccountStore:
    """`thebes.stores.accounts.AccountStore` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        account: Account,
        *,
        token: NewToken | None = None,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> bool:
        """Insert an account; False, and nothing has happened, if the address is taken."""

        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute(_INSERT, _values(account)).rowcount == 0:
                return False
            if token is not None:
                _add_token(connection, token)
            queue(connection, jobs, _moment(now))
            return True

        return await self._database.write(work) is True

    async def by_id(self, account_id: str) -> Account | None:
        """Return an account; a read that never waits for a writer."""
        return self._database.read(lambda connection: _one(connection, _BY_ID, account_id))

    async def by_email(self, email_key: str) -> Account | None:
        """Return the account of an address; a read that never waits for a writer."""
        return self._database.read(lambda connection: _one(connection, _BY_EMAIL, email_key))

    async def page(self, *, after: str | None = None, most: int = 100) -> Sequence[Account]:
        """Return accounts in the order of their ids, those behind `after`."""
        return await self._database.scan(
            lambda connection: [_account(row) for row in connection.execute(_PAGE, (after or "", most))]
        )

    async def issue(self, token: NewToken, *, jobs: Sequence[NewJob] = (), now: float | None = None) -> None:
        """Keep a token, and void the account's earlier ones of that purpose; nothing for no account."""

        def work(connection: sqlite3.Connection) -> None:
            if _one(connection, _BY_ID, token.account_id) is None:
                return
            _void(connection, token.account_id, (token.purpose,))
            _add_token(connection, token)
            queue(connection, jobs, _moment(now))

        await self._database.write(work)

    async def look(self, digest: bytes, purpose: TokenPurpose, *, now: float | None = None) -> Account | None:
        """Return whose unused, unexpired token of this purpose and address this is, without using it."""
        return self._database.read(lambda connection: _one(connection, _OWNER, digest, purpose, _moment(now)))

    async def confirm_email(
        self, digest: bytes, *, jobs: Sequence[NewJob] = (), now: float | None = None
    ) -> Account | None:
        """Use a `verify` token and mark the address as confirmed; None if it is no good (any more)."""

        def work(connection: sqlite3.Connection) -> Account | None:
            moment = _moment(now)
            account = _one(connection, _OWNER, digest, "verify", moment)
            if account is None:
                return None
            connection.execute("DELETE FROM thebes_tokens WHERE digest = ?", (digest,))
            queue(connection, jobs, moment)
            return _put(connection, changes.with_confirmed_address(account, moment))

        return await self._database.write(work)

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

        def work(connection: sqlite3.Connection) -> Account | None:
            moment = _moment(now)
            account = _one(connection, _OWNER, digest, purpose, moment)
            if account is None:
                return None
            _void(connection, account.id, changes.SET_A_PASSWORD)
            forget(connection, failure_keys)
            renewed = changes.with_password(changes.with_confirmed_address(account, moment), password_hash)
            return _ended(connection, renewed, "password_reset", None, jobs, moment)

        return await self._database.write(work)

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

        def work(connection: sqlite3.Connection) -> Account | None:
            account = _one(connection, _BY_ID, account_id)
            if account is None or account.password_hash != expected_hash:
                return None
            _void(connection, account_id, changes.SET_A_PASSWORD)
            renewed = changes.with_password(account, password_hash)
            return _ended(connection, renewed, "password_changed", keeps, jobs, _moment(now))

        return await self._database.write(work)

    async def upgrade_hash(self, account_id: str, expected_hash: str, password_hash: str) -> bool:
        """Replace a hash by another one of the same password; no epoch rises."""
        change = "UPDATE thebes_accounts SET password_hash = ? WHERE id = ? AND password_hash = ?"
        values = (password_hash, account_id, expected_hash)
        changed = await self._database.write(lambda connection: connection.execute(change, values).rowcount)
        return changed == 1

    async def set_enabled(
        self,
        account_id: str,
        is_enabled: bool,
        *,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Enable or disable an account. Disabling ends its sessions at once, and its epoch rises."""

        def work(connection: sqlite3.Connection) -> Account | None:
            account = _one(connection, _BY_ID, account_id)
            if account is None:
                return None
            changed = changes.enabled(account, is_enabled)
            if not is_enabled:
                return _ended(connection, changed, "disabled", None, jobs, _moment(now))
            queue(connection, jobs, _moment(now))
            return _put(connection, changed)

        return await self._database.write(work)

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
        return await self._regrant(account_id, lambda old: changes.granted(old, roles, scopes), jobs, now)

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
        return await self._regrant(
            account_id, lambda old: changes.without_grants(old, roles, scopes), jobs, now
        )

    async def mark_compromised(self, account_id: str, *, now: float | None = None) -> Account | None:
        """Demand another password before anything else, and end every session."""

        def work(connection: sqlite3.Connection) -> Account | None:
            account = _one(connection, _BY_ID, account_id)
            if account is None:
                return None
            return _ended(connection, changes.compromised(account), "compromised", None, (), _moment(now))

        return await self._database.write(work)

    async def delete(self, account_id: str, *, jobs: Sequence[NewJob] = (), now: float | None = None) -> bool:
        """Delete an account with its sessions and tokens; its revocation rows stay."""

        def work(connection: sqlite3.Connection) -> bool:
            account = _one(connection, _BY_ID, account_id)
            if account is None:
                return False
            revoke_account(connection, account_id, account.epoch + 1, _moment(now))
            # Its sessions and tokens go with it: ON DELETE CASCADE.
            connection.execute("DELETE FROM thebes_accounts WHERE id = ?", (account_id,))
            queue(connection, jobs, _moment(now))
            return True

        return await self._database.write(work) is True

    async def _regrant(
        self,
        account_id: str,
        change: Callable[[Account], Account],
        jobs: Sequence[NewJob],
        now: float | None,
    ) -> Account | None:
        def work(connection: sqlite3.Connection) -> Account | None:
            old = _one(connection, _BY_ID, account_id)
            if old is None:
                return None
            account, moment = change(old), _moment(now)
            revoke_account(connection, account_id, account.epoch, moment)
            _follow(connection, account)
            queue(connection, jobs, moment)
            return _put(connection, account)

        return await self._database.write(work)


def _ended(
    connection: sqlite3.Connection,
    account: Account,
    reason: changes.Reason,
    keeps: str | None,
    jobs: Sequence[NewJob],
    now: float,
) -> Account:
    """Put an account whose epoch has risen, and end its sessions besides one, which follows."""
    revoke_account(connection, account.id, account.epoch, now)
    end_sessions(connection, account_id=account.id, besides=keeps, reason=reason, now=now)
    _follow(connection, account)
    queue(connection, jobs, now)
    return _put(connection, account)


def _follow(connection: sqlite3.Connection, account: Account) -> None:
    connection.execute(_FOLLOW, {"id": account.id, "epoch": account.epoch})


def _put(connection: sqlite3.Connection, account: Account) -> Account:
    _, _, _, *changeable, _ = _values(account)
    connection.execute(_UPDATE, (*changeable, account.id))
    return account


def _add_token(connection: sqlite3.Connection, token: NewToken) -> None:
    values = (token.digest, token.purpose, token.account_id, token.email_key, token.expires_at)
    connection.execute(_KEEP, values)


def _void(connection: sqlite3.Connection, account_id: str, purposes: Collection[TokenPurpose]) -> None:
    connection.executemany(_VOID, [(account_id, purpose) for purpose in purposes])


def _one(connection: sqlite3.Connection, query: str, *values: object) -> Account | None:
    # Fetched to the end: a statement that isn't finished keeps its lock.
    rows = connection.execute(query, values).fetchall()
    return _account(rows[0]) if rows else None


def _account(row: Sequence[Any]) -> Account:
    return Account(
        id=row[0],
        email=row[1],
        email_key=row[2],
        password_hash=row[3],
        password_epoch=row[4],
        epoch=row[5],
        is_enabled=bool(row[6]),
        is_compromised=bool(row[7]),
        verified_at=row[8],
        roles=tuple(json.loads(row[9])),
        scopes=tuple(json.loads(row[10])),
        created_at=row[11],
    )


def _values(account: Account) -> tuple[Any, ...]:
    return (
        account.id,
        account.email,
        account.email_key,
        account.password_hash,
        account.password_epoch,
        account.epoch,
        account.is_enabled,
        account.is_compromised,
        account.verified_at,
        json.dumps(account.roles),
        json.dumps(account.scopes),
        account.created_at,
    )


def _moment(now: float | None) -> float:
    return time.time() if now is None else now
