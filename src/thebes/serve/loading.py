"""Load the app that a command was given, in whatever process it is needed."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from uvicorn.importer import ImportFromStringError, import_from_string

from thebes.errors import ConfigurationError, ThebesError
from thebes.protection import is_protected
from thebes.security import Security


def load_protected(target: str, directory: Path | None = None) -> Any:
    """Import `module:app`, and protect it from `Settings` if it knows nothing of us.

    Args:
        target: Import string of an ASGI app.
        directory: Put on the import path, unless it is there already.

    Raises:
        ConfigurationError: The name leads to no app, or its module fails.
    """
    if directory is not None and str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        app = import_from_string(target)
    except ImportFromStringError as error:
        raise ConfigurationError(f"no app at {target!r}: {error}") from error
    except ThebesError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigurationError(
            f"{target!r} fails when it is imported: {type(error).__name__}: {error}"
            f" ({where.filename}, line {where.lineno})"
        ) from error
    return app if is_protected(app) else protect_bare(app)


def protect_bare(app: Any) -> Any:
    """Protect an app that knows nothing of us, from `Settings` alone."""
    security = Security()
    return security.protect(app) if hasattr(app, "build_middleware_stack") else security.wrap(app)


def write_events_to_stderr() -> None:
    """Print security events, a line each, unless the app has said where they go."""
    logger = logging.getLogger("thebes.events")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
