"""Floods of sign-ins: the loop stays free, memory stays flat, and the owner gets through."""

import asyncio
import json
import statistics
import subprocess
import sys
import textwrap
import time

import pytest

from thebes.passwords import Lanes, LanesBusy, Passwords

pytestmark = [pytest.mark.slow, pytest.mark.alone]

PASSWORD = "seven lamps over the quay"
TICK_SECONDS = 0.002
FLOOD = 16


async def ninety_ninth(work: asyncio.Future[object]) -> float:
    """Return the 99th percentile of how long a turn of another coroutine takes while work is under way."""
    turns = []
    while not work.done():
        began = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        turns.append(time.perf_counter() - began)
    await work
    return statistics.quantiles(turns, n=100)[98] if len(turns) > 1 else turns[0]


async def test_sixteen_parallel_sign_ins_leave_the_loop_to_the_others():
    passwords = Passwords(lanes=Lanes(1))
    stored = await passwords.hash(PASSWORD)

    async def on_the_loop() -> None:
        for _ in range(FLOOD):
            passwords._verify(typed, known)
            await asyncio.sleep(0)

    from thebes.passwords.formats import read
    from thebes.passwords.hashing import _typed

    typed, known = _typed(PASSWORD, 256), read(stored)
    idle = await ninety_ninth(asyncio.ensure_future(asyncio.sleep(1)))
    flooded = await ninety_ninth(asyncio.gather(*(passwords.verify(PASSWORD, stored) for _ in range(FLOOD))))
    stalled = await ninety_ninth(asyncio.ensure_future(on_the_loop()))
    await passwords.close()

    # 1.0 to 1.3 on a quiet machine with two cores; without lanes 50 and more.
    assert flooded < 8 * idle + 0.02
    assert stalled > 20 * idle
    assert flooded < stalled / 3


FIVE_HUNDRED = textwrap.dedent(
    """
    import asyncio, json, resource
    from thebes.passwords import Lanes, LanesBusy, Passwords

    async def main():
        passwords = Passwords(cost="19MiB", lanes=Lanes(2, queue=18))
        stored = await passwords.hash("seven lamps over the quay")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        calls = [passwords.verify("another", stored) for _ in range(500)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        busy = [answer.retry_after for answer in answers if isinstance(answer, LanesBusy)]
        done = [answer for answer in answers if not isinstance(answer, BaseException)]
        print(json.dumps([before, after, len(done), len(busy), min(busy), max(busy)]))
        await passwords.close()

    asyncio.run(main())
    """
)


def test_five_hundred_parallel_sign_ins_take_the_memory_of_two():
    """Argon2 as a denial of service: memory times concurrency."""
    done = subprocess.run(
        [sys.executable, "-c", FIVE_HUNDRED], capture_output=True, text=True, check=True, timeout=60
    )
    before, after, hashed, refused, least, most = json.loads(done.stdout)
    assert (hashed, refused) == (20, 480)
    assert 1 <= least <= most <= 10
    assert (after - before) / 1024 < 19 + 12  # MiB: one more hash at once than before, and the calls


async def test_the_owner_signs_in_while_strangers_keep_the_lanes_full():
    passwords = Passwords(cost="19MiB", lanes=Lanes(1, queue=8))
    stored = await passwords.hash(PASSWORD)
    is_over = False

    async def stranger() -> int:
        turned_away = 0
        while not is_over:
            try:
                await passwords.verify("guess", stored)
            except LanesBusy:
                turned_away += 1
                await asyncio.sleep(TICK_SECONDS)
        return turned_away

    strangers = [asyncio.create_task(stranger()) for _ in range(40)]
    while passwords.lanes.waiting != 8:
        await asyncio.sleep(0)
    for _ in range(5):
        assert (await passwords.verify(PASSWORD, stored, is_known_device=True)).is_match
    with pytest.raises(LanesBusy):
        await asyncio.gather(*(passwords.verify(PASSWORD, stored) for _ in range(9)))
    is_over = True
    assert sum(await asyncio.gather(*strangers)) > 0
    await passwords.close()
