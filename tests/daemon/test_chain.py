"""The daemon as a process, from a person's merge in the lab to production: as a token's owner and as a GitHub App.

Merged by people at each stage, or by itself all the way, also on GitHub Enterprise.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest

from telefonistka.sandbox import control, scenes, server
from telefonistka.sandbox.box import Box, Credentials
from telefonistka.sandbox.post import ENTERPRISE_DEADLINE
from telefonistka.sandbox.rules import Rules
from telefonistka.sandbox.scenes import Files
from telefonistka.sandbox.state import Hook, Repo, Token
from tests.contract.recorder import Recorder
from tests.daemon import manager
from tests.daemon.values import until
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
EVENTS = ["pull_request", "pull_request_review", "status", "check_suite", "push", "issue_comment"]
BY_ITSELF = {
    "telefonistka.yaml": """
autoApprovePromotionPrs: true
promotionPaths:
  - sourcePath: lab/
    conditions: {autoMerge: true}
    promotionPrs: [{targetPaths: [staging/eu/, staging/us/]}]
  - sourcePath: staging/eu/
    conditions: {autoMerge: true}
    promotionPrs: [{targetPaths: [prod/eu/]}, {targetPaths: [prod/us/]}]
""",
    "lab/nginx/values.yaml": "1",
}


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
        url = f"{self.box.url}/api/v3/repos/{self.repo.full_name}{path}"
        async with self.http.request(method, url, json=fields or None, headers=headers) as answer:
            assert answer.status < 400, await answer.text()
            return await answer.json()

    async def merge(self, number: int) -> Any:
        """Alice merged it, and the daemon has said what came of it: its commit status."""
        await until(self.idle)
        before = self.status(number)
        await self.ask("PUT", f"/pulls/{number}/merge")
        await eventually(lambda: self.status(number) not in ({}, before) and self.state_of(number) != "pending")
        return self.status(number)

    async def idle(self) -> bool:
        """Everything was delivered, and nothing is left to do."""
        await self.box.post.idle()
        items = await self.daemon.items()
        return not items["waiting"] and not items["running"]

    def state_of(self, number: int) -> str:
        return str(self.status(number).get("state", ""))

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
async def placed(
    directory: Path,
    credentials: str,
    files: Files = FILES,
    *,
    enterprise: bool = False,
    more: Mapping[str, str] = MappingProxyType({}),
    module: str = DAEMON,
    **switches: Any,
) -> AsyncIterator[Place]:
    """A repository in the sandbox and the daemon; every exchange is held against GitHub's descriptions."""
    recorder = Recorder()
    async with (
        server.running(directory / "github", middlewares=[recorder.watch], enterprise=enterprise) as box,
        aiohttp.ClientSession(connector=_trusting(box), cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        alice = box.person("alice", access="admin")
        repo = scenes.repository(box, "acme", "iac", files, switches=switches)
        with reserved() as port:
            daemon = Daemon(directory, box.url, {}, module, http, port)
            if credentials in ("App", "unit"):
                made = box.new_app("tel", owner="acme", webhook=daemon.webhook, secret=SECRET, events=EVENTS)
                second = box.new_app("approver", owner="acme")
                daemon.credentials = _app(directory, "", made) | _app(directory, "APPROVER_", second)
            else:
                tokens = {"GITHUB_OAUTH_TOKEN": "tel", "APPROVER_GITHUB_OAUTH_TOKEN": "approver"}
                daemon.credentials = {name: box.bot(login).value for name, login in tokens.items()}
                hook = Hook(id=box.next_id(), repo=repo, app=None, url=daemon.webhook, secret=SECRET, events=EVENTS)
                repo.hooks[hook.id] = hook
            daemon.credentials |= more
            if credentials == "unit":
                _installed(directory, daemon, more)
            if box.authority is not None:
                daemon.credentials |= {"TELEFONISTKA_GITHUB_CA_FILE": str(box.authority)}
            try:
                await daemon.start()
                yield Place(box, repo, daemon, http, alice, "tel" if credentials == "token" else "tel[bot]")
            finally:
                await daemon.kill()
        await box.post.idle()
        recorder.judge_webhooks(box)
        assert recorder.faults == []


def _trusting(box: Box) -> aiohttp.TCPConnector:
    """What people see of an Enterprise server: its own authority is known to their machines."""
    return aiohttp.TCPConnector(ssl=box.authority is None or ssl.create_default_context(cafile=box.authority))


def _app(directory: Path, prefix: str, made: Credentials) -> dict[str, str]:
    key = directory / f"{made.app.slug}.pem"
    key.write_text(made.private_key)
    return {f"{prefix}GITHUB_APP_ID": str(made.app.id), f"{prefix}GITHUB_APP_PRIVATE_KEY_PATH": str(key)}


def _installed(directory: Path, daemon: Daemon, more: Mapping[str, str]) -> None:
    """The daemon is started by the unit's command line: a server file in the place of variables, secrets as files."""
    secrets, settings = directory / "credentials", directory / "server.yaml"
    secrets.mkdir()
    (secrets / "telefonistka_github-webhook-secret").write_text(SECRET)
    for prefix, name in (("", ""), ("APPROVER_", "approver-")):
        key = Path(daemon.credentials[f"{prefix}GITHUB_APP_PRIVATE_KEY_PATH"])
        key.rename(secrets / f"telefonistka_{name}github-app-private-key")
    settings.write_text(
        f"listen: 127.0.0.1:{daemon.port}\n"
        f"github: {{host: '{daemon.github}', appId: {daemon.credentials['GITHUB_APP_ID']}, "
        "writeInterval: 0, notifyInterval: 0}\n"
        f"approver: {{appId: {daemon.credentials['APPROVER_GITHUB_APP_ID']}}}\n"
    )
    daemon.command = manager.command(program=str(Path(sys.executable).parent / "telefonistka"), settings=str(settings))
    daemon.environment = {
        "PATH": os.environ["PATH"],
        "CREDENTIALS_DIRECTORY": str(secrets),
        "STATE_DIRECTORY": str(directory / "state"),
        **more,
    }


@pytest.mark.parametrize("credentials", ["token", "App", "unit"])
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


@pytest.mark.parametrize("credentials", ["token", "App"])
@pytest.mark.parametrize("enterprise", [False, True], ids=["", "Enterprise"])
async def test_a_change_reaches_production_by_itself(tmp_path: Path, credentials: str, enterprise: bool) -> None:
    """One merge by a person; the branch asks for a review, which the second identity gives.

    An Enterprise server has its API below /api, a certificate of its own authority, and waits 30 s for a webhook.
    """
    async with placed(tmp_path, credentials, BY_ITSELF, enterprise=enterprise) as place:
        assert place.box.url.startswith("https:" if enterprise else "http:")
        assert (place.box.post.deadline == ENTERPRISE_DEADLINE) is enterprise
        place.repo.protection["main"] = Rules(approvals=1, enforce_admins=False)
        change = {"lab/nginx/values.yaml": "2"}
        await scenes.commit(place.box, place.repo, change, by=place.alice.user, branch="change")
        await place.ask("POST", "/pulls", title="A change", head="change", base="main")
        assert (await place.merge(1))["description"] == "opened #2 (merged)"
        everywhere = ("staging/eu/nginx", "staging/us/nginx", "prod/eu/nginx", "prod/us/nginx")
        await eventually(lambda: {place.tree(path) for path in everywhere} == {place.tree("lab/nginx")})
        await eventually(lambda: place.status(2).get("description") == "opened #3 (merged), #4 (merged)")
        for number in (2, 3, 4):
            (review,) = place.pull(number)["reviews"]
            assert (review["author"].removesuffix("[bot]"), review["state"]) == ("approver", "APPROVED")
            await eventually(partial(lambda one: place.state_of(one) == "success", number))
        assert len(place.repo.pulls) == 4


async def test_a_push_to_our_branch_while_the_daemon_was_down_is_noticed(tmp_path: Path) -> None:
    """Nobody sends its event again, and GitHub must not merge by itself what we did not make."""
    async with placed(tmp_path, "token", BY_ITSELF, allow_auto_merge=True) as place:
        await scenes.commit(place.box, place.repo, {"lab/nginx/values.yaml": "2"}, by=place.alice.user, branch="change")
        await place.ask("POST", "/pulls", title="A change", head="change", base="main")
        place.repo.protection["main"] = Rules(checks=("ci",), enforce_admins=False)
        assert "left to GitHub" in (await place.merge(1))["description"]
        pull = place.repo.pulls[2]
        assert pull.auto_merge is not None
        await place.daemon.kill()
        evil = {"prod/eu/nginx/values.yaml": "evil"}
        await scenes.commit(place.box, place.repo, evil, by=place.alice.user, branch=pull.head_ref)
        await place.box.post.idle()
        await place.daemon.start()
        await eventually(lambda: pull.auto_merge is None)
        await eventually(lambda: "somebody else pushed" in str(place.pull(2)["comments"]))
        await eventually(lambda: "left to people" in place.status(1)["description"])
        assert place.tree("prod/eu/nginx") is None


async def test_an_open_promotion_that_a_push_brings_into_conflict_is_built_anew(tmp_path: Path) -> None:
    """GitHub tells of the push alone; people merge what became of it."""
    files = {
        **FILES,
        "telefonistka.yaml": "promotionPaths: [{sourcePath: lab/, promotionPrs: [{targetPaths: [prod/]}]}]",
    }
    async with placed(tmp_path, "app", files | {"prod/nginx/values.yaml": "0"}) as place:
        change = {"lab/nginx/values.yaml": "2"}
        await scenes.commit(place.box, place.repo, change, by=place.alice.user, branch="change")
        await place.ask("POST", "/pulls", title="A change", head="change", base="main")
        assert (await place.merge(1))["description"] == "opened #2"
        await scenes.commit(place.box, place.repo, {"prod/nginx/values.yaml": "by hand"}, by=place.alice.user)
        await eventually(lambda: "has built it anew" in str(place.pull(2)["comments"]))
        await until(place.idle)
        await place.ask("PUT", "/pulls/2/merge")
        assert place.tree("prod/nginx") == place.tree("lab/nginx")
