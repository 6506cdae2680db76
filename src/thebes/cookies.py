"""Read the names in a Cookie field the way browsers wrote them (RFC 6265bis, 5.7.3).

The field is split as bytes and stripped of SP and TAB only: a browser stores a cookie named
`\\u2000session`, which `str.strip()` would turn into `session` (cookie tossing past a name prefix).
"""

from __future__ import annotations

from collections.abc import Iterator


def pairs(field: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of each cookie, in order, doubled ones too.

    A piece without `=` is a value with an empty name (RFC 6265bis, 5.6).

    >>> list(pairs(b"a=1; b=2"))
    [(b'a', b'1'), (b'b', b'2')]
    """
    for piece in field.split(b";"):
        name, equals, value = piece.strip(b" \t").partition(b"=")
        if equals:
            yield name.strip(b" \t"), value.strip(b" \t")
        elif name:
            yield b"", name


def holds_any(field: bytes, lower_names: frozenset[bytes]) -> bool:
    """Say whether a cookie of one of these names came, in any spelling of case.

    Meant for refusals: in doubt the answer is yes, so a changed case can't hide a session.
    """
    return any(name.lower() in lower_names for name, _ in pairs(field))
