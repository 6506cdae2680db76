"""Serve an app to the internet, or to a proxy in front, always by the rules of production.

All that can be wrong is found before the port opens, and is one error: the app, its settings, the
certificate, the guards. Then uvicorn serves, behind the accept loop.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from thebes.assembly import all_hosts, problems_of
from thebes.errors import ConfigurationError
from thebes.facts import Mode
from thebes.forwarding import Forwarding
from thebes.https.headers import hsts_value
from thebes.protection import owner_of
from thebes.resources import open_store
from thebes.security import Security
from thebes.serve.accepting import Door, LoopKind
from thebes.serve.binding import EVERYWHERE, bind_tcp, bind_unix
from thebes.serve.gate import Gate
from thebes.serve.guards import Guards
from thebes.serve.loading import load_protected, write_events_to_stderr
from thebes.serve.renewal import CertificateFiles, TlsVersions
from thebes.serve.selftest import self_test
from thebes.settings import Settings

# How long a new worker may take to start before the old one is kept, and any to answer before it is killed.
# uvicorn's 5 s are less than a large app needs on a busy machine; gunicorn takes 30 as well.
WORKER_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What `thebes serve` was asked for.

    Attributes:
        target: Import string of an ASGI app.
        directory: Put on the import path.
        addresses: To listen on; empty takes all with a certificate, 127.0.0.1 without.
        port: TCP port; None takes 443 with a certificate, 8000 without; 0 a free one.
        http_port: A second port that redirects people to https.
        certificate: PEM file, the server's own certificate first.
        key: PEM file, mode 0600.
        tls: Which versions are spoken.
        proxies: Networks of proxies in front, or `unix`.
        unix_socket: Listen there instead.
        workers: Processes that accept from the same sockets.
        guards: Deadlines and caps of the whole server.
        insecure_allow_self_signed: Serve a certificate that no client can verify.
    """

    target: str
    directory: Path
    addresses: tuple[str, ...] = ()
    port: int | None = None
    http_port: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls: TlsVersions = "intermediate"
    proxies: tuple[str, ...] = ()
    unix_socket: Path | None = None
    workers: int = 1
    guards: Guards = field(default_factory=Guards)
    insecure_allow_self_signed: bool = False

    def problems(self) -> Sequence[str]:
        """Return what contradicts itself, a sentence each."""
        has_tls = self.certificate is not None or self.key is not None
        found = []
        if has_tls and (self.certificate is None or self.key is None):
            found.append("--certificate and --key belong together")
        if not has_tls and not self.proxies and self.unix_socket is None:
            found.append(
                "nothing says who ends TLS: --certificate FILE --key FILE for HTTPS from here, or"
                " --behind-proxy NETWORK (or --uds PATH) for plain HTTP from a proxy"
            )
        if self.unix_socket is not None and (has_tls or self.addresses or self.port is not None):
            found.append("--uds is for a proxy on this machine: without --certificate, --host and --port")
        if self.http_port is not None and not has_tls:
            found.append("--http-port sends people to https, so it needs --certificate and --key")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What is about to be served, for the summary.

    Attributes:
        settings: The effective settings.
        removed: Checks that were taken out by `Security.without`.
        doors: Each bound address, and what it is for.
        files: The certificate, if TLS is spoken here.
        guards: The caps and deadlines of each worker.
    """

    settings: Settings
    removed: frozenset[str]
    doors: dict[Any, Door]
    files: CertificateFiles | None
    guards: Guards


def run(deployment: Deployment, *, announce: Callable[[Opened], None]) -> None:
    """Serve until told to stop.

    Args:
        deployment: What was asked for.
        announce: Called once, when everything was found good and is bound.

    Raises:
        ConfigurationError: What keeps it from serving; nothing was served then.
        CertificateError: The certificate can't serve.
    """
    _use_production(deployment)
    service = Service(deployment.target, deployment.directory)
    security = owner_of(service())
    settings = _checked_settings(security, deployment)
    files = _certificate_files(deployment, settings)
    loop: LoopKind = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    self_test(loop, files)
    guards = deployment.guards.within_descriptors().shared_by(deployment.workers)
    with _bound(deployment) as bound:
        doors = {listening.getsockname(): door for listening, door in bound}
        gate = Gate(
            guards,
            doors,
            files=files,
            hsts=hsts_value(
                settings.hsts_max_age,
                include_subdomains=settings.hsts_include_subdomains,
                preload=settings.hsts_preload,
            ),
            unlimited=[ip_network(name) for name in settings.proxies if name != "unix"],
            events=security.events,
        )
        service.gate = gate
        announce(Opened(settings=settings, removed=security.removed, doors=doors, files=files, guards=guards))
        _serve(gate, service, loop, [listening for listening, _ in bound], deployment.workers)


class Service:
    """Makes the app where it is asked for: in this process, or in a worker that got a copy of this."""

    def __init__(self, target: str, directory: Path) -> None:
        self.target = target
        self._directory = directory
        self._app: Any = None
        self.gate: Gate | None = None

    def __call__(self) -> Any:
        """Return the app, protected; its events are those of the gate from here on."""
        if self._app is None:
            write_events_to_stderr()
            self._app = load_protected(self.target, self._directory)
            if self.gate is not None:
                self.gate.events = owner_of(self._app).events
        return self._app

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs: it imports the app itself."""
        return self.__dict__ | {"_app": None}


