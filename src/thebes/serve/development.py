"""Serve an app on this machine: https://localhost, a certificate of the local authority, reload.

An app that is not protected yet is protected from `Settings`. Nobody else is answered: the sockets are
bound to loopback, and the pass refuses what a proxy could have brought (rules of development mode).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.supervisors.watchfilesreload import WatchFilesReload

from thebes.errors import ConfigurationError
from thebes.facts import ASGIApp
from thebes.https.certificates import server_context
from thebes.https.local_ca import LocalCertificate, ensure_local_certificate
from thebes.practices import practices
from thebes.protection import is_protected, owner_of
from thebes.secrets.project import ensure_project_state
from thebes.security import Security

LOOPBACK = {"localhost": ("127.0.0.1", "::1"), "127.0.0.1": ("127.0.0.1",), "::1": ("::1",)}
# How the command tells its child process, which uvicorn starts anew at each reload.
TARGET = "THEBES_DEV_TARGET"
RELOADED = "THEBES_DEV_RELOADED"


def run(
    target: str,
    *,
    directory: Path,
    host: str = "localhost",
    port: int = 8443,
    reload: bool = True,
    announce: Callable[[str, LocalCertificate], None],
) -> None:
    """Serve `module:app` until interrupted.

    Args:
        target: Import string of an ASGI app.
        directory: Put on the import path, and watched for changes.
        host: `localhost`, `127.0.0.1` or `::1`.
        port: TCP port; 0 takes a free one.
        reload: Whether a changed file starts the app anew.
        announce: Called once with the URL and the certificate, before the app is loaded.

    Raises:
        ConfigurationError: Another host, a taken port, or production asked for at the same time.
    """
    if host not in LOOPBACK:
        raise ConfigurationError(f"host is {host!r}; development answers {', '.join(LOOPBACK)} only")
    if os.environ.get("THEBES_ENV") == "production":
        raise ConfigurationError("THEBES_ENV is production here; unset it to run the development server")
    os.environ["THEBES_ENV"] = "development"
    os.environ[TARGET] = target
    os.environ.pop(RELOADED, None)
    certificate = ensure_local_certificate(ensure_project_state(Path.cwd()))
    sockets = _bind(LOOPBACK[host], port)
    url = f"https://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
    announce(url, certificate)
    sys.path.insert(0, str(directory))  # a child process inherits it
    config = uvicorn.Config(
        f"{__name__}:load_app",
        factory=True,
        reload=reload,
        reload_dirs=[str(directory)] if reload else None,
        ssl_certfile=str(certificate.certificate_path),
        ssl_keyfile=str(certificate.key_path),
        ssl_context_factory=tls_context,
        server_header=False,
        proxy_headers=False,
        log_level="info",
    )
    server = uvicorn.Server(config)
    if reload:
        _Reload(config, target=server.run, sockets=sockets).run()
    else:
        server.run(sockets=sockets)


def tls_context(config: uvicorn.Config, _default: Callable[[], Any]) -> Any:
    """Return the context that uvicorn serves with (the certificate's paths come in its config)."""
    return server_context(Path(str(config.ssl_certfile)), Path(str(config.ssl_keyfile)))


def load_app() -> ASGIApp:
    """Import the app that the command named, protect it if it is bare, and say what holds.

    Raises:
        ConfigurationError: The name leads to no app.
    """
    target = os.environ[TARGET]
    try:
        app = import_from_string(target)
    except ImportFromStringError as error:
        raise ConfigurationError(f"no app at {target!r}: {error}") from error
    _write_events_to_stderr()
    if not is_protected(app):
        app = protect_bare(app)
    if RELOADED not in os.environ:
        security: Security = owner_of(app)
        for practice in practices(security.settings(), security.removed):
            print(f"  {practice}", file=sys.stderr)
    return app  # type: ignore[no-any-return]


def protect_bare(app: Any) -> Any:
    """Protect an app that knows nothing of us, from `Settings` alone."""
    security = Security()
    return security.protect(app) if hasattr(app, "build_middleware_stack") else security.wrap(app)


class _Reload(WatchFilesReload):
    """Tell the next child that it isn't the first, so that it doesn't repeat the summary."""

    def restart(self) -> None:
        os.environ[RELOADED] = "1"
        super().restart()


def _bind(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Bind each loopback address to the same port; a machine without IPv6 has one less."""
    sockets: list[socket.socket] = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            # The protocol is named, since asyncio sets TCP_NODELAY only where it is.
            bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"port {port} is taken on {address}; choose another with --port, or 0 for a free one"
                ) from error
            if sockets:
                continue
            raise ConfigurationError(f"cannot listen on {address}: {error}") from error
        bound.set_inheritable(True)
        port = bound.getsockname()[1]
        sockets.append(bound)
    return sockets


def _write_events_to_stderr() -> None:
    logger = logging.getLogger("thebes.events")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
