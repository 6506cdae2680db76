"""Look at a Security from inside: effective settings with their origin, exemptions, and findings.

The outside view is the prover's; both name requirement ids, so that a claim and its check meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from thebes.assembly import problems_of, rate_limits
from thebes.facts import Mode
from thebes.paths import RouteTable
from thebes.practices import Practice, practices
from thebes.protection import mounted_apps
from thebes.secret import Secret
from thebes.secrets.sources import Sources, env_file_problems
from thebes.security import Security
from thebes.settings import READERS, Settings

Level = Literal["error", "warning", "note"]
# RFC 6797 sets no number; ASVS 3.4.1 asks for a year.
LASTING_HSTS = timedelta(days=365)
# Names that the commands and the tests use beside the settings.
_OTHER_VARIABLES = ("THEBES_ENV", "THEBES_SECRETS_DIR")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that deserves a look; `id` is stable, `requirement` a row of the matrix."""

    id: str
    level: Level
    requirement: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `thebes audit` prints."""

    mode: Mode
    settings: Sequence[tuple[str, str, str]]
    limits: Sequence[str]
    routes: Sequence[tuple[str, str]]
    practices: Sequence[Practice]
    findings: Sequence[Finding]

    @property
    def has_errors(self) -> bool:
        """Whether a finding would keep a production server from starting, or should."""
        return any(finding.level == "error" for finding in self.findings)


def look(security: Security, app: Any, *, environ: Mapping[str, str], directory: Path) -> Report:
    """Gather the report on one app.

    Raises:
        ConfigurationError: A setting that can't be read at all.
    """
    settings = security.settings()
    return Report(
        mode=settings.mode,
        settings=[
            (item.name, _shown(getattr(settings, item.name)), settings.origin[item.name])
            for item in fields(settings)
            if item.name != "origin"
        ],
        limits=[str(bound) for bound in rate_limits(settings, security.routes, security.events).bounds()],
        routes=[(pattern, _described(options)) for pattern, options in security.routes.entries()],
        practices=practices(settings, security.removed),
        findings=list(_findings(security, settings, app, environ, directory)),
    )


def _findings(
    security: Security, settings: Settings, app: Any, environ: Mapping[str, str], directory: Path
) -> Iterator[Finding]:
    for problem in problems_of(settings, environ, directory, identifies=security.identifies):
        yield Finding("start", "error", "SEC-01", problem)
    for problem in env_file_problems(directory / ".env", served=served_directories(app)):
        yield Finding("env-file", "error", "SEC-05", problem)
    for name in Sources(environ, directory).ignored:
        yield Finding("env-ignored", "warning", "SEC-04", f"{name} in .env does not count there")
    for name in _unknown_variables(environ):
        yield Finding("variable-unknown", "warning", "SEC-04", f"{name} is no setting and is not read")
    for name in sorted(security.removed):
        yield Finding("check-removed", "error", "CSR-05", f"the check {name} was taken out by without()")
    yield from _route_findings(security.routes)
    for name in READERS:
        if name.startswith("insecure_") and getattr(settings, name):
            yield Finding("insecure", "warning", "OPS-01", f"{name} is set")
    if settings.mode is Mode.PRODUCTION and not settings.hsts_include_subdomains:
        yield Finding("hsts-subdomains", "note", "TLS-11", "hsts_include_subdomains is off")
    if settings.mode is Mode.PRODUCTION and settings.hsts_max_age < LASTING_HSTS:
        yield Finding(
            "hsts-short", "warning", "TLS-13", "hsts_max_age is under a year: fine while trying out"
        )
    if settings.csp == "report":
        yield Finding("csp-report", "note", "HTTP-02", "the nonce policy on HTML only reports")


def _route_findings(routes: RouteTable) -> Iterator[Finding]:
    for pattern, options in routes.entries():
        for check, reason in options.exempt.items():
            yield Finding("exempt", "note", "CSR-05", f"{pattern} is exempt from {check}: {reason}")
        if options.limit is None:
            yield Finding("limit-none", "note", "RAT-01", f"{pattern} has no limit")


def served_directories(app: Any) -> list[Path]:
    """Return the directories that static file apps inside this app hand out."""
    found = []
    for part in mounted_apps(app):
        directory = getattr(part, "directory", None)
        if directory is not None and hasattr(part, "lookup_path"):
            found.append(Path(directory).resolve())
    return found


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = {f"THEBES_{name.upper()}" for name in READERS} | set(_OTHER_VARIABLES)
    for name in sorted(environ):
        is_internal = name.startswith(("THEBES_TEST_", "THEBES_DEV_"))
        if name.startswith("THEBES_") and not is_internal and name.removesuffix("_FILE") not in known:
            yield name


def _shown(value: Any) -> str:
    if isinstance(value, Mode):
        return value.value
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())} s"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Secret) or value is not None:
        return str(value)
    return "none"


def _described(options: Any) -> str:
    parts = [f"body limit {options.body_limit:,} bytes"] if options.body_limit is not None else []
    parts += [f"codings {', '.join(sorted(options.codings))}"] if options.codings else []
    parts += ["XML"] if options.xml else []
    parts += ["no limit"] if options.limit is None else []
    if isinstance(options.limit, tuple):
        parts.append(f"limit {', '.join(map(str, options.limit))}")
    parts += [f"costs {options.cost}"] if options.cost != 1 else []
    parts += [f"exempt from {check} ({reason})" for check, reason in options.exempt.items()]
    return "; ".join(parts)
