"""A pepper from the keyring: a key that lies outside the database goes into each password's hash.

Whoever copies the database alone can't even begin to guess. Hashes name the key's id, so keys can be rotated:
a password is hashed anew under the key in use when its owner signs in (PWD-19).

Does not protect: against whoever gets the keys too.

Sources: NIST SP 800-63B-4, 3.1.1.2; OWASP Password Storage (peppering).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from thebes.secrets.keyring import Keyring, Purpose, UnknownKey


@dataclass(frozen=True, slots=True)
class KeyringPepper:
    """What the room of passwords asks of a pepper.

    Attributes:
        keyring: Holds the keys.
    """

    keyring: Keyring

    @property
    def in_use(self) -> str:
        """The id of the key that goes into new hashes."""
        return self.keyring.in_use

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the message's HMAC-SHA256 under it."""
        return self.keyring.mac(Purpose.PEPPER, message)

    def mac_with(self, key_id: str, message: bytes) -> bytes | None:
        """Return the message's HMAC-SHA256 under a key, or None if that isn't on the list."""
        try:
            key = self.keyring.derived(Purpose.PEPPER, key_id)
        except UnknownKey:
            return None
        return hmac.digest(key.reveal(), message, "sha256")
