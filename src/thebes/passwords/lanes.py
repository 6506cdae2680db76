"""The lanes in which passwords are hashed: few threads beside the event loop, and a queue that ends.

A hash takes a tenth of a second of a core and 64 MiB. On the event loop it would stop all other requests; in
a thread for each request a burst of sign-ins takes every core and all memory. So there are as many lanes as
cores to spare, and who comes when the queue is full is told when to come again. Known devices go first,
and take the place of a stranger where the queue is full: a flood of guesses doesn't lock the owners out.

Does not protect from: a flood that comes from known devices; a machine whose cores others use up.

Sources: ASVS 5.0.0, 15.1.3, 15.2.2, 15.4.4; OWASP Denial of Service Cheat Sheet.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from thebes.errors import ConfigurationError, ThebesError
from thebes.passwords.costs import Argon2, Cost
from thebes.passwords.machine import Machine

T = TypeVar("T")

# About 3 s of waiting at 0.1 s for each: longer than a person looks at a page that does nothing.
QUEUE_PER_LANE = 32
MEMORY_SHARE = 4  # lanes may use a quarter of the cgroup's memory; the app needs the rest
FIRST_GUESS_S = 0.1  # of what a piece of work takes, until some have been timed
MEMORY_OF_A_SMALL_PRESET_KIB = 19_456
# Where lanes share a core with the event loop, that comes first: at equal priority the p99 of other routes is
# eight times the idle one, from 5 on it stays. A core that is busy all the time still hashes, at a tenth.
NICENESS = 10


class LanesBusy(ThebesError):
    """All lanes are busy and the queue is full, or the service is going down: answer 503.

    Attributes:
        retry_after: Whole seconds until the queue as it stands will have been worked off, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the hashing lanes are busy: try again in {retry_after} s")
        self.retry_after = retry_after


def share_of_lanes(
    cost: Cost, *, workers: int = 1, worker: int | None = None, machine: Machine | None = None
) -> int:
    """Return how many lanes one of several worker processes gets.

    All workers together have `max(workers, cores - workers)`, so that each event loop keeps a core where
    there are enough.

    Args:
        cost: That of new hashes.
        worker: Which one it is, from 0; None if it can't know, then what doesn't divide evenly is left.
        machine: What may be used; read from the operating system if None.

    Raises:
        ConfigurationError: So many hashes at once would take more than a quarter of the cgroup's memory.
    """
    if workers < 1:
        raise ConfigurationError(f"{workers} workers; at least 1 is needed")
    machine = machine or Machine.read()
    lanes = max(workers, machine.cores - workers)
    if machine.memory_limit is not None:
        _require_memory(cost, lanes, machine.memory_limit, workers)
    each, rest = divmod(lanes, workers)
    return each + (worker is not None and worker < rest)


class Lanes:
    """Threads for hashing, at most `count` at once; everything else waits in line.

    It belongs to one event loop.

    Args:
        count: How many lanes; see `share_of_lanes`.
        queue: How many may wait; 32 for each lane if None.
    """

    def __init__(self, count: int, *, queue: int | None = None) -> None:
        if count < 1:
            raise ConfigurationError(f"{count} hashing lanes; at least 1 is needed")
        self.count = count
        self.queue = QUEUE_PER_LANE * count if queue is None else queue
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="thebes-hashing", initializer=_step_back)
        self._busy = 0
        self._known: deque[asyncio.Future[None]] = deque()
        self._strangers: deque[asyncio.Future[None]] = deque()
        self._mean_s = FIRST_GUESS_S
        self._oversized = threading.Lock()
        self._closed: list[asyncio.Future[None]] | None = None

    @classmethod
    def of_worker(
        cls, cost: Cost, *, workers: int = 1, worker: int | None = None, machine: Machine | None = None
    ) -> Self:
        """Return the lanes of one worker process; the arguments and errors are those of `share_of_lanes`."""
        return cls(share_of_lanes(cost, workers=workers, worker=worker, machine=machine))

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._known) + len(self._strangers)

    async def run(
        self, work: Callable[[], T], *, is_known_device: bool = False, is_oversized: bool = False
    ) -> T:
        """Do a piece of work in a lane and return what it returns.

        A caller that is cancelled while it waits frees its place. Work that has begun goes on to its end,
        and its lane is free only then.

        Args:
            is_oversized: It needs more memory than the lanes were planned for; one such at a time.

        Raises:
            LanesBusy: The queue is full, a known device took this place in it, or `close` was called.
        """
        await self._enter(is_known_device=is_known_device)
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._threads, self._timed, work, is_oversized)
        except BaseException:
            self._leave()
            raise
        running.add_done_callback(self._finish)
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Take nothing more, and wait until all that was taken is done."""
        if self._closed is None:
            self._closed = []
        if self._busy:
            last = asyncio.get_running_loop().create_future()
            self._closed.append(last)
            await last
        self._threads.shutdown(wait=True)

    async def _enter(self, *, is_known_device: bool) -> None:
        if self._closed is not None:
            raise LanesBusy(self._retry_after())
        if self._busy < self.count:
            self._busy += 1
            return
        if self.waiting >= self.queue:
            self._make_room(is_known_device=is_known_device)
        line = self._known if is_known_device else self._strangers
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in line:
                line.remove(place)
            elif not place.cancelled() and place.exception() is None:
                self._leave()  # the lane was handed over in the moment of leaving: on to the next
            raise

    def _make_room(self, *, is_known_device: bool) -> None:
        """Turn the youngest stranger away for a known device, or the newcomer."""
        if not is_known_device or not self._strangers:
            raise LanesBusy(self._retry_after())
        turned_away = self._strangers.pop()
        if not turned_away.done():
            turned_away.set_exception(LanesBusy(self._retry_after()))

    def _leave(self) -> None:
        """Hand the lane over to the next in line, or leave it free."""
        for line in (self._known, self._strangers):
            while line:
                place = line.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._busy -= 1
        if self._closed is not None and not self._busy:
            for closing in self._closed:
                if not closing.done():
                    closing.set_result(None)

    def _finish(self, running: asyncio.Future[T]) -> None:
        if not running.cancelled():
            running.exception()  # seen: nobody may be there any more who would want it
        self._leave()

    def _timed(self, work: Callable[[], T], is_oversized: bool) -> T:
        began = time.perf_counter()
        try:
            if is_oversized:
                with self._oversized:
                    return work()
            return work()
        finally:
            # Two lanes may overwrite each other's share: it is a guess either way.
            self._mean_s += (time.perf_counter() - began - self._mean_s) / 8

    def _retry_after(self) -> int:
        return max(1, math.ceil((self.waiting + self._busy) * self._mean_s / self.count))


def _step_back() -> None:
    """Give a lane's thread a lower priority than the rest of the process; only Linux has one for each."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that forbids it: then as equals
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _require_memory(cost: Cost, lanes: int, limit: int, workers: int) -> None:
    needed, allowed = lanes * cost.memory_kib * 1024, limit // MEMORY_SHARE
    if needed <= allowed:
        return
    is_small = not isinstance(cost, Argon2) or cost.memory_kib <= MEMORY_OF_A_SMALL_PRESET_KIB
    advice = "" if is_small else 'choose passwords="19MiB", '
    raise ConfigurationError(
        f"{lanes} hashing lanes of {cost.memory_kib / 1024:.0f} MiB need {needed / 2**20:.0f} MiB, but a "
        f"quarter of the memory limit of {limit / 2**20:.0f} MiB is {allowed / 2**20:.0f} MiB: {advice}"
        f"raise the limit, or take fewer workers than {workers}"
    )
