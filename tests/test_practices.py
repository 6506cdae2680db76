"""The summary of the seven practices: each is on or off, and says what holds."""

from datetime import timedelta

import pytest

from thebes.facts import Mode
from thebes.practices import practices
from thebes.secret import Secret
from thebes.settings import Settings


def state_of(
    name: str, mode: Mode = Mode.PRODUCTION, removed: tuple[str, ...] = (), **settings: object
) -> str:
    found = practices(Settings(mode=mode, **settings), frozenset(removed))
    (practice,) = (one for one in found if one.name == name)
    return str(practice)


def test_all_seven_are_on_from_the_start():
    found = practices(Settings(mode=Mode.DEVELOPMENT))

    assert [one.number for one in found] == [1, 2, 3, 4, 5, 6, 7]
    assert all(one.is_on for one in found)


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("https", "hosts"),
        ("https", "https"),
        ("https", "headers"),
        ("validation", "body"),
        ("tokens", "tokens"),
        ("ratelimit", "limits"),
        ("csrf", "csrf"),
    ],
)
def test_a_defence_that_was_taken_out_shows_as_off(name, removed):
    assert " on  " in state_of(name)
    assert " off " in state_of(name, removed=(removed,))


@pytest.mark.parametrize("name", ["passwords", "tokens"])
def test_without_accounts_passwords_and_tokens_are_the_apps_own(name):
    assert state_of(name, accounts=False).endswith("the app has its own: accounts are left out")
    assert " off " in state_of(name, accounts=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "accounts at /auth, Argon2id 64MiB, off the event loop"),
        (
            {"passwords": "19MiB", "accounts_prefix": "/a"},
            "accounts at /a, Argon2id 19MiB, off the event loop",
        ),
        ({"pepper": True}, "accounts at /auth, Argon2id 64MiB, peppered, off the event loop"),
    ],
)
def test_passwords_say_what_a_hash_costs(settings, words):
    assert state_of("passwords", **settings).endswith(words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "access 10 min, renewed in place, sessions 30 d (7 d unused)"),
        (
            {
                "access_lifetime": timedelta(seconds=90),
                "session_lifetime": timedelta(hours=36),
                "session_idle": timedelta(0),
            },
            "access 90 s, renewed in place, sessions 36 h (0 s unused)",
        ),
    ],
)
def test_tokens_say_how_long_they_last(settings, words):
    assert state_of("tokens", **settings).endswith(words)


@pytest.mark.parametrize(
    ("settings", "removed", "words"),
    [
        ({}, (), "own pages only"),
        ({"origins": ("https://a.example", "https://b.example")}, (), "2 foreign origins"),
        ({"csrf_token": "forms"}, (), "own pages only, tokens: forms"),
        ({"csrf_token": "always"}, ("csrf_token",), "own pages only"),
        ({"csrf_token": "always", "accounts": False}, (), "own pages only"),
    ],
)
def test_csrf_names_foreign_origins_and_tokens_only_where_they_are_asked_for(settings, removed, words):
    assert state_of("csrf", removed=removed, **settings).endswith(f"refused, {words}")


@pytest.mark.parametrize(
    ("mode", "settings", "words"),
    [
        (Mode.PRODUCTION, {}, "keys missing"),
        (Mode.DEVELOPMENT, {}, "keys of this machine, in .thebes"),
        (Mode.TEST, {}, "keys known to all, for tests"),
        (Mode.PRODUCTION, {"accounts": False}, "keys not needed here"),
        (
            Mode.PRODUCTION,
            {"secret_keys": Secret("canary"), "origin": {"secret_keys": "environment"}},
            "keys from environment",
        ),
    ],
)
def test_secrets_say_where_keys_come_from_and_never_what_they_are(mode, settings, words):
    assert state_of("secrets", mode, **settings).endswith(words)
    assert "canary" not in state_of("secrets", mode, **settings)
