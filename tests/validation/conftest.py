"""What the suites of the body room share: an app that reads, and a server whose memory can be watched."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from calling import Reader
from live import PATIENCE_SECONDS, client

SINK = Path(__file__).parent / "apps" / "sink.py"


@pytest.fixture
def reader() -> Reader:
    """A fresh app that reads."""
    return Reader()


class Sink:
    """The server of `apps/sink.py` while it runs."""

    def __init__(self, port: int, process: int) -> None:
        self.address = ("127.0.0.1", port)
        self._process = process

    def warm_up(self) -> None:
        """Let the server load whatever its first requests need."""
        with client(f"http://localhost:{self.address[1]}") as asking:
            for _ in range(3):
                assert asking.post("/kept", content=b"a" * 100_000).status_code == 200

    def growth_of(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Do the work; return by how many MiB the server's memory grew at its peak, and the work's result."""
        Path(f"/proc/{self._process}/clear_refs").write_text("5")  # the peak starts from here
        before = self._mebibytes("VmRSS")
        result = work()
        return self._mebibytes("VmHWM") - before, result

    def _mebibytes(self, name: str) -> float:
        for line in Path(f"/proc/{self._process}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"the system does not tell {name}")


@contextmanager
def _sink(*left_out: str) -> Iterator[Sink]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, str(SINK), str(descriptor), *left_out], pass_fds=[descriptor]
        )
        sink = Sink(listener.getsockname()[1], process.pid)
    try:
        sink.warm_up()
        yield sink
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """A protected server in a process of its own."""
    with _sink() as running:
        yield running


@pytest.fixture(scope="module")
def bare_sink() -> Iterator[Sink]:
    """The same without the body's limits."""
    with _sink("body") as running:
        yield running
