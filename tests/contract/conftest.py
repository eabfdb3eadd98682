"""A sandbox, a small repository in it, and a client whose every call is held against GitHub's descriptions."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from telefonistka.sandbox import scenes, server
from telefonistka.sandbox.box import Box
from tests.contract import schemas

REPO = "/repos/acme/iac"
SECRET = "it's a secret to everybody"
FILES: dict[str, Any] = {
    "README.md": "Infrastructure\n",
    "lab/db/app.yaml": "image: 1\n",
    "lab/web/app.yaml": "image: 1\n",
    "lab/web/run.sh": {"content": "#!/bin/sh\n", "mode": "100755"},
    "staging/web/app.yaml": "image: 0\n",
    "staging/web/old.yaml": "gone: soon\n",
}
PATIENCE = 60  # seconds for something that the sandbox does in the background


@dataclass(frozen=True)
class Reply:
    """One answer: `body` is its JSON, or its text where it is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def links(self) -> dict[str, str]:
        """The Link header's addresses by relation."""
        parts = filter(None, self.headers.get("Link", "").split(", "))
        pairs = (part.split("; ") for part in parts)
        return {relation[5:-1]: address[1:-1] for address, relation in pairs}


@dataclass
class GitHub:
    """Calls the sandbox over HTTP as one identity and refuses what GitHub's descriptions do not hold."""

    url: str
    token: str | None
    session: aiohttp.ClientSession

    async def __call__(
        self, method: str, path: str, body: Any = None, *, odd: bool = False, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """`odd` sends what the description forbids, to see how it is refused."""
        path = path.removeprefix(self.url).removeprefix("/api/v3")
        bare, _, query = path.partition("?")
        faults = [] if odd else schemas.request(method, bare, query, body)
        reply = await self.send(method, f"/api/v3{path}", body, headers)
        kind = reply.headers.get("Content-Type", "application/json").partition(";")[0]
        faults += schemas.response(method, bare, reply.status, reply.body, content_type=kind)
        assert not faults, "\n".join(faults)
        return reply

    async def graphql(self, query: str, **variables: Any) -> Reply:
        assert not (faults := schemas.query(query, variables)), "\n".join(faults)
        return await self.send("POST", "/api/graphql", {"query": query, "variables": variables}, None)

    async def send(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None) -> Reply:
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        data = None if raw is None else io.BytesIO(raw)  # large bytes are not given as they are: aiohttp warns
        async with self.session.request(
            method, self.url + path, data=data, headers=given | dict(headers or {}), allow_redirects=False
        ) as answer:
            raw = await answer.read()
            is_json = answer.content_type == "application/json" and raw
            return Reply(answer.status, answer.headers, json.loads(raw) if is_json else raw.decode() or None)

    def as_(self, token: str | None) -> GitHub:
        """The same client for somebody else."""
        return GitHub(self.url, token, self.session)


@dataclass
class Receiver:
    """A webhook's receiver that keeps what it was sent; `answers` with this status, after `delay` seconds."""

    url: str = ""
    answers: int = 200
    delay: float = 0
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    _more: anyio.Event = field(default_factory=anyio.Event)

    async def hear(self, request: web.Request) -> web.Response:
        status, delay = self.answers, self.delay  # as they are now: a test may change them for the next one
        self.got.append((request.headers.copy(), await request.read()))
        self._more.set()
        self._more = anyio.Event()
        await anyio.sleep(delay)
        return web.Response(status=status, headers={"Location": self.url} if status == 302 else None)

    async def until(self, *events: str) -> list[dict[str, Any]]:
        """The payloads so far, as soon as all of these have arrived (`push`, `pull_request.closed`), in this order."""
        with anyio.fail_after(PATIENCE):
            while missing := _without(self.names(), list(events)):
                waiting = self._more
                if missing == _without(self.names(), list(events)):
                    await waiting.wait()
        return [self.payload(name) for name in events]

    def names(self) -> list[str]:
        return [_name(headers, body) for headers, body in self.got]

    def payload(self, name: str) -> dict[str, Any]:
        """The last payload of this name."""
        found: dict[str, Any] = json.loads(
            next(body for headers, body in self.got[::-1] if _name(headers, body) == name)
        )
        return found


def _name(headers: Mapping[str, str], body: bytes) -> str:
    action = json.loads(body).get("action") if body.startswith(b"{") else None
    return ".".join(filter(None, (headers["X-GitHub-Event"], action)))


def _without(present: list[str], wanted: list[str]) -> list[str]:
    for name in present:
        if name in wanted:
            wanted.remove(name)
    return wanted


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with server.running(tmp_path) as box:
        yield box


@pytest.fixture
async def github(box: Box) -> AsyncIterator[GitHub]:
    """Ada, who administers acme/iac."""
    ada = box.person("ada", access="admin")
    scenes.repository(box, "acme", "iac", FILES)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield GitHub(box.url, ada.value, session)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/", receiver.hear)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield receiver
    await runner.cleanup()
