"""What the benchmarks share: cores, CPU clocks, child processes, paired rounds, and the report.

A figure is a ratio of two costs that were measured next to each other: in every round first one,
then the other, and the other way round in the next. What disturbs the machine for longer than a
round disturbs both sides alike. The result is the median of the rounds, printed with its spread.

CPU time is the process's own, of all its threads, user and system: waiting costs nothing.
Needs Linux: the CPU clock of another process is read by its id.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from members import FILE, Members, Wanted, read

HERE = Path(__file__).parent
# The check stays on, its table is asked and charged; only the number is out of reach of the load.
UNREACHED_LIMIT = "1000000/second burst 1000000"
STOP_TIMEOUT_S = 15.0
REST_S = 0.001  # a server that still had work would have used some CPU in this time


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the server runs on and which one the load; the same where there is only one."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> Self:
        """Return the first two cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(server=usable[0], load=usable[-1] if len(usable) < 2 else usable[1])

    @property
    def are_shared(self) -> bool:
        """Server and load run on one core: caches are shared, and the spread is wider."""
        return self.server == self.load


@dataclass(frozen=True, slots=True)
class Rounds:
    """The costs of both sides, round by round, in one unit."""

    above: list[float] = field(default_factory=list)
    below: list[float] = field(default_factory=list)

    def measure(self, count: int, *, above: Callable[[], float], below: Callable[[], float]) -> None:
        """Add `count` rounds: both sides in each, in swapped order from round to round."""
        for number in range(len(self.above), len(self.above) + count):
            sides = [(self.above, above), (self.below, below)]
            if number % 2:
                sides.reverse()
            for costs, measure in sides:
                costs.append(measure())

    @property
    def ratios(self) -> list[float]:
        """`above / below` of each round."""
        return [above / below for above, below in zip(self.above, self.below, strict=True)]


@dataclass(frozen=True, slots=True)
class Figure:
    """A named ratio with its aim.

    Attributes:
        better: "higher" if the ratio should be at least the aim, "lower" if at most.
        detail: The two costs in words, for people.
    """

    name: str
    better: Literal["higher", "lower"]
    aim: float
    ratios: list[float]
    detail: str

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def meets_aim(self) -> bool:
        """The median is on the good side of the aim."""
        return self.value >= self.aim if self.better == "higher" else self.value <= self.aim

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds lies below the first value, a quarter above the second."""
        if len(self.ratios) < 2:
            return self.ratios[0], self.ratios[0]
        first, _, third = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return first, third


class Server:
    """`bench/apps.py` in a process of its own, until the `with` block ends.

    It runs in an empty directory in production mode with fresh keys, whatever the caller's
    environment says. What it logs, such as the refusal of a hostile request, is shown only if it
    does not start.

    Args:
        app: A name from `apps.APPS`.
        protected: With the package, or without it.
        core: Which core it runs on.
        wanted: Who has an account before it starts; the bare one knows nobody.

    Attributes:
        members: What those show.
    """

    def __init__(self, app: str, *, protected: bool, core: int, wanted: Wanted | None = None) -> None:
        command = [sys.executable, str(HERE / "apps.py"), app, "--core", str(core)]
        command += wanted.arguments() if wanted is not None and protected else []
        self.is_protected = protected
        self.members = Members()
        self.port = 0
        self._directory = tempfile.TemporaryDirectory(prefix="bench-")
        self._log = Path(self._directory.name, "server.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--protected"] if protected else command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory.name,
                env=production_environment(),
            )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None  # a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            log = self._log.read_text(errors="replace")
            self.__exit__(None, None, None)
            raise RuntimeError(f"the server did not start:\n{log}")
        self.port = int(line)
        directory = Path(self._directory.name)
        if (directory / FILE).exists():
            self.members = read(directory)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._directory.cleanup()

    def cpu_ns(self) -> int:
        """Wait until the server rests, and return the CPU time it has used, in nanoseconds.

        While a process runs, others see its clock as of the last tick (up to 10 ms ago).
        """
        while True:
            used = process_cpu_ns(self._process.pid)
            time.sleep(REST_S)
            if used == process_cpu_ns(self._process.pid):
                return used


def process_cpu_ns(pid: int) -> int:
    """Return user and system CPU time of all threads of a process, in nanoseconds.

    Its POSIX clock counts nanoseconds. /proc/PID/stat, the way out where that clock is forbidden,
    counts ticks of 10 ms. (/proc/PID/schedstat is as fine, but knows the main thread only.)

    Raises:
        ProcessLookupError: There is no such process.
    """
    try:
        # clock_getcpuclockid(3) on Linux: made of the process id; 2 means "scheduler's time".
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            raise ProcessLookupError(pid) from None
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def pinned_threads(count: int, core: int) -> ThreadPoolExecutor:
    """Return threads that run on one core, whatever core the rest of this process runs on."""
    return ThreadPoolExecutor(count, initializer=os.sched_setaffinity, initargs=(0, {core}))


def child_cpu_ms(code: str) -> float:
    """Return the CPU time of a fresh interpreter that runs `code` and ends, in milliseconds.

    Raises:
        RuntimeError: The interpreter did not end with 0.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        command = [sys.executable, "-c", code]
        with subprocess.Popen(
            command, cwd=directory, env=production_environment(), stdin=subprocess.DEVNULL
        ) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"python -c {code!r} ended with {child.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def production_environment() -> dict[str, str]:
    """Return this process's environment with what production needs: fresh keys, a store, a mail server.

    The store lies in the working directory. Nothing listens where mails go, so none ever leaves.
    """
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("THEBES_")}
    return inherited | {
        "THEBES_ENV": "production",
        "THEBES_SECRET_KEYS": f"k1:{key}",
        "THEBES_DATABASE_URL": "sqlite:///accounts.db",
        "THEBES_MAIL_URL": "smtps://localhost",
    }


def say(text: str) -> None:
    """Report progress; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def table(figures: list[Figure]) -> str:
    """Return the figures as text for people."""
    names = max(len(figure.name) for figure in figures)
    lines = [f"{'figure':<{names}}  aim      measured  min    quartiles      max    verdict"]
    for figure in figures:
        sign = ">=" if figure.better == "higher" else "<="
        first, third = figure.quartiles
        lines.append(
            f"{figure.name:<{names}}  {sign} {figure.aim:.2f}  {figure.value:.3f}     "
            f"{min(figure.ratios):.3f}  {first:.3f} - {third:.3f}  {max(figure.ratios):.3f}  "
            f"{'meets the aim' if figure.meets_aim else 'MISSES THE AIM'}"
        )
    return "\n".join([*lines, "", *(f"{figure.name}: {figure.detail}" for figure in figures)])


def as_json(figures: list[Figure]) -> str:
    """Return the figures as one JSON object on one line: name and median."""
    return json.dumps({figure.name: round(figure.value, 4) for figure in figures})


def machine(cores: Cores) -> str:
    """Return what the figures were measured on, for the head of a report."""
    where = f"server on core {cores.server}, load on core {cores.load}"
    if cores.are_shared:
        where = f"ONE CORE (number {cores.server}) for server and load: read the figures as rough"
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{where}; load average {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    print(machine(Cores.choose()))
