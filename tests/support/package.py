"""Look into the whole package: its source files, its modules and the denials that they hold."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import thebes
from thebes.facts import Denial

SOURCE = Path(thebes.__file__).parent


def modules() -> Iterator[ModuleType]:
    """Yield every module of the package but `__main__`, which runs the command."""
    for info in pkgutil.walk_packages(thebes.__path__, "thebes."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def constants() -> Iterator[tuple[str, Any]]:
    """Yield the globals of each module and the attributes of its classes, collections piece by piece."""
    for module in modules():
        for name, value in vars(module).items():
            yield from _pieces(f"{module.__name__}.{name}", value)
            if isinstance(value, type) and value.__module__ == module.__name__:
                for attribute, inner in vars(value).items():
                    yield from _pieces(f"{module.__name__}.{name}.{attribute}", inner)


def denials() -> dict[str, Denial]:
    """Return every denial that the package holds ready, by kind and detail."""
    found = (value for _, value in constants() if isinstance(value, Denial))
    return {f"{denial.kind}: {denial.detail}": denial for denial in found}


def _pieces(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield name, value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for piece in value:
            yield from _pieces(name, piece)
