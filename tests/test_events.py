"""Security events: one JSON object a line whatever a client sends, flat under floods, never in the way."""

import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import ask, request_facts
from recording import Clock, Sink
from thebes import Security
from thebes.events import KEYS, MAX_TEXT, Events, timestamp

# What a terminal, a pager or a log collector could take for more than text, each named.
HOSTILE = {
    "carriage return and line feed": "\r\n",
    "line feed": "\n",
    "NUL": "\0",
    "escape sequence": "\x1b[2J\x1b[31m",
    "backspaces": "\b\b\b",
    "DEL": "\x7f",
    "one-byte escape introducer (C1)": "\x9b",
    "next line (C1)": "\x85",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right-to-left override": "\u202e",
    "left-to-right isolate": "\u2066",
    "byte order mark": "\ufeff",
    "quote and brace": '","event":"signed_in',
    "backslash": "\\",
    "high surrogate": "\ud83d",
    "low surrogate": "\udca9",
    "beyond the basic plane": "\U0001f512",
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def events(sink: Sink, clock: Clock) -> Events:
    return Events(sink, clock=clock)


async def nothing(scope, receive, send):
    raise AssertionError("the request should have been refused")


@pytest.mark.requirement("LOG-02")
class TestTheFormOfAnEvent:
    def test_every_event_has_all_keys_in_their_order(self, events: Events, sink: Sink):
        events.emit("started")

        assert sink.lines[0].startswith('{"time":"')
        assert tuple(sink.objects[0]) == KEYS
        assert {"account", "session", "client", "request_id", "route", "factor"} <= set(KEYS)

    def test_what_is_given_stands_under_its_key_and_the_rest_is_null(self, events: Events, sink: Sink):
        events.emit(
            "signed_in",
            severity="warning",
            outcome="allowed",
            reason="new_device",
            account="a1",
            session="5f2c",
            client="203.0.113.9",
            request_id="r1",
            method="POST",
            route="/auth/sign-in",
            factor="password",
        )

        assert sink.objects[0] == {
            "time": "2023-11-14T22:13:20.000Z",
            "event": "signed_in",
            "severity": "warning",
            "outcome": "allowed",
            "reason": "new_device",
            "account": "a1",
            "session": "5f2c",
            "client": "203.0.113.9",
            "request_id": "r1",
            "method": "POST",
            "route": "/auth/sign-in",
            "factor": "password",
            "count": 1,
            "detail": None,
        }

    def test_a_summary_has_the_same_keys_as_what_it_sums_up(self, events: Events, sink: Sink, clock: Clock):
        for _ in range(3):
            events.emit("request_denied", severity="warning", outcome="denied", reason="csrf")
        clock.now += 1
        events.flush()

        first, summary = sink.objects
        assert tuple(summary) == KEYS
        assert (first["count"], summary["count"]) == (1, 2)
        assert {key for key in KEYS if first[key] != summary[key]} == {"time", "count", "detail"}

    def test_a_key_that_is_not_in_the_list_is_a_mistake_of_the_program(self, events: Events, sink: Sink):
        with pytest.raises(TypeError, match="colour"):
            events.emit("started", colour="blue")
        assert sink.lines == []

    @given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
    def test_times_are_rfc_3339_in_utc_with_milliseconds(self, moment: datetime):
        # Rounded to what a float can hold; half a millisecond keeps it away from the next one.
        instant = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)

        text = timestamp(instant.timestamp() + 0.0005)

        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
        assert datetime.fromisoformat(text) == instant

    async def test_a_refused_request_writes_who_asked_for_what(self, events: Events, sink: Sink):
        app = Security(events=events).wrap(nothing)

        await ask(app, request_facts("POST", "/notes", {"Origin": "https://attacker.example"}))

        event = sink.objects[0]
        assert tuple(event) == KEYS
        assert (event["event"], event["reason"]) == ("request_denied", "cross-origin")
        assert (event["severity"], event["outcome"]) == ("warning", "denied")
        assert (event["client"], event["method"], event["route"]) == ("127.0.0.1", "POST", "/notes")
        assert len(event["request_id"]) == 24


def is_one_line_of_ascii(line: str) -> bool:
    return re.fullmatch(r"[\x20-\x7e]+", line) is not None


