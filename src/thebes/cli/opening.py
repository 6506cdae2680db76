"""Open what a running service keeps, for a command: the same keys, the same store, no server."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from thebes.errors import ConfigurationError
from thebes.events import Events
from thebes.facts import Mode
from thebes.protection import owner_of
from thebes.settings import Settings

if TYPE_CHECKING:
    from thebes.membership import Membership
    from thebes.tokens.key_rotation import KeyRotation


@asynccontextmanager
async def opened(directory: Path, target: str | None = None) -> AsyncIterator[Membership]:
    """Open the accounts of the project in a directory.

    Args:
        directory: Where `.env` and `pyproject.toml` are looked for, and relative paths begin.
        target: `module:app`, whose own settings count; None takes those of the environment and files.

    Raises:
        ConfigurationError: Something is missing, or there is no protected app.
        StoreUnavailable: The store can't be opened.
    """
    # Loaded here: --help has to be quick.
    from thebes.accounts.hooks import Hooks  # noqa: PLC0415
    from thebes.membership import Membership, Surroundings  # noqa: PLC0415

    settings = _settings(directory, target)
    missing = [
        f"THEBES_{name.upper()} is missing: a command needs what the service has"
        for name in ("secret_keys", "database_url")
        if settings.mode is Mode.PRODUCTION and getattr(settings, name) is None
    ]
    if missing:
        raise ConfigurationError(*missing)
    around = Surroundings(settings=settings, events=Events(), hooks=Hooks(), directory=directory, budget=None)
    membership = Membership(around)
    await membership.start(lives=False)
    try:
        yield membership
    finally:
        await membership.close()


@asynccontextmanager
async def opened_rotation(directory: Path) -> AsyncIterator[KeyRotation]:
    """Open the rotation of the project's signing keys."""
    async with opened(directory) as membership:
        yield membership.key_rotation()


def _settings(directory: Path, target: str | None) -> Settings:
    if target is None:
        return Settings.load({}, environ=os.environ, directory=directory)
    from uvicorn.importer import ImportFromStringError, import_from_string  # noqa: PLC0415

    sys.path.insert(0, str(directory.resolve()))
    try:
        security = owner_of(import_from_string(target))
    except ImportFromStringError as error:
        raise ConfigurationError(f"no app at {target!r}: {error}") from error
    if security is None:
        raise ConfigurationError(f"{target} is not protected, so it has no accounts")
    settings: Settings = security.settings()
    return settings
