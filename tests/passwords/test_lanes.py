"""The queue for hashing: bounded, known devices first, and no lane is ever lost."""

import asyncio
import gc
import os
import random
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from thebes.errors import ConfigurationError
from thebes.passwords import Lanes, LanesBusy
from thebes.passwords.lanes import NICENESS


class Gate:
    """Work that waits until it is let go, and notes how many were at work at once."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.began: list[object] = []
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()

    def work(self, name: object = None) -> Callable[[], object]:
        def run() -> object:
            with self._lock:
                self.began.append(name)
                self.now += 1
                self.most = max(self.most, self.now)
            assert self.opened.wait(10)
            with self._lock:
                self.now -= 1
            return name

        return run


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def busy(lanes: Lanes) -> AsyncIterator[Gate]:
    """All lanes are at work until the block ends."""
    gate = Gate()
    tasks = [asyncio.create_task(lanes.run(gate.work("first"))) for _ in range(lanes.count)]
    await until(lambda: len(gate.began) == lanes.count)
    yield gate
    gate.opened.set()
    await asyncio.gather(*tasks)
    await lanes.close()


async def test_work_is_done_in_threads_apart_from_the_loop():
    lanes = Lanes(2)
    names = {await lanes.run(lambda: threading.current_thread().name) for _ in range(4)}
    assert all(name.startswith("thebes-hashing") for name in names)
    assert threading.current_thread().name not in names
    await lanes.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
async def test_lanes_step_back_behind_the_loop_and_so_does_nobody_else():
    lanes = Lanes(2)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    niceness = [
        await lanes.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) for _ in range(4)
    ]
    await lanes.close()
    assert niceness == [min(own + NICENESS, 19)] * 4
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


async def test_a_sandbox_that_forbids_it_takes_no_lane_away(monkeypatch):
    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbid)
    lanes = Lanes(1)
    assert await lanes.run(lambda: "done") == "done"
    await lanes.close()


async def test_what_the_work_raises_reaches_the_caller_and_frees_the_lane():
    lanes = Lanes(1)

    def fails() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await lanes.run(fails)
    assert await lanes.run(lambda: 7) == 7
    await lanes.close()


@pytest.mark.parametrize("count", [1, 3])
async def test_never_more_at_once_than_there_are_lanes(count):
    lanes = Lanes(count, queue=100)
    async with busy(lanes) as gate:
        tasks = [asyncio.create_task(lanes.run(gate.work())) for _ in range(50)]
        await until(lambda: lanes.waiting == 50)
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert gate.most == count


async def test_beyond_the_queue_it_is_busy_and_says_for_how_long():
    lanes = Lanes(1, queue=2)
    async with busy(lanes) as gate:
        tasks = [asyncio.create_task(lanes.run(gate.work())) for _ in range(2)]
        await until(lambda: lanes.waiting == 2)
        for _ in range(3):
            with pytest.raises(LanesBusy) as refused:
                await lanes.run(gate.work())
            assert refused.value.retry_after == 1
        gate.opened.set()
        await asyncio.gather(*tasks)


async def test_the_longer_the_queue_the_longer_the_wait_that_is_told():
    lanes = Lanes(2, queue=100)
    lanes._mean_s = 0.5  # what work took so far
    async with busy(lanes) as gate:
        tasks = [asyncio.create_task(lanes.run(gate.work())) for _ in range(100)]
        await until(lambda: lanes.waiting == 100)
        with pytest.raises(LanesBusy) as refused:
            await lanes.run(gate.work())
        assert refused.value.retry_after == 26  # (100 + 2) * 0.5 s / 2 lanes
        gate.opened.set()
        await asyncio.gather(*tasks)


async def test_the_time_that_work_takes_is_learnt():
    lanes = Lanes(1)
    for _ in range(100):
        await lanes.run(lambda: None)
    assert lanes._mean_s < 0.01
    await lanes.close()


async def test_known_devices_go_first():
    lanes = Lanes(1, queue=10)
    async with busy(lanes) as gate:
        tasks = []
        for name in ("a", "b", "K", "c", "L"):
            tasks.append(asyncio.create_task(lanes.run(gate.work(name), is_known_device=name.isupper())))
            await until(lambda: lanes.waiting == len(tasks))
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert gate.began == ["first", "K", "L", "a", "b", "c"]


async def test_a_known_device_takes_the_place_of_the_youngest_stranger():
    lanes = Lanes(1, queue=2)
    async with busy(lanes) as gate:
        first = asyncio.create_task(lanes.run(gate.work("a")))
        await until(lambda: lanes.waiting == 1)
        second = asyncio.create_task(lanes.run(gate.work("b")))
        await until(lambda: lanes.waiting == 2)

        known = []
        for displaced, spared in ((second, first), (first, None)):
            known.append(asyncio.create_task(lanes.run(gate.work("K"), is_known_device=True)))
            with pytest.raises(LanesBusy):
                await displaced
            assert spared is None or not spared.done()
        assert lanes.waiting == 2
        with pytest.raises(LanesBusy):  # known devices have a limit too
            await lanes.run(gate.work("L"), is_known_device=True)
        with pytest.raises(LanesBusy):
            await lanes.run(gate.work("c"))
        gate.opened.set()
        assert await asyncio.gather(*known) == ["K", "K"]


class TestCancelling:
    async def test_who_waits_frees_its_place(self):
        lanes = Lanes(1, queue=1)
        async with busy(lanes) as gate:
            for is_known in (False, True):
                waiting = asyncio.create_task(lanes.run(gate.work("x"), is_known_device=is_known))
                await until(lambda: lanes.waiting == 1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert lanes.waiting == 0
            last = asyncio.create_task(lanes.run(gate.work("last")))
            await until(lambda: lanes.waiting == 1)
            gate.opened.set()
            assert await last == "last"
            assert "x" not in gate.began

    async def test_work_that_has_begun_keeps_its_lane_to_its_end(self):
        lanes = Lanes(1, queue=1)
        gate = Gate()
        running = asyncio.create_task(lanes.run(gate.work("running")))
        await until(lambda: gate.now == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        waiting = asyncio.create_task(lanes.run(gate.work("next")))
        await until(lambda: lanes.waiting == 1)
        assert gate.began == ["running"]
        gate.opened.set()
        assert await waiting == "next"
        assert gate.most == 1
        await lanes.close()

    async def test_work_that_fails_after_its_caller_left_is_not_complained_about(self):
        lanes = Lanes(1)
        gate = Gate()

        def fails() -> None:
            gate.work()()
            raise ZeroDivisionError

        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        leaving = asyncio.create_task(lanes.run(fails))
        await until(lambda: gate.now == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.opened.set()
        await lanes.close()
        await asyncio.sleep(0)
        gc.collect()
        assert complaints == []

    async def test_a_lane_handed_over_in_the_moment_of_leaving_goes_to_the_next(self):
        lanes = Lanes(1, queue=2)
        gate = Gate()
        async with busy(lanes) as first:
            leaving = asyncio.create_task(lanes.run(gate.work("leaving")))
            await until(lambda: lanes.waiting == 1)
            following = asyncio.create_task(lanes.run(gate.work("following")))
            await until(lambda: lanes.waiting == 2)
            gate.opened.set()
            first.opened.set()
            # This runs between the handing over and the waking up of who was next.
            await until(lambda: lanes.waiting == 1)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert await following == "following"
            assert gate.began == ["following"]

    @pytest.mark.parametrize("seed", range(20))
    async def test_no_storm_of_cancels_loses_a_lane(self, seed):
        chance = random.Random(seed)
        lanes = Lanes(2, queue=8)
        tasks = [
            asyncio.create_task(lanes.run(lambda: None, is_known_device=chance.random() < 0.3))
            for _ in range(60)
        ]
        for task in chance.sample(tasks, 60):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: lanes._busy == 0)
        assert lanes.waiting == 0
        gate = Gate()
        both = [asyncio.create_task(lanes.run(gate.work())) for _ in range(2)]
        await until(lambda: gate.now == 2)
        gate.opened.set()
        await asyncio.gather(*both)
        await lanes.close()


class TestClosing:
    async def test_it_waits_for_what_runs_and_what_stands_in_line(self):
        lanes = Lanes(1)
        gate = Gate()
        tasks = [asyncio.create_task(lanes.run(gate.work(number))) for number in range(3)]
        await until(lambda: lanes.waiting == 2)
        closings = [asyncio.create_task(lanes.close()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(closing.done() for closing in closings)
        with pytest.raises(LanesBusy):
            await lanes.run(gate.work())
        gate.opened.set()
        await asyncio.gather(*closings)
        assert [task.result() for task in tasks] == [0, 1, 2]

    async def test_of_idle_lanes_it_is_done_at_once_and_twice_is_once(self):
        lanes = Lanes(1)
        await lanes.close()
        await lanes.close()
        with pytest.raises(LanesBusy):
            await lanes.run(lambda: None)

    async def test_who_gives_up_waiting_for_it_stops_nothing(self):
        lanes = Lanes(1)
        gate = Gate()
        running = asyncio.create_task(lanes.run(gate.work("x")))
        await until(lambda: gate.now == 1)
        closing = asyncio.create_task(lanes.close())
        await asyncio.sleep(0)
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        gate.opened.set()
        assert await running == "x"
        await lanes.close()


async def test_oversized_work_is_done_one_at_a_time():
    lanes = Lanes(3, queue=10)
    gate = Gate()
    big = [asyncio.create_task(lanes.run(gate.work("big"), is_oversized=True)) for _ in range(2)]
    small = asyncio.create_task(lanes.run(gate.work("small")))
    await until(lambda: len(gate.began) == 2)
    assert sorted(gate.began) == ["big", "small"]
    gate.opened.set()
    await asyncio.gather(small, *big)
    assert gate.began.count("big") == 2
    await lanes.close()


@pytest.mark.parametrize("count", [0, -1])
def test_no_lane_is_a_mistake(count):
    with pytest.raises(ConfigurationError):
        Lanes(count)
