"""Read what is stored for a password, whoever wrote it, and write what we store.

A stored string names its function, its cost and its salt. Ours are PHC strings, with at most two marks in
front: `thebes-peppered$<key id>` and `thebes-wrapped$<fast hash>`. bcrypt has no PHC string; ours stands
behind `thebes-bcrypt`, since only of our own do we know that no password was cut.

What isn't exactly one of the known forms, or asks for more memory or time than one sign-in may cost, is None:
it verifies as false. A bare MD5, SHA-1 or SHA-2 is never read.

Sources: PHC string format (P-H-C/phc-string-format); Django 5.2, contrib/auth/hashers.py; Werkzeug 3,
security.py; Passlib 1.7.4, handlers; crypt(5) for bcrypt.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

from thebes.encoding import decode, encode, is_equal
from thebes.passwords.costs import (
    Argon2,
    Bcrypt,
    Cost,
    Pbkdf2,
    Prf,
    Scrypt,
    Variant,
    is_affordable,
    takes_whole,
)
from thebes.secret import Secret

FastHash = Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
FAST_HASHES: tuple[FastHash, ...] = get_args(FastHash)
# What the maker of a hash did to the password before bcrypt.
Prehash = Literal["sha256-hex", "sha256-base64", "hmac-sha256-base64"]

MIN_DIGEST_BYTES = 16  # an empty digest would match everything
MAX_DIGEST_BYTES = 64
MAX_SALT_BYTES = 128

_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PEPPERED, _WRAPPED, _BCRYPT = "thebes-peppered", "thebes-wrapped", "thebes-bcrypt"


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The fast hash inside a slow one, from before a migration.

    Attributes:
        salt: What was hashed with the password, `b""` if nothing was.
        is_salt_last: The salt stands behind the password instead of before it.
    """

    algorithm: FastHash
    salt: bytes = b""
    is_salt_last: bool = False

    def digest(self, secret: Secret) -> Secret:
        """Return the fast hash of a password as lower-case hexadecimal digits."""
        made = hashlib.new(self.algorithm, usedforsecurity=False)
        for part in (secret, Secret(self.salt)) if self.is_salt_last else (Secret(self.salt), secret):
            made.update(part.reveal())
        return Secret(made.hexdigest())


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored string, read: how its digest was made, and the digest.

    Attributes:
        prehash: What was done to the password before the slow function, by whoever made the hash.
        wrapping: The fast hash that lies inside.
        key_id: Of the pepper's key that was used; None without a pepper.
    """

    cost: Cost
    salt: bytes
    digest: bytes = field(repr=False)
    prehash: Prehash | None = None
    wrapping: Wrapping | None = None
    key_id: str | None = None

    def matches(self, secret: Secret) -> bool:
        """Say whether the digest is that of a secret, which has been wrapped and peppered by then."""
        prepared = _prehashed(secret, self.prehash, self.salt)
        computed = self.cost.derive(prepared, self.salt, len(self.digest))
        # Both, in this order: a password that bcrypt would cut costs the same time.
        return is_equal(computed, self.digest) and takes_whole(self.cost, prepared)


def write(stored: Stored) -> str:
    """Return the string to store, which `read` gives back.

    Only for what we make: a prehash and a bcrypt that cuts belong to strings of others.
    """
    text = _write_cost(stored.cost, stored.salt, stored.digest)
    marks = "" if stored.key_id is None else f"{_PEPPERED}${stored.key_id}$"
    if stored.wrapping is not None:
        marks += f"{_WRAPPED}${_write_wrapping(stored.wrapping)}$"
    return marks + text.removeprefix("$") if marks else text


def read(text: str) -> Stored | None:
    """Return what a stored string says; None if it is malformed, unknown, a fast hash or too costly."""
    marks = _MARKS.match(text)
    if marks is None or not marks.end():
        return _first(_OURS, text) or _first(_OF_OTHERS, text)
    rest = text[marks.end() :]
    stored = _first(_OURS, rest if rest.startswith(_BCRYPT) else f"${rest}")
    if stored is None:
        return None
    try:
        wrapping = _read_wrapping(marks)
    except ValueError:
        return None
    return replace(stored, key_id=marks["key"], wrapping=wrapping)


def _prehashed(secret: Secret, prehash: Prehash | None, salt: bytes) -> Secret:
    match prehash:
        case None:
            return secret
        case "sha256-hex":
            return Secret(hashlib.sha256(secret.reveal()).hexdigest())
        case "sha256-base64":
            return Secret(b64encode(hashlib.sha256(secret.reveal()).digest()))
        case "hmac-sha256-base64":
            return Secret(b64encode(hmac.digest(salt, secret.reveal(), "sha256")))


def _write_cost(cost: Cost, salt: bytes, digest: bytes) -> str:
    match cost:
        case Argon2(memory_kib=memory, passes=passes, lanes=lanes, variant=variant, version=version):
            head = f"$argon2{variant}$v={version}$m={memory},t={passes},p={lanes}"
        case Scrypt(n=n, r=r, p=p):
            head = f"$scrypt$ln={n.bit_length() - 1},r={r},p={p}"
        case Pbkdf2(iterations=iterations, prf=prf):
            head = f"$pbkdf2-{prf}$i={iterations}"
        case Bcrypt(rounds=rounds):
            return f"{_BCRYPT}$2b${rounds:02}${salt.decode('ascii')}{digest.decode('ascii')}"
    return f"{head}${_to_base64(salt)}${_to_base64(digest)}"


def _write_wrapping(wrapping: Wrapping) -> str:
    if not wrapping.salt:
        return wrapping.algorithm
    return f"{wrapping.algorithm},{'last' if wrapping.is_salt_last else 'first'}={encode(wrapping.salt)}"


def _read_wrapping(marks: re.Match[str]) -> Wrapping | None:
    if marks["fast"] is None:
        return None
    salt = b"" if marks["salt"] is None else decode(marks["salt"])
    return Wrapping(cast("FastHash", marks["fast"]), salt, is_salt_last=marks["place"] == "last")


def _first(forms: _Forms, text: str) -> Stored | None:
    """Return what the form that a string has says, None if it has none or can't be computed."""
    for pattern, make in forms:
        if match := pattern.fullmatch(text):
            try:
                stored = make(match)
            except ValueError:  # of base64: a length or padding that can't be
                return None
            return stored if _is_computable(stored) else None
    return None


