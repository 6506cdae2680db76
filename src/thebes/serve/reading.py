"""The way out of a connection: what an answer may do to it, and whether the client takes what is sent."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

from thebes.serve.guards import Guards

UNREAD = "answer-unread"
"""The kind under which a client is reported that doesn't read its answer."""

# linux/tcp.h, struct tcp_info: tcpi_bytes_acked (Linux 4.1) and tcpi_notsent_bytes (4.6).
_TCP_INFO = struct.Struct("=120xQ16xI")


class AnswerTransport:
    """What an answer sees of the transport: it may write, and ask for the end of the connection.

    Args:
        transport: The connection's.
        close: Called in place of the transport's own `close`.
    """

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class Reader:
    """A client that has something to take; says whether it hardly does.

    Args:
        transport: The connection's.
        guards: The least rate, and over what time it is judged.
        now: The loop's time.
    """

    __slots__ = ("_before", "_began", "_guards", "_transport")

    def __init__(self, transport: asyncio.Transport, guards: Guards, now: float) -> None:
        self._transport = transport
        self._guards = guards
        self._began = now
        self._before = delivery(transport)

    def is_stalling(self, now: float) -> bool:
        """Judge what was taken since the last judgement, once it is long enough ago."""
        seconds = now - self._began
        if seconds < self._guards.stalled_seconds:
            return False
        before, far = self._before, delivery(self._transport)
        self._began, self._before = now, far
        # Who takes what waited is no staller, however little that was.
        least = min(seconds * self._guards.min_bytes_per_second, before.waiting)
        return far.taken - before.taken < least


class Delivery(NamedTuple):
    """How far our bytes have got.

    Attributes:
        taken: Grows with each byte that the client has taken.
        waiting: How many still wait on our side; what is on its way isn't counted.
    """

    taken: int
    waiting: int


def delivery(transport: asyncio.Transport) -> Delivery:
    """Ask how far our bytes have got.

    On Linux it is what the client's kernel has acknowledged: a client that doesn't read stops it, however
    much our own kernel would still buffer. Elsewhere it is what has left our own buffer.
    """
    buffered = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if sys.platform == "linux" and connection is not None and connection.family != socket.AF_UNIX:
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            acknowledged, unsent = _TCP_INFO.unpack(info)
        except (OSError, struct.error):
            pass
        else:
            return Delivery(acknowledged, buffered + unsent)
    return Delivery(-buffered, buffered)
