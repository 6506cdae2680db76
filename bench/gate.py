"""The gate: what the pass costs in instructions, compared with what was accepted before.

Run `make bench-gate`. Valgrind's callgrind counts the instructions of N and of 2N browser requests fed
straight into the app of bench/pass_profile.py, bare and protected; the difference is N requests without
the start. `(protected - bare) / bare` may lie up to 5 % above the value in bench/gate.json.

A count hardly notices what else the machine does, so small losses show that bench/overhead.py can't see.
It says nothing about caches and the kernel: what users pay, only bench/overhead.py tells.

Source: Valgrind manual, 6 (callgrind), "Collected": all instructions executed (Ir) in user space.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import harness
import load
import pass_profile

ACCEPTED = harness.HERE / "gate.json"
PYTHON = ".".join(platform.python_version_tuple()[:2])
METHODS = ("get", "post", "signed_get")
APPS = ("bare", "protected")
TOLERANCE = 0.05  # of the accepted value; two runs of the same code differ by 0.5 % at most
REQUESTS = 500
WARM_UP = 100  # the interpreter has specialised its byte code long before
HOSTILE = load.fetch("/notes", pass_profile.BODY, site="cross-site", origin="https://evil.example")
RAISE = "raising it is a commit of its own with the reason"
# The start costs more or less with the keys, so all runs have the same. What random and clock still move: the
# interpreter specialises the limiter's comparisons by the size of the first numbers it sees.
_KEY = base64.urlsafe_b64encode(hashlib.sha256(b"bench/gate.py").digest()).rstrip(b"=").decode("ascii")
_FIXED = {"PYTHONHASHSEED": "0", "THEBES_SECRET_KEYS": f"k1:{_KEY}"}
_COLLECTED = re.compile(r"Collected : (\d+)")


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions for one request: of the bare app, and of the protected one."""

    bare: float
    protected: float

    @property
    def value(self) -> float:
        """How many times the bare app's instructions the pass adds."""
        return (self.protected - self.bare) / self.bare


def verdict(value: float, accepted: float) -> Literal["dearer", "as accepted", "cheaper"]:
    """Return how a value stands to the accepted one; up to 5 % to either side is as accepted."""
    if value > accepted * (1 + TOLERANCE):
        return "dearer"
    return "cheaper" if value < accepted * (1 - TOLERANCE) else "as accepted"


def remarks(values: Mapping[str, float], accepted: Mapping[str, float]) -> list[str]:
    """Return a sentence for every value that is not as accepted, with both numbers; or that none is."""
    sentences = {
        "dearer": f"over {TOLERANCE:.0%} above; {RAISE}",
        "cheaper": f"over {TOLERANCE:.0%} below; record the gain: make bench-gate ARGS=--write",
    }
    found = []
    for name, value in values.items():
        if name not in accepted:
            found.append(f"{name}: measured {value:.4f}, none accepted: make bench-gate ARGS=--write")
        elif (how := verdict(value, accepted[name])) in sentences:
            found.append(f"{name}: measured {value:.4f}, accepted {accepted[name]:.4f}, {sentences[how]}")
    return found


def measure(requests: int, valgrind: str) -> dict[str, Cost]:
    """Return what a request of each method costs, from `requests` and twice as many.

    Raises:
        RuntimeError: A measured program ended with an error, or callgrind told no total.
    """
    for app in APPS:  # writes byte code: compiling would count as part of one start only
        _run(_command(app, "get", 1, 1))
    runs = [(app, method, share) for app in APPS for method in METHODS for share in (1, 2)]
    # Counts don't mind company, so every core may take one.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        count = partial(instructions, requests=requests, valgrind=valgrind)
        totals = dict(zip(runs, pool.map(lambda run: count(*run), runs), strict=True))

    def each(app: str, method: str) -> float:
        return (totals[app, method, 2] - totals[app, method, 1]) / requests

    return {method: Cost(each("bare", method), each("protected", method)) for method in METHODS}


