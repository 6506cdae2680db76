"""The pass with checks and rules made by hand: order, denials, rules on every answer, nothing mutated."""

import copy
import json
from types import MappingProxyType

import pytest

from calling import call, fields_of, http_scope
from thebes.asgi import SecurityMiddleware
from thebes.facts import Answer, Denial

TEAPOT = Denial(418, "teapot", "Short and stout", "Use a kettle.", headers=((b"retry-after", b"9"),))


class Names:
    """A check that refuses paths by name, and writes down that it was asked."""

    def __init__(self, refused, reply=TEAPOT, name="names", asked=None):
        self.name = name
        self._refused = refused
        self._reply = reply
        self._asked = [] if asked is None else asked

    def __call__(self, facts):
        self._asked.append(self.name)
        return self._reply if facts.path == self._refused else None


class Stamp:
    """A rule that puts one field on every answer."""

    def __init__(self, name=b"x-stamp"):
        self.name = "stamp"
        self._field = name
        self.seen = []

    def __call__(self, facts, headers):
        self.seen.append(dict(headers))
        headers.append((self._field, b"%d" % len(self.seen)))


class Backend:
    """An app that says what it was told to, and remembers what it was called with."""

    def __init__(self, headers=(), body=b"ok"):
        self.headers = headers
        self.body = body
        self.scopes = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class TestOneCheckIsTheMiddlewareOfThatPractice:
    async def test_what_it_refuses_never_reaches_the_app(self):
        backend = Backend()

        sent = await call(SecurityMiddleware(backend, [Names("/tea")]), http_scope("/tea"))

        assert backend.scopes == []
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert sent[0]["status"] == 418
        problem = json.loads(sent[1]["body"])
        assert problem["type"] == "urn:thebes:problem:teapot"
        assert (problem["title"], problem["detail"]) == ("Short and stout", "Use a kettle.")
        assert fields_of(sent)[b"retry-after"] == b"9"
        assert fields_of(sent)[b"content-length"] == b"%d" % len(sent[1]["body"])

    async def test_what_it_lets_through_reaches_the_app(self):
        sent = await call(SecurityMiddleware(Backend(), [Names("/tea")]), http_scope("/coffee"))

        assert (sent[0]["status"], sent[1]["body"]) == (200, b"ok")

    async def test_without_any_check_the_app_answers_as_it_is(self):
        headers = [(b"x-own", b"1")]

        sent = await call(SecurityMiddleware(Backend(headers)), http_scope())

        assert sent[0]["headers"] == headers

    async def test_an_answer_that_refuses_nothing_is_sent_in_place_of_the_apps(self):
        backend = Backend()
        answer = Answer(204, ((b"x-preflight", b"1"),))

        sent = await call(SecurityMiddleware(backend, [Names("/tea", answer)]), http_scope("/tea"))

        assert (sent[0]["status"], sent[1]["body"], backend.scopes) == (204, b"", [])
        assert fields_of(sent)[b"x-preflight"] == b"1"
        assert b"content-length" not in fields_of(sent)


class TestOrder:
    async def test_the_first_check_that_answers_wins_and_the_rest_is_not_asked(self):
        asked = []
        denials = [Denial(400 + number, f"number-{number}", "No", "") for number in range(3)]
        paths = ("/other", "/tea", "/tea")
        checks = [Names(paths[n], denials[n], f"check {n}", asked) for n in range(3)]

        sent = await call(SecurityMiddleware(Backend(), checks), http_scope("/tea"))

        assert sent[0]["status"] == 401
        assert asked == ["check 0", "check 1"]

    async def test_rules_are_applied_in_their_order(self):
        rules = [Stamp(b"x-first"), Stamp(b"x-second")]

        sent = await call(SecurityMiddleware(Backend(), rules=rules), http_scope())

        assert [name for name, _ in sent[0]["headers"]] == [b"x-first", b"x-second"]


