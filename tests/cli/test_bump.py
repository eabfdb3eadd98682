"""The bump commands from a shell, each a process of its own, against the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from telefonistka import bump
from telefonistka.bump import Outcome, Result
from telefonistka.core.bump import Bump, SetScalar
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.sandbox import control, scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules, Ruleset
from telefonistka.sandbox.state import Repo as SandboxRepo
from tests.cli.shell import telefonistka
from tests.contract.recorder import Recorder

SHA = "0123456789012345678901234567890123456789"
VALUES = """\
# Deployed by hand until 2019.
image:
    repository: registry.example.com/api
    tag: "1.0"   # bumped by CI


replicas: 3
"""
FILES: dict[str, Any] = {
    "lab/api/values.yaml": VALUES,
    "lab/web/values.yaml": "tag: v1\n",
    "lab/many.yaml": "".join(f"service-{n:02}: v1\n" for n in range(50)),
    "run.sh": "#!/bin/sh\nVERSION=1.0\n",
}
Run = subprocess.CompletedProcess[str]


@dataclass
class Shell:
    """A repository in the sandbox, and a shell with the variables that a pipeline has."""

    box: Box
    repo: SandboxRepo
    environment: dict[str, str]
    alice: str  # her token

    async def run(self, command: str, *arguments: str, sha: str = SHA, **variables: str) -> Run:
        environment = {**self.environment, "GITHUB_SHA": sha, **variables}
        run = partial(telefonistka, f"bump-{command}", *arguments, env=environment)
        return await to_thread.run_sync(run)

    async def yaml(self, value: str, *arguments: str, file: str = "lab/api/values.yaml", **given: Any) -> Run:
        address = ".image.tag" if "api" in file else ".tag"
        return await self.run("yaml", "-f", file, "--address", address, "-n", value, *arguments, **given)

    def pulls(self) -> list[dict[str, Any]]:
        return sorted(control.state(self.repo)["pulls"], key=lambda pull: int(pull["number"]))

    def text(self, path: str, branch: str = "trunk") -> str:
        git = self.repo.git
        sha = git.branch(branch)
        assert sha is not None
        entry = git.lookup(git.commit(sha).tree, path)
        assert entry is not None
        return git.read("blob", entry.oid).decode()

    async def commit(self, files: Mapping[str, Any], branch: str | None = None) -> str:
        return await scenes.commit(self.box, self.repo, files, by=self.box.users["alice"], branch=branch)

    async def ask(self, method: str, path: str, **fields: Any) -> None:
        """One act of a person's."""
        async with identity(self.box, self.alice) as person:
            client = await person.client("acme", "iac")
            path = f"/repos/acme/iac{path}"
            match method:
                case "POST":
                    await client.post(path, data=fields)
                case "PUT":
                    await client.put(path, data=fields)
                case _:
                    await client.patch(path, data=fields)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    recorder = Recorder()
    async with server.running(tmp_path / "github", middlewares=[recorder.watch]) as box:
        token = box.bot("the-bot").value
        alice = box.person("alice").value
        repo = scenes.repository(box, "acme", "iac", FILES, default_branch="trunk")
        environment = {
            "GITHUB_HOST": box.url,
            "GITHUB_OAUTH_TOKEN": token,
            "GITHUB_REPOSITORY": "acme/api",
            "GITHUB_ACTOR": "alice",
            "TARGET_REPO": "acme/iac",
            "TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0",
            "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "0",
        }
        yield Shell(box, repo, environment, alice)
        assert recorder.faults == []


@asynccontextmanager
async def identity(box: Box, token: str) -> AsyncIterator[Identity]:
    endpoint = Endpoint.of(box.url)
    async with auth.session(endpoint) as session:
        yield Identity(auth.Token(token), endpoint, session, pacing=Pacing(write=0, notify=0))


# One pull request, named as the original names it


