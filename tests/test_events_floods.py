"""A flood of events is a few lines with the exact count, written even when nothing follows."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

from recording import Clock, Sink
from thebes.events import MAX_OPEN_WINDOWS, Events


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def events(sink: Sink, clock: Clock) -> Events:
    return Events(sink, clock=clock)


class TestFloods:
    def test_a_hundred_thousand_of_a_kind_are_two_lines_with_the_exact_count(
        self, events: Events, sink: Sink, clock: Clock
    ):
        for _ in range(100_000):
            events.emit("request_denied", reason="csrf", client="203.0.113.9")
        clock.now += 1
        events.flush(clock.now)

        assert [event["count"] for event in sink.objects] == [1, 99_999]
        assert sink.objects[1]["client"] is None  # a flood has many clients; the first line names one
        assert events.counts["request_denied"] == 100_000

    @pytest.mark.parametrize(
        ("details", "told"),
        [
            (["not a pair", "not a pair"], "more of the same within one second"),
            (["not a pair", "half written", "expired"], "more within one second, the last: expired"),
            (["not a pair", None], "more of the same within one second"),
        ],
    )
    def test_the_newest_complaint_of_a_second_is_not_lost(self, events, sink, clock, details, told):
        for detail in details:
            events.emit("certificate_refused", detail=detail)
        clock.now += 1
        events.flush(clock.now)

        assert [event["detail"] for event in sink.objects] == [details[0], told]

    def test_lines_are_bounded_by_kinds_and_seconds_and_no_event_is_lost(
        self, events: Events, sink: Sink, clock: Clock
    ):
        kinds = [("request_denied", "csrf"), ("request_denied", "host-unknown"), ("request_failed", None)]
        for number in range(100_000):
            event, reason = kinds[number % len(kinds)]
            events.emit(event, reason=reason)
            clock.now += 1e-4  # ten seconds in all
        clock.now += 1
        events.flush(clock.now)

        assert len(sink.lines) <= 2 * len(kinds) * 11
        assert sum(event["count"] for event in sink.objects) == 100_000
        assert events.counts == {"request_denied": 66_667, "request_failed": 33_333}

    def test_kinds_without_end_keep_memory_flat_and_lose_nothing(self, events: Events, sink: Sink):
        for number in range(3 * MAX_OPEN_WINDOWS):
            events.emit("request_denied", reason=f"made up {number}")
        assert len(events._windows) <= MAX_OPEN_WINDOWS
        events.flush()

        assert sum(event["count"] for event in sink.objects) == 3 * MAX_OPEN_WINDOWS

    def test_another_reason_in_the_same_second_is_written_whole(self, events: Events, sink: Sink):
        events.emit("request_denied", reason="csrf")
        events.emit("request_denied", reason="host-unknown")

        assert [event["reason"] for event in sink.objects] == ["csrf", "host-unknown"]

    def test_the_next_event_after_a_second_writes_the_count_of_the_last(
        self, events: Events, sink: Sink, clock: Clock
    ):
        events.emit("request_denied")
        events.emit("request_denied")
        clock.now += 0.999
        events.emit("request_denied")
        assert len(sink.lines) == 1
        clock.now += 0.001
        events.emit("request_denied")

        assert [event["count"] for event in sink.objects] == [1, 2, 1]

    def test_a_clock_that_was_set_back_silences_nothing(self, events: Events, sink: Sink, clock: Clock):
        events.emit("request_denied")
        events.emit("request_denied")
        clock.now -= 3600
        events.emit("request_denied")

        assert sum(event["count"] for event in sink.objects) == 3
        assert len(sink.lines) == 3

    def test_the_count_is_written_by_a_timer_when_nothing_else_happens(self, sink: Sink):
        async def flood_and_wait(clock: asyncio.AbstractEventLoop) -> None:
            events = Events(sink, clock=clock.time)
            for _ in range(1000):
                events.emit("request_denied")
            assert len(sink.lines) == 1
            await asyncio.sleep(2.5)

        run_without_waiting(flood_and_wait)

        assert [event["count"] for event in sink.objects] == [1, 999]

    def test_the_timer_comes_again_as_long_as_something_is_unwritten(self, sink: Sink):
        async def one_after_another(clock: asyncio.AbstractEventLoop) -> None:
            events = Events(sink, clock=clock.time)
            for reason in ("first", "second"):  # the second window is still open when the timer comes
                events.emit("request_denied", reason=reason)
                events.emit("request_denied", reason=reason)
                await asyncio.sleep(0.5)
            await asyncio.sleep(2.5)

        run_without_waiting(one_after_another)

        assert [(event["reason"], event["count"]) for event in sink.objects] == [
            ("first", 1),
            ("second", 1),
            ("first", 1),
            ("second", 1),
        ]

    def test_a_trickle_is_a_line_or_two_a_second(self, sink: Sink):
        async def trickle(clock: asyncio.AbstractEventLoop) -> None:
            events = Events(sink, clock=clock.time)
            for _ in range(50):
                events.emit("request_denied")
                await asyncio.sleep(0.1)
            await asyncio.sleep(2.5)

        run_without_waiting(trickle)

        assert sum(event["count"] for event in sink.objects) == 50
        assert len(sink.lines) <= 12


class Skipping(selectors.DefaultSelector):
    """A selector that moves its own clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


def run_without_waiting(main: Any) -> None:
    """Run `main(loop)` on a loop whose time passes as fast as nothing happens."""
    selector = Skipping()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

    loop = Loop(selector)
    try:
        work: Coroutine[Any, Any, None] = main(loop)
        loop.run_until_complete(work)
    finally:
        loop.close()
