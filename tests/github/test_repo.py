"""Repo against a GitHub that keeps real trees, refs and pull requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from telefonistka.core import trees
from telefonistka.core.trees import Edit, Entry, Sha, Snapshot, Unknown
from telefonistka.github import NotFound, Refused, auth
from telefonistka.github.auth import App, Identity, Token
from telefonistka.github.client import Client
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.repo import Pull, Repo
from telefonistka.sandbox import scenes
from telefonistka.sandbox import state as records
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.server import running
from tests.github.scripted import UNPACED, Stopwatch

FILES: scenes.Files = {
    "telefonistka.yaml": "promotionPaths: []\n",
    "lab/app/values.yaml": "replicas: 1\n",
    "lab/app/deep/er/file": "deep\n",
    "lab/app/run.sh": {"content": "#!/bin/sh\n", "mode": "100755"},
    "lab/app/link": {"symlink": "values.yaml"},
    "lab/app/module": {"submodule": "1" * 40},
    "lab/app/logo.png": b"\x89PNG\x00\xff",
    "lab/app/latin": "caf\xe9".encode("latin-1"),
    "prod/app/values.yaml": "replicas: 3\n",
    "prod/app/old": "old\n",
}


@dataclass(frozen=True)
class Scene:
    """A sandbox with one repository, our App, and a person."""

    box: Box
    record: records.Repo
    repo: Repo  # as the App
    person: Repo
    client: Client  # the person's

    def sha(self, branch: str = "main") -> Sha:
        found = self.record.git.branch(branch)
        assert found is not None
        return Sha(found)

    async def merge(self, pull: Pull, method: str = "merge") -> None:
        await self.client.put(f"/repos/acme/iac/pulls/{pull.number}/merge", data={"merge_method": method})

    async def change(self, files: scenes.Files, *, branch: str = "change") -> Pull:
        """A pull request of a person's with these files."""
        await scenes.commit(self.box, self.record, files, by=self.box.users["rob"], branch=branch, start="main")
        return await self.person.create_pull("Change", "why", branch, "main")

    def calls(self) -> list[str]:
        return [
            call.operation or f"{call.method} {call.path.removeprefix('/repos/acme/iac')}" for call in self.box.calls
        ]


@asynccontextmanager
async def playing(directory: Path, watch: Stopwatch, **switches: Any) -> AsyncIterator[Scene]:
    async with running(directory) as box:
        record = scenes.repository(box, "acme", "iac", FILES, switches=switches)
        ours = box.new_app("telefonistka", owner="acme")
        endpoint = Endpoint.of(box.url)
        person = Token(box.person("rob").value)
        async with auth.session(endpoint) as session:
            app = Identity(App(ours.app.id, ours.private_key), endpoint, session, pacing=UNPACED, clock=watch.clock)
            rob = Identity(person, endpoint, session, pacing=UNPACED, clock=watch.clock)
            clients = await app.client("acme", "iac"), await rob.client("acme", "iac")
            yield Scene(box, record, Repo(clients[0], "acme", "iac"), Repo(clients[1], "acme", "iac"), clients[1])


@pytest.fixture
async def scene(tmp_path: Path, watch: Stopwatch) -> AsyncIterator[Scene]:
    async with playing(tmp_path, watch) as one:
        yield one


def everything(snapshot: Snapshot) -> dict[str, Entry]:
    return dict(snapshot.files())


# Reading


async def test_a_merged_pull_request_comes_in_one_call(scene: Scene) -> None:
    """Labels as of now, the merge, and the default branch's head with its tree."""
    pull = await scene.change({"lab/app/values.yaml": "replicas: 2\n"})
    await scene.person.label_and_assign(pull.number, ["quick", "b"], [])
    await scene.merge(pull)
    scene.box.calls.clear()
    merged = await scene.repo.merged_pull(pull.number)
    assert scene.calls()[1:] == ["query MergedPull"]  # the first is the token
    assert (merged.state, merged.merged, merged.base_ref, merged.default_branch) == ("closed", True, "main", "main")
    assert merged.labels == ("b", "quick")
    assert merged.merge_sha == merged.head.sha == scene.sha()
    assert merged.head.tree == await scene.repo.commit_tree(scene.sha())


async def test_an_open_pull_request_has_no_merge(scene: Scene) -> None:
    pull = await scene.change({"new": "x"})
    found = await scene.repo.merged_pull(pull.number)
    assert (found.state, found.merged, found.merge_sha) == ("open", False, None)


