"""How the pass answers a WebSocket handshake, with servers that can send a body with it and others."""

import json

import pytest

from thebes.asgi import SecurityMiddleware
from thebes.facts import Denial

TEAPOT = Denial(418, "teapot", "Short and stout", "Use a kettle.")
DENIAL_EXTENSION = {"websocket.http.response": {}}


class Everything:
    """A check that refuses everything."""

    name = "everything"

    def __call__(self, facts):
        assert facts.is_websocket
        assert facts.method == "GET"
        return TEAPOT


class Stamp:
    """A rule that puts one field on every answer."""

    name = "stamp"

    def __call__(self, facts, headers):
        headers.append((b"x-stamp", b"1"))


async def call(app, extensions, *events):
    """Open a WebSocket as a server does; return what the app sent and what it raised."""
    pending = [{"type": "websocket.connect"}, *events]
    sent = []
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "headers": [(b"host", b"localhost")],
    }
    if extensions is not None:
        scope["extensions"] = extensions

    async def receive():
        return pending.pop(0)

    async def send(message):
        sent.append(message)

    try:
        await app(scope, receive, send)
    except RuntimeError as error:
        return sent, error
    return sent, None


async def never(scope, receive, send):
    raise AssertionError("the app was called")


async def test_with_the_extension_a_denial_has_its_status_fields_and_body():
    sent, _ = await call(SecurityMiddleware(never, [Everything()], [Stamp()]), DENIAL_EXTENSION)

    start, body = sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 418)
    assert (b"x-stamp", b"1") in start["headers"]
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"])["type"] == "urn:thebes:problem:teapot"


@pytest.mark.parametrize("extensions", [None, {}, {"websocket.other": {}}])
async def test_without_it_a_denial_is_a_close_before_the_handshake(extensions):
    sent, _ = await call(SecurityMiddleware(never, [Everything()]), extensions)

    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("extensions", [None, DENIAL_EXTENSION])
async def test_an_exception_before_the_handshake_refuses_it_and_travels_on(extensions):
    async def broken(scope, receive, send):
        raise RuntimeError("secret detail")

    sent, error = await call(SecurityMiddleware(broken), extensions)

    assert str(error) == "secret detail"
    if extensions:
        assert sent[0]["status"] == 500
        assert b"secret" not in sent[1]["body"]
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]


async def test_an_exception_after_the_handshake_travels_on_and_nothing_is_sent():
    async def broken(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise RuntimeError("secret detail")

    sent, error = await call(SecurityMiddleware(broken), DENIAL_EXTENSION)

    assert str(error) == "secret detail"
    assert [message["type"] for message in sent] == ["websocket.accept"]


async def test_rules_are_applied_to_the_apps_accept_and_to_its_own_denial():
    async def accepts(scope, receive, send):
        await send({"type": "websocket.accept", "subprotocol": "v1", "headers": [(b"x-own", b"1")]})
        await send({"type": "websocket.send", "text": "hello"})

    async def denies(scope, receive, send):
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"mine"})

    accepted, _ = await call(SecurityMiddleware(accepts, rules=[Stamp()]), DENIAL_EXTENSION)
    denied, _ = await call(SecurityMiddleware(denies, rules=[Stamp()]), DENIAL_EXTENSION)

    assert accepted[0]["headers"] == [(b"x-own", b"1"), (b"x-stamp", b"1")]
    assert accepted[0]["subprotocol"] == "v1"
    assert accepted[1] == {"type": "websocket.send", "text": "hello"}
    assert (denied[0]["headers"], denied[1]["body"]) == ([(b"x-stamp", b"1")], b"mine")


async def test_messages_of_the_client_reach_the_app_as_they_are():
    received = []

    async def listens(scope, receive, send):
        await send({"type": "websocket.accept"})
        received.extend([await receive() for _ in range(4)])

    events = (
        {"type": "websocket.receive", "text": "<b>&"},
        {"type": "websocket.receive", "bytes": b"\x00\xff"},
        {"type": "websocket.disconnect", "code": 1001},
    )
    await call(SecurityMiddleware(listens), None, *events)

    assert received == [{"type": "websocket.connect"}, *events]
