"""The meters against simple models of what they promise, over long simulations and chosen sequences.

Models keep whole numbers of any size and every time that ever was; they know nothing of cells.
"""

from collections import defaultdict
from fractions import Fraction
from random import Random
from threading import Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.ratelimit import Quota, Rate
from thebes.ratelimit.gcra import RateMeter
from thebes.ratelimit.slidinglog import QuotaMeter
from thebes.ratelimit.table import Cells

SECOND = 1_000_000_000
TURN_TICKS = 1 << 32
# Cells for 2,000 keys, so that many find no room.
FEW = 320


class ModelRate:
    """GCRA on ticks of a 256th of the interval, with a time that never wraps around."""

    def __init__(self, rate):
        self.interval = Fraction(rate.period_ns, rate.count)
        self.burst = rate.burst
        self.tat = 0

    def take(self, now, cost=1, *, slack=0):
        """`slack`: ticks of tolerance."""
        now = now * 256 // self.interval
        tat = max(self.tat, now)
        if tat + 256 * cost - now > 256 * self.burst + slack:
            return False
        self.tat = tat + 256 * cost
        return True


class ModelQuota:
    """Every admitted hit with its time, to the nanosecond."""

    def __init__(self, quota):
        self.count = quota.count
        self.window = quota.period_ns
        self.times = []

    def take(self, now, cost=1, *, late=0):
        """`late`: nanoseconds that a hit counts beyond its window."""
        self.times = [time for time in self.times if now - time < self.window + late]
        if len(self.times) + cost > self.count:
            return False
        self.times += [now] * cost
        return True


def spending(meter):
    """Return the verb that decides, for places in place of keys."""

    def no_clock():
        raise AssertionError("the simulation knows the time")

    return meter.spender(lambda place: place, lambda place: None, Lock(), no_clock)


def places(meter, keys, coarse=None):
    unit = meter.unit(1)
    return [
        meter.cells.place(b"%d" % key, None if coarse is None else b"%d" % (key % coarse), unit)
        for key in range(keys)
    ]


RATES = [
    pytest.param(Rate("300/minute", burst=20), id="rate with a burst"),
    pytest.param(Rate("7/second", burst=1), id="rate without one, odd interval"),
    pytest.param(Rate("10/hour"), id="slow rate"),
]
QUOTAS = [
    pytest.param(Quota("10/minute"), id="quota"),
    pytest.param(Quota("1/second"), id="quota of one"),
    pytest.param(Quota("100/15 minutes"), id="the largest quota"),
]