class TestRules:
    async def test_they_are_applied_once_to_the_apps_answer(self):
        rule = Stamp()

        sent = await call(SecurityMiddleware(Backend(), rules=[rule]), http_scope())

        assert (fields_of(sent)[b"x-stamp"], len(rule.seen)) == (b"1", 1)

    async def test_they_are_applied_to_denials(self):
        sent = await call(SecurityMiddleware(Backend(), [Names("/tea")], [Stamp()]), http_scope("/tea"))

        assert (sent[0]["status"], fields_of(sent)[b"x-stamp"]) == (418, b"1")

    async def test_they_are_applied_to_our_answer_for_an_exception(self):
        async def broken(scope, receive, send):
            raise RuntimeError("secret detail")

        sent = []

        async def send(message):
            sent.append(message)

        with pytest.raises(RuntimeError, match="secret detail"):
            await SecurityMiddleware(broken, rules=[Stamp()])(http_scope(), None, send)

        assert (sent[0]["status"], fields_of(sent)[b"x-stamp"]) == (500, b"1")
        assert b"secret" not in sent[1]["body"]

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([(b"content-type", b"text/html"), (b"x-own", b"1")], id="list of tuples"),
            pytest.param(((b"content-type", b"text/html"), (b"x-own", b"1")), id="tuple of tuples"),
            pytest.param([[b"content-type", b"text/html"], [b"x-own", b"1"]], id="list of lists"),
        ],
    )
    async def test_they_see_the_fields_however_the_app_packs_them(self, headers):
        rule = Stamp()

        sent = await call(SecurityMiddleware(Backend(headers), rules=[rule]), http_scope())

        assert rule.seen[0] == {b"content-type": b"text/html", b"x-own": b"1"}
        assert [tuple(field) for field in sent[0]["headers"]] == [
            (b"content-type", b"text/html"),
            (b"x-own", b"1"),
            (b"x-stamp", b"1"),
        ]

    async def test_an_iterator_of_fields_is_read_once_and_sent_whole(self):
        fields = iter([(b"content-type", b"text/html")])

        sent = await call(SecurityMiddleware(Backend(fields), rules=[Stamp()]), http_scope())

        assert sent[0]["headers"] == [(b"content-type", b"text/html"), (b"x-stamp", b"1")]

    async def test_an_answer_without_the_key_for_fields_gets_the_rules(self):
        async def bare(scope, receive, send):
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

        sent = await call(SecurityMiddleware(bare, rules=[Stamp()]), http_scope())

        assert sent[0]["headers"] == [(b"x-stamp", b"1")]

    async def test_the_apps_own_message_and_list_stay_as_they_were(self):
        headers = [(b"x-own", b"1")]
        message = {"type": "http.response.start", "status": 200, "headers": headers}

        async def app(scope, receive, send):
            await send(message)
            await send({"type": "http.response.body"})

        sent = await call(SecurityMiddleware(app, rules=[Stamp()]), http_scope())

        assert len(sent[0]["headers"]) == 2
        assert headers == [(b"x-own", b"1")]
        assert message["headers"] is headers

    @pytest.mark.parametrize("spelling", [str.lower, str.title, str.upper])
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
            ("referrer-policy", b"origin"),
        ],
    )
    async def test_a_field_that_the_app_sets_wins_in_any_case_of_letters(self, name, value, spelling):
        from thebes import Security

        headers = [(b"content-type", b"text/html"), (spelling(name).encode(), value)]

        sent = await call(Security().wrap(Backend(headers)), http_scope())

        assert [known for field, known in sent[0]["headers"] if field.lower() == name.encode()] == [value]


class TestNothingOfTheServerIsChanged:
    async def test_scope_and_fields_are_the_same_afterwards(self):
        from thebes import Security

        scope = http_scope(
            "/notes", "POST", [(b"content-length", b"2"), (b"cookie", b"a=1")], state={"keeper": 1}
        )
        before = copy.deepcopy(scope)
        headers, backend = scope["headers"], Backend([(b"content-type", b"text/html")])

        await call(Security().wrap(backend), scope, b"hi")

        assert scope == before
        assert scope["headers"] is headers
        assert len(backend.scopes) == 1

    async def test_a_scope_that_cannot_be_changed_is_served(self):
        backend = Backend()

        await call(SecurityMiddleware(backend, [Names("/tea")]), MappingProxyType(http_scope("/coffee")))

        assert len(backend.scopes) == 1

    async def test_the_app_gets_all_that_the_server_gave_in_a_scope_of_its_own(self):
        scope = http_scope("/x", state={"keeper": 1}, extensions={"http.response.pathsend": {}})
        backend = Backend()

        await call(SecurityMiddleware(backend), scope)

        (given,) = backend.scopes
        assert given is not scope
        assert {key: value for key, value in given.items() if key != "thebes"} == scope
        assert given["state"] is scope["state"]


class TestHead:
    async def test_a_denial_of_head_has_the_length_and_no_body(self):
        middleware = SecurityMiddleware(Backend(), [Names("/tea")])

        get = await call(middleware, http_scope("/tea"))
        head = await call(middleware, http_scope("/tea", "HEAD"))

        assert head[1]["body"] == b""
        assert int(fields_of(head)[b"content-length"]) == len(get[1]["body"])
