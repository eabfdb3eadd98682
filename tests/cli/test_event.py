"""`telefonistka event` from a shell: one recorded event against the sandbox, as a pipeline would hand it in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio import to_thread

from telefonistka.sandbox.state import Token
from tests.cli.shell import Run, telefonistka
from tests.handlers.world import World, world

CONFIG = """\
promotionPaths:
  - sourcePath: lab/
    conditions: {autoMerge: true}
    promotionPrs: [{targetPaths: [staging/]}]
webhookEndpointRegexs:
  - expression: ^(lab)/.*
    replacements: ["http://127.0.0.1:%d/api/webhook"]
"""


@dataclass
class Cluster:
    """What a relayed webhook reaches: keeps what it was sent."""

    port: int = 0
    status: int = 200
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    app = web.Application()
    app.router.add_post("/api/webhook", made.hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


@dataclass
class Pipeline:
    """A repository in the sandbox, and a job that has its variables."""

    world: World
    environment: dict[str, str]
    file: Path

    async def run(self, event: str, payload: Any, *arguments: str, **variables: str) -> Run:
        self.file.write_text(payload if isinstance(payload, str) else json.dumps(payload))
        more = {"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(self.file), **variables}
        return await to_thread.run_sync(
            partial(telefonistka, "event", *arguments, env={**self.environment, **more}, cwd=self.file.parent)
        )

    async def merged(self, files: dict[str, Any]) -> dict[str, Any]:
        """What GitHub says of a pull request that a person opened and merged."""
        event = await self.world.merged(files)
        pull = await self.world.ask("GET", f"/pulls/{event.number}")
        return {
            "action": "closed",
            "number": event.number,
            "pull_request": pull,
            "repository": pull["base"]["repo"],
            "sender": {"login": "alice"},
        }


@pytest.fixture
async def pipeline(tmp_path: Path, cluster: Cluster) -> AsyncIterator[Pipeline]:
    files = {"telefonistka.yaml": CONFIG % cluster.port, "lab/nginx/v": "1", "staging/nginx/v": "0"}
    async with world(tmp_path, files) as made:
        environment = {
            "GITHUB_HOST": made.box.url,
            "GITHUB_OAUTH_TOKEN": made.bot.value,
            "TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0",
            "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "0",
            "TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        yield Pipeline(made, environment, tmp_path / "event.json")


async def test_a_merge_is_promoted_and_the_promotion_merged(pipeline: Pipeline) -> None:
    """By type and file from the environment; what this run opened is merged by itself, and nothing is left behind."""
    before = set(pipeline.file.parent.iterdir())
    done = await pipeline.run("pull_request", await pipeline.merged({"lab/nginx/v": "2"}))
    assert (done.returncode, done.stdout) == (0, "promote: done: opened #2 (merged)\n"), done.stderr
    assert pipeline.world.text("staging/nginx/v") == "2"
    assert set(pipeline.file.parent.iterdir()) - before <= {pipeline.file}


async def test_what_an_earlier_run_opened_is_not_merged(pipeline: Pipeline) -> None:
    """A second run for the same merge finds the pull request, and leaves it to people."""
    payload = await pipeline.merged({"lab/nginx/v": "2"})
    refusal = {"message": "Base branch was modified. Review and try the merge again."}
    pipeline.world.box.rules.add("answer", method="PUT", path="/pulls/2/merge", status=405, body=refusal)
    first = await pipeline.run("pull_request", payload, "--wait", "0")
    assert first.returncode == 75, (first.stdout, first.stderr)
    pipeline.world.box.rules.clear()
    again = await pipeline.run("pull_request", payload)
    assert again.returncode == 0, again.stderr
    assert again.stdout == "promote: done: opened #2 (left to people: an earlier run has opened it)\n"
    assert pipeline.world.text("staging/nginx/v") == "0"


async def test_a_push_is_relayed(pipeline: Pipeline, cluster: Cluster) -> None:
    """As GitHub's bytes, without a signature: nobody here knows the webhook's secret."""
    repo = pipeline.world.repo
    before = repo.git.branch("main")
    after = await pipeline.world.commit({"lab/nginx/v": "3"})
    payload = {
        "ref": "refs/heads/main",
        "before": before,
        "after": after,
        "repository": {"id": repo.id, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"},
        "commits": [{"added": [], "modified": ["lab/nginx/v"], "removed": []}],
    }
    done = await pipeline.run("push", payload)
    assert done.returncode == 0, (done.stdout, done.stderr)
    ((headers, body),) = cluster.heard
    assert json.loads(body) == payload
    assert headers["X-GitHub-Event"] == "push"
    assert not [name for name in headers if name.lower().startswith("x-hub")]
    cluster.status = 400
    failed = await pipeline.run("push", payload, "--json")
    assert failed.returncode == 1, failed.stdout
    assert json.loads(failed.stdout)["relay"]["dead"][0]["url"].endswith("/api/webhook")


async def test_a_rejection_exits_one(pipeline: Pipeline) -> None:
    """With the reason that the pull request's status has, too."""
    payload = await pipeline.merged({"telefonistka.yaml": "promotionPaths: 7\n", "lab/nginx/v": "2"})
    done = await pipeline.run("pull_request", payload)
    assert done.returncode == 1
    assert "promote: rejected: nothing is promoted, the configuration is broken: telefonistka.yaml:1:17" in done.stdout


