"""`thebes serve`: an app on the internet, by the rules of production."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thebes.errors import ConfigurationError

if TYPE_CHECKING:
    from thebes.serve.guards import Guards
    from thebes.serve.production import Opened

_TLS = "TLS"
_PROXY = "Behind a proxy"


_Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app to serve.")]
_AppDir = Annotated[Path, typer.Option(help="Directory of the module.")]
_Hosts = Annotated[
    list[str] | None,
    typer.Option(help="Address to listen on; may be repeated. All with a certificate, else 127.0.0.1."),
]
_Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="TCP port; 443 with a certificate, else 8000; 0 a free one."),
]
_Certificate = Annotated[
    Path | None,
    typer.Option(help="PEM file, the server's own certificate first.", rich_help_panel=_TLS),
]
_Key = Annotated[Path | None, typer.Option(help="PEM file, mode 0600.", rich_help_panel=_TLS)]
_Versions = Annotated[
    str, typer.Option(help="intermediate (TLS 1.2 and 1.3) or modern (1.3 only).", rich_help_panel=_TLS)
]
_HttpPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="A second port that redirects people to https.", rich_help_panel=_TLS
    ),
]
_SelfSigned = Annotated[
    bool,
    typer.Option(
        "--insecure-allow-self-signed",
        help="Serve a certificate that no client can verify.",
        rich_help_panel=_TLS,
    ),
]
_Networks = Annotated[
    list[str] | None,
    typer.Option(metavar="NETWORK", help="A proxy in front; may be repeated.", rich_help_panel=_PROXY),
]
_UnixSocket = Annotated[Path | None, typer.Option(help="Unix socket to listen on.", rich_help_panel=_PROXY)]
_Workers = Annotated[int, typer.Option(min=1, help="Processes; the caps are shared out.")]
_GuardChanges = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Change a deadline or cap, such as body_seconds=60."),
]


def serve(
    target: _Target = "main:app",
    *,
    app_dir: _AppDir = Path(),
    host: _Hosts = None,
    port: _Port = None,
    certificate: _Certificate = None,
    key: _Key = None,
    tls: _Versions = "intermediate",
    http_port: _HttpPort = None,
    insecure_allow_self_signed: _SelfSigned = False,
    behind_proxy: _Networks = None,
    uds: _UnixSocket = None,
    workers: _Workers = 1,
    guard: _GuardChanges = None,
) -> None:
    """Serve an app in production: HTTPS from here, or plain HTTP from a declared proxy.

    Settings, certificate and guards are checked before the port opens; what is wrong is one error. A
    renewed certificate is taken up within seconds, without a restart. SIGTERM finishes what is running.
    """
    if tls not in ("intermediate", "modern"):
        raise ConfigurationError(f"--tls is {tls}; allowed are intermediate and modern")
    from thebes.serve.production import Deployment, run  # noqa: PLC0415 - imports uvicorn and cryptography

    deployment = Deployment(
        target=target,
        directory=app_dir.resolve(),
        addresses=tuple(host or ()),
        port=port,
        http_port=http_port,
        certificate=certificate,
        key=key,
        tls=tls,  # type: ignore[arg-type] # just compared
        proxies=tuple(behind_proxy or ()),
        unix_socket=uds,
        workers=workers,
        guards=_guards(guard or ()),
        insecure_allow_self_signed=insecure_allow_self_signed,
    )
    run(deployment, announce=lambda opened: _announce(opened, target, workers))


def _guards(changes: Any) -> Guards:
    from thebes.serve.guards import Guards  # noqa: PLC0415

    kinds: dict[str, type[int] | type[float]] = {
        field.name: int if field.type == "int" else float for field in dataclasses.fields(Guards)
    }
    changed: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in kinds:
            raise ConfigurationError(f"--guard knows no {name!r}; allowed are {', '.join(kinds)}")
        try:
            changed[name] = kinds[name](value)
        except ValueError:
            raise ConfigurationError(f"--guard {name} is {value!r}, which is no number") from None
    return Guards(**changed)


def _announce(opened: Opened, target: str, workers: int) -> None:
    from thebes.practices import practices  # noqa: PLC0415
    from thebes.serve.accepting import Door  # noqa: PLC0415

    words = {Door.TLS: "https", Door.PROXY: "plain HTTP from a proxy", Door.REDIRECT: "redirects to https"}
    lines = [f"thebes serve  {target}"]
    lines += [f"  {_shown(address)}  {words[door]}" for address, door in opened.doors.items()]
    lines += [f"  {line}" for line in _details(opened, workers)]
    lines += [f"  {practice}" for practice in practices(opened.settings, opened.removed)]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _details(opened: Opened, workers: int) -> list[str]:
    lines = []
    if opened.files is not None:
        from thebes.https.certificates import parse_certificate, read_file  # noqa: PLC0415

        path = opened.files.certificate
        end = parse_certificate(read_file(path), path).not_valid_after_utc
        lines.append(f"certificate {path}, until {end:%Y-%m-%d}; watched")
    if opened.settings.proxies:
        lines.append(f"proxies {', '.join(opened.settings.proxies)}")
    guards = opened.guards
    each = f"{workers} workers, each with " if workers > 1 else ""
    lines.append(
        f"{each}{guards.connections:,} connections at most, {guards.connections_per_address} from one address"
    )
    return lines


def _shown(address: Any) -> str:
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
