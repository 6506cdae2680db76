"""How the pass gets around a FastAPI or Starlette app, without importing either.

A middleware that is added inside Starlette never sees the framework's own 500 answers, so the pass
goes around the whole stack, at the moment when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from thebes.answers import UNCAUGHT, render
from thebes.asgi import Plan, SecurityMiddleware
from thebes.encoding import random_id
from thebes.errors import ConfigurationError
from thebes.events import Events
from thebes.facts import ASGIApp, Mode, Receive, Scope, Send, facts_of
from thebes.guards import Denied, answer_denied
from thebes.settings import Settings

_MARK = "_thebes_security"
# FastAPI's attributes for its documentation pages, and the schema behind them.
_DOCUMENTATION = ("docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url", "openapi_url")


def protect(app: Any, plan: Callable[[], Plan], owner: object) -> None:
    """Make `app` build its middleware stack inside the pass; `owner` is its Security."""
    build = getattr(app, "build_middleware_stack", None)
    if build is None or not hasattr(app, "exception_handlers"):
        raise ConfigurationError(
            f"protect takes a FastAPI or Starlette app, not {type(app).__name__}; "
            "for any other ASGI app use wrap(app)"
        )
    if is_protected(app):
        raise ConfigurationError("this app is protected already; one pass is enough")
    if app.middleware_stack is not None:
        raise ConfigurationError("this app has started already; call protect(app) where it is made")

    def build_inside_the_pass() -> SecurityMiddleware:
        for part in mounted_apps(app):
            handlers = getattr(part, "exception_handlers", None)
            if isinstance(handlers, dict) and Exception not in handlers and 500 not in handlers:
                handlers[Exception] = answer_uncaught
            if isinstance(handlers, dict):
                handlers.setdefault(Denied, answer_denied)
        middleware = SecurityMiddleware(_not_built_yet, plan=lambda: start(middleware))
        return middleware

    def start(middleware: SecurityMiddleware) -> Plan:
        # The stack reads `debug` when it is built, and the plan may close it: so the plan comes first.
        made = plan()
        if middleware.app is _not_built_yet:
            middleware.app = build()
        return made

    app.build_middleware_stack = build_inside_the_pass
    setattr(app, _MARK, owner)


def complete_openapi(app: Any, complete: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Make FastAPI's `app.openapi()` return what `complete` makes of it; the app may still replace it."""
    own = getattr(app, "openapi", None)
    if own is not None:
        app.openapi = lambda: complete(own())


def wrap(app: ASGIApp, plan: Callable[[], Plan], owner: object) -> ASGIApp:
    """Return `app` behind the pass; `owner` is its Security."""
    if is_protected(app):
        raise ConfigurationError("this app is protected already; one pass is enough")
    wrapped = SecurityMiddleware(app, plan=plan)
    setattr(wrapped, _MARK, owner)
    return wrapped


def is_protected(app: Any) -> bool:
    """Say whether this object came from `protect` or `wrap`."""
    return owner_of(app) is not None


def owner_of(app: Any) -> Any:
    """Return the Security that protects this app, or None."""
    return getattr(app, _MARK, None)


def refuse_collisions(app: Any, paths: Mapping[str, Iterable[str]]) -> None:
    """Refuse an app that has a route of its own where the package's accounts are.

    Routes that take any path there, such as a page for whatever isn't found, don't count.

    Args:
        paths: The package's own, each with its methods.

    Raises:
        ConfigurationError: A route of the app would never be reached.
    """
    routes = getattr(getattr(app, "router", None), "routes", ())
    taken = [path for path, methods in paths.items() if _has_route(routes, path, methods)]
    if taken:
        raise ConfigurationError(
            f"the app has a route at {', '.join(taken)}, where accounts are served: leave them out with "
            "Security(accounts=None), or move them with accounts_prefix='/accounts'"
        )


