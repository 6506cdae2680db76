"""What a production server refuses to start without, and that importing needs nothing."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette

from thebes import ConfigurationError, Security
from thebes.testing import client


def strong_keys() -> str:
    return "k1:" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


@pytest.fixture(autouse=True)
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THEBES_ENV", "production")
    monkeypatch.delenv("THEBES_SECRET_KEYS", raising=False)
    monkeypatch.delenv("THEBES_HOSTS", raising=False)
    monkeypatch.setenv("THEBES_DATABASE_URL", "sqlite:///accounts.db")
    monkeypatch.setenv("THEBES_MAIL_URL", "smtps://localhost")
    return tmp_path


def start(security: Security) -> None:
    """Run the lifespan's start of a protected app; what it lacks is raised."""
    import asyncio

    async def run() -> None:
        app = security.protect(Starlette())
        said: list[dict[str, str]] = []

        async def receive() -> dict[str, str]:
            return {"type": "lifespan.shutdown" if said else "lifespan.startup"}

        async def send(message: dict[str, str]) -> None:
            said.append(message)

        await app({"type": "lifespan", "state": {}}, receive, send)
        if said[0]["type"] == "lifespan.startup.failed":
            raise ConfigurationError(*said[0]["message"].splitlines())

    asyncio.run(run())


@pytest.mark.requirement("SEC-01")
class TestWhatIsMissing:
    def test_is_named_all_at_once_with_the_command_that_makes_it(self, monkeypatch):
        monkeypatch.delenv("THEBES_DATABASE_URL")
        monkeypatch.delenv("THEBES_MAIL_URL")
        with pytest.raises(ConfigurationError) as caught:
            start(Security())
        assert "THEBES_HOSTS" in str(caught.value)
        assert "thebes secrets init" in str(caught.value)
        assert "THEBES_DATABASE_URL" in str(caught.value)
        assert "THEBES_MAIL_URL" in str(caught.value)

    def test_is_less_without_accounts(self, monkeypatch):
        monkeypatch.delenv("THEBES_DATABASE_URL")
        monkeypatch.delenv("THEBES_MAIL_URL")
        monkeypatch.setenv("THEBES_SECRET_KEYS", strong_keys())
        start(Security(hosts=["example.com"], accounts=None))

    def test_is_nothing_when_all_is_set(self, monkeypatch):
        monkeypatch.setenv("THEBES_SECRET_KEYS", strong_keys())
        start(Security(hosts=["example.com"]))

    def test_fails_every_request_where_there_is_no_lifespan(self):
        app = Security().protect(Starlette())
        answer = client(app, raise_server_exceptions=False).get("/")
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:thebes:problem:misconfigured")

    def test_is_not_needed_to_import_a_module_that_builds_a_security(self, production):
        (production / "main.py").write_text(
            "from starlette.applications import Starlette\n"
            "from thebes import Security\n"
            "app = Security().protect(Starlette())\n"
        )
        environ = {"PATH": os.environ["PATH"]}
        subprocess.run([sys.executable, "-c", "import main"], check=True, cwd=production, env=environ)

    def test_no_secret_has_a_default_in_the_source(self):
        from thebes.settings import Settings

        assert Settings(mode=Security().settings().mode).secret_keys is None


@pytest.mark.requirement("SEC-02")
class TestWeakSecrets:
    @pytest.mark.parametrize(
        ("keys", "reason"),
        [
            ("k1:" + base64.urlsafe_b64encode(os.urandom(31)).decode().rstrip("="), "31 bytes"),
            ("k1:" + "A" * 43, "repeats or counts"),
            ("k1:" + base64.urlsafe_b64encode(os.urandom(8) * 4).decode().rstrip("="), "repeats or counts"),
            (
                "k1:" + base64.urlsafe_b64encode(b"a passphrase of just 32 letters!").decode()[:43],
                "typed text",
            ),
            ("no-colon", "has no key id"),
        ],
        ids=["31 bytes", "one letter", "four times 8 bytes", "typed", "no id"],
    )
    def test_stop_the_start_and_are_not_echoed(self, monkeypatch, keys, reason):
        monkeypatch.setenv("THEBES_SECRET_KEYS", keys)
        with pytest.raises(ConfigurationError, match=reason) as caught:
            start(Security(hosts=["example.com"]))
        assert keys.partition(":")[2] not in str(caught.value) or not keys.partition(":")[2]

    def test_the_sample_of_the_documentation_stops_the_start(self, monkeypatch):
        from thebes.secrets.strength import SAMPLE_KEYS

        monkeypatch.setenv("THEBES_SECRET_KEYS", f"k1:{SAMPLE_KEYS[0]}")
        with pytest.raises(ConfigurationError, match="sample value"):
            start(Security(hosts=["example.com"]))

    def test_one_secret_for_two_purposes_stops_the_start(self, monkeypatch):
        keys = strong_keys()
        monkeypatch.setenv("THEBES_SECRET_KEYS", keys)
        monkeypatch.setenv("APP_COOKIE_SECRET", keys.partition(":")[2])
        with pytest.raises(ConfigurationError, match="APP_COOKIE_SECRET"):
            start(Security(hosts=["example.com"]))

    def test_one_value_under_two_ids_stops_the_start(self, monkeypatch):
        value = strong_keys().partition(":")[2]
        monkeypatch.setenv("THEBES_SECRET_KEYS", f"k1:{value},k2:{value}")
        with pytest.raises(ConfigurationError, match="k2"):
            start(Security(hosts=["example.com"]))


@pytest.mark.requirement("SEC-05")
class TestTheEnvFile:
    @pytest.fixture
    def env_file(self, production: Path) -> Path:
        path = production / ".env"
        path.write_text(f"THEBES_SECRET_KEYS={strong_keys()}\n")
        path.chmod(0o600)
        return path

    def test_a_private_one_is_good(self, env_file):
        start(Security(hosts=["example.com"]))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_one_that_others_may_read_stops_the_start(self, env_file, mode):
        env_file.chmod(mode)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            start(Security(hosts=["example.com"]))

    def test_one_tracked_by_git_stops_the_start(self, env_file):
        subprocess.run(["git", "init", "-q", "."], check=True, cwd=env_file.parent)
        subprocess.run(["git", "add", "-f", ".env"], check=True, cwd=env_file.parent)
        with pytest.raises(ConfigurationError, match="git rm --cached"):
            start(Security(hosts=["example.com"]))

    def test_one_in_a_served_directory_is_an_error_of_the_audit(self, env_file):
        from starlette.routing import Mount
        from starlette.staticfiles import StaticFiles

        from thebes.audit import look

        app = Starlette(routes=[Mount("/files", StaticFiles(directory=env_file.parent))])
        security = Security(hosts=["example.com"])
        report = look(security, security.protect(app), environ=os.environ, directory=env_file.parent)
        assert [finding.id for finding in report.findings if finding.level == "error"] == ["env-file"]
        assert report.has_errors


@pytest.mark.parametrize(
    "declare",
    [
        lambda security: security.route("POST /search", limit="10/minute"),
        lambda security: security.route("POST /search", cost=5),
        lambda security: security.exempt("POST /hook", "csrf", reason="signed by its sender"),
    ],
)
def test_what_is_declared_after_the_start_is_an_error_and_changes_nothing(declare, monkeypatch):
    monkeypatch.setenv("THEBES_SECRET_KEYS", strong_keys())
    security = Security(hosts=["example.com"], accounts=None)
    start(security)

    with pytest.raises(ConfigurationError, match="is declared after the app has started"):
        declare(security)
    assert security.routes.entries() == []
