"""Make the app fail, and look for what the failure tells: to the client nothing, to the log everything."""

import importlib.metadata
import json
import logging
import platform
import re
from html.parser import HTMLParser
from http.client import IncompleteRead
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

import thebes.answers
import thebes.csrf
import thebes.https.hosts
import thebes.https.scheme
import thebes.validation.body
import thebes.validation.methods
from attack import FETCH, NAVIGATION, Answered, Served, protecting
from board import CANARY, OWN_ERROR, BoardError, make_board
from live import client, eventually, serving
from thebes import Denial, Events

ROOT = Path(__file__).parents[2]
LEAKS = [CANARY, "BoardError", "RuntimeError", "SELECT", "Traceback", "/srv/", "site-packages", ".py"]
EVIL = ("Origin", "https://evil.example")


def assert_tells_nothing(answer: Answered) -> None:
    everything = repr(answer.fields) + answer.body.decode()
    assert [leak for leak in LEAKS if leak.lower() in everything.lower()] == []


def assert_log_tells_all(caplog: pytest.LogCaptureFixture) -> None:
    eventually(lambda: "BoardError" in caplog.text)
    assert CANARY in caplog.text
    assert "Traceback (most recent call last)" in caplog.text
    assert 'board.py", line' in caplog.text


@pytest.mark.requirement("HTTP-10", by="live")
class TestAnUncaughtException:
    def test_gives_a_program_type_title_status_and_request_id_only(self, production):
        answer = production.ask("GET", "/crash", FETCH)
        assert answer.status == 500
        assert_tells_nothing(answer)
        problem = json.loads(answer.body)
        request_id = problem.pop("request_id")
        assert problem == {
            "type": "urn:thebes:problem:internal-error",
            "title": "Internal server error",
            "status": 500,
        }
        [event] = production.events
        assert (event["event"], event["request_id"]) == ("request_failed", request_id)
        assert CANARY not in "".join(production.lines)

    def test_gives_a_person_a_page_that_tells_no_more(self, production):
        answer = production.ask("GET", "/crash", NAVIGATION)
        assert (answer.status, answer.only("content-type")) == (500, "text/html; charset=utf-8")
        assert_tells_nothing(answer)
        assert production.events[0]["request_id"] in answer.body.decode()

    def test_is_in_the_servers_log_with_all_that_is_known(self, production, caplog):
        production.ask("GET", "/crash")
        assert_log_tells_all(caplog)

    def test_in_the_middle_of_an_answer_cuts_it_off_and_is_in_the_log(self, production, caplog):
        with pytest.raises(IncompleteRead) as cut:
            production.ask("GET", "/late-crash")
        assert cut.value.partial == b"begun "
        assert_log_tells_all(caplog)

    def test_on_a_handshake_tells_nothing_either(self, production):
        answer = production.handshake(target="/crash-socket")
        assert (answer.status, answer.kind) == (500, "internal-error")
        assert_tells_nothing(answer)

    def test_in_a_mounted_app_tells_no_less_and_no_more(self):
        app = make_board()
        app.mount("/inner", make_board())
        with protecting(app) as served:
            answer = served.ask("GET", "/inner/crash", FETCH)
        assert (answer.status, answer.kind) == (500, "internal-error")
        assert_tells_nothing(answer)

    def test_in_a_wrapped_app_is_answered_the_same(self):
        async def app(scope, receive, send):
            raise BoardError(CANARY)

        with protecting(app, wrap=True) as served:
            answer = served.ask("GET", "/", FETCH)
        assert (answer.status, answer.kind) == (500, "internal-error")
        assert_tells_nothing(answer)

    def test_is_what_an_app_that_answers_nothing_amounts_to(self):
        async def app(scope, receive, send):
            return

        with protecting(app, wrap=True) as served:
            answer = served.ask("GET", "/", FETCH)
        assert (answer.status, answer.kind) == (500, "internal-error")

    def test_tells_everything_without_us(self):
        with serving(make_board(debug=True)) as url, client(url) as bare:
            answer = bare.get("/crash")
        assert CANARY in answer.text
        assert "Traceback" in answer.text


