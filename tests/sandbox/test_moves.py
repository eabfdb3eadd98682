"""What follows when branches move: pull requests and merges, in real git."""

from __future__ import annotations

import anyio

from telefonistka.sandbox.state import Event, Repo
from tests.sandbox.conftest import IAC, GitHub, Reply, git


def told(heard: list[Event], name: str) -> list[str | None]:
    return [event.action for event in heard if event.name == name]


async def test_a_merge_keeps_both_sides(github: GitHub, repo: Repo, heard: list[Event]) -> None:
    """Git merges the base's later commit and the head, the event comes with the merge known."""
    await github.branch("topic", {"lab/web/app.yaml": "image: 2\n"})
    pull = await github.pull("topic")
    await github.ok("PUT", f"{IAC}/contents/prod/note.txt", {"message": "meanwhile", "content": "eA=="})
    seen: list[tuple[bool, str | None]] = []

    async def hear(event: Event) -> None:
        if event.action == "closed":
            seen.append((event.facts["pull"].merged, event.facts["pull"].merge_commit_sha))

    github.box.listeners.append(hear)
    merged = await github.ok("PUT", f"{IAC}/pulls/{pull['number']}/merge", {"sha": pull["head"]["sha"]})
    assert seen == [(True, merged["sha"])]
    names = await git("-C", repo.path, "ls-tree", "-r", "--name-only", merged["sha"])
    assert "prod/note.txt" in names
    assert await git("-C", repo.path, "show", f"{merged['sha']}:lab/web/app.yaml") == "image: 2"
    assert told(heard, "pull_request") == ["opened", "closed"]


async def test_a_rebase_replays_each_commit_on_the_new_base(github: GitHub, repo: Repo) -> None:
    """A straight line, authors kept, the base's commit below."""
    first = await github.branch("one", {"lab/a": "1"})
    await github.branch("topic", {"lab/b": "2"}, base=first)
    await github.pull("topic")
    await github.ok("PUT", f"{IAC}/contents/prod/note.txt", {"message": "meanwhile", "content": "eA=="})
    await github.ok("PUT", f"{IAC}/pulls/1/merge", {"merge_method": "rebase"})
    log = await git("-C", repo.path, "log", "--format=%s %an %p", "main")
    subjects = [line.split() for line in log.splitlines()]
    assert [line[0] for line in subjects] == ["change", "change", "meanwhile", "Initial"]
    assert all(len(line) == 3 for line in subjects[:3])
    names = await git("-C", repo.path, "ls-tree", "-r", "--name-only", "main")
    assert {"lab/a", "lab/b", "prod/note.txt"} <= set(names.splitlines())


async def test_a_conflict_shows_before_and_stops_the_merge(github: GitHub) -> None:
    """`mergeable` says so, and nothing moves."""
    await github.branch("topic", {"lab/web/app.yaml": "image: 2\n"})
    await github.pull("topic")
    assert (await github.ok("GET", f"{IAC}/pulls/1"))["mergeable"] is True
    other = await github.branch("other", {"lab/web/app.yaml": "image: 3\n"})
    await github.ok("PATCH", f"{IAC}/git/refs/heads/main", {"sha": other})
    shown = await github.ok("GET", f"{IAC}/pulls/1")
    assert (shown["mergeable"], shown["mergeable_state"]) == (False, "dirty")
    for method in ("merge", "squash", "rebase"):
        assert (await github("PUT", f"{IAC}/pulls/1/merge", {"merge_method": method})).status == 405
    assert await github.main() == other


async def test_merging_a_branch_into_another_merges_nothing_else(github: GitHub) -> None:
    """A pull request whose head is not in the base yet stays open."""
    await github.branch("a", {"lab/a": "1"})
    await github.branch("b", {"lab/b": "1"})
    await github.pull("a")
    await github.pull("b")
    await github.ok("PUT", f"{IAC}/pulls/1/merge", {"merge_method": "squash"})
    assert (await github.ok("GET", f"{IAC}/pulls/1"))["merged"] is True
    assert (await github.ok("GET", f"{IAC}/pulls/2"))["state"] == "open"


async def test_of_many_who_open_one_pull_request_one_wins(github: GitHub) -> None:
    """The others are told that it exists."""
    await github.branch("topic", {"lab/a": "1"})
    replies: list[Reply] = []

    async def ask() -> None:
        body = {"title": "t", "head": "topic", "base": "main"}
        replies.append(await github("POST", f"{IAC}/pulls", body))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert sorted(reply.status for reply in replies) == [201] + 4 * [422]


