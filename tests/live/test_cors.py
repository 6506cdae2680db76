"""Attack CORS: make an answer name an origin that nobody configured."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from attack import HTTPS, PLAIN, Answered, Served, protecting
from board import make_board
from thebes import ConfigurationError, Security

PARTNER = "https://app.partner.example"
ALLOW = "access-control-allow-origin"
CREDENTIALS = "access-control-allow-credentials"
FOREIGN = [
    "https://evil.example",
    "null",
    "https://app.partner.example.evil.example",
    "https://evilapp.partner.example",
    "https://x.app.partner.example",
    "https://partner.example",
    "https://app-partner.example",
    "http://app.partner.example",
    "https://app.partner.example:8443",
    "https://app.partner.example:443",
    "https://APP.PARTNER.EXAMPLE",
    "https://app.partner.example/",
    "https://app.partner.example, https://app.partner.example",
    "https://app.partner.example https://evil.example",
    "*",
    "",
]
REQUESTS = {
    "a read": ("GET", "/notes", ()),
    "a page": ("GET", "/page", ()),
    "a stream": ("GET", "/stream", ()),
    "an error of the app": ("GET", "/own-error", ()),
    "an uncaught exception": ("GET", "/crash", ()),
    "a preflight": ("OPTIONS", "/notes", (("Access-Control-Request-Method", "PUT"),)),
    "a forged write": ("POST", "/notes", (("Sec-Fetch-Site", "cross-site"), ("Cookie", "session=1"))),
    "an undeclared coding": ("PUT", "/notes", (("Content-Encoding", "br"),)),
}


def preflight(served: Served, origin: str, *fields: tuple[str, str], **options: Any) -> Answered:
    asked = [("Origin", origin), ("Access-Control-Request-Method", "PUT"), *fields]
    return served.ask("OPTIONS", "/notes", asked, **options)


def board_with_cors() -> FastAPI:
    """A board that had CORS before it was protected, for everybody."""
    app = make_board()
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"])
    return app


@pytest.fixture(scope="module")
def with_own_cors() -> Iterator[Served]:
    """The board with CORS of its own, and an origin configured with us."""
    with protecting(board_with_cors(), origins=[PARTNER]) as served:
        yield served


@pytest.fixture(scope="module")
def twin() -> Iterator[Served]:
    """The same board without our CORS."""
    with protecting(board_with_cors(), without=["cors"]) as served:
        yield served


@pytest.fixture(scope="module")
def without_origins() -> Iterator[Served]:
    """A board for its own pages only: the default."""
    with protecting(make_board()) as served:
        yield served


@pytest.mark.requirement("CSR-09", by="live")
class TestAnswers:
    @pytest.mark.parametrize(("method", "target", "fields"), REQUESTS.values(), ids=REQUESTS)
    def test_name_a_configured_origin_exactly(self, production, method, target, fields):
        answer = production.ask(method, target, [("Origin", PARTNER), *fields])
        assert answer.only(ALLOW) == PARTNER
        assert answer.only(CREDENTIALS) == "true"
        assert answer.every("vary") == ["Origin"]

    @pytest.mark.parametrize("origin", FOREIGN)
    @pytest.mark.parametrize(("method", "target", "fields"), REQUESTS.values(), ids=REQUESTS)
    def test_name_no_other_origin_and_reflect_nothing(self, production, method, target, fields, origin):
        answer = production.ask(method, target, [("Origin", origin), *fields])
        assert [name for name, _ in answer.fields if name.startswith("access-control-")] == []
        assert answer.every("vary") == ["Origin"]

    @pytest.mark.parametrize("hosts", [[("Host", "evil.example"), HTTPS], [("Host", "example.com"), PLAIN]])
    def test_of_the_first_checks_are_readable_for_a_configured_origin_only(self, production, hosts):
        ours = production.ask("GET", "/notes", [("Origin", PARTNER)], base=hosts)
        theirs = production.ask("GET", "/notes", [("Origin", "https://evil.example")], base=hosts)
        assert (ours.only(ALLOW), theirs.every(ALLOW)) == (PARTNER, [])
        assert theirs.every("vary") == ["Origin"]

    def test_to_a_request_of_no_origin_vary_too(self, production):
        answer = production.ask("GET", "/notes")
        assert (answer.every(ALLOW), answer.every("vary")) == ([], ["Origin"])

    def test_vary_where_the_app_varies_by_a_field_with_a_similar_name(self):
        app = FastAPI()

        @app.middleware("http")
        async def vary(request, call_next):
            response = await call_next(request)
            response.headers["vary"] = "X-Original-Host"
            return response

        with protecting(app, origins=[PARTNER]) as served:
            answer = served.ask("GET", "/nowhere", [("Origin", PARTNER)])
        assert answer.every("vary") == ["X-Original-Host", "Origin"]

    def test_without_configured_origins_name_nobody(self, without_origins):
        for origin in (PARTNER, *FOREIGN):
            answer = without_origins.ask("GET", "/notes", [("Origin", origin)])
            assert [name for name, _ in answer.fields if name.startswith("access-control-")] == []


class TestPreflights:
    def test_of_a_configured_origin_are_answered(self, production):
        answer = preflight(
            production, PARTNER, ("Access-Control-Request-Headers", "content-type,x-csrf-token")
        )
        assert (answer.status, answer.body) == (204, b"")
        assert answer.only(ALLOW) == PARTNER
        assert answer.only("access-control-allow-methods") == "GET, HEAD, POST, PUT, PATCH, DELETE"
        assert answer.only("access-control-allow-headers") == "content-type,x-csrf-token"
        assert answer.only("access-control-max-age") == "600"

    @pytest.mark.parametrize("asked", ["a b", "content-type; a", '"a"', "a,,b"])
    def test_echo_nothing_that_is_no_list_of_names(self, production, asked):
        answer = preflight(production, PARTNER, ("Access-Control-Request-Headers", asked))
        assert answer.status == 204
        assert answer.every("access-control-allow-headers") == []

    @pytest.mark.parametrize("origin", FOREIGN)
    def test_of_other_origins_are_not_answered_by_us(self, production, origin):
        production.forget()
        answer = preflight(production, origin)
        assert production.reached == ["OPTIONS /notes"]
        assert answer.every("access-control-allow-methods") == []

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_cannot_make_a_write_look_like_one(self, production, method):
        forged = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "PUT")]
        assert production.ask(method, "/notes", forged).kind == "cross-origin"
        assert production.reached == []

    def test_need_the_check(self):
        with protecting(make_board(), origins=[PARTNER], without=["cors"]) as served:
            assert preflight(served, PARTNER).every(ALLOW) == []
            assert served.ask("GET", "/notes", [("Origin", PARTNER)]).every("vary") == []


class TestAnAppWithCorsOfItsOwn:
    @pytest.mark.parametrize("origin", [PARTNER, "https://other.example"])
    @pytest.mark.parametrize("cookie", [[], [("Cookie", "a=1")]])
    def test_keeps_its_answers_and_gets_no_second_field(self, with_own_cors, twin, origin, cookie):
        own, answer = (
            served.ask("GET", "/notes", [("Origin", origin), *cookie]) for served in (twin, with_own_cors)
        )
        assert len(answer.every(ALLOW)) == 1
        for name in (ALLOW, CREDENTIALS):
            assert answer.every(name) == own.every(name)

    @pytest.mark.parametrize("origin", [PARTNER, "https://other.example"])
    def test_answers_preflights_itself(self, with_own_cors, twin, origin):
        own, answer = (preflight(served, origin) for served in (twin, with_own_cors))
        assert answer.status == own.status == 200
        for name in (ALLOW, "access-control-allow-methods", "access-control-max-age"):
            assert answer.every(name) == own.every(name)

    def test_is_still_protected_from_forged_requests(self, with_own_cors):
        answer = with_own_cors.ask("POST", "/notes", [("Origin", "https://evil.example")], body=b"a=1")
        assert answer.kind == "cross-origin"


@pytest.mark.parametrize("origin", ["*", "null", "https://*.partner.example", "http://app.partner.example"])
def test_what_would_allow_more_than_one_origin_cannot_be_configured(origin):
    with pytest.raises(ConfigurationError, match="origins"):
        Security(origins=[origin])
