"""Build the TLS context of a server, and refuse a certificate that can't serve before it serves.

Protects from eavesdroppers who downgrade a connection to an old version or a weak suite, and from
an outage by a wrong file: another key, another host, a key that others can read.

Does not protect: against a stolen key, or a CA that signs for the wrong person; nothing asks OCSP.
Does not choose TLS 1.3 suites or key exchange groups: before 3.15 Python has no call for them, and
one curve alone (`set_ecdh_curve`) would drop the post-quantum group.

Sources: Mozilla's server side TLS guideline 6.0; RFC 9325 (recommendations for TLS); RFC 8996 (no
TLS 1.0 and 1.1); RFC 9525 (names in certificates); OWASP ASVS 5.0 12.1 and 11.2.3.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
import stat
import struct
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from thebes.encoding import random_bytes
from thebes.errors import CertificateError, ConfigurationError

MIN_RSA_BITS = 2048  # TLS-06: 112 bits of security, what public CAs sign
MIN_SELF_SIGNED_RSA_BITS = 3072  # TLS-06: nobody but us vouches for it, so 128 bits
# TLS-06: 256 bits and more. Others of that size (secp256k1, Brainpool) no browser knows.
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

# Mozilla 6.0, intermediate: ephemeral ECDH and AEAD only. Finite-field DHE left the list in 6.0.
# Security level 2 also refuses SHA-1 signatures; a system-wide setting may have lowered it.
INTERMEDIATE_CIPHERS = ":".join(
    (
        "@SECLEVEL=2",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
X25519MLKEM768 = 0x11EC  # IANA TLS supported groups


def server_context(
    certificate: Path,
    key: Path,
    *,
    tls: Literal["intermediate", "modern"] = "intermediate",
    hosts: Collection[str] = (),
    require_private_key_file: bool = True,
    insecure_allow_self_signed: bool = False,
    now: datetime | None = None,
) -> ssl.SSLContext:
    """Return a new context that serves this certificate; a context that serves is never changed.

    Args:
        certificate: PEM file, the server's own certificate first, then the intermediates.
        key: PEM file with the private key, without a passphrase.
        tls: "intermediate" speaks TLS 1.3 and 1.2, "modern" TLS 1.3 only.
        hosts: Names and addresses, with or without a port; the certificate must cover each.
        require_private_key_file: Refuse a key file that group or others may read (not on Windows).
        insecure_allow_self_signed: Serve a certificate that no client can verify.
        now: With a time zone; the certificate must be valid then. The system clock if None.

    Raises:
        CertificateError: The files can't serve; the message says what was found and is allowed.
        ConfigurationError: `tls` is another word.
    """
    context = _hardened_context(tls)
    chain_pem = read_file(certificate)
    key_pem = read_key_file(key) if require_private_key_file else read_file(key)
    leaf = parse_certificate(chain_pem, certificate)
    _check_pair(leaf, parse_key(key_pem, key), certificate, key)
    _check_validity(leaf, now or datetime.now(UTC), certificate)
    is_self_signed = is_issued_by(leaf, leaf)
    if is_self_signed and not insecure_allow_self_signed:
        raise CertificateError(
            f"{certificate} is self-signed, so no client can verify it; allowed is one that a CA"
            " signed, or insecure_allow_self_signed=True"
        )
    _check_strength(leaf.public_key(), certificate, is_self_signed=is_self_signed)
    _check_hosts(leaf, hosts, certificate)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(f"OpenSSL refuses {certificate} with {key}: {error}") from error
    # OpenSSL takes paths, so it read the files again: what it loaded must be what was checked.
    if chain_pem != read_file(certificate) or key_pem != read_file(key):
        raise CertificateError(f"{certificate} or {key} changed while being read; try again")
    return context


def read_file(path: Path) -> bytes:
    """Return the content of a public file.

    Raises:
        CertificateError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error


def read_key_file(path: Path, *, must_be_ours: bool = False) -> bytes:
    """Return the content of a key file that nobody but its owner may read.

    On Windows the directory's access list decides, and the mode is not looked at.

    Args:
        path: A regular file, or a symbolic link to one.
        must_be_ours: Refuse symbolic links, and files that another user owns.

    Raises:
        CertificateError: Unreadable, not a regular file, readable by others, or not ours.
    """
    # O_NONBLOCK: opening a named pipe would wait for a writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if must_be_ours:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            _check_key_file(path, os.fstat(file.fileno()), must_be_ours=must_be_ours)
            return file.read()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put a whole file in place of another, or of none, in one step.

    It has its mode from the start, so that no moment shows a key to others, and readers see the old
    content or the new one, never half of it.

    Raises:
        OSError: The directory can't be written.
    """
    draft = path.with_name(f".{path.name}.{random_bytes(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(draft, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def parse_certificate(pem: bytes, path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file, which is the server's own (RFC 8446, 4.4.2).

    Raises:
        CertificateError: There is none; the message names `path`.
    """
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate in PEM form") from error


