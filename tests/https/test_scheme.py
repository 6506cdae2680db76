"""Plain HTTP in production: who is redirected, who is refused, and where a redirect leads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import request_facts
from thebes.facts import Answer, Denial, Surroundings
from thebes.forwarding import Forwarding
from thebes.https.scheme import HttpsOnly
from thebes.paths import RoutePattern

CHECK = HttpsOnly(["example.com", "www.example.com"])
PUBLIC = ("203.0.114.5", 40000)  # outside of the networks kept for documentation, so a public address
PROXY = ("10.0.0.2", 40000)
NAVIGATION = {"host": "example.com", "accept": "text/html", "sec-fetch-mode": "navigate"}
API = {"host": "example.com", "accept": "application/json"}
BY_PROXY = Surroundings(forwarding=Forwarding(["10.0.0.0/8"]))
BY_FORWARDED = Surroundings(forwarding=Forwarding(["10.0.0.0/8"], header="forwarded"))
BY_SOCKET = Surroundings(forwarding=Forwarding(["unix"]))


def verdict(*args: object, check: HttpsOnly = CHECK, **options: object) -> str:
    """`served`, `redirected to <URL>`, or the denial's kind."""
    facts = request_facts(*args, **options)  # type: ignore[arg-type]
    reply = check(facts)
    assert check.passes(facts.arrival) is (reply is None)
    if reply is None:
        return "served"
    if isinstance(reply, Answer):
        assert reply.status == 308
        return f"redirected to {dict(reply.headers)[b'location'].decode()}"
    assert reply.status == 403
    return reply.kind


REDIRECTED = "redirected to https://example.com/page"
REFUSED = "https-required"


@pytest.mark.parametrize(
    ("said", "navigation", "call"),
    [
        pytest.param(["https"], "served", "served", id="https"),
        pytest.param(["http"], REDIRECTED, REFUSED, id="http"),
        pytest.param([], REFUSED, REFUSED, id="nothing"),
        pytest.param(["https", "https"], REFUSED, REFUSED, id="https in two fields"),
        pytest.param(["https,https"], REFUSED, REFUSED, id="https twice in one field"),
        pytest.param(["https, http"], REFUSED, REFUSED, id="a client's own value before the proxy's"),
        pytest.param(["HTTPS"], REFUSED, REFUSED, id="another spelling"),
        pytest.param(["https "], REFUSED, REFUSED, id="a space"),
        pytest.param([""], REFUSED, REFUSED, id="an empty field"),
        pytest.param(["ftp"], REFUSED, REFUSED, id="another scheme"),
    ],
)
class TestADeclaredProxySays:
    def test_by_x_forwarded_proto(self, said, navigation, call):
        fields = [("x-forwarded-proto", value) for value in said]
        facts = {"client": PROXY, "surroundings": BY_PROXY}
        assert verdict("GET", "/page", [*NAVIGATION.items(), *fields], **facts) == navigation
        assert verdict("GET", "/page", [*API.items(), *fields], **facts) == call
        assert verdict("POST", "/page", [*NAVIGATION.items(), *fields], **facts) == call

    def test_over_a_unix_socket(self, said, navigation, call):
        fields = [("x-forwarded-proto", value) for value in said]
        facts = {"client": None, "surroundings": BY_SOCKET}
        assert verdict("GET", "/page", [*NAVIGATION.items(), *fields], **facts) == navigation

    def test_for_a_handshake_which_is_never_redirected(self, said, navigation, call):
        fields = [("x-forwarded-proto", value) for value in said]
        facts = {"client": PROXY, "surroundings": BY_PROXY, "type": "websocket", "scheme": "ws"}
        assert verdict("GET", "/page", [*NAVIGATION.items(), *fields], **facts) == call

    def test_nothing_to_whoever_reads_the_other_field(self, said, navigation, call):
        fields = [("x-forwarded-proto", value) for value in said]
        facts = {"client": PROXY, "surroundings": BY_FORWARDED}
        assert verdict("GET", "/page", [*NAVIGATION.items(), *fields], **facts) == REFUSED


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.114.5;proto=https", "served"),
        ("for=203.0.114.5; proto=http", REDIRECTED),
        ("for=203.0.114.5", REFUSED),
        ("for=203.0.114.5;proto=https;proto=https", REFUSED),
        ("for=203.0.114.5;proto=https, for=203.0.114.6", REFUSED),
        ("", REFUSED),
        (None, REFUSED),
    ],
)
def test_the_scheme_from_a_declared_proxys_forwarded_field(forwarded, expected):
    facts = {"client": PROXY, "surroundings": BY_FORWARDED}
    assert verdict("GET", "/page", {**NAVIGATION, "forwarded": forwarded}, **facts) == expected


