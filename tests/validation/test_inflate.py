"""The inflater against the standard library: same bytes, small pieces, and never far past the room."""

import gzip
import io
import os
import time
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.validation.inflate import PIECE, InflateError, Inflater

CODERS = {"gzip": gzip.compress, "deflate": zlib.compress}
ROOM = 1 << 30
# Data with runs, so that a little input can give much output, up to several pieces.
plain_data = st.lists(
    st.binary(max_size=300)
    | st.builds(lambda byte, times: byte * times, st.binary(min_size=1, max_size=3), st.integers(0, 100_000)),
    max_size=5,
).map(b"".join)
cuts = st.lists(st.integers(0, 2**20), max_size=8)


def cut(data, positions):
    """Cut data at the positions, taken modulo its length."""
    borders = sorted({0, len(data), *(position % (len(data) + 1) for position in positions)})
    return [data[start:end] for start, end in pairwise(borders)]


def inflate(coding, chunks, room=ROOM):
    """Return all pieces, and say that the data has ended."""
    inflater, pieces = Inflater(coding), []
    for chunk in chunks:
        pieces += inflater.take(chunk, room - sum(map(len, pieces)))
    inflater.finish()
    return pieces


@given(st.sampled_from(sorted(CODERS)), plain_data, cuts)
def test_what_was_compressed_comes_out_whatever_the_chunks(coding, data, positions):
    pieces = inflate(coding, cut(CODERS[coding](data), positions))

    assert b"".join(pieces) == data
    assert all(len(piece) <= PIECE for piece in pieces)


@given(st.lists(plain_data, min_size=1, max_size=4), cuts)
def test_gzip_members_in_a_row_come_out_like_those_of_the_standard_library(parts, positions):
    """RFC 1952, 2.2: a file is a series of members."""
    data = b"".join(map(gzip.compress, parts))

    assert b"".join(inflate("gzip", cut(data, positions))) == gzip.decompress(data) == b"".join(parts)


@given(
    st.integers(0, 9),
    st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE]),
    plain_data,
    cuts,
)
def test_every_level_and_strategy_is_read(level, strategy, data, positions):
    coder = zlib.compressobj(level, zlib.DEFLATED, 31, 9, strategy)

    assert b"".join(inflate("gzip", cut(coder.compress(data) + coder.flush(), positions))) == data


@given(st.sampled_from(sorted(CODERS)), st.integers(0, 500_000), st.integers(0, 400_000), cuts)
def test_no_more_than_one_piece_comes_out_past_the_room(coding, size, room, positions):
    inflater, out = Inflater(coding), 0
    for chunk in cut(CODERS[coding](bytes(size)), positions):
        out += sum(map(len, inflater.take(chunk, room - out)))
        if out > room:
            break

    assert out <= room + PIECE
    assert (out > room) == (size > room)


@given(st.sampled_from(sorted(CODERS)), st.binary(max_size=300), st.data())
def test_an_unfinished_body_is_refused_at_its_end(coding, data, draw):
    whole = CODERS[coding](data)
    part = whole[: draw.draw(st.integers(1, len(whole) - 1))]

    with pytest.raises(InflateError):
        inflate(coding, [part])


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_are_inflated_as_the_standard_library_does_or_refused(data):
    try:
        expected = gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    except (OSError, EOFError, zlib.error):
        expected = None
    try:
        found = b"".join(inflate("gzip", [data]))
    except InflateError:
        found = None
    if expected is None:
        assert found is None


@given(st.sampled_from(sorted(CODERS)), st.binary(min_size=1, max_size=300), st.data())
def test_a_flipped_bit_gives_the_same_bytes_or_is_refused(coding, data, draw):
    """Both formats end with a checksum; what it doesn't cover are fields of the header."""
    damaged = bytearray(CODERS[coding](data))
    damaged[draw.draw(st.integers(0, len(damaged) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with suppress(InflateError):
        assert b"".join(inflate(coding, [bytes(damaged)])) == data


@pytest.mark.parametrize("garbage", [b"\0", b"\0" * 512, b"garbage", b"\x1f\x8b"])
@pytest.mark.parametrize("coding", sorted(CODERS))
def test_garbage_behind_the_data_is_refused(coding, garbage):
    with pytest.raises(InflateError):
        inflate(coding, [CODERS[coding](b"data") + garbage])


def test_deflate_means_the_zlib_format():
    """RFC 9110, 8.4.1.2: some old clients send it bare; then its end could not be checked."""
    bare = zlib.compressobj(wbits=-15)

    with pytest.raises(InflateError):
        inflate("deflate", [bare.compress(b"data") + bare.flush()])


def test_nothing_at_all_is_no_error():
    assert inflate("gzip", []) == []
    assert inflate("gzip", [b"", b""]) == []


def test_many_tiny_members_in_one_chunk_are_read_in_linear_time():
    """Each member ends within the chunk; copying the rest of the chunk for each would take seconds."""
    member = gzip.compress(b"", mtime=0)

    def seconds(members):
        chunk = member * members
        started = time.process_time()
        assert not any(inflate("gzip", [chunk]))
        return time.process_time() - started

    seconds(2_000)
    few, many = seconds(2_000), seconds(32_000)

    assert many / few < 16 * 3


def test_a_random_megabyte_comes_out_in_full_pieces():
    data = os.urandom(1 << 20)

    assert b"".join(inflate("gzip", cut(gzip.compress(data), range(0, 1 << 20, 4096)))) == data
