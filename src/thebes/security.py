"""Security: the two lines. It joins settings, rooms and the app, and is the only one to know them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from thebes import protection
from thebes.asgi import Plan
from thebes.errors import ConfigurationError
from thebes.events import Events
from thebes.facts import ASGIApp
from thebes.forwarding import Forwarding, ProxyHeader
from thebes.names import CHECK_NAMES, EXEMPTIBLE
from thebes.paths import RoutePattern, RouteTable
from thebes.secret import Secret
from thebes.settings import (
    READERS,
    ContentPolicy,
    FormCheck,
    HashPreset,
    RevocationCheck,
    SameSite,
    Settings,
    SigningAlgorithm,
    read_value,
)
from thebes.validation.body import parse_codings, parse_size

if TYPE_CHECKING:
    from thebes.accounts.hooks import Given, Hooks
    from thebes.identity import ForeignSessions, Identify
    from thebes.membership import Membership
    from thebes.ratelimit.check import RateLimits
    from thebes.ratelimit.rules import Rule

    Limits = Rule | str | Iterable[Rule | str]

App = TypeVar("App")
Who = TypeVar("Who", bound="Identify")


class Security:
    """The practices of one service, with safe defaults.

    >>> from thebes import Security
    >>> security = Security(hosts=["example.com"])

    Nothing is read and nothing is needed until the app starts, so a module that builds one can be
    imported anywhere. Every setting can also come from the environment (`THEBES_HOSTS`), `.env` or
    `[tool.thebes]` (see `settings`); `thebes audit` prints each value with its origin.

    Args:
        hosts: Names the service answers for (421 for others, RFC 9110 15.5.20). Needed in production.
        public_url: The service's own `https://` origin; its host counts as one of `hosts`.
        origins: Origins whose pages may call the service with credentials: sets CORS and CSRF trust.
        proxies: Networks of proxies in front (`10.0.0.0/8`, `unix`). None are believed by default.
        proxy_header: The field that they write: `x-forwarded-for` (default) or `forwarded` (RFC 7239).
        proxy_hops: How many of them stand in a row (default 1).
        secret_keys: `id:base64url` of at least 32 random bytes each, comma-separated. Better left to the
            environment: `thebes secrets init` writes it.
        health: A quiet route for load balancers, such as `GET /healthz`; it answers for any Host.
        session_cookies: Cookies of the app's own that sign a user in, so that CSRF knows them.
        body_limit: Bytes of a request body, or text such as `2MiB` (default 1 MiB, OWASP DoS).
        multipart_limit: The same for `multipart/*` (default 12 MiB).
        limits: Rules for each client address, in place of 1,200 requests a minute with a burst of 600
            (`Rate`, `Quota`, or text such as `300/minute burst 100`).
        csp: `report` (default) or `strict`, which enforces the nonce policy on HTML (CSP Level 3).
        hsts_max_age: Seconds or timedelta (default two years, OWASP HSTS); sent in production only.
        hsts_include_subdomains: Whether HSTS holds for every subdomain too (default no).
        hsts_preload: Whether the domain may be put on browsers' lists (default no).
        docs: Whether FastAPI's documentation pages and schema stay open in production (default no).
        accounts: None leaves the package's own accounts out; keys, limits and checks stay.
        accounts_prefix: Where accounts are served (default `/auth`).
        include_accounts: Whether FastAPI's own OpenAPI document has their routes too (default no).
        database_url: Where accounts last: `sqlite:///thebes.db`. Needed in production.
        mail_url: Who takes mails: `smtps://user:password@host`. Needed in production.
        mail_from: Whom mails are from (default no-reply at the public host).
        mail_templates: A directory of mail templates that replace ours.
        passwords: What a hash costs: `64MiB` (default, OWASP's second choice doubled) or `19MiB` (its floor).
        breached_passwords: Where new passwords are looked up among those of known breaches:
            `https://api.pwnedpasswords.com`, a mirror of it, or a downloaded file (default nowhere). Five hex
            digits of the SHA-1 leave the process (ASVS 6.2.12).
        breached_passwords_strict: Whether a password that can't be looked up is refused (default no: the
            outage is an event, and the list of common passwords still holds).
        pepper: Whether a key outside the database goes into each hash (default no).
        access_lifetime: Of an access token (default 10 minutes, at most 60; RFC 9700).
        leeway: How far clocks may differ (default 30 seconds, at most 60).
        session_lifetime: Of a session, whatever the activity (default 30 days, NIST SP 800-63B-4).
        session_idle: Unused for longer, it ends (default 7 days).
        refresh_grace: How long a replaced refresh token is still answered (default 30 seconds; 0 is strict).
        signing: Algorithm of bearer tokens: `ES256` (default) or `EdDSA`.
        revocation: `list` (default), or `store`, which asks it on each request.
        cookie_namespace: Appended to the cookies' names, for several services on one host.
        same_site: `lax` (default), or `strict`, which signs out whoever follows a link to you.
        csrf_token: `forms` or `always`: which of the app's own routes need a form token (default none).
        require_account: Whether every route but the `public` ones needs somebody signed in (default no).
        public: Routes that don't: `GET /`, `GET /assets/*`.
        login_url: Where a browser's navigation is sent then, such as `/login`.
        insecure_debug: Whether an app may run with `debug=True` in production (default no).
        events: Where security events go; the logger `thebes.events` by default.

    Raises:
        ConfigurationError: A value that can't be read.
    """

    def __init__(
        self,
        *,
        hosts: Iterable[str] | str | None = None,
        public_url: str | None = None,
        origins: Iterable[str] | str | None = None,
        proxies: Iterable[str] | str | None = None,
        proxy_header: ProxyHeader | None = None,
        proxy_hops: int | None = None,
        secret_keys: Secret | str | None = None,
        health: str | None = None,
        session_cookies: Iterable[str] | str | None = None,
        body_limit: int | str | None = None,
        multipart_limit: int | str | None = None,
        limits: Limits | None = None,
        csp: ContentPolicy | None = None,
        hsts_max_age: timedelta | int | None = None,
        hsts_include_subdomains: bool | None = None,
        hsts_preload: bool | None = None,
        docs: bool | None = None,
        accounts: Literal[True] | None = True,
        accounts_prefix: str | None = None,
        include_accounts: bool | None = None,
        database_url: Secret | str | None = None,
        mail_url: Secret | str | None = None,
        mail_from: str | None = None,
        mail_templates: Path | str | None = None,
        passwords: HashPreset | None = None,
        breached_passwords: str | Path | None = None,
        breached_passwords_strict: bool | None = None,
        pepper: bool | None = None,
        access_lifetime: timedelta | int | None = None,
        leeway: timedelta | int | None = None,
        session_lifetime: timedelta | int | None = None,
        session_idle: timedelta | int | None = None,
        refresh_grace: timedelta | int | None = None,
        signing: SigningAlgorithm | None = None,
        revocation: RevocationCheck | None = None,
        cookie_namespace: str | None = None,
        same_site: SameSite | None = None,
        csrf_token: FormCheck | None = None,
        require_account: bool | None = None,
        public: Iterable[str] | str | None = None,
        login_url: str | None = None,
        insecure_debug: bool | None = None,
        events: Events | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in READERS and value is not None}
        given["accounts"] = accounts is not None
        # Read now, so that a mistake is shown where it was typed.
        self._keywords = {name: read_value(name, value) for name, value in given.items()}
        Forwarding(self._keywords.get("proxies", ()), hops=self._keywords.get("proxy_hops", 1))
        self._routes = RouteTable()
        self._without: frozenset[str] = frozenset()
        self.events = events or Events()
        self._hooks: Hooks | None = None
        self._membership: Membership | None = None
        self._identify: Identify | None = None

    def protect(self, app: App) -> App:
        """Put a FastAPI or Starlette app behind the pass, in place, and return it.

        The object stays what it was: `app.openapi()`, overrides and test clients go on working, and no
        server can start the unprotected one by mistake.

        Raises:
            ConfigurationError: Another kind of app, one that is protected already, or one that has
                started.
        """
        protection.protect(app, self._plan_for(app), owner=self)
        protection.complete_openapi(app, self._with_accounts)
        return app

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an ASGI application that serves `app` behind the pass.

        Raises:
            ConfigurationError: The app is protected already.
        """
        return protection.wrap(app, self._plan_for(app), owner=self)

    def route(
        self,
        pattern: str,
        *,
        body_limit: int | str | None = None,
        codings: Iterable[str] | None = None,
        xml: bool | None = None,
        limit: Limits | Literal["default"] | None = "default",
        cost: int | None = None,
    ) -> None:
        """Declare what one route (`PUT /upload`) or all below a path (`PUT /files/*`) may receive.

        Declared twice, a route has both.

        Args:
            pattern: Method and plain path; the exact pattern wins, else the longest.
            body_limit: Bytes, or text such as `1GiB`, in place of both general limits.
            codings: Content codings that are counted after inflating and passed on as sent: gzip, deflate.
            xml: Whether XML is accepted here, without document type declarations.
            limit: A limit of its own, such as `10/minute` (at most 10 in any minute); None for none at all.
            cost: How many times a request counts.

        Raises:
            ConfigurationError: No route, no size, a coding that can't be counted, or an app that has started.
        """
        declared: dict[str, Any] = {
            "body_limit": None if body_limit is None else parse_size(body_limit),
            "codings": None if codings is None else parse_codings(codings),
            "xml": xml,
            "cost": cost,
        }
        changes = {name: value for name, value in declared.items() if value is not None}
        if limit != "default":
            changes["limit"] = None if limit is None else read_value("limits", limit)
        route = RoutePattern.parse(pattern)
        if limit is None and route.path == "/*":
            raise ConfigurationError(
                f"{pattern!r} with limit=None would free every route: name those you mean"
            )
        self._routes.declare(route, **changes)

    def exempt(self, pattern: str, check: str, *, reason: str) -> None:
        """Take one route, with its exact method and path, out of one check.

        Args:
            pattern: Such as `POST /saml/acs`; no `*`.
            check: `csrf`.
            reason: Why that is safe: `thebes audit` prints it.

        Raises:
            ConfigurationError: A pattern with `*`, another check, or no reason.
        """
        route = RoutePattern.parse(pattern)
        if not route.is_exact:
            raise ConfigurationError(f"{pattern!r}: an exemption names one path, without '*'")
        if check not in EXEMPTIBLE:
            raise ConfigurationError(f"{check!r} knows no exemption; allowed: {', '.join(EXEMPTIBLE)}")
        if not reason.strip():
            raise ConfigurationError(f"{pattern!r}: say in reason=... why this is safe")
        self._routes.exempt(route, check, reason)

    def without(self, *names: str) -> Security:
        """Return a copy that lacks these defences, to prove by a test what they are good for.

        Raises:
            ConfigurationError: An unknown name.
        """
        unknown = [name for name in names if name not in CHECK_NAMES]
        if unknown:
            raise ConfigurationError(
                f"no check is called {', '.join(unknown)}; there are {', '.join(CHECK_NAMES)}"
            )
        fewer = copy(self)
        fewer._without = self._without | frozenset(names)
        return fewer

    def settings(self) -> Settings:
        """Gather the effective settings of this process.

        Raises:
            ConfigurationError: A value that can't be read.
        """
        return Settings.load(self._keywords, environ=os.environ, directory=Path.cwd())

    @property
    def routes(self) -> RouteTable:
        """What is declared for single routes."""
        return self._routes

    @property
    def removed(self) -> frozenset[str]:
        """The names of the checks that were taken out by `without`."""
        return self._without

    def on(self, event: str) -> Callable[[Given], Given]:
        """Register a handler for what happens to accounts, called at least once, after it has happened.

        Sync handlers run in a thread. A handler that raises is called again later.

        Args:
            event: `registered`, `signed_in`, `deleted` and others; see docs/mail.md.

        Raises:
            ConfigurationError: There is no such event.
        """
        from thebes.accounts.hooks import Hooks  # noqa: PLC0415 - most apps register none

        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks.on(event)

    def identify(self, function: Who) -> Who:
        """Register the function that says who asks, for an app with `accounts=None` and sessions of its own.

        It gets the ASGI scope and returns a `thebes.guards.Principal`, or None for nobody; it may be a
        coroutine function, and must be one if it waits for a store. Guards, form tokens and limits go by it.

        Raises:
            ConfigurationError: There is one already.
        """
        if self._identify is not None:
            raise ConfigurationError("security.identify is taken: one function says who asks")
        self._identify = function
        return function

    @property
    def identifies(self) -> bool:
        """Whether a function of the app says who asks."""
        return self._identify is not None

    @property
    def membership(self) -> Membership:
        """The accounts of this process, once the app has started.

        Raises:
            ConfigurationError: It hasn't, or accounts are left out.
        """
        if self._membership is None:
            raise ConfigurationError("there are no accounts yet: the app hasn't started, or accounts=None")
        return self._membership

    def _join(self, settings: Settings, limits: RateLimits | None) -> Membership:
        from thebes.accounts.hooks import Hooks  # noqa: PLC0415
        from thebes.membership import Membership, Surroundings  # noqa: PLC0415

        if self._hooks is None:
            self._hooks = Hooks()
        around = Surroundings(
            settings=settings,
            events=self.events,
            hooks=self._hooks,
            directory=Path.cwd(),
            budget=limits,
            workers=_workers(os.environ),
        )
        self._membership = Membership(around)
        return self._membership

    def _with_accounts(self, document: dict[str, Any]) -> dict[str, Any]:
        from thebes.resources import with_accounts  # noqa: PLC0415

        return with_accounts(document, self.settings())

    def _plan_for(self, app: Any) -> Callable[[], Plan]:
        def plan() -> Plan:
            # The rooms are loaded when the app starts: importing a module that builds a Security is quick.
            from thebes.accesslog import hide_queries  # noqa: PLC0415
            from thebes.assembly import assemble, problems_of  # noqa: PLC0415

            settings = self.settings()
            identify = self._identify
            problems = problems_of(settings, os.environ, Path.cwd(), identifies=self.identifies)
            if problems:
                raise ConfigurationError(*problems)
            hide_queries()
            protection.close_for_production(app, settings, self.events)
            if not self._routes.is_empty:
                protection.refuse_second_spellings(app)
            membership = partial(self._join, settings) if settings.accounts else None
            self._routes.settle()
            foreign = None if identify is None else _foreign_sessions(identify, settings)
            made = assemble(settings, self._routes, self.events, self._without, membership, foreign)
            if settings.accounts:
                protection.refuse_collisions(app, self.membership.routes.paths)
            return made

        return plan


def _foreign_sessions(identify: Identify, settings: Settings) -> ForeignSessions:
    from thebes.identity import ForeignSessions  # noqa: PLC0415 - most apps have none

    return ForeignSessions(identify, settings, Path.cwd())


def _workers(environ: Mapping[str, str]) -> int:
    """Return how many processes serve the app here: `thebes serve` says it as uvicorn and gunicorn read it.

    Raises:
        ConfigurationError: No number.
    """
    text = environ.get("WEB_CONCURRENCY") or "1"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"WEB_CONCURRENCY is {text!r}; allowed is the number of worker processes")
    return int(text)
