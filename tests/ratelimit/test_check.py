"""The check: who is counted, for what, and how a refusal is told."""

import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asking import request_facts
from limiting import Declared, asked, hits, limited_routes
from thebes.errors import ConfigurationError
from thebes.facts import RequestFacts, Surroundings
from thebes.forwarding import Forwarding
from thebes.paths import RoutePattern
from thebes.ratelimit import Quota, Rate, RateLimits
from thebes.ratelimit.rules import Rule

FIVE = Rate("5/minute")


@pytest.fixture
def five(clock):
    return RateLimits([FIVE], clock=clock)


class TestWhoIsCounted:
    def test_each_ipv4_address_has_a_budget_of_its_own(self, five):
        assert hits(five, 9, address="192.0.2.1") == 5
        assert hits(five, 9, address="192.0.2.2") == 5

    def test_the_spellings_of_an_address_share_one_budget(self, five):
        spellings = ("192.0.2.1", "::ffff:192.0.2.1", "::FFFF:C000:0201", "0:0:0:0:0:ffff:c000:201")

        assert sum(hits(five, 4, address=spelling) for spelling in spellings) == 5

    @pytest.mark.slow
    def test_all_65536_addresses_of_one_64_are_one_client(self, five):
        facts = asked()
        admitted = 0
        for number in range(65536):
            admitted += five(coming_from(f"2001:db8:0:1::{number:x}", facts)) is None

        assert admitted == 5

    def test_a_48_has_sixteen_times_the_budget_of_a_64(self, five):
        networks = [f"2001:db8:0:{number:x}::1" for number in range(100)]

        assert sum(hits(five, 3, address=network) for network in networks) == 80
        assert hits(five, 9, address="2001:db8:1::1") == 5

    @pytest.mark.parametrize("kind", [Rate, Quota])
    def test_what_one_64_is_refused_costs_its_48_nothing(self, kind, clock):
        check = RateLimits([kind("5/minute")], clock=clock)

        assert hits(check, 1000, address="2001:db8::1") == 5
        assert sum(hits(check, 5, address=f"2001:db8:0:{number:x}::1") for number in range(1, 50)) == 75

    def test_a_peer_without_an_address_is_one_client(self, five):
        assert sum(five(request_facts(client=None)) is None for _ in range(9)) == 5

    def test_forwarding_fields_of_strangers_change_nothing(self, five):
        for number in range(9):
            five(asked(headers={"X-Forwarded-For": f"198.51.100.{number}"}))

        assert hits(five, 1) == 0

    def test_behind_a_declared_proxy_the_client_it_names_counts(self, five):
        surroundings = Surroundings(forwarding=Forwarding(["10.0.0.0/8"]))

        def through(client):
            field = {"X-Forwarded-For": f"203.0.113.9, {client}"}
            return hits(five, 9, address="10.1.1.1", headers=field, surroundings=surroundings)

        assert through("192.0.2.1") == 5
        assert through("192.0.2.2") == 5
        assert through("192.0.2.1") == 0

    def test_websocket_handshakes_count_too(self, five):
        assert hits(five, 9, type="websocket") == 5

    def test_every_path_and_method_counts_together(self, five):
        for method in ("GET", "POST", "OPTIONS", "PURGE"):
            five(request_facts(method, "/a", client=("192.0.2.1", 1)))

        assert hits(five, 9, path="//b/../c") == 1


