"""A bare server and a protected one, side by side: which exchange is measured, and how much of it."""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import harness
import load
from members import Wanted

WARM_UP = 1_000
FOR_NOBODY_ELSE = b"\r\ncache-control: no-store"
"""Stands in the answers that the protected server gives to somebody who is signed in, and in no others."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One exchange on one app, measured bare and protected.

    Attributes:
        app: A name from `apps.APPS`.
        aim: The least ratio we want.
        hostile: A request that a bare server grants and a protected one must refuse.
        granted: The status code with which the bare one grants it.
        weight: How many times more exchanges to measure than asked for, where each is short.
        people: So many ask in turn, signed in by their cookies; 0 for a stranger.
    """

    app: str
    aim: float
    conversation: load.HttpConversation | load.WebSocketConversation
    hostile: bytes
    granted: int = 200
    weight: int = 1
    people: int = 0


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


def measure(name: str, scenario: Scenario, effort: Effort) -> harness.Figure:
    """Return bare / protected CPU time of one exchange.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    rounds = harness.Rounds()
    for number in range(effort.pairs):
        with ExitStack() as stack:
            bare, protected = started(scenario, effort, stack)
            cookies = protected.members.cookies
            rounds.measure(
                effort.rounds,
                above=warm_cost(scenario, bare, cookies, effort.requests),
                below=warm_cost(scenario, protected, cookies, effort.requests),
            )
        median = statistics.median(rounds.ratios[-effort.rounds :])
        harness.say(f"{name}: pair {number + 1} of {effort.pairs}: {median:.3f}")
    bare_us, ours_us = (statistics.median(side) / 1000 for side in (rounds.above, rounds.below))
    detail = f"bare {bare_us:.1f} us, protected {ours_us:.1f} us of CPU for each exchange"
    return harness.Figure(name, "higher", scenario.aim, rounds.ratios, detail)


def started(scenario: Scenario, effort: Effort, stack: ExitStack) -> tuple[harness.Server, harness.Server]:
    """Return a bare and a protected server, which run until `stack` is closed."""
    start = partial(
        harness.Server, scenario.app, core=effort.cores.server, wanted=Wanted(cookies=scenario.people)
    )
    bare = stack.enter_context(start(protected=False))
    return bare, stack.enter_context(start(protected=not effort.noise_only))


def warm_cost(
    scenario: Scenario, server: harness.Server, cookies: list[str], requests: int
) -> Callable[[], float]:
    """Return what measures the CPU time of one exchange, in nanoseconds, after a check and a warm-up.

    Args:
        cookies: Of those who ask in turn; the bare server gets the same ones. None for strangers.

    Raises:
        load.WrongAnswerError: A protected server lets the hostile request in, or a bare one does
            not, so there is nothing to compare.
    """
    status = load.status_of(server.port, scenario.hostile)
    is_expected = 400 <= status < 500 if server.is_protected else status == scenario.granted
    if not is_expected:
        kind = "protected" if server.is_protected else "bare"
        raise load.WrongAnswerError(f"the {kind} server answers {status} to a hostile request")
    conversation: load.Conversation = scenario.conversation
    if cookies and isinstance(conversation, load.HttpConversation):
        conversation = signed_in(conversation, cookies, is_recognised=server.is_protected)
    cost = partial(load.cost_ns, conversation, server.port, cpu_ns=server.cpu_ns)
    cost(count=max(len(cookies), min(WARM_UP, 4 * requests)))
    return partial(cost, count=requests * scenario.weight)


def signed_in(
    conversation: load.HttpConversation, cookies: list[str], *, is_recognised: bool
) -> load.TurnsConversation:
    """Return the same conversation, held by people in turn who send these cookies.

    Args:
        is_recognised: Whether each answer has to show that its asker was recognised.
    """
    requests = [load.with_field(conversation.request, "Cookie", cookie) for cookie in cookies]
    shows = FOR_NOBODY_ELSE if is_recognised else b""
    answer = load.HttpConversation(conversation.request, conversation.body, shows=shows)
    return load.TurnsConversation(itertools.cycle(requests), answer)


def main(
    arguments: Sequence[str] | None,
    names: Sequence[str],
    figure: Callable[[str, Effort], harness.Figure],
    about: str,
) -> None:
    """Measure what the command line names and print it.

    Args:
        arguments: Of the command line; those of the process if None.
        names: The figures that there are.
        figure: Measures one of them.
        about: What they are about.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--pairs", type=int, default=5, help="of fresh servers (default: 5)")
    parser.add_argument("--rounds", type=int, default=25, help="with each pair (default: 25)")
    parser.add_argument("--requests", type=int, default=250, help="of each side in a round")
    parser.add_argument("--only", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--noise", action="store_true", help="compare the bare app with itself")
    options = parser.parse_args(arguments)

    cores = harness.Cores.choose()
    os.sched_setaffinity(0, {cores.load})
    effort = Effort(cores, options.pairs, options.rounds, options.requests, options.noise)
    figures = [figure(name, effort) for name in ([options.only] if options.only else names)]
    print(harness.machine(cores), harness.table(figures), sep="\n\n")
    if options.json:
        print(harness.as_json(figures))
