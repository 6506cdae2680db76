"""The guestbook goes on working: inline code, a foreign script, a form and its session cookie."""

import re
import shutil

import pytest

pytestmark = pytest.mark.slow

ENTRY = "It's <b>fine</b>; 100% & more \N{SNOWMAN} SELECT * FROM guests -- ' OR 1=1"


def visits(response):
    return int(re.search(r"Visits: (\d+)", response.text)[1])


def test_the_page_arrives_with_its_inline_code_and_foreign_script_untouched(browser):
    response = browser.navigate("/")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert '<script src="https://cdn.widgets.example/confetti.js"></script>' in response.text
    assert "<script>function greet() {" in response.text
    assert "<style>.count { color: rgb(0, 128, 128); }</style>" in response.text
    assert '<button onclick="greet()">' in response.text
    assert '<h1 style="letter-spacing: 3px">' in response.text
    assert int(response.headers["content-length"]) == len(response.content)


def test_no_enforced_policy_governs_scripts_styles_or_form_targets(browser):
    policy = browser.navigate("/").headers.get("content-security-policy", "")
    directives = {part.split()[0] for part in policy.split(";") if part.strip()}

    assert not directives & {"default-src", "script-src", "style-src", "form-action", "sandbox"}


def test_the_session_counts_the_visits_of_each_browser_apart(browser, script):
    assert [visits(browser.navigate("/")) for _ in range(3)] == [1, 2, 3]
    assert [visits(script.get("/")) for _ in range(2)] == [1, 2]


def test_the_session_cookie_has_the_attributes_that_the_app_chose(browser):
    (cookie,) = browser.navigate("/").headers.get_list("set-cookie")

    assert cookie.startswith("session=")
    assert cookie.endswith("; path=/; Max-Age=3600; httponly; samesite=lax")


def test_a_form_post_is_stored_byte_for_byte_and_redirects(browser):
    browser.navigate("/")
    response = browser.submit("/sign", {"name": "Ada", "message": ENTRY})

    assert response.status_code == 303
    assert response.headers["location"] == "/"
    shown = browser.navigate(response.headers["location"], site="same-origin")
    assert "Signed in as Ada" in shown.text
    assert "It&#39;s &lt;b&gt;fine&lt;/b&gt;; 100% &amp; more \N{SNOWMAN}" in shown.text


def test_leaving_clears_the_session(browser):
    browser.submit("/sign", {"name": "Grace", "message": ""})
    assert "Signed in as Grace" in browser.navigate("/").text

    assert browser.submit("/leave", {}).status_code == 303
    assert "Signed in as" not in browser.navigate("/").text


def test_a_link_from_another_site_arrives_with_the_session(browser):
    browser.submit("/sign", {"name": "Edsger", "message": ""})
    referer = {"Referer": "https://search.example/"}

    assert "Signed in as Edsger" in browser.navigate("/", site="cross-site", headers=referer).text


def test_a_script_without_cookies_may_post_the_form(script):
    response = script.post("/sign", data={"name": "cron", "message": "nightly"})

    assert response.status_code == 303


def test_a_form_with_a_missing_field_is_answered_by_the_app(browser):
    response = browser.submit("/sign", {"message": "anonymous"})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "name"]


@pytest.mark.browser
def test_chromium_runs_the_inline_code_and_sends_the_form(served, chromium):
    page = chromium.new_page()
    page.route(
        "https://cdn.widgets.example/**",
        lambda route: route.fulfill(
            content_type="text/javascript", body="document.documentElement.dataset.cdn = 'ran'"
        ),
    )
    page.goto(served.url)

    assert page.locator("html").get_attribute("data-cdn") == "ran"
    assert page.locator("body").get_attribute("data-ready") == "yes"
    colour = "getComputedStyle(document.querySelector('.count')).color"
    assert page.evaluate(colour) == "rgb(0, 128, 128)"
    page.get_by_role("button", name="Greet").click()
    assert page.locator("#greeting").text_content() == "Hello!"

    page.fill("input[name=name]", "Linus")
    page.get_by_role("button", name="Sign").click()
    assert page.locator("#who").text_content() == "Signed in as Linus"
    assert page.locator(".count").text_content() == "Visits: 2"


@pytest.fixture(scope="module")
def chromium():
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-background-networking"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield launched
        launched.close()
