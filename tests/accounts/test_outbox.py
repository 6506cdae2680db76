"""The outbox of development and the mailbox of tests."""

import email
import email.policy
import os
import stat
from pathlib import Path

import pytest

from thebes.accounts.mail import Mail, MailNotSent, Sender, UnsafeMail
from thebes.accounts.outbox import KEPT, Mailbox, Outbox, link_of

SENDER = Sender("Notes", "no-reply@notes.example")
LINK = "https://localhost:8443/verify?token=c4n4ry-t0k3n"


def a_mail(**changes: object) -> Mail:
    values = {
        "id": "one",
        "kind": "verify",
        "to": "ada@example.com",
        "subject": "Confirm your address",
        "text": f"Confirm it here:\n\n{LINK}\n\nIf not, https://localhost:8443/forgot.\n",
        "html": None,
        "made_at": 1_700_000_000.0,
    }
    return Mail(**(values | changes))  # type: ignore[arg-type]


class TestOutbox:
    async def test_a_mail_becomes_a_file_that_mail_programs_open(self, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path / ".thebes" / "outbox", sender=SENDER, say=lambda line: None)
        await outbox.send(a_mail())

        (path,) = (tmp_path / ".thebes" / "outbox").iterdir()
        assert path.name == "2023-11-14T221320000Z-verify-one.eml"
        read = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert read["To"] == "ada@example.com"
        assert LINK in read.get_content()

    async def test_files_and_directory_are_for_this_user_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            await Outbox(tmp_path / "outbox", sender=SENDER, say=lambda line: None).send(a_mail())
        finally:
            os.umask(before)
        (path,) = (tmp_path / "outbox").iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async def test_the_terminal_shows_recipient_subject_link_and_file(self, tmp_path: Path) -> None:
        lines: list[str] = []
        await Outbox(tmp_path, sender=SENDER, say=lines.append).send(a_mail())
        assert lines[0] == "mail to ada@example.com: Confirm your address"
        assert lines[1] == f"  {LINK}"
        assert lines[2].startswith(f"  {tmp_path}")

    async def test_the_usual_place_for_the_lines_is_stderr(self, tmp_path: Path, capsys) -> None:
        await Outbox(tmp_path, sender=SENDER).send(a_mail())
        captured = capsys.readouterr()
        assert LINK in captured.err
        assert captured.out == ""

    async def test_no_subject_and_no_address_reaches_the_terminal_with_its_escape_sequences(
        self, tmp_path: Path
    ) -> None:
        lines: list[str] = []
        outbox = Outbox(tmp_path, sender=SENDER, say=lines.append)
        for mail in (a_mail(subject="\x1b[2J"), a_mail(to="\x1b[2J@example.com")):
            with pytest.raises(UnsafeMail):
                await outbox.send(mail)
        assert lines == []
        assert [*tmp_path.iterdir()] == []

    async def test_a_mail_sent_again_replaces_its_own_file(self, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path, sender=SENDER, say=lambda line: None)
        await outbox.send(a_mail())
        await outbox.send(a_mail())
        await outbox.send(a_mail(id="two"))
        assert len([*tmp_path.iterdir()]) == 2

    async def test_an_id_is_no_path(self, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path / "outbox", sender=SENDER, say=lambda line: None)
        await outbox.send(a_mail(id="../../x", kind="../y"))
        assert [path.name for path in tmp_path.iterdir()] == ["outbox"]

    async def test_only_the_latest_files_are_kept(self, tmp_path: Path) -> None:
        for number in range(KEPT + 5):
            (tmp_path / f"2000-{number:04}.eml").touch()
        await Outbox(tmp_path, sender=SENDER, say=lambda line: None).send(a_mail())
        left = sorted(path.name for path in tmp_path.iterdir())
        assert len(left) == KEPT
        assert left[-1].endswith("verify-one.eml")

    async def test_a_directory_that_cannot_be_is_told_as_a_mail_not_sent(self, tmp_path: Path) -> None:
        (tmp_path / "outbox").write_text("in the way")
        with pytest.raises(MailNotSent) as refused:
            await Outbox(tmp_path / "outbox", sender=SENDER, say=lambda line: None).send(a_mail())
        assert refused.value.reason == "unwritable"
        assert not refused.value.is_final


class TestMailbox:
    async def test_the_latest_mail_and_token_can_be_asked_for(self) -> None:
        mailbox = Mailbox()
        await mailbox.send(a_mail())
        await mailbox.send(a_mail(id="two", to="eve@example.com", text=LINK.replace("c4n4ry", "other")))
        await mailbox.send(a_mail(id="three", kind="new_device", text="no link"))

        assert [mail.id for mail in mailbox.messages] == ["one", "two", "three"]
        assert mailbox.last().id == "three"
        assert mailbox.last(to="eve@example.com").id == "two"
        assert mailbox.last_token() == "other-t0k3n"
        assert mailbox.last_token(to="ada@example.com") == "c4n4ry-t0k3n"
        assert mailbox.last_token(kind="verify") == "other-t0k3n"

    async def test_what_was_not_sent_is_told_rather_than_made_up(self) -> None:
        mailbox = Mailbox()
        await mailbox.send(a_mail(text="no link"))
        for ask in (
            lambda: mailbox.last(to="eve@example.com"),
            lambda: mailbox.last(kind="reset"),
            mailbox.last_token,
        ):
            with pytest.raises(LookupError):
                ask()
        mailbox.clear()
        assert mailbox.messages == []

    async def test_it_takes_no_mail_that_could_not_be_sent(self) -> None:
        with pytest.raises(UnsafeMail):
            await Mailbox().send(a_mail(to="ada"))


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (f"Here:\n{LINK}\n", LINK),
        ("See https://a.example/b.", "https://a.example/b"),
        ("<https://a.example/>", "https://a.example/"),
        ("none", None),
    ],
)
def test_the_link_of_a_mail_is_the_first_in_its_text(text: str, link: str | None) -> None:
    assert link_of(a_mail(text=text)) == link