def parse_key(pem: bytes, path: Path) -> PrivateKeyTypes:
    """Return the private key of a PEM file.

    Raises:
        CertificateError: There is none, or it has a passphrase; the message names `path`.
    """
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise CertificateError(
            f"{path} is encrypted; allowed is a key without passphrase, in a file with mode 0600"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path} holds no usable private key in PEM form") from error


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether the issuer's key signed the certificate and the names agree; dates don't count."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def key_exchange_groups() -> tuple[int, ...]:
    """Return the key exchange groups that this process's OpenSSL offers, its favourite first.

    They are IANA code points, read from the first message of a handshake in memory: what the
    library was built with and what `OPENSSL_CONF` set are in it, which no version number tells.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return _groups_of_client_hello(outgoing.read())


def post_quantum_group_available() -> bool:
    """Tell whether connections of this process can agree on X25519MLKEM768 (OpenSSL 3.5 and newer).

    Without it, who records traffic today may read it once a large quantum computer exists.
    """
    return X25519MLKEM768 in key_exchange_groups()


def _hardened_context(tls: str) -> ssl.SSLContext:
    if tls not in ("intermediate", "modern"):
        raise ConfigurationError(f"tls is {tls!r}; allowed are 'intermediate' and 'modern'")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls == "modern" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(INTERMEDIATE_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Every suite left is good, so the client chooses: ChaCha20 suits small phones.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_key_file(path: Path, status: os.stat_result, *, must_be_ours: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CertificateError(f"{path} is not a regular file; allowed is a file with one PEM key")
    if sys.platform == "win32":
        return
    if must_be_ours and status.st_uid != os.geteuid():
        raise CertificateError(
            f"{path} belongs to user id {status.st_uid}; allowed is a file of ours ({os.geteuid()})"
        )
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise CertificateError(
            f"{path} has mode {mode:04o}, so others may have copied the key; allowed is 0600:"
            f" replace the key, or if nobody else can reach it run: chmod 600 {path}"
        )


def _check_pair(leaf: x509.Certificate, key: PrivateKeyTypes, certificate: Path, path: Path) -> None:
    try:
        is_pair = key.public_key() == leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{certificate} has a public key of an unknown kind") from error
    if not is_pair:
        raise CertificateError(
            f"the key in {path} does not belong to the first certificate in {certificate};"
            " the server's own certificate stands first, its issuers after it"
        )


def _check_validity(leaf: x509.Certificate, now: datetime, path: Path) -> None:
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now < begin:
        raise CertificateError(f"{path} is not valid before {begin:%Y-%m-%d %H:%M} UTC")
    if now > end:
        raise CertificateError(f"{path} expired at {end:%Y-%m-%d %H:%M} UTC")


def _check_strength(key: CertificatePublicKeyTypes, path: Path, *, is_self_signed: bool) -> None:
    allowed = "ECDSA P-256, P-384 or P-521, Ed25519, Ed448, or RSA of 2048 bits and more"
    match key:
        case rsa.RSAPublicKey():
            least = MIN_SELF_SIGNED_RSA_BITS if is_self_signed else MIN_RSA_BITS
            if key.key_size < least:
                kind = " and is self-signed" if is_self_signed else ""
                raise CertificateError(
                    f"the key of {path} has {key.key_size} bits of RSA{kind}; the least is {least}"
                )
        case ec.EllipticCurvePublicKey():
            if not isinstance(key.curve, CURVES):
                raise CertificateError(f"the key of {path} lies on {key.curve.name}; allowed are {allowed}")
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            pass
        case _:
            raise CertificateError(f"the key of {path} is of another kind; allowed are {allowed}")


def _check_hosts(leaf: x509.Certificate, hosts: Collection[str], path: Path) -> None:
    if not hosts:
        return
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        # The common name is no substitute: browsers have not looked at it since 2017 (RFC 9525, 2).
        names = x509.SubjectAlternativeName([])
    patterns = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    addresses = names.get_values_for_type(x509.IPAddress)
    missing = [host for host in hosts if not _is_covered(host, patterns, addresses)]
    if missing:
        found = ", ".join([*patterns, *map(str, addresses)]) or "no names at all"
        raise CertificateError(f"{path} does not cover {', '.join(missing)}; it covers {found}")


def _is_covered(host: str, patterns: Sequence[str], addresses: Sequence[object]) -> bool:
    bare = host if host.count(":") > 1 and host[0] != "[" else re.sub(r":\d+$", "", host)
    try:
        return ipaddress.ip_address(bare.strip("[]")) in addresses
    except ValueError:
        name = bare.lower().removesuffix(".")
    _, dot, parent = name.partition(".")
    # A wildcard stands for exactly one label, the leftmost (RFC 9525, 6.3).
    return name in patterns or (dot == "." and f"*.{parent}" in patterns)


def _groups_of_client_hello(record: bytes) -> tuple[int, ...]:
    """Return the list in extension 10 of a ClientHello (RFC 8446, 4.1.2 and 4.2.7)."""
    at = 5 + 4 + 2 + 32  # record and handshake headers, version, random
    at += 1 + record[at]  # session id
    at += 2 + struct.unpack_from("!H", record, at)[0]  # cipher suites
    at += 1 + record[at]  # compression methods
    at += 2  # length of all extensions
    while at + 4 <= len(record):
        kind, length = struct.unpack_from("!HH", record, at)
        if kind == 10:
            return struct.unpack_from(f"!{(length - 2) // 2}H", record, at + 6)
        at += 4 + length
    return ()
