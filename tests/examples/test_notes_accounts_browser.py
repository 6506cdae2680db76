"""Accounts as people use them: Chromium, `thebes dev`, the outbox, and access tokens that last one second."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from notes_browser import ELSEWHERE, PASSWORD, PHONE, cookies, lure, register, sign_in

pytestmark = [pytest.mark.slow, pytest.mark.browser]

NEW_PASSWORD = "moonlight over seven gates"


def forget(context: BrowserContext, name: str) -> None:
    context.clear_cookies(name=re.compile(rf"__Host-thebes-{name}-\d+"))


def is_signed_in(page: Page) -> bool:
    page.goto("/notes")
    return page.get_by_role("heading", name="Your notes").is_visible()


class TestComing:
    def test_an_account_is_made_confirmed_from_the_outbox_and_written_with(self, page, development):
        register(page, development, "bea@example.com")
        expect(page.get_by_role("status")).to_have_text("Your address is confirmed. Sign in to go on.")

        sign_in(page, "bea@example.com")
        page.get_by_label("Title", exact=True).fill("Lentil soup")
        page.get_by_label("Note", exact=True).fill("At noon")
        page.get_by_role("button", name="Put it in the book").click()

        expect(page.get_by_role("article", name="Lentil soup")).to_be_visible()

    def test_the_link_of_the_mail_changes_nothing_until_somebody_confirms(self, page, development):
        page.goto("/register")
        page.get_by_label("E-mail address").fill("cleo@example.com")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("main").get_by_role("button", name="Register").click()
        expect(page.get_by_role("heading", name="Look into your mail")).to_be_visible()
        link = development.link_in_mail("cleo@example.com", "/verify")

        page.goto(link)
        sign_in(page, "cleo@example.com")
        expect(page.get_by_role("alert")).to_contain_text("isn't confirmed yet")
        expect(page.get_by_role("link", name="Send the link again")).to_be_visible()

        page.goto(link)
        page.get_by_role("button", name="Confirm my address").click()
        sign_in(page, "cleo@example.com")
        expect(page.get_by_role("heading", name="Your notes")).to_be_visible()

        page.goto(link)
        page.get_by_role("button", name="Confirm my address").click()
        expect(page.get_by_role("alert")).to_contain_text("not valid any more")

    def test_a_wrong_password_is_answered_in_words_and_an_unknown_address_alike(self, page, ada):
        for address in (ada, "nobody@example.com"):
            sign_in(page, address, "not the right password")
            expect(page.get_by_role("alert")).to_have_text(
                "The address or the password is wrong. After several tries, wait a little."
            )

    def test_a_password_that_is_no_good_says_why(self, page):
        page.goto("/register")
        page.get_by_label("E-mail address").fill("dora@example.com")
        page.get_by_label("Password", exact=True).fill("dora@example.com")
        page.get_by_role("main").get_by_role("button", name="Register").click()

        expect(page.get_by_role("alert")).to_contain_text("made of your address")

    def test_all_of_it_works_without_script(self, browser, development):
        context = browser.new_context(base_url=development.url, viewport=PHONE, java_script_enabled=False)
        page = context.new_page()
        page.goto("/register")
        expect(page.get_by_role("button", name="Show password")).to_have_count(0)

        register(page, development, "finn@example.com")
        sign_in(page, "finn@example.com")
        expect(page.get_by_role("heading", name="Your notes")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()

        expect(page.get_by_role("status")).to_have_text("You are signed out.")
        context.close()


class TestStaying:
    def test_an_access_cookie_that_ends_is_renewed_and_nobody_notices(self, page, context, ada):
        sign_in(page, ada)
        page.wait_for_url("**/notes")
        first = cookies(context)["session"]

        seen = {first}
        while len(seen) < 3:  # each lasts a second
            page.reload()
            expect(page.get_by_role("heading", name="Your notes")).to_be_visible()
            seen.add(cookies(context)["session"])

    def test_a_form_that_was_opened_before_the_cookie_ended_is_still_taken(self, page, context, ada):
        sign_in(page, ada)
        page.get_by_label("Title", exact=True).fill("Slowly written")
        page.get_by_label("Note", exact=True).fill("Word by word")
        forget(context, "session")

        page.get_by_role("button", name="Put it in the book").click()

        expect(page.get_by_role("article", name="Slowly written")).to_be_visible()
        assert {"session", "refresh"} <= cookies(context).keys()

    def test_a_link_from_another_site_arrives_signed_in_and_a_form_from_there_does_nothing(
        self, context, development, ada
    ):
        page = context.new_page()
        sign_in(page, ada)
        page.wait_for_url("**/notes")
        lure(context, development)
        forget(context, "session")

        page.goto(ELSEWHERE)
        page.get_by_role("link", name="Notes").click()
        expect(page.get_by_role("heading", name="Your notes")).to_be_visible()

        for button in ("Sign out", "Sign in"):
            page.goto(ELSEWHERE)
            with page.expect_navigation() as navigation:
                page.get_by_role("button", name=button).click()
            assert navigation.value is not None
            assert navigation.value.status == 403
        assert is_signed_in(page)


class TestLeaving:
    def test_another_session_is_ended_at_its_next_click(self, page, other, ada):
        sign_in(other, ada)
        other.wait_for_url("**/notes")
        sign_in(page, ada)
        page.goto("/sessions")

        theirs = page.get_by_role("listitem").filter(has_text="Firefox on Linux")
        count = theirs.count()
        theirs.first.get_by_role("button", name="End this session").click()

        expect(page.get_by_role("status")).to_have_text("That session was ended.")
        expect(theirs).to_have_count(count - 1)
        other.reload()
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        assert is_signed_in(page)

    def test_a_reset_ends_all_sessions_and_a_refused_password_keeps_the_link(self, page, other, development):
        register(page, development, "gil@example.com")
        sign_in(other, "gil@example.com")
        other.wait_for_url("**/notes")
        page.goto("/forgot")
        page.get_by_label("E-mail address").fill("gil@example.com")
        page.get_by_role("button", name="Send the link").click()
        expect(page.get_by_role("status")).to_contain_text("a link is on its way")
        link = development.link_in_mail("gil@example.com", "/reset")

        page.goto(link)
        set_password(page, "gil@example.com")
        expect(page.get_by_role("alert")).to_contain_text("made of your address")
        set_password(page, NEW_PASSWORD)
        expect(page.get_by_role("status")).to_contain_text("Your password was changed")

        other.reload()
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        sign_in(page, "gil@example.com")
        expect(page.get_by_role("alert")).to_contain_text("password is wrong")
        sign_in(page, "gil@example.com", NEW_PASSWORD)
        expect(page.get_by_role("heading", name="Your notes")).to_be_visible()
        page.goto(link)
        set_password(page, PASSWORD)
        expect(page.get_by_role("alert")).to_contain_text("not valid any more")

    def test_a_changed_password_keeps_this_session_and_ends_the_others(self, page, other, development):
        register(page, development, "hal@example.com")
        sign_in(other, "hal@example.com")
        other.wait_for_url("**/notes")
        sign_in(page, "hal@example.com")
        page.goto("/sessions")
        page.get_by_label("Present password", exact=True).fill(PASSWORD)
        page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)

        page.get_by_role("button", name="Change it").click()

        expect(page.get_by_role("status")).to_contain_text("Your password was changed")
        expect(page.get_by_role("listitem")).to_have_count(1)
        other.reload()
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()

    def test_signing_out_leaves_nothing_behind_but_the_known_device(self, page, context, ada):
        sign_in(page, ada)
        page.get_by_role("button", name="Sign out").click()

        expect(page.get_by_role("status")).to_have_text("You are signed out.")
        assert cookies(context).keys() == {"device"}
        assert not is_signed_in(page)
        page.go_back()
        assert "Your notes" not in page.content()

    def test_signing_out_everywhere_ends_this_session_too(self, page, other, development):
        register(page, development, "ida@example.com")
        sign_in(other, "ida@example.com")
        other.wait_for_url("**/notes")
        sign_in(page, "ida@example.com")
        page.goto("/sessions")

        page.get_by_role("button", name="Sign out everywhere").click()

        expect(page.get_by_role("status")).to_have_text("You are signed out, here and everywhere else.")
        assert not is_signed_in(page)
        assert not is_signed_in(other)


def set_password(page: Page, password: str) -> None:
    page.get_by_label("New password", exact=True).fill(password)
    page.get_by_role("button", name="Set the password").click()
