"""Under which keys an address counts."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.ratelimit.addresses import address_keys

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param("192.0.2.1", id="dotted"),
        pytest.param("::ffff:192.0.2.1", id="mapped"),
        pytest.param("::FFFF:c000:201", id="mapped, in hexadecimal"),
        pytest.param("0:0:0:0:0:ffff:c000:0201", id="mapped, in full"),
    ],
)
def test_four_spellings_of_an_ipv4_address_are_one_key(spelling):
    """CVE-2026-45364: a limiter that keyed on the text gave each spelling a budget of its own."""
    assert address_keys(spelling) == address_keys("192.0.2.1")
    assert len(address_keys(spelling)) == 1


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param("2001:db8::1", id="short"),
        pytest.param("2001:DB8::0001", id="capitals and zeros"),
        pytest.param("2001:0db8:0000:0000:0000:0000:0000:0001", id="in full"),
        pytest.param("2001:db8:0:0::ffff:ffff", id="another host of the network"),
    ],
)
def test_four_spellings_of_an_ipv6_network_are_one_key(spelling):
    assert address_keys(spelling) == address_keys("2001:db8::1")


@given(V4, V4)
def test_ipv4_addresses_share_nothing_but_the_coarse_key_of_their_24(one, other):
    ((exact, coarse, share),) = address_keys(str(one))
    ((other_exact, other_coarse, _),) = address_keys(str(other))

    assert share == 1
    assert (exact == other_exact) == (one == other)
    assert (coarse == other_coarse) == (int(one) >> 8 == int(other) >> 8)


@given(V6, V6 | st.integers(1, 2**80 - 1))
def test_ipv6_counts_by_64_and_with_sixteen_times_the_budget_by_48(one, other):
    if isinstance(other, int):  # a neighbour, more often than chance would have it
        other = ipaddress.IPv6Address(int(one) ^ other)
    narrow, wide = address_keys(str(one))
    other_narrow, other_wide = address_keys(str(other))

    assert (narrow.share, wide.share) == (1, 16)
    assert (narrow.exact == other_narrow.exact) == (int(one) >> 64 == int(other) >> 64)
    assert (wide.exact == other_wide.exact) == (int(one) >> 80 == int(other) >> 80)
    assert (narrow.coarse == other_narrow.coarse) == (int(one) >> 80 == int(other) >> 80)
    assert narrow.exact != wide.exact


def test_a_link_local_peer_counts_by_its_network_whatever_its_zone():
    assert address_keys("fe80::1%eth0") == address_keys("fe80::2%eth1")


@given(st.text().filter(lambda text: "%" not in text))
def test_any_text_has_a_key_and_no_text_has_that_of_an_address(text):
    keys = address_keys(text)

    assert keys
    if all(key.exact.startswith(b"=") for key in keys):
        assert keys == address_keys(text)
        assert address_keys(text + "x") != keys


@pytest.mark.parametrize("text", ["unix", "testclient", "", "\ud800", "999.1.1.1"])
def test_what_is_no_address_counts_by_its_text(text):
    ((exact, coarse, share),) = address_keys(text)

    assert exact.startswith(b"=")
    assert coarse is None
    assert share == 1
