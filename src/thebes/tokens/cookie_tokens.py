"""Access tokens for cookies: HS256 under derived keys, read by nobody but this service.

Protects against tokens that we didn't make, and against ours in another place: a bearer token, a token of
another service or purpose, an altered one. Does not protect against whoever holds the cookie; HttpOnly, the
`__Host-` prefix and revocation are for that.

    keys = BoundKeys(keyring, Purpose.TOKEN_SIGNING)
    tokens = CookieTokens(keys, issuer="https://example.com")
    token = tokens.issue(SessionClaims(sub=account.id, sid=session.id, ...))
    tokens.verify(token).sub

Sources: RFC 7515, 3 (compact serialization); RFC 8725, 3.1 to 3.12; RFC 7518, 3.2; RFC 6265bis, 5.6 (4096
bytes).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from hmac import compare_digest
from typing import Protocol

from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.tokens.cache import VerifiedTokens
from thebes.tokens.claims import (
    LEEWAY,
    LIFETIME,
    Claims,
    InvalidToken,
    Opened,
    SessionClaims,
    TokenTerms,
    TokenTooLarge,
)
from thebes.tokens.jws import KeySet, header_segment, hs256

ALGORITHM = "HS256"
TYPE = "session+jwt"  # explicit typing (RFC 8725, 3.11): no other token of this service carries it
MIN_KEY_BYTES = 32  # RFC 7518, 3.2: a key as long as the hash output, or longer
# RFC 6265bis, 5.6: browsers drop a cookie whose name and value take more, and say nothing (TOK-32).
MAX_COOKIE_BYTES = 4096


class MacKeys(Protocol):
    """Keys of at least 32 random bytes for HMAC-SHA256, for this purpose alone; the keyring has them."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all keys that count, the one in use first."""
        ...

    def derived(self, key_id: str) -> Secret:
        """Return a key."""
        ...


class CookieTokens:
    """Make and verify the access tokens of cookie mode.

    Args:
        keys: What signs and verifies. Rotated by a restart with another list.
        issuer: The service's own name, its public URL.
        audience: The one service that may accept the tokens; the issuer itself if None.
        lifetime: Whole seconds, at most 60 minutes.
        leeway: How far clocks may differ, at most 60 seconds.
        cookie_name: Of the cookie that carries the token; both together must fit what browsers keep.

    Raises:
        ConfigurationError: No key, or one that is too short; a name that can't stand in a token; a duration
            outside its bounds.
    """

    __slots__ = ("_head", "_key", "_keys", "_max_bytes", "_name_bytes", "_terms", "_verified")

    def __init__(
        self,
        keys: MacKeys,
        *,
        issuer: str,
        audience: str | None = None,
        lifetime: timedelta = LIFETIME,
        leeway: timedelta = LEEWAY,
        cookie_name: str = "__Host-thebes-session",
    ) -> None:
        self._terms = TokenTerms(issuer=issuer, audience=audience, lifetime=lifetime, leeway=leeway)
        by_header = {
            header_segment(alg=ALGORITHM, kid=key_id, typ=TYPE): keys.derived(key_id) for key_id in keys.ids
        }
        if not by_header or any(len(key) < MIN_KEY_BYTES for key in by_header.values()):
            raise ConfigurationError(f"cookie tokens need keys of at least {MIN_KEY_BYTES} random bytes each")
        self._keys = KeySet(by_header)
        self._head, self._key = next(iter(by_header.items()))
        self._name_bytes = len(cookie_name)
        self._max_bytes = MAX_COOKIE_BYTES - self._name_bytes
        self._verified = VerifiedTokens(self._open, max_bytes=self._max_bytes)

    @property
    def lifetime(self) -> timedelta:
        """How long a new token counts."""
        return self._terms.lifetime

    def issue(self, session: SessionClaims, *, now: float | None = None) -> str:
        """Return a new token of a session, signed by the key in use.

        Args:
            now: Seconds since the epoch; the system clock if None.

        Raises:
            TokenTooLarge: Browsers would drop the cookie.
            ConfigurationError: A claim can't stand in a token.
        """
        payload = self._terms.payload(session, now=time.time() if now is None else now)
        signed = self._head + b"." + payload
        token = signed + b"." + hs256(self._key, signed)
        if len(token) > self._max_bytes:
            raise TokenTooLarge(self._name_bytes + len(token), MAX_COOKIE_BYTES)
        return token.decode("ascii")

    def verify(self, token: str | bytes, *, now: float | None = None) -> Claims:
        """Return the claims of a token that is genuine and current; ask for revocations apart from this.

        The algorithm comes from our key, never from the token's header (RFC 8725, 3.1).

        Args:
            token: Compact serialization (RFC 7515, 7.1), as it came.
            now: Seconds since the epoch; the system clock if None.

        Raises:
            InvalidToken: Whatever is wrong; `reason` says what, for logs and not for clients.
        """
        return self._verified.verify(token, self._keys, now)

    def names_our_key(self, token: str | bytes) -> bool:
        """Say whether a token's header segment is one that we write; that alone proves nothing."""
        return self._keys.names(token)

    def _open(self, token: bytes, keys: KeySet[Secret]) -> Opened:
        signed, _, signature = token.rpartition(b".")
        head, _, payload = signed.partition(b".")
        key = keys.by_header.get(head)
        if key is None:
            raise InvalidToken("unknown_key")
        if not compare_digest(hs256(key, signed), signature):
            raise InvalidToken("signature")
        return self._terms.opened(payload)
