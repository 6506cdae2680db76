"""What protection costs: CPU time of a bare app divided by that of the protected one.

Run `python bench/overhead.py`; bench/README.md says how to read it. 1.0 means that protection is
free. Both apps run side by side on stock uvicorn (uvloop, httptools), on one core, the load on
another. Requests are a browser's, through a declared proxy, in production mode, all checks on.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import harness
import load
import pairs
import signed

POST_BODY = b'{"title":"seven gates","stars":7,"tags":["stone","bronze"]}'
ECHO = b'{"kind":"move","from":"e2","to":"e4","clock_ms":299482}'
ATTACKER = "https://attacker.example"


SCENARIOS = {
    "get_ratio_starlette": pairs.Scenario(
        app="starlette",
        aim=0.85,
        conversation=load.HttpConversation(
            request=load.navigation("/notes?page=7"),
            body=b'{"notes":["thebes","gates"],"page":"7"}',
        ),
        hostile=load.navigation("/notes?page=7", host="attacker.example"),
    ),
    "get_ratio_fastapi": pairs.Scenario(
        app="fastapi",
        aim=0.90,
        conversation=load.HttpConversation(
            request=load.navigation("/notes?page=7"),
            body=b'{"notes":["thebes","gates"],"page":7}',
        ),
        hostile=load.navigation("/notes?page=7", host="attacker.example"),
    ),
    "post_ratio_fastapi": pairs.Scenario(
        app="fastapi",
        aim=0.90,
        conversation=load.HttpConversation(
            request=load.fetch("/notes", POST_BODY, site="same-origin", origin=load.OWN_ORIGIN),
            body=POST_BODY,
        ),
        hostile=load.fetch("/notes", POST_BODY, site="cross-site", origin=ATTACKER),
    ),
    "ws_message_ratio": pairs.Scenario(
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
NAMES = (*SCENARIOS, IMPORT_RATIO, *signed.NAMES)


def measure(name: str, effort: pairs.Effort) -> harness.Figure:
    """Return one of the figures.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    if name == IMPORT_RATIO:
        return measure_import(effort)
    if name in SCENARIOS:
        return pairs.measure(name, SCENARIOS[name], effort)
    return signed.measure(name, effort)


def measure_import(effort: pairs.Effort) -> harness.Figure:
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
    pairs.main(arguments, NAMES, measure, "What protection costs, in CPU time.")


if __name__ == "__main__":
    main()
