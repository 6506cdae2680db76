"""An app with sessions of its own (`accounts=None`) gets guards, form tokens, limits and fields by `identify`."""

import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from thebes import ConfigurationError, Security
from thebes.fastapi import CsrfToken, CurrentPrincipal, OptionalPrincipal, requires
from thebes.guards import Principal
from thebes.starlette import csrf_token, current_principal
from thebes.testing import client

# The sessions of the app: what its cookie says, and whose it is.
SESSIONS = {
    "s-ada": Principal(id="1", session_id="s-ada", scopes=frozenset({"notes:write"})),
    "s-bob": Principal(id="2", session_id="s-bob"),
    "s-eve": Principal(id="3", session_id="s-eve", roles=frozenset({"admin"})),
}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


async def who(scope: Mapping[str, Any]) -> Principal | None:
    return SESSIONS.get(HTTPConnection(dict(scope)).cookies.get("session", ""))


def security(identify: Any = who, **settings: Any) -> Security:
    made = Security(accounts=None, session_cookies=["session"], **settings)
    if identify is not None:
        made.identify(identify)
    return made


def signed_in(app: Any, session: str | None = "s-ada", **options: Any) -> Any:
    browser = client(app, **options)
    if session is not None:
        browser.cookies.set("session", session)
    return browser


class TestWhatUsersType:
    def test_fastapi(self):
        app = FastAPI()
        security = Security(accounts=None, session_cookies=["session"])

        @security.identify
        async def who(scope):
            return SESSIONS.get(HTTPConnection(scope).cookies.get("session"))

        @app.get("/me")
        def me(who: CurrentPrincipal) -> str:
            return who.id

        @app.delete("/notes", dependencies=[requires("notes:write")])
        def delete() -> str:
            return "gone"

        @app.get("/maybe")
        def maybe(who: OptionalPrincipal) -> bool:
            return who is not None

        security.protect(app)
        told = {}
        for session in ("s-ada", "s-bob", None):
            with signed_in(app, session) as browser:
                answers = browser.get("/me"), browser.delete("/notes"), browser.get("/maybe")
                told[session] = [answer.status_code for answer in answers], answers[2].json()
        assert told == {
            "s-ada": ([200, 200, 200], True),
            "s-bob": ([200, 403, 200], True),
            None: ([401, 401, 200], False),
        }

    def test_starlette_with_a_function_that_waits_for_nothing(self):
        async def page(request: Request) -> HTMLResponse:
            return HTMLResponse(f"{current_principal(request).id} {csrf_token(request)}")

        async def take(request: Request) -> PlainTextResponse:
            return PlainTextResponse((await request.form())["title"])

        app = Starlette(routes=[Route("/", page), Route("/notes", take, methods=["POST"])])
        security(lambda scope: SESSIONS["s-ada"], csrf_token="forms").protect(app)
        with signed_in(app) as browser:
            token = browser.get("/").text.split()[1]
            assert browser.post("/notes", data={"title": "Gates", "csrf_token": token}).text == "Gates"

    def test_any_asgi_app_is_closed_but_for_what_is_public(self):
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"in"})

        served = security(require_account=True, public=["GET /"], login_url="/login").wrap(app)
        statuses = {}
        for session in ("s-ada", "s-unknown"):
            with signed_in(served, session) as browser:
                statuses[session] = [browser.get(path).status_code for path in ("/", "/login", "/private")]
                page = browser.get("/private", headers={"Accept": "text/html"}, follow_redirects=False)
                statuses[session].append(page.status_code)
        assert statuses == {"s-ada": [200] * 4, "s-unknown": [200, 200, 401, 303]}


class TestTheFormsOfItsPages:
    @pytest.fixture
    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        def page(token: CsrfToken) -> str:
            return token

        @app.post("/notes")
        async def take(request: Request) -> str:
            return str((await request.form())["title"])

        return security(csrf_token="forms").protect(app)

    @pytest.mark.requirement("CSR-04")
    def test_are_bound_to_the_session_of_the_app(self, app):
        form = {"title": "Gates"}
        with signed_in(app, "s-ada") as ada, signed_in(app, "s-bob") as bob:
            token = ada.get("/").json()
            assert ada.post("/notes", data=form | {"csrf_token": token}).json() == "Gates"
            assert ada.post("/notes", data=form).status_code == 403
            assert bob.post("/notes", data=form | {"csrf_token": token}).status_code == 403

    @pytest.mark.requirement("CSR-07")
    def test_of_nobody_count_no_more_after_the_sign_in(self, app):
        form = {"title": "Gates"}
        with signed_in(app, None) as browser:
            token = browser.get("/").json()
            assert browser.post("/notes", data=form | {"csrf_token": token}).status_code == 200
            browser.cookies.set("session", "s-ada")
            assert browser.post("/notes", data=form | {"csrf_token": token}).status_code == 403

    def test_from_another_site_are_refused_whatever_they_bring(self, app):
        with signed_in(app) as browser:
            form = {"title": "Gates", "csrf_token": browser.get("/").json()}
            assert browser.post("/notes", data=form, headers=CROSS_SITE).status_code == 403


