"""A certificate authority for development, so that `https://localhost` works as production does.

One authority for each user and machine. Who trusts it risks little: critical name constraints let
it vouch for localhost and loopback addresses only, so even its stolen key imitates no other site.
The key stays in the user's state directory (mode 0600) and never enters a project, a container
image or git; a project gets the certificate alone, and a leaf that lasts 30 days.

Does not protect: against programs that run as the same user; they can read the key. A client that
ignores name constraints would accept other names; OpenSSL, browsers, macOS and Windows honour them.

Sources: RFC 5280 4.2.1.9 (path length), 4.2.1.10 (name constraints); RFC 6761 6.3 (localhost);
XDG base directories; requirement TLS-28.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thebes.encoding import random_bytes
from thebes.errors import CertificateError
from thebes.https.certificates import (
    is_issued_by,
    parse_certificate,
    parse_key,
    read_file,
    read_key_file,
    replace_file,
)
from thebes.secret import Secret

AUTHORITY_LIFETIME = timedelta(days=730)  # trusting it is manual work, so not every few weeks
AUTHORITY_RENEWED_BEFORE = timedelta(days=30)  # as long as a leaf lives, so a leaf never outlives it
LEAF_LIFETIME = timedelta(days=30)  # TLS-28 allows 90
LEAF_RENEWED_BEFORE = LEAF_LIFETIME / 3
CLOCK_SKEW = timedelta(hours=1)  # containers and virtual machines on the same desk

AUTHORITY_FILE = "local-ca.key"  # key and certificate in one file: one rename replaces both

_CONSTRAINTS = x509.NameConstraints(
    # A form that is not listed is unconstrained (RFC 5280, 4.2.1.10): both forms of a server's name
    # must stand here. What the others could do (mail addresses) the extended key usage forbids.
    permitted_subtrees=[
        x509.DNSName("localhost"),  # and every name under it
        x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
        x509.IPAddress(ipaddress.ip_network("::1/128")),
    ],
    excluded_subtrees=None,
)
LOCAL_NAME = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+localhost")
_SERVER_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


class LocalAuthority:
    """A development CA that can vouch only for localhost names and loopback addresses.

    Attributes:
        certificate: What a browser has to trust.
        is_new: This call made it, so nobody trusts it yet.
    """

    __slots__ = ("_key", "certificate", "is_new")

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, is_new: bool
    ) -> None:
        self.certificate = certificate
        self.is_new = is_new
        self._key = key

    @classmethod
    def open(cls, directory: Path | None = None, *, now: datetime | None = None) -> LocalAuthority:
        """Return this user's CA; make it if there is none, or if it ends within 30 days.

        Processes that open it at the same time get the same one.

        Args:
            directory: Where the key lies, mode 0700; `state_directory()` if None.
            now: With a time zone; the system clock if None.

        Raises:
            CertificateError: The key was open to others, is damaged, or can't be written.
        """
        place = state_directory() if directory is None else directory
        moment = now or datetime.now(UTC)
        try:
            _make_private_directory(place)
            with _locked(place / "local-ca.lock"):
                known = cls._load(place / AUTHORITY_FILE)
                if known is not None and known._is_current(moment):
                    return known
                made = cls._make(moment)
                content = _key_pem(made._key) + made.certificate_pem
                replace_file(place / AUTHORITY_FILE, content, mode=0o600)
                return made
        except OSError as error:
            raise CertificateError(
                f"cannot keep the local CA in {place}: {error.strerror}; a directory that you can"
                " write is needed, XDG_STATE_HOME (Windows: LOCALAPPDATA) names another"
            ) from error

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate in PEM form, without the key: safe to hand out."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as browsers show it: upper-case pairs with colons."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def issue(self, *, names: Sequence[str] = (), now: datetime | None = None) -> tuple[bytes, Secret]:
        """Return a certificate for localhost and its key, both in PEM form, valid for 30 days.

        Args:
            names: More names, each under `.localhost`. Clients refuse to take `*.localhost` for
                them, since a wildcard right under a top-level domain could be a whole registry.
            now: With a time zone; the system clock if None.

        Raises:
            CertificateError: A name isn't under `.localhost`.
        """
        moment = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder("localhost", self.certificate.subject, key.public_key())
            .not_valid_before(moment - CLOCK_SKEW)
            .not_valid_after(min(moment + LEAF_LIFETIME, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(_SERVER_ONLY, critical=False)
            .add_extension(_subject_names(names), critical=False)
            .add_extension(issuer, critical=False)
        )
        leaf = builder.sign(self._key, hashes.SHA256())
        return leaf.public_bytes(Encoding.PEM), Secret(_key_pem(key))

    @classmethod
    def _make(cls, moment: datetime) -> LocalAuthority:
        key = ec.generate_private_key(ec.SECP256R1())
        # The suffix tells several trusted ones apart; a user or host name would be personal data.
        name = f"Thebes development CA {random_bytes(4).hex()}"
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(name, issuer, key.public_key())
            .not_valid_before(moment - CLOCK_SKEW)
            .not_valid_after(moment + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(_CONSTRAINTS, critical=True)
            .add_extension(_SERVER_ONLY, critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key, is_new=True)

    @classmethod
    def _load(cls, path: Path) -> LocalAuthority | None:
        if not os.path.lexists(path):
            return None
        pem = read_key_file(path, must_be_ours=True)
        damaged = CertificateError(f"{path} is damaged; remove it, then a new local CA is made")
        try:
            key, certificate = parse_key(pem, path), parse_certificate(pem, path)
        except CertificateError as error:
            raise damaged from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise damaged
        return cls(certificate, key, is_new=False)

    def _is_current(self, moment: datetime) -> bool:
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.NameConstraints)
        except x509.ExtensionNotFound:
            return False
        return (
            found.critical
            and found.value == _CONSTRAINTS
            and self.certificate.not_valid_before_utc <= moment
            and moment + AUTHORITY_RENEWED_BEFORE <= self.certificate.not_valid_after_utc
        )


@dataclass(frozen=True, slots=True)
class LocalCertificate:
    """A project's files for `https://localhost`; `ca_is_new`: nobody trusts the CA yet."""

    certificate_path: Path
    key_path: Path
    ca_path: Path
    ca_fingerprint: str
    ca_is_new: bool


