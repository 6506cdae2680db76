"""Form tokens in pages of the app: one for each answer, bound to the session or to a cookie of nobody."""

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from thebes import ConfigurationError, Security
from thebes.fastapi import CsrfToken
from thebes.starlette import csrf_token
from thebes.testing import client


def twice(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{csrf_token(request)} {csrf_token(request)}")


def starlette_app(**settings: object) -> Starlette:
    app = Starlette(
        routes=[Route("/", twice), Route("/take", lambda _: PlainTextResponse("taken"), methods=["POST"])]
    )
    return Security(passwords="test", csrf_token="forms", **settings).protect(app)


def test_a_token_asked_for_twice_is_the_same_and_its_cookie_is_set_once():
    with client(starlette_app()) as browser:
        answer = browser.get("/")

    first, second = answer.text.split()
    assert first == second
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-thebes-presession=")
    assert answer.headers["cache-control"] == "no-store"


def test_every_answer_has_a_token_of_its_own_bound_to_the_same_cookie():
    with client(starlette_app()) as browser:
        first, second = browser.get("/"), browser.get("/")
        tokens = [answer.text.split()[0] for answer in (first, second)]
        taken = [browser.post("/take", data={"csrf_token": token}).status_code for token in tokens]
        browser.cookies.clear()
        browser.get("/")
        refused = browser.post("/take", data={"csrf_token": tokens[0]}).status_code

    assert tokens[0] != tokens[1]
    assert first.headers["set-cookie"] == second.headers["set-cookie"]
    assert (taken, refused) == ([200, 200], 403)


def test_fastapi_has_it_as_an_annotation():
    app = FastAPI()

    @app.get("/")
    def page(token: CsrfToken) -> str:
        return token

    with client(Security(passwords="test").protect(app)) as browser:
        assert browser.get("/").json().count(".") == 2


def test_without_accounts_there_are_no_form_tokens():
    app = Starlette(routes=[Route("/", twice)])
    with (
        client(Security(accounts=None).protect(app)) as browser,
        pytest.raises(ConfigurationError, match="accounts=None"),
    ):
        browser.get("/")
