"""Start and stop: the app's lifespan runs, apps without one are served, and a failed start stays failed."""

import base64
import secrets

import pytest

from live import client, eventually, serving
from thebes import ConfigurationError, Security
from thebes.testing import client as in_process


async def answer_ok(send):
    """Answer any HTTP request."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def raises_on_lifespan(scope, receive, send):
    """As Django does."""
    if scope["type"] != "http":
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")
    await answer_ok(send)


async def returns_at_once(scope, receive, send):
    """As a function that only looks for http does."""
    if scope["type"] == "http":
        await answer_ok(send)


async def listens_and_returns(scope, receive, send):
    """Reads the event and has nothing to say."""
    if scope["type"] == "lifespan":
        await receive()
        return
    await answer_ok(send)


async def fails_in_words(scope, receive, send):
    """Says itself that its start failed."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})


async def fails_after_startup(scope, receive, send):
    """Starts well, and raises at shutdown."""
    if scope["type"] != "lifespan":
        await answer_ok(send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise RuntimeError("cannot close")


async def live(app, *, state=None):
    """Run the lifespan of an app as a server does; return what it said and what it raised."""
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    said = []

    async def receive():
        return events.pop(0)

    async def send(message):
        said.append(message)

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {} if state is None else state}
    try:
        await app(scope, receive, send)
    except Exception as error:
        return [message["type"] for message in said], said, error
    return [message["type"] for message in said], said, None


STARTED_AND_STOPPED = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.slow
class TestOverASocket:
    def test_the_lifespan_of_the_app_begins_and_ends_with_the_server(self, kind, make):
        made = make(kind)
        with serving(made.served, lifespan="on"):
            assert made.stage.notes == ["started"]
        assert made.stage.notes == ["started", "stopped"]

    def test_state_that_the_app_yields_reaches_its_requests(self, ask):
        assert ask.get("/state").json() == "anubis"

    @pytest.mark.parametrize("lifespan", ["auto", "on"])
    @pytest.mark.parametrize("app", [raises_on_lifespan, returns_at_once, listens_and_returns])
    def test_an_app_without_lifespan_is_served(self, app, lifespan):
        with serving(Security().wrap(app), lifespan=lifespan) as url, client(url) as asking:
            answer = asking.get("/")

        assert answer.text == "ok"
        assert answer.headers["x-content-type-options"] == "nosniff"

    # `auto` is what uvicorn does unless told otherwise; it goes on when an app raises before it has read.
    @pytest.mark.parametrize("lifespan", ["auto", "on"])
    def test_the_server_does_not_start_when_the_app_fails_to(self, kind, make, lifespan):
        made = make(kind)
        made.stage.broken_start = True

        with pytest.raises(AssertionError, match="did not start"), serving(made.served, lifespan=lifespan):
            pass

    @pytest.mark.parametrize("lifespan", ["auto", "on"])
    def test_the_server_does_not_start_without_what_production_needs(self, kind, make, monkeypatch, lifespan):
        monkeypatch.setenv("THEBES_ENV", "production")
        made = make(kind)

        with pytest.raises(AssertionError, match="did not start"), serving(made.served, lifespan=lifespan):
            pass

        assert made.stage.notes == []

    @pytest.mark.parametrize("lifespan", ["auto", "on"])
    def test_the_server_does_not_start_when_a_named_secret_cannot_be_read(
        self, kind, make, monkeypatch, tmp_path, lifespan
    ):
        monkeypatch.setenv("THEBES_ENV", "production")
        monkeypatch.setenv("THEBES_SECRET_KEYS_FILE", str(tmp_path / "missing"))
        made = make(kind, hosts=["localhost"])

        with pytest.raises(AssertionError, match="did not start"), serving(made.served, lifespan=lifespan):
            pass

    @pytest.mark.parametrize("lifespan", ["auto", "on"])
    def test_the_server_does_not_start_when_the_users_middleware_cannot_be_made(
        self, framework, make, lifespan
    ):
        class Broken:
            def __init__(self, app):
                raise RuntimeError("the key file is away")

        made = make(framework)
        made.app.add_middleware(Broken)

        with pytest.raises(AssertionError, match="did not start"), serving(made.served, lifespan=lifespan):
            pass


class TestAppsWithoutLifespan:
    @pytest.mark.parametrize("app", [raises_on_lifespan, returns_at_once, listens_and_returns])
    async def test_start_and_stop_are_answered_for_it(self, app):
        assert await live(Security().wrap(app)) == (
            STARTED_AND_STOPPED,
            [{"type": name} for name in STARTED_AND_STOPPED],
            None,
        )


