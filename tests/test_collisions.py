"""An app that has routes of its own where accounts are served is told so when it starts."""

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import thebes.testing
from thebes import ConfigurationError, Security


async def page(request):
    return PlainTextResponse("the app's")


def nested() -> FastAPI:
    router = APIRouter(prefix="/auth")
    router.add_api_route("/me", lambda: "the app's")
    app = FastAPI()
    app.include_router(router)
    return app


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(lambda: Starlette(routes=[Route("/auth/login", page, methods=["POST"])]), id="a route"),
        pytest.param(nested, id="a router in a router"),
        pytest.param(
            lambda: Starlette(routes=[Mount("/auth", routes=[Route("/csrf", page)])]), id="a mounted route"
        ),
        pytest.param(lambda: Starlette(routes=[Route("/.well-known/jwks.json", page)]), id="a key set"),
    ],
)
def test_a_route_that_would_never_be_reached_stops_the_start(app):
    protected = Security().protect(app())
    with (
        pytest.raises(ConfigurationError, match=r"accounts=None.*accounts_prefix"),
        thebes.testing.client(protected),
    ):
        pass


@pytest.mark.parametrize(
    "route",
    [
        pytest.param(Route("/{path:path}", page), id="a page for whatever isn't found"),
        pytest.param(Route("/auth/{name}", page), id="a path with a parameter"),
        pytest.param(Route("/auth/profile", page), id="another path below"),
        pytest.param(Mount("/", StaticFiles(directory=".")), id="static files"),
    ],
)
def test_other_routes_do_not(route):
    with thebes.testing.client(Security().protect(Starlette(routes=[route]))) as client:
        assert client.get("/auth/me").status_code == 401


def test_accounts_can_be_moved_or_left_out():
    routes = [Route("/auth/me", page)]
    for security in (Security(accounts=None), Security(accounts_prefix="/accounts")):
        with thebes.testing.client(security.protect(Starlette(routes=routes))) as client:
            assert client.get("/auth/me").text == "the app's"
