"""Forge the client's address: whoever lies about it must not get a new budget, nor spend another's."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from socket import create_connection

import pytest

from attack import Fields, Served, named_client, protecting, unseen_address
from board import make_board
from live import PATIENCE_SECONDS
from thebes import Rate

PEER = "127.0.0.1"
PROXIES = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"]


@dataclass(frozen=True, slots=True)
class Walk:
    """A service that admits one request a day from each client, behind proxies that write one field."""

    served: Served
    field: str
    hops: int

    def lines(self, elements: Sequence[str], *, is_split: bool = False) -> Fields:
        """Return the field as one line, or as a line for each element."""
        texts = [self._element(element) for element in elements]
        return [(self.field, line) for line in (texts if is_split or not texts else [", ".join(texts)])]

    def behind(self, *elements: str) -> list[str]:
        """Return a chain as the client's proxy leaves it to the inner proxies, one for each further hop."""
        return [*elements, *["10.0.0.2"] * (self.hops - 1)]

    def _element(self, text: str) -> str:
        if self.field == "X-Forwarded-For" or not text:
            return text
        return f'for="{text}"' if re.search(r"[:\[\]]", text) else f"for={text}"


@pytest.fixture(scope="module", params=["x-forwarded-for", "forwarded"])
def field(request: pytest.FixtureRequest) -> str:
    return request.param


# The scheme has tests of its own: here every request is let through to the limit, whoever says what of it.
@pytest.fixture(scope="module", params=[1, 2], ids=["one hop", "two hops"])
def walk(request: pytest.FixtureRequest, field: str) -> Iterator[Walk]:
    declared = {"proxies": PROXIES, "proxy_header": field, "proxy_hops": request.param}
    with protecting(make_board(), limits="1/day", without=["https"], **declared) as served:
        assert served.ask().status == 200  # so from now on the peer has nothing left
        yield Walk(served, field.title(), request.param)


def judged(served: Served, fields: Fields = ()) -> tuple[int, str | None]:
    """Return the status of an answer, and whom the event of a refusal names."""
    served.forget()
    answer = served.ask(fields=fields)
    return answer.status, next((event["client"] for event in served.events), None)


# What clients write to be taken for another.
INVENTED = [
    ("X-Forwarded-For", "{}"),
    ("X-Forwarded-For", "{}, 127.0.0.1"),
    ("X-Forwarded-For", "127.0.0.1, {}"),
    ("X-Forwarded-For", "::ffff:{}"),
    ("Forwarded", "for={};proto=https"),
    ("Forwarded", 'for="[::ffff:{}]"'),
    ("X_Forwarded_For", "{}"),
    ("X-Real-IP", "{}"),
    ("X-Client-IP", "{}"),
    ("X-Cluster-Client-IP", "{}"),
    ("X-Original-Forwarded-For", "{}"),
    ("True-Client-IP", "{}"),
    ("CF-Connecting-IP", "{}"),
    ("Fastly-Client-IP", "{}"),
    ("Client-IP", "{}"),
    ("Via", "1.1 {}"),
]

IN_FRONT = {
    "nothing": [],
    "an address": ["{victim}"],
    "two addresses": ["{victim}", "{victim}"],
    "proxies": ["10.0.0.7", "10.0.0.8"],
    "a proxy before an address": ["10.0.0.7", "{victim}"],
    "an address before a proxy": ["{victim}", "10.0.0.7"],
    "loopback": ["127.0.0.1", "::1"],
    "the proxy itself": ["127.0.0.1"],
    "IPv6": ["2001:db8::66"],
    "unknown": ["unknown"],
    "a hidden name": ["_hidden"],
    "nothing between commas": ["", "", ""],
    "many addresses": ["{victim}"] * 100,
}


