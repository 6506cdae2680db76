"""A certificate authority for tests: certificates of any age, name and key, written as servers read them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


class Authority:
    """A root, and the two files of one server that it fills.

    Attributes:
        root: PEM file of the root, for clients that verify.
        certificate: PEM file of the server.
        key: PEM file of its key.
    """

    def __init__(self, directory: Path) -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = directory / "root.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        self.root.write_bytes(self._pem("test root", self._root_key, is_ca=True))

    def issue(self, *names: str, key: Key | None = None, days: float = 30, self_signed: bool = False) -> Key:
        """Write a new pair, the key first, and return its key.

        Args:
            names: What it covers; localhost and 127.0.0.1 if there is none.
            key: A key to go on with; a new ECDSA P-256 if None.
            days: From now to the end; negative for a certificate of the past.
            self_signed: Signed by its own key instead of the root's.
        """
        used = key or ec.generate_private_key(ec.SECP256R1())
        replace(self.key, key_pem(used))
        replace(self.certificate, self.signed(*names, key=used, days=days, self_signed=self_signed))
        return used

    def signed(self, *names: str, key: Key, days: float = 30, self_signed: bool = False) -> bytes:
        """Return a certificate as PEM, and write nothing."""
        return self._pem(*(names or ("localhost", "127.0.0.1")), key=key, days=days, self_signed=self_signed)

    def _pem(self, *names: Any, days: float = 30, is_ca: bool = False, **options: Any) -> bytes:
        key: Key = options.get("key") or names[1]
        texts: Sequence[str] = names[:1] if is_ca else names
        issuer = texts[0] if options.get("self_signed") else "test root"
        end = datetime.now(UTC) + days * DAY
        builder = (
            x509.CertificateBuilder(
                _name(issuer), _name(texts[0]), key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(min(end, datetime.now(UTC)) - DAY)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([*map(_general_name, texts)]), critical=False)
        )
        signer = key if options.get("self_signed") else self._root_key
        return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def key_pem(key: Key) -> bytes:
    """Return a private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def replace(path: Path, content: bytes) -> None:
    """Put a whole file in place of another in one step, with mode 0600."""
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(path)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