class TestWithoutADeclaredProxy:
    @pytest.mark.parametrize(
        ("peer", "expected"),
        [
            pytest.param(PUBLIC, REDIRECTED, id="a public peer"),
            pytest.param(("2a00:1450::1", 1), REDIRECTED, id="a public IPv6 peer"),
            pytest.param(("::ffff:203.0.114.5", 1), REDIRECTED, id="a public peer, IPv4-mapped"),
            pytest.param(("127.0.0.1", 1), REFUSED, id="loopback"),
            pytest.param(("10.0.0.2", 1), REFUSED, id="a private network"),
            pytest.param(("100.64.0.1", 1), REFUSED, id="the shared address space of carriers and clouds"),
            pytest.param(("169.254.1.1", 1), REFUSED, id="link-local"),
            pytest.param(("fd00::1", 1), REFUSED, id="a private IPv6 network"),
            pytest.param(("::ffff:10.0.0.2", 1), REFUSED, id="a private network, IPv4-mapped"),
            pytest.param(("testclient", 1), REFUSED, id="a peer that is no address"),
            pytest.param(None, REFUSED, id="a unix socket"),
        ],
    )
    def test_navigations_of_public_peers_are_redirected_and_others_refused(self, peer, expected):
        assert verdict("GET", "/page", NAVIGATION, client=peer) == expected

    @pytest.mark.parametrize(
        "field",
        [
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-ssl",
            "x-forwarded-scheme",
        ],
    )
    def test_a_forwarding_field_shows_a_proxy_behind_which_a_redirect_would_loop(self, field):
        assert verdict("GET", "/page", {**NAVIGATION, field: "https"}, client=PUBLIC) == REFUSED

    @pytest.mark.parametrize("peer", [PUBLIC, ("127.0.0.1", 1), None])
    def test_nobody_is_believed_to_have_used_https(self, peer):
        claims = {"x-forwarded-proto": "https", "forwarded": "proto=https"}
        assert verdict("GET", "/page", {**API, **claims}, client=peer) == REFUSED

    def test_a_peer_outside_of_the_declared_networks_is_not_believed_either(self):
        claims = {**API, "x-forwarded-proto": "https"}
        assert verdict("GET", "/page", claims, client=PUBLIC, surroundings=BY_PROXY) == REFUSED
        assert verdict("GET", "/page", claims, client=None, surroundings=BY_PROXY) == REFUSED
        assert verdict("GET", "/page", claims, client=PROXY, surroundings=BY_SOCKET) == REFUSED

    def test_tls_that_ends_in_the_server_is_served(self):
        assert verdict("POST", "/page", API, client=PUBLIC, scheme="https") == "served"
        assert verdict("GET", "/page", API, client=PUBLIC, scheme="wss", type="websocket") == "served"

    def test_the_log_line_names_the_setting_that_is_missing(self):
        denial = CHECK(request_facts(headers=API))
        assert isinstance(denial, Denial)
        assert "THEBES_PROXIES" in (denial.hint or "")
        assert "THEBES_PROXIES" not in denial.title + denial.detail


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        pytest.param("GET", {"sec-fetch-mode": "navigate"}, REDIRECTED, id="by Sec-Fetch-Mode"),
        pytest.param("HEAD", {"sec-fetch-mode": "navigate"}, REDIRECTED, id="HEAD"),
        pytest.param("GET", {"accept": "text/html"}, REDIRECTED, id="by Accept, from an old browser"),
        pytest.param("GET", {"accept": "Text/HTML;q=0.9, */*"}, REDIRECTED, id="by Accept in another case"),
        pytest.param(
            "GET", {"sec-fetch-mode": "cors", "accept": "text/html"}, REFUSED, id="a script's fetch"
        ),
        pytest.param("GET", {"sec-fetch-mode": "no-cors"}, REFUSED, id="an image"),
        pytest.param("GET", {"accept": "application/json"}, REFUSED, id="an API call"),
        pytest.param("GET", {}, REFUSED, id="a bare client"),
        pytest.param("GET", {"accept": "*/*"}, REFUSED, id="curl"),
        pytest.param("POST", {"sec-fetch-mode": "navigate"}, REFUSED, id="a form"),
        pytest.param("OPTIONS", {"sec-fetch-mode": "navigate"}, REFUSED, id="OPTIONS"),
        pytest.param(
            "GET", {"sec-fetch-mode": "navigate", "authorization": "Basic YTpi"}, REFUSED, id="credentials"
        ),
        pytest.param(
            "GET", {"accept": "text/html", "authorization": ""}, REFUSED, id="an empty Authorization"
        ),
    ],
)
def test_what_counts_as_a_navigation(method, fields, expected):
    assert verdict(method, "/page", {"host": "example.com", **fields}, client=PUBLIC) == expected