def _is_computable(stored: Stored) -> bool:
    # Argon2 refuses salts of less than 8 bytes (RFC 9106, 3.1): its library would raise.
    least_salt = 8 if isinstance(stored.cost, Argon2) else 0
    return (
        MIN_DIGEST_BYTES <= len(stored.digest) <= MAX_DIGEST_BYTES
        and least_salt <= len(stored.salt) <= MAX_SALT_BYTES
        and is_affordable(stored.cost, len(stored.digest))
    )


# Named groups carry what the makers below need; `salt` and `digest` are in all of them.


def _argon2(match: re.Match[str]) -> Stored:
    # Without a version it is 1.0: the field came with 1.3 (reference implementation, 20160406).
    cost = Argon2(
        int(match["m"]),
        int(match["t"]),
        int(match["p"]),
        cast("Variant", match["variant"]),
        int(match["v"] or 16),
    )
    return Stored(cost, _from_base64(match["salt"]), _from_base64(match["digest"]))


def _scrypt_of_log2(match: re.Match[str]) -> Stored:
    cost = Scrypt(1 << int(match["ln"]), int(match["r"]), int(match["p"]))
    return Stored(cost, _from_base64(match["salt"]), _from_base64(match["digest"]))


def _scrypt_of_django(match: re.Match[str]) -> Stored:
    cost = Scrypt(int(match["n"]), int(match["r"]), int(match["p"]))
    return Stored(cost, _to_bytes(match["salt"]), _from_base64(match["digest"]))


def _scrypt_of_werkzeug(match: re.Match[str]) -> Stored:
    cost = Scrypt(int(match["n"]), int(match["r"]), int(match["p"]))
    return Stored(cost, _to_bytes(match["salt"]), bytes.fromhex(match["digest"]))


def _pbkdf2(match: re.Match[str]) -> Stored:
    cost = Pbkdf2(int(match["i"]), cast("Prf", match["prf"] or "sha1"))
    return Stored(cost, _from_base64(match["salt"]), _from_base64(match["digest"]))


def _pbkdf2_of_django(match: re.Match[str]) -> Stored:
    cost = Pbkdf2(int(match["i"]), cast("Prf", match["prf"]))
    return Stored(cost, _to_bytes(match["salt"]), _from_base64(match["digest"]))


def _pbkdf2_of_werkzeug(match: re.Match[str]) -> Stored:
    cost = Pbkdf2(int(match["i"]), cast("Prf", match["prf"]))
    return Stored(cost, _to_bytes(match["salt"]), bytes.fromhex(match["digest"]))


def _bcrypt(prehash: Prehash | None = None, *, is_whole: bool = False) -> Callable[[re.Match[str]], Stored]:
    def make(match: re.Match[str]) -> Stored:
        cost = Bcrypt(int(match["rounds"]), is_whole=is_whole)
        # Of the last character two bits count. Old libraries set others too, and bcrypt's own refuses those.
        last = _BCRYPT_ALPHABET[_BCRYPT_ALPHABET.index(match["salt"][-1]) & 0b110000]
        salt = match["salt"][:-1] + last
        return Stored(cost, salt.encode("ascii"), match["digest"].encode("ascii"), prehash)

    return make


_Forms = tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Stored]], ...]

