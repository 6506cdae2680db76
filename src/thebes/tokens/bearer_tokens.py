"""Access tokens for `Authorization: Bearer`: signed so that others can verify them with published keys.

Protects against tokens that we didn't make, and against ours in another place: a cookie token, a token for
another audience, an altered one. Does not protect against whoever holds the token until it expires or is
revoked: it is a bearer token (RFC 6750, 5).

An app may have bearer tokens of its own. So a token whose header segment is none of ours isn't a bad token:
`recognizes` says whose it is, and reads the keys anew where that may change the answer, once a second at
most.

Sources: RFC 9068 (JWT profile for access tokens); RFC 7517 (key sets); RFC 8725, 3.1 to 3.12.
"""

from __future__ import annotations

import time
from datetime import timedelta

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
from thebes.tokens.jws import HEADER_START, MAX_TOKEN_BYTES, KeySet, as_bytes
from thebes.tokens.signing_keys import SigningKeys, VerificationKey


class BearerTokens:
    """Make and verify the access tokens of bearer mode.

    Args:
        keys: What signs and verifies; loaded before the first token.
        issuer: The service's own name, its public URL.
        audience: The one service that may accept the tokens; the issuer itself if None.
        lifetime: Whole seconds, at most 60 minutes.
        leeway: How far clocks may differ, at most 60 seconds.

    Raises:
        ConfigurationError: A name that can't stand in a token, or a duration outside its bounds.
    """

    __slots__ = ("_terms", "_verified", "keys")

    keys: SigningKeys
    """What signs and verifies."""

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        audience: str | None = None,
        lifetime: timedelta = LIFETIME,
        leeway: timedelta = LEEWAY,
    ) -> None:
        self._terms = TokenTerms(issuer=issuer, audience=audience, lifetime=lifetime, leeway=leeway)
        self._verified = VerifiedTokens(self._open, max_bytes=MAX_TOKEN_BYTES)
        self.keys = keys

    @property
    def lifetime(self) -> timedelta:
        """How long a new token counts."""
        return self._terms.lifetime

    def issue(self, session: SessionClaims, *, now: float | None = None) -> str:
        """Return a new token of a session, signed by the key in use.

        Args:
            now: Seconds since the epoch; the system clock if None.

        Raises:
            TokenTooLarge: No verifier would read it, ours neither.
            ConfigurationError: A claim can't stand in a token, or no signing key can be used.
        """
        payload = self._terms.payload(session, now=time.time() if now is None else now)
        key = self.keys.in_use
        signed = key.header + b"." + payload
        token = signed + b"." + key.private.sign(signed)
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenTooLarge(len(token), MAX_TOKEN_BYTES)
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
        return self._verified.verify(token, self.keys.verifying, now)

    def names_our_key(self, token: str | bytes) -> bool:
        """Say whether a token's header segment is one that we write; else the token isn't ours to judge."""
        return self.keys.verifying.names(token)

    def has_seen(self, token: str | bytes) -> bool:
        """Say whether a token was verified before: then verifying it again costs next to nothing."""
        return self._verified.holds(token, self.keys.verifying)

    def may_have_newer_keys(self, token: str | bytes, *, now: float | None = None) -> bool:
        """Say whether `reload` could make an unknown token ours: it has our form, and the keys may be old.

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        raw = as_bytes(token)
        has_our_form = len(raw) <= MAX_TOKEN_BYTES and raw.startswith(HEADER_START) and raw.count(b".") == 2
        return has_our_form and self.keys.may_be_old(now=now)

    async def reload(self, *, now: float | None = None) -> None:
        """Read the keys anew, once a second at most, however many ask; a store that is away is reported.

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        await self.keys.reload_for_a_stranger(now=now)

    async def recognizes(self, token: str | bytes, *, now: float | None = None) -> bool:
        """Say whether a token is ours, after reading the keys anew where that may change the answer.

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        if not self.names_our_key(token) and self.may_have_newer_keys(token, now=now):
            await self.reload(now=now)
        return self.names_our_key(token)

    def jwks(self, *, now: float | None = None) -> dict[str, list[dict[str, str]]]:
        """Return the key set for `/.well-known/jwks.json`: the public keys that verify now (RFC 7517, 5).

        Args:
            now: Seconds since the epoch; the system clock if None.
        """
        instant = time.time() if now is None else now
        keys = self.keys.verifying.by_header.values()
        return {"keys": [key.public.jwk(key.kid) for key in keys if instant < key.retire_at]}

    def _open(self, token: bytes, keys: KeySet[VerificationKey]) -> Opened:
        signed, _, signature = token.rpartition(b".")
        head, _, payload = signed.partition(b".")
        key = keys.by_header.get(head)
        if key is None:
            raise InvalidToken("unknown_key")
        if not key.public.verify(signed, signature):
            raise InvalidToken("signature")
        return self._terms.opened(payload, retire_at=key.retire_at)
