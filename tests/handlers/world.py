"""A repository in the sandbox, people who work in it, and the bot's parts, connected by real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from telefonistka import git, templates
from telefonistka import inbox as inboxes
from telefonistka.core import events
from telefonistka.core.comments import Words
from telefonistka.core.events import PullRequest
from telefonistka.core.guards import Ceiling
from telefonistka.core.promotion import NO_CEILING
from telefonistka.core.trees import Entry, Snapshot
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.handlers import Context, route
from telefonistka.inbox import Inbox
from telefonistka.ledger import Ledger
from telefonistka.sandbox import control, scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Call, Token
from telefonistka.sandbox.state import Repo as SandboxRepo
from telefonistka.storage import Storage, sqlite
from tests.contract.recorder import Recorder
from tests.daemon.values import Clock

OWNER, NAME = "acme", "iac"
UNPACED = Pacing(write=0, notify=0)


@dataclass
class World:
    """One repository with everybody in it; what the bot does is held against GitHub's descriptions."""

    box: Box
    repo: SandboxRepo
    alice: Token
    bot: Token
    http: aiohttp.ClientSession
    storage: Storage
    recorder: Recorder
    approver: Token  # the second identity
    ceiling: Ceiling = NO_CEILING
    merges: int = 0
    clock: Clock = field(default_factory=Clock)

    @property
    def inbox(self) -> Inbox:
        """Where our own later work goes."""
        return Inbox(self.storage, clock=self.clock)

    async def ask(self, method: str, path: str, *, by: Token | None = None, **fields: Any) -> Any:
        """One call of GitHub's REST API as a person; returns the answer's JSON."""
        token = by or self.alice
        headers = {"Authorization": f"Bearer {token.value}"}
        url = f"{self.box.url}/repos/{OWNER}/{NAME}{path}"
        async with self.http.request(method, url, json=fields or None, headers=headers) as answer:
            body = await answer.json() if answer.content_length != 0 and answer.status != 204 else None
            assert answer.status < 400, (answer.status, body)
            return body

    async def commit(self, files: Mapping[str, Any], branch: str | None = None, *, message: str = "Change") -> str:
        return await scenes.commit(self.box, self.repo, files, by=self.alice.user, branch=branch, message=message)

    async def open(self, branch: str, files: Mapping[str, Any] | None = None, *, body: str = "", **fields: Any) -> int:
        """The number of a pull request that a person opened from the branch, made of these files."""
        if files is not None:
            await self.commit(files, branch)
        pull = await self.ask("POST", "/pulls", title="A change", head=branch, body=body, **{"base": "main", **fields})
        return int(pull["number"])

    async def merge(self, number: int, **fields: Any) -> PullRequest:
        """A person merged the pull request; returns what the webhook says."""
        await self.ask("PUT", f"/pulls/{number}/merge", **fields)
        return await self.event(number)

    async def event(self, number: int, action: str = "closed", *, label: str | None = None) -> PullRequest:
        pull = await self.ask("GET", f"/pulls/{number}")
        payload = {
            "action": action,
            "number": number,
            "pull_request": pull,
            "repository": pull["base"]["repo"],
            "sender": {"login": "alice"},
        } | ({} if label is None else {"label": {"name": label}})
        event = events.parse("pull_request", payload)
        assert isinstance(event, PullRequest)
        return event

    async def merged(
        self, files: Mapping[str, Any], *, labels: Collection[str] = (), branch: str = "change", body: str = ""
    ) -> PullRequest:
        """A person opened a pull request with these files, labelled and merged it."""
        self.merges += 1
        branch = branch if self.merges == 1 else f"{branch}-{self.merges}"
        number = await self.open(branch, files, body=body)
        if labels:
            await self.ask("POST", f"/issues/{number}/labels", labels=list(labels))
        return await self.merge(number)

    def given(self, repo: Repo, approver: Repo) -> Context:
        async def approving() -> Repo:
            return approver

        return Context(
            repo,
            Ledger(self.storage),
            Words(templates.load()),
            approving,
            self.ceiling,
            later=self.inbox.enqueue,
            clock=self.clock,
        )

    def calls(self) -> list[Call]:
        """The bot's calls."""
        return [call for call in self.box.calls if call.identity == self.bot.user.login]

    def state(self) -> Any:
        return control.state(self.repo)

    def pulls(self) -> list[dict[str, Any]]:
        """The bot's pull requests, as the state shows them, in the order of their numbers."""
        ours = [pull for pull in self.state()["pulls"] if pull["author"] == self.bot.user.login]
        return sorted(ours, key=lambda pull: int(pull["number"]))

    def snapshot(self, branch: str = "main") -> Snapshot:
        """A branch's directories, as git itself lists them."""
        return git.Repository(self.repo.path).snapshot(branch)

    def entry(self, path: str, branch: str = "main") -> Entry | None:
        return self.snapshot(branch).entry(path)

    def text(self, path: str, branch: str = "main") -> str | None:
        entry = self.entry(path, branch)
        return None if entry is None else self.repo.git.read("blob", entry.oid).decode()


@asynccontextmanager
async def world(directory: Path, files: Mapping[str, Any], **switches: Any) -> AsyncIterator[World]:
    """A repository with these files, and the bot with an empty ledger."""
    recorder = Recorder()
    async with (
        server.running(directory / "github", middlewares=[recorder.watch]) as box,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        sqlite.opened(directory / "telefonistka.db") as storage,
    ):
        alice, bot = box.person("alice"), box.bot("the-bot")
        repo = scenes.repository(box, OWNER, NAME, files, switches=switches)
        yield World(box, repo, alice, bot, http, storage, recorder, box.bot("the-approver"))
        assert recorder.faults == []


@asynccontextmanager
async def empty_ledger(place: World, directory: Path) -> AsyncIterator[Context]:
    """The bot at work after its storage was lost."""
    async with sqlite.opened(directory / "another.db") as storage, working(replace(place, storage=storage)) as given:
        yield given


@asynccontextmanager
async def working(place: World) -> AsyncIterator[Context]:
    """The bot at work in the repository: what a handler is given. A new one has forgotten what it read before."""
    endpoint = Endpoint.of(place.box.url)
    async with auth.session(endpoint) as session:

        async def repo(token: Token) -> Repo:
            identity = Identity(auth.Token(token.value), endpoint, session, pacing=UNPACED)
            return Repo(await identity.client(OWNER, NAME), OWNER, NAME)

        yield place.given(await repo(place.bot), await repo(place.approver))


async def later(place: World, seconds: float = 0.0) -> list[str]:
    """What the bot says of its own later work once so many seconds have passed; all that is due is done."""
    place.clock.passes(seconds)
    said = []
    while items := await place.inbox.claim("the bot", limit=1):
        event = events.parse(items[0].event, inboxes.payload(items[0].headers, items[0].body))
        async with working(place) as given:
            said += [(await handler.run(event, given)).text for handler in route(event)]
        await place.inbox.finish("the bot", items[0])
    return said
