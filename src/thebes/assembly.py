"""From settings to a plan: which checks run, in which order, and what is missing before they may.

The order belongs to the house, never to the user: cheap and pure first, and nothing that an attacker
chose is used before it was checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from thebes.asgi import Plan
from thebes.checks import AwaitedCheck, BodyReader, InstantCheck, ResponseRule
from thebes.csrf import OWN_SESSION_COOKIES, CrossOriginProtection
from thebes.errors import ConfigurationError
from thebes.events import Events
from thebes.facts import Mode, RequestFacts, Surroundings
from thebes.forwarding import Forwarding
from thebes.guards import AccountDemanded
from thebes.https.headers import SecurityHeaders, hsts_value
from thebes.https.hosts import HostCheck, LoopbackOnly
from thebes.https.origins import CrossOriginFields, CrossOrigins, normal_origin
from thebes.https.scheme import HttpsOnly
from thebes.paths import RouteTable
from thebes.ratelimit.check import RateLimits
from thebes.ratelimit.rules import Rate
from thebes.settings import Settings
from thebes.validation.body import BodyLimits
from thebes.validation.methods import MethodCheck

if TYPE_CHECKING:
    from thebes.identity import ForeignSessions
    from thebes.membership import Membership

UNCERTAIN = "a declared proxy named no usable client address, so the proxy itself counts as the client"
# The hosts of test clients: Starlette's and Django's, Litestar's, and FastAPI's page on async tests.
TEST_HOSTS = ("testserver", "testserver.local", "test")
# ASVS 3.4.1 and hstspreload.org: a year and all subdomains before a domain may ask for the lists.
PRELOAD_MIN_AGE = timedelta(days=365)


def assemble(
    settings: Settings,
    routes: RouteTable,
    events: Events,
    without: frozenset[str] = frozenset(),
    membership: Callable[[RateLimits | None], Membership] | None = None,
    foreign: ForeignSessions | None = None,
) -> Plan:
    """Return the plan that the settings describe, minus the checks taken out by name.

    Args:
        membership: Makes the accounts, given what limits strangers; None leaves accounts out.
        foreign: Knows the app's own sessions, where there are no accounts.
    """
    hosts = all_hosts(settings)
    cors = CrossOrigins(settings.origins)
    checks: list[InstantCheck | AwaitedCheck] = [_host_check(settings.mode, hosts), MethodCheck()]
    if settings.mode is Mode.PRODUCTION:
        public_host = urlsplit(settings.public_url).netloc if settings.public_url else None
        checks.append(HttpsOnly(hosts, public_host))
    if settings.origins:
        checks.append(cors)
    checks.append(BodyLimits(limit=settings.body_limit, multipart_limit=settings.multipart_limit))
    checks.append(
        CrossOriginProtection(
            mode=settings.mode,
            origins=own_origins(settings),
            session_cookies=(*settings.session_cookies, *_own_session_cookies(settings)),
        )
    )
    limits = rate_limits(settings, routes, events)
    members = None
    if membership is not None:
        members = membership(None if "limits" in without else limits)
        checks.append(members.authentication)
    if foreign is not None:
        checks.append(foreign.check)
    checks.append(limits)
    if settings.require_account:
        checks.append(
            AccountDemanded(
                settings.public,
                login_url=settings.login_url,
                owns=None if members is None else members.routes.owns,
            )
        )
    rules: list[ResponseRule] = [_header_rule(settings)]
    if settings.origins:
        rules.append(CrossOriginFields(cors))
    return Plan(
        checks=tuple(check for check in checks if check.name not in without),
        rules=tuple(rule for rule in rules if rule.name not in without),
        surroundings=_surroundings(settings, routes, events, members, foreign),
        events=events,
        readers=_readers(settings, members or foreign, without),
        own=None if members is None else members.routes,
        service=members,
    )


def _surroundings(
    settings: Settings,
    routes: RouteTable,
    events: Events,
    members: Membership | None,
    foreign: ForeignSessions | None,
) -> Surroundings:
    people = members or foreign
    return Surroundings(
        mode=settings.mode,
        forwarding=Forwarding(
            settings.proxies,
            header=settings.proxy_header,
            hops=settings.proxy_hops,
            report=lambda: events.emit("client_uncertain", severity="warning", detail=UNCERTAIN),
        ),
        routes=routes,
        health=settings.health,
        account_of=None if members is None else members.account_of,
        sessions_of=None if members is None else members.sessions_of,
        form_token_of=None if people is None else people.forms.token,
    )


def _readers(
    settings: Settings, people: Membership | ForeignSessions | None, without: frozenset[str]
) -> Sequence[BodyReader]:
    is_asked_for = settings.csrf_token is not None and not {"csrf", "csrf_token"} & without
    return (people.form_tokens,) if people is not None and is_asked_for else ()


def _own_session_cookies(settings: Settings) -> Sequence[str]:
    """Return the package's own names under a namespace; without one the room knows them."""
    namespace = settings.cookie_namespace
    return [f"{name}-{namespace}" for name in OWN_SESSION_COOKIES] if namespace else []


