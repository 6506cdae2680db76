"""Paths that can be read in two ways: no spelling is a way around a route's limit."""

from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from asking import request_facts
from limiting import Declared, asked, hits, limited_routes
from thebes.facts import Surroundings
from thebes.paths import RoutePattern, RouteTable
from thebes.ratelimit import Quota, Rate, RateLimits

FIVE = Rate("5/minute")


@pytest.fixture
def five(clock):
    return RateLimits([FIVE], clock=clock)


# One path of two segments, as routers and proxies of all kinds might take it for it: path and bytes.
SPELLINGS = {
    "an encoded slash": ("/api/search", b"/api%2Fsearch"),
    "a slash encoded twice": ("/api%2Fsearch", b"/api%252Fsearch"),
    "a letter encoded twice": ("/api/%73earch", b"/api/%2573earch"),
    "no bytes from the server": ("/api/search", None),
    "two slashes": ("/api//search", b"/api//search"),
    "a dot": ("/api/./search", b"/api/./search"),
    "two dots": ("/x/../api/search", b"/x/../api/search"),
    "two dots after two slashes": ("/api/x//../search", b"/api/x//../search"),
    "a backslash": ("/api\\search", b"/api\\search"),
    "an encoded backslash": ("/api\\search", b"/api%5Csearch"),
    "a NUL": ("/api/search\0", b"/api/search%00"),
    "a control character within": ("/api/sea\x7frch", b"/api/sea%7Frch"),
    "a prefix of a proxy": ("/prefix//api/search", b"/prefix//api/search"),
    "something behind it": ("/api/search//", b"/api/search//"),
}


class TestPathsThatCanBeReadInTwoWays:
    """An attacker's way around a route's limit: the router takes the spelling for the route, the rule doesn't."""

    @pytest.fixture
    def searching(self):
        return Surroundings(
            routes=limited_routes(
                **{"api/search": Declared((Quota("2/minute", name="search"),)), "free": Declared(None)},
                **{"api/export": Declared(cost=3)},
            )
        )

    @pytest.mark.parametrize(("path", "raw_path"), SPELLINGS.values(), ids=SPELLINGS)
    @pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
    def test_count_under_the_limit_of_the_route_and_of_the_app(
        self, five, searching, path, raw_path, address
    ):
        request = {"address": address, "surroundings": searching}

        assert hits(five, 4, path=path, raw_path=raw_path, **request) == 2
        assert hits(five, 4, path="/api/search", **request) == 0
        # What was refused cost nothing; what was admitted counts once under each.
        assert hits(five, 9, path="/", **request) == 3

    def test_are_refused_when_the_app_s_limit_is_spent(self, five, searching):
        hits(five, 5, surroundings=searching)

        assert hits(five, 4, path="/api//search", surroundings=searching) == 0
        assert hits(five, 4, path="/api/search", surroundings=searching) == 2

    def test_cost_what_the_route_costs(self, five, searching):
        assert hits(five, 4, path="/api//export", surroundings=searching) == 1
        assert hits(five, 4, surroundings=searching) == 2

    def test_pay_a_rule_that_route_and_app_share_once_and_the_higher_cost(self, five):
        shared = limited_routes(search=Declared((FIVE, Quota("9/minute")), cost=2))
        sharing = Surroundings(routes=shared)

        assert hits(five, 9, path="/search//", surroundings=sharing) == 2
        assert hits(five, 9, path="/", surroundings=sharing) == 1

    @pytest.mark.parametrize("path", ["/files/100%", "/api//files", "/search//", "/free//", "/a\\b"])
    def test_that_mean_no_limited_route_count_for_the_app_alone(self, five, searching, path):
        assert hits(five, 9, path=path, surroundings=searching) == 5
        assert hits(five, 9, path="/api/search", surroundings=searching) == 2

    def test_that_are_too_long_to_be_read_count_under_every_limit_of_their_method(self, five, searching):
        assert hits(five, 9, path="/files//" + "a" * 1024, surroundings=searching) == 1  # the export's cost
        assert hits(five, 9, path="/api/search", surroundings=searching) == 1

    def test_of_another_method_count_for_the_app_alone(self, five, searching):
        posts = [request_facts("POST", "/api//search", surroundings=searching) for _ in range(9)]

        assert sum(five(facts) is None for facts in posts) == 5

    def test_count_for_all_below_a_path_too(self, five):
        table = RouteTable()
        table.declare(RoutePattern("GET", "/users/*"), limit=(Quota("2/minute"),))
        below = Surroundings(routes=table)

        assert hits(five, 9, path="/users/a%", surroundings=below) == 2
        assert hits(five, 9, path="/users/b", surroundings=below) == 0

    def test_monitored_rules_refuse_none(self, clock):
        trial = Quota("2/minute", name="trial", monitor=True)
        check = RateLimits([FIVE], clock=clock)
        routes = Surroundings(routes=limited_routes(search=Declared((trial,))))

        assert hits(check, 9, path="/search//", surroundings=routes) == 5
        assert check.observed == {"trial": 7}

    @given(
        st.lists(
            st.sampled_from(["/", "//", "/./", "/x/../", "\\", "/\0/", "%2F", "%5c"]), min_size=2, max_size=2
        ),
        st.lists(st.integers(0, 3), min_size=9, max_size=9),
    )
    def test_admit_no_more_than_the_route_allows_however_they_are_mixed(self, separators, depths):
        """Separators of all kinds, and each letter encoded as often as one likes, up to three times."""
        first, second = separators
        letters = "".join(encoded(letter, depth) for letter, depth in zip("apisearch", depths, strict=True))
        at = len("".join(encoded(letter, depth) for letter, depth in zip("api", depths, strict=False)))
        target = first + letters[:at] + second + letters[at:]
        check = RateLimits([Rate("1000/minute")], clock=lambda: 0)
        routes = Surroundings(routes=limited_routes(**{"api/search": Declared((Quota("2/minute"),))}))
        facts = asked(path=unquote(target), raw_path=target.encode(), surroundings=routes)
        assume(facts.path in (None, "/api/search"))  # else it is plain, and another path for everybody

        assert sum(check(facts) is None for _ in range(5)) == 2


def encoded(letter: str, depth: int) -> str:
    """Return a letter percent-encoded so many times."""
    return letter if depth == 0 else "%" + "25" * (depth - 1) + f"{ord(letter):x}"
