"""The pass in the middle of things: refused bodies, plans that cannot be made yet, and what is recorded."""

import json

import pytest

from calling import call, http_scope
from thebes import ConfigurationError, Events
from thebes.asgi import Plan, SecurityMiddleware
from thebes.facts import Answer, Denial

TEAPOT = Denial(418, "teapot", "Short and stout", "Use a kettle.")


class Refusing:
    """A check that refuses everything."""

    name = "refusing"

    def __init__(self, reply):
        self._reply = reply

    def __call__(self, facts):
        return self._reply


async def answers_ok(scope, receive, send):
    """An app."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class Weighing:
    """A guard that refuses when more than `limit` bytes came."""

    name = "weighing"

    def __init__(self, limit):
        self._limit = limit

    def __call__(self, facts):
        return None

    def guard(self, facts, receive, refuse):
        weight = 0

        async def weighed():
            nonlocal weight
            message = await receive()
            weight += len(message.get("body", b""))
            if weight > self._limit:
                await refuse(TEAPOT)
                return {"type": "http.disconnect"}
            return message

        return weighed


class TestRefusalsInTheMiddle:
    async def read_all(self, receive):
        chunks = []
        while (message := await receive())["type"] == "http.request":
            chunks.append(message["body"])
            if not message["more_body"]:
                break
        return chunks

    async def test_what_the_app_sends_after_a_refusal_is_dropped(self):
        seen = []

        async def app(scope, receive, send):
            seen.extend(await self.read_all(receive))
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})

        scope = http_scope(method="POST", headers=[(b"transfer-encoding", b"chunked")])
        sent = await call(SecurityMiddleware(app, [Weighing(5)]), scope, b"123", b"456", b"789")

        assert seen == [b"123"]
        assert [message.get("status") for message in sent] == [418, None]
        assert b"teapot" in sent[1]["body"]

    async def test_an_answer_that_has_begun_is_not_begun_again_and_its_rest_is_dropped(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self.read_all(receive)
            await send({"type": "http.response.body", "body": b"rest"})

        scope = http_scope(method="POST", headers=[(b"transfer-encoding", b"chunked")])
        sent = await call(SecurityMiddleware(app, [Weighing(5)]), scope, b"123", b"456")

        # The server sees an answer without an end, and cuts the connection.
        assert [message["type"] for message in sent] == ["http.response.start"]

    async def test_an_app_that_raises_since_its_body_was_refused_has_raised_for_nobody(self):
        """Frameworks raise when a client goes away; here it was we who refused, and answered."""

        async def app(scope, receive, send):
            if len(await self.read_all(receive)) < 2:
                raise ConnectionError("the client disconnected")

        lines = []
        events = Events(lambda _severity, line: lines.append(json.loads(line)["event"]))
        scope = http_scope(method="POST", headers=[(b"transfer-encoding", b"chunked")])
        plan = Plan([Weighing(5)], events=events)

        sent = await call(SecurityMiddleware(app, plan=lambda: plan), scope, b"123", b"456")

        assert [message.get("status") for message in sent] == [418, None]
        assert lines == ["request_denied"]

    async def test_guards_are_not_asked_where_no_body_can_come(self):
        received = []

        async def app(scope, receive, send):
            received.append(await receive())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        await call(SecurityMiddleware(app, [Weighing(0)]), http_scope(), b"")

        assert received == [{"type": "http.request", "body": b"", "more_body": False}]


class TestPlans:
    async def test_the_plan_is_made_once_at_the_first_request(self):
        made = []
        middleware = SecurityMiddleware(answers_ok, plan=lambda: made.append(1) or Plan())
        assert made == []

        await call(middleware, http_scope())
        await call(middleware, http_scope())

        assert made == [1]

    async def test_a_plan_that_cannot_be_made_refuses_the_request_and_is_tried_again(self):
        problems = ["no host is set"]

        def plan():
            if problems:
                raise ConfigurationError(*problems)
            return Plan()

        called, sent = [], []

        async def app(scope, receive, send):
            called.append(scope)
            await answers_ok(scope, receive, send)

        middleware = SecurityMiddleware(app, plan=plan)

        async def send(message):
            sent.append(message)

        with pytest.raises(ConfigurationError, match="no host is set"):
            await middleware(http_scope(), None, send)
        assert sent[0]["status"] == 500
        assert b"no host" not in sent[1]["body"]
        assert called == []

        problems.clear()
        assert (await call(middleware, http_scope()))[0]["status"] == 200


class TestEvents:
    @pytest.mark.parametrize(
        ("reply", "recorded"),
        [
            pytest.param(TEAPOT, [("request_denied", "teapot")], id="denial"),
            pytest.param(Denial(503, "busy", "Busy", ""), [("request_failed", "busy")], id="failure"),
            pytest.param(Answer(204), [], id="quiet answer"),
            pytest.param(Answer(308, event="https_redirect"), [("https_redirect", None)], id="redirect"),
        ],
    )
    async def test_each_reply_of_ours_is_recorded_as_what_it_is(self, reply, recorded):
        lines = []
        plan = Plan([Refusing(reply)], events=Events(lambda _severity, line: lines.append(json.loads(line))))

        await call(SecurityMiddleware(answers_ok, plan=lambda: plan), http_scope())

        assert [(line["event"], line["reason"]) for line in lines] == recorded

    async def test_an_answer_of_the_app_is_no_event(self):
        lines = []
        plan = Plan(events=Events(lambda _severity, line: lines.append(line)))

        await call(SecurityMiddleware(answers_ok, plan=lambda: plan), http_scope())

        assert lines == []
