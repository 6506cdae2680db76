"""The example app in process, with somebody signed in, and what a browser would make of its pages."""

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from httpx2 import Response
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from starlette.testclient import TestClient

from notes_browser import ADDRESS, DESKTOP, Server, arguments, console_of, register, serving
from thebes.encoding import uuid7
from thebes.membership import Membership
from thebes.stores.accounts import Account

EXAMPLE = Path(__file__).parents[2] / "examples" / "notes"
OURS = ("main", "board")
ORIGIN = "https://testserver"
PASSWORD = "sunrise over seven gates"
# What a browser says of a form on a page of ours.
FROM_A_PAGE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}


class Board(TestClient):
    """A client of the notebook, with short names for what many tests do."""

    def sign_in(self, address: str, *, page: str = "/login") -> str:
        """Sign in by the form of the sign-in page, and return where it leads."""
        goes_to = Outline(self.get(page).text).attributes("input", first=True, name="next")["value"]
        form = {"email": address, "password": PASSWORD, "next": goes_to or ""}
        answer = self.submit("/auth/login", form, page=page, follow_redirects=False)
        assert answer.status_code == 303
        return answer.headers["location"]

    def submit(
        self,
        path: str,
        form: dict[str, str] | None = None,
        *,
        page: str = "/notes",
        follow_redirects: bool = True,
    ) -> Response:
        """Post a form as a page of ours does, with the token that stands in it."""
        token = Outline(self.get(page).text).attributes("input", first=True, name="csrf_token")["value"]
        headers = FROM_A_PAGE | {"referer": ORIGIN + page}
        data = {"csrf_token": token} | (form or {})
        return self.post(path, data=data, headers=headers, follow_redirects=follow_redirects)

    def write(self, title: str = "A title", body: str = "A body") -> int:
        """Put a note into the book and return its id."""
        answer = self.post("/api/notes", json={"title": title, "body": body})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def titles(self, q: str = "") -> list[str]:
        """Return the titles of the notes that hold `q`, newest first."""
        return [note["title"] for note in self.get("/api/notes", params={"q": q}).json()]


class Outline(HTMLParser):
    """What a browser makes of a page: its elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        """The text with its white space collapsed, as it is shown."""
        return " ".join(self.text.split())

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def attributes(self, tag: str, *, first: bool = False, **wanted: str) -> dict[str, str | None]:
        """Return the attributes of the only element that has these, or of the first."""
        found = [
            attributes
            for name, attributes in self.elements
            if name == tag and wanted.items() <= attributes.items()
        ]
        assert found if first else len(found) == 1, found
        return found[0]


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """Import `main` and its package `board` as `--app-dir` does, and forget them afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        for name in loaded():
            patch.delitem(sys.modules, name)
        yield importlib.import_module("main")
        for name in loaded():
            del sys.modules[name]


@pytest.fixture(scope="module")
def server(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """Give a client that keeps the app running for the tests of a module, with cheap hashes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTES_DATABASE", str(tmp_path_factory.mktemp("notes") / "notes.db"))
        patch.setenv("THEBES_PASSWORDS", "test")
        with Board(example.app, base_url=ORIGIN) as client:
            yield client


@pytest.fixture
def visit(example: ModuleType, server: Board, tmp_path: Path) -> Callable[[], Board]:
    """Give what makes clients of the running app, all with the same notes, which are the test's own."""
    store = sys.modules["board.store"].NoteStore(tmp_path / "state" / "notes.db")

    def make() -> Board:
        # Whoever brings a session cookie has to say where the request comes from.
        client = Board(example.app, base_url=ORIGIN, headers={"origin": ORIGIN})
        client.portal = server.portal
        client.app_state["store"] = store
        return client

    return make


@pytest.fixture
def stranger(visit: Callable[[], Board]) -> Board:
    """Give a client of nobody."""
    return visit()


@pytest.fixture
def board(example: ModuleType, visit: Callable[[], Board]) -> Board:
    """Give a client of Ada, who has just signed in."""
    return signed_in(example, visit(), "ada@example.com")


@pytest.fixture
def bea(example: ModuleType, visit: Callable[[], Board]) -> Board:
    """Give a client of Bea, who uses the same server."""
    return signed_in(example, visit(), "bea@example.com")


def signed_in(example: ModuleType, client: Board, address: str) -> Board:
    """Return the client once it is signed in to an account of this address."""
    enroll(example, client, address)
    assert client.sign_in(address) == "/notes"
    return client


def enroll(example: ModuleType, client: Board, address: str) -> None:
    """Make an account whose address is confirmed already."""
    assert client.portal is not None
    members: Membership = example.security.membership
    password_hash = client.portal.call(members.passwords.hash, PASSWORD)
    account = Account(
        id=uuid7(),
        email=address,
        email_key=address,
        password_hash=password_hash,
        verified_at=1.0,
        created_at=1.0,
    )
    client.portal.call(partial(members.store.accounts.create, account))


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("notes")
    with serving(home, THEBES_ACCESS_LIFETIME="1", THEBES_LEEWAY="0") as development:
        yield development


@pytest.fixture(scope="module")
def browser(chromium: str, development: Server) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments(development))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ada(browser: Browser, development: Server) -> str:
    """Make the account that most tests sign in to."""
    context = browser.new_context(base_url=development.url)
    register(context.new_page(), development, ADDRESS)
    context.close()
    return ADDRESS


@pytest.fixture
def context(browser: Browser, development: Server) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=development.url, viewport=DESKTOP, locale="en-GB")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Give a page whose console must stay empty: no violation of the policy, no error, nothing."""
    page = context.new_page()
    told = console_of(page)
    yield page
    assert told == []


@pytest.fixture
def other(browser: Browser, development: Server) -> Iterator[Page]:
    """Give a page of another browser of the same person."""
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    context = browser.new_context(base_url=development.url, user_agent=agent)
    yield context.new_page()
    context.close()


@pytest.fixture
def outline() -> type[Outline]:
    return Outline


def loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in OURS]
