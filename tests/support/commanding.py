"""Run `thebes serve` as a user does: a process of its own, in a project of its own."""

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from attack import needed_in_production
from live import eventually

APP = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from thebes import Security

async def slow(request):
    await asyncio.sleep(1)
    return PlainTextResponse("slow")

async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)

def one(request):
    return PlainTextResponse("one " + str(request.scope.get("extensions")))

app = Starlette(routes=[Route("/", one), Route("/slow", slow), WebSocketRoute("/echo", echo)])
Security(hosts=["localhost"], health="GET /healthz").protect(app)
"""

_LISTENER = re.compile(r"^  (?:(\S+):(\d+)|(\S+))  (?:https|plain HTTP|redirects)", re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a deployment that has what production needs."""
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"} | needed_in_production() | more


def serve_to_the_end(project: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Return what a start that fails leaves behind."""
    command = [sys.executable, "-m", "thebes", "serve", *options]
    return subprocess.run(
        command, cwd=project, env=environment(**more), capture_output=True, text=True, check=False, timeout=60
    )


@dataclass
class Serving:
    """A running `thebes serve`, and all that it has said."""

    process: subprocess.Popen[str]
    root: Path | None
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        """All that was said."""
        return "".join(self.lines)

    def says(self, text: str) -> Callable[[], bool]:
        """Return a condition for `eventually`: the text was said, or the process is over."""
        return lambda: text in self.output or self.process.poll() is not None

    def is_open(self) -> bool:
        """Say whether each listener of the summary takes connections, which is after the app has started."""
        if self.process.poll() is not None:
            return True
        try:
            for host, port, path in _LISTENER.findall(self.output):
                if path:
                    with socket.socket(socket.AF_UNIX) as connection:
                        connection.connect(path)
                else:
                    socket.create_connection((host.strip("[]"), int(port)), 10).close()
        except OSError:
            return False
        return True

    def port(self, what: str) -> int:
        """Return the IPv4 port of a listener by its line in the summary."""
        match = re.search(rf"127\.0\.0\.1:(\d+)  {what}", self.output)
        assert match, self.output
        return int(match[1])

    @property
    def https(self) -> int:
        """The port that speaks TLS."""
        return self.port("https")

    def context(self) -> ssl.SSLContext:
        """Return a client's context that verifies the server."""
        return ssl.create_default_context(cafile=self.root)

    def get(self, path: str = "/", **options: object) -> httpx2.Response:
        """Ask over TLS, on a new connection."""
        headers = {"Host": "localhost"}
        with httpx2.Client(verify=self.context(), trust_env=False) as client:
            return client.get(f"https://localhost:{self.https}{path}", headers=headers, **options)

    def serial(self) -> int:
        """Return the serial number of the certificate that a new connection gets."""
        with (
            socket.create_connection(("127.0.0.1", self.https), 10) as plain,
            self.context().wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            certificate = connection.getpeercert()
            assert certificate
            return int(certificate["serialNumber"], 16)


@contextmanager
def serving_command(
    project: Path,
    *options: str,
    root: Path | None = None,
    ready: str = "Application startup complete",
    **more: str,
) -> Iterator[Serving]:
    """Run the command until the block ends, then ask it to stop."""
    command = [sys.executable, "-m", "thebes", "serve", *options]
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Serving(process, root)
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: running.lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        eventually(running.says(ready), 30)
        eventually(running.is_open, 30)
        yield running
    finally:
        process.terminate()
        process.wait(30)
        reader.join()
        process.stdout.close()
