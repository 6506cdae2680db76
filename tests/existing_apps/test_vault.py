"""Megabytes go up and down as before: multipart, raw, chunked, ranged, streamed and compressed."""

import hashlib
import json
import random
import socket

import pytest

pytestmark = pytest.mark.slow

PHOTO = random.Random(7).randbytes(5 * 1024 * 1024)
DIGEST = hashlib.sha256(PHOTO).hexdigest()
PLAIN = {"Accept-Encoding": "identity"}


def in_chunks(size):
    for start in range(0, len(PHOTO), size):
        yield PHOTO[start : start + size]


class TestUploads:
    def test_a_form_with_a_photo_of_five_megabytes_arrives_whole(self, browser):
        files = [
            ("photo", ("holiday; ü (1).jpg", PHOTO, "image/jpeg")),
            ("photo", ("empty.png", b"", "image/png")),
        ]
        response = browser.submit("/photos", {"album": "summer"}, files=files)

        assert response.status_code == 201
        assert response.json()["album"] == "summer"
        first, second = response.json()["photos"]
        assert (first["sha256"], first["size"]) == (DIGEST, len(PHOTO))
        assert (first["name"], first["type"]) == ("holiday; ü (1).jpg", "image/jpeg")
        assert (second["name"], second["size"]) == ("empty.png", 0)

    def test_a_raw_put_of_five_megabytes_arrives_whole(self, script):
        response = script.put("/files/raw.bin", content=PHOTO)

        assert response.status_code == 200
        assert response.json() == {"sha256": DIGEST, "size": len(PHOTO)}

    def test_a_put_without_a_declared_length_arrives_whole(self, browser):
        response = browser.fetch("PUT", "/files/chunked.bin", content=in_chunks(50_001))

        assert response.json() == {"sha256": DIGEST, "size": len(PHOTO)}

    def test_bytes_reach_the_app_while_the_client_still_sends(self, served, script, eventually):
        def received():
            return script.get("/seen").json()["bytes"]

        before = received()
        with half_sent(served, "/files/slow.bin", declared=2_000, sent=b"x" * 1_000) as connection:
            eventually(lambda: received() == before + 1_000)
            connection.sendall(b"y" * 1_000)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_the_app_sees_that_a_client_gave_up_in_the_middle(self, served, script, eventually):
        def aborted():
            return script.get("/seen").json()["aborted uploads"]

        before = aborted()
        with half_sent(served, "/files/half.bin", declared=100_000, sent=b"x" * 1_000):
            pass
        eventually(lambda: aborted() == before + 1)
        assert script.get("/files/half.bin").status_code == 404


def half_sent(served, path, *, declared, sent):
    """Begin an upload of `declared` bytes and return the open connection."""
    connection = socket.create_connection(served.address, timeout=10)
    head = f"PUT {path} HTTP/1.1\r\nHost: {served.url.removeprefix('http://')}\r\n"
    connection.sendall(f"{head}Content-Length: {declared}\r\n\r\n".encode() + sent)
    return connection


class TestDownloads:
    @pytest.fixture(autouse=True)
    def _stored(self, script):
        assert script.put("/files/photo.bin", content=PHOTO).status_code == 200

    def test_a_file_comes_back_with_the_headers_of_the_app(self, browser):
        response = browser.fetch("GET", "/files/photo.bin", headers=PLAIN)

        assert response.content == PHOTO
        assert response.headers.get_list("cache-control") == ["private, max-age=60"]
        assert response.headers["accept-ranges"] == "bytes"
        assert response.headers["content-length"] == str(len(PHOTO))
        assert response.headers["content-disposition"] == (
            "attachment; filename*=utf-8''r%C3%A9sum%C3%A9%20photo.bin"
        )

    def test_a_range_is_answered_with_that_part_alone(self, script):
        response = script.get("/files/photo.bin", headers=PLAIN | {"Range": "bytes=1000-1999"})

        assert response.status_code == 206
        assert response.headers["content-range"] == f"bytes 1000-1999/{len(PHOTO)}"
        assert response.content == PHOTO[1000:2000]

    def test_an_interrupted_download_is_resumed_by_its_etag(self, script):
        tag = script.head("/files/photo.bin", headers=PLAIN).headers["etag"]
        headers = PLAIN | {"Range": "bytes=5000000-", "If-Range": tag}
        response = script.get("/files/photo.bin", headers=headers)

        assert response.status_code == 206
        assert response.content == PHOTO[5_000_000:]

    def test_an_impossible_range_is_refused_by_the_app(self, script):
        response = script.get("/files/photo.bin", headers=PLAIN | {"Range": "bytes=9999999-"})

        assert response.status_code == 416
        assert response.headers["content-range"] == f"bytes */{len(PHOTO)}"

    def test_a_missing_file_is_the_apps_own_404(self, browser):
        response = browser.navigate("/files/none.bin")

        assert response.status_code == 404
        assert response.json() == {"error": "no such file"}


class TestCompressionAndValidators:
    def test_the_catalogue_is_compressed_and_keeps_its_headers(self, browser):
        response = browser.fetch("GET", "/catalogue", headers={"Accept-Encoding": "gzip"})

        assert response.headers["content-encoding"] == "gzip"
        assert int(response.headers["content-length"]) < len(response.content) // 4
        assert json.loads(response.content)[1999] == {"number": 1999, "name": "item 1999"}
        assert response.headers.get_list("cache-control") == ["public, max-age=300"]
        vary = {part.strip() for part in response.headers["vary"].split(",")}
        assert {"Accept-Language", "Accept-Encoding"} <= vary

    def test_without_gzip_the_same_bytes_come_plain(self, browser):
        plain = browser.fetch("GET", "/catalogue", headers=PLAIN)
        packed = browser.fetch("GET", "/catalogue", headers={"Accept-Encoding": "gzip"})

        assert "content-encoding" not in plain.headers
        assert plain.content == packed.content
        assert plain.headers["etag"] == packed.headers["etag"]

    def test_an_unchanged_catalogue_is_304_with_its_validators(self, browser):
        tag = browser.fetch("GET", "/catalogue").headers["etag"]
        response = browser.fetch("GET", "/catalogue", headers={"If-None-Match": tag})

        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == tag
        assert response.headers.get_list("cache-control") == ["public, max-age=300"]


class TestStreams:
    def test_each_line_arrives_before_the_next_is_made(self, script):
        with script.stream("GET", "/export?lines=3", headers=PLAIN) as response:
            assert response.headers["content-type"] == "text/csv; charset=utf-8"
            assert response.headers["content-disposition"] == 'attachment; filename="export.csv"'
            assert response.headers["transfer-encoding"] == "chunked"
            lines = response.iter_lines()
            for number in range(3):
                assert next(lines) == f"line {number}"
                assert script.post("/export/next").status_code == 204
            assert list(lines) == []

    def test_the_app_sees_that_a_reader_left(self, script, eventually):
        def closed():
            return script.get("/seen").json()["closed streams"]

        before = closed()
        with script.stream("GET", "/export", headers=PLAIN) as response:
            lines = response.iter_lines()
            assert next(lines) == "line 0"
            assert closed() == before
        eventually(lambda: closed() == before + 1)