class TestItsPeople:
    def test_have_answers_that_no_cache_keeps(self):
        app = security().protect(Starlette(routes=[Route("/", lambda _: PlainTextResponse("yours"))]))
        with signed_in(app) as ada, signed_in(app, None) as nobody:
            known, unknown = ada.get("/").headers, nobody.get("/").headers
        assert known["cache-control"] == "no-store"
        assert known["cross-origin-resource-policy"] == "same-origin"
        assert not {"cache-control", "cross-origin-resource-policy"} & set(unknown)

    def test_have_limits_of_their_own_wherever_they_are(self):
        app = security(limits="2/minute").protect(
            Starlette(routes=[Route("/", lambda _: PlainTextResponse("in"))])
        )
        with client(app) as browser:
            statuses = {}
            for session in ("s-ada", "s-bob"):
                browser.cookies.set("session", session)
                statuses[session] = [browser.get("/").status_code for _ in range(3)]
        assert statuses == {"s-ada": [200, 200, 429], "s-bob": [200, 200, 429]}

    def test_are_known_at_the_handshake(self):
        async def live(websocket: WebSocket) -> None:
            who = current_principal(websocket)
            await websocket.accept()
            await websocket.send_text(who.id)

        app = security().protect(Starlette(routes=[WebSocketRoute("/live", live)]))
        origin = {"Origin": "https://testserver"}
        with signed_in(app) as ada, ada.websocket_connect("/live", headers=origin) as socket:
            assert socket.receive_text() == "1"
        with (
            signed_in(app, None) as nobody,
            pytest.raises(WebSocketDisconnect),
            nobody.websocket_connect("/live", headers=origin),
        ):
            pass

    def test_may_hold_a_token_instead_of_a_cookie(self):
        async def by_token(scope: Mapping[str, Any]) -> Principal | None:
            if HTTPConnection(dict(scope)).headers.get("authorization") != "Bearer of-the-app":
                return None
            return Principal(id="7", session_id="t-7", credential="bearer")

        app = FastAPI()

        @app.post("/me")
        def me(who: Annotated[Principal, requires()]) -> str:
            return f"{who.id} {who.credential}"

        security(by_token, csrf_token="always").protect(app)
        with client(app) as program:
            answer = program.post("/me", headers={"Authorization": "Bearer of-the-app"}, json={})
        assert answer.json() == "7 bearer"


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("said", "logged"),
        [
            (ConnectionError("the store is away"), "the store is away"),
            ({"id": "1"}, "'dict' object has no attribute 'id'"),
            (Principal(id=1, session_id="s"), "texts, and not empty"),  # type: ignore[arg-type]
            (Principal(id="1", session_id=""), "texts, and not empty"),
        ],
        ids=["it raises", "no principal", "a number", "an empty session"],
    )
    def test_lets_nobody_in_and_stands_in_the_log(self, caplog, said, logged):
        async def broken(scope: Mapping[str, Any]) -> Any:
            if isinstance(said, Exception):
                raise said
            return said

        reached = []
        app = Starlette(routes=[Route("/", lambda request: reached.append(request) or PlainTextResponse())])
        security(broken).protect(app)
        with signed_in(app) as browser, caplog.at_level(logging.ERROR):
            answer = browser.get("/")
        assert (answer.status_code, reached) == (500, [])
        assert "content-security-policy" in answer.headers
        assert logged not in answer.text
        assert logged in caplog.text

    def test_a_cookie_that_the_check_of_origins_does_not_know_signs_nobody_in(self, caplog):
        async def by_another_cookie(scope: Mapping[str, Any]) -> Principal | None:
            return SESSIONS.get(HTTPConnection(dict(scope)).cookies.get("sid", ""))

        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("in"))])
        security(by_another_cookie).protect(app)
        with client(app) as browser, caplog.at_level(logging.ERROR):
            assert browser.get("/").status_code == 200
            browser.cookies.set("sid", "s-ada")
            assert browser.get("/").status_code == 500
        assert "session_cookies doesn't name" in caplog.text

    def test_what_the_function_does_to_the_scope_stays_with_it(self):
        async def vandal(scope: Any) -> None:
            scope["path"], scope["headers"] = "/private", []

        async def page(request: Request) -> PlainTextResponse:
            return PlainTextResponse(request.url.path)

        app = security(vandal).protect(Starlette(routes=[Route("/", page)]))
        with client(app) as browser:
            assert browser.get("/").text == "/"

    def test_the_health_path_asks_nobody(self):
        app = security(lambda scope: 1 / 0, health="GET /healthz").protect(
            Starlette(routes=[Route("/healthz", lambda _: PlainTextResponse("well"))])
        )
        with client(app) as probe:
            assert probe.get("/healthz").text == "well"

    @pytest.mark.parametrize(
        ("identifies", "settings", "problem"),
        [
            (False, {"require_account": True}, "require_account needs accounts, or with accounts=None"),
            (False, {"csrf_token": "forms"}, "csrf_token needs accounts, or with accounts=None"),
            (True, {"accounts": "on"}, "security.identify needs accounts=None"),
        ],
    )
    def test_what_can_not_work_together_stops_the_start(self, identifies, settings, problem):
        accounts = {} if "accounts" in settings else {"accounts": None}
        made = Security(**{name: value for name, value in settings.items() if name != "accounts"} | accounts)
        if identifies:
            made.identify(who)
        app = made.protect(Starlette(routes=[Route("/", lambda _: PlainTextResponse())]))
        with pytest.raises(ConfigurationError, match=re.escape(problem)), client(app) as browser:
            browser.get("/")

    def test_two_functions_would_be_two_opinions(self):
        made = security()
        with pytest.raises(ConfigurationError, match="one function says who asks"):
            made.identify(who)
