"""What the sandbox remembers beside git: people, apps, repositories, pull requests and all that hangs on them.

Plain mutable records without behaviour; objects (commits, trees, blobs, refs) live in real bare repositories (git.py).
Who does what around them:

* box.py      `Box` holds these records, hands out ids and tokens, finds things by name, and tells what happened:
              `await box.tell("pull_request", "opened", repo=repo, sender=user, pull=pull)`.
* odb.py, git.py   `Git`, one per repository (`repo.git`): objects, refs, comparing and merging; trees.py edits trees.
* moves.py    what follows when a ref has moved; merging.py merges; scenes.py makes repositories and commits at once.
* rest.py     the table of routes. A handler is `async def get_tree(ask: Ask) -> Answer`, registered by
              `@route("GET", "/repos/{owner}/{repo}/git/trees/{sha}", "contents:read")`; `ask.repo`, `ask.identity`,
              `await ask.json()`; `raise Refused(422, "…")` is GitHub's error object. The routes are in gitdata.py,
              repos.py, contents.py, pulls.py, reviews.py, issues.py, statuses.py, checks.py and apps.py.
* objects.py, gitobjects.py   records → GitHub's JSON: `objects.user(box, user)`, `gitobjects.commit(…)`.
* rules.py    what a branch asks (protection, rulesets); requirements.py, codeowners.py: what a pull request lacks;
              mergeability.py: what GitHub says of that; waiting.py, automerge.py, mergequeue.py: merging by itself.
* graphql.py  the endpoint over schema.graphql; its types in graphviews.py, graphgit.py and graphpulls.py.
* auth.py     request → `Identity`; faults.py, limits.py: what may happen to a request on its way.
* webhooks.py hears the `Event`s of box.tell(); payloads.py and deliveries.py make and send what it has heard.
* server.py   `running()`: all of it, listening. control.py: `/_sandbox/…`; githttp.py: clone and push; pages.py: HTML.

Events told, with their facts (`Event.facts`):

    pull_request     opened | closed | reopened | ready_for_review | converted_to_draft      pull
                     edited                    pull, changes ({"title": {"from": …}})
                     synchronize               pull, before, after (commit ids)
                     labeled | unlabeled       pull, label
                     assigned | unassigned     pull, assignee
                     review_requested | review_request_removed   pull, requested_reviewer
                     auto_merge_enabled | auto_merge_disabled | dequeued   pull, reason
                     enqueued                  pull
    pull_request_review  submitted | dismissed   pull, review
    issue_comment    created | edited | deleted  pull, comment, changes (edited only)
    push             (no action)   ref ("refs/heads/x"), before, after, forced; 40 zeros: created or deleted
    create, delete   (no action)   ref ("x"), ref_type ("branch" or "tag")
    status           (no action)   status
    label            created | edited | deleted  label
    repository       renamed | edited            changes ({"repository": {"name": {"from": …}}})
                     archived | unarchived
    installation     created | deleted | suspend | unsuspend   installation (repo is None)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from telefonistka.sandbox.git import Git
    from telefonistka.sandbox.rules import Rules, Ruleset

ZEROS = "0" * 40  # how git and webhooks write "no commit"


class Access(StrEnum):
    """What a person may do in a repository, weakest first; the order is `RANKS`."""

    NONE = "none"
    READ = "read"
    TRIAGE = "triage"
    WRITE = "write"
    MAINTAIN = "maintain"
    ADMIN = "admin"


RANKS = tuple(Access)


def now() -> datetime:
    """This moment, to the second, as GitHub writes times."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(eq=False, slots=True, kw_only=True)
class User:
    """A person, an organisation, or an app's bot (`slug[bot]`)."""

    id: int
    login: str
    type: Literal["User", "Bot", "Organization"] = "User"
    name: str | None = None
    access: Access = Access.WRITE  # in every repository whose `collaborators` do not say otherwise
    created_at: datetime = field(default_factory=now)

    @property
    def node_id(self) -> str:
        return {"User": "U", "Bot": "BOT", "Organization": "O"}[self.type] + f"_{self.id}"

    @property
    def email(self) -> str:
        return f"{self.id}+{self.login}@users.noreply.github.com"


@dataclass(eq=False, slots=True, kw_only=True)
class App:
    """A GitHub App; `public_key` (PEM) verifies its JWTs, the private one was handed out at creation."""

    id: int
    slug: str
    name: str
    owner: User
    bot: User
    client_id: str
    public_key: str
    permissions: dict[str, str]
    events: list[str]
    hook: Hook | None = None
    created_at: datetime = field(default_factory=now)

    @property
    def node_id(self) -> str:
        return f"A_{self.id}"


