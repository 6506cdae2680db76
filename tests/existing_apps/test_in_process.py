"""Tests that call an app inside their own process, as apps have them, pass after the two lines too."""

import httpx2
import pytest
from starlette.testclient import TestClient


def test_a_test_client_keeps_the_session_of_the_app(made):
    with TestClient(made("guestbook").served) as client:
        response = client.post("/sign", data={"name": "Ada"})

        assert response.status_code == 200
        assert "Signed in as Ada" in response.text
        assert response.history[0].status_code == 303


def test_a_test_client_gets_the_exception_of_a_crash(made):
    client = TestClient(made("bookshop").served)

    with pytest.raises(ZeroDivisionError, match="secret detail of the report"):
        client.get("/reports/broken")


def test_a_test_client_that_wants_no_exceptions_gets_the_apps_own_500(made):
    client = TestClient(made("bookshop").served, raise_server_exceptions=False)
    response = client.get("/reports/broken")

    assert response.status_code == 500
    assert response.json() == {"error": {"code": "crash", "message": "ZeroDivisionError"}}


def test_dependencies_can_be_overridden_after_the_two_lines(made):
    members = made("members")
    members.served.dependency_overrides[members.module.current_user] = lambda: "overridden"
    client = TestClient(members.served)

    assert client.get("/auth/me").json() == {"user": "overridden"}


def test_routes_can_be_added_after_the_two_lines(made):
    members = made("members").served

    @members.get("/late")
    def late():
        return {"added": "late"}

    assert TestClient(members).get("/late").json() == {"added": "late"}
    assert "/late" in members.openapi()["paths"]


def test_a_test_client_speaks_websocket_and_sees_lifespan_state(made):
    with TestClient(made("ticker").served) as client:
        with client.websocket_connect("/chat", subprotocols=["chat.v2"]) as socket:
            assert socket.receive_json() == {"greeting": "opening bell"}
            socket.send_text("hello")
            assert socket.receive_text() == "echo: hello"
        client.post("/prices", json={"price": "7"})
        assert "sync 7" in client.get("/stats").json()["journal"]


def test_a_test_client_under_root_path_is_answered(made):
    client = TestClient(made("warehouse").served, root_path="/v1")

    assert "/v1/static/site.css" in client.get("/v1/items/7").text
    assert client.get("/v1/healthz", headers={"Host": "10.0.3.7"}).text == "ok"
    assert client.get("/v1/api/openapi.json").json()["servers"] == [{"url": "/v1/api"}]


async def test_an_asynchronous_client_calls_the_app_without_lifespan(made):
    transport = httpx2.ASGITransport(app=made("partner_api").served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        response = await client.get("/api/orders")

    assert response.status_code == 200
    assert response.headers["x-total-count"] == "1"


def test_a_plain_function_without_lifespan_is_called(made):
    response = TestClient(made("almanac").served).get("/moon")

    assert response.status_code == 200
    assert response.headers["x-frame-options"] == "DENY"


def test_a_litestar_app_is_called(made):
    with TestClient(made("notebook").served) as client:
        assert client.get("/notes").json() == {"tags": [], "titles": ["first"]}