async def test_a_pull_request_that_is_not_there_is_not_found(scene: Scene, watch: Stopwatch) -> None:
    """After it was given some seconds to appear."""
    with pytest.raises(NotFound):
        await scene.repo.merged_pull(99)
    assert sum(watch.slept) == 10


async def test_a_commit_contains_its_ancestors(scene: Scene) -> None:
    """Equal commits need no call."""
    first = scene.sha()
    pull = await scene.change({"new": "x"})
    await scene.merge(pull)
    scene.box.calls.clear()
    assert await scene.repo.contains(first, first)
    assert scene.calls() == []
    assert await scene.repo.contains(scene.sha(), first)
    assert not await scene.repo.contains(first, scene.sha())
    await scenes.commit(scene.box, scene.record, {"y": "y"}, by=scene.box.users["rob"], branch="side", start=first)
    assert not await scene.repo.contains(scene.sha(), scene.sha("side"))


async def test_changed_files_name_both_ends_of_a_rename(scene: Scene) -> None:
    pull = await scene.change(
        {"prod/app/old": None, "prod/app/new": "old\n", "lab/app/values.yaml": "replicas: 9\n", "gone": None}
    )
    files = await scene.repo.changed_files(pull.number, base_sha=scene.sha(), head_sha=pull.head_sha)
    assert files == ("lab/app/values.yaml", "prod/app/new", "prod/app/old")


async def test_changed_files_cost_a_call_per_hundred(scene: Scene) -> None:
    pull = await scene.change({f"many/{i}": "x" for i in range(200)})
    scene.box.calls.clear()
    files = await scene.repo.changed_files(pull.number, base_sha=scene.sha(), head_sha=pull.head_sha)
    assert len(files) == 200
    assert scene.calls().count(f"GET /pulls/{pull.number}/files") == 2


@pytest.mark.parametrize("tree_limit", [100_000, 3_500])
async def test_beyond_the_cap_the_trees_tell_what_changed(tmp_path: Path, watch: Stopwatch, tree_limit: int) -> None:
    """GitHub lists 3,000 files and does not say that there are more; also where the trees' listings are cut off."""
    async with playing(tmp_path, watch, tree_limit=tree_limit) as scene:
        base = scene.sha()
        many = {f"many/{i // 1000}/{i}": "x" for i in range(3_300)}
        pull = await scene.change({**many, "prod/app/old": None, "zz/new": "old\n"})
        await scene.merge(pull)
        files = await scene.repo.changed_files(pull.number, base_sha=base, head_sha=pull.head_sha)
        assert set(files) == {*many, "prod/app/old", "zz/new"}


async def test_a_snapshot_is_the_whole_tree_in_one_call(scene: Scene) -> None:
    """Modes, links and submodules included; the second time it costs nothing."""
    tree = await scene.repo.commit_tree(scene.sha())
    scene.box.calls.clear()
    snapshot = await scene.repo.snapshot(tree)
    assert set(everything(snapshot)) == set(FILES)
    modes = {path: entry.mode for path, entry in snapshot.files("lab/app")}
    assert modes["lab/app/run.sh"] == "100755"
    assert modes["lab/app/link"] == "120000"
    assert modes["lab/app/module"] == "160000"
    assert await scene.repo.snapshot(tree) == snapshot
    assert len(scene.box.calls) == 1


async def test_a_snapshot_is_what_git_has(scene: Scene) -> None:
    """Every directory's id follows from the names that were read."""
    tree = await scene.repo.commit_tree(scene.sha())
    snapshot = await scene.repo.snapshot(tree)
    assert trees.root_after(snapshot, {}) == tree
    for path, names in snapshot.directories.items():
        entry = snapshot.entry(path)
        assert entry is not None
        assert trees.tree_id(names) == entry.oid


