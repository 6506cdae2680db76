"""Attack over plain HTTP: in production nothing but a redirect or a refusal comes back."""

from collections.abc import Iterator

import httpx2
import pytest
from starlette.testclient import TestClient

from attack import FETCH, HTTPS, NAVIGATION, PLAIN, Answered, Served, in_mode, protecting
from board import make_board
from thebes import Security

HOST = ("Host", "example.com")
PUBLIC_PEER = ("203.0.114.5", 40000)  # beside the networks kept for documentation, so a public address
PARTNER = ("Origin", "https://app.partner.example")
REQUESTS = [
    ("GET", "/page", NAVIGATION),
    ("HEAD", "/page", NAVIGATION),
    ("GET", "/page", ()),
    ("GET", "/notes", FETCH),
    ("GET", "/moved", NAVIGATION),
    ("GET", "/nowhere", NAVIGATION),
    ("GET", "/healthz", ()),
    ("HEAD", "/healthz", ()),
    ("GET", "/healthz", NAVIGATION),
    ("GET", "/stream", FETCH),
    ("POST", "/notes", FETCH),
    ("PUT", "/notes", FETCH),
    ("DELETE", "/notes", FETCH),
    ("OPTIONS", "/notes", ()),
    ("OPTIONS", "/notes", (PARTNER, ("Access-Control-Request-Method", "PUT"))),
    ("GET", "/page", (*NAVIGATION, ("Authorization", "Basic YTpi"))),
    ("GET", "/.well-known/acme-challenge/token", ()),
    ("GET", "/crash", NAVIGATION),
]
SCHEMES = {
    "the proxy says http": [PLAIN],
    "the proxy says nothing": [],
    "the proxy says https twice": [HTTPS, HTTPS],
    "the proxy passes on a client's field": [HTTPS, PLAIN],
    "the proxy says something else": [("X-Forwarded-Proto", "HTTPS")],
}


@pytest.fixture(scope="module")
def undeclared() -> Iterator[Served]:
    """Production with no proxy declared, so that what came over plain HTTP stays plain HTTP."""
    with protecting(make_board(), proxies=[]) as served:
        yield served


@pytest.fixture(scope="module")
def defenceless() -> Iterator[Served]:
    """The same app without its check of the scheme."""
    with protecting(make_board(), without=["https"]) as served:
        yield served


def assert_nothing_came_of_it(served: Served, answer: Answered) -> None:
    """No answer below 400 but a redirect to a configured host, nothing reached, no HSTS."""
    if answer.status < 400:
        assert answer.status in (301, 308)
        assert answer.only("location").startswith("https://example.com/")
    else:
        assert answer.every("location") == []
    assert answer.every("strict-transport-security") == []
    assert served.reached == []


class TestNothingIsServed:
    @pytest.mark.requirement("TLS-08", "TLS-12", by="live")
    @pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
    @pytest.mark.parametrize(("method", "target", "fields"), REQUESTS)
    def test_behind_a_declared_proxy(self, production, method, target, fields, scheme):
        assert_nothing_came_of_it(production, production.ask(method, target, fields, base=[HOST, *scheme]))

    @pytest.mark.requirement("TLS-08", "TLS-12", by="live")
    @pytest.mark.parametrize("forged", [[], [HTTPS], [("Forwarded", "proto=https")]])
    @pytest.mark.parametrize(("method", "target", "fields"), REQUESTS)
    def test_to_a_peer_that_is_no_declared_proxy(self, undeclared, method, target, fields, forged):
        undeclared.forget()
        answer = undeclared.ask(method, target, fields, base=[HOST, *forged])
        assert_nothing_came_of_it(undeclared, answer)
        assert answer.status == 403

    @pytest.mark.requirement("TLS-08", "TLS-12", by="live")
    @pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
    @pytest.mark.parametrize("fields", [(), (("Origin", "https://example.com"),)])
    def test_to_a_websocket_handshake(self, production, fields, scheme):
        answer = production.handshake(fields, base=[HOST, *scheme])
        assert (answer.status, answer.kind) == (403, "https-required")
        assert_nothing_came_of_it(production, answer)

    @pytest.mark.parametrize("fields", [(), NAVIGATION])
    def test_to_a_health_check_of_which_no_event_tells(self, production, fields):
        assert production.ask("GET", "/healthz", fields, base=[HOST, PLAIN]).status in (308, 403)
        assert production.lines == []

    @pytest.mark.requirement("TLS-08", by="live")
    def test_while_the_same_requests_are_answered_over_https(self, production):
        answers = [production.ask(*request, base=[HOST, HTTPS]).status for request in REQUESTS]
        assert answers.count(200) == 13
        assert production.handshake(base=[HOST, HTTPS]).status == 101

    @pytest.mark.parametrize(
        "request_", [request for request in REQUESTS if request[1] in ("/page", "/notes")]
    )
    def test_but_without_the_check_it_is(self, defenceless, request_):
        assert defenceless.ask(*request_, base=[HOST, PLAIN]).status < 300
        assert defenceless.handshake(base=[HOST, PLAIN]).status == 101


