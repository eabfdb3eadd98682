"""Pull requests, and what hangs on them, as GraphQL sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from telefonistka.sandbox import gitobjects, mergeability, mergequeue, objects, requirements, rules
from telefonistka.sandbox.git import Change
from telefonistka.sandbox.graphmerging import AutoMergeView, EntryView, QueueView
from telefonistka.sandbox.graphviews import InRepo, View, connection
from telefonistka.sandbox.odb import Commit as GitCommit
from telefonistka.sandbox.rest import printable
from telefonistka.sandbox.state import Comment, Label, Pull, Review


@dataclass(frozen=True)
class LabelView(InRepo):
    label: Label
    type_name: ClassVar[str] = "Label"

    def __getattr__(self, name: str) -> Any:
        names = {"id": "node_id", "is_default": "default"}
        if name == "url":
            return f"{self.ask.box.url}/{self.repo.full_name}/labels/{self.label.name}"
        return getattr(self.label, names.get(name, name))


@dataclass(frozen=True)
class CommentView(InRepo):
    pull: Pull
    comment: Comment
    type_name: ClassVar[str] = "IssueComment"

    def __getattr__(self, name: str) -> Any:
        comment = self.comment
        match name:
            case "author":
                return self.actor(comment.user)
            case "database_id":
                return comment.id
            case "id":
                return comment.node_id
            case "created_at" | "updated_at":
                return objects.time(getattr(comment, name))
            case "url":
                return f"{objects.pull_html(self.ask.box, self.repo, self.pull)}#issuecomment-{comment.id}"
            case "author_association":
                return objects.association(self.repo, comment.user)
            case "is_minimized":
                return comment.minimized is not None
            case "minimized_reason":
                return None if comment.minimized is None else comment.minimized.lower()
            case "viewer_can_minimize":
                user = self.ask.identity.user
                return user is comment.user or self.repository.viewer_permission in ("ADMIN", "MAINTAIN", "WRITE")
            case "viewer_did_author":
                return self.ask.identity.user is comment.user
            case "pull_request":
                return self.view("PullRequest", self.pull)
            case "body":
                return comment.body
        raise AttributeError(name)


@dataclass(frozen=True)
class ReviewView(InRepo):
    pull: Pull
    review: Review
    type_name: ClassVar[str] = "PullRequestReview"
    is_minimized = viewer_can_minimize = False
    minimized_reason = None

    def __getattr__(self, name: str) -> Any:
        match name:
            case "author":
                return self.actor(self.review.user)
            case "commit":
                return self.commit_view(self.review.commit_id)
            case "created_at" | "submitted_at":
                return objects.time(self.review.submitted_at)
            case "url":
                return f"{objects.pull_html(self.ask.box, self.repo, self.pull)}#pullrequestreview-{self.review.id}"
            case "id":
                return self.review.node_id
        return getattr(self.review, name)


CHANGES = {"removed": "DELETED", "added": "ADDED", "modified": "MODIFIED", "renamed": "RENAMED", "changed": "CHANGED"}
MERGEABLE = {True: "MERGEABLE", False: "CONFLICTING", None: "UNKNOWN"}


@dataclass(frozen=True)
class PullView(InRepo):
    pull: Pull
    type_name: ClassVar[str] = "PullRequest"
    locked = False
    potential_merge_commit = None

    def __getattr__(self, name: str) -> Any:
        """The fields that are one fact of the record."""
        pull = self.pull
        match name:
            case "id":
                return pull.node_id
            case "database_id":
                return pull.id
            case "number" | "title" | "merged":
                return getattr(pull, name)
            case "body":
                return pull.body or ""
            case "state":
                return "MERGED" if pull.merged else pull.state.upper()
            case "closed":
                return pull.state == "closed"
            case "is_draft":
                return pull.draft
            case "base_ref_name":
                return pull.base_ref
            case "head_ref_name":
                return pull.head_ref
            case "base_ref_oid":
                return pull.base_sha
            case "head_ref_oid":
                return pull.head_sha
            case "author":
                return self.actor(pull.user)
            case "merged_by":
                return self.actor(pull.merged_by)
            case "author_association":
                return objects.association(self.repo, pull.user)
            case "created_at" | "updated_at" | "closed_at" | "merged_at":
                return objects.time(getattr(pull, name))
            case "url" | "permalink":
                return objects.pull_html(self.ask.box, self.repo, pull)
            case "is_cross_repository":
                return pull.head_repo is not None
            case "base_repository":
                return self.repository
            case "head_repository":
                return self.repository if pull.head_repo is None else None  # hidden from who asks
            case "merge_commit":
                return self.commit_view(pull.merge_commit_sha) if pull.merged else None
        raise AttributeError(name)

    @property
    def base_ref(self) -> View:
        return self.repository.ref(f"refs/heads/{self.pull.base_ref}")

    @property
    def head_ref(self) -> View | None:
        if self.pull.head_repo is not None:
            return None
        return self.repository.ref(f"refs/heads/{self.pull.head_ref}")

    async def can(self) -> bool | None:
        """As the whole query sees it: it is one reading, however many fields it asks for."""
        key = f"mergeable {self.pull.id}"
        if key not in self.ask.quirks:
            self.ask.quirks[key] = mergeability.computed(self.repo, self.pull, asking=True)
        return await mergeability.mergeable(self.repo, self.pull) if self.ask.quirks[key] else None

    async def mergeable(self) -> str:
        return MERGEABLE[await self.can()]

    async def merge_state_status(self) -> str:
        return (await mergeability.state(self.ask.box, self.repo, self.pull, can=await self.can())).upper()

    @property
    def auto_merge_request(self) -> View:
        asked = self.pull.auto_merge
        return None if asked is None else AutoMergeView(self.ask, self.repo, self.pull, asked)

    @property
    def is_merge_queue_enabled(self) -> bool:
        return bool(rules.of(self.repo, self.pull.base_ref).queue)

    @property
    def is_in_merge_queue(self) -> bool:
        return mergequeue.entry_of(self.repo, self.pull) is not None

    @property
    def merge_queue(self) -> View:
        return QueueView(self.ask, self.repo, self.pull.base_ref) if self.is_merge_queue_enabled else None

    @property
    def merge_queue_entry(self) -> View:
        entry = mergequeue.entry_of(self.repo, self.pull)
        return None if entry is None else EntryView(self.ask, self.repo, entry)

    async def additions(self) -> int:
        return sum(one.additions for one in await gitobjects.pull_changes(self.repo, self.pull))

    async def deletions(self) -> int:
        return sum(one.deletions for one in await gitobjects.pull_changes(self.repo, self.pull))

    async def changed_files(self) -> int:
        return len(await gitobjects.pull_changes(self.repo, self.pull))

    async def review_decision(self) -> str | None:
        return await requirements.decision(self.ask.box, self.repo, self.pull)

    def labels(self, **page: Any) -> dict[str, Any]:
        return connection(self.pull.labels, lambda one: self.view("Label", one), name="labels", **page)

    def assignees(self, **page: Any) -> dict[str, Any]:
        return connection(self.pull.assignees, self.actor, name="assignees", **page)

    def comments(self, **page: Any) -> dict[str, Any]:
        every = list(self.pull.comments.values())
        return connection(every, lambda one: CommentView(self.ask, self.repo, self.pull, one), name="comments", **page)

    def reviews(self, states: Sequence[str] | None = None, author: str | None = None, **page: Any) -> dict[str, Any]:
        every = [
            one
            for one in self.pull.reviews.values()
            if (states is None or one.state in states) and author in (None, one.user.login)
        ]
        return connection(every, lambda one: ReviewView(self.ask, self.repo, self.pull, one), name="reviews", **page)

    async def commits(self, **page: Any) -> dict[str, Any]:
        every = await gitobjects.pull_commits(self.repo, self.pull)
        return connection(every, self.pull_commit, name="commits", **page)

    def pull_commit(self, commit: GitCommit) -> dict[str, Any]:
        return {"id": f"PC_{self.pull.id}_{commit.sha}", "commit": self.view("Commit", commit)}

    async def files(self, **page: Any) -> dict[str, Any]:
        every = await gitobjects.pull_changes(self.repo, self.pull)
        return connection(every, changed_file, name="files", **page)


def changed_file(change: Change) -> dict[str, Any]:
    return {
        "path": printable(change.path),
        "additions": change.additions,
        "deletions": change.deletions,
        "changeType": CHANGES.get(change.status, "CHANGED"),
    }
