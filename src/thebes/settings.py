"""Settings, each with its value and where that came from.

The order: keyword of `Security(...)`, environment (`THEBES_HOSTS`), a file that the environment names
(`THEBES_SECRET_KEYS_FILE`), a directory of files (`THEBES_SECRETS_DIR`), `.env`, `[tool.thebes]` in
`pyproject.toml`, the default. The mode is read from the environment alone, and what weakens a defence
(`insecure_...`) from the keyword alone, so that no file travels into a deployment and opens it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from thebes.errors import ConfigurationError
from thebes.facts import Mode
from thebes.forwarding import ProxyHeader
from thebes.https.headers import HSTS_MAX_AGE
from thebes.https.origins import normal_origin
from thebes.paths import RoutePattern
from thebes.secret import Secret
from thebes.validation.body import BODY_LIMIT, MULTIPART_LIMIT, parse_size

if TYPE_CHECKING:
    from thebes.ratelimit.rules import Rule

ContentPolicy = Literal["report", "strict"]
SameSite = Literal["lax", "strict"]
SigningAlgorithm = Literal["ES256", "EdDSA"]
HashPreset = Literal["64MiB", "19MiB", "test"]
FormCheck = Literal["forms", "always"]
RevocationCheck = Literal["list", "store"]
DEFAULT = "default"
KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings of one `Security`; `origin` tells for each name where its value came from.

    Attributes:
        hosts: Names that the service answers for; without a port they mean the default ports.
        public_url: The service's own `https://` origin.
        origins: Further origins whose pages may call it, with credentials.
        proxies: Networks of declared proxies, or `unix`.
        proxy_header: The one forwarding field that declared proxies write.
        proxy_hops: Declared proxies in a row, at most.
        secret_keys: `id:base64url` of at least 32 random bytes each, comma-separated; the first is in use.
        health: A route that is quiet, and answered for any Host.
        session_cookies: Cookies of the app itself that sign a user in.
        body_limit: Bytes of a request body (HTTP-16: 1 MiB).
        multipart_limit: Bytes of a multipart body (HTTP-16: 12 MiB).
        limits: Rules for every route that declares none (RAT-01); None is the default of the room.
        csp: Whether the nonce policy on HTML only reports or is enforced.
        hsts_max_age: How long browsers insist on https (RFC 6797; OWASP: two years).
        hsts_include_subdomains: Whether that holds for every subdomain too.
        hsts_preload: Whether the domain may be put on browsers' lists.
        docs: Whether FastAPI's interactive documentation and schema are open in production.
        accounts: Whether the package serves accounts below `accounts_prefix`.
        accounts_prefix: Where.
        include_accounts: Whether FastAPI's own OpenAPI document has these routes too.
        database_url: Where accounts and sessions last: `sqlite:///thebes.db`.
        mail_url: Who takes mails: `smtps://user:password@host`.
        mail_from: Whom mails are from; no-reply at the public host if None.
        mail_templates: A directory of templates that replace ours.
        passwords: What a hash costs (PWD-12).
        breached_passwords: Where new passwords are looked up: an https address or a file (PWD-07).
        breached_passwords_strict: Whether a password that can't be looked up is refused.
        pepper: Whether a key outside the database goes into each hash (PWD-19).
        access_lifetime: Of an access token (TOK-14: at most 60 minutes).
        leeway: How far clocks may differ (TOK-13: at most 60 seconds).
        session_lifetime: Of a session, whatever the activity (TOK-22).
        session_idle: Unused for longer, a session ends (TOK-23).
        refresh_grace: How long a replaced refresh token is still answered (TOK-21: 0 to 30 seconds).
        signing: The algorithm of bearer tokens (TOK-08).
        revocation: Whether ended sessions are known by a list, or asked of the store on each request.
        cookie_namespace: Appended to the cookies' names, for several services on one host.
        same_site: Of the session's cookies (TOK-30).
        csrf_token: Which of the app's own routes need a form token (CSR-04); None for none.
        require_account: Whether every route but the public ones needs somebody signed in.
        public: The routes that don't, plain paths, exact or with a final `/*`.
        login_url: Where a browser's navigation is sent then.
        insecure_debug: Whether an app may show tracebacks to clients in production.
    """

    mode: Mode
    hosts: tuple[str, ...] = ()
    public_url: str | None = None
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    proxy_header: ProxyHeader = "x-forwarded-for"
    proxy_hops: int = 1
    secret_keys: Secret | None = None
    health: RoutePattern | None = None
    session_cookies: tuple[str, ...] = ()
    body_limit: int = BODY_LIMIT
    multipart_limit: int = MULTIPART_LIMIT
    limits: tuple[Rule, ...] | None = None
    csp: ContentPolicy = "report"
    hsts_max_age: timedelta = HSTS_MAX_AGE
    hsts_include_subdomains: bool = False
    hsts_preload: bool = False
    docs: bool = False
    accounts: bool = True
    accounts_prefix: str = "/auth"
    include_accounts: bool = False
    database_url: Secret | None = None
    mail_url: Secret | None = None
    mail_from: str | None = None
    mail_templates: Path | None = None
    passwords: HashPreset = "64MiB"
    breached_passwords: str | None = None
    breached_passwords_strict: bool = False
    pepper: bool = False
    access_lifetime: timedelta = timedelta(minutes=10)
    leeway: timedelta = timedelta(seconds=30)
    session_lifetime: timedelta = timedelta(days=30)
    session_idle: timedelta = timedelta(days=7)
    refresh_grace: timedelta = timedelta(seconds=30)
    signing: SigningAlgorithm = "ES256"
    revocation: RevocationCheck = "list"
    cookie_namespace: str = ""
    same_site: SameSite = "lax"
    csrf_token: FormCheck | None = None
    require_account: bool = False
    public: tuple[RoutePattern, ...] = ()
    login_url: str | None = None
    insecure_debug: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, keywords: Mapping[str, Any], *, environ: Mapping[str, str], directory: Path) -> Settings:
        """Gather the settings of a process.

        Args:
            keywords: What was passed to `Security`, each in its own type.
            environ: The process environment.
            directory: Where `.env` and `pyproject.toml` are looked for: the working directory.

        Raises:
            ConfigurationError: A value that can't be read, or an unknown name in `[tool.thebes]`.
            SecretUnavailable: A file that was named can't be read.
        """
        from thebes.secrets.sources import Sources  # noqa: PLC0415 - not needed to import an app

        sources = Sources(environ=environ, directory=directory)
        project = _project_table(directory)
        values: dict[str, Any] = {}
        origin: dict[str, str] = {"mode": "environment" if environ.get("THEBES_ENV") else DEFAULT}
        for name in READERS:
            origin[name] = DEFAULT
            if name in keywords:
                values[name], origin[name] = keywords[name], KEYWORD
            elif name.startswith("insecure_") or name in _KEYWORD_ONLY:
                continue
            elif (found := sources.find(f"THEBES_{name.upper()}")) is not None:
                values[name], origin[name] = read_value(name, found.text), found.origin
            elif name in project:
                values[name], origin[name] = read_value(name, project[name]), "pyproject.toml"
        return cls(mode=Mode.of(environ), origin=origin, **values)


