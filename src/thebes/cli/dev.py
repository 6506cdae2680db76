"""`thebes dev`: an app over https on this machine, with reload, and nothing to set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thebes.errors import ConfigurationError

if TYPE_CHECKING:
    from thebes.https.local_ca import LocalCertificate

_ELSEWHERE = "production option, refused here"


def dev(
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app to serve.")] = "main:app",
    *,
    app_dir: Annotated[Path, typer.Option(help="Directory of the module; watched for changes.")] = Path(),
    host: Annotated[str, typer.Option(help="localhost, 127.0.0.1 or ::1.")] = "localhost",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")] = 8443,
    reload: Annotated[bool, typer.Option(help="Start anew when a file changes.")] = True,
    domain: Annotated[str | None, typer.Option(hidden=True, help=_ELSEWHERE)] = None,
    behind_proxy: Annotated[str | None, typer.Option(hidden=True, help=_ELSEWHERE)] = None,
    uds: Annotated[str | None, typer.Option(hidden=True, help=_ELSEWHERE)] = None,
) -> None:
    """Serve an app at https://localhost:8443 for development.

    The certificate comes from a local authority that is made on first use; an app without Thebes is
    protected from its settings. Only this machine is answered.
    """
    refused = {"--domain": domain, "--behind-proxy": behind_proxy, "--uds": uds}
    for option, value in refused.items():
        if value is not None:
            raise ConfigurationError(f"{option} does not belong here: development answers this machine only")
    from thebes.serve.development import run  # noqa: PLC0415 - imports uvicorn and cryptography

    run(
        target,
        directory=app_dir.resolve(),
        host=host,
        port=port,
        reload=reload,
        announce=lambda url, certificate: _announce(url, certificate, target),
    )


def _announce(url: str, certificate: LocalCertificate, target: str) -> None:
    from thebes.https.local_ca import trust_hint  # noqa: PLC0415 - loads cryptography

    shown = _relative(certificate.ca_path)
    print(f"thebes dev  {target}", file=sys.stderr)
    print(f"  {url}", file=sys.stderr)
    print(f"  CA certificate: {shown} (SHA-256 {certificate.ca_fingerprint})", file=sys.stderr)
    print(f"  Trust it once:\n{_indented(trust_hint(shown))}", file=sys.stderr)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
