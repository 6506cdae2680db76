"""The floors of new hashes, and that whole passwords are hashed on one core."""

import time

import pytest

from thebes.errors import ConfigurationError
from thebes.facts import Mode
from thebes.passwords import PRESETS, Argon2, Bcrypt, Lanes, Passwords, Pbkdf2, Scrypt
from thebes.passwords.costs import chosen_cost, digest_length, is_affordable
from thebes.secret import Secret

MODES = list(Mode)


@pytest.mark.requirement("PWD-13")
class TestFloors:
    @pytest.mark.parametrize(
        "cost",
        [
            Argon2(19_455, 2),
            Argon2(19_456, 1),
            Argon2(47_103, 1),
            Argon2(12_287, 3),
            Argon2(9_215, 4),
            Argon2(7_167, 5),
            Argon2(7_168, 4),
            Argon2(1_024, 100),
            Argon2(65_536, 0),
            Argon2(65_536, 2, variant="i"),
            Argon2(65_536, 2, variant="d"),
            Argon2(65_536, 2, version=16),
            Scrypt(2**16),
            Scrypt(2**17, r=7),
            Scrypt(2**17, p=0),
            Pbkdf2(599_999),
            Pbkdf2(209_999, "sha512"),
            Pbkdf2(5_000_000, "sha1"),
            Bcrypt(9),
            Bcrypt(12, is_whole=False),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("mode", MODES)
    def test_a_cost_below_is_refused_when_the_app_starts(self, cost, mode):
        with pytest.raises(ConfigurationError, match="below the least that is safe"):
            Passwords(cost=cost, mode=mode, lanes=Lanes(1))

    @pytest.mark.parametrize(
        "cost",
        [
            Argon2(19_456, 2),
            Argon2(47_104, 1),
            Argon2(12_288, 3),
            Argon2(9_216, 4),
            Argon2(7_168, 5),
            Argon2(65_536, 2),
            Scrypt(),
            Scrypt(2**18),
            Pbkdf2(600_000),
            Pbkdf2(210_000, "sha512"),
            Bcrypt(10),
        ],
        ids=str,
    )
    def test_the_floor_itself_and_more_is_taken(self, cost):
        assert chosen_cost(cost, Mode.PRODUCTION) == cost

    @pytest.mark.parametrize("name", [name for name in PRESETS if name != "test"])
    def test_every_preset_is_above(self, name):
        assert chosen_cost(PRESETS[name], Mode.PRODUCTION) == chosen_cost(name, Mode.PRODUCTION)


@pytest.mark.parametrize(
    "cost",
    [
        Argon2(512 * 1024, 2),
        Argon2(65_536, 100),
        Argon2(65_536, 2, lanes=65),
        Scrypt(2**20),
        Pbkdf2(9_000_000),
        Bcrypt(16),
    ],
    ids=str,
)
def test_a_cost_that_we_would_not_verify_is_refused(cost):
    assert not is_affordable(cost, digest_length(cost))
    with pytest.raises(ConfigurationError, match="beyond what one sign-in may cost"):
        chosen_cost(cost, Mode.PRODUCTION)


@pytest.mark.slow
def test_hashes_with_several_lanes_are_computed_on_one_core():
    cost = Argon2(102_400, 2, lanes=8)  # Django's default
    began_cpu, began = time.thread_time(), time.process_time()
    cost.derive(Secret("tea"), b"somesalt", 32)
    in_this_thread, in_all = time.thread_time() - began_cpu, time.process_time() - began
    assert in_this_thread > 0.9 * in_all


@pytest.mark.requirement("PWD-20")
@pytest.mark.slow
async def test_one_verification_at_the_default_takes_between_50_ms_and_a_second():
    passwords = Passwords(lanes=Lanes(1))
    stored = await passwords.hash("seven lamps over the quay")
    taken = []
    for _ in range(5):
        began = time.process_time()  # whatever else the machine does
        await passwords.verify("seven lamps over the quay", stored)
        taken.append(time.process_time() - began)
    await passwords.close()
    assert 0.05 < min(taken) < 1
