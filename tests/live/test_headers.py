"""Look at every kind of answer: which fields are on it, and whether an app's own words are kept."""

import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from attack import FETCH, HTTPS, NAVIGATION, PLAIN, Answered, Served, in_mode, protecting
from board import make_board
from thebes import Security
from thebes.audit import look

EVIL = ("Origin", "https://evil.example")
PREFLIGHT = (("Origin", "https://app.partner.example"), ("Access-Control-Request-Method", "PUT"))
HSTS = "strict-transport-security"
CSP = "content-security-policy"
REPORT_ONLY = "content-security-policy-report-only"
# Name, status, method, target, fields, body: the app's own answers, then the package's.
THE_APPS = [
    ("a page", 200, "GET", "/page", NAVIGATION, b""),
    ("the head of a page", 200, "HEAD", "/page", NAVIGATION, b""),
    ("JSON", 200, "GET", "/notes", FETCH, b""),
    ("an accepted form", 200, "POST", "/notes", FETCH, b"a=1"),
    ("plain text", 200, "GET", "/healthz", (), b""),
    ("a redirect", 307, "GET", "/moved", NAVIGATION, b""),
    ("nothing", 204, "GET", "/empty", (), b""),
    ("a stream", 200, "GET", "/stream", (), b""),
    ("a path that is not there", 404, "GET", "/nowhere", (), b""),
    ("a method that is not there", 405, "DELETE", "/page", FETCH, b""),
    ("an invalid parameter", 422, "GET", "/numbered?number=x", (), b""),
    ("the app's own error", 418, "GET", "/own-error", (), b""),
]
OUR_PROBLEMS = [
    ("a malformed Host", 400, "GET", "/page", (("Host", "example.com"),), b""),
    ("a forged request", 403, "POST", "/notes", (EVIL,), b"a=1"),
    ("a refused method", 405, "TRACE", "/notes", (), b""),
    ("a body too large", 413, "POST", "/notes", (("Sec-Fetch-Site", "none"),), b"a" * (1024 * 1024 + 1)),
    ("an undeclared coding", 415, "POST", "/notes", (("Content-Encoding", "gzip"),), b"a"),
    ("an uncaught exception", 500, "GET", "/crash", (), b""),
]
OUR_PAGES = [
    ("a malformed Host", 400, "GET", "/page", (("Host", "example.com"), *NAVIGATION), b""),
    ("a form from another site", 403, "POST", "/page", (EVIL, ("Sec-Fetch-Mode", "navigate")), b"a=1"),
    ("an uncaught exception", 500, "GET", "/crash", NAVIGATION, b""),
]
PREFLIGHTS = [("a preflight", 204, "OPTIONS", "/notes", PREFLIGHT, b"")]
OURS = [*OUR_PROBLEMS, *OUR_PAGES, *PREFLIGHTS]


def named(cases: list[tuple]) -> list:
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


CASE = ("status", "method", "target", "fields", "body")


def ask(served: Served, status: int, method: str, target: str, fields: tuple, body: bytes) -> Answered:
    """Ask for one case and see that it is the answer that was meant."""
    answer = served.ask(method, target, fields, body=body)
    assert answer.status == status, answer.body[:300]
    return answer


@pytest.fixture(scope="module")
def strict() -> Iterator[Served]:
    """The board with the nonce policy enforced."""
    with protecting(make_board(), csp="strict") as served:
        yield served


@pytest.fixture(scope="module")
def dressed() -> Iterator[Served]:
    """An app in production that sets fields of its own."""
    with protecting(dressed_as_told()) as served:
        yield served


@pytest.fixture(scope="module")
def unredirected() -> Iterator[Served]:
    """The same app without the check of the scheme, so that it answers over plain HTTP at all."""
    with protecting(dressed_as_told(), without=["https"]) as served:
        yield served


