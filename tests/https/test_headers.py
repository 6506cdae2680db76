"""The fields that every answer gets: what is enforced, what is reported, and what the app decides."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from asking import request_facts
from thebes import ConfigurationError, Security
from thebes.assembly import problems_of
from thebes.facts import Mode
from thebes.https.headers import HSTS_MAX_AGE, SecurityHeaders, hsts_value, nonce_policy
from thebes.testing import client

HTML = ("content-type", "text/html; charset=utf-8")
JSON = ("content-type", "application/json")
HSTS = "max-age=63072000"
BASE = "frame-ancestors 'self'; object-src 'none'; base-uri 'none'"
Pairs = list[tuple[str, str]]


def answered(*own: tuple[str, str], csp: Any = "report", mode: Mode = Mode.PRODUCTION, **scope: Any) -> Pairs:
    """The fields of an answer after the rule, over https unless the scope says otherwise."""
    rule = SecurityHeaders(mode=mode, hsts=HSTS.encode(), csp=csp)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in own]
    rule(request_facts(**{"scheme": "https", **scope}), headers)
    return [(name.decode(), value.decode("latin-1")) for name, value in headers]


def every(fields: Pairs, name: str) -> list[str]:
    return [value for known, value in fields if known.lower() == name]


class TestEveryAnswer:
    @pytest.mark.parametrize("kind", [HTML, JSON, ("content-type", "image/png"), ("server", "none")])
    def test_gets_what_can_break_nothing(self, kind):
        fields = answered(kind)
        assert every(fields, "x-content-type-options") == ["nosniff"]
        assert every(fields, "referrer-policy") == ["strict-origin-when-cross-origin"]
        assert every(fields, "permissions-policy") == ["browsing-topics=()"]
        assert every(fields, "content-security-policy") == [BASE]

    @pytest.mark.parametrize(
        "kind", ["text/html", "TEXT/HTML", "text/html;charset=utf-8", "application/xhtml+xml"]
    )
    def test_that_is_html_gets_more(self, kind):
        fields = answered(("content-type", kind))
        assert every(fields, "x-frame-options") == ["SAMEORIGIN"]
        assert every(fields, "cross-origin-opener-policy") == ["same-origin-allow-popups"]
        assert len(every(fields, "content-security-policy-report-only")) == 1

    @pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE", "Content-type"])
    def test_is_html_in_whatever_case_the_name_of_the_field_is_written(self, name):
        assert every(answered((name, "text/html")), "x-frame-options") == ["SAMEORIGIN"]

    @pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/xml"])
    def test_that_is_not_does_not(self, kind):
        fields = answered(("content-type", kind))
        for name in ("x-frame-options", "cross-origin-opener-policy", "content-security-policy-report-only"):
            assert every(fields, name) == []

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        "content-type",
                        "x-frame-options",
                        "content-security-policy",
                        "content-security-policy-report-only",
                        "referrer-policy",
                        "permissions-policy",
                        "x-content-type-options",
                        "cross-origin-opener-policy",
                        "strict-transport-security",
                        "vary",
                    ]
                ).flatmap(
                    lambda name: st.sampled_from([name, name.title(), name.upper(), name.capitalize()])
                ),
                st.sampled_from(["text/html", "DENY", "default-src 'self'", "", "own"]),
            ),
            unique_by=lambda field: field[0].lower(),
        ),
        st.sampled_from(Mode),
        st.sampled_from(["http", "https"]),
    )
    def test_keeps_what_the_app_has_set_and_has_no_field_twice_in_any_case(self, own, mode, scheme):
        fields = answered(*own, mode=mode, scheme=scheme)
        kept = [field for field in fields if field in own]
        hsts = "strict-transport-security"
        allowed = mode is Mode.PRODUCTION and scheme == "https"
        assert kept == [field for field in own if allowed or field[0].lower() != hsts]
        names = [name.lower() for name, _ in fields if name.lower() != "content-security-policy"]
        assert len(names) == len(set(names))
        assert len(every(fields, hsts)) == (1 if allowed else 0)


class TestStrictTransportSecurity:
    def test_is_two_years_by_default(self):
        assert hsts_value(HSTS_MAX_AGE, include_subdomains=False, preload=False) == HSTS.encode()
        assert timedelta(seconds=31536000) <= HSTS_MAX_AGE

    def test_is_sent_once_over_https_in_production(self):
        assert every(answered(JSON), "strict-transport-security") == [HSTS]
        assert every(answered(HTML), "strict-transport-security") == [HSTS]

    @pytest.mark.parametrize("kind", [HTML, JSON])
    def test_is_never_sent_over_plain_http(self, kind):
        assert every(answered(kind, scheme="http"), "strict-transport-security") == []

    @pytest.mark.parametrize("kind", [HTML, JSON])
    @pytest.mark.parametrize("mode", [Mode.DEVELOPMENT, Mode.TEST])
    def test_is_taken_off_in_development_and_test_even_when_it_is_the_apps(self, kind, mode):
        own = ("Strict-Transport-Security", "max-age=1")
        assert every(answered(kind, own, mode=mode), "strict-transport-security") == []

    def test_of_the_app_is_kept(self):
        own = ("strict-transport-security", "max-age=31536000; includeSubDomains")
        assert every(answered(JSON, own), "strict-transport-security") == [own[1]]
        assert every(answered(JSON, own, scheme="http"), "strict-transport-security") == []

    def test_stands_once_even_when_the_app_sets_it_twice(self):
        own = ("strict-transport-security", "max-age=31536000")
        assert every(answered(JSON, own, own), "strict-transport-security") == [own[1]]

    @pytest.mark.parametrize(
        ("settings", "value"),
        [
            ({"include_subdomains": True, "preload": False}, b"max-age=60; includeSubDomains"),
            ({"include_subdomains": True, "preload": True}, b"max-age=60; includeSubDomains; preload"),
        ],
    )
    def test_names_what_was_asked_for(self, settings, value):
        assert hsts_value(timedelta(minutes=1), **settings) == value


def problems(**settings: Any) -> list[str]:
    """What keeps an app with these settings from starting, as far as HSTS is meant."""
    found = problems_of(Security(**settings).settings(), os.environ, Path.cwd(), identifies=False)
    return [problem for problem in found if "hsts" in problem]


@pytest.mark.requirement("TLS-13")
class TestPreload:
    @pytest.fixture(autouse=True)
    def _empty_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_is_not_asked_for_by_default(self):
        assert not Security().settings().hsts_preload
        assert b"preload" not in hsts_value(HSTS_MAX_AGE, include_subdomains=True, preload=False)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"hsts_include_subdomains": True, "hsts_max_age": 31535999},
            {"hsts_include_subdomains": False, "hsts_max_age": 31536000},
            {"hsts_max_age": 31536000},
            {"hsts_include_subdomains": True, "hsts_max_age": timedelta(days=364)},
        ],
    )
    def test_is_refused_without_a_year_and_all_subdomains(self, settings):
        assert len(problems(hsts_preload=True, **settings)) == 1
        assert problems(**settings) == []

    @pytest.mark.parametrize("max_age", [31536000, timedelta(days=365), timedelta(days=730)])
    def test_is_granted_with_both(self, max_age):
        settings = {"hsts_preload": True, "hsts_include_subdomains": True, "hsts_max_age": max_age}
        assert problems(**settings) == []

    def test_that_is_refused_stops_the_start(self):
        app = Security(hsts_preload=True, hsts_max_age=31536000).protect(Starlette())
        with pytest.raises(ConfigurationError, match="hsts_preload needs"):
            client(app).get("/")


class TestContentSecurityPolicy:
    def test_of_strict_settings_enforces_the_nonce_on_html_and_reports_nothing(self):
        fields = answered(HTML, csp="strict")
        [policy] = every(fields, "content-security-policy")
        nonce = r"[A-Za-z0-9_-]{22,}"
        assert re.fullmatch(
            rf"{BASE}; script-src 'nonce-{nonce}' 'strict-dynamic'; form-action 'self'", policy
        )
        assert every(fields, "content-security-policy-report-only") == []
        assert every(answered(JSON, csp="strict"), "content-security-policy") == [BASE]

    def test_reports_the_same_by_default(self):
        [policy] = every(answered(HTML), "content-security-policy-report-only")
        assert re.fullmatch(
            r"script-src 'nonce-[A-Za-z0-9_-]{22,}' 'strict-dynamic'; form-action 'self'", policy
        )

    def test_allows_neither_inline_nor_evaluated_scripts(self):
        assert b"unsafe" not in nonce_policy("n")

    @pytest.mark.parametrize("csp", ["report", "strict"])
    def test_of_the_app_is_left_alone_when_it_speaks_of_framing(self, csp):
        own = ("content-security-policy", "default-src 'self'; FRAME-ANCESTORS https://partner.example")
        assert every(answered(HTML, own, csp=csp), "content-security-policy") == [own[1]]

    @pytest.mark.parametrize("csp", ["report", "strict"])
    @pytest.mark.parametrize("kind", [HTML, JSON])
    def test_of_the_app_gets_the_framing_policy_beside_it_when_it_does_not(self, csp, kind):
        own = ("content-security-policy", "default-src 'self'")
        fields = answered(kind, own, csp=csp)
        assert every(fields, "content-security-policy") == [own[1], "frame-ancestors 'self'"]

    def test_of_the_app_counts_wherever_it_speaks_of_framing(self):
        own = [
            ("content-security-policy", "frame-ancestors https://partner.example"),
            ("content-security-policy", "default-src 'self'"),
        ]
        assert every(answered(HTML, *own), "content-security-policy") == [value for _, value in own]

    def test_of_the_app_that_only_reports_is_left_alone(self):
        own = ("content-security-policy-report-only", "default-src 'self'")
        fields = answered(HTML, own)
        assert every(fields, "content-security-policy-report-only") == [own[1]]
        assert every(fields, "content-security-policy") == [BASE]

    @pytest.mark.parametrize("value", ["DENY", "deny", " Deny "])
    @pytest.mark.parametrize("kind", [HTML, JSON])
    @pytest.mark.parametrize("csp", ["report", "strict"])
    def test_forbids_all_framing_where_the_app_does(self, kind, value, csp):
        fields = answered(kind, ("x-frame-options", value), csp=csp)
        assert every(fields, "x-frame-options") == [value]
        [policy] = every(fields, "content-security-policy")
        assert policy.startswith("frame-ancestors 'none'; object-src 'none'; base-uri 'none'")

    def test_beside_the_apps_own_forbids_all_framing_where_the_app_does(self):
        # Browsers ignore X-Frame-Options once a policy has frame-ancestors (CSP3, 6.4.2.1).
        own = [("content-security-policy", "default-src 'self'"), ("x-frame-options", "DENY")]
        policies = every(answered(HTML, *own), "content-security-policy")
        assert policies == ["default-src 'self'", "frame-ancestors 'none'"]

    def test_keeps_its_default_beside_another_frame_option(self):
        fields = answered(HTML, ("x-frame-options", "SAMEORIGIN"))
        assert every(fields, "content-security-policy") == [BASE]


class TestSettings:
    @pytest.mark.parametrize("value", [-1, timedelta(days=-1), "soon"])
    def test_a_max_age_that_is_none_is_refused(self, value):
        with pytest.raises(ConfigurationError, match="hsts_max_age"):
            Security(hsts_max_age=value)

    @pytest.mark.parametrize("value", ["", "enforce", "off", "STRICT"])
    def test_another_word_for_the_policy_is_refused(self, value):
        with pytest.raises(ConfigurationError, match="csp"):
            Security(csp=value)
