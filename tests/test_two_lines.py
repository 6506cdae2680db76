"""What a user types, framework by framework: each block is the whole of it."""

import sys
import types

import pytest

from thebes import Security, csp_nonce
from thebes.testing import client


def test_a_fastapi_app_takes_two_lines():
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/notes")
    def notes() -> list[str]:
        return ["buy milk"]

    Security(hosts=["example.com"]).protect(app)

    assert_protected(app, "/notes", '["buy milk"]')


def test_a_starlette_app_takes_two_lines():
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"), methods=["GET", "POST"])])
    Security(hosts=["example.com"]).protect(app)

    assert_protected(app, "/", "hello")


def test_a_litestar_app_is_wrapped():
    from litestar import Litestar, get

    @get("/notes", sync_to_thread=False)
    def notes() -> list[str]:
        return ["buy milk"]

    app = Security(hosts=["example.com"]).wrap(Litestar([notes]))

    assert_protected(app, "/notes", '["buy milk"]')


def test_a_django_app_is_wrapped(monkeypatch):
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    urls = types.ModuleType("two_lines_urls")
    urls.urlpatterns = [path("", lambda request: HttpResponse("hello", content_type="text/plain"))]
    monkeypatch.setitem(sys.modules, "two_lines_urls", urls)
    if not settings.configured:  # by another test of this process
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="only for this test")
    monkeypatch.setattr(settings, "ROOT_URLCONF", "two_lines_urls", raising=False)
    django.setup()

    application = Security(hosts=["example.com"]).wrap(get_asgi_application())

    assert_protected(application, "/", "hello")


def test_any_asgi_app_is_wrapped():
    async def app(scope, receive, send):
        assert scope["type"] == "http"  # it knows no lifespan
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    assert_protected(Security(hosts=["example.com"]).wrap(app), "/", "hello")


def test_a_template_gets_the_nonce_of_its_own_answer():
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse

    app = FastAPI()

    @app.get("/", response_class=HTMLResponse)
    def page(request: Request) -> str:
        return f'<script nonce="{csp_nonce(request.scope)}">1</script>'

    Security().protect(app)

    answer = client(app).get("/")
    nonce = answer.text.split('"')[1]
    assert f"'nonce-{nonce}'" in answer.headers["content-security-policy-report-only"]
    assert client(app).get("/").text != answer.text


def test_the_nonce_of_an_unprotected_app_is_an_error_that_says_so():
    from thebes import ConfigurationError

    with pytest.raises(ConfigurationError, match="not protected"):
        csp_nonce({"type": "http"})


def assert_protected(app, path: str, body: str) -> None:
    """The app answers as before, with our fields, and a forged request is refused."""
    with client(app) as browser:
        answer = browser.get(path)
        forged = browser.post(path, headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.text) == (200, body)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert forged.status_code == 403
    assert forged.headers["content-type"] == "application/problem+json"
