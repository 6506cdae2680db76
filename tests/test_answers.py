"""What we say ourselves: problem details for programs, a page that loads nothing for people."""

import ast
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asking import Answered, ask, request_facts
from package import SOURCE, denials
from thebes import ConfigurationError, Security
from thebes.answers import PROBLEM_TYPE, render
from thebes.facts import Denial

PROBLEMS_PAGE = Path(__file__).parents[1] / "docs" / "problems.md"
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
CANARY = "canary-4f9a1c"


def kinds_in_the_source() -> set[str]:
    """Return the kind of every denial that the source makes, those made on the way too."""
    return {
        ast.literal_eval(node.args[1])  # fails where a kind is no literal
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Denial"
    }


DENIALS = denials()
DENIALS_BY_KIND = {denial.kind: denial for denial in DENIALS.values()}
EACH_DENIAL = [pytest.param(denial, id=name) for name, denial in DENIALS.items()]


def text_of(page: bytes) -> str:
    """Return what a person reads on a page."""
    return html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", page.decode(), flags=re.DOTALL))


@pytest.mark.requirement("HTTP-10")
class TestProblemDetails:
    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_a_program_gets_type_title_status_and_what_it_can_do(self, denial: Denial):
        facts = request_facts()

        rendered = render(denial, facts)

        expected: dict[str, Any] = {"type": f"urn:thebes:problem:{denial.kind}", "title": denial.title}
        expected |= {"status": denial.status} | ({"detail": denial.detail} if denial.detail else {})
        assert json.loads(rendered.body) == expected | {"request_id": facts.request_id}
        assert rendered.status == denial.status
        assert dict(rendered.headers)[b"content-type"] == b"application/problem+json"

    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_a_navigation_gets_a_page_that_says_the_same(self, denial: Denial):
        facts = request_facts(headers=NAVIGATE)

        rendered = render(denial, facts)

        text = text_of(rendered.body)
        assert dict(rendered.headers)[b"content-type"] == b"text/html; charset=utf-8"
        assert rendered.status == denial.status
        assert denial.title in text
        assert denial.detail in text
        assert facts.request_id in text

    def test_a_form_that_a_person_sent_gets_the_page_too(self):
        rendered = render(DENIALS_BY_KIND["cross-origin"], request_facts("POST", "/", NAVIGATE))

        assert dict(rendered.headers)[b"content-type"].startswith(b"text/html")

    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_the_hint_for_the_log_is_not_told_to_clients(self, denial: Denial):
        marked = Denial(denial.status, denial.kind, denial.title, denial.detail, denial.headers, CANARY)

        for headers in ({}, NAVIGATE):
            rendered = render(marked, request_facts(headers=headers))
            assert CANARY.encode() not in rendered.body
            assert CANARY not in repr(rendered.headers)

    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_further_fields_of_a_denial_are_sent(self, denial: Denial):
        for headers in ({}, NAVIGATE):
            assert set(denial.headers) <= set(render(denial, request_facts(headers=headers)).headers)

    @pytest.mark.parametrize("kind", sorted(kinds_in_the_source() | set(DENIALS_BY_KIND)))
    def test_each_kind_is_documented(self, kind: str):
        page = PROBLEMS_PAGE.read_text(encoding="utf-8")

        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind)
        assert f"{PROBLEM_TYPE}{kind}" in page or f"`{kind}`" in page

    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_nothing_of_it_is_cached_sniffed_framed_or_scripted(self, denial: Denial):
        for headers in ({}, NAVIGATE):
            fields = dict(render(denial, request_facts(headers=headers)).headers)
            assert fields[b"cache-control"] == b"no-store"
            assert fields[b"x-content-type-options"] == b"nosniff"
            assert fields[b"x-frame-options"] == b"DENY"
            assert b"default-src 'none'" in fields[b"content-security-policy"]
            assert b"frame-ancestors 'none'" in fields[b"content-security-policy"]


class Broken(Exception):
    """What an app raises with all that nobody may see."""


def fail(request: Any) -> Any:
    path = __file__
    raise Broken(f"SELECT secret FROM users WHERE password = '{CANARY}' -- {path}")


def starlette_app() -> Any:
    return Starlette(routes=[Route("/fail", fail, methods=["GET", "HEAD", "POST"])])


def fastapi_app() -> Any:
    app = FastAPI()
    app.add_api_route("/fail", lambda: fail(None), methods=["GET", "HEAD", "POST"])
    return app


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    fail(None)


