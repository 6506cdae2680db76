"""Accounts, and the single-use tokens that are mailed to their owners.

Every verb is one transaction with all that belongs to it: the change, the end of sessions that it brings,
the revocation rows, the used token, and the jobs that follow. A fault between any two steps leaves the old
state or the new one, never a mixture (ACC-35). No verb takes "set this to that" without the state that the
caller decided on, so of two callers at once one is told that it came too late.

Sources: ASVS 5.0.0, 2.3.3, 6.4.1, 7.4.2, 7.4.3; ACC-03 to ACC-07, 10, 12, 31, 35.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from thebes.stores.jobs import NewJob

TokenPurpose = Literal["verify", "reset", "invite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account.

    Attributes:
        id: UUID of version 7 (RFC 9562): what the app's own tables refer to.
        email: The address as its owner wrote it, normalised by `email-validator`.
        email_key: What two spellings of one address share; unique.
        password_hash: None where no password is set: an invitation that nobody has taken up yet.
        password_epoch: Counts the passwords; known devices and reset tokens are bound to it.
        epoch: Raised by whatever makes earlier access tokens untrue.
        is_enabled: Whether it may be used at all.
        is_compromised: Whether the password has to be changed before anything else (PWD-10).
        verified_at: When the address was confirmed; None until then (ACC-04).
        roles: Granted names.
        scopes: Granted names.
        created_at: Seconds since the epoch.
    """

    id: str
    email: str
    email_key: str
    password_hash: str | None
    password_epoch: int = 0
    epoch: int = 0
    is_enabled: bool = True
    is_compromised: bool = False
    verified_at: float | None = None
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A single-use token that is about to be mailed.

    Attributes:
        digest: SHA-256 of the token as it is sent; the token itself is never stored (ACC-05).
        purpose: What it is for, and nothing else.
        account_id: Whose it is.
        email_key: The address that it was sent to; if the account has another one by then, it is void.
        expires_at: Seconds since the epoch.
    """

    digest: bytes
    purpose: TokenPurpose
    account_id: str
    email_key: str
    expires_at: float


class AccountStore(Protocol):
    """Accounts and their single-use tokens. `now` is seconds since the epoch; None is the store's clock."""

    async def create(
        self,
        account: Account,
        *,
        token: NewToken | None = None,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> bool:
        """Insert an account; False, and nothing has happened, if the address is taken."""

    async def by_id(self, account_id: str) -> Account | None:
        """Return an account; a read that never waits for a writer."""

    async def by_email(self, email_key: str) -> Account | None:
        """Return the account of an address; a read that never waits for a writer."""

    async def page(self, *, after: str | None = None, most: int = 100) -> Sequence[Account]:
        """Return accounts in the order of their ids, those behind `after`."""

    async def issue(self, token: NewToken, *, jobs: Sequence[NewJob] = (), now: float | None = None) -> None:
        """Keep a token, and void the account's earlier ones of that purpose (ACC-07)."""

    async def look(self, digest: bytes, purpose: TokenPurpose, *, now: float | None = None) -> Account | None:
        """Return whose unused, unexpired token of this purpose and address this is, without using it."""

    async def confirm_email(
        self, digest: bytes, *, jobs: Sequence[NewJob] = (), now: float | None = None
    ) -> Account | None:
        """Use a `verify` token and mark the address as confirmed; None if it is no good (any more).

        Of two simultaneous uses one is None (ACC-06).
        """

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
        """Use a token, set the password, end every session and forget the failures; None if it is no good.

        The address counts as confirmed by it; both epochs rise; the flag `is_compromised` is taken off.
        """

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
        """Set another password where the present one is still `expected_hash`; None if it isn't.

        Both epochs rise and all sessions end besides `keeps`, whose epoch follows (ACC-12).
        """

    async def upgrade_hash(self, account_id: str, expected_hash: str, password_hash: str) -> bool:
        """Replace a hash by another one of the same password; no epoch rises (PWD-16)."""

    async def set_enabled(
        self,
        account_id: str,
        is_enabled: bool,
        *,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Enable or disable an account. Disabling ends its sessions at once, and its epoch rises (ACC-31)."""

    async def grant(
        self,
        account_id: str,
        *,
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Account | None:
        """Add roles and scopes; the epoch rises, and that of live sessions with it.

        They go on with new access tokens (TOK-27, 40). Their refresh tokens are rotated by the usual rules:
        to force it within the grace would make a thief of a tab that still holds the one before.
        """

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

    async def mark_compromised(self, account_id: str, *, now: float | None = None) -> Account | None:
        """Demand another password before anything else, and end every session (PWD-10)."""

    async def delete(self, account_id: str, *, jobs: Sequence[NewJob] = (), now: float | None = None) -> bool:
        """Delete an account with its sessions and tokens; its revocation rows stay."""
