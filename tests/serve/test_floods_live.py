"""Many slow and silent clients from one address, while an honest one from another is served.

`THEBES_TEST_COUNTS=full` takes the counts of a release. The honest client's times are compared with its own
before the attack, and only then: in a quick run on a busy machine they would say nothing.
"""

import asyncio
import socket
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import websockets

from gated import LAST, read_answer
from gated_process import gated_process
from live import eventually

pytestmark = pytest.mark.slow

ATTACKER, HONEST = "127.0.0.2", "127.0.0.3"
CLIENTS = Path(__file__).parents[1] / "support" / "slow_clients.py"
KINDS = {"silent": 5000, "head": 1000, "body": 1000, "handshaken": 1000}
MIB = 1024 * 1024


def ask(port: int, context: ssl.SSLContext) -> float:
    """Return the seconds of one new TLS connection with one request; raise where it isn't answered."""
    began = time.perf_counter()
    plain = socket.create_connection(("127.0.0.1", port), 10, source_address=(HONEST, 0))
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(LAST)
        assert read_answer(connection).endswith(b"here")
    return time.perf_counter() - began


def at_leisure(port: int, context: ssl.SSLContext) -> float:
    """Return the seconds of one connection after a rest: in both measurements caches have cooled down."""
    time.sleep(0.01)
    return ask(port, context)


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


@pytest.mark.requirement("HTTP-17", by="live")
@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_client_is_served_while_another_address_attacks(loop, authority, kind, counts_are_full):
    count, seconds = (KINDS[kind], 30) if counts_are_full else (KINDS[kind] // 10, 3)
    context = ssl.create_default_context(cafile=authority.root)
    with gated_process(authority, loop, header_seconds=2, handshake_seconds=2, body_seconds=2) as server:
        idle = [at_leisure(server.tls, context) for _ in range(20 * seconds)]
        before = server.state()["rss"]
        port = server.plain if kind in ("head", "body") else server.tls
        command = [sys.executable, str(CLIENTS), kind, str(port), str(count), str(seconds), ATTACKER]
        with subprocess.Popen(command) as attack:
            eventually(lambda: server.state()["total"] >= 90)
            attacked, states = [], []
            while attack.poll() is None:
                attacked.append(at_leisure(server.tls, context))
                states.append(server.state())
        # The attacker's share, and the honest one's connection that may still be closing.
        assert max(state["total"] for state in states) <= 102
        grown = max(state["rss"] for state in states) - before
        eventually(lambda: server.state()["total"] == 0)
        assert server.state()["addresses"] == 0
        assert len(attacked) > 10 * seconds
        if loop == "uvloop":
            assert grown < 100 * MIB
        if counts_are_full:
            assert p99(attacked) < 3 * p99(idle)


def test_every_count_is_back_at_nothing_after_many_websockets(loop, authority, counts_are_full):
    cycles = 10_000 if counts_are_full else 500
    context = ssl.create_default_context(cafile=authority.root)

    async def cycle(port: int) -> None:
        async with websockets.connect(f"wss://localhost:{port}/", ssl=context, proxy=None):
            pass

    async def cycle_all(port: int) -> None:
        for _ in range(cycles // 20):
            await asyncio.gather(*(cycle(port) for _ in range(20)))

    with gated_process(authority, loop) as server:
        asyncio.run(cycle_all(server.tls))
        eventually(lambda: server.state()["total"] == 0)
        assert server.state()["addresses"] == 0


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        pytest.param("-H", [], id="slow headers"),
        pytest.param("-B", ["-s", "8192"], id="slow body"),
        pytest.param("-X", ["-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"], id="slow read"),
    ],
)
def test_slowhttptest_finds_the_service_available(
    slowhttptest, authority, tmp_path, mode, options, counts_are_full
):
    count, seconds = (1000, 30) if counts_are_full else (200, 6)
    # The tool probes from the address that it attacks from, so that one must not have a share only.
    with gated_process(
        authority, "uvloop", unlimited="127.0.0.1", header_seconds=2, body_seconds=2, stalled_seconds=2
    ) as server:
        url = f"https://127.0.0.1:{server.tls}/{'page' if mode == '-X' else ''}"
        report = tmp_path / "report"
        command = [slowhttptest, mode, "-c", str(count), "-r", str(count), "-i", "1", "-p", "2"]
        command += ["-l", str(seconds), "-u", url, "-g", "-o", str(report), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + seconds)
        rows = (tmp_path / "report.csv").read_text().splitlines()
        eventually(lambda: server.state()["total"] == 0)
    available = [row.rpartition(",")[2] for row in rows[1:]]
    assert len(available) >= 3, done.stdout
    assert "0" not in available, rows
    if mode != "-X":
        assert "No open connections left" in done.stdout, "slow clients were not thrown out"
