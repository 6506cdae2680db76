"""Handlers of an app: registered by name, called at least once, and unable to hurt anybody else."""

import asyncio
import threading
from datetime import timedelta
from functools import partial

import pytest

from thebes.accounts.hooks import LIFETIME, NAMES, HookEvent, Hooks
from thebes.accounts.jobs import JobFailed, JobRunner, JobSeals
from thebes.accounts.mailing import Mailing
from thebes.accounts.outbox import Mailbox
from thebes.accounts.queueing import QueuedNotices
from thebes.accounts.templates import Templates
from thebes.errors import ConfigurationError
from thebes.stores.jobs import Job, JobStore, NewJob

NOW = 1_700_000_000.0
CANARY = "c4n4ry"


@pytest.fixture
def hooks(seals: JobSeals) -> Hooks:
    made = Hooks()
    made.use(seals)
    return made


def taken(new: NewJob) -> Job:
    return Job(id=new.id, kind=new.kind, sealed=new.sealed, attempts=1, expires_at=new.expires_at)


class TestRegistering:
    def test_a_handler_is_handed_back_as_it_was(self, hooks: Hooks) -> None:
        def handler(event: HookEvent) -> None: ...

        assert hooks.on("registered")(handler) is handler
        assert hooks.on("deleted")(handler) is handler

    @pytest.mark.parametrize("name", ["registred", "", "Registered", "sign_in"])
    def test_an_unknown_event_is_told_where_it_is_typed(self, hooks: Hooks, name: str) -> None:
        with pytest.raises(ConfigurationError, match="signed_in"):
            hooks.on(name)
        with pytest.raises(ConfigurationError):
            hooks.jobs_for(name, "a1", now=NOW)

    def test_two_handlers_of_one_name_are_refused_since_the_queue_could_not_tell_them_apart(
        self, hooks: Hooks
    ) -> None:
        for _ in range(2):

            def handler(event: HookEvent) -> None: ...

            if not hooks.jobs_for("registered", "a1", now=NOW):
                hooks.on("registered")(handler)
        with pytest.raises(ConfigurationError):
            hooks.on("registered")(handler)

    def test_an_event_without_handlers_costs_nothing(self, hooks: Hooks) -> None:
        hooks.on("deleted")(lambda event: None)
        assert [hooks.jobs_for(name, "a1", now=NOW) for name in NAMES if name != "deleted"] == [()] * 11

    def test_an_event_without_handlers_needs_no_keys_and_one_with_them_does(self) -> None:
        hooks = Hooks()
        assert hooks.jobs_for("registered", "a1", now=NOW) == ()
        hooks.on("registered")(lambda event: None)
        with pytest.raises(ConfigurationError):
            hooks.jobs_for("registered", "a1", now=NOW)

    def test_facts_are_small(self, hooks: Hooks) -> None:
        hooks.on("registered")(lambda event: None)
        with pytest.raises(ConfigurationError):
            hooks.jobs_for("registered", "a1", now=NOW, facts={"roles": ["x" * 5000]})

    def test_each_handler_has_a_call_of_its_own_for_one_event(self, hooks: Hooks) -> None:
        hooks.on("registered")(print)
        hooks.on("registered")(repr)
        first, second = hooks.jobs_for("registered", "a1", now=NOW)
        assert first.id != second.id
        assert {first.kind, second.kind} == {"hook"}
        assert first.expires_at == NOW + LIFETIME.total_seconds()