async def test_a_listing_that_is_cut_off_is_read_where_it_is_needed(tmp_path: Path, watch: Stopwatch) -> None:
    """Unknown is never absent: what was not read raises; what was asked for is there in full."""
    async with playing(tmp_path, watch, tree_limit=7) as scene:
        snapshot = await scene.repo.snapshot(await scene.repo.commit_tree(scene.sha()))
        with pytest.raises(Unknown):
            snapshot.entry("lab/app")
        scene.box.calls.clear()
        wide = await scene.repo.widen(snapshot, ["lab/app", "prod/none/at/all", "telefonistka.yaml"])
        assert {path for path, _ in wide.files("lab/app")} == {path for path in FILES if path.startswith("lab/app")}
        assert wide.entry("prod/none/at/all") is None
        with pytest.raises(Unknown):
            wide.names("prod/app")
        asked = [call for call in scene.box.calls if "/git/trees/" in call.path]
        # lab, lab/app (cut off), its level, deep (in full), prod
        assert [call.query for call in asked] == ["", "recursive=1", "", "recursive=1", ""]


async def test_widening_what_is_whole_asks_nothing(scene: Scene) -> None:
    snapshot = await scene.repo.snapshot(await scene.repo.commit_tree(scene.sha()))
    scene.box.calls.clear()
    assert await scene.repo.widen(snapshot, ["lab/app", "prod/none", "lab/app/link/x"]) == snapshot
    assert scene.calls() == []


async def test_blobs_come_as_they_are(scene: Scene) -> None:
    """Text by GraphQL in one call, what is no UTF-8 by REST."""
    snapshot = await scene.repo.snapshot(await scene.repo.commit_tree(scene.sha()))
    wanted = {path: entry.oid for path, entry in snapshot.files() if entry.mode != "160000"}
    scene.box.calls.clear()
    contents = await scene.repo.blobs(wanted.values())
    assert contents[wanted["lab/app/logo.png"]] == FILES["lab/app/logo.png"]
    assert contents[wanted["lab/app/latin"]] == FILES["lab/app/latin"]
    assert contents[wanted["lab/app/link"]] == b"values.yaml"
    assert contents[wanted["telefonistka.yaml"]] == b"promotionPaths: []\n"
    rest = [call for call in scene.calls() if call.startswith("GET /git/blobs")]
    assert scene.calls().count("query Blobs") == 1
    assert len(rest) == 2


async def test_files_are_read_at_a_commit(scene: Scene) -> None:
    """One call for all; a directory is no file."""
    scene.box.calls.clear()
    found = await scene.repo.read(scene.sha(), ["lab/app/values.yaml", "lab/app", "none", "lab/app/logo.png"])
    assert found == {
        "lab/app": None,
        "lab/app/logo.png": FILES["lab/app/logo.png"],
        "lab/app/values.yaml": b"replicas: 1\n",
        "none": None,
    }
    assert scene.calls().count("query Files") == 1


async def test_a_renamed_repository_is_still_ours(scene: Scene) -> None:
    """Reads and writes follow GitHub's redirects."""
    scene.box.rename(scene.record, "infra")
    assert await scene.repo.create_branch("new", scene.sha())
    assert await scene.repo.branch("new") == scene.sha()
    assert (await scene.repo.commit(scene.sha())).sha == scene.sha()


# Acting


async def test_a_promotion_takes_five_writes(scene: Scene) -> None:
    """Tree, commit, branch, pull request, labels with assignee: nothing is asked on the way."""
    head = scene.sha()
    snapshot = await scene.repo.snapshot(await scene.repo.commit_tree(head))
    edits = list(trees.sync(snapshot, "lab/app", "prod/app"))
    scene.box.calls.clear()
    tree = await scene.repo.create_tree(snapshot.root, edits)
    commit = await scene.repo.create_commit("Syncing from lab/", tree, [head])
    assert await scene.repo.create_branch("promotions/1-é#x", commit)
    pull = await scene.repo.create_pull("🚀 Promotion", "body", "promotions/1-é#x", "main")
    assert await scene.repo.label_and_assign(pull.number, ["promotion"], ["rob"])
    assert len(scene.calls()) == 5
    promoted = await scene.repo.snapshot(tree)
    assert promoted.entry("prod/app") == snapshot.entry("lab/app")
    assert tree == trees.root_after(snapshot, {"prod/app": snapshot.entry("lab/app")})
    made = await scene.repo.commit(commit)
    assert (made.tree, made.parents, made.message) == (tree, (head,), "Syncing from lab/")
    assert made.author == pull.author == await scene.repo.login() == "telefonistka[bot]"
    (found,) = await scene.repo.pulls("promotions/1-é#x")
    assert (found.number, found.labels, found.assignees) == (pull.number, ("promotion",), ("rob",))
    assert (found.head_sha, found.base_ref, found.state, found.merged) == (commit, "main", "open", False)