def _use_production(deployment: Deployment) -> None:
    """Settle the mode, the declared proxies and the number of workers, for this process and for those."""
    asked = os.environ.get("THEBES_ENV", "")
    problems = list(deployment.problems())
    if asked not in ("", Mode.PRODUCTION.value):
        problems.insert(
            0, f"THEBES_ENV is {asked}; thebes serve is for production, thebes dev for development"
        )
    if problems:
        raise ConfigurationError(*problems)
    os.environ["THEBES_ENV"] = Mode.PRODUCTION.value
    # Each worker has to know how many there are: for its share of the hashing lanes, and for the store.
    os.environ["WEB_CONCURRENCY"] = str(deployment.workers)
    proxies = _declared(deployment)
    if proxies:
        known = os.environ.get("THEBES_PROXIES", "").split(",")
        os.environ["THEBES_PROXIES"] = ",".join(dict.fromkeys(filter(None, (*known, *proxies))))


def _declared(deployment: Deployment) -> tuple[str, ...]:
    """Return the proxies that the command declares; who listens on a Unix socket has one there."""
    return (*deployment.proxies, *(["unix"] if deployment.unix_socket is not None else []))


class Workers(Multiprocess):
    """uvicorn's supervisor, which hears of a worker's end at once.

    It asks each worker in turn whether it lives, over a pipe whose far end it holds open itself. So the pipe
    of a worker that dies before it answers would never end, and all would wait for the whole time-out.
    """

    def keep_subprocess_alive(self) -> None:
        """Start anew what has died."""
        for process in self.processes:
            process.child_conn.close()  # the worker has its own
        super().keep_subprocess_alive()


def _checked_settings(security: Security, deployment: Deployment) -> Settings:
    settings = security.settings()
    Forwarding(settings.proxies)  # raises for what is no network
    problems = list(problems_of(settings, os.environ, Path.cwd(), identifies=security.identifies))
    unheard = [name for name in _declared(deployment) if name not in settings.proxies]
    if unheard:
        problems.append(
            f"the app sets proxies itself, which wins: add {', '.join(unheard)} there, or leave it to"
            " --behind-proxy"
        )
    if problems:
        raise ConfigurationError(*problems)
    if settings.accounts:
        open_store(settings, Path.cwd(), deployment.workers)  # raises for one that workers can't share
    return settings


def _certificate_files(deployment: Deployment, settings: Settings) -> CertificateFiles | None:
    """Return where the certificate lies, after it was found good."""
    if deployment.certificate is None or deployment.key is None:
        return None
    files = CertificateFiles(
        certificate=deployment.certificate.absolute(),
        key=deployment.key.absolute(),
        tls=deployment.tls,
        hosts=all_hosts(settings),
        insecure_allow_self_signed=deployment.insecure_allow_self_signed,
    )
    files.context()
    return files


@contextlib.contextmanager
def _bound(deployment: Deployment) -> Iterator[list[tuple[socket.socket, Door]]]:
    """Bind what is to be served, and close it in the end."""
    path = deployment.unix_socket
    with contextlib.ExitStack() as stack:
        if path is not None:
            bound = [(bind_unix(path), Door.PROXY)]
            stack.callback(path.unlink, missing_ok=True)
        else:
            has_tls = deployment.certificate is not None
            addresses = deployment.addresses or (EVERYWHERE if has_tls else ("127.0.0.1",))
            default = 443 if has_tls else 8000
            port = default if deployment.port is None else deployment.port
            door = Door.TLS if has_tls else Door.PROXY
            bound = [(listening, door) for listening in bind_tcp(addresses, port)]
            if deployment.http_port is not None:
                plain = bind_tcp(addresses, deployment.http_port)
                bound += [(listening, Door.REDIRECT) for listening in plain]
        for listening, _ in bound:
            stack.callback(listening.close)
        yield bound


def _serve(gate: Gate, service: Service, loop: LoopKind, sockets: list[socket.socket], workers: int) -> None:
    config = gate.config(
        service,
        loop=loop,
        factory=True,
        workers=workers,
        timeout_worker_healthcheck=WORKER_SECONDS,
        lifespan="on",
        log_level="info",
    )
    if workers > 1:
        supervisor = Workers(config, sockets)
        supervisor.run()
        has_started = all(process.exitcode != STARTUP_FAILURE for process in supervisor.processes)
    else:
        # uvicorn finishes what is running and then raises the signal again: what was opened is closed first.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        server = uvicorn.Server(config)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            server.run(sockets)
        has_started = server.started
    if not has_started:
        raise ConfigurationError(f"{service.target} did not start; its own error stands above")
