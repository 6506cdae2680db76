"""What an access token says, written and read strictly, and the terms on which it counts.

The body is read only after the signature proved that we wrote it. It is held to our own form all the same:
exact types, finite numbers, no claim twice. So a mistake of ours, or a signing key in the wrong hands,
doesn't turn into two readers who understand one token differently.

Holds nothing personal: the account's and the session's opaque ids, how and when somebody signed in, and what
was granted (TOK-34). Does not hide what it holds: base64url is no encryption.

Sources: RFC 7519, 4.1; RFC 9068, 2.2; RFC 8725, 2.4 to 3.10; RFC 6749, 3.3 (scope); RFC 8176 (amr).
"""

from __future__ import annotations

import json
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple

import msgspec

from thebes.encoding import decode, encode, random_id, with_each_name_once
from thebes.errors import ConfigurationError, ThebesError

LIFETIME = timedelta(minutes=10)  # RFC 9700, 2.2: short, since a stolen access token counts until it ends
MAX_LIFETIME = timedelta(minutes=60)  # TOK-14
LEEWAY = timedelta(seconds=30)  # RFC 7519, 4.1.4: "no more than a few minutes"; for clocks that differ
MAX_LEEWAY = timedelta(seconds=60)  # TOK-13

Reason = Literal[
    "malformed", "signature", "expired", "not_yet", "issuer", "audience", "claims", "unknown_key"
]

# Opaque ids only: no character that an e-mail address needs, nor one that ends a field of a log line.
_OPAQUE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_NAME = re.compile(r"[!#-\[\]-~]{1,256}")  # RFC 6749, 3.3 (scope-token): visible ASCII without `"` and `\`


class InvalidToken(ThebesError):
    """A token must not be trusted; `reason` is from a closed set, for logs and callers, never for clients.

    Attributes:
        reason: `malformed`: no token at all. `unknown_key`: its header is none that we write. `signature`: it
            isn't genuine. `claims`: genuine, but not in our form. `issuer`, `audience`: made for somebody
            else. `not_yet`, `expired`: genuine, at another time.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"token refused: {reason}")
        self.reason: Reason = reason


class TokenTooLarge(ThebesError):
    """A token grew past what carries it: too many roles or scopes were granted.

    Attributes:
        size: In bytes, with the cookie's name where there is one.
        limit: What is allowed.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the access token takes {size} bytes, at most {limit} fit: grant fewer roles and scopes"
        )
        self.size = size
        self.limit = limit


class SessionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What all access tokens of one session say alike; none of it is changed by a renewal (TOK-39).

    Attributes:
        sub: The account's id. Opaque: an e-mail address is refused.
        sid: The session's id.
        client_id: Who asked for the token (RFC 9068, 2.2).
        auth_time: When the holder really authenticated last, in seconds since the epoch.
        amr: How (RFC 8176), such as `pwd`.
        epoch: The account's; raised by whatever makes its earlier tokens untrue.
        acr: The level of that authentication; None leaves the claim out.
        scope: Granted scopes.
        roles: Granted roles.
    """

    sub: str
    sid: str
    client_id: str
    auth_time: float
    amr: tuple[str, ...]
    epoch: int
    acr: str | None = None
    scope: frozenset[str] = frozenset()
    roles: tuple[str, ...] = ()


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified access token says; frozen, since requests share it. Instants are epoch seconds.

    Attributes:
        iss: Who made it.
        aud: The one service that it is for.
        sub: The account's id.
        sid: The session's id; revocations name it, or the `jti`, never the text of a token.
        client_id: Who asked for it.
        iat: When it was made.
        nbf: From when on it counts.
        exp: Until when.
        jti: Its own id, 144 random bits.
        auth_time: When the holder really authenticated last.
        amr: How (RFC 8176).
        acr: The level of that authentication, if one was stated.
        epoch: The account's, when the token was made.
        scope: Granted scopes.
        roles: Granted roles.
    """

    iss: str
    aud: str
    sub: str
    sid: str
    client_id: str
    iat: int
    nbf: int
    exp: int
    jti: str
    auth_time: int
    amr: tuple[str, ...]
    acr: str | None
    epoch: int
    scope: frozenset[str]
    roles: tuple[str, ...]


class Opened(NamedTuple):
    """A token whose signature, issuer and audience are right, and the time in which it counts.

    Attributes:
        claims: What it says.
        earliest: From when on, leeway forgiven.
        latest: Until when, leeway forgiven; not longer than its key.
    """

    claims: Claims
    earliest: float
    latest: float


