"""All errors of the package, in one tree.

```
ThebesError
├── ConfigurationError    arguments contradict each other, or something is missing
├── CertificateError      a certificate or key can't be used; the one in use stays
├── SecretUnavailable     a source of secrets can't be read
└── StoreUnavailable      a store can't be asked, or can't be written
```

What a *client* does wrong is never an exception: it is a `Denial` (see `facts`).
"""

from __future__ import annotations

from collections.abc import Sequence


class ThebesError(Exception):
    """The base of every error that this package raises on purpose."""


class ConfigurationError(ThebesError):
    """The settings contradict each other, or something that they need is missing.

    Attributes:
        problems: One sentence each: what was found, what is allowed, and the command that mends it.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: Sequence[str] = problems
        super().__init__("\n".join(problems))


class CertificateError(ThebesError):
    """A certificate and key can't serve: unreadable, not a pair, expired, or for another name."""


class SecretUnavailable(ThebesError):
    """A secret's source was named but can't be read; `source` says which one."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot read {source}: {reason}")
        self.source = source


class StoreUnavailable(ThebesError):
    """A store can't be opened, asked or written at the moment; each caller states what it does then."""
