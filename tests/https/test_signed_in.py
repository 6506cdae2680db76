"""Answers to somebody who is signed in: for them alone, unless the app says otherwise."""

import pytest

from asking import request_facts
from thebes.https.signed_in import WANTED, SignedInFields


def answered(headers, *, is_signed_in=True):
    facts = request_facts()
    facts.claims = object() if is_signed_in else None
    SignedInFields()(facts, headers)
    return headers


PLAIN = [(b"content-type", b"application/json"), (b"content-length", b"2")]


def test_what_the_app_did_not_set_is_added():
    assert answered([*PLAIN]) == [*PLAIN, *WANTED]


def test_nobody_s_answer_is_left_alone():
    assert answered([*PLAIN], is_signed_in=False) == PLAIN


@pytest.mark.parametrize("name", [b"cache-control", b"Cache-Control", b"CACHE-CONTROL", b"Cache-control"])
def test_an_app_that_speaks_of_caches_itself_wins_however_it_spells_that(name):
    own = (name, b"public, max-age=60")
    assert answered([own, *PLAIN]) == [own, *PLAIN, WANTED[1]]


@pytest.mark.parametrize("name", [b"cross-origin-resource-policy", b"Cross-Origin-Resource-policy"])
def test_so_does_one_that_opens_an_answer_to_other_sites(name):
    own = (name, b"cross-origin")
    assert answered([*PLAIN, own]) == [*PLAIN, own, WANTED[0]]


@pytest.mark.parametrize("name", [b"last-modified", b"accept-ranges"])
def test_a_field_whose_name_is_as_long_takes_nothing_away(name):
    assert answered([(name, b"x"), *PLAIN]) == [(name, b"x"), *PLAIN, *WANTED]
