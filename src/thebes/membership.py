"""Everything that accounts need, joined: keys, store, mails, passwords, tokens, sessions and routes.

The rooms don't know one another; here each is given what it asks for by a Protocol. Nothing is opened before
`start`, and what one process needs is made for that process: workers share the store, not connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from thebes.accounts.administration import Administration
from thebes.accounts.credentials import Credentials
from thebes.accounts.documents import OwnSession
from thebes.accounts.hooks import Hooks
from thebes.accounts.jobs import JobRunner, JobSeals
from thebes.accounts.mailing import Mailing
from thebes.accounts.queueing import QueuedNotices
from thebes.accounts.routes import AccountRoutes, Parts
from thebes.accounts.signing_in import SignIns
from thebes.accounts.templates import Pages, Templates
from thebes.accounts.trail import Trail
from thebes.csrf_tokens import CsrfTokens, FormTokens
from thebes.events import Events
from thebes.facts import Mode, RequestFacts
from thebes.forms import AnswerForms
from thebes.passwords.costs import chosen_cost
from thebes.passwords.hashing import Passwords
from thebes.passwords.lanes import Lanes
from thebes.ratelimit.bruteforce import SignInProtection
from thebes.ratelimit.devices import DeviceCookies
from thebes.ratelimit.mailquota import MailQuota
from thebes.reports import Reports
from thebes.resources import (
    api_document,
    context_words,
    is_described,
    issuer_of,
    mailer_for,
    open_store,
    password_policy,
    secret_keys_of,
)
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.peppering import KeyringPepper
from thebes.secrets.successors import RefreshKeyring
from thebes.settings import Settings
from thebes.stores.accounts import Account
from thebes.stores.jobs import NewJob
from thebes.stores.sessions import Session
from thebes.tokens.authentication import AddressBudget, Authentication
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.circumstances import Circumstances, circumstances_of
from thebes.tokens.cookie_jar import CookieJar
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.judgement import RefreshEvent
from thebes.tokens.jws import Algorithm
from thebes.tokens.key_rotation import KeyRotation
from thebes.tokens.refresh import RefreshTokens
from thebes.tokens.revocations import Revocations
from thebes.tokens.signing_keys import RELOAD_INTERVAL, SigningKeys
from thebes.tokens.sockets import OpenSockets

PURGE_INTERVAL = timedelta(minutes=5)  # how often what nobody needs any more is deleted (LOG-09)
# The answer goes out first. uvloop keeps what was written until its turn ends, and a mail made in that turn
# would show in the time of the one answer that ordered it (ACC-02).
WAKE_AFTER_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What membership gets from the rest of the house.

    Attributes:
        settings: The effective settings.
        events: Where security events go.
        hooks: Handlers that the app registered.
        directory: The working directory, for the state of development.
        budget: What an address may still cost; None without limits.
        workers: How many processes serve this app on this machine.
    """

    settings: Settings
    events: Events
    hooks: Hooks
    directory: Path
    budget: AddressBudget | None
    workers: int = 1