def ensure_local_certificate(
    project_state: Path,
    *,
    names: Sequence[str] = (),
    authority_directory: Path | None = None,
    now: datetime | None = None,
) -> LocalCertificate:
    """Write `ca.pem`, `localhost.pem` and `localhost.key` into a project; keep what still serves.

    Kept while more than a third of its life remains, and this user's CA signed it for these names or more.

    Args:
        project_state: The directory `.thebes/` of the project, made if missing.
        names: More names under `.localhost` (see `LocalAuthority.issue`).
        authority_directory: See `LocalAuthority.open`.
        now: With a time zone; the system clock if None.

    Raises:
        CertificateError: A file can't be written, or the CA's key can't be trusted.
    """
    moment = now or datetime.now(UTC)
    authority = LocalAuthority.open(authority_directory, now=moment)
    local = LocalCertificate(
        certificate_path=project_state / "localhost.pem",
        key_path=project_state / "localhost.key",
        ca_path=project_state / "ca.pem",
        ca_fingerprint=authority.fingerprint,
        ca_is_new=authority.is_new,
    )
    try:
        project_state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(project_state / "localhost.lock"):
            _write_project_files(local, authority, names, moment)
    except OSError as error:
        raise CertificateError(
            f"cannot write the local certificate into {project_state}: {error.strerror}"
        ) from error
    return local


