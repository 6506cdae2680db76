"""The account API: exact paths, exact methods, JSON in and out.

Each handler maps one call to the service and back; it decides nothing. Tokens of cookie mode appear in
Set-Cookie alone, never in a body (TOK-28).

Sources: RFC 9110, 15.5.6 (405 with Allow); RFC 6749, 5.1; TOK-26 to TOK-29, ACC-29, HTTP-12.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from thebes.accounts.bodies import (
    Change,
    Email,
    Nothing,
    Password,
    PasswordGrant,
    Refresh,
    Registration,
    Reset,
    SignIn,
    Token,
)
from thebes.accounts.calls import Call, Result, answer, binding_of_nobody, presession_of
from thebes.accounts.credentials import Credentials
from thebes.accounts.documents import account_document, session_document
from thebes.accounts.openapi import DOCUMENT
from thebes.accounts.results import (
    NO_BROWSER,
    SESSION_ENDED,
    Done,
    SignedIn,
    Visitor,
)
from thebes.accounts.signing_in import SignIns
from thebes.answers import SIGN_IN_REQUIRED
from thebes.csrf_tokens import CsrfTokens, FormTokens
from thebes.encoding import random_id
from thebes.errors import StoreUnavailable
from thebes.facts import (
    Denial,
    Field,
    Receive,
    RequestFacts,
    Scope,
    Send,
    SignedInClaims,
    facts_of,
)
from thebes.stores.accounts import Account
from thebes.tokens.authentication import UNAVAILABLE, Authentication, session_claims
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.circumstances import Circumstances
from thebes.tokens.cookie_jar import MAX_AGE_SECONDS, CookieJar
from thebes.tokens.refresh import RefreshTokens, Renewed

JWKS_PATH = "/.well-known/jwks.json"
# A form can't send DELETE: it posts to the session's path with this behind it.
FORM_END = "/end"
CLEAR = (b"clear-site-data", b'"cache", "storage"')

Handler = Callable[[Call], Awaitable[Result | Denial]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes are made of."""

    sign_ins: SignIns
    credentials: Credentials
    authentication: Authentication
    refresh: RefreshTokens
    bearer_tokens: BearerTokens
    jar: CookieJar
    csrf: CsrfTokens
    form_tokens: FormTokens
    circumstances: Callable[[RequestFacts], Circumstances]
    prefix: str
    with_password_grant: bool
    document: Mapping[str, Any] | None = None  # in OpenAPI; None where it is closed


