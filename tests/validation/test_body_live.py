"""Attack a running server with bodies: declared and endless, bombs, and an honest gigabyte."""

import hashlib
import json
import os
import select
import socket
import sys
import zlib
from functools import cache

import pytest

from live import PATIENCE_SECONDS

MIB = 1024 * 1024
HAS_MEMORY_FIGURES = sys.platform == "linux"
UPLOAD_BYTES = 1024 * MIB if os.environ.get("THEBES_TEST_COUNTS") == "full" else 64 * MIB

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_MEMORY_FIGURES, reason="reads the memory of a process from /proc"),
]


def request_head(method, path, *fields):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def chunk_of(piece):
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def push(address, head, piece, total, *, until_answered=True, tail=b""):
    """Send the piece over and over until the server answers, cuts us off, or `total` bytes are sent.

    Returns the answer (empty if a reset overtook it) and how many bytes were taken off us.
    """
    sent, pending = 0, memoryview(b"")
    with socket.create_connection(address, PATIENCE_SECONDS) as wire:
        wire.sendall(head)
        wire.setblocking(False)
        try:
            while sent < total or pending:
                watched = [wire] if until_answered else []
                readable, writable, _ = select.select(watched, [wire], [], PATIENCE_SECONDS)
                assert readable or writable, "the server neither read nor answered"
                if readable:
                    break
                pending = pending or memoryview(piece)
                written = wire.send(pending)
                pending = pending[written:]
                sent += written
            else:
                wire.sendall(tail)
        except (ConnectionResetError, BrokenPipeError):
            pass
        wire.settimeout(PATIENCE_SECONDS)
        return read_answer(wire), sent


def read_answer(wire):
    """Read one answer to its declared end, or as far as it comes before the connection ends."""
    answer = b""
    try:
        while not is_whole(answer) and (received := wire.recv(65536)):
            answer += received
    except ConnectionResetError:
        pass
    return answer


def is_whole(answer):
    head, end, body = answer.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(fields_of(head)[1]["content-length"])


def fields_of(answer):
    status, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), fields


