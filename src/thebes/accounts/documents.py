"""Accounts and sessions as the API shows them: instants in RFC 3339, no secret, no digest."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import Any

from thebes.facts import SignedInClaims
from thebes.stores.accounts import Account
from thebes.stores.sessions import Session, SessionMode


def account_document(account: Account) -> dict[str, Any]:
    """Return an account as its owner sees it."""
    return {
        "id": account.id,
        "email": account.email,
        "is_verified": account.verified_at is not None,
        "roles": account.roles,
        "scopes": account.scopes,
        "created_at": _text(_utc(account.created_at)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSession:
    """A live session as its owner sees it: never with a token, nor with a digest of one (ACC-29).

    Attributes:
        id: By which `DELETE {accounts_prefix}/sessions/{id}` ends it: a digest of the session's own id, made
            with a key, since paths are logged (LOG-03). It changes when the master key does.
        is_current: Whether the request that asks belongs to it.
        mode: Whether its tokens travel as cookies, or in bodies and headers.
        device: A label from the user agent.
        address: The client's approximate address.
        created_at: When somebody signed in; in UTC.
        used_at: When it was last renewed; in UTC.
    """

    id: str
    is_current: bool
    mode: SessionMode
    device: str
    address: str
    created_at: datetime.datetime
    used_at: datetime.datetime


def own_session(session: Session, claims: SignedInClaims, name: str) -> OwnSession:
    """Return what an owner sees of a session, under the name that is shown for its id."""
    return OwnSession(
        id=name,
        is_current=session.id == claims.sid,
        mode=session.mode,
        device=session.device,
        address=session.address,
        created_at=_utc(session.created_at),
        used_at=_utc(session.used_at),
    )


def session_document(session: OwnSession) -> dict[str, Any]:
    """Return a session as the API shows it."""
    instants = {"created_at": _text(session.created_at), "used_at": _text(session.used_at)}
    return dataclasses.asdict(session) | instants


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _text(instant: datetime.datetime) -> str:
    return instant.isoformat(timespec="seconds")
