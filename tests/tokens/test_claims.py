"""What a genuine token says: each claim, the times, and whom it was made for."""

import dataclasses
import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.tokens.claims import Claims, InvalidToken, SessionClaims, TokenTerms
from thebes.tokens.cookie_tokens import CookieTokens
from token_forging import refusal
from token_making import ADA, ISSUER, NOW, body_of, mac_keys, signed_by_us

COOKIES = CookieTokens(mac_keys("old"), issuer=ISSUER)
BODY = body_of(COOKIES.issue(ADA, now=NOW))


def changed(**changes: object) -> str:
    """Return a genuine token with other claims; `...` leaves one out."""
    body = {name: value for name, value in (BODY | changes).items() if value is not ...}
    return signed_by_us(COOKIES, body)


class TestClaims:
    @pytest.mark.requirement("TOK-34")
    def test_a_token_holds_these_claims_and_nothing_personal(self):
        assert set(BODY) == {
            "iss", "aud", "sub", "sid", "client_id", "iat", "nbf", "exp", "jti",
            "auth_time", "amr", "epoch", "scope", "roles",
        }  # fmt: skip
        assert BODY["sub"] == ADA.sub

    @pytest.mark.requirement("TOK-34")
    @pytest.mark.parametrize(
        "value", ["ada@example.com", "Ada Lovelace", "ada\u00e9", "", "a" * 129, "ada\n"]
    )
    @pytest.mark.parametrize("name", ["sub", "sid"])
    def test_an_id_that_could_be_personal_is_not_written(self, name, value):
        with pytest.raises(ConfigurationError, match=f"the claim {name} ") as refused:
            COOKIES.issue(msgspec.structs.replace(ADA, **{name: value}), now=NOW)
        assert not value or value not in str(refused.value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("client_id", 'a"b'), ("client_id", ""), ("amr", ("pwd", "")), ("acr", "two words"),
            ("scope", frozenset({"notes:read admin"})), ("scope", frozenset({""})), ("roles", ("a\\b",)),
            ("roles", ("\u00e9diteur",)),
        ],
    )  # fmt: skip
    def test_names_that_could_be_read_in_two_ways_are_not_written(self, name, value):
        """A scope with a space in it would be two scopes for whoever reads the token."""
        with pytest.raises(ConfigurationError, match=f"the claim {name} "):
            COOKIES.issue(msgspec.structs.replace(ADA, **{name: value}), now=NOW)

    @pytest.mark.requirement("TOK-11")
    @pytest.mark.parametrize("name", sorted(set(BODY) - {"scope", "roles"}))
    def test_a_token_without_one_of_them_is_refused(self, name):
        assert COOKIES.verify(changed(), now=NOW).sub == ADA.sub
        assert refusal(COOKIES, changed(**{name: ...})) == "claims"
        assert refusal(COOKIES, changed(**{name: None})) == "claims"

    def test_without_scope_and_roles_nothing_was_granted(self):
        claims = COOKIES.verify(changed(scope=..., roles=...), now=NOW)
        assert (claims.scope, claims.roles) == (frozenset(), ())

    def test_auth_time_is_that_of_the_authentication_whenever_the_token_is_made(self):
        for now in (NOW, NOW + 86_400, NOW + 30 * 86_400):
            body = body_of(COOKIES.issue(ADA, now=now))
            assert (body["auth_time"], body["amr"], body["iat"]) == (ADA.auth_time, ["pwd"], now)

    def test_claims_are_frozen_since_requests_share_them(self):
        claims = COOKIES.verify(changed(), now=NOW)
        for name in Claims.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(claims, name, "mallory")
            hash(getattr(claims, name))

    @given(
        st.builds(
            SessionClaims,
            sub=st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True),
            sid=st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True),
            client_id=st.just("thebes"),
            auth_time=st.integers(0, 2**40).map(float),
            amr=st.lists(st.sampled_from(["pwd", "otp", "hwk"])).map(tuple),
            epoch=st.integers(0, 2**40),
            acr=st.none() | st.just("aal2"),
            scope=st.frozensets(st.from_regex(r"[!#-\[\]-~]{1,20}", fullmatch=True), max_size=5),
            roles=st.lists(st.from_regex(r"[!#-\[\]-~]{1,20}", fullmatch=True), max_size=5).map(tuple),
        )
    )
    def test_what_is_written_is_what_is_read(self, session):
        claims = COOKIES.verify(COOKIES.issue(session, now=NOW), now=NOW)
        assert {name: getattr(claims, name) for name in session.__struct_fields__} == msgspec.structs.asdict(
            session
        )


