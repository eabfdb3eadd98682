"""A repository and its git objects as GraphQL sees them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from telefonistka.sandbox import gitobjects, objects, rules, statuses
from telefonistka.sandbox.git import Change
from telefonistka.sandbox.gitobjects import comparison
from telefonistka.sandbox.graphviews import ActorView, InRepo, View, connection, pull_connection, refused
from telefonistka.sandbox.odb import TREE, Entry, Missing, Person
from telefonistka.sandbox.odb import Commit as GitCommit
from telefonistka.sandbox.rest import printable
from telefonistka.sandbox.state import RANKS, Access, Status

# What no branch of the sandbox allows or asks for.
RULES_OFF = (
    "allowsDeletions",
    "allowsForcePushes",
    "blocksCreations",
    "requiresConversationResolution",
    "requiresLinearHistory",
    "requiresSignatures",
    "viewerAllowedToDismissReviews",
)
TEXT_LIMIT = 512_000  # bytes of a blob's text; what is longer is cut and says isTruncated


@dataclass(frozen=True)
class RepoView(InRepo):
    type_name: ClassVar[str] = "Repository"

    @property
    def id(self) -> str:
        return self.repo.node_id

    @property
    def database_id(self) -> int:
        return self.repo.id

    @property
    def name(self) -> str:
        return self.repo.name

    @property
    def name_with_owner(self) -> str:
        return self.repo.full_name

    @property
    def owner(self) -> ActorView:
        return ActorView(self.ask, self.repo.owner)

    @property
    def url(self) -> str:
        return f"{self.ask.box.url}/{self.repo.full_name}"

    @property
    def is_private(self) -> bool:
        return self.repo.private

    @property
    def visibility(self) -> str:
        return "PRIVATE" if self.repo.private else "PUBLIC"

    is_fork = False
    viewer_default_merge_method = "MERGE"

    @property
    def is_empty(self) -> bool:
        return not self.repo.git.refs("refs/heads/")

    @property
    def delete_branch_on_merge(self) -> bool:
        return self.repo.switches.delete_branch_on_merge

    @property
    def is_archived(self) -> bool:
        return self.repo.archived

    @property
    def auto_merge_allowed(self) -> bool:
        return self.repo.switches.allow_auto_merge

    def merge_queue(self, branch: str | None = None) -> View:
        name = branch or self.repo.default_branch
        return self.view("MergeQueue", name) if rules.of(self.repo, name).queue else None

    @property
    def merge_commit_allowed(self) -> bool:
        return "merge" in self.repo.merge_methods

    @property
    def squash_merge_allowed(self) -> bool:
        return "squash" in self.repo.merge_methods

    @property
    def rebase_merge_allowed(self) -> bool:
        return "rebase" in self.repo.merge_methods

    @property
    def viewer_permission(self) -> str | None:
        user = self.ask.identity.user
        access = Access.NONE if user is None else self.ask.box.access(user, self.repo)
        return None if RANKS.index(access) == 0 else access.upper()

    @property
    def created_at(self) -> str | None:
        return objects.time(self.repo.created_at)

    @property
    def updated_at(self) -> str | None:
        return objects.time(self.repo.updated_at)

    @property
    def pushed_at(self) -> str | None:
        return objects.time(self.repo.pushed_at)

    @property
    def default_branch_ref(self) -> RefView | None:
        return self.ref(f"refs/heads/{self.repo.default_branch}")

    def ref(self, qualified_name: str) -> RefView | None:
        candidates = (qualified_name, f"refs/heads/{qualified_name}", f"refs/tags/{qualified_name}")
        for name in candidates:
            if name.startswith("refs/") and self.repo.git.ref(name) is not None:
                return RefView(self.ask, self.repo, name)
        return None

    def refs(self, ref_prefix: str, query: str | None = None, **page: Any) -> dict[str, Any]:
        names = [name for name in sorted(self.repo.git.refs(ref_prefix)) if query is None or query in name]
        return connection(names, lambda name: RefView(self.ask, self.repo, name, ref_prefix), name="refs", **page)

    def object(self, expression: str | None = None, oid: str | None = None) -> View:
        """By id, or by git's `ref`, `ref:path` and `id:path`; nothing where there is no such object."""
        git = self.repo.git
        if oid is not None:
            return self.view_of(oid)
        name, colon, path = (expression or "").partition(":")
        try:
            sha = git.resolve(name, self.repo.default_branch)
        except Missing:
            tree = name if git.is_a("tree", name) else None
            if tree is None:
                return self.view_of(name)
        else:
            if not colon:
                return self.view_of(sha)
            tree = git.commit(sha).tree
        found = git.lookup(tree, path)
        return None if found is None else self.view_of(found.oid, path)

    def view_of(self, oid: str, path: str = "") -> View:
        found = self.repo.git.find(oid)
        match None if found is None else found[0]:
            case "blob":
                assert found is not None
                return BlobView(self.ask, self.repo, oid, found[1])
            case "tree":
                return TreeView(self.ask, self.repo, oid, path)
            case "commit":
                return self.commit_view(oid)
        return None

    def pull_request(self, number: int) -> View:
        pull = self.repo.pulls.get(number)
        if pull is None:
            raise refused("NOT_FOUND", f"Could not resolve to a PullRequest with the number of {number}.")
        return self.view("PullRequest", pull)

    def pull_requests(self, **arguments: Any) -> dict[str, Any]:
        return pull_connection(self, list(self.repo.pulls.values()), "pullRequests", **arguments)

    def label(self, name: str) -> View:
        found = self.repo.labels.get(name.lower())
        return None if found is None else self.view("Label", found)

    def labels(self, **page: Any) -> dict[str, Any]:
        every = list(self.repo.labels.values())
        return connection(every, lambda one: self.view("Label", one), name="labels", **page)


