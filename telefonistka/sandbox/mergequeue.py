"""The merge queue: getting into it and out of it. What merges is waiting.py.

https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue
"""

from __future__ import annotations

from telefonistka.sandbox import requirements, rules
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.refusals import Refused
from telefonistka.sandbox.state import Pull, Queued, Repo, User

BOT = "github-merge-queue[bot]"  # it merges, whoever has put the pull request into the queue

# Why a pull request left the queue:
# https://docs.github.com/en/webhooks/webhook-events-and-payloads?actionType=dequeued#pull_request
MERGED, ALREADY, MANUAL, CONFLICT = "MERGE", "ALREADY_MERGED", "MANUAL", "MERGE_CONFLICT"
FAILED, RULES, UNKNOWN = "CI_FAILURE", "BRANCH_PROTECTIONS", "UNKNOWN_REMOVAL_REASON"


def entry_of(repo: Repo, pull: Pull) -> Queued | None:
    return next((one for one in repo.queue if one.pull is pull), None)


def queue_of(repo: Repo, branch: str) -> list[Queued]:
    """The entries of one base branch, the next one first."""
    return [one for one in repo.queue if one.pull.base_ref == branch]


async def enqueue(box: Box, repo: Repo, pull: Pull, *, by: User, head: str | None = None, jump: bool = False) -> Queued:
    """Its place in the queue. Raises Refused with what is missing."""
    if not rules.of(repo, pull.base_ref).queue:
        raise Refused(422, "Pull request A merge queue is not enabled for this branch")
    if pull.state != "open" or pull.draft:
        raise Refused(422, f"Pull request Pull request is {'a draft' if pull.draft else 'closed'}")
    if head is not None and head != pull.head_sha:
        raise Refused(422, "Expected head oid does not match the current head oid")
    if entry_of(repo, pull) is not None:
        raise Refused(422, "Pull request Pull request is already in the merge queue")
    lacks = await requirements.lacking(box, repo, pull)
    if lacks.checks or lacks.review:  # a queue brings the head up to date by itself
        raise Refused(422, f"Pull request {' '.join(filter(None, (lacks.checks, lacks.review)))}")
    entry = Queued(id=box.next_id(), pull=pull, by=by, head=pull.head_sha)
    repo.queue.insert(0 if jump else len(repo.queue), entry)
    await box.tell("pull_request", "enqueued", repo=repo, sender=by, pull=pull)
    return entry


async def dequeue(box: Box, repo: Repo, pull: Pull, *, by: User, reason: str) -> Queued | None:
    """The entry that it had, which is gone; nothing where it had none."""
    entry = entry_of(repo, pull)
    if entry is not None:
        repo.queue.remove(entry)
        await box.tell("pull_request", "dequeued", repo=repo, sender=by, pull=pull, reason=reason)
    return entry
