"""FastAPI apps with accounts: annotations, guards, the schema, and what an app has of its own beside them."""

import json
from datetime import timedelta
from typing import Annotated

import pytest
import pytest_asyncio
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from account_rows import ADA, BOB
from asking import request_facts
from authenticating import Club, a_club, set_cookies
from thebes import ConfigurationError, Security
from thebes.fastapi import (
    CsrfToken,
    CurrentAccount,
    CurrentPrincipal,
    CurrentSessions,
    OptionalPrincipal,
    requires,
)
from thebes.guards import Principal
from thebes.testing import client

MINUTES = timedelta(minutes=5)
own_bearer = HTTPBearer()


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/sync")
    def sync(who: CurrentPrincipal) -> str:
        return who.id

    @app.get("/async")
    async def asynchronous(who: CurrentPrincipal) -> str:
        return who.id

    @app.get("/optional")
    def optional(who: OptionalPrincipal) -> str:
        return "nobody" if who is None else who.id

    @app.get("/account")
    async def account(who: CurrentAccount) -> str:
        return who.email

    @app.get("/sessions")
    async def sessions(own: CurrentSessions) -> list[bool]:
        return [session.is_current for session in own]

    @app.get("/form")
    def form(token: CsrfToken) -> str:
        return token

    @app.get("/scoped", dependencies=[requires("notes:write")])
    def scoped() -> str:
        return "in"

    @app.get("/lacking", dependencies=[requires("notes:write", "notes:delete")])
    def lacking() -> str:
        return "in"

    @app.get("/role", dependencies=[requires(roles=["admin"])])
    async def role() -> str:
        return "in"

    @app.get("/annotated")
    def annotated(who: Annotated[Principal, requires("notes:write", roles=["editor"])]) -> str:
        return who.id

    @app.get("/fresh", dependencies=[requires(fresh=MINUTES)])
    def fresh() -> str:
        return "in"

    @app.get("/own-jwt")
    def own_jwt(shown: Annotated[HTTPAuthorizationCredentials, Depends(own_bearer)]) -> str:
        if shown.credentials != "the-apps-own":
            raise HTTPException(401, "not ours")
        return "own"

    @app.websocket("/live")
    async def live(websocket: WebSocket, who: CurrentPrincipal) -> None:
        await websocket.accept()
        await websocket.send_text(who.id)
        await websocket.close()

    nested = APIRouter(prefix="/nested", dependencies=[requires("notes:delete")])

    @nested.get("/deep")
    def deep() -> str:
        return "in"

    app.include_router(nested)
    inner = FastAPI()

    @inner.get("/who")
    def who(who: CurrentPrincipal) -> str:
        return who.id

    app.mount("/mounted", inner)
    return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with a_club(make_app(), protect=True) as club:
        yield club


@pytest.fixture
def club(shared):
    return shared.forget()


@pytest_asyncio.fixture(loop_scope="module")
async def fresh():
    async with a_club(make_app(), protect=True) as club:
        yield club


