"""Look for an endpoint that no limit covers: the default counts them all, but for a route that is named."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from asking import request_facts
from attack import Answered, Fields, Served, named_client, protecting
from board import make_board
from live import PATIENCE_SECONDS, eventually
from thebes import ConfigurationError, Security
from thebes.assembly import assemble
from thebes.events import Events
from thebes.facts import Mode, Surroundings
from thebes.paths import RoutePattern, RouteTable
from thebes.ratelimit import RateLimits
from thebes.settings import Settings

NONE = ("Sec-Fetch-Site", "none")
DEEP = "/deep" + "/in" * 12
ENDPOINTS = [
    ("GET", "/page"),
    ("HEAD", "/page"),
    ("POST", "/page"),
    *((method, "/notes") for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
    ("GET", "/moved"),
    ("GET", "/numbered?number=1"),
    ("GET", "/numbered?number=x"),
    ("GET", "/own-error"),
    ("POST", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/nowhere"),
    ("GET", "/page/"),
    ("GET", "//page"),
    ("GET", "/./page"),
    ("GET", "/page%00"),
    ("PROPFIND", "/page"),
    ("OPTIONS", "*"),
    ("GET", "http://example.com/page"),
    ("GET", "/files/conftest.py"),
    ("GET", "/files/../page"),
    ("GET", f"{DEEP}/end"),
    ("WEBSOCKET", "/socket"),
    ("WEBSOCKET", "/nowhere"),
    ("WEBSOCKET", "/healthz"),
    ("WEBSOCKET", f"{DEEP}/socket"),
]


def make_town() -> FastAPI:
    """Return the board with more ways to reach an endpoint: mounted apps, nested ones, files."""

    async def end(_: Any) -> PlainTextResponse:
        return PlainTextResponse("end")

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    nested = Starlette(routes=[Route("/end", end), WebSocketRoute("/socket", socket)])
    for _ in range(12):
        nested = Starlette(routes=[Mount("/in", nested)])
    app = make_board()
    app.mount("/deep", nested)
    app.mount("/files", StaticFiles(directory=Path(__file__).parent))
    return app


def ask(served: Served, method: str, target: str, client: Fields) -> Answered:
    """Send a request, or a handshake where the method is WEBSOCKET."""
    if method == "WEBSOCKET":
        return served.handshake(client, target=target)
    return served.ask(method, target, [*client, NONE])


def drain(served: Served, client: Fields) -> None:
    """Spend what is left of a client's budget, once nothing has been asked for a moment."""
    eventually(lambda: served.ask("GET", "/empty", client).status == 204)


@pytest.fixture(scope="module")
def town() -> Iterator[Served]:
    """The town under the default limit, where one request to one route takes it all; another route is free."""

    def prepare(security: Security) -> None:
        security.route("GET /empty", cost=600)
        security.route("GET /stream", limit=None)

    with protecting(make_town(), limits=None, docs=True, prepare=prepare) as served:
        yield served


@pytest.mark.requirement("RAT-01", by="live")
class TestTheDefault:
    @pytest.mark.parametrize(("method", "target"), ENDPOINTS)
    def test_covers_every_endpoint_without_a_word_about_it(self, town, method, target):
        client = named_client()
        assert ask(town, method, target, client).status != 429
        drain(town, client)

        # Twenty a second come back meanwhile.
        eventually(lambda: ask(town, method, target, client).status == 429)

    def test_lets_a_client_send_six_hundred_at_once_and_twenty_a_second_more(self, town):
        begun = time.monotonic()
        admitted, policy = flood(town, *named_client(), most=100_000)

        assert 600 <= admitted <= 601 + 20 * (time.monotonic() - begun)
        assert policy == '"default";q=600;w=30'

    def test_frees_a_route_that_is_named_and_no_other(self, town):
        client = named_client()
        drain(town, client)

        assert {town.ask("GET", "/stream", client).status for _ in range(50)} == {200}
        eventually(lambda: ask(town, "POST", "/stream", client).status == 429)
        eventually(lambda: ask(town, "GET", "/stream/", client).status == 429)


