"""Serve an app over a real socket: uvicorn on a free loopback port, in a thread, until the block ends."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import uvicorn

PATIENCE_SECONDS = 10.0


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Yield the base URL of the served app, such as `http://localhost:43210`.

    Args:
        options: For `uvicorn.Config`, such as `root_path` or `ssl_context_factory`.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    # log_config=None leaves logging to pytest, so that a test can read what was written.
    defaults: dict[str, Any] = {"server_header": False, "proxy_headers": False, "http": "httptools"}
    defaults |= {"log_config": None, "timeout_graceful_shutdown": 2}
    config = uvicorn.Config(app, **(defaults | options))
    server = uvicorn.Server(config)

    def run() -> None:
        # uvicorn ends a start that failed with SystemExit; for a thread that is the end and no error.
        with suppress(SystemExit):
            server.run(sockets=[listener])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        scheme = "https" if config.is_ssl else "http"
        yield f"{scheme}://localhost:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


def client(url: str, **options: Any) -> httpx2.Client:
    """Return a client for a served app that believes no proxy of the environment."""
    settings: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": PATIENCE_SECONDS}
    return httpx2.Client(base_url=url, **(settings | options))


def is_refused(port: int) -> bool:
    """Say whether nobody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def eventually(condition: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition holds; fail when it doesn't in time."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)
