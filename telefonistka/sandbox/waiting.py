"""GitHub merges by itself what waits for it: by auto-merge, and from the merge queue.

That happens in the background, whenever something has happened in the repository, unless its switch `hold_merges`
is on: then when `proceed` says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from telefonistka.sandbox import mergeability, mergequeue, merging, requirements, rules
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.refusals import Refused
from telefonistka.sandbox.state import Event, Pull, Queued, Repo

HEARD = {"check_run", "pull_request", "pull_request_review", "push", "status"}


def listener(box: Box) -> Callable[[Event], Awaitable[None]]:
    async def hear(event: Event) -> None:
        if event.repo is not None and event.name in HEARD and waits(event.repo):
            box.errands.start(box.tasks, partial(settle, box, event.repo))

    return hear


def waits(repo: Repo) -> bool:
    return bool(repo.queue or waiting_pulls(repo)) and not repo.switches.hold_merges


def waiting_pulls(repo: Repo) -> list[Pull]:
    return [pull for pull in repo.pulls.values() if pull.auto_merge is not None and pull.state == "open"]


async def proceed(box: Box, repo: Repo) -> None:
    """What is held is merged now, as far as it may be."""
    box.errands.start(box.tasks, partial(settle, box, repo))
    await box.errands.idle()


async def settle(box: Box, repo: Repo) -> None:
    """Everything is merged of which nothing is missing."""
    for pull in waiting_pulls(repo):
        await merge(box, repo, pull)
    for entry in list(repo.queue):
        await land(box, repo, entry)


async def merge(box: Box, repo: Repo, pull: Pull) -> None:
    asked = pull.auto_merge
    can = await mergeability.mergeable(repo, pull)
    if asked is None or await mergeability.state(box, repo, pull, can=can) not in ("clean", "unstable"):
        return
    try:
        if rules.of(repo, pull.base_ref).queue:
            await mergequeue.enqueue(box, repo, pull, by=asked.by)
            pull.auto_merge = None
        else:
            title, message = asked.title, asked.body or None
            await merging.merge(box, repo, pull, by=asked.by, method=asked.method, title=title, message=message)
    except Refused:
        return  # something has changed meanwhile; it will be heard of


async def land(box: Box, repo: Repo, entry: Queued) -> None:
    """The queue's next pull request is merged, or leaves the queue with the reason."""
    bot = box.account(mergequeue.BOT, type_="Bot")
    reason = await obstacle(box, repo, entry.pull)
    if reason is None:
        method = rules.of(repo, entry.pull.base_ref).queue
        try:
            await merging.merge(box, repo, entry.pull, by=bot, method=method, sha=entry.head, queued=True)
            reason = mergequeue.MERGED
        except Refused:
            reason = mergequeue.CONFLICT
    await mergequeue.dequeue(box, repo, entry.pull, by=bot, reason=reason)


async def obstacle(box: Box, repo: Repo, pull: Pull) -> str | None:
    """Why the pull request does not belong into the queue any more."""
    if pull.merged:
        return mergequeue.ALREADY
    lacks = await requirements.lacking(box, repo, pull)
    queue = rules.of(repo, pull.base_ref).queue
    return mergequeue.RULES if lacks.checks or lacks.review or not queue else None
