"""The composition root: what the daemon consists of, in which order it starts, and how it stops.

What belongs here: building and ending. On SIGTERM or SIGINT nothing more is accepted or claimed and no API call
begins; those under way end, and what is left waits in the storage.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import anyio

from telefonistka import __version__, admin, handlers, server, supervisor, telemetry
from telefonistka import inbox as inboxes
from telefonistka.census import Census
from telefonistka.configs import Configs
from telefonistka.core import events
from telefonistka.core.events import Own, PullRequest, Repository
from telefonistka.errors import Rejected, TryAgain
from telefonistka.exchange import Exchange, Hub, Repos
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.inspection import Inspection
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.handlers import Context, landing
from telefonistka.inbox import Delivery, Inbox, State
from telefonistka.ledger import Ledger
from telefonistka.live import Live
from telefonistka.outbox import Outbox
from telefonistka.recovery import Doors, Recovery
from telefonistka.relay import Pace, Relay, Tried
from telefonistka.repositories import Repositories
from telefonistka.settings import AppCredentials, Invalid, Settings, TokenCredentials
from telefonistka.storage import Full, Storage, Story, Unavailable, Unusable, sqlite
from telefonistka.supervisor import Supervisor
from telefonistka.telemetry import log
from telefonistka.wire import Policy, Wire
from telefonistka.worker import Worker

# Together below the ten that a supervisor may give us; the listeners close within the first ones.
CALLS_END = 5.0  # seconds for API calls under way when we stop; most take one
LETTERS_END = 2.0  # seconds for what the relay has in flight when we stop
WORK_ENDS = 0.5  # seconds for what runs without calls, such as storing an outcome
TRACES_END = 0.4  # seconds for the last spans to be exported
SERVING = f"serving, version {__version__}"
PRUNE_INTERVAL = 600.0  # seconds
GREET_INTERVAL = 60.0  # seconds until GitHub is asked again who we are, where it gave no answer
LOOK = 0.05  # seconds between two looks at the one delivery that is handled
GARBAGE = 20_000  # objects between two looks for cycles, some dozens of deliveries; we make next to none
WAITING = State.WAITING.name.lower()
UNDER_WAY = frozenset({WAITING, State.RUNNING.name.lower()})


async def run(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Serves until SIGTERM or SIGINT; raises settings.Invalid where what is set cannot be used.

    On SIGHUP the settings are read anew, by `reread`.
    """
    telemetry.configure(settings.log_level, form=settings.log_format)
    async with _tracing(settings), _opened(settings) as (storage, identities, gate):
        await _serve(Live(settings), storage, identities, gate, reread)
    log.info("stopped")


def collect_rarely() -> None:
    """Python looks for garbage in cycles only now and then, and never among what is there already.

    At its own pace, that took a tenth of the intake's time: https://docs.python.org/3/library/gc.html#gc.set_threshold
    """
    gc.freeze()
    gc.set_threshold(GARBAGE)


def check(settings: Settings) -> None:
    """Raises settings.Invalid where the daemon would not start with them, as far as that shows without starting it."""
    Live(settings)
    _endpoint(settings)
    _credentials(settings.github, "")
    if settings.approver is not None:
        _credentials(settings.approver, "APPROVER_")


async def handle(settings: Settings, delivery: Delivery, *, patience: float) -> Story:
    """Works one delivery off, without a listener; returns how far it came when it ended, or nothing more was tried.

    What fails for now is tried again until `patience` seconds are over. Merges only what this run has opened.
    """
    telemetry.configure(settings.log_level, form=settings.log_format)
    async with _tracing(settings), _opened(settings) as (storage, identities, _):
        return await _handle(settings, storage, identities, delivery, patience)


