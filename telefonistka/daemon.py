"""The composition root: what the daemon consists of, in which order it starts, and how it stops.

What belongs here: building and ending. On SIGTERM or SIGINT nothing more is accepted or claimed and no API call
begins; those under way end, and what is left waits in the storage.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import anyio

from telefonistka import __version__, admin, handlers, server, telemetry, templates
from telefonistka import inbox as inboxes
from telefonistka.configs import Configs
from telefonistka.core import comments, events, fanout, statuslink
from telefonistka.core.comments import Words
from telefonistka.core.events import Repository
from telefonistka.core.guards import Ceiling
from telefonistka.exchange import Exchange, Hub
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.handlers import Context, landing
from telefonistka.inbox import Delivery, Inbox, State
from telefonistka.ledger import Ledger
from telefonistka.outbox import Outbox
from telefonistka.relay import Ending, Pace, Relay
from telefonistka.settings import AppCredentials, Invalid, Settings, TokenCredentials
from telefonistka.storage import Storage, Story, Unavailable, Unusable, sqlite
from telefonistka.telemetry import log
from telefonistka.wire import Answer, Policy, Wire
from telefonistka.worker import Worker

# Together with the server's own seconds below the ten that a supervisor may give us.
CALLS_END = 5.0  # seconds for API calls under way when we stop; most take one
LETTERS_END = 2.0  # seconds for what the relay has in flight when we stop
WORK_ENDS = 0.5  # seconds for what runs without calls, such as storing an outcome
PRUNE_INTERVAL = 600.0  # seconds
LOOK = 0.05  # seconds between two looks at the one delivery that is handled
WAITING = State.WAITING.name.lower()
UNDER_WAY = frozenset({WAITING, State.RUNNING.name.lower()})


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; raises settings.Invalid where what is set cannot be used."""
    telemetry.configure(settings.log_level)
    async with _opened(settings) as (storage, identities, gate):
        await _serve(settings, storage, identities, gate)
    log.info("stopped")


async def handle(settings: Settings, delivery: Delivery, *, patience: float) -> Story:
    """Works one delivery off, without a listener; returns how far it came when it ended, or nothing more was tried.

    What fails for now is tried again until `patience` seconds are over. Merges only what this run has opened.
    """
    telemetry.configure(settings.log_level)
    async with _opened(settings) as (storage, identities, _):
        return await _handle(settings, storage, identities, delivery, patience)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Storage, Identities, Gate]]:
    """The doors to GitHub and to the storage."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session(settings))
        pacing = Pacing(write=settings.github_write_interval, notify=settings.github_notify_interval)
        endpoint = _endpoint(settings)
        main = Identity(_credentials(settings.github, ""), endpoint, session, pacing=pacing)
        approver = None
        if settings.approver is not None:
            approver = Identity(_credentials(settings.approver, "APPROVER_"), endpoint, session, pacing=pacing)
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

    async def repo(self, repository: Repository) -> Repo:
        client = await self.main.client(repository.owner, repository.name, repository.installation)
        return Repo(client, repository.owner, repository.name)

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


async def _serve(settings: Settings, storage: Storage, identities: Identities, gate: Gate) -> None:
    inbox = Inbox(storage, retention=settings.storage_max_age, size=settings.storage_max_size)
    ledger, words = Ledger(storage), _words(settings)
    ceiling, status_link = _ceiling(settings), _status_link(settings)

    async def context(repository: Repository) -> Context:
        repo = await identities.repo(repository)
        return Context(
            repo,
            ledger,
            words,
            identities.approving(repository),
            ceiling,
            inbox.enqueue,
            handle_self_comment=settings.handle_self_comment,
            status_link=status_link,
        )

    worker = Worker(inbox, context, route=partial(handlers.route, ceiling=ceiling), ledger=ledger)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with _relaying(settings, storage, identities, ceiling) as exchange, AsyncExitStack() as listener:
            await _listen_to_operator(listener, settings, storage, inbox, exchange)
            await _listen(listener, settings, inbox, exchange)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_resume, ledger, inbox)
                tasks.start_soon(worker.run)
                tasks.start_soon(_prune, inbox)
                received = await anext(aiter(signals))
                log.info("stopping", signal=received.name)
                worker.stop()
                gate.close()
                await listener.aclose()
                with anyio.move_on_after(CALLS_END):
                    await gate.quiet()
                with anyio.move_on_after(WORK_ENDS):
                    await worker.idle()
                tasks.cancel_scope.cancel()


async def _handle(
    settings: Settings, storage: Storage, identities: Identities, delivery: Delivery, patience: float
) -> Story:
    inbox, ledger, words = Inbox(storage), Ledger(storage), _words(settings)
    ceiling = _ceiling(settings)

    async def context(repository: Repository) -> Context:
        repo = await identities.repo(repository)
        return Context(repo, ledger, words, identities.approving(repository), ceiling, forgetful=True)

    worker = Worker(inbox, context, route=partial(handlers.route, ceiling=ceiling))
    async with _relaying(settings, storage, identities, ceiling) as exchange:
        await _accept(inbox, exchange, delivery)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            story = await _told(storage, delivery, until=anyio.current_time() + patience)
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


@asynccontextmanager
async def _relaying(
    settings: Settings, storage: Storage, identities: Identities, ceiling: Ceiling
) -> AsyncIterator[Exchange]:
    """The relay sends what is owed, and the exchange routes what has no route yet."""
    line = _wire(settings)
    try:
        outbox = Outbox(storage)
        configs = Configs(storage, Hub(identities.repo), allowed_hosts=settings.relay_allowed_hosts)
        relay = Relay(line, outbox, pace=Pace(grace=LETTERS_END), observe=_observe)
        exchange = Exchange(relay, outbox, configs, storage, identities.repo, serves=ceiling.serves)
        async with relay.running(), exchange.running():
            yield exchange
    except BaseExceptionGroup as group:
        raise _alone(group) from None
    finally:
        await line.close()


def _alone(error: BaseException) -> BaseException:
    """What a task group has put into a group, where it is one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _wire(settings: Settings) -> Wire:
    secrets = settings.relay_secrets
    policy = Policy(
        allowed_networks=settings.relay_allowed_networks,
        insecure_tls=settings.relay_insecure_tls,
        ca_file=settings.relay_ca_file,
        secret=lambda endpoint: secrets.get(endpoint.host, secrets.get("")),
    )
    try:
        return Wire(policy)
    except OSError as error:  # of which ssl.SSLError is one
        name = "TELEFONISTKA_RELAY_CA_FILE"
        raise Invalid((f"{name} is {settings.relay_ca_file}, which holds no certificate in PEM: {error}.",)) from error


