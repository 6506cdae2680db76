"""XML over a socket, against an app whose own parser loads external entities: the twin shows that it does."""

import gzip
import io
from xml.sax import handler, make_parser
from xml.sax.xmlreader import InputSource

import pytest
from fastapi import FastAPI, Request

from live import client, serving
from thebes import Security

pytestmark = [pytest.mark.slow, pytest.mark.requirement("VAL-19", by="live")]

XML = {"Content-Type": "application/xml"}
SECRET = "the name of the keeper"
HONEST = b'<?xml version="1.0"?><!-- gates --><a>seven &amp; more</a>'


class Text(handler.ContentHandler):
    """Gather the text of a document."""

    def __init__(self):
        super().__init__()
        self.text = ""

    def characters(self, content):
        self.text += content


def careless_text_of(document):
    """Parse as an app does that nobody told about external entities being switched on."""
    gathered, source = Text(), InputSource()
    source.setByteStream(io.BytesIO(document))
    parser = make_parser()
    parser.setFeature(handler.feature_external_ges, True)
    parser.setContentHandler(gathered)
    parser.parse(source)
    return gathered.text


def make_app():
    """An app that answers with the text of the document."""
    app = FastAPI()
    app.state.seen = []

    @app.post("/{path}")
    async def text(request: Request):
        body = await request.body()
        app.state.seen.append(body)
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        return {"text": careless_text_of(body)}

    return app


def served(*left_out):
    """Serve the app; `left_out` are the defences of the twin."""
    app = make_app()
    security = Security()
    security.route("POST /enabled", xml=True, codings=["gzip"])
    security.without(*left_out).protect(app)
    return app, serving(app)


@pytest.fixture(scope="module")
def protected():
    app, running = served()
    with running as url, client(url) as asking:
        yield app, asking


@pytest.fixture(scope="module")
def twin():
    app, running = served("body")
    with running as url, client(url) as asking:
        yield app, asking


@pytest.fixture(scope="module")
def attacks(tmp_path_factory):
    """Documents whose text is something that the sender should not learn, or that he made grow."""
    canary = tmp_path_factory.mktemp("xml") / "secret.txt"
    canary.write_text(SECRET)
    external = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{canary.as_uri()}">]><a>&x;</a>'
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 4))
    return {
        "external entity": (external, SECRET),
        "expansion": (f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><a>&l3;</a>', "ha" * 1000),
    }


ATTACKS = ["external entity", "expansion"]
ENCODINGS = ["utf-8", "utf-16"]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_without_the_guard_the_attack_succeeds(twin, attacks, attack, encoding):
    document, gained = attacks[attack]
    _, asking = twin

    answer = asking.post("/enabled", content=document.encode(encoding), headers=XML)

    assert answer.json()["text"] == gained


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("how", ["at once", "in chunks", "in gzip"])
def test_the_attack_is_refused_where_xml_is_enabled(protected, attacks, attack, encoding, how):
    app, asking = protected
    app.state.seen.clear()
    document = attacks[attack][0].encode(encoding)
    headers = XML
    if how == "in gzip":
        document, headers = gzip.compress(document), XML | {"Content-Encoding": "gzip"}
    content = (document[n : n + 9] for n in range(0, len(document), 9)) if how == "in chunks" else document

    answer = asking.post("/enabled", content=content, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:thebes:problem:xml-doctype-refused"
    assert SECRET not in answer.text
    assert app.state.seen == []


@pytest.mark.parametrize(
    "content_type", ["application/xml", "text/xml; charset=utf-8", "application/soap+xml", "Image/SVG+XML"]
)
def test_xml_is_refused_where_it_is_not_enabled(protected, content_type):
    app, asking = protected
    app.state.seen.clear()

    answer = asking.post("/other", content=HONEST, headers={"Content-Type": content_type})

    assert answer.status_code == 415
    assert answer.json()["type"] == "urn:thebes:problem:xml-refused"
    assert app.state.seen == []


@pytest.mark.parametrize("how", ["at once", "in chunks", "in gzip"])
def test_honest_xml_is_parsed_where_it_is_enabled(protected, how):
    _, asking = protected
    headers, content = XML, HONEST
    if how == "in gzip":
        headers, content = XML | {"Content-Encoding": "gzip"}, gzip.compress(HONEST)
    if how == "in chunks":
        content = (HONEST[n : n + 3] for n in range(0, len(HONEST), 3))

    answer = asking.post("/enabled", content=content, headers=headers)

    assert answer.json() == {"text": "seven & more"}
