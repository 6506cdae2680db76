"""Accounts and sessions as the API shows them: instants in RFC 3339, no secret, no digest."""

from __future__ import annotations

import datetime
from typing import Any

from thebes.facts import SignedInClaims
from thebes.stores.accounts import Account
from thebes.stores.sessions import Session


def account_document(account: Account) -> dict[str, Any]:
    """Return an account as its owner sees it."""
    return {
        "id": account.id,
        "email": account.email,
        "is_verified": account.verified_at is not None,
        "roles": account.roles,
        "scopes": account.scopes,
        "created_at": _instant(account.created_at),
    }


def session_document(session: Session, claims: SignedInClaims) -> dict[str, Any]:
    """Return a session as its owner sees it: never with a token, nor with a digest of one (ACC-29)."""
    return {
        "id": session.id,
        "is_current": session.id == claims.sid,
        "mode": session.mode,
        "device": session.device,
        "address": session.address,
        "created_at": _instant(session.created_at),
        "used_at": _instant(session.used_at),
    }


def _instant(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
