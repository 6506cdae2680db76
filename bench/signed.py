"""What signing in costs, and what being signed in does: the second half of `overhead.py`'s figures.

Run `python bench/signed.py` for these alone; bench/README.md says how to read them. Whoever is signed in
sends what a browser sends after signing in, the session and the refresh cookie; each answer has to show that
its asker was recognised. Sign-ins go over HTTP through the whole of the service: limits, charges in the
database, lanes, a session, three cookies.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import bearer
import harness
import load
import pairs
import passwords
from members import PASSWORD, Wanted

BODY = b'{"title":"seven gates","stars":7,"tags":["stone","bronze"]}'
STARLETTE_GET = load.HttpConversation(
    load.navigation("/notes?page=7"), b'{"notes":["thebes","gates"],"page":"7"}'
)
FASTAPI_GET = load.HttpConversation(
    load.navigation("/notes?page=7"), b'{"notes":["thebes","gates"],"page":7}'
)
FASTAPI_POST = load.HttpConversation(
    load.fetch("/notes", BODY, site="same-origin", origin=load.OWN_ORIGIN), BODY
)
FOREIGN_GET = load.navigation("/notes?page=7", host="attacker.example")
FOREIGN_POST = load.fetch("/notes", BODY, site="cross-site", origin="https://attacker.example")

RATIOS = {
    "signed_get_ratio_starlette": pairs.Scenario(
        app="starlette", aim=0.78, conversation=STARLETTE_GET, hostile=FOREIGN_GET, people=1
    ),
    "signed_get_ratio_fastapi": pairs.Scenario(
        app="fastapi", aim=0.87, conversation=FASTAPI_GET, hostile=FOREIGN_GET, people=1
    ),
    "signed_post_ratio_fastapi": pairs.Scenario(
        app="fastapi", aim=0.85, conversation=FASTAPI_POST, hostile=FOREIGN_POST, people=1
    ),
}
PEOPLE = 1_000
FALLS = {
    "signed_get_fall_starlette": pairs.Scenario(
        app="starlette", aim=0.03, conversation=STARLETTE_GET, hostile=FOREIGN_GET, people=PEOPLE
    ),
    "signed_get_fall_fastapi": pairs.Scenario(
        app="fastapi", aim=0.03, conversation=FASTAPI_GET, hostile=FOREIGN_GET, people=PEOPLE
    ),
}
ARGON2_SHARE = "argon2_share"
ARGON2_AIM = 0.95
FLOOD_P99 = "flood_p99_ratio"
FLOOD_AIM = 2.0
SIGN_INS = 16  # under way at once, each by somebody else
MAX_SIGN_IN_ROUNDS = 10  # each takes seconds, and tells two things that differ by much more than noise
PROBE_PAUSE_S = 0.001
DEVICE = re.compile(rb"__Host-thebes-device=[^;]+")
NAMES = (*RATIOS, *FALLS, bearer.NAME, ARGON2_SHARE, FLOOD_P99)


def measure(name: str, effort: pairs.Effort) -> harness.Figure:
    """Return one of the figures.

    Raises:
        KeyError: `name` is not one of `NAMES`.
        load.WrongAnswerError: A server did not answer as it should.
    """
    if name in RATIOS:
        return pairs.measure(name, RATIOS[name], effort)
    if name in FALLS:
        return measure_fall(name, effort)
    return {
        bearer.NAME: bearer.measure,
        ARGON2_SHARE: measure_argon2_share,
        FLOOD_P99: measure_flood,
    }[name](effort)


def measure_fall(name: str, effort: pairs.Effort) -> harness.Figure:
    """Return by how much the ratio of a GET falls when 1,000 people ask in turn and not one alone.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    scenario = FALLS[name]
    bare_ns: list[float] = []
    alone_ns: list[float] = []
    in_turn_ns: list[float] = []
    for number in range(effort.pairs):
        with ExitStack() as stack:
            bare, protected = pairs.started(scenario, effort, stack)
            cookies = protected.members.cookies
            warm = partial(pairs.warm_cost, scenario, requests=effort.requests)
            sides = [
                (bare_ns, warm(bare, cookies)),
                (alone_ns, warm(protected, cookies[:1])),
                (in_turn_ns, warm(protected, cookies)),
            ]
            for _ in range(effort.rounds):
                for costs, cost in sides:
                    costs.append(cost())
                sides.reverse()
        harness.say(f"{name}: pair {number + 1} of {effort.pairs}")
    costs_of_rounds = zip(bare_ns, alone_ns, in_turn_ns, strict=True)
    falls = [bare / alone - bare / in_turn for bare, alone, in_turn in costs_of_rounds]
    bare_us, alone_us, in_turn_us = (
        statistics.median(side) / 1000 for side in (bare_ns, alone_ns, in_turn_ns)
    )
    detail = f"bare {bare_us:.1f} us, alone {alone_us:.1f} us, {PEOPLE} in turn {in_turn_us:.1f} us of CPU"
    return harness.Figure(name, "lower", scenario.aim, falls, detail)