async def test_trouble_at_github_exits_seventy_five(pipeline: Pipeline) -> None:
    """Once the patience that was given is over; a run without any tries once."""
    payload = await pipeline.merged({"lab/nginx/v": "2"})
    environment = {"GITHUB_HOST": "http://127.0.0.1:1"}
    done = await pipeline.run("pull_request", payload, "--wait", "0", "--json", **environment)
    assert done.returncode == 75, (done.stdout, done.stderr)
    told = json.loads(done.stdout)
    assert told["steps"]["promote"]["verdict"] == "try again"
    assert told["state"] == "waiting"


@pytest.mark.parametrize(
    ("event", "payload", "code", "says"),
    [
        ("pull_request_target", {"action": "closed"}, 0, "nothing to do on this pull_request_target event"),
        ("pull_request", {"action": "closed"}, 1, "not understood: a pull_request payload without 'pull_request'"),
        ("pull_request", "{", 1, "the payload is of no use: the body is not JSON"),
    ],
)
async def test_what_is_no_merge_is_told(pipeline: Pipeline, event: str, payload: Any, code: int, says: str) -> None:
    """What asks for nothing is fine; what cannot be read is not. No traceback in either case."""
    done = await pipeline.run(event, payload)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """Type, file, settings: each in a sentence."""
    without = telefonistka("event")
    assert (without.returncode, "Say with --type" in without.stderr) == (1, True)
    nowhere = telefonistka("event", "-t", "push", "-f", "/nowhere/event.json")
    assert (nowhere.returncode, nowhere.stderr) == (
        1,
        "telefonistka: /nowhere/event.json cannot be read: No such file or directory\n",
    )
    payload = tmp_path / "event.json"
    payload.write_text("{}")
    unset = telefonistka("event", "-t", "push", "-f", str(payload))
    assert unset.returncode == 1
    assert "the event cannot be handled:\n  GITHUB_APP_ID and GITHUB_OAUTH_TOKEN are not set" in unset.stderr


async def commented(pipeline: Pipeline, number: int, body: str, *, by: Token | None = None, **variables: str) -> Run:
    """Somebody writes a comment, and a run begins with nothing but that."""
    ask = pipeline.world.ask
    comment = await ask("POST", f"/issues/{number}/comments", by=by, body=body)
    issue = await ask("GET", f"/issues/{number}")
    repository = (await ask("GET", f"/pulls/{number}"))["base"]["repo"]
    payload = {"action": "created", "issue": issue, "comment": comment, "repository": repository}
    return await pipeline.run("issue_comment", payload | {"sender": comment["user"]}, **variables)


