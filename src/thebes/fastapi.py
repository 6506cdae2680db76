"""Who is signed in, for FastAPI: annotations and a dependency, with the OpenAPI security scheme filled in.

    @app.get("/notes")
    def notes(who: CurrentPrincipal) -> list[Note]: ...

    @app.delete("/notes/{note_id}", dependencies=[requires("notes:write", fresh=timedelta(minutes=5))])
    def delete(note_id: int, who: CurrentPrincipal) -> None: ...

The app has to be protected: `Security(...).protect(app)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends
from fastapi import Security as SecurityDependency
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from thebes.accounts.documents import OwnSession
from thebes.guards import Principal, demand
from thebes.starlette import (
    csrf_token,
    current_account,
    current_principal,
    current_sessions,
    optional_principal,
)
from thebes.stores.accounts import Account

__all__ = [
    "CsrfToken",
    "CurrentAccount",
    "CurrentPrincipal",
    "CurrentSessions",
    "OptionalPrincipal",
    "requires",
]


class _AccountScheme(SecurityBase):
    """The security scheme in the app's OpenAPI document: what *Authorize* in `/docs` fills in.

    `protect` lets it follow `accounts_prefix`, and in production names bearer tokens alone.
    """

    def __init__(self) -> None:
        flow = OAuthFlowPassword(tokenUrl="auth/token", scopes={})
        self.model = OAuth2(flows=OAuthFlows(password=flow))
        self.scheme_name = "Account"

    async def __call__(self, connection: HTTPConnection) -> None:
        """Judge nothing: the pass has, and the dependencies below refuse."""


account_scheme = _AccountScheme()


# Coroutines, though none of them waits: plain functions would each be sent to a thread and back.
async def _principal(
    connection: HTTPConnection, _: Annotated[None, SecurityDependency(account_scheme)]
) -> Principal:
    return current_principal(connection)


async def _optional(
    connection: HTTPConnection, _: Annotated[None, SecurityDependency(account_scheme)]
) -> Principal | None:
    return optional_principal(connection)


async def _account(
    connection: HTTPConnection, _: Annotated[None, SecurityDependency(account_scheme)]
) -> Account:
    return await current_account(connection)


async def _sessions(
    connection: HTTPConnection, _: Annotated[None, SecurityDependency(account_scheme)]
) -> Sequence[OwnSession]:
    return await current_sessions(connection)


async def _csrf_token(connection: HTTPConnection) -> str:
    return csrf_token(connection)


CurrentPrincipal = Annotated[Principal, Depends(_principal)]
"""Who is signed in; nobody is answered 401. No I/O."""

OptionalPrincipal = Annotated[Principal | None, Depends(_optional)]
"""Who is signed in, or None. No I/O."""

CurrentAccount = Annotated[Account, Depends(_account)]
"""The account of whoever is signed in; one read of the store."""

CurrentSessions = Annotated[Sequence[OwnSession], Depends(_sessions)]
"""The live sessions of whoever is signed in, the newest first; one read of the store."""

CsrfToken = Annotated[str, Depends(_csrf_token)]
"""The token for the forms of this answer, as their hidden field `csrf_token`. No I/O."""


def requires(*scopes: str, roles: Iterable[str] = (), fresh: timedelta | None = None) -> Any:
    """Return a dependency that demands scopes, one of several roles, or freshness.

    It goes into `dependencies=[...]`, or into an annotation that wants the principal:
    `who: Annotated[Principal, requires("notes:write")]`.

    Args:
        scopes: All of them have to be granted (TOK-37).
        roles: One of them has to be granted, if there are any.
        fresh: How long ago somebody may have authenticated at most (RFC 9470).
    """
    wanted_roles = tuple(roles)

    async def judge(
        connection: HTTPConnection, _: Annotated[None, SecurityDependency(account_scheme)]
    ) -> Principal:
        return demand(connection.scope, *scopes, roles=wanted_roles, fresh=fresh)

    # As Depends, not Security: FastAPI would list our scopes as OAuth scopes that a client may ask for.
    return Depends(judge)
