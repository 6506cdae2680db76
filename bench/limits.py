"""What a decision of a rate limiter costs: ours beside the libraries that Python has, in one run.

Run `python bench/limits.py`. Each contender works in a process of its own, on one core, and they take
turns in every round, so what disturbs the machine for longer than a round disturbs all alike. Only
decisions in the memory of one process are compared; each library is called as its manual says, with
the store and the options that serve it best here.

- `decisions_ratio_to_best_python_peer`: CPU time of a decision of the cheapest peer / of ours, whatever
  that peer promises. 1,000 clients in turn, all admitted, only "yes or no" asked for.
- `bytes_ratio_to_best_python_peer`: bytes that a live key takes, ours / the smallest peer's: growth of the
  process's resident memory over 200,000 clients that come once, the empty limiter included. Our table is
  of fixed size: with fewer clients a key of ours takes more, with more it takes less.
- `longest_pause_over_idle_loop`: an event loop that sleeps for a millisecond at a time; its longest turn
  while each turn decides for 100 clients never seen before, over its longest turn with nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import harness

OURS = "thebes Rate"
IDLE = "nothing"
DECISIONS, BYTES, PAUSE = NAMES = (
    "decisions_ratio_to_best_python_peer",
    "bytes_ratio_to_best_python_peer",
    "longest_pause_over_idle_loop",
)
AIMS = {DECISIONS: 4.0, BYTES: 0.5, PAUSE: 2.0}
CLIENTS = [f"198.51.{number // 250}.{number % 250}" for number in range(1000)]
# So generous that nobody is refused; so slow that every key of a flood stays live until its end.
GENEROUS_A_MINUTE = 60_000
SLOW_AN_HOUR = 600
TURN_S = 0.001
NEW_A_TURN = 100

Decide = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure, and where.

    Attributes:
        pairs: How often all workers are started anew.
        rounds: With each of them.
        decisions: Of each contender in a round.
        keys: Clients that come once, for memory and pauses.
        noise_only: All contenders are ours: what differs from 1.0 is the error of the method.
    """

    core: int
    pairs: int
    rounds: int
    decisions: int
    keys: int
    noise_only: bool = False

    def peers(self) -> list[str]:
        """Return with whom we compare ourselves."""
        return [OURS] if self.noise_only else [name for name in CONTENDERS if name not in (OURS, IDLE)]


