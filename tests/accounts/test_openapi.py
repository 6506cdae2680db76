"""The published description of the account API is that of the routes: nothing more, nothing less."""

import base64
import re
from collections.abc import Iterator

import msgspec
import pytest
from fastapi import FastAPI
from fastapi.openapi.models import OpenAPI

from attack import in_mode
from thebes import Security
from thebes.accounts import openapi
from thebes.fastapi import CurrentPrincipal
from thebes.protection import owner_of
from thebes.testing import client
from thebes.testing.synchronous import Client

PASSWORD = "sunrise over seven gates"
EMAIL = "ada@example.com"
# A value for each field of a body, good enough to be read.
VALUES = {
    "email": EMAIL, "username": EMAIL, "password": PASSWORD, "current_password": PASSWORD, "token": "x" * 43,
    "refresh_token": "x",
}  # fmt: skip
SHORTEST = [
    pytest.param({}, id="by default"),
    pytest.param({"accounts_prefix": "/v1/people"}, id="with another prefix"),
]


def make(**settings) -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    def who(who: CurrentPrincipal) -> dict[str, str]:
        return {"id": who.id}

    return Security(**({"passwords": "test"} | settings)).protect(app)


@pytest.fixture(scope="module")
def browser() -> Iterator[Client]:
    with client(make()) as browser:
        yield browser


@pytest.fixture(scope="module")
def document(browser: Client) -> dict:
    return browser.get("/auth/openapi.json").json()


class TestTheDocument:
    @pytest.mark.requirement("VAL-02")
    def test_has_every_route_of_the_table_and_no_other(self, browser, document):
        routes = owner_of(browser.app).membership.routes
        described = {
            (path, method.upper()) for path, operations in document["paths"].items() for method in operations
        }
        sessions = {
            (path, method) for path, method in described if path.startswith("/auth/sessions/{session_id}")
        }
        served = {(path, method) for path, methods in routes.paths.items() for method in methods}
        assert described - sessions == served
        for path, method in sessions:
            assert method in routes._methods(path.replace("{session_id}", "some-id"))
        assert len(sessions) == 2

    def test_has_the_structure_of_openapi(self, document):
        parsed = OpenAPI.model_validate(document)
        assert re.fullmatch(r"3\.1\.\d+", parsed.openapi)
        operations = [each for path in document["paths"].values() for each in path.values()]
        ids = [operation["operationId"] for operation in operations]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-z_]+", name) for name in ids)
        for path, methods in document["paths"].items():
            wanted = re.findall(r"{(\w+)}", path)
            for operation in methods.values():
                assert [each["name"] for each in operation.get("parameters", [])] == wanted

    def test_refers_to_nothing_that_it_lacks(self, document):
        text = msgspec.json.encode(document).decode()
        references = set(re.findall(r'"\$ref":"#/components/(\w+)/([\w.]+)"', text))
        assert text.count('"$ref"') == len(re.findall(r'"\$ref":"#/components/\w+/[\w.]+"', text))
        assert all(name in document["components"][kind] for kind, name in references)
        assert {name for kind, name in references if kind == "schemas"} == set(
            document["components"]["schemas"]
        )

    def test_names_the_bodies_that_the_routes_read(self, browser, document):
        """Each body as described is read; with a field more, or without one that it needs, it isn't."""
        browser.sign_in(EMAIL)
        for path, operation, schema, media in bodies_of(document):
            good = {name: VALUES[name] for name in schema["required"]}
            assert problem(browser, path, good, media) != "bad-fields", operation
            for bad in ({**good, "is_admin": "yes"}, *({**good} | {name: None} for name in good)):
                sent = {name: value for name, value in bad.items() if value is not None}
                assert problem(browser, path, sent, media) == "bad-fields", (operation, sent)
            browser.sign_in(EMAIL)

    def test_says_which_routes_need_somebody_signed_in(self, browser, document):
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                browser.cookies.clear()
                here = {**document, "paths": {path: {method: operation}}}
                bodies = [dict.fromkeys(schema["required"], PASSWORD) for _, _, schema, _ in bodies_of(here)]
                sent = {"json": bodies[0]} if bodies else {}
                answer = browser.request(method.upper(), path.replace("{session_id}", "some-id"), **sent)
                is_refused = answer.status_code == 401 and answer.json()["type"].endswith(":sign-in-required")
                assert is_refused is ("security" in operation), operation["operationId"]

    def test_has_the_password_flow_as_the_form_that_it_is(self, document):
        operation = document["paths"]["/auth/token"]["post"]
        assert [*operation["requestBody"]["content"]] == ["application/x-www-form-urlencoded"]

    def test_names_the_fields_of_the_answers(self, browser, document):
        shown = document["components"]["schemas"]
        browser.sign_in(EMAIL)
        for path, name in (("me", "Account"), ("sessions", "Sessions"), ("csrf", "CsrfToken")):
            matches(browser.get(f"/auth/{path}").json(), shown[f"thebes.{name}"])
        matches(browser.get("/.well-known/jwks.json").json(), shown["thebes.Keys"])
        matches(browser.get("/auth/reset").json(), shown["thebes.Problem"])
        matches(browser.post("/auth/reset", json={}).json(), shown["thebes.Problem"])

    def test_is_open_in_tests(self, browser):
        assert browser.get("/auth/openapi.json").status_code == 200

    @pytest.mark.parametrize(("docs", "status"), [(False, 404), (True, 200)])
    def test_is_closed_in_production_unless_documentation_is_asked_for(self, docs, status):
        with (
            in_mode("production"),
            client(make(passwords="64MiB", hosts=["testserver"], docs=docs)) as browser,
        ):
            answer = browser.get("/auth/openapi.json")
            assert answer.status_code == status
            if docs:
                assert "/auth/token" not in answer.json()["paths"]
                assert browser.post("/auth/token").status_code == 404
                assert answer.json()["components"]["securitySchemes"]["Account"]["type"] == "http"