def read_value(name: str, value: Any) -> Any:
    """Return a setting's value in its own type.

    Raises:
        ConfigurationError: It can't be read; the message names the setting, never a secret's value.
    """
    try:
        return READERS[name](value)
    except ConfigurationError as error:
        raise ConfigurationError(*(f"{name}: {problem}" for problem in error.problems)) from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _project_table(directory: Path) -> Mapping[str, Any]:
    path = directory / "pyproject.toml"
    if not path.is_file():
        return {}
    import tomllib  # noqa: PLC0415 - only where there is a file to read

    table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("thebes", {})
    allowed = [name for name in READERS if name not in _NEVER_IN_A_FILE_OF_THE_PROJECT]
    unknown = [name for name in table if name not in allowed]
    if unknown:
        raise ConfigurationError(
            f"[tool.thebes] in {path.name} has {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        )
    return dict(table)


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(item, str) for item in items):
        raise ConfigurationError("write a list of texts, or one text with commas")
    return tuple(dict.fromkeys(item.strip() for item in items if item.strip()))


def _hosts(value: str | Iterable[str]) -> tuple[str, ...]:
    from thebes.https.hosts import normal_host  # noqa: PLC0415 - keeps the order of rooms readable

    return tuple(normal_host(name) for name in _names(value))