async def test_a_bump_is_one_pull_request_with_one_scalar_changed(shell: Shell) -> None:
    """Branch, message, title, body, label and assignee are the original's; the rest of the file stays."""
    done = await shell.yaml("1.1")
    assert (done.returncode, done.stdout) == (0, f"opened #1: {shell.box.url}/acme/iac/pull/1\n"), done.stderr
    (pull,) = shell.pulls()
    assert pull["head"] == f"artifact_version_bump/acme/api/{SHA}"
    assert pull["base"] == "trunk"
    assert pull["title"] == "acme/api🚠 Bumping version @ lab/api/values.yaml"
    record = shell.repo.pulls[1]
    assert record.body == f"Bumping version triggered by acme/api@{SHA}"
    assert [label.name for label in record.labels] == ["promotion"]
    assert [user.login for user in record.assignees] == ["alice"]
    commit = shell.repo.git.commit(record.head_sha)
    assert commit.message == "Bumping version @ lab/api/values.yaml"
    assert list(commit.parents) == [shell.repo.git.branch("trunk")]
    assert shell.text("lab/api/values.yaml", pull["head"]) == VALUES.replace('"1.0"', '"1.1"')


async def test_no_change_is_no_pull_request(shell: Shell) -> None:
    """The exit code is 0, and it says so."""
    done = await shell.yaml("1.0")
    assert (done.returncode, done.stdout) == (0, "nothing to change: the default branch has it already\n")
    assert shell.pulls() == []


async def test_a_value_is_made_empty_only_where_that_is_said(shell: Shell) -> None:
    """By `-n ''`; that the flag is missing is a mistake, which --auto-merge would bring to the default branch."""
    done = await shell.yaml("", "--auto-merge")
    assert done.returncode == 0, done.stderr
    assert shell.text("lab/api/values.yaml") == VALUES.replace('"1.0"', '""')


async def test_a_dry_run_prints_the_diff_and_does_nothing(shell: Shell) -> None:
    done = await shell.yaml("1.1", "--dry-run")
    assert done.returncode == 0
    assert done.stdout == (
        "--- a/lab/api/values.yaml\n+++ b/lab/api/values.yaml\n@@ -1,7 +1,7 @@\n # Deployed by hand until 2019.\n"
        ' image:\n     repository: registry.example.com/api\n-    tag: "1.0"   # bumped by CI\n'
        '+    tag: "1.1"   # bumped by CI\n \n \n replicas: 3\n'
    )
    assert {call.method for call in shell.box.calls} == {"POST"}  # GraphQL's
    assert {call.path for call in shell.box.calls} == {"/graphql"}


