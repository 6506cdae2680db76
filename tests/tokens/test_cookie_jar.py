"""Our cookies as they are set, and Cookie fields as anybody may write them."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.tokens import cookie_jar
from thebes.tokens.cookie_jar import DEVICE, PRESESSION, REFRESH, SESSION, CookieJar

NAME = REFRESH.encode()
# What fields are made of: our names in every case, what separates, and bytes that some parser strips.
PIECES = st.sampled_from(
    [
        NAME,
        NAME.lower(),
        NAME.upper(),
        SESSION.encode(),
        SESSION.encode().lower(),
        b"=",
        b";",
        b"; ",
        b" ",
        b"\t",
        b"\xa0",
        b"\xe2\x80\x80",
        b"\x0b",
        b'"',
        b",",
        b"a",
        b"b=1",
    ]
)
FIELDS = st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=60)


def app_reads(field: bytes) -> list[bytes]:
    """Return the names that a parser finds which strips what RFC 6265bis says, in lower case."""
    names = (piece.partition(b"=")[0].strip(b" \t") for piece in field.split(b";") if b"=" in piece)
    return [name.lower() for name in names]


class TestSet:
    @pytest.mark.requirement("TOK-30")
    @pytest.mark.parametrize(("same_site", "word"), [("lax", "Lax"), ("strict", "Strict")])
    @pytest.mark.parametrize("max_age", [None, 0, 5, 10**9])
    def test_every_cookie_has_all_attributes_and_no_domain(self, same_site, word, max_age):
        jar = CookieJar(same_site=same_site)
        fields = [
            jar.set_session("t", max_age=max_age),
            jar.set_refresh("t", max_age=max_age),
            jar.set_other(jar.presession_name, "t", max_age=max_age),
            jar.set_other(jar.device_name, "t", max_age=max_age),
        ]
        age = "" if max_age is None else f"; Max-Age={min(max_age, 400 * 86400)}"
        for (name, value), cookie in zip(fields, (SESSION, REFRESH, PRESESSION, DEVICE), strict=True):
            assert name == b"set-cookie"
            assert value.decode() == f"{cookie}=t; Path=/; Secure; HttpOnly; SameSite={word}{age}"

    def test_lax_is_what_stands_without_a_setting(self):
        assert b"SameSite=Lax" in CookieJar().set_session("t", max_age=None)[1]

    def test_they_are_deleted_with_the_attributes_that_they_were_set_with(self):
        jar = CookieJar(namespace="shop", same_site="strict")
        deleted = jar.expire(jar.session_name, jar.refresh_name)
        for (_, gone), (_, was) in zip(
            deleted, (jar.set_session("", max_age=0), jar.set_refresh("", max_age=0)), strict=True
        ):
            assert gone == was
            assert gone.endswith(b"; Max-Age=0")

    def test_a_namespace_stands_in_each_name(self):
        jar = CookieJar(namespace="shop-2")
        names = [jar.session_name, jar.refresh_name, jar.presession_name, jar.device_name]
        assert names == [f"{name}-shop-2" for name in (SESSION, REFRESH, PRESESSION, DEVICE)]

    @pytest.mark.parametrize("namespace", ["A", "a b", "a;b", "a=b", "é", "x" * 33, "a\n", "a_b", " "])
    def test_a_namespace_that_can_not_stand_there_is_refused(self, namespace):
        with pytest.raises(ConfigurationError, match="cookie_namespace"):
            CookieJar(namespace=namespace)


class TestRead:
    @pytest.mark.requirement("TOK-31", "TOK-35")
    @given(FIELDS)
    @example(b"=" + NAME + b"=x")
    @example(NAME + b"=a;" + NAME.lower() + b"=b; c=1")
    def test_no_refresh_cookie_is_left_and_every_other_piece_is(self, field):
        brought = CookieJar().brought(field)
        left = field if brought.others is None else brought.others
        assert NAME.lower() not in app_reads(left)
        kept = [piece for piece in field.split(b";") if NAME.lower() not in app_reads(piece)]
        assert left.strip(b" \t") == b";".join(kept).strip(b" \t")

    @given(FIELDS)
    def test_a_token_counts_only_under_its_exact_name_given_once(self, field):
        brought = CookieJar().brought(field)
        pieces = [piece.strip(b" \t").partition(b"=") for piece in field.split(b";") if b"=" in piece]
        for name, found in ((SESSION.encode(), brought.session), (NAME, brought.refresh)):
            values = [value.strip(b" \t") for one, _, value in pieces if one.strip(b" \t") == name]
            assert found == (values[0] if len(values) == 1 else None)

    @given(FIELDS)
    def test_what_is_remembered_is_what_is_read(self, field):
        jar = CookieJar()
        assert jar.brought(field) == jar.brought(field) == CookieJar().brought(field)

    def test_a_flood_of_other_fields_takes_no_more_memory_than_it_is_given(self):
        jar = CookieJar()
        for number in range(3 * cookie_jar._REMEMBERED):
            jar.brought(b"__Host-thebes-session=%d" % number)
        assert len(jar._seen) <= cookie_jar._REMEMBERED
        jar.brought(b"__Host-thebes-session=" + b"x" * 100_000)
        assert all(len(field) < 10_000 for field in jar._seen)

    def test_another_namespaces_refresh_cookie_is_another_services_own(self):
        assert CookieJar(namespace="shop").brought(NAME + b"=x").others is None
        assert CookieJar().brought(NAME + b"-shop=x").others is None

    @pytest.mark.parametrize(
        ("value", "read"),
        [
            (b"abc-_.123", b"abc-_.123"),
            (b"", None),
            (b"a b", None),
            (b'"abc"', None),
            (b"a\xe9", None),
            (b"a,b", None),
            (b"a\x01", None),
            (b"a" * 513, None),
        ],
    )
    def test_another_cookie_of_ours_counts_with_a_value_that_we_write(self, value, read):
        jar = CookieJar()
        field = b"x=1; " + PRESESSION.encode() + b"=" + value
        assert jar.value(field, jar.presession_name) == read

    def test_a_doubled_one_does_not_count(self):
        jar = CookieJar()
        field = b"; ".join([PRESESSION.encode() + b"=a"] * 2)
        assert jar.value(field, jar.presession_name) is None
        assert jar.value(None, jar.presession_name) is None


def test_what_is_set_can_be_read_again():
    jar = CookieJar()
    set_fields = [jar.set_session("one.two", max_age=None), jar.set_refresh("three", max_age=5)]
    field = b"; ".join(re.split(rb"; ?", value)[0] for _, value in set_fields)
    brought = jar.brought(field)
    assert (brought.session, brought.refresh, brought.others) == (
        b"one.two",
        b"three",
        SESSION.encode() + b"=one.two",
    )