class TestTheTarget:
    @pytest.mark.parametrize(
        ("host", "target"),
        [
            ("example.com", "https://example.com"),
            ("WWW.Example.com:80", "https://www.example.com"),
            ("www.example.com:443", "https://www.example.com"),
            ("evil.example", "https://example.com"),
            ("evil.example/", "https://example.com"),
            ("", "https://example.com"),
            (None, "https://example.com"),
        ],
    )
    def test_is_a_configured_host_whatever_the_request_names(self, host, target):
        named = {**NAVIGATION, "host": host}
        assert verdict("GET", "/page", named, client=PUBLIC) == f"redirected to {target}/page"

    def test_is_never_what_a_proxy_calls_the_host(self):
        fields = {**NAVIGATION, "x-forwarded-proto": "http", "x-forwarded-host": "evil.example"}
        facts = {"client": PROXY, "surroundings": BY_PROXY}
        assert verdict("GET", "/page", fields, **facts) == REDIRECTED

    @pytest.mark.parametrize(
        ("host", "target"),
        [
            ("example.com", "https://example.com:8443"),
            ("example.com:80", "https://example.com:8443"),
            ("www.example.com", "https://www.example.com"),
            ("evil.example", "https://example.com:8443"),
        ],
    )
    def test_has_the_port_of_the_public_url(self, host, target):
        check = HttpsOnly(["www.example.com", "example.com:8443"], "example.com:8443")
        named = {**NAVIGATION, "host": host}
        assert verdict("GET", "/page", named, client=PUBLIC, check=check) == f"redirected to {target}/page"

    @pytest.mark.parametrize(
        ("raw_path", "query", "target"),
        [
            (b"/page", b"a=1&b=%20", "/page?a=1&b=%20"),
            (b"/caf%C3%A9", b"", "/caf%C3%A9"),
            (b"//evil.example/x", b"", "//evil.example/x"),
            (b"/%0d%0aSet-Cookie:%20a=1", b"", "/%0d%0aSet-Cookie:%20a=1"),
            (b"/a\r\nSet-Cookie: a", b"b\r\nc", "/a%0D%0ASet-Cookie:%20a?b%0D%0Ac"),
            (b"/\\evil.example", b"", "/%5Cevil.example"),
            (b"/a?b=1", b"b=1", "/a?b=1"),  # hypercorn and others keep the query in raw_path
            (b"/@evil.example", b"", "/@evil.example"),
        ],
    )
    def test_keeps_path_and_query_and_holds_no_line_break(self, raw_path, query, target):
        scope = {"raw_path": raw_path, "query_string": query, "client": PUBLIC}
        assert verdict("GET", "/", NAVIGATION, **scope) == f"redirected to https://example.com{target}"

    def test_is_made_from_the_decoded_path_where_the_server_gives_no_raw_one(self):
        scope = {"raw_path": None, "client": PUBLIC}
        assert verdict("GET", "/caf\u00e9 x", NAVIGATION, **scope) == (
            "redirected to https://example.com/caf%C3%A9%20x"
        )

    @given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=20))
    def test_no_bytes_lead_elsewhere_or_break_the_line(self, path, query, host):
        named = {**NAVIGATION, "host": host.decode("latin-1")}
        scope = {"raw_path": b"/" + path, "query_string": query, "client": PUBLIC}
        location = verdict("GET", "/", named, **scope).removeprefix("redirected to ")
        assert location.startswith(("https://example.com/", "https://www.example.com/"))
        assert location.isascii()
        assert not any(character <= " " or character == "\x7f" for character in location)


def test_the_health_path_follows_the_same_rules():
    surroundings = Surroundings(health=RoutePattern.parse("GET /healthz"))
    assert verdict("GET", "/healthz", API, surroundings=surroundings) == REFUSED
