"""Breached passwords, asked for by range over TLS or in a file; and what an outage does."""

import asyncio
import socket
import traceback
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from breach_source import BREACHED, FINE, PwnedService, breach_service, listed, sha1
from issuing import Authority
from thebes.errors import ConfigurationError
from thebes.passwords import BreachesUnavailable, PasswordPolicy, PwnedFile, PwnedRanges
from thebes.secret import Secret


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("breaches"))
    made.issue()
    return made


@pytest.fixture
def service(authority: Authority) -> Iterator[PwnedService]:
    with breach_service(authority) as made:
        yield made


@pytest.mark.slow
class TestRanges:
    @pytest.mark.parametrize("framing", ["close", "length", "chunked"])
    async def test_a_breached_password_is_known_and_another_is_not(self, service, framing):
        service.framing = framing
        source = service.source()
        assert await source.knows(sha1(BREACHED))
        assert not await source.knows(sha1(FINE))

    async def test_padding_does_not_count(self, service):
        assert not await service.source().knows(sha1("only padding"))

    async def test_five_digits_are_all_that_is_sent_and_padding_is_asked_for(self, service):
        await service.source().knows(sha1(BREACHED))
        (request,) = service.seen
        digest = sha1(BREACHED).reveal_text()
        assert request.startswith(f"GET /range/{digest[:5]} HTTP/1.1\n")
        assert "Add-Padding: true" in request
        assert digest[5:] not in request.upper()
        assert digest[:6] not in request.upper()
        assert BREACHED not in request

    async def test_a_mirror_may_stand_under_a_path(self, service):
        await PwnedRanges(f"{service.url}/mirror/", cafile=service.cafile).knows(sha1(FINE))
        assert service.seen[0].startswith("GET /mirror/range/")

    async def test_the_certificate_is_verified(self, service, tmp_path):
        stranger = Authority(tmp_path)
        with pytest.raises(BreachesUnavailable) as refused:
            await PwnedRanges(service.url, cafile=stranger.root).knows(sha1(FINE))
        assert refused.value.reason == "SSLCertVerificationError"
        with pytest.raises(BreachesUnavailable):
            await PwnedRanges(service.url.replace("localhost", "127.0.0.2"), cafile=service.cafile).knows(
                sha1(FINE)
            )
        with pytest.raises(BreachesUnavailable):
            await PwnedRanges(service.url).knows(sha1(FINE))
        assert service.seen == []

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize(
        "trouble", ["silence", "drip", "slow head", "error", "redirect", "flood", "half"]
    )
    async def test_trouble_of_any_kind_is_an_outage_within_the_time(self, service, trouble, framing):
        service.trouble, service.framing = trouble, framing
        source = service.source(timeout=0.3)
        began = asyncio.get_running_loop().time()
        with pytest.raises(BreachesUnavailable) as outage:
            await source.knows(sha1(BREACHED))
        assert asyncio.get_running_loop().time() - began < 2
        assert len(service.seen) <= 1  # on a busy machine the time may be over before it is asked
        found = traceback.TracebackException.from_exception(outage.value, capture_locals=True)
        shown = "".join(line for line in found.format() if "tests/" not in line)
        assert sha1(BREACHED).reveal_text()[5:] not in shown.upper()

    async def test_slow_answers_do_not_keep_the_threads_from_later_ones(self, service):
        service.trouble = "drip"
        source = service.source(timeout=0.3)
        slow = await asyncio.gather(*(source.knows(sha1(FINE)) for _ in range(8)), return_exceptions=True)
        assert {type(one) for one in slow} == {BreachesUnavailable}
        service.trouble = ""
        async with asyncio.timeout(1.5):
            while True:
                with suppress(BreachesUnavailable):
                    assert await source.knows(sha1(BREACHED))
                    break

    async def test_nobody_there_is_an_outage(self, authority):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            source = PwnedRanges(f"https://localhost:{taken.getsockname()[1]}", cafile=authority.root)
            with pytest.raises(BreachesUnavailable, match="ConnectionRefusedError"):
                await source.knows(sha1(FINE))

    async def test_the_loop_is_free_meanwhile(self, service):
        service.trouble = "silence"
        asking = asyncio.create_task(service.source(timeout=5).knows(sha1(FINE)))
        async with asyncio.timeout(5):
            while not service.seen:
                await asyncio.sleep(0)
        service.goes_on.set()
        with pytest.raises(BreachesUnavailable):
            await asking

    @pytest.mark.parametrize(
        "url",
        [
            "http://api.pwnedpasswords.com",
            "api.pwnedpasswords.com",
            "https://",
            "https://ada:tea@localhost",
            "https://localhost/?q=",
            "file:///etc/passwd",
        ],
    )
    def test_only_https_is_asked(self, url):
        with pytest.raises(ConfigurationError, match="must be https") as refused:
            PwnedRanges(url)
        assert "tea" not in str(refused.value)

    def test_authorities_that_are_not_there_are_noticed_at_the_start(self, tmp_path):
        with pytest.raises(ConfigurationError, match="isn't there"):
            PwnedRanges(cafile=tmp_path / "root.pem")


