"""Where a request comes from: what counts as the same place, and what its owner gets to read."""

import dataclasses
import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Purpose
from thebes.tokens import circumstances as module
from thebes.tokens.circumstances import circumstances_of, device_label, network_of
from token_making import ring

KEYS = BoundKeys(ring("old"), Purpose.CIRCUMSTANCES)
FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def place(address: str, agent: bytes | None = FIREFOX):
    return circumstances_of(address, agent, KEYS)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        pytest.param("203.0.113.7", "203.0.113.200", True, id="one /24"),
        pytest.param("203.0.113.7", "203.0.114.7", False, id="the next /24"),
        pytest.param("2001:db8:1:2::3", "2001:db8:1:ffff::4", True, id="one /48"),
        pytest.param("2001:db8:1::3", "2001:db8:2::3", False, id="the next /48"),
        pytest.param("203.0.113.7", "::ffff:203.0.113.9", True, id="IPv4 in the form of IPv6"),
        pytest.param("fe80::1%eth0", "fe80::2%wlan0", True, id="the zone is no part of the network"),
        pytest.param("203.0.113.7", "", False, id="no address"),
        pytest.param("testclient", "", True, id="none and none"),
    ],
)
def test_a_network_is_a_24_or_a_48(one, other, is_same):
    here, there = place(one), place(other)
    assert (here.network == there.network) is is_same
    assert here.are_of(there.network, there.agent) is is_same
    assert here.agent == there.agent


@pytest.mark.parametrize("agent", [None, b"", FIREFOX + b" ", FIREFOX.lower()])
def test_a_user_agent_is_compared_exactly(agent):
    assert not place("203.0.113.7", agent).are_of(place("203.0.113.7").network, place("203.0.113.7").agent)


def test_no_field_and_an_empty_field_differ():
    assert place("203.0.113.7", None).agent != place("203.0.113.7", b"").agent


def test_the_digests_are_keyed_and_say_nothing_by_themselves():
    here = place("203.0.113.7")
    other = circumstances_of("203.0.113.7", FIREFOX, BoundKeys(ring("new"), Purpose.CIRCUMSTANCES))
    assert (len(here.network), len(here.agent)) == (16, 16)
    assert {here.network, here.agent}.isdisjoint({other.network, other.agent})
    assert place("", b"unknown").network != place("", b"unknown").agent


@pytest.mark.parametrize("ids", [("old", "new"), ("new", "old")])
def test_after_a_rotation_of_the_keys_a_place_is_still_the_same(ids):
    before = place("203.0.113.7")
    after = circumstances_of("203.0.113.9", FIREFOX, BoundKeys(ring(*ids), Purpose.CIRCUMSTANCES))
    assert after.are_of(before.network, before.agent)
    elsewhere = circumstances_of("203.0.114.9", FIREFOX, BoundKeys(ring(*ids), Purpose.CIRCUMSTANCES))
    assert not elsewhere.are_of(before.network, before.agent)
    assert not dataclasses.replace(after, earlier_agents=frozenset(), agent=b"x").are_of(
        before.network, before.agent
    )


@pytest.mark.parametrize(
    ("agent", "label"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
            b" Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
            "Edge on Windows",
        ),
        (
            b"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            b" Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            b"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko)"
            b" Chrome/140.0.0.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        (
            b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            b" Version/18.0 Safari/605.1.15",
            "Safari on macOS",
        ),
        (b"curl/8.9.1", "curl"),
        (b"python-requests/2.32", "a Python program"),
        (b"<script>alert(1)</script>", "Unknown device"),
        (b"", "Unknown device"),
        (None, "Unknown device"),
    ],
)
def test_a_device_is_called_by_a_name_that_its_owner_knows(agent, label):
    assert device_label(agent) == label


@given(st.binary(max_size=2000))
def test_no_byte_of_a_client_reaches_the_label(agent):
    assert re.fullmatch(
        r"Unknown device|((Edge|Opera|Samsung Internet|Firefox|Chrome|Safari|curl|a Python program)( on )?)?"
        r"(iPhone|iPad|Android|ChromeOS|Windows|macOS|Linux)?",
        device_label(agent),
    )


@given(st.text(max_size=100))
def test_any_address_has_a_network(address):
    assert place(address).address == network_of(address)
    assert re.fullmatch(r"unknown|[0-9a-f.:]+/(24|48)", network_of(address))


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).attempted >= 2
