"""The part of `thebes.testing` that pytest loads by itself: it reads `thebes_mode` and does no more."""

from __future__ import annotations

import pytest

from thebes.testing import use_test_mode


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option `thebes_mode`."""
    parser.addini("thebes_mode", help="`test` runs protected apps in test mode", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Ask for test mode where the ini file does."""
    mode = config.getini("thebes_mode")
    if mode not in ("", "test"):
        raise pytest.UsageError(f"thebes_mode is {mode!r}; allowed is 'test'")
    if mode == "test":
        use_test_mode()