class TestStarts:
    async def test_the_state_is_the_one_that_the_server_gave(self, kind, make):
        state = {}

        said, _, error = await live(make(kind).served, state=state)

        assert (said, error) == (STARTED_AND_STOPPED, None)
        assert state["keeper"] == "anubis"

    async def test_a_start_that_fails_is_told_to_the_server(self, kind, make):
        made = make(kind)
        made.stage.broken_start = True

        said, _, _ = await live(made.served)

        assert said == ["lifespan.startup.failed"]

    async def test_a_failure_in_the_words_of_the_app_reaches_the_server(self):
        said, messages, _ = await live(Security().wrap(fails_in_words))

        assert said == ["lifespan.startup.failed"]
        assert messages[0]["message"] == "the database is away"

    async def test_an_exception_at_shutdown_travels_on(self):
        said, _, error = await live(Security().wrap(fails_after_startup))

        assert said == ["lifespan.startup.complete"]
        assert str(error) == "cannot close"


class TestConfiguration:
    @pytest.fixture(autouse=True)
    def _production(self, monkeypatch):
        monkeypatch.setenv("THEBES_ENV", "production")

    async def test_one_error_names_all_that_is_missing(self, kind, make):
        said, messages, error = await live(make(kind).served)

        assert said == ["lifespan.startup.failed"]
        assert isinstance(error, ConfigurationError)
        assert "THEBES_HOSTS" in messages[0]["message"]
        assert "THEBES_SECRET_KEYS" in messages[0]["message"]

    async def test_the_app_is_not_started_then(self, kind, make):
        made = make(kind)

        await live(made.served)

        assert made.stage.notes == []

    async def test_an_unreadable_file_of_secrets_is_named(self, kind, make, monkeypatch, tmp_path):
        monkeypatch.setenv("THEBES_SECRET_KEYS_FILE", str(tmp_path / "missing"))

        said, messages, _ = await live(make(kind, hosts=["localhost"]).served)

        assert said == ["lifespan.startup.failed"]
        assert "THEBES_SECRET_KEYS_FILE" in messages[0]["message"]

    def test_without_lifespan_each_request_is_refused_until_it_is_mended(
        self, kind, make, monkeypatch, tmp_path
    ):
        made = make(kind, hosts=["testserver"])
        # Not as a context manager: then no lifespan runs.
        asking = in_process(made.served)
        with pytest.raises(ConfigurationError, match="THEBES_SECRET_KEYS"):
            asking.get("/page")
        answer = in_process(made.served, raise_server_exceptions=False).get("/page")
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:thebes:problem:misconfigured"
        assert "THEBES" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert made.stage.notes == []

        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        monkeypatch.setenv("THEBES_SECRET_KEYS", f"k1:{key}")
        monkeypatch.setenv("THEBES_DATABASE_URL", "sqlite:///accounts.db")
        monkeypatch.setenv("THEBES_MAIL_URL", "smtps://localhost")
        monkeypatch.chdir(tmp_path)
        assert asking.get("/page").status_code == 200


class TestTwoPasses:
    def behind_two(self, kind, make):
        inner = make(kind).served

        async def outer(scope, receive, send):
            await inner(scope, receive, send)

        return Security().wrap(outer)

    async def test_they_fail_the_start_in_clear_words(self, kind, make):
        said, messages, _ = await live(self.behind_two(kind, make))

        assert said == ["lifespan.startup.failed"]
        assert "two passes" in messages[0]["message"]

    def test_they_refuse_each_request_where_there_is_no_lifespan(self, kind, make):
        with pytest.raises(ConfigurationError, match="two passes"):
            in_process(self.behind_two(kind, make)).get("/page")

        answer = in_process(self.behind_two(kind, make), raise_server_exceptions=False).get("/page")
        assert answer.status_code == 500

    def test_they_refuse_a_handshake_too(self, kind, make):
        from starlette.testclient import WebSocketDenialResponse

        asking = in_process(self.behind_two(kind, make), raise_server_exceptions=False)
        with (
            pytest.raises((ConfigurationError, WebSocketDenialResponse)),
            asking.websocket_connect("/ws", headers={"Origin": "https://testserver"}),
        ):
            pass

    @pytest.mark.slow
    def test_the_server_does_not_start(self, kind, make):
        app = self.behind_two(kind, make)

        with pytest.raises(AssertionError, match="did not start"), serving(app):
            pass


def test_events_that_were_counted_are_written_at_shutdown(kind, make):
    made = make(kind)
    with in_process(made.served) as asking:
        for _ in range(3):
            asking.get("/page", headers={"Host": "evil.example"})
        assert len(made.events) == 1

    eventually(lambda: len(made.events) == 2)
    assert '"count":2' in made.events[1]
