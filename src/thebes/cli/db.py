"""`thebes db`: what is in the database, and whether its schema is up to date."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thebes.stores.sqlite.status import Status

db = typer.Typer(name="db", help="Look at the database.", no_args_is_help=True)


@db.callback()
def _options() -> None:
    """Look at the database."""  # without a callback Typer would drop the command's name


@db.command()
def status(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The SQLite file.")] = Path("thebes.db"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the schema's version, pending migrations, size and rows by table; exit 1 if it is too new.

    It only reads, and may be run while the service is.
    """
    from thebes.stores.sqlite.status import look  # noqa: PLC0415 - loads sqlite3

    found = look(path)
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        _print(found)
    if found.schema > found.known:
        raise typer.Exit(1)


def _print(found: Status) -> None:
    print(f"{found.path}\n")
    print(f"  schema   {found.schema} (this version knows {found.known})")
    print(f"  size     {found.size / 2**20:.1f} MiB, its log included")
    print(f"  pending  {', '.join(found.pending) or 'nothing'}\n")
    width = max((len(name) for name in found.rows), default=0)
    for name, count in found.rows.items():
        print(f"  {name:<{width}}  {count:>10,}")
    if found.schema > found.known:
        print("\na newer version of thebes has changed this database: this one refuses to start on it")