@cache
def bomb(mebibytes):
    """Return gzip data of so many MiB of zeros, at the best ratio there is, in one member."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(MIB)
    block = squeeze.compress(zeros) + squeeze.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    trailer = checksum.to_bytes(4, "little") + (mebibytes * MIB % 2**32).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + block * mebibytes + end + trailer


class TestTooMuch:
    def test_a_declared_2_gib_is_refused_before_a_byte_of_it_is_sent(self, sink):
        head = request_head("POST", "/kept", f"Content-Length: {2 * 1024 * MIB}")
        with socket.create_connection(sink.address, PATIENCE_SECONDS) as wire:
            wire.sendall(head)
            answer = read_answer(wire)
            assert wire.recv(65536) == b"", "the connection stays open"

        status, fields = fields_of(answer)
        assert (status, fields["connection"]) == (413, "close")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:thebes:problem:body-too-large"

    def test_who_expects_100_continue_is_told_at_once(self, sink):
        head = request_head("POST", "/kept", f"Content-Length: {2 * 1024 * MIB}", "Expect: 100-continue")
        with socket.create_connection(sink.address, PATIENCE_SECONDS) as wire:
            wire.sendall(head)
            answer = read_answer(wire)

        assert fields_of(answer)[0] == 413

    def test_an_endless_body_is_cut_off_in_flat_memory(self, sink):
        head, piece = request_head("POST", "/kept", "Transfer-Encoding: chunked"), chunk_of(b"a" * 65_536)

        def flood():
            offered, statuses = 0, []
            while offered < 200 * MIB:
                answer, sent = push(sink.address, head, piece, 64 * MIB)
                # What is under way in the buffers of the system comes on top of the limit.
                assert sent < 40 * MIB
                offered += sent
                statuses += [fields_of(answer)[0]] if answer else []
            return statuses

        growth, statuses = sink.growth_of(flood)

        assert set(statuses) == {413}
        assert growth < 20

    def test_without_the_limit_the_same_body_fills_the_memory(self, bare_sink):
        head, piece = request_head("POST", "/kept", "Transfer-Encoding: chunked"), chunk_of(b"a" * 65_536)

        growth, (answer, sent) = bare_sink.growth_of(
            lambda: push(bare_sink.address, head, piece, 64 * MIB, tail=b"0\r\n\r\n")
        )

        assert sent >= 64 * MIB
        assert fields_of(answer)[0] == 200
        assert growth > 40

    def test_an_app_that_never_reads_costs_no_memory_either(self, sink):
        head, piece = request_head("POST", "/ignored", "Transfer-Encoding: chunked"), chunk_of(b"a" * 65_536)

        growth, (answer, _) = sink.growth_of(
            lambda: push(sink.address, head, piece, 64 * MIB, until_answered=False)
        )

        assert fields_of(answer)[0] == 200
        assert growth < 20


class TestBombs:
    def test_a_bomb_on_a_route_that_takes_gzip_ends_at_the_limit_in_flat_memory(self, sink):
        body = bomb(1024)
        assert len(body) < 1.1 * MIB
        # Fewer bytes than the limit, so that it is what comes out of them that counts.
        piece = chunk_of(body[: MIB - 1])
        head = request_head("POST", "/inflated", "Content-Encoding: gzip", "Transfer-Encoding: chunked")

        growth, (answer, _) = sink.growth_of(lambda: push(sink.address, head, piece, len(piece)))

        assert fields_of(answer)[0] == 413
        assert growth < 20

    def test_the_same_bomb_where_gzip_is_not_declared_is_refused_at_once(self, sink):
        head = request_head("POST", "/kept", "Content-Encoding: gzip", "Content-Length: 1000000")
        with socket.create_connection(sink.address, PATIENCE_SECONDS) as wire:
            wire.sendall(head)
            assert wire.recv(65536).startswith(b"HTTP/1.1 415 ")

    def test_a_small_honest_body_in_gzip_is_counted_and_passes(self, sink):
        body = bomb(1)  # exactly the limit
        head = request_head(
            "POST", "/inflated", "Content-Encoding: gzip", f"Content-Length: {len(body)}", "Connection: close"
        )
        with socket.create_connection(sink.address, PATIENCE_SECONDS) as wire:
            wire.sendall(head + body)
            answer = read_answer(wire)

        assert json.loads(answer.partition(b"\r\n\r\n")[2])["bytes"] == MIB

    def test_without_the_limit_a_bomb_fills_the_memory(self, bare_sink):
        body = bomb(64)
        head = request_head(
            "POST", "/inflated", "Content-Encoding: gzip", f"Content-Length: {len(body)}", "Connection: close"
        )

        def ask():
            with socket.create_connection(bare_sink.address, PATIENCE_SECONDS) as wire:
                wire.sendall(head + body)
                return read_answer(wire)

        growth, answer = bare_sink.growth_of(ask)

        assert json.loads(answer.partition(b"\r\n\r\n")[2])["bytes"] == 64 * MIB
        assert growth > 40


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_a_large_upload_that_its_route_declares_arrives_whole_in_flat_memory(sink, framing):
    piece = os.urandom(MIB)
    digest = hashlib.sha256()
    for _ in range(UPLOAD_BYTES // MIB):
        digest.update(piece)
    is_counted = framing == "counted"
    length = f"Content-Length: {UPLOAD_BYTES}" if is_counted else "Transfer-Encoding: chunked"
    head = request_head("PUT", "/digested", length, "Connection: close")
    framed = piece if is_counted else chunk_of(piece)

    def upload():
        with socket.create_connection(sink.address, 30 * PATIENCE_SECONDS) as wire:
            wire.sendall(head)
            for _ in range(UPLOAD_BYTES // MIB):
                wire.sendall(framed)
            wire.sendall(b"" if is_counted else b"0\r\n\r\n")
            return read_answer(wire)

    growth, answer = sink.growth_of(upload)

    assert fields_of(answer)[0] == 200
    seen = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert seen == {"bytes": UPLOAD_BYTES, "sha256": digest.hexdigest()}
    assert growth < 30
