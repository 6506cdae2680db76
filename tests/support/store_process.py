"""A process that renews sessions of a SQLite store: a line with an id comes in, a line with the outcome goes out.

python store_process.py FILE renew    renews each session once: who asks again gets the same token
python store_process.py FILE count    counts up the generation of the session, each time
python store_process.py FILE start    opens the store, says so, and ends
"""

import asyncio
import hashlib
import sys
from dataclasses import replace

from thebes.stores.sessions import Owner, Session, Verdict
from thebes.stores.sqlite import SQLiteStore


def renewed_once(before: Session | None, owner: Owner | None, now: float) -> Verdict[str]:
    """Rotate the first token, and give its holder the same successor from then on (as within a grace)."""
    assert before is not None
    if before.generation > 0:
        return Verdict(before.successor or "?")
    token = hashlib.sha256(f"{before.id}{now}".encode()).hexdigest()
    after = replace(
        before,
        generation=1,
        digest=hashlib.sha256(token.encode()).digest(),
        successor=token,
        rotated_at=now,
        used_at=now,
    )
    return Verdict(token, after)


def counted(before: Session | None, owner: Owner | None, now: float) -> Verdict[str]:
    assert before is not None
    return Verdict(str(before.generation + 1), replace(before, generation=before.generation + 1))


async def serve(path: str, what: str) -> None:
    store = SQLiteStore(path)
    await store.start()
    print("open", flush=True)
    judge = {"renew": renewed_once, "count": counted, "start": counted}[what]
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[None]] = set()

    async def one(session_id: str) -> None:
        print(session_id, await store.sessions.settle(session_id, judge), flush=True)

    while what != "start" and (line := await loop.run_in_executor(None, sys.stdin.readline)):
        asked.add(asyncio.create_task(one(line.strip())))
    await asyncio.gather(*asked)
    await store.close()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
