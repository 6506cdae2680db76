"""Inflate a copy of a body to count it, never more than a little past the limit.

Sources: RFC 9110, 8.4.1 (gzip, deflate); RFC 1952 (several members in a row).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

CODINGS = frozenset({"gzip", "deflate"})
# Bytes fed at a time: what is left over is copied for each member, and a chunk may hold thousands.
FEED = 4 * 1024
PIECE = 64 * 1024  # bytes inflated at a time: memory stays flat whatever the ratio

# zlib: 16 + window bits reads a gzip member, plain window bits the zlib format that `deflate` means.
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


class InflateError(ValueError):
    """The bytes aren't in the declared coding."""


class Inflater:
    """Inflate chunk by chunk, in pieces of at most 64 KiB."""

    __slots__ = ("_bits", "_member", "_was_fed")

    def __init__(self, coding: str) -> None:
        self._bits = _WINDOW_BITS[coding]
        self._member = zlib.decompressobj(self._bits)
        self._was_fed = False

    def take(self, chunk: bytes, room: int) -> Iterator[bytes]:
        """Yield pieces until the chunk is used up or more than `room` bytes came out.

        Raises:
            InflateError: The chunk isn't in the coding.
        """
        for start in range(0, len(chunk), FEED):
            pending = chunk[start : start + FEED]
            while pending:
                piece = self._read(pending)
                pending = self._member.unconsumed_tail or self._member.unused_data
                room -= len(piece)
                yield piece
                if room < 0:
                    return

    def _read(self, pending: bytes) -> bytes:
        if self._member.eof:
            self._member = zlib.decompressobj(self._bits)
        self._was_fed = True
        try:
            return self._member.decompress(pending, PIECE)
        except zlib.error as error:
            raise InflateError(str(error)) from error

    def finish(self) -> None:
        """Say that no chunk follows.

        Raises:
            InflateError: The last member isn't complete.
        """
        if self._was_fed and not self._member.eof:
            raise InflateError("the body ends within a member")
