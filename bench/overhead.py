"""What protection costs: CPU time of a bare app divided by that of the protected one.

Run `python bench/overhead.py`; bench/README.md says how to read it. 1.0 means that protection is
free. Both apps run side by side on stock uvicorn (uvloop, httptools), on one core, the load on
another. Requests are a browser's, through a declared proxy, in production mode, all checks on.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import harness
import load

WARM_UP = 1_000
POST_BODY = b'{"title":"seven gates","stars":7,"tags":["stone","bronze"]}'
ECHO = b'{"kind":"move","from":"e2","to":"e4","clock_ms":299482}'
ATTACKER = "https://attacker.example"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One exchange on one app, measured bare and protected.

    Attributes:
        app: A name from `apps.APPS`.
        aim: The least ratio we want.
        hostile: A request that a bare server grants and a protected one must refuse.
        granted: The status code with which the bare one grants it.
        weight: How many times more exchanges to measure than asked for, where each is short.
    """

    app: str
    aim: float
    conversation: load.Conversation
    hostile: bytes
    granted: int = 200
    weight: int = 1


SCENARIOS = {
    "get_ratio_starlette": Scenario(
        app="starlette",
        aim=0.85,
        conversation=load.HttpConversation(
            request=load.navigation("/notes?page=7"),
            body=b'{"notes":["thebes","gates"],"page":"7"}',
        ),
        hostile=load.navigation("/notes?page=7", host="attacker.example"),
    ),
    "get_ratio_fastapi": Scenario(
        app="fastapi",
        aim=0.90,
        conversation=load.HttpConversation(
            request=load.navigation("/notes?page=7"),
            body=b'{"notes":["thebes","gates"],"page":7}',
        ),
        hostile=load.navigation("/notes?page=7", host="attacker.example"),
    ),
    "post_ratio_fastapi": Scenario(
        app="fastapi",
        aim=0.90,
        conversation=load.HttpConversation(
            request=load.fetch("/notes", POST_BODY, site="same-origin", origin=load.OWN_ORIGIN),
            body=POST_BODY,
        ),
        hostile=load.fetch("/notes", POST_BODY, site="cross-site", origin=ATTACKER),
    ),
    "ws_message_ratio": Scenario(
        app="websocket",
        aim=0.98,
        conversation=load.WebSocketConversation(
            handshake=load.handshake("/echo", origin=load.OWN_ORIGIN), message=ECHO
        ),
        hostile=load.handshake("/echo", origin=ATTACKER),
        granted=101,
        weight=4,
    ),
}
IMPORT_RATIO = "import_ratio_starlette"
IMPORT_AIM = 0.60
MAX_IMPORT_ROUNDS = 25  # a fresh process each: nothing lingers, so fewer are enough
NAMES = (*SCENARIOS, IMPORT_RATIO)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure, and where.

    Attributes:
        pairs: How often both servers are started anew. Two processes of the same program differ by
            1 or 2 % for as long as they live (memory layout), so one pair is not enough.
        rounds: Of each pair.
        requests: Exchanges of each side in each round.
        noise_only: Both sides are bare: what differs from 1.0 is the error of the method.
    """

    cores: harness.Cores
    pairs: int
    rounds: int
    requests: int
    noise_only: bool = False


def measure_scenario(name: str, effort: Effort) -> harness.Figure:
    """Return bare / protected CPU time of one exchange.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    scenario = SCENARIOS[name]
    rounds = harness.Rounds()
    for number in range(effort.pairs):
        with ExitStack() as stack:
            bare, protected = (
                stack.enter_context(
                    harness.Server(scenario.app, protected=is_protected, core=effort.cores.server)
                )
                for is_protected in (False, not effort.noise_only)
            )
            rounds.measure(
                effort.rounds,
                above=warm_cost(scenario, bare, effort.requests),
                below=warm_cost(scenario, protected, effort.requests),
            )
        median = statistics.median(rounds.ratios[-effort.rounds :])
        harness.say(f"{name}: pair {number + 1} of {effort.pairs}: {median:.3f}")
    bare_us, ours_us = (statistics.median(side) / 1000 for side in (rounds.above, rounds.below))
    detail = f"bare {bare_us:.1f} us, protected {ours_us:.1f} us of CPU for each exchange"
    return harness.Figure(name, "higher", scenario.aim, rounds.ratios, detail)


def warm_cost(scenario: Scenario, server: harness.Server, requests: int) -> Callable[[], float]:
    """Return what measures the CPU time of one exchange, in nanoseconds, after a check and a warm-up.

    Raises:
        load.WrongAnswerError: A protected server lets the hostile request in, or a bare one does
            not, so there is nothing to compare.
    """
    status = load.status_of(server.port, scenario.hostile)
    is_expected = 400 <= status < 500 if server.is_protected else status == scenario.granted
    if not is_expected:
        kind = "protected" if server.is_protected else "bare"
        raise load.WrongAnswerError(f"the {kind} server answers {status} to a hostile request")
    cost = partial(load.cost_ns, scenario.conversation, server.port, cpu_ns=server.cpu_ns)
    cost(count=min(WARM_UP, 4 * requests))
    return partial(cost, count=requests * scenario.weight)


def measure_import(effort: Effort) -> harness.Figure:
    """Return CPU time of a Python that builds a Security / of one that imports Starlette.

    Raises:
        RuntimeError: One of them did not end well.
    """
    starlette = partial(harness.child_cpu_ms, "import starlette.applications")
    ours = partial(harness.child_cpu_ms, "from thebes import Security; Security()")
    above = starlette if effort.noise_only else ours
    for warm_up in (above, starlette):  # the first run writes byte code and fills the page cache
        warm_up()
    rounds = harness.Rounds()
    count = min(effort.pairs * effort.rounds, MAX_IMPORT_ROUNDS)
    rounds.measure(count, above=above, below=starlette)
    ours_ms, starlette_ms = (statistics.median(side) for side in (rounds.above, rounds.below))
    start_ms = statistics.median(harness.child_cpu_ms("pass") for _ in range(5))
    detail = (
        f"Security() {ours_ms:.1f} ms, Starlette {starlette_ms:.1f} ms of CPU, "
        f"Python's own {start_ms:.1f} ms included in both"
    )
    return harness.Figure(IMPORT_RATIO, "lower", IMPORT_AIM, rounds.ratios, detail)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and print it."""
    parser = argparse.ArgumentParser(description="What protection costs, in CPU time.")
    parser.add_argument("--pairs", type=int, default=5, help="of fresh servers (default: 5)")
    parser.add_argument("--rounds", type=int, default=25, help="with each pair (default: 25)")
    parser.add_argument("--requests", type=int, default=250, help="of each side in a round")
    parser.add_argument("--only", choices=NAMES, metavar="NAME", help=f"one of: {', '.join(NAMES)}")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--noise", action="store_true", help="compare the bare app with itself")
    options = parser.parse_args(arguments)

    cores = harness.Cores.choose()
    os.sched_setaffinity(0, {cores.load})
    effort = Effort(cores, options.pairs, options.rounds, options.requests, options.noise)
    figures = [
        measure_import(effort) if name == IMPORT_RATIO else measure_scenario(name, effort)
        for name in ([options.only] if options.only else NAMES)
    ]
    print(harness.machine(cores), harness.table(figures), sep="\n\n")
    if options.json:
        print(harness.as_json(figures))


if __name__ == "__main__":
    main()
