"""What a commit must not take along. Samples are put together here, so that no scanner finds them in this file."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.encoding import encode, random_bytes
from thebes.errors import ConfigurationError
from thebes.secrets.scan import MAX_BLOB_BYTES, Finding, scan_bytes, scan_staged
from thebes.secrets.strength import SAMPLE_KEYS

KEY = "BGR2" * 10 + "abc"
TOKEN = "a1B2" * 9
LABEL = "-----BEGIN " + "{}PRIVATE KEY{}-----"
BASE64 = "MC4CAQAwBQYDK2VwBCIEI" * 3
AWS = "AK" + "IA" + "Q3EGRZ7T" * 2

SECRETS = [
    pytest.param("THEBES_SECRET" + f"_KEYS=k1:{KEY}", "secret key", "k1:", id="our variable"),
    pytest.param("THEBES_SECRET" + f"_KEYS: 'k1:{KEY}'", "secret key", "k1:", id="our variable in YAML"),
    pytest.param(f'["THEBES_SECRET_KEYS"] = "my-key:{KEY}"', "secret key", "my-key:", id="our variable in code"),
    pytest.param(f"k20261124-2:{KEY}", "secret key", "k20261124-2:", id="our key id"),
    pytest.param(LABEL.format("", "") + "\n" + BASE64, "private key", LABEL.format("", ""), id="PKCS 8"),
    pytest.param(LABEL.format("RSA ", "") + "\n" + BASE64, "private key", LABEL.format("RSA ", ""), id="PKCS 1"),
    pytest.param(LABEL.format("EC ", "") + "\n" + BASE64, "private key", LABEL.format("EC ", ""), id="SEC 1"),
    pytest.param(LABEL.format("OPENSSH ", "") + "\n" + BASE64, "private key", LABEL.format("OPENSSH ", ""), id="OpenSSH"),
    pytest.param(LABEL.format("ENCRYPTED ", "") + "\n" + BASE64, "private key", LABEL.format("ENCRYPTED ", ""), id="encrypted"),
    pytest.param(LABEL.format("PGP ", " BLOCK") + "\n" + BASE64, "private key", LABEL.format("PGP ", " BLOCK"), id="PGP"),
    pytest.param(LABEL.format("RSA ", "") + "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n" + BASE64, "private key", LABEL.format("RSA ", ""), id="with headers"),
    pytest.param(LABEL.format("", "") + "\\n" + BASE64, "private key", LABEL.format("", ""), id="in a string of code"),
    pytest.param(f'aws = "{AWS}"', "AWS access key id", "AKIA", id="AWS"),
    pytest.param("AS" + "IA" + "Q3EGRZ7T" * 2, "AWS access key id", "ASIA", id="AWS, temporary"),
    pytest.param(f"ghp_{TOKEN}", "GitHub token", "ghp_", id="GitHub"),
    pytest.param(f"ghs_{TOKEN}", "GitHub token", "ghs_", id="GitHub, server"),
    pytest.param("github_pat_" + "a1B_" * 20 + "xy", "GitHub token", "github_pat_", id="GitHub, fine-grained"),
    pytest.param("xoxb-" + "123456789012-abcdefABCDEF", "Slack token", "xoxb-", id="Slack bot"),
    pytest.param("xapp-" + "1-A01234567-123456-abcdef", "Slack token", "xapp-", id="Slack app"),
    pytest.param("postgres://ada:" + "hunter2@db:5432/app", "password in a URL", "postgres://", id="database"),
    pytest.param("redis://:" + "hunter2@[::1]/0", "password in a URL", "redis://", id="without a user"),
    pytest.param("url='postgresql+asyncpg://a:" + "h:u$n@db'", "password in a URL", "postgresql+asyncpg://", id="driver"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "shown"), SECRETS)
def test_a_seeded_secret_is_found_with_its_line_and_masked(text, kind, shown):
    data = f"first = 1\r\n\n# {text}\nlast = 2\n".encode()
    assert scan_bytes("app/settings.py", data) == [Finding("app/settings.py", 3, kind, f"{shown}****")]


@pytest.mark.parametrize(("text", "kind", "shown"), SECRETS)
def test_nothing_of_the_secret_part_is_shown(text, kind, shown):
    (finding,) = scan_bytes("a", text.encode())
    hidden = text.partition(shown)[2].strip("'\"")
    assert not hidden or hidden[-8:] not in str(finding)
    assert str(finding) == f"a:1: {kind} {shown}****"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("THEBES_SECRET_KEYS=k1:...", id="dots"),
        pytest.param("THEBES_SECRET_KEYS=id:base64url-of-at-least-32-random-bytes", id="a description"),
        pytest.param(f"THEBES_SECRET_KEYS=k1:{SAMPLE_KEYS[0]}", id="the sample of our documentation"),
        pytest.param("THEBES_SECRET_KEYS_FILE=/run/secrets/keys", id="a file name"),
        pytest.param("-----BEGIN " + "PUBLIC KEY-----", id="public key"),
        pytest.param(f'assert "{LABEL.format("", "")}" in text', id="a test that names the label"),
        pytest.param(LABEL.format("", "") + "\nAAAA\n", id="an example without a key"),
        pytest.param("-----BEGIN CERTIFICATE-----", id="certificate"),
        pytest.param("AKIA" + "IOSFODNN7" + "EXAMPLE", id="the sample of AWS"),
        pytest.param("XAKIAQ3EGRZ7TQ3EGRZ7TX", id="inside a longer word"),
        pytest.param("ghp_short and github_pat_short", id="too short for GitHub"),
        pytest.param("xoxb-your-token-goes-here-please", id="placeholder for Slack"),
        pytest.param("postgres://user:password@localhost/app", id="the word password"),
        pytest.param("postgres://ada:${DB_PASSWORD}@db/app", id="a variable"),
        pytest.param('f"postgres://{user}:{password}@{host}"', id="an f-string"),
        pytest.param("postgres://ada:****@db/app", id="a mask"),
        pytest.param("http://localhost:8000/@ada, https://example.com:443/a@b", id="a port"),
        pytest.param("git@github.com:ada/app.git ssh://git@host/x", id="no password"),
    ],
)
def test_what_only_looks_like_a_secret_passes(text):
    assert scan_bytes("docs/guide.md", text.encode()) == []


@pytest.mark.parametrize("path", [".env", "deploy/.env", ".env.production", "a/.env.local"])
def test_an_env_file_is_a_finding_whatever_it_holds(path):
    assert scan_bytes(path, b"DEBUG=1\n") == [Finding(path, 1, ".env file", "****")]


@pytest.mark.parametrize("path", [".env.example", ".env.sample", "env", ".envrc", "my.env.py", ".env/x"])
def test_a_template_or_another_name_is_no_env_file(path):
    assert scan_bytes(path, b"DEBUG=1\n") == []


def test_an_empty_env_file_passes():
    assert scan_bytes(".env", b"\n") == []


def test_each_line_is_reported_once_a_kind():
    line = f"THEBES_SECRET_KEYS=k20261124:{KEY},k20261125:{KEY}\n"
    found = scan_bytes("a", (line + line).encode())
    assert [(finding.line, finding.shown) for finding in found] == [
        (1, "k20261124:****"),
        (2, "k20261124:****"),
    ]


def test_odd_names_are_escaped_for_the_terminal():
    (finding,) = scan_bytes("\x1b[2Jé\u202e\udcff/.env", b"A=1")
    assert finding.path == "\\x1b[2Jé\\u202e\\udcff/.env"


@given(st.binary(max_size=300))
def test_any_bytes_are_scanned(data):
    for finding in scan_bytes("a", data):
        assert 1 <= finding.line <= data.count(b"\n") + 1


@given(st.binary(min_size=32, max_size=64))
def test_every_key_that_init_makes_is_found(raw):
    (finding,) = scan_bytes("a", f"k20261124:{encode(raw)}\n".encode())
    assert encode(raw)[:8] not in str(finding)


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"THEBES_SECRET_KEYS", id="our name again and again"),
        pytest.param(b"THEBES_SECRET_KEYS===================", id="separators"),
        pytest.param(b"THEBES_SECRET_KEYS=" + b"-" * 32, id="ids without an end"),
        pytest.param(b"k20261124:", id="ids"),
        pytest.param(b"k20261124", id="ids without a colon"),
        pytest.param(b"-----BEGIN ", id="PEM starts"),
        pytest.param(b"-----BEGIN A A A ", id="PEM labels"),
        pytest.param(LABEL.format("", "").encode(), id="PEM labels without a key"),
        pytest.param(LABEL.format("", "").encode() + (b"A" * 31 + b" ") * 6, id="PEM with short words"),
        pytest.param(b"AKIA", id="AWS"),
        pytest.param(b"ghp_", id="GitHub"),
        pytest.param(b"github_pat_", id="GitHub, fine-grained"),
        pytest.param(b"xoxb-1", id="Slack"),
        pytest.param(b"a", id="scheme characters"),
        pytest.param(b"a.", id="scheme characters with dots"),
        pytest.param(b"ab://", id="scheme after scheme"),
        pytest.param(b"ab://:aaaaaaaa", id="passwords without an end"),
        pytest.param(b"\n", id="empty lines"),
    ],
)
def test_the_worst_megabyte_of_each_pattern_costs_seconds_at_most(piece):
    """Quadratic time would be hours; measured it is below 0.2 s."""
    data = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
    start = time.process_time()
    scan_bytes("a", data)
    assert time.process_time() - start < 5


class TestStaged:
    def test_only_what_is_staged_is_looked_at(self, tmp_path, git):
        (tmp_path / "staged.py").write_text(f"\nkey = '{AWS}'\n")
        (tmp_path / "beside.py").write_text(f"key = '{AWS}'\n")
        git("add", "staged.py")
        (tmp_path / "staged.py").write_text("key = load()\n")

        assert scan_staged(tmp_path) == [Finding("staged.py", 2, "AWS access key id", "AKIA****")]

    def test_what_was_committed_before_is_not_reported_again(self, tmp_path, git):
        (tmp_path / "old.py").write_text(AWS)
        git("add", ".")
        git("commit", "--quiet", "-m", "old")
        (tmp_path / "new.py").write_text("fine = True\n")
        git("add", ".")

        assert scan_staged(tmp_path) == []

    def test_changed_renamed_and_relinked_files_are_looked_at_and_deleted_ones_are_not(self, tmp_path, git):
        for name in ("changed", "renamed", "deleted", "link"):
            (tmp_path / name).write_text(f"{name}\n" * 50)
        git("add", ".")
        git("commit", "--quiet", "-m", "first")
        (tmp_path / "changed").write_text(AWS)
        git("mv", "renamed", ".env.local")
        git("rm", "--quiet", "deleted")
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("postgres://ada:" + "hunter2@db")
        git("add", "changed", "link")

        assert [(finding.path, finding.kind) for finding in scan_staged(tmp_path)] == [
            (".env.local", ".env file"),
            ("changed", "AWS access key id"),
            ("link", "password in a URL"),
        ]

    def test_from_a_subdirectory_all_of_the_index_is_scanned(self, tmp_path, git):
        git("config", "diff.relative", "true")
        (tmp_path / "sub").mkdir()
        (tmp_path / ".env").write_text("A=1")
        git("add", ".env")
        assert [finding.path for finding in scan_staged(tmp_path / "sub")] == [".env"]

    @pytest.mark.parametrize("name", ["a b", "1:x", "-x", "[x]*", "é", "new\nline", "\udcff"])
    def test_files_with_odd_names_are_scanned(self, tmp_path, git, name):
        (tmp_path / name).write_text(AWS)
        git("add", "--all")
        (finding,) = scan_staged(tmp_path)
        assert finding.kind == "AWS access key id"

    def test_two_files_with_the_same_content_are_both_reported(self, tmp_path, git):
        for name in ("one", "two"):
            (tmp_path / name).write_text(AWS)
        git("add", ".")
        assert [finding.path for finding in scan_staged(tmp_path)] == ["one", "two"]

    def test_binary_files_are_scanned_and_very_large_ones_are_not(self, tmp_path, git):
        (tmp_path / "binary").write_bytes(f"\0{LABEL.format('', '')}\n{BASE64}".encode() + random_bytes(100))
        (tmp_path / "large").write_bytes(AWS.encode() + b"\n" * MAX_BLOB_BYTES)
        git("add", ".")
        assert [finding.path for finding in scan_staged(tmp_path)] == ["binary"]

    def test_a_submodule_is_left_alone(self, tmp_path, git):
        git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
        assert scan_staged(tmp_path) == []

    def test_nothing_staged_is_nothing_found(self, tmp_path, git):
        assert scan_staged(tmp_path) == []

    def test_outside_of_a_repository_it_is_an_error_and_not_a_clean_result(self, tmp_path):
        with pytest.raises(ConfigurationError, match="git failed"):
            scan_staged(tmp_path)

    def test_without_git_it_is_an_error_and_not_a_clean_result(self, tmp_path, git, monkeypatch):
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(ConfigurationError, match="git is missing"):
            scan_staged(tmp_path)

    def test_programs_that_the_repository_configures_are_not_started(self, tmp_path, git):
        mark = tmp_path / "started"
        for name in ("core.fsmonitor", "diff.external", "core.pager", "diff.x.textconv"):
            git("config", name, f"touch {mark}; :")
        (tmp_path / ".gitattributes").write_text("* diff=x\n")
        (tmp_path / "a").write_text(AWS)
        git("-c", "core.fsmonitor=false", "add", "a", ".gitattributes")

        assert len(scan_staged(tmp_path)) == 1
        assert not mark.exists()
