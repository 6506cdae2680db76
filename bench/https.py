"""What the server's guards cost: CPU of stock uvicorn divided by that of `thebes serve`, both over TLS.

Run `python bench/https.py`; bench/README.md says how to read such figures. 1.0 means that accept loop,
caps, deadlines and strict framing are free. Both serve the same bare app without the pass, on uvloop and
httptools, with the same TLS context; the servers run on one core, the load on another.
"""

from __future__ import annotations

import argparse
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

import apps
import harness
import load
from thebes.serve.accepting import Door
from thebes.serve.gate import Gate
from thebes.serve.guards import Guards
from thebes.serve.renewal import CertificateFiles

WARM_UP = 500
WARM_UP_CONNECTIONS = 20
STOCK, GUARDED = "stock", "guarded"
KEPT, NEW = "tls_ratio_to_uvicorn", "handshake_ratio_to_uvicorn"
AIMS = {KEPT: 0.95, NEW: 0.90}
CERTIFICATE, KEY, ROOT = "server.pem", "server.key", "root.pem"
BODY = b'{"notes":["thebes","gates"],"page":"7"}'
# A header of 20 KiB: stock uvicorn takes it, a guarded server must not.
HOSTILE = load.navigation("/notes?page=7").replace(b"\r\n\r\n", b"\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n")


