"""Percent-decoding happens once: by the server for the path, by the framework for the rest."""

import json
import socket
from urllib.parse import unquote

import pytest

from calling import call, http_scope
from live import PATIENCE_SECONDS, serving
from thebes import Security

DOUBLE = "%252e%252e%252f"
ONCE = "%2e%2e%2f"
FORGED = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


def fastapi_app():
    """Tell what came in each place, and which route it was."""
    from fastapi import FastAPI, Form, Header

    app = FastAPI()

    @app.get("/files/{name:path}")
    async def files(name: str, q: str = "", x_probe: str = Header("")):
        return ["files", name, q, x_probe]

    @app.get("/private")
    async def private():
        return ["private"]

    @app.post("/form")
    async def form(name: str = Form()):
        return ["form", name]

    @app.post("/hook")
    @app.post("/x/{rest:path}")
    async def hook():
        return ["hook"]

    return app


def starlette_app():
    """The same without FastAPI's declarations."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def files(request):
        seen = request.path_params["name"], request.query_params.get("q", "")
        return JSONResponse(["files", *seen, request.headers.get("x-probe", "")])

    async def private(request):
        return JSONResponse(["private"])

    async def form(request):
        return JSONResponse(["form", (await request.form())["name"]])

    async def hook(request):
        return JSONResponse(["hook"])

    return Starlette(
        routes=[
            Route("/files/{name:path}", files),
            Route("/private", private),
            Route("/form", form, methods=["POST"]),
            Route("/hook", hook, methods=["POST"]),
            Route("/x/{rest:path}", hook, methods=["POST"]),
        ]
    )


APPS = pytest.mark.parametrize("make", [fastapi_app, starlette_app])


def protected(make):
    """The app behind the pass, with a route that is exempt from a check."""
    security = Security()
    security.exempt("POST /hook", "csrf", reason="signed by its sender")
    return security.protect(make())


async def ask(app, method, target, fields=None, body=b""):
    """Send a request as a server does, which decodes the path once; return the status and the JSON.

    Starlette's test client would decode it twice.
    """
    path, _, query = target.partition("?")
    headers = [(name.lower().encode(), value.encode()) for name, value in (fields or {}).items()]
    headers += [(b"content-length", b"%d" % len(body))] if body else []
    scope = http_scope(unquote(path), method, headers, raw_path=path.encode(), query_string=query.encode())
    sent = await call(app, scope, body)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@APPS
@pytest.mark.requirement("VAL-10")
class TestInProcess:
    async def test_a_doubly_encoded_value_arrives_encoded_once(self, make):
        answer = await ask(protected(make), "GET", f"/files/{DOUBLE}etc?q={DOUBLE}", {"X-Probe": DOUBLE})

        # A field is not encoded at all, so it stays what it was.
        assert answer == (200, ["files", f"{ONCE}etc", ONCE, DOUBLE])

    async def test_so_does_one_in_a_form(self, make):
        kind = {"Content-Type": "application/x-www-form-urlencoded"}

        answer = await ask(protected(make), "POST", "/form", kind, f"name={DOUBLE}".encode())

        assert answer == (200, ["form", ONCE])

    @pytest.mark.parametrize("target", [f"/files/{DOUBLE}private", "/files/%252e%252e/private"])
    async def test_it_never_leads_to_another_route(self, make, target):
        _, seen = await ask(protected(make), "GET", target)

        assert seen[0] == "files"

    async def test_an_encoded_name_is_the_name_itself(self, make):
        answer = await ask(protected(make), "GET", "/files/%C3%BC%20%26+%3Cb%3E?q=%C3%BC+%26")

        assert answer == (200, ["files", "ü &+<b>", "ü &", ""])

    @pytest.mark.parametrize(
        "path", ["/x/%252e%252e%252fhook", "/x/%252e%252e/hook", "/%2568ook", "/hook%252f", "/x/../hook"]
    )
    async def test_it_never_takes_on_the_exemption_of_another_route(self, make, path):
        app = protected(make)
        assert await ask(app, "POST", "/hook", FORGED) == (200, ["hook"])

        assert (await ask(app, "POST", path, FORGED))[0] == 403


@pytest.mark.requirement("VAL-10")
async def test_a_plain_app_gets_path_and_query_as_the_server_gave_them():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    raw_path, query = f"/files/{DOUBLE}".encode(), f"q={DOUBLE}".encode()
    scope = http_scope(f"/files/{ONCE}", raw_path=raw_path, query_string=query)

    await call(Security().wrap(app), scope)

    assert (scopes[0]["path"], scopes[0]["raw_path"]) == (f"/files/{ONCE}", raw_path)
    assert scopes[0]["query_string"] == query


@APPS
@pytest.mark.slow
@pytest.mark.requirement("VAL-10", by="live")
class TestOverASocket:
    @pytest.fixture
    def send(self, make):
        """Send a request whose target no client tidies; return the status line and the body."""

        with serving(protected(make)) as url:
            address = "127.0.0.1", int(url.rpartition(":")[2])

            def call_it(method, target, *fields, body=b""):
                lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
                lines += [f"Content-Length: {len(body)}"] if body else []
                with socket.create_connection(address, PATIENCE_SECONDS) as wire:
                    wire.sendall("\r\n".join([*lines, "", ""]).encode() + body)
                    answer = b"".join(iter(lambda: wire.recv(65536), b""))
                head, _, text = answer.partition(b"\r\n\r\n")
                return int(head.split()[1]), text.decode().replace(", ", ",")

            yield call_it

    def test_a_doubly_encoded_value_arrives_encoded_once(self, send, make):
        assert send("GET", f"/files/{DOUBLE}etc?q={DOUBLE}", f"X-Probe: {DOUBLE}") == (
            200,
            f'["files","{ONCE}etc","{ONCE}","{DOUBLE}"]',
        )
        kind = "Content-Type: application/x-www-form-urlencoded"
        assert send("POST", "/form", kind, body=f"name={DOUBLE}".encode()) == (200, f'["form","{ONCE}"]')

    def test_it_never_leads_to_another_route_or_its_exemption(self, send, make):
        for target in (
            f"/files/{DOUBLE}private",
            "/files/%252e%252e/private",
            f"/files/{DOUBLE}{DOUBLE}private",
        ):
            assert send("GET", target)[1].startswith('["files"')
        forged = [f"{name}: {value}" for name, value in FORGED.items()]
        assert send("POST", "/hook", *forged) == (200, '["hook"]')
        for target in ("/x/%252e%252e%252fhook", "/x/%252e%252e/hook", "/%2568ook"):
            assert send("POST", target, *forged)[0] == 403
