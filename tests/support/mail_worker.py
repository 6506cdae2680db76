"""A process that sends the mails of a queue until it is killed: `mail_worker.py DATABASE PORT ROOT`."""

import asyncio
import sys
from pathlib import Path

from thebes.accounts.jobs import JobRunner, JobSeals
from thebes.accounts.mail import Sender
from thebes.accounts.mailing import Mailing
from thebes.accounts.smtp import SmtpMailer
from thebes.accounts.smtp import SmtpServer as Where
from thebes.accounts.templates import Templates
from thebes.events import Events
from thebes.secret import Secret
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.strength import SecretKey
from thebes.stores.sqlite import SQLiteStore


def mailing(port: int, root: Path) -> Mailing:
    """Return the crew that this process and its test have in common."""
    keys = BoundKeys(Keyring((SecretKey("k1", Secret(bytes(range(32)))),)), Purpose.JOBS)
    mailer = SmtpMailer(
        Where(host="localhost", port=port, tls="implicit"),
        sender=Sender("Notes", "no-reply@notes.example"),
        cafile=root,
    )
    return Mailing(JobSeals(keys), Templates(public_url="https://notes.example"), mailer)


async def main(database: Path, port: int, root: Path) -> None:
    store = SQLiteStore(database)
    await store.start()
    JobRunner(store.jobs, {"mail": mailing(port, root)}, events=Events()).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
