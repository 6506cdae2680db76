"""Honest browsers are never taken for thieves, and thieves are never overlooked: whole histories, by the clock.

A browser has one cookie jar and many tabs. Each request carries the jar as it was when it left, is renewed on
arrival and at the start of its answer as the pass does it, and the answer's cookies reach the jar later, out of
order, or never. Time is a number here, so 90 seconds of 20 tabs take a moment.
"""

import heapq
import itertools
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refreshing import AWAY, GRACE, HOME, KEYS, NOW, OneSession, session_row, tokens_of
from thebes.encoding import random_id
from thebes.tokens.refresh import RefreshTokens

ACCESS_SECONDS = 1.0


class Browser:
    """Tabs that share one cookie jar, and the service behind them, simulated event by event.

    Attributes:
        rotations: How often the refresh token was replaced.
        refusals: Why a request was not recognised, and what was told.
    """

    def __init__(self, seed: int, *, tabs: int, loss: float, slow: float = 2.0) -> None:
        self.random = random.Random(seed)
        first = tokens_of(random_id(), 1)[0]
        self.store = OneSession(session_row(first))
        self.refresh = RefreshTokens(self.store, KEYS)
        self.jar = first.token
        self.access_until = NOW
        self.loss = loss
        self.slow = slow
        self.rotations = self.renewals = self.lost = 0
        self.refusals = []
        self.events = []
        self.order = itertools.count()
        for _ in range(tabs):
            self.at(NOW + self.random.uniform(0, 1), self.send)

    def at(self, when, action, *arguments):
        heapq.heappush(self.events, (when, next(self.order), action, arguments))

    async def run(self, seconds: float) -> None:
        while self.events and self.events[0][0] < NOW + seconds:
            now, _, action, arguments = heapq.heappop(self.events)
            await action(now, *arguments)

    async def send(self, now):
        self.at(now + self.random.uniform(0, 0.05), self.arrive, self.jar, self.access_until)

    async def arrive(self, now, token, access_until):
        presented = None
        if access_until <= now:
            presented = self.refresh.read(token)
            known = await self.refresh.arrive(presented, mode="cookie", circumstances=HOME, now=now)
            if known.kind == "refused":
                self.refusals.append((now - NOW, known.reason))
        self.at(now + self.random.uniform(0, self.slow), self.answer, presented)

    async def answer(self, now, presented):
        if presented is not None:
            renewed = await self.refresh.renew(
                presented, mode="cookie", circumstances=HOME, after_arrival=True, now=now
            )
            self.rotations += renewed.kind == "rotated"
            self.renewals += 1
            if renewed.reason not in (None, "overtaken") or renewed.events:
                self.refusals.append((now - NOW, renewed.reason, renewed.events))
            if renewed.token is not None and self.random.random() >= self.loss:
                self.at(now + self.random.uniform(0, 0.2), self.receive, renewed.token, now + ACCESS_SECONDS)
            else:
                self.lost += renewed.token is not None
        self.at(now + self.random.uniform(0, 0.5), self.send)

    async def receive(self, now, token, access_until):
        self.jar, self.access_until = token, access_until


@pytest.mark.parametrize("tabs", [5, 20])
@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(8))
async def test_many_tabs_with_slow_answers_are_never_signed_out(seed, loss, tabs):
    """Answers after up to 2 s, an access token that lasts for 1 s, every fifth answer lost."""
    browser = Browser(seed, tabs=tabs, loss=loss)
    await browser.run(120)
    assert browser.refusals == []
    assert browser.rotations >= 3
    assert browser.renewals > 100
    assert (browser.lost > 0) == (loss > 0)


async def test_answers_that_are_slower_than_the_grace_sign_nobody_out():
    browser = Browser(4, tabs=20, loss=0.0, slow=90.0)
    await browser.run(1800)
    assert browser.refusals == []
    assert browser.rotations > 20


async def test_without_a_grace_the_same_tabs_are_signed_out():
    """What the simulation is worth; and the price of the strict preset, for whoever reads this."""
    browser = Browser(1, tabs=20, loss=0.0)
    browser.store.row = session_row(browser.refresh.read(browser.jar), grace=0.0)
    await browser.run(90)
    assert browser.refusals


