"""Which passwords may be set, and what is said of those that may not."""

import gzip
import hashlib
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.passwords import PasswordPolicy, Refusal
from thebes.passwords.common import CommonPasswords, folded
from thebes.passwords.policy import FILLERS, SEPARATORS, TAILS, context_words, is_of_context

ENTRIES = gzip.decompress((files("thebes.passwords") / "common.txt.gz").read_bytes()).decode().splitlines()


async def reason(passwords, password: str, *context: str) -> str | None:
    refusal = await passwords.judge(password, context=context)
    return refusal and refusal.reason


class TestLength:
    @pytest.mark.requirement("PWD-01")
    @pytest.mark.parametrize("character", ["k", "木", "🦉"])
    async def test_fifteen_code_points_are_the_least_by_default(self, passwords, character):
        password = "xv" + character * 12
        assert await reason(passwords, password) == "too_short"
        assert await reason(passwords, password + "q") is None

    @pytest.mark.requirement("PWD-01")
    @pytest.mark.parametrize("least", [14, 8, 1, 0, -1])
    def test_no_setting_allows_fewer_for_a_password_alone(self, least):
        with pytest.raises(ConfigurationError, match="at least 15"):
            PasswordPolicy(min_length=least)

    @pytest.mark.requirement("PWD-01")
    @pytest.mark.parametrize("least", [7, 1, 0, -1])
    def test_no_setting_allows_fewer_than_eight(self, least):
        with pytest.raises(ConfigurationError, match="at least 8"):
            PasswordPolicy(min_length=least, requires_second_factor=True)

    async def test_eight_are_enough_where_a_second_factor_is_always_asked_for(self, make):
        passwords = make(policy=PasswordPolicy(min_length=8, requires_second_factor=True))
        assert await reason(passwords, "xvkqzjw") == "too_short"
        assert await reason(passwords, "xvkqzjwp") is None
        assert await reason(passwords, "Baseball1") == "blocklisted"

    @pytest.mark.parametrize("most", [63, 1025, 0])
    def test_the_greatest_length_lies_between_64_and_1024(self, most):
        with pytest.raises(ConfigurationError, match="64 to 1024"):
            PasswordPolicy(max_length=most)

    def test_the_least_is_not_above_the_greatest(self):
        with pytest.raises(ConfigurationError, match="above max_length"):
            PasswordPolicy(min_length=70, max_length=64)

    async def test_the_greatest_length_can_be_set(self, make):
        passwords = make(policy=PasswordPolicy(max_length=64))
        assert await reason(passwords, "xv" * 31 + "q.") is None
        assert await reason(passwords, "xv" * 31 + "q..") == "too_long"


@pytest.mark.requirement("PWD-05")
class TestNoComposition:
    @pytest.mark.parametrize(
        "password",
        [
            pytest.param("qxjkvzwpbmfghty", id="small letters"),
            pytest.param("QXJKVZWPBMFGHTY", id="capitals"),
            pytest.param("839201746528391", id="digits"),
            pytest.param("~}{|^\\`><;:'?][", id="punctuation"),
            pytest.param("seven lamps over", id="spaces"),
            pytest.param("🦉🐢🦊🐙🦆🐝🦋🐌🐞🐜🦗🕷🦂🐢🐍", id="emoji"),
            pytest.param("непредсказуемость", id="Cyrillic"),
            pytest.param("七盏灯照着码头上的一只老猫头鹰", id="Han"),
            pytest.param("ﷺ\u202eabcdefghijklmz", id="right to left"),
        ],
    )
    async def test_one_class_is_enough_and_none_is_forbidden(self, passwords, password):
        assert await reason(passwords, password) is None
        assert (await passwords.verify(password, await passwords.hash(password))).is_match

    @settings(max_examples=30)
    @given(
        st.text(
            st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S", "Zs"]), min_size=20, max_size=60
        )
    )
    async def test_any_printable_text_that_is_on_no_list_is_accepted(self, password):
        from thebes.facts import Mode
        from thebes.passwords import Lanes, Passwords

        passwords = Passwords(cost="test", mode=Mode.TEST, lanes=Lanes(1))
        refusal = await passwords.judge(password)
        long_enough = len(unicodedata.normalize("NFC", password)) >= 15
        if long_enough and folded(password) not in CommonPasswords(15):
            assert refusal is None
        else:
            assert refusal.reason in ("too_short", "blocklisted")
        await passwords.close()