@asynccontextmanager
async def _tracing(settings: Settings) -> AsyncIterator[None]:
    """Traces are exported where that is wanted, the last ones as far as the time allows."""
    if settings.traces is None:
        yield
        return
    try:
        telemetry.traces.start(__version__, settings.traces)
    except ValueError as error:
        raise Invalid((f"A variable that begins with OTEL_ cannot be used: {error}.",)) from error
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(telemetry.traces.stop, TRACES_END)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Storage, Identities, Gate]]:
    """The doors to GitHub and to the storage."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session(settings))
        pacing = _pacing(settings)
        endpoint = _endpoint(settings)
        main = Identity(_credentials(settings.github, ""), endpoint, session, pacing=pacing)
        approver = None
        if settings.approver is not None:
            credentials = _credentials(settings.approver, "APPROVER_")
            approver = Identity(credentials, endpoint, session, pacing=pacing, name="approver")
        try:
            storage = await stack.enter_async_context(sqlite.opened(settings.database))
        except Unusable as error:
            raise Invalid((str(error),)) from error
        yield storage, Identities(main, approver), Gate(session)


@dataclass(frozen=True, slots=True)
class Identities:
    """Who we are at GitHub: who does everything, and who approves."""

    main: Identity
    approver: Identity | None

    @property
    def all(self) -> tuple[Identity, ...]:
        return tuple(filter(None, (self.main, self.approver)))

    async def look_up(self, owner: str, name: str) -> Repository:
        """A repository by its name."""
        found = await Inspection(self.main, owner, name).repository()
        return Repository(id=found.id, owner=owner, name=name, default_branch=found.default_branch)

    async def repo_now(self, repository: Repository) -> Repo:
        """The same where the App may have been installed anew since we heard of it."""
        return await self.repo(replace(repository, installation=None))

    async def repo(self, repository: Repository) -> Repo:
        client = await self.main.client(repository.owner, repository.name, repository.installation)
        return Repo(client, repository.owner, repository.name)

    def pace(self, pacing: Pacing) -> None:
        """From now on, writes keep these distances."""
        for identity in self.all:
            identity.pace(pacing)

    async def trouble(self) -> str | None:
        """Whom of us GitHub did not know when it answered last; None: it knows us, or was not asked yet."""
        refused = [who for who, one in (("our", self.main), ("the approver's", self.approver)) if one and one.refused]
        return f"GitHub does not accept {' and '.join(refused)} credentials" if refused else None

    def approving(self, repository: Repository) -> Callable[[], Awaitable[Repo]] | None:
        """The same repository for who approves, connected to when it is needed."""
        approver = self.approver
        if approver is None:
            return None

        async def repo() -> Repo:
            # The installation of the event is the first identity's.
            client = await approver.client(repository.owner, repository.name)
            return Repo(client, repository.owner, repository.name)

        return repo


async def _serve(
    live: Live, storage: Storage, identities: Identities, gate: Gate, reread: Callable[[], Settings]
) -> None:
    settings = live.settings
    systemd = Supervisor(settings.supervision.notify)
    inbox = Inbox(storage, retention=settings.storage_max_age, size=settings.storage_max_size)
    ledger = Ledger(storage)

    repositories = Repositories(
        ledger,
        identities.look_up,
        named=lambda: live.settings.github_repositories,
        serves=lambda slug: live.ceiling.serves(slug),
    )

    async def repo_of(repository: Repository) -> Repo:
        await repositories.see(repository)
        return await identities.repo(repository)

    async def context(repository: Repository) -> Context:
        repo = await repo_of(repository)
        return Context(
            repo,
            ledger,
            live.words,
            identities.approving(repository),
            live.ceiling,
            inbox.enqueue,
            handle_self_comment=live.settings.handle_self_comment,
            status_link=live.status_link,
        )

    worker = Worker(inbox, context, route=lambda event: handlers.route(event, ceiling=live.ceiling), ledger=ledger)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with _relaying(live, storage, repo_of) as relaying, AsyncExitStack() as listener:
            await _listen_to_operator(listener, settings, storage, inbox, relaying.exchange)
            recovery = Recovery(
                Doors(identity=identities.main, repo=identities.repo_now),
                inbox,
                relaying.exchange,
                ledger,
                repositories,
                secrets=settings.webhook_secrets,
                interval=settings.recovery_interval,
                look=partial(_resume, ledger, inbox),
            )
            census = Census(repositories, identities.repo_now, interval=settings.census_interval)
            checks = [identities.trouble, *([recovery.trouble] if settings.recovery_interval else [])]
            await _listen(listener, settings, inbox, relaying.exchange, checks)
            async with anyio.create_task_group() as tasks:
                for identity in identities.all:
                    tasks.start_soon(_greet, identity)
                tasks.start_soon(_resume, ledger, inbox)
                tasks.start_soon(worker.run)
                tasks.start_soon(_prune, inbox)
                if settings.recovery_interval:
                    tasks.start_soon(recovery.run)
                if settings.census_interval:
                    tasks.start_soon(census.run)
                if settings.supervision.watchdog:
                    tasks.start_soon(_heartbeat, systemd, inbox, settings.supervision.watchdog / 2)
                collect_rarely()
                systemd.ready(SERVING)
                async for received in signals:
                    if received is not signal.SIGHUP:
                        break
                    systemd.reloading()
                    await _reload(live, reread, identities, relaying, inbox)
                    systemd.ready(SERVING)
                log.info("stopping", signal=received.name)
                systemd.stopping()
                worker.stop()
                gate.close()
                calls_end = anyio.current_time() + CALLS_END
                await listener.aclose()
                with anyio.CancelScope(deadline=calls_end):
                    await gate.quiet()
                with anyio.move_on_after(WORK_ENDS):
                    await worker.idle()
                tasks.cancel_scope.cancel()


async def _reload(
    live: Live, reread: Callable[[], Settings], identities: Identities, relaying: Relaying, inbox: Inbox
) -> None:
    """What may change without a restart is as the settings say now; where they are wrong, all is as it was."""
    try:
        restart = live.reload(await anyio.to_thread.run_sync(reread))
    except Invalid as invalid:
        log.error("the settings stay as they were", problems=invalid.problems)
        return
    settings = live.settings
    telemetry.configure(settings.log_level, form=settings.log_format)
    identities.pace(_pacing(settings))
    inbox.retain(settings.storage_max_age, settings.storage_max_size)
    relaying.wire.follow(_policy(settings))
    await relaying.configs.allow(settings.relay_allowed_hosts)
    log.info("settings reloaded")
    if restart:
        log.warning("settings that have changed count after a restart", settings=restart)


async def _heartbeat(systemd: Supervisor, inbox: Inbox, interval: float) -> None:
    """systemd hears that we live, as long as the event loop gets here and the journal has answered meanwhile."""
    while True:
        due = anyio.current_time() + interval
        with anyio.move_on_after(interval):
            if await _answers(inbox):
                systemd.alive()
        await anyio.sleep_until(due)


async def _answers(inbox: Inbox) -> bool:
    try:
        await inbox.check()
    except Full:
        return True  # a restart makes no room
    except Unavailable as error:
        log.error("the journal does not answer, and the watchdog is not told that all is well", reason=str(error))
        return False
    return True


async def _handle(
    settings: Settings, storage: Storage, identities: Identities, delivery: Delivery, patience: float
) -> Story:
    inbox, ledger, live = Inbox(storage), Ledger(storage), Live(settings)
    asked: list[Delivery] = []

    async def later(event: Own, *, after: float = 0.0) -> None:
        """What a command asks for is done in this run; for all else there would have to be a later one."""
        if isinstance(event, PullRequest):
            asked.append(inboxes.own(event))

    async def context(repository: Repository) -> Context:
        repo, approver = await identities.repo(repository), identities.approving(repository)
        return Context(
            repo,
            ledger,
            live.words,
            approver,
            live.ceiling,
            later,
            forgetful=True,
            handle_self_comment=settings.handle_self_comment,
            status_link=live.status_link,
        )

    worker = Worker(inbox, context, route=partial(handlers.route, ceiling=live.ceiling))
    async with _relaying(live, storage, identities.repo) as relaying:
        await _accept(inbox, relaying.exchange, delivery)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            until = anyio.current_time() + patience
            story = await _told(storage, delivery, until=until)
            for one in asked:
                await inbox.accept(one)
                story = await _told(storage, one, until=until)
            worker.stop()
            tasks.cancel_scope.cancel()
    return story


async def _accept(inbox: Inbox, exchange: Exchange, delivery: Delivery) -> None:
    """The delivery is stored, and on its way to where it is relayed to."""
    try:
        dispatch = exchange.begin(delivery, inboxes.payload(delivery.headers, delivery.body))
    except (inboxes.Unreadable, events.Malformed):
        dispatch = None  # the worker says so
    acceptance = await inbox.accept(delivery, post=dispatch.post if dispatch else None)
    if dispatch:
        await exchange.stored(dispatch, acceptance)


async def _told(storage: Storage, delivery: Delivery, *, until: float) -> Story:
    """The delivery's story once all of it has ended, or it waits for another try and the time is over."""
    while True:
        story = await storage.story(delivery.id)
        assert story is not None, "nothing is forgotten so soon"
        summary = story.summary
        owes = summary.owed > 0 or not summary.routed
        ended = summary.state not in UNDER_WAY
        waits = ended or (summary.state == WAITING and bool(summary.reason))
        if (ended and not owes) or (waits and anyio.current_time() >= until):
            return story
        await anyio.sleep(LOOK)


