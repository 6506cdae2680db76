"""The fixed table: cells for keys, in memory that never grows, moves or needs sweeping.

A key is hashed to a bucket of 16 cells and a tag of 32 bits; its cell is the one that holds the tag. A
cell whose value has run out is a free cell, so nothing is ever swept, and a flood of new keys costs each
of them the same little time. A live cell is never given away: **a new key that finds its bucket full
counts in a coarse cell** that it shares with its neighbours (a /24 or /48, or those with like hashes). So
a flood can't free a counter that is in use, and the limit never gets looser, only coarser.

A key that has no cell counts in its coarse cell for as long as that one is live, even when room has
returned: else it would begin anew beside the budget that it has used there.

Words are 32 bits: 16 tags, then what the meter keeps (see `meters`). The buffer is any that can be
written: anonymous memory, or a file that several processes map, with a hash that they share.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import sys
from collections.abc import Callable
from typing import Protocol

from thebes.encoding import random_bytes

BUCKET = 16  # cells
MASK = 0xFFFF_FFFF
# One bucket in 17 holds coarse cells: one for 16 keys, more than there are /24s in use among a flood's.
COARSE_SHARE = 17
SECRET_BYTES = 16

_tags = struct.Struct(f"{BUCKET}I").unpack_from


class Place:
    """Where a key belongs: its bucket and tag, its coarse cell, and the cell it was last found in.

    Attributes:
        unit: What a cost of 1 is in the meter's own measure.
    """

    __slots__ = ("base", "cell", "spare", "tag", "unit")

    def __init__(self, base: int, tag: int, spare: int, unit: int) -> None:
        self.base = base
        self.cell = base
        self.spare = spare
        self.tag = tag
        self.unit = unit


class CellReader(Protocol):
    """What the table must know of a cell's value: whether it still counts."""

    def is_live(self, cell: int, now: int, /) -> bool:
        """Say whether the cell's value still matters at `now`."""

    def first_dead(self, base: int, now: int, /) -> int | None:
        """Return the first cell of a bucket whose value has run out, or None."""

    def clear(self, cell: int, now: int, /) -> None:
        """Give a cell the value of a key that has spent nothing."""


class Cells:
    """Buckets of cells in one buffer. Not safe for threads: whoever calls holds a lock.

    Args:
        size: Bytes of the buffer.
        cell_words: Words of 32 bits a cell, the tag included.
        buffer: Where the cells lie; anonymous memory of this process if None.
        key_hash: Hash of a key, 64 bits, that no stranger can compute; one of this process if None.

    Attributes:
        count: How many cells keys of their own can have.
        overflows: How often a key was counted in a coarse cell.
    """

    def __init__(
        self,
        size: int,
        cell_words: int,
        *,
        buffer: bytearray | mmap.mmap | None = None,
        key_hash: Callable[[bytes], int] | None = None,
    ) -> None:
        self.size = size
        self.buffer = anonymous_memory(size) if buffer is None else buffer
        self.words = memoryview(self.buffer).cast("I")
        self.bucket_words = BUCKET * cell_words
        buckets = size // 4 // self.bucket_words
        coarse = max(1, buckets // COARSE_SHARE)
        self._buckets = buckets - coarse
        if self._buckets < 1:
            raise ValueError(f"{size} bytes are too few for cells of {4 * cell_words}")
        self._coarse_cells = coarse * BUCKET
        self._hash = key_hash or keyed_hash(random_bytes(SECRET_BYTES))
        self.count = self._buckets * BUCKET
        self.overflows = 0

    def place(self, key: bytes, coarse: bytes | None = None, unit: int = 1) -> Place:
        """Return where `key` belongs; `coarse` is what it shares with its neighbours, its hash if None."""
        hashed = self._hash(key)
        near = hashed if coarse is None else self._hash(coarse)
        base = (hashed >> 32) % self._buckets * self.bucket_words
        bucket, slot = divmod((near & MASK) % self._coarse_cells, BUCKET)
        spare = (self._buckets + bucket) * self.bucket_words + slot
        # Tag 0 is a cell that was never used.
        return Place(base, hashed & MASK or 1, spare, unit)

    def settle(self, place: Place, now: int, reader: CellReader) -> int:
        """Return the cell in which a key counts now; a new key gets one."""
        words, base, tag, spare = self.words, place.base, place.tag, place.spare
        tags = _tags(self.buffer, base * 4)
        if tag in tags:
            place.cell = own = base + tags.index(tag)
            return own
        if words[spare]:
            if reader.is_live(spare, now):
                self.overflows += 1
                return spare
            words[spare] = 0
        free = base + tags.index(0) if 0 in tags else reader.first_dead(base, now)
        if free is None:
            words[spare] = 1
            reader.clear(spare, now)
            self.overflows += 1
            return spare
        words[free] = tag
        reader.clear(free, now)
        place.cell = free
        return free

    def find(self, place: Place, now: int, reader: CellReader) -> int | None:
        """Return the live cell in which a key counts, or None; nothing changes."""
        cell = place.cell
        if self.words[cell] != place.tag:
            tags = _tags(self.buffer, place.base * 4)
            if place.tag in tags:
                cell = place.base + tags.index(place.tag)
            elif self.words[place.spare]:
                cell = place.spare
            else:
                return None
        return cell if reader.is_live(cell, now) else None

    def live(self, now: int, reader: CellReader) -> int:
        """Count the live cells of keys; it reads the whole table, a tenth of a second and more."""
        words, width = self.words, self.bucket_words
        return sum(
            1
            for base in range(0, self._buckets * width, width)
            for cell in range(base, base + BUCKET)
            if words[cell] and reader.is_live(cell, now)
        )


def keyed_hash(secret: bytes) -> Callable[[bytes], int]:
    """Return a hash of 64 bits that only this process can compute.

    The interpreter's own hash of bytes is SipHash-1-3, a keyed hash made against exactly this (chosen
    collisions), at 0.06 us; keyed BLAKE2b costs 0.4 to 0.5. The secret goes in front all the same: with
    PYTHONHASHSEED set, the interpreter's key is known. Python builds with another or a shorter hash, and
    tables that processes share, need BLAKE2b.
    """
    if sys.hash_info.algorithm.startswith("siphash") and sys.hash_info.width == 64:
        return lambda key: hash(secret + key)
    return blake2_hash(secret)


def blake2_hash(secret: bytes) -> Callable[[bytes], int]:
    """Return a hash of 64 bits that everyone who knows the secret can compute."""
    begun = hashlib.blake2b(key=secret, digest_size=8)

    def hashed(key: bytes) -> int:
        state = begun.copy()
        state.update(key)
        return int.from_bytes(state.digest(), "little")

    return hashed


def anonymous_memory(size: int) -> mmap.mmap:
    """Return zeroed memory that takes up room only where it is written.

    Private where the system knows that: a process that forks would else write into its child's counters
    without a lock.
    """
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