async def test_what_a_command_asks_for_is_done_in_the_run(pipeline: Pipeline) -> None:
    """There is no later one: the exit code and what is printed are those of what was asked for."""
    event = await pipeline.world.merged({"lab/nginx/v": "2"})
    done = await commented(pipeline, event.number, "/telefonistka promote")
    assert (done.returncode, done.stdout) == (0, "promote: done: opened #2 (merged)\n"), done.stderr
    assert pipeline.world.text("staging/nginx/v") == "2"
    number = await pipeline.world.open("another", {"telefonistka.yaml": "promotionPaths: 7\n"})
    done = await commented(pipeline, number, "/retrigger")
    assert done.returncode == 1
    assert "check: rejected: the configuration is broken" in done.stdout


async def test_the_operators_link_of_commit_statuses_counts(pipeline: Pipeline, tmp_path: Path) -> None:
    """As in the daemon."""
    template = tmp_path / "link.gotmpl"
    template.write_text("https://logs.example.com/?of=telefonistka")
    payload = await pipeline.merged({"lab/nginx/v": "2"})
    done = await pipeline.run("pull_request", payload, CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH=str(template))
    assert done.returncode == 0, done.stderr
    statuses = pipeline.world.repo.statuses[payload["pull_request"]["head"]["sha"]]
    assert {one.target_url for one in statuses} == {"https://logs.example.com/?of=telefonistka"}


async def test_our_own_comments_are_heard_where_the_operator_wants_it(pipeline: Pipeline) -> None:
    """As in the daemon; else nothing comes of them."""
    number = await pipeline.world.open("change", {"lab/nginx/v": "2"})
    by = pipeline.world.bot
    done = await commented(pipeline, number, "/retrigger", by=by)
    assert "nothing that we are asked for" in done.stdout, done.stderr
    done = await commented(pipeline, number, "/retrigger", by=by, HANDLE_SELF_COMMENT="true")
    assert "check: done" in done.stdout, done.stderr


async def test_a_commit_status_is_toggled_only_where_the_command_names_the_commit(pipeline: Pipeline) -> None:
    """A run that knows of one comment alone cannot tell what its author saw; it says what to write."""
    await pipeline.world.commit({"telefonistka.yaml": "toggleCommitStatus: {freeze: ci/freeze}\n"})
    number = await pipeline.world.open("change", {"lab/nginx/v": "2"})
    head = pipeline.world.repo.pulls[number].head_sha
    await pipeline.world.ask("POST", f"/statuses/{head}", state="failure", context="ci/freeze")
    done = await commented(pipeline, number, "/freeze")
    assert "refused: Telefonistka cannot tell for which commit it was meant" in done.stdout, done.stderr
    comments = await pipeline.world.ask("GET", f"/issues/{number}/comments")
    assert f"write `/freeze {head[:12]}`" in comments[-1]["body"]
    done = await commented(pipeline, number, f"/freeze {head[:12]}")
    assert "ci/freeze: success" in done.stdout, done.stderr


async def test_the_token_of_a_workflow_knows_who_it_is(pipeline: Pipeline) -> None:
    """GITHUB_TOKEN is an installation's, which may not ask for its user: comments are found again all the same."""
    box = pipeline.world.box
    app = box.new_app("github-actions", owner="acme")
    token = box.installation_token(app.installation)
    payload = await pipeline.merged({"telefonistka.yaml": "promotionPaths: 7\n"})
    for _ in range(2):
        done = await pipeline.run("pull_request", payload, GITHUB_OAUTH_TOKEN=token.value)
        assert done.returncode == 1
        assert "configuration is broken" in done.stdout, done.stderr
    comments = await pipeline.world.ask("GET", f"/issues/{payload['number']}/comments")
    assert [comment["user"]["login"] for comment in comments] == ["github-actions[bot]"]
