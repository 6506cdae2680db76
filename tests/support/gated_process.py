"""A guarded server in a process of its own, whose memory and counters can be asked for.

As a program it serves until its standard input ends; for each line there it prints its state.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import uvicorn

from issuing import Authority
from thebes import Events
from thebes.serve.accepting import Door
from thebes.serve.gate import Gate
from thebes.serve.guards import Guards
from thebes.serve.renewal import CertificateFiles


@dataclass(frozen=True)
class GatedProcess:
    """A running server."""

    process: subprocess.Popen[str]
    plain: int
    tls: int

    def state(self) -> dict[str, Any]:
        """Return `total` and `addresses` (connections now) and `rss` (resident memory in bytes)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]


@contextmanager
def gated_process(
    authority: Authority, loop: str, *, unlimited: str = "", **guards: float
) -> Iterator[GatedProcess]:
    """Serve a small app until the block ends.

    Args:
        unlimited: A network that counts as a proxy.
        guards: In place of the defaults.
    """
    command = [sys.executable, __file__, loop, str(authority.certificate), str(authority.key)]
    command += [unlimited, json.dumps(guards)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        plain, tls = json.loads(process.stdout.readline())
        yield GatedProcess(process, plain, tls)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


async def small_app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, and answer with 64 KiB to `/page` and with a word to all others."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
        return
    while (await receive()).get("more_body"):
        pass
    body = bytes(64 * 1024) if scope["path"] == "/page" else b"here"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(arguments: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    bound = []
    for _ in range(2):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        bound.append(listening)
    gate = Gate(
        Guards(**json.loads(arguments.guards)).within_descriptors(),
        {bound[0].getsockname(): Door.PROXY, bound[1].getsockname(): Door.TLS},
        files=CertificateFiles(certificate=arguments.certificate, key=arguments.key),
        unlimited=[ip_network(arguments.unlimited)] if arguments.unlimited else [],
        events=Events(lambda _severity, _line: None),
    )
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
    server = uvicorn.Server(gate.config(small_app, loop=arguments.loop, **options))

    async def answer_questions() -> None:
        loop = asyncio.get_running_loop()
        print(json.dumps([listening.getsockname()[1] for listening in bound]), flush=True)
        while await loop.run_in_executor(None, sys.stdin.readline):
            count = gate.connections
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            state = {"total": count.total, "addresses": len(count.by_address), "rss": pages * 4096}
            print(json.dumps(state), flush=True)
        server.should_exit = True

    async def run() -> None:
        questions = asyncio.create_task(answer_questions())
        await server.serve(sockets=bound)
        questions.cancel()

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("loop", "certificate", "key", "unlimited", "guards"):
        parser.add_argument(name, type=Path if name in ("certificate", "key") else str)
    threading.current_thread().name = "server"
    serve(parser.parse_args())
