"""The commands as a user runs them: in a process of their own, in an empty project."""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import pytest

from live import eventually

pytestmark = pytest.mark.slow

BARE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("one"), methods=["GET", "POST"])])
"""
PROTECTED = f"{BARE}\nfrom thebes import Security\nSecurity(hosts=['example.com']).protect(app)\n"


def environment(project: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(project / "state"), "PYTHONUNBUFFERED": "1"}


def thebes(project: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thebes", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment(project) | environ, capture_output=True, text=True, check=False
    )


@dataclass
class Running:
    """A development server, and all that it has said."""

    project: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        match = re.search(r"https://localhost:\d+", self.output)
        assert match, self.output
        return match[0]

    def get(self, path: str = "/", **options: object) -> httpx2.Response:
        context = ssl.create_default_context(cafile=str(self.project / ".thebes" / "ca.pem"))
        with httpx2.Client(verify=context, trust_env=False) as client:
            return client.request("GET", self.url + path, **options)

    def serves_as(self, name: str) -> bool:
        context = ssl.create_default_context(cafile=str(self.project / ".thebes" / "ca.pem"))
        with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), 10) as plain:
            try:
                context.wrap_socket(plain, server_hostname=name).close()
            except ssl.SSLCertVerificationError:
                return False
        return True

    def listens(self) -> bool:
        """Say whether it takes connections, which is a moment after it says that it has started."""
        if self.process.poll() is not None:
            return True
        with socket.socket() as plain:
            return plain.connect_ex(("127.0.0.1", int(self.url.rpartition(":")[2]))) == 0

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.output or self.process.poll() is not None


@contextlib.contextmanager
def dev(project: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "thebes", "dev", "--port", "0", *options]
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(project, process)
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: running.lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        eventually(running.says("Application startup complete"), 30)
        eventually(running.listens)
        yield running
    finally:
        process.terminate()
        process.wait(15)
        reader.join()
        process.stdout.close()


class TestDev:
    def test_a_bare_app_is_served_over_https_and_protected(self, tmp_path):
        (tmp_path / "main.py").write_text(BARE)
        with dev(tmp_path, "--no-reload") as server:
            answer = server.get("/?token=canary")
            assert (answer.status_code, answer.text) == (200, "one")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "strict-transport-security" not in answer.headers
            assert "server" not in answer.headers
            assert server.get(headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 421
            eventually(server.says('"GET / HTTP/1.1" 200'))
        assert "canary" not in server.output

    def test_names_under_localhost_have_a_certificate_from_the_first_start(self, tmp_path):
        (tmp_path / "main.py").write_text(
            PROTECTED.replace("['example.com']", "['app.localhost', 'example.com']")
        )
        certificates = []
        for _ in range(2):
            with dev(tmp_path, "--no-reload") as server:
                eventually(partial(server.serves_as, "app.localhost"))
                assert server.serves_as("localhost")
                assert not server.serves_as("other.localhost")
            certificates.append((tmp_path / ".thebes" / "localhost.pem").read_bytes())
        assert certificates[0] == certificates[1]

    def test_the_summary_names_the_seven_practices_and_how_to_trust_the_authority(self, tmp_path):
        (tmp_path / "main.py").write_text(PROTECTED)
        with dev(tmp_path, "--no-reload") as server:
            pass
        for practice in ("https", "validation", "passwords", "tokens", "ratelimit", "csrf", "secrets"):
            assert re.search(rf"^  \d (on |off) {practice} ", server.output, re.MULTILINE)
        assert ".thebes/ca.pem" in server.output
        assert "Trust it once" in server.output

    def test_state_lies_in_a_directory_that_ignores_itself(self, tmp_path):
        (tmp_path / "main.py").write_text(BARE)
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
        with dev(tmp_path, "--no-reload"):
            pass
        status = subprocess.run(
            ["git", "status", "--porcelain", "--ignored=no"], cwd=tmp_path, check=True, capture_output=True
        )
        assert b".thebes" not in status.stdout
        assert ".thebes/" in (tmp_path / ".dockerignore").read_text()
        assert not list((tmp_path / ".thebes").glob("local-ca*"))
        assert (tmp_path / "state" / "thebes").stat().st_mode & 0o077 == 0

    def test_a_changed_file_starts_the_app_anew_without_the_summary(self, tmp_path):
        (tmp_path / "main.py").write_text(BARE)
        with dev(tmp_path) as server:
            assert server.get().text == "one"
            # The server answers a little before its parent watches: so change the file until it is seen.
            for version in range(2, 100):
                (tmp_path / "main.py").write_text(BARE.replace("one", "changed " * version))
                with contextlib.suppress(AssertionError):
                    eventually(lambda: server.output.count("Application startup complete") >= 2, 1)
                    break
            eventually(lambda: "changed" in server.get().text)
        assert server.output.count("1 on  https") == 1

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--host", "0.0.0.0"], "host is '0.0.0.0'; development answers localhost, 127.0.0.1, ::1 only"),
            (["--domain", "example.com"], "--domain does not belong here"),
            (["--behind-proxy", "10.0.0.0/8"], "--behind-proxy does not belong here"),
            (["--uds", "app.sock"], "--uds does not belong here"),
        ],
    )
    def test_what_would_serve_others_is_refused(self, tmp_path, options, complaint):
        answer = thebes(tmp_path, "dev", *options)
        assert answer.returncode == 1
        assert complaint in answer.stderr
        assert "Traceback" not in answer.stderr

    def test_a_process_that_asks_for_production_is_refused(self, tmp_path):
        answer = thebes(tmp_path, "dev", THEBES_ENV="production")
        assert "unset it to run the development server" in answer.stderr

    def test_a_taken_port_says_what_to_do(self, tmp_path):
        (tmp_path / "main.py").write_text(BARE)
        with dev(tmp_path, "--no-reload") as server:
            answer = thebes(tmp_path, "dev", "--port", server.url.rpartition(":")[2])
        assert "choose another with --port" in answer.stderr

    def test_a_name_that_leads_to_no_app_is_said_without_a_traceback(self, tmp_path):
        answer = thebes(tmp_path, "dev", "nowhere:app", "--no-reload", "--port", "0")
        assert "no app at 'nowhere:app'" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert answer.returncode == 1


class TestAudit:
    def test_prints_settings_with_their_origin(self, tmp_path):
        (tmp_path / "main.py").write_text(PROTECTED)
        answer = thebes(tmp_path, "audit", THEBES_ENV="test")
        assert answer.returncode == 0, answer.stderr
        assert re.search(r"hosts +example.com  \(keyword\)", answer.stdout)
        assert re.search(r"csp +report  \(default\)", answer.stdout)

    def test_fails_for_what_production_lacks(self, tmp_path):
        (tmp_path / "main.py").write_text(PROTECTED)
        answer = thebes(tmp_path, "audit", "--json")
        report = json.loads(answer.stdout)
        assert answer.returncode == 1
        assert [finding["id"] for finding in report["findings"] if finding["level"] == "error"] == [
            "start",  # keys
            "start",  # a store
            "start",  # a mail server
        ]

    def test_says_so_when_the_app_is_bare(self, tmp_path):
        (tmp_path / "main.py").write_text(BARE)
        assert "main:app is not protected" in thebes(tmp_path, "audit").stderr


class TestSecrets:
    def test_init_makes_what_production_needs(self, tmp_path):
        (tmp_path / "main.py").write_text(PROTECTED)
        answer = thebes(tmp_path, "secrets", "init")
        assert "made  THEBES_SECRET_KEYS" in answer.stdout
        with (tmp_path / ".env").open("a") as env:
            env.write("THEBES_DATABASE_URL=sqlite:///accounts.db\nTHEBES_MAIL_URL=smtps://localhost\n")
        assert thebes(tmp_path, "audit").returncode == 0
        assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600

    def test_init_twice_changes_nothing(self, tmp_path):
        thebes(tmp_path, "secrets", "init")
        before = (tmp_path / ".env").read_bytes()
        assert "kept  THEBES_SECRET_KEYS" in thebes(tmp_path, "secrets", "init").stdout
        assert (tmp_path / ".env").read_bytes() == before

    def test_a_staged_secret_stops_the_commit(self, tmp_path):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run([*git, "init", "-q", "."], cwd=tmp_path, check=True)
        thebes(tmp_path, "secrets", "init", "--pre-commit")
        subprocess.run([*git, "add", "-f", ".env"], cwd=tmp_path, check=True)
        commit = subprocess.run([*git, "commit", "-m", "all"], cwd=tmp_path, capture_output=True, check=False)
        assert commit.returncode != 0
        assert b".env:" in commit.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["dev", "--help"], ["audit", "--help"], ["secrets", "--help"]]
)
def test_every_command_explains_itself(tmp_path, arguments):
    answer = thebes(tmp_path, *arguments)
    assert answer.returncode == 0
    assert "Usage" in answer.stdout