def _observe(endpoint: fanout.Endpoint, answer: Answer, ending: Ending, seconds: float) -> None:
    telemetry.relay_attempt(endpoint.name, answer.status, ending, seconds)


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


async def _listen(stack: AsyncExitStack, settings: Settings, inbox: Inbox, exchange: Exchange) -> None:
    wanted = settings.listen
    try:
        serving = server.serving(inbox, settings.webhook_secrets, host=wanted.host, port=wanted.port, exchange=exchange)
        host, port = await stack.enter_async_context(serving)
    except OSError as error:
        raise Invalid(
            (f"TELEFONISTKA_LISTEN is {wanted}, where we cannot listen: {error.strerror}. Set it to a free address.",)
        ) from error
    log.info("listening", host=host, port=port, version=__version__, sqlite=sqlite.VERSION, github=settings.github_host)


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


def _words(settings: Settings) -> Words:
    """What we say, with the operator's own templates in the place of ours; raises Invalid where one is broken."""
    ours, path = templates.load(), settings.templates_path
    if path is None:
        return Words(ours)
    try:
        found = templates.found(path)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid((f"TEMPLATES_PATH is {str(path)!r}, where a template cannot be read: {error}.",)) from error
    problems = tuple(f"TEMPLATES_PATH: {path}/{fault}." for fault in comments.faults(ours, found.texts))
    if problems:
        raise Invalid(problems)
    if found.originals:
        log.warning("templates of the original are not used", files=found.originals, ours=sorted(ours))
    if found.unknown:
        log.warning("templates that nothing is said by are not used", files=found.unknown, ours=sorted(ours))
    return Words(ours, found.texts, lambda text: log.error("a template of TEMPLATES_PATH has failed", reason=text))


def _status_link(settings: Settings) -> Callable[[], str] | None:
    """Where commit statuses lead by the operator's template; None where there is none, or a broken one."""
    path = settings.status_url_template
    if path is None:
        return None
    try:
        template = statuslink.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, statuslink.Invalid) as error:
        name = "CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH"
        log.warning("commit statuses lead to our comments: the template is not used", variable=name, reason=str(error))
        return None
    return lambda: template.render(datetime.now().astimezone())


def _ceiling(settings: Settings) -> Ceiling:
    return Ceiling(
        auto_merge=settings.promotion_auto_merge,
        auto_approve=settings.promotion_auto_approve,
        max_deletions=settings.promotion_max_auto_merge_deletions,
        repositories=settings.github_repositories,
        targets=settings.promotion_targets,
    )


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
