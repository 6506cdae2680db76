"""What the lanes cost beside the hash itself: `Passwords.verify` against bare Argon2id, in one run.

Run `python bench/passwords.py`. Both do the same verifications with the same parameters in as many threads as
there are lanes, on one core, in turns.

- `argon2_share_of_lanes`: verifications a second by `Passwords.verify`, all at once as a flood brings them,
  over argon2-cffi's `PasswordHasher.verify` in a plain pool of threads. 1.0 means that lanes, queue, reading
  the stored string and NFC cost nothing. `argon2_share` of overhead.py is for whole sign-ins over HTTP.

Elapsed time and not CPU time: a lane that waits for the event loop would cost no CPU, but sign-ins.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from argon2 import PasswordHasher

import harness
from members import PASSWORD
from thebes.facts import Mode
from thebes.passwords import PRESETS, Argon2, Lanes, Passwords

SHARE = "argon2_share_of_lanes"
AIM = 0.95


def measure(*, preset: str, lanes: int, rounds: int, sign_ins: int) -> harness.Figure:
    """Return sign-ins a second: ours / bare Argon2id."""
    cost = PRESETS[preset]  # type: ignore[index] # argparse allows no other
    assert isinstance(cost, Argon2)
    with asyncio.Runner() as runner, ThreadPoolExecutor(lanes) as threads:
        passwords = Passwords(cost=preset, lanes=Lanes(lanes, queue=sign_ins), mode=Mode.TEST)  # type: ignore[arg-type]
        stored = runner.run(passwords.hash(PASSWORD))

        async def sign_in_at_once() -> None:
            verdicts = await asyncio.gather(*(passwords.verify(PASSWORD, stored) for _ in range(sign_ins)))
            assert all(verdict.is_match and verdict.new_hash is None for verdict in verdicts)

        def ours() -> float:
            began = time.perf_counter()
            runner.run(sign_in_at_once())
            return (time.perf_counter() - began) / sign_ins

        bare = partial(bare_seconds, threads, stored, sign_ins)
        ours(), bare()
        measured = harness.Rounds()
        for number in range(rounds):
            measured.measure(1, above=bare, below=ours)
            harness.say(f"{SHARE}: round {number + 1} of {rounds}")
        runner.run(passwords.close())
    quickest = f"ours {1 / min(measured.below):.2f} sign-ins/s, bare {1 / min(measured.above):.2f}"
    return harness.Figure(
        SHARE, "higher", AIM, measured.ratios, f"{preset}, {lanes} lanes; {quickest} at best"
    )


def bare_seconds(threads: Executor, stored: str, count: int) -> float:
    """Return the seconds of each of `count` verifications by argon2-cffi alone, all asked for at once."""
    verify = PasswordHasher().verify  # it takes the parameters from the stored string
    began = time.perf_counter()
    assert all(threads.map(verify, [stored] * count, [PASSWORD] * count))
    return (time.perf_counter() - began) / count


def main() -> None:
    """Measure on one core and report; what is measured is a matter of the options alone."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--preset", choices=[*PRESETS], default="64MiB")
    options.add_argument("--lanes", type=int, default=1)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--sign-ins", type=int, default=16, help="in each round, all at once")
    options.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = options.parse_args()

    cores = harness.Cores.choose()
    os.sched_setaffinity(0, {cores.server})
    figure = measure(preset=given.preset, lanes=given.lanes, rounds=given.rounds, sign_ins=given.sign_ins)
    print(f"{harness.machine(cores)}\n\n{harness.table([figure])}")
    if given.json:
        print(harness.as_json([figure]))


if __name__ == "__main__":
    main()
