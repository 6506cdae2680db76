"""How addresses, the Forwarded field and the settings about proxies are spelled, and nothing else is read."""

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes import ConfigurationError, Security
from thebes.forwarding import Client, Forwarding, ProxyHeader, last_elements, parse_address


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("203.0.113.9", "203.0.113.9"),
            (" \t203.0.113.9 \t", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("203.0.113.9:0", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("::FFFF:cb00:7109", "203.0.113.9"),
            ("[::ffff:203.0.113.9]", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:4711", "203.0.113.9"),
            ("2001:db8::9", "2001:db8::9"),
            ("2001:0DB8:0000::0009", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("[2001:db8::9]:443", "2001:db8::9"),
            ("2001:db8::9:443", "2001:db8::9:443"),
            ("::203.0.113.9", "::cb00:7109"),
        ],
    )
    def test_one_address_has_one_spelling(self, text: str, expected: str):
        assert str(parse_address(text)) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "unknown",
            "_hidden",
            "localhost",
            "203.0.113",
            "203.0.113.256",
            "203.0.113.09",
            "0xcb.0.113.9",
            "3405803785",
            "203.0.113.9.",
            "203.0.113.9:",
            "203.0.113.9:http",
            "203.0.113.9:-1",
            "203.0.113.9:123456",
            "203.0.113.9:\N{SUPERSCRIPT TWO}",
            "203.0.113.9 4711",
            "203.0.113.9/32",
            "203.0.113.9%eth0",
            "203.0.113.\N{SUPERSCRIPT TWO}",
            '"203.0.113.9"',
            "[203.0.113.9]",
            "[203.0.113.9]:80",
            "[2001:db8::9",
            "2001:db8::9]",
            "[[2001:db8::9]]",
            "[2001:db8::9]443",
            "[2001:db8::9]:443:443",
            "[2001:db8::9]x",
            "[]",
            "fe80::1%eth0",
            "[fe80::1%eth0]:80",
            "fe80::1%25eth0",
            "2001:db8:::9",
            "2001:db8::9::",
            "\N{NO-BREAK SPACE}203.0.113.9",
            "203.0.113.9\n",
            "203.0.113.9\0",
        ],
    )
    def test_what_is_no_address_is_none(self, text: str):
        assert parse_address(text) is None

    @given(st.text(max_size=60) | st.text("0123456789abf.:[]%/x ", max_size=40))
    def test_any_text_is_read_without_an_error(self, text: str):
        address = parse_address(text)

        assert address is None or parse_address(str(address)) == address

    @given(st.ip_addresses(), st.none() | st.integers(0, 65535))
    def test_an_address_with_a_port_is_that_address(self, address, port: int | None):
        shown = f"[{address}]" if address.version == 6 else str(address)
        expected = getattr(address, "ipv4_mapped", None) or address

        assert parse_address(shown if port is None else f"{shown}:{port}") == expected


def elements_of(text: str, count: int = 16) -> list[Mapping[str, str]]:
    """Return the elements in the order of the field."""
    return list(last_elements(text, count))[::-1]


class TestTheGrammarOfForwarded:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('for="_gazonk"', [{"for": "_gazonk"}]),
            ('For="[2001:db8:cafe::17]:4711"', [{"for": "[2001:db8:cafe::17]:4711"}]),
            (
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                [{"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}],
            ),
            ("for=192.0.2.43, for=198.51.100.17", [{"for": "192.0.2.43"}, {"for": "198.51.100.17"}]),
            (r'host="a\"b,;=c\\"', [{"host": 'a"b,;=c\\'}]),
            (r'for=a, host="b, for=c\", for=d"', [{"for": "a"}, {"host": 'b, for=c", for=d'}]),
            ('for="";proto=', [{"for": "", "proto": ""}]),
            ("for=a\t;\tproto=b \t,\tfor=c", [{"for": "a", "proto": "b"}, {"for": "c"}]),
        ],
    )
    def test_elements_are_read_in_order(self, text: str, expected: list[dict[str, str]]):
        """The first four are the examples of RFC 7239, section 4."""
        assert elements_of(text) == expected

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
    def test_no_more_are_read_than_asked_for(self, count: int):
        numbers = [element["for"] for element in elements_of("for=1, for=2, for=3", count)]

        assert numbers == ["1", "2", "3"][3 - min(count, 3) :]

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                " ",
                ",",
                "for",
                "=a",
                "for=a b",
                "for=a;",
                "for=a,",
                "for=a, ",
                "for=a;;by=b",
                "for=a;FOR=b",
            ),
            *(
                'for="a',
                'for=a"',
                'for="a"b',
                'for="a\\"',
                "for=a\n",
                "f\xf6r=a",
                ";for=a",
                "for==a b",
            ),
        ],
    )
    def test_reading_ends_at_what_breaks_the_grammar(self, text: str):
        assert elements_of(text) == []
        assert elements_of(f"for=forged, {text}") == []
        assert elements_of(f"{text}, for=last") == [{"for": "last"}]

    @given(st.text(max_size=80) | st.text('for=proto,; "\\[]:.1aA\t\n', max_size=60))
    def test_any_text_is_read_without_an_error(self, text: str):
        for element in elements_of(text):
            assert element
            assert all(name == name.lower() for name in element)

    names = st.sampled_from(["for", "by", "host", "proto"])

    @given(st.lists(st.dictionaries(names, st.text(max_size=20), min_size=1), max_size=5))
    def test_elements_in_quotes_are_read_as_they_were_written(self, elements: list[dict[str, str]]):
        assert elements_of(", ".join(map(written, elements))) == elements

    @given(st.text(max_size=60), st.dictionaries(names, st.text(max_size=20), min_size=1))
    def test_nothing_in_front_changes_how_the_last_element_is_read(self, front: str, element: dict[str, str]):
        assert elements_of(f"{front}, {written(element)}", 1) == [element]

    def test_a_long_field_takes_no_longer_than_a_short_one(self):
        for text in (
            "a=b," * 25_000 + '"',
            '"' + ",a=" * 25_000,
            "," * 100_000,
            'a="' * 33_000,
            "a=b;" * 25_000,
        ):
            begun = time.thread_time()
            elements_of(text)
            assert time.thread_time() - begun < 0.1


