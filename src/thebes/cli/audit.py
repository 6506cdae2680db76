"""`thebes audit`: what holds for an app, and where each value came from."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from thebes.audit import Report, look
from thebes.errors import ConfigurationError
from thebes.protection import owner_of


def audit(
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app to look at.")] = "main:app",
    *,
    app_dir: Annotated[Path, typer.Option(help="Directory of the module.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print effective settings with their origin, exemptions, and findings; exit 1 on an error.

    The mode is the environment's: run it with the variables of the deployment that you ask about.
    """
    sys.path.insert(0, str(app_dir.resolve()))
    app = _load(target)
    security = owner_of(app)
    if security is None:
        raise ConfigurationError(
            f"{target} is not protected: add Security(...).protect(app), or serve Security(...).wrap(app)"
        )
    report = look(security, app, environ=os.environ, directory=Path.cwd())
    if as_json:
        print(json.dumps(dataclasses.asdict(report) | {"mode": report.mode.value}))
    else:
        _print(report)
    if report.has_errors:
        raise typer.Exit(1)


def _load(target: str) -> object:
    from uvicorn.importer import ImportFromStringError, import_from_string  # noqa: PLC0415

    try:
        return import_from_string(target)
    except ImportFromStringError as error:
        raise ConfigurationError(f"no app at {target!r}: {error}") from error


def _print(report: Report) -> None:
    print(f"mode: {report.mode.value}\n\nsettings")
    width = max(len(name) for name, _, _ in report.settings)
    for name, value, origin in report.settings:
        print(f"  {name:<{width}}  {value}  ({origin})")
    if report.routes:
        print("\nroutes")
        for pattern, text in report.routes:
            print(f"  {pattern}: {text}")
    print("\nlimits (fixed memory, by client address)")
    for limit in report.limits:
        print(f"  {limit}")
    print("\npractices")
    for practice in report.practices:
        print(f"  {practice}")
    print("\nfindings" if report.findings else "\nno findings")
    for finding in report.findings:
        print(f"  {finding.level}: {finding.text} [{finding.id}, {finding.requirement}]")
