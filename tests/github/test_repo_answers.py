"""Answers of GitHub's that are rare or odd, and how Repo reads them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from telefonistka.core.trees import Entry, Oid, Sha, Snapshot
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import NotFound, Refused
from telefonistka.github.cache import TreeCache
from telefonistka.github.repo import Repo
from tests.github.scripted import Asked, Reply, Scripted, Stopwatch, client

HERE = "/repos/acme/iac"
COMMIT = Sha("c" * 40)


@pytest.fixture
async def repo(github: Scripted, watch: Stopwatch) -> AsyncIterator[Repo]:
    async with client(github, watch) as us:
        yield Repo(us, "acme", "iac")


def oid(content: bytes) -> Oid:
    return Oid(hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest())


def blob(content: bytes, text: str | None, *, truncated: bool = False) -> dict[str, Any]:
    return {"oid": oid(content), "text": text, "isTruncated": truncated}


def data(repository: Mapping[str, Any] | None) -> Reply:
    return Reply(200, {"data": {"repository": repository}})


def rest(github: Scripted, content: bytes, answer: bytes | None = None) -> None:
    encoded = base64.encodebytes(content if answer is None else answer).decode()
    github.on(f"GET {HERE}/git/blobs/{oid(content)}", Reply(200, {"content": encoded, "encoding": "base64"}))


@pytest.mark.parametrize(
    ("content", "text", "truncated"),
    [
        (b"\x00binary", None, False),
        (b"caf\xe9: latin-1\n", "café: latin-1\n", False),
        (b"\xef\xbb\xbfbyte order mark", "byte order mark", False),
        (b"a long text", "a long", True),
    ],
)
async def test_what_graphql_cannot_give_exactly_comes_by_rest(
    github: Scripted, repo: Repo, content: bytes, text: str | None, truncated: bool
) -> None:
    """A blob's bytes are those whose id was asked for, whatever they are."""
    github.on("POST /graphql", data({"b0": blob(content, text, truncated=truncated)}))
    rest(github, content)
    assert await repo.blobs([oid(content)]) == {oid(content): content}


async def test_blobs_come_a_hundred_a_call(github: Scripted, repo: Repo) -> None:
    """Asked twice is asked once."""
    contents = {oid(text): text for text in (f"number {i}\n".encode() for i in range(101))}
    wanted = sorted(contents)

    async def answer(asked: Asked) -> Reply:
        names = [oid for oid in wanted if oid in asked.json["query"]]
        return data({f"b{i}": blob(contents[one], contents[one].decode()) for i, one in enumerate(names)})

    github.on("POST /graphql", answer)
    assert await repo.blobs([*wanted, *wanted]) == contents
    assert len(github.asked) == 2


async def test_no_blobs_are_no_call(github: Scripted, repo: Repo) -> None:
    assert await repo.blobs([]) == {}
    assert await repo.read(COMMIT, []) == {}
    assert github.asked == []


async def test_a_blob_that_a_tree_names_is_never_absent(github: Scripted, repo: Repo) -> None:
    """GitHub does not have it yet: unknown, so later."""
    github.on("POST /graphql", data({"b0": None}))
    with pytest.raises(TryAgain, match="does not find blob"):
        await repo.blobs([oid(b"x")])


async def test_a_blob_with_other_contents_is_not_believed(github: Scripted, repo: Repo) -> None:
    github.on("POST /graphql", data({"b0": None}))
    rest(github, b"right", b"wrong")
    with pytest.raises(TryAgain, match="is not that blob"):
        await repo.blobs([oid(b"right")])


async def test_files_of_a_commit_are_read_by_path(github: Scripted, repo: Repo) -> None:
    """Names are data, and what is a directory is no file."""
    github.on("POST /graphql", data({"commit": {"oid": COMMIT}, "p0": blob(b"x", "x"), "p1": {}, "p2": None}))
    odd = 'a/"{}\\n'
    assert await repo.read(COMMIT, [odd, "dir", "gone"]) == {odd: b"x", "dir": None, "gone": None}
    assert github.asked[0].json["variables"]["p0"] == f"{COMMIT}:{odd}"


async def test_files_of_an_unknown_commit_are_unknown(github: Scripted, repo: Repo) -> None:
    """GraphQL answers null for the path of a commit that it does not have; that is no proof."""
    github.on("POST /graphql", data({"commit": None, "p0": None}))
    with pytest.raises(TryAgain, match="does not find commit"):
        await repo.read(COMMIT, ["gone"])


def merged(**labels: Any) -> dict[str, Any]:
    head = {"oid": COMMIT, "tree": {"oid": "d" * 40}}
    pull = {"state": "MERGED", "merged": True, "baseRefName": "main", "mergeCommit": None, "labels": labels}
    pull |= {"headRefOid": COMMIT, "commits": {"totalCount": 1}}
    return {"defaultBranchRef": {"name": "main", "target": head}, "pullRequest": pull}


