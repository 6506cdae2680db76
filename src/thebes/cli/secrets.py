"""`thebes secrets`: make strong values, and keep them out of git."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

secrets = typer.Typer(
    name="secrets",
    help="Make strong secrets, and keep them out of git and images.",
    no_args_is_help=True,
)

_Directory = Annotated[Path, typer.Option(help="The project's directory.")]


@secrets.command()
def init(
    *,
    directory: _Directory = Path(),
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Append a new key: accepted everywhere, not yet in use.")
    ] = False,
    pre_commit: Annotated[
        bool, typer.Option("--pre-commit", help="Install a git hook that scans what is staged.")
    ] = False,
) -> None:
    """Write .gitignore (and .dockerignore beside a Dockerfile), then .env with mode 600.

    An existing value is never replaced; running it again changes nothing.
    """
    from thebes.secrets.project import init_project  # noqa: PLC0415 - keeps --help quick

    report = init_project(directory, rotate=rotate, pre_commit=pre_commit)
    for path in report.written:
        print(f"wrote {path}")
    for name, key_id in zip(report.made, report.key_ids, strict=True):
        print(f"made  {name} ({key_id}, 256 random bits)")
    for name in report.kept:
        print(f"kept  {name}: it has a value; --rotate appends a new key")
    for note in report.notes:
        print(f"note  {note}")
    if report.hook_line:
        print(f"a pre-commit hook is there already; add this line to it:\n  {report.hook_line}")
    elif not pre_commit and (directory / ".git").exists():
        print("next  thebes secrets init --pre-commit scans what you are about to commit")


@secrets.command()
def scan(
    *,
    directory: _Directory = Path(),
    staged: Annotated[bool, typer.Option("--staged", help="What the next commit will hold.")] = False,
) -> None:
    """Look for secrets in what is about to be committed; exit 1 and show them masked."""
    from thebes.secrets.scan import scan_staged  # noqa: PLC0415

    if not staged:
        raise typer.BadParameter("say --staged: what is staged is what this version scans")
    findings = scan_staged(directory)
    for finding in findings:
        print(f"{finding.path}:{finding.line}: {finding.kind}: {finding.shown}", file=sys.stderr)
    if findings:
        print(f"{len(findings)} found: take them out; change what was shared", file=sys.stderr)
        raise typer.Exit(1)