class TokenTerms:
    """Who makes tokens, for whom, and for how long they count.

    Args:
        issuer: The service's own name, its public URL. Compared exactly.
        audience: The one service that may accept the tokens; the issuer itself if None. Compared exactly.
        lifetime: Whole seconds, at most 60 minutes.
        leeway: How far clocks may differ, at most 60 seconds.

    Raises:
        ConfigurationError: A name that can't stand in a token, or a duration outside its bounds.
    """

    __slots__ = ("_forgiven", "audience", "issuer", "lifetime")

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | None = None,
        lifetime: timedelta = LIFETIME,
        leeway: timedelta = LEEWAY,
    ) -> None:
        self.issuer = issuer
        self.audience = issuer if audience is None else audience
        self.lifetime = lifetime
        self._forgiven = leeway.total_seconds()
        problems = [
            f"the {name} of access tokens must be 1 to 256 visible ASCII characters: `public_url` is usual"
            for name, value in (("issuer", self.issuer), ("audience", self.audience))
            if not _NAME.fullmatch(value)
        ]
        if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME or lifetime.microseconds:
            problems.append(f"access tokens live for {lifetime}: whole seconds up to 60 minutes are allowed")
        if not timedelta(0) <= leeway <= MAX_LEEWAY:
            problems.append(f"the clock leeway is {leeway}: up to 60 seconds are allowed")
        if problems:
            raise ConfigurationError(*problems)

    def payload(self, session: SessionClaims, *, now: float) -> bytes:
        """Return the payload segment of a new token: its claims as base64url.

        Raises:
            ConfigurationError: A claim can't stand in a token; the message names it and never its value.
        """
        _require_writable(session)
        issued_at = math.floor(now)
        body = _Body(
            iss=self.issuer,
            aud=self.audience,
            sub=session.sub,
            sid=session.sid,
            client_id=session.client_id,
            iat=issued_at,
            nbf=issued_at,
            exp=issued_at + round(self.lifetime.total_seconds()),
            jti=random_id(),
            auth_time=math.floor(session.auth_time),
            amr=session.amr,
            acr=session.acr,
            epoch=session.epoch,
            scope=" ".join(sorted(session.scope)),
            roles=session.roles,
        )
        return _written(body)

    def opened(self, payload: bytes, *, retire_at: float = math.inf) -> Opened:
        """Return what a payload segment says whose signature was verified.

        Args:
            payload: base64url.
            retire_at: When the key that signed it is retired.

        Raises:
            InvalidToken: `claims`, `issuer` or `audience`.
        """
        body = _read(payload)
        if body.iss != self.issuer:
            raise InvalidToken("issuer")
        if body.aud != self.audience:
            raise InvalidToken("audience")
        earliest, latest = max(body.iat, body.nbf) - self._forgiven, body.exp + self._forgiven
        return Opened(_claims(body), earliest, min(latest, retire_at))


# 2**53: above it a double has gaps, and a number of thousands of digits has no place in arithmetic with one.
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The claims as they stand in the token, in their order."""

    iss: str
    aud: str
    sub: str
    sid: str
    client_id: str
    iat: _Count
    nbf: _Count
    exp: _Count
    jti: str
    auth_time: _Count
    amr: tuple[str, ...]
    acr: str | None = None
    epoch: _Count
    scope: str = ""
    roles: tuple[str, ...] = ()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Body)


def _written(body: _Body) -> bytes:
    return encode(_ENCODER.encode(body)).encode("ascii")


def _read(payload: bytes) -> _Body:
    try:
        body = _DECODER.decode(urlsafe_b64decode(payload + b"=="))
        # What we write is written one way, so nothing more is asked of the tokens of this release. Those of
        # another one may hold more claims, or hold them in another order: for them, each rule is applied.
        if _written(body) != payload:
            json.loads(decode(payload.decode("ascii")), object_pairs_hook=with_each_name_once)
    except (ValueError, RecursionError) as error:
        raise InvalidToken("claims") from error
    return body


def _claims(body: _Body) -> Claims:
    return Claims(
        iss=body.iss,
        aud=body.aud,
        sub=body.sub,
        sid=body.sid,
        client_id=body.client_id,
        iat=body.iat,
        nbf=body.nbf,
        exp=body.exp,
        jti=body.jti,
        auth_time=body.auth_time,
        amr=body.amr,
        acr=body.acr,
        epoch=body.epoch,
        scope=frozenset(body.scope.split()),
        roles=body.roles,
    )


def _require_writable(session: SessionClaims) -> None:
    """Refuse what could be personal or read in two ways, before it is signed."""
    problems = [
        f"the claim {name} of an access token must be an opaque id: 1 to 128 of A-Z a-z 0-9 _ . : -"
        for name, value in (("sub", session.sub), ("sid", session.sid))
        if not _OPAQUE.fullmatch(value)
    ]
    named: tuple[tuple[str, Iterable[str]], ...] = (
        ("client_id", (session.client_id,)),
        ("amr", session.amr),
        ("acr", () if session.acr is None else (session.acr,)),
        ("scope", session.scope),
        ("roles", session.roles),
    )
    problems += [
        f"the claim {name} of an access token must be made of visible ASCII characters without quotes"
        for name, values in named
        if not all(map(_NAME.fullmatch, values))
    ]
    if problems:
        raise ConfigurationError(*problems)
