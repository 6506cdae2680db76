"""The notebook as people use it: `thebes dev` serves it, Chromium drives it."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect

from notes_browser import (
    ADDRESS,
    DESKTOP,
    PHONE,
    Server,
    console_of,
    register,
    serving,
    sign_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the server with lifetimes as they are, so that many windows can share one sign-in."""
    with serving(tmp_path_factory.mktemp("notes")) as development:
        yield development


@pytest.fixture(scope="module")
def signed_in(browser: Browser, development: Server) -> StorageState:
    """Register and sign in once, and give the cookies of that."""
    context = browser.new_context(base_url=development.url)
    page = context.new_page()
    register(page, development, ADDRESS)
    sign_in(page, ADDRESS)
    page.wait_for_url("**/notes")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def context(browser: Browser, development: Server, signed_in: StorageState) -> Iterator[BrowserContext]:
    context = browser.new_context(
        base_url=development.url,
        viewport=DESKTOP,
        ignore_https_errors=False,
        locale="en-GB",
        storage_state=signed_in,
    )
    yield context
    context.close()


def write(page: Page, title: str, body: str) -> None:
    page.get_by_label("Title", exact=True).fill(title)
    page.get_by_label("Note", exact=True).fill(body)
    page.get_by_role("button", name="Put it in the book").click()


def delete(page: Page, title: str) -> None:
    page.get_by_role("button", name=f"Delete the note “{title}”").click()
    question = page.get_by_role("dialog", name="Delete this note?")
    question.get_by_role("button", name="Delete it").click()


def hidden_width(page: Page) -> int:
    """Return by how many pixels the page is wider than its window, once its style sheet is there."""
    page.wait_for_load_state("load")
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_note_is_written_found_and_deleted(page):
    page.goto("/notes")
    assert page.evaluate("isSecureContext && location.protocol") == "https:"

    write(page, "Lentil soup", "At noon, by the third gate.\nBring a bowl.")
    expect(page.get_by_role("status")).to_have_text("Your note is in the book.")
    note = page.get_by_role("article", name="Lentil soup")
    expect(note).to_contain_text("At noon, by the third gate.\nBring a bowl.")
    expect(note.get_by_role("time")).to_have_text("just now")

    page.get_by_role("searchbox", name="Search the notes").fill("THIRD GATE")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="Found")).to_be_visible()
    expect(note).to_be_visible()

    delete(page, "Lentil soup")
    expect(page.get_by_role("status")).to_have_text("The note was deleted.")
    expect(page.get_by_text("No note mentions “THIRD GATE”.")).to_be_visible()
    expect(note).to_have_count(0)


def test_a_question_comes_before_a_note_is_deleted_and_no_keeps_it(page):
    page.goto("/notes")
    write(page, "Rehearsal", "On Thursday")

    page.get_by_role("button", name="Delete the note “Rehearsal”").press("Enter")
    question = page.get_by_role("dialog", name="Delete this note?")
    expect(question).to_be_visible()
    question.get_by_role("button", name="Keep it").press("Enter")
    expect(question).to_be_hidden()

    expect(page.get_by_role("article", name="Rehearsal")).to_be_visible()


def test_a_reload_does_not_claim_again_that_a_note_was_written(page):
    page.goto("/notes")
    write(page, "Scarf", "Grey, found at the well")
    expect(page.get_by_role("status")).to_have_text("Your note is in the book.")
    expect(page).not_to_have_url(re.compile("done="))  # the page's script takes it out of the address

    page.reload()

    expect(page.get_by_role("article", name="Scarf")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("")


def test_the_counter_follows_what_is_typed(page):
    page.goto("/notes")

    page.get_by_label("Title", exact=True).fill("🏛" * 118)
    expect(page.locator("#title-help")).to_have_text("2 left")
    page.get_by_label("Title", exact=True).fill("x" * 121)
    expect(page.locator("#title-help")).to_have_text("1 too many")


def test_after_a_complaint_the_cursor_is_in_the_field_that_it_is_about(context):
    page = context.new_page()
    told = console_of(page)
    page.goto("/notes")

    write(page, "Bicycle", "   ")

    body = page.get_by_label("Note", exact=True)
    expect(body).to_be_focused()
    expect(body).to_have_accessible_description("Write something first. Up to 4,000 characters")
    expect(page.get_by_label("Title", exact=True)).to_have_value("Bicycle")
    # Chromium reports every answer of 400 or more in the console; nothing else may be there.
    assert [line for line in told if "status of 422" not in line] == []


def test_script_in_a_note_does_not_run(page):
    page.goto("/notes")
    write(page, "<script>document.title = 'taken'</script>", "<img src=x onerror=\"document.title='taken'\">")

    expect(page.get_by_role("article", name="<script>")).to_contain_text("<img src=x")
    assert page.title() == "Notes"


def test_a_violation_of_the_policy_would_be_told(context):
    """The other tests rest on this: an empty console means something."""
    page = context.new_page()
    told = console_of(page)
    page.goto("/notes")

    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.body.setAttribute('onclick', '1')")

    assert told != []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE, {"width": 320, "height": 640}])
def test_no_page_scrolls_sideways(context, page, viewport):
    page.set_viewport_size(viewport)
    page.goto("/notes")
    assert hidden_width(page) == 0

    write(page, "m" * 120, "w" * 400)
    expect(page.get_by_role("article", name="mmm")).to_be_visible()
    assert hidden_width(page) == 0
    page.get_by_role("button", name="Delete the note “mmm").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert hidden_width(page) == 0
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("status")).to_have_text("The note was deleted.")

    page.goto("/notes?q=" + "q" * 120)
    assert hidden_width(page) == 0


def test_everything_works_without_script(browser, development, signed_in):
    context = browser.new_context(
        base_url=development.url, viewport=PHONE, java_script_enabled=False, storage_state=signed_in
    )
    page = context.new_page()
    page.goto("/notes")

    write(page, "By hand", "No script at all")
    expect(page.get_by_role("status")).to_have_text("Your note is in the book.")
    delete(page, "By hand")
    expect(page.get_by_role("status")).to_have_text("The note was deleted.")

    context.close()
