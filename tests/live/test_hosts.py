"""Attack the Host: a name that isn't ours must not reach a router, a link or a cache."""

from collections.abc import Iterator

import pytest

from attack import HTTPS, NAVIGATION, Served, protecting
from board import make_board

MALFORMED = {
    "missing": [],
    "twice the same": [("Host", "example.com"), ("Host", "example.com")],
    "twice": [("Host", "example.com"), ("Host", "evil.example")],
    "twice, in another case": [("Host", "example.com"), ("HOST", "example.com")],
    "empty": [("Host", "")],
    "a list": [("Host", "example.com, evil.example")],
    "with a path": [("Host", "example.com/evil")],
    "with a user": [("Host", "evil@example.com")],
    "with a fragment": [("Host", "example.com#.evil.example")],
    "with a port that is no number": [("Host", "example.com:evil")],
    "with an encoded letter": [("Host", "ex%61mple.com")],
    "with a space": [("Host", "example.com evil.example")],
    "with a letter beyond ASCII": [("Host", b"ex\xe4mple.com")],
    "a star": [("Host", "*")],
}
UNKNOWN = [
    "evil.example",
    "exampleXcom",  # CVE-2026-25479
    "example.com.evil.example",
    "evilexample.com",
    "api.example.com",
    "example.com.",
    "example.com:8443",
    "localhost",
    "127.0.0.1",
    "[::1]",
]


@pytest.fixture(scope="module")
def defenceless() -> Iterator[Served]:
    """The same app without its check of hosts."""
    with protecting(make_board(), without=["hosts"]) as served:
        yield served


@pytest.mark.requirement("HTTP-11", by="live")
class TestProduction:
    @pytest.mark.parametrize("hosts", MALFORMED.values(), ids=MALFORMED)
    @pytest.mark.parametrize("target", ["/page", "/no-such-route"])
    def test_a_malformed_host_gets_400_before_routing(self, production, hosts, target):
        answer = production.ask("GET", target, base=[*hosts, HTTPS])
        assert (answer.status, answer.kind) == (400, "host-malformed")
        assert production.reached == []

    @pytest.mark.parametrize("host", UNKNOWN)
    @pytest.mark.parametrize(
        ("method", "target"), [("GET", "/page"), ("POST", "/notes"), ("GET", "/nowhere")]
    )
    def test_an_unknown_host_gets_421_before_routing(self, production, host, method, target):
        answer = production.ask(method, target, base=[("Host", host), HTTPS])
        assert (answer.status, answer.kind) == (421, "host-unknown")
        assert production.reached == []

    @pytest.mark.parametrize("host", ["example.com", "EXAMPLE.COM", "example.com:443", "www.example.com"])
    def test_a_configured_host_is_answered(self, production, host):
        assert production.ask(base=[("Host", host), HTTPS]).status == 200

    def test_a_forwarded_host_counts_for_nothing(self, production):
        forged = [("X-Forwarded-Host", "example.com"), ("Forwarded", 'host="example.com"')]
        assert production.ask(base=[("Host", "evil.example"), HTTPS, *forged]).status == 421
        assert (
            production.ask(base=[("Host", "example.com"), HTTPS, ("X-Forwarded-Host", "evil")]).status == 200
        )

    @pytest.mark.parametrize("host", ["evil.example", "10.0.0.9:8000", "example.com"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_the_health_path_answers_any_host(self, production, method, host):
        answer = production.ask(method, "/healthz", base=[("Host", host), HTTPS])
        assert answer.status == 200
        assert production.lines == []

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("POST", "/healthz"),
            ("OPTIONS", "/healthz"),
            ("GET", "/healthz/"),
            ("GET", "//healthz"),
            ("GET", "/./healthz"),
            ("GET", "/healthz/../page"),
            ("GET", "/healthz%2F..%2Fpage"),
            ("GET", "/HEALTHZ"),
            ("GET", "/page?/healthz"),
        ],
    )
    def test_no_other_request_passes_for_the_health_path(self, production, method, target):
        answer = production.ask(method, target, base=[("Host", "evil.example"), HTTPS])
        assert (answer.status, answer.kind) == (421, "host-unknown")
        assert production.reached == []

    def test_a_handshake_is_held_to_the_same(self, production):
        for hosts, status in ((MALFORMED["twice"], 400), ([("Host", "evil.example")], 421)):
            assert production.handshake(base=[*hosts, HTTPS]).status == status
            assert production.handshake(base=[*hosts, HTTPS], target="/healthz").status == status
        assert production.handshake().status == 101
        assert production.reached == ["WEBSOCKET /socket"]

    def test_a_refusal_is_an_event_with_its_reason(self, production):
        production.ask(base=[("Host", "evil.example"), HTTPS])
        [event] = production.events
        assert (event["event"], event["outcome"], event["reason"]) == (
            "request_denied",
            "denied",
            "host-unknown",
        )
        assert (event["method"], event["route"], event["client"]) == ("GET", "/page", "127.0.0.1")


class TestWithoutTheCheck:
    @pytest.mark.parametrize("hosts", [*MALFORMED.values(), [("Host", "evil.example")]])
    def test_each_of_these_hosts_reaches_the_app(self, defenceless, hosts):
        defenceless.forget()
        assert defenceless.ask(base=[*hosts, HTTPS]).status == 200
        assert defenceless.reached == ["GET /page"]

    def test_a_handshake_for_another_host_reaches_the_app(self, defenceless):
        assert defenceless.handshake(base=[("Host", "evil.example"), HTTPS]).status == 101

    def test_a_redirect_still_names_a_configured_host(self, defenceless):
        plain = [("Host", "evil.example"), ("X-Forwarded-Proto", "http"), *NAVIGATION]
        assert defenceless.ask(base=plain).only("location") == "https://example.com/page"


class TestMethods:
    @pytest.mark.parametrize("target", ["/notes", "/no-such-route", "*", "/healthz"])
    def test_trace_is_refused_on_every_path(self, production, target):
        answer = production.ask("TRACE", target, [("Cookie", "session=secret")])
        assert (answer.status, answer.kind) == (405, "method-refused")
        assert answer.only("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        assert b"secret" not in answer.body
        assert production.reached == []

    @pytest.mark.parametrize(("method", "target"), [("TRACK", "/notes"), ("CONNECT", "example.com:443")])
    def test_track_and_connect_reach_no_app(self, production, method, target):
        assert production.ask(method, target).status in (400, 405)
        assert production.reached == []

    def test_without_the_check_trace_reaches_the_app(self):
        with protecting(make_board(), without=["methods"]) as served:
            assert served.ask("TRACE", "/notes", [("Sec-Fetch-Site", "none")]).status == 200
