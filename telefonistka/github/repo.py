"""One repository at GitHub: what we ask of it and do to it, in core values.

What belongs here: which request says what, and reading its answer whole. A listing is complete or the call raises;
absent is a value only where GitHub proved it. Acts may be repeated: what stands already is found, not made twice.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any
from urllib.parse import quote

from telefonistka import telemetry
from telefonistka.core import comments, config, drift, trees
from telefonistka.core.drift import Content, LastCommit
from telefonistka.core.trees import EMPTY_TREE, SUBMODULE, TREE, Edit, Entry, Oid, Sha, Snapshot
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import NotFound, Refused
from telefonistka.github.client import Client

COMPARED_CAP = 300  # https://docs.github.com/en/rest/commits/commits#compare-two-commits
FILES_CAP = 3_000  # https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files
BLOBS_PER_QUERY = 100
PATHS_PER_QUERY = 50  # whose history is asked for; each one makes GitHub walk commits
PULLS_PER_QUERY = 50
CUT_READ = 4  # texts that GraphQL cuts off and that are read one by one, for a diff
ANNOTATIONS = 50  # of one request: https://docs.github.com/en/rest/checks/runs#create-a-check-run
DESCRIPTION = 140  # characters of a commit status: https://docs.github.com/en/rest/commits/statuses
OBJECT_ID = re.compile(r"[0-9a-f]{40,64}")

MERGED_PULL = """
query MergedPull($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    defaultBranchRef { name target { ... on Commit { oid tree { oid } } } }
    pullRequest(number: $number) {
      state
      merged
      baseRefName
      headRefOid
      mergeCommit {
        oid
        parents(first: 1) { totalCount nodes { oid } }
        history(first: 100) { nodes { oid } }
      }
      commits(first: 1) { totalCount }
      labels(first: 100) { nodes { name } pageInfo { hasNextPage } }
    }
    config: object(expression: "HEAD:%s") { ... on Blob { oid text isTruncated } }
  }
}
"""

STANDING = """
query Standing($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    autoMergeAllowed
    mergeCommitAllowed
    squashMergeAllowed
    rebaseMergeAllowed
    defaultBranchRef { name target { ... on Commit { oid tree { oid } } } }
    pullRequest(number: $number) {
      id
      state
      merged
      isDraft
      baseRefName
      headRefOid
      mergeable
      mergeStateStatus
      reviewDecision
      isInMergeQueue
      isMergeQueueEnabled
      autoMergeRequest { enabledBy { login } }
      commits(last: 1) { nodes { commit { statusCheckRollup { state } } } }
    }
  }
}
"""

MERGEABLE = """
query Mergeable($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) { %s }
}
"""

# Bodies are long, so there are fewer to a page.
OPEN_PROMOTIONS = """
query OpenPromotions($owner: String!, $name: String!, $base: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequests(states: OPEN, labels: ["promotion"], baseRefName: $base, first: 50, after: $after) {
      nodes { number headRefName headRefOid isCrossRepository body author { login } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

# The newest first, so that a look at the last minutes is one page.
MERGES = """
query Merges($owner: String!, $name: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    defaultBranchRef { name }
    pullRequests(states: MERGED, first: 100, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) {
      nodes {
        number
        title
        body
        updatedAt
        mergedAt
        baseRefName
        baseRefOid
        headRefName
        headRefOid
        mergeCommit { oid }
        author { __typename login }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

CENSUS = """
query Census($owner: String!, $name: String!, $context: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    promotions: pullRequests(states: OPEN, labels: ["promotion"], first: 1) { totalCount }
    pullRequests(states: OPEN, first: 100, after: $after) {
      totalCount
      nodes { commits(last: 1) { nodes { commit { status { context(name: $context) { state createdAt } } } } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""

OUR_COMMENTS = """
query Comments($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequest(number: $number) {
      comments(first: 100, after: $after) {
        nodes { id databaseId url body isMinimized author { login } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

# https://docs.github.com/en/graphql/reference/mutations#minimizecomment
MINIMIZE = """
mutation Minimize($id: ID!) {
  minimizeComment(input: {subjectId: $id, classifier: OUTDATED}) { minimizedComment { isMinimized } }
}
"""

ENQUEUE = """
mutation Enqueue($id: ID!, $head: GitObjectID!) {
  enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $head}) { mergeQueueEntry { id } }
}
"""

# Where the base branch has a merge queue, this leads into it.
ENABLE_AUTO_MERGE = """
mutation EnableAutoMerge($id: ID!, $head: GitObjectID!, $method: PullRequestMergeMethod!) {
  enablePullRequestAutoMerge(input: {pullRequestId: $id, expectedHeadOid: $head, mergeMethod: $method}) {
    pullRequest { id }
  }
}
"""

DEQUEUE = """
mutation Dequeue($id: ID!) {
  dequeuePullRequest(input: {id: $id}) { mergeQueueEntry { id } }
}
"""

DISABLE_AUTO_MERGE = """
mutation DisableAutoMerge($id: ID!) {
  disablePullRequestAutoMerge(input: {pullRequestId: $id}) { pullRequest { id } }
}
"""

DEFAULT_BRANCH = """
query DefaultBranch($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) {
    defaultBranchRef { name target { ... on Commit { oid tree { oid } } } }
  }
}
"""

BLOB = "fragment Content on Blob { oid text isTruncated }"

BLOBS = """
query Blobs($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) { %s }
}
"""

CONTENT = "fragment Seen on Blob { oid byteSize isBinary isTruncated text }"

LAST = "history(first: 1, path: $p%d) { nodes { oid committedDate author { name user { login } } } }"

SEEN = """
query Seen($owner: String!, $name: String!, $commit: GitObjectID!, %s) {
  repository(owner: $owner, name: $name) {
    commit: object(oid: $commit) { oid ... on Commit { %s } }
    %s
  }
}
"""

FILES = """
query Files($owner: String!, $name: String!, $commit: GitObjectID!, %s) {
  repository(owner: $owner, name: $name) {
    commit: object(oid: $commit) { oid }
    %s
  }
}
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a branch points to: a commit and its root tree."""

    sha: Sha
    tree: Oid


@dataclass(frozen=True, slots=True)
class DefaultBranch:
    """The default branch by its name, and where it points to."""

    name: str
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedPull:
    """A pull request as it is now, and the default branch at the same moment."""

    number: int
    state: str  # "open" or "closed"
    merged: bool
    base_ref: str
    head_sha: Sha
    merge_sha: Sha | None  # None also while GitHub has not said it yet
    before: tuple[Sha, ...]  # where the base branch may have been before the merge
    labels: tuple[str, ...]  # sorted
    default_branch: str
    head: Head  # of the default branch


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    sha: Sha
    tree: Oid
    parents: tuple[Sha, ...]
    message: str
    author: str | None  # login; None where GitHub knows no account for the address


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands between a pull request and its merge, and the default branch at the same moment."""

    id: str  # GraphQL's
    state: str  # "open" or "closed"
    merged: bool
    draft: bool
    base_ref: str
    head_sha: Sha
    mergeable: str  # MERGEABLE, CONFLICTING or UNKNOWN
    merge_state: str  # https://docs.github.com/en/graphql/reference/enums#mergestatestatus
    review: str | None  # https://docs.github.com/en/graphql/reference/enums#pullrequestreviewdecision
    checks: str | None  # of all checks together, required or not
    auto_merge: bool  # somebody has GitHub merge it once its rules are met
    auto_merge_ours: bool  # and that was us
    queued: bool
    queue: bool  # merges into the base go through a merge queue
    auto_merge_allowed: bool
    methods: tuple[str, ...]  # that the repository allows, the plain merge first
    default_branch: str
    head: Head  # of the default branch


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoting:
    """A promotion pull request of ours that is open."""

    number: int
    head_ref: str
    head_sha: Sha
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A pull request that was merged, as a webhook would have told of it."""

    number: int
    at: float  # seconds since 1970
    title: str
    body: str
    author: str
    base_ref: str
    base_sha: Sha
    head_ref: str
    head_sha: Sha
    merge_sha: Sha | None


@dataclass(frozen=True, slots=True)
class Merges:
    """What was merged lately, the oldest first, and the moment up to which this is all, by GitHub's clock."""

    default_branch: str
    until: float
    merges: tuple[Merge, ...]


@dataclass(frozen=True, slots=True)
class Census:
    """How many pull requests are open, and since when our status is pending on those where it is."""

    open: int
    promotions: int  # by their label
    pending: tuple[float, ...]  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A path at one commit: who changed it last, and what stands there at other commits."""

    last: LastCommit | None  # None: no commit that GitHub knows of
    elsewhere: Mapping[Sha, Oid | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """A comment of ours."""

    id: int
    node: str  # GraphQL's id
    url: str
    body: str
    minimized: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A commit status: its state, what it says, where it leads."""

    state: str
    description: str
    target_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A remark at a line of a file."""

    path: str
    line: int
    column: int
    level: str  # "notice", "warning" or "failure"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check run says of a commit."""

    name: str
    conclusion: str  # "success", "neutral" or "failure"
    title: str
    summary: str
    annotations: tuple[Annotation, ...] = ()

    @property
    def digest(self) -> str:
        """By which a run that says the same is found again."""
        return hashlib.sha256(repr(self).encode("utf-8", "backslashreplace")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    number: int
    url: str  # the page for people
    title: str
    body: str
    state: str  # "open" or "closed"
    merged: bool
    head_ref: str
    head_sha: Sha
    base_ref: str
    base_sha: Sha
    author: str | None
    labels: tuple[str, ...]  # sorted
    assignees: tuple[str, ...]  # sorted


class Repo:
    """A repository by its name, called through one client."""

    def __init__(self, client: Client, owner: str, name: str) -> None:
        self.owner = owner
        self.name = name
        self._client = client
        self._path = f"/repos/{quote(owner)}/{quote(name)}"
        self._kept: dict[Oid, bytes] = {}  # blobs that came along with other answers

    @property
    def slug(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def page(self) -> str:
        """The repository's address for people."""
        return f"{self._client.endpoint.web}/{quote(self.owner)}/{quote(self.name)}"

    async def login(self) -> str:
        """Who we are here, as authors of comments and commits."""
        return await self._client.login()

    # Reading

    async def merged_pull(self, number: int) -> MergedPull:
        """A pull request with its labels as of now and the default branch's head, in one call."""
        data = await self._query(MERGED_PULL % config.FILE, number=number)
        pull, default = data["pullRequest"], data["defaultBranchRef"]
        if pull is None:
            raise NotFound(f"pull request {number} of {self.slug}", 404)
        if default is None:
            raise TryAgain(f"{self.slug} has no default branch")
        self._keep(data.get("config"))
        labels = [node["name"] for node in pull["labels"]["nodes"]]
        if pull["labels"]["pageInfo"]["hasNextPage"]:
            labels = [one["name"] for one in await self._all(f"/issues/{number}/labels?per_page=100")]
        return MergedPull(
            number=number,
            state="open" if pull["state"] == "OPEN" else "closed",
            merged=pull["merged"],
            base_ref=pull["baseRefName"],
            head_sha=Sha(pull["headRefOid"]),
            merge_sha=Sha(pull["mergeCommit"]["oid"]) if pull["mergeCommit"] else None,
            before=_before(pull["mergeCommit"], pull["commits"]["totalCount"]),
            labels=tuple(sorted(labels)),
            default_branch=default["name"],
            head=Head(Sha(default["target"]["oid"]), Oid(default["target"]["tree"]["oid"])),
        )

    async def standing(self, number: int) -> Standing:
        """Where a pull request stands on its way to its merge, in one call."""
        data = await self._query(STANDING, number=number)
        pull, default = data["pullRequest"], data["defaultBranchRef"]
        if pull is None:
            raise NotFound(f"pull request {number} of {self.slug}", 404)
        if default is None:
            raise TryAgain(f"{self.slug} has no default branch")
        request = pull["autoMergeRequest"]
        rollups = [node["commit"]["statusCheckRollup"] for node in pull["commits"]["nodes"]]
        allowed = {"merge": "mergeCommitAllowed", "squash": "squashMergeAllowed", "rebase": "rebaseMergeAllowed"}
        return Standing(
            id=pull["id"],
            state="open" if pull["state"] == "OPEN" else "closed",
            merged=pull["merged"],
            draft=pull["isDraft"],
            base_ref=pull["baseRefName"],
            head_sha=Sha(pull["headRefOid"]),
            mergeable=pull["mergeable"],
            merge_state=pull["mergeStateStatus"],
            review=pull["reviewDecision"],
            checks=rollups[0]["state"] if rollups and rollups[0] else None,
            auto_merge=request is not None,
            auto_merge_ours=request is not None and await self._is_us(request["enabledBy"]),
            queued=pull["isInMergeQueue"],
            queue=pull["isMergeQueueEnabled"],
            auto_merge_allowed=data["autoMergeAllowed"],
            methods=tuple(method for method, field in allowed.items() if data[field]),
            default_branch=default["name"],
            head=Head(Sha(default["target"]["oid"]), Oid(default["target"]["tree"]["oid"])),
        )

    async def default_branch(self) -> DefaultBranch:
        """The default branch as it is now."""
        default = (await self._query(DEFAULT_BRANCH, named=False))["defaultBranchRef"]
        if default is None:
            raise Rejected(f"{self.slug} has no default branch: it is empty.")
        target = default["target"]
        return DefaultBranch(default["name"], Head(Sha(target["oid"]), Oid(target["tree"]["oid"])))

    async def contains(self, head: Sha, commit: Sha) -> bool:
        """Whether `commit` is `head` or one of its ancestors."""
        if head == commit:
            return True
        return (await self._compare(commit, head))["status"] in ("ahead", "identical")

    async def commit_tree(self, sha: Sha) -> Oid:
        """The root tree of a commit."""
        return Oid((await self._get(f"/git/commits/{sha}", named=True))["tree"]["sha"])

    async def commit(self, sha: Sha) -> Commit:
        # Not git/commits, which does not say whose account the author's address belongs to.
        found = await self._get(f"/commits/{sha}?per_page=1", named=True)
        return Commit(
            sha=Sha(found["sha"]),
            tree=Oid(found["commit"]["tree"]["sha"]),
            parents=tuple(Sha(parent["sha"]) for parent in found["parents"]),
            message=found["commit"]["message"],
            author=_login(found["author"]),
        )

    async def changed_files(self, number: int, *, base_sha: Sha, head_sha: Sha) -> tuple[str, ...]:
        """Every path that a pull request changes, sorted; a rename gives its old and its new path."""
        files = await self._all(f"/pulls/{number}/files?per_page=100", named=True)
        paths = {file["filename"] for file in files}
        paths |= {file["previous_filename"] for file in files if file.get("previous_filename")}
        if len(files) >= FILES_CAP:
            paths |= await self._compared(base_sha, head_sha)
        return tuple(sorted(paths))

    async def pushed_files(self, before: str, after: Sha) -> tuple[str, ...]:
        """Every path that differs between a commit or branch and a commit, however they are related; sorted."""
        compared = await self._compare(before, after)
        files = compared.get("files", ())
        if compared["status"] in ("ahead", "identical") and len(files) < COMPARED_CAP:
            paths = {file["filename"] for file in files}
            return tuple(sorted(paths | {file["previous_filename"] for file in files if file.get("previous_filename")}))
        return tuple(sorted(await self._differing(Sha(compared["base_commit"]["sha"]), after)))

    async def newer(self, path: str, branch: str, etag: str) -> tuple[bytes, str] | None:
        """A file on a branch with the answer's ETag; None: it is as it was when it had this one.

        Raises NotFound, which proves nothing.
        """
        found = await self._client.newer(f"{self._path}/contents/{quote(path)}?ref={quote(branch, safe='')}", etag)
        if found is None:
            return None
        answer, tag = found
        if not isinstance(answer, dict) or answer.get("type") != "file":
            raise Rejected(f"`{path}` of {self.slug} is no file.")
        if answer["encoding"] != "base64":  # beyond 1 MB
            return await self._content(None, Oid(answer["sha"])), tag
        return base64.b64decode(answer["content"]), tag

    async def snapshot(self, tree: Oid) -> Snapshot:
        """A tree with all its directories; where GitHub cuts that off, the root directory alone, for `widen`."""
        return await self._tree(tree, recursive=True) or await self._level(tree)

    async def widen(self, snapshot: Snapshot, paths: Iterable[str]) -> Snapshot:
        """The snapshot with all that `paths` need: the directories they lie in, and in full those they name."""
        directories = dict(snapshot.directories)
        widened = Snapshot(snapshot.root, directories)
        for path in paths:
            if await self._reach(widened, directories, path):
                await self._complete(widened, directories, path)
        return widened

    async def blobs(self, oids: Iterable[Oid]) -> dict[Oid, bytes]:
        """The contents of these blobs, all of them."""
        asked = set(oids)
        found = {oid: self._kept[oid] for oid in asked & self._kept.keys()}
        wanted = sorted(asked - found.keys())
        for start in range(0, len(wanted), BLOBS_PER_QUERY):
            found |= await self._blobs(wanted[start : start + BLOBS_PER_QUERY])
        return found

    async def read(self, commit: Sha, paths: Collection[str]) -> dict[str, bytes | None]:
        """The files at these paths of a commit, None where there is none."""
        wanted = sorted(set(paths))
        found: dict[str, bytes | None] = {}
        for start in range(0, len(wanted), BLOBS_PER_QUERY):
            found |= await self._files(commit, wanted[start : start + BLOBS_PER_QUERY])
        return found

    async def contents(self, oids: Iterable[Oid]) -> dict[Oid, Content]:
        """What a diff needs of these blobs: a hundred a call, and no more than that for what is no text or large."""
        wanted = list(dict.fromkeys(oids))
        found: dict[Oid, Content] = {}
        left = CUT_READ
        for start in range(0, len(wanted), BLOBS_PER_QUERY):
            some = wanted[start : start + BLOBS_PER_QUERY]
            for oid, blob in (await self._objects(some, "Seen", CONTENT)).items():
                if not blob:
                    raise TryAgain(f"GitHub does not find blob {oid} of {self.slug}, which a tree names")
                cut = blob["isTruncated"] and not blob["isBinary"] and blob["byteSize"] <= drift.LARGE and left > 0
                left -= cut
                found[oid] = await self._cut_content(oid) if cut else _content(blob, oid)
        return found

    async def seen(self, commit: Sha, paths: Mapping[str, Collection[Sha]]) -> dict[str, Seen]:
        """Who changed these paths last before a commit, and what stands there at the other commits given for each."""
        wanted = sorted(paths)
        found: dict[str, Seen] = {}
        for start in range(0, len(wanted), PATHS_PER_QUERY):
            some = {path: sorted(set(paths[path])) for path in wanted[start : start + PATHS_PER_QUERY]}
            found |= await self._seen(commit, some)
        return found

    async def open_promotions(self, base: str) -> tuple[Promoting, ...]:
        """The promotion pull requests of ours into a branch that are open."""
        found = [
            Promoting(
                number=one["number"],
                head_ref=one["headRefName"],
                head_sha=Sha(one["headRefOid"]),
                body=one["body"],
            )
            async for one in self._nodes(OPEN_PROMOTIONS, "pullRequests", base=base)
            if not one["isCrossRepository"] and await self._is_us(one["author"])
        ]
        return tuple(found)

    async def mergeable(self, numbers: Collection[int]) -> dict[int, str]:
        """Of these pull requests, those that are open: MERGEABLE, CONFLICTING, or UNKNOWN, and then asking computes it.

        https://docs.github.com/en/graphql/reference/enums#mergeablestate
        """
        found: dict[int, str] = {}
        wanted = sorted(set(numbers))
        for start in range(0, len(wanted), PULLS_PER_QUERY):
            some = wanted[start : start + PULLS_PER_QUERY]
            asked = " ".join(f"p{one}: pullRequest(number: {one}) {{ state mergeable }}" for one in some)
            data = await self._query(MERGEABLE % asked)
            known = {one: data[f"p{one}"] for one in some}
            found |= {one: pull["mergeable"] for one, pull in known.items() if pull and pull["state"] == "OPEN"}
        return found

    async def merges(self, since: float) -> Merges:
        """What was merged from this moment on, into any branch."""
        found: dict[int, Merge] = {}  # by number: one that is updated meanwhile is on two pages
        after, until = None, None
        while True:
            page = await self._query(MERGES, named=False, after=after)
            until = self._client.now if until is None else until
            default = (page["defaultBranchRef"] or {}).get("name", "")
            pulls = page["pullRequests"]
            # A merge is an update, so nothing behind one that was not updated since was merged since.
            lately = [one for one in pulls["nodes"] if _time(one["updatedAt"]) >= since]
            found |= {merge.number: merge for merge in map(_merge, lately) if merge.at >= since}
            if len(lately) < len(pulls["nodes"]) or not pulls["pageInfo"]["hasNextPage"]:
                merges = sorted(found.values(), key=lambda merge: (merge.at, merge.number))
                return Merges(default, until, tuple(merges))
            after = pulls["pageInfo"]["endCursor"]

    async def census(self, context: str) -> Census:
        """The open pull requests, counted; one call for a hundred of them."""
        after, pending = None, []
        while True:
            page = await self._query(CENSUS, named=False, context=context, after=after)
            pulls = page["pullRequests"]
            heads = [commit["commit"] for node in pulls["nodes"] for commit in node["commits"]["nodes"]]
            found = [(head["status"] or {}).get("context") for head in heads]
            pending += [_time(one["createdAt"]) for one in found if one and one["state"] == "PENDING"]
            if not pulls["pageInfo"]["hasNextPage"]:
                return Census(pulls["totalCount"], page["promotions"]["totalCount"], tuple(pending))
            after = pulls["pageInfo"]["endCursor"]

    async def branch(self, name: str) -> Sha | None:
        """Where a branch points to, None where there is no such branch."""
        try:
            return Sha((await self._get(f"/git/ref/heads/{quote(name)}"))["object"]["sha"])
        except NotFound:
            return None

    async def branches(self, prefix: str) -> dict[str, Sha]:
        """Where the branches point to whose names begin so."""
        # https://docs.github.com/en/rest/git/refs#list-matching-references
        refs = await self._all(f"/git/matching-refs/heads/{quote(prefix)}")
        return {ref["ref"].removeprefix("refs/heads/"): Sha(ref["object"]["sha"]) for ref in refs}

    async def pull(self, number: int) -> Pull:
        """A pull request as it is now."""
        return _pull(await self._get(f"/pulls/{number}", named=True))

    async def may_write(self, login: str) -> bool:
        """Whether a person has write permission now."""
        # https://docs.github.com/en/rest/collaborators/collaborators#get-repository-permissions-for-a-user
        try:
            found = await self._get(f"/collaborators/{quote(login, safe='')}/permission")
        except NotFound:
            return False
        return found["permission"] in ("admin", "write")  # "maintain" is told as "write"

    async def status(self, sha: Sha, context: str) -> Status | None:
        """The newest status of a context on a commit, however many others there are."""
        # The newest come first: https://docs.github.com/en/rest/commits/statuses#list-commit-statuses-for-a-reference
        async for one in self._client.pages(f"{self._path}/commits/{sha}/statuses?per_page=100"):
            if one["context"] == context:
                return Status(one["state"], one["description"] or "", one["target_url"])
        return None

    async def open_pulls(self) -> tuple[Pull, ...]:
        """The pull requests that are open, the newest first."""
        return tuple([_pull(one) for one in await self._all("/pulls?state=open&per_page=100")])

    async def pulls(self, head: str) -> tuple[Pull, ...]:
        """The pull requests from a branch of this repository, open or not, the newest first."""
        asked = f"/pulls?head={quote(f'{self.owner}:{head}', safe='')}&state=all&per_page=100"
        found = [_pull(one) for one in await self._all(asked)]
        # GitHub leaves out a filter that it does not understand.
        return tuple(pull for pull in found if pull.head_ref == head)

    # Acting: git

    async def create_blob(self, content: bytes) -> Oid:
        """A file's content."""
        made = await self._post("/git/blobs", content=base64.b64encode(content).decode(), encoding="base64")
        return Oid(made["sha"])

    async def create_tree(self, base: Oid, edits: Sequence[Edit]) -> Oid:
        """The tree that GitHub makes of another with these edits; Refused where it does not take them."""
        # https://docs.github.com/en/rest/git/trees#create-a-tree
        made = await self._post("/git/trees", base_tree=base, tree=[_row(edit) for edit in edits])
        return Oid(made["sha"])

    async def create_commit(self, message: str, tree: Oid, parents: Sequence[Sha]) -> Sha:
        """A commit; without an author of its own, so that GitHub signs an App's."""
        made = await self._post("/git/commits", message=message, tree=tree, parents=list(parents))
        return Sha(made["sha"])

    async def create_branch(self, name: str, sha: Sha) -> bool:
        """The branch was made and points to `sha`; False where a branch of that name exists."""
        try:
            await self._post("/git/refs", ref=f"refs/heads/{name}", sha=sha)
        except Refused as error:
            # 422 stands for a name that is taken, a name that is not allowed, and a commit that is not there.
            if error.status != 422 or await self.branch(name) is None:
                raise
            return False
        return True

    async def move_branch(self, name: str, sha: Sha, *, force: bool = False) -> None:
        """The branch points to `sha`; Refused where that loses commits, unless forced."""
        await self._patch(f"/git/refs/heads/{quote(name)}", sha=sha, force=force)

    async def delete_branch(self, name: str) -> None:
        """There is no such branch (any more)."""
        try:
            await self._client.delete(f"{self._path}/git/refs/heads/{quote(name)}")
        except Refused as error:
            # 422 stands for a branch that is gone, and for one that may not be deleted.
            if error.status not in (404, 422) or await self.branch(name) is not None:
                raise

    # Acting: pull requests

    async def create_pull(self, title: str, body: str, head: str, base: str) -> Pull:
        """A pull request from a branch of this repository; Refused (422) where there is one, or nothing to merge."""
        return _pull(await self._post("/pulls", title=title, body=body, head=head, base=base))

    async def close_pull(self, number: int) -> None:
        """The pull request is closed."""
        await self._patch(f"/pulls/{number}", state="closed")

    async def update_pull(self, number: int, *, title: str, body: str) -> None:
        """The pull request has this title and body."""
        await self._patch(f"/pulls/{number}", title=title, body=body)

    async def label_and_assign(self, number: int, labels: Collection[str], assignees: Collection[str]) -> bool:
        """The pull request has exactly these labels and assignees; False where it has the labels, not all assignees."""
        path, fields = f"/issues/{number}", {"labels": sorted(set(labels))}
        if not assignees:
            await self._patch(path, **fields)
            return True
        try:
            issue = await self._patch(path, **fields, assignees=sorted(set(assignees)))
        except Refused as error:
            if error.status != 422:
                raise
            await self._patch(path, **fields)
            return False
        # GitHub may also leave out whom it cannot assign: https://docs.github.com/en/rest/issues/assignees
        assigned = {one["login"].lower() for one in issue["assignees"]}
        return assigned >= {login.lower() for login in assignees}

    async def request_reviewers(self, number: int, reviewers: Collection[str]) -> None:
        """These people, and teams written as `organization/team`, are asked for a review."""
        people = sorted({one for one in reviewers if "/" not in one})
        teams = sorted({one.rpartition("/")[2] for one in reviewers if "/" in one})
        await self._post(f"/pulls/{number}/requested_reviewers", reviewers=people, team_reviewers=teams)

    async def merge(self, number: int, *, sha: Sha, method: str = "merge", message: str | None = None) -> Sha:
        """The pull request is merged with this head; Refused (405, 409) where it cannot be, or its head is another."""
        # https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request
        fields = {"sha": sha, "merge_method": method} | ({"commit_message": message} if message else {})
        merged = await self._client.put(f"{self._path}/pulls/{number}/merge", data=fields)
        return Sha(merged["sha"])

    async def enable_auto_merge(self, standing: Standing, method: str) -> None:
        """GitHub merges the pull request once its rules are met; Refused where it does not do that."""
        await self._client.query(ENABLE_AUTO_MERGE, id=standing.id, head=standing.head_sha, method=method.upper())

    async def enqueue(self, standing: Standing) -> None:
        """The pull request is in the merge queue of its base; Refused where it may not be yet."""
        await self._client.query(ENQUEUE, id=standing.id, head=standing.head_sha)

    async def dequeue(self, standing: Standing) -> None:
        """The pull request is not in the merge queue any more."""
        await self._client.query(DEQUEUE, id=standing.id)

    async def disable_auto_merge(self, standing: Standing) -> None:
        """GitHub does not merge the pull request by itself."""
        await self._client.query(DISABLE_AUTO_MERGE, id=standing.id)

    async def approve(self, number: int, sha: Sha) -> None:
        """Our approval of the pull request at this commit; another one where there is one already."""
        # https://docs.github.com/en/rest/pulls/reviews#create-a-review-for-a-pull-request
        await self._post(f"/pulls/{number}/reviews", event="APPROVE", commit_id=sha)

    async def approved(self, number: int, sha: Sha) -> bool:
        """Whether our approval of this commit stands."""
        us = await self.login()
        reviews = await self._all(f"/pulls/{number}/reviews?per_page=100")
        ours = [one for one in reviews if _login(one["user"]) == us and one["commit_id"] == sha]
        return any(one["state"] == "APPROVED" for one in ours)

    async def comment(self, number: int, body: str) -> str:
        """One more comment, for who knows that there is none such yet; returns its page."""
        return str((await self._post(f"/issues/{number}/comments", body=_traced(body)))["html_url"])

    async def react(self, comment: int, content: str) -> None:
        """Our reaction is on a comment; one that was there before stays the only one."""
        # https://docs.github.com/en/rest/reactions/reactions#create-reaction-for-an-issue-comment
        await self._post(f"/issues/comments/{comment}/reactions", content=content)

    async def ensure_check_run(self, sha: Sha, report: CheckReport) -> str:
        """Our check run of this name says what the report says; returns its page. Forbidden where only an App may."""
        asked = f"/commits/{sha}/check-runs?check_name={quote(report.name, safe='')}&per_page=100"
        # Not paged: GitHub gives the newest of each App, and there are few Apps of one name.
        runs = (await self._get(asked))["check_runs"]
        known = next((run for run in runs if run["external_id"] == report.digest), None)
        done = known["output"]["annotations_count"] if known else 0
        if known is None:
            known = await self._post("/check-runs", head_sha=sha, **_check(report, 0))
            done = ANNOTATIONS
        for start in range(done, len(report.annotations), ANNOTATIONS):
            # They are added to those that the run has: https://docs.github.com/en/rest/checks/runs#update-a-check-run
            await self._patch(f"/check-runs/{known['id']}", **_check(report, start))
        return str(known["html_url"])

    async def ensure_comment(self, number: int, marker: str, *bodies: str, create: bool = True) -> str:
        """Our comments with this marker say `bodies`, in their order; returns the first one's page.

        What was there before is edited in place, or deleted where it is too much; comments that the original left
        are minimized. Without `create` nothing is said that was not said before: then "" is returned.
        """
        standing = []
        for comment in await self._comments(number):
            if comments.is_marked(comment.body, marker):
                standing.append(comment)
            elif comments.is_the_originals(comment.body) and not comment.minimized:
                await self._client.query(MINIMIZE, id=comment.node)
        if not standing and not create:
            return ""
        urls = [await self._ensure(number, one, body) for one, body in zip_longest(standing, bodies)]
        return urls[0]

    async def _ensure(self, number: int, comment: Comment | None, body: str | None) -> str:
        """A comment that stands, or does not, says this, or is gone."""
        if comment is None:
            return await self.comment(number, body or "")
        if body is None:
            with suppress(NotFound):  # as after an attempt that we did not hear of
                await self._client.delete(f"{self._path}/issues/comments/{comment.id}")
        elif not comments.says_the_same(comment.body, body):
            await self._patch(f"/issues/comments/{comment.id}", body=_traced(body))
        return comment.url

    async def _comments(self, number: int) -> list[Comment]:
        """Our comments on a pull request, the oldest first."""
        found = [
            Comment(
                id=one["databaseId"],
                node=one["id"],
                url=one["url"],
                body=one["body"],
                minimized=one["isMinimized"],
            )
            async for one in self._nodes(OUR_COMMENTS, "pullRequest.comments", number=number)
            # By its author too: people quote our comments.
            if await self._is_us(one["author"])
        ]
        return sorted(found, key=lambda one: one.id)

    async def set_status(
        self, sha: Sha, state: str, description: str, target_url: str | None = None, context: str = "telefonistka"
    ) -> None:
        """The commit's status: "pending", "success", "error" or "failure", cut to what GitHub takes."""
        if len(description) > DESCRIPTION:
            description = description[: DESCRIPTION - 1] + "…"
        link = {"target_url": target_url} if target_url else {}
        telemetry.commit_status(self.slug, state)
        await self._post(f"/statuses/{sha}", state=state, description=description, context=context, **link)

    async def _is_us(self, actor: Mapping[str, Any] | None) -> bool:
        # GraphQL leaves out the end of an App's login.
        return _login(actor) == (await self.login()).removesuffix("[bot]")

    # Trees

    async def _tree(self, oid: Oid, *, recursive: bool) -> Snapshot | None:
        """A tree's listing: its whole directories, or its own level. None where GitHub cut it off."""
        if oid == EMPTY_TREE:
            return Snapshot(oid, {"": {}})
        cache, key = self._client.trees, (self.slug, oid, recursive)
        if key not in cache:
            # https://docs.github.com/en/rest/git/trees#get-a-tree
            answer = await self._get(f"/git/trees/{oid}{'?recursive=1' if recursive else ''}", named=True)
            cache[key] = None if answer["truncated"] else _listing(oid, answer["tree"], recursive=recursive)
        return cache[key]

    async def _level(self, oid: Oid) -> Snapshot:
        level = await self._tree(oid, recursive=False)
        if level is None:
            raise Rejected(f"A directory of {self.slug} has more entries than GitHub lists (tree `{oid}`).")
        return level

    async def _full(self, oid: Oid) -> Mapping[str, Mapping[str, Entry]]:
        """Every directory of a tree, however large it is."""
        whole = await self._tree(oid, recursive=True)
        if whole is not None:
            return whole.directories
        directories = dict((await self._level(oid)).directories)
        for name, entry in list(directories[""].items()):
            if entry.is_tree:
                directories |= _below(name, await self._full(entry.oid))
        return directories

    async def _reach(self, snapshot: Snapshot, directories: dict[str, Mapping[str, Entry]], path: str) -> bool:
        """The directories that a path lies in are known; whether it names a directory itself."""
        for directory in trees.above(path):
            entry = snapshot.entry(directory)
            if entry is None or not entry.is_tree:
                return False
            if directory not in directories:
                directories[directory] = (await self._level(entry.oid)).directories[""]
        entry = snapshot.entry(path)
        return entry is not None and entry.is_tree

    async def _complete(self, snapshot: Snapshot, directories: dict[str, Mapping[str, Entry]], path: str) -> None:
        """A directory is known in full; what is known already is not read again."""
        entry = snapshot.entry(path)
        assert entry is not None
        if path not in directories:
            directories |= _below(path, await self._full(entry.oid))
            return
        for name, one in list(directories[path].items()):
            if one.is_tree:
                await self._complete(snapshot, directories, trees.join(path, name))

    async def _compared(self, base: Sha, head: Sha) -> set[str]:
        """The paths that differ between the merge base of two commits and the second."""
        merge_base = Sha((await self._compare(base, head))["merge_base_commit"]["sha"])
        if merge_base == head:
            raise Rejected(
                f"Which files {head[:12]} changes cannot be told: they are more than the {FILES_CAP} GitHub lists, "
                f"and {base[:12]} holds the commit already."
            )
        return await self._differing(merge_base, head)

    async def _differing(self, base: Sha, head: Sha) -> set[str]:
        """The paths that differ between two commits, told by their trees."""
        before = await self.snapshot(await self.commit_tree(base))
        after = await self.snapshot(await self.commit_tree(head))
        known = _by_id(before) | _by_id(after)
        return {path async for path in self._differences("", before.entry(""), after.entry(""), known)}

    async def _differences(
        self, path: str, before: Entry | None, after: Entry | None, known: Mapping[Oid, Mapping[str, Entry]]
    ) -> AsyncIterator[str]:
        """The paths of files that differ, read level by level where GitHub cut a listing off."""
        if before == after:
            return
        if any(entry is not None and not entry.is_tree for entry in (before, after)):
            yield path
        old, new = await self._names(before, known), await self._names(after, known)
        for name in old.keys() | new.keys():
            async for one in self._differences(trees.join(path, name), old.get(name), new.get(name), known):
                yield one

    async def _names(self, entry: Entry | None, known: Mapping[Oid, Mapping[str, Entry]]) -> Mapping[str, Entry]:
        if entry is None or not entry.is_tree:
            return {}
        return known[entry.oid] if entry.oid in known else (await self._level(entry.oid)).directories[""]

    # Blobs

    async def _blobs(self, oids: Sequence[Oid]) -> dict[Oid, bytes]:
        found = await self._objects(oids, "Content", BLOB)
        return {oid: await self._content(found[oid], oid) for oid in oids}

    async def _objects(self, oids: Sequence[Oid], fragment: str, declared: str) -> dict[Oid, Any]:
        """What a fragment asks of these objects, in one call."""
        for oid in oids:
            if not OBJECT_ID.fullmatch(oid):
                raise ValueError(f"not an object id: {oid!r}")
        asked = " ".join(f'b{i}: object(oid: "{oid}") {{ ...{fragment} }}' for i, oid in enumerate(oids))
        data = await self._query(BLOBS % asked + declared)
        return {oid: data[f"b{i}"] for i, oid in enumerate(oids)}

    async def _cut_content(self, oid: Oid) -> Content:
        """The content of a blob whose text GraphQL has cut off."""
        content = await self._content(None, oid)
        try:
            return Content(size=len(content), text=content.decode())
        except UnicodeDecodeError:
            return Content(size=len(content), text=None, binary=True)

    async def _seen(self, commit: Sha, paths: Mapping[str, Sequence[Sha]]) -> dict[str, Seen]:
        known = list(paths)
        others = [(path, sha) for path in known for sha in paths[path]]
        declared = [f"$p{i}: String!" for i in range(len(known))] + [f"$e{i}: String!" for i in range(len(others))]
        histories = " ".join(f"h{i}: {LAST % i}" for i in range(len(known)))
        objects = " ".join(f"e{i}: object(expression: $e{i}) {{ oid }}" for i in range(len(others)))
        variables: dict[str, Any] = {f"p{i}": path for i, path in enumerate(known)}
        variables |= {f"e{i}": f"{sha}:{path}" for i, (path, sha) in enumerate(others)}
        data = await self._query(SEEN % (", ".join(declared), histories, objects), commit=commit, **variables)
        if data["commit"] is None:
            raise TryAgain(f"GitHub does not find commit {commit[:12]} of {self.slug}")
        elsewhere: dict[str, dict[Sha, Oid | None]] = {path: {} for path in known}
        for i, (path, sha) in enumerate(others):
            elsewhere[path][sha] = Oid(data[f"e{i}"]["oid"]) if data[f"e{i}"] else None
        return {
            path: Seen(last=_last(data["commit"][f"h{i}"]["nodes"]), elsewhere=elsewhere[path])
            for i, path in enumerate(known)
        }

    async def _files(self, commit: Sha, paths: Sequence[str]) -> dict[str, bytes | None]:
        declared = ", ".join(f"$p{i}: String!" for i in range(len(paths)))
        asked = " ".join(f"p{i}: object(expression: $p{i}) {{ ...Content }}" for i in range(len(paths)))
        variables: dict[str, Any] = {f"p{i}": f"{commit}:{path}" for i, path in enumerate(paths)}
        data = await self._query(FILES % (declared, asked) + BLOB, commit=commit, **variables)
        if data["commit"] is None:  # then every path is null, and that would prove nothing
            raise TryAgain(f"GitHub does not find commit {commit[:12]} of {self.slug}")
        found: dict[str, bytes | None] = {}
        for i, path in enumerate(paths):
            blob = data[f"p{i}"]
            found[path] = await self._content(blob, Oid(blob["oid"])) if blob else None  # {}: not a file
        return found

    def _keep(self, blob: Mapping[str, Any] | None) -> None:
        """A blob that came along is not asked for again, where its text is exactly what git has."""
        if blob:
            oid = Oid(blob["oid"])
            content = _exact(blob, oid)
            if content is not None:
                self._kept[oid] = content

    async def _content(self, blob: Mapping[str, Any] | None, oid: Oid) -> bytes:
        """A blob's bytes: GraphQL's text where that is exactly what git has, else by REST."""
        content = _exact(blob, oid)
        if content is not None:
            return content
        try:
            answer = await self._get(f"/git/blobs/{oid}", named=True)
        except NotFound as error:
            raise TryAgain(f"GitHub does not find blob {oid} of {self.slug}, which a tree names") from error
        content = base64.b64decode(answer["content"])
        if _blob_id(content) != oid:
            raise TryAgain(f"GitHub's answer for blob {oid} of {self.slug} is not that blob")
        return content

    # Calls

    async def _get(self, path: str, *, named: bool = False) -> Any:
        return await self._client.get(f"{self._path}{path}", named=named)

    async def _all(self, path: str, *, named: bool = False) -> list[Any]:
        return [item async for item in self._client.pages(f"{self._path}{path}", named=named)]

    async def _nodes(self, document: str, field: str, **variables: Any) -> AsyncIterator[Any]:
        """The nodes of a connection, all its pages."""
        after = None
        while True:
            found: Any = await self._query(document, after=after, **variables)
            for name in field.split("."):
                found = found[name]
            for node in found["nodes"]:
                yield node
            if not found["pageInfo"]["hasNextPage"]:
                return
            after = found["pageInfo"]["endCursor"]

    async def _post(self, path: str, **fields: Any) -> Any:
        return await self._client.post(f"{self._path}{path}", data=fields)

    async def _patch(self, path: str, **fields: Any) -> Any:
        return await self._client.patch(f"{self._path}{path}", data=fields)

    async def _compare(self, base: str, head: Sha) -> Any:
        # https://docs.github.com/en/rest/commits/commits#compare-two-commits
        return await self._get(f"/compare/{base}...{head}?per_page=1", named=True)

    async def _query(self, document: str, *, named: bool = True, **variables: Any) -> dict[str, Any]:
        data = await self._client.query(document, named=named, owner=self.owner, name=self.name, **variables)
        repository = data["repository"]
        if repository is None:
            raise NotFound(f"repository {self.slug}", 404)
        return dict(repository)


def _traced(comment: str) -> str:
    """The comment with the trace that writes it, for whoever wants to know how it came to be."""
    return comments.traced(comment, telemetry.trace_id())


def _listing(root: Oid, rows: Sequence[Mapping[str, Any]], *, recursive: bool) -> Snapshot:
    entries = ((row["path"], Entry(row["mode"], Oid(row["sha"]))) for row in rows)
    return trees.index(root, entries) if recursive else Snapshot(root, {"": dict(entries)})


def _by_id(snapshot: Snapshot) -> dict[Oid, Mapping[str, Entry]]:
    entries = ((snapshot.entry(path), names) for path, names in snapshot.directories.items())
    return {entry.oid: names for entry, names in entries if entry is not None}


def _below(path: str, directories: Mapping[str, Mapping[str, Entry]]) -> dict[str, Mapping[str, Entry]]:
    return {trees.join(path, one) if one else path: names for one, names in directories.items()}


def _row(edit: Edit) -> dict[str, str | None]:
    """An edit as GitHub takes it; an entry without an id removes the path, whatever mode it names."""
    if edit.entry is None:
        return {"path": edit.path, "mode": "100644", "type": "blob", "sha": None}
    kind = {TREE: "tree", SUBMODULE: "commit"}.get(edit.entry.mode, "blob")
    return {"path": edit.path, "mode": edit.entry.mode, "type": kind, "sha": edit.entry.oid}


def _exact(blob: Mapping[str, Any] | None, oid: Oid) -> bytes | None:
    """GraphQL's text of a blob as bytes, None where it is cut, no text, or not what git has."""
    if not blob or blob["text"] is None or blob["isTruncated"]:
        return None
    content = str(blob["text"]).encode(errors="surrogatepass")
    return content if _blob_id(content) == oid else None


def _blob_id(content: bytes) -> Oid:
    # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    return Oid(hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest())


def _content(blob: Mapping[str, Any], oid: Oid) -> Content:
    """A blob as GraphQL shows it; what is not exactly its text is no text."""
    size, text = blob["byteSize"], blob["text"]
    whole = text is not None and not blob["isTruncated"] and size <= drift.LARGE
    exact = whole and _blob_id(str(text).encode(errors="surrogatepass")) == oid
    return Content(size=size, text=str(text) if exact else None, binary=bool(blob["isBinary"]) or (whole and not exact))


def _last(nodes: Sequence[Mapping[str, Any]]) -> LastCommit | None:
    for one in nodes:
        author = one["author"] or {}
        name = _login(author.get("user")) or author.get("name") or "an unknown author"
        return LastCommit(sha=Sha(one["oid"]), author=name, date=one["committedDate"])
    return None


def _check(report: CheckReport, start: int) -> dict[str, Any]:
    """One request's part of a report: its words, and fifty annotations."""
    remarks = report.annotations[start : start + ANNOTATIONS]
    output = {"title": report.title, "summary": report.summary, "annotations": [_annotation(one) for one in remarks]}
    return {
        "name": report.name,
        "external_id": report.digest,
        "status": "completed",
        "conclusion": report.conclusion,
        "output": output,
    }


def _before(merge: Mapping[str, Any] | None, commits: int) -> tuple[Sha, ...]:
    """The first parent of a merge, and what came before as many commits as the pull request has.

    A rebase leaves all of those on the branch, a squash one, and nothing tells them apart.
    """
    if merge is None:
        return ()
    parents = [Sha(one["oid"]) for one in merge["parents"]["nodes"]]
    line = [Sha(one["oid"]) for one in merge["history"]["nodes"]]
    if merge["parents"]["totalCount"] == 1 and commits > 1:
        parents.append(line[min(commits, len(line) - 1)])
    return tuple(parents)


def _annotation(remark: Annotation) -> dict[str, Any]:
    return {
        "path": remark.path,
        "start_line": remark.line,
        "end_line": remark.line,
        "start_column": remark.column,
        "end_column": remark.column,
        "annotation_level": remark.level,
        "message": remark.message,
    }


def _login(account: Mapping[str, Any] | None) -> str | None:
    return str(account["login"]) if account else None


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _merge(node: Mapping[str, Any]) -> Merge:
    author = node["author"]
    login = "ghost" if author is None else author["login"]
    return Merge(
        number=node["number"],
        at=_time(node["mergedAt"]),
        title=node["title"],
        body=node["body"],
        # GraphQL leaves out the ending that webhooks and REST give the account of an App.
        author=f"{login}[bot]" if author and author["__typename"] == "Bot" else login,
        base_ref=node["baseRefName"],
        base_sha=Sha(node["baseRefOid"]),
        head_ref=node["headRefName"],
        head_sha=Sha(node["headRefOid"]),
        merge_sha=Sha(node["mergeCommit"]["oid"]) if node["mergeCommit"] else None,
    )


def _pull(answer: Mapping[str, Any]) -> Pull:
    return Pull(
        number=answer["number"],
        url=answer["html_url"],
        title=answer["title"],
        body=answer["body"] or "",
        state=answer["state"],
        merged=answer["merged_at"] is not None,  # `merged` is not in lists
        head_ref=answer["head"]["ref"],
        head_sha=Sha(answer["head"]["sha"]),
        base_ref=answer["base"]["ref"],
        base_sha=Sha(answer["base"]["sha"]),
        author=_login(answer["user"]),
        labels=tuple(sorted(label["name"] for label in answer["labels"])),
        assignees=tuple(sorted(one["login"] for one in answer["assignees"])),
    )
