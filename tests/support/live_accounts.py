"""A protected app with accounts over a socket, in production, and people who are signed in already."""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from account_rows import ADA, BOB
from asking import ask, request_facts
from attack import Served, in_mode, protecting
from authenticating import SignedIn
from live import PATIENCE_SECONDS
from thebes import Security
from thebes.fastapi import CsrfToken, CurrentPrincipal, OptionalPrincipal, requires
from thebes.guards import Principal
from thebes.membership import Membership
from thebes.stores.accounts import Account
from thebes.tokens.authentication import session_claims

T = TypeVar("T")
ORIGIN = ("Origin", "https://example.com")


class LiveClub:
    """What is served, with what it takes to sign somebody in.

    Attributes:
        served: Ask it.
    """

    def __init__(self, served: Served, loop: asyncio.AbstractEventLoop) -> None:
        self.served = served
        self._loop = loop

    @property
    def membership(self) -> Membership:
        """All of the accounts."""
        return self.served.security.membership

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something where the app runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def sign_in(
        self, account: Account = ADA, *, mode: Any = "cookie", ago: float = 0.0, **more: Any
    ) -> SignedIn:
        """Open a session, as if it had been so many seconds ago."""
        return self.run(signed_in(self.membership, account, mode=mode, ago=ago, **more))

    def revoke(self, one: SignedIn) -> None:
        """End a session."""
        sessions = self.membership.store.sessions
        self.run(sessions.revoke(one.account.id, one.session.id, reason="signed_out"))


async def signed_in(
    membership: Membership, account: Account, *, mode: Any = "cookie", ago: float = 0.0, **more: Any
) -> SignedIn:
    """Open a session of an account in a store, as if it had been so many seconds ago."""
    circumstances = membership.circumstances(request_facts())
    found_account = await membership.store.accounts.by_id(account.id)
    assert found_account is not None
    opened = await membership.refresh.open(
        account.id,
        found_account.epoch,
        mode=mode,
        now=time.time() - ago,
        **({"amr": ("pwd",), "circumstances": circumstances} | more),
    )
    assert opened is not None
    session, refresh = opened
    found = await membership.store.sessions.find(session.id)
    assert found is not None
    claims = session_claims(session, found[1])
    tokens = membership._cookie_tokens if mode == "cookie" else membership.bearer_tokens
    expired = tokens.issue(claims, now=time.time() - 4000)
    return SignedIn(account, session, tokens.issue(claims), expired, refresh)


def make_app(loops: list[asyncio.AbstractEventLoop]) -> FastAPI:
    """Return an app whose routes answer in every way that matters to sessions."""

    @asynccontextmanager
    async def living(_app: FastAPI) -> Any:
        loops.append(asyncio.get_running_loop())
        yield

    app = FastAPI(lifespan=living)

    @app.api_route("/who", methods=["GET", "HEAD", "POST", "DELETE"], response_class=PlainTextResponse)
    def who(who: OptionalPrincipal) -> str:
        return "nobody" if who is None else who.id

    @app.get("/mine", response_class=PlainTextResponse)
    def mine(who: CurrentPrincipal) -> str:
        return who.id

    @app.get("/page", response_class=HTMLResponse)
    def page(who: OptionalPrincipal) -> str:
        return "<title>page</title>"

    @app.get("/public", response_class=PlainTextResponse)
    def public() -> PlainTextResponse:
        headers = {"Cache-Control": "public, max-age=60", "Cross-Origin-Resource-Policy": "cross-origin"}
        return PlainTextResponse("for all", headers=headers)

    @app.get("/form", response_class=PlainTextResponse)
    def form(token: CsrfToken) -> str:
        return token

    @app.get("/seen", response_class=PlainTextResponse)
    def seen(request: Request) -> str:
        return "|".join(request.headers.getlist("cookie"))

    @app.get("/scoped", dependencies=[requires("notes:delete")])
    def scoped() -> str:
        return "in"

    @app.get("/role", response_class=PlainTextResponse)
    def role(who: Annotated[Principal, requires(roles=["editor"])]) -> str:
        return who.id

    @app.get("/fresh", dependencies=[requires(fresh=timedelta(minutes=5))])
    def fresh() -> str:
        return "in"

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(iter(["data: one\n\n", "data: two\n\n"]), media_type="text/event-stream")

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("nobody catches this")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, who: OptionalPrincipal) -> None:
        await websocket.accept()
        await websocket.send_text("nobody" if who is None else who.id)
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    return app


@contextmanager
def beside_the_server(shared: Mapping[str, str]) -> Iterator["Beside"]:
    """Open the store of a server in another process, with its keys: `THEBES_SECRET_KEYS` and `_DATABASE_URL`."""
    with in_mode("production") as patch, ExitStack() as stack:
        for name, value in shared.items():
            patch.setenv(name, value)
        security = Security(hosts=["example.com"])
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        facts = request_facts(path="/.well-known/jwks.json", headers={"Host": "example.com"}, scheme="https")
        assert loop.run_until_complete(ask(security.wrap(_nothing), facts)).status == 200
        stack.callback(lambda: loop.run_until_complete(security.membership.close()))
        yield Beside(security.membership, loop)


@dataclass
class Beside:
    """The accounts of a server, in this process."""

    membership: Membership
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to them."""
        return self.loop.run_until_complete(work)

    def sign_in(self, account: Account = ADA, **more: Any) -> SignedIn:
        """Open a session."""
        return self.run(signed_in(self.membership, account, **more))

    def register(self, *accounts: Account) -> None:
        """Create accounts whose addresses are confirmed."""
        for account in accounts:
            member = replace(account, verified_at=account.created_at)
            assert self.run(self.membership.store.accounts.create(member))


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand for an app that is never asked."""
    raise AssertionError(scope)


@contextmanager
def live_club(**settings: Any) -> Iterator[LiveClub]:
    """Serve the app with two members until the block ends."""
    loops: list[asyncio.AbstractEventLoop] = []
    with TemporaryDirectory() as directory, ExitStack() as stack:
        settings = {"database_url": f"sqlite:///{directory}/accounts.db"} | settings
        served = stack.enter_context(protecting(make_app(loops), **settings))
        club = LiveClub(served, loops[0])
        for account in (ADA, BOB):
            member = replace(account, verified_at=account.created_at)
            assert club.run(club.membership.store.accounts.create(member))
        yield club
