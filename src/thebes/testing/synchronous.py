"""A test client in which somebody can be signed in, inside a lifespan (`with`) and without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient, WebSocketTestSession

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

T = TypeVar("T")


class Client(TestClient):
    """`starlette.testclient.TestClient` as a browser with a page of the app's own open.

    A request that names neither `Sec-Fetch-Site` nor `Origin` says `same-origin`, as a browser's does.

    Args:
        app: A protected or wrapped application.
        client: Where requests come from.
        options: Those of `TestClient`.
    """

    def __init__(self, app: Any, *, client: tuple[str, int] = ("testclient", 50000), **options: Any) -> None:
        super().__init__(app, client=client, **options)
        self._client = client

    def build_request(self, *arguments: Any, **options: Any) -> Any:
        """Return a request as a browser sends it."""
        return complete(super().build_request(*arguments, **options))

    def websocket_connect(self, url: str, *arguments: Any, **options: Any) -> WebSocketTestSession:
        """Open a WebSocket, by `wss` where the client's pages are https: else it would bring no cookie."""
        pages = str(self.base_url)
        return super().websocket_connect(
            urljoin(f"ws{pages.removeprefix('http')}", url), *arguments, **options
        )

    def sign_in(
        self,
        email: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        mode: SessionMode = "cookie",
        age: timedelta = timedelta(0),
    ) -> Account:
        """Sign somebody in without a password, and return the account; whoever was signed in isn't any more.

        An account is made, its address confirmed, where there is none, and its `registered` handlers run.

        Args:
            roles: Granted beside those that the account has.
            scopes: Likewise.
            mode: `cookie` sets the cookies of a browser, `bearer` the Authorization field of a program.
            age: How long ago the password was checked, for what demands a fresh sign-in.

        Raises:
            ConfigurationError: The app isn't protected or has no accounts, or this isn't test mode.
            SignInRefused: The account is disabled, unconfirmed or compromised.
        """
        wanted = Wanted(email=email, roles=tuple(roles), scopes=tuple(scopes), mode=mode, age=age)
        opened = self._run(
            partial(
                open_session,
                self._members(),
                wanted,
                client=self._client,
                agent=self.headers.get("user-agent", ""),
                cookies=self.cookies.jar,
            )
        )
        self.cookies.clear()
        self.headers.pop("Authorization", None)
        keep_cookies(self.cookies.jar, str(self.base_url), opened.cookies)
        if opened.access_token is not None:
            self.headers["Authorization"] = f"Bearer {opened.access_token}"
        return opened.account

    def sign_out(self) -> None:
        """End the session by the app's own sign-out, and forget its tokens."""
        self.post(sign_out_path(self._members())).raise_for_status()
        self.headers.pop("Authorization", None)

    @property
    def mailbox(self) -> Mailbox:
        """What the service has sent up to now; ask again for what it sends later.

        Raises:
            ConfigurationError: Mails go to a server.
        """
        return self._run(partial(drained, self._members()))

    def _members(self) -> Membership:
        security = security_of(self.app)
        if not has_started(security):
            self.get(STARTING_PATH)
        return security.membership

    def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run something where the app runs; without a lifespan each request has an event loop of its own."""
        if self.portal is not None:
            return self.portal.call(work)
        with start_blocking_portal(**self.async_backend) as portal:
            return portal.call(work)
