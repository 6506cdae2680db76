"""The same client for tests that are coroutines: `httpx2.AsyncClient` with somebody signed in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx2

from thebes.testing.members import (
    STARTING_PATH,
    Wanted,
    complete,
    drained,
    has_started,
    keep_cookies,
    open_session,
    security_of,
    sign_out_path,
)

if TYPE_CHECKING:
    from thebes.accounts.outbox import Mailbox
    from thebes.membership import Membership
    from thebes.stores.accounts import Account
    from thebes.stores.sessions import SessionMode


class AsyncClient(httpx2.AsyncClient):
    """`httpx2.AsyncClient` as a browser with a page of the app's own open.

    A request that names neither `Sec-Fetch-Site` nor `Origin` says `same-origin`, as a browser's does.

    Args:
        app: A protected or wrapped application.
        client: Where requests come from.
        options: Those of `httpx2.AsyncClient`.
    """

    def __init__(self, app: Any, *, client: tuple[str, int] = ("testclient", 50000), **options: Any) -> None:
        super().__init__(transport=httpx2.ASGITransport(app=app, client=client), **options)
        self.app = app
        self._client = client

    def build_request(self, *arguments: Any, **options: Any) -> Any:
        """Return a request as a browser sends it."""
        return complete(super().build_request(*arguments, **options))

    async def sign_in(
        self,
        email: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        mode: SessionMode = "cookie",
        age: timedelta = timedelta(0),
    ) -> Account:
        """Sign somebody in without a password; the arguments and errors are those of `Client.sign_in`."""
        wanted = Wanted(email=email, roles=tuple(roles), scopes=tuple(scopes), mode=mode, age=age)
        opened = await open_session(
            await self._members(),
            wanted,
            client=self._client,
            agent=self.headers.get("user-agent", ""),
            cookies=self.cookies.jar,
        )
        self.cookies.clear()
        self.headers.pop("Authorization", None)
        keep_cookies(self.cookies.jar, str(self.base_url), opened.cookies)
        if opened.access_token is not None:
            self.headers["Authorization"] = f"Bearer {opened.access_token}"
        return opened.account

    async def sign_out(self) -> None:
        """End the session by the app's own sign-out, and forget its tokens."""
        (await self.post(sign_out_path(await self._members()))).raise_for_status()
        self.headers.pop("Authorization", None)

    async def mailbox(self) -> Mailbox:
        """Return what the service has sent up to now; ask again for what it sends later.

        Raises:
            ConfigurationError: Mails go to a server.
        """
        return await drained(await self._members())

    async def _members(self) -> Membership:
        security = security_of(self.app)
        if not has_started(security):
            await self.get(STARTING_PATH)
        return security.membership
