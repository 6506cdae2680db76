"""A process that is killed while it sends: the mail goes out, at least once."""

import asyncio
import re
import sys
import time
from pathlib import Path

import pytest

import mail_worker
from issuing import Authority
from smtp_server import SmtpServer, server_tls
from thebes.accounts.jobs import JobRunner
from thebes.accounts.mailing import LEASE_S
from thebes.events import Events
from thebes.secret import Secret
from thebes.stores.sqlite import SQLiteStore

CANARY = "c4n4ry-0f-a-t0k3n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed_at", "arrivals"),
    [
        pytest.param("RCPT", 1, id="before it was handed over"),
        pytest.param("CONTENT", 2, id="between handing over and saying so"),
    ],
)
async def test_a_mail_whose_sender_is_killed_is_sent_by_the_next(
    tmp_path: Path, killed_at: str, arrivals: int
) -> None:
    authority = Authority(tmp_path)
    authority.issue("localhost")
    store = SQLiteStore(tmp_path / "thebes.db")
    await store.start()
    tls = server_tls(authority.certificate, authority.key)
    async with SmtpServer(tls, is_implicit=True, held=frozenset({killed_at})) as server:
        mailing = mail_worker.mailing(server.port, authority.root)
        runner = JobRunner(store.jobs, {"mail": mailing}, events=Events())
        await store.jobs.add(
            [mailing.job("verify", to="ada@example.com", token=Secret(CANARY), now=time.time())]
        )
        worker = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                mail_worker.__file__,
                str(tmp_path / "thebes.db"),
                str(server.port),
                str(authority.root),
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(30):
            await server.saw(killed_at)
        worker.kill()
        output, _ = await worker.communicate()

        server.held = frozenset()
        assert await runner.drain() == 0  # the killed one's lease lasts
        assert await runner.drain(now=time.time() + LEASE_S) == 1
        assert await store.jobs.next_due("mail") is None
        await runner.stop()
    await store.close()

    assert len(server.mails) == arrivals
    assert len({re.search(rb"Message-ID: (\S+)", mail.content)[1] for mail in server.mails}) == 1  # type: ignore[index]
    assert all(CANARY.encode() in mail.content for mail in server.mails)
    assert CANARY.encode() not in output
    assert CANARY.encode() not in b"".join(
        path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("thebes.db")
    )
