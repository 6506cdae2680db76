"""The number of the last revocation, where every process of this machine sees it without asking the database.

A small file beside the database, mapped into memory. It is raised inside the transaction that revokes, before
its commit: so nobody can see an ended session as alive and also believe to be up to date. A request reads it
in a tenth of a microsecond, where `PRAGMA data_version` costs up to 27.

A number is never given twice, not even if its transaction was rolled back or its process killed: a reader
that has looked for its row, and given up, would overlook the next row of the same number.

Does not protect: other machines (SQLite serves one); against whoever may write the file, and who could as
well write the database.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from thebes.errors import StoreUnavailable

MAGIC: Final = b"thebes\x00\x01"  # the last octet is the version of this layout
NUMBER: Final = struct.Struct("<Q")
SIZE: Final = len(MAGIC) + NUMBER.size
LOCK_SECONDS = 30.0  # how long the start waits for another process's start, migrations included
LOCK_PAUSE_SECONDS = 0.01


class SharedSequence:
    """A number in a mapped file. Whoever calls `raise_to` or `following` holds the database's write lock."""

    __slots__ = ("_descriptor", "_map", "_path")

    def __init__(self, path: Path) -> None:
        """Map the file, and make it if it isn't there.

        Raises:
            StoreUnavailable: It can't be made, or it is something else: a link, another's file.
        """
        self._path = path
        self._map: mmap.mmap | bytearray
        self._descriptor, self._map = _mapped(path)

    def current(self) -> int:
        """Return the number; no system call."""
        # Eight aligned octets, copied as one word by memcpy on x86-64 and arm64. Should a platform ever tear
        # them, the reader meets a number that isn't its own and reads the rows: never one step too few.
        number: int = NUMBER.unpack_from(self._map, len(MAGIC))[0]
        return number

    def raise_to(self, least: int) -> None:
        """Make the number at least this one."""
        if self.current() < least:
            NUMBER.pack_into(self._map, len(MAGIC), least)

    def following(self) -> int:
        """Raise the number by one, for everyone, and return it."""
        if not self._is_in_place():
            self._map_again()
        number = self.current() + 1
        NUMBER.pack_into(self._map, len(MAGIC), number)
        return number

    def close(self) -> None:
        """Let go of the file; it stays, as others may use it. Whoever still asks gets the last number."""
        self._map = bytearray(self._map)
        os.close(self._descriptor)

    def _is_in_place(self) -> bool:
        """Say whether the mapped file is still the one that others would open."""
        with suppress(FileNotFoundError):
            there = self._path.lstat()
            return os.path.samestat(there, os.fstat(self._descriptor))
        return False

    def _map_again(self) -> None:
        """Follow a file that was removed or replaced; who only reads notices at its next look at the rows."""
        known, former = self.current(), self._descriptor
        # The former map isn't closed: another thread may be reading it. It goes with its last reference.
        self._descriptor, self._map = _mapped(self._path)
        self.raise_to(known)
        os.close(former)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock: of processes that start at the same time, one prepares the database.

    Raises:
        StoreUnavailable: Another process has held it for 30 s.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    # On a descriptor of its own, so that two stores of one process exclude each other too.
    descriptor = _opened(path)
    try:
        while not _is_taken(descriptor):
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"{path} is locked by another process for {LOCK_SECONDS:.0f} s")
            time.sleep(LOCK_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)  # which unlocks


def _mapped(path: Path) -> tuple[int, mmap.mmap]:
    descriptor = _opened(path)
    try:
        _allocate(descriptor)
        mapped = mmap.mmap(descriptor, SIZE)
    except OSError as error:
        os.close(descriptor)
        raise StoreUnavailable(f"cannot map {path}: {error.strerror}") from error
    if not any(mapped[: len(MAGIC)]):
        # A new file. Only the mark is written: another process may be raising the number by now.
        mapped[: len(MAGIC)] = MAGIC
    if mapped[: len(MAGIC)] != MAGIC:
        os.close(descriptor)
        raise StoreUnavailable(f"{path} is no sequence file of this version; remove it while nothing runs")
    return descriptor, mapped


def _allocate(descriptor: int) -> None:
    # Not just made long: a hole on a full disk would end the process with SIGBUS at the first write.
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, SIZE)
    elif os.fstat(descriptor).st_size < SIZE:
        os.pwrite(descriptor, bytes(SIZE), 0)


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path}: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        raise StoreUnavailable(f"{path} is not a plain file of this user")
    if found.st_mode & 0o077:
        os.fchmod(descriptor, 0o600)
    return descriptor


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