@pytest.mark.requirement("HTTP-10")
class TestUncaughtExceptions:
    @pytest.fixture(params=["starlette", "fastapi", "wrapped router", "wrapped bare"])
    def app(self, request: pytest.FixtureRequest) -> Any:
        security = Security()
        made = {
            "starlette": lambda: security.protect(starlette_app()),
            "fastapi": lambda: security.protect(fastapi_app()),
            "wrapped router": lambda: security.wrap(bare_router()),
            "wrapped bare": lambda: security.wrap(bare_app),
        }
        return made[request.param]()

    @pytest.mark.parametrize("headers", [{}, NAVIGATE], ids=["a program", "a page"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_they_say_type_title_status_and_request_id_only(
        self, app: Any, method: str, headers: dict[str, str]
    ):
        answer = await failing(app, method, headers)

        assert answer.status == 500
        if headers:
            words = "Internal server error Internal server error The error was written to the log. Status 500 · Request"
            assert text_of(answer.body).split()[:-1] == words.split()
        else:
            problem = json.loads(answer.body)
            assert set(problem) == {"type", "title", "status", "request_id"}
            assert problem["type"] == "urn:thebes:problem:internal-error"
            assert (problem["title"], problem["status"]) == ("Internal server error", 500)

    @pytest.mark.parametrize("headers", [{}, NAVIGATE], ids=["a program", "a page"])
    async def test_they_show_nothing_of_the_inside(self, app: Any, headers: dict[str, str]):
        answer = await failing(app, "GET", headers)

        seen = answer.body.decode() + repr(answer.headers)
        for secret in (CANARY, "SELECT", "users", "Broken", "Traceback", "Error(", __file__, "test_answers"):
            assert secret not in seen

    async def test_the_full_error_travels_on_to_the_servers_log(self, app: Any):
        with pytest.raises(Broken, match=CANARY):
            await ask(app, request_facts("GET", "/fail"))


@pytest.mark.requirement("HTTP-10")
@pytest.mark.parametrize("headers", [{}, NAVIGATE], ids=["a program", "a page"])
async def test_an_app_that_is_not_configured_says_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, headers: dict[str, str]
):
    monkeypatch.setenv("THEBES_ENV", "production")
    monkeypatch.delenv("THEBES_SECRET_KEYS", raising=False)
    monkeypatch.chdir(tmp_path)
    app = Security().protect(starlette_app())

    async def swallowing(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ConfigurationError, match="THEBES_SECRET_KEYS"):
            await app(scope, receive, send)

    answer = await ask(swallowing, request_facts("GET", "/fail", headers))

    assert answer.status == 500
    assert b"THEBES" not in answer.body
    assert b"hosts" not in answer.body
    if headers:
        assert "The service is not configured" in text_of(answer.body)
    else:
        problem = json.loads(answer.body)
        assert set(problem) == {"type", "title", "status", "request_id"}
        assert problem["type"] == "urn:thebes:problem:misconfigured"


def bare_router() -> Any:
    """Return an app whose exceptions reach the pass: no framework answers them first."""
    inner = starlette_app()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner.router(scope | {"app": inner}, receive, send)

    return app


async def failing(app: Any, method: str, headers: dict[str, str]) -> Answered:
    """Return what was sent although the exception travels on."""
    kept: list[Any] = []

    async def swallowing(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Broken as error:
            kept.append(error)

    answer = await ask(swallowing, request_facts(method, "/fail", headers))
    assert kept, "the exception didn't travel on"
    return answer


@pytest.mark.requirement("HTTP-10")
class TestErrorsOfTheApp:
    @pytest.fixture
    def app(self) -> Any:
        app = FastAPI()

        @app.get("/teapot")
        def teapot() -> None:
            raise HTTPException(418, detail={"mine": True}, headers={"X-Mine": "1"})

        @app.get("/down")
        def down() -> JSONResponse:
            return JSONResponse({"mine": "down"}, 503)

        @app.get("/number")
        def number(count: int) -> int:
            return count

        @app.get("/broken")
        def broken() -> None:
            raise KeyError("mine")

        @app.exception_handler(KeyError)
        def handle(request: Request, error: KeyError) -> PlainTextResponse:
            return PlainTextResponse("mine", 500)

        return Security().protect(app)

    @pytest.mark.parametrize(
        ("target", "status", "body"),
        [
            ("/teapot", 418, b'{"detail":{"mine":true}}'),
            ("/down", 503, b'{"mine":"down"}'),
            ("/broken", 500, b"mine"),
            ("/nowhere", 404, b'{"detail":"Not Found"}'),
        ],
    )
    @pytest.mark.parametrize("headers", [{}, NAVIGATE], ids=["a program", "a page"])
    async def test_their_bodies_are_left_alone(
        self, app: Any, target: str, status: int, body: bytes, headers: dict[str, str]
    ):
        answer = await ask(app, request_facts("GET", target, headers))

        assert (answer.status, answer.body) == (status, body)
        assert answer.header(b"content-length") == b"%d" % len(body)

    async def test_what_the_framework_says_of_bad_parameters_is_left_alone(self, app: Any):
        answer = await ask(app, request_facts("GET", "/number"))

        assert answer.status == 422
        assert json.loads(answer.body)["detail"][0]["loc"] == ["query", "count"]

    async def test_its_own_handler_for_all_exceptions_is_left_alone(self):
        async def mine(request: Request, error: Exception) -> PlainTextResponse:
            return PlainTextResponse("mine", 500)

        routes = [Route("/fail", fail)]
        app = Security().protect(Starlette(routes=routes, exception_handlers={Exception: mine}))

        answer = await failing(app, "GET", {})

        assert (answer.status, answer.body) == (500, b"mine")
