"""`thebes secrets`: make strong values, keep them out of git, and exchange the keys that sign tokens."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from thebes.events import timestamp

if TYPE_CHECKING:
    from thebes.tokens.key_rotation import KeyRotation, KeyStanding, RotationStep

Result = TypeVar("Result")

secrets = typer.Typer(
    name="secrets",
    help="Make strong secrets, and keep them out of git and images.",
    no_args_is_help=True,
)

_Directory = Annotated[Path, typer.Option(help="The project's directory.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_DONE = {
    "published": "step 1 of 3: published {kid}: it verifies everywhere and signs nothing yet",
    "promoted": "step 2 of 3: promoted {kid}: it signs from now on, and the key before it still verifies",
    "retired": "step 3 of 3: retired {kid}: it verifies nothing from {due_at} on",
    "waiting": "too early: {kid} was published, but not every process may know it yet",
}
_NEXT = {
    "published": "from {due_at} on, run it again to promote the key",
    "promoted": "run it again to retire the key before",
    "retired": "nothing: the rotation is over",
    "waiting": "from {due_at} on, run it again to promote the key",
}


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


def add_key_commands(
    commands: typer.Typer, open_rotation: Callable[[Path], AbstractAsyncContextManager[KeyRotation]]
) -> None:
    """Add the commands that need the store in which signing keys lie.

    Args:
        commands: Gets `rotate`, `keys` and `reseal`.
        open_rotation: Opens the store of the project in a directory.
    """

    def run(directory: Path, use: Callable[[KeyRotation], Awaitable[Result]]) -> Result:
        async def with_store() -> Result:
            async with open_rotation(directory) as rotation:
                return await use(rotation)

        return asyncio.run(with_store())

    @commands.command()
    def rotate(
        *,
        directory: _Directory = Path(),
        at_once: Annotated[
            bool,
            typer.Option("--at-once", help="All steps now, for keys that leaked: every bearer token ends."),
        ] = False,
        as_json: _Json = False,
    ) -> None:
        """Take the next step of exchanging the key that signs bearer tokens: publish, promote, retire."""
        step = run(directory, lambda rotation: rotation.replace() if at_once else rotation.advance())
        _print_step(step, at_once=at_once, as_json=as_json)

    @commands.command()
    def keys(*, directory: _Directory = Path(), as_json: _Json = False) -> None:
        """List the keys that sign bearer tokens, and where each stands; exit 1 if one can't be used."""
        standings = run(directory, lambda rotation: rotation.standings())
        if as_json:
            print(json.dumps([_standing_object(standing) for standing in standings]))
        else:
            for standing in standings:
                print(_standing_line(standing))
        if any(standing.problem for standing in standings):
            raise typer.Exit(1)

    @commands.command()
    def reseal(*, directory: _Directory = Path(), as_json: _Json = False) -> None:
        """Seal signing keys again under the secret key in use, before the older one is taken off."""
        count = run(directory, lambda rotation: rotation.reseal())
        print(json.dumps({"resealed": count}) if as_json else f"resealed {count}")


def _print_step(step: RotationStep, *, at_once: bool, as_json: bool) -> None:
    due_at = timestamp(step.due_at)
    if as_json:
        print(json.dumps({"step": step.step, "kid": step.kid, "due_at": due_at}))
    elif at_once:
        print(f"replaced all signing keys by {step.kid}: bearer tokens signed before no longer count")
    else:
        print(_DONE[step.step].format(kid=step.kid, due_at=due_at))
        print(f"next  {_NEXT[step.step].format(due_at=due_at)}")


def _standing_object(standing: KeyStanding) -> dict[str, str | bool | None]:
    def shown(instant: float | None) -> str | None:
        return None if instant is None else timestamp(instant)

    return {
        "kid": standing.kid,
        "alg": standing.alg,
        "status": standing.status,
        "in_use": standing.is_in_use,
        "created_at": shown(standing.created_at),
        "promoted_at": shown(standing.promoted_at),
        "retire_at": shown(standing.retire_at),
        "sealed_under_key_in_use": standing.is_current,
        "problem": standing.problem,
    }


def _standing_line(standing: KeyStanding) -> str:
    instants = {
        "created": standing.created_at,
        "promoted": standing.promoted_at,
        "refused from": standing.retire_at,
    }
    notes = [f"{name} {timestamp(instant)}" for name, instant in instants.items() if instant is not None]
    if standing.is_in_use:
        notes.append("in use")
    if standing.problem is not None:
        notes.append(f"CAN'T BE USED: {standing.problem}")
    elif not standing.is_current:
        notes.append("sealed under an older secret key: run `thebes secrets reseal`")
    return f"{standing.kid}  {standing.alg}  {standing.status:9}  {', '.join(notes)}"
