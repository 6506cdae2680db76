"""The text of a refresh token: made, and read strictly.

`session id . generation . 256 random bits . key id . MAC`, where the MAC covers all before it. It tells a
genuine old token from a forged one without asking the store: so whoever guesses a session's id ends nobody's
session, and of all the tokens that a session had, its row keeps only the current one's digest.

A token has one spelling. Another one of the same bytes (padding, other trailing bits, a leading zero, another
alphabet) is not genuine, so the digest of the text is the digest of the token.

Does not protect: whoever shows a genuine token counts as its holder.

Sources: RFC 4648, 5 (base64url) and 3.5 (canonical encoding); RFC 2104; ASVS 5.0.0, 7.2.3; TOK-16, TOK-17.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from thebes.encoding import decode, encode, random_bytes

RANDOM_BYTES = 32  # TOK-17: at least 256 bits
# Session id 24, generation up to 10, random part and MAC 43 each, key id up to 32, four dots.
MAX_TOKEN_BYTES = 160

_TOKEN = re.compile(
    r"(?P<session>[A-Za-z0-9_-]{24})\.(?P<generation>0|[1-9][0-9]{0,9})\.(?P<random>[A-Za-z0-9_-]{43})"
    r"\.(?P<key>[A-Za-z0-9_-]{1,32})\.(?P<mac>[A-Za-z0-9_-]{43})"
)


class RefreshKeys(Protocol):
    """MACs and seals for refresh tokens alone; the keyring has them."""

    @property
    def in_use(self) -> str:
        """The id of the key under which new values are made."""
        ...

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the message's HMAC-SHA256 under it."""
        ...

    def verify(self, key_id: str, message: bytes, tag: bytes) -> bool:
        """Say whether `mac` made the tag; False too for an unknown key."""
        ...

    def seal_for(self, salt: bytes, plaintext: bytes, associated_data: bytes) -> str:
        """Seal, under a key derived with the salt, for whoever knows that."""
        ...

    def open_for(self, salt: bytes, sealed: str, associated_data: bytes) -> bytes | None:
        """Return what was sealed; None if anything is wrong with it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A refresh token that is genuine by its MAC; whether it is still good is for the store to say.

    Attributes:
        session_id: Whose it is.
        generation: Which of that session's tokens, from 0.
        digest: SHA-256 of its text.
        random: Its 256 random bits.
        token: Its text.
    """

    session_id: str
    generation: int
    digest: bytes
    random: bytes = field(repr=False)
    token: str = field(repr=False)


def make_token(keys: RefreshKeys, session_id: str, generation: int) -> Presented:
    """Return a new token with fresh random bits, under the key in use."""
    random = random_bytes(RANDOM_BYTES)
    signed = f"{session_id}.{generation}.{encode(random)}.{keys.in_use}"
    _, tag = keys.mac(signed.encode("ascii"))
    token = f"{signed}.{encode(tag)}"
    return Presented(
        session_id=session_id,
        generation=generation,
        digest=sha256(token.encode("ascii")).digest(),
        random=random,
        token=token,
    )


def read_token(keys: RefreshKeys, token: str | bytes) -> Presented | None:
    """Return what a genuine token says, None for everything else; never raises, never waits."""
    if len(token) > MAX_TOKEN_BYTES:
        return None
    try:
        text = token if isinstance(token, str) else token.decode("ascii")
    except UnicodeDecodeError:
        return None
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    try:
        random, tag = decode(match["random"]), decode(match["mac"])
    except ValueError:
        return None
    if not keys.verify(match["key"], text[: match.start("mac") - 1].encode("ascii"), tag):
        return None
    return Presented(
        session_id=match["session"],
        generation=int(match["generation"]),
        digest=sha256(text.encode("ascii")).digest(),
        random=random,
        token=text,
    )