class TestCommonPasswords:
    @pytest.mark.parametrize(
        "password",
        [
            "passwordpassword",
            "PasswordPassword",
            "PASSWORDPASSWORD",
            "123456789012345",
            "1qaz2wsx3edc4rfv",
            "qwertyuiopasdfgh",
            "aaaaaaaaaaaaaaa",
            "iloveyouiloveyou",
            "password1234567890",
            "correct horse battery staple",
            "CorrectHorseBatteryStaple",
            "correct-horse-battery-staple1",
            "thisismypassword",
            "maytheforcebewithyou",
            "ich liebe dich so sehr",
        ],
    )
    async def test_what_people_take_when_fifteen_are_asked_for_is_refused(self, passwords, password):
        assert await reason(passwords, password) == "blocklisted"

    @pytest.mark.parametrize("behind", ["x", " and a lamp"])
    async def test_one_that_contains_an_entry_is_not(self, passwords, behind):
        assert await reason(passwords, "passwordpassword" + behind) is None
        assert await reason(passwords, behind + "passwordpassword") is None

    def test_the_list_holds_more_than_3000_of_either_length(self):
        assert sum(len(entry) >= 15 for entry in ENTRIES) > 40_000
        assert sum(8 <= len(entry) < 15 for entry in ENTRIES) > 40_000

    def test_entries_are_folded_sorted_and_within_the_lengths_of_the_policy(self):
        assert sorted(set(ENTRIES)) == ENTRIES
        assert all(folded(entry) == entry for entry in ENTRIES)
        assert all(8 <= len(entry) <= 256 for entry in ENTRIES)

    def test_no_entry_is_an_email_address(self):
        import re

        assert [entry for entry in ENTRIES if re.search(r"\w@\w+\.(com|net|org|de|ru|fr)$", entry)] == []

    def test_each_entry_is_found_in_any_case_and_nothing_else(self):
        common = CommonPasswords(15)
        entries = {entry for entry in ENTRIES if len(entry) >= 15}
        assert len(common) == len(entries)
        assert all(entry.upper() in common for entry in entries)
        assert not any(hashlib.sha256(entry.encode()).hexdigest() in common for entry in entries)

    def test_only_those_of_the_policys_length_are_kept(self):
        assert "baseball" in CommonPasswords(8)
        assert "baseball" not in CommonPasswords(15)