class TestRoutes:
    def surroundings(self, **routes):
        return Surroundings(routes=limited_routes(**routes))

    def test_a_route_without_limit_and_the_health_path_cost_nothing(self, five):
        free = Surroundings(
            routes=limited_routes(assets=Declared(limit=None)), health=RoutePattern.parse("GET /healthz")
        )

        assert hits(five, 50, path="/assets", surroundings=free) == 50
        assert hits(five, 50, path="/healthz", surroundings=free) == 50
        assert hits(five, 9, path="/", surroundings=free) == 5

    def test_a_route_s_own_limit_stands_in_place_of_the_app_s(self, five):
        routes = self.surroundings(
            search=Declared((Quota("2/minute"),)), upload=Declared((Rate("20/minute"),))
        )

        assert hits(five, 9, path="/search", surroundings=routes) == 2
        assert hits(five, 30, path="/upload", surroundings=routes) == 20
        assert hits(five, 9, path="/", surroundings=routes) == 5

    def test_routes_that_say_the_same_count_apart_unless_they_share_the_rule(self, five):
        shared = Quota("3/minute")
        routes = self.surroundings(
            one=Declared((shared,)), two=Declared((shared,)), three=Declared((Quota("3/minute"),))
        )

        assert sum(hits(five, 2, path=path, surroundings=routes) for path in ("/one", "/two")) == 3
        assert hits(five, 9, path="/three", surroundings=routes) == 3

    def test_a_route_may_cost_more(self, five):
        routes = self.surroundings(report=Declared(cost=2))

        assert hits(five, 9, path="/report", surroundings=routes) == 2
        assert hits(five, 9, path="/", surroundings=routes) == 1

    @pytest.mark.parametrize("cost", [0, 6])
    def test_a_cost_that_the_limit_never_pays_is_an_error_at_the_start(self, cost):
        with pytest.raises(ConfigurationError, match=r"GET /report costs .* allows 1 to 5"):
            RateLimits([FIVE], routes=limited_routes(report=Declared(cost=cost)).entries())

    def test_all_rules_of_a_route_hold_and_a_refusal_by_one_costs_no_other(self, five, clock):
        rules = (Quota("3/second"), Quota("10/minute"))
        routes = self.surroundings(search=Declared(rules))

        admitted = []
        for _ in range(5):
            admitted.append(hits(five, 20, path="/search", surroundings=routes))
            clock.advance(1)

        assert admitted == [3, 3, 3, 1, 0]


class TestCharges:
    def test_a_request_that_another_check_refused_is_charged(self, five):
        five.charge(asked(), 4)

        assert hits(five, 9) == 1

    def test_a_charge_may_exceed_what_is_left_and_is_forgotten_in_time(self, five, clock):
        five.charge(asked(address="2001:db8::1"), 1000)

        assert hits(five, 9, address="2001:db8::1") == 0
        clock.advance(61)
        assert hits(five, 9, address="2001:db8::1") == 5

    def test_health_checks_and_free_routes_are_not_charged(self, five):
        free = Surroundings(
            routes=limited_routes(free=Declared(limit=None)), health=RoutePattern.parse("GET /healthz")
        )
        five.charge(asked(path="/free", surroundings=free), 5)
        five.charge(asked(path="/healthz", surroundings=free), 5)

        assert hits(five, 9, surroundings=free) == 5


class TestMonitor:
    def reports(self, clock, rules, **options):
        told = []

        def report(event, *, policy, facts):
            told.append((event, policy, facts and facts.client.address))

        return RateLimits(rules, report=report, clock=clock, **options), told

    @pytest.mark.parametrize("is_for_all", [True, False])
    def test_it_counts_and_reports_and_refuses_nothing(self, clock, is_for_all):
        rule = Rate("5/minute", monitor=not is_for_all)
        check, told = self.reports(clock, [rule], monitor=is_for_all)

        assert hits(check, 8) == 8
        assert told == [("limit_exceeded", "default", "192.0.2.1")] * 3
        assert check.observed == {"default": 3}
        assert not check.refused

    def test_a_rule_on_trial_stands_beside_one_in_force(self, clock):
        trial = Rate("3/minute", name="trial", monitor=True)
        check, told = self.reports(clock, [trial, FIVE])

        assert hits(check, 9) == 5
        assert told == [("limit_exceeded", "trial", "192.0.2.1")] * 6
        assert (check.observed, check.refused) == ({"trial": 6}, {"default": 4})

    def test_without_monitor_refusals_are_counted_and_not_reported(self, clock):
        check, told = self.reports(clock, [FIVE])

        assert hits(check, 7) == 5
        assert check.refused == {"default": 2}
        assert told == []


