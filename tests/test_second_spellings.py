"""An app that answers a declared route under a second path, which the pass outside it could not know."""

import warnings

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount

from thebes import ConfigurationError, Security
from thebes.testing import client

PATHS = ("/search", "/api/search")


def prefixed(root_path: str = "/api") -> FastAPI:
    """Return an app that answers `/search` and, below its own root path, the same once more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and used
        app = FastAPI(root_path=root_path)

    @app.get("/search")
    def search() -> str:
        return "found"

    return app


def declaring() -> Security:
    security = Security(accounts=None)
    security.route("GET /search", limit="2/minute")
    return security


class QuartLike:
    """An app whose `root_path` is its directory."""

    root_path = "/srv/app"

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


HIDDEN = {
    "wrapped": lambda: declaring().wrap(prefixed()),
    "behind middleware": lambda: declaring().wrap(GZipMiddleware(prefixed())),
    "mounted at the root": lambda: declaring().protect(Starlette(routes=[Mount("/", prefixed())])),
    "mounted at a host": lambda: declaring().wrap(Starlette(routes=[Host("localhost", prefixed())])),
}


@pytest.mark.parametrize("make", HIDDEN.values(), ids=HIDDEN)
def test_a_root_path_that_the_pass_cannot_see_is_an_error_at_the_start(make):
    with pytest.raises(ConfigurationError, match=r"FastAPI\(root_path='/api'\) answers each declared route"):
        client(make()).get("/search")


def test_inside_the_app_the_pass_sees_it_and_both_spellings_share_one_limit():
    asking = client(declaring().protect(prefixed()))

    assert [asking.get(path).status_code for path in (*PATHS, *PATHS)] == [200, 200, 429, 429]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Security(accounts=None).wrap(prefixed()),
        lambda: declaring().wrap(prefixed("")),
        lambda: declaring().wrap(QuartLike()),
        lambda: declaring().wrap(Starlette(routes=[Mount("/v1", prefixed("/v1"))])),
    ],
    ids=["nothing declared", "no root path", "a directory", "mounted at a prefix, which it replaces"],
)
def test_an_app_without_a_second_spelling_starts(make):
    assert client(make()).get("/search").status_code < 500
