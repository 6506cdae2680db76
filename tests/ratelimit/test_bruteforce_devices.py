"""Known devices: who is one, and what an attacker can't take from them."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guessing import ACCOUNT, Guesser, keys
from thebes.ratelimit.devices import DEVICE_LIFETIME, DeviceCookies
from thebes.stores.memory import MemoryStore
from token_making import NOW

DAY = 86400.0
COOKIES = DeviceCookies(keys())


def issued(**settings: Any) -> bytes:
    return COOKIES.issue(ACCOUNT, 3, **({"now": NOW} | settings)).encode("ascii")


class TestReading:
    def test_a_device_is_known_by_what_was_issued(self) -> None:
        device_id = COOKIES.read(issued(), ACCOUNT, 3, now=NOW)
        assert device_id is not None
        again = issued(device_id=device_id)
        assert COOKIES.read(again, ACCOUNT, 3, now=NOW) == device_id

    def test_no_two_devices_are_one(self) -> None:
        ids = {COOKIES.read(issued(), ACCOUNT, 3, now=NOW) for _ in range(50)}
        assert len(ids) == 50

    @pytest.mark.parametrize(("account_id", "epoch"), [("another", 3), (ACCOUNT, 4), (ACCOUNT, 2), ("", 3)])
    def test_it_is_a_stranger_to_another_account_and_after_another_password(
        self, account_id: str, epoch: int
    ) -> None:
        assert COOKIES.read(issued(), account_id, epoch, now=NOW) is None

    @pytest.mark.parametrize(
        ("seconds", "is_known"),
        [(-DAY, True), (0, True), (400 * DAY - 1, True), (400 * DAY, False), (4000 * DAY, False)],
    )
    def test_it_is_known_for_400_days(self, seconds: float, is_known: bool) -> None:
        assert (COOKIES.read(issued(), ACCOUNT, 3, now=NOW + seconds) is not None) is is_known

    def test_parts_can_not_be_shifted_between_account_and_epoch(self) -> None:
        value = COOKIES.issue("ada\x001", 2, now=NOW).encode()
        assert COOKIES.read(value, "ada", 1, now=NOW) is None
        assert COOKIES.read(COOKIES.issue("ada1", 2, now=NOW).encode(), "ada", 12, now=NOW) is None

    @pytest.mark.parametrize("value", [None, b"", b"v1", b"v1....", b"\xff" * 90, b"v1." * 1000])
    def test_what_is_none_of_ours_is_no_device(self, value: bytes | None) -> None:
        assert COOKIES.read(value, ACCOUNT, 3, now=NOW) is None

    def test_a_key_that_is_accepted_still_counts_and_one_off_the_list_does_not(self) -> None:
        value = issued()
        assert DeviceCookies(keys("new", "old")).read(value, ACCOUNT, 3, now=NOW) is not None
        assert DeviceCookies(keys("new")).read(value, ACCOUNT, 3, now=NOW) is None

    def test_it_has_its_longest_length_in_mind(self) -> None:
        longest = COOKIES.issue(ACCOUNT, 2**63, now=99_999_999_999).encode()
        assert COOKIES.read(longest, ACCOUNT, 2**63, now=NOW) is not None

    @pytest.mark.parametrize("lifetime", [timedelta(days=401), timedelta(0), timedelta(days=-1)])
    def test_no_setting_makes_it_last_longer(self, lifetime: timedelta) -> None:
        with pytest.raises(ValueError, match="400 days"):
            DeviceCookies(keys(), lifetime=lifetime)
        assert COOKIES.max_age == DEVICE_LIFETIME.total_seconds()


VALUE = issued()


@given(st.integers(0, len(VALUE) - 1), st.integers(1, 255))
@example(len(VALUE) - 1, 1)
def test_no_changed_value_is_a_device(position: int, change: int) -> None:
    forged = bytearray(VALUE)
    forged[position] ^= change
    assert COOKIES.read(bytes(forged), ACCOUNT, 3, now=NOW) is None


@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_nothing_breaks_the_reader(value: bytes) -> None:
    assert COOKIES.read(value, ACCOUNT, 3, now=NOW) is None
    assert COOKIES.read(VALUE[:3] + value, ACCOUNT, 3, now=NOW) is None


@given(st.text(), st.integers(0, 2**40))
def test_every_account_gets_its_device_back(account_id: str, epoch: int) -> None:
    account_id = account_id.encode("utf-8", "ignore").decode()
    value = COOKIES.issue(account_id, epoch, now=NOW, device_id="d" * 24).encode()
    assert COOKIES.read(value, account_id, epoch, now=NOW) == "d" * 24


class TestTheOwner:
    async def test_signs_in_while_an_attacker_keeps_the_account_exhausted(self) -> None:
        guesser = Guesser(MemoryStore())
        for number in range(150):
            assert await guesser.patiently(1) == (["wrong"] if number < 100 else ["off"])
            assert await guesser.guess(is_right=True, device_id="laptop") == "in"

    async def test_signs_in_behind_the_address_of_the_attacker(self) -> None:
        guesser = Guesser(MemoryStore())
        for number in range(30):
            await guesser.guess(f"user {number}", address="192.0.2.1")
        assert await guesser.guess(address="192.0.2.1", is_right=True) == 300
        assert await guesser.guess(address="192.0.2.1", is_right=True, device_id="laptop") == "in"

    async def test_has_the_same_delay_on_a_known_device(self) -> None:
        guesser = Guesser(MemoryStore())
        outcomes = [await guesser.guess(device_id="laptop", address="192.0.2.1") for _ in range(6)]
        assert outcomes == ["wrong"] * 5 + [30]
        assert await guesser.guess(device_id="phone") == "wrong"
        assert await guesser.guess() == "wrong"

    async def test_a_device_of_no_account_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="known for an account"):
            await Guesser(MemoryStore()).guess(account_id=None, device_id="laptop")

    async def test_is_served_first(self) -> None:
        guesser = Guesser(MemoryStore())
        assert (await guesser.charge(device_id="laptop")).is_known_device  # type: ignore[union-attr]
        assert not (await guesser.charge()).is_known_device  # type: ignore[union-attr]
