"""WebSockets, server-sent events, lifespan state and background tasks go on working."""

import json

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.slow

EVENT_STREAM = {"Accept": "text/event-stream", "Sec-Fetch-Site": "same-origin"}
EVENT_STREAM |= {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Cache-Control": "no-cache"}


@pytest.fixture
def chat(served):
    """Open a chat as a page of the app does; with `origin=None`, as a script does."""

    def open_chat(origin=served.url, subprotocols=("chat.v1", "chat.v2"), **options):
        url = f"{served.websocket_url}/chat"
        return connect(url, origin=origin, subprotocols=subprotocols, proxy=None, **options)

    return open_chat


def stats(script):
    return script.get("/stats").json()


def publish(script, price):
    response = script.post("/prices", json={"price": price})
    assert response.status_code == 202
    assert response.text == "accepted"


class TestWebSockets:
    def test_text_and_bytes_are_echoed(self, chat):
        with chat() as socket:
            assert json.loads(socket.recv()) == {"greeting": "opening bell"}
            socket.send("Grüße")
            assert socket.recv() == "echo: Grüße"
            socket.send(b"\x00\x01\xff")
            assert socket.recv() == b"\xff\x01\x00"

    def test_the_subprotocol_and_headers_of_the_app_reach_the_client(self, chat):
        with chat() as socket:
            assert socket.subprotocol == "chat.v2"
            assert socket.response.headers["x-room"] == "lobby"

    def test_a_script_without_an_origin_may_connect(self, chat):
        with chat(origin=None) as socket:
            assert json.loads(socket.recv()) == {"greeting": "opening bell"}

    def test_a_large_message_passes(self, chat):
        with chat(max_size=None) as socket:
            socket.recv()
            socket.send(b"a" * 3_000_000 + b"z")
            answer = socket.recv()
        assert answer == b"z" + b"a" * 3_000_000

    def test_the_close_code_and_reason_of_the_app_reach_the_client(self, chat):
        with chat() as socket:
            socket.recv()
            socket.send("quit")
            with pytest.raises(ConnectionClosedError) as closed:
                socket.recv()
        assert closed.value.rcvd.code == 4000
        assert closed.value.rcvd.reason == "bye"

    def test_the_close_code_of_the_client_reaches_the_app(self, chat, script, eventually):
        with chat() as socket:
            socket.recv()
            socket.close(code=4321)
        eventually(lambda: "left with 4321" in stats(script)["journal"])

    def test_an_unknown_subprotocol_is_refused_by_the_app(self, chat):
        with pytest.raises(InvalidStatus) as refused, chat(subprotocols=["chat.v1"]):
            pass
        assert refused.value.response.status_code == 403


class TestServerSentEvents:
    def test_each_event_arrives_when_it_is_published(self, script, eventually):
        with script.stream("GET", "/events", headers=EVENT_STREAM) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-cache"
            assert response.headers["x-accel-buffering"] == "no"
            lines = response.iter_lines()
            assert [next(lines) for _ in range(3)] == ["event: hello", "data: opening bell", ""]
            eventually(lambda: stats(script)["listeners"] == 1)
            for price in ("10.5", "10.7"):
                publish(script, price)
                assert [next(lines), next(lines)] == [f"data: {price}", ""]

    def test_the_app_sees_that_a_listener_left(self, script, eventually):
        eventually(lambda: stats(script)["listeners"] == 0)
        departed = stats(script)["departed"]
        with script.stream("GET", "/events", headers=EVENT_STREAM) as response:
            lines = response.iter_lines()  # a name for it: the last reference closes the answer
            assert next(lines) == "event: hello"
            eventually(lambda: stats(script)["listeners"] == 1)

        eventually(lambda: stats(script)["departed"] == departed + 1)
        assert stats(script)["listeners"] == 0

    def test_a_finite_stream_ends_by_itself(self, script):
        response = script.get("/countdown?from=3", headers=EVENT_STREAM)

        assert response.text == "id: 3\ndata: 3\n\nid: 2\ndata: 2\n\nid: 1\ndata: 1\n\n"


class TestLifespan:
    def test_background_tasks_run_after_the_answer(self, script, eventually):
        publish(script, "99.9")

        eventually(lambda: {"sync 99.9", "async 99.9"} <= set(stats(script)["journal"]))

    def test_the_lifespan_of_the_app_begins_and_ends_with_the_server(self, served, serving, tmp_path):
        with serving("ticker", served.variant, tmp_path) as other, other.client() as client:
            assert other.app.state.running is True
            assert stats(client)["journal"] == []
        assert other.app.state.running is False
