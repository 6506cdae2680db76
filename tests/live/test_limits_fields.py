"""Read what a refusal tells: fields that parse strictly and agree, and nothing about who was counted."""

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from attack import Answered, Fields, Served, named_client, protecting
from board import make_board
from structured_fields import parse_list
from thebes import Quota, Rate, Security

NONE = ("Sec-Fetch-Site", "none")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The board under rules of every kind."""

    def prepare(security: Security) -> None:
        security.route("GET /notes", limit="3/minute")
        security.route("POST /notes", limit=[Quota("2/minute"), Quota("2/hour", name="hourly")])
        security.route("PUT /notes", limit=[Rate("60/minute", burst=4), Quota("100/day")], cost=3)
        security.route("GET /stream", limit=Rate("1/7 days", burst=3, name="Odd._name-1"))
        security.route("GET /empty", limit="2/second")

    with protecting(make_board(), limits=Rate("100/day", burst=2), prepare=prepare) as served:
        yield served


def refusal(served: Served, method: str, target: str, clients: list[Fields]) -> Answered:
    """Flood a route in the name of these clients, in turn, until one is refused."""
    for _ in range(1000):
        for client in clients:
            answer = served.ask(method, target, [*client, NONE])
            if answer.status == 429:
                return answer
    raise AssertionError("nobody was refused")


NETWORK = [f"2001:db8:5:{number:x}::1" for number in range(16 * 3 + 1)]
FLOODS = {
    "a rate": ("GET", "/page", ["192.0.2.1"], ["default"]),
    "a rate, by IPv6": ("GET", "/page", ["2001:db8:1::1"], ["default"]),
    "a rate, by a whole IPv6 network": ("GET", "/page", NETWORK, ["default-48"]),
    "a quota": ("GET", "/notes", ["192.0.2.1"], ["get-notes"]),
    "a quota, by a whole IPv6 network": ("GET", "/notes", NETWORK, ["get-notes-48"]),
    "two rules at once": ("POST", "/notes", ["192.0.2.1"], ["post-notes", "hourly"]),
    "a cost beyond what is left": ("PUT", "/notes", ["192.0.2.1"], ["put-notes"]),
    "a long period and an odd name": ("GET", "/stream", ["192.0.2.1"], ["Odd._name-1"]),
}


@pytest.mark.requirement("RAT-03", by="live")
class TestTheFields:
    @pytest.mark.parametrize(("method", "target", "addresses", "names"), FLOODS.values(), ids=FLOODS)
    def test_of_a_refusal_parse_strictly_and_agree(self, served, method, target, addresses, names):
        answer = refusal(served, method, target, [named_client(address) for address in addresses])

        assert_agree(answer, names)

    def test_of_a_refused_handshake_are_the_same(self, served):
        client = named_client()
        statuses = [served.handshake(client).status for _ in range(2)]
        answer = served.handshake(client)

        assert statuses == [101, 101]
        assert_agree(answer, ["default"])

    def test_keep_their_word_the_same_request_is_admitted_after_retry_after(self, served):
        client = named_client()
        answer = refusal(served, "GET", "/empty", [client])
        assert_agree(answer, ["get-empty"])

        time.sleep(int(answer.only("retry-after")))  # what a client does that believes it
        assert served.ask("GET", "/empty", client).status == 204

    def test_stand_on_refusals_only_and_never_by_older_names(self, served):
        client = named_client()
        admitted = served.ask("GET", "/notes", client)
        refused = refusal(served, "GET", "/notes", [client])

        assert {name for name in names_of(admitted) if "limit" in name or name == "retry-after"} == set()
        assert {name for name in names_of(refused) if "limit" in name} == {"ratelimit", "ratelimit-policy"}


def names_of(answer: Answered) -> set[str]:
    """Return the names of all fields, in lower case."""
    return {name.lower() for name, _ in answer.fields}


def assert_agree(answer: Answered, names: list[str]) -> None:
    """The three fields of a refusal say the same, of exactly these policies."""
    policies, services = parse_list(answer.only("ratelimit-policy")), parse_list(answer.only("ratelimit"))
    retry_after = answer.only("retry-after")

    assert re.fullmatch("[1-9][0-9]*", retry_after)
    assert [name for name, _ in policies] == names
    assert [name for name, _ in services] == names
    for (_, policy), (_, service) in zip(policies, services, strict=True):
        assert set(policy) == {"q", "w"}
        assert set(service) == {"r", "t"}
        assert policy["w"] >= 1
        assert 0 <= service["r"] <= policy["q"]
        assert 1 <= service["t"] <= min(int(retry_after), policy["w"])


ADDRESSES = ["203.0.113.77", "::ffff:203.0.113.78", "2001:db8:77:78::79", "fd00:77::78"]


class TestWhoWasCounted:
    @pytest.mark.parametrize("address", ADDRESSES)
    def test_is_told_by_no_field_and_no_word(self, served, address):
        answer = refusal(served, "GET", "/notes", [named_client(address)])

        text = " ".join(
            [*(f"{name}: {value}" for name, value in answer.fields), answer.body.decode()]
        ).lower()
        for spelling in spellings(address):
            assert spelling.lower() not in text
        assert all(
            set(parameters) <= {"q", "w"} for _, parameters in parse_list(answer.only("ratelimit-policy"))
        )

    def test_makes_no_difference_to_what_is_told(self, served):
        # Two clients of other networks, even of other kinds, read the same: there is no key, not even a digest.
        told = [
            constant(refusal(served, "GET", "/stream", [named_client(address)]))
            for address in ("203.0.113.99", "203.0.114.1", "2001:db8:9::9", "fd00:9::9")
        ]

        assert all(answer == told[0] for answer in told)


def constant(answer: Answered) -> list[str]:
    """Return what is left of an answer without the date, the identifier of the request, and the wait."""
    lines = [f"{name}: {value}" for name, value in answer.fields if name.lower() != "date"]
    body = re.sub(r'"request_id": "[^"]+"', "", answer.body.decode())
    return [re.sub(r"(retry-after: |t=|again in )[0-9]+", r"\1", line) for line in [*lines, body]]


def spellings(address: str) -> Iterator[str]:
    """Yield an address as text, in hexadecimal, in base64 and as an unkeyed digest that anybody could try."""
    found = ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    for one in filter(None, (found, mapped)):
        for raw in (one.packed, one.packed[:8], str(one).encode()):
            yield raw.hex()
            yield base64.b64encode(raw).decode().rstrip("=")
            yield hashlib.sha256(raw).hexdigest()[:16]
        yield one.compressed
        yield one.exploded