@dataclass(frozen=True)
class RefView(InRepo):
    full_name: str
    prefix: str = "refs/heads/"
    type_name: ClassVar[str] = "Ref"

    @property
    def id(self) -> str:
        return f"REF_{self.repo.id}_{self.full_name}"

    @property
    def name(self) -> str:
        return self.full_name.removeprefix(self.prefix).removeprefix("refs/tags/")

    @property
    def target(self) -> View:
        sha = self.repo.git.ref(self.full_name)
        if "stale" in self.ask.quirks:
            sha = self.repo.before.get(self.full_name, sha or "")
        return None if not sha else self.repository.view_of(sha)

    async def compare(self, head_ref: str) -> dict[str, Any] | None:
        git, default = self.repo.git, self.repo.default_branch
        try:
            base, head = git.resolve(self.full_name, default), git.resolve(head_ref, default)
        except Missing:
            return None
        ahead, behind = await git.between(base, head), await git.between(head, base)
        return {
            "id": f"CMP_{self.repo.id}_{base}_{head}",
            "aheadBy": len(ahead),
            "behindBy": len(behind),
            "status": comparison(len(ahead), len(behind)).upper(),
            "baseTarget": self.commit_view(base),
            "headTarget": self.commit_view(head),
            "commits": lambda **page: connection(ahead, partial(self.view, "Commit"), name="commits", **page),
        }

    @property
    def ref_update_rule(self) -> dict[str, Any] | None:
        """What those may see of a branch's rules who do not administer the repository."""
        branch = self.full_name.removeprefix("refs/heads/")
        if not rules.ruled(self.repo, branch):
            return None
        asked = rules.of(self.repo, branch)
        return dict.fromkeys(RULES_OFF, False) | {
            "pattern": branch,
            "requiredApprovingReviewCount": asked.approvals,
            "requiredStatusCheckContexts": list(asked.checks),
            "requiresCodeOwnerReviews": asked.code_owners,
            "viewerCanPush": not (asked.reviewed or asked.checks or asked.queue),
        }

    def associated_pull_requests(self, **arguments: Any) -> dict[str, Any]:
        pulls = [pull for pull in self.repo.pulls.values() if f"refs/heads/{pull.head_ref}" == self.full_name]
        return pull_connection(self, pulls, "associatedPullRequests", **arguments)


@dataclass(frozen=True)
class GitView(InRepo):
    """A git object; each kind says what its `oid` is."""

    @property
    def oid(self) -> str:
        raise NotImplementedError

    @property
    def id(self) -> str:
        return f"{self.type_name[0]}_{self.repo.id}_{self.oid}"

    @property
    def abbreviated_oid(self) -> str:
        return self.oid[:7]

    @property
    def commit_resource_path(self) -> str:
        return f"/{self.repo.full_name}/commit/{self.oid}"

    @property
    def commit_url(self) -> str:
        return self.ask.box.url + self.commit_resource_path


@dataclass(frozen=True)
class BlobView(GitView):
    blob: str
    content: bytes
    type_name: ClassVar[str] = "Blob"

    @property
    def oid(self) -> str:
        return self.blob

    @property
    def byte_size(self) -> int:
        return len(self.content)

    @property
    def is_binary(self) -> bool:
        return b"\0" in self.content[:8000]

    @property
    def is_truncated(self) -> bool:
        return len(self.content) > TEXT_LIMIT

    @property
    def text(self) -> str | None:
        return None if self.is_binary else self.content[:TEXT_LIMIT].decode(errors="replace")


@dataclass(frozen=True)
class TreeView(GitView):
    tree: str
    directory: str = ""  # its path below the root, where that is known
    type_name: ClassVar[str] = "Tree"

    @property
    def oid(self) -> str:
        return self.tree

    @property
    def entries(self) -> list[TreeEntryView]:
        entries = self.repo.git.tree(self.tree).items()
        return [TreeEntryView(self.ask, self.repo, name, one, self.directory) for name, one in entries]


