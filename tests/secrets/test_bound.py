"""A keyring for one purpose: the same keys, and no way to those of another purpose."""

import doctest

import pytest

from thebes.encoding import encode
from thebes.errors import ConfigurationError
from thebes.secrets import bound
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import BrokenSeal, Keyring, Purpose, UnknownKey
from thebes.secrets.strength import parse_secret_keys

OLD = bytes.fromhex("8f1d3ab2409ce577c0116e9bd8f23465a7ec905b1cd84e33f6297a0d51be8842")
NEW = bytes.fromhex("0c5be1d2f7a83946b2e4907d1f6a35c8e0947bd5a21c6f38d97e04b3fa58612d")
RING = Keyring(parse_secret_keys(f"new:{encode(NEW)},old:{encode(OLD)}"))


def test_macs_are_those_of_the_keyring():
    keys = BoundKeys(RING, Purpose.CSRF)
    key_id, tag = keys.mac(b"message")
    assert (key_id, tag) == RING.mac(Purpose.CSRF, b"message")
    assert keys.verify(key_id, b"message", tag)
    assert not keys.verify("old", b"message", tag)
    assert not BoundKeys(RING, Purpose.PEPPER).verify(key_id, b"message", tag)


def test_sealed_values_are_those_of_the_keyring():
    keys = BoundKeys(RING, Purpose.SIGNING_KEYS)
    sealed = keys.seal(b"seed", b"ada")
    assert RING.open(Purpose.SIGNING_KEYS, sealed, b"ada") == keys.open(sealed, b"ada") == b"seed"
    with pytest.raises(BrokenSeal, match="not_genuine"):
        BoundKeys(RING, Purpose.FIELD_ENCRYPTION).open(sealed, b"ada")


def test_a_salt_belongs_to_the_value():
    keys = BoundKeys(RING, Purpose.REFRESH_SUCCESSORS)
    sealed = keys.seal(b"seed", b"ada", salt=b"random")
    assert keys.open(sealed, b"ada", salt=b"random") == b"seed"
    for salt in (b"", b"Random"):
        with pytest.raises(BrokenSeal, match="not_genuine"):
            keys.open(sealed, b"ada", salt=salt)


def test_a_value_under_an_older_key_is_told_from_one_under_the_key_in_use():
    old = Keyring(parse_secret_keys(f"old:{encode(OLD)}"))
    keys = BoundKeys(RING, Purpose.SIGNING_KEYS)
    assert keys.is_current(keys.seal(b"seed", b"ada"))
    assert not keys.is_current(BoundKeys(old, Purpose.SIGNING_KEYS).seal(b"seed", b"ada"))
    assert not keys.is_current("no sealed value")


def test_the_ids_stand_in_the_order_of_the_list():
    keys = BoundKeys(RING, Purpose.TOKEN_SIGNING)
    assert (keys.in_use, keys.ids) == ("new", ("new", "old"))


def test_derived_keys_are_those_of_the_keyring():
    keys = BoundKeys(RING, Purpose.TOKEN_SIGNING)
    assert keys.derived() == keys.derived("new") == RING.derived(Purpose.TOKEN_SIGNING)
    assert keys.derived("old") == RING.derived(Purpose.TOKEN_SIGNING, "old")
    with pytest.raises(UnknownKey):
        keys.derived("gone")


def test_a_verb_that_is_not_the_purposes_is_refused():
    with pytest.raises(ConfigurationError, match="csrf is for mac"):
        BoundKeys(RING, Purpose.CSRF).seal(b"seed", b"ada")
    with pytest.raises(ConfigurationError, match="signing-keys is for seal"):
        BoundKeys(RING, Purpose.SIGNING_KEYS).mac(b"message")


def test_it_shows_ids_only():
    assert repr(BoundKeys(RING, Purpose.CSRF)).startswith(
        "BoundKeys(keyring=Keyring(new, old), purpose=<Purpose."
    )


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(bound).attempted >= 4
    assert doctest.testmod(bound).failed == 0