@dataclass(frozen=True, slots=True)
class Relaying:
    """The exchange, and what a reload changes below it."""

    exchange: Exchange
    configs: Configs
    wire: Wire


@asynccontextmanager
async def _relaying(live: Live, storage: Storage, repos: Repos) -> AsyncIterator[Relaying]:
    """The relay sends what is owed, and the exchange routes what has no route yet."""
    settings = live.settings
    line = _wire(settings)
    try:
        outbox = Outbox(storage)
        configs = Configs(storage, Hub(repos), allowed_hosts=settings.relay_allowed_hosts)
        relay = Relay(line, outbox, pace=_pace(settings), observe=_observe)
        serves = lambda slug: live.ceiling.serves(slug)  # noqa: E731 - the ceiling of that time
        exchange = Exchange(relay, outbox, configs, storage, repos, give_up=settings.relay_max_age, serves=serves)
        async with relay.running(), exchange.running():
            yield Relaying(exchange, configs, line)
    except BaseExceptionGroup as group:
        raise _alone(group) from None
    finally:
        await line.close()


def _alone(error: BaseException) -> BaseException:
    """What a task group has put into a group, where it is one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _pace(settings: Settings) -> Pace:
    return Pace(
        grace=LETTERS_END,
        give_up=settings.relay_max_age,
        in_flight=settings.relay_max_in_flight,
        waiting=settings.relay_max_waiting,
    )


def _policy(settings: Settings) -> Policy:
    secrets = settings.relay_secrets
    return Policy(
        allowed_hosts=settings.relay_allowed_hosts,
        allowed_networks=settings.relay_allowed_networks,
        insecure_tls=settings.relay_insecure_tls,
        ca_file=settings.relay_ca_file,
        secret=lambda endpoint: secrets.get(endpoint.host, secrets.get("")),
    )


def _wire(settings: Settings) -> Wire:
    try:
        return Wire(_policy(settings))
    except OSError as error:  # of which ssl.SSLError is one
        name = "TELEFONISTKA_RELAY_CA_FILE"
        raise Invalid((f"{name} is {settings.relay_ca_file}, which holds no certificate in PEM: {error}.",)) from error


def _observe(tried: Tried) -> None:
    status, ending = tried.answer.status, tried.verdict.ending
    telemetry.relay_attempt(tried.endpoint.name, status, ending, tried.ended - tried.began)
    telemetry.relayed(
        tried.trace,
        tried.endpoint.name,
        delivery=tried.delivery,
        attempt=tried.attempt,
        began=tried.began,
        ended=tried.ended,
        status=status,
        outcome=ending,
        reason=tried.verdict.reason,
    )


async def _listen_to_operator(
    stack: AsyncExitStack, settings: Settings, storage: Storage, inbox: Inbox, exchange: Exchange
) -> None:
    wanted = settings.admin_listen
    if wanted is None:
        return
    where = wanted if isinstance(wanted, Path) else (wanted.host, wanted.port)
    try:
        await stack.enter_async_context(admin.serving(storage, inbox, exchange, where))
    except OSError as error:
        what = f"TELEFONISTKA_ADMIN_LISTEN is {wanted}, where we cannot listen: {error.strerror or error}."
        raise Invalid((f"{what} Set it to a path that we may write, or to a free address.",)) from error


async def _listen(
    stack: AsyncExitStack, settings: Settings, inbox: Inbox, exchange: Exchange, checks: Sequence[server.Check]
) -> None:
    wanted = settings.listen
    count = len(settings.supervision.sockets)
    try:
        host, port = await stack.enter_async_context(
            server.serving(
                inbox,
                settings.webhook_secrets,
                host=wanted.host,
                port=wanted.port,
                exchange=exchange,
                checks=checks,
                sockets=supervisor.inherited(count),
                pause=asyncio.get_running_loop().remove_reader,
            )
        )
    except OSError as error:
        where = f"LISTEN_FDS is {count}" if count else f"TELEFONISTKA_LISTEN is {wanted}"
        raise Invalid((f"{where}, where we cannot listen: {error.strerror}. Set it to a free address.",)) from error
    log.info("listening", host=host, port=port, version=__version__, sqlite=sqlite.VERSION, github=settings.github_host)


async def _greet(identity: Identity) -> None:
    """GitHub says whether it knows us before there is work: a wrong credential is seen in /ready at once."""
    while True:
        try:
            await identity.greet()
        except Rejected as error:
            log.error("GitHub refuses our credentials", identity=identity.name, reason=error.text)
        except TryAgain as error:
            log.warning("GitHub could not be asked whether it knows us", identity=identity.name, reason=str(error))
            await anyio.sleep(error.after or GREET_INTERVAL)
            continue
        return


async def _resume(ledger: Ledger, inbox: Inbox) -> None:
    """Whatever is to be merged by itself is looked at: what happened to it while we were down may never be told."""
    try:
        for event in await landing.unfinished(ledger):
            await inbox.enqueue(event)
    except Unavailable as error:
        log.error("what waits for its merge cannot be looked at", reason=str(error))


async def _prune(inbox: Inbox) -> None:
    while True:
        try:
            pruned = await inbox.prune()
        except Unavailable as error:
            log.error("old work cannot be forgotten", reason=str(error))
        else:
            log.debug("old work forgotten", items=pruned)
        await anyio.sleep(PRUNE_INTERVAL)


def _pacing(settings: Settings) -> Pacing:
    return Pacing(write=settings.github_write_interval, notify=settings.github_notify_interval)


def _endpoint(settings: Settings) -> Endpoint:
    try:
        return Endpoint.of(settings.github_host)
    except ValueError as error:
        raise Invalid((str(error),)) from error


def _session(settings: Settings) -> aiohttp.ClientSession:
    try:
        return auth.session(_endpoint(settings), ca_file=settings.github_ca_file)
    except OSError as error:  # of which ssl.SSLError is one
        raise Invalid(
            (f"TELEFONISTKA_GITHUB_CA_FILE is {settings.github_ca_file}, which holds no certificate in PEM: {error}.",)
        ) from error


def _credentials(given: TokenCredentials | AppCredentials, prefix: str) -> auth.Token | auth.App:
    match given:
        case TokenCredentials(token=token):
            return auth.Token(token)
        case AppCredentials(id=number, private_key=key):
            app = auth.App(number, key)
            try:
                app.check()
            except ValueError as error:
                name = f"{prefix}GITHUB_APP_PRIVATE_KEY_PATH"
                raise Invalid((f"{name}: {error}. Give the .pem file from GitHub.",)) from error
            return app


class Gate:
    """Lets API calls through until it is closed, and knows when none is under way any more."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._under_way = 0
        self._closed = False
        self._quiet = anyio.Event()
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._begins)
        trace.on_request_end.append(self._ended)
        trace.on_request_exception.append(self._ended)
        trace.freeze()
        session.trace_configs.append(trace)

    def close(self) -> None:
        """No call begins from now on: who tries to waits until it is cancelled."""
        self._closed = True
        self._look()

    async def quiet(self) -> None:
        """The gate is closed, and the last call has its answer."""
        await self._quiet.wait()

    async def _begins(self, session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
        if self._closed:
            await anyio.sleep_forever()
        self._under_way += 1

    async def _ended(self, session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
        self._under_way -= 1
        self._look()

    def _look(self) -> None:
        if self._closed and not self._under_way:
            self._quiet.set()
