"""The local CA: what its certificates say, who may vouch for what, and where keys lie."""

import hashlib
import ipaddress
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thebes.errors import CertificateError
from thebes.https.certificates import server_context
from thebes.https.local_ca import (
    AUTHORITY_FILE,
    LocalAuthority,
    ensure_local_certificate,
    state_directory,
    trust_hint,
)

TODAY = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
has_modes = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def project(tmp_path) -> Path:
    return tmp_path / "project" / ".thebes"


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def extension(certificate: x509.Certificate, kind: type) -> x509.Extension:
    return certificate.extensions.get_extension_for_class(kind)


class TestAuthority:
    def test_its_critical_constraints_allow_localhost_and_loopback_addresses_only(self, state):
        found = extension(LocalAuthority.open(state).certificate, x509.NameConstraints)

        assert found.critical
        assert found.value.excluded_subtrees is None
        assert found.value.permitted_subtrees == [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
            x509.IPAddress(ipaddress.ip_network("::1/128")),
        ]

    def test_it_signs_certificates_of_servers_and_no_further_authority(self, state):
        certificate = LocalAuthority.open(state).certificate
        basic, usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)

        assert basic.critical
        assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert usage.value.crl_sign
        assert not usage.value.digital_signature
        assert [*extension(certificate, x509.ExtendedKeyUsage).value] == [ExtendedKeyUsageOID.SERVER_AUTH]
        certificate.verify_directly_issued_by(certificate)

    @pytest.mark.requirement("TLS-06")
    def test_every_generated_key_is_on_p_256(self, state):
        authority = LocalAuthority.open(state)
        _, key_pem = authority.issue()
        keys = [authority.certificate.public_key(), load_pem_private_key(key_pem.reveal(), None).public_key()]

        assert all(isinstance(key.curve, ec.SECP256R1) for key in keys)
        assert keys[0] != keys[1]

    def test_its_name_tells_it_from_others_and_says_nothing_of_the_user(self, tmp_path):
        subjects = [LocalAuthority.open(tmp_path / name).certificate.subject for name in ("one", "two")]

        assert subjects[0] != subjects[1]
        for subject in subjects:
            assert [attribute.oid for attribute in subject] == [NameOID.COMMON_NAME]
            assert subject.rfc4514_string().startswith("CN=Thebes development CA ")

    def test_it_is_kept_until_thirty_days_remain_and_then_made_anew(self, state):
        first = LocalAuthority.open(state, now=TODAY)
        same = LocalAuthority.open(state, now=TODAY + 699 * DAY)
        next_one = LocalAuthority.open(state, now=TODAY + 701 * DAY)

        assert (first.is_new, same.is_new, next_one.is_new) == (True, False, True)
        assert first.certificate_pem == same.certificate_pem
        assert first.fingerprint != next_one.fingerprint
        assert LocalAuthority.open(state, now=TODAY + 701 * DAY).fingerprint == next_one.fingerprint

    def test_its_fingerprint_is_sha_256_in_pairs_with_colons(self, state):
        authority = LocalAuthority.open(state)
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority.certificate_pem.decode())).hexdigest()
        assert authority.fingerprint.replace(":", "").lower() == digest
        assert authority.fingerprint[2::3] == ":" * 31

    def test_an_authority_without_these_constraints_is_not_used(self, state):
        LocalAuthority.open(state)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "unlimited")])
        unlimited = (
            x509.CertificateBuilder(name, name, key.public_key(), 1, TODAY - DAY, TODAY + 700 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        stored = LocalAuthority(unlimited, key, is_new=False)
        (state / AUTHORITY_FILE).write_bytes(key_pem_of(key) + stored.certificate_pem)

        assert LocalAuthority.open(state).fingerprint != stored.fingerprint


def key_pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@has_modes
class TestWhereTheKeyLies:
    def test_the_key_is_made_private_in_a_private_directory(self, state):
        LocalAuthority.open(state)

        assert mode_of(state) == 0o700
        assert {path.name: mode_of(path) for path in state.iterdir()} == {
            AUTHORITY_FILE: 0o600,
            "local-ca.lock": 0o600,
        }

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
    def test_a_key_that_others_may_read_is_refused(self, state, mode):
        LocalAuthority.open(state)
        (state / AUTHORITY_FILE).chmod(mode)
        with pytest.raises(CertificateError, match=f"has mode {mode:04o}"):
            LocalAuthority.open(state)

    def test_a_directory_that_others_may_enter_is_refused(self, state):
        state.mkdir(mode=0o755)
        with pytest.raises(CertificateError, match=f"run: chmod 700 {state}"):
            LocalAuthority.open(state)

    def test_a_link_or_a_pipe_in_the_place_of_the_key_is_refused(self, state, tmp_path):
        LocalAuthority.open(state)
        file = state / AUTHORITY_FILE
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CertificateError, match="cannot read"):
            LocalAuthority.open(state)

        file.unlink()
        os.mkfifo(file, 0o600)
        with pytest.raises(CertificateError, match="not a regular file"):
            LocalAuthority.open(state)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
    def test_a_key_that_another_user_owns_is_refused(self, state):
        LocalAuthority.open(state)
        os.chown(state / AUTHORITY_FILE, 12345, -1)
        with pytest.raises(CertificateError, match="belongs to user id 12345"):
            LocalAuthority.open(state)

    @pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
    def test_a_damaged_file_is_named_and_never_replaced(self, state, content):
        LocalAuthority.open(state)
        (state / AUTHORITY_FILE).write_bytes(content)
        with pytest.raises(CertificateError, match="is damaged; remove it"):
            LocalAuthority.open(state)
        assert (state / AUTHORITY_FILE).read_bytes() == content

    def test_the_certificate_of_another_key_is_damage_too(self, state, tmp_path):
        _, first_key = LocalAuthority.open(state).issue()
        other = LocalAuthority.open(tmp_path / "other")
        (state / AUTHORITY_FILE).write_bytes(first_key.reveal() + other.certificate_pem)
        with pytest.raises(CertificateError, match="is damaged"):
            LocalAuthority.open(state)

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CertificateError, match="cannot keep the local CA in"):
            LocalAuthority.open(tmp_path / "file" / "state")


