"""What no pass can save of its price: a layer around the app, the fields of every answer, its duties.

Run `python bench/floor.py`; bench/README.md says how to read it. Above the line stands the same bare app as
in `overhead.py`, below it:

- `layer_`, `fields_`: an app in a layer of ten lines that judges nothing;
- `least_`: an app behind one function that does what a pass has to do for this very request (least.py).

So an aim of `overhead.py` that is above the `least_` figure of the same name can't be met in interpreted
Python, on the machine where both were measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import harness
import overhead
import pairs
import signed
from members import Wanted

LAYERED = {"layer_ratio_starlette": "starlette-layer", "fields_ratio_starlette": "starlette-fields"}
LEAST = {f"least_{name}": name for name in ("get_ratio_starlette", "get_ratio_fastapi", "post_ratio_fastapi")}
LEAST |= {f"least_{name}": name for name in signed.RATIOS}
NAMES = (*LAYERED, *LEAST)


def measure(name: str, effort: pairs.Effort) -> harness.Figure:
    """Return bare / layered CPU time of one exchange; the aim is that of the whole pass.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    scenario = (overhead.SCENARIOS | signed.RATIOS)[LEAST.get(name, "get_ratio_starlette")]
    below = replace(scenario, app=LAYERED.get(name, f"{scenario.app}-least"))
    if effort.noise_only:
        below = scenario
    rounds = harness.Rounds()
    for number in range(effort.pairs):
        with ExitStack() as stack:
            cookies = cookies_for(scenario, effort)
            start = partial(harness.Server, core=effort.cores.server)
            is_guarded = name in LEAST and not effort.noise_only
            bare = stack.enter_context(start(scenario.app, protected=False))
            layered = stack.enter_context(start(below.app, protected=is_guarded))
            rounds.measure(
                effort.rounds,
                above=pairs.warm_cost(scenario, bare, cookies, effort.requests),
                below=pairs.warm_cost(below, layered, cookies, effort.requests),
            )
        median = statistics.median(rounds.ratios[-effort.rounds :])
        harness.say(f"{name}: pair {number + 1} of {effort.pairs}: {median:.3f}")
    bare_us, layered_us = (statistics.median(side) / 1000 for side in (rounds.above, rounds.below))
    detail = f"bare {bare_us:.1f} us, layered {layered_us:.1f} us of CPU for each exchange"
    return harness.Figure(name, "higher", scenario.aim, rounds.ratios, detail)


def cookies_for(scenario: pairs.Scenario, effort: pairs.Effort) -> list[str]:
    """Return what the people of a scenario send: what a real server gives them, started for this alone."""
    if not scenario.people:
        return []
    wanted = Wanted(cookies=scenario.people)
    with harness.Server(scenario.app, protected=True, core=effort.cores.server, wanted=wanted) as server:
        return server.members.cookies


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names."""

    pairs.main(arguments, NAMES, measure, "What no pass can save of its price.")


if __name__ == "__main__":
    main()
