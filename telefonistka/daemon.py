"""The composition root: what the daemon consists of, in which order it starts, and how it stops.

What belongs here: building and ending. On SIGTERM or SIGINT nothing more is accepted or claimed and no API call
begins; those under way end, and what is left waits in the storage.
"""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from types import SimpleNamespace

import aiohttp
import anyio

from telefonistka import __version__, server, telemetry, templates
from telefonistka.core.comments import Words
from telefonistka.core.events import Repository
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.handlers import Context
from telefonistka.inbox import Inbox
from telefonistka.ledger import Ledger
from telefonistka.settings import AppCredentials, Invalid, Settings, TokenCredentials
from telefonistka.storage import Storage, Unavailable, Unusable, sqlite
from telefonistka.telemetry import log
from telefonistka.worker import Worker

# Together with the server's own seconds below the ten that a supervisor may give us.
CALLS_END = 5.0  # seconds for API calls under way when we stop; most take one
WORK_ENDS = 0.5  # seconds for what runs without calls, such as storing an outcome
PRUNE_INTERVAL = 3600.0  # seconds


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; raises settings.Invalid where what is set cannot be used."""
    telemetry.configure(settings.log_level)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session(settings))
        pacing = Pacing(write=settings.github_write_interval, notify=settings.github_notify_interval)
        identity = Identity(_credentials(settings), _endpoint(settings), session, pacing=pacing)
        try:
            storage = await stack.enter_async_context(sqlite.opened(settings.database))
        except Unusable as error:
            raise Invalid((str(error),)) from error
        await _serve(settings, storage, identity, Gate(session))
    log.info("stopped")


async def _serve(settings: Settings, storage: Storage, identity: Identity, gate: Gate) -> None:
    inbox, ledger, words = Inbox(storage), Ledger(storage), Words(templates.load())

    async def context(repository: Repository) -> Context:
        client = await identity.client(repository.owner, repository.name, repository.installation)
        return Context(Repo(client, repository.owner, repository.name), ledger, words)

    worker = Worker(inbox, context)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with AsyncExitStack() as listener:
            await _listen(listener, settings, inbox)
            async with anyio.create_task_group() as tasks:
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


async def _listen(stack: AsyncExitStack, settings: Settings, inbox: Inbox) -> None:
    wanted = settings.listen
    try:
        serving = server.serving(inbox, settings.webhook_secrets, host=wanted.host, port=wanted.port)
        host, port = await stack.enter_async_context(serving)
    except OSError as error:
        raise Invalid(
            (f"TELEFONISTKA_LISTEN is {wanted}, where we cannot listen: {error.strerror}. Set it to a free address.",)
        ) from error
    log.info("listening", host=host, port=port, version=__version__, sqlite=sqlite.VERSION, github=settings.github_host)


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


def _credentials(settings: Settings) -> auth.Token | auth.App:
    match settings.github:
        case TokenCredentials(token=token):
            return auth.Token(token)
        case AppCredentials(id=number, private_key=key):
            app = auth.App(number, key)
            try:
                app.check()
            except ValueError as error:
                raise Invalid((f"GITHUB_APP_PRIVATE_KEY_PATH: {error}. Give the .pem file from GitHub.",)) from error
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
