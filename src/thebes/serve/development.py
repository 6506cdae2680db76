"""Serve an app on this machine: https://localhost, a certificate of the local authority, reload.

An app that is not protected yet is protected from `Settings`. Nobody else is answered: the sockets are
bound to loopback, and the pass refuses what a proxy could have brought (rules of development mode).
The accept loop, its caps and deadlines are those of production, so that nothing differs but the mode.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from uvicorn.supervisors.watchfilesreload import WatchFilesReload

from thebes.assembly import all_hosts
from thebes.errors import ConfigurationError
from thebes.facts import ASGIApp
from thebes.https.local_ca import LOCAL_NAME, LocalCertificate, ensure_local_certificate
from thebes.practices import practices
from thebes.protection import owner_of
from thebes.secrets.project import ensure_project_state
from thebes.security import Security
from thebes.serve.accepting import Door
from thebes.serve.binding import bind_tcp
from thebes.serve.gate import Gate
from thebes.serve.guards import Guards
from thebes.serve.loading import load_protected, write_events_to_stderr
from thebes.serve.renewal import CertificateFiles

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
    sockets = bind_tcp(LOOPBACK[host], port)
    url = f"https://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
    # Links in mails lead to this server, and two servers on this machine don't share cookies, which know
    # no ports. A value in .env or the project's file is that of another place.
    os.environ.setdefault("THEBES_PUBLIC_URL", url)
    os.environ.setdefault("THEBES_COOKIE_NAMESPACE", str(sockets[0].getsockname()[1]))
    announce(url, certificate)
    sys.path.insert(0, str(directory))  # a child process inherits it
    gate = Gate(
        Guards().within_descriptors(),
        {bound.getsockname(): Door.TLS for bound in sockets},
        files=CertificateFiles(certificate=certificate.certificate_path, key=certificate.key_path),
    )
    config = gate.config(
        f"{__name__}:load_app",
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        factory=True,
        reload=reload,
        reload_dirs=[str(directory)] if reload else None,
        log_level="info",
    )
    server = uvicorn.Server(config)
    if reload:
        _Reload(config, target=server.run, sockets=sockets).run()
    else:
        server.run(sockets=sockets)


def load_app() -> ASGIApp:
    """Import the app that the command named, protect it if it is bare, and say what holds.

    Raises:
        ConfigurationError: The name leads to no app.
    """
    write_events_to_stderr()
    app = load_protected(os.environ[TARGET])
    security: Security = owner_of(app)
    # A wildcard right under localhost is taken by no client. What changes here the gate takes up by itself.
    hosts = (host.partition(":")[0] for host in all_hosts(security.settings()))
    names = [host for host in hosts if LOCAL_NAME.fullmatch(host)]
    ensure_local_certificate(ensure_project_state(Path.cwd()), names=names)
    if RELOADED not in os.environ:
        for practice in practices(security.settings(), security.removed):
            print(f"  {practice}", file=sys.stderr)
    return app  # type: ignore[no-any-return]


class _Reload(WatchFilesReload):
    """Tell the next child that it isn't the first, so that it doesn't repeat the summary."""

    def restart(self) -> None:
        os.environ[RELOADED] = "1"
        super().restart()