class TestStrictReading:
    @pytest.mark.requirement("TOK-13")
    @pytest.mark.parametrize("name", ["iat", "nbf", "exp", "auth_time", "epoch"])
    @pytest.mark.parametrize(
        "number",
        ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "true", '"1800000000"', "1.5", "-1", "[1]", "{}", "null",
         "9" * 17, "9" * 400, "01", "0x10", "1_000", "+1", "1800000600.0"],
    )  # fmt: skip
    def test_numbers_are_finite_whole_json_numbers(self, name, number):
        text = json.dumps(BODY | {name: "HERE"}).replace('"HERE"', number)
        assert refusal(COOKIES, signed_by_us(COOKIES, text)) == "claims"

    @pytest.mark.parametrize("number", ["9" * 5000, "1" * 3000])
    def test_a_number_of_thousands_of_digits_is_refused(self, number):
        body = json.dumps({"exp": "HERE"}).replace('"HERE"', number)
        with pytest.raises(InvalidToken, match="claims"):
            TERMS.opened(segment_bytes(body))

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param("", id="nothing"),
            pytest.param("null", id="null"),
            pytest.param("[]", id="an array"),
            pytest.param('"text"', id="a text"),
            pytest.param(b"\xff\xfe", id="no UTF-8"),
            pytest.param(json.dumps(BODY).encode("utf-16"), id="UTF-16"),
            pytest.param("\ufeff" + json.dumps(BODY), id="a byte order mark"),
            pytest.param(json.dumps(BODY) + "{}", id="a second object"),
            pytest.param(json.dumps(BODY)[:-1], id="cut off"),
            pytest.param("[" * 2900, id="deep arrays"),
            pytest.param('{"a":' * 580, id="deep objects"),
            pytest.param(json.dumps(BODY)[:-1] + ',"x":' + "[" * 1100 + "]" * 1100 + "}", id="depth in a claim of no ours"),
            pytest.param(json.dumps(BODY | {"scope": ["notes:read"]}), id="scope as an array"),
            pytest.param(json.dumps(BODY | {"roles": "editor"}), id="roles as a text"),
            pytest.param(json.dumps(BODY | {"roles": [1]}), id="a role that is a number"),
            pytest.param(json.dumps(BODY | {"sub": {"id": "ada"}}), id="a nested subject"),
            pytest.param(json.dumps(BODY).replace('"editor"', '"\\ud800"'), id="a lone surrogate"),
            pytest.param(json.dumps(BODY | {"amr": "pwd"}), id="amr as a text"),
        ],
    )  # fmt: skip
    def test_bodies_of_another_form_are_refused_under_a_genuine_signature(self, body):
        assert body != json.dumps(BODY)
        assert refusal(COOKIES, signed_by_us(COOKIES, body)) == "claims"

    @pytest.mark.parametrize("name", sorted(BODY))
    def test_a_claim_that_stands_twice_is_refused_under_a_genuine_signature(self, name):
        """Parsers disagree which of the two counts, so one reader would see another account than the next."""
        once = json.dumps(BODY)
        member = json.dumps({name: BODY[name]})[1:-1]
        assert refusal(COOKIES, signed_by_us(COOKIES, f"{{{member},{once[1:]}")) == "claims"
        assert refusal(COOKIES, signed_by_us(COOKIES, f"{once[:-1]},{member}}}")) == "claims"

    def test_a_doubled_name_is_found_behind_an_escape_and_inside_a_claim_of_no_ours(self):
        once = json.dumps(BODY)
        for more in ('"\\u0073ub":"mallory"', '"x":{"a":1,"a":2}', '"x":[{"a":1,"a":2}]', '"x":1,"x":1'):
            assert refusal(COOKIES, signed_by_us(COOKIES, f"{once[:-1]},{more}}}")) == "claims"

    def test_tokens_of_another_release_count_with_further_claims_and_in_another_order(self):
        """While a new release is rolled out, both read each other's tokens (RFC 7519, 4)."""
        later = dict(reversed((BODY | {"cnf2": {"a": [1]}}).items()))
        for body in (later, json.dumps(BODY, indent=2)):
            assert COOKIES.verify(signed_by_us(COOKIES, body), now=NOW).sub == ADA.sub

    @given(
        st.binary(max_size=300)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(BODY)), inner),
            max_leaves=20,
        )
    )
    def test_any_body_under_a_genuine_signature_is_refused_as_such(self, body):
        assert refusal(COOKIES, signed_by_us(COOKIES, body)) in {"claims", "malformed"}


