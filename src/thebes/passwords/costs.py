"""What a hash costs: the slow functions, their parameters, and the least and the most that we take.

The least is for new hashes: a setting below it is refused when the app starts. The most is for hashes that
somebody brings along: a string that asks for 8 GiB is refused before anything is allocated, since whoever can
write one row must not be able to take the server down at its owner's next sign-in.

Secrets come in as `Secret`, so that no frame of ours shows one.

Sources: OWASP Password Storage Cheat Sheet (2025); ASVS 5.0.0, 11.4.2; RFC 9106 (Argon2); RFC 7914 (scrypt);
RFC 8018 (PBKDF2); Provos and Mazières, "A Future-Adaptable Password Scheme" (bcrypt), USENIX 1999.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from thebes.encoding import random_bytes
from thebes.errors import ConfigurationError
from thebes.facts import Mode
from thebes.secret import Secret

Preset = Literal["64MiB", "19MiB", "test"]
Variant = Literal["id", "i", "d"]
Prf = Literal["sha1", "sha224", "sha256", "sha384", "sha512"]

SALT_BYTES = 16  # RFC 9106, 3.1
DIGEST_BYTES = 32  # of every new hash but bcrypt's, whose digest has 23
# OWASP Password Storage Cheat Sheet (2025): memory in KiB and passes that cost an attacker the same.
ARGON2_FLOORS = ((47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5))
SCRYPT_FLOOR = (2**17, 8, 1)
PBKDF2_FLOORS: Mapping[Prf, int] = {"sha256": 600_000, "sha512": 210_000}
BCRYPT_FLOOR = 10
BCRYPT_KEY_BYTES = 72  # of its key schedule; what comes after has no effect
BCRYPT_SALT_CHARACTERS = 22
BCRYPT_DIGEST_CHARACTERS = 31

# One verification of what others stored: 256 MiB, and 1 to 2 s on the reference machine. Argon2 with 256 MiB
# and 4 passes, scrypt with N=2**18, Django's and everybody's defaults stay far below.
MAX_MEMORY_KIB = 256 * 1024
MAX_ARGON2_KIB_PASSES = 1024 * 1024
MAX_ARGON2_LANES = 64
MAX_SCRYPT_KIB = 512 * 1024  # written in all: 128 N r p
MAX_PBKDF2_ITERATIONS = 5_000_000
# RFC 8018, 4.2. Below it is a fast hash: those are taken only inside a slow one.
MIN_PBKDF2_ITERATIONS = 1_000
BCRYPT_ROUNDS = range(4, 16)


@dataclass(frozen=True, slots=True)
class Argon2:
    """Argon2, version 1.3 unless said (RFC 9106). The default is ours: 64 MiB, 2 passes, one lane.

    More lanes would hash on several cores at once and leave the event loop none. Hashes of others with
    several lanes are computed one lane after the other: the same result on one core.
    """

    memory_kib: int = 64 * 1024
    passes: int = 2
    lanes: int = 1
    variant: Variant = "id"
    version: int = 19

    def derive(self, secret: Secret, salt: bytes, length: int) -> bytes:
        """Return the digest of a secret.

        Raises:
            argon2.exceptions.HashingError: The library can't, such as for want of memory.
        """
        from argon2.exceptions import HashingError  # noqa: PLC0415 - 40 ms, when first needed
        from argon2.low_level import Type, core, error_to_str, ffi  # noqa: PLC0415

        # Not hash_secret_raw(): its frame holds the password when it raises, and it starts a thread a lane.
        out, key, salted = (
            ffi.new("uint8_t[]", length),
            ffi.from_buffer(secret.reveal()),
            ffi.from_buffer(salt),
        )
        context = ffi.new("argon2_context *")
        context.out, context.outlen, context.version = out, length, self.version
        context.pwd, context.pwdlen, context.salt, context.saltlen = key, len(secret), salted, len(salt)
        context.m_cost, context.t_cost = self.memory_kib, self.passes
        context.lanes, context.threads = self.lanes, 1
        code = core(context, Type[self.variant.upper()].value)
        if code:
            raise HashingError(error_to_str(code))
        return bytes(ffi.buffer(out, length))


@dataclass(frozen=True, slots=True)
class Scrypt:
    """scrypt (RFC 7914). The default is OWASP's least: 128 MiB."""

    n: int = 2**17
    r: int = 8
    p: int = 1

    @property
    def memory_kib(self) -> int:
        """What one hash allocates."""
        return 128 * self.n * self.r // 1024

    def derive(self, secret: Secret, salt: bytes, length: int) -> bytes:
        """Return the digest of a secret."""
        # What OpenSSL counts: the table, two blocks more, and one for each p; its default would refuse ours.
        most = 128 * self.r * (self.n + self.p + 2) + 1024
        return hashlib.scrypt(
            secret.reveal(), salt=salt, n=self.n, r=self.r, p=self.p, maxmem=most, dklen=length
        )


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """PBKDF2 with HMAC (RFC 8018), where FIPS 140 is asked for: without memory, so attackers are quicker."""

    iterations: int = 600_000
    prf: Prf = "sha256"

    @property
    def memory_kib(self) -> int:
        """What one hash allocates: next to nothing."""
        return 1

    def derive(self, secret: Secret, salt: bytes, length: int) -> bytes:
        """Return the digest of a secret."""
        return hashlib.pbkdf2_hmac(self.prf, secret.reveal(), salt, self.iterations, length)