@pytest.fixture(scope="module")
def defenceless() -> Iterator[Served]:
    """The board without the rule of headers."""
    with protecting(make_board(), without=["headers"]) as served:
        yield served


class TestStrictTransportSecurity:
    @pytest.mark.requirement("TLS-11", by="live")
    @pytest.mark.parametrize(CASE, named([*THE_APPS, *OURS]))
    def test_stands_once_on_every_https_answer(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        assert seconds_of(answer.only(HSTS)) >= 31536000

    @pytest.mark.requirement("TLS-11", by="live")
    def test_stands_once_on_answers_to_handshakes(self, production):
        for fields, status in (((), 101), ((EVIL,), 403)):
            answer = production.handshake(fields)
            assert answer.status == status
            assert seconds_of(answer.only(HSTS)) >= 31536000

    @pytest.mark.requirement("TLS-11", by="live")
    def test_is_kept_as_the_app_says_it(self, dressed):
        own = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
        assert dressed.ask(target=told(own)).only(HSTS) == own["Strict-Transport-Security"]

    @pytest.mark.requirement("TLS-12", by="live")
    @pytest.mark.parametrize("kind", ["text/html", "application/json"])
    def test_is_taken_off_over_plain_http_even_when_the_app_says_it(self, unredirected, kind):
        host = unredirected.base[0]
        for own in ({}, {HSTS: "max-age=31536000"}):
            target = told({"content-type": kind, **own})
            over_http, over_https = (
                unredirected.ask(target=target, base=[host, scheme]) for scheme in (PLAIN, HTTPS)
            )
            assert (over_http.status, over_http.every(HSTS)) == (200, [])
            assert over_https.only(HSTS) == own.get(HSTS, "max-age=63072000")

    @pytest.mark.requirement("TLS-11", by="live")
    def test_without_the_rule_there_is_none(self, defenceless):
        assert defenceless.ask().every(HSTS) == []

    @pytest.mark.parametrize("mode", ["development", "test"])
    def test_is_never_sent_in_development_and_test(self, mode):
        with protecting(dressed_as_told(), mode=mode) as served:
            assert served.ask(target=told({HSTS: "max-age=31536000"})).every(HSTS) == []
            assert served.ask("POST", "/", [EVIL]).every(HSTS) == []

    @pytest.mark.requirement("TLS-11")
    def test_the_check_command_reports_missing_subdomains_until_they_are_included(self):
        with in_mode("production"):
            assert "hsts-subdomains" in found(Security(hosts=["example.com"]))
            assert "hsts-subdomains" not in found(
                Security(hosts=["example.com"], hsts_include_subdomains=True)
            )
        with protecting(make_board(), hsts_include_subdomains=True) as served:
            assert served.ask().only(HSTS) == "max-age=63072000; includeSubDomains"


def seconds_of(hsts: str) -> int:
    match = re.fullmatch(r"max-age=([0-9]+)(; includeSubDomains)?", hsts)
    assert match is not None
    return int(match[1])


def found(security: Security) -> set[str]:
    report = look(security, security.protect(Starlette()), environ=os.environ, directory=Path.cwd())
    return {finding.id for finding in report.findings}


def dressed_as_told() -> Starlette:
    """Return an app that answers with a page, and with the fields that the query names."""

    def page(request: Request) -> Response:
        fields = {"content-type": "text/html; charset=utf-8", **request.query_params}
        return Response("<p>hello", headers=fields)

    return Starlette(routes=[Route("/", page, methods=["GET", "POST"])])


def told(fields: dict[str, str]) -> str:
    return "/?" + urlencode(fields)


@pytest.mark.requirement("HTTP-01", by="live")
class TestContentTypes:
    @pytest.mark.parametrize(CASE, named([*THE_APPS, *OURS]))
    def test_every_answer_forbids_sniffing(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only("x-content-type-options") == "nosniff"

    @pytest.mark.parametrize(CASE, named(OUR_PROBLEMS))
    def test_a_problem_is_what_its_type_says(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only("content-type") == "application/problem+json"
        assert json.loads(answer.body)["status"] == status

    @pytest.mark.parametrize(CASE, named(OUR_PAGES))
    def test_a_page_is_what_its_type_says(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only("content-type") == "text/html; charset=utf-8"
        assert answer.body.decode("utf-8").startswith("<!doctype html>")

    def test_an_answer_without_a_body_has_no_type(self, production):
        preflight = production.ask("OPTIONS", "/notes", PREFLIGHT)
        redirect = production.ask("GET", "/page", NAVIGATION, base=[production.base[0], PLAIN])
        for answer in (preflight, redirect):
            assert (answer.body, answer.every("content-type")) == (b"", [])
            assert answer.only("x-content-type-options") == "nosniff"

    def test_without_the_rule_the_apps_answers_may_be_sniffed(self, defenceless):
        assert defenceless.ask().every("x-content-type-options") == []


@pytest.mark.requirement("HTTP-02", by="live")
class TestContentSecurityPolicy:
    @pytest.mark.parametrize(CASE, named(THE_APPS))
    def test_on_the_apps_answers_breaks_nothing(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only(CSP) == "frame-ancestors 'self'; object-src 'none'; base-uri 'none'"
        is_page = target == "/page" and status == 200
        assert len(answer.every(REPORT_ONLY)) == is_page

    @pytest.mark.parametrize(CASE, named([*OUR_PROBLEMS, *PREFLIGHTS]))
    def test_on_our_answers_to_programs_allows_nothing(
        self, production, status, method, target, fields, body
    ):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only(CSP) == "default-src 'none'; frame-ancestors 'none'"

    def test_on_a_page_of_the_app_only_reports_scripts_and_forms(self, production):
        answer = production.ask("GET", "/page", NAVIGATION)
        assert answer.only(REPORT_ONLY) == (
            f"script-src 'nonce-{nonce_in(answer)}' 'strict-dynamic'; form-action 'self'"
        )

    def test_on_a_page_of_the_app_is_enforced_by_the_strict_setting(self, strict):
        answer = strict.ask("GET", "/page", NAVIGATION)
        assert answer.only(CSP) == (
            "frame-ancestors 'self'; object-src 'none'; base-uri 'none'; "
            f"script-src 'nonce-{nonce_in(answer)}' 'strict-dynamic'; form-action 'self'"
        )
        assert answer.every(REPORT_ONLY) == []

    def test_is_on_handshakes(self, production):
        assert "frame-ancestors 'self'" in production.handshake().only(CSP)
        assert "frame-ancestors 'none'" in production.handshake([EVIL]).only(CSP)

    def test_is_missing_from_the_apps_answers_without_the_rule(self, defenceless):
        assert defenceless.ask("GET", "/page", NAVIGATION).every(CSP) == []


@pytest.mark.requirement("HTTP-02", by="live")
class TestWhatTheAppSays:
    @pytest.mark.parametrize(
        ("own", "policies"),
        [
            pytest.param(
                {CSP: "default-src 'self'; frame-ancestors https://partner.example"},
                ["default-src 'self'; frame-ancestors https://partner.example"],
                id="a policy with framing",
            ),
            pytest.param(
                {CSP: "default-src 'self'"},
                ["default-src 'self'", "frame-ancestors 'self'"],
                id="a policy without framing",
            ),
            pytest.param(
                {"x-frame-options": "DENY"},
                ["frame-ancestors 'none'; object-src 'none'; base-uri 'none'"],
                id="no framing",
            ),
            pytest.param(
                {CSP: "default-src 'self'", "x-frame-options": "DENY"},
                ["default-src 'self'", "frame-ancestors 'none'"],
                id="a policy without framing, and no framing",
            ),
        ],
    )
    def test_about_framing_holds(self, dressed, own, policies):
        answer = dressed.ask(target=told(own))
        assert answer.every(CSP) == policies
        assert answer.only("x-frame-options") == own.get("x-frame-options", "SAMEORIGIN")

    def test_of_every_other_field_holds_too(self, dressed):
        own = {
            "referrer-policy": "unsafe-url",
            "permissions-policy": "geolocation=()",
            "cross-origin-opener-policy": "unsafe-none",
            "x-content-type-options": "nosniff",
            REPORT_ONLY: "default-src 'none'",
        }
        answer = dressed.ask(target=told(own))
        assert {name: answer.only(name) for name in own} == own


class TestOtherFields:
    @pytest.mark.parametrize(CASE, named(THE_APPS))
    def test_on_the_apps_answers_have_values_that_break_nothing(
        self, production, status, method, target, fields, body
    ):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only("referrer-policy") == "strict-origin-when-cross-origin"
        assert answer.only("permissions-policy") == "browsing-topics=()"
        is_page = target == "/page" and status == 200
        assert answer.every("cross-origin-opener-policy") == ["same-origin-allow-popups"] * is_page
        assert answer.every("cross-origin-resource-policy") == []  # nobody is signed in

    @pytest.mark.parametrize(CASE, named(OURS))
    def test_on_our_answers_are_strict(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        assert answer.only("referrer-policy") == "no-referrer"
        assert answer.only("permissions-policy") == "browsing-topics=()"
        assert answer.only("cross-origin-opener-policy") == "same-origin"
        assert answer.only("cross-origin-resource-policy") == "same-origin"
        assert answer.only("x-frame-options") == "DENY"
        assert answer.only("cache-control") == "no-store"

    def test_are_missing_without_the_rule(self, defenceless):
        answer = defenceless.ask("GET", "/page", NAVIGATION)
        for name in ("referrer-policy", "permissions-policy", "cross-origin-opener-policy"):
            assert answer.every(name) == []


@pytest.mark.requirement("HTTP-03", by="live")
class TestShippedPages:
    @pytest.mark.parametrize(CASE, named(OUR_PAGES))
    def test_run_no_script_without_a_nonce(self, production, status, method, target, fields, body):
        answer = ask(production, status, method, target, fields, body)
        policy = policy_of(answer)
        assert policy["default-src"] == "'none'"
        assert re.fullmatch(r"'nonce-[A-Za-z0-9_-]{24}'", policy["script-src"])
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in answer.only(CSP)
        assert answer.every(REPORT_ONLY) == []

    def test_have_another_nonce_in_every_answer_and_every_bit_of_it_varies(self, production):
        # 24 characters of base64url are 144 bits; among 64 answers each of them takes many values.
        nonces = [
            policy_of(production.ask("GET", "/crash", NAVIGATION))["script-src"].split("nonce-")[1][:24]
            for _ in range(64)
        ]
        assert len(set(nonces)) == 64
        assert all(len(set(column)) > 16 for column in zip(*nonces, strict=True))

    def test_carry_the_nonce_of_their_own_policy(self, production):
        answer = production.ask("GET", "/crash", NAVIGATION)
        assert f"'nonce-{nonce_in(answer)}'" == policy_of(answer)["script-src"]

    def test_keep_their_policy_in_every_mode(self, local):
        policy = policy_of(local.ask("GET", "/page", [*NAVIGATION, ("Via", "1.1 proxy")]))
        assert policy["script-src"].startswith("'nonce-")
        assert policy["require-trusted-types-for"] == "'script'"


def policy_of(answer: Answered) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in answer.only(CSP).split(";"))


def nonce_in(answer: Answered) -> str:
    """The one nonce that the elements of a page carry."""
    nonces: set[str] = set()

    class Nonces(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            nonces.update(value or "" for name, value in attrs if name == "nonce")

    Nonces().feed(answer.body.decode())
    [nonce] = nonces
    return nonce