@dataclass(eq=False, slots=True, kw_only=True)
class Registration:
    """A new App whose maker has not fetched its secrets yet."""

    app: App
    private_key: str
    webhook_secret: str | None
    expires_at: datetime


@dataclass(eq=False, slots=True, kw_only=True)
class Installation:
    """An App on an account: on all its repositories, or on those in `repositories` (ids)."""

    id: int
    app: App
    account: User
    repositories: set[int] | None = None
    permissions: dict[str, str]
    suspended_at: datetime | None = None
    suspended_by: User | None = None
    created_at: datetime = field(default_factory=now)


@dataclass(eq=False, slots=True, kw_only=True)
class Token:
    """A secret and what it stands for: a person's, or an installation's with an end."""

    value: str
    user: User  # for an installation: the App's bot
    installation: Installation | None = None
    expires_at: datetime | None = None
    permissions: dict[str, str] = field(default_factory=dict)
    repositories: set[int] | None = None  # narrower than the installation's, if given


@dataclass(eq=False, slots=True, kw_only=True)
class Label:
    id: int
    name: str
    color: str = "ededed"
    description: str = ""
    default: bool = False

    @property
    def node_id(self) -> str:
        return f"LA_{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What somebody thinks of a comment, in one sign."""

    id: int
    user: User
    content: str
    created_at: datetime = field(default_factory=now)

    @property
    def node_id(self) -> str:
        return f"REA_{self.id}"


@dataclass(eq=False, slots=True, kw_only=True)
class Comment:
    """A comment in a pull request's conversation."""

    id: int
    user: User
    body: str
    app: App | None = None
    minimized: str | None = None  # the classifier, such as OUTDATED
    reactions: dict[int, Reaction] = field(default_factory=dict)
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)

    @property
    def node_id(self) -> str:
        return f"IC_{self.id}"


@dataclass(eq=False, slots=True, kw_only=True)
class Review:
    id: int
    user: User
    body: str
    state: str  # APPROVED, CHANGES_REQUESTED, COMMENTED, DISMISSED, PENDING
    commit_id: str
    submitted_at: datetime = field(default_factory=now)

    @property
    def node_id(self) -> str:
        return f"PRR_{self.id}"


@dataclass(eq=False, slots=True, kw_only=True)
class Status:
    """One commit status as it was posted; the last of a context counts."""

    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    creator: User
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)

    @property
    def node_id(self) -> str:
        return f"SC_{self.id}"


@dataclass(eq=False, slots=True, kw_only=True)
class CheckRun:
    """What an App found in a commit."""

    id: int
    app: App
    sha: str
    name: str
    external_id: str = ""
    details_url: str | None = None
    status: str = "queued"
    conclusion: str | None = None
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def node_id(self) -> str:
        return f"CR_{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoMerge:
    """GitHub is to merge the pull request as soon as nothing is missing."""

    by: User
    method: str
    title: str
    body: str
    enabled_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A place in a merge queue."""

    id: int
    pull: Pull
    by: User
    head: str  # the commit that is queued
    enqueued_at: datetime = field(default_factory=now)


@dataclass(eq=False, slots=True, kw_only=True)
class Pull:
    """A pull request: `base_ref` is a branch of the repository, `head_ref` too, or one of the fork `head_repo`."""

    id: int
    number: int
    title: str
    body: str | None
    user: User
    base_ref: str
    base_sha: str
    head_ref: str
    head_sha: str
    app: App | None = None
    draft: bool = False
    state: Literal["open", "closed"] = "open"
    labels: list[Label] = field(default_factory=list)
    assignees: list[User] = field(default_factory=list)
    requested_reviewers: list[User] = field(default_factory=list)
    comments: dict[int, Comment] = field(default_factory=dict)
    reviews: dict[int, Review] = field(default_factory=dict)
    merge_commit_sha: str | None = None  # the trial merge while open, the merge itself afterwards
    merged_by: User | None = None
    merged_at: datetime | None = None
    closed_at: datetime | None = None
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    auto_merge: AutoMerge | None = None
    pusher: User | None = None  # who pushed to its head last, since it is open
    pushed: int = 0  # the last id before that push: reviews with a higher one are of what was pushed
    computing: tuple[str, str] = ("", "")  # base and head of which `mergeable` was asked
    late: int = 0  # so many readings more answer that it is not known yet
    head_repo: Repo | None = None  # a fork; None: the repository itself

    @property
    def node_id(self) -> str:
        return f"PR_{self.id}"

    @property
    def issue_id(self) -> int:
        return self.id + 1  # ids are handed out in steps, so that a pull's issue has one of its own

    @property
    def merged(self) -> bool:
        return self.merged_at is not None


@dataclass(eq=False, slots=True, kw_only=True)
class Hook:
    """Where deliveries go: of a repository, or of an App (`repo` is None)."""

    id: int
    repo: Repo | None
    app: App | None
    url: str
    secret: str
    events: list[str]
    content_type: Literal["json", "form"] = "json"
    insecure_ssl: bool = False
    active: bool = True
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)


@dataclass(eq=False, slots=True, kw_only=True)
class Delivery:
    """One attempt to deliver one event to one hook; a redelivery is another with the same guid."""

    id: int
    guid: str
    hook: Hook
    event: str
    action: str | None
    repository_id: int | None
    installation_id: int | None
    request_headers: dict[str, str]
    request_body: bytes
    redelivery: bool = False
    delivered_at: datetime = field(default_factory=now)
    duration: float = 0.0  # seconds
    status: str = ""  # "OK", or what went wrong, "" while under way
    status_code: int = 0
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: str = ""
    throttled_at: datetime | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Switches:
    """Where GitHub's behaviour is unknown, differs by version, or is rare: what this repository does."""

    directory_entry: Literal["merge", "replace"] = "merge"  # a tree entry put over an existing directory
    delete_absent: Literal["refuse", "ignore"] = "refuse"  # a null SHA for a path that is not there
    unknown_assignee: Literal["drop", "refuse"] = "drop"
    tree_limit: int = 100_000  # entries of a recursive listing before it says `truncated`
    tree_limit_bytes: int = 7_000_000
    pull_files_limit: int = 3_000
    statuses_limit: int = 1_000  # of one commit and context
    base_modified: int = 0  # so many merges answer 405 "Base branch was modified" before one works
    delete_branch_on_merge: bool = False
    allow_auto_merge: bool = False
    late_mergeable: int = 0  # so many readings of a pull request after a push answer `mergeable: null`
    stale_base: bool = False  # a pull request's base.sha stays where it was when the head was pushed, merged or not
    hold_merges: bool = False  # auto-merge and the merge queue wait for `POST /_sandbox/proceed`