@dataclass(frozen=True, slots=True)
class Bcrypt:
    """bcrypt, for systems that must share hashes with one that knows nothing else.

    Attributes:
        rounds: log2 of the work.
        is_whole: A hash of ours, for which no password was ever cut: one of over 72 bytes can't match it.
            False for a hash of others: their libraries cut at 72 bytes, so verifying does the same.
    """

    rounds: int = 12
    is_whole: bool = True

    @property
    def memory_kib(self) -> int:
        """What one hash allocates: the boxes of Blowfish."""
        return 4

    def derive(self, secret: Secret, salt: bytes, length: int) -> bytes:
        """Return the digest of a secret's first 72 bytes.

        Args:
            salt: 22 characters of bcrypt's own alphabet, as the digest is of 31.
            length: That of the digest.
        """
        import bcrypt  # noqa: PLC0415 - loaded when first needed

        key = _without_zeros(secret) if self.is_whole else secret
        setting = b"$2b$%02d$%b" % (self.rounds, salt)
        return bcrypt.hashpw(key.reveal()[:BCRYPT_KEY_BYTES], setting)[-length:]


Cost = Argon2 | Scrypt | Pbkdf2 | Bcrypt

PRESETS: Mapping[Preset, Cost] = {
    "64MiB": Argon2(),
    "19MiB": Argon2(memory_kib=19_456),
    "test": Argon2(memory_kib=64, passes=1),
}


def takes_whole(cost: Cost, secret: Secret) -> bool:
    """Say whether no part of a secret would be without effect: False for bcrypt's over 72 bytes.

    Always True for a bcrypt hash of others, which was made of the first 72.
    """
    if not isinstance(cost, Bcrypt) or not cost.is_whole:
        return True
    return len(_without_zeros(secret)) <= BCRYPT_KEY_BYTES


def new_salt(cost: Cost) -> bytes:
    """Return a random salt of 128 bits, as the cost's `derive` takes it."""
    if isinstance(cost, Bcrypt):
        import bcrypt  # noqa: PLC0415 - loaded when first needed

        return bcrypt.gensalt(cost.rounds)[-BCRYPT_SALT_CHARACTERS:]
    return random_bytes(SALT_BYTES)


def digest_length(cost: Cost) -> int:
    """Return how long the digest of a new hash is, as the cost's `derive` takes it."""
    return BCRYPT_DIGEST_CHARACTERS if isinstance(cost, Bcrypt) else DIGEST_BYTES


