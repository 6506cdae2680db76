"""What is known of a request, and that no answer of ours can be split or mismeasured."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thebes
from asking import ask, request_facts
from package import denials
from thebes import ConfigurationError, Security
from thebes.answers import render
from thebes.asgi import SecurityMiddleware
from thebes.facts import Answer, Denial, Mode, RequestFacts, Surroundings, facts_of, safe_fields
from thebes.paths import RoutePattern

NAVIGATE = {"Sec-Fetch-Mode": "navigate"}


class TestNavigations:
    @pytest.mark.parametrize(
        ("method", "headers", "expected"),
        [
            pytest.param("GET", NAVIGATE, True, id="a browser opens a page"),
            pytest.param("HEAD", NAVIGATE, True, id="HEAD of a page"),
            pytest.param("POST", NAVIGATE, False, id="a form is sent"),
            pytest.param("OPTIONS", NAVIGATE, False, id="a preflight"),
            pytest.param("get", NAVIGATE, False, id="a method in lower case is another method"),
            pytest.param("GET", {"Sec-Fetch-Mode": "cors"}, False, id="fetch"),
            pytest.param("GET", {"Sec-Fetch-Mode": "no-cors"}, False, id="an image"),
            pytest.param("GET", {"Sec-Fetch-Mode": "websocket"}, False, id="mode websocket"),
            pytest.param("GET", {"Sec-Fetch-Mode": ""}, False, id="empty mode"),
            pytest.param("GET", {"Sec-Fetch-Mode": "Navigate"}, False, id="mode in another case"),
            pytest.param("GET", [("Sec-Fetch-Mode", "navigate")] * 2, False, id="doubled mode"),
            pytest.param(
                "GET", {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, False, id="fetch for HTML"
            ),
            pytest.param("GET", NAVIGATE | {"Accept": "application/json"}, True, id="the mode counts first"),
            pytest.param("GET", {"Accept": "text/html,*/*;q=0.8"}, True, id="an old browser"),
            pytest.param("HEAD", {"Accept": "text/html"}, True, id="HEAD by an old browser"),
            pytest.param("GET", {"Accept": "TEXT/HTML"}, True, id="media types in any case"),
            pytest.param(
                "GET", [("Accept", "image/png"), ("Accept", "text/html")], True, id="in a second line"
            ),
            pytest.param("GET", {"Accept": "*/*"}, False, id="curl"),
            pytest.param("GET", {"Accept": "application/json"}, False, id="an API client"),
            pytest.param("GET", {}, False, id="no field at all"),
            pytest.param("POST", {"Accept": "text/html"}, False, id="a form by an old browser"),
            pytest.param("GET", NAVIGATE | {"Authorization": "Bearer x"}, False, id="with a token"),
            pytest.param(
                "GET", {"Accept": "text/html", "Authorization": "Basic x"}, False, id="with a password"
            ),
            pytest.param(
                "GET", {"Accept": "text/html", "Authorization": ""}, False, id="empty Authorization"
            ),
        ],
    )
    def test_a_navigation_is_what_a_person_will_see(self, method: str, headers: Any, expected: bool):
        assert request_facts(method, "/", headers).is_navigation is expected

    def test_a_websocket_handshake_is_none(self):
        assert not request_facts(headers=NAVIGATE, type="websocket").is_navigation


class TestHealth:
    @pytest.mark.parametrize(
        ("declared", "method", "path", "expected"),
        [
            ("GET /healthz", "GET", "/healthz", True),
            ("GET /healthz", "HEAD", "/healthz", True),
            ("GET /healthz", "POST", "/healthz", False),
            ("GET /healthz", "OPTIONS", "/healthz", False),
            ("GET /healthz", "get", "/healthz", False),
            ("POST /healthz", "POST", "/healthz", True),
            ("POST /healthz", "HEAD", "/healthz", False),
            ("POST /healthz", "GET", "/healthz", False),
            ("GET /healthz", "GET", "/healthz/", False),
            ("GET /healthz", "GET", "/HEALTHZ", False),
            ("GET /healthz", "GET", "//healthz", False),
            ("GET /healthz", "GET", "/x/../healthz", False),
            ("GET /healthz", "GET", "/healthz/x", False),
            ("GET /healthz", "GET", "/", False),
            (None, "GET", "/healthz", False),
        ],
    )
    def test_it_is_one_path_by_its_own_method(
        self, declared: str | None, method: str, path: str, expected: bool
    ):
        health = RoutePattern.parse(declared) if declared else None

        assert request_facts(method, path, surroundings=Surroundings(health=health)).is_health is expected

    def test_a_websocket_handshake_is_none(self):
        surroundings = Surroundings(health=RoutePattern.parse("GET /healthz"))

        assert not request_facts("GET", "/healthz", surroundings=surroundings, type="websocket").is_health

    def test_root_path_stands_in_front_of_it(self):
        surroundings = Surroundings(health=RoutePattern.parse("GET /healthz"))

        assert request_facts("GET", "/api/healthz", surroundings=surroundings, root_path="/api").is_health
        assert not request_facts("GET", "/api/healthz", surroundings=surroundings).is_health


class TestHeaders:
    def test_a_doubled_field_is_joined_with_a_comma_and_a_cookie_with_a_semicolon(self):
        lines = [("Origin", "https://a.example"), ("Cookie", "a=1"), ("X", "1"), ("Origin", "null")]
        facts = request_facts(headers=[*lines, ("Cookie", "b=2"), ("Cookie", "c=3"), ("Origin", "")])

        assert facts.headers[b"origin"] == b"https://a.example, null, "
        assert facts.headers[b"cookie"] == b"a=1; b=2; c=3"
        assert facts.headers[b"x"] == b"1"

    @given(st.lists(st.tuples(st.sampled_from(["a", "b", "cookie"]), st.text("xyz", max_size=3)), max_size=8))
    def test_no_line_is_lost_and_their_order_is_kept(self, lines: list[tuple[str, str]]):
        facts = request_facts(headers=[("host", "localhost"), *lines])

        for name in ("a", "b", "cookie"):
            values = [value for known, value in lines if known == name]
            joined = ("; " if name == "cookie" else ", ").join(values)
            assert facts.headers.get(name.encode()) == (joined.encode() if values else None)

    @pytest.mark.parametrize(
        ("headers", "http_version", "expected"),
        [
            ({}, "1.1", False),
            ({}, "1.0", False),
            ({"Content-Length": "0"}, "1.1", True),
            ({"Transfer-Encoding": "chunked"}, "1.1", True),
            ({}, "2", True),
            ({}, "3", True),
        ],
    )
    def test_a_message_may_have_a_body_where_its_framing_allows_one(
        self, headers: dict[str, str], http_version: str, expected: bool
    ):
        assert request_facts("GET", "/", headers, http_version=http_version).may_have_body is expected

    def test_a_handshake_counts_as_get(self):
        facts = request_facts("POST", "/", type="websocket")

        assert (facts.method, facts.is_websocket) == ("GET", True)

    def test_ids_are_made_once_for_each_request(self):
        first, second = request_facts(), request_facts()

        assert first.nonce == first.nonce
        assert first.request_id == first.request_id
        assert len({first.nonce, first.request_id, second.nonce, second.request_id}) == 4

    def test_facts_of_an_app_that_is_not_protected_are_an_error(self):
        with pytest.raises(ConfigurationError, match="not protected"):
            facts_of({"type": "http"})
        with pytest.raises(ConfigurationError, match="not protected"):
            thebes.csp_nonce({"thebes": True})


class TestModes:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({}, Mode.PRODUCTION),
            ({"THEBES_ENV": ""}, Mode.PRODUCTION),
            ({"THEBES_ENV": "production"}, Mode.PRODUCTION),
            ({"THEBES_ENV": "development"}, Mode.DEVELOPMENT),
            ({"THEBES_ENV": "test"}, Mode.TEST),
            ({"ENV": "test", "DEBUG": "1", "PYTEST_CURRENT_TEST": "x"}, Mode.PRODUCTION),
        ],
    )
    def test_production_is_what_nobody_has_to_ask_for(self, environ: dict[str, str], expected: Mode):
        assert Mode.of(environ) is expected

    @pytest.mark.parametrize("asked", ["dev", "Test", "PRODUCTION", " test", "test ", "staging", "0"])
    def test_another_word_is_refused_and_named(self, asked: str):
        with pytest.raises(ConfigurationError, match="production, development, test"):
            Mode.of({"THEBES_ENV": asked})


SPLITTING = [b"a\r\nSet-Cookie: x=1", b"a\rb", b"a\nb", b"a\0b", b"\n", b"\0", b"a\r"]


@pytest.mark.requirement("HTTP-15")
class TestResponseFields:
    @pytest.mark.parametrize("text", SPLITTING)
    @pytest.mark.parametrize("is_name", [True, False], ids=["name", "value"])
    def test_a_reply_refuses_carriage_return_line_feed_and_nul(self, text: bytes, is_name: bool):
        field = (text, b"a") if is_name else (b"location", text)

        with pytest.raises(ValueError, match="CR, LF or NUL"):
            Denial(403, "kind", "title", "detail", headers=((b"vary", b"origin"), field))
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            Answer(204, headers=(field,))

    def test_names_are_lower_case(self):
        with pytest.raises(ValueError, match="lower case"):
            Answer(204, headers=((b"Location", b"/"),))

    @given(st.binary(max_size=20), st.binary(max_size=20))
    def test_no_bytes_pass_that_could_split_a_response(self, name: bytes, value: bytes):
        try:
            passed = safe_fields(((name, value),))
        except ValueError:
            assert set(b"\r\n\0") & set(name + value) or name != name.lower()
            return
        assert passed == ((name, value),)
        assert not set(b"\r\n\0") & set(name + value)

    @pytest.mark.parametrize("text", [text.decode() for text in SPLITTING])
    def test_a_redirect_of_ours_carries_nothing_that_splits(self, text: str):
        from thebes.https.scheme import HttpsOnly

        check = HttpsOnly(["example.com"])
        path = f"/{text}"
        for scope in ({"raw_path": path.encode()}, {"raw_path": None}, {"query_string": text.encode()}):
            reply = check(request_facts("GET", path, NAVIGATE, client=("1.1.1.1", 1), **scope))
            assert isinstance(reply, Answer)
            name, value = reply.headers[0]
            assert name == b"location"
            assert not set(b"\r\n\0") & set(value)

    def test_a_preflight_of_ours_repeats_nothing_that_splits(self):
        from thebes.https.origins import CrossOrigins

        check = CrossOrigins(["https://app.example.com"])
        fields = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "PUT"}
        for text in SPLITTING:
            asked = fields | {"Access-Control-Request-Headers": text.decode()}
            reply = check(request_facts("OPTIONS", "/", asked))
            assert isinstance(reply, Answer)
            assert b"access-control-allow-headers" not in dict(reply.headers)


def replies() -> list[Any]:
    """Return every reply of the package that is a constant, and answers as the checks build them."""
    answers = [Answer(204), Answer(304), Answer(308, ((b"location", b"https://example.com/"),))]
    umlauts = Denial(422, "umlauts", "Größe <b>ändern</b>", "Übergröße \U0001f512 & mehr")
    return [
        *(pytest.param(denial, id=name) for name, denial in denials().items()),
        *(pytest.param(answer, id=f"answer {answer.status}") for answer in answers),
        pytest.param(umlauts, id="text beyond ASCII"),
    ]


@pytest.mark.requirement("HTTP-15")
class TestContentLength:
    @pytest.mark.parametrize("reply", replies())
    @pytest.mark.parametrize(
        "facts",
        [None, request_facts(), request_facts(headers=NAVIGATE), request_facts("POST", "/", NAVIGATE)],
        ids=["nothing known", "a program", "a page", "a form"],
    )
    def test_it_is_that_of_the_body_in_every_rendered_reply(self, reply: Any, facts: RequestFacts | None):
        rendered = render(reply, facts)

        lengths = [value for name, value in rendered.headers if name == b"content-length"]
        if rendered.status in (204, 304):
            assert (lengths, rendered.body) == ([], b"")
        else:
            assert lengths == [b"%d" % len(rendered.body)]

    @pytest.mark.parametrize("reply", replies())
    @pytest.mark.parametrize("headers", [{}, NAVIGATE], ids=["a program", "a page"])
    async def test_it_is_that_of_the_bytes_sent_and_head_gets_none(self, reply: Any, headers: dict[str, str]):
        class Refusing:
            name = "refusing"
            indifferent_to: frozenset[str] = frozenset()

            def __call__(self, facts: RequestFacts) -> Any:
                return reply

        app = SecurityMiddleware(nothing, [Refusing()])

        got = await ask(app, request_facts("GET", "/", headers))
        head = await ask(app, request_facts("HEAD", "/", headers))

        expected = None if got.status in (204, 304) else b"%d" % len(got.body)
        assert got.header(b"content-length") == expected
        assert head.header(b"content-length") == expected
        assert (head.status, head.body) == (got.status, b"")

    async def test_an_answer_that_has_begun_gets_no_second_one_inside_it(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
            while (await receive())["type"] == "http.request":
                pass
            await send({"type": "http.response.body", "body": b"cd"})

        guarded = Security(body_limit=3).wrap(app)
        facts = request_facts("POST", "/", {"Transfer-Encoding": "chunked"})

        answer = await ask(guarded, facts, b"too long")

        # Cut short: the server closes the connection, and nothing of ours stands in the app's body.
        assert (answer.status, answer.header(b"content-length"), answer.body) == (200, b"4", b"ab")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the request should have been answered by the check")