@dataclass(eq=False, kw_only=True)
class Repo:
    """A repository: its git is at `path`, everything else is here."""

    id: int
    owner: User
    name: str
    path: Path
    git: Git
    default_branch: str = "main"
    private: bool = False
    description: str | None = None
    collaborators: dict[str, Access] = field(default_factory=dict)  # by lower-case login
    labels: dict[str, Label] = field(default_factory=dict)  # by lower-case name
    pulls: dict[int, Pull] = field(default_factory=dict)
    statuses: dict[str, list[Status]] = field(default_factory=dict)  # by commit id, oldest first
    check_runs: dict[int, CheckRun] = field(default_factory=dict)
    hooks: dict[int, Hook] = field(default_factory=dict)
    switches: Switches = field(default_factory=Switches)
    verified: set[str] = field(default_factory=set)  # commits that GitHub signed
    before: dict[str, str] = field(default_factory=dict)  # where a full ref pointed to before its last change
    archived: bool = False
    protection: dict[str, Rules] = field(default_factory=dict)  # by branch
    rulesets: dict[int, Ruleset] = field(default_factory=dict)
    queue: list[Queued] = field(default_factory=list)  # of all branches, in order
    pushers: dict[str, User] = field(default_factory=dict)  # who moved a full ref last
    renamed_branches: dict[str, str] = field(default_factory=dict)
    merge_methods: set[str] = field(default_factory=lambda: {"merge", "squash", "rebase"})
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    pushed_at: datetime = field(default_factory=now)

    last_number: int = 0  # of a pull request or issue

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    def next_number(self) -> int:
        self.last_number += 1
        return self.last_number

    @property
    def node_id(self) -> str:
        return f"R_{self.id}"


@dataclass(slots=True, kw_only=True)
class Call:
    """One request that was answered, for the call log."""

    n: int
    method: str
    path: str
    query: str = ""
    route: str | None = None  # "GET /repos/{owner}/{repo}/git/trees/{sha}"; None where no route matched
    operation: str | None = None  # GraphQL: "query Merged", or "query" where it has no name
    status: int = 0  # 0: the connection was cut
    identity: str = "anonymous"
    at: float = field(default_factory=time.time)  # when it came, in seconds since 1970
    under_way: int = 1  # API requests that were under way when it came, itself included
    ms: float = 0.0
    effect: bool = True  # False: a fault answered before the sandbox did anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, as webhooks tell it; `facts` by event are listed above."""

    name: str
    action: str | None
    repo: Repo | None
    sender: User
    facts: Mapping[str, Any]
