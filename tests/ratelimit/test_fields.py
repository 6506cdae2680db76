"""How a refusal is told: fields that parse as RFC 9651 says, and that agree with one another."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import request_facts
from structured_fields import parse_list
from thebes.ratelimit import Quota, Rate, RateLimits


@pytest.mark.parametrize(
    "field",
    [
        "",
        "name",
        '"open',
        '"a";q',
        '"a";q=1,',
        '"a" ;q=1',
        '"a";Q=1',
        '"a";q=1.5',
        '"\x80"',
        '"a""b"',
    ],
)
def test_the_parser_here_refuses_what_is_no_such_list(field):
    with pytest.raises(ValueError, match=r"no (string|comma) at"):
        parse_list(field)


RULES = st.builds(
    lambda count, periods, unit, burst: (
        Quota(f"{count}/{periods} {unit}s")
        if burst is None
        else Rate(f"{count}/{periods} {unit}s", burst=burst)
    ),
    st.integers(1, 100),
    st.integers(1, 40),
    st.sampled_from(["second", "minute", "hour", "day"]),
    st.none() | st.integers(1, 200),
)


@pytest.mark.requirement("RAT-03")
@given(
    st.lists(RULES, min_size=1, max_size=3),
    st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    st.lists(st.integers(0, 10**9), max_size=30),
)
def test_the_fields_of_a_refusal_parse_and_agree(rules, address, pauses):
    now = [10**12]
    check = RateLimits(rules, clock=lambda: now[0])
    facts = request_facts(client=(address, 1))
    for pause in [*pauses, *[0] * 250]:
        now[0] += pause
        denial = check(facts)
        if denial is not None:
            break
    else:
        raise AssertionError("no rule allows so much")
    fields = dict(denial.headers)
    policies = parse_list(fields[b"ratelimit-policy"].decode("ascii"))
    services = parse_list(fields[b"ratelimit"].decode("ascii"))
    retry_after = int(fields[b"retry-after"])

    assert [name for name, _ in policies] == [name for name, _ in services]
    assert re.fullmatch(rb"[1-9][0-9]*", fields[b"retry-after"])
    for (_, policy), (_, service) in zip(policies, services, strict=True):
        assert set(policy) == {"q", "w"}
        assert set(service) == {"r", "t"}
        assert 0 <= service["r"] <= policy["q"]
        assert policy["w"] > 0
        assert 0 < service["t"] <= min(retry_after, policy["w"])

    now[0] += retry_after * 10**9
    assert check(facts) is None


class TestARefusal:
    def refuse(self, *rules, address="192.0.2.1", before=0):
        check = RateLimits(rules, clock=lambda: 0)
        facts = request_facts(client=(address, 1))
        if before:
            check.charge(facts, before)
        while (denial := check(facts)) is None:
            pass
        return denial

    def test_a_rate_is_published_with_its_burst_and_the_time_in_which_that_refills(self):
        denial = self.refuse(Rate("1200/minute", burst=600))

        assert denial.status == 429
        assert denial.kind == "quota-exceeded"
        assert dict(denial.headers) == {
            b"retry-after": b"1",
            b"ratelimit-policy": b'"default";q=600;w=30',
            b"ratelimit": b'"default";r=0;t=1',
        }

    def test_a_quota_is_published_with_its_n_and_its_window(self):
        denial = self.refuse(Quota("10/15 minutes", name="search"))

        assert dict(denial.headers) == {
            b"retry-after": b"900",
            b"ratelimit-policy": b'"search";q=10;w=900',
            b"ratelimit": b'"search";r=0;t=900',
        }

    def test_every_violated_policy_is_named_and_the_longest_wait_is_told(self):
        denial = self.refuse(Quota("5/second", name="fast"), Quota("5/minute", name="slow"))

        assert dict(denial.headers)[b"retry-after"] == b"60"
        assert dict(denial.headers)[b"ratelimit"] == b'"fast";r=0;t=1, "slow";r=0;t=60'
        assert denial.detail == "Over the limit: fast, slow. Try again in 60 seconds."

    def test_a_policy_that_was_kept_is_not_named(self):
        denial = self.refuse(Quota("5/second", name="fast"), Quota("50/minute", name="slow"))

        assert b"slow" not in dict(denial.headers)[b"ratelimit-policy"]

    def test_the_budget_of_an_ipv6_network_has_a_name_of_its_own(self):
        denial = self.refuse(Rate("60/minute", burst=5), address="2001:db8::1", before=1000)

        assert parse_list(dict(denial.headers)[b"ratelimit-policy"].decode("ascii")) == [
            ("default", {"q": 5, "w": 5}),
            ("default-48", {"q": 80, "w": 5}),
        ]

    def test_of_a_quota_publishes_no_longer_time_than_its_window(self):
        # The clock of a Quota is rounded up: the whole window and a tick are to be waited for.
        now = 10**12 + 7
        check = RateLimits([Quota("1/second", name="one")], clock=lambda: now)
        facts = request_facts()
        check(facts)
        fields = dict(check(facts).headers)

        assert fields[b"ratelimit-policy"] == b'"one";q=1;w=1'
        assert fields[b"ratelimit"] == b'"one";r=0;t=1'
        assert fields[b"retry-after"] == b"2"

    @pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8:77::77", "somebody"])
    def test_nothing_in_it_tells_the_key(self, address):
        denial = self.refuse(Rate("60/minute", burst=5), address=address)

        told = " ".join((denial.title, denial.detail, *(value.decode() for _, value in denial.headers)))
        assert "77" not in told
        assert "somebody" not in told
        assert "pk=" not in told
