"""Attack with a signed-in victim's browser: another site's page sends requests in its name."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from attack import FETCH, HTTPS, NAVIGATION, Served, protecting
from thebes import Security

OWN = "https://example.com"
PARTNER = "https://app.partner.example"
EVIL = "https://evil.example"
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
SIMPLE_TYPES = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain", None]
FORGED = {
    "from today's browser": [
        ("Origin", EVIL),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
    ],
    "from a browser of 2020": [("Origin", EVIL), ("Referer", f"{EVIL}/page")],
    "from a browser without Origin": [("Referer", f"{EVIL}/page")],
    "from a sandboxed frame": [("Origin", "null"), ("Sec-Fetch-Site", "cross-site")],
    "from a sandboxed frame of 2020": [("Origin", "null")],
    "from a sibling's page": [("Origin", "https://blog.example.com"), ("Sec-Fetch-Site", "same-site")],
    "from a page that hides where it is": [],
}


def make_bank() -> Starlette:
    """Return an app whose users sign in with a session cookie, and whose money moves on unsafe methods."""

    async def sign_in(request: Request) -> Response:
        request.session["user"] = "ada"
        return Response(status_code=204)

    async def transfer(request: Request) -> Response:
        if request.session.get("user") != "ada" and "authorization" not in request.headers:
            return Response(status_code=401)
        app.state.reached.append(f"{request.method} {request.url.path}")
        return JSONResponse({"transfers": len(app.state.reached)})

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        app.state.reached.append("WEBSOCKET")
        await websocket.close()

    app = Starlette(
        routes=[
            Route("/sign-in", sign_in, methods=["POST"]),
            Route("/transfer", transfer, methods=METHODS),
            Route("/saml/acs", transfer, methods=METHODS),
            Route("/saml/acs/", transfer, methods=METHODS),
            WebSocketRoute("/socket", socket),
        ],
        middleware=[Middleware(SessionMiddleware, secret_key="only for this test", https_only=True)],
    )
    app.state.reached = []
    return app


def exempt(security: Security) -> None:
    security.exempt("POST /saml/acs", "csrf", reason="signed by the identity provider")


@pytest.fixture(scope="module")
def bank() -> Iterator[Served]:
    with protecting(make_bank(), origins=[PARTNER], session_cookies=["session"], prepare=exempt) as served:
        yield served


@pytest.fixture(scope="module")
def bank_by_default() -> Iterator[Served]:
    with protecting(make_bank()) as served:
        yield served


@pytest.fixture(scope="module")
def defenceless() -> Iterator[Served]:
    """The bank without its check of origins."""
    with protecting(make_bank(), session_cookies=["session"], without=["csrf"]) as served:
        yield served


def signed_in(served: Served) -> tuple[str, str]:
    """The Cookie field of a user who has just signed in on a page of the bank."""
    answer = served.ask("POST", "/sign-in", [("Origin", OWN), ("Sec-Fetch-Site", "same-origin")])
    served.forget()
    return "Cookie", answer.only("set-cookie").partition(";")[0]


def typed(content_type: str | None) -> list[tuple[str, str]]:
    return [("Content-Type", content_type)] if content_type else []


BODY = b'--b\r\nContent-Disposition: form-data; name="to"\r\n\r\nmallory\r\n--b--\r\n'


@pytest.mark.requirement("CSR-01", by="live")
class TestForgedForms:
    @pytest.mark.parametrize("content_type", SIMPLE_TYPES)
    @pytest.mark.parametrize("fields", FORGED.values(), ids=FORGED)
    def test_are_refused_although_the_cookie_came(self, bank, content_type, fields):
        cookie = signed_in(bank)
        answer = bank.ask("POST", "/transfer", [*typed(content_type), *fields, cookie], body=BODY)
        assert answer.status == 403
        assert bank.reached == []
        assert bank.security.events.counts["request_denied"] == 1

    @pytest.mark.parametrize("content_type", SIMPLE_TYPES)
    def test_are_refused_with_the_default_settings(self, bank_by_default, content_type):
        cookie = signed_in(bank_by_default)
        # All but the last: whether a client that names no origin is a browser shows by a cookie of
        # the app's own only where the app has named it in session_cookies.
        for fields in list(FORGED.values())[:-1]:
            answer = bank_by_default.ask(
                "POST", "/transfer", [*typed(content_type), *fields, cookie], body=BODY
            )
            assert answer.status == 403
        assert bank_by_default.reached == []

    @pytest.mark.parametrize("content_type", [*SIMPLE_TYPES, "application/json"])
    def test_are_no_reason_to_refuse_the_banks_own(self, bank, content_type):
        own = [("Origin", OWN), ("Sec-Fetch-Site", "same-origin"), *typed(content_type), signed_in(bank)]
        assert bank.ask("POST", "/transfer", own, body=BODY).status == 200
        assert bank.reached == ["POST /transfer"]

    @pytest.mark.parametrize("content_type", SIMPLE_TYPES)
    @pytest.mark.parametrize("fields", FORGED.values(), ids=FORGED)
    def test_move_money_without_the_check(self, defenceless, content_type, fields):
        cookie = signed_in(defenceless)
        answer = defenceless.ask("POST", "/transfer", [*typed(content_type), *fields, cookie], body=BODY)
        assert (answer.status, defenceless.reached) == (200, ["POST /transfer"])


ALL, NONE, NO_COOKIE = (True, True), (False, False), (False, True)  # with a session cookie, without one


@pytest.mark.requirement("CSR-02", by="live")
@pytest.mark.parametrize(
    ("site", "origin", "passes"),
    [
        ("same-origin", None, ALL),
        ("same-origin", OWN, ALL),
        ("same-origin", "null", ALL),
        ("none", None, ALL),
        ("same-site", None, NONE),
        ("same-site", "https://blog.example.com", NONE),
        ("same-site", "null", NONE),
        ("same-site", PARTNER, ALL),
        ("cross-site", None, NONE),
        ("cross-site", EVIL, NONE),
        ("cross-site", "null", NONE),
        ("cross-site", f"{PARTNER}.evil.example", NONE),
        ("cross-site", PARTNER, NO_COOKIE),
        ("same-origin, cross-site", OWN, NONE),
        ("Same-Origin", OWN, NONE),
        ("", OWN, NONE),
        ("unheard-of", PARTNER, NONE),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_what_sec_fetch_site_allows(bank, method, site, origin, passes):
    fields = [("Sec-Fetch-Site", site), *([("Origin", origin)] if origin else [])]
    with_cookie = bank.ask(method, "/transfer", [*fields, signed_in(bank)])
    without_cookie = bank.ask(method, "/transfer", fields)
    assert (with_cookie.status, without_cookie.status) == (
        200 if passes[0] else 403,
        401 if passes[1] else 403,
    )


class TestWithoutSecFetchSite:
    @pytest.mark.parametrize("field", ["Origin", "Referer"])
    @pytest.mark.parametrize("origin", [OWN, "https://www.example.com", PARTNER])
    def test_a_configured_origin_passes(self, bank, field, origin):
        value = origin if field == "Origin" else f"{origin}/page?a=1"
        assert bank.ask("POST", "/transfer", [(field, value), signed_in(bank)]).status == 200

    @pytest.mark.parametrize(
        "origin",
        [
            EVIL,
            "null",
            "https://example.com.evil.example",
            "https://notexample.com",
            "https://evil.example?https://example.com",
            "https://example.co",
            "https://blog.example.com",
            "https://example.com:8443",
            "http://example.com",
            "http://example.com:443",
            "https://example.com@evil.example",
            "https://example.com.",
            "",
        ],
    )
    def test_any_other_origin_fails_in_either_field(self, bank, origin):
        cookie = signed_in(bank)
        for fields in (
            [("Origin", origin)],
            [("Referer", origin)],
            [("Referer", f"{origin}/")],
            [("Origin", origin), ("Referer", f"{OWN}/")],
            [("Origin", origin), ("Origin", OWN)],
            [("Origin", OWN), ("Origin", origin)],
        ):
            assert bank.ask("POST", "/transfer", [*fields, cookie]).kind == "cross-origin"
            assert bank.ask("POST", "/transfer", fields).kind == "cross-origin"
        assert bank.reached == []

    def test_none_of_the_three_fields_passes_only_without_a_session_cookie(self, bank):
        cookie = signed_in(bank)
        assert bank.ask("POST", "/transfer", [cookie]).kind == "origin-missing"
        assert bank.ask("POST", "/transfer", [("Cookie", "theme=dark"), cookie]).kind == "origin-missing"
        assert bank.ask("POST", "/transfer", [("Cookie", "theme=dark; SESSION=x")]).kind == "origin-missing"
        assert bank.ask("POST", "/transfer", [("Cookie", "theme=dark")]).status == 401
        assert bank.ask("POST", "/transfer").status == 401
        assert bank.reached == []

    @pytest.mark.parametrize("name", ["__Host-thebes-session", "__Host-thebes-refresh"])
    def test_our_own_session_cookies_count_without_being_configured(self, bank_by_default, name):
        answer = bank_by_default.ask("POST", "/transfer", [("Cookie", f"{name}=x")])
        assert answer.kind == "origin-missing"


@pytest.mark.requirement("CSR-05", by="live")
class TestWhereTheCheckIsSkipped:
    @pytest.mark.parametrize("method", METHODS)
    def test_only_safe_methods_are(self, bank, method):
        is_safe = method in {"GET", "HEAD", "OPTIONS"}
        forged = [("Origin", EVIL), ("Sec-Fetch-Site", "cross-site"), signed_in(bank)]
        assert bank.ask(method, "/transfer", forged).status == (200 if is_safe else 403)

    @pytest.mark.parametrize("scheme", ["Bearer abc", "bearer abc", "DPoP abc", "dpop abc"])
    def test_only_tokens_without_a_session_cookie_are(self, bank, scheme):
        token = [("Authorization", scheme), ("Origin", EVIL), ("Sec-Fetch-Site", "cross-site")]
        assert bank.ask("POST", "/transfer", token).status == 200
        assert bank.ask("POST", "/transfer", [*token, signed_in(bank)]).status == 403
        assert bank.ask("POST", "/transfer", [*token, ("Cookie", "a=1; session=")]).status == 403

    @pytest.mark.parametrize(
        "fields",
        [
            [("Authorization", "Basic YTpi")],
            [("Authorization", "Digest username=a")],
            [("Authorization", "Negotiate abc")],
            [("Authorization", "Token abc")],
            [("Authorization", "BearerX abc")],
            [("Authorization", "")],
            [("Authorization", "Basic YTpi"), ("Authorization", "Bearer abc")],
            [("Authorization", "Bearer abc"), ("Authorization", "Basic YTpi")],
            [("X-Requested-With", "XMLHttpRequest")],
            [("Content-Type", "application/json")],
            [("X-HTTP-Method-Override", "GET")],
            [("X-CSRF-Token", "anything")],
        ],
    )
    def test_nothing_else_in_a_request_is_a_reason(self, bank, fields):
        forged = [*fields, ("Origin", EVIL), ("Sec-Fetch-Site", "cross-site")]
        for cookie in ([], [signed_in(bank)]):
            assert bank.ask("POST", "/transfer", [*forged, *cookie]).kind == "cross-origin"
        assert bank.reached == []

    def test_an_exempt_route_is(self, bank):
        forged = [("Origin", EVIL), ("Sec-Fetch-Site", "cross-site"), signed_in(bank)]
        assert bank.ask("POST", "/saml/acs", forged).status == 200
        assert bank.ask("POST", "/saml/acs?RelayState=a", forged).status == 200

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("PUT", "/saml/acs"),
            ("DELETE", "/saml/acs"),
            ("POST", "/saml/acs/"),
            ("POST", "//saml/acs"),
            ("POST", "/saml//acs"),
            ("POST", "/saml/./acs"),
            ("POST", "/saml/x/../acs"),
            ("POST", "/saml%2Facs"),
            ("POST", "/saml/acs%00"),
            ("POST", "/saml/acs%252F"),
            ("POST", "/saml\\acs"),
            ("POST", "/SAML/acs"),
            ("POST", "/saml/acs;a=1"),
            ("POST", "/saml/acs/more"),
            ("POST", "/transfer?/saml/acs"),
        ],
    )
    def test_no_other_spelling_of_an_exempt_route_is(self, bank, method, target):
        forged = [("Origin", EVIL), ("Sec-Fetch-Site", "cross-site"), signed_in(bank)]
        assert bank.ask(method, target, forged).kind == "cross-origin"
        assert bank.reached == []


class TestWebSockets:
    @pytest.mark.parametrize(
        ("fields", "passes"),
        [
            pytest.param([("Origin", OWN)], ALL, id="own origin"),
            pytest.param([("Origin", PARTNER)], ALL, id="configured origin"),
            pytest.param([("Origin", EVIL)], NONE, id="another site"),
            pytest.param([("Origin", "null")], NONE, id="opaque origin"),
            pytest.param([("Origin", "https://example.com:8443")], NONE, id="another port"),
            pytest.param([("Origin", "http://example.com")], NONE, id="another scheme"),
            pytest.param([("Origin", EVIL), ("Sec-Fetch-Site", "same-origin")], NONE, id="lies"),
            pytest.param([("Origin", EVIL), ("Authorization", "Bearer a")], NONE, id="with a token"),
            pytest.param([("Sec-Fetch-Site", "same-origin")], NONE, id="no origin but Sec-Fetch-Site"),
            pytest.param([("Referer", f"{OWN}/")], NONE, id="no origin but Referer"),
            pytest.param([], NO_COOKIE, id="none of the three"),
        ],
    )
    def test_which_handshakes_are_accepted(self, bank, defenceless, fields, passes):
        cookie = signed_in(bank)
        answers = [bank.handshake([*fields, cookie]), bank.handshake(fields)]
        assert [answer.status for answer in answers] == [101 if each else 403 for each in passes]
        assert bank.reached == ["WEBSOCKET"] * sum(passes)
        assert defenceless.handshake([*fields, cookie]).status == 101


@pytest.mark.parametrize("mode", ["development", "test"])
def test_outside_of_production_the_own_origin_is_that_of_the_checked_host(mode):
    with protecting(make_bank(), mode=mode, session_cookies=["session"]) as served:
        port = served.url.rpartition(":")[2]
        cookie = "Cookie", "session=x"
        own = [("Origin", served.url), cookie]
        assert served.ask("POST", "/transfer", own).status == 401
        assert served.handshake(own).status == 101
        for other in (
            f"http://127.0.0.1:{port}",
            "http://localhost:1",
            f"https://localhost:{port}",
            OWN,
            "null",
        ):
            assert served.ask("POST", "/transfer", [("Origin", other), cookie]).status == 403
            assert served.handshake([("Origin", other), cookie]).status == 403


def test_a_person_who_is_refused_sees_a_page_and_a_script_a_problem(bank):
    forged = [("Origin", EVIL), signed_in(bank)]
    page = bank.ask("POST", "/transfer", [*NAVIGATION[:2], ("Sec-Fetch-Site", "cross-site"), *forged])
    problem = bank.ask("POST", "/transfer", [*FETCH[:2], ("Sec-Fetch-Site", "cross-site"), *forged])
    assert (page.status, page.only("content-type")) == (403, "text/html; charset=utf-8")
    assert (problem.status, problem.kind) == (403, "cross-origin")
    assert bank.ask("GET", "/transfer", base=[("Host", "example.com"), HTTPS]).status == 401
