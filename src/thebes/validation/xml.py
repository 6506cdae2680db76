"""Refuse XML that declares a document type, before a parser of the app can act on it.

Without a DTD there are no external entities, no parameter entities and no expansion (billion laughs).
The declaration can only stand before the root element, so the guard reads as far as that and no further.

Sources: OWASP XXE Prevention ("disable DTDs completely"); XML 1.0, 2.8; VAL-19.
"""

from __future__ import annotations

from typing import Any

# Bytes before the root element. Older parsers read an unfinished comment again for each chunk, so the
# bound keeps that quadratic work small (CVE-2023-52425).
MAX_PROLOG = 8 * 1024


class XmlRefused(ValueError):
    """The document has a DTD, or a prolog that can't be read."""


class XmlGuard:
    """Watch the chunks of one document up to its root element."""

    __slots__ = ("_is_past_prolog", "_malformed", "_parser", "_seen")

    def __init__(self) -> None:
        from xml.parsers import expat  # noqa: PLC0415 - few apps take XML; the rest need not load it

        parser = expat.ParserCreate()
        if hasattr(parser, "SetReparseDeferralEnabled"):
            # From 2.6 on expat puts off an unfinished token, so a declaration would pass before it is seen.
            parser.SetReparseDeferralEnabled(False)
        self._malformed = expat.ExpatError
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler = self._on_root
        self._parser = parser
        self._is_past_prolog = False
        self._seen = 0

    def take(self, chunk: bytes, *, is_final: bool) -> None:
        """Read on.

        Raises:
            XmlRefused: A DTD, malformed XML before the root element, or no element at all.
        """
        if self._is_past_prolog:
            return
        self._seen += len(chunk)
        try:
            self._parser.Parse(chunk, is_final)
        except _PastProlog:
            self._is_past_prolog = True
            return
        except XmlRefused:
            raise
        except (self._malformed, LookupError, ValueError) as error:
            raise XmlRefused("not well formed, or in an unknown encoding") from error
        if self._seen > MAX_PROLOG:
            raise XmlRefused("the prolog is too long")

    def _on_root(self, _name: str, _attributes: dict[str, str]) -> None:
        raise _PastProlog


class _PastProlog(Exception):
    """No error: it ends the reading."""


def _refuse(*_: Any) -> None:
    raise XmlRefused("a document type declaration")
