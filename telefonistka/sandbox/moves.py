"""What follows when a ref moves: pull requests get new heads, close or count as merged, and the webhooks' events.

Every way to move a branch ends here: the refs API, the contents API, merges, and pushes with git.
"""

from __future__ import annotations

from telefonistka.sandbox import automerge, mergequeue, pushes
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import ZEROS, Pull, Repo, User, now

HEADS = "refs/heads/"


async def move(box: Box, repo: Repo, name: str, sha: str, *, expected: str | None, sender: User) -> None:
    """The ref points to `sha` and everyone knows. Raises git.Locked unless it pointed to `expected`."""
    if expected == sha:
        return
    repo.git.set_ref(name, sha, expected=expected)
    await moved(box, repo, name, expected, sha, sender=sender)


async def delete(box: Box, repo: Repo, name: str, *, sender: User) -> None:
    before = repo.git.ref(name)
    repo.git.delete_ref(name)
    await moved(box, repo, name, before, None, sender=sender)


async def moved(box: Box, repo: Repo, name: str, before: str | None, after: str | None, *, sender: User) -> None:
    """The consequences of a ref's move that git has made already."""
    repo.pushed_at = repo.updated_at = now()
    repo.pushers[name] = sender
    if before is not None:
        repo.before[name] = before
    branch = name.removeprefix(HEADS) if name.startswith(HEADS) else None
    forced = before is not None and after is not None and not await repo.git.contains(after, before)
    if branch is None and not name.startswith("refs/tags/"):
        return
    ref_type, short = ("tag", name.removeprefix("refs/tags/")) if branch is None else ("branch", branch)
    if before is None:
        await box.tell("create", None, repo=repo, sender=sender, ref=short, ref_type=ref_type)
    if after is None:
        await box.tell("delete", None, repo=repo, sender=sender, ref=short, ref_type=ref_type)
    facts = {"ref": name, "before": before or ZEROS, "after": after or ZEROS, "forced": forced}
    await box.tell("push", None, repo=repo, sender=sender, **facts)
    if branch is not None:
        await follow(box, repo, branch, before, after, sender=sender)


async def follow(box: Box, repo: Repo, branch: str, before: str | None, after: str | None, *, sender: User) -> None:
    """Open pull requests from or into the branch take notice."""
    for pull in [one for one in repo.pulls.values() if one.state == "open"]:
        head = pull.head_ref if pull.head_repo is None else None
        if branch not in (head, pull.base_ref):
            continue
        if after is None:
            await close(box, repo, pull, sender=sender)
        elif branch == head:
            await synchronize(box, repo, pull, after, sender=sender)
        elif before is not None and await repo.git.contains(after, pull.head_sha):
            await merged(box, repo, pull, after, base=before, sender=sender)


async def synchronize(box: Box, repo: Repo, pull: Pull, head: str, *, sender: User) -> None:
    before, pull.head_sha = pull.head_sha, head
    pull.base_sha = repo.git.branch(pull.base_ref) or pull.base_sha
    pull.updated_at = now()
    keep_head(repo, pull)
    reviewable = await pushes.changed(repo, pull, before)
    if reviewable:
        pull.pusher, pull.pushed = sender, box.last_id
    await box.tell("pull_request", "synchronize", repo=repo, sender=sender, pull=pull, before=before, after=head)
    await pushes.undo(box, repo, pull, reviewable=reviewable, sender=sender)


def keep_head(repo: Repo, pull: Pull) -> None:
    """`refs/pull/N/head` outlives the branch."""
    name = f"refs/pull/{pull.number}/head"
    repo.git.set_ref(name, pull.head_sha, expected=repo.git.ref(name))


async def close(box: Box, repo: Repo, pull: Pull, *, sender: User) -> None:
    pull.state = "closed"
    pull.closed_at = pull.updated_at = now()
    await box.tell("pull_request", "closed", repo=repo, sender=sender, pull=pull)
    await automerge.disable(box, repo, pull, by=sender, reason=automerge.CLOSED)
    await mergequeue.dequeue(box, repo, pull, by=sender, reason=mergequeue.MANUAL)


async def merged(box: Box, repo: Repo, pull: Pull, commit: str, *, base: str, sender: User) -> None:
    """The pull request counts as merged by `commit`; `base` is where its base branch was before."""
    pull.merge_commit_sha = commit
    if not repo.switches.stale_base:
        pull.base_sha = base
    pull.merged_by = sender
    pull.merged_at = now()
    await close(box, repo, pull, sender=sender)
