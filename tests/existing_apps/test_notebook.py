"""A Litestar app keeps its session, its own CSRF cookie, its errors and its headers."""

import pytest

pytestmark = pytest.mark.slow


def with_token(browser):
    """The double-submit header that the app's own script sends."""
    browser.navigate("/")
    return {"X-CSRFToken": browser.cookies["notebook_csrf"]}


def test_the_session_of_the_app_counts_visits(browser):
    pages = [browser.navigate("/") for _ in range(3)]

    assert pages[0].headers["content-type"] == "text/html; charset=utf-8"
    assert [page.text for page in pages] == [
        f"<script>var visits = {number};</script><h1>Notebook</h1>" for number in (1, 2, 3)
    ]


def test_the_headers_of_the_app_arrive_once_and_unchanged(browser):
    response = browser.navigate("/")

    assert response.headers.get_list("referrer-policy") == ["origin"]
    assert response.headers.get_list("x-frame-options") == ["ALLOWALL"]


def test_list_parameters_arrive_as_lists(browser):
    assert browser.fetch("GET", "/notes?tag=b&tag=a").json()["tags"] == ["b", "a"]


def test_a_note_is_created_and_deleted_with_the_token_of_the_app(browser):
    token = with_token(browser)
    note = {"title": "second", "lines": ["it's", "<b>bold</b>"]}
    created = browser.fetch("POST", "/notes", json=note, headers=token)

    assert created.status_code == 201
    assert created.json()["lines"] == note["lines"]
    path = f"/notes/{created.json()['number']}"
    assert browser.fetch("DELETE", path, headers=token).status_code == 204
    missing = browser.fetch("DELETE", path, headers=token)
    assert missing.status_code == 404
    assert missing.json() == {"problem": "no such note", "status": 404}


def test_a_post_without_that_token_is_refused_in_the_apps_own_format(browser):
    response = browser.fetch("POST", "/notes", json={"title": "third"})

    assert response.status_code == 403
    assert response.json() == {"problem": "CSRF token verification failed", "status": 403}


def test_a_form_is_stored_and_redirected(browser):
    token = with_token(browser)
    response = browser.fetch("POST", "/quick", data={"title": "a & b"}, headers=token)

    assert response.status_code == 303
    assert response.headers["location"] == "/"
    assert "a & b" in browser.fetch("GET", "/notes").json()["titles"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_script_may_send_any_body_to_a_route_without_csrf(script, method):
    response = script.request(method, "/echo", content="plain \N{SNOWMAN}")

    assert response.json() == {"method": method, "body": "plain \N{SNOWMAN}"}


def test_invalid_input_is_answered_in_the_apps_own_format(browser):
    response = browser.fetch("POST", "/notes", json={"lines": 3}, headers=with_token(browser))

    assert response.status_code == 400
    assert response.json()["problem"].startswith("Validation failed for POST /notes")


def test_a_crash_is_answered_in_the_apps_own_format(browser):
    response = browser.fetch("GET", "/crash")

    assert response.status_code == 500
    assert response.json() == {"problem": "sorry", "status": 500}