class Worker:
    """One contender in a process of its own, until the `with` block ends."""

    def __init__(self, contender: str, core: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", contender, "--core", str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(harness.STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, verb: str, count: int) -> float:
        """Return what the worker measures.

        Raises:
            RuntimeError: It ended; its own words are on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{verb} {count}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker ended with {self._process.wait()}")
        return float(answer)


def measure_decisions(effort: Effort) -> harness.Figure:
    """Return CPU time of a decision: cheapest peer / ours."""
    ours: list[float] = []
    peers: dict[str, list[float]] = {name: [] for name in effort.peers()}
    for number in range(effort.pairs):
        with ExitStack() as stack:
            mine = stack.enter_context(Worker(OURS, effort.core))
            theirs = {name: stack.enter_context(Worker(name, effort.core)) for name in peers}
            for worker in (mine, *theirs.values()):
                worker.ask("decide", effort.decisions)
            for turn in range(effort.rounds):
                sides = [(mine, ours), *((theirs[name], costs) for name, costs in peers.items())]
                for worker, costs in sides if turn % 2 else reversed(sides):
                    costs.append(worker.ask("decide", effort.decisions))
        harness.say(f"{DECISIONS}: pair {number + 1} of {effort.pairs}")
    best = min(peers, key=lambda name: statistics.median(peers[name]))
    detail = f"ours {statistics.median(ours):.0f} ns; " + "; ".join(
        f"{name} {statistics.median(costs):.0f}" for name, costs in peers.items()
    )
    ratios = [peer / own for peer, own in zip(peers[best], ours, strict=True)]
    return harness.Figure(DECISIONS, "higher", AIMS[DECISIONS], ratios, f"{detail}; best: {best}")


def measure_bytes(effort: Effort) -> harness.Figure:
    """Return bytes a live key: ours / smallest peer."""

    def size(name: str) -> float:
        with Worker(name, effort.core) as worker:
            return worker.ask("remember", effort.keys) / effort.keys

    ours = [size(OURS) for _ in range(effort.pairs)]
    peers = {name: [size(name) for _ in range(effort.pairs)] for name in effort.peers()}
    best = min(peers, key=lambda name: statistics.median(peers[name]))
    detail = f"ours {statistics.median(ours):.0f} bytes; " + "; ".join(
        f"{name} {statistics.median(sizes):.0f}" for name, sizes in peers.items()
    )
    ratios = [own / peer for own, peer in zip(ours, peers[best], strict=True)]
    return harness.Figure(
        BYTES, "lower", AIMS[BYTES], ratios, f"{detail}; best: {best}; {effort.keys:,} clients"
    )


def measure_pause(effort: Effort) -> harness.Figure:
    """Return the longest turn of an event loop that decides / of one that idles."""
    rounds = harness.Rounds()
    turns = max(10, effort.keys // NEW_A_TURN // effort.rounds)
    for number in range(effort.pairs):
        with Worker(OURS, effort.core) as ours, Worker(IDLE, effort.core) as idle:
            mine = idle if effort.noise_only else ours
            rounds.measure(
                effort.rounds,
                above=partial(mine.ask, "pause", turns),
                below=partial(idle.ask, "pause", turns),
            )
        harness.say(f"{PAUSE}: pair {number + 1} of {effort.pairs}")
    others = []
    for name in () if effort.noise_only else effort.peers():
        with Worker(name, effort.core) as worker:
            longest = [worker.ask("pause", turns) for _ in range(effort.rounds)]
        others.append(f"{name} {statistics.median(longest):.1f}, at worst {max(longest):.1f}")
    median_ms, idle_ms = (statistics.median(side) for side in (rounds.above, rounds.below))
    detail = (
        f"ours {median_ms:.1f} ms, at worst {max(rounds.above):.1f}; "
        f"idle {idle_ms:.1f}, at worst {max(rounds.below):.1f}"
    )
    return harness.Figure(PAUSE, "lower", AIMS[PAUSE], rounds.ratios, "; ".join([detail, *others]))


def serve_measurements(contender: str) -> None:
    """Be a worker: measure what standard input asks for, until it closes."""
    # This file is called as one of the peers is, so its folder must not be looked in for them.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != harness.HERE]
    make = CONTENDERS[contender]
    decider = cache(make)
    seen = 0
    for line in sys.stdin:
        verb, _, number = line.partition(" ")
        count = int(number)
        if verb == "decide":
            answer = cost_of_decision_ns(decider("minute", GENEROUS_A_MINUTE), count)
        elif verb == "remember":
            answer = float(growth_bytes(partial(make, "hour", SLOW_AN_HOUR), count))
        else:
            answer = asyncio.run(longest_turn_ms(decider("hour", SLOW_AN_HOUR), count, first=seen))
            seen += count * NEW_A_TURN
        print(answer, flush=True)
    # Threads of a library must not keep the worker alive.
    os._exit(0)


def cost_of_decision_ns(decide: Decide, count: int) -> float:
    """Return the CPU time of a decision, of all threads of this process."""
    rounds = max(1, count // len(CLIENTS))
    began = time.process_time_ns()
    for _ in range(rounds):
        for client in CLIENTS:
            decide(client)
    return (time.process_time_ns() - began) / (rounds * len(CLIENTS))


def growth_bytes(make: Callable[[], Decide], count: int) -> int:
    """Return how much this process grows by a limiter that has seen `count` clients, each once."""
    make()("warm up")
    gc.collect()
    before = resident_bytes()
    decide = make()
    for number in range(count):
        decide(client_name(number))
    gc.collect()
    return resident_bytes() - before


async def longest_turn_ms(decide: Decide, turns: int, *, first: int) -> float:
    """Return the longest of some turns of an event loop that sleeps for 1 ms in each, in ms."""
    loop = asyncio.get_running_loop()
    longest, number, began = 0.0, first, loop.time()
    for _ in range(turns):
        for _ in range(NEW_A_TURN):
            decide(client_name(number))
            number += 1
        await asyncio.sleep(TURN_S)
        ended = loop.time()
        longest, began = max(longest, ended - began), ended
    return longest * 1000


def client_name(number: int) -> str:
    """Return an address that no other number has."""
    return f"{number >> 24 & 255}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def resident_bytes() -> int:
    """Return the resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def our_rate(period: str, count: int) -> Decide:
    """`Limit.spend`: GCRA in a table of 8 MiB."""
    from thebes.ratelimit import Limit, Rate

    return Limit(Rate(f"{count}/{period}")).spend


def limits_by(strategy: str) -> Callable[[str, int], Decide]:
    """`limits`, its memory storage, with one of its strategies."""

    def make(period: str, count: int) -> Decide:
        limits: Any = importlib.import_module("limits")
        limiter = getattr(limits.strategies, strategy)(limits.storage.MemoryStorage())
        return partial(limiter.hit, limits.parse(f"{count}/{period}"))

    return make


def throttled_by(algorithm: str) -> Callable[[str, int], Decide]:
    """`throttled-py`, its memory store with room for all (the default would forget), with one algorithm."""

    def make(period: str, count: int) -> Decide:
        throttled: Any = importlib.import_module("throttled")
        quota = {"minute": throttled.rate_limiter.per_min, "hour": throttled.rate_limiter.per_hour}[period]
        store = throttled.store.MemoryStore(options={"MAX_SIZE": 1 << 30})
        limiter = throttled.Throttled(using=algorithm, quota=quota(count, burst=count), store=store)
        decide: Decide = limiter.limit
        return decide

    return make


def pyrate_gcra(period: str, count: int) -> Decide:
    """`pyrate-limiter`: a bucket of constant size for each client, found by a factory as its manual shows."""
    pyrate: Any = importlib.import_module("pyrate_limiter")
    rates = [pyrate.Rate(count, getattr(pyrate.Duration, period.upper()))]
    clock = pyrate.MonotonicClock()
    buckets: dict[str, object] = {}

    def bucket_of(_: object, item: Any) -> object:
        bucket = buckets.get(item.name)
        if bucket is None:
            bucket = buckets[item.name] = pyrate.StateBucket(rates)
        return bucket

    def wrap_item(_: object, name: str, weight: int = 1) -> object:
        return pyrate.RateItem(name, clock.now(), weight=weight)

    factory = type("EachClient", (pyrate.BucketFactory,), {"get": bucket_of, "wrap_item": wrap_item})
    return partial(pyrate.Limiter(factory()).try_acquire, blocking=False)


def nothing(_period: str, _count: int) -> Decide:
    """Decide nothing, and take no time for it."""
    return lambda client: client


CONTENDERS: dict[str, Callable[[str, int], Decide]] = {
    OURS: our_rate,
    "limits fixed window": limits_by("FixedWindowRateLimiter"),
    "limits moving window": limits_by("MovingWindowRateLimiter"),
    "throttled-py GCRA": throttled_by("gcra"),
    "throttled-py fixed window": throttled_by("fixed_window"),
    "pyrate-limiter GCRA": pyrate_gcra,
    IDLE: nothing,
}
MEASURES = {DECISIONS: measure_decisions, BYTES: measure_bytes, PAUSE: measure_pause}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and print it."""
    parser = argparse.ArgumentParser(description="What a decision of a rate limiter costs.")
    parser.add_argument("--pairs", type=int, default=3, help="of fresh workers (default: 3)")
    parser.add_argument("--rounds", type=int, default=15, help="with each pair (default: 15)")
    parser.add_argument("--decisions", type=int, default=10_000, help="of each contender in a round")
    parser.add_argument("--keys", type=int, default=200_000, help="clients that come once (default: 200000)")
    parser.add_argument("--only", choices=NAMES, metavar="NAME", help=f"one of: {', '.join(NAMES)}")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--noise", action="store_true", help="compare ours with itself")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    if options.worker:
        os.sched_setaffinity(0, {options.core})
        serve_measurements(options.worker)
        return
    cores = harness.Cores.choose()
    os.sched_setaffinity(0, {cores.load})
    effort = Effort(
        cores.server, options.pairs, options.rounds, options.decisions, options.keys, options.noise
    )
    figures = [MEASURES[name](effort) for name in ([options.only] if options.only else NAMES)]
    print(harness.machine(cores), harness.table(figures), sep="\n\n")
    if options.json:
        print(harness.as_json(figures))


if __name__ == "__main__":
    main()