class TestWithRoomForEveryKey:
    @pytest.mark.parametrize("rate", RATES)
    def test_a_rate_decides_every_hit_as_the_model_does(self, rate, hits):
        random, meter = Random(1), RateMeter(rate)
        spend = spending(meter)
        keys = places(meter, 50)
        models = [ModelRate(rate) for _ in keys]
        now = random.randrange(10**15)
        for _ in range(hits):
            now += random.randrange(2 * rate.period_ns // rate.count // 40)
            key, cost = random.randrange(50), random.choice((1, 1, 1, 2, 5))
            cost = min(cost, rate.burst)

            assert (spend(keys[key], cost, now) >= 0) == models[key].take(now, cost)

    @pytest.mark.parametrize("quota", QUOTAS)
    def test_a_quota_never_exceeds_the_model_and_stays_behind_it_by_two_ticks_at_most(self, quota, hits):
        random, meter = Random(2), QuotaMeter(quota)
        spend = spending(meter)
        keys = places(meter, 20)
        admitted = [ModelQuota(quota) for _ in keys]
        # A quota of a day has ticks of an eighth of a second; each of these has more than a thousand a second.
        late = SECOND // 1024 * 2
        now = random.randrange(10**15)
        for _ in range(hits // 4):
            now += random.randrange(2 * quota.period_ns // quota.count // 15)
            key, cost = random.randrange(20), random.choice((1, 1, 1, 3))
            cost = min(cost, quota.count)
            model = admitted[key]
            if spend(keys[key], cost, now) >= 0:
                assert model.take(now, cost)
            else:
                assert not model.take(now, cost, late=late)


class TestOverflow:
    """Far more keys than cells: keys share coarse cells, move out of them and back, and lose their own."""

    @pytest.mark.parametrize("coarse", [None, 97], ids=["coarse by hash", "coarse by network"])
    @pytest.mark.parametrize("rate", RATES)
    def test_a_rate_never_admits_what_the_model_would_not(self, rate, coarse, hits):
        random, meter = Random(3), RateMeter(rate, cells=Cells(FEW * 8, 2))
        spend = spending(meter)
        keys = places(meter, 2000, coarse)
        admitted, free = [ModelRate(rate) for _ in keys], [ModelRate(rate) for _ in keys]
        counts = {"ours": 0, "model": 0}
        for key, now in crowds(random, hits, rate.period_ns // rate.count):
            counts["model"] += free[key].take(now)
            if spend(keys[key], 1, now) >= 0:
                counts["ours"] += 1
                assert admitted[key].take(now)

        assert meter.cells.overflows > hits // 100
        assert 0 < counts["ours"] <= counts["model"]

    @pytest.mark.parametrize("coarse", [None, 97], ids=["coarse by hash", "coarse by network"])
    @pytest.mark.parametrize("quota", QUOTAS)
    def test_a_quota_never_admits_what_the_model_would_not(self, quota, coarse, hits):
        random, meter = (
            Random(4),
            QuotaMeter(quota, cells=Cells(FEW * (8 + 4 * quota.count), 2 + quota.count)),
        )
        spend = spending(meter)
        keys = places(meter, 2000, coarse)
        admitted, free = [ModelQuota(quota) for _ in keys], [ModelQuota(quota) for _ in keys]
        counts = {"ours": 0, "model": 0}
        for key, now in crowds(random, hits // 4, quota.period_ns // quota.count):
            counts["model"] += free[key].take(now)
            if spend(keys[key], 1, now) >= 0:
                counts["ours"] += 1
                assert admitted[key].take(now)

        assert meter.cells.overflows > hits // 400
        assert 0 < counts["ours"] <= counts["model"]


def crowds(random, hits, interval):
    """Yield hits of 2,000 keys: now crowded, now quiet, so that cells fill, run out and fill again."""
    now, pace = random.randrange(10**15), interval
    favourites = random.sample(range(2000), 5)
    for number in range(hits):
        if number % 2000 == 0:
            pace = random.choice((interval // 2000, interval // 100, interval * 3)) + 1
            favourites = random.sample(range(2000), 5)
        now += random.randrange(pace)
        yield random.choice(favourites) if random.random() < 0.5 else random.randrange(2000), now


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "charge", "look"]),
        st.integers(1, 4),
        st.integers(0, 40) | st.sampled_from([60, 61, 600, 10**5]),
    ),
    max_size=80,
)


class TestChosenSequences:
    @given(STEPS, st.integers(0, 10**15))
    def test_a_rate_looks_and_takes_alike_and_a_charge_never_makes_room(self, steps, start):
        rate = Rate("30/minute", burst=4)
        meter, model = RateMeter(rate), ModelRate(rate)
        spend = spending(meter)
        place, now = places(meter, 1)[0], start
        for verb, cost, seconds in steps:
            now += seconds * SECOND // 10
            if verb == "charge":
                meter.charge(place, cost, now)
                ticks = now * 256 // model.interval
                model.tat = min(max(model.tat, ticks) + 256 * cost, ticks + 256 * rate.burst)
                continue
            looked = meter.look(place, cost, now)
            if verb == "look":
                assert looked == meter.look(place, cost, now)
                continue
            assert spend(place, cost, now) == looked
            assert (looked >= 0) == model.take(now, cost)

    @given(STEPS, st.integers(0, 10**15))
    def test_a_quota_looks_and_takes_alike_and_holds_n_in_any_window_with_charges_counted(self, steps, start):
        quota = Quota("5/6 seconds")
        meter, spent = QuotaMeter(quota), []
        spend = spending(meter)
        place, now = places(meter, 1)[0], start
        for verb, cost, seconds in steps:
            now += seconds * SECOND // 10
            if verb == "charge":
                meter.charge(place, cost, now)
                spent = [*spent, *[now] * cost][-quota.count :]
                continue
            looked = meter.look(place, cost, now)
            if verb == "look":
                continue
            assert spend(place, cost, now) == looked
            if looked >= 0:
                spent += [now] * cost
                assert sum(now - time < quota.period_ns for time in spent) <= quota.count

    @given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5) | st.integers(0, 60)), max_size=120))
    def test_a_quota_of_a_network_holds_sixteen_times_n_in_any_window(self, steps):
        quota = Quota("3/6 seconds")
        meter, spent, now = QuotaMeter(quota), [], 0
        spend = spending(meter)
        place = meter.cells.place(b"network", None, meter.unit(16))
        for cost, seconds in steps:
            now += seconds * SECOND // 20
            if spend(place, cost, now) >= 0:
                spent += [now] * cost
            assert sum(now - time < quota.period_ns for time in spent) <= 48

    def test_a_quota_of_a_network_admits_sixteen_times_n_at_once(self):
        meter = QuotaMeter(Quota("3/6 seconds"))
        spend = spending(meter)
        place = meter.cells.place(b"network", None, meter.unit(16))

        assert [spend(place, 1, 0) >= 0 for _ in range(50)].count(True) == 48


