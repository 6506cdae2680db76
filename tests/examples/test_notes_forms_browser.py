"""The forms of the notebook's accounts in Chromium: their tokens, their passwords, their words, their shape."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Page, expect

from notes_browser import ELSEWHERE, PASSWORD, cookies, lure, sign_in

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PUBLIC_PAGES = (
    "/",
    "/register",
    "/verify",
    "/verify?token=x",
    "/login",
    "/forgot",
    "/reset",
    "/reset?token=x",
)
OWN_PAGES = ("/notes", "/sessions")
PROBLEMS = (
    *("wrong-credentials", "email-unverified", "password-compromised", "sign-in-required", "session-ended"),
    *("not-fresh", "link-invalid", "no-session", "bad-address", "sign-in-busy", "too-many-mails"),
    *("password-too-short", "password-too-long", "password-blocklisted", "password-breached"),
    *("password-context", "csrf-token", "bad-fields", "store-unavailable"),
)


class TestForms:
    @pytest.mark.requirement("CSR-07", by="live")
    def test_forms_of_nobody_carry_a_token_that_is_no_good_after_sign_in(self, context, development, ada):
        page = context.new_page()
        page.goto("/login")
        token = page.locator("main [name=csrf_token]").input_value()
        words = {"email": ada, "password": PASSWORD}

        for path in ("/auth/login", "/auth/register", "/auth/forgot", "/auth/verify/resend"):
            form = words if path in ("/auth/login", "/auth/register") else {"email": ada}
            assert post(page, path, form) == 403, path
            assert post(page, path, form | {"csrf_token": token[:-1]}) == 403, path
        sign_in(page, ada)
        page.wait_for_url("**/notes")

        assert "presession" not in cookies(context)
        note = {"title": "Planted", "body": "By an old token"}
        assert post(page, "/notes", note | {"csrf_token": token}) == 403
        own = page.locator("main [name=csrf_token]").first.input_value()
        assert post(page, "/notes", note | {"csrf_token": own}) == 200

        lure(context, development)
        context.clear_cookies()
        for button in ("Sign in", "Register"):
            page.goto(ELSEWHERE)
            with page.expect_navigation() as navigation:
                page.get_by_role("button", name=button).click()
            assert navigation.value is not None
            assert navigation.value.status == 403

    @pytest.mark.requirement("PWD-25", by="live")
    def test_every_password_field_can_be_filled_pasted_into_and_shown(self, page, context, ada):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        kinds = {}
        for path in ("/register", "/login", "/reset?token=x", "/sessions"):
            if path == "/sessions":
                sign_in(page, ada)
                page.wait_for_url("**/notes")
            page.goto(path)
            page.evaluate("text => navigator.clipboard.writeText(text)", PASSWORD)
            for field in page.locator("input[name*=password]").all():
                expect(field).to_have_attribute("type", "password")
                kinds.setdefault(path, []).append(field.get_attribute("autocomplete"))
                field.press("Control+v")
                expect(field).to_have_value(PASSWORD)
                show = page.locator(f"button[aria-controls={field.get_attribute('id')}]")
                expect(show).to_have_accessible_name(re.compile("^Show .*password$"))
                show.click()
                expect(field).to_have_attribute("type", "text")
                expect(show).to_have_attribute("aria-pressed", "true")
                show.press("Enter")
                expect(field).to_have_attribute("type", "password")

        assert kinds == {
            "/register": ["new-password"],
            "/login": ["current-password"],
            "/reset?token=x": ["new-password"],
            "/sessions": ["current-password", "new-password"],
        }

    @pytest.mark.requirement("ACC-09", by="live")
    @pytest.mark.parametrize(
        "path", ["/reset?token=x", "/verify?token=x", "/reset?token=x&problem=csrf-token"]
    )
    def test_a_page_with_a_token_is_kept_from_caches_and_other_sites(self, page, development, path):
        asked = []
        page.on("request", lambda request: asked.append(request.url))

        answer = page.goto(path)

        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert len(asked) > 2
        assert [url for url in asked if not url.startswith(development.url + "/")] == []

    @pytest.mark.parametrize("problem", [*PROBLEMS, "anything-else", "<b>bold</b>"])
    def test_every_problem_is_told_in_a_sentence_of_ours(self, page, problem):
        page.goto(f"/login?problem={problem}")

        said = page.get_by_role("alert").inner_text()
        assert re.match(r"[A-Z].*\.$", said)
        assert ("That did not work" in said) is (problem not in PROBLEMS)

    def test_a_form_that_comes_back_keeps_what_was_typed_but_no_password(self, page):
        page.goto("/login")
        page.get_by_label("E-mail address").fill("ada@example.org")
        page.get_by_label("Password", exact=True).fill("not the right password")
        page.get_by_label("Stay signed in").check()
        page.get_by_role("button", name="Sign in").click()

        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_label("E-mail address")).to_have_value("ada@example.org")
        expect(page.get_by_label("Stay signed in")).to_be_checked()
        expect(page.get_by_label("Password", exact=True)).to_have_value("")
        assert page.evaluate("sessionStorage.length + localStorage.length") == 0

        page.reload()
        expect(page.get_by_label("E-mail address")).to_have_value("")


class TestShape:
    @pytest.mark.parametrize("width", [1280, 390, 320])
    def test_no_page_scrolls_sideways(self, page, ada, width):
        page.set_viewport_size({"width": width, "height": 800})
        for path in visited(page, ada):
            hidden = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert hidden == 0, path

    def test_every_field_has_a_label_and_every_page_one_main_heading(self, page, ada):
        for path in visited(page, ada):
            expect(page.get_by_role("main")).to_have_count(1)
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            for field in page.locator("input:not([type=hidden]):visible, textarea, button:visible").all():
                expect(field).to_have_accessible_name(re.compile(".+"))
            assert page.title() not in ("", path)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing(self, page, ada, scheme):
        axe = axe_script()
        page.emulate_media(color_scheme=scheme)
        for path in visited(page, ada):
            page.evaluate(axe)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], path


def axe_script() -> str:
    """Return axe-core, which a package for tests brings along."""
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


def visited(page: Page, address: str) -> Iterator[str]:
    """Open one page after the other: nobody's, with and without a complaint, and then one's own."""
    for path in PUBLIC_PAGES:
        page.goto(path)
        yield path
        told = f"{path}{'&' if '?' in path else '?'}problem=link-invalid"
        page.goto(told)
        yield told
    sign_in(page, address)
    page.wait_for_url("**/notes")
    for path in OWN_PAGES:
        page.goto(path)
        yield path


def post(page: Page, path: str, form: dict[str, str]) -> int:
    """Post a form from a script of the page itself, and return the status of what it leads to."""
    script = (
        "([path, form]) => fetch(path, {method: 'POST', body: new URLSearchParams(form)}).then(a => a.status)"
    )
    return int(page.evaluate(script, [path, form]))