class AccountRoutes:
    """Answers the package's own paths.

    Args:
        parts: The services behind them.

    Attributes:
        paths: Exact paths to what answers each method.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        prefix = parts.prefix
        self.session_prefix = f"{prefix}/sessions/"
        table: dict[str, Mapping[str, Handler]] = {
            "register": {"POST": self._register},
            "verify": {"POST": self._verify},
            "verify/resend": {"POST": self._resend},
            "login": {"POST": self._login},
            "refresh": {"POST": self._refresh},
            "logout": {"POST": self._logout},
            "me": {"GET": self._me, "DELETE": self._delete},
            "sessions": {"GET": self._sessions},
            "logout-all": {"POST": self._logout_all},
            "password": {"POST": self._change_password},
            "forgot": {"POST": self._forgot},
            "reset": {"POST": self._reset},
            "reauthenticate": {"POST": self._reauthenticate},
            "csrf": {"GET": self._csrf_token},
        }
        if parts.with_password_grant:
            table["token"] = {"POST": self._password_grant}
        if parts.document is not None:
            table[DOCUMENT] = {"GET": self._document}
        self.paths: Mapping[str, Mapping[str, Handler]] = {
            **{f"{prefix}/{path}": methods for path, methods in table.items()},
            JWKS_PATH: {"GET": self._jwks},
        }
        self.may_own = re.compile(f"{re.escape(prefix)}/|{re.escape(JWKS_PATH)}").search

    def owns(self, path: str | None) -> bool:
        """Say whether this plain path is the package's."""
        return path is not None and (path in self.paths or path.startswith(self.session_prefix))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to a path of the package."""
        facts = facts_of(scope)
        if facts.is_websocket:
            await send({"type": "websocket.close", "code": 1008})  # "policy violation": nothing listens here
            return
        methods = self._methods(facts.path)
        method = "GET" if facts.method == "HEAD" else facts.method
        is_token = facts.path == f"{self._parts.prefix}/token"
        call = Call(facts, receive, None if is_token else self._parts.form_tokens)
        if methods is None:
            await answer(call, _NOT_FOUND, send)
        elif method not in methods:
            allowed = ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))
            await answer(call, replace(_OTHER_METHOD, headers=((b"allow", allowed.encode()),)), send)
        else:
            try:
                result = await methods[method](call)
            except StoreUnavailable:
                result = UNAVAILABLE
            await answer(call, result, send)

    def _methods(self, path: str | None) -> Mapping[str, Handler] | None:
        if path is None:
            return None
        if not path.startswith(self.session_prefix):
            return self.paths.get(path)
        name = path.removeprefix(self.session_prefix)
        is_form = name.endswith(FORM_END)
        if "/" in name.removesuffix(FORM_END) or not name:
            return None
        return {"POST": self._end_session} if is_form else {"DELETE": self._end_session}

    # Coming to be

    async def _register(self, call: Call) -> Result | Denial:
        body = await call.read(Registration)
        if isinstance(body, Denial):
            return body
        done = await self._parts.credentials.register(body.email, body.password, visitor=self._visitor(call))
        return _accepted(done)

    async def _verify(self, call: Call) -> Result | Denial:
        body = await call.read(Token)
        if isinstance(body, Denial):
            return body
        return _empty(await self._parts.credentials.verify(body.token, visitor=self._visitor(call)))

    async def _resend(self, call: Call) -> Result | Denial:
        body = await call.read(Email)
        if isinstance(body, Denial):
            return body
        return _accepted(await self._parts.credentials.resend(body.email, visitor=self._visitor(call)))

    async def _forgot(self, call: Call) -> Result | Denial:
        body = await call.read(Email)
        if isinstance(body, Denial):
            return body
        return _accepted(await self._parts.credentials.forgot(body.email, visitor=self._visitor(call)))

    async def _reset(self, call: Call) -> Result | Denial:
        body = await call.read(Reset)
        if isinstance(body, Denial):
            return body
        done = await self._parts.credentials.reset(body.token, body.password, visitor=self._visitor(call))
        return _empty(done)

    # Signing in and out

    async def _login(self, call: Call) -> Result | Denial:
        body = await call.read(SignIn)
        if isinstance(body, Denial):
            return body
        if body.mode == "cookie" and not _BROWSER_FIELDS & call.facts.headers.keys():
            return NO_BROWSER
        signed_in = await self._parts.sign_ins.sign_in(
            body.email,
            body.password,
            mode=body.mode,
            remember=body.remember,
            visitor=self._visitor(call),
        )
        return signed_in if isinstance(signed_in, Denial) else self._signed_in(signed_in)

    async def _password_grant(self, call: Call) -> Result | Denial:
        body = await call.read(PasswordGrant)
        if isinstance(body, Denial):
            return body
        visitor = self._visitor(call)
        signed_in = await self._parts.sign_ins.sign_in(
            body.username, body.password, mode="bearer", visitor=visitor
        )
        return signed_in if isinstance(signed_in, Denial) else self._signed_in(signed_in)

    async def _refresh(self, call: Call) -> Result | Denial:
        cookie = call.facts.refresh_token
        visitor = self._visitor(call)
        if cookie is not None:
            nothing = await call.read_or_none(Nothing)
            if isinstance(nothing, Denial):
                return nothing
            renewed = await self._parts.sign_ins.refresh(cookie, mode="cookie", visitor=visitor)
            if isinstance(renewed, Denial):
                jar = self._parts.jar
                expired = jar.expire(jar.session_name, jar.refresh_name)
                return _with_headers(renewed, expired)
            return Result(204, headers=tuple(self._parts.authentication.fields_of(renewed)))
        body = await call.read(Refresh)
        if isinstance(body, Denial):
            return body
        renewed = await self._parts.sign_ins.refresh(body.refresh_token, mode="bearer", visitor=visitor)
        return renewed if isinstance(renewed, Denial) else self._bearer(renewed)

    async def _logout(self, call: Call) -> Result | Denial:
        facts = call.facts
        body = await call.read_or_none(Nothing)
        if isinstance(body, Denial):
            return body
        await self._parts.sign_ins.sign_out(facts.claims, facts.refresh_token, visitor=self._visitor(call))
        return self._signed_out()

    async def _logout_all(self, call: Call) -> Result | Denial:
        claims = await self._signed_in_caller(call)
        if isinstance(claims, Denial):
            return claims
        done = await self._parts.sign_ins.sign_out_everywhere(claims, visitor=self._visitor(call))
        return done if isinstance(done, Denial) else self._signed_out()

    async def _reauthenticate(self, call: Call) -> Result | Denial:
        body = await call.read(Password)
        if isinstance(body, Denial):
            return body
        if call.facts.claims is None:
            return SIGN_IN_REQUIRED
        signed_in = await self._parts.sign_ins.reauthenticate(
            call.facts.claims, body.password, visitor=self._visitor(call)
        )
        return signed_in if isinstance(signed_in, Denial) else self._signed_in(signed_in)

    async def _change_password(self, call: Call) -> Result | Denial:
        body = await call.read(Change)
        if isinstance(body, Denial):
            return body
        if call.facts.claims is None:
            return SIGN_IN_REQUIRED
        signed_in = await self._parts.credentials.change_password(
            call.facts.claims, body.current_password, body.password, visitor=self._visitor(call)
        )
        return signed_in if isinstance(signed_in, Denial) else self._signed_in(signed_in)

    # What is one's own

    async def _me(self, call: Call) -> Result | Denial:
        account = await self._account(call)
        return SIGN_IN_REQUIRED if account is None else Result(200, {"account": account_document(account)})

    async def _delete(self, call: Call) -> Result | Denial:
        claims = await self._signed_in_caller(call)
        if isinstance(claims, Denial):
            return claims
        done = await self._parts.credentials.delete(claims, visitor=self._visitor(call))
        return done if isinstance(done, Denial) else self._signed_out()

    async def _sessions(self, call: Call) -> Result | Denial:
        claims = call.facts.claims
        if claims is None:
            return SIGN_IN_REQUIRED
        sessions = await self._parts.sign_ins.sessions(claims)
        return Result(200, {"sessions": [session_document(session) for session in sessions]})

    async def _end_session(self, call: Call) -> Result | Denial:
        claims = await self._signed_in_caller(call)
        if isinstance(claims, Denial):
            return claims
        name = (call.facts.path or "").removeprefix(self.session_prefix).removesuffix(FORM_END)
        done = await self._parts.sign_ins.end_session(claims, name, visitor=self._visitor(call))
        return _empty(done)

    async def _csrf_token(self, call: Call) -> Result | Denial:
        claims = call.facts.claims
        if claims is not None and call.facts.credential == "cookie":
            return Result(200, {"csrf_token": self._parts.csrf.issue(claims.sid)})
        jar = self._parts.jar
        known = presession_of(call.facts, jar)
        presession = known or random_id()
        headers = () if known else (jar.set_other(jar.presession_name, presession),)
        token = self._parts.csrf.issue(binding_of_nobody(presession))
        return Result(200, {"csrf_token": token}, headers)

    async def _jwks(self, call: Call) -> Result | Denial:  # noqa: ARG002
        return Result(200, self._parts.bearer_tokens.jwks())

    async def _document(self, call: Call) -> Result | Denial:  # noqa: ARG002
        return Result(200, self._parts.document)

    # Inside

    async def _signed_in_caller(self, call: Call) -> SignedInClaims | Denial:
        body = await call.read_or_none(Nothing)
        return body if isinstance(body, Denial) else call.facts.claims or SIGN_IN_REQUIRED

    async def _account(self, call: Call) -> Account | None:
        return None if call.facts.claims is None else await self._parts.sign_ins.account(call.facts.claims)

    def _visitor(self, call: Call) -> Visitor:
        facts, jar = call.facts, self._parts.jar
        device = jar.value(facts.headers.get(b"cookie"), jar.device_name)
        presented = self._parts.refresh.read(facts.refresh_token) if facts.refresh_token else None
        brought = presented.session_id if presented is not None else None
        return Visitor(
            address=facts.client.address,
            circumstances=self._parts.circumstances(facts),
            device=device,
            session_id=facts.claims.sid if facts.claims is not None else brought,
            request_id=facts.request_id,
            method=facts.method,
            route=facts.path,
        )

    def _signed_in(self, signed_in: SignedIn) -> Result | Denial:
        renewed = Renewed(
            kind="rotated",
            token=signed_in.refresh_token,
            session=signed_in.session,
            owner=signed_in.owner,
        )
        if signed_in.session.mode == "bearer":
            return self._bearer(renewed)
        jar = self._parts.jar
        fields: list[Field] = [*self._parts.authentication.fields_of(renewed)]
        fields += jar.expire(jar.presession_name)
        fields.append(jar.set_other(jar.device_name, signed_in.device, max_age=MAX_AGE_SECONDS))
        return Result(200, {"account": account_document(signed_in.account)}, fields)

    def _bearer(self, renewed: Renewed) -> Result | Denial:
        if renewed.session is None or renewed.owner is None or renewed.token is None:
            return SESSION_ENDED
        tokens = self._parts.bearer_tokens
        document = {
            "access_token": tokens.issue(session_claims(renewed.session, renewed.owner)),
            "refresh_token": renewed.token,
            "token_type": "Bearer",
            "expires_in": int(tokens.lifetime.total_seconds()),
        }
        return Result(200, document)

    def _signed_out(self) -> Result:
        jar = self._parts.jar
        expired = jar.expire(jar.session_name, jar.refresh_name, jar.presession_name)
        return Result(204, headers=(*expired, CLEAR))


def _accepted(done: Done | Denial) -> Result | Denial:
    return done if isinstance(done, Denial) else Result(202)


def _empty(done: Done | Denial) -> Result | Denial:
    return done if isinstance(done, Denial) else Result(204)


def _with_headers(denial: Denial, fields: tuple[Field, ...]) -> Denial:
    return replace(denial, headers=(*denial.headers, *fields))


_OTHER_METHOD = Denial(405, "method", "Another method is needed", "")
_NOT_FOUND = Denial(404, "not-found", "There is nothing here", "")
_BROWSER_FIELDS = frozenset({b"sec-fetch-site", b"origin", b"referer"})
