"""The daemon's own door to GitHub: every request that `Repo` can make is one that GitHub describes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from telefonistka.core.trees import Edit, Entry, Oid, Sha
from telefonistka.github import Refused, auth
from telefonistka.github.auth import App, Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from telefonistka.github.repo import Repo
from telefonistka.sandbox import scenes, server
from telefonistka.sandbox.box import Box, Credentials
from telefonistka.sandbox.rules import Rules
from telefonistka.sandbox.state import Repo as Record
from tests.contract.conftest import FILES
from tests.contract.recorder import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def box(tmp_path: Path, recorder: Recorder) -> AsyncIterator[Box]:
    """A sandbox whose every exchange is held against GitHub's descriptions."""
    async with server.running(tmp_path, middlewares=[recorder.watch]) as box:
        box.person("ada", access="admin")
        yield box
        assert not recorder.faults, "\n".join(recorder.faults)


@pytest.fixture
def made(box: Box) -> Credentials:
    scenes.repository(box, "acme", "iac", FILES)
    return box.new_app("telefonistka", owner="acme")


@pytest.fixture
async def repo(box: Box, made: Credentials) -> AsyncIterator[Repo]:
    """acme/iac through an App's identity, as the daemon has it."""
    endpoint = Endpoint.of(box.url)
    async with auth.session(endpoint) as session:
        identity = Identity(App(made.app.id, made.private_key), endpoint, session, pacing=Pacing(write=0, notify=0))
        yield Repo(await identity.client("acme", "iac"), "acme", "iac")


def here(box: Box) -> Record:
    found = box.repo("acme", "iac")
    assert found is not None
    return found


async def test_everything_that_we_ask_is_described(box: Box, repo: Repo) -> None:
    """Reading: pull requests, files, trees, blobs, branches."""
    pull = await promoted(box, repo)
    facts = await repo.merged_pull(pull)
    head, tree = facts.head.sha, facts.head.tree
    assert await repo.commit_tree(head) == tree
    assert (await repo.commit(head)).sha == head
    branch = await repo.branch("promotion")
    assert branch is not None
    assert await repo.contains(branch, head)
    assert await repo.branch("none") is None
    assert await repo.changed_files(pull, base_sha=head, head_sha=branch) == ("staging/web/app.yaml",)
    snapshot = await repo.snapshot(tree)
    entry = snapshot.directories["lab/web"]["app.yaml"]
    assert await repo.blobs([entry.oid]) == {entry.oid: b"image: 1\n"}
    assert await repo.read(head, ["README.md", "none"]) == {"README.md": b"Infrastructure\n", "none": None}
    assert [one.number for one in await repo.pulls("promotion")] == [pull]


async def test_everything_that_we_do_is_described(box: Box, repo: Repo) -> None:
    """Acting: labels, assignees, reviewers, comments, statuses, branches."""
    pull = await promoted(box, repo)
    head = here(box).pulls[pull].head_sha
    assert await repo.label_and_assign(pull, ["promotion"], ["ada"])
    assert not await repo.label_and_assign(pull, ["promotion"], ["nobody-here"])
    await repo.request_reviewers(pull, ["ada"])
    for body in ("<!-- mark --> one", "<!-- mark --> two"):
        await repo.ensure_comment(pull, "<!-- mark -->", body)
    await repo.set_status(Sha(head), "success", "d" * 200, "https://example.com/")
    main = await repo.branch("main")
    assert main is not None
    assert not await repo.create_branch("main", main)
    with pytest.raises(Refused):
        await repo.move_branch("promotion", main)
    await repo.move_branch("promotion", main, force=True)
    await repo.delete_branch("promotion")
    await repo.delete_branch("promotion")


async def test_how_we_approve_and_merge_is_described(box: Box, repo: Repo) -> None:
    """Looking, approving, handing over to GitHub and taking back, merging, a plain comment."""
    pull = await promoted(box, repo)
    here(box).switches.allow_auto_merge = True
    here(box).protection["main"] = Rules(checks=("ci",))
    standing = await repo.standing(pull)
    assert (standing.state, standing.merge_state, standing.methods) == (
        "open",
        "BLOCKED",
        ("merge", "squash", "rebase"),
    )
    await repo.enable_auto_merge(standing, "squash")
    standing = await repo.standing(pull)
    assert standing.auto_merge
    assert standing.auto_merge_ours
    await repo.disable_auto_merge(standing)
    with pytest.raises(Refused, match="status check"):
        await repo.merge(pull, sha=standing.head_sha)
    here(box).protection["main"] = Rules(queue="merge")
    here(box).switches.hold_merges = True
    await repo.enqueue(standing)
    assert (await repo.standing(pull)).queued
    with pytest.raises(Refused):
        await repo.approve(pull, standing.head_sha)
    assert not await repo.approved(pull, standing.head_sha)
    here(box).protection.clear()
    here(box).queue.clear()
    await repo.comment(pull, "Merging")
    merged = await repo.merge(pull, sha=standing.head_sha, method="merge", message="By itself")
    assert (await repo.standing(pull)).merged
    assert merged == await repo.branch("main")


async def test_what_we_do_when_a_tree_is_truncated_is_described(box: Box, repo: Repo) -> None:
    """The root alone, then what is needed."""
    here(box).switches.tree_limit = 3
    facts = here(box).git
    tree = Oid(facts.commit(facts.branches()["main"]).tree)
    snapshot = await repo.widen(await repo.snapshot(tree), ["lab/web", "staging"])
    assert set(snapshot.directories["lab/web"]) == {"app.yaml", "run.sh"}


async def test_what_we_do_at_the_cap_of_files_is_described(box: Box, repo: Repo) -> None:
    """GitHub lists 3,000 of 3,001 files; two trees have them all."""
    many = {f"many/{number:04}": "x" for number in range(3001)}
    await scenes.commit(box, here(box), many, by=box.users["ada"], branch="many")
    pull = await repo.create_pull("Many", "", "many", "main")
    base = await repo.branch("main")
    assert base is not None
    assert await repo.changed_files(pull.number, base_sha=base, head_sha=pull.head_sha) == tuple(many)


async def promoted(box: Box, repo: Repo) -> int:
    """A promotion by hand: lab's app.yaml is staging's, too."""
    git = here(box).git
    head = git.branches()["main"]
    source = git.lookup(git.commit(head).tree, "lab/web/app.yaml")
    assert source is not None
    edit = Edit("staging/web/app.yaml", Entry(source.mode, Oid(source.oid)))
    tree = await repo.create_tree(Oid(git.commit(head).tree), [edit])
    commit = await repo.create_commit("Promote", tree, [Sha(head)])
    assert await repo.create_branch("promotion", commit)
    return (await repo.create_pull("Promote", "web", "promotion", "main")).number


async def test_a_false_answer_would_be_found(tmp_path: Path, recorder: Recorder) -> None:
    """The check itself can fail, on either side of a call."""
    async with server.running(tmp_path, middlewares=[recorder.watch]) as box:
        scenes.repository(box, "acme", "iac", FILES)
        box.rules.add("answer", path="/git/ref/", status=200, body={"ref": "refs/heads/main"})
        async with aiohttp.ClientSession() as session, session.get(f"{box.url}/repos/acme/iac/git/ref/heads/main?x=1"):
            pass
    assert [fault for fault in recorder.faults if '"object" is a required property' in fault]
    assert [fault for fault in recorder.faults if "query parameter 'x' is not described" in fault]
