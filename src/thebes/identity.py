"""Who asks, where the app has sessions of its own: the pass asks a function of the app, once a request.

    security = Security(accounts=None, session_cookies=["session"])

    @security.identify
    async def who(scope: Scope) -> Principal | None:
        user = await sessions.find(HTTPConnection(scope).cookies.get("session"))
        return None if user is None else Principal(id=str(user.id), session_id=user.session_id)

From then on guards, form tokens, limits and the fields of answers know these people as they know those of
accounts. A function that fails lets nobody in: the answer is 500, and the log says why.

Does not protect: the app's own sessions, how long they last and how they end. What the function says is
believed. An open WebSocket stays open when its session ends.

Sources: TOK-37, TOK-38; CSR-04; HTTP-06.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from thebes import cookies
from thebes.answers import UNCAUGHT
from thebes.csrf_tokens import CsrfTokens, FormTokens
from thebes.facts import Denial, RequestFacts, Scope
from thebes.forms import AnswerForms
from thebes.guards import Principal
from thebes.resources import secret_keys_of
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.settings import Settings
from thebes.tokens.cookie_jar import CookieJar

Identify = Callable[[Scope], "Principal | Awaitable[Principal | None] | None"]

_log = logging.getLogger(__name__)


class Identification:
    """The check that finds out who asks by the app's own word.

    Args:
        identify: The app's function: it gets a copy of the ASGI scope.
        session_cookies: The cookies by which the app signs people in. Somebody known by another one would be
            unknown to the check of origins, which is why that is an error (CSR-05).
    """

    name = "tokens"

    def __init__(self, identify: Identify, *, session_cookies: Iterable[str]) -> None:
        self._identify = identify
        self._cookies = frozenset(name.lower().encode() for name in session_cookies)

    def __call__(self, facts: RequestFacts) -> Awaitable[Denial | None] | None:
        """Ask the app; the health path is nobody's."""
        return None if facts.is_health else self._ask(facts)

    async def _ask(self, facts: RequestFacts) -> Denial | None:
        try:
            said = self._identify(dict(facts.scope))
            principal = await said if inspect.isawaitable(said) else said
            if principal is not None:
                self._require_usable(principal, facts)
        except Exception:
            _log.exception("security.identify failed, so the request is refused")
            return UNCAUGHT
        if principal is not None:
            facts.claims = _Claims.of(principal)
            facts.credential = principal.credential
        return None

    def _require_usable(self, principal: Principal, facts: RequestFacts) -> None:
        texts = (principal.id, principal.session_id)
        if not all(isinstance(text, str) and text for text in texts):
            raise TypeError(f"id and session_id of a principal are texts, and not empty; found {texts!r}")
        field = facts.headers.get(b"cookie", b"")
        if principal.credential == "cookie" and not cookies.holds_any(field, self._cookies):
            raise ValueError(
                "a principal was known by a cookie that session_cookies doesn't name; name it, so that its "
                "requests are protected from other sites, or say credential='bearer'"
            )


class ForeignSessions:
    """All that an app with sessions of its own gets from the pass, joined.

    Attributes:
        check: Finds out who asks.
        forms: Gives the forms of an answer their token.
        form_tokens: The reader of the pass.
    """

    def __init__(self, identify: Identify, settings: Settings, directory: Path) -> None:
        self.check = Identification(identify, session_cookies=settings.session_cookies)
        tokens = CsrfTokens(BoundKeys(Keyring(secret_keys_of(settings, directory)), Purpose.CSRF))
        jar = CookieJar(namespace=settings.cookie_namespace, same_site=settings.same_site)
        self.forms = AnswerForms(tokens, jar)
        when = settings.csrf_token or "forms"
        self.form_tokens = FormTokens(tokens, binding=self.forms.binding, when=when)


@dataclass(frozen=True, slots=True)
class _Claims:
    """A principal in the words of an access token."""

    sub: str
    sid: str
    auth_time: float
    amr: tuple[str, ...]
    scope: frozenset[str]
    roles: tuple[str, ...]

    @classmethod
    def of(cls, principal: Principal) -> _Claims:
        return cls(
            sub=principal.id,
            sid=principal.session_id,
            auth_time=principal.auth_time,
            amr=tuple(principal.amr),
            scope=frozenset(principal.scopes),
            roles=tuple(principal.roles),
        )
