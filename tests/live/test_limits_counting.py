"""Try to ask without being counted: by denials, spellings, methods and handshakes. And what really is free."""

from collections.abc import Callable, Iterator

import pytest

from attack import HTTPS, NAVIGATION, PLAIN, Answered, Fields, Served, named_client, protecting
from board import make_board
from thebes import Security

HOST = ("Host", "example.com")
NONE = ("Sec-Fetch-Site", "none")
EVIL = ("Origin", "https://evil.example")
PARTNER = ("Origin", "https://app.partner.example")
TOO_MUCH = b"a" * 2048

Ask = Callable[[Served, Fields], Answered]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The board where each client has three requests a day, and some routes differ."""

    def prepare(security: Security) -> None:
        security.route("GET /stream", limit=None)
        security.route("GET /assets/*", limit=None)
        security.route("GET /wide/*", limit="50/day")
        security.route("GET /moved", limit="1/day")
        security.route("DELETE /notes", limit="2/day")
        security.route("GET /empty", cost=2)

    settings = {"origins": [PARTNER[1]], "session_cookies": ["session"], "body_limit": "1KiB"}
    with protecting(make_board(), limits="3/day", prepare=prepare, **settings) as served:
        yield served


def left(served: Served, client: Fields) -> int:
    """Spend what a client has left of its three requests, and return how many it was."""
    statuses = [served.ask(fields=client).status for _ in range(4)]
    assert statuses == sorted(statuses)
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def in_chunks(served: Served, client: Fields) -> Answered:
    """Post a body of no declared length, in one chunk that is too much."""
    pairs = [*served.base, *client, NONE, ("Transfer-Encoding", "chunked"), ("Connection", "close")]
    head = "".join(f"{name}: {value!s}\r\n" for name, value in pairs)
    return served.send(f"POST /notes HTTP/1.1\r\n{head}\r\n800\r\n".encode() + TOO_MUCH + b"\r\n0\r\n\r\n")


def posting(*fields: tuple[str, str], body: bytes = b"a=1") -> Ask:
    """Return the way to post a body with these fields."""
    return lambda served, client: served.ask("POST", "/notes", [*client, *fields], body=body)


REFUSED: dict[str, tuple[int, Ask]] = {
    "a missing Host": (400, lambda served, client: served.ask(fields=client, base=[HTTPS])),
    "another Host": (421, lambda s, client: s.ask(fields=client, base=[("Host", "evil.example"), HTTPS])),
    "TRACE": (405, lambda served, client: served.ask("TRACE", "/notes", client)),
    "plain HTTP": (403, lambda served, client: served.ask(fields=client, base=[HOST, PLAIN])),
    "a redirect to https": (308, lambda s, client: s.ask(fields=[*client, *NAVIGATION], base=[HOST, PLAIN])),
    "too large a body": (413, posting(NONE, body=TOO_MUCH)),
    "too large a body in chunks": (413, in_chunks),
    "a coding": (415, posting(NONE, ("Content-Encoding", "br"))),
    "a broken coding": (415, posting(NONE, ("Content-Encoding", "gzip"))),
    "XML": (415, posting(NONE, ("Content-Type", "application/xml"))),
    "a forged origin": (403, posting(EVIL)),
    "no origin beside a session": (403, posting(("Cookie", "session=1"))),
    "a handshake of another site": (403, lambda served, client: served.handshake([*client, EVIL])),
    "a handshake for another Host": (
        421,
        lambda served, client: served.handshake(client, base=[("Host", "evil.example"), HTTPS]),
    ),
}
ANSWERED: dict[str, tuple[int, Ask]] = {
    "a page": (200, lambda served, client: served.ask("GET", "/page", client)),
    "a page by HEAD": (200, lambda served, client: served.ask("HEAD", "/page", client)),
    "a body": (200, posting(NONE)),
    "an unknown path": (404, lambda served, client: served.ask("GET", "/nowhere", client)),
    "a method that the route lacks": (405, lambda s, client: s.ask("DELETE", "/page", [*client, NONE])),
    "an error of the app's own": (418, lambda served, client: served.ask("GET", "/own-error", client)),
    "an app that fails": (500, lambda served, client: served.ask("GET", "/crash", client)),
    "a preflight": (
        204,
        lambda served, client: served.ask(
            "OPTIONS", "/notes", [*client, PARTNER, ("Access-Control-Request-Method", "PUT")]
        ),
    ),
    "a handshake": (101, lambda served, client: served.handshake(client)),
    "a handshake for an unknown path": (403, lambda s, client: s.handshake(client, target="/nowhere")),
    "a handshake for the health path": (403, lambda s, client: s.handshake(client, target="/healthz")),
    "another method of the health path": (
        200,
        lambda served, client: served.ask("POST", "/healthz", [*client, NONE]),
    ),
}


class TestWhatCounts:
    @pytest.mark.parametrize(("status", "ask"), ANSWERED.values(), ids=ANSWERED)
    def test_a_request_that_is_answered_counts_once(self, served, status, ask):
        client = named_client()

        assert [ask(served, client).status for _ in range(2)] == [status, status]
        assert left(served, client) == 1
        assert ask(served, client).status == 429

    @pytest.mark.parametrize(("status", "ask"), REFUSED.values(), ids=REFUSED)
    def test_a_request_that_another_check_refuses_counts_once(self, served, status, ask):
        client = named_client()

        assert [ask(served, client).status for _ in range(2)] == [status, status]
        assert left(served, client) == 1

    def test_a_flood_of_refusals_leaves_nothing_and_still_says_what_is_wrong(self, served):
        client = named_client()
        statuses = [posting(EVIL)(served, client).status for _ in range(10)]

        assert statuses == [403] * 10
        assert left(served, client) == 0

    def test_a_request_over_the_limit_costs_nothing_more(self, served):
        client = named_client()
        assert served.ask("GET", "/empty", client).status == 204

        assert [served.ask("GET", "/empty", client).status for _ in range(10)] == [429] * 10
        assert left(served, client) == 1


class TestWhatIsFree:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "target", ["/healthz", "/healthz?verbose", "/stream", "/stream?a=1", "/assets/a/b.js"]
    )
    def test_the_health_path_and_a_route_without_limit_cost_nothing(self, served, method, target):
        client = named_client()

        assert 429 not in {served.ask(method, target, client).status for _ in range(20)}
        assert left(served, client) == 3
        assert served.ask(method, target, client).status != 429

    @pytest.mark.parametrize("target", ["/stream", "/assets/a.js"])
    def test_what_another_check_refuses_there_costs_nothing_either(self, served, target):
        client = named_client()
        for _ in range(5):
            assert served.ask("GET", target, client, base=[("Host", "evil.example"), HTTPS]).status == 421

        assert left(served, client) == 3

    def test_a_health_check_that_another_check_refuses_costs_nothing(self, served):
        client = named_client()
        for _ in range(5):
            assert served.ask("GET", "/healthz", client, base=[HOST, PLAIN]).status == 403

        assert left(served, client) == 3

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("POST", "/stream"),
            ("OPTIONS", "/stream"),
            ("PROPFIND", "/stream"),
            ("GET", "/stream/"),
            ("GET", "//stream"),
            ("GET", "/./stream"),
            ("GET", "/page/../stream"),
            ("GET", "/stream%00"),
            ("GET", "/stream%2F"),
            ("GET", "/STREAM"),
            ("GET", "/page?/stream"),
            ("GET", "/assets"),
            ("GET", "/assetsx"),
            ("GET", "/ASSETS/a"),
            ("GET", "/assets%2Fa"),
            ("GET", "/assets//page"),
            ("GET", "/assets/../page"),
            ("GET", "/assets/%2e%2e/page"),
            ("GET", "/assets/..%2fpage"),
            ("GET", "/assets/..%5cpage"),
            ("GET", "/assets/%252e%252e/page"),
            ("GET", "/healthz/"),
            ("GET", "//healthz"),
            ("GET", "/healthz%00"),
            ("GET", "/healthz/../page"),
        ],
    )
    def test_no_other_request_passes_for_a_free_one(self, served, method, target):
        client = named_client()
        for _ in range(2):
            assert served.ask(method, target, [*client, NONE]).status != 429

        assert left(served, client) == 1
        assert served.ask(method, target, [*client, NONE]).status == 429

    def test_a_header_does_not_make_a_request_free(self, served):
        forged = [
            ("X-HTTP-Method-Override", "GET"),
            ("X-Original-URL", "/healthz"),
            ("X-Rewrite-URL", "/stream"),
        ]
        client = named_client()
        for _ in range(2):
            assert served.ask("GET", "/page", [*client, *forged]).status == 200

        assert left(served, client) == 1


class TestALimitOfItsOwn:
    def test_stands_in_place_of_the_app_s(self, served):
        client = named_client()

        assert [served.ask("GET", "/moved", client).status for _ in range(3)] == [307, 429, 429]
        assert left(served, client) == 3
        refused = served.ask("GET", "/moved", client)
        assert refused.only("ratelimit-policy") == '"get-moved";q=1;w=86400'
        assert b"get-moved" in refused.body

    def test_counts_head_and_a_handshake_as_get(self, served):
        one, other = named_client(), named_client()

        # The board has neither at this path, and says so.
        assert served.ask("HEAD", "/moved", one).status == 405
        assert served.handshake(other, target="/moved").status == 403
        for client in (one, other):
            assert served.ask("GET", "/moved", client).status == 429
            assert served.ask("HEAD", "/moved", client).status == 429
            assert served.handshake(client, target="/moved").status == 429

    def test_counts_for_no_other_method(self, served):
        client = named_client()

        assert served.ask("POST", "/moved", [*client, NONE]).status == 405
        assert served.ask("GET", "/moved", client).status == 307
        assert left(served, client) == 2

    def test_counts_an_encoded_spelling_of_the_same_path(self, served):
        client = named_client()

        assert served.ask("GET", "/%6d%6Fved", client).status == 307
        assert served.ask("GET", "/moved", client).status == 429

    @pytest.mark.parametrize(
        "target",
        [
            "//moved",
            "/./moved",
            "/page/../moved",
            "/moved/.",
            "/moved%00",
            "/%2Fmoved",
            "/moved%2F",
            "/page/..%5cmoved",
            "/%256doved",
            "/page/%2e%2e%252fmoved",
        ],
    )
    def test_counts_every_spelling_that_another_reader_could_take_for_it(self, served, target):
        client = named_client()

        assert served.ask("GET", target, client).status != 429
        assert served.ask("GET", target, client).status == 429
        assert served.ask("GET", "/moved", client).status == 429
        # The first counted under the app's limit too, the refused ones under none.
        assert left(served, client) == 2

    def test_is_charged_for_what_another_check_refuses(self, served):
        client = named_client()

        assert served.ask("DELETE", "/notes", [*client, EVIL]).status == 403
        assert served.ask("DELETE", "/notes", [*client, NONE]).status == 200
        assert served.ask("DELETE", "/notes", [*client, NONE]).status == 429
        assert left(served, client) == 3

    def test_may_be_wider_and_count_all_paths_below_one(self, served):
        client = named_client()
        statuses = [served.ask("GET", f"/wide/{number}", client).status for number in range(51)]

        assert statuses == [404] * 50 + [429]
        assert left(served, client) == 3

    @pytest.mark.parametrize(
        "target",
        ["/wide//a", "/wide/./a", "/wide/../page", "/wide/%2e%2e/page", "/wide/a%2Fb", "/wide/a%25b"],
    )
    def test_that_is_wider_is_not_for_a_path_that_can_be_read_in_two_ways(self, served, target):
        client = named_client()
        statuses = [served.ask("GET", target, client).status for _ in range(4)]

        assert statuses[:3].count(429) == 0
        assert statuses[3] == 429
        assert left(served, client) == 0


class TestACost:
    def test_counts_a_request_so_many_times(self, served):
        client = named_client()

        assert served.ask("GET", "/empty", client).status == 204
        assert left(served, client) == 1

    def test_that_is_more_than_what_is_left_is_refused_and_told(self, served):
        client = named_client()
        assert [served.ask("GET", path, client).status for path in ("/page", "/page")] == [200, 200]

        refused = served.ask("GET", "/empty", client)
        assert refused.status == 429
        assert refused.only("ratelimit").startswith('"default";r=1;t=')
        assert left(served, client) == 1
