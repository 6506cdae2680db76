"""Sizes and codings as they are written in settings."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes import ConfigurationError, Security
from thebes.validation.body import BODY_LIMIT, MULTIPART_LIMIT, parse_codings, parse_size

UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        (1, 1),
        (1024, 1024),
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("1KiB", 1024),
        ("1MiB", 1_048_576),
        ("1 MiB", 1_048_576),
        (" 12mib ", 12 * 1_048_576),
        ("1GIB", 1_073_741_824),
        ("007KiB", 7 * 1024),
    ],
)
def test_sizes_are_bytes_or_binary_units(written, size):
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written",
    [
        -1,
        1.5,
        True,
        None,
        b"1MiB",
        "",
        " ",
        "MiB",
        "-1",
        "+1",
        "1.5MiB",
        "1e6",
        "1_000",
        "0x10",
        "1MB",
        "1M",
        "1TiB",
        "1 MiB MiB",
        "1MiB;",
        "\u0661MiB",
        "1M\u0130B",
        "1" * 16,
    ],
)
def test_anything_else_is_no_size(written):
    with pytest.raises(ConfigurationError, match="is no size"):
        parse_size(written)


@given(st.integers(0, 10**12), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "\t"]))
def test_every_number_with_every_unit_is_read(number, unit, gap):
    for spelling in (unit, unit.lower(), unit.upper()):
        assert parse_size(f"{number}{gap}{spelling}") == number * UNITS[unit]


@given(st.text() | st.integers() | st.floats())
def test_a_size_is_read_or_refused_by_our_error(written):
    with suppress(ConfigurationError):
        assert parse_size(written) >= 0


@pytest.mark.parametrize(
    ("written", "codings"),
    [
        ([], set()),
        (["gzip"], {"gzip"}),
        (("GZIP", "Deflate"), {"gzip", "deflate"}),
        ({"gzip", "GZip"}, {"gzip"}),
        (iter(["deflate"]), {"deflate"}),
        ("gzip, deflate", {"gzip", "deflate"}),
    ],
)
def test_codings_that_can_be_counted_are_taken_in_any_case(written, codings):
    assert parse_codings(written) == codings


@pytest.mark.parametrize("written", [["br"], ["zstd"], ["gzip", "br"], ["identity"], ["x-gzip"], [""], "br"])
def test_other_codings_are_refused_by_name(written):
    with pytest.raises(ConfigurationError, match="allowed are deflate, gzip"):
        parse_codings(written)


@given(st.lists(st.text(max_size=8), max_size=4))
def test_codings_are_read_or_refused_by_our_error(written):
    with suppress(ConfigurationError):
        assert parse_codings(written) <= {"gzip", "deflate"}


class TestSettings:
    def test_the_limits_are_those_of_the_requirement_unless_set(self):
        assert (BODY_LIMIT, MULTIPART_LIMIT) == (1024**2, 12 * 1024**2)
        assert (Security().settings().body_limit, Security().settings().multipart_limit) == (
            BODY_LIMIT,
            MULTIPART_LIMIT,
        )

    def test_they_can_be_written_in_code_and_in_the_environment(self, monkeypatch):
        monkeypatch.setenv("THEBES_MULTIPART_LIMIT", "2GiB")

        settings = Security(body_limit="2KiB").settings()

        assert (settings.body_limit, settings.multipart_limit) == (2048, 2 * 1024**3)

    @pytest.mark.parametrize("name", ["body_limit", "multipart_limit"])
    def test_a_mistake_is_told_with_the_name_of_the_setting(self, name):
        with pytest.raises(ConfigurationError, match=f"{name}: '1MB' is no size"):
            Security(**{name: "1MB"})

    @pytest.mark.parametrize("mistake", [{"body_limit": "big"}, {"codings": ["br"]}, {"codings": "br"}])
    def test_a_route_refuses_the_same_mistakes(self, mistake):
        with pytest.raises(ConfigurationError):
            Security().route("PUT /upload", **mistake)