async def test_of_many_who_merge_different_pulls_none_is_lost(github: GitHub) -> None:
    """Whoever finds the base moved is told so, with a 405, and comes again."""
    for n in range(5):
        await github.branch(f"b{n}", {f"lab/f{n}": "1"})
        await github.pull(f"b{n}")

    async def merge(number: int) -> None:
        while (reply := await github("PUT", f"{IAC}/pulls/{number}/merge", {})).status != 200:
            assert (reply.status, reply.body["message"][:24]) == (405, "Base branch was modified")

    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(merge, n + 1)
    shown = await github.ok("GET", f"{IAC}/git/trees/main?recursive=1")
    assert {f"lab/f{n}" for n in range(5)} <= {one["path"] for one in shown["tree"]}


async def test_a_closed_pull_request_reopens_while_its_branch_is_there(github: GitHub, heard: list[Event]) -> None:
    """Without the branch it does not, nor after a merge."""
    head = await github.branch("topic", {"lab/a": "1"})
    await github.pull("topic")
    await github.ok("PATCH", f"{IAC}/pulls/1", {"state": "closed"})
    await github.ok("PATCH", f"{IAC}/pulls/1", {"state": "open"})
    await github.ok("DELETE", f"{IAC}/git/refs/heads/topic")
    assert (await github("PATCH", f"{IAC}/pulls/1", {"state": "open"})).status == 422
    assert told(heard, "pull_request") == ["opened", "closed", "reopened", "closed"]
    await github.ok("POST", f"{IAC}/git/refs", {"ref": "refs/heads/topic", "sha": head})
    await github.ok("PATCH", f"{IAC}/pulls/1", {"state": "open"})
    await github.ok("PUT", f"{IAC}/pulls/1/merge", {})
    assert (await github("PATCH", f"{IAC}/pulls/1", {"state": "open"})).status == 422


async def test_a_pull_requests_files_are_counted_from_where_it_left_the_base(github: GitHub) -> None:
    """What the base got meanwhile is not the pull request's."""
    await github.branch("topic", {"lab/a": "1", "prod/web/old.txt": None})
    await github.pull("topic")
    await github.ok("PUT", f"{IAC}/contents/prod/note.txt", {"message": "meanwhile", "content": "eA=="})
    files = await github.ok("GET", f"{IAC}/pulls/1/files")
    assert [(one["filename"], one["status"]) for one in files] == [("lab/a", "added"), ("prod/web/old.txt", "removed")]
    await github.ok("PUT", f"{IAC}/pulls/1/merge", {})
    assert await github.ok("GET", f"{IAC}/pulls/1/files") == files


async def test_reviews_are_asked_of_collaborators_only_and_end_the_request(github: GitHub) -> None:
    """Not of the author, not of strangers; nobody approves their own."""
    bob = GitHub(github.box, github.session, github.box.person("bob").value)
    github.box.person("eve", access="none")
    await github.branch("topic", {"lab/a": "1"})
    await github.pull("topic")
    asked = f"{IAC}/pulls/1/requested_reviewers"
    for login in ("ada", "eve", "nobody"):
        assert (await github("POST", asked, {"reviewers": [login]})).status == 422
    await github.ok("POST", asked, {"reviewers": ["bob"]})
    assert [one["login"] for one in (await github.ok("GET", asked))["users"]] == ["bob"]
    assert (await github("POST", f"{IAC}/pulls/1/reviews", {"event": "APPROVE"})).status == 422
    await bob.ok("POST", f"{IAC}/pulls/1/reviews", {"event": "APPROVE"})
    assert (await github.ok("GET", asked))["users"] == []
    assert [one["state"] for one in await github.ok("GET", f"{IAC}/pulls/1/reviews")] == ["APPROVED"]


async def test_comments_are_written_changed_minimised_and_removed(github: GitHub, heard: list[Event]) -> None:
    """By REST, and by GraphQL where REST cannot."""
    await github.branch("topic", {"lab/a": "1"})
    await github.pull("topic")
    made = await github.ok("POST", f"{IAC}/issues/1/comments", {"body": "one"})
    await github.ok("PATCH", f"{IAC}/issues/comments/{made['id']}", {"body": "two"})
    query = (
        "mutation($id: ID!) { minimizeComment(input: {subjectId: $id, classifier: OUTDATED})"
        " { minimizedComment { isMinimized minimizedReason } } }"
    )
    shown = await github.ok("POST", "/api/graphql", {"query": query, "variables": {"id": made["node_id"]}})
    assert shown["data"]["minimizeComment"]["minimizedComment"] == {"isMinimized": True, "minimizedReason": "outdated"}
    assert [one["body"] for one in await github.ok("GET", f"{IAC}/issues/1/comments")] == ["two"]
    await github.ok("DELETE", f"{IAC}/issues/comments/{made['id']}")
    assert await github.ok("GET", f"{IAC}/issues/1/comments") == []
    assert told(heard, "issue_comment") == ["created", "edited", "deleted"]