@pytest.mark.requirement("HTTP-10", by="live")
class TestErrorsOfTheApp:
    @pytest.mark.parametrize(
        ("method", "target", "status"),
        [
            ("GET", "/own-error", 418),
            ("GET", "/nowhere", 404),
            ("DELETE", "/page", 405),
            ("GET", "/numbered?number=x", 422),
        ],
    )
    def test_are_left_alone(self, production, method, target, status):
        with TestClient(make_board()) as bare:
            own = bare.request(method, target)
        answer = production.ask(method, target, FETCH)
        assert (answer.status, answer.body) == (status, own.content)
        assert answer.only("content-type") == own.headers["content-type"]

    def test_are_in_its_own_words(self, production):
        assert json.loads(production.ask("GET", "/own-error").body) == {"detail": OWN_ERROR}

    @pytest.mark.parametrize("key", [Exception, 500])
    def test_from_its_own_handler_of_exceptions_are_left_alone(self, key):
        async def handler(request: Request, error: Exception) -> Response:
            return PlainTextResponse("the board is closed", 500)

        app = make_board(exception_handlers={key: handler})
        with protecting(app) as served:
            assert served.ask("GET", "/crash").body == b"the board is closed"


def every_denial() -> dict[str, Denial]:
    rooms = (
        thebes.answers,
        thebes.csrf,
        thebes.https.hosts,
        thebes.https.scheme,
        thebes.validation.body,
        thebes.validation.methods,
    )
    return {value.kind: value for room in rooms for value in vars(room).values() if isinstance(value, Denial)}


@pytest.mark.requirement("HTTP-10")
class TestProblemTypes:
    def test_are_documented(self):
        page = (ROOT / "docs" / "problems.md").read_text("utf-8")
        assert [kind for kind in every_denial() if kind not in page] == []

    def test_say_what_to_do_in_words_that_hold_nothing_of_the_request(self):
        for denial in every_denial().values():
            assert re.fullmatch(r"[a-z0-9-]+", denial.kind)
            assert denial.title
            assert "{" not in denial.title + denial.detail


PAGES = [
    pytest.param("GET", "/crash", NAVIGATION, 500, id="an uncaught exception"),
    pytest.param("POST", "/page", (EVIL, ("Sec-Fetch-Mode", "navigate")), 403, id="a refused form"),
    pytest.param("GET", "/page", (("Host", "a"), *NAVIGATION), 400, id="a malformed Host"),
    pytest.param(
        "GET", "/%3Cimg%20src=x%20onerror=alert(1)%3E", (("Host", "<b>"), *NAVIGATION), 400, id="markup"
    ),
]


@pytest.mark.requirement("HTTP-09", by="live")
class TestShippedPages:
    @pytest.mark.parametrize(("method", "target", "fields", "status"), PAGES)
    def test_load_nothing_and_run_nothing(self, production, method, target, fields, status):
        answer = production.ask(method, target, fields)
        assert answer.status == status
        page = Page(answer.body.decode())
        assert page.tags == {"html", "meta", "title", "style", "main", "h1", "p", "small"}
        assert page.attributes <= {"lang", "charset", "name", "content", "nonce"}
        assert not re.search(r"url\(|@import|//|javascript:|storage", answer.body.decode(), re.IGNORECASE)

    @pytest.mark.parametrize(("method", "target", "fields", "status"), PAGES)
    def test_hold_nothing_that_the_request_said(self, production, method, target, fields, status):
        hostile = [
            ("Referer", "https://canary.example/<i>"),
            ("User-Agent", "<u>canary</u>"),
            ("Cookie", "canary=<s>"),
        ]
        answer = production.ask(method, f"{target}?q=canary%3Cscript%3E", [*fields, *hostile])
        assert answer.status == status
        for piece in ("canary", "onerror", "<b>", "<i>", "<u>", "<s>", "script>"):
            assert piece not in answer.body.decode()


