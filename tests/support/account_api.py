"""Call the account API as browsers and programs do: in this process, or over a socket, by the same tests."""

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI

from asking import ask, request_facts
from attack import Answered, in_mode
from live import PATIENCE_SECONDS, eventually, serving
from thebes import Events, Security
from thebes.fastapi import CurrentPrincipal
from thebes.membership import Membership
from thebes.testing import client as lifespan

Transport = Literal["memory", "sqlite", "socket"]
Fields = Mapping[str, str | None]

PASSWORD = "sunrise over seven gates"
OTHER_PASSWORD = "moonlight over seven gates"
SESSION, REFRESH = "__Host-thebes-session", "__Host-thebes-refresh"
PRESESSION, DEVICE = "__Host-thebes-presession", "__Host-thebes-device"
FORM = "application/x-www-form-urlencoded"

T = TypeVar("T")


class Caller:
    """A browser with its cookies, at an address of its own; without cookies a program.

    Attributes:
        cookies: What it has been given, by name.
        address: Where it calls from.
        fields: What it sends with each request.
    """

    def __init__(self, service: "Service", address: str) -> None:
        self._service = service
        self.cookies: dict[str, str] = {}
        self.address = address
        self.fields: dict[str, str | None] = {"Origin": service.origin, "User-Agent": "Firefox on Linux"}

    def ask(self, method: str, path: str, body: bytes = b"", fields: Fields | None = None) -> Answered:
        """Send a request and keep the cookies that come; a path that begins with no / is one of ours."""
        target = path if path.startswith("/") else f"/auth/{path}"
        sent = {**self.fields, **(fields or {})}
        if self.cookies and "Cookie" not in sent:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        kept = {name: value for name, value in sent.items() if value is not None}
        answer = self._service.ask(self.address, method, target, kept, body)
        for field in answer.every("set-cookie"):
            name, _, rest = field.partition("=")
            if "Max-Age=0" in field:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = rest.partition(";")[0]
        return answer

    def get(self, path: str, **fields: str | None) -> Answered:
        """Send a GET; further fields by name, `_` for `-`."""
        return self.ask("GET", path, fields=_named(fields))

    def post(self, path: str, document: Any = None, fields: Fields | None = None) -> Answered:
        """Send JSON; without a document nothing is sent."""
        if document is None:
            return self.ask("POST", path, fields=fields)
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json", **(fields or {})})

    def form(
        self,
        path: str,
        values: Mapping[str, str] | bytes,
        fields: Fields | None = None,
        *,
        token: str | None = "",
    ) -> Answered:
        """Navigate by a form; it carries a token unless that is None."""
        if isinstance(values, bytes):
            body = values
        else:
            token = self.csrf_token() if token == "" else token
            body = urlencode({**values, **({} if token is None else {"csrf_token": token})}).encode()
        navigation = {"Content-Type": FORM, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
        return self.ask("POST", path, body, {**navigation, **(fields or {})})

    def csrf_token(self) -> str:
        """Return a fresh token for forms."""
        return str(document(self.get("csrf"))["csrf_token"])

    def sign_in(self, email: str, password: str = PASSWORD, **more: Any) -> Answered:
        """Sign in."""
        return self.post("login", {"email": email, "password": password, **more})

    def forget(self, *names: str) -> "Caller":
        """Lose cookies, as by their expiry; all if none is named."""
        for name in names or tuple(self.cookies):
            self.cookies.pop(name, None)
        return self


class Service:
    """A protected app with accounts, in test mode.

    Attributes:
        origin: Of its pages.
        security: What protects it.
        lines: Security events as written.
    """

    def __init__(self, security: Security, lines: list[str], app: Any, loop: Any, url: str | None) -> None:
        self.security = security
        self.lines = lines
        self.origin = url or "https://testserver"
        self.app = app
        self.loop = loop
        self.database: Path | None = None
        self._url = url
        self._addresses = (f"127.9.{number >> 8}.{number & 255}" for number in itertools.count(1))

    @property
    def membership(self) -> Membership:
        """The accounts of the app."""
        return self.security.membership

    @property
    def mails(self) -> list[Any]:
        """What was sent, the latest last."""
        return list(self.membership.mailer.messages)  # type: ignore[attr-defined]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The security events, decoded; those are counted in that second was written already."""
        return [json.loads(line) for line in self.lines]

    def caller(self, address: str | None = None) -> Caller:
        """Return somebody new, at an address that nobody has used."""
        return Caller(self, address or next(self._addresses))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something where the app runs."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_SECONDS)

    def ask(self, address: str, method: str, target: str, fields: Mapping[str, str], body: bytes) -> Answered:
        """Send one request."""
        if self._url is None:
            return self._ask_in_process(address, method, target, fields, body)
        host, _, port = self._url.removeprefix("http://").partition(":")
        connection = HTTPConnection(host, int(port), PATIENCE_SECONDS, source_address=(address, 0))
        try:
            connection.request(method, target, body or None, dict(fields))
            response = connection.getresponse()
            return Answered(response.status, tuple(response.getheaders()), response.read())
        finally:
            connection.close()

    def _ask_in_process(
        self, address: str, method: str, target: str, fields: Mapping[str, str], body: bytes
    ) -> Answered:
        path, _, query = target.partition("?")
        pairs = [("Host", "testserver"), *fields.items()]
        if body or method == "POST":
            pairs.append(("Content-Length", str(len(body))))
        scope = {"scheme": "https", "client": (address, 50000), "query_string": query.encode()}
        facts = request_facts(method, path, pairs, **scope)
        answer = self.run(ask(self.app, facts, body))
        named = tuple((name.decode(), value.decode("latin-1")) for name, value in answer.headers)
        return Answered(answer.status, named, answer.body)

    def token(self, kind: str, to: str) -> str:
        """Return the token of the latest mail of a kind to somebody, once no mail is left to send."""
        self.mailed(to)
        return str(self.membership.mailer.last_token(to=to, kind=kind))  # type: ignore[attr-defined]

    def mailed(self, to: str) -> list[str]:
        """Return the kinds of the mails to somebody, once no job is left."""
        eventually(lambda: self.run(self.membership.store.jobs.next_due("mail")) is None)
        return [mail.kind for mail in self.mails if mail.to == to]

    def member(self, email: str = "ada@example.com", password: str = PASSWORD, **more: Any) -> Caller:
        """Return somebody who has registered, confirmed the address and signed in."""
        caller = self.caller()
        assert caller.post("register", {"email": email, "password": password}).status == 202
        assert caller.post("verify", {"token": self.token("verify", email)}).status == 204
        assert caller.sign_in(email, password, **more).status == 200
        return caller

    def account_id(self, email: str = "ada@example.com") -> str:
        """Return the id of an account."""
        account = self.run(self.membership.store.accounts.by_email(email))
        assert account is not None
        return account.id

    def age(self, seconds: float, *columns: str) -> None:
        """Let time pass for some columns of the database, such as `sessions.auth_time`."""
        assert self.database is not None
        with sqlite3.connect(self.database) as connection:
            for column in columns:
                table, _, name = f"thebes_{column}".partition(".")
                connection.execute(f"UPDATE {table} SET {name} = {name} - ?", (seconds,))
        connection.close()


@contextmanager
def accounts(
    transport: Transport = "memory", tmp_path: Path | None = None, **settings: Any
) -> Iterator[Service]:
    """Serve an app with accounts until the block ends; with `/who`, which needs somebody signed in."""
    lines: list[str] = []
    loops: list[Any] = []

    @asynccontextmanager
    async def living(_app: FastAPI) -> Any:
        loops.append(asyncio.get_running_loop())
        yield

    app = FastAPI(lifespan=living)
    app.add_api_route("/who", _who)
    chosen: dict[str, Any] = {"events": Events(lambda _, line: lines.append(line)), "passwords": "test"}
    chosen |= {"limits": "1000000/second burst 1000000"}
    database = None
    if transport != "memory":
        assert tmp_path is not None
        database = tmp_path / "accounts.db"
        chosen["database_url"] = f"sqlite:///{database}"
    security = Security(**(chosen | settings))
    security.protect(app)
    with ExitStack() as stack:
        with in_mode("test") as patch:
            for name in ("THEBES_MAIL_URL", "THEBES_DATABASE_URL"):
                patch.delenv(name)
            url = stack.enter_context(serving(app)) if transport == "socket" else None
            if url is None:
                stack.enter_context(lifespan(app))
        service = Service(security, lines, app, loops[0], url)
        service.database = database
        yield service


def _who(who: CurrentPrincipal) -> dict[str, str]:
    return {"id": who.id, "session": who.session_id}


def document(answer: Answered) -> Any:
    """Return the JSON of an answer."""
    return json.loads(answer.body)


def both(*ids: str, store: Transport = "memory") -> pytest.MarkDecorator:
    """Run a test of the fixture `service` twice, as evidence for both legs of these rows."""
    return pytest.mark.parametrize(
        "service",
        [
            pytest.param(store, marks=pytest.mark.requirement(*ids), id="in-process"),
            pytest.param("socket", marks=pytest.mark.requirement(*ids, by="live"), id="over a socket"),
        ],
        indirect=True,
    )


def shape(answer: Answered, *, but: Iterable[str] = ("date",)) -> tuple[int, list[tuple[str, str]], Any]:
    """Return what may not differ: the status, all fields, and the body without what each answer has anew."""
    body = document(answer) if answer.body else None
    if isinstance(body, dict):
        body.pop("request_id", None)
    return answer.status, [field for field in answer.fields if field[0].lower() not in but], body


def _named(fields: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in fields.items()}
