"""Trees, commits and refs: what the API makes is what git itself reads."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest

from telefonistka.sandbox import scenes
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Repo
from tests.sandbox.conftest import IAC, GitHub, git


async def tree_of(github: GitHub, path: str) -> str:
    head = await github.main()
    tree = (await github.ok("GET", f"{IAC}/git/commits/{head}"))["tree"]["sha"]
    for name in filter(None, path.split("/")):
        entries = (await github.ok("GET", f"{IAC}/git/trees/{tree}"))["tree"]
        tree = next(one["sha"] for one in entries if one["path"] == name)
    return str(tree)


async def test_what_is_written_by_the_api_is_whole_to_git(github: GitHub, repo: Repo) -> None:
    """git fsck finds nothing to say about blobs, trees and commits that were written without it."""
    await github.branch("odd", {"lab/ä b'\"?.txt": "x", "lab/-": "y", "a-b": "1", "a/b": "2", "a.b": "3"})
    assert await git("-C", repo.path, "fsck", "--strict", "--no-dangling") == ""
    assert "a-b\na.b\na/b" in await git("-C", repo.path, "ls-tree", "-r", "--name-only", "odd")


async def test_modes_links_and_submodules_are_listed_as_they_are(github: GitHub, repo: Repo) -> None:
    """The recursive listing has what `git ls-tree` has."""
    listing = await github.listing(await tree_of(github, ""))
    lines = (await git("-C", repo.path, "ls-tree", "-r", "main")).splitlines()
    told = {line.split("\t")[1]: (line.split()[0], line.split()[2]) for line in lines}
    assert listing == told
    assert {mode for mode, _ in listing.values()} == {"100644", "100755", "120000", "160000"}


@pytest.mark.parametrize(
    ("directory_entry", "delete_absent"), list(itertools.product(("merge", "replace"), ("refuse", "ignore")))
)
async def test_a_directory_over_another_and_the_removal_of_nothing_follow_the_switches(
    github: GitHub, repo: Repo, directory_entry: Any, delete_absent: Any
) -> None:
    """All four combinations of what GitHub may do."""
    repo.switches.directory_entry, repo.switches.delete_absent = directory_entry, delete_absent
    base, source = await tree_of(github, ""), await tree_of(github, "lab/web")
    entries = [{"path": "prod/web", "mode": "040000", "type": "tree", "sha": source}]
    made = await github.ok("POST", f"{IAC}/git/trees", {"base_tree": base, "tree": entries})
    kept = "prod/web/old.txt" in await github.listing(made["sha"])
    assert kept == (directory_entry == "merge")
    gone = [{"path": "prod/nothing", "mode": "100644", "type": "blob", "sha": None}]
    reply = await github("POST", f"{IAC}/git/trees", {"base_tree": base, "tree": gone})
    assert reply.status == (422 if delete_absent == "refuse" else 201)
    if reply.status == 201:
        assert reply.body["sha"] == base


async def test_a_removed_directory_takes_its_empty_parent_along(github: GitHub) -> None:
    """Git knows no empty directories."""
    base = await tree_of(github, "")
    gone = [{"path": "prod/web", "mode": "040000", "type": "tree", "sha": None}]
    made = await github.ok("POST", f"{IAC}/git/trees", {"base_tree": base, "tree": gone})
    assert "prod" not in [one["path"] for one in made["tree"]]


async def test_a_file_may_become_a_directory_and_back(github: GitHub) -> None:
    """The later state wins, whatever the kind before."""
    base = await tree_of(github, "")
    put = {"mode": "100644", "type": "blob"}
    into = [{"path": "prod/web/old.txt/inner", "content": "x", **put}]
    made = await github.ok("POST", f"{IAC}/git/trees", {"base_tree": base, "tree": into})
    assert "prod/web/old.txt/inner" in await github.listing(made["sha"])
    back = [{"path": "prod/web/old.txt", "content": "old\n", **put}]
    again = await github.ok("POST", f"{IAC}/git/trees", {"base_tree": made["sha"], "tree": back})
    assert again["sha"] == base


@pytest.mark.parametrize(
    "path", ["../x", "/x", "x/", "a//b", ".git/config", "a/.GIT/b", "", ".", "a/..", "nul\x00here"]
)
async def test_a_malformed_path_is_refused(github: GitHub, path: str) -> None:
    """Nothing can be written beside the tree."""
    entries = [{"path": path, "mode": "100644", "type": "blob", "content": "x"}]
    reply = await github("POST", f"{IAC}/git/trees", {"tree": entries})
    assert (reply.status, reply.body["message"]) == (422, "tree.path contains a malformed path component")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "100600", "content": "x"},
        {"mode": "100644", "type": "tree", "content": "x"},
        {"mode": "040000", "type": "tree", "content": "x"},
        {"mode": "100644", "sha": "1" * 40},
        {"mode": "040000", "sha": "BLOB"},
        {"mode": "100644", "sha": "../../etc"},
        {"mode": "100644"},
        {"mode": 100644, "content": "x"},
    ],
)
async def test_an_entry_that_contradicts_itself_is_refused(github: GitHub, wrong: dict[str, Any]) -> None:
    """Mode, type and object have to fit each other."""
    blob = (await github.ok("POST", f"{IAC}/git/blobs", {"content": "x"}))["sha"]
    entry = {"path": "x", **wrong} | ({"sha": blob} if wrong.get("sha") == "BLOB" else {})
    assert (await github("POST", f"{IAC}/git/trees", {"tree": [entry]})).status == 422


@pytest.mark.parametrize("ref", ["heads/../../config", "heads/a..b", "heads/x.lock", "heads/" + "x" * 300, "heads/a b"])
async def test_a_ref_name_cannot_leave_the_refs(github: GitHub, ref: str) -> None:
    """Bad names are nowhere to be found, and cannot be made."""
    assert (await github("GET", f"{IAC}/git/ref/{ref.replace('/', '%2F').replace(' ', '%20')}")).status == 404
    body = {"ref": f"refs/{ref}", "sha": await github.main()}
    assert (await github("POST", f"{IAC}/git/refs", body)).status == 422


async def test_a_branch_cannot_lie_below_another(github: GitHub) -> None:
    """`a` and `a/b` cannot both be, as in git; after `a` is gone `a/b` can."""
    sha = await github.main()
    make = {"ref": "refs/heads/a", "sha": sha}
    await github.ok("POST", f"{IAC}/git/refs", make)
    assert (await github("POST", f"{IAC}/git/refs", make | {"ref": "refs/heads/a/b"})).status == 422
    await github.ok("DELETE", f"{IAC}/git/refs/heads/a")
    await github.ok("POST", f"{IAC}/git/refs", make | {"ref": "refs/heads/a/b"})
    assert (await github("POST", f"{IAC}/git/refs", make)).status == 422
    await github.ok("DELETE", f"{IAC}/git/refs/heads/a/b")
    await github.ok("POST", f"{IAC}/git/refs", make)


async def test_of_many_who_make_one_ref_one_wins(github: GitHub) -> None:
    """The others are told that it exists."""
    body = {"ref": "refs/heads/contested", "sha": await github.main()}
    statuses: list[int] = []

    async def make() -> None:
        statuses.append((await github("POST", f"{IAC}/git/refs", body)).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(make)
    assert sorted(statuses) == [201] + 7 * [422]


async def test_a_commit_is_by_who_asks_and_an_apps_is_signed(box: Box, github: GitHub) -> None:
    """Without author and committer, the identity is both."""
    app = box.new_app("robot", owner="acme")
    bot = GitHub(box, github.session, box.installation_token(app.installation).value)
    body = {"message": "m", "tree": await tree_of(github, ""), "parents": [await github.main()]}
    mine, its = await github.ok("POST", f"{IAC}/git/commits", body), await bot.ok("POST", f"{IAC}/git/commits", body)
    assert (mine["author"]["name"], mine["verification"]["verified"]) == ("ada", False)
    assert (its["committer"]["name"], its["verification"]["verified"]) == ("robot[bot]", True)
    named = body | {"author": {"name": "Eve", "email": "eve@example.com", "date": "2024-05-06T07:08:09+02:00"}}
    other = await bot.ok("POST", f"{IAC}/git/commits", named)
    assert (other["author"]["name"], other["verification"]["verified"]) == ("Eve", False)
    assert other["author"]["date"] == "2024-05-06T05:08:09Z"


async def test_bytes_that_are_no_text_survive(github: GitHub) -> None:
    """Blobs by Base64, both directions."""
    blob = await github.ok("POST", f"{IAC}/git/blobs", {"content": "/wD+AQ==", "encoding": "base64"})
    shown = await github.ok("GET", f"{IAC}/git/blobs/{blob['sha']}")
    assert (shown["content"].strip(), shown["size"]) == ("/wD+AQ==", 4)
    raw = await github("GET", f"{IAC}/git/blobs/{blob['sha']}", Accept="application/vnd.github.raw")
    assert raw.body == b"\xff\x00\xfe\x01"


async def test_a_hundred_thousand_entries_are_listed_and_the_rest_is_not(box: Box, github: GitHub) -> None:
    """At GitHub's limits."""
    files = {f"d{n // 1000:03}/f{n:06}": "same" for n in range(100_100)}
    big = scenes.repository(box, "acme", "big", files)
    big.switches.tree_limit_bytes = 100_000_000
    shown = await github.ok("GET", "/repos/acme/big/git/trees/main?recursive=1")
    assert (len(shown["tree"]), shown["truncated"]) == (100_000, True)
