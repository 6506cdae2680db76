"""Who the client is and how it came: proxies are believed as far as they are declared, and nobody else."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import ask, request_facts
from thebes import Security
from thebes.facts import RequestFacts, Surroundings
from thebes.forwarding import Client, Forwarding

PEER = "10.0.0.1"  # the declared proxy that the socket leads to
CLIENT = "203.0.113.9"
FORGED = "198.51.100.66"
PROXIES = ("10.0.0.0/8", "fd00::/8")


def facts_of(
    *lines: str,
    header: str = "x-forwarded-for",
    declared: str | None = None,
    hops: int = 1,
    proxies: tuple[str, ...] = PROXIES,
    peer: str | None = PEER,
    scheme: str = "http",
    others: tuple[tuple[str, str], ...] = (),
) -> RequestFacts:
    """Return the facts of a request whose forwarding field came in these lines."""
    forwarding = Forwarding(proxies, header=declared or header, hops=hops)  # type: ignore[arg-type]
    return request_facts(
        headers=[*((header, line) for line in lines), *others],
        surroundings=Surroundings(forwarding=forwarding),
        client=None if peer is None else (peer, 4711),
        scheme=scheme,
    )


CERTAIN = Client(CLIENT)
UNCERTAIN = Client(PEER, is_certain=False)  # the peer counts when its field names nobody


class TestTheClientBehindOneProxy:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            pytest.param([CLIENT], CERTAIN, id="named by the proxy"),
            pytest.param([f"{FORGED}, {CLIENT}"], CERTAIN, id="forged in front"),
            pytest.param([f"{FORGED},{CLIENT}"], CERTAIN, id="forged in front, no blank"),
            pytest.param([f"1.1.1.1, {FORGED}, 2.2.2.2, {CLIENT}"], CERTAIN, id="forged chain in front"),
            pytest.param([f"10.0.0.7, 10.0.0.8, {CLIENT}"], CERTAIN, id="forged proxies in front"),
            pytest.param([f"127.0.0.1, {CLIENT}"], CERTAIN, id="forged loopback in front"),
            pytest.param([FORGED, CLIENT], CERTAIN, id="forged in a line of its own"),
            pytest.param([FORGED, f"{FORGED}, {CLIENT}"], CERTAIN, id="forged in two lines"),
            pytest.param([f"garbage;, \x00'\"[, {CLIENT}"], CERTAIN, id="garbage in front is never read"),
            pytest.param([f"{FORGED}, 10.0.0.2"], UNCERTAIN, id="a chain longer than the declared hops"),
            pytest.param(["10.0.0.2"], UNCERTAIN, id="a proxy alone"),
            pytest.param([], UNCERTAIN, id="no field"),
            pytest.param([""], UNCERTAIN, id="empty field"),
            pytest.param([f"{CLIENT},"], UNCERTAIN, id="empty last element"),
            pytest.param([f"{CLIENT}, "], UNCERTAIN, id="blank last element"),
            pytest.param([CLIENT, ""], UNCERTAIN, id="empty last line"),
            pytest.param([f"{FORGED}, unknown"], UNCERTAIN, id="unknown"),
            pytest.param([f"{FORGED}, _hidden"], UNCERTAIN, id="obfuscated"),
            pytest.param([f"{FORGED}, localhost"], UNCERTAIN, id="a name"),
            pytest.param([f'{FORGED}, "{CLIENT}"'], UNCERTAIN, id="quoted"),
            pytest.param([f"{FORGED}; {CLIENT}"], UNCERTAIN, id="another separator"),
        ],
    )
    def test_it_is_the_last_address_of_x_forwarded_for(self, lines: list[str], expected: Client):
        assert facts_of(*lines).client == expected

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            pytest.param([f"for={CLIENT}"], CERTAIN, id="named by the proxy"),
            pytest.param([f"For={CLIENT};Proto=https;By=10.0.0.1"], CERTAIN, id="names in any case"),
            pytest.param([f'for="{CLIENT}:4711"'], CERTAIN, id="quoted with a port"),
            pytest.param([f'for="\\2\\03.0.113.9"'], CERTAIN, id="quoted with backslashes"),  # noqa: F541
            pytest.param([f"for={FORGED}, for={CLIENT}"], CERTAIN, id="forged in front"),
            pytest.param([f"for={FORGED}", f"for={CLIENT}"], CERTAIN, id="forged in a line of its own"),
            pytest.param([f"for={FORGED};by=10.0.0.1, for={CLIENT}"], CERTAIN, id="forged hop in front"),
            pytest.param([f'host="a, for={FORGED}", for={CLIENT}'], CERTAIN, id="forged inside quotes"),
            pytest.param([f"for={FORGED}, proto=https"], UNCERTAIN, id="last element without for"),
            pytest.param([f"for={FORGED}, for=10.0.0.2"], UNCERTAIN, id="longer than the declared hops"),
            pytest.param([f"for={FORGED}, for=unknown"], UNCERTAIN, id="unknown"),
            pytest.param([f"for={FORGED}, for=_hidden"], UNCERTAIN, id="obfuscated"),
            pytest.param([f'for={FORGED}, for=""'], UNCERTAIN, id="empty"),
            pytest.param([f"for={FORGED};for={CLIENT}"], UNCERTAIN, id="doubled in one element"),
            pytest.param([f"for={CLIENT},"], UNCERTAIN, id="empty last element"),
            pytest.param([f"for={CLIENT};"], UNCERTAIN, id="empty last pair"),
            pytest.param([f"for = {CLIENT}"], UNCERTAIN, id="blanks around the equals sign"),
            pytest.param([CLIENT], UNCERTAIN, id="an address alone"),
            pytest.param([], UNCERTAIN, id="no field"),
            pytest.param([""], UNCERTAIN, id="empty field"),
        ],
    )
    def test_it_is_the_last_for_of_forwarded(self, lines: list[str], expected: Client):
        assert facts_of(*lines, header="forwarded").client == expected


class TestTheClientBehindTwoProxies:
    @pytest.mark.parametrize(
        ("elements", "expected"),
        [
            pytest.param([CLIENT, "10.0.0.2"], CERTAIN, id="named by the outer proxy"),
            pytest.param([FORGED, CLIENT, "10.0.0.2"], CERTAIN, id="forged in front"),
            pytest.param(["10.0.0.9", CLIENT, "10.0.0.2"], CERTAIN, id="forged proxy in front"),
            pytest.param([FORGED, CLIENT], CERTAIN, id="only one proxy in the way"),
            pytest.param(["unknown", CLIENT, "10.0.0.2"], CERTAIN, id="unreadable in front"),
            pytest.param([FORGED, "10.0.0.3", "10.0.0.2"], UNCERTAIN, id="longer than the declared hops"),
            pytest.param([FORGED, "unknown", "10.0.0.2"], UNCERTAIN, id="the outer proxy didn't know"),
            pytest.param([FORGED, "_hidden", "10.0.0.2"], UNCERTAIN, id="the outer proxy hid it"),
            pytest.param([CLIENT, "unknown"], UNCERTAIN, id="the inner proxy didn't know"),
            pytest.param(["10.0.0.2"], UNCERTAIN, id="a proxy alone"),
            pytest.param([], UNCERTAIN, id="no field"),
        ],
    )
    @pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
    @pytest.mark.parametrize("is_split", [False, True], ids=["one line", "a line for each"])
    def test_it_is_the_first_address_outside(
        self, header: str, elements: list[str], expected: Client, is_split: bool
    ):
        texts = [f"for={element}" if header == "forwarded" else element for element in elements]
        lines = texts if is_split or not texts else [", ".join(texts)]

        assert facts_of(*lines, header=header, hops=2).client == expected

    def test_one_declared_hop_is_one_step_however_long_the_chain(self):
        assert facts_of(f"{CLIENT}, 10.0.0.2", hops=1).client == UNCERTAIN
        assert facts_of(f"{CLIENT}, 10.0.0.2", hops=2).client == CERTAIN

    def test_sixteen_hops_are_walked_and_no_more(self):
        chain = ", ".join(["10.0.0.2"] * 15)

        assert facts_of(f"{FORGED}, {CLIENT}, {chain}", hops=16).client == CERTAIN
        assert facts_of(f"{CLIENT}, 10.0.0.2, {chain}", hops=16).client == UNCERTAIN


# What servers in front of other people's apps write, and what clients try.
INVENTED = [
    ("X-Forwarded-For", FORGED),
    ("X-Forwarded-For", "127.0.0.1"),
    ("Forwarded", f"for={FORGED};proto=https;host=evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X_Forwarded_For", FORGED),
    ("X-Real-IP", FORGED),
    ("X-Client-IP", FORGED),
    ("X-Cluster-Client-IP", FORGED),
    ("X-Original-Forwarded-For", FORGED),
    ("True-Client-IP", FORGED),
    ("CF-Connecting-IP", FORGED),
    ("Fastly-Client-IP", FORGED),
    ("Via", "1.1 10.0.0.1"),
]


class TestWithoutADeclaredProxy:
    @pytest.mark.parametrize(("name", "value"), INVENTED)
    def test_no_field_changes_who_asks_or_how(self, name: str, value: str):
        facts = request_facts(headers=[(name, value)], client=(CLIENT, 1), surroundings=Surroundings())

        assert facts.client == CERTAIN
        assert facts.scheme == "http"

    @pytest.mark.parametrize(("name", "value"), INVENTED)
    def test_a_peer_outside_the_declared_networks_is_the_client(self, name: str, value: str):
        facts = facts_of(peer=CLIENT, others=((name, value),))

        assert facts.client == CERTAIN
        assert facts.scheme == "http"

    @pytest.mark.parametrize("declared", ["x-forwarded-for", "forwarded"])
    def test_the_field_that_is_not_declared_is_never_read(self, declared: str):
        both = (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.2"))

        facts = facts_of(declared=declared, others=both)

        assert facts.client == Client("192.0.2.1" if declared == "x-forwarded-for" else "192.0.2.2")

    @pytest.mark.parametrize(("name", "value"), INVENTED[5:])
    def test_only_the_declared_field_is_read_from_a_proxy(self, name: str, value: str):
        assert facts_of(CLIENT, others=((name, value),)).client == CERTAIN


class TestThePeer:
    @pytest.mark.parametrize(
        ("peer", "proxies", "expected"),
        [
            pytest.param("10.1.2.3", ("10.0.0.0/8",), True, id="inside the network"),
            pytest.param("11.0.0.1", ("10.0.0.0/8",), False, id="outside it"),
            pytest.param("10.1.2.3", ("10.1.2.3",), True, id="the address itself"),
            pytest.param("10.1.2.30", ("10.1.2.3",), False, id="an address that begins like it"),
            pytest.param("::ffff:10.1.2.3", ("10.0.0.0/8",), True, id="IPv4 written as IPv6"),
            pytest.param("fd00::1", ("fd00::/8",), True, id="IPv6"),
            pytest.param("FD00:0:0::1", ("fd00::/8",), True, id="another spelling"),
            pytest.param("fe80::1%eth0", ("fe80::/10",), False, id="an address with a zone"),
            pytest.param("fd00::1", ("0.0.0.0/0",), False, id="all of IPv4 is no IPv6"),
            pytest.param("testclient", ("0.0.0.0/0", "::/0"), False, id="no address"),
            pytest.param("", ("0.0.0.0/0", "::/0"), False, id="empty"),
            pytest.param(None, ("0.0.0.0/0", "::/0"), False, id="a Unix socket that isn't declared"),
            pytest.param(None, ("unix",), True, id="a declared Unix socket"),
            pytest.param("unix", ("unix",), False, id="a peer that calls itself unix"),
            pytest.param("10.1.2.3", ("unix",), False, id="an address where only unix is declared"),
            pytest.param("10.1.2.3", (), False, id="nothing declared"),
        ],
    )
    def test_it_is_a_proxy_only_by_its_address(
        self, peer: str | None, proxies: tuple[str, ...], expected: bool
    ):
        facts = facts_of(CLIENT, peer=peer, proxies=proxies)

        assert facts.surroundings.forwarding.is_proxy(facts.scope) is expected
        assert (facts.client == CERTAIN) is expected

    def test_behind_a_unix_socket_the_field_names_the_client(self):
        assert facts_of(f"{FORGED}, {CLIENT}", peer=None, proxies=("unix",)).client == CERTAIN
        assert facts_of(peer=None, proxies=("unix",)).client == Client("unix", is_certain=False)
        assert facts_of(f"{FORGED}, {CLIENT}", peer=None, proxies=PROXIES).client == Client("unix")

    def test_it_is_written_in_canonical_form(self):
        assert facts_of(peer="::ffff:203.0.113.9").client == CERTAIN
        assert facts_of(peer="2001:DB8:0:0::9").client == Client("2001:db8::9")

    def test_many_peers_are_told_apart_and_not_remembered_for_ever(self):
        forwarding = Forwarding(["10.0.0.0/8"])
        for number in range(5000):
            inside = {"client": (f"10.0.{number // 250}.{number % 250}", 1)}
            outside = {"client": (f"11.0.{number // 250}.{number % 250}", 1)}
            assert forwarding.is_proxy(inside)
            assert not forwarding.is_proxy(outside)

        assert len(forwarding._peers) <= 1024


class TestTheScheme:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            pytest.param(["https"], "https", id="https"),
            pytest.param(["http"], "http", id="http"),
            pytest.param([], None, id="missing"),
            pytest.param([""], None, id="empty"),
            pytest.param(["https", "https"], None, id="doubled"),
            pytest.param(["https", "http"], None, id="doubled, the first forged"),
            pytest.param(["https,http"], None, id="a list"),
            pytest.param(["https, https"], None, id="a list of the same"),
            pytest.param(["HTTPS"], None, id="upper case"),
            pytest.param(["https "], None, id="trailing blank"),
            pytest.param(["wss"], "https", id="of WebSockets"),
            pytest.param(["ws"], "http", id="of WebSockets without TLS"),
            pytest.param(["wss, https"], None, id="two words for one"),
            pytest.param(["on"], None, id="another word"),
            pytest.param(["https\0"], None, id="NUL"),
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_proxy_says_it_exactly_once_or_it_is_unknown(
        self, lines: list[str], expected: str | None, scheme: str
    ):
        others = tuple(("X-Forwarded-Proto", line) for line in lines)

        assert facts_of(CLIENT, others=others, scheme=scheme).scheme == expected

    @pytest.mark.parametrize(
        ("hops", "lines", "expected"),
        [
            pytest.param(1, [f"for={CLIENT};proto=https"], "https", id="https"),
            pytest.param(1, [f"proto=http;for={CLIENT}"], "http", id="http"),
            pytest.param(1, [f'for={CLIENT};PROTO="https"'], "https", id="quoted, upper-case name"),
            pytest.param(1, [f"for={CLIENT}"], None, id="missing"),
            pytest.param(1, [f"for={FORGED};proto=https, for={CLIENT}"], None, id="said by a forged element"),
            pytest.param(1, [f"for={FORGED};proto=https, for={CLIENT};proto=http"], "http", id="forged"),
            pytest.param(1, [f"for={FORGED};proto=https", f"for={CLIENT};proto=http"], "http", id="line"),
            pytest.param(1, [f"for={CLIENT};proto=https;proto=http"], None, id="doubled"),
            pytest.param(1, [f"for={CLIENT};proto=HTTPS"], None, id="upper case"),
            pytest.param(1, ["proto=https"], None, id="without a client"),
            pytest.param(1, ["for=unknown;proto=https"], None, id="with an unknown client"),
            pytest.param(1, [], None, id="no field"),
            pytest.param(
                2, [f"for={CLIENT};proto=https, for=10.0.0.2;proto=http"], "https", id="outer proxy"
            ),
            pytest.param(
                2, [f"for={CLIENT};proto=http, for=10.0.0.2;proto=https"], "http", id="outer says http"
            ),
            pytest.param(
                2,
                [f"for={FORGED};proto=https, for={CLIENT};proto=http, for=10.0.0.2;proto=https"],
                "http",
                id="forged in front of the outer proxy",
            ),
            pytest.param(2, ["for=10.0.0.3;proto=https, for=10.0.0.2;proto=https"], None, id="proxies alone"),
        ],
    )
    def test_forwarded_says_it_in_the_element_that_names_the_client(
        self, hops: int, lines: list[str], expected: str | None
    ):
        others = (("X-Forwarded-Proto", "https"),)  # never read beside Forwarded

        assert facts_of(*lines, header="forwarded", hops=hops, others=others).scheme == expected

    @pytest.mark.parametrize(
        ("scheme", "expected"),
        [("http", "http"), ("https", "https"), ("ws", "http"), ("wss", "https"), ("gopher", None)],
    )
    def test_without_a_proxy_it_is_that_of_the_connection(self, scheme: str, expected: str | None):
        others = (("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.1;proto=https"))

        assert facts_of(peer=CLIENT, scheme=scheme, others=others).scheme == expected


class TestTheForwardedHost:
    @pytest.fixture
    def app(self, monkeypatch: pytest.MonkeyPatch, tmp_path):
        async def hello(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})

        key = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        monkeypatch.setenv("THEBES_ENV", "production")
        monkeypatch.setenv("THEBES_SECRET_KEYS", f"k1:{key}")
        monkeypatch.chdir(tmp_path)
        return Security(hosts=["example.com"], proxies=PROXIES, accounts=None).wrap(hello)

    def request(self, host: str, forwarded_host: str, scheme: str = "https") -> RequestFacts:
        fields = {"Host": host, "X-Forwarded-Host": forwarded_host, "X-Forwarded-For": CLIENT}
        fields |= {"X-Forwarded-Proto": scheme, "Accept": "text/html"}
        return request_facts(headers=fields, client=(PEER, 1))

    async def test_it_opens_no_door_for_a_host_that_is_not_configured(self, app):
        assert (await ask(app, self.request("evil.example", "example.com"))).status == 421

    async def test_it_closes_none_either(self, app):
        assert (await ask(app, self.request("example.com", "evil.example"))).status == 200

    async def test_it_is_never_the_target_of_a_redirect(self, app):
        answer = await ask(app, self.request("example.com", "evil.example", scheme="http"))

        assert (answer.status, answer.header(b"location")) == (308, b"https://example.com/")


anything = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
meant_to_be_read = st.text('for=proto,; "\\[]:.10_', max_size=40)


class TestForgedPrefixes:
    @given(anything | meant_to_be_read, st.sampled_from(["x-forwarded-for", "forwarded"]), st.integers(1, 3))
    def test_any_field_gives_a_client_and_a_scheme_without_an_error(self, text: str, header: str, hops: int):
        facts = facts_of(text, header=header, hops=hops, others=(("X-Forwarded-Proto", text),))

        assert isinstance(facts.client, Client)
        assert facts.scheme in ("http", "https", None)

    @given(anything | meant_to_be_read, st.integers(1, 2), st.booleans())
    def test_no_prefix_changes_what_x_forwarded_for_says(self, prefix: str, hops: int, is_split: bool):
        genuine = ", ".join([CLIENT, "10.0.0.2"][:hops])
        lines = [prefix, genuine] if is_split else [f"{prefix}, {genuine}"]

        assert facts_of(*lines, hops=hops).client == CERTAIN

    @given(anything | meant_to_be_read, st.integers(1, 2), st.booleans())
    def test_no_prefix_changes_what_forwarded_says(self, prefix: str, hops: int, is_split: bool):
        genuine = ", ".join([f"for={CLIENT};proto=https", "for=10.0.0.2"][:hops])
        lines = [prefix, genuine] if is_split else [f"{prefix}, {genuine}"]

        facts = facts_of(*lines, header="forwarded", hops=hops)

        assert (facts.client, facts.scheme) == (CERTAIN, "https")

    @given(
        st.lists(
            anything | st.sampled_from([f"for={FORGED}", FORGED, "for=10.0.0.2;proto=https"]), max_size=4
        )
    )
    def test_a_client_that_comes_without_a_proxy_is_its_own_address(self, lines: list[str]):
        for header in ("x-forwarded-for", "forwarded"):
            facts = facts_of(*lines, header=header, peer=CLIENT, hops=2)
            assert (facts.client, facts.scheme) == (CERTAIN, "http")
