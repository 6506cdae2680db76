"""The client for tests that are coroutines does what the other one does."""

from fastapi import FastAPI

from thebes import Security
from thebes.fastapi import CurrentPrincipal
from thebes.testing import async_client


async def test_a_coroutine_signs_somebody_in_and_out():
    app = FastAPI()

    @app.get("/notes")
    def notes(who: CurrentPrincipal) -> dict[str, str]:
        return {"owner": who.id, "by": who.credential}

    Security().protect(app)

    async with async_client(app) as browser:
        ada = await browser.sign_in("ada@example.com")
        assert (await browser.get("/notes")).json() == {"owner": ada.id, "by": "cookie"}
        bob = await browser.sign_in("bob@example.com", mode="bearer")
        assert (await browser.get("/notes")).json() == {"owner": bob.id, "by": "bearer"}
        await browser.sign_out()
        assert (await browser.get("/notes")).status_code == 401
        assert (await browser.post("/auth/forgot", json={"email": "ada@example.com"})).status_code == 202
        assert (await browser.mailbox()).last_token(to="ada@example.com")
