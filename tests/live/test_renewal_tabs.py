"""Many tabs of one browser whose answers come late: nobody is signed out, and nobody is taken for a thief.

Access tokens live for a second, so nearly each request renews. What a handler takes and what the way back
takes are random, up to two seconds together; connections are broken off by reloads in between.
"""

import asyncio
import json
import os
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from fastapi import Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from playwright.sync_api import sync_playwright

from account_rows import ADA
from attack import in_mode
from authenticating import REFRESH, SESSION
from live import serving
from live_accounts import LiveClub, make_app
from thebes import Events, Security
from thebes.fastapi import OptionalPrincipal
from thebes.tokens.refresh import Renewed

pytestmark = [pytest.mark.slow, pytest.mark.browser]

IS_FULL = os.environ.get("THEBES_TEST_COUNTS") == "full"
SECONDS = 90 if IS_FULL else 9
GRACE_SECONDS = 30 if IS_FULL else 5  # so that a short run rotates too
MOST_DELAY = 1.0  # each way

# What a page of the app does all day: it asks, and counts the answers.
PAGE = """<!doctype html><title>tab</title><script>
const told = JSON.parse(sessionStorage.getItem('told') || '{"answers": 0, "strangers": []}');
async function ask() {
  for (;;) {
    try {
      const answer = await fetch('/who?' + Math.random());  // of one address a browser sends one at a time
      const text = await answer.text();
      told.answers += 1;
      if (text !== '%s') told.strangers.push(answer.status + ' ' + text);
    } catch (error) { if (!(error instanceof TypeError)) told.strangers.push(String(error)); }
    sessionStorage.setItem('told', JSON.stringify(told));
    await new Promise(done => setTimeout(done, 100 * Math.random()));
  }
}
sessionStorage.setItem('told', JSON.stringify(told));
ask();
</script>"""


@dataclass
class Served:
    """What is served, as far as it matters here."""

    url: str
    security: Security


def late(app, chance: random.Random):
    """Wrap a server's app: what it answers takes its time to the client."""

    async def serve(scope, receive, send):
        async def slowly(message):
            if message["type"] == "http.response.start" and scope["path"] == "/who":
                await asyncio.sleep(chance.random() * MOST_DELAY)
            await send(message)

        await app(scope, receive, slowly)

    return serve


@pytest.mark.parametrize("count", [5, 20])
def test_nobody_is_signed_out_and_nobody_is_taken_for_a_thief(chromium, tmp_path, count):
    chance, lines, loops = random.Random(count), [], []
    app = make_app(loops)
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/who"]

    @app.get("/who")
    async def who(who: OptionalPrincipal) -> Response:
        await asyncio.sleep(chance.random() * MOST_DELAY)
        return PlainTextResponse("nobody" if who is None else who.id)

    @app.get("/tab", response_class=HTMLResponse)
    def tab() -> str:
        return PAGE % ADA.id

    @app.get("/enter")
    async def enter() -> Response:
        response = PlainTextResponse("in")
        for name, value in entering:
            response.raw_headers.append((name, value))
        return response

    security = Security(
        events=Events(lambda _, line: lines.append(line)),
        access_lifetime=1,
        leeway=0,
        refresh_grace=GRACE_SECONDS,
        limits="1000000/second burst 1000000",
        database_url=f"sqlite:///{tmp_path / 'accounts.db'}",
    )
    security.protect(app)
    with ExitStack() as stack:
        with in_mode("development"):
            url = stack.enter_context(serving(late(app, chance)))
        club = LiveClub(Served(url, security), loops[0])
        sessions = club.membership.store.sessions
        club.run(club.membership.store.accounts.create(ADA))
        ada = club.sign_in()
        session, owner = club.run(sessions.find(ada.session.id))
        entering = club.membership.authentication.fields_of(
            Renewed(kind="rotated", token=ada.refresh, session=session, owner=owner)
        )
        told = browse(chromium, url, count, chance)
        row, _ = club.run(sessions.find(ada.session.id))
    answers = sum(one["answers"] for one in told)
    print(f"{count} tabs, {SECONDS} s: {answers} answers, {row.generation} rotations")
    assert [one["strangers"] for one in told] == [[]] * count
    assert answers > 2 * SECONDS
    assert row.revoked_at is None
    assert row.generation >= (2 if IS_FULL else 1)
    thefts = [line for line in lines if json.loads(line)["event"] in THEFTS]
    assert thefts == []


THEFTS = ("reuse_detected", "refresh_unconfirmed", "refresh_strange", "store_rolled_back", "token_refused")


def browse(chromium: str, url: str, count: int, chance: random.Random) -> list[dict]:
    """Open so many tabs, reload one now and then, and return what each has counted."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(base_url=url)
        pages = [context.new_page() for _ in range(count)]
        pages[0].goto("/enter")
        names = {cookie["name"] for cookie in context.cookies()}
        assert names == {SESSION, REFRESH}
        for page in pages:
            page.goto("/tab")
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at:
            pages[0].wait_for_timeout(1500)
            chance.choice(pages).reload()
        told = [json.loads(page.evaluate("sessionStorage.getItem('told')")) for page in pages]
        browser.close()
    return told
