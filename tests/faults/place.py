"""Where one run happens: a sandbox with a repository and its people, and the daemon as a process of its own."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import aiohttp
import anyio
from aiohttp.typedefs import Middleware
from anyio.abc import Process
from prometheus_client.parser import text_string_to_metric_families

from telefonistka.sandbox import control, scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.scenes import File
from telefonistka.sandbox.state import Call, Hook, Repo, Token

PULL = 1  # the number of the pull request that is merged
SECRET = "it's a secret to everybody"
DAEMON = "telefonistka"  # the module that is the daemon
DRIFT = "<!-- telefonistka drift -->"
ROOT = Path(__file__).parents[2]

START = 120  # seconds for a daemon to be ready; it takes one
PATIENCE = 180  # seconds for a run's work to end; a clean one takes one on an idle machine
POLL = 0.02  # seconds
# Below what the kernel gives to outgoing connections, so that nobody takes the port while the daemon is down.
PORTS = range(20_000, 32_000)

CONFIG = """\
promotionPaths:
  - sourcePath: lab/
    promotionPrs:
      - targetDescription: the stagings
        targetPaths: [staging/eu/, staging/us/]
        labels: [staging]
        reviewers: [grace]
      - targetPaths: [production/]
  - sourcePath: staging/eu/
    promotionPrs: [{targetPaths: [canary/]}]
"""
FILES: Mapping[str, File] = {
    "canary/web/app.yaml": "image: 9\n",
    "lab/db/app.yaml": "image: 1\n",
    "lab/old/app.yaml": "image: 1\n",
    "lab/web/app.yaml": "image: 1\n",
    "production/db/app.yaml": "image: 0\n",
    "production/old/app.yaml": "image: 0\n",
    "production/web/app.yaml": "image: 0\n",
    "production/web/gone.yaml": "not in the lab\n",
    "staging/eu/web/app.yaml": "image: 0\n",
    "staging/eu/web/nested/gone.yaml": "not in the lab\n",
    "staging/us/old/app.yaml": "image: 0\n",
}
CHANGE: Mapping[str, File] = {
    "lab/old/app.yaml": None,
    "lab/web/app.yaml": "image: 2\n",
    "lab/web/run.sh": {"content": "#!/bin/sh\n", "mode": "100755"},
    "lab/web/values.yaml": {"symlink": "app.yaml"},
    "lab/db/logo.png": b"\x89PNG\r\n\x1a\n\x00\xff",
}


async def eventually(condition: Callable[[], bool]) -> None:
    """It has come true; raises TimeoutError where it does not."""
    with anyio.fail_after(PATIENCE):
        while True:
            if condition():
                return
            await anyio.sleep(POLL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A name, and what the repository's root configuration says; files and change are the same in all."""

    name: str
    config: str
    change: Mapping[str, File] = field(default_factory=lambda: CHANGE)
    ordered: bool = True  # the daemon's calls come in one order; work on several pull requests overlaps


CHAIN_CONFIG = """\
autoApprovePromotionPrs: true
promotionPaths:
  - sourcePath: lab/
    conditions: {autoMerge: true}
    promotionPrs: [{targetPaths: [staging/eu/]}]
  - sourcePath: staging/eu/
    conditions: {autoMerge: true}
    promotionPrs: [{targetPaths: [staging/us/]}]
  - sourcePath: staging/us/
    conditions: {autoMerge: true}
    promotionPrs: [{targetPaths: [production/]}]
"""
GROWTH = {path: file for path, file in CHANGE.items() if file is not None and not path.startswith("lab/web/values")}

PROMOTIONS = Scenario(name="two promotions", config=CONFIG, ordered=False)
DRY_RUN = Scenario(name="dry run", config=f"dryRunMode: true\n{CONFIG}")
CHAIN = Scenario(name="a chain by itself", config=CHAIN_CONFIG, change=GROWTH, ordered=False)
SCENARIOS = (PROMOTIONS, DRY_RUN)
ALL = (*SCENARIOS, CHAIN)


@dataclass(eq=False)
class Daemon:
    """The daemon on one state directory and port; it may be started again after a kill."""

    directory: Path
    github: str
    credentials: Mapping[str, str]  # variables that say who it is at GitHub
    module: str
    http: aiohttp.ClientSession
    port: int
    command: Sequence[str] = ()  # in the place of the module's
    environment: Mapping[str, str] | None = None  # in the place of what the fields above make of it
    process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhook(self) -> str:
        return f"{self.url}/webhook"

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    async def start(self) -> None:
        """It is ready for deliveries."""
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = await anyio.open_process(
                [*(self.command or (sys.executable, "-m", self.module, "server"))],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
                env=self.environment or self._environment(),
                cwd=ROOT,
            )
        with anyio.fail_after(START):
            # Its own word first: another run's daemon may have taken the port and answer in its place.
            while b'"listening"' not in self.log.read_bytes()[said:] or not await self._answers("/ready"):
                if self.process.returncode is not None:
                    raise AssertionError(f"the daemon ended:\n{self.log.read_text()}")
                await anyio.sleep(POLL)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "GITHUB_HOST": self.github,
            "GITHUB_WEBHOOK_SECRET": SECRET,
            "TELEFONISTKA_LISTEN": f"127.0.0.1:{self.port}",
            "TELEFONISTKA_STATE_DIR": str(self.directory / "state"),
            "TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0",
            "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "0",
            # They ask GitHub now and then, where a run's calls are counted.
            "TELEFONISTKA_CENSUS_INTERVAL": "0",
            "TELEFONISTKA_RECOVERY_INTERVAL": "0",
            **self.credentials,
        }

    async def kill(self) -> None:
        """It is dead, from one instruction to the next."""
        process, self.process = self.process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()
                await process.aclose()

    async def items(self) -> dict[str, int]:
        """How many work items it has, by state."""
        async with self.http.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        return {sample.labels["state"]: int(sample.value) for sample in families["telefonistka_inbox_items"].samples}

    async def _answers(self, path: str) -> bool:
        try:
            async with self.http.get(f"{self.url}{path}") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@dataclass(eq=False)
