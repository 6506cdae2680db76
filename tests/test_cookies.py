"""The Cookie field is read as browsers wrote it: bytes, split at semicolons, stripped of SP and TAB only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.cookies import holds_any, pairs

SESSION = frozenset({b"session"})
# What str.strip or bytes.strip would take off, and browsers don't. All of these stay part of the name.
NOT_STRIPPED = {
    "en quad": "\u2000".encode(),
    "no-break space": "\u00a0".encode(),
    "ideographic space": "\u3000".encode(),
    "next line, one byte": b"\x85",
    "no-break space, one byte": b"\xa0",
    "vertical tab": b"\x0b",
    "form feed": b"\x0c",
    "file separator": b"\x1c",
    "unit separator": b"\x1f",
    "line feed": b"\n",
    "carriage return": b"\r",
    "NUL": b"\0",
}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param(b"a=1", [(b"a", b"1")], id="one"),
        pytest.param(b"a=1; b=2", [(b"a", b"1"), (b"b", b"2")], id="two"),
        pytest.param(b"a=1;b=2", [(b"a", b"1"), (b"b", b"2")], id="no space between"),
        pytest.param(b"a=1;\tb=2 \t; c=3", [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], id="tabs"),
        pytest.param(b" \ta \t=\t 1\t ", [(b"a", b"1")], id="blanks around name and value"),
        pytest.param(b"a=1; a=2", [(b"a", b"1"), (b"a", b"2")], id="doubled, in their order"),
        pytest.param(b"a=1; A=2", [(b"a", b"1"), (b"A", b"2")], id="case is kept"),
        pytest.param(b"a=b=c==", [(b"a", b"b=c==")], id="the first equals sign counts"),
        pytest.param(b'a="x;y"', [(b"a", b'"x'), (b"", b'y"')], id="quotes hide no semicolon"),
        pytest.param(b"a=", [(b"a", b"")], id="empty value"),
        pytest.param(b"=1", [(b"", b"1")], id="empty name"),
        pytest.param(b"=a=1", [(b"", b"a=1")], id="empty name, a value that looks like a pair"),
        pytest.param(b"lonely", [(b"", b"lonely")], id="without an equals sign it is a value"),
        pytest.param(b"=", [(b"", b"")], id="an equals sign alone"),
        pytest.param(b"", [], id="empty field"),
        pytest.param(b"; ;\t;;", [], id="separators alone"),
        pytest.param(b"a=1, b=2", [(b"a", b"1, b=2")], id="a comma separates nothing"),
        pytest.param(b"a=\xff\xfe", [(b"a", b"\xff\xfe")], id="bytes that are no text"),
    ],
)
def test_a_field_is_split_the_way_browsers_join_it(field: bytes, expected: list[tuple[bytes, bytes]]):
    assert list(pairs(field)) == expected


@pytest.mark.parametrize("blank", [pytest.param(blank, id=name) for name, blank in NOT_STRIPPED.items()])
def test_a_name_with_a_foreign_blank_is_another_name(blank: bytes):
    """A browser stores `\\u2000session` for a page that may not set `session`: cookie tossing."""
    field = blank + b"session=tossed; session" + blank + b"=tossed"

    assert [name for name, _ in pairs(field)] == [blank + b"session", b"session" + blank]
    assert not holds_any(field, SESSION)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param(b"session=1", True, id="alone"),
        pytest.param(b"theme=dark; session=1", True, id="beside another"),
        pytest.param(b"session=", True, id="empty value"),
        pytest.param(b"SESSION=1", True, id="upper case"),
        pytest.param(b"sEsSiOn=1", True, id="mixed case"),
        pytest.param(b"a=1;\t session \t=1", True, id="blanks around it"),
        pytest.param(b"session=1; session=2", True, id="doubled"),
        pytest.param(b"sessions=1", False, id="longer name"),
        pytest.param(b"xsession=1", False, id="shorter name inside"),
        pytest.param(b"a=session=1", False, id="in a value"),
        pytest.param(b"session", False, id="a value with an empty name"),
        pytest.param(b"=session=1", False, id="a value that looks like it"),
        pytest.param(b"", False, id="no cookie"),
    ],
)
def test_a_session_cookie_is_found_by_its_whole_name_in_any_case(field: bytes, expected: bool):
    assert holds_any(field, SESSION) is expected


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"a", b"=", b";", b" ", b"\t", b"\xe2"])).map(b"".join)
)
def test_any_bytes_are_read_without_an_error(field: bytes):
    for name, value in pairs(field):
        assert b";" not in name + value
        assert b"=" not in name
        assert name == name.strip(b" \t")
        assert value == value.strip(b" \t")
    assert holds_any(field, SESSION) is any(name.lower() == b"session" for name, _ in pairs(field))


octets = st.binary(max_size=12).map(lambda raw: bytes(octet for octet in raw if octet not in b"; \t="))


@given(st.lists(st.tuples(octets, octets), max_size=6), st.sampled_from([b";", b"; ", b" ;\t"]))
def test_pairs_are_the_inverse_of_joining_them(cookies: list[tuple[bytes, bytes]], separator: bytes):
    field = separator.join(name + b"=" + value for name, value in cookies)

    assert list(pairs(field)) == cookies