async def test_a_tree_that_git_cannot_have_is_refused(scene: Scene) -> None:
    """The caller has another way to the same tree."""
    tree = await scene.repo.commit_tree(scene.sha())
    with pytest.raises(Refused) as caught:
        await scene.repo.create_tree(tree, [Edit("none/such", None)])
    assert caught.value.status == 422


async def test_a_branch_is_made_once(scene: Scene) -> None:
    first = scene.sha()
    assert await scene.repo.create_branch("new", first)
    assert not await scene.repo.create_branch("new", first)
    assert await scene.repo.branch("new") == first
    assert await scene.repo.branch("other") is None


async def test_a_branch_moves_back_only_by_force(scene: Scene) -> None:
    first = scene.sha()
    await scenes.commit(scene.box, scene.record, {"x": "x"}, by=scene.box.users["rob"], branch="side", start="main")
    await scene.repo.create_branch("new", scene.sha("side"))
    with pytest.raises(Refused):
        await scene.repo.move_branch("new", first)
    await scene.repo.move_branch("new", first, force=True)
    assert await scene.repo.branch("new") == first


async def test_a_branch_may_be_deleted_twice(scene: Scene) -> None:
    await scene.repo.create_branch("a/b", scene.sha())
    await scene.repo.delete_branch("a/b")
    await scene.repo.delete_branch("a/b")
    assert await scene.repo.branch("a/b") is None


async def test_a_second_pull_request_is_refused_and_the_first_is_found(scene: Scene) -> None:
    """Open or not; only those of that very branch."""
    pull = await scene.change({"new": "x"})
    other = await scene.change({"other": "x"}, branch="change-2")
    with pytest.raises(Refused) as caught:
        await scene.repo.create_pull("Again", "", "change", "main")
    assert caught.value.status == 422
    await scene.merge(pull)
    (found,) = await scene.repo.pulls("change")
    assert (found.number, found.state, found.merged) == (pull.number, "closed", True)
    assert [one.number for one in await scene.repo.pulls("change-2")] == [other.number]
    assert await scene.repo.pulls("none") == ()


@pytest.mark.parametrize("answer", ["drop", "refuse"])
async def test_an_assignee_who_cannot_be_is_told(tmp_path: Path, watch: Stopwatch, answer: str) -> None:
    """Whether GitHub refuses or says nothing; the labels are there in any case."""
    async with playing(tmp_path, watch, unknown_assignee=answer) as scene:
        pull = await scene.change({"new": "x"})
        assert not await scene.repo.label_and_assign(pull.number, ["promotion"], ["nobody"])
        (found,) = await scene.repo.pulls("change")
        assert (found.labels, found.assignees) == (("promotion",), ())


async def test_a_comment_is_written_once_and_then_edited(scene: Scene) -> None:
    """Ours is known by its marker and its author, on whatever page: a person may quote it."""
    pull = await scene.change({"new": "x"})
    marker = "<!-- plan -->"
    comments = f"/repos/acme/iac/issues/{pull.number}/comments"
    await scene.client.post(comments, data={"body": f"> {marker} quoted"})
    for number in range(100):
        await scene.client.post(comments, data={"body": f"chat {number}"})
    page = await scene.repo.ensure_comment(pull.number, marker, f"{marker} one")
    assert page == await scene.repo.ensure_comment(pull.number, marker, f"{marker} one")
    scene.box.calls.clear()
    assert page == await scene.repo.ensure_comment(pull.number, marker, f"{marker} two")
    assert [call.operation or call.method for call in scene.box.calls] == ["query Comments", "query Comments", "PATCH"]
    bodies = [comment.body for comment in scene.record.pulls[pull.number].comments.values()]
    assert bodies[0] == f"> {marker} quoted"
    assert [body for body in bodies if body.startswith(marker)] == [f"{marker} two"]


async def test_a_status_is_set(scene: Scene) -> None:
    await scene.repo.set_status(scene.sha(), "success", "opened #2", target_url="https://example.com/x")
    (status,) = scene.record.statuses[scene.sha()]
    assert (status.context, status.state, status.description) == ("telefonistka", "success", "opened #2")


