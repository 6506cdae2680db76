"""Plain paths, and what is declared for them.

Routers and proxies disagree about `//`, `..`, `%2F` and their kind; whoever finds a spelling that the
rule reads one way and the router another has walked around the rule. So nothing is rewritten here: a
path that could be read in two ways isn't *plain*, and only a plain path can match an exemption or a
wider limit, byte for byte or by a final `/*`. Any other path is unlisted: closed, default limits; and it
counts under every narrower limit that some reading of it could mean.

Does not decide where a request goes: the router does, on the bytes that came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

from thebes.errors import ConfigurationError

_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|\Z)|[%\\\x00-\x1f\x7f-\x9f]")
# An encoded slash, backslash, percent sign or NUL: the second decoding would change the path.
_ENCODED = re.compile(rb"%(?:2f|5c|25|00)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Servers decode once, some proxies and frameworks a second time.
MAX_DECODINGS = 3
# Reading may cost 0.1 us for each byte; hardly any honest path of this kind is longer.
MAX_UNCLEAR_LENGTH = 1024
# RFC 3986, 3.3: what a path may hold; % stays, since the path is still encoded.
_PATH_CHARACTERS = "/%:@!$&'()*+,;=-._~"
_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*\Z")


def plain_path(scope: Mapping[str, Any]) -> str | None:
    """Return the path below `root_path` if it is plain, else None.

    A server that gives no `raw_path` (optional in ASGI) leaves open what was encoded: never plain.
    """
    raw_path = scope.get("raw_path")
    if raw_path is None or _ENCODED.search(raw_path):
        return None
    path = below_root(scope["path"], scope.get("root_path", ""))
    return path if path.startswith("/") and not _AMBIGUOUS.search(path) else None


def target_of(scope: Mapping[str, Any]) -> str:
    """Return path and query as the client asked for them, percent-encoded and safe to stand in a field."""
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    target = quote(raw_path.partition(b"?")[0], safe=_PATH_CHARACTERS)
    query: bytes = scope.get("query_string", b"")
    return f"{target}?{quote(query, safe=_PATH_CHARACTERS + '?')}" if query else target


def below_root(path: str, root_path: str) -> str:
    """Return `path` without `root_path`, if it lies below it on a segment's border.

    >>> below_root("/api/notes", "/api")
    '/notes'
    >>> below_root("/apiary", "/api")
    '/apiary'
    """
    if root_path and path.startswith(root_path):
        below = path[len(root_path) :]
        return path if below and not below.startswith("/") else below
    return path


def possible_segments(scope: Mapping[str, Any]) -> frozenset[str] | None:
    """Return all segments that any reader could find in a path: of one who decodes it again and again.

    Who decodes less often, merges slashes or resolves dots only finds fewer of those that can stand in a
    plain path. None is a path so long that nobody reads it: it may hold any segment.

    >>> sorted(possible_segments({"path": "/api//x%2Fy"}))
    ['', 'api', 'x', 'y']
    """
    if len(scope["path"]) > MAX_UNCLEAR_LENGTH:
        return None
    # The server has decoded the path once already.
    path = scope["path"]
    for _ in range(MAX_DECODINGS):
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    return frozenset(_CONTROL.sub("", path).replace("\\", "/").split("/"))


@dataclass(frozen=True, slots=True)
class RoutePattern:
    """A method and a plain path: `POST /saml/acs`, or all paths below one: `PUT /files/*`."""

    method: str
    path: str

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """Read `METHOD /path`.

        Raises:
            ConfigurationError: The method isn't upper case, the path isn't plain, or `*` stands
                elsewhere than in a final `/*`.
        """
        method, _, path = text.partition(" ")
        without_star = path.removesuffix("*") if path.endswith("/*") else path
        if (
            not _METHOD.match(method)
            or not path.startswith("/")
            or _AMBIGUOUS.search(path)
            or re.search(r"[*?#%\s]", without_star)
        ):
            raise ConfigurationError(
                f"{text!r} is no route: write a method in capitals and a plain path, such as "
                "'POST /saml/acs', or 'PUT /files/*' for all below it"
            )
        return cls(method, path)

    @property
    def is_exact(self) -> bool:
        """Whether the pattern stands for one path only."""
        return not self.path.endswith("/*")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What is declared for a route; None and empty mean the defaults."""

    body_limit: int | None = None
    codings: frozenset[str] = frozenset()
    xml: bool = False
    exempt: Mapping[str, str] = field(default_factory=dict)  # check name -> the reason given
    limit: object = "default"  # rules of the room of limits, None for free, or the app's own
    cost: int = 1  # how many times a request counts


DEFAULT_ROUTE = RouteOptions()


class RouteTable:
    """Find what is declared for a method and path: the exact pattern wins, else the longest prefix.

    Attributes:
        is_empty: Whether nothing is declared at all, as in most apps.
    """

    def __init__(self) -> None:
        self.is_empty = True
        self._is_settled = False
        self._exact: dict[tuple[str, str], RouteOptions] = {}
        self._below: dict[tuple[str, str], RouteOptions] = {}

    def declare(self, pattern: RoutePattern, **changes: Any) -> None:
        """Add options to a pattern, beside those it already has.

        Raises:
            ConfigurationError: The app has started, and its checks are made for what was declared by then.
        """
        if self._is_settled:
            raise ConfigurationError(
                f"{pattern} is declared after the app has started; do it where it is made"
            )
        self.is_empty = False
        table = self._exact if pattern.is_exact else self._below
        key = pattern.method, pattern.path.removesuffix("*")
        table[key] = replace(table.get(key, DEFAULT_ROUTE), **changes)

    def settle(self) -> None:
        """Take no more declarations: the app starts."""
        self._is_settled = True

    def exempt(self, pattern: RoutePattern, check: str, reason: str) -> None:
        """Take one route, byte for byte, out of one check."""
        current = self._exact.get((pattern.method, pattern.path), DEFAULT_ROUTE)
        self.declare(pattern, exempt={**current.exempt, check: reason})

    def find(self, method: str, path: str | None) -> RouteOptions:
        """Return the options of a plain path (None is a path that isn't plain: the defaults)."""
        if path is None:
            return DEFAULT_ROUTE
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact
        longest, found = -1, DEFAULT_ROUTE
        for (of_method, prefix), options in self._below.items():
            if of_method == method and len(prefix) > longest and path.startswith(prefix):
                longest, found = len(prefix), options
        return found

    def possible(self, method: str, segments: frozenset[str] | None) -> Sequence[RouteOptions]:
        """Return the options of each pattern that a path with these segments (None is any) could mean."""
        declared = (self._exact | self._below).items()
        return [
            options
            for (of_method, path), options in declared
            if of_method == method
            and (segments is None or segments.issuperset(filter(None, path.split("/"))))
        ]

    def entries(self) -> list[tuple[str, RouteOptions]]:
        """Return every declared pattern as text with its options, sorted: for `thebes audit`."""
        exact = {f"{method} {path}": options for (method, path), options in self._exact.items()}
        below = {f"{method} {path}*": options for (method, path), options in self._below.items()}
        return sorted((exact | below).items())
