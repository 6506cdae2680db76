"""The commands, joined."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thebes import __version__
from thebes.cli.accounts import accounts
from thebes.cli.audit import audit
from thebes.cli.db import db
from thebes.cli.dev import dev
from thebes.cli.opening import opened_rotation
from thebes.cli.passwords import passwords
from thebes.cli.secrets import add_key_commands, secrets
from thebes.cli.serve import serve
from thebes.errors import ThebesError

app = typer.Typer(
    name="thebes",
    help="The security layer for ASGI applications: seven practices, two lines, proven by attack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(dev)
app.command()(serve)
app.command()(audit)
add_key_commands(secrets, opened_rotation)
app.add_typer(secrets, name="secrets")
app.add_typer(accounts, name="accounts")
app.add_typer(db, name="db")
app.add_typer(passwords, name="passwords")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"thebes {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """The security layer for ASGI applications: seven practices, two lines, proven by attack."""


def run() -> None:
    """Run the command line; what the user can mend is printed without a traceback."""
    try:
        app()
    except ThebesError as error:
        lines = str(error).splitlines()
        print(f"thebes: {lines[0]}", *(f"        {line}" for line in lines[1:]), sep="\n", file=sys.stderr)
        sys.exit(1)
