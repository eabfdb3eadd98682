"""Clone and push with git itself, and repositories that were cloned from elsewhere."""

from __future__ import annotations

from pathlib import Path

from telefonistka.sandbox import scenes
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Event, Repo
from tests.sandbox.conftest import IAC, GitHub, git


async def cloned(box: Box, token: str, to: Path) -> Path:
    await git("clone", "--quiet", box.url.replace("://", f"://x:{token}@") + "/acme/iac.git", to)
    return to


async def committed(work: Path, name: str, text: str) -> str:
    (work / name).write_text(text)
    await git("add", "--all", cwd=work)
    await git("commit", "--quiet", "-m", name, cwd=work)
    return await git("rev-parse", "HEAD", cwd=work)


async def test_a_push_is_told_like_any_other_move(box: Box, github: GitHub, heard: list[Event], tmp_path: Path) -> None:
    """The branch is there for the API, and the pull request from it takes notice."""
    work = await cloned(box, github.token, tmp_path / "work")
    await git("switch", "--quiet", "-c", "feature/x", cwd=work)
    first = await committed(work, "one.txt", "1\n")
    await git("push", "--quiet", "origin", "feature/x", cwd=work)
    pull = await github.pull("feature/x")
    assert pull["head"]["sha"] == first
    second = await committed(work, "two.txt", "2\n")
    await git("push", "--quiet", "origin", "feature/x", cwd=work)
    assert (await github.ok("GET", f"{IAC}/pulls/1"))["head"]["sha"] == second
    told = [(event.name, event.action) for event in heard]
    assert told == [
        ("create", None),
        ("push", None),
        ("pull_request", "opened"),
        ("push", None),
        ("pull_request", "synchronize"),
    ]
    assert {event.sender.login for event in heard} == {"ada"}


async def test_a_branch_merged_and_pushed_by_hand_counts_as_merged(box: Box, github: GitHub, tmp_path: Path) -> None:
    """Its head can be reached from the base branch."""
    await github.branch("topic", {"lab/new": "x"})
    await github.pull("topic")
    work = await cloned(box, github.token, tmp_path / "work")
    await git("merge", "--quiet", "--no-ff", "-m", "by hand", "origin/topic", cwd=work)
    await git("push", "--quiet", "origin", "main", cwd=work)
    pull = await github.ok("GET", f"{IAC}/pulls/1")
    assert (pull["state"], pull["merged"], pull["merged_by"]["login"]) == ("closed", True, "ada")
    assert pull["merge_commit_sha"] == await github.main()


async def test_a_pull_request_can_be_fetched_after_its_branch_is_gone(box: Box, github: GitHub, tmp_path: Path) -> None:
    """refs/pull/N/head is kept, and head.ref still says what the branch was called."""
    head = await github.branch("topic", {"lab/new": "x"})
    await github.pull("topic")
    await github.ok("PUT", f"{IAC}/pulls/1/merge", {})
    await github.ok("DELETE", f"{IAC}/git/refs/heads/topic")
    work = await cloned(box, github.token, tmp_path / "work")
    await git("fetch", "--quiet", "origin", "refs/pull/1/head", cwd=work)
    assert await git("rev-parse", "FETCH_HEAD", cwd=work) == head
    assert (await github.ok("GET", f"{IAC}/pulls/1"))["head"]["ref"] == "topic"


async def test_who_may_only_read_cannot_push(box: Box, repo: Repo, tmp_path: Path) -> None:
    """Cloning works, pushing is denied, a wrong token gets neither."""
    work = await cloned(box, box.person("eve", access="none").value, tmp_path / "work")
    await committed(work, "x", "x")
    assert "403" in await git("push", "origin", "main", cwd=work, check=False)
    repo.private = True
    assert "fatal" in await git("clone", f"{box.url}/acme/iac.git", tmp_path / "no", check=False)


async def test_a_clone_of_a_persons_repository_leaves_theirs_alone(box: Box, github: GitHub, tmp_path: Path) -> None:
    """Packed objects and refs are read, new ones are written beside, and nothing changes in the original."""
    theirs = tmp_path / "theirs"
    await git("init", "--quiet", "-b", "trunk", theirs)
    head = await committed(theirs, "app.yaml", "image: 1\n")
    await git("branch", "old", cwd=theirs)
    await git("gc", "--quiet", cwd=theirs)
    before = await git("for-each-ref", cwd=theirs), sorted(theirs.rglob("*"))
    repo = scenes.repository(box, "me", "theirs", origin=theirs)
    assert repo.default_branch == "trunk"
    assert repo.git.branches() == {"trunk": head, "old": head}
    content = await github.ok("GET", "/repos/me/theirs/contents/app.yaml")
    assert content["size"] == 9
    sha = await scenes.commit(box, repo, {"new": "x"}, by=repo.owner)
    assert (await github.ok("GET", f"/repos/me/theirs/compare/{head}...trunk"))["ahead_by"] == 1
    await github.ok("DELETE", "/repos/me/theirs/git/refs/heads/old")
    assert repo.git.branches() == {"trunk": sha}
    assert (await git("for-each-ref", cwd=theirs), sorted(theirs.rglob("*"))) == before


async def test_a_push_without_a_token_needs_the_boxs_consent(box: Box, tmp_path: Path) -> None:
    """Where it is given, the pusher is called "you"."""
    await git("clone", "--quiet", f"{box.url}/acme/iac.git", tmp_path / "work")
    sha = await committed(tmp_path / "work", "x", "x")
    assert "fatal" in await git("push", "origin", "main", cwd=tmp_path / "work", check=False)
    box.anonymous_push = True
    await git("push", "--quiet", "origin", "main", cwd=tmp_path / "work")
    assert box.repos["acme/iac"].git.branch("main") == sha
