"""An app may be started more than once in a process: test suites do that."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

import thebes.testing
from thebes import Security

BROWSER = {"Origin": "https://testserver"}


def test_each_lifespan_has_accounts_that_work():
    app = Security(passwords="test").protect(Starlette())
    for _ in range(2):
        with thebes.testing.client(app) as client:
            body = {"email": "ada@example.com", "password": "sunrise over seven gates"}
            assert client.post("/auth/register", json=body, headers=BROWSER).status_code == 202
            assert client.post("/auth/login", json=body, headers=BROWSER).status_code == 403


@pytest.mark.parametrize("namespace", ["", "8443"])
def test_a_session_cookie_counts_for_csrf_under_any_namespace(namespace):
    app = Security(cookie_namespace=namespace).protect(Starlette())
    name = "__Host-thebes-session" + (f"-{namespace}" if namespace else "")
    with TestClient(app, base_url="https://testserver") as client:
        answer = client.post("/auth/logout", headers={"Cookie": f"{name}=anything"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:thebes:problem:origin-missing")


async def test_accounts_are_closed_before_the_server_hears_that_all_is_over():
    """A server that has heard it ends its loop, and cancels whatever is still at work."""
    security = Security(passwords="test")
    app = security.protect(Starlette())
    asked = iter(("lifespan.startup", "lifespan.shutdown"))
    open_then: dict[str, bool] = {}

    async def receive():
        return {"type": next(asked)}

    async def send(message):
        open_then[message["type"]] = security.membership.is_open

    await app({"type": "lifespan", "state": {}}, receive, send)

    assert open_then == {"lifespan.startup.complete": True, "lifespan.shutdown.complete": False}