def written(element: Mapping[str, str]) -> str:
    """Return an element as a proxy writes it that quotes every value."""
    escaped = {name: value.translate({34: '\\"', 92: "\\\\"}) for name, value in element.items()}
    return ";".join(f'{name}="{value}"' for name, value in escaped.items())


class TestWhatIsRemembered:
    def test_a_flood_of_invented_fields_fills_no_memory_and_confuses_nobody(self):
        forwarding = Forwarding(["10.0.0.0/8"])
        proxy, stranger = {"client": ("10.0.0.1", 1)}, {"client": ("203.0.113.9", 1)}
        for number in range(3000):
            address = f"198.51.{number // 250}.{number % 250}"
            for field in (f"{address}", f"{'x' * 600}, {address}"):
                headers = {b"x-forwarded-for": field.encode()}
                assert forwarding.client(proxy, headers).address == address
                assert forwarding.client(stranger, headers).address == "203.0.113.9"

        assert len(forwarding._arrivals) <= 1024
        assert all(sum(len(part or "") for part in key) <= 512 for key in forwarding._arrivals)

    @pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
    @pytest.mark.parametrize("peer", ["203.0.113.9", "unix", "", None])
    def test_what_a_proxy_said_counts_for_no_stranger(self, header: ProxyHeader, peer: str | None):
        forwarding = Forwarding(["10.0.0.0/8"], header=header)
        field = b"for=192.0.2.1" if header == "forwarded" else b"192.0.2.1"
        headers = {header.encode(): field}
        by_proxy, stranger = {"client": ("10.0.0.1", 1)}, {"client": None if peer is None else (peer, 1)}

        for _ in range(2):  # worked out, and remembered
            assert forwarding.client(by_proxy, headers) == Client("192.0.2.1")
            assert forwarding.client(stranger, headers) == Client("unix" if peer is None else peer)

    def test_those_who_come_alike_arrive_alike_and_nobody_else(self):
        forwarding = Forwarding(["10.0.0.0/8"])
        scope = {"client": ("10.0.0.1", 1), "scheme": "http"}
        headers = {b"host": b"a.example", b"x-forwarded-for": b"192.0.2.1", b"x-forwarded-proto": b"https"}
        arrival = forwarding.arrival(scope, headers)
        same = forwarding.arrival({"client": ("10.0.0.1", 2), "scheme": "http"}, headers | {b"x": b"y"})

        assert same is arrival
        assert (arrival.host, arrival.scheme) == (b"a.example", "https")
        for other in (
            ({**scope, "client": ("10.0.0.2", 1)}, headers),
            ({**scope, "client": None}, headers),
            ({**scope, "scheme": "https"}, headers),
            (scope, headers | {b"host": b"b.example"}),
            (scope, headers | {b"x-forwarded-for": b"192.0.2.2"}),
            (scope, headers | {b"x-forwarded-proto": b"http"}),
            (scope, {}),
        ):
            assert forwarding.arrival(*other) is not arrival

    def test_a_client_that_is_uncertain_is_never_known(self):
        forwarding, proxy = Forwarding(["10.0.0.0/8"]), {"client": ("10.0.0.1", 1)}
        for headers in ({}, {b"x-forwarded-for": b""}, {b"x-forwarded-for": b"unknown"}):
            assert not forwarding.client(proxy, headers).is_certain
            assert forwarding.arrival(proxy, headers).client is None

    def test_a_field_that_names_nobody_is_reported(self):
        told: list[str] = []
        forwarding = Forwarding(["10.0.0.0/8"], report=lambda: told.append("uncertain"))
        proxy = {"client": ("10.0.0.1", 1)}

        forwarding.client(proxy, {b"x-forwarded-for": b"203.0.113.9"})
        forwarding.client({"client": ("203.0.113.9", 1)}, {b"x-forwarded-for": b"unknown"})
        assert told == []
        forwarding.client(proxy, {b"x-forwarded-for": b"unknown"})
        forwarding.client(proxy, {})
        assert told == ["uncertain"] * 2


class TestDeclarations:
    @pytest.mark.parametrize(
        "network",
        ["", "*", "10.0.0.1/8", "10.0.0.0/33", "proxy.internal", "10.0.0", "10.0.0.0/8,10.1.0.0/16", "Unix"],
    )
    def test_what_is_no_network_is_refused(self, network: str):
        with pytest.raises(ConfigurationError, match="proxies"):
            Forwarding([network])

    @pytest.mark.parametrize("hops", [-1, 0, 17])
    def test_hops_are_one_to_sixteen(self, hops: int):
        with pytest.raises(ConfigurationError, match="1 to 16"):
            Forwarding(["10.0.0.0/8"], hops=hops)

    @pytest.mark.parametrize("header", ["x-real-ip", "X-Forwarded-For", ""])
    def test_another_field_is_refused(self, header):
        with pytest.raises(ConfigurationError, match="proxy_header"):
            Forwarding(["10.0.0.0/8"], header=header)

    def test_security_reads_them_where_they_are_typed(self):
        with pytest.raises(ConfigurationError, match="proxies"):
            Security(proxies=["proxy.internal"])
        with pytest.raises(ConfigurationError, match="1 to 16"):
            Security(proxies=["10.0.0.0/8"], proxy_hops=0)
