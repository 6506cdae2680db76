"""The gate: everything that stands between a port and uvicorn, in one object that a worker can be given.

Sockets are told apart by their address, since a worker gets copies of them. Contexts, counters and
watchers are made where the gate opens, in the process that accepts.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from thebes.errors import ConfigurationError
from thebes.events import Events
from thebes.serve.accepting import ACCEPT_PAUSED, Door, Factory, Listener, LoopKind, new_loop
from thebes.serve.connections import TOO_MANY, TOO_MANY_OF_ADDRESS, Connections, Network
from thebes.serve.guards import Guards
from thebes.serve.protocol import GuardedProtocol
from thebes.serve.reading import UNREAD
from thebes.serve.renewal import WATCH_SECONDS, CertificateFiles, ServedCertificate


class Gate:
    """The listeners of one process.

    Args:
        guards: Deadlines and caps.
        doors: The address of each bound socket (`getsockname()`), and what it is for.
        files: The certificate, where a door speaks TLS.
        hsts: The value of Strict-Transport-Security on the server's own answers over TLS.
        unlimited: Networks of declared proxies, whose connections are not capped by address.
        events: Where events go; may be set until the gate opens.
        watch_seconds: How often the certificate's files are looked at.

    Raises:
        ConfigurationError: A TLS door without a certificate.
    """

    def __init__(
        self,
        guards: Guards,
        doors: Mapping[Any, Door],
        *,
        files: CertificateFiles | None = None,
        hsts: bytes | None = None,
        unlimited: Sequence[Network] = (),
        events: Events | None = None,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        if Door.TLS in doors.values() and files is None:
            raise ConfigurationError("a TLS door needs a certificate")
        self.guards = guards
        self.hsts = hsts
        self.events = events or Events()
        self.connections = Connections(guards, unlimited)
        self.listeners: list[Listener] = []
        self._doors = dict(doors)
        self._files = files
        self._watch_seconds = watch_seconds
        self._certificate: ServedCertificate | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context for the next connection."""
        return self._certificate.context if self._certificate else None

    def config(
        self, app: Any, *, loop: LoopKind, protocol: type[GuardedProtocol] = GuardedProtocol, **options: Any
    ) -> uvicorn.Config:
        """Return settings with which a uvicorn server accepts through this gate.

        Args:
            app: What uvicorn takes: an application, its import string, or a factory.
            loop: On which event loop.
            protocol: For tests of the self-test.
            options: Further settings of `uvicorn.Config`.
        """
        settings: dict[str, Any] = {
            "loop": partial(new_loop, loop, self),
            "http": partial(protocol, guards=self.guards, hsts=self.hsts, report=self.tell),
            "callback_notify": self.assert_taken,
            "timeout_notify": 3600,
            "timeout_graceful_shutdown": self.guards.stop_seconds,
            # The pass finds out who the client is; a second opinion would be a second way in.
            "proxy_headers": False,
            "server_header": False,
        }
        return uvicorn.Config(app, **(settings | options))

    def load_certificate(self) -> None:
        """Read the certificate in the process that will serve it, before anything else takes time.

        Raises:
            CertificateError: The files can't serve.
        """
        if self._files is not None:
            self._certificate = ServedCertificate(self._files, lambda: self.events)

    def open(
        self, loop: asyncio.AbstractEventLoop, factory: Factory, listening: socket.socket, backlog: int
    ) -> Listener:
        """Start to accept on a bound socket; the event loop calls it for uvicorn."""
        if self._watcher is None and self._certificate is not None:
            self._watcher = loop.create_task(self._certificate.watch(self._watch_seconds))
            self._exchange_on_hangup(loop, self._certificate)
        listener = Listener(self, loop, factory, listening, self._doors[listening.getsockname()])
        self.listeners.append(listener)
        listener.open(backlog)
        return listener

    def closed(self, listener: Listener) -> None:
        """Forget a listener; with the last one the files are watched no more."""
        self.listeners.remove(listener)
        if not self.listeners and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def assert_taken(self) -> None:
        """End the process unless uvicorn accepts through this gate; uvicorn calls it once it has started.

        A version that goes another way would serve without any guard.
        """
        if len(self.listeners) != len(self._doors):
            logging.getLogger("uvicorn.error").error(
                "uvicorn %s does not accept through the gate: nothing is served", uvicorn.__version__
            )
            sys.exit(STARTUP_FAILURE)

    def tell(self, kind: str, client: str | None) -> None:
        """Record that a connection or a request was refused, or that none can be accepted."""
        if kind in (TOO_MANY, TOO_MANY_OF_ADDRESS):
            event = "connection_refused"
        elif kind == UNREAD:
            event = "connection_broken_off"
        elif kind == ACCEPT_PAUSED:
            self.events.emit("accept_paused", severity="error", outcome="failed", detail=_OUT_OF_DESCRIPTORS)
            return
        else:
            event = "request_denied"
        self.events.emit(event, severity="warning", outcome="denied", reason=kind, client=client)

    def _exchange_on_hangup(self, loop: asyncio.AbstractEventLoop, certificate: ServedCertificate) -> None:
        """Read the files at once on SIGHUP. The parent of several workers starts these anew instead."""
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            return
        tasks: set[asyncio.Task[bool]] = set()

        def exchange() -> None:
            task = loop.create_task(certificate.exchange())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGHUP, exchange)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs; what runs stays here."""
        return self.__dict__ | {"events": None, "listeners": [], "_certificate": None, "_watcher": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.events = Events()


_OUT_OF_DESCRIPTORS = "no file descriptor is left for another connection; the next try is in a second"
