"""Deliveries as GitHub makes them, and the few things that talk to the daemon's parts in tests."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import anyio
import orjson
from aiohttp import web

from telefonistka.core.comments import Words
from telefonistka.core.events import Repository
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.handlers import Context
from telefonistka.inbox import Delivery
from telefonistka.ledger import Ledger
from telefonistka.storage import Storage

JSON = (("Content-Type", "application/json"),)
DEADLINE = 60  # seconds; nothing here takes more than one on an idle machine


@dataclass
class Clock:
    """Seconds since 1970 that pass only when a test says so."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def pull_request(
    number: int = 7, *, repository: int = 1, action: str = "closed", merged: bool = True, title: str = "A change"
) -> dict[str, Any]:
    """The payload of a `pull_request` event, as far as anything reads it."""
    return {
        "action": action,
        "number": number,
        "pull_request": {
            "number": number,
            "title": title,
            "body": None,
            "merged": merged,
            "merge_commit_sha": "c" * 40,
            "user": {"login": "alice"},
            "base": {"ref": "main", "sha": "a" * 40},
            "head": {"ref": "change", "sha": f"{number:040x}"},
        },
        "repository": {
            "id": repository,
            "name": "infra",
            "owner": {"login": "acme"},
            "default_branch": "main",
        },
        "sender": {"login": "alice"},
    }


def delivery(
    id_: str, payload: Any = None, *, event: str = "pull_request", lane: str = "1/7", body: bytes | None = None
) -> Delivery:
    """A delivery whose body differs from that of any other id."""
    if body is None:
        body = orjson.dumps(pull_request(title=id_) if payload is None else payload)
    return Delivery(id=id_, event=event, lane=lane, headers=JSON, body=body)


def signature(body: bytes, secret: bytes) -> str:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def headers(body: bytes, secret: bytes, **more: str) -> dict[str, str]:
    """What GitHub sends along; keywords replace a header, with underscores for its hyphens."""
    standard = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "pull_request",
        "X-GitHub-Delivery": hashlib.md5(body).hexdigest(),
        "X-Hub-Signature-256": signature(body, secret),
    }
    return standard | {name.replace("_", "-"): value for name, value in more.items()}


def form(payload: bytes) -> bytes:
    return urlencode({"payload": payload}).encode()


@dataclass
class StatusBoard:
    """A GitHub that takes commit statuses, or refuses them by script."""

    url: str = ""
    statuses: list[tuple[str, str]] = field(default_factory=list)  # state, description
    failures: list[int] = field(default_factory=list)  # the answers to the next writes
    gate: anyio.Event | None = None  # answers wait for it
    asked: anyio.Event = field(default_factory=anyio.Event)
    calls: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        app = web.Application(middlewares=[self._listed])
        app.router.add_post("/api/v3/repos/acme/infra/statuses/{sha}", self._status)
        app.router.add_post("/api/graphql", self._graphql)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        await runner.cleanup()

    @web.middleware
    async def _listed(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.calls.append(request.path)
        return await handler(request)

    async def _status(self, request: web.Request) -> web.Response:
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            # Longer than a call may wait, so that it is the journal that waits.
            patience = {"Retry-After": "600"}
            return web.json_response({"message": "No"}, status=self.failures.pop(0), headers=patience)
        body = await request.json()
        self.statuses.append((body["state"], body["description"]))
        return web.json_response({}, status=201)

    async def _graphql(self, request: web.Request) -> web.Response:
        return web.json_response({"message": "Bad credentials"}, status=401)

    @asynccontextmanager
    async def contexts(self, storage: Storage) -> AsyncIterator[Callable[[Repository], Awaitable[Context]]]:
        """What the daemon gives its worker, over this GitHub."""
        endpoint = Endpoint.of(self.url)
        async with auth.session(endpoint) as session:
            identity = Identity(auth.Token("t"), endpoint, session, pacing=Pacing(write=0, notify=0))

            async def context(repository: Repository) -> Context:
                client = await identity.client(repository.owner, repository.name, repository.installation)
                return Context(Repo(client, repository.owner, repository.name), Ledger(storage), Words({}))

            yield context


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it holds."""
    with anyio.fail_after(DEADLINE):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in a thread or another process
            await anyio.sleep(0.01)
