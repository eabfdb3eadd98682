"""A repository in the sandbox, its webhook, the exchange, and receivers that check signatures as Argo CD does."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson

from telefonistka import server
from telefonistka import wire as wires
from telefonistka.configs import Configs
from telefonistka.core.events import Repository
from telefonistka.exchange import Exchange, Hub
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint as GitHub
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.inbox import Inbox
from telefonistka.outbox import Outbox
from telefonistka.relay import Pace, Relay
from telefonistka.sandbox import scenes
from telefonistka.sandbox import server as sandbox
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Hook, Token
from telefonistka.sandbox.state import Repo as SandboxRepo
from telefonistka.storage import Storage, sqlite
from telefonistka.wire import Wire
from tests.relay.sinks import HERE, Request, Sink

SECRET = "It's a Secret to Everybody"
QUICK = Pace(first=0.02, longest=0.2, probe=0.05, longest_probe=0.2, storage=0.02, grace=0.1)
NOWHERE = "http://127.0.0.1:9"  # nobody listens there
DEADLINE = 60


def rules(*lines: tuple[str, Sink], more: str = "") -> str:
    """A configuration: each expression sends to a sink."""
    listed = "".join(f"  - expression: {e}\n    replacements: ['{s.endpoint().url}']\n{more}" for e, s in lines)
    return f"webhookEndpointRegexs:\n{listed}"


@dataclass
class Office:
    """The daemon's part of it, running."""

    exchange: Exchange
    configs: Configs
    storage: Storage
    relay: Relay
    url: str


@dataclass
class Street:
    """Everybody but the daemon."""

    box: Box
    repo: SandboxRepo
    bot: Token
    alice: Token
    directory: Path
    http: aiohttp.ClientSession
    hook: Hook | None = None
    sent: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def push(self, files: Mapping[str, Any], *, branch: str | None = None) -> str:
        return await scenes.commit(self.box, self.repo, files, by=self.alice.user, branch=branch)

    async def hears(self, office: Office, *events: str) -> None:
        """The webhook is sent to this office."""
        if self.hook is None:
            self.hook = Hook(
                id=self.box.next_id(), repo=self.repo, app=None, url="", secret=SECRET, events=list(events or ["push"])
            )
            self.repo.hooks[self.hook.id] = self.hook
        self.hook.url = f"{office.url}/webhook"

    async def answered(self, number: int) -> list[int | None]:
        """The statuses of the deliveries, once there are so many."""
        with anyio.fail_after(DEADLINE):
            while len(found := self._statuses()) < number:  # noqa: ASYNC110 - it happens in the sandbox
                await anyio.sleep(0.01)
        return found

    def _statuses(self) -> list[int | None]:
        return [one.status_code for one in self.box.deliveries.values() if one.event != "ping" and one.status_code]

    def calls(self) -> list[str]:
        """What the bot has asked GitHub."""
        return [f"{call.method} {call.path}" for call in self.box.calls if call.identity == self.bot.user.login]

    async def replay(self, office: Office, number: int = -1) -> int:
        """GitHub sends a delivery again; the status of the answer."""
        one = list(self.box.deliveries.values())[number]
        async with self.http.post(
            f"{office.url}/webhook", data=one.request_body, headers=dict(one.request_headers)
        ) as response:
            return response.status

    @asynccontextmanager
    async def office(
        self,
        *,
        github: str = "",
        asking: float = 5.0,
        pace: Pace = QUICK,
        clock: Callable[[], float] = time.time,
    ) -> AsyncIterator[Office]:
        """The exchange with a server in front of it, over the street's one journal."""
        place = GitHub.of(github or self.box.url)
        async with auth.session(place) as session, sqlite.opened(self.directory / "telefonistka.db") as storage:
            identity = Identity(auth.Token(self.bot.value), place, session, pacing=Pacing(write=0, notify=0))

            async def repo(repository: Repository) -> Repo:
                client = await identity.client(repository.owner, repository.name, repository.installation)
                return Repo(client, repository.owner, repository.name)

            line = Wire(HERE)
            outbox, configs = Outbox(storage), Configs(storage, Hub(repo))
            relay = Relay(line, outbox, pace=pace)
            exchange = Exchange(relay, outbox, configs, storage, repo, give_up=pace.give_up, asking=asking, clock=clock)
            try:
                async with (
                    relay.running(),
                    exchange.running(),
                    server.serving(Inbox(storage), [SECRET.encode()], host="127.0.0.1", port=0, exchange=exchange) as (
                        host,
                        port,
                    ),
                ):
                    yield Office(exchange, configs, storage, relay, f"http://{host}:{port}")
            finally:
                await line.close()


@asynccontextmanager
async def street(directory: Path, files: Mapping[str, Any]) -> AsyncIterator[Street]:
    async with (
        sandbox.running(directory / "github") as box,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        alice, bot = box.person("alice"), box.bot("the-bot")
        yield Street(box, scenes.repository(box, "acme", "iac", files), bot, alice, directory, http)


async def paid(office: Office) -> None:
    """Waits until nothing is owed, and all has a route."""
    with anyio.fail_after(DEADLINE):
        while await office.storage.owed() or await office.storage.unrouted():  # noqa: ASYNC110 - in another thread
            await anyio.sleep(0.01)


def is_signed(request: Request) -> bool:
    """Whether the receiver's own check of the bytes passes."""
    (given,) = request.header("X-Hub-Signature-256")
    return given == "sha256=" + hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()


def heads(sink: Sink) -> list[str]:
    """The commits that a receiver was told of."""
    return [str(orjson.loads(request.body)["after"]) for request in sink.requests]


__all__ = ["Office", "Street", "heads", "is_signed", "paid", "rules", "street", "wires"]