class Page(HTMLParser):
    """The names of the elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


PRODUCTS = ("uvicorn", "starlette", "fastapi", "pydantic", "httptools", "websockets", "anyio", "thebes")


def versions_in(answer: Answered) -> list[str]:
    """Names and versions of the server, the framework and the language that an answer holds."""
    everything = " ".join([*(f"{name}: {value}" for name, value in answer.fields), answer.body.decode()])
    versions = {importlib.metadata.version(product) for product in PRODUCTS} | {platform.python_version()}
    names = (
        "uvicorn",
        "starlette",
        "fastapi",
        "pydantic",
        "python",
        "websockets/",
        "x-powered-by",
        "server:",
    )
    return [text for text in (*versions, *names) if text in everything.lower()]


@pytest.mark.requirement("HTTP-18", by="live")
class TestVersions:
    @pytest.mark.parametrize(
        ("method", "target", "fields"),
        [
            ("GET", "/page", NAVIGATION),
            ("GET", "/notes", FETCH),
            ("GET", "/healthz", ()),
            ("GET", "/nowhere", ()),
            ("GET", "/numbered?number=x", ()),
            ("DELETE", "/page", FETCH),
            ("OPTIONS", "/page", ()),
            ("GET", "/crash", NAVIGATION),
            ("GET", "/crash", FETCH),
            ("GET", "/docs", NAVIGATION),
            ("GET", "/openapi.json", ()),
            ("POST", "/notes", (EVIL,)),
            ("TRACE", "/notes", ()),
            ("TRACK", "/notes", ()),
            ("GET", "/page", (("Host", "two"),)),
            ("GET", "/page", (("X-Forwarded-Proto", "two"),)),
            ("GET", "/socket", ()),
        ],
    )
    def test_are_in_no_answer(self, production, method, target, fields):
        assert versions_in(production.ask(method, target, fields)) == []

    @pytest.mark.parametrize(
        "raw",
        [
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost example.com\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nContent-Length: x\r\n\r\n",
        ],
    )
    def test_are_not_in_the_servers_own_refusals(self, production, raw):
        answer = production.send(raw)
        assert answer.status >= 400
        assert versions_in(answer) == []

    @pytest.mark.parametrize(
        "fields", [(), (EVIL,), (("Sec-WebSocket-Version", "12"),), (("Sec-WebSocket-Key", "x"),)]
    )
    def test_are_not_in_answers_to_handshakes(self, production, fields):
        assert versions_in(production.handshake(fields)) == []

    def test_would_be_seen(self):
        with serving(make_board(debug=True), server_header=True) as url:
            served = Served(url, FastAPI(), None, [], [("Host", "localhost")])  # type: ignore[arg-type]
            assert {"uvicorn", "server:", "starlette"} <= set(
                versions_in(served.ask("GET", "/crash", NAVIGATION))
            )


HOSTILE_PATH = "/a%0d%0a%7b%22event%22:%22forged%22%7d%1b%5b31m%e2%80%ae%c2%85%e2%80%a8%00%7f%08"
# The server lets no control character through in a field, but every byte from 0x80 on: C1 controls too.
HOSTILE_FIELDS = [
    ("Origin", b"https://evil.example\x9b2J\xe2\x80\xae\x85"),
    ("Referer", b"https://evil.example/\xe2\x80\xa8\t\x9b31m"),
    ("User-Agent", b"\xc2\x85\xe2\x80\xae"),
    ("X-Forwarded-For", b"203.0.113.7\x9b31m, \xe2\x80\xae"),
]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is logged, the server's access log too."""
    for name in ("uvicorn.access", "uvicorn.error", "thebes.events"):
        caplog.set_level(logging.INFO, name)
    return caplog


@pytest.mark.requirement("LOG-04", by="live")
class TestHostileText:
    def test_in_a_denied_request_stays_in_one_line_of_plain_ascii(self, log):
        with protecting(make_board(), events=Events()) as served:
            base = [("Host", "evil.example"), served.base[1]]
            answer = served.ask("POST", HOSTILE_PATH, HOSTILE_FIELDS, base=base)
            assert answer.status == 421
        lines = [record.getMessage() for record in log.records if record.name == "thebes.events"]
        for line in lines:
            assert_one_plain_line(line)
        [event] = [json.loads(line) for line in lines if '"event":"request_denied"' in line]
        assert event["route"] == "/a\r\n" + '{"event":"forged"}\x1b[31m\u202e\x85\u2028\x00\x7f\x08'

    def test_in_any_request_stays_in_one_line_of_the_access_log(self, log, production):
        production.ask("GET", HOSTILE_PATH, HOSTILE_FIELDS)
        production.handshake(HOSTILE_FIELDS, target=HOSTILE_PATH)
        lines = [record.getMessage() for record in log.records if "/a" in record.getMessage()]
        assert len(lines) >= 2
        for line in lines:
            assert_one_plain_line(line)


def assert_one_plain_line(line: str) -> None:
    assert line.isascii()
    assert line.isprintable()
    assert len(line.splitlines()) == 1
