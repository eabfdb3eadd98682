"""One repository at GitHub: what we ask of it and do to it, in core values.

What belongs here: which request says what, and reading its answer whole. A listing is complete or the call raises;
absent is a value only where GitHub proved it. Acts may be repeated: what stands already is found, not made twice.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from telefonistka import telemetry
from telefonistka.core import trees
from telefonistka.core.trees import EMPTY_TREE, SUBMODULE, TREE, Edit, Entry, Oid, Sha, Snapshot
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import NotFound, Refused
from telefonistka.github.client import Client

FILES_CAP = 3_000  # https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files
BLOBS_PER_QUERY = 100
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
      mergeCommit { oid }
      labels(first: 100) { nodes { name } pageInfo { hasNextPage } }
    }
  }
}
"""

BLOB = "fragment Content on Blob { oid text isTruncated }"

BLOBS = """
query Blobs($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) { %s }
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedPull:
    """A pull request as it is now, and the default branch at the same moment."""

    number: int
    state: str  # "open" or "closed"
    merged: bool
    base_ref: str
    merge_sha: Sha | None  # None also while GitHub has not said it yet
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

    @property
    def slug(self) -> str:
        return f"{self.owner}/{self.name}"

    async def login(self) -> str:
        """Who we are here, as authors of comments and commits."""
        return await self._client.login()

    # Reading

    async def merged_pull(self, number: int) -> MergedPull:
        """A pull request with its labels as of now and the default branch's head, in one call."""
        data = await self._query(MERGED_PULL, number=number)
        pull, default = data["pullRequest"], data["defaultBranchRef"]
        if pull is None:
            raise NotFound(f"pull request {number} of {self.slug}", 404)
        if default is None:
            raise TryAgain(f"{self.slug} has no default branch")
        labels = [node["name"] for node in pull["labels"]["nodes"]]
        if pull["labels"]["pageInfo"]["hasNextPage"]:
            labels = [one["name"] for one in await self._all(f"/issues/{number}/labels?per_page=100")]
        return MergedPull(
            number=number,
            state="open" if pull["state"] == "OPEN" else "closed",
            merged=pull["merged"],
            base_ref=pull["baseRefName"],
            merge_sha=Sha(pull["mergeCommit"]["oid"]) if pull["mergeCommit"] else None,
            labels=tuple(sorted(labels)),
            default_branch=default["name"],
            head=Head(Sha(default["target"]["oid"]), Oid(default["target"]["tree"]["oid"])),
        )

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
        wanted = sorted(set(oids))
        found: dict[Oid, bytes] = {}
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

    async def branch(self, name: str) -> Sha | None:
        """Where a branch points to, None where there is no such branch."""
        try:
            return Sha((await self._get(f"/git/ref/heads/{quote(name)}"))["object"]["sha"])
        except NotFound:
            return None

    async def pulls(self, head: str) -> tuple[Pull, ...]:
        """The pull requests from a branch of this repository, open or not, the newest first."""
        asked = f"/pulls?head={quote(f'{self.owner}:{head}', safe='')}&state=all&per_page=100"
        found = [_pull(one) for one in await self._all(asked)]
        # GitHub leaves out a filter that it does not understand.
        return tuple(pull for pull in found if pull.head_ref == head)

    # Acting: git

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

    async def ensure_comment(self, number: int, marker: str, body: str) -> str:
        """Our comment with this marker says `body`; returns its page. There is one such, whatever was before."""
        us = await self.login()
        for comment in await self._all(f"/issues/{number}/comments?per_page=100"):
            # By its author too: people quote our comments.
            if marker in (comment["body"] or "") and _login(comment["user"]) == us:
                if comment["body"] != body:
                    comment = await self._patch(f"/issues/comments/{comment['id']}", body=body)
                return str(comment["html_url"])
        return str((await self._post(f"/issues/{number}/comments", body=body))["html_url"])

    async def set_status(
        self, sha: Sha, state: str, description: str, target_url: str | None = None, context: str = "telefonistka"
    ) -> None:
        """The commit's status: "pending", "success", "error" or "failure", cut to what GitHub takes."""
        if len(description) > DESCRIPTION:
            description = description[: DESCRIPTION - 1] + "…"
        link = {"target_url": target_url} if target_url else {}
        telemetry.commit_status(self.slug, state)
        await self._post(f"/statuses/{sha}", state=state, description=description, context=context, **link)

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
        before = await self.snapshot(await self.commit_tree(merge_base))
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
        for oid in oids:
            if not OBJECT_ID.fullmatch(oid):
                raise ValueError(f"not an object id: {oid!r}")
        asked = " ".join(f'b{i}: object(oid: "{oid}") {{ ...Content }}' for i, oid in enumerate(oids))
        data = await self._query(BLOBS % asked + BLOB)
        return {oid: await self._content(data[f"b{i}"], oid) for i, oid in enumerate(oids)}

    async def _files(self, commit: Sha, paths: Sequence[str]) -> dict[str, bytes | None]:
        declared = ", ".join(f"$p{i}: String!" for i in range(len(paths)))
        asked = " ".join(f"p{i}: object(expression: $p{i}) {{ ...Content }}" for i in range(len(paths)))
        variables = {f"p{i}": f"{commit}:{path}" for i, path in enumerate(paths)}
        data = await self._query(FILES % (declared, asked) + BLOB, commit=commit, **variables)
        if data["commit"] is None:  # then every path is null, and that would prove nothing
            raise TryAgain(f"GitHub does not find commit {commit[:12]} of {self.slug}")
        found: dict[str, bytes | None] = {}
        for i, path in enumerate(paths):
            blob = data[f"p{i}"]
            found[path] = await self._content(blob, Oid(blob["oid"])) if blob else None  # {}: not a file
        return found

    async def _content(self, blob: Mapping[str, Any] | None, oid: Oid) -> bytes:
        """A blob's bytes: GraphQL's text where that is exactly what git has, else by REST."""
        if blob and blob["text"] is not None and not blob["isTruncated"]:
            content = str(blob["text"]).encode(errors="surrogatepass")
            if _blob_id(content) == oid:
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

    async def _post(self, path: str, **fields: Any) -> Any:
        return await self._client.post(f"{self._path}{path}", data=fields)

    async def _patch(self, path: str, **fields: Any) -> Any:
        return await self._client.patch(f"{self._path}{path}", data=fields)

    async def _compare(self, base: Sha, head: Sha) -> Any:
        # https://docs.github.com/en/rest/commits/commits#compare-two-commits
        return await self._get(f"/compare/{base}...{head}?per_page=1", named=True)

    async def _query(self, document: str, **variables: Any) -> dict[str, Any]:
        data = await self._client.query(document, named=True, owner=self.owner, name=self.name, **variables)
        repository = data["repository"]
        if repository is None:
            raise NotFound(f"repository {self.slug}", 404)
        return dict(repository)


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


def _blob_id(content: bytes) -> Oid:
    # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    return Oid(hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest())


def _login(account: Mapping[str, Any] | None) -> str | None:
    return str(account["login"]) if account else None


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
        author=_login(answer["user"]),
        labels=tuple(sorted(label["name"] for label in answer["labels"])),
        assignees=tuple(sorted(one["login"] for one in answer["assignees"])),
    )