async def test_several_edits_are_one_commit(shell: Shell) -> None:
    """Beside --address, or alone; in several files."""
    done = await shell.run(
        "yaml", "--edit", "lab/api/values.yaml", ".image.tag", "1.1", "--edit", "lab/web/values.yaml", ".tag", "v2",
        "--edit", "lab/web/values.yaml", ".new[0]", "x", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["outcome"] == "opened"
    assert told["pull"] == {"number": 1, "url": f"{shell.box.url}/acme/iac/pull/1"}
    assert told["files"] == ["lab/api/values.yaml", "lab/web/values.yaml"]
    assert told["diff"].count("--- a/") == 2
    (pull,) = shell.pulls()
    assert pull["title"] == "acme/api🚠 Bumping version @ lab/api/values.yaml, lab/web/values.yaml"
    assert shell.text("lab/web/values.yaml", pull["head"]) == "tag: v2\nnew:\n  - x\n"
    base = shell.repo.git.branch("trunk")
    assert list(shell.repo.git.commit(shell.repo.pulls[1].head_sha).parents) == [base]


async def test_a_file_is_overwritten_or_made(shell: Shell, tmp_path: Path) -> None:
    """Its new content may come from a pipe."""
    (tmp_path / "new").write_bytes(b"\xff\0new\n")
    done = await shell.run("overwrite", "-f", "lab/new/bin", "-c", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    git = shell.repo.git
    entry = git.lookup(git.commit(shell.repo.pulls[1].head_sha).tree, "lab/new/bin")
    assert entry is not None
    assert (entry.mode, git.read("blob", entry.oid)) == ("100644", b"\xff\0new\n")
    again = await shell.run("overwrite", "-f", "run.sh", "--file", "/dev/null", sha="b" * 40)
    assert again.returncode == 0, again.stderr
    assert shell.text("run.sh", shell.repo.pulls[2].head_ref) == ""


async def test_matches_of_an_expression_are_replaced(shell: Shell) -> None:
    """RE2, with Go's templates."""
    done = await shell.run("regex", "-f", "run.sh", "-r", r"(VERSION)=(\d+)\.\d+", "-n", "$1=${2}.1")
    assert done.returncode == 0, done.stderr
    assert shell.text("run.sh", shell.repo.pulls[1].head_ref) == "#!/bin/sh\nVERSION=1.1\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["yaml", "-f", "lab/web/values.yaml", "--address", ".list[].x", "-n", "1"], "nothing is at .list[].x"),
        (
            ["yaml", "-f", "lab/web/values.yaml", "--address", ".tag | length", "-n", "1"],
            "'.tag | length' is not an address",
        ),
        (["yaml", "-f", "none.yaml", "--address", ".tag", "-n", "1"], "none.yaml: there is no such file"),
        (["yaml", "-f", "run.sh/x", "--address", ".tag", "-n", "1"], "run.sh/x: there is no such file"),
        (["yaml", "-f", "lab/web/values.yaml"], "Say with --address"),
        (["yaml", "-f", "lab/web/values.yaml", "--address", ".tag"], "Say with --replacement-string"),
        (["yaml", "--address", ".tag", "-n", "1"], "Say with --target-file (or TARGET_FILE)"),
        (["yaml", "-f", "../x", "--address", ".tag", "-n", "1"], "'../x' is not a path"),
        (["yaml", "-t", "iac", "-f", "x", "--address", ".tag", "-n", "1"], "'iac': give it as owner/name"),
        (["yaml", "-t", "acme/none", "-f", "x", "--address", ".tag", "-n", "1"], "GitHub does not find"),
        (["yaml", "-s", "", "-f", "x", "--address", ".tag", "-n", "1"], "--triggering-repo-sha (or GITHUB_REPOSITORY"),
        (["yaml", "--wrong"], "No such option"),
        (["yaml", "extra"], "unexpected extra argument"),
        (["regex", "-f", "run.sh", "-r", "absent"], "run.sh: nothing matches 'absent'"),
        (["regex", "-f", "run.sh", "-r", "("], "'(' is not a regular expression of RE2: missing )"),
        (["regex", "-f", "run.sh"], "Say with --regex-string"),
        (["overwrite", "-f", "run.sh"], "Say with --file"),
        (["overwrite", "-f", "run.sh", "-c", "/none"], "No such file"),
    ],
)
async def test_what_cannot_be_done_ends_with_1(shell: Shell, arguments: list[str], reason: str) -> None:
    """The reason is on stderr, without a traceback, and nothing was done."""
    done = await shell.run(*arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert shell.pulls() == []


async def test_credentials_are_the_daemon_s(shell: Shell) -> None:
    """What is missing is named; a flag wins over GITHUB_HOST."""
    done = await shell.yaml("1.1", GITHUB_OAUTH_TOKEN="")
    assert done.returncode == 1
    assert "GITHUB_OAUTH_TOKEN" in done.stderr
    done = await shell.yaml("1.1", "-g", shell.box.url, GITHUB_HOST="ghe.invalid")
    assert done.returncode == 0, done.stderr


# Again, and beside others


async def test_the_same_again_is_the_same_pull_request(shell: Shell) -> None:
    """Also when the default branch has moved on, and after the merge."""
    await shell.yaml("1.1")
    first = shell.repo.pulls[1].head_sha
    await shell.commit({"lab/api/values.yaml": VALUES.replace("replicas: 3", "replicas: 4")})
    again = await shell.yaml("1.1", "--json")
    assert (again.returncode, json.loads(again.stdout)["outcome"]) == (0, "exists")
    assert json.loads(again.stdout)["pull"]["number"] == 1
    assert shell.repo.pulls[1].head_sha == first
    await shell.ask("PUT", "/pulls/1/merge")
    merged = await shell.yaml("1.1")
    assert merged.returncode == 0
    assert f"(#1: {shell.box.url}/acme/iac/pull/1)" in merged.stdout
    assert len(shell.pulls()) == 1


async def test_another_value_for_the_same_commit_updates_its_pull_request(shell: Shell) -> None:
    await shell.yaml("1.1")
    again = await shell.yaml("1.2")
    assert again.stdout.startswith("updated #1")
    (pull,) = shell.pulls()
    assert shell.text("lab/api/values.yaml", pull["head"]) == VALUES.replace('"1.0"', '"1.2"')


async def test_a_second_file_of_the_same_commit_has_a_branch_of_its_own(shell: Shell) -> None:
    """And is found there again."""
    await shell.yaml("1.1")
    for _ in range(2):
        await shell.yaml("v2", file="lab/web/values.yaml")
    names = [pull["head"] for pull in shell.pulls()]
    first, second = Bump(
        repository="acme/api", sha=SHA, changes=(SetScalar(file="lab/web/values.yaml", address=".tag", value="v2"),)
    ).branches
    assert names == [first, second]


async def test_a_newer_commit_can_update_the_open_bump(shell: Shell) -> None:
    """Only with --update-open, and only of the same file and triggering repository."""
    await shell.yaml("1.1")
    await shell.yaml("v2", file="lab/web/values.yaml", sha="c" * 40)
    done = await shell.yaml("1.2", "--update-open", sha="d" * 40)
    assert done.stdout.startswith("updated #1"), done.stderr
    assert shell.repo.pulls[1].body == f"Bumping version triggered by acme/api@{'d' * 40}"
    assert 'tag: "1.2"' in shell.text("lab/api/values.yaml", shell.repo.pulls[1].head_ref)
    done = await shell.yaml("1.3", sha="e" * 40)
    assert done.stdout.startswith("opened #3")
    other = await shell.yaml("1.4", "--update-open", sha="f" * 40, GITHUB_REPOSITORY="acme/other")
    assert other.stdout.startswith("opened #4")


async def test_what_people_did_with_a_bump_is_left_alone(shell: Shell) -> None:
    """Commits on its branch stay; a closed one stays closed, and the run says so."""
    await shell.yaml("1.1")
    pull = shell.repo.pulls[1]
    theirs = await shell.commit({"README.md": "by hand"}, pull.head_ref)
    again = await shell.yaml("1.2")
    assert (again.returncode, again.stdout) == (0, f"there is already #1: {shell.box.url}/acme/iac/pull/1\n")
    assert "somebody else has committed to it" in again.stderr
    assert pull.head_sha == theirs
    refused = await shell.yaml("1.2", "--auto-merge")
    assert refused.returncode == 1
    assert "somebody else has committed to #1" in refused.stderr
    await shell.yaml("v2", file="lab/web/values.yaml", sha="b" * 40)
    await shell.ask("PATCH", "/pulls/2", state="closed")
    closed = await shell.yaml("v2", file="lab/web/values.yaml", sha="b" * 40)
    assert closed.returncode == 1
    assert "#2 was closed without being merged" in closed.stderr


async def test_a_run_that_was_killed_is_gone_on_with(shell: Shell) -> None:
    """Whichever act was its last, the next run ends with one pull request: labelled, assigned and merged."""
    acts = ("/git/commits$", "/git/refs$", "/pulls$", "/issues/[0-9]+$", "/merge$")
    for number, path in enumerate(acts, start=1):
        rule = shell.box.rules.add("hold", path=path, when="after", first=1)
        flags = ("-f", "lab/web/values.yaml", "--address", ".tag", "-n", f"v2.{number}", "--auto-merge")
        environment = {**os.environ, **shell.environment, "GITHUB_SHA": str(number) * 40}
        command = [sys.executable, "-m", "telefonistka", "bump-yaml", *flags]
        async with await anyio.open_process(command, env=environment) as process:
            assert await shell.box.rules.wait_held(1, 30), path
            process.kill()
        shell.box.rules.remove(rule)
        shell.box.rules.release(drop=True)
        done = await shell.run("yaml", *flags, sha=str(number) * 40)
        assert done.returncode == 0, (path, done.stderr)
        assert shell.text("lab/web/values.yaml") == f"tag: v2.{number}\n"
    assert [record.merged for record in shell.repo.pulls.values()] == [True] * len(acts)
    for record in shell.repo.pulls.values():
        assert [label.name for label in record.labels] == ["promotion"]
        assert [user.login for user in record.assignees] == ["alice"]


# Merging


async def test_a_bump_merges_itself_where_that_is_asked_for(shell: Shell) -> None:
    """With GitHub's moods: a base that moves that moment."""
    shell.repo.switches.base_modified = 2
    done = await shell.yaml("1.1", "--auto-merge")
    assert (done.returncode, done.stdout) == (0, f"merged #1: {shell.box.url}/acme/iac/pull/1\n"), done.stderr
    assert shell.text("lab/api/values.yaml") == VALUES.replace('"1.0"', '"1.1"')
    assert shell.repo.pulls[1].merged


async def test_an_allowed_merge_method_is_taken(shell: Shell) -> None:
    shell.repo.merge_methods = {"squash"}
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.returncode == 0, done.stderr
    assert shell.text("lab/api/values.yaml") == VALUES.replace('"1.0"', '"1.1"')


async def test_a_conflicting_bump_is_rebuilt_and_merged(shell: Shell) -> None:
    """The same line changed on the default branch; an earlier run had opened the pull request."""
    await shell.yaml("1.1")
    await shell.commit(
        {"lab/api/values.yaml": VALUES.replace('"1.0"', '"1.0.5"').replace("replicas: 3", "replicas: 4")}
    )
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.stdout.startswith("merged #1"), done.stderr
    assert shell.text("lab/api/values.yaml") == VALUES.replace('"1.0"', '"1.1"').replace("replicas: 3", "replicas: 4")


async def test_mergeability_that_comes_late_is_waited_for(shell: Shell) -> None:
    shell.repo.switches.late_mergeable = 2
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.stdout.startswith("merged #1"), done.stderr


async def test_a_bump_behind_a_strict_branch_is_rebuilt(shell: Shell) -> None:
    """The branch takes only what contains it."""
    shell.repo.protection["trunk"] = Rules(strict=True, checks=("ci",))
    await shell.yaml("1.1")
    moved = await shell.commit({"README.md": "moved"})
    shell.repo.switches.allow_auto_merge = True
    head = shell.repo.pulls[1].head_sha
    await shell.ask("POST", f"/statuses/{head}", state="success", context="ci")
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.stdout.startswith("GitHub merges #1"), done.stderr
    assert list(shell.repo.git.commit(shell.repo.pulls[1].head_sha).parents) == [moved]


async def test_a_bump_that_waits_for_checks_is_left_to_github(shell: Shell) -> None:
    """Where the repository has auto-merge; else it is an error that says where the pull request is."""
    shell.repo.protection["trunk"] = Rules(checks=("ci",))
    refused = await shell.yaml("1.1", "--auto-merge")
    assert refused.returncode == 1
    assert (
        f"#1 is open, but checks, reviews or rules of the branch forbid its merge now: {shell.box.url}"
        in refused.stderr
    )
    shell.repo.switches.allow_auto_merge = True
    for _ in range(2):
        done = await shell.yaml("1.1", "--auto-merge", "--json")
        assert json.loads(done.stdout)["outcome"] == "waiting", done.stderr
    await shell.ask("POST", f"/statuses/{shell.repo.pulls[1].head_sha}", state="success", context="ci")
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.stdout.startswith("nothing to change"), (done.stdout, done.stderr)
    assert shell.text("lab/api/values.yaml") == VALUES.replace('"1.0"', '"1.1"')


@pytest.mark.parametrize("checks", [(), ("ci",)])
async def test_a_bump_is_merged_in_a_way_that_the_ruleset_allows(shell: Shell, checks: tuple[str, ...]) -> None:
    """The repository's first is tried, then the others; handing over to GitHub is no exception."""
    shell.repo.rulesets[1] = Ruleset(id=1, rules=Rules(methods=("rebase",), checks=checks))
    shell.repo.switches.allow_auto_merge = True
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.stdout.startswith("GitHub merges #1" if checks else "merged #1"), done.stderr


async def test_a_bump_that_may_not_be_merged_in_any_way_says_so(shell: Shell) -> None:
    """The pull request stands; GitHub's words say why."""
    shell.repo.rulesets[1] = Ruleset(id=1, rules=Rules(methods=("rebase",)))
    shell.repo.merge_methods = {"merge", "squash"}
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.returncode == 1
    assert "no way of merging is allowed for it: Squash merges are not allowed" in done.stderr


async def test_a_bump_goes_through_the_merge_queue(shell: Shell) -> None:
    shell.repo.protection["trunk"] = Rules(queue="merge")
    shell.repo.switches.allow_auto_merge = True
    done = await shell.yaml("1.1", "--auto-merge")
    assert done.returncode == 0, done.stderr
    assert shell.text("lab/api/values.yaml") == VALUES.replace('"1.0"', '"1.1"')


async def test_fifty_pipelines_at_once_all_land(shell: Shell) -> None:
    """Fifty keys of one file, each next to another; nobody lends a hand."""
    results: list[Result] = []

    async def pipeline(number: int) -> None:
        change = SetScalar(file="lab/many.yaml", address=f".service-{number:02}", value="v2")
        wanted = Bump(repository=f"acme/service-{number:02}", sha=SHA, actor="alice", changes=(change,))
        async with identity(shell.box, shell.environment["GITHUB_OAUTH_TOKEN"]) as us:
            repo = Repo(await us.client("acme", "iac"), "acme", "iac")
            results.append(await bump.carry_out(repo, wanted, auto_merge=True))

    with anyio.fail_after(300):
        async with anyio.create_task_group() as pipelines:
            for number in range(50):
                pipelines.start_soon(pipeline, number)
    assert [result.outcome for result in results] == [Outcome.MERGED] * 50
    assert shell.text("lab/many.yaml") == FILES["lab/many.yaml"].replace("v1", "v2")
    assert all(record.merged for record in shell.repo.pulls.values())


async def test_pipelines_of_the_same_commit_open_one_pull_request_a_file(shell: Shell) -> None:
    """Six processes at once, two files: two pull requests, both merged."""
    runs: list[Run] = []

    async def run(file: str) -> None:
        runs.append(await shell.yaml("v3", "--auto-merge", file=file))

    async with anyio.create_task_group() as pipelines:
        for file in ("lab/api/values.yaml", "lab/web/values.yaml") * 3:
            pipelines.start_soon(run, file)
    assert [(run.returncode, run.stderr) for run in runs if run.returncode] == []
    assert len(shell.pulls()) == 2
    assert shell.text("lab/web/values.yaml") == "tag: v3\n"
    assert 'tag: "v3"' in shell.text("lab/api/values.yaml")
