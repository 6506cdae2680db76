"""Answers to somebody who is signed in: for them alone, unless the app says otherwise."""

import pytest

from asking import request_facts
from thebes.facts import Mode
from thebes.https.headers import FOR_SOMEBODY, SecurityHeaders

rule = SecurityHeaders(mode=Mode.PRODUCTION, hsts=b"max-age=60")


def answered(headers, *, is_signed_in=True, scheme="https"):
    """Return an answer's fields but for those that every answer carries."""
    facts = request_facts(scheme=scheme)
    for_all = []
    rule(facts, for_all)
    facts.claims = object() if is_signed_in else None
    rule(facts, headers)
    return [field for field in headers if field not in for_all]


PLAIN = [(b"content-type", b"application/json"), (b"content-length", b"2")]


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_what_the_app_did_not_set_is_added(scheme):
    for _ in range(2):  # a type of content is looked at closely once, and known from then on
        assert answered([*PLAIN], scheme=scheme) == [*PLAIN, *FOR_SOMEBODY]


def test_a_page_gets_it_beside_what_pages_get():
    answer = answered([(b"content-type", b"text/html")])
    assert set(FOR_SOMEBODY) < set(answer)
    assert (b"x-frame-options", b"SAMEORIGIN") in answer


def test_nobody_s_answer_is_left_alone():
    assert answered([*PLAIN], is_signed_in=False) == PLAIN


@pytest.mark.parametrize("name", [b"cache-control", b"Cache-Control", b"CACHE-CONTROL", b"Cache-control"])
def test_an_app_that_speaks_of_caches_itself_wins_however_it_spells_that(name):
    own = (name, b"public, max-age=60")
    assert answered([own, *PLAIN]) == [own, *PLAIN, FOR_SOMEBODY[1]]


@pytest.mark.parametrize("name", [b"cross-origin-resource-policy", b"Cross-Origin-Resource-policy"])
def test_so_does_one_that_opens_an_answer_to_other_sites(name):
    own = (name, b"cross-origin")
    assert answered([*PLAIN, own]) == [*PLAIN, own, FOR_SOMEBODY[0]]


@pytest.mark.parametrize("name", [b"last-modified", b"accept-ranges"])
def test_a_field_whose_name_is_as_long_takes_nothing_away(name):
    assert answered([(name, b"x"), *PLAIN]) == [(name, b"x"), *PLAIN, *FOR_SOMEBODY]
