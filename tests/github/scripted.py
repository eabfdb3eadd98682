"""A GitHub that answers what a test scripted, over real HTTP, and a clock that only sleeping moves."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.lowlevel
import orjson
from aiohttp import web

from telefonistka.github import auth
from telefonistka.github.auth import App, Identity, Token
from telefonistka.github.client import Client
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Clock, Pacing

UNPACED = Pacing(write=0, notify=0)


@dataclass
class Stopwatch:
    """A clock whose time passes only by sleeping."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: 1_700_000_000 + self.now, sleep=self.sleep)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str  # with its query
    headers: Mapping[str, str]
    json: Any


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        raw = self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)
        headers = {"content-type": "application/json; charset=utf-8", **self.headers}
        return web.Response(status=self.status, body=raw, headers=headers)


class Cut:
    """The connection breaks instead of an answer."""


Answering = Callable[[Asked], Awaitable[Reply]]
Step = Reply | Cut | Answering


class Scripted:
    """Answers by method and path; the last step of a script goes on for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self._scripts: dict[str, list[Step]] = defaultdict(list)

    def on(self, name: str, *steps: Step) -> None:
        """What answers `name`, such as "GET /repos/o/r"; the prefix of an Enterprise Server is left out."""
        self._scripts[name] = list(steps)

    def count(self, name: str) -> int:
        return sum(f"{asked.method} {asked.path}" == name for asked in self.asked)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.of(self.url)

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        path = request.raw_path.removeprefix("/api/v3").removeprefix("/api")
        asked = Asked(request.method, path, request.headers, orjson.loads(raw) if raw else None)
        self.asked.append(asked)
        script = self._scripts.get(f"{request.method} {path}")
        if not script:
            return Reply(404, {"message": "Not Found"}).response()
        step = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(step, Cut):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return (step if isinstance(step, Reply) else await step(asked)).response()


@asynccontextmanager
async def identity(
    github: Scripted, credentials: Token | App, watch: Stopwatch, *, pacing: Pacing = UNPACED
) -> AsyncIterator[Identity]:
    async with auth.session(github.endpoint) as session:
        yield Identity(credentials, github.endpoint, session, pacing=pacing, clock=watch.clock)


@asynccontextmanager
async def client(github: Scripted, watch: Stopwatch, *, pacing: Pacing = UNPACED) -> AsyncIterator[Client]:
    async with identity(github, Token("t0ken"), watch, pacing=pacing) as us:
        yield await us.client("acme", "iac")