@pytest.mark.requirement("RAT-05", by="live")
class TestBehindDeclaredProxies:
    @pytest.mark.parametrize("is_split", [False, True], ids=["in one line", "in a line each"])
    @pytest.mark.parametrize("forged", IN_FRONT.values(), ids=IN_FRONT)
    def test_what_a_client_writes_in_front_gives_no_new_budget_and_spends_no_other_s(
        self, walk, forged, is_split
    ):
        client, victim = unseen_address(), unseen_address()
        elements = [element.format(victim=victim) for element in forged]
        told = walk.lines(walk.behind(*elements, client), is_split=is_split)

        assert judged(walk.served, told) == (200, None)
        assert judged(walk.served, told) == (429, client)
        assert judged(walk.served, walk.lines(walk.behind(client))) == (429, client)
        assert judged(walk.served, walk.lines(walk.behind(victim))) == (200, None)

    @pytest.mark.parametrize("is_split", [False, True], ids=["in one line", "in a line each"])
    @pytest.mark.parametrize("behind", ["", "unknown", "_hidden", "localhost", "198.18.0.1.evil", "10.0.0.9"])
    def test_where_the_proxies_name_nobody_the_peer_counts(self, walk, behind, is_split):
        elements = walk.behind(unseen_address(), behind)

        assert judged(walk.served, walk.lines(elements, is_split=is_split)) == (429, PEER)

    @pytest.mark.parametrize("last", ["", "unknown", "_hidden", "localhost", "198.18.0.1.evil"])
    def test_where_the_last_proxy_names_nobody_nothing_further_left_is_believed(self, walk, last):
        assert judged(walk.served, walk.lines([unseen_address(), last])) == (429, PEER)
        assert judged(walk.served, walk.lines([unseen_address(), unseen_address(), last])) == (429, PEER)

    def test_a_chain_longer_than_the_declared_hops_is_not_walked_to_its_end(self, walk):
        client = unseen_address()

        assert judged(walk.served, walk.lines([client, *["10.0.0.2"] * walk.hops])) == (429, PEER)
        assert judged(walk.served, walk.lines([client, *["10.0.0.2"] * 20])) == (429, PEER)
        assert judged(walk.served, walk.lines(["10.0.0.2"] * walk.hops)) == (429, PEER)
        assert judged(walk.served, walk.lines(walk.behind(client))) == (200, None)

    def test_a_chain_shorter_than_the_declared_hops_ends_at_the_first_stranger(self, walk):
        client = unseen_address()

        assert judged(walk.served, walk.lines([unseen_address(), client])) == (200, None)
        assert judged(walk.served, walk.lines([unseen_address(), client])) == (429, client)

    def test_without_the_field_the_peer_counts(self, walk):
        assert judged(walk.served) == (429, PEER)

    def test_the_other_field_is_never_read(self, walk):
        client = unseen_address()
        told = walk.lines(walk.behind(client))
        invented = [(name, text.format(unseen_address())) for name, text in INVENTED if name != walk.field]

        assert judged(walk.served, [*invented, *told]) == (200, None)
        assert judged(walk.served, [*invented, *told]) == (429, client)
        assert judged(walk.served, [*told, *invented]) == (429, client)
        assert judged(walk.served, invented) == (429, PEER)

    def test_the_addresses_of_an_ipv6_network_are_one_client(self, walk):
        network = f"2001:db8:{walk.hops}:{len(walk.field)}"

        assert judged(walk.served, walk.lines(walk.behind(unseen_address(), f"{network}::1"))) == (200, None)
        for spelling in (f"{network}:f::", f"[{network}::2]", f"[{network}::3]:443"):
            told = walk.lines(walk.behind(unseen_address(), spelling))
            assert judged(walk.served, told)[0] == 429

    def test_a_handshake_is_counted_for_the_same_client(self, walk):
        client = unseen_address()
        told = walk.lines(walk.behind(unseen_address(), client))

        assert walk.served.handshake(told).status == 101
        assert walk.served.handshake(walk.lines(walk.behind(unseen_address(), client))).status == 429
        assert judged(walk.served, told) == (429, client)