@pytest.mark.requirement("TLS-09", by="live")
class TestWhoIsRedirected:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("fields", [NAVIGATION, (("Accept", "text/html,*/*;q=0.8"),)])
    def test_a_person_who_opens_a_page(self, production, method, fields):
        answer = production.ask(method, "/page?a=1&b=%2F", fields, base=[HOST, PLAIN])
        assert answer.status == 308
        assert answer.only("location") == "https://example.com/page?a=1&b=%2F"
        assert answer.body == b""

    @pytest.mark.parametrize(
        ("method", "fields"),
        [
            pytest.param("GET", FETCH, id="a script"),
            pytest.param("GET", (("Accept", "application/json"),), id="an API client"),
            pytest.param("GET", (), id="a client that says nothing"),
            pytest.param("POST", NAVIGATION, id="a form"),
            pytest.param("PUT", NAVIGATION, id="PUT"),
            pytest.param("DELETE", NAVIGATION, id="DELETE"),
            pytest.param("PATCH", NAVIGATION, id="PATCH"),
            pytest.param("OPTIONS", NAVIGATION, id="OPTIONS"),
            pytest.param("GET", (*NAVIGATION, ("Authorization", "Bearer abc")), id="a token"),
            pytest.param("GET", (*NAVIGATION, ("Authorization", "Basic YTpi")), id="a password"),
        ],
    )
    def test_and_nobody_else(self, production, method, fields):
        answer = production.ask(method, "/page", fields, base=[HOST, PLAIN])
        assert answer.status == 403
        assert answer.every("location") == []
        if "navigate" not in dict(fields).values():
            assert answer.kind == "https-required"
        assert production.security.events.counts["request_denied"] == 1


class TestTheTarget:
    @pytest.mark.requirement("TLS-10", by="live")
    @pytest.mark.parametrize("host", ["evil.example", "example.com.evil.example", "evil.example:443"])
    @pytest.mark.parametrize("fields", [NAVIGATION, FETCH])
    def test_is_never_a_host_that_is_not_configured(self, production, host, fields):
        answer = production.ask("GET", "/page", fields, base=[("Host", host), PLAIN])
        assert answer.status == 421
        assert answer.every("location") == []

    @pytest.mark.requirement("TLS-10", by="live")
    def test_is_the_named_host_if_that_is_configured(self, production):
        answer = production.ask("GET", "/page", NAVIGATION, base=[("Host", "WWW.example.com:80"), PLAIN])
        assert answer.only("location") == "https://www.example.com/page"

    @pytest.mark.requirement("TLS-10", by="live")
    @pytest.mark.parametrize("field", ["X-Forwarded-Host", "X-Host", "X-Original-URL", "Forwarded"])
    def test_is_never_named_by_another_field(self, production, field):
        forged = [(field, "host=evil.example"), (field, "evil.example")]
        answer = production.ask("GET", "/page", NAVIGATION, base=[HOST, PLAIN, *forged])
        assert answer.only("location") == "https://example.com/page"

    @pytest.mark.requirement("TLS-10", by="live")
    def test_of_the_health_path_is_configured_although_it_takes_any_host(self, production):
        answer = production.ask("GET", "/healthz", NAVIGATION, base=[("Host", "evil.example"), PLAIN])
        assert answer.only("location") == "https://example.com/healthz"

    @pytest.mark.parametrize(
        "target", ["//evil.example/a", "/%0d%0aLocation:%20evil", "/%5cevil.example", "/@evil.example"]
    )
    def test_keeps_the_path_behind_the_host(self, production, target):
        answer = production.ask("GET", target, NAVIGATION, base=[HOST, PLAIN])
        assert answer.only("location") == f"https://example.com{target}"

    def test_has_the_port_of_the_public_url(self):
        with protecting(make_board(), public_url="https://example.com:8443") as served:
            answer = served.ask("GET", "/page", NAVIGATION, base=[HOST, PLAIN])
        assert answer.only("location") == "https://example.com:8443/page"


class TestWithoutADeclaredProxy:
    def test_the_log_says_which_setting_is_missing_and_the_answer_does_not(self, undeclared):
        undeclared.forget()
        answer = undeclared.ask("GET", "/page", NAVIGATION, base=[HOST, HTTPS])
        assert b"PROXIES" not in answer.body
        [event] = undeclared.events
        assert event["reason"] == "https-required"
        assert "THEBES_PROXIES" in event["detail"]

    @pytest.mark.parametrize(
        ("peer", "fields", "status"),
        [
            pytest.param(PUBLIC_PEER, {}, 308, id="a person on the internet"),
            pytest.param(PUBLIC_PEER, {"Via": "1.1 cdn"}, 403, id="a proxy on the internet"),
            pytest.param(PUBLIC_PEER, {"X-Forwarded-Proto": "https"}, 403, id="a TLS proxy on the internet"),
            pytest.param(("10.0.0.7", 1), {}, 403, id="a TLS proxy in the same network"),
            pytest.param(None, {"X-Forwarded-Proto": "https"}, 403, id="a TLS proxy on a unix socket"),
        ],
    )
    def test_a_navigation_is_redirected_only_where_that_cannot_loop(self, peer, fields, status):
        answer = navigate_from(peer, fields)
        assert answer.status_code == status

    @pytest.mark.parametrize(("said", "status"), [("https", 200), ("http", 308), ("https, https", 403)])
    def test_a_proxy_on_a_unix_socket_can_be_declared(self, said, status):
        assert navigate_from(None, {"X-Forwarded-Proto": said}, proxies=["unix"]).status_code == status


def navigate_from(
    peer: tuple[str, int] | None, fields: dict[str, str], **settings: object
) -> httpx2.Response:
    """Open a page from any address: in this process, since whoever is on a real socket here is on loopback."""
    app = make_board()
    Security(**{"hosts": ["example.com"], **settings}).protect(app)  # type: ignore[arg-type]

    async def from_peer(scope, receive, send):
        await app({**scope, "client": peer}, receive, send)

    with in_mode("production"), TestClient(from_peer, base_url="http://example.com") as client:
        return client.get("/page", headers=dict(NAVIGATION) | fields, follow_redirects=False)


def test_outside_of_production_plain_http_is_served(local):
    assert local.ask("GET", "/page", NAVIGATION).status == 200
    assert local.handshake().status == 101
