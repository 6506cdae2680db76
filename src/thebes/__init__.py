"""Thebes: the security layer for ASGI applications. Seven practices, two lines, proven by attack.

from thebes import Security

Security(hosts=["example.com"]).protect(app)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thebes.errors import CertificateError, ConfigurationError, SecretUnavailable, ThebesError
from thebes.events import Events
from thebes.facts import Denial, facts_of
from thebes.secret import Secret
from thebes.security import Security

if TYPE_CHECKING:
    from thebes.ratelimit.rules import Quota, Rate

__version__ = "0.1.0.dev0"

__all__ = [
    "CertificateError",
    "ConfigurationError",
    "Denial",
    "Events",
    "Quota",
    "Rate",
    "Secret",
    "SecretUnavailable",
    "Security",
    "ThebesError",
    "csp_nonce",
]


def __getattr__(name: str) -> Any:
    if name in ("Quota", "Rate"):
        from thebes.ratelimit import rules  # noqa: PLC0415 - importing the face loads no room

        return getattr(rules, name)
    raise AttributeError(f"module 'thebes' has no attribute {name!r}")


def csp_nonce(scope: Mapping[str, Any]) -> str:
    """Return the Content-Security-Policy nonce of this answer, for `<script nonce="...">`.

    Args:
        scope: The ASGI scope that reached the app: `request.scope` in FastAPI and Starlette.

    Raises:
        ConfigurationError: The app isn't protected.
    """
    return facts_of(scope).nonce
