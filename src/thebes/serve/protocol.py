"""HTTP/1.1 on one connection: uvicorn's protocol with deadlines, caps and strict framing around it.

One request at a time: what a client sends behind it waits, unparsed, until it is answered. So nothing
that was pipelined past a refused request is ever looked at, and no client can make a queue grow.
llhttp parses; where a message begins and ends is found out here as well, and both have to agree.

A client has to send its request in time, and to read its answer. Time that the app takes, to answer or
to read a body, is not the client's fault and is not counted.

Sources: RFC 9112, 6.3, 9.3, 9.6 (closing); RFC 9110, 15.5; HTTP-13, HTTP-16, HTTP-17.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from thebes.facts import PLAIN_LISTENER, Denial
from thebes.serve import framing, refusals
from thebes.serve.clocks import BodyClock, ClockedFlow, Deadline
from thebes.serve.framing import CHUNKED, CR, SLASH, judge_head
from thebes.serve.guards import Guards
from thebes.serve.reading import UNREAD, AnswerTransport, Reader, delivery

# What may wait behind a request while it is answered; the connection of who sends more ends there.
HELD_BYTES = 64 * 1024
# How often it is looked whether a client has read its last answer, so that the connection can end.
LAST_LOOK_SECONDS = 0.25
# A client that is just in asks at once; browsers also open connections that they may never use.
FIRST_BYTES_SECONDS = 1.0

# What a connection waits for. Plain numbers, since each request compares them often.
HEAD, BODY, ANSWER, LINGER, CLOSED = range(5)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. uvicorn makes it; our settings are bound beforehand, by `functools.partial`.

    Args:
        guards: Deadlines and sizes.
        hsts: The field's value on our own answers over TLS.
        report: Told of each refusal.
        options: What uvicorn passes: config, server_state, app_state.
    """

    # Beside the instance's dict, which uvicorn fills with 28: past 30 CPython looks all of them up slowly.
    __slots__ = ("_answer_transport", "_app", "_buffer", "_clocked_flow", "_deadline", "_held", "_hsts",
                 "_is_complete", "_is_idle", "_is_last", "_is_stopping", "_phase", "_report", "guards",
                 "is_plain_listener")  # fmt: skip
    # What few connections need is a class attribute until it differs.
    _left = 0  # bytes of the body that are still to come, or CHUNKED
    _unread_left: int | None = None  # how much is still read after the last word
    _reader: Reader | None = None  # where a client has something to take that it didn't take at once
    _body: BodyClock
    _asking: Any = None  # the cycle whose body is coming

    def __init__(
        self, *, guards: Guards, hsts: bytes | None, report: refusals.Report, **options: Any
    ) -> None:
        super().__init__(**options)
        self.guards = guards
        self._hsts = hsts
        self._report = report
        self._deadline = Deadline(self.loop, self._on_deadline)
        self._phase = HEAD
        self.is_plain_listener = False
        self._buffer = b""  # the beginning of a head
        self._held = b""  # what came behind the request that is being answered
        self._is_idle = False  # no byte of another request has come since the last answer
        self._is_complete = False  # the parser has seen the end of the message
        self._is_last = False  # closed as soon as the client has read its answer
        self._is_stopping = False  # what is asked from now on is the last
        self._app: Any = None  # to be called when the head is found to be good

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self.flow = self._clocked_flow = ClockedFlow(transport, self.loop.time)
        self._answer_transport: Any = AnswerTransport(transport, self._close_after_answer)
        self._deadline.set(self.guards.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock, and let go of everything: what refers to itself would wait for the collector."""
        self._phase = CLOSED
        self._deadline.end()
        super().connection_lost(exc)
        self._answer_transport = None
        if self.cycle is not None:
            self.cycle.transport = self.transport

    def data_received(self, data: bytes) -> None:
        """Parse what came, let it wait, or throw it away."""
        phase = self._phase
        if phase == HEAD:
            self._take_heads(self._buffer + data if self._buffer else data)
        elif phase == BODY:
            self._take_body(data)
        elif phase == ANSWER:
            self._hold(data)
        elif phase == LINGER:
            self._discard(len(data))

    def shutdown(self) -> None:
        """Let the present request be the last, or the one that is on its way; the server stops.

        Who was let in a moment ago has been promised an answer: its first bytes get a short grace, and a
        head that has begun keeps its deadline.
        """
        self._is_stopping = True
        if self._phase == HEAD:
            if self._is_idle:
                self._close_when_read()
            elif not self._buffer:
                self._deadline.bring_forward(FIRST_BYTES_SECONDS)
        elif self._phase in (BODY, ANSWER) and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self._phase == BODY:
            self._linger()

    # What the parser tells

    def on_body(self, body: bytes) -> None:
        """Count, and pass on."""
        self._body.bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the parser has seen the end, and tell the app."""
        self._is_complete = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ARG002
        """Let the app wait: uvicorn would call it before we have judged the framing of the body."""
        self._app = app

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: from here on uvicorn's WebSocket protocol owns it, with its pings."""
        self._phase = CLOSED
        self._deadline.end()
        self._answer_transport = None
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]

    # What the answer tells

    def on_response_complete(self) -> None:
        """Go on to the next request, or see to it that the connection ends."""
        self.server_state.total_requests += 1
        if self._is_last or self._phase >= LINGER:
            return
        if self.transport.is_closing():
            self._phase = CLOSED
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._phase == BODY:
            self._unread_left = self.guards.linger_bytes
            self._deadline.set(self.guards.linger_seconds)
        else:
            self._next_request()

    def _close_after_answer(self) -> None:
        """Close when the answer says so. With data unread that would be a reset: no client sees its 413."""
        if not self.cycle.response_complete:
            self.transport.close()  # the app failed in the middle of its answer
        elif self._phase == BODY:
            self._linger()
        else:
            self._close_when_read()

    def _close_when_read(self) -> None:
        """Close, but not while a long answer is unread: the end of TLS has a time limit and cuts it off."""
        if self._is_read_from():
            self._phase = ANSWER
            self._is_last = True
            self._deadline.set(LAST_LOOK_SECONDS)
        else:
            self._close()

    # Parsing

    def _take_heads(self, data: bytes) -> None:
        """Parse the head of a request, and what follows it."""
        # RFC 9112, 2.2: one empty line before a request is forgiven.
        part = data[2:] if data[0] == CR and data[:2] == b"\r\n" else data
        head, end, rest = part.partition(b"\r\n\r\n")
        if not end:
            self._wait_for_the_rest(data, part)
            return
        self._is_idle = False
        self._buffer = b""
        self._take_head(head + end if rest else part)
        if rest and self._phase < LINGER:
            self.data_received(rest)

    def _wait_for_the_rest(self, data: bytes, part: bytes) -> None:
        if self._is_idle or (self._is_stopping and not self._buffer):
            self._is_idle = False
            self._deadline.set(self.guards.header_seconds)
        self._buffer = data
        denial = framing.judge_part(part, self.guards) if part not in (b"", b"\r") else None
        if denial is not None:
            self._refuse(denial, part)

    def _take_head(self, head: bytes) -> None:
        guards = self.guards
        denial = judge_head(head, guards)
        if denial is not None:
            self._refuse(denial, head)
            return
        self._is_complete = is_handshake = False
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            is_handshake = self._should_upgrade()
            denial = framing.judge_upgrade(head, self.headers, is_handshake=is_handshake)
            if denial is None and is_handshake and self._is_stopping:
                denial = refusals.STOPPING
        except httptools.HttpParserError:
            denial = refusals.MALFORMED
        else:
            denial = None if self._is_complete else self._expect_body()
        # Most targets and sections are so plain that nobody need be asked.
        if denial is None and (
            self.url[0] != SLASH or b"#" in self.url or len(self.headers) > guards.header_fields
        ):
            denial = framing.judge_parsed(self.url, self.headers, guards)
        if denial is not None:
            self._refuse(denial, head)
        elif is_handshake:
            self.handle_websocket_upgrade()
        else:
            if self.is_plain_listener:
                self.scope["extensions"] = {PLAIN_LISTENER: {}}
            if self._is_stopping:
                self.cycle.keep_alive = False
            self.cycle.transport = self._answer_transport
            self._phase = ANSWER if self._is_complete else BODY
            super()._start_asgi_task(self.cycle, self._app)

    def _expect_body(self) -> Denial | None:
        """Settle where the body ends, or refuse."""
        length = framing.body_length(self.headers, self.parser.get_http_version())
        # A handshake has no body; nor may the parser wait for one where there is none.
        if not length or self.cycle is None or self.cycle.scope is not self.scope:
            return refusals.MALFORMED
        self._left = length
        self._asking = self.cycle
        self._unread_left = None
        self._body = BodyClock(self.guards, self._clocked_flow, self.loop.time)
        self._deadline.set(self.guards.body_seconds)
        if length == CHUNKED:
            self.headers = []  # trailers must not become header fields behind the back of the checks
        return None

    def _take_body(self, data: bytes) -> None:
        """Feed what belongs to the body."""
        is_chunked = self._left == CHUNKED
        part = data if is_chunked else data[: self._left]
        self._body.raw_bytes += len(part)
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserError:
            if not self._is_complete:
                self._refuse(refusals.MALFORMED)
                return
        if not is_chunked:
            self._left -= len(part)
        if self._is_complete if is_chunked else self._left == 0:
            self._end_body()
        elif is_chunked and self._body.is_mostly_framing:
            self._refuse(refusals.MALFORMED)
        elif self._unread_left is not None:
            self._discard(len(part))
        if len(data) > len(part):
            self.data_received(data[len(part) :])

    def _end_body(self) -> None:
        """Wait for the answer. The request is whole by our count; it must be by the parser's too."""
        if not self._is_complete:
            self._refuse(refusals.MALFORMED)
            return
        cycle = self._asking
        # What follows a chunked body in the same piece of data was parsed with it. It is forgotten, and
        # since it can't be parsed again, this answer is the last.
        is_overrun = self.cycle is not cycle or self.scope is not cycle.scope
        if is_overrun:
            self.cycle = cycle
            self.pipeline.clear()
            cycle.keep_alive = False
        self._phase = ANSWER
        if cycle.response_complete:
            self._close_when_read() if is_overrun else self._next_request()

    def _hold(self, data: bytes) -> None:
        """Let what came behind a request wait until that is answered."""
        self.flow.pause_reading()
        if len(self._held) + len(data) <= HELD_BYTES:
            self._held += data
        else:
            self._held = b""
            self.cycle.keep_alive = False

    def _next_request(self) -> None:
        self._phase = HEAD
        self._is_idle = True
        self._deadline.set(self.guards.idle_seconds)
        if self._held:
            held, self._held = self._held, b""
            self.data_received(held)

    def _discard(self, count: int) -> None:
        """Throw away what comes after the last word, up to a limit."""
        self._unread_left = (self._unread_left or 0) - count
        if self._unread_left < 0:
            self.transport.abort()  # an orderly end of TLS would read on for its answer

    # Refusing

    def _refuse(self, denial: Denial, head: bytes = b"") -> None:
        """Answer in place of the app, and let nothing follow."""
        self._tell(denial.kind)
        is_head = head.startswith(b"HEAD ")
        if self._phase == BODY:
            cycle = self.cycle
            cycle.disconnected = True  # the app learns it from receive(); what it sends is dropped
            cycle.message_event.set()
            if cycle.response_started:
                self._close()
                return
            is_head = cycle.scope["method"] == "HEAD"
        hsts = self._hsts if self.scheme == "https" else None
        self.transport.write(refusals.response(denial, hsts=hsts, with_body=not is_head))
        self._linger()

    def _linger(self) -> None:
        """Read on until the client has gone, for a little while."""
        self._phase = LINGER
        self._buffer = self._held = b""
        self._unread_left = self.guards.linger_bytes
        self._deadline.set(self.guards.linger_seconds)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close(self) -> None:
        """Close; a client that reads nothing, or never answers the end of TLS, can't prevent it."""
        self._phase = CLOSED
        self._is_last = False
        self._reader = None
        self._deadline.set(self.guards.linger_seconds)
        self.transport.close()

    def _tell(self, kind: str) -> None:
        self._report(kind, self.client[0] if self.client else None)

    def _on_deadline(self) -> None:
        phase = self._phase
        if phase == BODY and self._unread_left is None:
            left = self._body.seconds_left(is_client_waiting=self.cycle.waiting_for_100_continue)
            if left > 0:
                self._deadline.set(left)
            else:
                self._refuse(refusals.TOO_SLOW)
        elif phase == HEAD and self._buffer.strip():
            self._refuse(refusals.TOO_SLOW, self._buffer)
        elif self._is_last and not self._is_read_from():
            self._close()
        elif phase in (ANSWER, CLOSED) or (self._is_idle and self._is_read_from()):
            self._judge_reader()
        else:
            self._close()  # nothing was asked, or all is said

    def _is_read_from(self) -> bool:
        """Say whether the client still has something to take."""
        return self.flow.write_paused or delivery(self.transport).waiting > 0

    def _judge_reader(self) -> None:
        """Break off with a client that hardly reads its answer; wait for an app that takes its time."""
        if not self._is_read_from():
            self._reader = None
            if self.transport.is_closing():
                self.transport.abort()  # it has all, but never answers the end of TLS
                return
        elif self._reader is None:
            self._reader = Reader(self.transport, self.guards, self.loop.time())
        elif self._reader.is_stalling(self.loop.time()):
            self._tell(UNREAD)
            self.transport.abort()
            return
        self._deadline.set(LAST_LOOK_SECONDS if self._is_last else self.guards.stalled_seconds)
