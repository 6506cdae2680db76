"""What was sent is what the handler gets: decoded once, never escaped, quoted or stripped."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calling import Reader, call, http_scope
from thebes import Denial, Events, Security
from thebes.answers import render

UNPRINTABLE = "<script>alert('1') & \"2\"</script>  \t '; DROP TABLE gates;-- %25 \\ ${x} \x01 \u202e"
# Field values as HTTP allows them: visible bytes, with spaces inside only (RFC 9110, 5.5).
visible = st.integers(0x21, 0xFF).filter(lambda byte: byte != 0x7F)
field_values = st.lists(st.one_of(visible, st.sampled_from([0x20, 0x09])), max_size=40).map(
    lambda values: bytes(values).strip(b" \t")
)
OTHER_FIELDS = [
    b"x-probe",
    b"cookie",
    b"authorization",
    b"user-agent",
    b"accept",
    b"accept-language",
    b"content-type",
]
# Media types that say xml are another matter.
harmless = field_values.filter(lambda value: b"xml" not in value.lower())


class Mirror(Reader):
    """A reader that keeps the scopes too."""

    scope = None

    async def __call__(self, scope, receive, send):
        self.scope = scope
        await super().__call__(scope, receive, send)


def ask(mirror, *chunks, path="/x", query=b"", headers=(), method="POST"):
    """Send a request through the pass; the status says whether the app answered."""
    scope = http_scope(path, method, [(b"transfer-encoding", b"chunked"), *headers], query_string=query)
    return asyncio.run(call(Security(multipart_limit="1MiB").wrap(mirror), scope, *chunks))[0]["status"]


@pytest.mark.requirement("VAL-11")
class TestBytesArriveAsTheyWereSent:
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), harmless)
    def test_bodies_of_any_type(self, chunks, content_type):
        mirror = Mirror()

        assert ask(mirror, *chunks, headers=[(b"content-type", content_type)]) == 200
        assert mirror.received == [b"".join(chunks)]

    @given(st.text(max_size=60))
    def test_json_with_any_text(self, text):
        mirror, body = Mirror(), json.dumps({"password": text}).encode()

        assert ask(mirror, body, headers=[(b"content-type", b"application/json")]) == 200
        assert json.loads(mirror.received[0]) == {"password": text}

    @given(st.binary(max_size=100))
    def test_queries(self, query):
        mirror = Mirror()

        assert ask(mirror, query=query, method="GET") == 200
        assert mirror.scope["query_string"] == query

    @given(st.lists(st.tuples(st.sampled_from(OTHER_FIELDS), harmless), max_size=5))
    def test_fields_with_their_order_and_repetitions(self, fields):
        mirror = Mirror()

        # Two content types are refused; see the suites on XML and on lengths.
        seen = set()
        fields = [
            pair
            for pair in fields
            if pair[0] != b"content-type" or not (pair[0] in seen or seen.add(pair[0]))
        ]
        assert ask(mirror, headers=fields, method="GET") == 200
        assert [tuple(field) for field in mirror.scope["headers"]][2:] == fields

    @given(st.text(max_size=40).map(lambda text: f"/{text}"))
    def test_paths(self, path):
        mirror = Mirror()
        raw = path.encode("utf-8", "surrogatepass")

        async def send():
            scope = http_scope("/", "GET") | {"path": path, "raw_path": raw}
            return (await call(Security().wrap(mirror), scope))[0]["status"]

        assert asyncio.run(send()) == 200
        assert (mirror.scope["path"], mirror.scope["raw_path"]) == (path, raw)

    def test_text_that_looks_like_an_attack(self):
        mirror, text = Mirror(), UNPRINTABLE.encode()

        assert ask(mirror, text, query=text, headers=[(b"x-probe", text.strip())]) == 200
        assert mirror.received == [text]
        assert mirror.scope["query_string"] == text
        assert (b"x-probe", text.strip()) in mirror.scope["headers"]


@pytest.mark.requirement("VAL-11")
class TestEncodingHappensAtOutput:
    def test_a_page_of_ours_escapes_for_html_and_a_problem_for_json(self):
        from asking import request_facts

        denial = Denial(400, "odd", "<b>&\"'", UNPRINTABLE)

        page = render(denial, request_facts(headers={"sec-fetch-mode": "navigate"})).body.decode()
        problem = render(denial, request_facts()).body.decode()

        assert "<b>" not in page
        assert "&lt;b&gt;&amp;&quot;&#x27;" in page
        assert "<script>" not in page
        assert json.loads(problem)["detail"] == UNPRINTABLE

    def test_an_event_escapes_for_its_line_while_the_app_gets_the_path_itself(self):
        lines, mirror = [], Mirror()
        path = "/a\r\n{}\x1b[31m\u202e"
        app = Security(events=Events(lambda _severity, line: lines.append(line)), body_limit=1).wrap(mirror)

        scope = http_scope("/", "POST", [(b"transfer-encoding", b"chunked")])
        asyncio.run(call(app, scope | {"path": path, "raw_path": path.encode()}, b"1", b"2"))

        assert mirror.scope["path"] == path
        assert json.loads(lines[0])["route"] == path
        assert lines[0].isascii()
        assert lines[0].isprintable()
