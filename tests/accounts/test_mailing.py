"""From an order to a mail that was sent: by mailbox, by SMTP over TLS, and not at all."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from issuing import Authority
from smtp_server import SmtpServer, server_tls
from thebes.accounts.jobs import JobRunner, JobSeals
from thebes.accounts.mail import Mail, MailNotSent, Sender, UnsafeMail
from thebes.accounts.mailing import LIFETIMES, Mailing
from thebes.accounts.outbox import Mailbox
from thebes.accounts.smtp import SmtpMailer
from thebes.accounts.smtp import SmtpServer as Where
from thebes.accounts.templates import KINDS, LINKS, Templates
from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.stores.jobs import Job, JobStore, NewJob

NOW = 1_700_000_000.0
CANARY = "c4n4ry-0f-a-t0k3n-43-characters-as-they-are"
TEMPLATES = Templates(public_url="https://notes.example", service="Notes")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def mailing(seals: JobSeals, mailbox: Mailbox) -> Mailing:
    return Mailing(seals, TEMPLATES, mailbox)


def taken(new: NewJob) -> Job:
    return Job(id=new.id, kind=new.kind, sealed=new.sealed, attempts=1, expires_at=new.expires_at)


class TestOrdering:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_every_kind_arrives_as_ordered(self, queue, told, mailing, mailbox, kind: str) -> None:
        token = Secret(CANARY) if kind in LINKS else None
        job = mailing.job(kind, to="ada@example.com", token=token, account_id="a1", now=NOW)
        runner = JobRunner(queue, {"mail": mailing}, events=told.events)
        await queue.add([job], now=NOW)
        await runner.drain(now=NOW)

        (mail,) = mailbox.messages
        assert (mail.kind, mail.to, mail.id, mail.made_at) == (kind, "ada@example.com", job.id, NOW)
        assert (CANARY in mail.text) is (kind in LINKS)
        assert told.names == []

    def test_a_mail_with_a_link_is_given_up_when_the_link_ends(self, mailing: Mailing) -> None:
        assert {
            kind: lifetime <= timedelta(hours=24) for kind, lifetime in LIFETIMES.items()
        } == dict.fromkeys(LINKS, True)
        job = mailing.job("reset", to="ada@example.com", token=Secret(CANARY), now=NOW)
        assert job.expires_at == NOW + 30 * 60

    def test_what_can_never_be_sent_is_refused_when_it_is_ordered(self, mailing: Mailing) -> None:
        with pytest.raises(UnsafeMail):
            mailing.job("new_device", to="ada@example.com\r\nBcc: eve@example.com", now=NOW)
        with pytest.raises(ConfigurationError):
            mailing.job("welcome", to="ada@example.com", now=NOW)
        with pytest.raises(ConfigurationError):
            mailing.job("new_device", to="ada@example.com", facts={"password": "x"}, now=NOW)

    async def test_one_thing_is_mailed_once(self, queue: JobStore, told, mailing, mailbox) -> None:
        jobs = [
            mailing.job("session_reused", to="ada@example.com", now=NOW, job_id="theft of session 7")
            for _ in range(3)
        ]
        for job in jobs:
            await queue.add([job], now=NOW)
        await JobRunner(queue, {"mail": mailing}, events=told.events).drain(now=NOW)
        assert len(mailbox.messages) == 1


class TestToTheOwner:
    async def test_it_goes_to_the_address_that_the_account_has_by_then(
        self, queue: JobStore, told, seals: JobSeals, mailbox: Mailbox
    ) -> None:
        addresses = {"a1": "before@example.com"}

        async def address_of(account_id: str) -> str | None:
            return addresses.get(account_id)

        mailing = Mailing(seals, TEMPLATES, mailbox, address_of=address_of)
        jobs = [
            mailing.job_to_owner(
                "session_reused", account_id=account_id, now=NOW, facts={"device": "Firefox"}
            )
            for account_id in ("a1", "gone")
        ]
        await queue.add(jobs, now=NOW)
        addresses["a1"] = "after@example.com"
        await JobRunner(queue, {"mail": mailing}, events=told.events).drain(now=NOW)

        assert [(mail.to, mail.kind) for mail in mailbox.messages] == [
            ("after@example.com", "session_reused")
        ]
        assert told.names == [("mail_failed", "no_address")]
        assert await queue.next_due("mail") is None

    async def test_a_link_belongs_to_an_address_that_was_named(self, mailing: Mailing) -> None:
        for kind in LINKS:
            with pytest.raises(ConfigurationError):
                mailing.job_to_owner(kind, account_id="a1", now=NOW)


class TestNothing:
    async def test_it_is_taken_and_dropped_without_a_word(self, queue, told, mailing, mailbox) -> None:
        await queue.add([mailing.nothing(now=NOW)], now=NOW)
        assert await JobRunner(queue, {"mail": mailing}, events=told.events).drain(now=NOW) == 1
        assert mailbox.messages == []
        assert told.names == []
        assert await queue.next_due("mail") is None

    def test_in_the_queue_it_looks_like_a_reset(self, mailing: Mailing) -> None:
        real = mailing.job("reset", to="ada@example.com", token=Secret(CANARY), account_id="x" * 36, now=NOW)
        nothing = mailing.nothing(now=NOW)
        assert abs(len(real.sealed) - len(nothing.sealed)) < 0.3 * len(real.sealed)
        assert (real.kind, real.expires_at) == (nothing.kind, nothing.expires_at)
        assert len(real.id) == len(nothing.id)


class Refusing:
    """A mailer that never sends."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def send(self, mail: Mail) -> None:
        raise self._error

    async def close(self) -> None:
        pass


