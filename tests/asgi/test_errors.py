"""Exceptions that nobody caught: our answer before the app's has begun, a cut connection after."""

import httpx2
import pytest

from calling import call, http_scope
from live import client, eventually
from thebes import Events, Security
from thebes.testing import client as in_process


class TestBeforeTheAnswerHasBegun:
    @pytest.mark.slow
    def test_the_client_gets_problem_details_without_details(self, ask):
        answer = ask.get("/before")

        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) == {"type", "title", "status", "request_id"}
        assert answer.json()["type"] == "urn:thebes:problem:internal-error"
        assert answer.headers["cache-control"] == "no-store"
        for word in ("secret", "RuntimeError", "Traceback", ".py"):
            assert word not in answer.text

    @pytest.mark.slow
    def test_a_navigation_gets_a_page(self, ask):
        answer = ask.get("/before", headers={"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"})

        assert answer.status_code == 500
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "secret" not in answer.text

    @pytest.mark.slow
    def test_the_whole_error_is_in_the_log_of_the_server(self, ask, caplog):
        def errors():
            return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]

        ask.get("/before")

        # The answer is out before the server hears of the exception.
        eventually(lambda: "secret detail" in errors())

    @pytest.mark.slow
    def test_the_client_is_told_that_the_connection_ends(self, ask):
        """The server closes it after an exception; a client that wasn't told would lose its next request."""
        assert ask.get("/before").headers["connection"] == "close"
        assert ask.get("/state").json() == "anubis"

    def test_the_exception_travels_on_for_test_clients(self, kind, make):
        made = make(kind)

        with pytest.raises(RuntimeError, match="secret detail"):
            in_process(made.served).get("/before")

    def test_test_clients_that_want_the_answer_get_ours(self, kind, make):
        made = make(kind)

        answer = in_process(made.served, raise_server_exceptions=False).get("/before")

        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:thebes:problem:internal-error"

    def test_it_is_one_event_with_the_request_id_of_the_answer(self, kind, make):
        made = make(kind)

        answer = in_process(made.served, raise_server_exceptions=False).get("/before")

        assert len(made.events) == 1
        assert '"event":"request_failed"' in made.events[0]
        assert answer.json()["request_id"] in made.events[0]

    @pytest.mark.parametrize("version", ["1.1", "2", "3"])
    async def test_only_http_1_hears_of_the_connection(self, kind, make, version):
        """RFC 9113, 8.2.2: an answer with a field about the connection is malformed."""
        sent = []

        async def send(message):
            sent.append(message)

        with pytest.raises(RuntimeError, match="secret detail"):
            await make(kind).served(http_scope("/before", http_version=version), None, send)

        assert sent[0]["status"] == 500
        assert (b"connection" in dict(sent[0]["headers"])) == (version == "1.1")


class TestAfterTheAnswerHasBegun:
    @pytest.mark.slow
    def test_the_connection_is_cut_so_that_nobody_takes_a_part_for_the_whole(self, served):
        with client(served.url) as asking, pytest.raises(httpx2.RemoteProtocolError):
            asking.get("/after")

    def test_the_exception_travels_on_for_test_clients(self, kind, make):
        with pytest.raises(RuntimeError, match="secret detail"):
            in_process(make(kind).served).get("/after")

    def test_nothing_is_added_to_what_was_sent(self, kind, make):
        answer = in_process(make(kind).served, raise_server_exceptions=False).get("/after")

        assert (answer.status_code, answer.text) == (200, "begun")

    def test_it_is_an_event(self, kind, make):
        made = make(kind)

        in_process(made.served, raise_server_exceptions=False).get("/after")

        assert ['"event":"request_failed"' in event for event in made.events] == [True]


class TestHandlersOfTheApp:
    def test_its_own_handler_wins(self, kind, make):
        made = make(kind, own_handler=True)

        answer = in_process(made.served, raise_server_exceptions=False).get("/before")

        assert (answer.status_code, answer.text) == (418, "mine: secret detail")
        assert answer.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize("key", [Exception, 500])
    def test_a_handler_added_after_protect_wins_too(self, framework, make, key):
        from starlette.responses import PlainTextResponse

        async def late(request, error):
            return PlainTextResponse("late", 503)

        made = make(framework)
        made.app.add_exception_handler(key, late)

        answer = in_process(made.served, raise_server_exceptions=False).get("/before")

        assert (answer.status_code, answer.text) == (503, "late")

    def test_handlers_for_other_errors_stay(self, kind, make):
        answer = in_process(make(kind).served).get("/nothing")

        assert answer.status_code == 404
        assert "detail" in answer.json()


class TestAppsThatAnswerNothing:
    async def test_a_client_that_waits_gets_our_500(self):
        async def silent(scope, receive, send):
            await receive()

        sent = await call(Security().wrap(silent), http_scope())

        assert sent[0]["status"] == 500
        assert b"internal-error" in sent[1]["body"]

    async def test_a_client_that_left_is_no_failure(self):
        """An app may return without a word when it hears that nobody listens."""

        async def waits(scope, receive, send):
            while (await receive())["type"] != "http.disconnect":
                pass

        events = []
        security = Security(events=Events(lambda _severity, line: events.append(line)))

        await call(security.wrap(waits), http_scope())
        await call(security.wrap(waits), http_scope("/", "POST", [(b"content-length", b"9")]), b"abc")

        assert events == []
