"""The notebook behind `thebes dev`, and what a browser needs to trust it.

The certificate is checked twice. A TLS client of ours trusts nothing but `.thebes/ca.pem`; Chromium,
whose trust store belongs to the machine, is told the key that this client has seen, and no other.
"""

import base64
import email
import email.policy
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate
from playwright.sync_api import BrowserContext, Page, Request, Route

EXAMPLE = Path(__file__).parents[2] / "examples" / "notes"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
MAIL_SECONDS = 20.0
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
PASSWORD = "sunrise over seven gates"
ADDRESS = "ada@example.com"
ELSEWHERE = "https://elsewhere.example/"


@dataclass(frozen=True, slots=True)
class Server:
    """A running `thebes dev`: where it answers, the key that it answers with, and where it lives."""

    url: str
    key_hash: str
    home: Path

    def link_in_mail(self, to: str, path: str, *, but: str = "") -> str:
        """Return the newest link to a page in the outbox, below this server, once it is there."""
        deadline = time.monotonic() + MAIL_SECONDS
        while time.monotonic() < deadline:
            for file in sorted((self.home / ".thebes" / "outbox").glob("*.eml"), reverse=True):
                mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
                body = mail.get_body(("plain",))
                if mail["to"] != to or body is None:
                    continue
                found = re.search(re.escape(self.url + path) + r"\?token=\S+", body.get_content())
                if found and found[0] != but:
                    parts = urlsplit(found[0])
                    return f"{parts.path}?{parts.query}"
            time.sleep(0.05)
        pytest.fail(f"no mail to {to} with a link to {path}")


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Server]:
    """Run `thebes dev` in a directory of its own until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "thebes", "dev", "main:app", "--app-dir", str(EXAMPLE)]
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-reload"],
            cwd=home,
            # The cheapest hash that is safe: what it costs is measured elsewhere.
            env=environment(home) | {"THEBES_PASSWORDS": "19MiB"} | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            leaf = wait_for_certificate(process, port, home / ".thebes" / "ca.pem", log)
            yield Server(f"https://localhost:{port}", key_hash(leaf), home)
        finally:
            stop(process)


def arguments(server: Server) -> list[str]:
    """Return Chromium's arguments: it trusts this server's key, and asks nothing of the network."""
    return [
        "--no-sandbox",
        "--disable-background-networking",
        f"--ignore-certificate-errors-spki-list={server.key_hash}",
    ]


def register(page: Page, server: Server, address: str, password: str = PASSWORD) -> None:
    """Make an account by hand, confirm it from the outbox, and stop at the sign-in page."""
    page.goto("/register")
    page.get_by_label("E-mail address").fill(address)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("main").get_by_role("button", name="Register").click()
    page.wait_for_url("**/verify*")
    page.goto(server.link_in_mail(address, "/verify"))
    page.get_by_role("button", name="Confirm my address").click()
    page.wait_for_url("**/login*")


def sign_in(page: Page, address: str, password: str = PASSWORD, *, remember: bool = False) -> None:
    """Fill in the sign-in page."""
    page.goto("/login")
    page.get_by_label("E-mail address").fill(address)
    page.get_by_label("Password", exact=True).fill(password)
    if remember:
        page.get_by_label("Stay signed in").check()
    page.get_by_role("main").get_by_role("button", name="Sign in").click()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """Return our environment without the settings of this test process."""
    ours = ("THEBES_", "NOTES_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"XDG_STATE_HOME": str(home / "state")}


def wait_for_certificate(process: subprocess.Popen[bytes], port: int, authority: Path, log: Path) -> bytes:
    """Return the server's certificate (DER) once it answers, verified by its local authority."""
    deadline = time.monotonic() + START_SECONDS
    problem: Exception | None = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return verified_certificate(port, authority)
        except (ConnectionError, FileNotFoundError) as error:  # not there yet; all else is a fault
            problem = error
            time.sleep(0.1)
    pytest.fail(f"thebes dev didn't answer ({problem}):\n{log.read_text(errors='replace')}")


def verified_certificate(port: int, authority: Path) -> bytes:
    trust = ssl.create_default_context(cafile=authority)
    with (
        socket.create_connection(("localhost", port), timeout=10) as connection,
        trust.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def key_hash(certificate: bytes) -> str:
    key = load_der_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def console_of(page: Page) -> list[str]:
    told: list[str] = []

    def failed(request: Request) -> None:
        # Who leaves a page before its icon has come breaks that request off: no fault of the page.
        if request.failure != "net::ERR_ABORTED":
            told.append(f"{request.failure}: {request.url}")

    def said(text: str) -> None:
        # At sign-out Chromium says that it did what Clear-Site-Data asks for. And it wants to know whose
        # password a reset is about, which only the server knows.
        if not text.startswith(("info: Clear-Site-Data header", "verbose: [DOM] Password forms should")):
            told.append(text)

    page.on("console", lambda message: said(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"uncaught: {error}"))
    page.on("requestfailed", failed)
    return told


def cookies(context: BrowserContext) -> dict[str, str]:
    """Return the cookies by their names, without prefix and port."""
    found = context.cookies()
    return {re.sub(r"__Host-thebes-(\w+)-\d+", r"\1", one["name"]): one["value"] for one in found}


def lure(context: BrowserContext, server: Server) -> None:
    """Put up another site, with a link to ours and forms that post to it."""
    fields = f'<input name="email" value="{ADDRESS}"><input name="password" value="{PASSWORD}">'
    forms = "".join(
        f'<form method="post" action="{server.url}/auth/{path}">{inner}<button>{name}</button></form>'
        for path, inner, name in (
            ("logout", "", "Sign out"),
            ("login", fields, "Sign in"),
            ("register", fields, "Register"),
        )
    )
    body = f'<!doctype html><title>Elsewhere</title><a href="{server.url}/notes">Notes</a>{forms}'

    def answer(route: Route) -> None:
        route.fulfill(body=body, content_type="text/html")

    context.route(f"{ELSEWHERE}**", answer)