class TestFailing:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (
                MailNotSent("temporary", code=451),
                ("mail_delayed", "temporary", "reset: reply 451: attempt 1"),
            ),
            (MailNotSent("tls", detail="expired"), ("mail_delayed", "tls", "reset: expired: attempt 1")),
            (
                MailNotSent("refused", code=550, is_final=True),
                ("mail_failed", "refused", "reset: reply 550: attempt 1"),
            ),
            (UnsafeMail("subject", "is two"), ("mail_failed", "unsafe", "reset: subject: attempt 1")),
            (RuntimeError(CANARY), ("mail_delayed", "error", "reset: RuntimeError: attempt 1")),
        ],
        ids=lambda value: value[1] if isinstance(value, tuple) else None,
    )
    async def test_what_went_wrong_is_an_event_of_the_account(
        self, queue, told, seals: JobSeals, error: Exception, expected: tuple[str, str, str]
    ) -> None:
        mailing = Mailing(seals, TEMPLATES, Refusing(error))
        job = mailing.job("reset", to="ada@example.com", token=Secret(CANARY), account_id="a1", now=NOW)
        await queue.add([job], now=NOW)
        await JobRunner(queue, {"mail": mailing}, events=told.events).drain(now=NOW)

        (event,) = told.sink.objects
        assert (event["event"], event["reason"], event["detail"]) == expected
        assert event["account"] == "a1"
        assert CANARY not in str(event)
        assert "ada@" not in str(event)

    async def test_a_job_that_cannot_be_read_is_tried_again_and_given_up_in_the_end(
        self, queue: JobStore, told, mailing, mailbox
    ) -> None:
        await queue.add([NewJob(id="one", kind="mail", sealed="v1.k9.x", expires_at=NOW + 60)], now=NOW)
        runner = JobRunner(queue, {"mail": mailing}, events=told.events)
        for moment in (NOW, NOW + 5, NOW + 200):
            await runner.drain(now=moment)
        assert told.names == [
            ("mail_delayed", "unreadable"),
            ("mail_delayed", "unreadable"),
            ("mail_failed", "expired"),
        ]


class TestOverSmtp:
    async def test_a_mail_waits_out_a_bad_server_and_then_arrives_once(
        self, queue: JobStore, told, seals: JobSeals, tmp_path: Path, caplog
    ) -> None:
        caplog.set_level(logging.DEBUG)
        authority = Authority(tmp_path)
        authority.issue("localhost")
        good = server_tls(authority.certificate, authority.key)
        authority.issue("mail.example")
        wrong_name = server_tls(authority.certificate, authority.key)

        async with SmtpServer(good, users={"ada": "p4ss"}) as server:
            mailer = SmtpMailer(
                Where.parse(f"smtp://ada:p4ss@localhost:{server.port}"),
                sender=Sender.parse("Notes <no-reply@notes.example>"),
                cafile=authority.root,
            )
            mailing = Mailing(seals, TEMPLATES, mailer)
            runner = JobRunner(queue, {"mail": mailing}, events=told.events)
            job = mailing.job("reset", to="ada@example.com", token=Secret(CANARY), account_id="a1", now=NOW)
            await queue.add([job], now=NOW)

            server.context = wrong_name
            await runner.drain(now=NOW)
            server.context, server.offers_starttls = good, False
            await runner.drain(now=NOW + 5)
            assert server.mails == []
            server.offers_starttls = True
            server.replies["CONTENT"] = ["451 later"]
            await runner.drain(now=NOW + 20)
            await runner.drain(now=NOW + 65)
            await runner.drain(now=NOW + 700)
            await runner.stop()

        # The server took the content twice: the first time it said that it had not.
        ids = {line for mail in server.mails for line in mail.content.split(b"\r\n") if b"Message-ID" in line}
        assert len(server.mails) == 2
        assert len(ids) == 1
        assert told.names == [
            ("mail_delayed", "tls"),
            ("mail_delayed", "unsupported"),
            ("mail_delayed", "temporary"),
        ]
        everything = "".join(told.sink.lines) + caplog.text + repr(job) + repr(mailer)
        assert CANARY not in everything
        assert "p4ss" not in everything
        assert CANARY.encode() in server.mails[0].content