def flood(served: Served, *fields: tuple[str, str | bytes], most: int) -> tuple[int, str | None]:
    """Send requests until one is refused; return how many were not, and the policy of the refusal."""
    port = int(served.url.rpartition(":")[2])
    with closing(HTTPConnection("localhost", port, timeout=PATIENCE_SECONDS)) as connection:
        for admitted in range(most):
            connection.request("GET", "/moved", headers=dict([*served.base, *fields]))
            response = connection.getresponse()
            response.read()
            if response.status == 429:
                return admitted, response.headers["RateLimit-Policy"]
    return most, None


SEGMENTS = ["free", "files", "a", "", ".", "..", "%2e", "%2f", "FREE", "free%00", "\\", "é", "free;a", "*"]


@pytest.mark.requirement("RAT-01")
class TestTheDefaultInProcess:
    @given(
        st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "get", "BREW"]),
        st.text(min_size=1) | st.lists(st.sampled_from(SEGMENTS)).map(lambda parts: "/" + "/".join(parts)),
    )
    def test_frees_nothing_but_what_is_named_byte_for_byte(self, method, path):
        routes = RouteTable()
        for pattern in ("GET /free", "GET /files/*"):
            routes.declare(RoutePattern.parse(pattern), limit=None)
        check = RateLimits(None, routes=routes.entries(), clock=lambda: 0)
        check.charge(request_facts(), 600)
        raw_path = path.encode("utf-8", "replace")
        facts = request_facts(method, path, raw_path=raw_path, surroundings=Surroundings(routes=routes))

        is_plain = not re.search(r"//|/\.{1,2}(/|\Z)|[%\\\x00-\x1f\x7f-\x9f]", path)
        is_named = path == "/free" or path.startswith("/files/")
        is_free = method in ("GET", "HEAD") and is_named and is_plain
        assert (check(facts) is None) == is_free

    @pytest.mark.parametrize("mode", Mode)
    def test_stands_in_every_plan_that_says_nothing_of_limits(self, mode):
        plan = assemble(Settings(mode=mode, hosts=("example.com",)), RouteTable(), Events())

        assert [check.name for check in plan.checks].count("limits") == 1

    @pytest.mark.parametrize("limits", ["", " ", "none", "off", "0/minute", [], "unlimited"])
    def test_cannot_be_lifted_for_all_routes(self, limits):
        with pytest.raises(ConfigurationError):
            Security(limits=limits)

    @pytest.mark.parametrize("pattern", ["*", "/free", "* /free", "GET *", "GET", "ANY|GET /free", ""])
    def test_is_lifted_only_by_a_method_and_a_path(self, pattern):
        with pytest.raises(ConfigurationError):
            Security().route(pattern, limit=None)

    def test_is_no_check_to_be_exempt_from(self):
        with pytest.raises(ConfigurationError, match="no exemption"):
            Security().exempt("GET /free", "limits", reason="none")


class TestWhereItComesFrom:
    @pytest.mark.parametrize("mode", ["production", "development", "test"])
    def test_the_environment_sets_another_in_each_mode(self, mode, monkeypatch):
        monkeypatch.setenv("THEBES_LIMITS", "2/day")
        with protecting(make_board(), mode=mode, limits=None) as served:
            assert [served.ask().status for _ in range(3)] == [200, 200, 429]

    def test_it_holds_in_development_too(self):
        def prepare(security: Security) -> None:
            security.route("GET /empty", cost=600)

        with protecting(make_board(), mode="development", limits=None, prepare=prepare) as served:
            assert [served.ask("GET", "/empty").status for _ in range(2)] == [204, 429]

    def test_a_test_suite_is_not_held_up_by_it(self):
        def prepare(security: Security) -> None:
            security.route("GET /empty", cost=5000)  # of the real default this would be no possible cost

        with protecting(make_board(), mode="test", limits=None, prepare=prepare) as served:
            assert {served.ask("GET", "/empty").status for _ in range(10)} == {204}
