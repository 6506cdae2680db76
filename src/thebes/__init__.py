"""Thebes: the security layer for ASGI applications. Seven practices, two lines, proven by attack.

from thebes import Security

Security(hosts=["example.com"]).protect(app)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thebes.errors import CertificateError, ConfigurationError, SecretUnavailable, ThebesError
from thebes.events import Events
from thebes.facts import Denial, facts_of
from thebes.secret import Secret
from thebes.security import Security

__version__ = "0.1.0.dev0"

__all__ = [
    "CertificateError",
    "ConfigurationError",
    "Denial",
    "Events",
    "Secret",
    "SecretUnavailable",
    "Security",
    "ThebesError",
    "csp_nonce",
]


def csp_nonce(scope: Mapping[str, Any]) -> str:
    """Return the Content-Security-Policy nonce of this answer, for `<script nonce="...">`.

    Args:
        scope: The ASGI scope that reached the app: `request.scope` in FastAPI and Starlette.

    Raises:
        ConfigurationError: The app isn't protected.
    """
    return facts_of(scope).nonce
