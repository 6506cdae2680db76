"""Serve each existing app three ways: bare, and after the two lines in test and in development mode.

The apps under `apps/` are written as if Thebes did not exist. What each of them needs declared stands
in `PROTECTION`, and nowhere else; a suite `test_<name>.py` makes the same assertions in every variant.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import pytest

import live
from live import PATIENCE_SECONDS, eventually

APPS = Path(__file__).parent / "apps"
BARE = "bare"
MODES = {"protected in test mode": "test", "protected in development": "development"}


@dataclass(frozen=True, slots=True)
class Protection:
    """The two lines for one app: the settings it needs, and how its server is told to run it."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    routes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by: Literal["protect", "wrap"] = "protect"
    root_path: str = ""
    lifespan: Literal["on", "auto"] = "on"


PROTECTION = {
    "guestbook": Protection({"session_cookies": ["session"]}),
    "partner_api": Protection({"origins": ["https://app.partner.example", "http://localhost:5173"]}),
    "bookshop": Protection(),
    "ticker": Protection(),
    "warehouse": Protection({"health": "GET /healthz"}, root_path="/v1"),
    "members": Protection({"accounts_prefix": "/accounts"}),
    "vault": Protection(routes={"PUT /files/*": {"body_limit": "8MiB"}}),
    "almanac": Protection(by="wrap", lifespan="auto"),
    "notebook": Protection(by="wrap"),
}


@dataclass(frozen=True, slots=True)
class Served:
    """One running app: where it answers, and the object that its own module made."""

    name: str
    variant: str
    url: str
    app: Any

    @property
    def websocket_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", urlsplit(self.url).port or 80

    def client(self) -> httpx2.Client:
        # The server speaks plain HTTP; loading the trusted authorities would cost 30 ms for each test.
        return httpx2.Client(base_url=self.url, verify=False, trust_env=False, timeout=PATIENCE_SECONDS)


class Browser:
    """A client that sends the fields Chromium sends, by the kind of request and the page it comes from."""

    def __init__(self, client: httpx2.Client, page: str) -> None:
        self._client = client
        self._page = page

    @property
    def cookies(self) -> httpx2.Cookies:
        return self._client.cookies

    def at(self, origin: str) -> "Browser":
        """The same browser with a page of another origin open."""
        return Browser(self._client, origin)

    def navigate(
        self, path: str, *, site: str = "none", headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Open a page, typed into the address bar unless `site` says otherwise."""
        fields = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        fields |= {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"}
        fields |= {"Sec-Fetch-Dest": "document", "Upgrade-Insecure-Requests": "1"}
        return self._client.get(path, headers=fields | dict(headers or {}))

    def submit(
        self, path: str, data: Mapping[str, Any], *, no_referrer: bool = False, **options: Any
    ) -> httpx2.Response:
        """Send a form of the page, urlencoded (multipart where `files` are given).

        A page with `Referrer-Policy: no-referrer` sends `Origin: null` with its forms, to itself too
        (Fetch standard, "append a request Origin header").
        """
        fields = {"Accept": "text/html", "Origin": self._page, "Referer": f"{self._page}/"}
        if no_referrer:
            fields = {"Accept": "text/html", "Origin": "null"}
        fields |= {"Sec-Fetch-Site": self._site(), "Sec-Fetch-Mode": "navigate"}
        fields |= {"Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1"}
        return self._client.post(path, data=data, headers=fields, **options)

    def fetch(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        """What `fetch()` in a script of the page sends."""
        fields = {"Accept": "*/*", "Referer": f"{self._page}/", "Sec-Fetch-Site": self._site()}
        fields |= {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
        if method not in {"GET", "HEAD"} or self._site() != "same-origin":
            fields["Origin"] = self._page
        return self._client.request(method, path, headers=fields | dict(headers or {}), **options)

    def _site(self) -> str:
        own, page = urlsplit(str(self._client.base_url)), urlsplit(self._page)
        if (page.scheme, page.netloc) == (own.scheme, own.netloc):
            return "same-origin"
        # Ports do not make a site of their own.
        is_same_site = (page.scheme, page.hostname) == (own.scheme, own.hostname)
        return "same-site" if is_same_site else "cross-site"


@dataclass(frozen=True, slots=True)
class Made:
    """One app in this process: the module, what it made, and what a server is given."""

    module: ModuleType
    app: Any
    served: Any


@contextmanager
def making(name: str, variant: str, state: Path) -> Iterator[Made]:
    """Make a fresh copy of the app in the mode of the variant, which holds until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(state)
        if variant != BARE:
            patch.setenv("THEBES_ENV", MODES[variant])
        module = _load(name)
        app = module.create_app()
        served = app if variant == BARE else _after_two_lines(app, PROTECTION[name])
        yield Made(module=module, app=app, served=served)


@contextmanager
def serving(name: str, variant: str, state: Path) -> Iterator[Served]:
    """Serve a fresh copy of the app over uvicorn on a free loopback port until the block ends."""
    protection = PROTECTION[name]
    options = {"lifespan": protection.lifespan, "root_path": protection.root_path, "access_log": False}
    with making(name, variant, state) as made, live.serving(made.served, **options) as url:
        yield Served(name=name, variant=variant, url=url, app=made.app)


def _refuses_forgery(served: Served) -> bool:
    forged = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    with served.client() as client:
        response = client.post("/", headers=forged)
    is_ours = response.headers.get("content-type") == "application/problem+json"
    return response.status_code == 403 and is_ours


def _after_two_lines(app: Any, protection: Protection) -> Any:
    from thebes import Security

    security = Security(**protection.settings)
    for route, options in protection.routes.items():
        security.route(route, **options)
    return security.protect(app) if protection.by == "protect" else security.wrap(app)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"existing_app_{name}", APPS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks up annotations there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[BARE, *MODES])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app that the suite is named after, running in one of the three variants."""
    name = request.path.stem.removeprefix("test_")
    with serving(name, request.param, tmp_path_factory.mktemp(name)) as running:
        # Without this a variant that lost its protection would pass every suite.
        assert _refuses_forgery(running) is (request.param != BARE)
        yield running


@pytest.fixture
def script(served: Served) -> Iterator[httpx2.Client]:
    """A client that is no browser: a script, a webhook, a load balancer."""
    with served.client() as client:
        yield client


@pytest.fixture
def browser(served: Served) -> Iterator[Browser]:
    """A browser with no cookies and a page of the app open."""
    with served.client() as client:
        yield Browser(client, served.url)


@pytest.fixture(params=[BARE, "protected in test mode"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Made]]:
    """Make an app by its name, for clients that call it in this process."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(making(name, request.param, tmp_path))


@pytest.fixture(name="eventually")
def _eventually() -> Callable[[Callable[[], bool]], None]:
    return eventually


@pytest.fixture(name="serving")
def _serving() -> Callable[[str, str, Path], Any]:
    return serving