def _has_route(routes: Iterable[Any], path: str, methods: Iterable[str]) -> bool:
    for method in methods:
        found = _route_for(routes, _request(method, path))
        if found is not None and found is not _route_for(routes, _request(method, f"{path}-{random_id()}")):
            return True
    return False


def _route_for(routes: Iterable[Any], scope: Scope) -> Any:
    """Return the innermost route that would take a request, or None."""
    for route in routes:
        match, inner = route.matches(scope) if hasattr(route, "matches") else (None, {})
        if match is not None and match.name != "NONE":
            below = getattr(route, "routes", None)
            found = _route_for(below, {**scope, **inner}) if below else route
            if found is not None:
                return found
    return None


def _request(method: str, path: str) -> Scope:
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": [], "app": None}


def refuse_second_spellings(app: Any) -> None:
    """Refuse an app that answers a declared route under a second path, which the pass can't know.

    FastAPI puts its own `root_path` in place of the server's, and answers with and without that prefix. The
    pass inside such an app sees it too, one outside doesn't: `/api/search` would be free of the limit of
    `/search`.

    Raises:
        ConfigurationError: It has a part with a root path of its own, at no prefix or behind middleware.
    """
    for part in _at_the_root(app):
        # Elsewhere an attribute of this name is another thing, such as Quart's directory.
        if hasattr(part, "root_path_in_servers") and part.root_path and not is_protected(part):
            raise ConfigurationError(
                f"FastAPI(root_path={part.root_path!r}) answers each declared route under two paths: give the"
                " prefix to the server instead (uvicorn --root-path), or protect that app itself"
            )


def close_for_production(app: Any, settings: Settings, events: Events) -> None:
    """Switch off debug answers and interactive documentation, unless asked for by name (OPS-01)."""
    if settings.mode is not Mode.PRODUCTION:
        return
    for part in mounted_apps(app):
        if getattr(part, "debug", False) and not settings.insecure_debug:
            part.debug = False
            events.emit(
                "debug_closed",
                severity="warning",
                detail="debug=True was switched off: it shows tracebacks to clients",
            )
        if not settings.docs:
            _close_documentation(part)


async def answer_uncaught(request: Any, error: Exception) -> Any:  # noqa: ARG001
    """Answer an exception that nobody caught; the framework raises it again for the server's log."""
    return _Uncaught()


class _Uncaught:
    """An ASGI response: Starlette calls what a handler returns with scope, receive and send."""

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        rendered = render(UNCAUGHT, facts_of(scope))
        await send(
            {"type": "http.response.start", "status": rendered.status, "headers": list(rendered.headers)}
        )
        await send({"type": "http.response.body", "body": rendered.body})


async def _not_built_yet(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    """Stand for the app's stack until the pass has started; it is never called before."""
    raise ConfigurationError("the app behind the pass was called before the pass had started")


def mounted_apps(app: Any) -> Iterator[Any]:
    """Yield the app and the apps mounted in it, however deep, and behind whatever middleware."""
    seen: set[int] = set()
    pending = [app]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        inner = (part, *(getattr(part, "routes", None) or ()))
        pending += [one.app for one in inner if hasattr(one, "app")]


def _at_the_root(app: Any) -> Iterator[Any]:
    """Yield the app, and the apps that get its requests with their paths unchanged."""
    pending = [app]
    while pending:
        part = pending.pop()
        yield part
        mounted = (route for route in getattr(part, "routes", None) or () if not getattr(route, "path", ""))
        pending += [inner.app for inner in (part, *mounted) if hasattr(inner, "app")]


def _close_documentation(app: Any) -> None:
    paths = frozenset(filter(None, (getattr(app, name, None) for name in _DOCUMENTATION)))
    router = getattr(app, "router", None)
    if paths and router is not None:
        router.routes[:] = [route for route in router.routes if not _is_documentation(route, paths)]


def _is_documentation(route: Any, paths: frozenset[str]) -> bool:
    # FastAPI leaves its own pages out of the schema; a route of the app at the same path is in it.
    return getattr(route, "path", None) in paths and not getattr(route, "include_in_schema", True)
