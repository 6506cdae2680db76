"""What accounts stand on: chosen by the settings and the mode, and refused where it can't be shared."""

from datetime import timedelta
from pathlib import Path

import pytest

from thebes import ConfigurationError, Secret
from thebes.accounts.outbox import Mailbox, Outbox
from thebes.accounts.smtp import SmtpMailer
from thebes.facts import Mode
from thebes.resources import (
    TEST_KEY,
    api_document,
    context_words,
    is_described,
    issuer_of,
    mailer_for,
    open_store,
    secret_keys_of,
    sqlite_path,
)
from thebes.settings import Settings
from thebes.stores.memory import MemoryStore
from thebes.stores.sqlite import SQLiteStore

KEYS = Secret("k1:MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY")
MAIL = Secret("smtps://user:password@mail.example.com")


def settings(mode: str = "production", **values) -> Settings:
    return Settings(mode=Mode(mode), **values)


class TestTheStore:
    @pytest.mark.parametrize(
        ("mode", "url", "kind"),
        [
            pytest.param("test", None, MemoryStore, id="tests: memory"),
            pytest.param("test", "sqlite:///a.db", SQLiteStore, id="tests: the one that is set"),
            pytest.param("development", None, SQLiteStore, id="development: its own"),
            pytest.param("development", "memory:", MemoryStore, id="memory, if set"),
            pytest.param("production", "memory:", MemoryStore, id="memory in one process of production"),
            pytest.param("production", "sqlite:///a.db", SQLiteStore, id="production: the one that is set"),
        ],
    )
    def test_is_the_one_of_the_mode(self, tmp_path, mode, url, kind):
        chosen = settings(mode, database_url=None if url is None else Secret(url))
        assert type(open_store(chosen, tmp_path, 1)) is kind

    def test_of_development_lies_with_its_state(self, tmp_path):
        open_store(settings("development"), tmp_path, 1)
        assert (tmp_path / ".thebes").is_dir()
        assert not (tmp_path / "thebes.db").exists()

    @pytest.mark.parametrize(("workers", "url"), [(2, "memory:"), (64, "memory:")])
    def test_in_memory_is_not_for_several_workers(self, tmp_path, workers, url):
        with pytest.raises(ConfigurationError, match="several workers can't share"):
            open_store(settings(database_url=Secret(url)), tmp_path, workers)

    def test_on_disk_is(self, tmp_path):
        chosen = settings(database_url=Secret("sqlite:///a.db"))
        assert isinstance(open_store(chosen, tmp_path, 2), SQLiteStore)

    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("memory:", None),
            ("sqlite:///thebes.db", Path("thebes.db")),
            ("sqlite:////var/lib/app/thebes.db", Path("/var/lib/app/thebes.db")),
            ("sqlite:///with%20space?x=1.db", Path("with%20space?x=1.db")),
        ],
    )
    def test_is_named_by_a_url(self, url, path):
        assert sqlite_path(url) == path

    @pytest.mark.parametrize(
        "url",
        ["", "memory", "thebes.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite:/a.db", "postgresql:///a",
         "postgresql://ada:secret@db/app", "SQLITE:///a.db"],
    )  # fmt: skip
    def test_that_is_unknown_is_refused_without_repeating_the_url(self, url):
        with pytest.raises(ConfigurationError) as caught:
            sqlite_path(url)
        assert "sqlite:///thebes.db" in str(caught.value)
        assert "secret" not in str(caught.value)


class TestTheKeys:
    def test_are_those_that_are_set_in_every_mode(self, tmp_path):
        for mode in Mode:
            (key,) = secret_keys_of(settings(mode.value, secret_keys=KEYS), tmp_path)
            assert key.id == "k1"
        assert [*tmp_path.iterdir()] == []

    def test_of_tests_are_the_same_in_each_process(self, tmp_path):
        assert secret_keys_of(settings("test"), tmp_path) == (TEST_KEY,)
        assert [*tmp_path.iterdir()] == []

    def test_of_development_are_made_once_and_kept_from_others(self, tmp_path):
        first, again = (secret_keys_of(settings("development"), tmp_path) for _ in range(2))
        assert [key.value.reveal() for key in first] == [key.value.reveal() for key in again]
        assert first[0].value.reveal() != TEST_KEY.value.reveal()
        assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*key*"))


class TestTheMailer:
    @pytest.mark.parametrize(
        ("mode", "url", "kind"),
        [
            pytest.param("test", None, Mailbox, id="tests: a mailbox"),
            pytest.param("test", MAIL, SmtpMailer, id="tests: the server that is set"),
            pytest.param("development", None, Outbox, id="development: an outbox"),
            pytest.param("development", MAIL, SmtpMailer, id="development: the server that is set"),
            pytest.param("production", MAIL, SmtpMailer, id="production: the server that is set"),
        ],
    )
    def test_is_the_one_of_the_mode(self, tmp_path, mode, url, kind):
        made = mailer_for(settings(mode, mail_url=url), tmp_path, "https://example.com")
        assert type(made) is kind

    def test_refuses_a_sender_that_is_none(self, tmp_path):
        with pytest.raises(ConfigurationError):
            mailer_for(settings(mail_url=MAIL, mail_from="no address"), tmp_path, "https://example.com")


class TestTheName:
    @pytest.mark.parametrize(
        ("chosen", "name"),
        [
            pytest.param({"public_url": "https://a.example", "hosts": ("b.example",)}, "https://a.example", id="url"),
            pytest.param({"hosts": ("b.example", "c.example")}, "https://b.example", id="the first host"),
            pytest.param({"mode": "test"}, "https://testserver", id="tests"),
            pytest.param({"mode": "development", "hosts": ("b.example",)}, "https://localhost", id="development"),
        ],
    )  # fmt: skip
    def test_of_the_service_is_its_own_never_that_of_a_request(self, chosen, name):
        assert issuer_of(settings(**chosen)) == name

    def test_is_missing_where_nothing_says_it(self):
        with pytest.raises(ConfigurationError, match="THEBES_PUBLIC_URL is missing"):
            issuer_of(settings())

    def test_is_no_good_as_a_password(self):
        words = context_words(settings(hosts=("a.example:8443", "b.example"), public_url="https://c.example"))
        assert words == ("a.example", "b.example", "c.example")


@pytest.mark.parametrize(
    ("mode", "docs", "is_open", "has_password_flow"),
    [
        ("production", False, False, False),
        ("production", True, True, False),
        ("development", False, True, True),
        ("test", False, True, True),
    ],
)
def test_the_description_is_open_where_documentation_is(mode, docs, is_open, has_password_flow):
    chosen = settings(mode, docs=docs, access_lifetime=timedelta(minutes=5))
    paths = api_document(chosen)["paths"]
    assert is_described(chosen) is is_open
    assert ("/auth/openapi.json" in paths, "/auth/token" in paths) == (is_open, has_password_flow)
