"""What is known of a request, and the words in which checks answer.

Rooms see a request only as `RequestFacts` and answer with a `Denial`, an `Answer` or None. So each is
testable as a table, and usable where no HTTP is: in a worker, a command or another framework.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Protocol

from thebes.encoding import random_id
from thebes.errors import ConfigurationError
from thebes.forwarding import Client, Forwarding
from thebes.paths import (
    DEFAULT_ROUTE,
    RouteOptions,
    RoutePattern,
    RouteTable,
    plain_path,
    possible_segments,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Field = tuple[bytes, bytes]
ServeSocket = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "thebes"
# In `scope["extensions"]` of requests to the listener of ours that speaks plain HTTP and only redirects.
PLAIN_LISTENER = "thebes.plain"
# RFC 9110, 9.3, without what is never answered, and RFC 5789.
USUAL_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DEFAULT_PORTS = {"https": 443, "http": 80}
_URL = re.compile(
    r"(https?)://([A-Za-z0-9_-][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:[/?#][!-~]*)?\Z",
    re.IGNORECASE,
)
# A text that no path can be, compared by identity.
_UNREAD = "\0unread"


class Mode(Enum):
    """How strict the house is. Asked for by the process environment or a command, never guessed."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Mode:
        """Read `THEBES_ENV`; production where it is missing or empty.

        Raises:
            ConfigurationError: Another value than the three.
        """
        asked = environ.get("THEBES_ENV") or cls.PRODUCTION.value
        try:
            return cls(asked)
        except ValueError:
            allowed = ", ".join(mode.value for mode in cls)
            raise ConfigurationError(f"THEBES_ENV is {asked!r}; allowed are {allowed}") from None


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal, as a value; only `asgi` turns it into HTTP.

    Attributes:
        status: HTTP status code, 400 to 599.
        kind: Stable name; the problem type is `urn:thebes:problem:` and this (RFC 9457, 3.1.1).
        title: The same sentence for every occurrence.
        detail: What the client can do about it; nothing about our insides.
        headers: Further fields, such as Retry-After.
        hint: A sentence for the log and not for the client.
    """

    status: int
    kind: str
    title: str
    detail: str
    headers: tuple[Field, ...] = ()
    hint: str | None = None

    def __post_init__(self) -> None:
        safe_fields(self.headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in place of the app's that refuses nothing: a CORS preflight, a redirect.

    Attributes:
        status: HTTP status code.
        headers: Fields of the answer.
        event: Under which name it is recorded, if at all.
        unless: A field name; an app whose own answer has that field answers for itself.
    """

    status: int
    headers: tuple[Field, ...] = ()
    event: str | None = None
    unless: bytes | None = None

    def __post_init__(self) -> None:
        safe_fields(self.headers)


Reply = Denial | Answer


def origin_of(url: str) -> str | None:
    """Return the origin of an absolute http(s) URL as browsers write it, or None.

    Lower case, no default port. A stricter reading than that of `urllib`, which forgives blanks, tabs and
    a suffix after brackets: what could be read in two ways has no origin.

    >>> origin_of("https://Example.com:443/path")
    'https://example.com'
    """
    match = _URL.match(url)
    if match is None:
        return None
    scheme, host, default = match[1].lower(), match[2].lower(), _DEFAULT_PORTS[match[1].lower()]
    port = int(match[3] or default)
    if port > 65535:
        return None
    return f"{scheme}://{host}" if port == default else f"{scheme}://{host}:{port}"


