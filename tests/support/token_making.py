"""Make access tokens as we make them, and as an attacker would: any header, any body, any signature."""

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from thebes.encoding import encode
from thebes.errors import ThebesError
from thebes.secret import Secret
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.strength import SecretKey
from thebes.stores.keys import StoredKey
from thebes.tokens.claims import SessionClaims
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.jws import hs256

ISSUER = "https://example.com"
NOW = 1_800_000_000.0
MASTERS = {
    "old": bytes.fromhex("8f1d3ab2409ce577c0116e9bd8f23465a7ec905b1cd84e33f6297a0d51be8842"),
    "new": bytes.fromhex("0c5be1d2f7a83946b2e4907d1f6a35c8e0947bd5a21c6f38d97e04b3fa58612d"),
}
ADA = SessionClaims(
    sub="0192f0c1-7c1e-7d6a-9b1e-0123456789ab",
    sid="c2Vzc2lvbiBvZiBhZGEgMDAx",
    client_id="thebes",
    auth_time=NOW - 3600,
    amr=("pwd",),
    epoch=3,
    scope=frozenset({"notes:read", "notes:write"}),
    roles=("editor",),
)


def ring(*ids: str) -> Keyring:
    """Return a keyring of the master keys with these ids, the first in use."""
    return Keyring([SecretKey(one, Secret(MASTERS[one])) for one in ids])


def mac_keys(*ids: str) -> BoundKeys:
    """Return the keys of cookie tokens."""
    return BoundKeys(ring(*ids), Purpose.TOKEN_SIGNING)


def seals(*ids: str) -> BoundKeys:
    """Return the keys that seal signing keys."""
    return BoundKeys(ring(*ids), Purpose.SIGNING_KEYS)


def segment(part: Any) -> str:
    """Return base64url of bytes, of text, or of anything else as JSON."""
    raw = part if isinstance(part, bytes) else (part if isinstance(part, str) else json.dumps(part)).encode()
    return encode(raw)


def body_of(token: str) -> dict[str, Any]:
    """Return what a token says, as anybody can read it."""
    text = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return read


def header_of(token: str) -> dict[str, str]:
    """Return a token's header, as anybody can read it."""
    text = token.partition(".")[0]
    read: dict[str, str] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return read


def signed_by_us(tokens: CookieTokens, body: Any, *, key_id: str = "old") -> str:
    """Return a cookie token with any body under the genuine header and a genuine signature."""
    head = tokens.issue(ADA, now=NOW).partition(".")[0]
    signed = f"{head}.{segment(body)}"
    return f"{signed}.{hs256(mac_keys(key_id).derived(key_id), signed.encode()).decode()}"


class KeysInMemory:
    """A key store that keeps its rows in a dict; each verb runs to its end before another begins.

    Attributes:
        rows: What it holds, by key id.
        readings: How often the keys were asked for.
        is_away: Whether asking for the keys raises.
    """

    def __init__(self) -> None:
        self.rows: dict[str, StoredKey] = {}
        self.readings = 0
        self.is_away = False

    async def insert_first(self, key: StoredKey) -> StoredKey:
        """Keep the key if there is none."""
        if not self.rows:
            self.rows[key.kid] = key
        return (await self.keys())[0]

    async def publish(self, key: StoredKey) -> None:
        """Keep a further key."""
        if key.status != "published" or key.kid in self.rows:
            raise ValueError("not a new key to publish")
        self.rows[key.kid] = key

    async def promote(self, kid: str, *, was: str, sealed: str, now: float) -> bool:
        """Let a published key sign."""
        row = self._unchanged(kid, was)
        if row is None or row.status != "published":
            return False
        self.rows[kid] = dataclasses.replace(row, status="promoted", promoted_at=now, sealed=sealed)
        return True

    async def retire(self, kid: str, *, was: str, sealed: str, retire_at: float) -> bool:
        """Give a key an end, if another one signs."""
        row = self._unchanged(kid, was)
        if row is None or not any(
            other.status == "promoted" for other in self.rows.values() if other.kid != kid
        ):
            return False
        self.rows[kid] = dataclasses.replace(row, status="retired", retire_at=retire_at, sealed=sealed)
        return True

    async def reseal(self, kid: str, *, was: str, sealed: str) -> bool:
        """Replace the sealed text alone."""
        row = self._unchanged(kid, was)
        if row is None:
            return False
        self.rows[kid] = dataclasses.replace(row, sealed=sealed)
        return True

    async def keys(self) -> Sequence[StoredKey]:
        """Return all keys, the oldest first."""
        self.readings += 1
        if self.is_away:
            raise ThebesError("the store is away")
        return sorted(self.rows.values(), key=lambda row: (row.created_at, row.kid))

    def _unchanged(self, kid: str, was: str) -> StoredKey | None:
        row = self.rows.get(kid)
        return row if row is not None and row.sealed == was else None
