"""CORS as rules: which origins may be configured, which are named in answers, and what a preflight gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import request_facts
from thebes import ConfigurationError
from thebes.facts import Answer
from thebes.https.origins import CrossOriginFields, CrossOrigins, normal_origin

APP = "https://app.partner.example"
CORS = CrossOrigins([APP, "https://other.example:8443"])
OTHERS = [
    "https://evil.example",
    "null",
    "*",
    "",
    "https://app.partner.example.evil.example",
    "https://evilapp.partner.example",
    "https://partner.example",
    "https://x.app.partner.example",
    "http://app.partner.example",
    "https://app.partner.example:444",
    "https://app.partner.example:443",
    "https://app.partner.example/",
    "https://APP.partner.example",
    "https://app.partner.example.",
    "https://app-partner.example",
    "https://app.partner.example, https://app.partner.example",
    "https://app.partner.example https://evil.example",
    "https://app.partner.example@evil.example",
    "app.partner.example",
    "https://other.example",
]


def fields_for(origin: str | None, own: list[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    """The fields of an answer to a request of this origin, after the rule; `own` are the app's."""
    headers = [(name.encode(), value.encode()) for name, value in own or []]
    facts = request_facts(headers={"origin": origin})
    CrossOriginFields(CORS)(facts, headers)
    return [(name.decode(), value.decode()) for name, value in headers]


def preflight(origin: str | None = APP, asked: str | None = None, **changes: str | None) -> Answer | None:
    """What the check answers to a preflight."""
    fields = {"origin": origin, "access-control-request-method": "PUT"}
    fields |= {"access-control-request-headers": asked, **changes}
    return CORS(request_facts("OPTIONS", headers=fields))


class TestAnswers:
    def test_a_configured_origin_is_named_and_may_send_credentials(self):
        assert fields_for(APP) == [
            ("vary", "Origin"),
            ("access-control-allow-origin", APP),
            ("access-control-allow-credentials", "true"),
        ]

    @pytest.mark.parametrize("origin", OTHERS)
    def test_any_other_origin_is_not_named(self, origin):
        assert fields_for(origin) == [("vary", "Origin")]

    def test_an_answer_to_no_origin_still_varies(self):
        assert fields_for(None) == [("vary", "Origin")]

    @given(st.text(alphabet=st.characters(max_codepoint=255), max_size=40))
    def test_no_other_text_is_ever_reflected(self, origin):
        assert (fields_for(origin) == [("vary", "Origin")]) == (origin != APP)

    def test_what_the_app_says_of_its_own_stands_alone(self):
        own = [("access-control-allow-origin", "https://evil.example"), ("vary", "Origin")]
        assert fields_for(APP, own) == own

    @pytest.mark.parametrize("vary", ["Origin", "origin", "Accept-Encoding, Origin", "Origin,Cookie"])
    def test_an_answer_that_varies_by_origin_already_says_it_once(self, vary):
        assert fields_for(None, [("vary", vary)]) == [("vary", vary)]

    @pytest.mark.parametrize(
        "vary", ["Accept", "X-Original-Host", "X-Origin, Accept", "CloudFront-Viewer-Origin"]
    )
    def test_another_field_with_origin_in_its_name_is_not_taken_for_it(self, vary):
        assert fields_for(APP, [("vary", vary)])[:2] == [("vary", vary), ("vary", "Origin")]


class TestPreflights:
    def test_of_a_configured_origin_are_answered_unless_the_app_answers_for_itself(self):
        answer = preflight(asked="content-type, x-csrf-token")
        assert answer is not None
        assert (answer.status, answer.unless) == (204, b"access-control-allow-origin")
        assert dict(answer.headers) == {
            b"access-control-allow-methods": b"GET, HEAD, POST, PUT, PATCH, DELETE",
            b"access-control-max-age": b"600",
            b"access-control-allow-headers": b"content-type, x-csrf-token",
        }

    @pytest.mark.parametrize("origin", [None, *OTHERS])
    def test_of_any_other_origin_go_on_to_the_app(self, origin):
        assert preflight(origin) is None

    def test_that_ask_for_no_method_are_plain_options_requests(self):
        assert preflight(**{"access-control-request-method": None}) is None

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    def test_are_options_requests_only(self, method):
        fields = {"origin": APP, "access-control-request-method": "PUT"}
        assert CORS(request_facts(method, headers=fields)) is None

    @pytest.mark.parametrize(
        "asked",
        ["", "*\r\nset-cookie: a=1", "a b", "content-type;x", "a,,b", "caf\u00e9", "a\tb", '"quoted"'],
    )
    def test_echo_nothing_that_is_no_list_of_field_names(self, asked):
        answer = preflight(asked=asked)
        assert answer is not None
        assert b"access-control-allow-headers" not in dict(answer.headers)


class TestConfiguredOrigins:
    @pytest.mark.parametrize(
        ("written", "kept"),
        [
            ("https://app.example.com", "https://app.example.com"),
            ("https://APP.example.com/", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://app.localhost:80", "http://app.localhost"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
            ("http://[::1]:5173", "http://[::1]:5173"),
        ],
    )
    def test_are_kept_as_browsers_write_them(self, written, kept):
        assert normal_origin(written) == kept

    @pytest.mark.parametrize(
        "written",
        [
            "*",
            "null",
            "",
            "example.com",
            "//example.com",
            "https://",
            "https://*.example.com",
            "https://example.com/path",
            "https://example.com?x",
            "https://example.com#x",
            "https://example.com:port",
            "https://example.com:99999",
            "https://user@example.com",
            "https://example.com evil.example",
            " https://example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "https://[::1",
        ],
    )
    def test_are_nothing_else_than_origins(self, written):
        with pytest.raises(ConfigurationError, match="is no origin"):
            normal_origin(written)

    @pytest.mark.parametrize("written", ["http://example.com", "http://10.0.0.1", "http://localhost.example"])
    def test_are_https_unless_they_are_on_this_machine(self, written):
        with pytest.raises(ConfigurationError, match="plain http"):
            normal_origin(written)