async def connect(club: Club, headers) -> list:
    """Return what the app sends to a WebSocket that only listens."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await club.served(request_facts(path="/live", headers=headers, type="websocket").scope, receive, send)
    return sent


async def answered_with(club: Club, path: str, headers=None):
    answered = await club.get(headers, path=path)
    return answered.status, answered.body.decode().strip('"')


@pytest.mark.asyncio(loop_scope="module")
class TestAnnotations:
    @pytest.mark.parametrize("path", ["/sync", "/async", "/annotated", "/mounted/who"])
    @pytest.mark.parametrize("mode", ["cookie", "bearer", "late"])
    async def test_a_handler_is_given_who_asks(self, club, path, mode):
        ada = await club.sign_in(mode="bearer" if mode == "bearer" else "cookie", ago=100)
        headers = {"cookie": ada.cookie(), "bearer": ada.bearer, "late": ada.late}[mode]
        assert await answered_with(club, path, headers) == (200, ADA.id)

    @pytest.mark.requirement("TOK-38")
    @pytest.mark.parametrize(
        "path",
        [
            "/sync",
            "/async",
            "/account",
            "/sessions",
            "/scoped",
            "/fresh",
            "/annotated",
            "/nested/deep",
            "/mounted/who",
        ],
    )
    async def test_nobody_is_answered_401_by_the_guard(self, club, path):
        answered = await club.get(path=path)
        assert (answered.status, answered.header(b"www-authenticate")) == (401, b"Bearer")
        assert b"urn:thebes:problem:sign-in-required" in answered.body

    async def test_nobody_may_be_let_in(self, club):
        assert await answered_with(club, "/optional") == (200, "nobody")

    async def test_an_account_is_read_from_the_store(self, club):
        ada = await club.sign_in()
        assert await answered_with(club, "/account", ada.cookie()) == (200, ADA.email)

    async def test_the_sessions_of_whoever_asks_are_listed_and_nobody_elses(self, fresh):
        for _ in range(2):
            ada = await fresh.sign_in()
        await fresh.sign_in(BOB)
        answered = await fresh.get(ada.cookie(), path="/sessions")
        assert sorted(json.loads(answered.body)) == [False, True]

    async def test_an_account_that_is_gone_is_nobody(self, fresh):
        ada = await fresh.sign_in()
        await fresh.membership.store.accounts.delete(ADA.id)
        assert (await fresh.get(ada.cookie(), path="/account")).status == 401

    async def test_an_account_that_goes_while_somebody_asks_is_nobody(self, fresh):
        """Its session was good when the request came: nobody can look at both at once."""
        ada = await fresh.sign_in()
        del fresh.membership.store.accounts._tables.accounts[ADA.id]
        assert (await fresh.get(ada.cookie(), path="/account")).status == 401

    async def test_a_form_token_is_the_sessions_and_good_for_it(self, club):
        ada = await club.sign_in()
        status, token = await answered_with(club, "/form", ada.cookie())
        assert status == 200
        assert club.membership.csrf.is_genuine(token, ada.session.id)

    async def test_a_form_token_of_nobody_comes_with_the_cookie_that_it_is_bound_to(self, club):
        answered = await club.get(path="/form")
        assert set(set_cookies(answered)) == {club.membership.jar.presession_name}
        assert answered.header(b"cache-control") == b"no-store"

    async def test_a_websocket_is_given_who_asks_and_refused_to_nobody(self, club):
        ada = await club.sign_in()
        for headers, sent in (
            (ada.cookie(), ["accept", "send", "close"]),
            ({}, ["close"]),
        ):
            said = await connect(club, {**headers, "Origin": "http://localhost"})
            assert [message["type"].removeprefix("websocket.") for message in said] == sent


@pytest.mark.asyncio(loop_scope="module")
class TestRequires:
    @pytest.mark.parametrize("path", ["/scoped", "/annotated", "/fresh"])
    async def test_who_has_it_comes_in(self, club, path):
        ada = await club.sign_in()
        assert (await club.get(ada.cookie(), path=path)).status == 200

    @pytest.mark.requirement("TOK-37")
    @pytest.mark.parametrize("path", ["/lacking", "/role", "/nested/deep"])
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    async def test_who_lacks_it_is_403_insufficient_scope(self, club, path, mode):
        ada = await club.sign_in(mode=mode)
        answered = await club.get(ada.cookie() if mode == "cookie" else ada.bearer, path=path)
        assert answered.status == 403
        assert (answered.header(b"www-authenticate") or b"").startswith(b'Bearer error="insufficient_scope"')

    @pytest.mark.requirement("TOK-38")
    async def test_who_is_stale_is_told_how_fresh_to_be(self, club):
        ada = await club.sign_in(ago=301)
        answered = await club.get(ada.cookie(), path="/fresh")
        assert (answered.status, answered.header(b"www-authenticate")) == (
            401,
            b'Bearer error="insufficient_user_authentication", max_age="300"',
        )

    async def test_a_grant_counts_at_the_next_request(self, fresh):
        ada = await fresh.sign_in()
        assert (await fresh.get(ada.cookie(), path="/role")).status == 403
        await fresh.membership.store.accounts.grant(ADA.id, roles=["admin"])
        assert (await fresh.get(ada.cookie(), path="/role")).status == 200


@pytest.mark.asyncio(loop_scope="module")
class TestBesideTheApp:
    async def test_its_own_bearer_tokens_work_as_before(self, club):
        own = {"Authorization": "Bearer the-apps-own"}
        assert await answered_with(club, "/own-jwt", own) == (200, "own")
        assert (await club.get(own, path="/sync")).status == 401
        assert (await club.get(path="/own-jwt")).status in (401, 403)

    async def test_its_own_handlers_of_errors_stay(self):
        app = make_app()

        @app.exception_handler(HTTPException)
        async def own(request, error):
            return PlainTextResponse("own words", error.status_code)

        async with a_club(app, protect=True) as club:
            answered = await club.get({"Authorization": "Bearer x"}, path="/own-jwt")
            assert (answered.status, answered.body) == (401, b"own words")


class TestSchema:
    def test_each_guarded_operation_names_the_security_scheme_once(self):
        app = make_app()
        Security().protect(app)
        document = app.openapi()
        schemes = document["components"]["securitySchemes"]
        assert schemes["Account"]["type"] == "oauth2"
        guarded = {
            path
            for path, item in document["paths"].items()
            if {"Account": []} in item["get"].get("security", [])
        }
        assert {"/sync", "/async", "/account", "/scoped", "/annotated", "/nested/deep"} <= guarded
        assert document["paths"]["/own-jwt"]["get"]["security"] == [{"HTTPBearer": []}]

    def test_no_guard_shows_up_as_a_parameter(self):
        document = make_app().openapi()
        for path in ("/sync", "/annotated", "/form", "/optional"):
            assert "parameters" not in document["paths"][path]["get"]


class TestMistakes:
    @pytest.mark.parametrize("path", ["/sync", "/optional", "/account", "/sessions", "/scoped", "/form"])
    def test_an_app_without_protection_fails_and_lets_nobody_in(self, path):
        with client(make_app()) as asking, pytest.raises(ConfigurationError, match="not protected"):
            asking.get(path)

    @pytest.mark.parametrize("path", ["/account", "/sessions", "/form"])
    def test_without_accounts_there_is_nothing_to_read(self, path):
        app = make_app()
        Security(accounts=None).protect(app)
        with client(app) as asking:
            if path != "/form":
                assert asking.get(path).status_code == 401
            else:
                with pytest.raises(ConfigurationError, match="accounts=None"):
                    asking.get(path)

    @pytest.mark.parametrize(
        "collide",
        [
            pytest.param(lambda app: app.get("/auth/login")(lambda: 1), id="a route"),
            pytest.param(lambda app: app.get("/.well-known/jwks.json")(lambda: 1), id="the key set"),
            pytest.param(lambda app: app.mount("/auth", _inner("/login")), id="a mounted app"),
            pytest.param(
                lambda app: app.include_router(_router("/login"), prefix="/auth"), id="a router with a prefix"
            ),
            pytest.param(
                lambda app: app.router.routes.append(Mount("/", routes=[Route("/auth/login", lambda r: r)])),
                id="a route in a mount at the root",
            ),
        ],
    )
    def test_a_route_where_accounts_are_served_is_an_error_at_start(self, collide):
        app = FastAPI()
        collide(app)
        Security().protect(app)
        with pytest.raises(ConfigurationError, match="accounts=None") as caught, client(app):
            pass
        assert "accounts_prefix" in str(caught.value)

    def test_and_none_where_they_were_moved_or_left_out(self):
        for settings in ({"accounts": None}, {"accounts_prefix": "/accounts"}):
            app = FastAPI()
            app.get("/auth/login")(lambda: "own")
            Security(**settings).protect(app)
            with client(app) as asking:
                assert asking.get("/auth/login").json() == "own"


def _inner(path: str) -> FastAPI:
    inner = FastAPI()
    inner.post(path)(lambda: 1)
    return inner


def _router(path: str) -> APIRouter:
    router = APIRouter()
    router.get(path)(lambda: 1)
    return router