def measure_argon2_share(effort: pairs.Effort) -> harness.Figure:
    """Return sign-ins a second through the service / by Argon2id alone, on the same core, in as many lanes.

    Raises:
        load.WrongAnswerError: A sign-in was refused.
    """
    count = min(effort.pairs * effort.rounds, MAX_SIGN_IN_ROUNDS)
    rounds = harness.Rounds()
    with ExitStack() as stack:
        server = stack.enter_context(_server_for_sign_ins(effort))
        members = server.members
        threads = stack.enter_context(harness.pinned_threads(members.lanes, effort.cores.server))
        crowd = Crowd(server)
        bare = partial(passwords.bare_seconds, threads, members.stored, SIGN_INS)
        bare()
        ours = bare if effort.noise_only else crowd.seconds
        for number in range(count):
            rounds.measure(1, above=bare, below=ours)
            harness.say(f"{ARGON2_SHARE}: round {number + 1} of {count}: {rounds.ratios[-1]:.3f}")
    bare_s, ours_s = (statistics.median(side) for side in (rounds.above, rounds.below))
    detail = f"{1 / ours_s:.2f} sign-ins/s, bare {1 / bare_s:.2f}, lanes: {members.lanes}"
    return harness.Figure(ARGON2_SHARE, "higher", ARGON2_AIM, rounds.ratios, detail)


def measure_flood(effort: pairs.Effort) -> harness.Figure:
    """Return the p99 of a GET while 16 sign-ins are under way / its p99 on an idle server.

    Raises:
        load.WrongAnswerError: A sign-in was refused, or the GET.
    """
    count = min(effort.pairs * effort.rounds, MAX_SIGN_IN_ROUNDS)
    rounds = harness.Rounds()
    with ExitStack() as stack:
        server = stack.enter_context(_server_for_sign_ins(effort))
        crowd = Crowd(server)
        idle = partial(probe_p99_ms, server.port, 4 * effort.requests)

        def flooded() -> float:
            with crowd.under_way():
                return idle()

        idle()
        for number in range(count):
            rounds.measure(1, above=idle if effort.noise_only else flooded, below=idle)
            harness.say(f"{FLOOD_P99}: round {number + 1} of {count}: {rounds.ratios[-1]:.2f}")
    flooded_ms, idle_ms = (statistics.median(side) for side in (rounds.above, rounds.below))
    detail = f"p99 {flooded_ms:.2f} ms during {SIGN_INS} sign-ins, {idle_ms:.2f} ms idle"
    return harness.Figure(FLOOD_P99, "lower", FLOOD_AIM, rounds.ratios, detail)


def probe_p99_ms(port: int, count: int) -> float:
    """Return the time that 99 of 100 GETs take at most, one at a time, a millisecond apart."""
    times = []
    with FASTAPI_GET.open(port) as connection:
        for _ in range(count):
            began = time.perf_counter_ns()
            FASTAPI_GET.ask(connection)
            FASTAPI_GET.hear(connection)
            times.append((time.perf_counter_ns() - began) / 1e6)
            time.sleep(PROBE_PAUSE_S)
    return statistics.quantiles(times, n=100, method="inclusive")[98]


