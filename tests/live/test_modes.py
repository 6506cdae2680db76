"""What each mode opens and closes, and that every defence is one: without it the attack succeeds."""

import ipaddress
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.testclient import TestClient

from attack import NAVIGATION, Served, in_mode, protecting
from board import CANARY, make_board
from live import client, serving
from thebes import ConfigurationError, Security
from thebes.https.certificates import server_context
from thebes.https.local_ca import LocalCertificate, ensure_local_certificate
from thebes.serve import development

FORWARDING = [
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificate:
    folder = tmp_path_factory.mktemp("local")
    return ensure_local_certificate(folder / ".thebes", authority_directory=folder / "state")


@pytest.fixture(scope="module")
def developed(certificate: LocalCertificate) -> Iterator[Served]:
    """The board in development mode with the local authority's certificate, as `thebes dev` serves it."""

    def context(*_: Any) -> ssl.SSLContext:
        return server_context(certificate.certificate_path, certificate.key_path)

    files = {"ssl_certfile": str(certificate.certificate_path), "ssl_keyfile": str(certificate.key_path)}
    with protecting(
        make_board(), mode="development", server={**files, "ssl_context_factory": context}
    ) as served:
        yield served


@pytest.mark.requirement("TLS-28", by="live")
class TestDevelopmentOverTls:
    def test_a_client_that_trusts_the_local_authority_is_served(self, developed, certificate):
        answer = ask_over_tls(developed, certificate)
        assert answer.status_code == 200
        assert "strict-transport-security" not in answer.headers

    @pytest.mark.parametrize("host", ["app.localhost", "127.0.0.1", "[::1]:8443", "LOCALHOST"])
    def test_local_names_are_answered(self, developed, certificate, host):
        assert ask_over_tls(developed, certificate, Host=host).status_code == 200

    @pytest.mark.parametrize(
        "host",
        ["example.com", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[::2]", "testserver", "127.1"],
    )
    def test_other_names_get_421(self, developed, certificate, host):
        assert_refused(developed, certificate, Host=host)

    @pytest.mark.parametrize("field", FORWARDING)
    @pytest.mark.parametrize("value", ["127.0.0.1", "for=127.0.0.1", ""])
    def test_a_forwarding_field_gets_421(self, developed, certificate, field, value):
        assert_refused(developed, certificate, **{field: value})

    def test_the_certificate_lives_90_days_at_most_and_its_authority_is_bound_to_this_machine(
        self, developed, certificate
    ):
        authority = x509.load_pem_x509_certificate(certificate.ca_path.read_bytes())
        port = int(developed.url.rpartition(":")[2])
        shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
        assert shown.not_valid_after_utc - shown.not_valid_before_utc <= timedelta(days=90)
        assert shown.not_valid_before_utc <= datetime.now(UTC) <= shown.not_valid_after_utc
        shown.verify_directly_issued_by(authority)
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
        assert constraints.critical
        assert constraints.value.excluded_subtrees is None
        assert constraints.value.permitted_subtrees == [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
            x509.IPAddress(ipaddress.ip_network("::1/128")),
        ]


def ask_over_tls(served: Served, certificate: LocalCertificate, **fields: str) -> Any:
    trusting = ssl.create_default_context(cafile=certificate.ca_path)
    with client(served.url, verify=trusting) as browser:
        return browser.get("/page", headers=fields)


def assert_refused(served: Served, certificate: LocalCertificate, **fields: str) -> None:
    served.forget()
    answer = ask_over_tls(served, certificate, **fields)
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:thebes:problem:not-local")
    assert served.reached == []


@pytest.mark.requirement("TLS-28", by="live")
class TestDevelopmentAndTest:
    def test_a_name_that_is_not_local_gets_421(self, local):
        assert local.ask(base=[("Host", "evil.example")]).status == 421

    @pytest.mark.parametrize("field", FORWARDING)
    def test_a_forwarding_field_gets_421(self, local, field):
        for answer in (local.ask(fields=[(field, "")]), local.handshake([(field, "127.0.0.1")])):
            assert (answer.status, answer.kind) == (421, "not-local")

    def test_http_1_0_gets_421(self, local):
        assert local.ask(version="1.0").status == 421

    @pytest.mark.parametrize("field", ["Origin", "Referer"])
    def test_a_page_of_the_same_origin_under_another_host_gets_421(self, local, field):
        rebound = [("Sec-Fetch-Site", "same-origin"), (field, "https://board.example")]
        assert local.ask(fields=rebound).status == 421
        assert local.ask(fields=[("Sec-Fetch-Site", "same-origin"), (field, local.url)]).status == 200

    def test_a_form_of_a_page_without_referrer_is_no_page_under_another_host(self, local):
        # What Chromium sends from its own page under Referrer-Policy: no-referrer.
        fields = [*NAVIGATION[:2], ("Sec-Fetch-Site", "same-origin"), ("Origin", "null")]
        assert local.ask("POST", "/page", fields).status == 200

    def test_a_malformed_host_gets_400(self, local):
        assert local.ask(base=[]).kind == "host-malformed"
        assert local.ask(base=[*local.base, *local.base]).kind == "host-malformed"

    def test_the_health_path_takes_any_host_but_no_proxy(self, local):
        assert local.ask("GET", "/healthz", base=[("Host", "10.0.0.9")]).status == 200
        assert local.ask("GET", "/healthz", [("Via", "1.1 proxy")], base=[("Host", "10.0.0.9")]).status == 421

    def test_without_the_check_all_of_it_is_answered(self):
        with protecting(make_board(), mode="development", without=["hosts"]) as served:
            for field in FORWARDING:
                base = [("Host", "evil.example"), (field, "203.0.113.7")]
                assert served.ask(base=base, version="1.0").status == 200
                assert served.handshake(base=base).status == 101


@pytest.mark.requirement("TLS-28")
class TestHowDevelopmentIsEntered:
    @pytest.mark.parametrize(("name", "text"), [
        (".env", "THEBES_ENV=development\n"),
        (".env", "THEBES_MODE=development\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\nthebes_mode = "test"\n'),
    ])  # fmt: skip
    def test_not_by_a_file_that_travels_into_deployments(self, name, text):
        with in_mode("") as patch:
            patch.delenv("THEBES_ENV")
            Path(name).write_text(text)
            Path(name).chmod(0o600)
            assert Security(hosts=["example.com"]).settings().mode.value == "production"

    @pytest.mark.parametrize("setting", ["env", "mode"])
    def test_not_by_a_table_of_the_project_which_may_not_even_try(self, setting):
        with in_mode("production"):
            Path("pyproject.toml").write_text(f'[tool.thebes]\n{setting} = "development"\n')
            with pytest.raises(ConfigurationError, match=setting):
                Security().settings()

    def test_not_by_an_address(self):
        with (
            in_mode("production"),
            TestClient(
                Security(hosts=["localhost"]).protect(make_board()),
                base_url="http://localhost",
                client=("127.0.0.1", 1),
            ) as in_process,
        ):
            assert in_process.get("/page").status_code == 403  # plain HTTP is production's to refuse

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "example.com", "192.0.2.1"])
    def test_not_for_other_machines(self, tmp_path, host):
        with pytest.raises(ConfigurationError, match="development answers localhost"):
            development.run("main:app", directory=tmp_path, host=host, announce=lambda *_: None)

    def test_not_where_production_was_asked_for(self, tmp_path):
        with in_mode("production"), pytest.raises(ConfigurationError, match="production"):
            development.run("main:app", directory=tmp_path, announce=lambda *_: None)

    @pytest.mark.parametrize("peer", [("10.0.0.5", 1), ("203.0.113.5", 1), ("::2", 1), None])
    def test_not_to_a_peer_on_another_machine(self, peer):
        app = make_board()
        Security().protect(app)

        async def from_peer(scope, receive, send):
            await app({**scope, "client": peer}, receive, send)

        with in_mode("development"), TestClient(from_peer, base_url="https://localhost") as in_process:
            assert in_process.get("/page").status_code == 421


DOCUMENTATION = ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"]


def nested(**options: Any) -> FastAPI:
    """A board with a board in it, another one behind a middleware of its mount, and one with its own paths."""
    app = make_board(**options)
    app.mount("/inner", make_board(**options))
    app.routes.append(Mount("/zipped", make_board(**options), middleware=[Middleware(GZipMiddleware)]))
    app.mount("/own", make_board(**options, docs_url="/manual", redoc_url="/book", openapi_url="/schema"))
    return app


PARTS = [
    *DOCUMENTATION,
    *(f"/inner{path}" for path in DOCUMENTATION),
    "/own/manual",
    "/own/book",
    "/own/schema",
]
BEHIND_MIDDLEWARE = [f"/zipped{path}" for path in DOCUMENTATION]


@pytest.fixture(scope="module")
def careless() -> Iterator[Served]:
    """Production, of an app whose author left everything on."""
    with protecting(nested(debug=True)) as served:
        yield served


@pytest.mark.requirement("OPS-01", by="live")
class TestWhatProductionCloses:
    @pytest.mark.parametrize("path", [*PARTS, *BEHIND_MIDDLEWARE])
    def test_documentation_and_schema_are_not_there(self, careless, path):
        for target in (path, f"{path}/", f"{path}?a=1"):
            answer = careless.ask("GET", target, NAVIGATION)
            assert answer.status in (404, 307)
            assert b"swagger" not in answer.body.lower()
            assert b"openapi" not in answer.body.lower()

    @pytest.mark.parametrize("prefix", ["", "/inner", "/zipped"])
    def test_debug_shows_no_traceback(self, careless, prefix):
        answer = careless.ask("GET", f"{prefix}/crash", NAVIGATION)
        assert answer.status == 500
        for piece in (CANARY, "Traceback", "BoardError", ".py"):
            assert piece not in answer.body.decode()

    def test_that_debug_was_closed_is_said(self, careless):
        assert "debug_closed" in [event["event"] for event in careless.events]

    def test_a_wrapped_app_is_closed_too(self):
        with protecting(make_board(debug=True), wrap=True) as served:
            assert served.ask("GET", "/docs").status == 404
            assert CANARY not in served.ask("GET", "/crash", NAVIGATION).body.decode()

    def test_an_app_inside_a_middleware_is_closed_too(self):
        inner = make_board(debug=True)
        outer = GZipMiddleware(inner)
        with protecting(outer, wrap=True) as served:
            assert served.ask("GET", "/docs").status == 404
            assert CANARY not in served.ask("GET", "/crash", NAVIGATION).body.decode()

    @pytest.mark.parametrize(
        "path", ["/metrics", "/health", "/healthz/detail", "/debug", "/status", "/.thebes"]
    )
    def test_the_package_adds_no_path_of_its_own(self, careless, path):
        assert careless.ask("GET", path).status == 404

    def test_the_health_path_says_what_the_app_says_and_no_more(self, careless):
        assert careless.ask("GET", "/healthz").body == b"ok"

    def test_a_route_of_the_app_at_the_same_path_stays(self):
        app = make_board()
        app.add_api_route("/docs", lambda: "the board's own documents", methods=["GET"])
        with protecting(app) as served:
            assert served.ask("GET", "/docs").body == b'"the board\'s own documents"'

    @pytest.mark.parametrize("path", [*PARTS, *BEHIND_MIDDLEWARE])
    def test_documentation_is_opened_by_name(self, open_by_name, path):
        assert open_by_name.ask("GET", path, NAVIGATION).status == 200

    def test_debug_is_opened_by_name(self, open_by_name):
        assert CANARY in open_by_name.ask("GET", "/crash", NAVIGATION).body.decode()

    def test_nothing_of_it_is_closed_without_us(self):
        with serving(nested(debug=True)) as url, client(url, headers={"Connection": "close"}) as bare:
            assert [bare.get(path).status_code for path in PARTS] == [200] * len(PARTS)
            assert CANARY in bare.get("/crash").text

    def test_auto_reload_belongs_to_the_development_server_which_production_refuses(self, tmp_path):
        command = [sys.executable, "-m", "thebes", "dev", "main:app", "--reload", "--port", "0"]
        environment = {"THEBES_ENV": "production", "PATH": ""}
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=30
        )
        assert ended.returncode == 1
        assert b"unset it to run the development server" in ended.stderr


@pytest.fixture(scope="module")
def open_by_name() -> Iterator[Served]:
    with protecting(nested(debug=True), docs=True, insecure_debug=True) as served:
        yield served


@pytest.mark.requirement("OPS-01")
class TestWhatStaysOpenElsewhere:
    @pytest.mark.parametrize("mode", ["development", "test"])
    def test_documentation_and_debug(self, mode):
        app = Security().protect(nested(debug=True))
        with (
            in_mode(mode),
            TestClient(
                app, base_url="https://localhost", client=("127.0.0.1", 1), raise_server_exceptions=False
            ) as browser,
        ):
            assert [browser.get(path).status_code for path in PARTS] == [200] * len(PARTS)
            assert CANARY in browser.get("/crash", headers={"accept": "text/html"}).text
        assert app.debug

    def test_but_an_insecure_switch_cannot_come_from_a_file_or_the_environment(self):
        with in_mode("production") as patch:
            patch.setenv("THEBES_INSECURE_DEBUG", "true")
            assert not Security(hosts=["example.com"]).settings().insecure_debug
            Path("pyproject.toml").write_text("[tool.thebes]\ninsecure_debug = true\n")
            with pytest.raises(ConfigurationError, match="insecure_debug"):
                Security().settings()
