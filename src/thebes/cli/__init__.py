"""The command `thebes`: one file a subcommand, and one way to report an error."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exit 1 on an error of the settings, 2 on wrong usage."""
    try:
        import typer  # noqa: F401, PLC0415 - an extra: say how to get it
    except ImportError:
        sys.exit("thebes: the command line needs an extra: pip install 'thebes[standard]'")
    from thebes.cli.app import run  # noqa: PLC0415

    run()