@pytest.mark.requirement("PWD-08")
class TestContext:
    EMAIL = "Ada.Lovelace+notes@engines.example.com"

    @pytest.mark.parametrize(
        "password",
        [
            pytest.param("ada.lovelace+notes@engines.example.com", id="the address"),
            pytest.param("Ada.Lovelace@engines.example.com", id="the address without what follows the plus"),
            pytest.param("ada.lovelace+notes", id="the local part"),
            pytest.param("AdaLovelaceAdaLovelace", id="joined and repeated"),
            pytest.param("ada.lovelace1234", id="digits behind"),
            pytest.param("AdaLovelace1985!", id="a year and a mark behind"),
            pytest.param("adalovelace1985", id="a year behind"),
            pytest.param("lovelace-password", id="with a filler"),
            pytest.param("password@lovelace1", id="a filler before and a digit behind"),
            pytest.param("lovelace engines", id="two of its words"),
            pytest.param("moc.elpmaxe.senigne", id="backwards"),
            pytest.param("engines.example.com", id="the host"),
            pytest.param("NotesOfTheQuay123", id="the service"),
            pytest.param("notes of the quay", id="the service in words"),
            pytest.param("Notes-Of-The-Quay", id="the service, otherwise apart"),
            pytest.param("quay.example.org!", id="the service's host"),
            pytest.param("countess_of_tea", id="the user name"),
        ],
    )
    async def test_words_of_the_context_and_their_derivations_are_refused(self, make, password):
        passwords = make(policy=PasswordPolicy(context=("Notes of the Quay", "quay.example.org")))
        assert await reason(passwords, password, self.EMAIL, "Countess_of_Tea") == "context"

    @pytest.mark.parametrize(
        "password",
        [
            "ada lovelace drinks tea",
            "my name is ada.lovelace",
            "lovelace engines tea",
            "lovelace19401940",
            "notes of the quay at night",
            "xlovelace-password",
            "lovelace-passwordx",
            "seven lamps over the quay",
        ],
    )
    async def test_a_password_that_only_contains_one_is_not(self, make, password):
        passwords = make(policy=PasswordPolicy(context=("Notes of the Quay", "quay.example.org")))
        assert await reason(passwords, password, self.EMAIL, "Countess_of_Tea") is None

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param("STRASSENBAHNHALTESTELLE", "straßenbahnhaltestelle", id="sharp s"),
            pytest.param("ΟΔΥΣΣΕΥΣ ΟΔΥΣΣΕΥΣ", "οδυσσευς οδυσσευς", id="final sigma"),
            pytest.param("AME\u0301LIE DE LA MER", "amélie de la mer", id="composed"),
        ],
    )
    def test_case_is_folded_as_unicode_says(self, first, second):
        assert is_of_context(first, [second])
        assert is_of_context(second, [first])

    def test_the_words_of_each_kind(self):
        assert context_words(["Ada.Lovelace+notes@www.engines.example"]) == (
            "ada.lovelace+notes@www.engines.example",
            "ada.lovelace+notes",
            *(f"ada{separator}lovelace+notes" for separator in ("", " ", "-", "_", "@")),
            "ada",
            "lovelace+notes",
            "ada.lovelace",
            *(f"ada{separator}lovelace" for separator in ("", " ", "-", "_", "@")),
            "lovelace",
            "engines.example",
            *(f"engines{separator}example" for separator in ("", " ", "-", "_", "@")),
            "engines",
            "example",
        )
        assert context_words(["io", "", "  ", "A-b"]) == ("a-b", "a b", "a_b", "a.b", "a@b")

    def test_an_empty_context_refuses_nothing(self):
        assert not is_of_context("passwordpassword", [])
        assert not is_of_context("", ["ada"])

    @given(
        first=st.sampled_from(["lovelace", "quay"]),
        separator=st.sampled_from(SEPARATORS),
        second=st.sampled_from(["lovelace", "quay", *FILLERS]),
        tail=st.sampled_from(TAILS),
        is_swapped=st.booleans(),
    )
    def test_every_listed_derivation_is_found_and_one_more_character_is_not(
        self, first, separator, second, tail, is_swapped
    ):
        parts = (second, first) if is_swapped else (first, second)
        password = separator.join(parts) + tail
        assert is_of_context(password.title(), ["Lovelace", "Quay"])
        assert not is_of_context("木" + password, ["Lovelace", "Quay"])
        assert not is_of_context(password + "木", ["Lovelace", "Quay"])

    @given(st.text(), st.lists(st.text(), max_size=5))
    def test_no_text_makes_it_raise(self, password, words):
        is_of_context(password, words)


@pytest.mark.requirement("PWD-09")
class TestRefusals:
    @pytest.mark.parametrize(
        ("password", "expected", "advice"),
        [
            ("canary-5bd1", "too_short", "at least 15 characters"),
            ("canary-5bd1-" * 30, "too_long", "at most 256 characters"),
            ("passwordpassword", "blocklisted", "attackers try first"),
            ("canary-5bd1-of-the-quay-breached", "breached", "data breach"),
            ("canary-5bd1-canary-5bd1", "context", "name of this service"),
        ],
    )
    async def test_each_has_a_reason_and_advice_and_nothing_of_the_password(
        self, make, password, expected, advice
    ):
        class Breached:
            async def knows(self, sha1):
                return (
                    sha1.reveal_text()
                    == hashlib.sha1(b"canary-5bd1-of-the-quay-breached").hexdigest().upper()
                )

        passwords = make(policy=PasswordPolicy(context=("canary-5bd1",), breaches=Breached()))
        refusal = await passwords.judge(password)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == expected
        assert advice in refusal.advice
        assert password not in repr(refusal)
        assert "canary" not in repr(refusal)

    async def test_the_advice_names_the_lengths_that_are_set(self, make):
        passwords = make(policy=PasswordPolicy(min_length=20, max_length=100))
        assert "20" in (await passwords.judge("x")).advice
        assert "100" in (await passwords.judge("x" * 101)).advice
