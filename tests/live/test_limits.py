"""Flood a protected app: what goes beyond a limit is refused before the app sees it."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from attack import FETCH, NAVIGATION, Fields, Served, in_mode, named_client, protecting
from board import make_board
from live import PATIENCE_SECONDS
from thebes import Quota, Rate, Security
from thebes.audit import look

NONE = ("Sec-Fetch-Site", "none")
KINDS = {
    "a script's GET": ("GET", "/page", FETCH, b"", "1.1"),
    "an API client's GET": ("GET", "/notes", (), b"", "1.1"),
    "a GET by HTTP/1.0": ("GET", "/page", (), b"", "1.0"),
    "a POST with a body": ("POST", "/notes", [NONE], b"a=1", "1.1"),
    "a form of the own site": ("POST", "/page", [("Origin", "https://example.com")], b"a=1", "1.1"),
    "a DELETE": ("DELETE", "/notes", [NONE], b"", "1.1"),
    "a method of WebDAV": ("PROPFIND", "/page", [NONE], b"", "1.1"),
    "an unknown path": ("GET", "/nowhere", (), b"", "1.1"),
    "a route that fails": ("GET", "/crash", (), b"", "1.1"),
}


@pytest.fixture(scope="module")
def three_a_day() -> Iterator[Served]:
    """The board where each client has three requests a day."""
    with protecting(make_board(), limits=Quota("3/day", name="visits")) as served:
        yield served


@pytest.fixture
def spent(three_a_day: Served) -> Fields:
    """A client that has nothing left."""
    client = named_client()
    assert [three_a_day.ask(fields=client).status for _ in range(3)] == [200, 200, 200]
    three_a_day.forget()
    return client


@pytest.mark.requirement("RAT-02", by="live")
class TestARequestOverTheLimit:
    @pytest.mark.parametrize(("method", "target", "fields", "body", "version"), KINDS.values(), ids=KINDS)
    def test_gets_429_that_names_the_policy_and_never_reaches_the_app(
        self, three_a_day, spent, method, target, fields, body, version
    ):
        answer = three_a_day.ask(method, target, [*spent, *fields], body=body, version=version)

        assert_names(answer, "visits")
        assert three_a_day.reached == []

    def test_is_a_handshake_too(self, three_a_day, spent):
        assert_names(three_a_day.handshake(spent), "visits")
        assert three_a_day.reached == []

    def test_by_head_gets_the_same_fields_without_a_body(self, three_a_day, spent):
        got, head = (three_a_day.ask(method, fields=spent) for method in ("GET", "HEAD"))

        assert (head.status, head.body) == (429, b"")
        assert {name for name, _ in head.fields} == {name for name, _ in got.fields}
        assert head.only("content-length") == got.only("content-length")
        assert three_a_day.reached == []

    def test_is_refused_again_and_again(self, three_a_day, spent):
        assert {three_a_day.ask(fields=spent).status for _ in range(50)} == {429}
        assert three_a_day.reached == []


def assert_names(answer, policy: str) -> None:
    """A refusal as RFC 6585 and RFC 9457 describe it, for this policy of a day."""
    assert answer.status == 429
    assert answer.only("content-type") == "application/problem+json"
    assert re.fullmatch("[1-9][0-9]*", answer.only("retry-after"))
    assert 86000 < int(answer.only("retry-after")) <= 86401  # a Quota's clock may hold on for a moment
    problem = json.loads(answer.body)
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert (problem["type"], problem["status"]) == ("urn:thebes:problem:quota-exceeded", 429)
    assert f"Over the limit: {policy}." in problem["detail"]


class TestARefusal:
    def test_of_a_person_s_navigation_is_a_small_page_with_the_same_fields(self, three_a_day, spent):
        answer = three_a_day.ask(fields=[*spent, *NAVIGATION])

        assert (answer.status, answer.only("content-type")) == (429, "text/html; charset=utf-8")
        assert b"visits" in answer.body
        assert int(answer.only("retry-after")) > 86000
        assert three_a_day.reached == []

    def test_is_an_event_with_the_client_and_the_request(self, three_a_day, spent):
        answer = three_a_day.ask("GET", "/notes?secret", spent)

        [event] = three_a_day.events
        assert (event["event"], event["reason"]) == ("request_denied", "quota-exceeded")
        assert (event["severity"], event["outcome"]) == ("warning", "denied")
        assert (event["method"], event["route"]) == ("GET", "/notes")
        assert event["client"] == dict(spent)["X-Forwarded-For"]
        assert event["request_id"] == json.loads(answer.body)["request_id"]
        assert "visits" in event["detail"]

    def test_is_strict_as_every_answer_of_ours(self, three_a_day, spent):
        answer = three_a_day.ask(fields=spent)

        assert answer.only("cache-control") == "no-store"
        assert answer.only("x-content-type-options") == "nosniff"
        assert answer.only("strict-transport-security").startswith("max-age=")

    def test_costs_no_other_client_anything(self, three_a_day, spent):
        three_a_day.ask(fields=spent)

        assert three_a_day.ask(fields=named_client()).status == 200


def test_without_the_check_every_request_gets_through():
    with protecting(make_board(), limits="3/day", without=["limits"]) as served:
        client = named_client()
        assert {served.ask(fields=client).status for _ in range(20)} == {200}
        assert {served.handshake(client).status for _ in range(5)} == {101}
        assert served.ask("POST", "/notes", [*client, ("Origin", "https://evil.example")]).status == 403
        assert len(served.reached) == 25
        assert [event["reason"] for event in served.events] == ["cross-origin"]


class TestParallelRequests:
    @pytest.mark.parametrize(
        ("make", "is_wrapped"),
        [pytest.param(Quota, False, id="quota, protected"), pytest.param(Rate, True, id="rate, wrapped")],
    )
    def test_of_two_hundred_at_one_moment_exactly_fifty_get_through(self, make, is_wrapped):
        together = Barrier(200)
        with protecting(make_board(), limits=make("50/day"), wrap=is_wrapped) as served:
            client = named_client()

            def request(_: int) -> int:
                together.wait(PATIENCE_SECONDS)
                return served.ask("GET", "/empty", client).status

            with ThreadPoolExecutor(200) as threads:
                statuses = list(threads.map(request, range(200)))
            reached = len(served.reached)

        assert (statuses.count(204), statuses.count(429)) == (50, 150)
        assert reached == 50


class TestARuleOnTrial:
    def test_refuses_nothing_and_reports_what_it_would_have(self):
        with protecting(make_board(), limits=Quota("2/day", name="trial", monitor=True)) as served:
            client = named_client()
            statuses = [served.ask(fields=client).status for _ in range(5)]
            served.security.events.flush()
            events = served.events

        assert statuses == [200] * 5
        assert {(event["event"], event["reason"]) for event in events} == {("limit_exceeded", "trial")}
        assert sum(event["count"] for event in events) == 3
        assert (events[0]["severity"], events[0]["outcome"]) == ("warning", "reported")
        assert events[0]["client"] == dict(client)["X-Forwarded-For"]

    def test_beside_one_in_force_leaves_the_refusal_to_that(self):
        rules = [Quota("2/day", name="trial", monitor=True), Quota("4/day", name="force")]
        with protecting(make_board(), limits=rules) as served:
            client = named_client()
            answers = [served.ask(fields=client) for _ in range(5)]
            counts = dict(served.security.events.counts)

        assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]
        assert answers[-1].only("ratelimit-policy") == '"force";q=4;w=86400'
        assert b"trial" not in answers[-1].body
        assert (counts["limit_exceeded"], counts["request_denied"]) == (3, 1)


def test_the_audit_prints_the_bounds_under_the_names_that_clients_see():
    def prepare(security: Security) -> None:
        security.route("POST /notes", limit=[Quota("10/day"), Rate("5/second", monitor=True)], cost=2)
        security.route("GET /moved", limit="1/day")
        security.route("GET /stream", limit=None)

    limits = Rate("300/minute", burst=2, memory=1 << 20)
    with protecting(make_board(), limits=limits, prepare=prepare) as served:
        told = [
            refusing(served, *route) for route in (("GET", "/page"), ("GET", "/moved"), ("POST", "/notes"))
        ]
        with in_mode("production"):
            report = look(served.security, served.app, environ={}, directory=Path.cwd())

    assert [line.partition(";")[0] for line in report.limits] == [
        "default: 2 at once, and 300/minute besides",
        "get-moved: never more than 1 in any day",
        "post-notes: never more than 10 in any day",
        "post-notes-2: 5 at once, and 5/second besides (monitor: refuses nothing)",
    ]
    assert told == ["default", "get-moved", "post-notes"]
    assert re.search(r"; 1,048,576 bytes for [0-9,]+ clients\Z", report.limits[0])
    assert all(re.search(r"; 8,388,608 bytes for [0-9,]+ clients\Z", line) for line in report.limits[1:])
    assert ("POST /notes", "limit 10/day, 5/second burst 5; costs 2") in report.routes
    named = [finding.text for finding in report.findings if finding.requirement == "RAT-01"]
    assert named == ["GET /stream has no limit"]


def refusing(served: Served, method: str, target: str) -> str:
    """Return the policy that refuses a flood of a new client's."""
    client = [*named_client(), NONE]
    answer = served.ask(method, target, client)
    while answer.status != 429:
        answer = served.ask(method, target, client)
    return re.findall('"([^"]+)"', answer.only("ratelimit-policy"))[0]
