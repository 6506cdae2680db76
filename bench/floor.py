"""What no pass can save of its price: a layer around the app, and the fields of every answer.

Run `python bench/floor.py`; bench/README.md says how to read it. Above the line stands the same bare app
as in `get_ratio_starlette`, below it an app in a layer of ten lines that judges nothing. So the room for
all checks together is what lies between `fields_ratio_starlette` and the aim.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack

import harness
import overhead
import pairs

AIM = overhead.SCENARIOS["get_ratio_starlette"].aim
LAYERED = {"layer_ratio_starlette": "starlette-layer", "fields_ratio_starlette": "starlette-fields"}


def measure(name: str, effort: pairs.Effort) -> harness.Figure:
    """Return bare / layered CPU time of one exchange; the aim is that of the whole pass.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    scenario = overhead.SCENARIOS["get_ratio_starlette"]
    app = scenario.app if effort.noise_only else LAYERED[name]
    rounds = harness.Rounds()
    for number in range(effort.pairs):
        with ExitStack() as stack:
            bare, layered = (
                stack.enter_context(harness.Server(one, protected=False, core=effort.cores.server))
                for one in (scenario.app, app)
            )
            rounds.measure(
                effort.rounds,
                above=pairs.warm_cost(scenario, bare, [], effort.requests),
                below=pairs.warm_cost(scenario, layered, [], effort.requests),
            )
        median = statistics.median(rounds.ratios[-effort.rounds :])
        harness.say(f"{name}: pair {number + 1} of {effort.pairs}: {median:.3f}")
    bare_us, layered_us = (statistics.median(side) / 1000 for side in (rounds.above, rounds.below))
    detail = f"bare {bare_us:.1f} us, layered {layered_us:.1f} us of CPU for each exchange"
    return harness.Figure(name, "higher", AIM, rounds.ratios, detail)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names."""
    pairs.main(arguments, tuple(LAYERED), measure, "What a layer that judges nothing costs.")


if __name__ == "__main__":
    main()
