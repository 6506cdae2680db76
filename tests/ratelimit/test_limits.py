"""A rule with its counters: what its verbs promise to whoever calls them."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.ratelimit import Limit, Quota, Rate, Verdict
from thebes.ratelimit.limits import MAX_REMEMBERED, Recent

SECOND = 1_000_000_000
BOTH = pytest.mark.parametrize(
    "rule", [Rate("50/minute"), Quota("50/minute")], ids=["a rate of 50", "a quota of 50"]
)


@BOTH
class TestVerbs:
    def test_take_admits_n_and_tells_what_remains(self, rule):
        limit = Limit(rule)

        verdicts = [limit.take("ada", now=0) for _ in range(51)]

        assert [verdict.allowed for verdict in verdicts] == [True] * 50 + [False]
        assert [verdict.remaining for verdict in verdicts] == [*range(49, -1, -1), 0]
        assert verdicts[-1].reset == 60

    def test_spend_says_by_its_sign_what_take_says(self, rule):
        quick, slow = Limit(rule), Limit(rule)

        for _ in range(60):
            assert (quick.spend("ada", 1, 0) >= 0) == slow.take("ada", now=0).allowed

    def test_a_refused_take_costs_nothing(self, rule):
        limit = Limit(rule)
        limit.take("ada", 40, now=0)

        assert not limit.take("ada", 11, now=0).allowed
        assert limit.take("ada", 10, now=0).allowed

    def test_look_changes_nothing(self, rule):
        limit = Limit(rule)
        limit.take("ada", 45, now=0)

        for _ in range(100):
            assert limit.look("ada", now=0) == Verdict(True, 5, 0, limit.look("ada", now=0).reset)
        assert not limit.look("ada", 6, now=0).allowed
        assert limit.look("bob", now=0) == Verdict(True, 50, 0, 0)

    def test_after_retry_after_it_is_allowed(self, rule):
        limit = Limit(rule)
        for number in range(50):
            limit.take("ada", now=number * SECOND // 100)

        refused = limit.take("ada", now=SECOND // 2)

        assert not refused.allowed
        assert limit.look("ada", now=SECOND // 2 + refused.retry_after * SECOND).allowed

    def test_a_charge_is_never_refused_and_leaves_nothing_at_most(self, rule):
        limit = Limit(rule)

        limit.charge("ada", 10, now=0)
        assert limit.look("ada", now=0).remaining == 40
        limit.charge("ada", 10_000, now=0)

        assert limit.look("ada", now=0).remaining == 0
        assert limit.look("ada", 50, now=61 * SECOND).allowed

    def test_a_refund_gives_back_what_was_taken(self, rule):
        limit = Limit(rule)
        limit.take("ada", 50, now=0)

        limit.refund("ada", 2, now=0)

        assert [limit.take("ada", now=0).allowed for _ in range(3)] == [True, True, False]

    def test_a_refund_never_gives_more_than_the_whole_budget(self, rule):
        limit = Limit(rule)
        limit.take("ada", now=0)

        limit.refund("ada", 10_000, now=0)
        limit.refund("bob", 10_000, now=0)

        for key in ("ada", "bob"):
            assert [limit.take(key, now=0).allowed for _ in range(51)].count(True) == 50

    @pytest.mark.parametrize("cost", [0, -1, 51])
    def test_a_cost_that_no_budget_pays_or_that_would_give_is_refused(self, rule, cost):
        limit = Limit(rule)

        for verb in (limit.take, limit.look, limit.spend):
            with pytest.raises(ValueError, match="1 to 50"):
                verb("ada", cost)
        if cost < 1:
            for verb in (limit.charge, limit.refund):
                with pytest.raises(ValueError, match="a cost of"):
                    verb("ada", cost)
        assert limit.look("ada").remaining == 50

    def test_a_text_is_the_same_key_as_its_bytes(self, rule):
        limit = Limit(rule)
        limit.take("café", 50, now=0)

        assert not limit.take("café".encode(), now=0).allowed
        assert limit.take("cafe", now=0).allowed

    @pytest.mark.parametrize("key", ["", b"", "\ud800", "x" * 100_000])
    def test_any_key_is_counted_by_itself(self, rule, key):
        limit = Limit(rule)
        limit.take(key, 50, now=0)

        assert not limit.take(key, now=0).allowed
        assert limit.take("another", now=0).allowed

    def test_without_a_time_it_is_the_monotonic_clock_s(self, rule):
        limit = Limit(rule)

        assert [limit.take("ada").allowed for _ in range(51)].count(True) == 50
        assert not limit.look("ada").allowed

    def test_it_counts_the_keys_that_have_spent_something(self, rule):
        limit = Limit(rule)
        for number in range(100):
            limit.take(str(number), now=0)

        assert limit.live(now=0) == 100
        assert limit.live(now=200 * SECOND) == 0


class TestParallelCallers:
    @pytest.fixture(autouse=True)
    def impatient(self):
        """Let threads change places as often as they can."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(interval)

    @BOTH
    def test_of_200_threads_at_one_moment_exactly_n_are_admitted(self, rule):
        limit, together = Limit(rule), threading.Barrier(200)

        def hit(_):
            together.wait()
            return limit.take("ada", now=0).allowed

        with ThreadPoolExecutor(200) as threads:
            assert sum(threads.map(hit, range(200))) == 50

    @BOTH
    def test_of_any_number_of_rounds_none_admits_more_than_n(self, rule):
        limit, together = Limit(rule), threading.Barrier(8)

        def hits(_):
            together.wait()
            return sum(limit.spend(b"%d" % (number % 200), 1, 0) >= 0 for number in range(4000))

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(hits, range(8))) == 200 * 50

    @BOTH
    async def test_of_200_tasks_at_one_moment_exactly_n_are_admitted(self, rule):
        limit = Limit(rule)

        async def hit():
            await asyncio.sleep(0)
            return limit.take("ada", now=0).allowed

        assert sum(await asyncio.gather(*(hit() for _ in range(200)))) == 50

    @BOTH
    def test_threads_that_take_and_refund_end_where_they_began(self, rule):
        limit = Limit(rule)

        def work(number):
            key = f"{number % 3}"
            for _ in range(100):
                if limit.take(key, 2, now=0).allowed:
                    limit.refund(key, 2, now=0)

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(work, range(16)))

        assert [limit.look(f"{key}", now=0).remaining for key in range(3)] == [50, 50, 50]

    def test_threads_that_read_the_clock_themselves_find_no_cell_freed(self):
        """With a horizon of a thousandth of a second, a late thread must not take the newest time for a dead one."""
        limit = Limit(Rate("1000/second", burst=1))
        begun = threading.Event()

        def hits(_):
            begun.wait()
            return sum(limit.spend("ada") >= 0 for _ in range(2000))

        with ThreadPoolExecutor(8) as threads:
            counting = [threads.submit(hits, number) for number in range(8)]
            start = monotonic_ns()
            begun.set()
            admitted = sum(future.result() for future in counting)
            elapsed = monotonic_ns() - start

        # One at once, one a millisecond after that, and one for the tick by which the clock is rounded.
        assert 1 <= admitted <= 2 + elapsed // 1_000_000