def chosen_cost(preset: Preset | Cost, mode: Mode) -> Cost:
    """Return the cost of new hashes.

    Raises:
        ConfigurationError: No such preset, the one for tests in another mode, or a cost below the floors of
            OWASP or above what we would verify.
    """
    if isinstance(preset, str):
        if preset not in PRESETS or (preset == "test" and mode is not Mode.TEST):
            usable = ", ".join(name for name in PRESETS if name != "test" or mode is Mode.TEST)
            raise ConfigurationError(f"passwords={preset!r} is no preset here; allowed are {usable}")
        return PRESETS[preset]
    floor = _floor(preset)
    if floor:
        raise ConfigurationError(f"passwords: {preset} is below the least that is safe: {floor}")
    if not is_affordable(preset, digest_length(preset)):
        raise ConfigurationError(f"passwords: {preset} is beyond what one sign-in may cost; lower it")
    return preset


def is_affordable(cost: Cost, length: int) -> bool:
    """Say whether one verification stays below our limits of memory and time, and the library will take it.

    Args:
        length: That of the digest; PBKDF2 works anew for each block of it.
    """
    match cost:
        case Argon2(memory_kib=memory, passes=passes, lanes=lanes):
            return (
                1 <= lanes <= MAX_ARGON2_LANES
                and 8 * lanes <= memory <= MAX_MEMORY_KIB  # RFC 9106, 3.1
                and passes >= 1
                and memory * passes <= MAX_ARGON2_KIB_PASSES
            )
        case Scrypt(n=n, r=r, p=p):
            return (
                n > 1
                and n & (n - 1) == 0
                and r >= 1
                and p >= 1
                and n < 2 ** (16 * r)  # RFC 7914, 2
                and cost.memory_kib <= MAX_MEMORY_KIB
                and cost.memory_kib * p <= MAX_SCRYPT_KIB
            )
        case Pbkdf2(iterations=iterations, prf=prf):
            blocks = -(-length // hashlib.new(prf, usedforsecurity=False).digest_size)
            return iterations >= MIN_PBKDF2_ITERATIONS and iterations * blocks <= MAX_PBKDF2_ITERATIONS
        case Bcrypt(rounds=rounds):
            return rounds in BCRYPT_ROUNDS


def _floor(cost: Cost) -> str | None:
    """Return the floor that a cost falls below, in words; None if it doesn't."""
    match cost:
        case Argon2(memory_kib=memory, passes=passes, variant=variant, version=version):
            pairs = ARGON2_FLOORS if (variant, version) == ("id", 19) else ()
            if any(memory >= least and passes >= least_passes for least, least_passes in pairs):
                return None
            return "argon2id, version 19, with " + " or ".join(f"{m} KiB and {t}" for m, t in ARGON2_FLOORS)
        case Scrypt(n=n, r=r, p=p):
            is_enough = all(given >= least for given, least in zip((n, r, p), SCRYPT_FLOOR, strict=True))
            return None if is_enough else "n=131072, r=8, p=1"
        case Pbkdf2(iterations=iterations, prf=prf):
            is_enough = prf in PBKDF2_FLOORS and iterations >= PBKDF2_FLOORS[prf]
            return (
                None if is_enough else " or ".join(f"{prf} {least}" for prf, least in PBKDF2_FLOORS.items())
            )
        case Bcrypt(rounds=rounds, is_whole=is_whole):
            return None if is_whole and rounds >= BCRYPT_FLOOR else f"{BCRYPT_FLOOR} rounds, whole passwords"


def _without_zeros(secret: Secret) -> Secret:
    # bcrypt repeats its key with a zero byte between, so "tea\0tea" would open what "tea" locks. In hashes of
    # ours two bytes that UTF-8 never has stand for a zero.
    return Secret(secret.reveal().replace(b"\0", b"\xc0\x80"))