class Scene:
    """One repository with an open pull request, as the people who work in it see it."""

    box: Box
    repo: Repo
    ada: Token
    bot: Token
    hook: Hook
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **fields: Any) -> Any:
        """One call of GitHub's REST API as Ada, who administers the repository."""
        url = f"{self.box.url}/api/v3/repos/{self.repo.full_name}{path}"
        headers = {"Authorization": f"Bearer {self.ada.value}"}
        async with self.http.request(method, url, json=fields or None, headers=headers) as answer:
            body = await answer.json()
            assert answer.status < 400, (method, path, answer.status, body)
            return body

    async def merge(self) -> None:
        await self.ask("PUT", f"/pulls/{PULL}/merge")

    async def redeliver(self) -> int:
        """How many deliveries had failed according to GitHub's log, and are under way again."""
        await self.box.post.idle()
        log = f"/hooks/{self.hook.id}/deliveries"
        last = {one["guid"]: one for one in reversed(await self.ask("GET", f"{log}?per_page=100"))}
        failed = [one["id"] for one in last.values() if one["status"] != "OK"]
        for number in failed:
            await self.ask("POST", f"{log}/{number}/attempts")
        return len(failed)

    async def settled(self, daemon: Daemon) -> None:
        """Deliveries have arrived, no work is left, and the merged pull request has its final status."""
        with anyio.fail_after(PATIENCE):
            while True:
                await self.box.post.idle()
                items = await daemon.items()
                if not items["waiting"] and not items["running"] and self.verdict() not in ("", "pending"):
                    return
                await anyio.sleep(POLL)

    def verdict(self) -> str:
        """The state of our commit status, empty while there is none."""
        statuses = self.repo.statuses.get(self.repo.pulls[PULL].head_sha, [])
        return next((one.state for one in reversed(statuses) if one.context == "telefonistka"), "")

    def state(self) -> dict[str, Any]:
        """What people see. Drift on what has ended stands apart: its end may come before there is a word of it."""
        state = control.state(self.repo)
        apart = {}
        for pull in state["pulls"]:
            drift = [one for one in pull["comments"] if DRIFT in one["body"]]
            if drift and pull["state"] != "open":
                apart[pull["number"]] = drift
                pull["comments"] = [one for one in pull["comments"] if one not in drift]
        return state | {"drift": apart}

    def calls(self) -> list[Call]:
        """What the daemon asked of GitHub for its work."""
        ours = (self.bot.user.login, "telefonistka-approver")
        return [call for call in self.box.calls if call.identity in ours and not call.path.endswith("/rate_limit")]


@asynccontextmanager
async def placed(
    scenario: Scenario, directory: Path, *, module: str = DAEMON, middlewares: Sequence[Middleware] = ()
) -> AsyncIterator[tuple[Scene, Daemon]]:
    """A scene of its own, and a daemon that has just started and knows nothing; it is dead at the end."""
    await anyio.Path(directory).mkdir(parents=True)
    async with (
        server.running(directory / "github", middlewares=middlewares) as box,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        with reserved() as port:
            ada, bot = box.person("ada", access="admin"), box.bot("telefonistka-bot")
            approver = box.bot("telefonistka-approver")
            tokens = {"GITHUB_OAUTH_TOKEN": bot.value, "APPROVER_GITHUB_OAUTH_TOKEN": approver.value}
            daemon = Daemon(directory, box.url, tokens, module, http, port)
            scene = await set_scene(scenario, box, ada, bot, http, daemon.webhook)
            try:
                await daemon.start()
                yield scene, daemon
            finally:
                await daemon.kill()


async def set_scene(
    scenario: Scenario, box: Box, ada: Token, bot: Token, http: aiohttp.ClientSession, webhook: str
) -> Scene:
    """The scenario's repository with its pull request, whose events go to the webhook from now on."""
    box.person("grace")
    repo = scenes.repository(box, "acme", "iac", {"telefonistka.yaml": scenario.config, **FILES})
    hook = Hook(
        id=box.next_id(),
        repo=repo,
        app=None,
        url=webhook,
        secret=SECRET,
        events=["check_suite", "issue_comment", "pull_request", "pull_request_review", "push", "status"],
    )
    scene = Scene(box, repo, ada, bot, hook, http)
    await scenes.commit(box, repo, scenario.change, by=ada.user, branch="change")
    await scene.ask("POST", "/pulls", title="Change", body="All at once", head="change", base="main")
    repo.hooks[hook.id] = hook
    return scene


_reserved: set[int] = set()


@contextmanager
def reserved() -> Iterator[int]:
    """A port that is free and that no other run of this process uses."""
    port = next(port for port in random.sample(PORTS, len(PORTS)) if port not in _reserved and _is_free(port))
    _reserved.add(port)
    try:
        yield port
    finally:
        _reserved.discard(port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