@pytest.mark.requirement("LOG-04")
class TestHostileText:
    @pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])
    def test_it_stays_within_one_line_of_printable_ascii(self, events: Events, sink: Sink, text: str):
        events.emit("request_denied", client=text, method=text, route=f"/a{text}b", detail=text)

        assert len(sink.lines) == 1
        assert is_one_line_of_ascii(sink.lines[0])
        assert sink.objects[0]["route"] == f"/a{text}b"
        assert sink.objects[0]["event"] == "request_denied"

    @pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])
    async def test_it_stays_within_one_line_when_it_comes_in_a_path(
        self, events: Events, sink: Sink, text: str
    ):
        app = Security(events=events).wrap(nothing)

        facts = request_facts("POST", f"/{text}", {"Origin": "null"}, raw_path=b"/x")
        await ask(app, facts)

        assert len(sink.lines) == 1
        assert is_one_line_of_ascii(sink.lines[0])
        assert sink.objects[0]["route"] == f"/{text}"

    @given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300))
    def test_no_text_at_all_breaks_a_line(self, name: str, text: str):
        sink = Sink()

        Events(sink, clock=Clock()).emit(name, reason=text, route=text, account=text)

        assert is_one_line_of_ascii(sink.lines[0])
        assert sink.objects[0]["event"] == name
        assert sink.objects[0]["route"] == text[:MAX_TEXT]

    def test_a_long_text_is_cut(self, events: Events, sink: Sink):
        events.emit("request_denied", route="/" + "\x1b" * 100_000)

        assert len(sink.lines[0]) < 20 * MAX_TEXT
        assert len(sink.objects[0]["route"]) == MAX_TEXT

    def test_the_logger_gets_the_line_as_it_is(self, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO, "thebes.events"):
            Events(clock=Clock()).emit("request_denied", severity="warning", route="/%s%d\r\n\u202e")

        assert len(caplog.messages) == 1
        assert is_one_line_of_ascii(caplog.messages[0])
        assert json.loads(caplog.messages[0])["route"] == "/%s%d\r\n\u202e"
        assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.requirement("LOG-08")
class TestAFailingSink:
    def test_it_raises_nothing_and_every_loss_is_counted(self, events: Events, sink: Sink):
        sink.is_broken = True

        for number in range(5):
            events.emit("request_denied", reason=str(number))

        assert events.dropped == 5
        assert events.counts["request_denied"] == 5

    def test_the_loss_is_told_once_when_the_sink_works_again(self, events: Events, sink: Sink):
        sink.is_broken = True
        for number in range(5):
            events.emit("request_denied", reason=str(number))
        sink.is_broken = False
        events.emit("request_denied", reason="later")
        events.emit("request_denied", reason="last")

        names = [event["event"] for event in sink.objects]
        assert names == ["events_dropped", "request_denied", "request_denied"]
        assert sink.objects[0]["count"] == 5
        assert sink.severities[0] == "error"
        assert tuple(sink.objects[0]) == KEYS
        assert events.dropped == 5

    def test_a_second_loss_is_told_by_itself(self, events: Events, sink: Sink):
        for reason in ("first", "second"):
            sink.is_broken = True
            events.emit("request_denied", reason=f"{reason} lost")
            sink.is_broken = False
            events.emit("request_denied", reason=f"{reason} written")

        dropped = [event["count"] for event in sink.objects if event["event"] == "events_dropped"]
        assert dropped == [1, 1]
        assert events.dropped == 2

    async def test_requests_are_answered_as_ever(self, events: Events, sink: Sink):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        sink.is_broken = True
        guarded = Security(events=events).wrap(app)

        refused = await ask(guarded, request_facts("POST", "/", {"Origin": "https://attacker.example"}))
        served = await ask(guarded, request_facts("GET", "/"))

        assert (refused.status, served.status) == (403, 204)
        assert events.dropped == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_full_disk_under_a_handler_of_logging_is_counted_too(self, capsys: pytest.CaptureFixture[str]):
        """`logging` keeps the errors of its handlers to itself, so nobody would count them."""
        logger = logging.getLogger("thebes.events")
        handler = logging.FileHandler("/dev/full")
        logger.addHandler(handler)
        try:
            events = Events(clock=Clock())
            events.emit("request_denied", severity="error")
        finally:
            logger.removeHandler(handler)
            with pytest.raises(OSError, match="space"):
                handler.close()

        assert events.dropped == 1