class TestTheDocumentOfTheApp:
    def test_has_the_routes_of_accounts_if_asked_for(self):
        app = make(include_accounts=True)
        document = app.openapi()
        accounts = client(app).get("/auth/openapi.json").json()
        assert document["paths"].keys() == {"/who", *accounts["paths"]}
        assert document["components"]["schemas"].keys() >= accounts["components"]["schemas"].keys()
        assert client(app).get("/openapi.json").json() == msgspec.json.decode(msgspec.json.encode(document))
        OpenAPI.model_validate(document)

    def test_has_them_once_however_often_it_is_asked_for(self):
        app = make(include_accounts=True)
        assert app.openapi() == app.openapi()
        assert "/auth/login" not in app.openapi_schema["paths"]

    def test_stays_what_it_was_where_the_app_asks_nobody_to_sign_in(self):
        assert Security().protect(FastAPI()).openapi() == FastAPI().openapi()

    def test_has_none_of_them_by_default(self):
        assert make().openapi()["paths"].keys() == {"/who"}
        assert make(accounts=None, include_accounts=True).openapi()["paths"].keys() == {"/who"}

    def test_keeps_what_the_app_calls_by_the_same_name(self):
        app = FastAPI(openapi_tags=[{"name": "notes"}])

        class Token(msgspec.Struct):
            """The app's own."""

        app.openapi = lambda: {"paths": {}, "components": {"schemas": {"Token": {"title": "mine"}}}}
        document = Security(include_accounts=True).protect(app).openapi()
        assert document["components"]["schemas"]["Token"] == {"title": "mine"}
        assert document["components"]["schemas"]["thebes.Token"]["required"] == ["token"]

    def test_can_still_be_replaced_by_the_app(self):
        app = make(include_accounts=True)
        app.openapi = lambda: {"paths": {"/mine": {}}}
        assert app.openapi() == {"paths": {"/mine": {}}}
        assert client(app).get("/openapi.json").json() == {"paths": {"/mine": {}}}

    def test_is_untouched_where_there_is_none(self):
        from starlette.applications import Starlette

        assert not hasattr(Security().protect(Starlette()), "openapi")


class TestAuthorize:
    @pytest.mark.parametrize("settings", SHORTEST)
    def test_gets_a_token_where_the_document_says(self, settings):
        app = make(**settings)
        with client(app) as browser:
            browser.sign_in(EMAIL)
            register(browser, settings.get("accounts_prefix", "/auth"))
            browser.sign_out()
            scheme = browser.get("/openapi.json").json()["components"]["securitySchemes"]["Account"]
            token_url = scheme["flows"]["password"]["tokenUrl"]
            assert not token_url.startswith("/")
            answer = browser.post(f"/{token_url}", data=FLOW, headers=SWAGGER)
            assert answer.status_code == 200
            bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            assert browser.get("/who", headers=bearer).status_code == 200
            assert not browser.cookies.jar

    def test_is_for_bearer_tokens_alone_in_production(self):
        with in_mode("production"):
            document = make(hosts=["testserver"], docs=True).openapi()
        scheme = document["components"]["securitySchemes"]["Account"]
        assert scheme == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


# What Swagger UI sends: the form, and the client that nobody has in a Basic field.
FLOW = {"grant_type": "password", "username": "bob@example.com", "password": PASSWORD}
SWAGGER = {
    "Authorization": "Basic " + base64.b64encode(b"undefined:undefined").decode(),
    "Origin": "https://testserver",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
}


def register(browser: Client, prefix: str) -> None:
    body = {"email": "bob@example.com", "password": PASSWORD}
    assert browser.post(f"{prefix}/register", json=body).status_code == 202
    token = browser.mailbox.last_token(to="bob@example.com")
    assert browser.post(f"{prefix}/verify", json={"token": token}).status_code == 204


def bodies_of(document: dict) -> Iterator[tuple[str, str, dict, str]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                name = content["schema"]["$ref"].rpartition("/")[2]
                yield path, operation["operationId"], document["components"]["schemas"][name], media


def problem(browser: Client, path: str, body: dict, media: str) -> str | None:
    if path.endswith("/refresh"):
        browser.cookies.clear()
    sent = {"json": body} if media == openapi.JSON else {"data": body}
    answer = browser.post(path, **sent)
    is_problem = answer.headers.get("content-type") == openapi.PROBLEM_JSON
    return answer.json()["type"].rpartition(":")[2] if is_problem else None


def matches(value: object, schema: dict) -> None:
    """Fail unless an object has the fields of its schema, however deep, and no other."""
    if schema.get("type") == "object" and "properties" in schema:
        assert isinstance(value, dict)
        assert set(schema["required"]) <= value.keys() <= schema["properties"].keys()
        for name, each in value.items():
            matches(each, schema["properties"][name])
    elif schema.get("type") == "array":
        assert isinstance(value, list)
        for each in value:
            matches(each, schema["items"])