def state_directory() -> Path:
    """Return where this user's programs keep state: `thebes` under the platform's own directory.

    Raises:
        CertificateError: The user has no home directory.
    """
    if sys.platform == "win32":
        named, below = os.environ.get("LOCALAPPDATA"), ("AppData", "Local")
    elif sys.platform == "darwin":
        named, below = None, ("Library", "Application Support")
    else:
        named, below = os.environ.get("XDG_STATE_HOME"), (".local", "state")
    # A relative path must be ignored (XDG base directories): it would put the key into a project.
    if named and Path(named).is_absolute():
        return Path(named, "thebes")
    try:
        return Path.home().joinpath(*below, "thebes")
    except RuntimeError as error:
        raise CertificateError("this user has no home directory; set HOME") from error


def trust_hint(ca_path: Path, *, platform: str = sys.platform) -> str:
    """Return the commands, one a line, that make browsers of this platform trust the CA.

    Args:
        ca_path: The certificate, as in `LocalCertificate.ca_path`.
        platform: As in `sys.platform`.

    Raises:
        CertificateError: There is no certificate.
    """
    path = shlex.quote(str(ca_path))
    if platform == "win32":
        return f'certutil -user -addstore Root "{ca_path}"'
    if platform == "darwin":
        keychain = "~/Library/Keychains/login.keychain-db"
        return f"security add-trusted-cert -r trustRoot -k {keychain} {path}"
    anchor = "/usr/local/share/ca-certificates/thebes-development-ca.crt"
    subject = parse_certificate(read_file(ca_path), ca_path).subject
    name = shlex.quote(str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value))
    store = 'sql:"$HOME/.pki/nssdb"'
    return "\n".join(
        (
            "# curl, git, Python (Debian and Ubuntu; on Fedora and Arch the second line)",
            f"sudo cp {path} {anchor} && sudo update-ca-certificates",
            f"sudo trust anchor {path}",
            "# Chromium and Chrome (certutil is in libnss3-tools or nss-tools)",
            f"certutil -d {store} -A -t C,, -n {name} -i {path}",
            "# Firefox: Settings, Certificates, View Certificates, Authorities, Import",
        )
    )


def _builder(common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital_signature" in uses,
        key_cert_sign="key_cert_sign" in uses,
        crl_sign="crl_sign" in uses,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    for name in names:
        if not LOCAL_NAME.fullmatch(name):
            raise CertificateError(f"the local CA can't sign {name!r}; allowed are names under .localhost")
    return x509.SubjectAlternativeName(
        [
            *map(x509.DNSName, dict.fromkeys(("localhost", "*.localhost", *names))),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_project_files(
    local: LocalCertificate, authority: LocalAuthority, names: Sequence[str], moment: datetime
) -> None:
    # The directory holds a key, so git has to leave it out, whoever makes it first.
    ignored = local.key_path.with_name(".gitignore")
    if not ignored.exists():
        ignored.write_text("*\n")
    if not (local.ca_path.is_file() and local.ca_path.read_bytes() == authority.certificate_pem):
        replace_file(local.ca_path, authority.certificate_pem, mode=0o644)
    if not _serves(local, authority, names, moment):
        certificate, key = authority.issue(names=names, now=moment)
        replace_file(local.key_path, key.reveal(), mode=0o600)
        replace_file(local.certificate_path, certificate, mode=0o644)


def _serves(
    local: LocalCertificate, authority: LocalAuthority, names: Sequence[str], moment: datetime
) -> bool:
    """Whatever is wrong with the files of a project, a new pair mends it."""
    try:
        leaf = parse_certificate(read_file(local.certificate_path), local.certificate_path)
        key = parse_key(read_key_file(local.key_path, must_be_ours=True), local.key_path)
    except CertificateError:
        return False
    if not is_issued_by(leaf, authority.certificate):
        return False
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        key.public_key() == leaf.public_key()
        and set(_subject_names(names)) <= set(found)
        and leaf.not_valid_before_utc <= moment
        and moment + LEAF_RENEWED_BEFORE <= leaf.not_valid_after_utc
    )


def _make_private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "nt" and path.stat().st_mode & 0o077:
        raise CertificateError(
            f"{path} is open to others, who could replace the local CA; run: chmod 700 {path}"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold this file's lock; the system lets go of it when the process ends, however it ends."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "r+b") as file:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield
