"""One attack for each defence: refused with it, recorded as an event, and successful without it."""

from collections.abc import Iterator

import pytest

from attack import HTTPS, PLAIN, Answered, Fields, Served, protecting
from board import make_board

PARTNER = ("Origin", "https://app.partner.example")
EVIL = ("Origin", "https://evil.example")
NONE = ("Sec-Fetch-Site", "none")

# Defence, method, target, fields, base, body, reason in the event, what the app answers without the defence.
ATTACKS = [
    pytest.param(
        "hosts", "GET", "/page", (), [("Host", "evil.example"), HTTPS], b"", "host-unknown", 200, id="hosts"
    ),
    pytest.param("methods", "TRACE", "/notes", (NONE,), None, b"", "method-refused", 200, id="methods"),
    pytest.param(
        "https",
        "POST",
        "/notes",
        (),
        [("Host", "example.com"), PLAIN],
        b"",
        "https-required",
        200,
        id="https",
    ),
    pytest.param(
        "body", "POST", "/notes", (), None, b"a" * (1024 * 1024 + 1), "body-too-large", 200, id="body size"
    ),
    pytest.param(
        "body",
        "POST",
        "/notes",
        (("Content-Encoding", "gzip"),),
        None,
        b"\x1f\x8b",
        "coding-refused",
        200,
        id="body coding",
    ),
    pytest.param(
        "body",
        "POST",
        "/notes",
        (("Content-Type", "application/xml"),),
        None,
        b"<!DOCTYPE a>",
        "xml-refused",
        200,
        id="body type",
    ),
    pytest.param("csrf", "POST", "/notes", (EVIL,), None, b"a=1", "cross-origin", 200, id="csrf"),
    pytest.param(
        "csrf",
        "POST",
        "/notes",
        (("Cookie", "session=1"),),
        None,
        b"",
        "origin-missing",
        200,
        id="csrf without origin",
    ),
]
CASE = ("defence", "method", "target", "fields", "base", "body", "reason", "status")


def attack(
    served: Served, method: str, target: str, fields: Fields, base: Fields | None, body: bytes
) -> Answered:
    served.forget()
    return served.ask(method, target, fields, base=base, body=body)


@pytest.mark.parametrize(CASE, ATTACKS)
def test_an_attack_is_refused_and_recorded(
    production, defence, method, target, fields, base, body, reason, status
):
    answer = attack(production, method, target, fields, base, body)
    assert (answer.status >= 400, answer.kind) == (True, reason)
    assert production.reached == []
    [event] = production.events
    assert (event["event"], event["severity"], event["outcome"]) == ("request_denied", "warning", "denied")
    assert (event["reason"], event["method"], event["route"]) == (reason, method, target)
    assert event["request_id"] in answer.body.decode()


@pytest.fixture(scope="module", params=["hosts", "methods", "https", "body", "csrf"])
def lacking(request: pytest.FixtureRequest) -> Iterator[tuple[str, Served]]:
    """The board without one defence, and the name of that."""
    with protecting(make_board(), session_cookies=["session"], without=[request.param]) as served:
        yield request.param, served


@pytest.mark.parametrize(CASE, ATTACKS)
def test_the_same_attack_succeeds_without_that_defence_and_no_other(
    lacking, defence, method, target, fields, base, body, reason, status
):
    missing, served = lacking
    answer = attack(served, method, target, fields, base, body)
    if missing == defence:
        assert answer.status == status
        assert served.reached == [f"{method} {target}"]
        assert served.events == []
    else:
        assert answer.kind == reason
        assert served.reached == []


def test_without_all_defences_an_answer_is_the_apps_own():
    names = ["hosts", "methods", "https", "cors", "body", "csrf", "headers"]
    with protecting(make_board(), origins=[PARTNER[1]], without=names) as served:
        answer = served.ask("POST", "/notes", [PARTNER], base=[("Host", "evil.example")])
    names_of_fields = {name for name, _ in answer.fields}
    assert names_of_fields == {"date", "content-length", "content-type", "connection"}


def test_a_flood_of_attacks_is_one_line_and_a_count(production):
    production.forget()
    for _ in range(30):
        production.ask("POST", "/notes", [EVIL])
    assert production.security.events.counts["request_denied"] == 30
    production.security.events.flush()
    lines = [event for event in production.events if event["reason"] == "cross-origin"]
    assert sum(event["count"] for event in lines) == 30
    assert len(lines) < 10


def test_plain_http_and_redirects_are_told_apart_in_the_events(production):
    page = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")]
    production.ask("GET", "/page", page, base=[("Host", "example.com"), PLAIN])
    production.ask("GET", "/page", base=[("Host", "example.com"), PLAIN])
    assert [(event["event"], event["reason"]) for event in production.events] == [
        ("https_redirect", None),
        ("request_denied", "https-required"),
    ]
