"""Where the CSRF check looks and where it doesn't: exemptions, credentials, WebSockets, development."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import ask, request_facts
from calling import call
from forging import ATTACKER, OWN, SESSION, TRUSTED, UNSAFE, verdict
from thebes import ConfigurationError, Security
from thebes.csrf import CROSS_ORIGIN, NO_ORIGIN
from thebes.facts import Denial, Mode
from thebes.paths import RoutePattern, RouteTable

FORGED = (("Origin", ATTACKER), ("Sec-Fetch-Site", "cross-site"))
# What browsers add by themselves, once a user has signed in with it.
AMBIENT = [
    "Basic YTpi",
    "Digest username=a",
    "Negotiate YII",
    "NTLM TlR",
    "basic YTpi",
    "Mutual a",
    "Token a",
]
NO_TOKENS = [
    *("", "Bearerx abc", "xBearer abc", "Bearer,abc", "Basic Bearer abc", "\xa0Bearer abc", "DPoPx abc"),
    *("BearerDPoP abc", "=Bearer abc", '"Bearer" abc', "Bearer\0 abc"),
]
TOKENS = ["Bearer abc", "DPoP abc", "bearer abc", "BEARER abc", "dpop abc"]


@pytest.mark.requirement("CSR-05")
class TestWhereTheCheckIsSkipped:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    @pytest.mark.parametrize("cookie", [None, SESSION[1]], ids=["no session", "session"])
    def test_get_head_and_options_pass(self, method: str, cookie: str | None):
        assert verdict(method, *FORGED, ("Cookie", cookie)) is None
        assert verdict(method, ("Cookie", cookie)) is None

    @pytest.mark.parametrize("method", UNSAFE)
    def test_every_other_method_is_judged(self, method: str):
        assert verdict(method, *FORGED) is CROSS_ORIGIN
        assert verdict(method, SESSION) is NO_ORIGIN

    @pytest.mark.parametrize("authorization", TOKENS)
    @pytest.mark.parametrize("method", UNSAFE)
    def test_a_bearer_or_dpop_token_without_a_session_cookie_passes(self, method: str, authorization: str):
        assert verdict(method, *FORGED, ("Authorization", authorization)) is None
        assert verdict(method, *FORGED, ("Authorization", authorization), ("Cookie", "theme=dark")) is None

    @pytest.mark.parametrize("authorization", [*AMBIENT, *NO_TOKENS])
    @pytest.mark.parametrize("method", UNSAFE)
    def test_no_other_authorization_does(self, method: str, authorization: str):
        assert verdict(method, *FORGED, ("Authorization", authorization)) is CROSS_ORIGIN

    @pytest.mark.parametrize("pair", list(itertools.permutations(["Bearer abc", "Basic YTpi"])))
    def test_an_ambient_credential_beside_a_token_counts(self, pair: tuple[str, str]):
        lines = [("Authorization", value) for value in pair]

        assert verdict("POST", *FORGED, *lines) is CROSS_ORIGIN

    @pytest.mark.parametrize(
        "field",
        [
            ("X-Requested-With", "XMLHttpRequest"),
            ("X-CSRF-Token", "abc"),
            ("X-HTTP-Method-Override", "GET"),
            ("X-HTTP-Method", "GET"),
            ("X-Method-Override", "GET"),
            ("Sec-Fetch-Mode", "cors"),
            ("Sec-Fetch-Dest", "empty"),
            ("Content-Type", "application/json"),
            ("Content-Type", "text/plain"),
            ("Content-Length", "0"),
            ("Accept", "application/json"),
            ("Upgrade", "websocket"),
            ("Access-Control-Request-Method", "POST"),
            ("X-Forwarded-Host", "attacker.example"),
            ("Host", "attacker.example"),
            ("Cookie", "csrftoken=abc"),
        ],
    )
    def test_no_other_field_and_no_content_type_exempts(self, field: tuple[str, str]):
        assert verdict("POST", *FORGED, field) is CROSS_ORIGIN
        assert verdict("POST", SESSION, field) is NO_ORIGIN

    def test_a_route_is_exempt_by_its_exact_path_and_method(self):
        routes = RouteTable()
        routes.exempt(RoutePattern.parse("POST /saml/acs"), "csrf", "signed by the identity provider")

        for lines in (FORGED, (SESSION,), (*FORGED, SESSION)):
            assert verdict("POST", *lines, path="/saml/acs", routes=routes) is None
            for path in (
                "/saml/acs/",
                "/saml/acs/x",
                "/saml",
                "/SAML/acs",
                "//saml/acs",
                "/saml/./acs",
                "/x/saml/acs",
            ):
                assert verdict("POST", *lines, path=path, routes=routes) is not None
            for method in set(UNSAFE) - {"POST"}:
                assert verdict(method, *lines, path="/saml/acs", routes=routes) is not None

    def test_an_exemption_from_another_check_is_none_from_this(self):
        routes = RouteTable()
        routes.exempt(RoutePattern.parse("POST /hook"), "limits", "a test")

        assert verdict("POST", *FORGED, path="/hook", routes=routes) is CROSS_ORIGIN

    @pytest.mark.parametrize(
        ("pattern", "check", "reason", "found"),
        [
            ("POST /saml/*", "csrf", "all of it", "one path"),
            ("POST *", "csrf", "all of it", "is no route"),
            ("* /saml", "csrf", "all methods", "is no route"),
            ("/saml", "csrf", "no method", "is no route"),
            ("POST /saml", "csrf", " ", "why this is safe"),
            ("POST /saml", "hosts", "another check", "knows no exemption"),
        ],
    )
    def test_routes_are_exempted_one_by_one_with_a_reason(
        self, pattern: str, check: str, reason: str, found: str
    ):
        with pytest.raises(ConfigurationError, match=found):
            Security().exempt(pattern, check, reason=reason)


@pytest.mark.requirement("CSR-06")
class TestASessionCookieBesideAuthorization:
    @pytest.mark.parametrize("authorization", [*TOKENS, *AMBIENT, "", "Bearer", "anything"])
    @pytest.mark.parametrize("cookie", ["session=1", "SESSION=1", "a=1; session=", "__Host-thebes-session=x"])
    @pytest.mark.parametrize("method", UNSAFE)
    def test_the_check_runs(self, method: str, cookie: str, authorization: str):
        both = [("Authorization", authorization), ("Cookie", cookie)]

        assert verdict(method, *both, *FORGED) is CROSS_ORIGIN
        assert verdict(method, *both, ("Sec-Fetch-Site", "same-site"), ("Origin", ATTACKER)) is CROSS_ORIGIN
        assert verdict(method, *both, ("Origin", "null")) is CROSS_ORIGIN
        assert verdict(method, *both) is NO_ORIGIN
        assert verdict(method, *both, ("Origin", OWN)) is None
        assert verdict(method, *both, ("Sec-Fetch-Site", "same-origin")) is None

    @given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30))
    def test_the_check_runs_whatever_stands_in_authorization(self, authorization: str):
        assert verdict("POST", ("Authorization", authorization), SESSION, *FORGED) is CROSS_ORIGIN


class TestWebSocketHandshakes:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            pytest.param([("Origin", OWN)], None, id="own origin"),
            pytest.param([("Origin", OWN), SESSION], None, id="own origin, session"),
            pytest.param([("Origin", TRUSTED), SESSION], None, id="configured origin, session"),
            pytest.param(
                [("Origin", TRUSTED), ("Sec-Fetch-Site", "cross-site"), SESSION],
                None,
                id="configured, cross-site",
            ),
            pytest.param([], None, id="no browser, no session"),
            pytest.param([("Authorization", "Bearer abc")], None, id="no browser, a token"),
            pytest.param([SESSION], NO_ORIGIN, id="no browser, but a session"),
            pytest.param([SESSION, ("Authorization", "Bearer abc")], NO_ORIGIN, id="a session and a token"),
            pytest.param([("Origin", ATTACKER)], CROSS_ORIGIN, id="another origin"),
            pytest.param([("Origin", ATTACKER), SESSION], CROSS_ORIGIN, id="another origin, session"),
            pytest.param(
                [("Origin", ATTACKER), ("Authorization", "Bearer abc")],
                CROSS_ORIGIN,
                id="another origin, token",
            ),
            pytest.param([("Origin", "null"), SESSION], CROSS_ORIGIN, id="a sandboxed frame"),
            pytest.param([("Origin", "null")], CROSS_ORIGIN, id="a sandboxed frame, no session"),
            pytest.param([("Origin", "")], CROSS_ORIGIN, id="empty origin"),
            pytest.param([("Origin", OWN), ("Origin", OWN)], CROSS_ORIGIN, id="doubled origin"),
            pytest.param([("Origin", "wss://example.com")], CROSS_ORIGIN, id="the scheme of WebSockets"),
            pytest.param([("Origin", "http://example.com")], CROSS_ORIGIN, id="plain http"),
            pytest.param([("Origin", f"{OWN}:8443")], CROSS_ORIGIN, id="another port"),
            pytest.param([("Origin", f"{OWN}.attacker.example")], CROSS_ORIGIN, id="a suffix"),
            pytest.param([("Sec-Fetch-Site", "same-origin")], CROSS_ORIGIN, id="a browser without Origin"),
            pytest.param([("Sec-Fetch-Site", "none"), SESSION], CROSS_ORIGIN, id="none without Origin"),
            pytest.param([("Referer", f"{OWN}/")], CROSS_ORIGIN, id="a referer without Origin"),
            pytest.param(
                [("Origin", ATTACKER), ("Sec-Fetch-Site", "same-origin")],
                CROSS_ORIGIN,
                id="another origin, same site",
            ),
        ],
    )
    def test_they_need_a_configured_origin_or_no_browser_and_no_session(
        self, lines: list[tuple[str, str | None]], expected: Denial | None
    ):
        """Browsers attach cookies to handshakes from any page, and CORS does not apply to them."""
        assert verdict("GET", *lines, type="websocket") is expected

    def test_a_handshake_is_exempt_by_its_exact_path_only(self):
        routes = RouteTable()
        routes.exempt(RoutePattern.parse("GET /public"), "csrf", "a ticker that anybody may read")

        assert verdict("GET", *FORGED, SESSION, path="/public", routes=routes, type="websocket") is None
        for path in ("/public/", "/PUBLIC", "//public", "/public/x"):
            assert (
                verdict("GET", *FORGED, SESSION, path=path, routes=routes, type="websocket") is CROSS_ORIGIN
            )


class TestTheOwnOriginOfDevelopment:
    @pytest.mark.parametrize(
        ("scheme", "host", "origin", "is_own"),
        [
            pytest.param("http", "localhost:8000", "http://localhost:8000", True, id="the same"),
            pytest.param("https", "localhost:8443", "https://localhost:8443", True, id="over TLS"),
            pytest.param("https", "testserver", "https://testserver", True, id="a test client"),
            pytest.param("http", "localhost:80", "http://localhost", True, id="default port of http"),
            pytest.param("https", "localhost:443", "https://localhost", True, id="default port of https"),
            pytest.param("http", "LOCALHOST:8000", "http://localhost:8000", True, id="Host in upper case"),
            pytest.param("http", "[::1]:8000", "http://[::1]:8000", True, id="IPv6"),
            pytest.param("http", "localhost:8000", "http://localhost:8001", False, id="another port"),
            pytest.param("http", "localhost:8000", "http://localhost", False, id="no port"),
            pytest.param("http", "localhost", "http://localhost:8000", False, id="a port"),
            pytest.param("http", "localhost:443", "http://localhost", False, id="the other default port"),
            pytest.param(
                "https", "localhost:80", "https://localhost", False, id="the other default port, TLS"
            ),
            pytest.param("http", "localhost:8000", "https://localhost:8000", False, id="another scheme"),
            pytest.param("https", "localhost:8000", "http://localhost:8000", False, id="plain http"),
            pytest.param("http", "localhost:8000", "http://127.0.0.1:8000", False, id="another name of it"),
            pytest.param("http", "localhost:8000", "http://app.localhost:8000", False, id="a subdomain"),
            pytest.param(
                "http", "localhost:8000", "http://localhost:8000.attacker.example", False, id="suffix"
            ),
            pytest.param("http", "localhost:8000", "http://LOCALHOST:8000", False, id="Origin in upper case"),
            pytest.param("http", "localhost:8000", "null", False, id="null"),
        ],
    )
    @pytest.mark.parametrize("mode", [Mode.DEVELOPMENT, Mode.TEST])
    @pytest.mark.parametrize("kind", ["http", "websocket"])
    def test_it_is_the_scheme_and_host_of_the_request(
        self, scheme: str, host: str, origin: str, is_own: bool, mode: Mode, kind: str
    ):
        lines = [("Host", host), ("Origin", origin), SESSION]
        connection = {"type": kind, "scheme": scheme}

        assert (verdict("POST", *lines, mode=mode, origins=(), **connection) is None) is is_own
        assert verdict("POST", *lines, mode=Mode.PRODUCTION, origins=(), **connection) is CROSS_ORIGIN

    def test_a_configured_origin_counts_there_too(self):
        lines = [("Host", "localhost:8000"), ("Origin", TRUSTED), SESSION]

        assert verdict("POST", *lines, mode=Mode.DEVELOPMENT) is None

    def test_its_referer_counts_like_its_origin(self):
        own = [("Host", "localhost:8000"), SESSION]

        assert verdict("POST", *own, ("Referer", "http://localhost:8000/a"), mode=Mode.DEVELOPMENT) is None
        assert (
            verdict("POST", *own, ("Referer", "http://localhost:8001/a"), mode=Mode.DEVELOPMENT)
            is CROSS_ORIGIN
        )


FORMS = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]


class TestAProtectedApp:
    @pytest.fixture
    def reached(self) -> list[str]:
        return []

    @pytest.fixture
    def bare(self, reached: list[str]) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            reached.append(scope["method"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        return app

    @pytest.mark.parametrize("content_type", FORMS)
    async def test_a_form_of_another_site_never_reaches_it(self, bare, reached: list[str], content_type: str):
        fields = {"Content-Type": content_type, "Origin": ATTACKER, "Sec-Fetch-Site": "cross-site"}
        forged = request_facts("POST", "/", fields | {"Cookie": "session=1", "Content-Length": "3"})

        answer = await ask(Security(session_cookies=["session"]).wrap(bare), forged, b"a=1")

        assert (answer.status, reached) == (403, [])

    @pytest.mark.parametrize("content_type", FORMS)
    async def test_it_does_where_the_defence_is_taken_out(self, bare, reached: list[str], content_type: str):
        fields = {"Content-Type": content_type, "Origin": ATTACKER, "Sec-Fetch-Site": "cross-site"}
        forged = request_facts("POST", "/", fields | {"Cookie": "session=1", "Content-Length": "3"})

        answer = await ask(Security(session_cookies=["session"]).without("csrf").wrap(bare), forged, b"a=1")

        assert (answer.status, reached) == (200, ["POST"])

    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize(
        "lines", [[*FORGED], [*FORGED, SESSION], [SESSION]], ids=["forged", "both", "session"]
    )
    async def test_no_method_but_the_safe_ones_gets_around_it(
        self, bare, reached: list[str], method: str, lines: list[tuple[str, str]]
    ):
        app = Security(session_cookies=["session"]).wrap(bare)

        for fields in (lines, [*lines, ("Content-Length", "0")], [*lines, ("Content-Type", FORMS[0])]):
            assert (await ask(app, request_facts(method, "/", fields))).status == 403
        assert reached == []

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    async def test_the_safe_methods_reach_it_from_everywhere(self, bare, reached: list[str], method: str):
        app = Security(session_cookies=["session"]).wrap(bare)

        assert (await ask(app, request_facts(method, "/", [*FORGED, SESSION]))).status == 200
        assert reached == [method]

    @pytest.mark.parametrize("lines", [[*FORGED], [*FORGED, SESSION], [SESSION], [("Origin", "null")]])
    async def test_a_forged_handshake_never_reaches_it(
        self, bare, reached: list[str], lines: list[tuple[str, str]]
    ):
        app = Security(session_cookies=["session"]).wrap(bare)
        handshake = request_facts("GET", "/", lines, type="websocket").scope
        del handshake["method"]  # as in ASGI: a handshake has none

        assert await call(app, handshake) == [{"type": "websocket.close", "code": 1008}]
        assert reached == []

    async def test_configured_origins_and_cookies_are_those_of_the_settings(self, bare, reached: list[str]):
        app = Security(origins=["https://APP.example.com:443/"], session_cookies=["Sid"]).wrap(bare)

        async def status(**fields: str) -> int:
            named = {name.replace("_", "-"): value for name, value in fields.items()}
            return (await ask(app, request_facts("POST", "/", named))).status

        assert await status(origin="https://app.example.com", cookie="sid=1") == 200
        assert await status(origin="https://app.example.com:8443") == 403
        assert await status(cookie="sid=1") == 403
        assert await status(cookie="other=1") == 200
        assert await status(sec_fetch_site="cross-site", origin="https://app.example.com") == 200
        assert (
            await status(sec_fetch_site="cross-site", origin="https://app.example.com", cookie="SID=1") == 403
        )
