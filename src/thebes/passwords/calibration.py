"""Measure what sign-ins cost on this machine, by preset: time, memory, lanes, and how many fit into a second.

Hashes are made and verified the way a service does it, in the lanes of all its workers at once. On a machine
that has other work to do the times are too long and the advice too careful.

Sources: OWASP Password Storage Cheat Sheet ("less than one second"); NIST SP 800-63B-4, 3.1.1.2.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

from thebes.errors import ConfigurationError
from thebes.passwords.costs import PRESETS, Argon2, Preset
from thebes.passwords.hashing import Passwords
from thebes.passwords.lanes import Lanes, share_of_lanes
from thebes.passwords.machine import Machine
from thebes.passwords.policy import PasswordPolicy

# A password that nobody has, of the least length.
SAMPLE = "~" * PasswordPolicy().min_length
MEASURED: tuple[Preset, ...] = ("64MiB", "19MiB")
LEAST_SECONDS, MOST_SECONDS = (
    0.05,
    1.0,
)  # of one verification; quicker is cheap for attackers, slower for nobody
SINGLE, PARALLEL = 5, 4  # verifications one by one, and in each lane


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one preset costs here.

    Attributes:
        seconds: One verification with nothing else going on, the median.
        lanes: Over all workers.
        memory_mib: Of all lanes at work.
        fits: The lanes' memory is within a quarter of the cgroup's limit.
        sign_ins_per_second: With all lanes at work, over all workers; None if they don't fit.
    """

    preset: Preset
    seconds: float
    lanes: int
    memory_mib: float
    fits: bool
    sign_ins_per_second: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, and which preset to choose.

    Attributes:
        choice: The strongest preset that fits and stays below a second; None if there is none.
        advice: The same in a sentence, with what is unusual.
    """

    machine: Machine
    workers: int
    measurements: tuple[Measurement, ...]
    choice: Preset | None
    advice: str


async def calibrate(*, workers: int = 1, machine: Machine | None = None) -> Calibration:
    """Measure the presets; it takes some seconds, with all lanes at work.

    Args:
        machine: What may be used; read from the operating system if None.
    """
    machine = machine or Machine.read()
    measured = tuple([await _measure(preset, workers, machine) for preset in MEASURED])
    usable = [one for one in measured if one.fits and one.seconds <= MOST_SECONDS]
    choice = usable[0] if usable else None
    return Calibration(machine, workers, measured, choice.preset if choice else None, _advice(choice))


async def _measure(preset: Preset, workers: int, machine: Machine) -> Measurement:
    cost = PRESETS[preset]
    unlimited = Machine(machine.cores, memory_limit=None)
    lanes = sum(
        share_of_lanes(cost, workers=workers, worker=worker, machine=unlimited) for worker in range(workers)
    )
    fits = _fits(preset, workers, machine)
    seconds, rate = await _timed(preset, lanes if fits else 1)
    memory = lanes * cost.memory_kib / 1024
    return Measurement(preset, seconds, lanes, memory, fits, rate if fits else None)


def _fits(preset: Preset, workers: int, machine: Machine) -> bool:
    try:
        share_of_lanes(PRESETS[preset], workers=workers, machine=machine)
    except ConfigurationError:
        return False
    return True


async def _timed(preset: Preset, lanes: int) -> tuple[float, float]:
    """Return the seconds of one verification alone, and how many are done in a second in all lanes."""
    passwords = Passwords(cost=preset, lanes=Lanes(lanes, queue=lanes * PARALLEL))
    try:
        stored = await passwords.hash(SAMPLE)
        alone = [await _elapsed(passwords, stored, 1) for _ in range(SINGLE)]
        count = lanes * PARALLEL
        return statistics.median(alone), count / await _elapsed(passwords, stored, count)
    finally:
        await passwords.close()


async def _elapsed(passwords: Passwords, stored: str, count: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(passwords.verify(SAMPLE, stored) for _ in range(count)))
    return time.perf_counter() - began


def _advice(choice: Measurement | None) -> str:
    if choice is None:
        return "no preset fits this machine: give it more memory or a quicker core, or take fewer workers"
    cost = PRESETS[choice.preset]
    if choice.seconds >= LEAST_SECONDS or not isinstance(cost, Argon2):
        return f'choose passwords="{choice.preset}"'
    more = min(9, round(cost.passes * LEAST_SECONDS / choice.seconds) + 1)
    return (
        f'choose passwords="{choice.preset}"; a hash takes less than {LEAST_SECONDS * 1000:.0f} ms here, so '
        f"Argon2(memory_kib={cost.memory_kib}, passes={more}) costs your users nothing and attackers more"
    )
