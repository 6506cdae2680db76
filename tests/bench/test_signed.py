"""What is measured as signed in is signed in, and what is measured as a sign-in is one, else the run ends."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the CPU clock of a process is Linux's"),
]

BENCH = Path(__file__).parents[2] / "bench"
TINY = ("--pairs", "1", "--rounds", "1", "--requests", "16")
FORGED = "__Host-thebes-session=e30.e30.e30"


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """Return the modules of bench/ by their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        names = ("harness", "load", "members", "pairs", "signed")
        yield {name: importlib.import_module(name) for name in names}


@pytest.fixture(scope="module")
def protected(bench: dict[str, ModuleType]) -> Iterator[Any]:
    """Return a protected server that knows two people by their cookies and one by a password."""
    wanted = bench["members"].Wanted(cookies=2, passwords=1)
    core = min(os.sched_getaffinity(0))
    with bench["harness"].Server("fastapi", protected=True, core=core, wanted=wanted) as server:
        yield server


def exchange(bench: dict[str, ModuleType], port: int, conversation: Any) -> None:
    """Ask once and hear the answer."""
    with conversation.open(port) as connection:
        conversation.ask(connection)
        conversation.hear(connection)


class TestSignedIn:
    def test_each_of_several_people_is_recognised_in_turn(self, bench: dict[str, ModuleType], protected: Any):
        cookies = protected.members.cookies
        signed_in = bench["pairs"].signed_in(bench["signed"].FASTAPI_GET, cookies, is_recognised=True)

        assert len(set(cookies)) == 2
        for _ in range(3):
            exchange(bench, protected.port, signed_in)

    @pytest.mark.parametrize("cookie", [FORGED, "", "__Host-thebes-refresh=x"])
    def test_whoever_is_not_recognised_ends_the_run(
        self, bench: dict[str, ModuleType], protected: Any, cookie: str
    ):
        signed_in = bench["pairs"].signed_in(bench["signed"].FASTAPI_GET, [cookie], is_recognised=True)

        with pytest.raises(bench["load"].WrongAnswerError):
            exchange(bench, protected.port, signed_in)

    def test_a_server_without_the_package_gets_the_same_request_and_shows_nothing(
        self, bench: dict[str, ModuleType], protected: Any
    ):
        make, get = bench["pairs"].signed_in, bench["signed"].FASTAPI_GET
        cookies = protected.members.cookies
        core = min(os.sched_getaffinity(0))
        with bench["harness"].Server("fastapi", protected=False, core=core) as bare:
            exchange(bench, bare.port, make(get, cookies, is_recognised=False))
            with pytest.raises(bench["load"].WrongAnswerError):
                exchange(bench, bare.port, make(get, cookies, is_recognised=True))

    def test_the_cookie_stands_among_the_fields_of_the_browser_and_before_those_of_the_proxy(
        self, bench: dict[str, ModuleType]
    ):
        request = bench["load"].with_field(bench["signed"].FASTAPI_POST.request, "Cookie", "a=b")

        names = [line.partition(b":")[0] for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")]
        assert names[-4:] == [b"Accept-Language", b"Cookie", b"X-Forwarded-For", b"X-Forwarded-Proto"]
        assert request.endswith(b"\r\n\r\n" + bench["signed"].BODY)


class TestSignIns:
    def test_a_right_password_signs_in_and_a_wrong_one_does_not(
        self, bench: dict[str, ModuleType], protected: Any
    ):
        signed = bench["signed"]
        request = signed.sign_in(protected.members.emails[0])

        signed.refuse_wrong_password(protected.port, request)

        assert b"\r\nCookie: __Host-thebes-device=" in signed.known_device(protected.port, request)

    def test_a_server_that_takes_any_password_ends_the_run(
        self, bench: dict[str, ModuleType], protected: Any
    ):
        signed = bench["signed"]

        with pytest.raises(bench["load"].WrongAnswerError, match="wrong password is answered by 200"):
            signed.refuse_wrong_password(protected.port, signed.FASTAPI_GET.request)

    def test_a_sign_in_of_nobody_ends_the_run(self, bench: dict[str, ModuleType], protected: Any):
        signed = bench["signed"]

        with pytest.raises(bench["load"].WrongAnswerError, match="a sign-in failed"):
            signed.known_device(protected.port, signed.sign_in("nobody@example.com"))


@pytest.mark.parametrize(
    ("is_protected", "path", "told"),
    [
        pytest.param(True, b"/notes?page=7", "the protected server answers 200", id="protected"),
        pytest.param(False, b"/nowhere", "the bare server answers 404", id="bare"),
    ],
)
def test_a_server_that_treats_a_hostile_request_as_the_other_should_ends_the_run(
    bench: dict[str, ModuleType], is_protected: bool, path: bytes, told: str
):
    signed, pairs = bench["signed"], bench["pairs"]
    hostile = signed.FASTAPI_GET.request.replace(b"/notes?page=7", path)
    scenario = pairs.Scenario(app="fastapi", aim=1.0, conversation=signed.FASTAPI_GET, hostile=hostile)
    core = min(os.sched_getaffinity(0))
    with (
        bench["harness"].Server("fastapi", protected=is_protected, core=core) as server,
        pytest.raises(bench["load"].WrongAnswerError, match=told),
    ):
        pairs.warm_cost(scenario, server, [], 8)


def test_rounds_that_are_measured_one_by_one_swap_their_order_too(bench: dict[str, ModuleType]):
    order: list[str] = []
    rounds = bench["harness"].Rounds()
    for _ in range(3):
        rounds.measure(1, above=lambda: order.append("a") or 1.0, below=lambda: order.append("b") or 1.0)

    assert order == ["a", "b", "b", "a", "a", "b"]


@pytest.mark.parametrize(
    ("file", "name", "aim"),
    [
        pytest.param("signed.py", "signed_get_ratio_fastapi", ">= 0.87", id="signed in"),
        pytest.param("bearer.py", "bearer_miss_vs_raw_es256", "<= 1.30", id="bearer"),
    ],
)
def test_each_file_runs_alone_and_shows_the_aim(file: str, name: str, aim: str):
    done = subprocess.run(
        [sys.executable, str(BENCH / file), *TINY, "--only", name],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )

    assert done.returncode == 0, done.stderr
    assert f"{name}  {aim}" in done.stdout
