"""The seven practices and their state, a line each: for the summary of `dev` and for `audit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thebes.facts import Mode
from thebes.settings import Settings


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
    later = "not in this version yet"
    is_production = settings.mode is Mode.PRODUCTION
    transport = "HTTPS only, HSTS" if is_production else "localhost only, certificate of the local CA"
    keys = f"keys from {settings.origin['secret_keys']}" if settings.secret_keys else "keys not needed here"
    sizes = f"bodies up to {settings.body_limit:,} bytes, multipart {settings.multipart_limit:,}"
    origins = f"{len(settings.origins)} foreign origins" if settings.origins else "own pages only"
    rules = ", ".join(map(str, settings.limits or ("1200/minute burst 600",)))
    limits = "where declared" if settings.mode is Mode.TEST else f"{rules} for each address"
    is_whole = removed.isdisjoint({"hosts", "https", "headers"})
    return (
        Practice(1, "https", is_whole, f"{transport}, headers, CSP {settings.csp}"),
        Practice(2, "validation", "body" not in removed, f"{sizes}; methods, hosts, codings, XML"),
        Practice(3, "passwords", False, later),
        Practice(4, "tokens", False, later),
        Practice(5, "ratelimit", "limits" not in removed, limits),
        Practice(6, "csrf", "csrf" not in removed, f"cross-origin requests refused, {origins}"),
        Practice(7, "secrets", True, keys),
    )