@dataclass(frozen=True, slots=True)
class TlsConversation(load.HttpConversation):
    """The same request on connections that speak TLS 1.3 and verify the server."""

    context: ssl.SSLContext

    def open(self, port: int) -> socket.socket:
        """Return a connection after the handshake; no session is resumed."""
        plain = socket.create_connection(("127.0.0.1", port), timeout=load.TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(plain, server_hostname="localhost")


class TlsServer(harness.Server):
    """This file as a server in a process of its own, until the `with` block ends.

    Args:
        kind: `STOCK` or `GUARDED`.
        files: Where certificate and key lie.
        core: Which core it runs on.
    """

    def __init__(self, kind: str, *, files: Path, core: int) -> None:
        command = [sys.executable, __file__, "--serve", kind, "--core", str(core), "--files", str(files)]
        self.is_protected = kind == GUARDED
        self.port = 0
        self._directory = tempfile.TemporaryDirectory(prefix="bench-")
        self._log = Path(self._directory.name, "server.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory.name,
                env=harness.production_environment(),
            )


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure, and where; `noise_only` compares stock uvicorn with itself."""

    cores: harness.Cores
    pairs: int
    rounds: int
    requests: int
    connections: int
    noise_only: bool = False


def measure(name: str, effort: Effort, files: Path) -> harness.Figure:
    """Return stock / guarded CPU time of one request on a kept connection, or of one new connection.

    Raises:
        load.WrongAnswerError: A server did not answer as it should.
    """
    rounds = harness.Rounds()
    for number in range(effort.pairs):
        with ExitStack() as stack:
            stock, guarded = (
                stack.enter_context(TlsServer(kind, files=files, core=effort.cores.server))
                for kind in (STOCK, STOCK if effort.noise_only else GUARDED)
            )
            rounds.measure(
                effort.rounds,
                above=warm_cost(name, stock, effort, files),
                below=warm_cost(name, guarded, effort, files),
            )
        median = statistics.median(rounds.ratios[-effort.rounds :])
        harness.say(f"{name}: pair {number + 1} of {effort.pairs}: {median:.3f}")
    stock_us, guarded_us = (statistics.median(side) / 1000 for side in (rounds.above, rounds.below))
    what = "request" if name == KEPT else "new connection with one request"
    detail = f"uvicorn {stock_us:.1f} us, guarded {guarded_us:.1f} us of CPU for each {what}"
    return harness.Figure(name, "higher", AIMS[name], rounds.ratios, detail)


def warm_cost(name: str, server: harness.Server, effort: Effort, files: Path) -> Callable[[], float]:
    """Return what measures the CPU time of one exchange, in nanoseconds, after a check and a warm-up.

    Raises:
        load.WrongAnswerError: A guarded server takes the hostile request, or a stock one doesn't.
    """
    context = ssl.create_default_context(cafile=str(files / ROOT))
    conversation = TlsConversation(load.navigation("/notes?page=7"), BODY, context)
    with conversation.open(server.port) as connection:
        connection.sendall(HOSTILE)
        status = connection.recv(load.BUFFER_BYTES).split(b" ")[1]
    if status != (b"431" if server.is_protected else b"200"):
        raise load.WrongAnswerError(f"the server answers {status!r} to a header section of 20 KiB")
    if name == KEPT:
        cost = partial(load.cost_ns, conversation, server.port, cpu_ns=server.cpu_ns)
        cost(count=min(WARM_UP, effort.requests))
        return partial(cost, count=effort.requests)
    connect = partial(connection_cost_ns, conversation, server)
    connect(min(WARM_UP_CONNECTIONS, effort.connections))
    return partial(connect, effort.connections)


def connection_cost_ns(conversation: TlsConversation, server: harness.Server, count: int) -> float:
    """Return the server's CPU time for a connection with one request, in nanoseconds.

    Raises:
        load.WrongAnswerError: An answer was not the expected one.
    """
    before = server.cpu_ns()
    for _ in range(count):
        with conversation.open(server.port) as connection:
            conversation.ask(connection)
            conversation.hear(connection)
    return (server.cpu_ns() - before) / count


def serve(kind: str, files: Path) -> None:
    """Serve the Starlette app of bench/apps.py on a free port until standard input is closed."""
    pair = CertificateFiles(certificate=files / CERTIFICATE, key=files / KEY, hosts=["localhost"])
    options: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
    }
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        app = apps.starlette_app()
        if kind == GUARDED:
            gate = Gate(Guards(), {listener.getsockname(): Door.TLS}, files=pair)
            config = gate.config(app, loop="uvloop", **options)
        else:
            config = uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ssl_context_factory=lambda _config, _default: pair.context(),
                **options,
            )
        listener.listen(128)
        server = uvicorn.Server(config)
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        server.run(sockets=[listener])


def write_certificate(directory: Path) -> None:
    """Write a root and a certificate of it for localhost, both ECDSA P-256 as public CAs sign today."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    for path, subject, subject_key in ((ROOT, "bench root", root_key), (CERTIFICATE, "localhost", key)):
        builder = x509.CertificateBuilder(
            name("bench root"), name(subject), subject_key.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        constraints = x509.BasicConstraints(ca=path == ROOT, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        pem = builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (directory / path).write_bytes(pem)
    (directory / KEY).touch(mode=0o600)
    (directory / KEY).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and print it."""
    parser = argparse.ArgumentParser(description="What the server's guards cost, in CPU time over TLS.")
    parser.add_argument("--pairs", type=int, default=5, help="of fresh servers (default: 5)")
    parser.add_argument("--rounds", type=int, default=15, help="with each pair (default: 15)")
    parser.add_argument("--requests", type=int, default=250, help="of each side in a round")
    parser.add_argument("--connections", type=int, default=60, help="of each side in a round")
    parser.add_argument("--only", choices=tuple(AIMS), metavar="NAME", help=f"one of: {', '.join(AIMS)}")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--noise", action="store_true", help="compare stock uvicorn with itself")
    parser.add_argument("--serve", choices=(STOCK, GUARDED), help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        os.sched_setaffinity(0, {options.core})
        serve(options.serve, options.files)
        return
    cores = harness.Cores.choose()
    os.sched_setaffinity(0, {cores.load})
    effort = Effort(
        cores, options.pairs, options.rounds, options.requests, options.connections, options.noise
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        write_certificate(Path(directory))
        names = [options.only] if options.only else list(AIMS)
        figures = [measure(name, effort, Path(directory)) for name in names]
    print(harness.machine(cores), harness.table(figures), sep="\n\n")
    if options.json:
        print(harness.as_json(figures))


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
