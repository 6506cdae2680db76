"""What the verbs of an account store change on an account: pure, and the same for every store.

Each function takes the account as it is and returns it as it shall be. Which sessions end with that, and that
it all happens in one transaction, is the store's part.

Sources: ASVS 5.0.0, 6.4.3, 7.4.2, 7.4.3 and 8.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from thebes.stores.accounts import Account, TokenPurpose

Reason = Literal["password_reset", "password_changed", "disabled", "compromised"]
"""Why a change ends sessions; it stands in their rows."""

# Another password voids what could set one: a reset link that was asked for before (ASVS 6.4.1).
SET_A_PASSWORD: tuple[TokenPurpose, ...] = ("reset", "invite")


def with_confirmed_address(account: Account, now: float) -> Account:
    """Mark the address as confirmed; the first time stays."""
    return account if account.verified_at is not None else replace(account, verified_at=now)


def with_password(account: Account, password_hash: str) -> Account:
    """Set another password: both epochs rise, and nothing is compromised any longer."""
    return replace(
        account,
        password_hash=password_hash,
        password_epoch=account.password_epoch + 1,
        epoch=account.epoch + 1,
        is_compromised=False,
    )


def enabled(account: Account, is_enabled: bool) -> Account:
    """Enable it; or disable it, and its epoch rises."""
    return replace(account, is_enabled=is_enabled, epoch=account.epoch + (not is_enabled))


def compromised(account: Account) -> Account:
    """Demand another password."""
    return replace(account, is_compromised=True, epoch=account.epoch + 1)


def granted(account: Account, roles: Sequence[str], scopes: Sequence[str]) -> Account:
    """Add roles and scopes behind those that are there."""
    return replace(
        account,
        roles=tuple(dict.fromkeys((*account.roles, *roles))),
        scopes=tuple(dict.fromkeys((*account.scopes, *scopes))),
        epoch=account.epoch + 1,
    )


def without_grants(account: Account, roles: Sequence[str], scopes: Sequence[str]) -> Account:
    """Take roles and scopes away."""
    return replace(
        account,
        roles=tuple(role for role in account.roles if role not in roles),
        scopes=tuple(scope for scope in account.scopes if scope not in scopes),
        epoch=account.epoch + 1,
    )
