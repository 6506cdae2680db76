"""Starlette apps with accounts: the functions that ask, and the decorator that demands."""

from datetime import timedelta

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from account_rows import ADA
from asking import request_facts
from authenticating import a_club, set_cookies
from thebes import ConfigurationError, Security
from thebes.starlette import (
    csrf_token,
    current_account,
    current_principal,
    current_sessions,
    optional_principal,
    requires,
)
from thebes.testing import client


def sync(request: Request) -> PlainTextResponse:
    return PlainTextResponse(current_principal(request).id)


async def asynchronous(request: Request) -> PlainTextResponse:
    return PlainTextResponse(current_principal(request).id)


def optional(request: Request) -> PlainTextResponse:
    who = optional_principal(request)
    return PlainTextResponse("nobody" if who is None else who.id)


async def account(request: Request) -> PlainTextResponse:
    return PlainTextResponse((await current_account(request)).email)


async def sessions(request: Request) -> PlainTextResponse:
    return PlainTextResponse(" ".join(str(each.is_current) for each in await current_sessions(request)))


async def form(request: Request) -> PlainTextResponse:
    first, second = csrf_token(request), csrf_token(request)
    assert first == second
    return PlainTextResponse(first)


@requires("notes:write")
async def scoped(request: Request) -> PlainTextResponse:
    return PlainTextResponse("in")


@requires("notes:write", roles=["admin"])
def role(request: Request) -> PlainTextResponse:
    return PlainTextResponse("in")


@requires(fresh=timedelta(minutes=5))
def fresh(request: Request) -> PlainTextResponse:
    return PlainTextResponse("in")


@requires("notes:write")
async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def make_app() -> Starlette:
    routes = [
        Route("/sync", sync),
        Route("/async", asynchronous),
        Route("/optional", optional),
        Route("/account", account),
        Route("/sessions", sessions),
        Route("/form", form),
        Route("/scoped", scoped),
        Route("/role", role),
        Route("/fresh", fresh),
        WebSocketRoute("/live", live),
    ]
    return Starlette(routes=[*routes, Mount("/mounted", routes=routes)])


on_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def club():
    async with a_club(make_app(), protect=True) as club:
        yield club


@pytest.mark.parametrize("path", ["/sync", "/async", "/optional", "/mounted/sync"])
@pytest.mark.parametrize("mode", ["cookie", "bearer"])
@on_one_loop
async def test_an_endpoint_is_told_who_asks(club, path, mode):
    ada = await club.sign_in(mode=mode)
    answered = await club.get(ada.cookie() if mode == "cookie" else ada.bearer, path=path)
    assert (answered.status, answered.body.decode()) == (200, ADA.id)


@pytest.mark.parametrize(
    "path", ["/sync", "/async", "/account", "/sessions", "/scoped", "/role", "/fresh", "/mounted/scoped"]
)
@on_one_loop
async def test_nobody_is_answered_401(club, path):
    answered = await club.get(path=path)
    assert (answered.status, answered.header(b"www-authenticate")) == (401, b"Bearer")


@on_one_loop
async def test_nobody_may_be_let_in(club):
    assert (await club.get(path="/optional")).body == b"nobody"


@on_one_loop
async def test_an_account_is_read_from_the_store(club):
    ada = await club.sign_in()
    assert (await club.get(ada.cookie(), path="/account")).body.decode() == ADA.email


@on_one_loop
async def test_who_has_it_comes_in_and_who_lacks_it_is_403(club):
    ada = await club.sign_in()
    for path, status in (("/scoped", 200), ("/fresh", 200), ("/role", 403), ("/mounted/role", 403)):
        assert (await club.get(ada.cookie(), path=path)).status == status


@on_one_loop
async def test_who_is_stale_is_401(club):
    ada = await club.sign_in(ago=301)
    answered = await club.get(ada.cookie(), path="/fresh")
    assert (answered.status, b"not-fresh" in answered.body) == (401, True)


@pytest.mark.parametrize("is_signed_in", [True, False])
@on_one_loop
async def test_a_websocket_endpoint_is_guarded_too(club, is_signed_in):
    ada = await club.sign_in()
    headers = {"Origin": "http://localhost", **(ada.cookie() if is_signed_in else {})}
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    await club.served(request_facts(path="/live", headers=headers, type="websocket").scope, receive, send)
    assert sent == (["websocket.accept", "websocket.close"] if is_signed_in else ["websocket.close"])


@on_one_loop
async def test_form_tokens_are_the_sessions_or_come_with_a_cookie(club):
    ada = await club.sign_in()
    answered = await club.get(ada.cookie(), path="/form")
    assert club.membership.csrf.is_genuine(answered.body.decode(), ada.session.id)
    assert set_cookies(answered) == {}
    of_nobody = await club.get(path="/form")
    assert list(set_cookies(of_nobody)) == [club.membership.jar.presession_name]


@pytest.mark.parametrize("path", ["/sync", "/optional", "/account", "/scoped", "/role", "/form"])
def test_an_app_without_protection_fails_and_lets_nobody_in(path):
    with client(make_app()) as asking, pytest.raises(ConfigurationError, match="not protected"):
        asking.get(path)


def test_the_decorator_keeps_what_the_endpoint_is():
    assert (scoped.__name__, role.__name__) == ("scoped", "role")


def test_without_accounts_everybody_is_nobody():
    app = make_app()
    Security(accounts=None).protect(app)
    with client(app) as asking:
        assert asking.get("/optional").text == "nobody"
        assert asking.get("/sync").status_code == 401
