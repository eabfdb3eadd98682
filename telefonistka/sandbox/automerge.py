"""Native auto-merge: asking for it, and how it ends before it has merged. What merges is waiting.py.

https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/automatically-merging-a-pull-request
"""

from __future__ import annotations

from telefonistka.sandbox import mergeability, mergequeue, rules
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.refusals import Refused
from telefonistka.sandbox.state import AutoMerge, Pull, Repo, User

MANUALLY = "Manually disabled by user"
PUSHED = "Head branch was pushed to by a user without write access"
RETARGETED = "Base branch was changed"
CLOSED = "Pull request was closed"

# There is nothing to wait for, or nothing will help.
REFUSED_STATES = ("clean", "unstable", "dirty", "draft")


async def enable(
    box: Box, repo: Repo, pull: Pull, *, by: User, method: str, title: str = "", body: str = "", head: str | None = None
) -> None:
    """The pull request will be merged when nothing is missing. Raises Refused with GitHub's reason.

    Where a merge queue is required, it goes there as soon as it may, which can be now.
    """
    check(repo, pull, method, head)
    can = await mergeability.mergeable(repo, pull)
    state = await mergeability.state(box, repo, pull, can=can)
    if rules.of(repo, pull.base_ref).queue and state in ("clean", "unstable"):
        await mergequeue.enqueue(box, repo, pull, by=by, head=head)
        return
    if state in REFUSED_STATES:
        raise Refused(422, f"Pull request Pull request is in {state} status")
    if not rules.ruled(repo, pull.base_ref):
        raise Refused(422, "Pull request Protected branch rules not configured for this branch")
    pull.auto_merge = AutoMerge(by=by, method=method, title=title or default_title(pull, method), body=body)
    await box.tell("pull_request", "auto_merge_enabled", repo=repo, sender=by, pull=pull, reason="")


def check(repo: Repo, pull: Pull, method: str, head: str | None) -> None:
    if not repo.switches.allow_auto_merge:
        raise Refused(422, "Pull request Auto merge is not allowed for this repository")
    if pull.state != "open":
        raise Refused(422, "Pull request Pull request is closed")
    if head is not None and head != pull.head_sha:
        raise Refused(422, "Expected head oid does not match the current head oid")
    if method not in repo.merge_methods:
        raise Refused(422, f"Merge method {method} merging is not allowed on this repository")


def default_title(pull: Pull, method: str) -> str:
    return f"{pull.title} (#{pull.number})" if method == "squash" else f"Merge pull request #{pull.number}"


async def disable(box: Box, repo: Repo, pull: Pull, *, by: User, reason: str) -> None:
    """The pull request is left to people again, if it was not before."""
    if pull.auto_merge is None or pull.merged:
        return
    pull.auto_merge = None
    await box.tell("pull_request", "auto_merge_disabled", repo=repo, sender=by, pull=pull, reason=reason)