def instructions(app: str, method: str, share: int, *, requests: int, valgrind: str) -> int:
    """Return the instructions of a whole Python that serves `share * requests` requests and ends.

    Raises:
        RuntimeError: It ended with an error, or callgrind told no total.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        log = Path(directory, "callgrind.log")
        tool = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}"]
        _run([*tool, *_command(app, method, share * requests, 2 * requests)])
        collected = _COLLECTED.search(log.read_text(errors="replace"))
    if collected is None:
        raise RuntimeError("callgrind told no total")
    return int(collected[1])


def serve(app_name: str, method: str, count: int, made: int) -> None:
    """Serve `count` of `made` requests in this process: what callgrind counts.

    All are made whatever the count, so that making them is part of the start and cancels out.

    Raises:
        load.WrongAnswerError: The app refuses an honest request, or the wrong one takes a hostile one.
    """
    # Neither answer depends on the cookie in the bare app, so there the plain GET costs the same.
    app: Callable[..., Any] = pass_profile.bare
    requests = pass_profile.REQUESTS | {"SIGNED_GET": pass_profile.REQUESTS["GET"]}
    if app_name != "bare":
        app, requests["SIGNED_GET"] = pass_profile.protected()
        require_guarded(app, requests["SIGNED_GET"])
    elif answer_to(app, HOSTILE)["status"] != 200:
        raise load.WrongAnswerError("the bare app refuses a hostile request")
    batch = pass_profile.scopes(requests[method.upper()], WARM_UP + made)
    # The collector must not walk all requests that still wait: a server never holds so many.
    gc.collect()
    gc.freeze()
    pass_profile.run(app, batch[: WARM_UP + count])


def require_guarded(app: Callable[..., Any], signed_get: bytes) -> None:
    """Make sure that the protected app protects and knows who is signed in, else there is nothing to count.

    Raises:
        load.WrongAnswerError: It takes a hostile request, or doesn't recognise who is signed in.
    """
    status = answer_to(app, HOSTILE)["status"]
    if status != 403:
        raise load.WrongAnswerError(f"the protected app answers {status} to a hostile request")
    for request, is_known in ((signed_get, True), (pass_profile.REQUESTS["GET"], False)):
        fields = answer_to(app, request)["headers"]
        if ((b"cache-control", b"no-store") in fields) is not is_known:
            raise load.WrongAnswerError(f"signed in: {is_known}, and yet the answer has the fields {fields}")


def answer_to(app: Callable[..., Any], request: bytes) -> Mapping[str, Any]:
    """Return the first message of an app's answer."""
    messages: list[Any] = []

    async def keep(message: Any) -> None:
        messages.append(message)

    async def ask() -> None:
        await app(pass_profile.scopes(request, 1)[0], pass_profile.receive, keep)

    asyncio.run(ask())
    return cast("Mapping[str, Any]", messages[0])


def table(costs: Mapping[str, Cost], accepted: Mapping[str, float]) -> str:
    """Return the costs as text for people."""
    lines = ["method      bare     protected  measured  accepted  verdict"]
    for method, cost in costs.items():
        known = accepted.get(method)
        told = "-         -" if known is None else f"{known:<8.4f}  {verdict(cost.value, known)}"
        lines.append(f"{method:<10}  {cost.bare:<7.0f}  {cost.protected:<9.0f}  {cost.value:<8.4f}  {told}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, compare; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare what the pass costs with what was accepted.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="N: served once and twice as many")
    parser.add_argument("--write", action="store_true", help="record the present values as accepted")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, metavar="FILE", help="default: gate.json")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        app, method, count, made = options.serve
        serve(app, method, int(count), int(made))
        return 0
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return not_run("no valgrind: install the Debian package valgrind", fails=options.write or _in_ci())
    every = json.loads(options.accepted.read_text()) if options.accepted.exists() else {}
    if PYTHON not in every and not options.write:
        return not_run(f"no accepted value for Python {PYTHON}", fails=_in_ci() and not every)
    costs = measure(options.requests, valgrind)
    if options.write:
        every[PYTHON] = {method: round(cost.value, 4) for method, cost in costs.items()}
        options.accepted.write_text(json.dumps(every, indent=2, sort_keys=True) + "\n")
    return report(costs, every[PYTHON], as_json=options.json)


def report(costs: Mapping[str, Cost], accepted: Mapping[str, float], *, as_json: bool) -> int:
    """Print the costs and how they stand; return 1 if one is dearer than accepted, else 0.

    In CI a value for which none was accepted fails too.
    """
    values = {method: cost.value for method, cost in costs.items()}
    print(
        f"Python {platform.python_version()}, {platform.machine()}; instructions for one request", end="\n\n"
    )
    print(table(costs, accepted), *remarks(values, accepted), sep="\n")
    if as_json:
        print(json.dumps({method: round(value, 4) for method, value in values.items()}))
    known = values.keys() & accepted.keys()
    is_dearer = any(verdict(values[name], accepted[name]) == "dearer" for name in known)
    return int(is_dearer or (_in_ci() and known != values.keys()))


def not_run(reason: str, *, fails: bool) -> int:
    """Say that nothing was compared, and return the exit status."""
    print(f"NOT RUN: {reason}")
    return int(fails)


def _in_ci() -> bool:
    return os.environ.get("CI") == "true"


def _command(app: str, method: str, count: int, made: int) -> list[str]:
    return [sys.executable, __file__, "--serve", app, method, str(count), str(made)]


def _run(command: list[str]) -> None:
    """Run this file in an empty directory, in production mode; of the caller's PYTHON* only the path."""
    environment = {
        name: value
        for name, value in harness.production_environment().items()
        if name == "PYTHONPATH" or not name.startswith("PYTHON")
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as empty:
        done = subprocess.run(
            command,
            env=environment | _FIXED,
            cwd=empty,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