class Crowd:
    """People who sign in again and again, each with a known device, a connection and an account of their own.

    At first they are strangers, and a mail about the new device is due for each; nobody takes it.
    """

    def __init__(self, server: harness.Server) -> None:
        self._port = server.port
        refuse_wrong_password(server.port, sign_in(server.members.emails[0]))
        self._requests = [known_device(server.port, sign_in(email)) for email in server.members.emails]

    def seconds(self) -> float:
        """Return the seconds that one sign-in takes when all come at once."""
        with ExitStack() as stack:
            connections = self._connected(stack)
            began = time.perf_counter()
            self._all_ask(connections)
            for connection in connections:
                require_signed_in(*load.read_answer(connection))
            return (time.perf_counter() - began) / len(connections)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Keep all of them signing in, until the `with` block ends.

        Raises:
            load.WrongAnswerError: A sign-in was refused.
        """
        begun, is_over = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as thread:
            signing_in = thread.submit(self._sign_in, begun, is_over)
            begun.wait(load.TIMEOUT_S)
            try:
                yield
            finally:
                is_over.set()
                signing_in.result()

    def _sign_in(self, begun: threading.Event, is_over: threading.Event) -> None:
        with ExitStack() as stack:
            connections = self._connected(stack)
            self._all_ask(connections)
            begun.set()
            # About in the order in which they are served, so there are hardly ever fewer under way.
            turns = itertools.cycle(zip(connections, self._requests, strict=True))
            for connection, request in turns:
                require_signed_in(*load.read_answer(connection))
                if is_over.is_set():
                    break
                connection.sendall(request)
            # Whoever measures next must find the server idle.
            for connection, _ in itertools.islice(turns, len(connections) - 1):
                require_signed_in(*load.read_answer(connection))

    def _connected(self, stack: ExitStack) -> list[socket.socket]:
        return [stack.enter_context(FASTAPI_GET.open(self._port)) for _ in self._requests]

    def _all_ask(self, connections: Sequence[socket.socket]) -> None:
        for connection, request in zip(connections, self._requests, strict=True):
            connection.sendall(request)


def sign_in(email: str) -> bytes:
    """Return the request by which somebody signs in."""
    body = json.dumps({"email": email, "password": PASSWORD}).encode("ascii")
    return load.fetch("/auth/login", body, site="same-origin", origin=load.OWN_ORIGIN)


def refuse_wrong_password(port: int, request: bytes) -> None:
    """Raise WrongAnswerError unless the same sign-in with another password is refused."""
    right = PASSWORD.encode("ascii")
    status = load.status_of(port, request.replace(right, right[::-1]))
    if status != 401:
        raise load.WrongAnswerError(f"a sign-in with a wrong password is answered by {status}")


def known_device(port: int, request: bytes) -> bytes:
    """Sign in once, and return the request with the cookie of the device that is known by now.

    Raises:
        load.WrongAnswerError: The sign-in was refused.
    """
    head, body = load.answer_of(port, request)
    require_signed_in(head, body)
    device = DEVICE.search(head)
    if device is None:
        raise load.WrongAnswerError(f"signing in set no cookie for the device: {head!r}")
    return load.with_field(request, "Cookie", device[0].decode("ascii"))


def require_signed_in(head: bytes, body: bytes) -> None:
    """Raise WrongAnswerError unless the answer signs somebody in."""
    if not head.startswith(b"HTTP/1.1 200 ") or b"__Host-thebes-session=" not in head:
        raise load.WrongAnswerError(f"a sign-in failed: {head!r} and {body[:300]!r}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and print it."""
    pairs.main(arguments, NAMES, measure, "What being signed in and signing in cost.")


def _server_for_sign_ins(effort: pairs.Effort) -> harness.Server:
    wanted = Wanted(passwords=SIGN_INS)
    return harness.Server("fastapi", protected=True, core=effort.cores.server, wanted=wanted)


if __name__ == "__main__":
    main()
