"""Where the pass spends its time, function by function, without a server.

Run `python bench/pass_profile.py`. It feeds browser requests straight into a protected ASGI app that
answers at once, prints the cost of the pass for each, and then profiles it.

Do not read these microseconds as the cost in a live server: here all caches are warm, and there the
same code costs two to three times as much (bench/overhead.py measures that). The shares are
what counts, and what a change does to them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import harness
import load
import members

BATCH = 2_000
BODY = b'{"stars":7}'
REQUESTS = {
    "GET": load.navigation("/notes"),
    "POST": load.fetch("/notes", BODY, site="same-origin", origin=load.OWN_ORIGIN),
}
SIGNED_GET = "SIGNED-GET"
HEADERS = [(b"content-length", b"2"), (b"content-type", b"application/json")]


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Read a body where there is one, and answer with a little JSON."""
    if scope["method"] == "POST":
        await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})


async def receive() -> dict[str, object]:
    """Return the whole body at once, as a server does with a small one."""
    return {"type": "http.request", "body": BODY, "more_body": False}


async def send(message: dict[str, object]) -> None:
    """Take the answer. It ends the run if the pass refuses what it should let through."""
    if message.get("status", 200) != 200:
        raise load.WrongAnswerError(f"the protected app answers {message}")


def scopes(request: bytes, count: int) -> list[dict[str, object]]:
    """Return ASGI scopes of one request, each with bytes of its own, as a server makes them."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, path, _ = lines[0].decode().split(" ")
    fields = [line.split(b": ", 1) for line in lines[1:]]
    return [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50000),
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(fresh(name.lower()), fresh(value)) for name, value in fields],
            "state": {},
        }
        for _ in range(count)
    ]


def fresh(value: bytes) -> bytes:
    """Return a copy that has yet to be hashed, as everything is that has just been parsed."""
    return bytes(bytearray(value))


def run(app: Any, batch: list[dict[str, object]]) -> None:
    """Serve each scope to its end, one after the other, in an event loop that nothing in them waits for."""
    asyncio.run(_served(app, batch))


async def _served(app: Any, batch: list[dict[str, object]]) -> None:
    for scope in batch:
        try:
            app(scope, receive, send).send(None)
        except StopIteration:
            continue
        raise RuntimeError("the app waited for something")


def cost_us(app: Any, request: bytes) -> float:
    """Return the CPU time of one request in microseconds."""
    batch = scopes(request, BATCH)
    before = time.process_time_ns()
    run(app, batch)
    return (time.process_time_ns() - before) / BATCH / 1000


def protected() -> tuple[Callable[..., Any], bytes]:
    """Return the bare app behind the pass, with every check on, and the GET of somebody signed in to it.

    The mode, keys and store are those of the environment. The pass has started, in the working directory.
    """
    from thebes import Security

    security = Security(hosts=["localhost"], proxies=["127.0.0.1/32"], limits=harness.UNREACHED_LIMIT)
    app: Any = security.wrap(bare)

    async def ask(request: bytes) -> None:
        await app(scopes(request, 1)[0], receive, send)

    asyncio.run(ask(REQUESTS["GET"]))  # the first request has to wait: the store is opened
    cookie = asyncio.run(members.cookie_of(security.membership, "reader"))
    return app, load.with_field(REQUESTS["GET"], "Cookie", cookie)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the cost of each kind of request, and the profile of one."""
    parser = argparse.ArgumentParser(description="Where the pass spends its time.")
    parser.add_argument("--requests", type=int, default=100_000, help="to profile")
    parser.add_argument("--method", choices=[*REQUESTS, SIGNED_GET], default="GET", help="which to profile")
    parser.add_argument("--lines", type=int, default=20, help="of the profile to print")
    options = parser.parse_args(arguments)

    os.environ.update(harness.production_environment())
    # The pass looks for a .env where it starts, and makes its store there.
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        app, signed_get = protected()
    requests = REQUESTS | {SIGNED_GET: signed_get}
    for method, request in requests.items():
        rounds = harness.Rounds()
        rounds.measure(
            max(3, options.requests // BATCH // 2),
            above=partial(cost_us, app, request),
            below=partial(cost_us, bare, request),
        )
        cost = statistics.median(rounds.above) - statistics.median(rounds.below)
        print(f"{method}: {cost:.2f} us of CPU in the pass, all caches warm")
    profile = cProfile.Profile()
    for _ in range(max(1, options.requests // BATCH)):
        batch = scopes(requests[options.method], BATCH)
        profile.enable()
        run(app, batch)
        profile.disable()
    statistic = pstats.Stats(profile, stream=sys.stdout).strip_dirs().sort_stats("tottime")
    statistic.print_stats(options.lines)


if __name__ == "__main__":
    main()