def rate_limits(settings: Settings, routes: RouteTable, events: Events) -> RateLimits:
    """Return the check that counts requests, with a table for each rule.

    Test suites are one client and quick, so in test mode only limits that somebody asked for refuse.
    """

    def report(event: str, *, policy: str, facts: RequestFacts | None) -> None:
        client = facts.client.address if facts is not None else None
        events.emit(event, severity="warning", reason=policy, client=client)

    default = settings.limits
    if default is None and settings.mode is Mode.TEST:
        default = (Rate("1000000/second", name="default"),)
    return RateLimits(default, routes=cast("Any", routes.entries()), report=report)


def problems_of(
    settings: Settings, environ: Mapping[str, str], directory: Path, *, identifies: bool
) -> Sequence[str]:
    """Return what keeps the app from starting, a sentence each with what mends it (SEC-01, 02, 05).

    Args:
        identifies: Whether the app itself says who asks.
    """
    problems = [*_contradictions(settings), *_unknown_people(settings, identifies=identifies)]
    if settings.mode is not Mode.PRODUCTION:
        return problems
    # Needed at the start of a production server only; importing an app must stay cheap.
    from thebes.secrets.sources import env_file_problems  # noqa: PLC0415
    from thebes.secrets.strength import parse_secret_keys, strength_problems  # noqa: PLC0415

    if not all_hosts(settings):
        problems.append("no host is set: Security(hosts=['example.com']) or THEBES_HOSTS=example.com")
    if settings.secret_keys is None:
        problems.append("THEBES_SECRET_KEYS is missing: run `thebes secrets init`, which writes it to .env")
    else:
        others = {name: value for name, value in environ.items() if name != "THEBES_SECRET_KEYS"}
        try:
            keys = parse_secret_keys(settings.secret_keys.reveal_text())
            problems += strength_problems(keys, other_values=others)
        except ConfigurationError as error:
            problems += error.problems
        except ValueError:
            problems.append("THEBES_SECRET_KEYS is not UTF-8 text: run `thebes secrets init`")
    if settings.accounts:
        problems += _missing_for_accounts(settings)
    problems += env_file_problems(directory / ".env")
    return problems


def _missing_for_accounts(settings: Settings) -> list[str]:
    leave_out = "or leave accounts out: Security(accounts=None)"
    problems = []
    if settings.database_url is None:
        problems.append(
            f"THEBES_DATABASE_URL is missing: write sqlite:////var/lib/app/thebes.db to .env, {leave_out}"
        )
    if settings.mail_url is None:
        problems.append(f"THEBES_MAIL_URL is missing: write smtps://user:password@host to .env, {leave_out}")
    return problems


def all_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the configured hosts and the public URL's."""
    public = (urlsplit(settings.public_url).netloc,) if settings.public_url else ()
    return tuple(dict.fromkeys((*settings.hosts, *public)))


def own_origins(settings: Settings) -> tuple[str, ...]:
    """Return the origins whose pages may act: `https://` and each host, and the configured ones."""
    own = (normal_origin(f"https://{host}") for host in all_hosts(settings))
    return tuple(dict.fromkeys((*own, *settings.origins)))


def _unknown_people(settings: Settings, *, identifies: bool) -> Sequence[str]:
    """Return what can't work since nothing says who asks: the accounts, or the app itself by `identify`."""
    if settings.accounts:
        return ("security.identify needs accounts=None: accounts know who asks",) if identifies else ()
    asked = {"require_account": settings.require_account, "csrf_token": settings.csrf_token is not None}
    return [
        f"{name} needs accounts, or with accounts=None a function that says who asks: @security.identify"
        for name, is_asked in asked.items()
        if is_asked and not identifies
    ]


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.hsts_preload and not (
        settings.hsts_include_subdomains and settings.hsts_max_age >= PRELOAD_MIN_AGE
    ):
        problems.append(
            "hsts_preload needs hsts_include_subdomains=True and hsts_max_age of at least "
            f"{int(PRELOAD_MIN_AGE.total_seconds())} seconds"
        )
    return problems


def _host_check(mode: Mode, hosts: Sequence[str]) -> InstantCheck:
    if mode is Mode.PRODUCTION:
        return HostCheck(hosts)
    is_test = mode is Mode.TEST
    return LoopbackOnly(TEST_HOSTS if is_test else (), in_process=is_test)


def _header_rule(settings: Settings) -> SecurityHeaders:
    hsts = hsts_value(
        settings.hsts_max_age,
        include_subdomains=settings.hsts_include_subdomains,
        preload=settings.hsts_preload,
    )
    return SecurityHeaders(mode=settings.mode, hsts=hsts, csp=settings.csp)
