"""The clocks of a connection: its deadline, and the time that a body may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

from thebes.serve.guards import Guards

# RFC 9112, 7.1.1: extensions and trailers must be accepted, but who sends little else is up to no good.
FREE_CHUNK_OVERHEAD_BYTES = 16 * 1024


class Deadline:
    """The one deadline of a connection. Moving it further away costs no timer.

    Args:
        loop: Whose clock counts.
        on_expiry: Called once for each `set`, unless that was overtaken by another.
    """

    __slots__ = ("_at", "_loop", "_on_expiry", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expire so many seconds from now, and not before."""
        at = self._at = self._loop.time() + seconds
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(at, self._ring)
        elif timer.when() > at:
            # One that rings earlier stays, and is set anew when it rings.
            timer.cancel()
            self._timer = self._loop.call_at(at, self._ring)

    def bring_forward(self, seconds: float) -> None:
        """Expire in so many seconds at the latest."""
        if self._at > self._loop.time() + seconds:
            self.set(seconds)

    def end(self) -> None:
        """Never expire again; the owner is let go."""
        self._on_expiry = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._at > self._loop.time():
            self._timer = self._loop.call_at(self._at, self._ring)
        else:
            self._on_expiry()


class ClockedFlow(FlowControl):
    """uvicorn's flow control, which also adds up for how long reading was paused.

    Args:
        transport: Whose reading is paused.
        clock: Seconds; the loop's.
    """

    def __init__(self, transport: asyncio.Transport, clock: Callable[[], float]) -> None:
        super().__init__(transport)
        self._clock = clock
        self._paused_at = 0.0
        self._paused_seconds = 0.0

    def pause_reading(self) -> None:
        """Read no more, and note the time."""
        if not self.read_paused:
            self._paused_at = self._clock()
            super().pause_reading()

    def resume_reading(self) -> None:
        """Read on, and add up the time."""
        if self.read_paused:
            self._paused_seconds += self._clock() - self._paused_at
            super().resume_reading()

    def paused_seconds(self) -> float:
        """Return for how long reading was paused so far."""
        return self._paused_seconds + (self._clock() - self._paused_at if self.read_paused else 0.0)


def _nothing() -> None:
    """Stand for what was to be called."""


class BodyClock:
    """Says how long one body may still take.

    Args:
        guards: The time for any body, and the rate that grants more.
        flow: Knows when the app didn't read.
        clock: Seconds; the loop's.

    Attributes:
        raw_bytes: What came, as it came.
        bytes: What came without chunk sizes and trailers.
    """

    __slots__ = ("_began", "_clock", "_flow", "_guards", "_paused_before", "_waited", "bytes", "raw_bytes")

    def __init__(self, guards: Guards, flow: ClockedFlow, clock: Callable[[], float]) -> None:
        self._guards = guards
        self._flow = flow
        self._clock = clock
        self._began = clock()
        self._paused_before = flow.paused_seconds()
        self._waited = False
        self.bytes = 0
        self.raw_bytes = 0

    @property
    def is_mostly_framing(self) -> bool:
        """Whether chunk sizes, extensions and trailers outweigh what they frame.

        A chunk of two bytes has five around it, so that ordinary streams of tiny chunks stay below.
        """
        return self.raw_bytes - 3 * self.bytes > FREE_CHUNK_OVERHEAD_BYTES

    def seconds_left(self, *, is_client_waiting: bool) -> float:
        """Return for how long the rest may still take; 0 or less is too late.

        Args:
            is_client_waiting: For the app to say that the body is wanted (100 Continue).
        """
        if is_client_waiting or self._waited:
            # It may have been told so just now: the time begins when it is seen to wait no more.
            self._began, self._waited = self._clock(), is_client_waiting
        excused = self._flow.paused_seconds() - self._paused_before
        granted = self._guards.body_seconds + self.raw_bytes / self._guards.min_bytes_per_second + excused
        left = self._began + granted - self._clock()
        # While nothing is read nothing is used up, so it need not be looked at so soon.
        return max(left, self._guards.body_seconds) if self._flow.read_paused else left
