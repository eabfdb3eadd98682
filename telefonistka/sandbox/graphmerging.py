"""Auto-merge and the merge queue as GraphQL sees them, and the mutations that REST has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from graphql import GraphQLError

from telefonistka.sandbox import automerge, mergequeue, objects
from telefonistka.sandbox.graphviews import ActorView, InRepo, View, connection, refused
from telefonistka.sandbox.refusals import Refused, read_only
from telefonistka.sandbox.rest import Ask
from telefonistka.sandbox.state import AutoMerge, Pull, Queued, Repo

KINDS = {403: "FORBIDDEN", 404: "NOT_FOUND"}

Input = dict[str, Any]


@dataclass(frozen=True)
class AutoMergeView(InRepo):
    pull: Pull
    asked: AutoMerge
    type_name: ClassVar[str] = "AutoMergeRequest"
    author_email = None

    def __getattr__(self, name: str) -> Any:
        match name:
            case "commit_headline":
                return self.asked.title
            case "commit_body":
                return self.asked.body
            case "enabled_at":
                return objects.time(self.asked.enabled_at)
            case "enabled_by":
                return self.actor(self.asked.by)
            case "merge_method":
                return self.asked.method.upper()
            case "pull_request":
                return self.view("PullRequest", self.pull)
        raise AttributeError(name)


@dataclass(frozen=True)
class QueueView(InRepo):
    branch: str
    type_name: ClassVar[str] = "MergeQueue"

    @property
    def id(self) -> str:
        return f"MQ_{self.repo.id}_{self.branch}"

    @property
    def resource_path(self) -> str:
        return f"/{self.repo.full_name}/queue/{self.branch}"

    @property
    def url(self) -> str:
        return self.ask.box.url + self.resource_path

    def entries(self, **page: Any) -> dict[str, Any]:
        every = mergequeue.queue_of(self.repo, self.branch)
        return connection(every, lambda one: EntryView(self.ask, self.repo, one), name="entries", **page)


@dataclass(frozen=True)
class EntryView(InRepo):
    entry: Queued
    type_name: ClassVar[str] = "MergeQueueEntry"
    estimated_time_to_merge = None
    jump = solo = False
    state = "QUEUED"

    @property
    def id(self) -> str:
        return f"MQE_{self.entry.id}"

    @property
    def base_commit(self) -> View:
        return self.commit_view(self.repo.git.branch(self.entry.pull.base_ref))

    @property
    def head_commit(self) -> View:
        return self.commit_view(self.entry.head)

    @property
    def enqueued_at(self) -> str | None:
        return objects.time(self.entry.enqueued_at)

    @property
    def enqueuer(self) -> ActorView:
        return ActorView(self.ask, self.entry.by)

    @property
    def position(self) -> int:
        queue = mergequeue.queue_of(self.repo, self.entry.pull.base_ref)
        return queue.index(self.entry) + 1 if self.entry in queue else 0

    @property
    def merge_queue(self) -> QueueView:
        return QueueView(self.ask, self.repo, self.entry.pull.base_ref)

    @property
    def pull_request(self) -> View:
        return self.view("PullRequest", self.entry.pull)


# Mutations


async def enable(ask: Ask, repo: Repo, pull: Pull, given: Input) -> View:
    try:
        permit(ask, repo, "EnablePullRequestAutoMerge")
        await automerge.enable(
            ask.box,
            repo,
            pull,
            by=ask.user,
            method=given.get("mergeMethod", "MERGE").lower(),
            title=given.get("commitHeadline") or "",
            body=given.get("commitBody") or "",
            head=given.get("expectedHeadOid"),
        )
    except Refused as error:
        raise told(error) from error
    return payload(ask, given, pullRequest=InRepo(ask, repo).view("PullRequest", pull))


async def disable(ask: Ask, repo: Repo, pull: Pull, given: Input) -> View:
    try:
        permit(ask, repo, "DisablePullRequestAutoMerge")
        if pull.auto_merge is None or pull.state != "open":
            raise Refused(422, "Can't disable auto-merge for this pull request.")
        await automerge.disable(ask.box, repo, pull, by=ask.user, reason=automerge.MANUALLY)
    except Refused as error:
        raise told(error) from error
    return payload(ask, given, pullRequest=InRepo(ask, repo).view("PullRequest", pull))


async def enqueue(ask: Ask, repo: Repo, pull: Pull, given: Input) -> View:
    head, jump = given.get("expectedHeadOid"), given.get("jump") is True
    try:
        permit(ask, repo, "EnqueuePullRequest")
        entry = await mergequeue.enqueue(ask.box, repo, pull, by=ask.user, head=head, jump=jump)
    except Refused as error:
        raise told(error) from error
    return payload(ask, given, mergeQueueEntry=EntryView(ask, repo, entry))


async def dequeue(ask: Ask, repo: Repo, pull: Pull, given: Input) -> View:
    try:
        permit(ask, repo, "DequeuePullRequest")
    except Refused as error:
        raise told(error) from error
    entry = await mergequeue.dequeue(ask.box, repo, pull, by=ask.user, reason=mergequeue.MANUAL)
    return payload(ask, given, mergeQueueEntry=None if entry is None else EntryView(ask, repo, entry))


def payload(ask: Ask, given: Input, **fields: Any) -> dict[str, Any]:
    return {"clientMutationId": given.get("clientMutationId"), "actor": ActorView(ask, ask.user), **fields}


def permit(ask: Ask, repo: Repo, mutation: str) -> None:
    """Raises Refused for those who may not write there, and for everybody where nothing may be written."""
    token = ask.identity.token
    if token is not None and token.installation is not None:
        for name in ("contents", "pull_requests"):
            refusal = ask.identity.refusal(ask.box, repo, [name], "write")
            if refusal is not None:
                raise refusal
    elif not ask.box.writes(ask.user, repo):
        raise Refused(403, f"{ask.user.login} does not have the correct permissions to execute `{mutation}`")
    if repo.archived:
        raise read_only()


def told(error: Refused) -> GraphQLError:
    return refused(KINDS.get(error.status, "UNPROCESSABLE"), error.message)