@dataclass(frozen=True)
class TreeEntryView(InRepo):
    raw_name: str
    entry: Entry
    directory: str
    type_name: ClassVar[str] = "TreeEntry"

    @property
    def raw_path(self) -> str:
        return f"{self.directory}/{self.raw_name}" if self.directory else self.raw_name

    @property
    def path(self) -> str:
        return printable(self.raw_path)

    @property
    def path_raw(self) -> str:
        return base64.b64encode(self.raw_path.encode(errors="surrogateescape")).decode()

    @property
    def name(self) -> str:
        return printable(self.raw_name)

    @property
    def name_raw(self) -> str:
        return base64.b64encode(self.raw_name.encode(errors="surrogateescape")).decode()

    @property
    def mode(self) -> int:
        return int(self.entry.mode, 8)

    @property
    def type(self) -> str:
        return self.entry.kind

    @property
    def oid(self) -> str:
        return self.entry.oid

    @property
    def size(self) -> int:
        return 0 if self.entry.mode == TREE else self.repo.git.sizes([self.entry.oid]).get(self.entry.oid, 0)

    @property
    def object(self) -> View:
        return self.repository.view_of(self.entry.oid, self.raw_path)


@dataclass(frozen=True)
class CommitView(GitView):
    commit: GitCommit
    type_name: ClassVar[str] = "Commit"

    @property
    def oid(self) -> str:
        return self.commit.sha

    async def changes(self) -> tuple[Change, ...]:
        """What the commit changed, seen from its first parent."""
        parents = self.commit.parents
        return await self.repo.git.changes(parents[0], self.commit.sha) if parents else ()

    async def additions(self) -> int:
        return sum(one.additions for one in await self.changes())

    async def deletions(self) -> int:
        return sum(one.deletions for one in await self.changes())

    async def changed_files_if_available(self) -> int:
        return len(await self.changes())

    @property
    def url(self) -> str:
        return f"{self.ask.box.url}/{self.repo.full_name}/commit/{self.commit.sha}"

    @property
    def message(self) -> str:
        return printable(self.commit.message)

    @property
    def message_headline(self) -> str:
        return self.message.partition("\n")[0]

    @property
    def message_body(self) -> str:
        return self.message.partition("\n")[2].lstrip("\n")

    @property
    def tree(self) -> TreeView:
        return TreeView(self.ask, self.repo, self.commit.tree)

    @property
    def author(self) -> dict[str, Any]:
        return self.git_actor(self.commit.author)

    @property
    def committer(self) -> dict[str, Any]:
        return self.git_actor(self.commit.committer)

    @property
    def authored_date(self) -> str:
        return gitobjects.git_time(self.commit.author.date)

    @property
    def committed_date(self) -> str:
        return gitobjects.git_time(self.commit.committer.date)

    def git_actor(self, person: Person) -> dict[str, Any]:
        account = gitobjects.account(self.ask.box, person)
        user = ActorView(self.ask, account) if account is not None and account.type == "User" else None
        shown = gitobjects.person(person)
        return shown | {"user": user}

    def parents(self, **page: Any) -> dict[str, Any]:
        return connection(self.commit.parents, self.commit_view, name="parents", **page)

    async def history(self, path: str | None = None, **page: Any) -> dict[str, Any]:
        git = self.repo.git
        if path is None:
            every = list(git.walk(self.commit.sha))
        else:
            listed = await git.arun("--literal-pathspecs", "rev-list", self.commit.sha, "--", path)
            every = [git.commit(sha) for sha in listed.split()]
        return connection(every, lambda one: self.view("Commit", one), name="history", **page)

    def associated_pull_requests(self, **arguments: Any) -> dict[str, Any]:
        sha = self.commit.sha
        pulls = [pull for pull in self.repo.pulls.values() if sha in (pull.head_sha, pull.merge_commit_sha)]
        return pull_connection(self, pulls, "associatedPullRequests", **arguments)

    @property
    def status(self) -> StatusView | None:
        return StatusView(self.ask, self.repo, self.commit.sha) if self.commit.sha in self.repo.statuses else None

    @property
    def status_check_rollup(self) -> StatusView | None:
        return self.status


@dataclass(frozen=True)
class StatusView(InRepo):
    sha: str
    type_name: ClassVar[str] = "Status"

    @property
    def id(self) -> str:
        return f"ST_{self.repo.id}_{self.sha}"

    @property
    def commit(self) -> View:
        return self.commit_view(self.sha)

    @property
    def state(self) -> str:
        return statuses.combined(statuses.latest(self.repo, self.sha)).upper()

    @property
    def contexts(self) -> list[dict[str, Any]]:
        return [self.shown(one) for one in statuses.latest(self.repo, self.sha)]

    def context(self, name: str) -> dict[str, Any] | None:
        return next((one for one in self.contexts if one["context"] == name), None)

    def shown(self, status: Status) -> dict[str, Any]:
        return {
            "id": status.node_id,
            "context": status.context,
            "state": status.state.upper(),
            "description": status.description,
            "targetUrl": status.target_url,
            "createdAt": objects.time(status.created_at),
            "creator": self.actor(status.creator),
            "commit": self.commit,
        }
