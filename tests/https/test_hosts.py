"""Which Host is answered in production, and what development and test mode take for local."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asking import request_facts
from thebes import ConfigurationError
from thebes.facts import Mode, Surroundings
from thebes.https.hosts import HostCheck, LoopbackOnly, normal_host
from thebes.paths import RoutePattern

HOSTS = ("example.com", "api.example.com:8443", "[2001:db8::1]")
WITH_HEALTH = Surroundings(health=RoutePattern.parse("GET /healthz"))


def kind_of(check: HostCheck | LoopbackOnly, *args: object, **options: object) -> str | None:
    """The kind of the denial, or None where the request passes."""
    denial = check(request_facts(*args, **options))  # type: ignore[arg-type]
    return denial.kind if denial else None


class TestProduction:
    @pytest.mark.parametrize(
        "host",
        [
            "example.com",
            "EXAMPLE.com",
            "example.com:443",
            "example.com:80",
            "api.example.com:8443",
            "[2001:db8::1]",
            "[2001:DB8::1]:443",
        ],
    )
    def test_a_configured_host_passes_in_any_case_and_with_a_default_port(self, host):
        assert kind_of(HostCheck(HOSTS), headers={"host": host}) is None

    @given(
        st.sampled_from(["", "example.com", "EXAMPLE.com", "example.com:443", "example.com, example.com"])
        | st.text(alphabet="example.com:8443[2001:db]X,- ", max_size=20),
        st.sampled_from(["GET", "POST"]),
        st.sampled_from(["/", "/healthz"]),
    )
    def test_whom_it_passes_by_arrival_alone_it_never_refuses(self, host, method, path):
        check = HostCheck(HOSTS)
        facts = request_facts(method, path, {"host": host}, surroundings=WITH_HEALTH)
        if check.passes(facts.arrival):
            assert check(facts) is None
        assert check.passes(facts.arrival) is (host in ("example.com", "example.com:443", "example.com:80"))

    @pytest.mark.parametrize(
        "host",
        [
            pytest.param("evil.example", id="another name"),
            pytest.param("exampleXcom", id="a dot is no wildcard"),  # CVE-2026-25479
            pytest.param("example.com.evil.example", id="a configured name as prefix"),
            pytest.param("notexample.com", id="a configured name as suffix"),
            pytest.param("www.example.com", id="a subdomain"),
            pytest.param("example.com.", id="the name with its root dot"),
            pytest.param("example.com:8443", id="another port"),
            pytest.param("api.example.com", id="a name whose port is missing"),
            pytest.param("api.example.com:443", id="a default port where another is configured"),
            pytest.param("example.com:00443", id="a port in another spelling"),
            pytest.param("[2001:db8::2]", id="another address"),
            pytest.param("localhost", id="localhost"),
            pytest.param("127.0.0.1", id="loopback"),
        ],
    )
    def test_any_other_host_is_unknown(self, host):
        assert kind_of(HostCheck(HOSTS), headers={"host": host}) == "host-unknown"

    @pytest.mark.parametrize(
        "host",
        [
            "",
            " ",
            "*",
            "example.com example.com",
            "example.com, example.com",
            "example.com/",
            "https://example.com",
            "user@example.com",
            "example.com?",
            "example.com#x",
            "example.com:",
            "example.com:443x",
            "example.com:123456",
            "example.com:-1",
            "example.com\n",
            "example.com\tx",
            "2001:db8::1",
            "[2001:db8::1",
            "[example.com]",
            "ex%61mple.com",
            "ex\u00e4mple.com",
        ],
    )
    def test_a_malformed_host_is_malformed(self, host):
        assert kind_of(HostCheck(HOSTS), headers={"host": host}) == "host-malformed"

    def test_a_missing_host_is_malformed(self):
        assert kind_of(HostCheck(HOSTS), headers={"host": None}) == "host-malformed"

    def test_a_doubled_host_is_malformed_even_when_both_are_right(self):
        twice = [("host", "example.com"), ("host", "example.com")]
        assert kind_of(HostCheck(HOSTS), headers=twice) == "host-malformed"

    def test_a_forwarded_host_is_never_read(self):
        forwarded = {
            "host": "evil.example",
            "x-forwarded-host": "example.com",
            "forwarded": "host=example.com",
        }
        assert kind_of(HostCheck(HOSTS), headers=forwarded) == "host-unknown"

    @pytest.mark.parametrize(
        ("method", "path", "kind"),
        [
            ("GET", "/healthz", None),
            ("HEAD", "/healthz", None),
            ("POST", "/healthz", "host-unknown"),
            ("GET", "/healthz/", "host-unknown"),
            ("GET", "/healthz/../admin", "host-unknown"),
            ("GET", "//healthz", "host-unknown"),
            ("GET", "/HEALTHZ", "host-unknown"),
        ],
    )
    def test_only_the_health_path_answers_any_host(self, method, path, kind):
        facts = {"headers": {"host": "10.0.0.9"}, "surroundings": WITH_HEALTH}
        assert kind_of(HostCheck(HOSTS), method, path, **facts) == kind

    def test_a_handshake_on_the_health_path_is_no_health_check(self):
        facts = {"type": "websocket", "headers": {"host": "10.0.0.9"}, "surroundings": WITH_HEALTH}
        assert kind_of(HostCheck(HOSTS), "GET", "/healthz", **facts) == "host-unknown"

    @given(st.binary(max_size=60))
    @example(b"example.com\n")
    @example(b"example.com\x00")
    def test_no_other_bytes_pass_for_a_configured_host(self, host):
        denial = HostCheck(HOSTS)(request_facts(headers={"host": host.decode("latin-1")}))
        spelled = re.fullmatch(
            rb"example\.com(:80|:443)?|api\.example\.com:8443|\[2001:db8::1\](:80|:443)?", host, re.IGNORECASE
        )
        assert (denial is None) == (spelled is not None)


class TestConfiguredNames:
    @pytest.mark.parametrize(
        "host",
        [
            "*.example.com",
            "*",
            "https://example.com",
            "example.com/",
            "",
            " ",
            "a b",
            "ex\u00e4mple.com",
            "a@b",
        ],
    )
    def test_patterns_and_urls_are_refused(self, host):
        with pytest.raises(ConfigurationError, match="write each name whole"):
            normal_host(host)

    def test_names_are_kept_in_lower_case(self):
        assert normal_host("API.Example.com:8443") == "api.example.com:8443"


DEVELOPMENT = LoopbackOnly()
TEST = LoopbackOnly(["testserver"], in_process=True)


class TestDevelopment:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST",
            "localhost:8443",
            "app.localhost",
            "a.b.localhost:1",
            "127.0.0.1",
            "127.8.8.8:80",
            "[::1]",
            "[::1]:8443",
            "[::ffff:127.0.0.1]",
        ],
    )
    @pytest.mark.parametrize("check", [DEVELOPMENT, TEST], ids=["development", "test"])
    def test_local_names_pass(self, check, host):
        assert kind_of(check, headers={"host": host}) is None

    @pytest.mark.parametrize(
        "host",
        [
            "example.com",
            "localhost.example.com",
            "notlocalhost",
            "localhost.",
            "10.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "127.1",
            "2130706433",
            "127.0.0.1.example.com",
            "[::]",
            "[::2]",
            "[fe80::1]",
        ],
    )
    @pytest.mark.parametrize("check", [DEVELOPMENT, TEST], ids=["development", "test"])
    def test_other_names_do_not(self, check, host):
        assert kind_of(check, headers={"host": host}) == "not-local"

    @pytest.mark.parametrize("host", ["", "localhost/", "localhost localhost", "u@localhost", "::1", None])
    def test_a_malformed_host_is_malformed(self, host):
        assert kind_of(DEVELOPMENT, headers={"host": host}) == "host-malformed"

    @pytest.mark.parametrize("peer", ["10.0.0.5", "203.0.113.5", "::2", "fe80::1", "0.0.0.0"])
    @pytest.mark.parametrize("check", [DEVELOPMENT, TEST], ids=["development", "test"])
    def test_a_peer_off_this_machine_is_refused(self, check, peer):
        assert kind_of(check, client=(peer, 1)) == "not-local"

    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
    def test_loopback_peers_pass(self, peer):
        assert kind_of(DEVELOPMENT, client=(peer, 1)) is None

    @pytest.mark.parametrize("peer", [None, ("testclient", 50000), ("", 0)])
    def test_a_peer_without_an_address_is_local_in_test_mode_only(self, peer):
        assert kind_of(DEVELOPMENT, client=peer) == "not-local"
        assert kind_of(TEST, client=peer) is None

    def test_testserver_is_local_in_test_mode_only(self):
        assert kind_of(DEVELOPMENT, headers={"host": "testserver"}) == "not-local"
        assert kind_of(TEST, headers={"host": "testserver"}) is None

    @pytest.mark.parametrize(
        "field",
        [
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-ssl",
        ],
    )
    @pytest.mark.parametrize("check", [DEVELOPMENT, TEST], ids=["development", "test"])
    def test_any_forwarding_field_is_refused(self, check, field):
        assert kind_of(check, headers={field: ""}) == "not-local"

    @pytest.mark.parametrize("check", [DEVELOPMENT, TEST], ids=["development", "test"])
    def test_http_1_0_is_refused(self, check):
        assert kind_of(check, http_version="1.0") == "not-local"

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            pytest.param({"origin": "https://localhost:8443"}, None, id="origin of its own host"),
            pytest.param({"referer": "https://localhost:8443/a"}, None, id="referer of its own host"),
            pytest.param({"origin": "https://board.example"}, "not-local", id="origin elsewhere"),
            pytest.param({"referer": "https://board.example/a"}, "not-local", id="referer elsewhere"),
            pytest.param({"origin": "https://localhost:9"}, "not-local", id="origin on another port"),
            pytest.param(
                {"origin": "https://localhost:8443", "referer": "https://board.example/"},
                "not-local",
                id="referer elsewhere beside a good origin",
            ),
            # Fetch, "append a request Origin header": a page under Referrer-Policy: no-referrer sends null.
            pytest.param({"origin": "null"}, None, id="an opaque origin names no host"),
            pytest.param({}, None, id="neither"),
        ],
    )
    def test_a_page_of_this_origin_under_another_host_shows_a_proxy(self, fields, kind):
        same_origin = {"host": "localhost:8443", "sec-fetch-site": "same-origin"}
        assert kind_of(DEVELOPMENT, headers={**same_origin, **fields}) == kind

    def test_pages_of_other_sites_are_no_sign_of_a_proxy(self):
        fields = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        assert kind_of(DEVELOPMENT, headers=fields) is None

    def test_the_health_path_answers_any_host_but_no_proxy_and_no_other_machine(self):
        facts = {"surroundings": WITH_HEALTH, "headers": {"host": "10.0.0.9"}}
        assert kind_of(DEVELOPMENT, "GET", "/healthz", **facts) is None
        assert kind_of(DEVELOPMENT, "GET", "/healthz", **facts, client=("10.0.0.5", 1)) == "not-local"
        facts["headers"] = {"host": "10.0.0.9", "via": "1.1 proxy"}
        assert kind_of(DEVELOPMENT, "GET", "/healthz", **facts) == "not-local"


class TestModes:
    def test_production_is_what_nobody_asked_for(self):
        assert Mode.of({}) is Mode.of({"THEBES_ENV": ""}) is Mode.PRODUCTION

    @pytest.mark.parametrize("mode", Mode)
    def test_each_mode_is_asked_for_by_its_name(self, mode):
        assert Mode.of({"THEBES_ENV": mode.value}) is mode

    @pytest.mark.parametrize("value", ["dev", "Development", " development", "debug", "1", "true"])
    def test_any_other_word_stops_the_start(self, value):
        with pytest.raises(ConfigurationError, match="allowed are production, development, test"):
            Mode.of({"THEBES_ENV": value})
