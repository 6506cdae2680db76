"""The note board as people use it: `thebes dev` serves it, Chromium drives it.

The certificate is checked twice. A TLS client of ours trusts nothing but `.thebes/ca.pem`; Chromium,
whose trust store belongs to the machine, is told the key that this client has seen, and no other.
"""

import base64
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

pytestmark = [pytest.mark.slow, pytest.mark.browser]

EXAMPLE = Path(__file__).parents[2] / "examples" / "notes"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


@dataclass(frozen=True, slots=True)
class Server:
    """A running `thebes dev`: where it answers, and the key that it answers with."""

    url: str
    key_hash: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("notes")
    port = free_port()
    command = [sys.executable, "-m", "thebes", "dev", "main:app", "--app-dir", str(EXAMPLE)]
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-reload"],
            cwd=home,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            leaf = wait_for_certificate(process, port, home / ".thebes" / "ca.pem", log)
            yield Server(f"https://localhost:{port}", key_hash(leaf))
        finally:
            stop(process)


@pytest.fixture(scope="module")
def browser(chromium: str, server: Server) -> Iterator[Browser]:
    arguments = [
        "--no-sandbox",
        "--disable-background-networking",
        f"--ignore-certificate-errors-spki-list={server.key_hash}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    context = browser.new_context(
        base_url=server.url, viewport=DESKTOP, ignore_https_errors=False, locale="en-GB"
    )
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Give a page whose console must stay empty: no violation of the policy, no error, nothing."""
    page = context.new_page()
    told = console_of(page)
    yield page
    assert told == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """Return our environment without the settings of this test process."""
    ours = ("THEBES_", "NOTES_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"XDG_STATE_HOME": str(home / "state")}


def wait_for_certificate(process: subprocess.Popen[bytes], port: int, authority: Path, log: Path) -> bytes:
    """Return the server's certificate (DER) once it answers, verified by its local authority."""
    deadline = time.monotonic() + START_SECONDS
    problem: Exception | None = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return verified_certificate(port, authority)
        except (ConnectionError, FileNotFoundError) as error:  # not there yet; all else is a fault
            problem = error
            time.sleep(0.1)
    pytest.fail(f"thebes dev didn't answer ({problem}):\n{log.read_text(errors='replace')}")


def verified_certificate(port: int, authority: Path) -> bytes:
    trust = ssl.create_default_context(cafile=authority)
    with (
        socket.create_connection(("localhost", port), timeout=10) as connection,
        trust.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def key_hash(certificate: bytes) -> str:
    key = load_der_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def console_of(page: Page) -> list[str]:
    told: list[str] = []

    def failed(request: Request) -> None:
        # Who leaves a page before its icon has come breaks that request off: no fault of the page.
        if request.failure != "net::ERR_ABORTED":
            told.append(f"{request.failure}: {request.url}")

    page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"uncaught: {error}"))
    page.on("requestfailed", failed)
    return told


def write(page: Page, title: str, body: str) -> None:
    page.get_by_label("Title", exact=True).fill(title)
    page.get_by_label("Note", exact=True).fill(body)
    page.get_by_role("button", name="Put it on the board").click()


def delete(page: Page, title: str) -> None:
    page.get_by_role("button", name=f"Delete the note “{title}”").click()
    question = page.get_by_role("dialog", name="Delete this note?")
    question.get_by_role("button", name="Delete it").click()


def hidden_width(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_note_is_written_found_and_deleted(page):
    page.goto("/")
    assert page.evaluate("isSecureContext && location.protocol") == "https:"

    write(page, "Lentil soup", "At noon, by the third gate.\nBring a bowl.")
    expect(page.get_by_role("status")).to_have_text("Your note is on the board.")
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
    page.goto("/")
    write(page, "Rehearsal", "On Thursday")

    page.get_by_role("button", name="Delete the note “Rehearsal”").press("Enter")
    question = page.get_by_role("dialog", name="Delete this note?")
    expect(question).to_be_visible()
    question.get_by_role("button", name="Keep it").press("Enter")
    expect(question).to_be_hidden()

    expect(page.get_by_role("article", name="Rehearsal")).to_be_visible()


def test_a_reload_does_not_claim_again_that_a_note_was_written(page):
    page.goto("/")
    write(page, "Scarf", "Grey, found at the well")
    expect(page.get_by_role("status")).to_have_text("Your note is on the board.")

    page.reload()

    expect(page.get_by_role("article", name="Scarf")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("")


def test_the_counter_follows_what_is_typed(page):
    page.goto("/")

    page.get_by_label("Title", exact=True).fill("🏛" * 118)
    expect(page.locator("#title-help")).to_have_text("2 left")
    page.get_by_label("Title", exact=True).fill("x" * 121)
    expect(page.locator("#title-help")).to_have_text("1 too many")


def test_after_a_complaint_the_cursor_is_in_the_field_that_it_is_about(context):
    page = context.new_page()
    told = console_of(page)
    page.goto("/")

    write(page, "Bicycle", "   ")

    body = page.get_by_label("Note", exact=True)
    expect(body).to_be_focused()
    expect(body).to_have_accessible_description("Write something first. Up to 4,000 characters")
    expect(page.get_by_label("Title", exact=True)).to_have_value("Bicycle")
    # Chromium reports every answer of 400 or more in the console; nothing else may be there.
    assert [line for line in told if "status of 422" not in line] == []


def test_script_in_a_note_does_not_run(page):
    page.goto("/")
    write(page, "<script>document.title = 'taken'</script>", "<img src=x onerror=\"document.title='taken'\">")

    expect(page.get_by_role("article", name="<script>")).to_contain_text("<img src=x")
    assert page.title() == "Notes"


def test_a_violation_of_the_policy_would_be_told(context):
    """The other tests rest on this: an empty console means something."""
    page = context.new_page()
    told = console_of(page)
    page.goto("/")

    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.body.setAttribute('onclick', '1')")

    assert told != []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE, {"width": 320, "height": 640}])
def test_no_page_scrolls_sideways(context, page, viewport):
    page.set_viewport_size(viewport)
    page.goto("/")
    assert hidden_width(page) == 0

    write(page, "m" * 120, "w" * 400)
    expect(page.get_by_role("article", name="mmm")).to_be_visible()
    assert hidden_width(page) == 0
    page.get_by_role("button", name="Delete the note “mmm").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert hidden_width(page) == 0
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("status")).to_have_text("The note was deleted.")

    page.goto("/?q=" + "q" * 120)
    assert hidden_width(page) == 0


def test_everything_works_without_script(browser, server):
    context = browser.new_context(base_url=server.url, viewport=PHONE, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")

    write(page, "By hand", "No script at all")
    expect(page.get_by_role("status")).to_have_text("Your note is on the board.")
    delete(page, "By hand")
    expect(page.get_by_role("status")).to_have_text("The note was deleted.")

    context.close()
