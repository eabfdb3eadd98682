"""The daemon as a process, from a person's merge in the lab to production: as a token's owner and as a GitHub App."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telefonistka.sandbox import control, scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Hook, Repo, Token
from tests.contract.recorder import Recorder
from tests.faults.place import DAEMON, SECRET, Daemon, eventually, reserved

CONFIG = """
promotionPaths:
  - sourcePath: lab/
    promotionPrs:
      - targetDescription: Staging
        targetPaths: [staging/eu/, staging/us/]
  - sourcePath: staging/[^/]*/
    promotionPrs:
      - targetPaths: [prod/eu/]
      - targetPaths: [prod/us/]
"""
FILES = {
    "telefonistka.yaml": CONFIG,
    "lab/nginx/values.yaml": "1",
    "lab/pay/values.yaml": "1",
    "lab/pay/telefonistka.yaml": "promotionTargetBlockList: [^prod/]",
    "prod/eu/nginx/old": "1",
}
EVENTS = ["pull_request", "push", "issue_comment"]


@dataclass
class Place:
    box: Box
    repo: Repo
    daemon: Daemon
    http: aiohttp.ClientSession
    alice: Token
    bot: str  # whom GitHub names as the author of what the daemon does

    async def ask(self, method: str, path: str, **fields: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.alice.value}"}
        url = f"{self.box.url}/repos/{self.repo.full_name}{path}"
        async with self.http.request(method, url, json=fields or None, headers=headers) as answer:
            assert answer.status < 400, await answer.text()
            return await answer.json()

    async def merge(self, number: int) -> Any:
        """Alice merged it, and the daemon has said what came of it: its commit status."""
        await self.ask("PUT", f"/pulls/{number}/merge")
        await eventually(lambda: self.status(number).get("state", "pending") != "pending")
        return self.status(number)

    def status(self, number: int) -> Any:
        return control.statuses_state(self.repo).get(f"#{number}", {}).get("telefonistka", {})

    def state(self) -> Any:
        return control.state(self.repo)

    def pull(self, number: int) -> dict[str, Any]:
        return next(pull for pull in self.state()["pulls"] if pull["number"] == number)

    def tree(self, path: str) -> str | None:
        root = self.repo.git.commit(self.repo.git.branch("main") or "").tree
        entry = self.repo.git.lookup(root, path)
        return None if entry is None else entry.oid


@asynccontextmanager
async def placed(directory: Path, credentials: str) -> AsyncIterator[Place]:
    """A repository in the sandbox and the daemon; every exchange is held against GitHub's descriptions."""
    recorder = Recorder()
    async with (
        server.running(directory / "github", middlewares=[recorder.watch]) as box,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        alice = box.person("alice", access="admin")
        repo = scenes.repository(box, "acme", "iac", FILES)
        with reserved() as port:
            daemon = Daemon(directory, box.url, {}, DAEMON, http, port)
            if credentials == "App":
                made = box.new_app("tel", owner="acme", webhook=daemon.webhook, secret=SECRET, events=EVENTS)
                key = directory / "key.pem"
                key.write_text(made.private_key)
                daemon.credentials = {"GITHUB_APP_ID": str(made.app.id), "GITHUB_APP_PRIVATE_KEY_PATH": str(key)}
            else:
                daemon.credentials = {"GITHUB_OAUTH_TOKEN": box.bot("tel").value}
                hook = Hook(id=box.next_id(), repo=repo, app=None, url=daemon.webhook, secret=SECRET, events=EVENTS)
                repo.hooks[hook.id] = hook
            try:
                await daemon.start()
                yield Place(box, repo, daemon, http, alice, "tel[bot]" if credentials == "App" else "tel")
            finally:
                await daemon.kill()
        await box.post.idle()
        recorder.judge_webhooks(box)
        assert recorder.faults == []


@pytest.mark.parametrize("credentials", ["token", "App"])
async def test_a_change_reaches_production_stage_by_stage(tmp_path: Path, credentials: str) -> None:
    """Three merges by a person; each stage is opened, labelled, assigned and reported by the daemon."""
    async with placed(tmp_path, credentials) as place:
        change = {"lab/nginx/values.yaml": "2", "lab/pay/values.yaml": "2"}
        await scenes.commit(place.box, place.repo, change, by=place.alice.user, branch="change")
        await place.ask("POST", "/pulls", title="A change", head="change", base="main")

        assert (await place.merge(1))["description"] == "opened #2"
        staging = place.pull(2)
        assert (staging["author"], staging["labels"], staging["assignees"]) == (place.bot, ["promotion"], ["alice"])
        assert staging["title"] == "🚀 Promotion: nginx,pay ➡️  Staging"

        assert (await place.merge(2))["description"] == "opened #3, #4"
        assert [place.pull(number)["title"] for number in (3, 4)] == [
            "🚀 Promotion: nginx ➡️  prod/eu/",
            "🚀 Promotion: nginx ➡️  prod/us/",
        ]

        for number in (3, 4):
            status = await place.merge(number)
            assert status["state"] == "success"
            assert "nothing to promote" in status["description"]
        everywhere = {place.tree(f"{path}/nginx") for path in ("lab", "staging/eu", "staging/us", "prod/eu", "prod/us")}
        assert len(everywhere) == 1
        assert place.tree("staging/us/pay") == place.tree("lab/pay")
        assert place.tree("prod/eu/pay") is None


async def test_what_is_wrong_is_a_red_status_with_a_sentence(tmp_path: Path) -> None:
    """Success is said only where everything stands."""
    async with placed(tmp_path, "token") as place:
        change = {"lab/pay/telefonistka.yaml": "promotionTargetBlockList: prod/", "lab/nginx/values.yaml": "2"}
        await scenes.commit(place.box, place.repo, change, by=place.alice.user, branch="change")
        await place.ask("POST", "/pulls", title="A change", head="change", base="main")
        status = await place.merge(1)
        assert status["state"] == "error"
        assert status["description"] == "opened #2; 1 left out, first lab/pay: see the plan in the comment"


async def test_a_merge_while_the_daemon_was_down_is_promoted_when_it_is_sent_again(tmp_path: Path) -> None:
    """GitHub's log shows the failed delivery; sending it again is all that an operator has to do."""
    async with placed(tmp_path, "token") as place:
        await scenes.commit(place.box, place.repo, {"lab/nginx/values.yaml": "2"}, by=place.alice.user, branch="change")
        await place.ask("POST", "/pulls", title="A change", head="change", base="main")
        await place.daemon.kill()
        await place.ask("PUT", "/pulls/1/merge")
        await place.box.post.idle()
        await place.daemon.start()
        (hook,) = place.repo.hooks
        log = await place.ask("GET", f"/hooks/{hook}/deliveries")
        failed = [one["id"] for one in log if one["event"] == "pull_request" and one["status"] != "OK"]
        for number in failed:
            await place.ask("POST", f"/hooks/{hook}/deliveries/{number}/attempts")
        await eventually(lambda: place.status(1).get("state") == "success")
        assert place.pull(2)["title"].startswith("🚀 Promotion: nginx")
