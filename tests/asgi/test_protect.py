"""protect and wrap: what they take, what they refuse, and that the protected app stays what it was."""

import pytest

from thebes import ConfigurationError, Security
from thebes.testing import client

FORGED = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


async def bare(scope, receive, send):
    """An ASGI function."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def fresh(framework):
    """Return an empty app that nobody protected."""
    from fastapi import FastAPI
    from starlette.applications import Starlette

    return FastAPI() if framework == "fastapi_app" else Starlette()


class TestRefusals:
    def test_protecting_twice_is_refused(self, framework, make):
        made = make(framework)

        for security in (made.security, Security()):
            with pytest.raises(ConfigurationError, match="protected already"):
                security.protect(made.app)

    def test_wrapping_what_is_protected_is_refused(self, kind, make):
        with pytest.raises(ConfigurationError, match="protected already"):
            Security().wrap(make(kind).served)

    def test_protecting_what_has_started_is_refused(self, framework):
        app = fresh(framework)
        client(app).get("/")

        with pytest.raises(ConfigurationError, match="started already"):
            Security().protect(app)

    def test_protecting_another_kind_of_app_names_wrap(self):
        from fastapi import APIRouter

        for app in (bare, Security().wrap(bare), APIRouter(), object()):
            with pytest.raises(ConfigurationError, match=r"use wrap\(app\)"):
                Security().protect(app)


class TestTheObjectStaysWhatItWas:
    def test_protect_returns_the_same_object(self, framework, make):
        made = make(framework)

        assert made.served is made.app

    def test_wrap_leaves_the_app_alone(self):
        wrapped = Security().wrap(bare)

        assert wrapped is not bare
        assert client(bare).post("/", headers=FORGED).status_code == 200
        assert client(wrapped).post("/", headers=FORGED).status_code == 403

    def test_openapi_is_the_same_as_before(self, make):
        from fastapi import FastAPI

        def described(app):
            app.get("/gates/{number}")(lambda number: number)
            return app

        plain = described(FastAPI(title="The gate")).openapi()

        protected = Security().protect(described(FastAPI(title="The gate")))
        assert protected.openapi() == plain
        assert client(protected).get("/openapi.json").json() == plain
        assert client(protected).get("/docs").status_code == 200

    def test_routes_added_after_protect_are_served_and_protected(self, framework, make):
        from starlette.responses import PlainTextResponse

        made = make(framework)

        async def late(request):
            return PlainTextResponse("late")

        made.app.router.add_route("/late", late, methods=["POST"])

        asking = client(made.app)
        assert asking.post("/late").text == "late"
        assert asking.post("/late", headers=FORGED).status_code == 403

    def test_dependency_overrides_work(self, make):
        made = make("fastapi_app")
        asking = client(made.app)
        assert asking.get("/keeper").json() == "the keeper"

        made.app.dependency_overrides[made.app.state.keeper] = lambda: "another"
        assert asking.get("/keeper").json() == "another"

        made.app.dependency_overrides.clear()
        assert asking.get("/keeper").json() == "the keeper"

    def test_the_test_client_of_the_framework_runs_the_lifespan(self, framework, make):
        from starlette.testclient import TestClient

        made = make(framework)
        with TestClient(made.app) as asking:
            assert asking.get("/state").json() == "anubis"
            with asking.websocket_connect("/ws") as socket:
                socket.send_text("hello")
                assert socket.receive_text() == "hello"
        assert made.stage.notes[0] == "started"
        assert made.stage.notes[-1] == "stopped"


class TestMiddleware:
    @pytest.mark.parametrize("when", ["before protect", "after protect"])
    def test_middleware_of_the_user_is_inside_the_pass(self, framework, when):
        from starlette.responses import PlainTextResponse

        seen = []

        class Witness:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                if scope["type"] == "http":
                    seen.append((scope["path"], "thebes" in scope))
                await self.app(scope, receive, send)

        app = fresh(framework)
        app.router.add_route("/page", lambda request: PlainTextResponse("page"), methods=["GET", "POST"])
        if when == "before protect":
            app.add_middleware(Witness)
        Security().protect(app)
        if when == "after protect":
            app.add_middleware(Witness)

        asking = client(app)
        assert asking.post("/page", headers=FORGED).status_code == 403
        assert asking.get("/page").headers["x-content-type-options"] == "nosniff"
        assert seen == [("/page", True)]

    def test_answers_of_the_users_middleware_get_the_fields_of_the_pass(self, framework, make):
        from starlette.responses import PlainTextResponse

        class Closed:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                await PlainTextResponse("closed", 503)(scope, receive, send)

        made = make(framework)
        made.app.add_middleware(Closed)

        answer = client(made.app).get("/page")

        assert (answer.status_code, answer.text) == (503, "closed")
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_middleware_after_the_start_is_refused_by_the_framework_as_ever(self, framework, make):
        made = make(framework)
        client(made.app).get("/page")

        with pytest.raises(RuntimeError, match="add middleware"):
            made.app.add_middleware(object)
