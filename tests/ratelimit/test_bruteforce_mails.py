"""Mails: 3 an hour to one account, 10 requests an hour from one address, and the same for nobody's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guessing import keys
from thebes.errors import ConfigurationError
from thebes.ratelimit.addressquota import AddressQuota
from thebes.ratelimit.bruteforce import Wait
from thebes.ratelimit.mailquota import MailQuota
from thebes.ratelimit.rules import Quota
from thebes.stores.memory import MemoryStore
from thebes.stores.sqlite import SQLiteStore
from token_making import NOW

ADA, HOUR = "ada@example.com", 3600.0
SECOND = 1_000_000_000


both_stores = pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    kind = getattr(request, "param", "memory")
    made = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "thebes.db")
    await made.start()
    yield made
    await made.close()


class TestMails:
    @pytest.mark.requirement("RAT-13")
    async def test_at_most_3_an_hour_go_to_one_account(self, store: Any) -> None:
        quota = MailQuota(store.failures, keys(), clock=lambda: 0)
        asked = [await quota.take(ADA, address=f"192.0.2.{n}", now=NOW + n) for n in range(10)]
        assert asked == [True] * 3 + [False] * 7
        assert await quota.take("bob@example.com", address="192.0.2.1", now=NOW) is True
        assert await quota.take(ADA, address="192.0.2.1", now=NOW + 2 + HOUR - 0.01) is False
        assert await quota.take(ADA, address="192.0.2.1", now=NOW + 2 + HOUR) is True

    @pytest.mark.requirement("RAT-13")
    async def test_one_address_has_10_requests_an_hour(self, store: Any) -> None:
        now = 0
        quota = MailQuota(store.failures, keys(), clock=lambda: now)
        asked = [await quota.take(f"user {n}", address="192.0.2.1", now=NOW) for n in range(12)]
        assert asked == [True] * 10 + [Wait(3600)] * 2
        assert await quota.take("somebody", address="192.0.2.2", now=NOW) is True
        now = 3601 * SECOND
        assert await quota.take("somebody", address="192.0.2.1", now=NOW) is True

    async def test_a_request_that_is_refused_takes_no_mail_from_its_owner(self, store: Any) -> None:
        quota = MailQuota(store.failures, keys(), clock=lambda: 0, by_address=Quota("1/hour"))
        await quota.take("somebody", address="192.0.2.1", now=NOW)
        for _ in range(5):
            assert await quota.take(ADA, address="192.0.2.1", now=NOW) == Wait(3600)
        assert await quota.take(ADA, address="192.0.2.2", now=NOW) is True

    @both_stores
    async def test_of_many_at_once_3_are_sent(self, store: Any) -> None:
        quota = MailQuota(store.failures, keys(), clock=lambda: 0)
        asked = await asyncio.gather(*(quota.take(ADA, address=f"192.0.2.{n}", now=NOW) for n in range(100)))
        assert sum(answer is True for answer in asked) == 3

    async def test_the_count_outlives_the_process(self, tmp_path: Path) -> None:
        asked = []
        for _ in range(5):
            store = SQLiteStore(tmp_path / "thebes.db")
            await store.start()
            asked.append(await MailQuota(store.failures, keys()).take(ADA, address="192.0.2.1", now=NOW))
            await store.close()
        assert asked == [True] * 3 + [False] * 2

    def test_without_mails_nobody_could_sign_up(self) -> None:
        with pytest.raises(ConfigurationError, match="at least 1"):
            MailQuota(MemoryStore().failures, keys(), most=0)


@given(st.lists(st.floats(0, 2 * HOUR), max_size=40), st.integers(1, 4))
def test_no_hour_ever_holds_more(gaps: list[float], most: int) -> None:
    async def sent() -> list[float]:
        quota = MailQuota(MemoryStore().failures, keys(), most=most, clock=lambda: 0)
        now, times = NOW, []
        for number, gap in enumerate(gaps):
            now += gap
            if await quota.take(ADA, address=f"192.0.2.{number}", now=now) is True:
                times.append(now)
        return times

    times = asyncio.run(sent())
    for start in times:
        assert sum(start <= one < start + HOUR for one in times) <= most


class TestAddresses:
    @pytest.mark.parametrize(
        ("limit", "wide"), [("20/5 minutes", 320), ("10/hour", 160), ("100/minute", 1600)]
    )
    def test_a_48_has_no_more_than_16_times_as_many(self, limit: str, wide: int) -> None:
        rule = Quota(limit)
        quota, admitted = AddressQuota(rule), []
        step = rule.period_ns // 2000
        for number in range(6000):
            if not quota.take(f"2001:db8:0:{number % 0xFFFF:x}::1", now=number * step):
                admitted.append(number * step)
        for start in admitted[::50]:
            assert sum(start <= one < start + rule.period_ns for one in admitted) <= wide
        assert len(admitted) > wide / 2

    def test_what_the_48_refuses_is_not_counted_for_the_64(self) -> None:
        quota = AddressQuota(Quota("6/minute"))
        for number in range(96):
            assert quota.take(f"2001:db8:0:{number:x}::1", now=0 if number < 90 else 30 * SECOND) == 0
        assert [quota.take("2001:db8:0:ffff::1", now=30 * SECOND) for _ in range(9)] == [30] * 9
        assert [quota.take("2001:db8:0:ffff::1", now=61 * SECOND) for _ in range(7)] == [0] * 6 + [60]

    @given(st.text() | st.ip_addresses().map(str))
    def test_any_text_is_an_address(self, text: str) -> None:
        quota = AddressQuota(Quota("1/minute", memory=1 << 16))
        assert quota.take(text, now=0) == 0
        assert quota.take(text, now=0) == 60
        quota.refund(text, 0, now=0)
        assert quota.take(text, now=0) == 0
