"""The seven practices and their state, a line each: for the summary of `dev` and for `audit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from thebes.facts import Mode
from thebes.settings import Settings

NO_ACCOUNTS = "the app has its own: accounts are left out"


@dataclass(frozen=True, slots=True)
class Practice:
    """One of the seven, and its state in one line."""

    number: int
    name: str
    is_on: bool
    state: str

    def __str__(self) -> str:
        return f"{self.number} {'on ' if self.is_on else 'off'} {self.name:<11} {self.state}"


def practices(settings: Settings, removed: frozenset[str] = frozenset()) -> Sequence[Practice]:
    """Return the seven practices with their state in this version and under these settings."""
    is_production = settings.mode is Mode.PRODUCTION
    transport = "HTTPS only, HSTS" if is_production else "localhost only, certificate of the local CA"
    sizes = f"bodies up to {settings.body_limit:,} bytes, multipart {settings.multipart_limit:,}"
    rules = ", ".join(map(str, settings.limits or ("1200/minute burst 600",)))
    limits = "where declared" if settings.mode is Mode.TEST else f"{rules} for each address"
    is_whole = removed.isdisjoint({"hosts", "https", "headers"})
    return (
        Practice(1, "https", is_whole, f"{transport}, headers, CSP {settings.csp}"),
        Practice(2, "validation", "body" not in removed, f"{sizes}; methods, hosts, codings, XML"),
        Practice(3, "passwords", settings.accounts, _passwords(settings)),
        Practice(4, "tokens", settings.accounts and "tokens" not in removed, _tokens(settings)),
        Practice(5, "ratelimit", "limits" not in removed, limits),
        Practice(6, "csrf", "csrf" not in removed, _csrf(settings, removed)),
        Practice(7, "secrets", True, _secrets(settings)),
    )


def _passwords(settings: Settings) -> str:
    if not settings.accounts:
        return NO_ACCOUNTS
    pepper = ", peppered" if settings.pepper else ""
    return (
        f"accounts at {settings.accounts_prefix}, Argon2id {settings.passwords}{pepper}, off the event loop"
    )


def _tokens(settings: Settings) -> str:
    if not settings.accounts:
        return NO_ACCOUNTS
    access, session = _span(settings.access_lifetime), _span(settings.session_lifetime)
    return f"access {access}, renewed in place, sessions {session} ({_span(settings.session_idle)} unused)"


def _csrf(settings: Settings, removed: frozenset[str]) -> str:
    origins = f"{len(settings.origins)} foreign origins" if settings.origins else "own pages only"
    # The account forms have theirs in any case; this is about the app's own.
    has_tokens = settings.csrf_token and settings.accounts and "csrf_token" not in removed
    tokens = f", tokens: {settings.csrf_token}" if has_tokens else ""
    return f"cross-origin requests refused, {origins}{tokens}"


def _secrets(settings: Settings) -> str:
    if settings.secret_keys is not None:
        return f"keys from {settings.origin['secret_keys']}"
    if not settings.accounts:
        return "keys not needed here"
    if settings.mode is Mode.PRODUCTION:
        return "keys missing"
    return (
        "keys of this machine, in .thebes"
        if settings.mode is Mode.DEVELOPMENT
        else "keys known to all, for tests"
    )


def _span(duration: timedelta) -> str:
    """Return a duration in its largest unit that keeps it whole.

    >>> _span(timedelta(days=7)), _span(timedelta(minutes=90)), _span(timedelta(0))
    ('7 d', '90 min', '0 s')
    """
    seconds = int(duration.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
