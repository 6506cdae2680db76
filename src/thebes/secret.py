"""A value that can't be printed by accident.

Protects against secrets in logs, tracebacks, debug pages and pickles (ASVS 16.2.5, OWASP Secrets Management).
Does not protect against code that calls `reveal()` and prints the result, or that reads memory.
"""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from thebes.encoding import is_equal

MASK = "Secret(****)"


class Secret:
    """Text or bytes that show only a mask, until `reveal()` is called.

    Copies are the same object: it never changes, and settings that hold one stay copyable.

    >>> Secret("s3cret")
    Secret(****)
    >>> f"{Secret('s3cret')}"
    'Secret(****)'
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        if isinstance(value, str):
            # The environment marks bytes that aren't UTF-8 by surrogates; strict encoding would raise an
            # error that carries the whole text.
            self._value = value.encode("utf-8", "surrogateescape")
        elif isinstance(value, bytes):
            self._value = value
        else:
            # bytes(32) would be 32 zero bytes, a key that everybody knows.
            raise TypeError("a Secret is made of str or bytes")

    def reveal(self) -> bytes:
        """Return the bytes themselves: call it where they are used, keep no copy."""
        return self._value

    def reveal_text(self) -> str:
        """Return the text itself (UTF-8).

        Raises:
            ValueError: The value isn't text; the error holds nothing of it, unlike UnicodeDecodeError.
        """
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            pass  # raised below, outside: a chained error would carry the bytes
        raise ValueError("the secret is not UTF-8 text")

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and is_equal(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # A pickle is a copy on somebody's disk; refusing is the only mask that a reader can't undo.
        raise TypeError("a Secret can't be pickled")

    def __getstate__(self) -> NoReturn:
        # Serializers that ask for the state themselves would get the bytes from object's own method.
        raise TypeError("a Secret can't be pickled")
