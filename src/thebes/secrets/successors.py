"""The keys of refresh tokens: a MAC for each token, and a seal that only a token's holder completes.

Between a rotation and the end of the grace a session's row holds the new refresh token, for the holder of
the one before it. Sealed under a key of the service alone it would lie open to whoever has the database and
the keys. Here the key is made from both: HKDF over the master key, with the predecessor's random part, which
nobody keeps, as its salt.

Does not protect: the successor from whoever holds the predecessor, the database and the keys.

Sources: RFC 5869, 3.1 (salt); NIST SP 800-38D (GCM); TOK-17.
"""

from __future__ import annotations

from dataclasses import dataclass

from thebes.errors import ConfigurationError
from thebes.secrets.keyring import BrokenSeal, Keyring, Purpose

MIN_SALT_BYTES = 32  # 256 random bits, as many as the sealed token has (TOK-17)


@dataclass(frozen=True, slots=True)
class RefreshKeyring:
    """The verbs of `Keyring` that refresh tokens need, each for its one purpose.

    >>> from thebes.secret import Secret
    >>> from thebes.secrets.strength import SecretKey
    >>> keys = RefreshKeyring(Keyring((SecretKey("k1", Secret(bytes(range(32)))),)))
    >>> sealed = keys.seal_for(b"s" * 32, b"next token", b"session 7, generation 2")
    >>> keys.open_for(b"s" * 32, sealed, b"session 7, generation 2")
    b'next token'
    >>> keys.open_for(b"t" * 32, sealed, b"session 7, generation 2") is None
    True

    Attributes:
        keyring: Holds the keys.
    """

    keyring: Keyring

    @property
    def in_use(self) -> str:
        """The id of the key under which new values are made."""
        return self.keyring.in_use

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the HMAC-SHA256 of a refresh token's text under it."""
        return self.keyring.mac(Purpose.REFRESH_TOKENS, message)

    def verify(self, key_id: str, message: bytes, tag: bytes) -> bool:
        """Say whether `mac` made the tag; False too for a key that isn't on the list."""
        return self.keyring.verify(Purpose.REFRESH_TOKENS, key_id, message, tag)

    def seal_for(self, salt: bytes, plaintext: bytes, associated_data: bytes) -> str:
        """Seal for whoever knows the salt; what `Keyring.seal` says of the rest holds here.

        Raises:
            ConfigurationError: The salt has less than 32 bytes.
        """
        _require_long(salt)
        return self.keyring.seal(Purpose.REFRESH_SUCCESSORS, plaintext, associated_data, salt=salt)

    def open_for(self, salt: bytes, sealed: str, associated_data: bytes) -> bytes | None:
        """Return what was sealed, None for another salt or owner, a lost key, or what isn't ours."""
        _require_long(salt)
        try:
            return self.keyring.open(Purpose.REFRESH_SUCCESSORS, sealed, associated_data, salt=salt)
        except BrokenSeal:
            return None


def _require_long(salt: bytes) -> None:
    if len(salt) < MIN_SALT_BYTES:
        raise ConfigurationError(f"a seal for a token's holder needs {MIN_SALT_BYTES} bytes of it or more")
