"""Twelve mounts or twelve routers deep, a protected app knows its routes as well as at the top.

A limit or check that resolves routes by itself lost them under nested mounts (GHSA-f2vm-w8gq-h378).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asking import ask, request_facts
from thebes import Security

DEPTH = 12
HOOK = "".join(f"/m{level}" for level in range(DEPTH)) + "/hook"
UPLOAD = HOOK.replace("/hook", "/upload")
FORGED = {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"}


class Reached(list[str]):
    """The paths at which a handler of the app was reached."""


def handling(reached: Reached) -> Callable[[Request], Awaitable[PlainTextResponse]]:
    async def handler(request: Request) -> PlainTextResponse:
        try:
            await request.body()
        except ClientDisconnect:
            return PlainTextResponse("too late")
        reached.append(request.scope["path"])
        return PlainTextResponse("done")

    return handler


def mounted(reached: Reached) -> Any:
    """Return Starlette apps mounted in each other; each of the twelve has a hook of its own."""
    handler = handling(reached)

    def routes() -> list[Any]:
        methods = ["POST", "PUT"]
        return [
            Route(path, handler, methods=methods) for path in ("/hook", "/hook/", "/upload", "/{any:path}")
        ]

    inner = routes()
    for level in reversed(range(DEPTH)):
        inner = [Mount(f"/m{level}", routes=inner), *routes()]
    return Starlette(routes=inner)


def routed(reached: Reached) -> Any:
    """Return a FastAPI app with routers included in each other."""
    handler = handling(reached)

    router = APIRouter()
    for path in ("/hook", "/hook/", "/upload", "/{any:path}"):
        router.add_api_route(path, handler, methods=["POST", "PUT"])
    for level in reversed(range(DEPTH)):
        outer = APIRouter()
        outer.include_router(router, prefix=f"/m{level}")
        router = outer
    app = FastAPI()
    app.include_router(router)
    app.add_api_route("/{any:path}", handler, methods=["POST", "PUT"])
    return app


@pytest.fixture
def reached() -> Reached:
    return Reached()


@pytest.fixture(params=[mounted, routed], ids=["mounts", "routers"])
def app(request: pytest.FixtureRequest, reached: Reached) -> Any:
    make: Callable[[Reached], Any] = request.param
    security = Security(body_limit=10)
    security.exempt(f"POST {HOOK}", "csrf", reason="signed by its sender")
    security.route(f"PUT {UPLOAD}", body_limit=1000)
    return security.protect(make(reached))


async def status_of(
    app: Any, method: str, target: str, fields: dict[str, str], body: bytes = b"", root_path: str = ""
) -> int:
    fields = fields | ({"Content-Length": str(len(body))} if body else {})
    facts = request_facts(
        method,
        root_path + unquote(target),
        fields,
        raw_path=(root_path + target).encode(),
        root_path=root_path,
    )
    return (await ask(app, facts, body)).status


@pytest.mark.parametrize("root_path", ["", "/service"])
async def test_the_exempted_route_is_exempt_at_any_depth(app, reached: Reached, root_path: str):
    assert await status_of(app, "POST", HOOK, FORGED, root_path=root_path) == 200
    assert reached == [root_path + HOOK]


WAYS_AROUND: Sequence[str] = (
    "/hook",  # what the innermost app sees
    "/m11/hook",
    HOOK.replace("/m5", ""),
    HOOK + "/",
    HOOK + "/x",
    HOOK + "/..",
    HOOK + ";x",
    HOOK + "%20",
    HOOK + "%00",
    HOOK + "%3F",
    "/" + HOOK,
    HOOK.replace("/m5", "//m5"),
    HOOK.replace("/m5", "/./m5"),
    HOOK.replace("/m5", "/x/../m5"),
    HOOK.replace("/m5", "/%2e/m5"),
    HOOK.replace("/m5", "%2Fm5"),
    HOOK.replace("/m5", "%252Fm5"),
    HOOK.replace("/m5", "\\m5"),
    HOOK.replace("/m5", "%5Cm5"),
    HOOK.replace("/m5", "/M5"),
    HOOK.upper(),
)


@pytest.mark.parametrize("target", WAYS_AROUND)
async def test_no_other_spelling_of_it_is(app, reached: Reached, target: str):
    assert await status_of(app, "POST", target, FORGED) == 403
    assert reached == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "PROPFIND", "post"])
async def test_no_other_method_of_it_is(app, reached: Reached, method: str):
    fields = FORGED | {"X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST", "X-Method-Override": "POST"}

    assert await status_of(app, method, HOOK, fields) == 403
    assert reached == []


async def test_a_wider_limit_holds_at_any_depth(app, reached: Reached):
    assert await status_of(app, "PUT", UPLOAD, {}, body=b"x" * 1000) == 200
    assert await status_of(app, "PUT", UPLOAD, {}, body=b"x" * 1001) == 413
    assert reached == [UPLOAD]


@pytest.mark.parametrize("target", [target.replace("hook", "upload") for target in WAYS_AROUND[:-1]])
@pytest.mark.parametrize("is_declared", [True, False], ids=["length declared", "length unknown"])
async def test_the_wider_limit_holds_for_no_other_spelling(
    app, reached: Reached, target: str, is_declared: bool
):
    fields = {} if is_declared else {"Transfer-Encoding": "chunked"}
    facts = request_facts(
        "PUT",
        unquote(target),
        fields | ({"Content-Length": "11"} if is_declared else {}),
        raw_path=target.encode(),
    )

    assert (await ask(app, facts, b"x" * 11)).status == 413
    assert reached == []


async def test_the_default_limit_holds_at_any_depth(app, reached: Reached):
    assert await status_of(app, "PUT", HOOK, {}, body=b"x" * 10) == 200
    assert await status_of(app, "PUT", HOOK, {}, body=b"x" * 11) == 413
    assert reached == [HOOK]