class TestStateDirectory:
    @pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is for the other platforms")
    def test_it_follows_xdg_and_ignores_a_relative_path(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        for value, expected in [
            ("", tmp_path / ".local" / "state" / "thebes"),
            ("here", tmp_path / ".local" / "state" / "thebes"),
            ("/var/state", Path("/var/state/thebes")),
        ]:
            monkeypatch.setenv("XDG_STATE_HOME", value)
            assert state_directory() == expected


class TestLeaf:
    def test_it_covers_localhost_and_both_loopback_addresses(self, state):
        pem, _ = LocalAuthority.open(state).issue(names=["app.localhost"])
        names = extension(x509.load_pem_x509_certificate(pem), x509.SubjectAlternativeName).value

        assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.localhost", "app.localhost"]
        assert [*map(str, names.get_values_for_type(x509.IPAddress))] == ["127.0.0.1", "::1"]

    def test_it_is_a_server_s_and_lives_far_less_than_ninety_days(self, state):
        authority = LocalAuthority.open(state)
        leaf = x509.load_pem_x509_certificate(authority.issue()[0])
        key_id = extension(authority.certificate, x509.SubjectKeyIdentifier).value.digest

        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= 31 * DAY
        assert extension(leaf, x509.BasicConstraints).value.ca is False
        assert [*extension(leaf, x509.ExtendedKeyUsage).value] == [ExtendedKeyUsageOID.SERVER_AUTH]
        assert extension(leaf, x509.AuthorityKeyIdentifier).value.key_identifier == key_id
        assert extension(leaf, x509.SubjectKeyIdentifier)
        leaf.verify_directly_issued_by(authority.certificate)

    def test_each_has_a_serial_number_and_a_key_of_its_own(self, state):
        authority = LocalAuthority.open(state)
        leaves = [x509.load_pem_x509_certificate(authority.issue()[0]) for _ in range(5)]

        assert len({leaf.serial_number for leaf in leaves}) == 5
        assert len({leaf.public_key().public_numbers() for leaf in leaves}) == 5

    def test_it_never_outlives_its_authority(self, state):
        authority = LocalAuthority.open(state, now=TODAY)
        leaf = x509.load_pem_x509_certificate(authority.issue(now=TODAY + 720 * DAY)[0])
        assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc

    @pytest.mark.parametrize(
        "name",
        [
            "example.com",
            "localhost.example.com",
            "App.localhost",
            ".localhost",
            "*.a.localhost",
            "evil.com\n.localhost",
        ],
    )
    def test_a_name_outside_localhost_is_refused(self, state, name):
        with pytest.raises(CertificateError, match="allowed are names under"):
            LocalAuthority.open(state).issue(names=[name])


class TestProjectFiles:
    def test_a_project_gets_the_ca_s_certificate_but_never_its_key(self, state, project):
        local = ensure_local_certificate(project, authority_directory=state)
        secret = (state / AUTHORITY_FILE).read_bytes().split(b"-----")[2]

        assert local.ca_is_new
        assert local.ca_path.read_bytes() == LocalAuthority.open(state).certificate_pem
        assert local.ca_fingerprint == LocalAuthority.open(state).fingerprint
        assert all(secret not in path.read_bytes() for path in project.iterdir())
        assert (project / ".gitignore").read_text() == "*\n"

    @has_modes
    def test_the_key_of_the_leaf_is_private_and_no_draft_is_left(self, state, project):
        ensure_local_certificate(project, authority_directory=state)

        assert {path.name: mode_of(path) for path in project.iterdir() if path.suffix != ".lock"} == {
            ".gitignore": mode_of(project / ".gitignore"),
            "ca.pem": 0o644,
            "localhost.pem": 0o644,
            "localhost.key": 0o600,
        }

    def test_files_are_kept_until_a_third_of_their_life_remains(self, state, project):
        def pair_at(now: datetime) -> tuple[bytes, bytes]:
            local = ensure_local_certificate(project, authority_directory=state, now=now)
            return local.certificate_path.read_bytes(), local.key_path.read_bytes()

        first, early, late = pair_at(TODAY), pair_at(TODAY + 19 * DAY), pair_at(TODAY + 21 * DAY)

        assert first == early
        assert first[0] != late[0]
        assert first[1] != late[1]

    def test_a_second_project_shares_the_ca_and_has_nothing_new_to_trust(self, state, project, tmp_path):
        first = ensure_local_certificate(project, authority_directory=state)
        second = ensure_local_certificate(tmp_path / "second", authority_directory=state)

        assert not second.ca_is_new
        assert first.ca_fingerprint == second.ca_fingerprint
        assert first.key_path.read_bytes() != second.key_path.read_bytes()

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda project: (project / "localhost.key").unlink(), id="the key is gone"),
            pytest.param(
                lambda project: (project / "localhost.pem").write_text("x"), id="the certificate is none"
            ),
            pytest.param(
                lambda project: (project / "localhost.key").chmod(0o644),
                id="others could read the key",
                marks=has_modes,
            ),
            pytest.param(
                lambda project: (project / "ca.pem").write_text("x"), id="the copy of the CA is none"
            ),
        ],
    )
    def test_spoilt_files_are_mended(self, state, project, spoil):
        ensure_local_certificate(project, authority_directory=state)
        spoil(project)

        local = ensure_local_certificate(project, authority_directory=state)

        assert server_context(local.certificate_path, local.key_path, hosts=["localhost"])
        assert local.ca_path.read_bytes() == LocalAuthority.open(state).certificate_pem

    def test_a_new_ca_or_another_name_gives_a_new_certificate(self, state, project):
        def leaf(**settings: object) -> bytes:
            return ensure_local_certificate(
                project, authority_directory=state, **settings
            ).certificate_path.read_bytes()

        first, named = leaf(), leaf(names=["app.localhost"])
        (state / AUTHORITY_FILE).unlink()
        signed_anew = leaf(names=["app.localhost"])

        assert len({first, named, signed_anew}) == 3
        x509.load_pem_x509_certificate(signed_anew).verify_directly_issued_by(
            LocalAuthority.open(state).certificate
        )

    def test_a_project_that_cannot_be_written_is_named(self, state, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CertificateError, match="cannot write the local certificate into"):
            ensure_local_certificate(tmp_path / "file" / ".thebes", authority_directory=state)


class TestTrustHint:
    @pytest.mark.parametrize(
        ("platform", "parts"),
        [
            ("linux", ["update-ca-certificates", "trust anchor", "certutil -d sql:", "Firefox"]),
            ("darwin", ["security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db"]),
            ("win32", ["certutil -user -addstore Root"]),
        ],
    )
    def test_each_platform_gets_its_commands_with_the_path_quoted(self, state, tmp_path, platform, parts):
        local = ensure_local_certificate(tmp_path / "my project", authority_directory=state)
        hint = trust_hint(local.ca_path, platform=platform)

        assert all(part in hint for part in parts)
        quote = '"' if platform == "win32" else "'"
        assert f"{quote}{local.ca_path}{quote}" in hint


def test_the_room_is_imported_without_cryptography():
    code = "import sys, thebes.https; print('cryptography' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.strip() == b"False"
