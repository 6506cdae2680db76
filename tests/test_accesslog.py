"""The server's access log names paths; query strings, in which tokens travel, stay out of it."""

import logging
from collections.abc import Iterator

import pytest
import websockets.sync.client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from live import client, eventually, serving
from thebes import Security
from thebes.accesslog import SERVER_LOGGERS, QueryFilter, hide_queries

CANARY = "canary-4f9a1c"


@pytest.fixture(autouse=True)
def _filters() -> Iterator[None]:
    """Take the filters off afterwards: loggers are global."""
    yield
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        for known in [known for known in logger.filters if isinstance(known, QueryFilter)]:
            logger.removeFilter(known)


def filtered(message: str, *arguments: object) -> str:
    record = logging.LogRecord("uvicorn.access", logging.INFO, __file__, 1, message, arguments, None)
    assert QueryFilter().filter(record)
    return record.getMessage()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/notes", "/notes"),
        (f"/notes?token={CANARY}", "/notes"),
        ("/notes?", "/notes"),
        (f"/?{CANARY}", "/"),
        (f"/notes?next=/a?token={CANARY}", "/notes"),
        (f"//notes?token={CANARY}", "//notes"),
        ("/notes%3Fa", "/notes%3Fa"),
    ],
)
def test_a_request_target_is_cut_at_its_question_mark(target: str, shown: str):
    line = filtered('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", target, "1.1", 200)

    assert line == f'127.0.0.1:1 - "GET {shown} HTTP/1.1" 200'


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Started server process [%d]", (17,)),
        ("Is this right? %s", ("yes? no",)),
        ("no arguments /a?b", ()),
        ("%s", (None,)),
    ],
)
def test_other_messages_stay_as_they_are(message: str, arguments: tuple[object, ...]):
    assert filtered(message, *arguments) == (message % arguments if arguments else message)


def test_named_arguments_stay_as_they_are():
    assert filtered("%(path)s", {"path": "/a?b"}) == "/a?b"


def test_the_filter_is_installed_once_on_each_logger_of_the_server():
    for _ in range(3):
        hide_queries()

    for name in SERVER_LOGGERS:
        assert sum(isinstance(known, QueryFilter) for known in logging.getLogger(name).filters) == 1


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.query_params.get("token", "no token"))


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.query_params["token"])
    await websocket.close()


@pytest.mark.slow
def test_a_server_logs_no_query_of_requests_and_handshakes(caplog: pytest.LogCaptureFixture):
    app = Security().protect(Starlette(routes=[Route("/page", page), WebSocketRoute("/socket", socket)]))

    with caplog.at_level(logging.INFO), serving(app) as url, client(url) as browser:
        caplog.set_level(logging.INFO, "uvicorn.access")
        caplog.set_level(logging.INFO, "uvicorn.error")
        assert browser.get(f"/page?token={CANARY}").text == CANARY
        assert browser.get(f"/nowhere?token={CANARY}").status_code == 404
        address = url.replace("http://", "ws://")
        with websockets.sync.client.connect(f"{address}/socket?token={CANARY}", proxy=None) as connection:
            assert connection.recv() == CANARY
        eventually(lambda: "WebSocket /socket" in server_log(caplog))

    log = server_log(caplog)
    assert '"GET /page HTTP/1.1" 200' in log
    assert '"GET /nowhere HTTP/1.1" 404' in log
    assert CANARY not in log


def server_log(caplog: pytest.LogCaptureFixture) -> str:
    """Return what the server wrote; httpx and websockets log what they send themselves."""
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("uvicorn"))
