"""WebSockets pass the pass: subprotocols, text, bytes, close codes; and a forged handshake doesn't."""

import json
import socket

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from live import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def dial(served):
    """Open a WebSocket as a page of the app does, unless told otherwise."""

    def call(path="/ws", origin=served.url, **options):
        return connect(served.websocket_url + path, origin=origin, proxy=None, **options)

    return call


class TestConversation:
    def test_text_and_bytes_are_echoed(self, dial):
        with dial() as chat:
            chat.send("Grüße")
            assert chat.recv() == "Grüße"
            chat.send(b"\x00\x01\xff")
            assert chat.recv() == b"\x00\x01\xff"

    def test_the_app_chooses_the_subprotocol(self, dial):
        with dial(subprotocols=["echo.v1", "echo.v2"]) as chat:
            assert chat.subprotocol == "echo.v2"
        with dial() as chat:
            assert chat.subprotocol is None

    def test_a_script_without_an_origin_may_connect(self, dial):
        with dial(origin=None) as chat:
            chat.send("still here")
            assert chat.recv() == "still here"

    def test_the_answer_to_the_handshake_carries_the_fields_of_the_pass(self, dial):
        with dial() as chat:
            assert chat.response.headers["x-content-type-options"] == "nosniff"

    def test_the_close_code_of_the_app_reaches_the_client(self, dial):
        with dial() as chat:
            chat.send("quit")
            with pytest.raises(ConnectionClosed) as closed:
                chat.recv()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "bye")

    def test_the_close_code_of_the_client_reaches_the_app(self, dial, stage):
        with dial() as chat:
            chat.close(code=4321)

        eventually(lambda: "left with 4321" in stage.notes)


class TestRefusals:
    @pytest.mark.parametrize(
        ("origin", "fields"),
        [
            pytest.param("https://evil.example", {}, id="another origin"),
            pytest.param("null", {}, id="opaque origin"),
            pytest.param(None, {"Cookie": "sid=1"}, id="a session cookie and no origin"),
            pytest.param(None, {"Sec-Fetch-Site": "cross-site"}, id="another site and no origin"),
        ],
    )
    def test_a_forged_handshake_gets_403_and_never_reaches_the_app(self, dial, stage, origin, fields):
        with pytest.raises(InvalidStatus) as refused, dial(origin=origin, additional_headers=fields):
            pass

        answer = refused.value.response
        assert answer.status_code == 403
        assert json.loads(answer.body)["type"].startswith("urn:thebes:problem:")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert stage.notes == []

    def test_a_handshake_for_an_unknown_host_gets_421(self, served, stage):
        fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        fields += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        with socket.create_connection(served.address, timeout=PATIENCE_SECONDS) as wire:
            wire.sendall(b"GET /ws HTTP/1.1\r\nHost: evil.example\r\n" + fields + b"\r\n")
            assert wire.recv(65536).startswith(b"HTTP/1.1 421 ")
        assert stage.notes == []

    def test_a_handshake_that_the_app_refuses_gets_403(self, dial):
        with pytest.raises(InvalidStatus) as refused, dial("/ws/refuse"):
            pass

        assert refused.value.response.status_code == 403

    def test_an_app_that_raises_before_the_handshake_gives_our_500(self, dial):
        with pytest.raises(InvalidStatus) as refused, dial("/ws/raise"):
            pass

        answer = refused.value.response
        assert answer.status_code == 500
        assert set(json.loads(answer.body)) == {"type", "title", "status", "request_id"}