def _origins(value: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(normal_origin(name) for name in _names(value))


def _public_url(value: str) -> str:
    origin = normal_origin(value)
    if not origin.startswith("https://"):
        raise ConfigurationError(f"{value!r} is not https")
    return origin


def _limits(value: Any) -> tuple[Rule, ...]:
    from thebes.ratelimit.rules import read_rules  # noqa: PLC0415 - most apps keep the default

    return read_rules(value)


def _number(value: int | str) -> int:
    return int(value)


def _flag(value: bool | str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in words:
        raise ConfigurationError(f"{value!r} is neither true nor false")
    return words[str(value).lower()]


def _duration(value: timedelta | int | str) -> timedelta:
    duration = value if isinstance(value, timedelta) else timedelta(seconds=int(value))
    if duration < timedelta(0):
        raise ConfigurationError("a duration must not be negative; write seconds or a timedelta")
    return duration


def _choice(value: str, kind: Any) -> Any:
    allowed = get_args(kind)
    if value not in allowed:
        raise ConfigurationError(f"{value!r} is not one of {', '.join(allowed)}")
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_-]+)+", value):
        raise ConfigurationError(f"{value!r} is no plain path such as /auth")
    return value


def _patterns(value: str | Iterable[str]) -> tuple[RoutePattern, ...]:
    return tuple(RoutePattern.parse(name) for name in _names(value))


def _secret(value: Secret | str) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


# How each setting is read, from Python and from text alike. The order is the one of the docs.
READERS: Mapping[str, Callable[[Any], Any]] = {
    "hosts": _hosts,
    "public_url": _public_url,
    "origins": _origins,
    "proxies": _names,
    "proxy_header": lambda value: _choice(value, ProxyHeader),
    "proxy_hops": _number,
    "secret_keys": _secret,
    "health": RoutePattern.parse,
    "session_cookies": _names,
    "body_limit": parse_size,
    "multipart_limit": parse_size,
    "limits": _limits,
    "csp": lambda value: _choice(value, ContentPolicy),
    "hsts_max_age": _duration,
    "hsts_include_subdomains": _flag,
    "hsts_preload": _flag,
    "docs": _flag,
    "accounts": _flag,
    "accounts_prefix": _prefix,
    "include_accounts": _flag,
    "database_url": _secret,
    "mail_url": _secret,
    "mail_from": str,
    "mail_templates": Path,
    "passwords": lambda value: _choice(value, HashPreset),
    "breached_passwords": str,
    "breached_passwords_strict": _flag,
    "pepper": _flag,
    "access_lifetime": _duration,
    "leeway": _duration,
    "session_lifetime": _duration,
    "session_idle": _duration,
    "refresh_grace": _duration,
    "signing": lambda value: _choice(value, SigningAlgorithm),
    "revocation": lambda value: _choice(value, RevocationCheck),
    "cookie_namespace": str,
    "same_site": lambda value: _choice(value, SameSite),
    "csrf_token": lambda value: _choice(value, FormCheck),
    "require_account": _flag,
    "public": _patterns,
    "login_url": str,
    "insecure_debug": _flag,
}
# A secret in pyproject.toml is a secret in git; a switch there would travel into every deployment.
_NEVER_IN_A_FILE_OF_THE_PROJECT = ("secret_keys", "database_url", "mail_url", "insecure_debug")
# What opens or closes the app is said in its code, where reviewers see it.
_KEYWORD_ONLY = ("accounts", "require_account", "public")