class TestTheLastMoment:
    STARTS = pytest.mark.parametrize("start", [0, 1, 10**15 + 7, 123_456_789_012_345])

    @STARTS
    @pytest.mark.parametrize("share", [1, 16])
    def test_a_quota_admits_again_when_its_window_has_passed_and_not_a_nanosecond_earlier(self, start, share):
        meter = QuotaMeter(Quota("5/6 seconds"))
        spend, place = spending(meter), meter.cells.place(b"ada", None, meter.unit(share))
        for number in range(5 * share):
            assert spend(place, 1, start + number) >= 0

        assert spend(place, 1, start + share - 1 + 6 * SECOND - 1) < 0
        # Two ticks later at most, each of 2**-17 seconds.
        assert spend(place, 1, start + share - 1 + 6 * SECOND + 2 * (SECOND >> 17)) >= 0

    @STARTS
    def test_a_rate_admits_again_after_one_interval_or_a_tick_less(self, start):
        meter = RateMeter(Rate("10/second", burst=5))
        spend, place = spending(meter), places(meter, 1)[0]
        for _ in range(5):
            assert spend(place, 1, start) >= 0

        interval = SECOND // 10
        assert spend(place, 1, start + interval - interval // 256 - 1) < 0
        assert spend(place, 1, start + interval) >= 0


class TestTheClockOfACell:
    """It has 32 bits and turns over; a decision must not depend on where it stands."""

    @pytest.mark.parametrize("rule", [Rate("1200/minute", burst=20), Quota("20/minute")], ids=str)
    @pytest.mark.parametrize("turns", [1, 2, 5])
    def test_the_same_hits_are_decided_alike_while_it_turns_over(self, rule, turns):
        if isinstance(rule, Rate):
            turn = Fraction(TURN_TICKS * rule.period_ns, rule.count * 256)
            meters = RateMeter(rule), RateMeter(rule)
        else:
            turn = Fraction(TURN_TICKS * SECOND, 1 << 14)
            meters = QuotaMeter(rule), QuotaMeter(rule)
        assert turn.denominator == 1
        keys, spends = [places(meter, 30) for meter in meters], [spending(meter) for meter in meters]
        random, elapsed, decisions = Random(5), 0, defaultdict(int)
        for _ in range(6000):
            elapsed += random.randrange(rule.period_ns // rule.count // 2)
            key = min(int(random.expovariate(0.5)), 29)
            # One of them starts half a minute before its clock turns over.
            around = turns * int(turn) - 30 * SECOND + elapsed
            plain = spends[0](keys[0][key], 1, elapsed)
            turning = spends[1](keys[1][key], 1, around)

            assert plain == turning
            decisions[plain >= 0] += 1

        assert decisions[True] > 500
        assert decisions[False] > 500

    @pytest.mark.parametrize(
        "rule", [Rate("1200/minute", burst=600, memory=1 << 16), Quota("20/minute", memory=1 << 16)], ids=str
    )
    def test_a_table_never_used_is_empty_at_every_point_of_the_clock(self, rule):
        """A zeroed cell must not pass for a time that lies just ahead."""
        make = RateMeter if isinstance(rule, Rate) else QuotaMeter
        turn = rule.period_ns * TURN_TICKS // (rule.count * 256)
        for part in (*range(0, 16), 15.9999, 15.99999, 15.999999):
            meter = make(rule)
            place, now = places(meter, 1)[0], int(turn * part / 16)

            assert meter.live(now) == 0
            assert meter.look(place, rule.most_at_once, now) >= 0
            assert spending(meter)(place, rule.most_at_once, now) >= 0

    @pytest.mark.parametrize("rule", [Rate("60/minute", burst=60), Quota("20/minute")], ids=str)
    def test_a_caller_whose_clock_lags_a_little_finds_nothing_freed(self, rule):
        meter = (RateMeter if isinstance(rule, Rate) else QuotaMeter)(rule)
        place, now, spend = places(meter, 1)[0], 10**15, spending(meter)
        assert spend(place, rule.most_at_once, now) >= 0

        for lag in (1, 1000, SECOND, 20 * SECOND):
            assert spend(place, 1, now - lag) < 0
        assert spend(place, 1, now) < 0

    def test_a_hit_of_a_lagging_clock_doesn_t_hide_the_ones_before_it(self):
        meter = QuotaMeter(Quota("2/6 seconds"))
        spend, place = spending(meter), places(meter, 1)[0]
        spend(place, 1, 20 * SECOND)
        spend(place, 1, 19 * SECOND)

        # That of the second 20 counts until the second 26.
        assert [spend(place, 1, 25 * SECOND + SECOND // 2) >= 0 for _ in range(2)].count(True) <= 1
