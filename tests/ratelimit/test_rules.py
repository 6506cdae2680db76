"""What a limit may say, and what it is told to be when it can't be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.ratelimit import Quota, Rate, read_rules
from thebes.ratelimit.rules import MAX_BURST, default_rule, parse_limit, sf_string

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        pytest.param("5/second", 5, 1, id="a second"),
        pytest.param("300/minute", 300, 60, id="a minute"),
        pytest.param("1000/2 hours", 1000, 7200, id="two hours"),
        pytest.param("100/15 minutes", 100, 900, id="a quarter of an hour"),
        pytest.param(" 1 / 1 day ", 1, 86400, id="spaces, and one written out"),
    ],
)
def test_a_limit_is_a_number_a_slash_and_a_period(text, count, seconds):
    assert parse_limit(text) == (count, seconds * SECOND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/",
        "/minute",
        "10 per minute",
        "10/min",
        "10/minuteses",
        "-1/minute",
        "1.5/minute",
        "1e3/minute",
        "0/minute",
        "5/0 minutes",
        "10/15minutes",
        "10/minute/day",
        "10/fortnight",
        "10/minute\0",
        "٣/minute",  # digits, but not ours
        None,
        10,
    ],
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ConfigurationError, match=r"minute|403"):
        parse_limit(text)


@given(st.text())
def test_reading_rules_never_raises_anything_but_a_configuration_error(text):
    try:
        rules = read_rules(text)
    except ConfigurationError:
        return
    assert all(rule.count >= 1 and rule.period_ns >= SECOND for rule in rules)


@given(
    st.integers(1, 100),
    st.integers(1, 500),
    st.sampled_from(["second", "minute", "hour", "day"]),
    st.none() | st.integers(1, MAX_BURST),
)
def test_what_a_rule_says_of_itself_reads_back_as_the_same_rule(count, periods, unit, burst):
    text = f"{count}/{periods} {unit}s"
    rule = Quota(text) if burst is None else Rate(text, burst=burst)

    (again,) = read_rules(str(rule))

    assert type(again) is type(rule)
    assert (again.count, again.period_ns, again.most_at_once) == (
        rule.count,
        rule.period_ns,
        rule.most_at_once,
    )


class TestRate:
    def test_its_burst_is_n_unless_given(self):
        assert Rate("300/minute").burst == 300
        assert Rate("300/minute", burst=100).burst == 100

    @pytest.mark.parametrize("burst", [0, -1, MAX_BURST + 1])
    def test_a_burst_outside_its_bounds_is_refused(self, burst):
        with pytest.raises(ConfigurationError, match="allowed are 1 to 1,048,576"):
            Rate("300/minute", burst=burst)

    def test_more_than_a_million_a_period_needs_a_burst(self):
        with pytest.raises(ConfigurationError, match="burst="):
            Rate("2000000/day")

        assert Rate("2000000/day", burst=1000).count == 2_000_000

    @pytest.mark.parametrize(
        ("rate", "window_s"),
        [
            pytest.param(Rate("1200/minute", burst=600), 30, id="half a minute's worth"),
            pytest.param(Rate("7/minute", burst=1), 9, id="rounded up"),
            pytest.param(Rate("1000/second", burst=1), 1, id="at least one"),
        ],
    )
    def test_its_window_is_the_time_in_which_a_burst_refills(self, rate, window_s):
        assert rate.window_s == window_s


class TestQuota:
    def test_it_remembers_a_hundred_times_at_most_and_says_what_to_write_instead(self):
        assert Quota("100/15 minutes").count == 100
        with pytest.raises(ConfigurationError, match=r"Rate\('101/15 minutes'\)"):
            Quota("101/15 minutes")

    def test_its_window_is_its_period(self):
        assert Quota("100/15 minutes").window_s == 900


@pytest.mark.parametrize("make", [Rate, Quota])
class TestBothKinds:
    @pytest.mark.parametrize("name", ["", "two words", 'quo"te', "café", "-first", "x" * 65, "new\nline"])
    def test_a_name_that_could_not_stand_in_a_field_is_refused(self, make, name):
        with pytest.raises(ConfigurationError, match="64 letters"):
            make("10/minute", name=name)

    @pytest.mark.parametrize("memory", [0, 1000, 5 << 30])
    def test_a_table_has_from_64_kib_to_4_gib(self, make, memory):
        with pytest.raises(ConfigurationError, match="allowed are 65,536"):
            make("10/minute", memory=memory)

    def test_two_rules_that_say_the_same_are_two_rules(self, make):
        assert make("10/minute") != make("10/minute")


class TestReadingWhatAUserWrote:
    def test_a_bare_text_is_a_quota_and_one_with_a_burst_a_rate(self):
        quota, rate = read_rules("10/minute, 1200/minute burst 600")

        assert isinstance(quota, Quota)
        assert isinstance(rate, Rate)
        assert rate.burst == 600

    def test_rules_and_texts_may_be_mixed_in_a_list(self):
        given = Rate("5/second")

        assert read_rules([given, "10/minute"])[0] is given
        assert read_rules(given) == (given,)

    @pytest.mark.parametrize("value", [[], ["10/minute", 3], "10/minute,", [None]])
    def test_nothing_and_other_types_are_refused(self, value):
        with pytest.raises(ConfigurationError):
            read_rules(value)

    def test_the_default_is_1200_a_minute_and_600_at_once(self):
        assert str(default_rule()) == "1200/minute burst 600"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_a_structured_string_is_quoted_so_that_it_ends_where_it_should(text):
    quoted = sf_string(text)

    inner = quoted[1:-1]
    assert quoted[0] == quoted[-1] == '"'
    assert inner.replace("\\\\", "").replace('\\"', "").count('"') == 0
    assert inner.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\") == text
