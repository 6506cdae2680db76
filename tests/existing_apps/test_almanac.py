"""A plain ASGI function keeps its own security headers, redirects, HEAD and OPTIONS."""

import pytest

pytestmark = pytest.mark.slow

OWN_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src *; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "permissions-policy": "geolocation=(self)",
    "cross-origin-opener-policy": "unsafe-none",
    "cross-origin-resource-policy": "cross-origin",
}


@pytest.mark.parametrize(
    "path",
    ["/", "/moon", "/nowhere", "/moon/", pytest.param("/notes", id="names in mixed case")],
)
def test_the_security_headers_that_the_app_sets_arrive_once_and_unchanged(browser, path):
    response = browser.navigate(path)

    sent = {name: response.headers.get_list(name) for name in OWN_HEADERS}
    assert sent == {name: [value] for name, value in OWN_HEADERS.items()}


def test_the_hsts_field_of_the_app_is_never_changed(browser):
    """On localhost over plain HTTP it may be withheld: it would bind every program there."""
    sent = browser.navigate("/moon").headers.get_list("strict-transport-security")

    assert sent in ([], ["max-age=300"])


def test_a_page_arrives_with_its_cookies_in_order(browser):
    response = browser.navigate("/moon")

    assert response.status_code == 200
    assert response.text == "<h1>Moon</h1><img src='//images.example/moon.png'>"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers.get_list("set-cookie") == ["b=2; Path=/", "a=1; Path=/"]


def test_head_has_the_length_of_get_and_no_body(browser):
    response = browser.fetch("HEAD", "/moon")

    assert response.status_code == 200
    assert response.headers["content-length"] == "50"
    assert response.content == b""


def test_options_names_the_methods_without_a_body(script):
    response = script.options("/moon")

    assert response.status_code == 204
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    assert response.content == b""


def test_a_method_that_the_app_refuses_gets_its_own_405(script):
    response = script.delete("/moon")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    assert response.text == "read only"


@pytest.mark.parametrize(
    ("sent", "location"),
    [
        ("/moon/", "/moon"),
        ("/moon///", "/moon"),
        ("/moon/?phase=full&phase=new", "/moon?phase=full&phase=new"),
    ],
)
def test_a_trailing_slash_is_redirected_by_the_app(browser, sent, location):
    response = browser.navigate(sent)

    assert response.status_code == 308
    assert response.headers["location"] == location


def test_a_missing_page_is_the_apps_own_404(browser):
    response = browser.navigate("/nowhere")

    assert response.status_code == 404
    assert response.text == "no such day"
    assert response.headers["content-type"] == "text/plain"


def test_a_body_of_any_kind_reaches_the_function(browser, script):
    text = "full moon; it's <b>bright</b>"
    headers = {"Content-Type": "text/plain"}
    assert text in browser.fetch("POST", "/notes", content=text, headers=headers).json()

    assert "no type at all" in script.post("/notes", content=b"no type at all").json()


def test_a_form_of_a_page_that_hides_its_referrer_arrives(browser):
    response = browser.submit("/notes", {"note": "new moon"}, no_referrer=True)

    assert response.status_code == 200
    assert "note=new+moon" in response.json()


def test_a_crash_before_the_answer_is_a_500_that_says_nothing_about_the_code(browser):
    response = browser.fetch("GET", "/notes?crash")

    assert response.status_code == 500
    assert "shelf" not in response.text
