"""Bind sockets, and say in one sentence why that can't be done."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from thebes.errors import ConfigurationError

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - asked for by name; a production server listens to the world
# For its owner and its group: put the proxy's user into that group. Whoever can connect can pretend to be
# any client.
UNIX_SOCKET_MODE = 0o660


def bind_tcp(addresses: Iterable[str], port: int) -> list[socket.socket]:
    """Bind each address to the same port; an address that this machine lacks is left out if another binds.

    Args:
        addresses: IPv4 or IPv6; no names, so that a start asks no other machine.
        port: 0 takes a free one, the same for all.

    Raises:
        ConfigurationError: The port is taken or not permitted, or no address can be bound.
    """
    sockets: list[socket.socket] = []
    problem = "no address to listen on"
    for address in addresses:
        try:
            bound = _bound(address, port)
        except OSError as error:
            problem = _explanation(error, address, port)
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            for other in sockets:
                other.close()
            raise ConfigurationError(problem) from error
        bound.set_inheritable(True)
        port = bound.getsockname()[1]
        sockets.append(bound)
    if not sockets:
        raise ConfigurationError(problem)
    return sockets


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket, in place of one that nobody listens on any more.

    Raises:
        ConfigurationError: Somebody listens there, something else has that name, or it can't be made.
    """
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~UNIX_SOCKET_MODE)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise ConfigurationError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    bound.set_inheritable(True)
    return bound


def _bound(address: str, port: int) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )[0]
    # The protocol is named, since asyncio sets TCP_NODELAY only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else it would take the IPv4 port as well, and IPv4 clients would come under IPv6 names.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound


def _explanation(error: OSError, address: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"{address!r} is no IPv4 or IPv6 address"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken on {address}; choose another with --port, or 0 for a free one"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"no permission to listen on port {port}; grant CAP_NET_BIND_SERVICE (deploy/thebes.service"
            " does), or choose a port above 1023 with --port"
        )
    return f"cannot listen on {address}: {error.strerror or error}"


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} is there already, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            return
    raise ConfigurationError(f"somebody listens on {path} already; choose another with --uds")