@pytest.mark.slow
class TestFloods:
    @pytest.mark.parametrize(
        "rule",
        [
            pytest.param(Rate("1200/minute", burst=600), id="the default"),
            pytest.param(Rate("1200/minute", burst=600, memory=1 << 20), id="a rate in a small table"),
            pytest.param(Quota("100/15 minutes"), id="a quota"),
        ],
    )
    def test_a_million_addresses_leave_an_attacker_s_counter_and_the_memory_as_they_were(
        self, rule: Rule, strangers, clock
    ):
        check, facts = RateLimits([rule], clock=clock), asked(address="203.0.113.1")
        attacker = asked(address="198.18.0.1")
        while (refusal := check(attacker)) is None:
            pass
        flood(check, facts, range(strangers // 4))
        before = resident_bytes()

        flood(check, facts, range(strangers // 4, strangers))

        assert check(attacker) == refusal
        assert resident_bytes() - before < 2 << 20

    def test_an_overflow_is_reported(self, clock):
        told = []
        rule = Rate("5/minute", memory=64 << 10)
        check = RateLimits(
            [rule], report=lambda event, *, policy, facts: told.append((event, policy)), clock=clock
        )

        flood(check, asked(), range(20_000))

        assert set(told) == {("limit_overflow", "default")}

    def test_newcomers_of_a_full_table_have_no_budget_each(self, clock):
        check = RateLimits([Rate("5/minute", memory=64 << 10)], clock=clock)
        flood(check, asked(), range(100_000))

        # At most the one budget of their /24, and those of the few who found room.
        assert sum(hits(check, 5, address=f"198.18.77.{number}") for number in range(256)) < 80


def flood(check, facts, numbers):
    for number in numbers:
        check(coming_from(f"{number >> 16 & 127}.{number >> 8 & 255}.{number & 255}.7", facts))


def coming_from(address, facts):
    """Return the facts of the same request from another address: in a flood, quicker than `asked`."""
    return RequestFacts({**facts.scope, "client": (address, 1)}, facts.surroundings)


def resident_bytes():
    if sys.platform != "linux":
        pytest.skip("memory is read from /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class TestParallelRequests:
    @pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
    @pytest.mark.parametrize("rule", [Rate("50/minute"), Quota("50/minute")], ids=["rate", "quota"])
    def test_of_200_at_one_moment_exactly_n_are_let_through(self, rule, address, clock):
        check, together = RateLimits([rule], clock=clock), threading.Barrier(200)

        def request(_):
            facts = asked(address=address)
            together.wait()
            return check(facts) is None

        with ThreadPoolExecutor(200) as threads:
            assert sum(threads.map(request, range(200))) == 50


class TestBounds:
    def test_every_rule_says_what_it_admits_and_what_it_takes_up(self):
        routes = limited_routes(
            search=Declared((Quota("10/minute"),)), trial=Declared((Rate("5/second", monitor=True),))
        )
        check = RateLimits(routes=routes.entries())

        assert [str(bound) for bound in check.bounds()] == [
            "default: 600 at once, and 1200/minute besides; 8,388,608 bytes for 986,896 clients",
            "get-search: never more than 10 in any minute; 8,388,608 bytes for 164,480 clients",
            "get-trial: 5 at once, and 5/second besides (monitor: refuses nothing); "
            "8,388,608 bytes for 986,896 clients",
        ]
        assert [bound.route for bound in check.bounds()] == [None, "GET /search", "GET /trial"]

    def test_it_counts_the_clients_of_each(self, five):
        hits(five, 2, address="192.0.2.1")
        hits(five, 2, address="2001:db8::1")

        assert five.live() == {"default": 3}  # an IPv6 client has a key for its /64 and one for its /48

    @pytest.mark.parametrize(
        ("names", "published"),
        [(("a", "a-48"), ["a", "a-48-2"]), (("a-48", "a"), ["a-48", "a-2"]), (("a", "a"), ["a", "a-2"])],
    )
    def test_no_name_is_that_of_another_rule_s_ipv6_network(self, names, published, clock):
        check = RateLimits([Rate("5/minute", name=name) for name in names], clock=clock)

        assert [bound.policy for bound in check.bounds()] == published

    def test_names_are_unique_and_can_stand_in_a_field(self):
        routes = limited_routes(
            **{"a/b": Declared((Quota("1/minute"),)), "a-b": Declared((Quota("1/minute"),))},
            **{"caf\N{LATIN SMALL LETTER E WITH ACUTE}" * 40: Declared((Quota("1/minute", name="mine"),))},
        )
        check = RateLimits([FIVE, Rate("9/minute")], routes=routes.entries())

        names = [bound.policy for bound in check.bounds()]
        assert names == ["default", "default-2", "get-a-b", "get-a-b-2", "mine"]
        assert all(re.fullmatch(r"[a-z0-9-]{1,64}", name) for name in names)