class TestFile:
    @pytest.mark.parametrize("count", [1, 2, 3, 10, 1000])
    @pytest.mark.parametrize(("ending", "last"), [("\r\n", "\r\n"), ("\n", ""), ("\n", "\n")])
    async def test_every_line_is_found_and_nothing_else(self, tmp_path, count, ending, last):
        known = [f"password {number}" for number in range(count)]
        source = PwnedFile(listed(tmp_path / "pwned.txt", known, ending, last))
        for password in (known[0], known[-1], *known[:: max(1, count // 50)]):
            assert await source.knows(sha1(password))
        for number in range(50):
            assert not await source.knows(sha1(f"other {number}"))
        assert not await source.knows(Secret("0" * 40))
        assert not await source.knows(Secret("F" * 40))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
    @given(known=st.sets(st.text(max_size=5), min_size=1, max_size=30), other=st.text(max_size=5))
    async def test_it_knows_what_is_in_it(self, tmp_path, known, other):
        source = PwnedFile(listed(tmp_path / "pwned.txt", [one + "\0" for one in known]))
        assert await source.knows(sha1(other + "\0")) == (other in known)

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param("password\npassword1\n", id="a list of passwords"),
            pytest.param(f"{'F' * 40}:9\n{'0' * 40}:8\n" * 40, id="ordered by count"),
        ],
    )
    def test_what_is_no_list_ordered_by_hash_is_refused_at_the_start(self, tmp_path, text):
        path = tmp_path / "pwned.txt"
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"pwned\.txt"):
            PwnedFile(path)
        with pytest.raises(ConfigurationError, match="elsewhere"):
            PwnedFile(tmp_path / "elsewhere")

    async def test_one_that_went_away_is_an_outage(self, tmp_path):
        path = listed(tmp_path / "pwned.txt", ["tea"])
        source = PwnedFile(path)
        path.unlink()
        with pytest.raises(BreachesUnavailable, match="FileNotFoundError"):
            await source.knows(sha1("tea"))


class TestJudging:
    async def test_nothing_is_looked_up_unless_it_is_set(self, passwords):
        assert await passwords.judge(BREACHED) is None

    async def test_a_breached_password_is_refused(self, make, service, tmp_path):
        for source in (service.source(), PwnedFile(listed(tmp_path / "pwned.txt", [BREACHED, "tea"]))):
            passwords = make(policy=PasswordPolicy(breaches=source))
            assert (await passwords.judge(BREACHED)).reason == "breached"
            assert await passwords.judge(FINE) is None

    async def test_the_composed_form_is_looked_up(self, make, tmp_path):
        source = PwnedFile(listed(tmp_path / "pwned.txt", ["amélie drinks tea"]))
        passwords = make(policy=PasswordPolicy(breaches=source))
        assert (await passwords.judge("ame\u0301lie drinks tea")).reason == "breached"

    async def test_what_the_list_in_the_package_refuses_is_never_sent(self, make, service):
        passwords = make(policy=PasswordPolicy(breaches=service.source()))
        assert (await passwords.judge("passwordpassword")).reason == "blocklisted"
        assert (await passwords.judge("tea")).reason == "too_short"
        assert service.seen == []

    async def test_an_outage_is_reported_and_the_list_in_the_package_still_applies(self, make, service):
        service.trouble = "silence"
        said = []
        report = lambda event, *, reason: said.append((event, reason))  # noqa: E731
        passwords = make(policy=PasswordPolicy(breaches=service.source(timeout=0.2)), report=report)
        assert await passwords.judge(BREACHED) is None
        assert said == [("breaches_unavailable", "timeout")]
        assert (await passwords.judge("passwordpassword")).reason == "blocklisted"

    async def test_a_strict_policy_fails_closed(self, make, service):
        service.trouble = "error"
        said = []
        report = lambda event, *, reason: said.append((event, reason))  # noqa: E731
        policy = PasswordPolicy(breaches=service.source(), is_strict=True)
        passwords = make(policy=policy, report=report)
        with pytest.raises(BreachesUnavailable):
            await passwords.judge(FINE)
        assert said == [("breaches_unavailable", "HTTPException")]

    def test_strict_without_a_source_is_a_mistake(self):
        with pytest.raises(ConfigurationError, match="needs a source"):
            PasswordPolicy(is_strict=True)

    def test_a_look_up_takes_two_seconds_at_most(self):
        assert PwnedRanges()._timeout == 2.0