async def test_labels_beyond_the_first_page_count(github: Scripted, repo: Repo) -> None:
    github.on("POST /graphql", data(merged(nodes=[{"name": "a"}], pageInfo={"hasNextPage": True})))
    github.on(f"GET {HERE}/issues/5/labels?per_page=100", Reply(200, [{"name": "b"}, {"name": "a"}]))
    assert (await repo.merged_pull(5)).labels == ("a", "b")


async def test_a_repository_that_is_hidden_is_not_found(github: Scripted, repo: Repo) -> None:
    github.on("POST /graphql", data(None))
    with pytest.raises(NotFound, match="acme/iac"):
        await repo.merged_pull(5)


async def test_a_ref_that_is_refused_and_not_there_is_an_error(github: Scripted, repo: Repo) -> None:
    """422 stands for a taken name and for an impossible one; only the first is to be adopted."""
    github.on(f"POST {HERE}/git/refs", Reply(422, {"message": "Object does not exist"}))
    with pytest.raises(Refused, match="Object does not exist"):
        await repo.create_branch("new", COMMIT)


async def test_a_branch_that_may_not_be_deleted_is_an_error(github: Scripted, repo: Repo) -> None:
    github.on(f"DELETE {HERE}/git/refs/heads/a/b%23c", Reply(422, {"message": "Cannot delete a protected branch"}))
    github.on(f"GET {HERE}/git/ref/heads/a/b%23c", Reply(200, {"object": {"sha": COMMIT}}))
    with pytest.raises(Refused, match="protected"):
        await repo.delete_branch("a/b#c")


async def test_an_assignee_left_out_in_silence_is_noticed(github: Scripted, repo: Repo) -> None:
    """https://docs.github.com/en/rest/issues/assignees#add-assignees-to-an-issue"""
    github.on(f"PATCH {HERE}/issues/5", Reply(200, {"assignees": []}))
    assert not await repo.label_and_assign(5, ["promotion"], ["rob"])
    assert len(github.asked) == 1


async def test_teams_are_asked_by_their_slug(github: Scripted, repo: Repo) -> None:
    """https://docs.github.com/en/rest/pulls/review-requests#request-reviewers-for-a-pull-request"""
    github.on(f"POST {HERE}/pulls/5/requested_reviewers", Reply(201))
    await repo.request_reviewers(5, ["rob", "acme/platform"])
    assert github.asked[0].json == {"reviewers": ["rob"], "team_reviewers": ["platform"]}


async def test_a_status_is_cut_to_what_github_takes(github: Scripted, repo: Repo) -> None:
    """https://docs.github.com/en/rest/commits/statuses#create-a-commit-status"""
    github.on(f"POST {HERE}/statuses/{COMMIT}", Reply(201))
    await repo.set_status(COMMIT, "error", "x" * 200)
    assert len(github.asked[0].json["description"]) == 140


async def test_a_directory_beyond_every_listing_is_refused(github: Scripted, repo: Repo) -> None:
    """Half of it would be read as deletions of the other half."""
    tree = Oid("e" * 40)
    half = Reply(200, {"truncated": True, "tree": []})
    github.on(f"GET {HERE}/git/trees/{tree}?recursive=1", half)
    github.on(f"GET {HERE}/git/trees/{tree}", half)
    with pytest.raises(Rejected, match="more entries than GitHub lists"):
        await repo.snapshot(tree)


async def test_files_beyond_the_cap_need_a_merge_base(github: Scripted, repo: Repo) -> None:
    """Where the base holds the head already, its trees tell nothing, and the listing is not whole."""
    base, head = Sha("a" * 40), Sha("b" * 40)
    github.on(f"GET {HERE}/pulls/5/files?per_page=100", Reply(200, [{"filename": f"f{i}"} for i in range(3000)]))
    compared = Reply(200, {"status": "identical", "merge_base_commit": {"sha": head}})
    github.on(f"GET {HERE}/compare/{base}...{head}?per_page=1", compared)
    with pytest.raises(Rejected, match="cannot be told"):
        await repo.changed_files(5, base_sha=base, head_sha=head)


def test_the_cache_forgets_what_was_not_used() -> None:
    """It is bounded by names, not by trees."""
    entry = Entry("100644", Oid("f" * 40))

    def tree(names: int) -> Snapshot:
        return Snapshot(Oid("0" * 40), {"": {str(i): entry for i in range(names)}})

    cache = TreeCache(entries=20)
    cache["a"], cache["b"] = tree(8), None
    cache["c"] = tree(8)
    assert cache["a"] is not None
    cache["d"] = tree(8)
    assert [key for key in "abcd" if key in cache] == ["a", "d"]
