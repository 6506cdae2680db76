"""Security events: one JSON object a line, the same keys in each, flat under floods.

An attacker who sends a million bad requests must not fill the disk: of each event name and reason the
first in a second is written whole, the rest of that second is counted and written as one line, with the
last one's detail where it says something else: the newest complaint is the one to act on.

Text from a request is escaped to ASCII, so that CR, LF, escape sequences and bidi overrides stay inside
their line (OWASP Logging). The default sink is the logger `thebes.events`.

Sources: ASVS 16.2; RFC 3339 (time stamps, UTC, milliseconds); OWASP Logging Vocabulary.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from asyncio import TimerHandle

Severity = Literal["info", "warning", "error"]
Outcome = Literal["allowed", "denied", "failed", "reported"]

# The keys of every event, in their order. A key with nothing to say is null, so readers need no guards.
KEYS = (
    "time",
    "event",
    "severity",
    "outcome",
    "reason",
    "account",
    "session",
    "client",
    "request_id",
    "method",
    "route",
    "factor",
    "count",
    "detail",
)
LOGGER = "thebes.events"
WINDOW_SECONDS = 1.0
MAX_TEXT = 256  # characters kept of one value: a path of 8,000 octets tells no more than its beginning
# Names and reasons are ours, so there are some dozens; the bound is for callers who mix in a client's text.
MAX_OPEN_WINDOWS = 1000


def log_line(severity: Severity, line: str) -> None:
    """Hand a line to the logger `thebes.events`: the default sink.

    Raises:
        Exception: Whatever kept a handler from writing it.
    """
    import logging  # noqa: PLC0415 - loaded when there is something to say

    logger: logging.Logger | None = logging.getLogger(LOGGER)
    level = getattr(logging, severity.upper())
    if logger is None or not logger.isEnabledFor(level):
        return
    speaker = logger
    while logger is not None:
        for handler in logger.handlers:
            _let_errors_out(handler)
        logger = logger.parent if logger.propagate else None
    speaker.log(level, "%s", line)


def _let_errors_out(handler: Any) -> None:
    """Make a handler raise what it meets while it writes an event of ours; `logging` would hide it."""
    hide = handler.handleError
    if getattr(hide, "lets_events_out", False):
        return

    def handle_error(record: Any) -> None:
        if record.name == LOGGER:
            raise  # noqa: PLE0704 - called by the handler while it handles the exception
        hide(record)

    handle_error.lets_events_out = True  # type: ignore[attr-defined]
    handler.handleError = handle_error


class Events:
    """Write security events to a sink, aggregated each second, and count them.

    Attributes:
        counts: How often each event name occurred, written or aggregated.
        dropped: Lines that the sink failed to take. A failing sink never stops a request.
    """

    def __init__(
        self,
        sink: Callable[[Severity, str], None] = log_line,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.dropped = 0
        self._unreported = 0
        self._sink = sink
        self._clock = clock
        self._windows: dict[tuple[str, str | None], _Window] = {}
        self._timer: TimerHandle | None = None

    def emit(
        self,
        event: str,
        *,
        severity: Severity = "info",
        outcome: Outcome = "reported",
        reason: str | None = None,
        **fields: str | int | None,
    ) -> None:
        """Write one event, or count it when its name and reason were written within this second.

        Args:
            event: A stable name of ours, such as `request_denied`.
            reason: A stable code of ours, never text of a client.
            fields: Values for other keys of `KEYS`; unknown keys raise TypeError.
        """
        unknown = fields.keys() - set(KEYS)
        if unknown:
            raise TypeError(f"unknown event fields: {', '.join(sorted(unknown))}")
        self.counts[event] += 1
        now = self._clock()
        window = self._windows.get((event, reason))
        if window is not None and 0 <= now - window.opened < WINDOW_SECONDS:
            window.suppressed += 1
            window.last = fields.get("detail")
            self._schedule()
            return
        self.flush(now)
        if len(self._windows) < MAX_OPEN_WINDOWS:
            self._windows[event, reason] = _Window(severity, outcome, now, fields.get("detail"))
        self._write(severity, _line(now, event, severity, outcome, reason, fields))

    def flush(self, now: float | None = None) -> None:
        """Write a summary of each window that is over (all of them if `now` is None)."""
        for (event, reason), window in list(self._windows.items()):
            if now is not None and 0 <= now - window.opened < WINDOW_SECONDS:
                continue
            del self._windows[event, reason]
            if window.suppressed:
                when = self._clock() if now is None else now
                line = _line(when, event, window.severity, window.outcome, reason, window.summary())
                self._write(window.severity, line)

    def _schedule(self) -> None:
        """See to it that the count is written even when nothing else happens."""
        import asyncio  # noqa: PLC0415 - a third of the time that importing the package takes

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # no loop: the next event or flush() writes it
        if self._timer is None or self._timer.when() <= loop.time():
            self._timer = loop.call_later(WINDOW_SECONDS, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush(self._clock())
        if any(window.suppressed for window in self._windows.values()):
            self._schedule()

    def _write(self, severity: Severity, line: str) -> None:
        try:
            if self._unreported:
                lost: Mapping[str, str | int | None] = {"count": self._unreported}
                self._sink("error", _line(self._clock(), "events_dropped", "error", "failed", None, lost))
                self._unreported = 0
            self._sink(severity, line)
        except Exception:
            # A full disk must not take the service down; the loss is counted, and told once it is over.
            self.dropped += 1
            self._unreported += 1


class _Window:
    __slots__ = ("first", "last", "opened", "outcome", "severity", "suppressed")

    def __init__(self, severity: Severity, outcome: Outcome, opened: float, detail: str | int | None) -> None:
        self.severity: Severity = severity
        self.outcome: Outcome = outcome
        self.opened = opened
        self.suppressed = 0
        self.first = self.last = detail

    def summary(self) -> Mapping[str, str | int | None]:
        if self.last in (None, self.first):
            detail = "more of the same within one second"
        else:
            detail = f"more within one second, the last: {self.last}"
        return {"count": self.suppressed, "detail": detail}


def _line(
    now: float,
    event: str,
    severity: str,
    outcome: str,
    reason: str | None,
    fields: Mapping[str, str | int | None],
) -> str:
    values: dict[str, str | int | None] = dict.fromkeys(KEYS)
    values |= {"time": timestamp(now), "event": event, "severity": severity}
    values |= {"outcome": outcome, "reason": reason, "count": 1}
    for key, value in fields.items():
        values[key] = value[:MAX_TEXT] if isinstance(value, str) else value
    return json.dumps(values, ensure_ascii=True, separators=(",", ":"))


def timestamp(seconds: float) -> str:
    """Return RFC 3339 in UTC with milliseconds.

    >>> timestamp(0.0625)
    '1970-01-01T00:00:00.062Z'
    """
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"