TERMS = TokenTerms(issuer=ISSUER)


def segment_bytes(body: str) -> bytes:
    from token_making import segment

    return segment(body).encode()


class TestIssuerAndAudience:
    @pytest.mark.requirement("TOK-11")
    @pytest.mark.parametrize(
        "issuer",
        [
            "https://example.co",
            "https://example.com/",
            "https://example.con",
            "https://example.comm",
            "HTTPS://example.com",
            "https",
            "",
            "https://evil.example",
        ],
    )
    def test_an_issuer_that_differs_by_a_character_is_refused(self, issuer):
        assert refusal(COOKIES, changed(iss=issuer)) == "issuer"

    @pytest.mark.requirement("TOK-11")
    def test_a_token_under_the_key_of_another_issuer_is_refused(self):
        """Another service with keys of its own may call itself what it likes."""
        other = CookieTokens(mac_keys("new"), issuer=ISSUER)
        assert refusal(COOKIES, other.issue(ADA, now=NOW)) == "unknown_key"

    @pytest.mark.requirement("TOK-12")
    @pytest.mark.parametrize(
        ("audience", "reason"),
        [(..., "claims"), (None, "claims"), ("", "audience"), ([], "claims"), ([ISSUER], "claims"), ({}, "claims"),
         ("https://other.example", "audience"), (f"{ISSUER} https://other.example", "audience"),
         (ISSUER[:-1], "audience"), (ISSUER + "/", "audience")],
    )  # fmt: skip
    def test_a_token_for_nobody_or_somebody_else_is_refused(self, audience, reason):
        """`aud` is one name: a token for several services could be replayed by each of them at the others."""
        assert refusal(COOKIES, changed(aud=audience)) == reason

    @pytest.mark.requirement("TOK-12")
    def test_two_services_with_the_same_keys_keep_their_tokens_apart(self):
        one, other = (
            CookieTokens(mac_keys("old"), issuer=ISSUER, audience=name) for name in ("api", "admin")
        )
        token = one.issue(ADA, now=NOW)
        assert one.verify(token, now=NOW).aud == "api"
        assert refusal(other, token) == "audience"