class TestRefundsOfAQuota:
    def test_the_oldest_hit_is_forgotten_since_nobody_knows_which_one_was_given_back(self):
        limit = Limit(Quota("4/6 seconds"))
        for second in range(4):
            limit.take("ada", now=second * SECOND)
        limit.refund("ada", now=3 * SECOND)  # of the first, perhaps: then those of 1, 2 and 3 stand

        assert limit.take("ada", now=3 * SECOND).allowed
        assert not limit.take("ada", now=7 * SECOND - 1).allowed
        assert limit.take("ada", now=7 * SECOND).allowed

    @given(
        st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60),
        st.randoms(use_true_random=False),
    )
    def test_no_window_holds_more_than_n_that_were_not_given_back(self, steps, random):
        limit, kept, now = Limit(Quota("4/6 seconds")), [], 0
        for is_refund, tenths in steps:
            now += tenths * SECOND // 10
            counting = [time for time in kept if now - time < 6 * SECOND]
            if is_refund and counting:
                kept.remove(random.choice(counting))
                limit.refund("ada", now=now)
            elif limit.take("ada", now=now).allowed:
                kept.append(now)
                assert sum(now - time < 6 * SECOND for time in kept) <= 4


class TestFloods:
    @pytest.mark.parametrize("make", [Rate, Quota])
    def test_no_number_of_new_keys_frees_a_counter_that_is_in_use(self, make, strangers):
        limit = Limit(make("100/15 minutes", memory=1 << 20))
        limit.take("attacker", 100, now=0)
        refused = limit.take("attacker", now=0)

        for number in range(strangers // 2):
            limit.spend(b"%d" % number, 1, 0)

        assert limit.overflows > 0
        assert not refused.allowed
        assert limit.take("attacker", now=0) == refused

    @pytest.mark.parametrize("make", [Rate, Quota])
    def test_what_was_spent_in_a_cell_of_many_is_not_given_back_to_one(self, make):
        limit = Limit(make("100/15 minutes", memory=64 << 10))
        for number in range(20_000):
            limit.spend(b"%d" % number, 100, 0)

        for number in range(50):
            late = f"late {number}"
            assert not limit.take(late, now=0).allowed
            limit.refund(late, 50, now=0)
            assert not limit.take(late, now=0).allowed

    @pytest.mark.parametrize("make", [Rate, Quota])
    def test_once_a_flood_is_over_every_key_has_its_own_budget_again(self, make):
        limit = Limit(make("100/15 minutes", memory=64 << 10))
        for number in range(20_000):
            limit.spend(b"%d" % number, 100, 0)
        overflows = limit.overflows

        later = 1000 * SECOND
        assert all(limit.take(b"%d" % number, 100, now=later).allowed for number in range(0, 20_000, 2000))
        assert limit.overflows == overflows > 0

    def test_memory_has_a_bound_that_is_known_beforehand(self):
        limit = Limit(Rate("10/minute"))

        assert limit.size == 8 << 20
        assert 980_000 < limit.cells < 1 << 20
        assert Limit(Quota("100/minute")).size == 8 << 20

    def test_what_is_remembered_of_keys_is_bounded_in_number_and_length(self):
        limit = Limit(Rate("10/minute"))
        for number in range(MAX_REMEMBERED + 500):
            limit.spend(f"{number}")
        limit.spend("x" * 65)

        assert len(limit._places) == MAX_REMEMBERED
        assert limit._places.get("x" * 65) is None


def test_the_newest_entries_are_remembered_and_the_oldest_dropped():
    recent = Recent(3)
    for number in range(5):
        recent.add(number, str(number))

    assert [recent.get(number) for number in range(5)] == [None, None, "2", "3", "4"]
    assert len(recent) == 3


def test_a_limit_has_one_rule():
    with pytest.raises(ConfigurationError, match="one rule"):
        Limit("10/minute, 20/minute burst 5")