class Membership:
    """The accounts of one service, in one process.

    Attributes:
        store: Where all of it lies.
        authentication: The check of the pass.
        form_tokens: The reader of the pass.
        forms: Gives the forms of an answer their token.
        routes: The package's own paths.
        sign_ins: The service behind them, for commands and handlers.
        credentials: Likewise.
        administration: The operator's verbs.
        passwords: Hashes passwords.
        mailer: Who sends mails; a `Mailbox` in tests.
        runner: Works off mails and hooks.
        session_name: Returns the digest by which a session is shown in events and to its owner.

    Raises:
        ConfigurationError: What was set can't be used together.
    """

    def __init__(self, around: Surroundings) -> None:
        settings, events = around.settings, around.events
        self._events = events
        keyring = Keyring(secret_keys_of(settings, around.directory))
        self._keyring = keyring
        self._algorithm: Algorithm = settings.signing
        self.session_name = partial(keyring.digest, Purpose.EVENTS)
        self._reports = Reports(events, self.session_name)
        self._trail = Trail(events, self.session_name)
        self._sign_out_path = f"{settings.accounts_prefix}/logout"
        self.public_url = issuer_of(settings)
        self.store = open_store(settings, around.directory, around.workers)
        self._join_tokens(settings, keyring, self.public_url)
        self._join_mails(settings, keyring, self.public_url, around)
        self._join_sessions(settings, keyring)
        self._join_services(settings, keyring, around)
        self._join_routes(settings, around)
        self._opening: asyncio.Future[None] | None = None
        self._is_open = False
        self._chores: Sequence[asyncio.Task[None]] = ()

    def _join_tokens(self, settings: Settings, keyring: Keyring, issuer: str) -> None:
        self.jar = CookieJar(namespace=settings.cookie_namespace, same_site=settings.same_site)
        self.csrf = CsrfTokens(BoundKeys(keyring, Purpose.CSRF))
        self.forms = AnswerForms(self.csrf, self.jar)
        self.signing_keys = SigningKeys(
            self.store.keys,
            BoundKeys(keyring, Purpose.SIGNING_KEYS),
            algorithm=settings.signing,
            report=self._reports.signing_key,
        )
        self._cookie_tokens = CookieTokens(
            BoundKeys(keyring, Purpose.TOKEN_SIGNING),
            issuer=issuer,
            lifetime=settings.access_lifetime,
            leeway=settings.leeway,
            cookie_name=self.jar.session_name,
        )
        self.bearer_tokens = BearerTokens(
            self.signing_keys, issuer=issuer, lifetime=settings.access_lifetime, leeway=settings.leeway
        )

    def _join_mails(self, settings: Settings, keyring: Keyring, issuer: str, around: Surroundings) -> None:
        seals = JobSeals(BoundKeys(keyring, Purpose.JOBS))
        self.mailer = mailer_for(settings, around.directory, issuer)
        templates = Templates(public_url=issuer, pages=Pages(), directory=settings.mail_templates)
        mailing = Mailing(seals, templates, self.mailer, address_of=self._address_of)
        around.hooks.use(seals)
        self.hooks = around.hooks
        self.runner = JobRunner(self.store.jobs, {"mail": mailing, "hook": self.hooks}, events=self._events)
        self._notices = QueuedNotices(mailing, self.hooks, wake=self._wake_soon)

    def _join_sessions(self, settings: Settings, keyring: Keyring) -> None:
        self.refresh = RefreshTokens(
            self.store.sessions,
            RefreshKeyring(keyring),
            grace=settings.refresh_grace,
            lifetime=settings.session_lifetime,
            idle=settings.session_idle,
            theft_jobs=self._theft_jobs,
            report=self._refresh_reported,
        )
        self.revocations = Revocations(self.store.sessions)
        self._circumstance_keys = BoundKeys(keyring, Purpose.CIRCUMSTANCES)

    def _join_services(self, settings: Settings, keyring: Keyring, around: Surroundings) -> None:
        cost = chosen_cost(settings.passwords, settings.mode)
        self.passwords = Passwords(
            cost=settings.passwords,
            lanes=Lanes.of_worker(cost, workers=around.workers),
            pepper=KeyringPepper(keyring) if settings.pepper else None,
            policy=password_policy(settings, around.directory),
            report=self._reports.password,
            mode=settings.mode,
        )
        devices = DeviceCookies(BoundKeys(keyring, Purpose.KNOWN_DEVICES))
        failure_keys = BoundKeys(keyring, Purpose.FAILURES)
        protection = SignInProtection(self.store.failures, failure_keys, report=self._reports.sign_in)
        self.sign_ins = SignIns(
            store=self.store,
            passwords=self.passwords,
            refresh=self.refresh,
            protection=protection,
            devices=devices,
            notices=self._notices,
            trail=self._trail,
        )
        self.administration = Administration(
            store=self.store, passwords=self.passwords, notices=self._notices, events=self._events
        )
        self.credentials = Credentials(
            store=self.store,
            passwords=self.passwords,
            sign_ins=self.sign_ins,
            refresh=self.refresh,
            protection=protection,
            devices=devices,
            quota=MailQuota(self.store.failures, failure_keys),
            notices=self._notices,
            trail=self._trail,
            context=context_words(settings),
        )

    def _join_routes(self, settings: Settings, around: Surroundings) -> None:
        self.form_tokens = FormTokens(self.csrf, binding=self._binding, when=settings.csrf_token or "forms")
        own_forms = FormTokens(self.csrf, binding=self._binding)
        self.authentication = Authentication(
            cookie_tokens=self._cookie_tokens,
            bearer_tokens=self.bearer_tokens,
            refresh=self.refresh,
            revocations=self.revocations,
            jar=self.jar,
            budget=around.budget,
            circumstances=self.circumstances,
            told=self._reports.token,
            asks_store=settings.revocation == "store",
            sockets=OpenSockets(self.revocations, self.store.sessions),
            acts_itself=frozenset(
                f"{settings.accounts_prefix}/{path}" for path in ("login", "refresh", "logout")
            ),
        )
        self.routes = AccountRoutes(
            Parts(
                sign_ins=self.sign_ins,
                credentials=self.credentials,
                authentication=self.authentication,
                refresh=self.refresh,
                bearer_tokens=self.bearer_tokens,
                jar=self.jar,
                csrf=self.csrf,
                form_tokens=own_forms,
                circumstances=self.circumstances,
                prefix=settings.accounts_prefix,
                with_password_grant=settings.mode is not Mode.PRODUCTION,
                document=api_document(settings) if is_described(settings) else None,
            )
        )

    async def start(self, *, lives: bool) -> None:
        """Open the store and load the keys; go on with mails and cleaning up where somebody will close us.

        Raises:
            StoreUnavailable: The store can't be opened.
            ConfigurationError: Its schema is another version's, or its keys can't be read.
        """
        if not self._is_open:
            if self._opening is None:
                self._opening = asyncio.ensure_future(self._open())
            try:
                await asyncio.shield(self._opening)
            finally:
                self._opening = None
        if lives and not self._chores:
            self.runner.start()
            self._chores = (
                asyncio.create_task(self._for_ever("purge", self._purge, PURGE_INTERVAL)),
                asyncio.create_task(self._for_ever("keys", self.signing_keys.reload, RELOAD_INTERVAL)),
            )

    async def close(self) -> None:
        """Finish what has begun, and close the store."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self._chores:
            await self.runner.stop()
        self._chores = ()
        await self.passwords.close()
        await self.mailer.close()
        await self.store.close()
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether it was started, and not closed since."""
        return self._is_open

    def key_rotation(self) -> KeyRotation:
        """Return the rotation of the keys that sign bearer tokens."""
        seals = BoundKeys(self._keyring, Purpose.SIGNING_KEYS)
        return KeyRotation(self.store.keys, seals, algorithm=self._algorithm)

    def circumstances(self, facts: RequestFacts) -> Circumstances:
        """Return where a request comes from, as far as sessions care."""
        agent = facts.headers.get(b"user-agent")
        return circumstances_of(facts.client.address, agent, self._circumstance_keys)

    def _wake_soon(self) -> None:
        asyncio.get_running_loop().call_later(WAKE_AFTER_SECONDS, self.runner.wake)

    async def account_of(self, facts: RequestFacts) -> Account | None:
        """Return the account of whoever asks; one read."""
        return None if facts.claims is None else await self.sign_ins.account(facts.claims)

    async def sessions_of(self, facts: RequestFacts) -> Sequence[OwnSession]:
        """Return the live sessions of whoever asks, the newest first; one read."""
        return () if facts.claims is None else await self.sign_ins.sessions(facts.claims)

    async def _open(self) -> None:
        await self.store.start()
        await self.signing_keys.load()
        self._is_open = True

    async def _purge(self) -> None:
        left = True
        while left:
            left = any((await self.store.purge()).values())

    async def _for_ever(self, name: str, work: Callable[[], Awaitable[None]], interval: timedelta) -> None:
        while True:
            await asyncio.sleep(interval.total_seconds())
            try:
                await work()
            except Exception as error:
                # Whatever it was, the next turn may go well, and nobody else would ever hear of it.
                self._reports.chore(name, error)

    def _refresh_reported(self, event: RefreshEvent, circumstances: Circumstances) -> None:
        self._reports.refresh(event, circumstances)
        self._wake_soon()  # a theft has queued a mail to the owner

    def _theft_jobs(self, session: Session) -> Sequence[NewJob]:
        mail = self._notices.mail_to_owner(
            "session_reused", session.account_id, job_id=f"reused-{session.id}"
        )
        return (mail, *self._notices.hook("reuse_detected", session.account_id))

    async def _address_of(self, account_id: str) -> str | None:
        account = await self.store.accounts.by_id(account_id)
        return None if account is None else account.email

    def _binding(self, facts: RequestFacts) -> str | None:
        if facts.claims is not None and facts.credential == "cookie":
            return facts.claims.sid
        if facts.refresh_token is not None and facts.path == self._sign_out_path:
            # The form was written for a session whose access token may have expired since.
            presented = self.refresh.read(facts.refresh_token)
            if presented is not None:
                return presented.session_id
        return self.forms.binding(facts)
