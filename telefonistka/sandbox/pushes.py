"""What a push to a pull request's head undoes: approvals, auto-merge, its place in the merge queue."""

from __future__ import annotations

from telefonistka.sandbox import automerge, mergequeue, rules
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Pull, Repo, User


async def changed(repo: Repo, pull: Pull, before: str) -> bool:
    """Whether the push has changed what the pull request proposes: a merge of its base alone has not."""
    git, base = repo.git, repo.git.branch(pull.base_ref) or pull.base_sha
    proposed = [await git.changes(await git.merge_base(base, head) or base, head) for head in (before, pull.head_sha)]
    return proposed[0] != proposed[1]


async def undo(box: Box, repo: Repo, pull: Pull, *, reviewable: bool, sender: User) -> None:
    """The consequences of a push that everybody has heard of."""
    if reviewable and rules.of(repo, pull.base_ref).dismiss_stale:
        await dismiss(box, repo, pull, sender=sender)
    if not box.writes(sender, repo):
        await automerge.disable(box, repo, pull, by=sender, reason=automerge.PUSHED)
    await mergequeue.dequeue(box, repo, pull, by=sender, reason=mergequeue.UNKNOWN)


async def dismiss(box: Box, repo: Repo, pull: Pull, *, sender: User) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-pull-request-reviews-before-merging"""
    for review in pull.reviews.values():
        if review.state == "APPROVED":
            review.state = "DISMISSED"
            await box.tell("pull_request_review", "dismissed", repo=repo, sender=sender, pull=pull, review=review)