@pytest.fixture(
    scope="module",
    params=[[], ["10.0.0.0/8", "unix"], [PEER]],
    ids=["nothing declared", "others declared", "its neighbour declared"],
)
def undeclared(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A service to which 127.0.0.2 is no proxy, and has spent its one request a day."""
    with protecting(make_board(), proxies=request.param, limits="1/day", without=["https"]) as served:
        assert ask_from("127.0.0.2", served) == 200
        yield served


def ask_from(source: str, served: Served, fields: Fields = ()) -> int:
    """Return the status of an answer to a peer of this address; all of 127.0.0.0/8 is loopback."""
    port = int(served.url.rpartition(":")[2])
    pairs = [*served.base, *fields, ("Connection", "close")]
    head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    with create_connection(("127.0.0.1", port), PATIENCE_SECONDS, (source, 0)) as connection:
        connection.sendall(f"GET /page HTTP/1.1\r\n{head}\r\n".encode())
        response = HTTPResponse(connection)
        response.begin()
        response.read()
        return response.status


@pytest.mark.requirement("RAT-05", by="live")
class TestWithoutADeclaredProxy:
    @pytest.mark.parametrize(("name", "text"), INVENTED)
    def test_the_peer_counts_whatever_it_invents(self, undeclared, name, text):
        undeclared.forget()
        statuses = [
            ask_from("127.0.0.2", undeclared, [(name, text.format(unseen_address()))]) for _ in range(2)
        ]

        assert statuses == [429, 429]
        assert {event["client"] for event in undeclared.events} == {"127.0.0.2"}
        assert undeclared.reached == []

    def test_another_peer_has_a_budget_of_its_own(self, undeclared):
        assert ask_from("127.0.0.3", undeclared) == 200
        assert ask_from("127.0.0.3", undeclared) == 429

    def test_nobody_spends_the_budget_of_the_address_that_he_names(self, undeclared):
        for _ in range(3):
            assert ask_from("127.0.0.2", undeclared, named_client("127.0.0.4")) == 429
        assert ask_from("127.0.0.4", undeclared) == 200


# Both kinds of rule keep networks in cells of their own making.
@pytest.fixture(scope="module", params=["2/day", Rate("2/day")], ids=["quota", "rate"])
def two_a_day(request: pytest.FixtureRequest) -> Iterator[Served]:
    with protecting(make_board(), proxies=[PEER], limits=request.param) as served:
        yield served


def admitted(served: Served, addresses: Sequence[str]) -> int:
    """Return how many requests got through, one from each address."""
    return sum(served.ask(fields=named_client(address)).status == 200 for address in addresses)


@pytest.mark.requirement("RAT-05", by="live")
class TestTheAddress:
    def test_of_ipv4_is_one_client_in_all_its_spellings(self, two_a_day):
        spellings = ["192.0.2.1", "192.0.2.1:4711", "::ffff:192.0.2.1", "::FFFF:c000:201"]
        spellings += ["[::ffff:192.0.2.1]:443", "0:0:0:0:0:ffff:192.0.2.1", " 192.0.2.1 "]

        assert admitted(two_a_day, spellings) == 2
        assert admitted(two_a_day, ["192.0.2.1"]) == 0

    def test_of_ipv4_shares_nothing_with_its_neighbours(self, two_a_day):
        neighbours = [f"192.0.3.{number}" for number in range(20)]

        assert admitted(two_a_day, neighbours * 3) == 40

    def test_of_ipv6_is_one_client_in_all_its_spellings(self, two_a_day):
        spellings = ["2001:db8:1::1", "2001:DB8:1::1", "2001:0db8:0001:0:0:0:0:1", "[2001:db8:1::1]"]
        spellings += ["[2001:db8:1::1]:443", "2001:db8:1::0.0.0.1"]

        assert admitted(two_a_day, spellings) == 2

    def test_of_ipv6_is_counted_with_all_of_its_64(self, two_a_day):
        interfaces = [f"2001:db8:2:0:{number:x}:{number * 257:x}::{number:x}" for number in range(1, 200)]

        assert admitted(two_a_day, interfaces) == 2
        assert admitted(two_a_day, ["2001:db8:2:0:ffff:ffff:ffff:ffff"]) == 0
        assert admitted(two_a_day, ["2001:db8:2:1::1"]) == 1

    def test_of_ipv6_is_counted_with_all_of_its_48_and_sixteen_times_the_budget(self, two_a_day):
        networks = [f"2001:db8:3:{number:x}::1" for number in range(40)]

        assert admitted(two_a_day, networks) == 32
        refused = two_a_day.ask(fields=named_client("2001:db8:3:ffff::1"))
        assert refused.status == 429
        assert refused.only("ratelimit-policy") == '"default-48";q=32;w=86400'
        assert admitted(two_a_day, ["2001:db8:4::1"]) == 1

    def test_of_ipv6_that_is_refused_takes_nothing_from_its_48(self, two_a_day):
        assert admitted(two_a_day, ["2001:db8:5::1"] * 60) == 2
        assert admitted(two_a_day, [f"2001:db8:5:{number:x}::1" for number in range(1, 31)]) == 30

    @pytest.mark.parametrize("zone", ["%eth0", "%25eth0"])
    def test_with_a_zone_is_none_so_the_peer_counts(self, two_a_day, zone):
        two_a_day.forget()
        admitted(two_a_day, [f"fe80::{number}{zone}" for number in range(1, 5)])

        assert two_a_day.ask().status == 429
        assert {event["client"] for event in two_a_day.events} == {PEER}
