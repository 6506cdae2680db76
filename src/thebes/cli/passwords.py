"""`thebes passwords`: what hashing costs on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thebes.passwords.calibration import Calibration

passwords = typer.Typer(name="passwords", help="Choose what a password hash costs.", no_args_is_help=True)


@passwords.callback()
def _options() -> None:
    """Choose what a password hash costs."""  # without a callback Typer would drop the command's name


@passwords.command()
def calibrate(
    *,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of the service.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the presets here, and say which one to choose; exit 1 if none fits.

    Run it where the service will run, while nothing else does.
    """
    from thebes.passwords.calibration import calibrate as measure  # noqa: PLC0415 - imports argon2

    calibration = asyncio.run(measure(workers=workers))
    if as_json:
        print(json.dumps(dataclasses.asdict(calibration)))
    else:
        _print(calibration)
    if calibration.choice is None:
        raise typer.Exit(1)


def _print(calibration: Calibration) -> None:
    limit = calibration.machine.memory_limit
    memory = "no memory limit" if limit is None else f"a memory limit of {limit / 2**20:,.0f} MiB"
    print(f"cores: {calibration.machine.cores}, workers: {calibration.workers}, {memory}\n")
    print("preset  one sign-in  lanes  memory    sign-ins/s")
    for one in calibration.measurements:
        rate = "too much memory" if one.sign_ins_per_second is None else f"{one.sign_ins_per_second:.1f}"
        each = f"{one.preset:<6}  {one.seconds * 1000:>8.0f} ms"
        print(f"{each}  {one.lanes:>5}  {one.memory_mib:>4.0f} MiB  {rate}")
    print(f"\n{calibration.advice}")