def safe_fields(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields, if none could split a response (CWE-113).

    Raises:
        ValueError: A name or value holds CR, LF or NUL, or a name isn't lower case.
    """
    for name, value in fields:
        if any(character in name + value for character in b"\r\n\0") or name != name.lower():
            raise ValueError("a response field must not hold CR, LF or NUL; names are lower case")
    return fields


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stays the same from request to request: mode, proxies, declared routes, health path.

    Attributes:
        account_of: Reads the account of whoever asks; None where the package serves no accounts.
        sessions_of: Reads their live sessions; None likewise.
        form_token_of: Makes the token for the forms of an answer; None likewise.
    """

    mode: Mode = Mode.PRODUCTION
    forwarding: Forwarding = field(default_factory=Forwarding)
    routes: RouteTable = field(default_factory=RouteTable)
    health: RoutePattern | None = None
    account_of: Callable[[RequestFacts], Awaitable[Any]] | None = None
    sessions_of: Callable[[RequestFacts], Awaitable[Any]] | None = None
    form_token_of: Callable[[RequestFacts], str] | None = None


class SignedInClaims(Protocol):
    """What is known of whoever is signed in, by the claims of an access token (RFC 9068, 2.2)."""

    @property
    def sub(self) -> str:
        """The account's id."""

    @property
    def sid(self) -> str:
        """The session's id."""

    @property
    def auth_time(self) -> float:
        """When the holder really authenticated last, in seconds since the epoch."""

    @property
    def amr(self) -> tuple[str, ...]:
        """How (RFC 8176)."""

    @property
    def scope(self) -> frozenset[str]:
        """Granted scopes."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Granted roles."""


class RequestFacts:
    """What the checks know of one request or WebSocket handshake.

    Attributes:
        scope: The server's ASGI scope; never changed.
        headers: Field names to values. A field that came twice is joined with a comma (RFC 9110, 5.3),
            Cookie with a semicolon, so that a value meant to be single stops matching anything.
        method: As sent; `GET` for a WebSocket handshake.
        arrival: From whom, by which scheme and to which Host it came.
        is_websocket: Whether this is a handshake.
        may_have_body: Whether the message is framed with a body, or framed by HTTP/2 and later.
        claims: Who asks, once that was found out; None for nobody.
        credential: What said so.
        refused_for: Why a credential that came counts for nothing, for guards and logs.
        refresh_token: The refresh token that came as a cookie, unjudged.
        app_headers: The request's fields for the app, where it must not see all of them.
        renewal: Called when the answer begins; returns fields for it.
        socket: Serves the app's side of a signed-in WebSocket, and closes it when the session ends.
        form_token: The token of this answer's forms, once one was asked for.
    """

    # What is found out when it is asked for. As class attributes they cost nothing on the requests,
    # most of them, that never ask; slots would have to be filled on each.
    _client: Client | None = None
    _nonce: str | None = None
    _path: str | None = _UNREAD
    _request_id: str | None = None
    credential: Literal["cookie", "bearer"] | None = None
    refused_for: str | None = None
    refresh_token: bytes | None = None
    socket: ServeSocket | None = None
    form_token: str | None = None

    def __init__(self, scope: Scope, surroundings: Surroundings) -> None:
        raw = scope["headers"]
        headers: dict[bytes, bytes] = dict(raw)
        if len(headers) != len(raw):
            headers = _joined(raw)
        # Read on every request: an attribute that the instance has is found the fastest.
        self.claims: SignedInClaims | None = None
        self.app_headers: list[Field] | None = None
        self.renewal: Callable[[], Awaitable[Iterable[Field]]] | None = None
        self.scope = scope
        self.surroundings = surroundings
        self.headers = headers
        self.is_websocket = is_websocket = scope["type"] == "websocket"
        self.method: str = "GET" if is_websocket else scope["method"]
        self.arrival = surroundings.forwarding.arrival(scope, headers)
        self.may_have_body = (
            b"content-length" in headers
            or b"transfer-encoding" in headers
            or scope.get("http_version", "1.1") > "1.1"
        )

    @property
    def client(self) -> Client:
        """The client's address, found behind declared proxies only."""
        known = self.arrival.client or self._client
        if known is None:
            known = self._client = self.surroundings.forwarding.client(self.scope, self.headers)
        return known

    @property
    def scheme(self) -> str | None:
        """`http` or `https` as the client used it; None when a declared proxy didn't say it once."""
        return self.arrival.scheme

    @property
    def path(self) -> str | None:
        """The path below `root_path` if it is plain, else None."""
        if self._path is _UNREAD:
            self._path = plain_path(self.scope)
        return self._path

    @property
    def route(self) -> RouteOptions:
        """What is declared for this route; HEAD takes the options of GET."""
        routes = self.surroundings.routes
        if routes.is_empty:
            return DEFAULT_ROUTE
        return routes.find("GET" if self.method == "HEAD" else self.method, self.path)

    @property
    def possible_routes(self) -> Sequence[RouteOptions]:
        """What is declared for the routes that some reading of the path could mean, if it isn't plain."""
        method = "GET" if self.method == "HEAD" else self.method
        return self.surroundings.routes.possible(method, possible_segments(self.scope))

    @property
    def is_health(self) -> bool:
        """Whether this is the declared health path, by its own method (HEAD where that is GET)."""
        health = self.surroundings.health
        return (
            health is not None
            and self.path == health.path
            and (self.method == health.method or (self.method, health.method) == ("HEAD", "GET"))
            and not self.is_websocket
        )

    @property
    def is_navigation(self) -> bool:
        """Whether a browser will show the answer as a page: GET or HEAD, and no API credentials."""
        if self.method not in ("GET", "HEAD") or self.is_websocket:
            return False
        if b"authorization" in self.headers:
            return False
        mode = self.headers.get(b"sec-fetch-mode")
        if mode is not None:
            return mode == b"navigate"
        return b"text/html" in self.headers.get(b"accept", b"").lower()

    @property
    def nonce(self) -> str:
        """The Content-Security-Policy nonce of this answer: 144 random bits, made when asked for."""
        if self._nonce is None:
            self._nonce = random_id()
        return self._nonce

    @property
    def request_id(self) -> str:
        """An identifier that joins an answer to its event, made when asked for."""
        if self._request_id is None:
            self._request_id = random_id()
        return self._request_id


def in_lower_case(headers: Iterable[Field]) -> Mapping[bytes, bytes]:
    """Return response fields by lower-case name, which ASGI asks for and Django doesn't give."""
    return {name.lower(): value for name, value in headers}


def facts_of(scope: Mapping[str, Any]) -> RequestFacts:
    """Return the facts that the pass put into the scope.

    Raises:
        ConfigurationError: The app isn't protected, so that nothing was checked.
    """
    facts = scope.get(SCOPE_KEY)
    if not isinstance(facts, RequestFacts):
        raise ConfigurationError(
            "this app is not protected: call Security(...).protect(app), or serve Security(...).wrap(app)"
        )
    return facts


def _joined(raw: list[Field]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        first = headers.get(name)
        separator = b"; " if name == b"cookie" else b", "
        headers[name] = value if first is None else first + separator + value
    return headers