class TestCalling:
    async def test_every_kind_of_handler_gets_the_event(self, hooks: Hooks) -> None:
        seen: dict[str, HookEvent] = {}
        threads: dict[str, bool] = {}

        def note(name: str, event: HookEvent) -> None:
            seen[name] = event
            threads[name] = threading.current_thread() is not threading.main_thread()

        @hooks.on("granted")
        async def on_the_loop(event: HookEvent) -> None:
            await asyncio.sleep(0)
            note("async", event)

        @hooks.on("granted")
        def in_a_thread(event: HookEvent) -> None:
            note("sync", event)

        class Callable:
            async def __call__(self, event: HookEvent) -> None:
                note("object", event)

        def gives_a_coroutine(event: HookEvent):  # type: ignore[no-untyped-def]
            return on_the_loop(event)

        hooks.on("granted")(Callable())
        hooks.on("granted")(partial(note, "partial"))
        hooks.on("granted")(gives_a_coroutine)
        jobs = hooks.jobs_for("granted", "a1", now=NOW, facts={"roles": ["admin"]})
        for job in jobs:
            await hooks.carry_out(taken(job))
        await hooks.close()

        assert threads == {"async": False, "sync": True, "object": False, "partial": True}
        for event in seen.values():
            assert (event.name, event.account_id, event.at) == ("granted", "a1", NOW)
            assert event.facts == {"roles": ["admin"]}
        assert len({event.id for event in seen.values()}) == 1

    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
    async def test_a_handler_that_raises_is_called_again_and_the_others_are_not(
        self, queue: JobStore, told, hooks: Hooks, is_async: bool
    ) -> None:
        calls: list[str] = []

        def fail(event: HookEvent) -> None:
            calls.append(event.id)
            if len(calls) < 3:
                raise ValueError(CANARY)

        async def fail_on_the_loop(event: HookEvent) -> None:
            fail(event)

        good: list[str] = []
        hooks.on("registered")(fail_on_the_loop if is_async else fail)
        hooks.on("registered")(lambda event: good.append(event.id))
        runner = JobRunner(queue, {"hook": hooks}, events=told.events)
        await queue.add(hooks.jobs_for("registered", "a1", now=NOW), now=NOW)
        for moment in (NOW, NOW + 5, NOW + 20, NOW + 1000):
            await runner.drain(now=moment)
        await runner.stop()

        assert len(calls) == 3
        assert len(good) == 1
        assert {*calls, *good} == {good[0]}
        assert told.names == [("hook_delayed", "raised")] * 2
        assert told.sink.objects[0]["account"] == "a1"
        assert "ValueError: attempt 1" in told.sink.objects[0]["detail"]
        assert CANARY not in "".join(told.sink.lines)

    async def test_a_handler_that_never_ends_is_left_and_told(self, seals: JobSeals) -> None:
        hooks = Hooks(timeout=timedelta(seconds=0.05))
        hooks.use(seals)

        @hooks.on("registered")
        async def for_ever(event: HookEvent) -> None:
            await asyncio.get_running_loop().create_future()

        (job,) = hooks.jobs_for("registered", "a1", now=NOW)
        with pytest.raises(JobFailed) as failed:
            await hooks.carry_out(taken(job))
        assert failed.value.reason == "timed_out"

    async def test_a_time_out_of_the_handlers_own_is_an_error_like_any_other(self, hooks: Hooks) -> None:
        @hooks.on("registered")
        async def slow(event: HookEvent) -> None:
            raise TimeoutError

        (job,) = hooks.jobs_for("registered", "a1", now=NOW)
        with pytest.raises(JobFailed) as failed:
            await hooks.carry_out(taken(job))
        assert (failed.value.reason, failed.value.detail) == ("raised", "TimeoutError")

    async def test_a_call_for_a_handler_of_another_version_waits_for_it(
        self, queue: JobStore, told, seals: JobSeals, hooks: Hooks
    ) -> None:
        called: list[str] = []

        @hooks.on("registered")
        def new(event: HookEvent) -> None:
            called.append(event.id)

        await queue.add(hooks.jobs_for("registered", "a1", now=NOW), now=NOW)
        older = Hooks()
        older.use(seals)
        await JobRunner(queue, {"hook": older}, events=told.events).drain(now=NOW)
        assert told.names == [("hook_delayed", "no_handler")]
        await JobRunner(queue, {"hook": hooks}, events=told.events).drain(now=NOW + 5)
        await hooks.close()
        assert len(called) == 1

    async def test_a_call_that_never_succeeds_is_told_when_it_is_given_up(
        self, queue: JobStore, told, hooks: Hooks
    ) -> None:
        @hooks.on("registered")
        async def fail(event: HookEvent) -> None:
            raise ValueError

        await queue.add(hooks.jobs_for("registered", "a1", now=NOW), now=NOW)
        runner = JobRunner(queue, {"hook": hooks}, events=told.events)
        await runner.drain(now=NOW)
        await runner.drain(now=NOW + LIFETIME.total_seconds())
        assert told.names == [("hook_delayed", "raised"), ("hook_failed", "expired")]


class TestQueuedNotices:
    async def test_mails_and_hooks_of_a_change_go_through_one_queue(
        self, queue: JobStore, told, seals: JobSeals, hooks: Hooks
    ) -> None:
        mailbox, called, woken = Mailbox(), [], []
        hooks.on("registered")(lambda event: called.append(dict(event.facts)))
        mailing = Mailing(seals, Templates(public_url="https://notes.example"), mailbox)
        notices = QueuedNotices(mailing, hooks, wake=lambda: woken.append(1), clock=lambda: NOW)

        jobs = [
            notices.mail("verify", "ada@example.com", token="t0k3n"),
            notices.mail("new_device", "ada@example.com", device="Firefox on Linux", address="192.0.2.0"),
            notices.nothing(),
            *notices.hook("registered", "a1", by="command"),
            *notices.hook("deleted", "a1"),
        ]
        await queue.add(jobs, now=NOW)
        notices.wake()
        runner = JobRunner(queue, {"mail": mailing, "hook": hooks}, events=told.events)
        assert await runner.drain(now=NOW) == 4
        await runner.stop()

        assert mailbox.last_token() == "t0k3n"
        assert "Firefox on Linux, 192.0.2.0" in mailbox.last(kind="new_device").text
        assert called == [{"by": "command"}]
        assert woken == [1]
        assert told.names == []