@given(
    st.lists(
        st.tuples(st.floats(0, 4 * GRACE), st.booleans(), st.sampled_from(["place", "renew"])), max_size=40
    )
)
async def test_an_honest_client_that_asks_again_within_the_grace_is_never_refused(steps):
    """Answers are lost, and it asks again with the token that it has, at most 30 s after the first of them."""
    token = tokens_of(random_id(), 1)[0]
    store = OneSession(session_row(token))
    refresh = RefreshTokens(store, KEYS)
    held, now, lost_since = token.token, NOW, None
    for gap, is_lost, way in steps:
        now += gap if lost_since is None else min(gap, max(0.0, lost_since + GRACE - 0.001 - now))
        presented = refresh.read(held)
        if way == "place":
            assert (
                await refresh.arrive(presented, mode="cookie", circumstances=HOME, now=now)
            ).kind != "refused"
        renewed = await refresh.renew(
            presented, mode="cookie", circumstances=HOME, now=now, after_arrival=way == "place"
        )
        assert (renewed.reason, renewed.events) == (None, ())
        if is_lost and renewed.kind in ("rotated", "successor"):
            lost_since = now if lost_since is None else lost_since
        elif not is_lost:
            held, lost_since = renewed.token, None


moves = st.lists(
    st.tuples(st.sampled_from(["owner", "thief"]), st.floats(0, 3 * GRACE)), min_size=1, max_size=30
)


@given(moves, st.sampled_from([0.0, 5.0, GRACE]), st.booleans())
async def test_two_holders_of_one_token_end_the_session_once_both_have_used_it(steps, grace, is_near):
    """Whoever comes first: what one of them presents later than the grace, the other has exchanged."""
    copied = tokens_of(random_id(), 1)[0]
    store = OneSession(session_row(copied, grace=grace))
    refresh = RefreshTokens(store, KEYS)
    thief_at = HOME if is_near else AWAY
    held = {"owner": copied.token, "thief": copied.token}
    now, used = NOW + GRACE, set()
    for who, gap in steps:
        now += gap
        presented = refresh.read(held[who])
        row, here = store.row, thief_at if who == "thief" else HOME
        is_young = now - row.rotated_at < min(row.grace, grace)
        generations = row.generation - presented.generation
        renewed = await refresh.renew(presented, mode="cookie", circumstances=here, now=now)
        if generations >= 2 or (generations == 1 and not is_young):
            assert renewed.kind == "refused"
            assert store.row.revoked_for in ("reused", "unconfirmed")
            return
        assert renewed.kind == ("successor" if generations else "kept" if is_young else "rotated")
        held[who] = renewed.token
        used.add(who)
        # Whoever is answered holds the session's one current token: there is no second branch.
        assert refresh.read(renewed.token).digest == store.row.digest
    assume(used == {"owner", "thief"})
    # It is still undecided, so each lives on the other's grace: the next two uses outside of it end that.
    for who in ("owner", "thief", "owner"):
        now += GRACE
        await refresh.renew(refresh.read(held[who]), mode="cookie", circumstances=HOME, now=now)
    assert store.row.revoked_for in ("reused", "unconfirmed")


@pytest.mark.parametrize("grace", [0.0, GRACE])
@pytest.mark.parametrize("first", ["owner", "thief"])
async def test_a_copy_that_is_used_after_the_grace_is_detected_at_the_second_use(first, grace):
    copied = tokens_of(random_id(), 1)[0]
    store = OneSession(session_row(copied, grace=grace))
    refresh = RefreshTokens(store, KEYS)
    places = {"owner": HOME, "thief": AWAY}
    second = "thief" if first == "owner" else "owner"
    renewed = await refresh.renew(
        refresh.read(copied.token), mode="cookie", circumstances=places[first], now=NOW + 60
    )
    assert renewed.kind == "rotated"
    caught = await refresh.renew(
        refresh.read(copied.token), mode="cookie", circumstances=places[second], now=NOW + 60 + grace
    )
    assert (caught.reason, [event.name for event in caught.events]) == ("reused", ["reuse_detected"])
    again = await refresh.renew(
        refresh.read(renewed.token), mode="cookie", circumstances=places[first], now=NOW + 61 + grace
    )
    assert (again.kind, again.reason) == ("refused", "revoked")