class TestTimes:
    @pytest.mark.requirement("TOK-13")
    @pytest.mark.parametrize(
        ("claims", "now", "reason"),
        [
            pytest.param({}, NOW + 629.9, None, id="the leeway is forgiven at the end"),
            pytest.param({}, NOW + 630, "expired", id="from then on it is over"),
            pytest.param({}, NOW + 1e9, "expired", id="long ago"),
            pytest.param({}, NOW - 30, None, id="the leeway is forgiven at the beginning"),
            pytest.param({}, NOW - 30.1, "not_yet", id="a clock that is further behind"),
            pytest.param({"nbf": NOW + 60}, NOW + 29.9, "not_yet", id="nbf is honoured"),
            pytest.param({"nbf": NOW + 60}, NOW + 30, None, id="nbf with leeway"),
            pytest.param({"iat": NOW + 60}, NOW + 29.9, "not_yet", id="iat is honoured"),
            pytest.param({"iat": NOW + 60}, NOW + 30, None, id="iat with leeway"),
            pytest.param({"exp": 0}, NOW, "expired", id="the epoch is a time"),
            pytest.param({"exp": 2**52}, NOW, None, id="far ahead"),
            pytest.param({}, float("nan"), "not_yet", id="a clock that is broken lets nothing through"),
        ],
    )
    def test_a_token_counts_between_its_times(self, claims, now, reason):
        token = changed(**{name: int(value) for name, value in claims.items()})
        for _ in range(2):  # the second time it is a hit of the cache
            if reason is None:
                assert COOKIES.verify(token, now=now).sub == ADA.sub
            else:
                assert refusal(COOKIES, token, now=now) == reason

    def test_without_leeway_the_last_second_is_the_last(self):
        tokens = CookieTokens(
            mac_keys("old"), issuer=ISSUER, lifetime=timedelta(seconds=1), leeway=timedelta(0)
        )
        token = tokens.issue(ADA, now=NOW)
        assert tokens.verify(token, now=NOW + 0.999).exp == NOW + 1
        assert refusal(tokens, token, now=NOW + 1) == "expired"
        assert refusal(tokens, token, now=NOW - 0.001) == "not_yet"


class TestTerms:
    @pytest.mark.requirement("TOK-14")
    def test_ten_minutes_unless_somebody_says_otherwise(self):
        assert TokenTerms(issuer=ISSUER).lifetime == timedelta(minutes=10)
        assert COOKIES.lifetime == timedelta(minutes=10)
        assert BODY["exp"] - BODY["iat"] == 600

    @pytest.mark.requirement("TOK-13")
    def test_thirty_seconds_of_leeway_unless_somebody_says_otherwise(self):
        assert COOKIES.verify(changed(), now=NOW + 600 + 29.9)
        assert refusal(COOKIES, changed(), now=NOW + 600 + 30) == "expired"

    @pytest.mark.requirement("TOK-13", "TOK-14")
    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"lifetime": timedelta(minutes=60, seconds=1)}, "up to 60 minutes"),
            ({"lifetime": timedelta(days=30)}, "up to 60 minutes"),
            ({"lifetime": timedelta(0)}, "up to 60 minutes"),
            ({"lifetime": timedelta(seconds=-1)}, "up to 60 minutes"),
            ({"lifetime": timedelta(seconds=1.5)}, "whole seconds"),
            ({"leeway": timedelta(seconds=61)}, "up to 60 seconds"),
            ({"leeway": timedelta(seconds=-1)}, "up to 60 seconds"),
            ({"issuer": ""}, "issuer"),
            ({"issuer": "https://example.com\n"}, "issuer"),
            ({"audience": ""}, "audience"),
        ],
    )
    def test_terms_outside_the_bounds_are_refused_when_they_are_made(self, settings, problem):
        with pytest.raises(ConfigurationError, match=problem):
            CookieTokens(mac_keys("old"), **({"issuer": ISSUER} | settings))

    @pytest.mark.parametrize(
        "settings",
        [
            {"lifetime": timedelta(minutes=60)},
            {"lifetime": timedelta(seconds=1)},
            {"leeway": timedelta(0)},
            {"leeway": timedelta(seconds=60)},
        ],
    )
    def test_the_bounds_themselves_are_allowed(self, settings):
        tokens = CookieTokens(mac_keys("old"), issuer=ISSUER, **settings)
        assert tokens.verify(tokens.issue(ADA, now=NOW), now=NOW)

    def test_all_that_is_wrong_is_told_at_once(self):
        with pytest.raises(ConfigurationError) as refused:
            TokenTerms(issuer="", lifetime=timedelta(0), leeway=timedelta(days=1))
        assert len(refused.value.problems) == 4


def test_a_refusal_says_why_and_shows_nothing_of_the_token():
    with pytest.raises(InvalidToken) as refused:
        COOKIES.verify(changed(sub=7), now=NOW)
    assert str(refused.value) == "token refused: claims"
    assert not dataclasses.is_dataclass(refused.value)
