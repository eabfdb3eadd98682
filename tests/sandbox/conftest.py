"""A sandbox with acme/iac in it, and a plain HTTP client."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from telefonistka.sandbox import scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.odb import ENVIRONMENT
from telefonistka.sandbox.state import Event, Repo

IAC = "/repos/acme/iac"
FILES: dict[str, Any] = {
    "lab/web/app.yaml": "image: 1\n",
    "lab/web/run.sh": {"content": "#!/bin/sh\n", "mode": "100755"},
    "lab/web/link": {"symlink": "app.yaml"},
    "lab/web/deep/a.txt": "a\n",
    "prod/web/app.yaml": "image: 0\n",
    "prod/web/old.txt": "old\n",
    "vendor": {"submodule": "1" * 40},
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass
class GitHub:
    """The API as one identity."""

    box: Box
    session: aiohttp.ClientSession
    token: str

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        sent = {"Authorization": f"token {self.token}"} | headers
        url = path if path.startswith("http") else self.box.url + path
        async with self.session.request(method, url, json=body, headers=sent, allow_redirects=False) as answer:
            raw = await answer.read()
            is_json = answer.content_type.startswith("application/json") and raw
            return Reply(answer.status, answer.headers, await answer.json() if is_json else raw)

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        reply = await self(method, path, body)
        assert reply.status < 300, reply
        return reply.body

    async def main(self) -> str:
        """The commit of the default branch."""
        return str((await self.ok("GET", f"{IAC}/git/ref/heads/main"))["object"]["sha"])

    async def branch(self, name: str, files: Mapping[str, Any], *, base: str | None = None) -> str:
        """A branch with one commit more than main (or than `base`), made as our daemon makes it."""
        parent = base or await self.main()
        tree = (await self.ok("GET", f"{IAC}/git/commits/{parent}"))["tree"]["sha"]
        entries = [
            {"path": path, "mode": "100644", "type": "blob"} | ({"sha": None} if text is None else {"content": text})
            for path, text in files.items()
        ]
        made = await self.ok("POST", f"{IAC}/git/trees", {"base_tree": tree, "tree": entries})
        commit = await self.ok(
            "POST", f"{IAC}/git/commits", {"message": "change", "tree": made["sha"], "parents": [parent]}
        )
        await self.ok("POST", f"{IAC}/git/refs", {"ref": f"refs/heads/{name}", "sha": commit["sha"]})
        return str(commit["sha"])

    async def pull(self, head: str, **more: Any) -> Any:
        return await self.ok("POST", f"{IAC}/pulls", {"title": head, "head": head, "base": "main"} | more)

    async def listing(self, tree: str) -> dict[str, tuple[str, str]]:
        """Mode and id of everything but directories, by path."""
        shown = await self.ok("GET", f"{IAC}/git/trees/{tree}?recursive=1")
        return {one["path"]: (one["mode"], one["sha"]) for one in shown["tree"] if one["type"] != "tree"}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with server.running(tmp_path / "box") as box:
        scenes.repository(box, "acme", "iac", FILES)
        yield box


@pytest.fixture
def repo(box: Box) -> Repo:
    found = box.repo("acme", "iac")
    assert found is not None
    return found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def github(box: Box, session: aiohttp.ClientSession) -> GitHub:
    return GitHub(box, session, box.person("ada", access="admin").value)


@pytest.fixture
def heard(box: Box) -> list[Event]:
    """What happened, as webhooks are told it."""
    events: list[Event] = []

    async def hear(event: Event) -> None:
        events.append(event)

    box.listeners.append(hear)
    return events


async def git(*arguments: str | Path, cwd: Path | None = None, check: bool = True) -> str:
    """The git CLI's output; nobody's configuration but the sandbox's."""
    command = ["git", *map(str, arguments)]
    done = await anyio.run_process(command, cwd=cwd, env=ENVIRONMENT, check=False, stderr=subprocess.STDOUT)
    assert not check or done.returncode == 0, done.stdout.decode()
    return done.stdout.decode().strip()
