"""The account API's paths, methods and bodies, as an attacker tries them."""

import json
import socket
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_api import (
    OTHER_PASSWORD,
    PASSWORD,
    SESSION,
    Service,
    accounts,
    document,
)

ADA = "ada@example.com"
# Each of the package's own paths with the methods that it answers, and a body that is right in form.
BODIES: dict[str, dict[str, Any] | None] = {
    "register": {"email": "new@example.com", "password": PASSWORD},
    "verify": {"token": "t"},
    "verify/resend": {"email": ADA},
    "login": {"email": ADA, "password": PASSWORD},
    "refresh": {"refresh_token": "t"},
    "logout": {},
    "logout-all": {},
    "password": {"current_password": PASSWORD, "password": OTHER_PASSWORD},
    "forgot": {"email": ADA},
    "reset": {"token": "t", "password": OTHER_PASSWORD},
    "reauthenticate": {"password": PASSWORD},
    "sessions/x/end": {},
}
READ = ("me", "sessions", "csrf", "/.well-known/jwks.json")
ALLOWED = {
    **dict.fromkeys(BODIES, "POST"),
    "token": "POST",
    "me": "DELETE, GET, HEAD",
    "sessions": "GET, HEAD",
    "csrf": "GET, HEAD",
    "/.well-known/jwks.json": "GET, HEAD",
    "openapi.json": "GET, HEAD",
    "sessions/x": "DELETE",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")


@pytest.fixture(scope="module")
def standing() -> Iterator[Service]:
    """One app for all the requests that change nothing."""
    with accounts() as service:
        service.member()
        yield service


class TestMethods:
    @pytest.mark.requirement("HTTP-12", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_only_declared_methods_are_answered_and_the_rest_is_named(self, service: Service):
        caller = service.member()
        paths = list(service.membership.routes.paths)
        assert {path.removeprefix("/auth/") for path in paths} | {"sessions/x", "sessions/x/end"} == set(
            ALLOWED
        )

        for path, allowed in ALLOWED.items():
            for method in METHODS:
                if method in allowed.split(", "):
                    continue
                answer = caller.ask(method, path)
                assert (answer.status, answer.every("allow")) == (405, [allowed]), (method, path)
            for method in ("TRACE", "TRACK"):
                answer = caller.ask(method, path)
                assert answer.status in (400, 405)  # 400: the parser of some servers knows no TRACK
                assert caller.cookies[SESSION].encode() not in answer.body
        assert caller.get("/who").status == 200

    @pytest.mark.requirement("HTTP-12", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    @pytest.mark.parametrize("target", ["example.com:443", "/auth/login"])
    def test_connect_is_refused(self, service: Service, target: str):
        port = int(service.origin.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            status = int(connection.recv(1000).split()[1])

        assert status in (400, 405)

    @pytest.mark.parametrize("path", ALLOWED)
    def test_a_websocket_opens_none_of_them(self, standing: Service, path: str):
        sent: list[Any] = []
        target = path if path.startswith("/") else f"/auth/{path}"

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "websocket", "http_version": "1.1", "scheme": "wss", "path": target, "raw_path": target.encode(),
            "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
            "headers": [(b"host", b"testserver"), (b"origin", b"https://testserver")], "subprotocols": [],
        }  # fmt: skip
        standing.run(standing.app(scope, receive, send))

        assert [message["type"] for message in sent] == ["websocket.close"]


class TestSafeMethods:
    @pytest.mark.requirement("CSR-08", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_no_get_head_or_options_changes_anything(self, service: Service):
        caller = service.member()
        stranger = service.caller()
        stranger.post("register", {"email": "new@example.com", "password": PASSWORD})
        stranger.post("forgot", {"email": ADA})
        verify, reset = service.token("verify", "new@example.com"), service.token("reset", ADA)
        before = state(service)
        queries = (
            "",
            f"?token={verify}",
            f"?token={reset}&password={OTHER_PASSWORD.replace(' ', '+')}",
            "?_method=POST",
        )
        overrides = {"X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST", "X-Method-Override": "DELETE"}

        for path in ALLOWED:
            for method in ("GET", "HEAD", "OPTIONS"):
                for query in queries:
                    for fields in ({}, overrides):
                        caller.ask(method, path + query, fields=fields)
                        service.caller().ask(method, path + query, fields=fields)

        assert state(service) == before
        assert caller.get("/who").status == 200
        assert (
            stranger.post("verify", {"token": verify}).status == 204
        )  # a mail scanner's look used up nothing
        assert stranger.post("reset", {"token": reset, "password": OTHER_PASSWORD}).status == 204

    @pytest.mark.requirement("CSR-08", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_a_method_in_a_field_or_header_is_ignored(self, service: Service):
        caller = service.member()
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"):
            assert caller.ask("POST", "me?_method=DELETE", b"_method=DELETE", {name: "DELETE"}).status == 405
            assert caller.ask("GET", "me?_method=DELETE", fields={name: "DELETE"}).status == 200

        assert caller.get("/who").status == 200


class TestCaching:
    @pytest.mark.requirement("HTTP-06", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_nothing_of_a_session_is_kept(self, service: Service):
        caller = service.member()
        program = service.caller()
        answers = [program.sign_in(ADA, mode="bearer")]
        tokens = document(answers[0])
        answers.append(program.post("refresh", {"refresh_token": tokens["refresh_token"]}))
        answers += [caller.get(path) for path in ("me", "sessions", "csrf", "/who")]
        answers.append(service.caller().get("csrf"))
        answers.append(caller.forget(SESSION).get("/who"))  # renewed in place
        answers += [
            caller.post("refresh"),
            caller.sign_in(ADA),
            caller.post("reauthenticate", {"password": PASSWORD}),
        ]
        answers += [caller.ask("POST", "me"), caller.ask("DELETE", "sessions/x"), caller.post("logout")]
        answers += [caller.get("me"), caller.sign_in(ADA, "wrong")]
        caller.sign_in(ADA)

        for answer in answers:
            assert answer.only("cache-control") == "no-store"
        for path in ("me/x.css", "sessions/x/y.js", "me/", "login/a", "csrf.json", "nothing", ""):
            assert caller.get(path).status == 404

    @pytest.mark.parametrize(
        "path",
        [
            "sessions/",
            "sessions//",
            "sessions/x/y",
            "sessions/x/end/",
            "sessions/x/y/end",
            "sessions/%2e%2e/me",
        ],
    )
    def test_an_unknown_path_below_the_sessions_is_404(self, standing: Service, path: str):
        caller = standing.caller()
        caller.sign_in(ADA)

        for method in ("GET", "POST", "DELETE"):
            assert caller.ask(method, path).status == 404


class TestBodies:
    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            ("application/json", 401),
            ("Application/JSON ; charset=utf-8", 401),
            ("application/json;charset=utf-16", 401),
            (None, 415),
            ("text/plain", 415),
            ("text/json", 415),
            ("application/jsonp", 415),
            ("application/problem+json", 415),
            ("application/json, text/plain", 415),
            ("text/plain; application/json", 415),
            ("multipart/form-data; boundary=b", 415),
            ("application/x-www-form-urlencoded", 403),
            ("application/octet-stream", 415),
        ],
    )
    def test_json_says_that_it_is_json(self, standing: Service, kind: str | None, status: int):
        body = json.dumps({"email": "a@example.com", "password": "x"}).encode()

        assert standing.caller().ask("POST", "login", body, {"Content-Type": kind}).status == status

    @pytest.mark.parametrize("path", ["logout", "logout-all", "refresh", "sessions/x/end"])
    @pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=b", None])
    def test_so_does_it_where_nothing_has_to_be_said(self, service: Service, path: str, kind: str | None):
        caller = service.member()

        answer = caller.ask("POST", path, b"{}", {"Content-Type": kind})

        assert answer.status == 415
        assert caller.get("/who").status == 200

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"1",
            b"{",
            b"\xef\xbb\xbf{}",
            b"\xff\xfe{\x00}\x00",
            b'{"email": 1, "password": "x"}',
            b'{"email": null, "password": "x"}',
            b'{"email": ["a"], "password": "x"}',
            b'{"email": {"$ne": ""}, "password": {"$ne": ""}}',
            b'{"email": "\\ud800", "password": "x"}',
            b'{"email": "\\ud800\\u0041bc", "password": "x"}',
            b'{"email": "a@b.co", "password": "\\udc00\\ud800 and more"}',
            b'{"email": "\xed\xa0\x80", "password": "x"}',
            b'{"email": "\xff", "password": "x"}',
            b'{"email": "a@b.co"}',
            b'{"email": "a@b.co", "password": "x", "mode": "both"}',
            b'{"email": "a@b.co", "password": "x", "remember": "yes"}',
            b'{"email": "a@b.co", "password": "x", "remember": 1e999999}',
            b'{"email": "a@b.co", "password": 123456789012345678901234567890}',
            b'{"email": "a@b.co", "password": NaN}',
            b'{"email": "a@b.co", "password": "x"} trailing',
            b'{"email": "a@b.co", "password": "x",}',
            b"{'email': 'a@b.co', 'password': 'x'}",
            b'{"email": "a@b.co", "password": "' + b"x" * 4097 + b'"}',
            b'{"email": "' + b"a" * 4097 + b'", "password": "x"}',
            b'{"email": "ada@example.com", "email": "ada@example.com", "password": "sunrise over seven gates"}',
            b'{"password": "a", "email": "ada@example.com", "\\u0070assword": "sunrise over seven gates"}',
            b'{"a":' * 3000 + b"1" + b"}" * 3000,
            b"[" * 60_000,
        ],
        ids=lambda raw: ascii(raw[:40]),
    )
    def test_what_is_not_as_it_should_be_is_422(self, standing: Service, raw: bytes):
        answer = standing.caller().ask("POST", "login", raw, {"Content-Type": "application/json"})

        assert (answer.status, answer.kind) == (422, "bad-fields")

    @given(
        raw=st.binary(max_size=300)
        | st.text(max_size=300).map(lambda text: json.dumps({"email": text}).encode())
    )
    def test_no_body_breaks_a_route(self, standing: Service, raw: bytes):
        for kind in ("application/json", "application/x-www-form-urlencoded"):
            answer = standing.caller().ask("POST", "login", raw, {"Content-Type": kind})
            assert answer.status in (401, 403, 422)

    @given(email=st.text(max_size=60), password=st.text(max_size=60))
    def test_no_text_breaks_a_sign_in(self, standing: Service, email: str, password: str):
        sendable = [text.encode("utf-8", "replace").decode() for text in (email, password)]

        assert standing.caller().sign_in(*sendable).status == 401

    @pytest.mark.parametrize("path", [path for path, body in BODIES.items() if body is not None])
    @pytest.mark.parametrize(
        "extra",
        [
            {"role": "admin"},
            {"roles": ["admin"]},
            {"is_verified": True},
            {"id": "x"},
            {"__proto__": {}},
            {"": 1},
        ],
        ids=repr,
    )
    def test_nobody_sets_what_is_not_theirs_to_set(self, standing: Service, path: str, extra: dict[str, Any]):
        body = BODIES[path]
        assert body is not None
        caller = standing.caller()
        caller.sign_in(ADA)
        if path == "refresh":
            caller.forget()

        assert caller.post(path, {**body, **extra}).status == 422

    def test_a_body_over_64_kib_is_413(self, standing: Service):
        answer = standing.caller().post("login", b'{"email": "' + b"a" * 70_000 + b'"}')

        assert (answer.status, answer.kind) == (413, "body-too-large")

    def test_a_client_that_leaves_before_its_body_ends_breaks_nothing(self, standing: Service):
        async def leave() -> None:
            async def receive() -> Any:
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                return None

            headers = [
                (b"host", b"testserver"),
                (b"content-type", b"application/json"),
                (b"content-length", b"9"),
            ]
            scope = {
                "type": "http", "http_version": "1.1", "scheme": "https", "path": "/auth/login", "method": "POST",
                "raw_path": b"/auth/login", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 1), "headers": headers,
            }  # fmt: skip
            await standing.app(scope, receive, send)

        standing.run(leave())
        assert standing.caller().get("csrf").status == 200


def state(service: Service) -> Any:
    """Return all that is stored, but for what says when something was used."""
    assert service.database is not None
    service.mailed(ADA)
    connection = sqlite3.connect(service.database)
    try:
        tables = ("accounts", "tokens", "sessions", "revocations", "failures", "jobs")
        return {
            name: connection.execute(f"SELECT * FROM thebes_{name} ORDER BY 1").fetchall() for name in tables
        }
    finally:
        connection.close()
