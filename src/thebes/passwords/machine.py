"""How many cores and how much memory this process may use: affinity and cgroup, not what the machine has.

A container on a machine with 64 cores may be allowed one and a half of them; 63 hashing threads there would
stop each other and everything else. Both versions of cgroups are read, with every group above ours, since
the least limit holds. What can't be read is taken as no limit.

Sources: cgroups(7); Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst; sched-bwc.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

# Version 1 has no word for "no limit": a number near 2**63, rounded to the page size, means it.
_NO_LIMIT_V1 = 2**60


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use.

    Attributes:
        cores: The smaller of the CPU affinity and the cgroup quota, in whole cores, at least 1.
        memory_limit: Bytes that the cgroup may use; None without a limit.
    """

    cores: int
    memory_limit: int | None

    @classmethod
    def read(cls, *, root: Path = Path("/"), affinity: int | None = None) -> Self:
        """Ask the operating system.

        Args:
            root: Where `proc` and `sys` are mounted.
            affinity: How many cores the scheduler may choose from; that of this process if None.
        """
        cores = float(_affinity() if affinity is None else affinity)
        limits: list[int] = []
        for group in _groups(root):
            cores = min(cores, _quota(group))
            limits += _memory(group)
        return cls(cores=max(1, int(cores)), memory_limit=min(limits, default=None))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """Yield the directories of this process's cgroups, each with those above it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for mount in _mounts(controllers):
            yield from _upwards(root / mount, path)


def _mounts(controllers: str) -> Iterator[str]:
    if not controllers:  # version 2; with version 1 beside it, as systemd mounts the two
        yield from ("sys/fs/cgroup", "sys/fs/cgroup/unified")
    for controller in controllers.split(","):
        if controller in ("cpu", "memory"):
            yield f"sys/fs/cgroup/{controller}"


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # In a container the path may be that of the host, where our view begins: then only the mount is there.
    inner = PurePosixPath(path.lstrip("/"))
    if ".." not in inner.parts:
        yield from (mount / group for group in (inner, *inner.parents) if group.parts)
    yield mount


def _quota(group: Path) -> float:
    """Return the cores that a group may use, infinity without a limit."""
    words = _text(group / "cpu.max").split()
    if not words:
        words = [_text(group / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return float("inf")
    return quota / period if quota > 0 and period > 0 else float("inf")


def _memory(group: Path) -> list[int]:
    """Return the bytes that a group may use, nothing without a limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = int(_text(group / name))
        except ValueError:
            continue
        if limit < _NO_LIMIT_V1:
            return [limit]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