_MARKS = re.compile(
    r"(?:thebes-peppered\$(?P<key>[A-Za-z0-9_-]{1,32})\$)?"
    r"(?:thebes-wrapped\$(?P<fast>md5|sha1|sha224|sha256|sha384|sha512)"
    r"(?:,(?P<place>first|last)=(?P<salt>[A-Za-z0-9_-]{1,180}))?\$)?"
)
# Django writes its own name before what other libraries write, hence `argon2` and `bcrypt` twice.
_OURS: _Forms = (
    (
        re.compile(
            r"(?:argon2)?\$argon2(?P<variant>id|i|d)(?:\$v=(?P<v>16|19))?\$m=(?P<m>[1-9][0-9]{0,8}),t=(?P<t>[1-9][0-9]{0,8})"
            r",p=(?P<p>[1-9][0-9]{0,4})\$(?P<salt>[A-Za-z0-9+/]{1,180})\$(?P<digest>[A-Za-z0-9+/]{1,100})"
        ),
        _argon2,
    ),
    (
        re.compile(
            r"\$scrypt\$ln=(?P<ln>[1-9][0-9]?),r=(?P<r>[1-9][0-9]{0,4}),p=(?P<p>[1-9][0-9]{0,4})"
            r"\$(?P<salt>[A-Za-z0-9+/]{1,180})\$(?P<digest>[A-Za-z0-9+/]{1,100})"
        ),
        _scrypt_of_log2,
    ),
    (
        re.compile(
            r"\$pbkdf2-(?P<prf>sha1|sha256|sha512)\$i=(?P<i>[1-9][0-9]{0,8})(?:,l=[0-9]{2})?"
            r"\$(?P<salt>[A-Za-z0-9+/]{1,180})\$(?P<digest>[A-Za-z0-9+/]{1,100})"
        ),
        _pbkdf2,
    ),
    (
        re.compile(
            r"thebes-bcrypt\$2b\$(?P<rounds>[0-9]{2})\$(?P<salt>[./A-Za-z0-9]{22})(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _bcrypt(is_whole=True),
    ),
)
_OF_OTHERS: _Forms = (
    # crypt(3), PHP, Node: 2a, 2b and 2y differ only in bugs that are gone; 2x is the bug itself.
    (
        re.compile(
            r"(?:bcrypt\$)?\$2[aby]\$(?P<rounds>[0-9]{2})\$(?P<salt>[./A-Za-z0-9]{22})(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _bcrypt(),
    ),
    # Django
    (
        re.compile(
            r"bcrypt_sha256\$\$2[aby]\$(?P<rounds>[0-9]{2})\$(?P<salt>[./A-Za-z0-9]{22})(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _bcrypt("sha256-hex"),
    ),
    (
        re.compile(
            r"pbkdf2_(?P<prf>sha1|sha256)\$(?P<i>[1-9][0-9]{0,8})\$(?P<salt>[^$]{1,128})\$(?P<digest>[A-Za-z0-9+/]{1,100}={0,2})"
        ),
        _pbkdf2_of_django,
    ),
    (
        re.compile(
            r"scrypt\$(?P<n>[1-9][0-9]{0,8})\$(?P<salt>[^$]{1,128})\$(?P<r>[1-9][0-9]{0,4})\$(?P<p>[1-9][0-9]{0,4})"
            r"\$(?P<digest>[A-Za-z0-9+/]{1,100}={0,2})"
        ),
        _scrypt_of_django,
    ),
    # Werkzeug, and so Flask
    (
        re.compile(
            r"scrypt:(?P<n>[1-9][0-9]{0,8}):(?P<r>[1-9][0-9]{0,4}):(?P<p>[1-9][0-9]{0,4})"
            r"\$(?P<salt>[^$]{1,128})\$(?P<digest>[0-9a-f]{32,128})"
        ),
        _scrypt_of_werkzeug,
    ),
    (
        re.compile(
            r"pbkdf2:(?P<prf>sha1|sha224|sha256|sha384|sha512):(?P<i>[1-9][0-9]{0,8})"
            r"\$(?P<salt>[^$]{1,128})\$(?P<digest>[0-9a-f]{32,128})"
        ),
        _pbkdf2_of_werkzeug,
    ),
    # Passlib
    (
        re.compile(
            r"\$pbkdf2(?:-(?P<prf>sha256|sha512))?\$(?P<i>[1-9][0-9]{0,8})"
            r"\$(?P<salt>[A-Za-z0-9./]{0,180})\$(?P<digest>[A-Za-z0-9./]{1,100})"
        ),
        _pbkdf2,
    ),
    (
        re.compile(
            r"\$bcrypt-sha256\$2[aby],(?P<rounds>[0-9]{1,2})\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _bcrypt("sha256-base64"),
    ),
    (
        re.compile(
            r"\$bcrypt-sha256\$v=2,t=2[aby],r=(?P<rounds>[0-9]{1,2})\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _bcrypt("hmac-sha256-base64"),
    ),
)


def _to_base64(raw: bytes) -> str:
    return b64encode(raw).rstrip(b"=").decode("ascii")


def _from_base64(text: str) -> bytes:
    """Return the bytes behind base64, padded or not; Passlib writes a dot for the plus."""
    bare = text.rstrip("=").replace(".", "+")
    return binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
