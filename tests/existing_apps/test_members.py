"""The app's own bearer tokens, its own /auth paths and its own challenges are left alone."""

import pytest

pytestmark = pytest.mark.slow

ADA = {"username": "ada", "password": "lovelace"}


def bearer(response):
    assert response.status_code == 200
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def test_a_script_signs_in_and_reads_who_it_is(script):
    response = script.post("/auth/login", data=ADA)

    assert response.json()["token_type"] == "bearer"
    assert response.headers["cache-control"] == "no-store"
    assert "set-cookie" not in response.headers
    me = script.get("/auth/me", headers=bearer(response))
    assert me.status_code == 200
    assert me.json() == {"user": "ada"}


def test_a_page_signs_in_and_posts_with_its_token(browser):
    token = bearer(browser.fetch("POST", "/auth/login", data=ADA))
    response = browser.fetch("POST", "/auth/me/motto", json={"motto": "flow"}, headers=token)

    assert response.status_code == 200
    assert response.json() == {"user": "ada", "motto": "flow"}


def test_a_mobile_app_posts_with_its_token_beside_a_foreign_cookie(script):
    token = bearer(script.post("/auth/login", data=ADA))
    headers = token | {"Cookie": "analytics=1; theme=dark", "User-Agent": "Members/5 (Android)"}
    response = script.post("/auth/me/motto", json={"motto": "go"}, headers=headers)

    assert response.json() == {"user": "ada", "motto": "go"}


def test_a_wrong_password_gets_the_apps_own_answer(browser):
    response = browser.fetch("POST", "/auth/login", data=ADA | {"password": "wrong"})

    assert response.status_code == 400
    assert response.json() == {"detail": "wrong user name or password"}


def test_without_a_token_the_challenge_is_the_apps_own(browser):
    response = browser.fetch("GET", "/auth/me")

    assert response.status_code == 401
    assert response.headers.get_list("www-authenticate") == ['Bearer realm="members"']
    assert response.json() == {"detail": "please sign in"}


@pytest.mark.parametrize(
    "token",
    ["eyJhbGciOiJIUzI1NiJ9.e30.forged", "opaque-token-of-2019", "a.b.c", "x" * 3000],
    ids=["forged", "opaque", "short", "long"],
)
def test_a_token_that_the_app_does_not_know_gets_its_own_challenge(script, token):
    response = script.get("/auth/me", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 401
    challenge = 'Bearer realm="members", error="invalid_token"'
    assert response.headers.get_list("www-authenticate") == [challenge]
    assert response.json() == {"detail": "not our token"}


def test_an_expired_token_gets_its_own_challenge(script):
    token = bearer(script.post("/auth/login", data=ADA | {"scope": "expired"}))
    response = script.get("/auth/me", headers=token)

    assert response.status_code == 401
    assert response.json() == {"detail": "token expired"}


def test_options_is_answered_by_the_app(script):
    response = script.options("/auth/me")

    assert response.status_code == 204
    assert response.headers["allow"] == "GET, OPTIONS"


def test_options_where_the_app_has_none_is_its_own_405(script):
    response = script.options("/auth/login")

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json() == {"detail": "Method Not Allowed"}


def test_basic_authentication_of_another_part_works(script):
    assert script.get("/metrics", auth=("prometheus", "s:cret")).json() == {"members": 2}

    response = script.get("/metrics")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Basic realm="metrics"'


def test_the_openapi_document_names_only_the_apps_own_schemes_and_paths(browser):
    document = browser.fetch("GET", "/openapi.json").json()

    assert set(document["components"]["securitySchemes"]) == {"OAuth2PasswordBearer", "HTTPBasic"}
    assert set(document["paths"]) == {"/auth/login", "/auth/me", "/auth/me/motto", "/metrics"}