# Faults, as the sandbox makes them


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["answer", "reset"])
async def test_a_lost_answer_does_not_make_a_second_pull_request(scene: Scene, action: str, when: str) -> None:
    """Created, then refused because it exists: the caller adopts it."""
    await scenes.commit(scene.box, scene.record, {"x": "x"}, by=scene.box.users["rob"], branch="side", start="main")
    scene.box.rules.add(action, method="POST", path="/pulls$", first=1, when=when)  # type: ignore[arg-type]
    if when == "after":
        with pytest.raises(Refused, match="422"):
            await scene.repo.create_pull("t", "b", "side", "main")
    else:
        await scene.repo.create_pull("t", "b", "side", "main")
    (pull,) = await scene.repo.pulls("side")
    assert list(scene.record.pulls) == [pull.number]


@pytest.mark.parametrize("action", ["secondary", "primary"])
async def test_limits_are_waited_out(scene: Scene, watch: Stopwatch, action: str) -> None:
    """REST and GraphQL alike."""
    pull = await scene.change({"new": "x"})
    for path in ("/graphql", "/git/commits/"):
        scene.box.rules.add(action, path=path, first=1, seconds=20)  # type: ignore[arg-type]
    merged = await scene.repo.merged_pull(pull.number)
    await scene.repo.commit_tree(merged.head.sha)
    assert [round(slept) for slept in watch.slept] in ([20, 20], [21, 21])


async def test_a_revoked_token_is_renewed(scene: Scene) -> None:
    """The call goes on with a new one."""
    await scene.repo.branch("main")
    scene.box.tokens.clear()
    assert await scene.repo.branch("main") == scene.sha()


async def test_a_commit_that_is_not_there_is_not_found(scene: Scene) -> None:
    with pytest.raises(NotFound):
        await scene.repo.commit_tree(Sha("9" * 40))


async def test_the_empty_tree_needs_no_call(scene: Scene) -> None:
    """GitHub has no object for it unless somebody made one."""
    scene.box.calls.clear()
    assert everything(await scene.repo.snapshot(trees.EMPTY_TREE)) == {}
    assert scene.calls() == []


# What a diff needs


async def test_contents_come_as_far_as_a_diff_needs_them(scene: Scene) -> None:
    """Text, what is no text, what is too large, and what GraphQL cuts off, which is read whole."""
    large, cut = "x" * 1_000_001, "y" * 600_000
    pull = await scene.change({"large": large, "cut": cut})
    snapshot = await scene.repo.snapshot(await scene.repo.commit_tree(pull.head_sha))
    paths = ("lab/app/values.yaml", "lab/app/logo.png", "lab/app/latin", "large", "cut")
    oids = {path: entry.oid for path in paths if (entry := snapshot.entry(path))}
    scene.box.calls.clear()
    found = await scene.repo.contents(oids.values())
    assert [call.split("/")[0] for call in scene.calls()] == ["query Blobs", "GET "]
    assert {path: (found[oid].text, found[oid].binary) for path, oid in oids.items()} == {
        "lab/app/values.yaml": ("replicas: 1\n", False),
        "lab/app/logo.png": (None, True),
        "lab/app/latin": (None, True),
        "large": (None, False),
        "cut": (cut, False),
    }
    assert found[oids["large"]].size == 1_000_001


async def test_the_last_commit_of_a_path_is_known_beside_what_others_hold_there(scene: Scene) -> None:
    """Fifty paths a call; a path without history has none."""
    first = scene.sha()
    pull = await scene.change({"prod/app/old": "new\n"})
    await scene.merge(pull, "squash")
    paths: dict[str, list[Sha]] = {f"none/{number}": [] for number in range(60)}
    scene.box.calls.clear()
    seen = await scene.repo.seen(scene.sha(), {**paths, "prod/app": [first], "lab/app": [], "gone": [first]})
    assert [call for call in scene.calls() if call.startswith("query")] == ["query Seen", "query Seen"]
    before = (await scene.repo.snapshot(await scene.repo.commit_tree(first))).entry("prod/app")
    assert before is not None
    assert seen["prod/app"].elsewhere == {first: before.oid}
    assert seen["prod/app"].last is not None
    assert (seen["prod/app"].last.sha, seen["prod/app"].last.author) == (scene.sha(), "rob")
    assert seen["lab/app"].last is not None
    assert seen["lab/app"].last.sha == first
    assert seen["gone"].last is None
    assert seen["gone"].elsewhere == {first: None}
    assert seen["none/7"].last is None
