"""Handlers of an app for what happens to accounts: at least once, in the background.

```python
@security.on("registered")
async def welcome(event: HookEvent) -> None:
    await profiles.insert(event.account_id)
```

A call is queued in the transaction of the change, for each handler one, so a crash loses none and one handler
that raises doesn't make the others run again. The event has the same `id` at every call of it: a handler that
must not act twice keeps it.

Does not protect: against a handler that acts twice all the same, or that never ends: after `HOOK_TIMEOUT` its
call counts as failed, but a thread can't be stopped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from thebes.accounts.jobs import JobFailed, JobSeals
from thebes.encoding import random_id
from thebes.errors import ConfigurationError
from thebes.stores.jobs import Job, NewJob

NAMES = (
    "registered",
    "verified",
    "signed_in",
    "signed_out",
    "password_changed",
    "password_reset",
    "reuse_detected",
    "disabled",
    "enabled",
    "deleted",
    "granted",
    "revoked",
)
HOOK_TIMEOUT = timedelta(seconds=60)
LIFETIME = timedelta(days=7)
AT_ONCE = 4
LEASE_S = 120.0  # over the time-out
MAX_CONTENT = 4096  # bytes: an event is a fact and an id, and the rest is in the app's own tables

Fact = str | int | bool | None | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEvent:
    """What happened.

    Attributes:
        id: The same for every handler and every call.
        name: One of `NAMES`.
        account_id: Whose account.
        at: Seconds since the epoch.
        facts: More of it, such as the granted `roles`; never a secret.
    """

    id: str
    name: str
    account_id: str
    at: float
    facts: Mapping[str, Any]


Handler = Callable[[HookEvent], Awaitable[None] | None]
Given = TypeVar("Given", bound=Callable[[HookEvent], Any])


class _Content(msgspec.Struct, frozen=True):
    """What is sealed into the job."""

    id: str
    name: str
    handler: str
    account: str
    at: float
    facts: dict[str, Any]


class Hooks:
    """The handlers of one service, and the crew that calls them. It belongs to one event loop once it runs.

    Args:
        timeout: For one call.
    """

    at_once = AT_ONCE
    lease_s = LEASE_S

    def __init__(self, *, timeout: timedelta = HOOK_TIMEOUT) -> None:
        self._handlers: dict[str, dict[str, Handler]] = {}
        self._timeout_s = timeout.total_seconds()
        self._seals: JobSeals | None = None
        self._threads: ThreadPoolExecutor | None = None

    def on(self, name: str) -> Callable[[Given], Given]:
        """Return a decorator that registers a handler, which is handed back as it was.

        Async handlers run on the event loop, others in a thread. The queue keeps a handler's module and
        qualified name: under another name it is not found for what was queued before.

        Raises:
            ConfigurationError: There is no such event, or it has a handler of that name already.
        """
        if name not in NAMES:
            raise ConfigurationError(f"there is no event {name!r}; there are {', '.join(NAMES)}")

        def register(handler: Given) -> Given:
            known, place = self._handlers.setdefault(name, {}), _name_of(handler)
            if place in known:
                raise ConfigurationError(
                    f"{place} is registered for {name!r} already: give each its own name"
                )
            known[place] = handler
            return handler

        return register

    def use(self, seals: JobSeals) -> None:
        """Take the seals: handlers are registered before there are any keys."""
        self._seals = seals

    def jobs_for(
        self, name: str, account_id: str, *, now: float, facts: Mapping[str, Fact] | None = None
    ) -> Sequence[NewJob]:
        """Return the calls of an event's handlers, to be stored with the change; none if it has none.

        Args:
            now: Seconds since the epoch.
            facts: Small and plain; no secrets.

        Raises:
            ConfigurationError: There is no such event, or its facts are too large.
        """
        if name not in NAMES:
            raise ConfigurationError(f"there is no event {name!r}; there are {', '.join(NAMES)}")
        handlers = self._handlers.get(name)
        if not handlers:
            return ()
        if self._seals is None:
            raise ConfigurationError("hooks have no keys yet: the app has not started")
        event_id = random_id()
        return [
            self._seals.new_job(
                "hook",
                _encoded(_Content(event_id, name, place, account_id, now, dict(facts or {}))),
                expires_at=now + LIFETIME.total_seconds(),
            )
            for place in handlers
        ]

    async def carry_out(self, job: Job) -> None:
        """Call the handler of a job.

        Raises:
            JobFailed: It raised, took too long, or isn't registered in this process.
        """
        content = self._content(job)
        handler = self._handlers.get(content.name, {}).get(content.handler)
        if handler is None:
            # Tried again: while two versions run side by side, the other one may have it.
            raise JobFailed("no_handler")
        event = HookEvent(
            id=content.id,
            name=content.name,
            account_id=content.account,
            at=content.at,
            facts=content.facts,
        )
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                await self._call(handler, event)
        except Exception as error:
            if limit.expired():
                raise JobFailed("timed_out") from None
            # The text of an app's exception may hold anything; its type is enough to find the place.
            raise JobFailed("raised", detail=type(error).__name__) from None

    def describe(self, job: Job) -> Mapping[str, str | None]:
        """Return the account, and the handler of a job, nothing where it can't be opened."""
        try:
            content = self._content(job)
        except JobFailed:
            return {}
        return {"account": content.account, "detail": f"{content.name} {content.handler}"}

    async def close(self) -> None:
        """Let the threads go; a handler that still runs ends by itself."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _call(self, handler: Handler, event: HookEvent) -> None:
        if _is_async(handler):
            outcome = handler(event)
        else:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="thebes-hook")
            work = partial(handler, event)
            outcome = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        if inspect.isawaitable(outcome):
            await outcome

    def _content(self, job: Job) -> _Content:
        if self._seals is None:
            raise JobFailed("unreadable")
        raw = self._seals.open(job)
        try:
            return msgspec.json.decode(raw, type=_Content)
        except msgspec.DecodeError:
            raise JobFailed("unreadable") from None


def _encoded(content: _Content) -> bytes:
    raw = msgspec.json.encode(content)
    if len(raw) > MAX_CONTENT:
        raise ConfigurationError(f"the facts of {content.name!r} are over {MAX_CONTENT} bytes")
    return raw


def _name_of(handler: Callable[..., Any]) -> str:
    function = handler.func if isinstance(handler, partial) else handler
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _is_async(handler: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - of an object that can be called
    )
