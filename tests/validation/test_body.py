"""How much a body may hold, by what it declares and by what comes, on each route."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calling import Reader, call, fields_of, http_scope
from thebes import Events, Security
from thebes.testing import client

CHUNKED = (b"transfer-encoding", b"chunked")


def counted(length):
    return (b"content-length", length if isinstance(length, bytes) else b"%d" % length)


def problem(sent):
    """Return the name of the problem that was sent; None for an answer of the app."""
    if dict(sent[0]["headers"]).get(b"content-type") != b"application/problem+json":
        return None
    return json.loads(sent[1]["body"])["type"].removeprefix("urn:thebes:problem:")


async def post(app, *chunks, headers=(), path="/x", method="POST", **more):
    return await call(app, http_scope(path, method, [*headers], **more), *chunks)


class TestTheLimit:
    @pytest.mark.parametrize("framing", ["counted", "chunked", "HTTP/2"])
    @pytest.mark.parametrize(("size", "status"), [(0, 200), (9, 200), (10, 200), (11, 413), (5000, 413)])
    async def test_the_limit_itself_passes_and_one_byte_more_is_refused(self, reader, framing, size, status):
        app = Security(body_limit=10).wrap(reader)
        headers = {"counted": [counted(size)], "chunked": [CHUNKED], "HTTP/2": []}[framing]

        sent = await post(
            app, b"a" * size, headers=headers, http_version="2" if framing == "HTTP/2" else "1.1"
        )

        assert sent[0]["status"] == status
        assert problem(sent) == (None if status == 200 else "body-too-large")

    async def test_it_is_1_mib_unless_set(self, reader):
        app = Security().wrap(reader)

        assert (await post(app, b"a" * 2**20, headers=[CHUNKED]))[0]["status"] == 200
        assert (await post(app, b"a" * 2**20, b"a", headers=[CHUNKED]))[0]["status"] == 413

    async def test_a_declared_length_is_refused_before_the_app_is_called(self, reader):
        app = Security(body_limit=10).wrap(reader)

        sent = await post(app, headers=[counted(11)])

        assert (sent[0]["status"], reader.received) == (413, [])

    async def test_the_connection_is_closed_after_it(self, reader):
        """RFC 9110, 15.5.14; else the server would have to read the rest."""
        app = Security(body_limit=10).wrap(reader)

        for headers in ([counted(11)], [CHUNKED]):
            sent = await post(app, b"a" * 11, headers=headers)
            assert fields_of(sent)[b"connection"] == b"close"

    @pytest.mark.parametrize("version", ["2", "3"])
    async def test_http_2_and_later_know_no_field_for_the_connection(self, reader, version):
        """RFC 9113, 8.2.2: an answer with one is malformed."""
        app = Security(body_limit=10).wrap(reader)

        sent = await post(app, b"a" * 11, http_version=version)

        assert sent[0]["status"] == 413
        assert b"connection" not in fields_of(sent)

    async def test_the_app_sees_a_disconnect_and_no_byte_past_the_limit(self, reader):
        app = Security(body_limit=10).wrap(reader)

        sent = await post(app, b"12345", b"67890", b"1", b"never asked for", headers=[CHUNKED])

        assert (reader.received, reader.ended) == ([b"1234567890"], False)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert (sent[0]["status"], problem(sent)) == (413, "body-too-large")

    @pytest.mark.parametrize(
        ("headers", "first"),
        [
            pytest.param([], b"1234", id="too large"),
            pytest.param([(b"content-encoding", b"gzip")], b"???", id="not in its coding"),
        ],
    )
    async def test_an_app_that_asks_again_is_told_again_and_it_is_one_event(self, headers, first):
        seen, lines = [], []

        async def stubborn(scope, receive, send):
            seen.extend([(await receive())["type"] for _ in range(4)])

        security = Security(body_limit=3, events=Events(lambda _severity, line: lines.append(line)))
        security.route("POST /x", codings=["gzip"])
        sent = await post(security.wrap(stubborn), first, b"", b"", headers=[CHUNKED, *headers])
        security.events.flush()

        assert seen == ["http.disconnect"] * 4
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert len(lines) == 1

    async def test_an_app_that_never_reads_answers_as_it_likes(self):
        async def deaf(scope, receive, send):
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body"})

        assert (await post(Security(body_limit=1).wrap(deaf), b"12", headers=[CHUNKED]))[0]["status"] == 202
        assert (await post(Security(body_limit=1).wrap(deaf), b"12", headers=[counted(2)]))[0][
            "status"
        ] == 413

    async def test_a_disconnect_of_the_client_reaches_the_app(self, reader):
        async def receive():
            return {"type": "http.disconnect"}

        sent = []

        async def send(message):
            sent.append(message)

        await Security(body_limit=10).wrap(reader)(http_scope("/x", "POST", [CHUNKED]), receive, send)

        assert (reader.ended, sent[0]["status"]) == (False, 200)

    @given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 100))
    def test_for_all_chunks_the_sum_decides(self, chunks, limit):
        reader = Reader()
        body = b"".join(chunks)

        sent = asyncio.run(post(Security(body_limit=limit).wrap(reader), *chunks, headers=[CHUNKED]))

        assert sent[0]["status"] == (200 if len(body) <= limit else 413)
        assert reader.ended == (len(body) <= limit)
        assert body.startswith(reader.received[0])
        assert len(reader.received[0]) <= limit


class TestContentLength:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"-1",
            b"+5",
            b"-0",
            b"0x5",
            b"1_0",
            b"5.0",
            b"5e0",
            b"5 5",
            b"5,5",
            b"five",
            b"\xb2",
            b"9" * 20,
        ],
    )
    async def test_what_is_no_number_is_refused_before_the_app_is_called(self, reader, value):
        sent = await post(Security().wrap(reader), b"12345", headers=[counted(value)])

        assert (sent[0]["status"], problem(sent), reader.received) == (400, "length-malformed", [])

    @pytest.mark.parametrize("second", [b"5", b"6"])
    async def test_two_of_them_are_refused_even_if_they_agree(self, reader, second):
        """RFC 9110, 8.6, allows to take equal ones for one; a proxy may have taken the other."""
        sent = await post(Security().wrap(reader), b"12345", headers=[counted(5), counted(second)])

        assert (sent[0]["status"], problem(sent), reader.received) == (400, "length-malformed", [])

    @pytest.mark.parametrize("value", [b"0", b"5", b"00005", b"1048576"])
    async def test_numbers_pass(self, reader, value):
        assert (await post(Security().wrap(reader), b"12345", headers=[counted(value)]))[0]["status"] == 200

    async def test_a_length_that_lies_is_no_way_around_the_count(self, reader):
        app = Security(body_limit=10).wrap(reader)

        sent = await post(app, b"a" * 11, headers=[counted(1)])

        assert (sent[0]["status"], reader.ended) == (413, False)


class TestMultipart:
    @pytest.mark.parametrize(
        ("content_type", "size", "status"),
        [
            pytest.param(b"multipart/form-data; boundary=x", 20, 200, id="form at its limit"),
            pytest.param(b"multipart/form-data; boundary=x", 21, 413, id="form past its limit"),
            pytest.param(b"Multipart/Mixed", 20, 200, id="any subtype in any case"),
            pytest.param(b"application/json", 11, 413, id="json"),
            pytest.param(b"application/json; a=multipart/form-data", 11, 413, id="named in a parameter"),
            pytest.param(b"multipartish/form-data", 11, 413, id="a longer name"),
            pytest.param(b"application/x-www-form-urlencoded", 11, 413, id="urlencoded"),
        ],
    )
    @pytest.mark.parametrize("framing", ["counted", "chunked"])
    async def test_it_has_a_limit_of_its_own(self, reader, content_type, size, status, framing):
        app = Security(body_limit=10, multipart_limit=20).wrap(reader)
        headers = [(b"content-type", content_type), counted(size) if framing == "counted" else CHUNKED]

        assert (await post(app, b"a" * size, headers=headers))[0]["status"] == status

    async def test_a_limit_below_the_general_one_holds_for_the_declared_length_too(self, reader):
        app = Security(body_limit=20, multipart_limit=10).wrap(reader)

        sent = await post(app, headers=[(b"content-type", b"multipart/form-data"), counted(15)])

        assert (sent[0]["status"], reader.received) == (413, [])


class TestRoutes:
    @pytest.fixture
    def app(self, reader):
        security = Security(body_limit=10, multipart_limit=10)
        security.route("PUT /upload", body_limit=20)
        security.route("PUT /files/*", body_limit=20)
        security.route("POST /small", body_limit=5)
        return security.wrap(reader)

    @pytest.mark.parametrize(
        ("method", "path", "limit"),
        [
            pytest.param("PUT", "/upload", 20, id="declared"),
            pytest.param("PUT", "/files/a/b", 20, id="below a declared path"),
            pytest.param("POST", "/upload", 10, id="another method"),
            pytest.param("PUT", "/uploads", 10, id="a longer path"),
            pytest.param("PUT", "/upload/", 10, id="with a slash"),
            pytest.param("PUT", "//upload", 10, id="doubled slash"),
            pytest.param("PUT", "/x/../upload", 10, id="dot segments"),
            pytest.param("PUT", "/files", 10, id="the path above"),
            pytest.param("POST", "/small", 5, id="less than usual"),
        ],
    )
    @pytest.mark.parametrize("framing", ["counted", "chunked"])
    async def test_the_limit_is_that_of_the_route(self, app, method, path, limit, framing):
        for size, status in ((limit, 200), (limit + 1, 413)):
            headers = [counted(size) if framing == "counted" else CHUNKED]
            sent = await post(app, b"a" * size, headers=headers, path=path, method=method)
            assert sent[0]["status"] == status

    async def test_a_narrower_limit_refuses_by_the_declared_length_before_the_app_is_called(
        self, app, reader
    ):
        sent = await post(app, headers=[counted(6)], path="/small")

        assert (sent[0]["status"], reader.received) == (413, [])


class TestFrameworks:
    def big(self):
        for _ in range(20):
            yield b"a" * 65_536

    @pytest.mark.parametrize("endpoint", ["body", "json", "form", "stream"])
    def test_a_body_that_grew_too_large_is_413_and_no_exception(self, endpoint):
        """The framework hears of a disconnect and may raise: that is nothing to tell a log or a test."""
        from fastapi import FastAPI, Request

        app = FastAPI()

        @app.post("/body")
        async def body(request: Request):
            return len(await request.body())

        @app.post("/json")
        async def read_json(value: dict):
            return value

        @app.post("/form")
        async def form(request: Request):
            return list(await request.form())

        @app.post("/stream")
        async def stream(request: Request):
            return sum([len(chunk) async for chunk in request.stream()])

        kind = {"json": "application/json", "form": "application/x-www-form-urlencoded"}.get(endpoint, "a/b")
        protected = client(Security().protect(app))
        answer = protected.post(f"/{endpoint}", content=self.big(), headers={"Content-Type": kind})

        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:thebes:problem:body-too-large"
