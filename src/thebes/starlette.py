"""Who is signed in, for Starlette: a function to ask, and a decorator that demands.

    @requires("notes:write", fresh=timedelta(minutes=5))
    async def delete(request: Request) -> Response: ...

The app has to be protected: `Security(...).protect(app)`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from starlette.requests import HTTPConnection

from thebes.accounts.documents import OwnSession
from thebes.answers import SIGN_IN_REQUIRED
from thebes.errors import ConfigurationError
from thebes.facts import RequestFacts, Surroundings, facts_of
from thebes.guards import Denied, Principal, demand, principal_of
from thebes.stores.accounts import Account

Read = Callable[[RequestFacts], Awaitable[Any]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def current_principal(connection: HTTPConnection) -> Principal:
    """Return who is signed in; nobody is answered 401. No I/O.

    Raises:
        Denied: Nobody is; `protect` answers it.
        ConfigurationError: The app isn't protected.
    """
    return demand(connection.scope)


def optional_principal(connection: HTTPConnection) -> Principal | None:
    """Return who is signed in, or None. No I/O."""
    return principal_of(connection.scope)


async def current_account(connection: HTTPConnection) -> Account:
    """Return the account of whoever is signed in; one read of the store.

    Raises:
        Denied: Nobody is, or the account is gone.
        ConfigurationError: The app isn't protected, or has no accounts.
    """
    account: Account | None = await _read(connection, lambda around: around.account_of)
    if account is None:
        raise Denied(SIGN_IN_REQUIRED)
    return account


async def current_sessions(connection: HTTPConnection) -> Sequence[OwnSession]:
    """Return the live sessions of whoever is signed in, the newest first; one read of the store.

    Raises:
        Denied: Nobody is; `protect` answers it.
        ConfigurationError: The app isn't protected, or has no accounts.
    """
    sessions: Sequence[OwnSession] = await _read(connection, lambda around: around.sessions_of)
    return sessions


def csrf_token(connection: HTTPConnection) -> str:
    """Return the token for the forms of this answer, as their hidden field `csrf_token` (CSR-04). No I/O.

    It is bound to the session. Nobody's is bound to a cookie that the answer sets and sign-in drops (CSR-07),
    so ask before the answer begins. Asked again for the same answer, it is the same.

    Raises:
        ConfigurationError: The app isn't protected, or has no accounts.
    """
    facts = facts_of(connection.scope)
    make = facts.surroundings.form_token_of
    if make is None:
        raise ConfigurationError("there are no form tokens: Security(accounts=None) leaves them out")
    return make(facts)


def requires(
    *scopes: str, roles: Iterable[str] = (), fresh: timedelta | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator for an endpoint that demands scopes, one of several roles, or freshness.

    Args:
        scopes: All of them have to be granted (TOK-37).
        roles: One of them has to be granted, if there are any.
        fresh: How long ago somebody may have authenticated at most (RFC 9470).
    """
    wanted_roles = tuple(roles)

    def decorate(endpoint: Endpoint) -> Endpoint:
        def judge(connection: HTTPConnection) -> None:
            demand(connection.scope, *scopes, roles=wanted_roles, fresh=fresh)

        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def guarded(connection: HTTPConnection, *arguments: Any, **options: Any) -> Any:
                judge(connection)
                return await endpoint(connection, *arguments, **options)

            return guarded  # type: ignore[return-value]

        @functools.wraps(endpoint)
        def guarded_plain(connection: HTTPConnection, *arguments: Any, **options: Any) -> Any:
            judge(connection)
            return endpoint(connection, *arguments, **options)

        return guarded_plain  # type: ignore[return-value]

    return decorate


async def _read(connection: HTTPConnection, verb_of: Callable[[Surroundings], Read | None]) -> Any:
    """Return what the accounts know of whoever is signed in."""
    demand(connection.scope)
    facts = facts_of(connection.scope)
    read = verb_of(facts.surroundings)
    if read is None:
        raise ConfigurationError("there are no accounts to read: Security(accounts=None) leaves them out")
    return await read(facts)
