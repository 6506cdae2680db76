"""Content codings: refused where they are not declared, counted after inflating where they are."""

import gzip
import json
import zlib

import pytest

from calling import call, fields_of, http_scope
from thebes import Security

CHUNKED = (b"transfer-encoding", b"chunked")
LIMIT = 1000
CODERS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture
def app(reader):
    security = Security(body_limit=LIMIT)
    security.route("POST /packed", codings=["gzip", "deflate"])
    security.route("POST /gzip", codings=["GZIP"])
    return security.wrap(reader)


async def post(app, *chunks, coding=None, path="/packed", headers=()):
    """Send chunks under a coding; return the status and the name of the problem."""
    fields = [CHUNKED, *headers]
    if coding is not None:
        fields.append((b"content-encoding", coding.encode()))
    sent = await call(app, http_scope(path, "POST", fields), *chunks)
    kind = None
    if fields_of(sent).get(b"content-type") == b"application/problem+json":
        kind = json.loads(sent[1]["body"])["type"].removeprefix("urn:thebes:problem:")
    return sent[0]["status"], kind


class TestUndeclared:
    @pytest.mark.parametrize(
        "coding",
        [
            "gzip",
            "GZIP",
            "x-gzip",
            "deflate",
            "br",
            "zstd",
            "compress",
            "gzip, gzip",
            "identity, gzip",
            "aes",
            "*",
        ],
    )
    async def test_any_coding_is_415_before_the_app_is_called(self, app, reader, coding):
        assert await post(app, gzip.compress(b"data"), coding=coding, path="/x") == (415, "coding-refused")
        assert reader.received == []

    @pytest.mark.parametrize("coding", ["identity", "Identity", "", " identity "])
    async def test_no_coding_passes(self, app, reader, coding):
        assert await post(app, b"data", coding=coding, path="/x") == (200, None)
        assert reader.received == [b"data"]

    @pytest.mark.parametrize(
        "coding", ["br", "gzip, gzip", "gzip, deflate", "x-gzip", "gzip;q=1", "gzip\x0b"]
    )
    async def test_a_route_that_declares_some_takes_no_other(self, app, reader, coding):
        assert await post(app, gzip.compress(b"data"), coding=coding) == (415, "coding-refused")

    async def test_a_route_takes_only_what_it_declares_itself(self, app):
        assert (await post(app, zlib.compress(b"data"), coding="deflate", path="/gzip"))[0] == 415
        assert (await post(app, gzip.compress(b"data"), coding="gzip", path="/gzip"))[0] == 200

    async def test_two_fields_are_refused(self, app):
        sent = await call(
            app,
            http_scope("/packed", "POST", [CHUNKED, *[(b"content-encoding", b"gzip")] * 2]),
            gzip.compress(b"data"),
        )

        assert sent[0]["status"] == 415

    async def test_the_refusal_says_what_is_accepted_instead(self, app):
        scope = http_scope("/x", "POST", [CHUNKED, (b"content-encoding", b"br")])

        assert fields_of(await call(app, scope, b"data"))[b"accept-encoding"] == b"identity"

    async def test_a_request_without_a_body_may_name_a_coding(self, app):
        sent = await call(app, http_scope("/x", "GET", [(b"content-encoding", b"gzip")]))

        assert sent[0]["status"] == 200


@pytest.mark.parametrize("coding", sorted(CODERS))
class TestDeclared:
    async def test_the_app_gets_the_bytes_as_they_were_sent(self, app, reader, coding):
        packed = CODERS[coding](b"data" * 100)

        assert await post(app, packed[:7], packed[7:], coding=coding.upper()) == (200, None)
        assert reader.received == [packed]

    async def test_it_is_counted_as_it_comes_out(self, app, coding):
        assert (await post(app, CODERS[coding](bytes(LIMIT)), coding=coding))[0] == 200
        assert await post(app, CODERS[coding](bytes(LIMIT + 1)), coding=coding) == (413, "body-too-large")

    async def test_it_is_counted_as_it_is_sent_too(self, app, coding):
        """Stored blocks make data longer than it was."""
        stored = zlib.compressobj(0, zlib.DEFLATED, 31 if coding == "gzip" else 15)
        sent = stored.compress(b"a" * LIMIT) + stored.flush()
        assert len(sent) > LIMIT

        assert (await post(app, sent, coding=coding))[0] == 413

    async def test_a_bomb_ends_at_the_limit_whatever_the_chunks(self, app, reader, coding):
        bomb = CODERS[coding](bytes(LIMIT * 500))

        for size in (1, 7, len(bomb)):
            chunks = [bomb[start : start + size] for start in range(0, len(bomb), size)]
            assert await post(app, *chunks, coding=coding) == (413, "body-too-large")
            assert not reader.ended

    async def test_what_is_broken_is_400(self, app, reader, coding):
        packed = CODERS[coding](b"data" * 100)

        for broken in (b"data", b"\0" + packed, packed[:-1], packed[:-4] + b"\0\0\0\0", packed + b"\0"):
            assert await post(app, broken, coding=coding) == (400, "coding-broken")
            assert not reader.ended

    async def test_an_empty_body_passes(self, app, coding):
        assert await post(app, b"", coding=coding) == (200, None)

    async def test_the_apps_late_answer_is_dropped(self, app, reader, coding):
        status, _ = await post(app, CODERS[coding](bytes(LIMIT + 1)), coding=coding)

        # The reader answers 200 to whatever it has seen.
        assert (status, len(reader.received)) == (413, 1)


class TestMembers:
    async def test_several_members_pass_and_are_counted_together(self, app, reader):
        two = gzip.compress(bytes(LIMIT // 2)) * 2

        assert await post(app, two, coding="gzip") == (200, None)
        assert reader.received == [two]
        assert (await post(app, two + gzip.compress(b"a"), coding="gzip"))[0] == 413

    async def test_a_member_that_is_broken_is_found_behind_a_good_one(self, app):
        good = gzip.compress(b"good")

        assert await post(app, good, good[:-1], coding="gzip") == (400, "coding-broken")
