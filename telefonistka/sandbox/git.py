"""One bare repository: its refs, and what only git itself should answer (merging, comparing, listing history).

Objects come from odb.py. Ref updates follow git's own lock files, so that a push over HTTP and an API call at the
same moment cannot both win.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from telefonistka.sandbox.odb import ENVIRONMENT, GIT, OBJECT_ID, Commit, Missing, Objects, Person

# What git refuses in a ref's name: https://git-scm.com/docs/git-check-ref-format
BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|\.$|/$|^/|^\.|^-|^@$")
PART_LIMIT = 250  # bytes
WALK = 200  # commits looked at here before git itself is asked


class Conflict(Exception):  # noqa: N818
    """The two sides cannot be merged without a person."""


class Locked(Exception):  # noqa: N818
    """Another update of the same ref is under way, or a ref's name is in the way of this one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file that differs between two trees."""

    status: str  # added, removed, modified, renamed, copied, changed
    path: str
    previous: str | None
    oid: str  # of the new file; of the old one if it was removed
    additions: int
    deletions: int


class Git(Objects):
    """The repository at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._bases: dict[tuple[str, str], str | None] = {}
        self._merges: dict[tuple[str, str], str | None] = {}
        self._changes: dict[tuple[str, str], tuple[Change, ...]] = {}

    @classmethod
    def init(cls, path: Path, *, default_branch: str) -> Git:
        path.parent.mkdir(parents=True, exist_ok=True)
        run = [GIT, "init", "--quiet", "--bare", "--template=", f"--initial-branch={default_branch}", str(path)]
        subprocess.run(run, env=ENVIRONMENT, check=True, capture_output=True)
        git = cls(path)
        git.configure()
        return git

    @classmethod
    def clone(cls, origin: Path, path: Path) -> Git:
        """A bare copy with branches and tags; the original is only read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        run = [GIT, "clone", "--quiet", "--bare", "--no-hardlinks", "--template=", str(origin), str(path)]
        subprocess.run(run, env=ENVIRONMENT | {"GIT_CONFIG_COUNT": "1"} | TRUSTED, check=True, capture_output=True)
        git = cls(path)
        git.run("remote", "remove", "origin")
        git.configure()
        return git

    def configure(self) -> None:
        for key, value in SETTINGS.items():
            self.run("config", key, value)

    # Refs

    def ref(self, name: str) -> str | None:
        """The commit (or tag object) that this full ref name points to."""
        if BAD_REF.search(name) or too_long(name):
            return None
        try:
            return (self.path / name).read_text().strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            return self._packed_refs().get(name)

    def branch(self, name: str) -> str | None:
        return self.ref(f"refs/heads/{name}") if name else None

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """All refs whose full name starts with this, by name."""
        listed = self.run("for-each-ref", "--format=%(objectname) %(refname)")
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name: oid for oid, name in pairs if name.startswith(prefix)}

    def branches(self) -> dict[str, str]:
        return {name.removeprefix("refs/heads/"): sha for name, sha in self.refs("refs/heads/").items()}

    def head(self) -> str | None:
        """The branch that HEAD names."""
        text = (self.path / "HEAD").read_text().strip()
        return text.removeprefix("ref: refs/heads/") if text.startswith("ref: refs/heads/") else None

    def set_ref(self, name: str, oid: str, *, expected: str | None) -> None:
        """The ref points to `oid` now. Raises Locked unless it pointed to `expected` (None: there was none)."""
        file = self.path / name
        lock = file.with_name(file.name + ".lock")
        if expected is None and self._in_the_way(name):
            raise Locked(name)
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock.open("x") as opened:
                opened.write(oid + "\n")
        except (FileExistsError, NotADirectoryError) as error:
            raise Locked(name) from error
        if self.ref(name) != expected:
            lock.unlink()
            raise Locked(name)
        if file.is_dir():  # empty: what is left of a deleted branch below this name
            remove_empty(file)
        lock.rename(file)

    def delete_ref(self, name: str) -> None:
        self.run("update-ref", "-d", name)

    def resolve(self, text: str, default_branch: str) -> str:
        """The commit that a branch, tag, full ref or commit id names. Raises Missing."""
        name = text or default_branch
        candidates = [name] if name.startswith("refs/") else [f"refs/{name}", f"refs/heads/{name}", f"refs/tags/{name}"]
        if name == "HEAD":
            candidates = [f"refs/heads/{default_branch}"]
        for candidate in candidates:
            oid = self.ref(candidate)
            if oid is not None:
                return self.peel(oid)
        if OBJECT_ID.fullmatch(name) and self.find(name) is not None:
            return self.peel(name)
        if re.fullmatch(r"[0-9a-f]{4,39}", name):
            return self._abbreviated(name)
        raise Missing(f"no commit {text}")

    def peel(self, oid: str) -> str:
        """The commit behind an annotated tag, or the id itself if it is a commit."""
        found = self.find(oid)
        if found is not None and found[0] == "tag":
            return self.peel(found[1].split(b"\n", 1)[0].split()[1].decode())
        if found is None or found[0] != "commit":
            raise Missing(f"no commit {oid}")
        return oid

    def _abbreviated(self, text: str) -> str:
        try:
            return self.run("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}").strip()
        except subprocess.CalledProcessError as error:
            raise Missing(f"no commit {text}") from error

    def _packed_refs(self) -> dict[str, str]:
        try:
            text = (self.path / "packed-refs").read_text()
        except FileNotFoundError:
            return {}
        lines = (line.split(" ", 1) for line in text.splitlines() if line[0] not in "#^")
        return {name: oid for oid, name in lines}

    def _in_the_way(self, name: str) -> bool:
        parts = name.split("/")
        above = any(self.ref("/".join(parts[:n])) is not None for n in range(3, len(parts)))
        return above or bool(self.refs(name + "/") if (self.path / name).is_dir() else None)

    # History

    def walk(self, *starts: str) -> Iterator[Commit]:
        """Commits reachable from these, nearer ones first, each once."""
        seen: set[str] = set()
        queue = list(starts)
        for sha in queue:
            if sha not in seen:
                seen.add(sha)
                commit = self.commit(sha)
                yield commit
                queue.extend(commit.parents)

    def first_parents(self, sha: str, limit: int = WALK) -> list[str]:
        """The commit and those before it in a straight line, newest first."""
        line = [sha]
        while len(line) < limit and (parents := self.commit(line[-1]).parents):
            line.append(parents[0])
        return line

    async def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor, None for unrelated histories."""
        if one in self.first_parents(other):
            return one
        if (one, other) not in self._bases:
            found = await self.arun("merge-base", one, other, check=False)
            self._bases[one, other] = found.strip() or None
        return self._bases[one, other]

    async def contains(self, head: str, commit: str) -> bool:
        """Whether `commit` is `head` or one of its ancestors."""
        return await self.merge_base(commit, head) == commit

    async def between(self, base: str, head: str, *, limit: int | None = None) -> list[Commit]:
        """The commits of head that base does not have, oldest first."""
        line = self.first_parents(head, 20)
        if base in line and all(len(self.commit(sha).parents) == 1 for sha in line[: line.index(base)]):
            return [self.commit(sha) for sha in reversed(line[: line.index(base)])][:limit]
        listed = await self.arun("rev-list", "--topo-order", "--reverse", f"^{base}", head)
        return [self.commit(sha) for sha in listed.split()[:limit]]

    async def changes(self, old: str, new: str) -> tuple[Change, ...]:
        """What differs between two commits' trees, with renames as git finds them."""
        key = (self.commit(old).tree, self.commit(new).tree)
        if key not in self._changes:
            form = ("diff-tree", "-r", "-z", "--find-renames", "--raw", "--numstat", "--abbrev=40", "-l1000")
            self._changes[key] = parse_changes(await self.araw(*form, *key))
        return self._changes[key]

    async def patch(self, old: str, new: str) -> str:
        """The unified diff between two commits, as people read it."""
        raw = await self.araw("diff-tree", "-r", "-p", "--find-renames", self.commit(old).tree, self.commit(new).tree)
        return raw.decode(errors="replace")

    # Merging

    async def merged_tree(self, base: str, head: str) -> str:
        """The tree of the two commits merged; raises Conflict. https://git-scm.com/docs/git-merge-tree"""
        if (base, head) not in self._merges:
            self._merges[base, head] = await self._merge(base, head)
        tree = self._merges[base, head]
        if tree is None:
            raise Conflict
        return tree

    async def _merge(self, base: str, head: str) -> str | None:
        common = await self.merge_base(base, head)
        if common == base:
            return self.commit(head).tree
        if common is None:
            return None
        try:
            written = await self.arun("merge-tree", "--write-tree", "--name-only", base, head)
        except subprocess.CalledProcessError as error:
            if error.returncode == 1:
                return None
            raise
        return written.split()[0]

    async def rebased(self, base: str, head: str, committer: Person) -> str:
        """The last of head's commits, each replayed onto base; raises Conflict."""
        onto = self.commit(base)
        for commit in await self.between(base, head):
            if len(commit.parents) != 1:  # merges are left out, as git rebase does
                continue
            # merge-tree looks for a merge base: it is given a stand-in for `onto` that grew from the commit's parent.
            stand_in = self.write_commit(
                tree=onto.tree, parents=commit.parents, author=committer, committer=committer, message="stand-in"
            )
            tree = await self.merged_tree(stand_in.sha, commit.sha)
            onto = self.write_commit(
                tree=tree, parents=[onto.sha], author=commit.author, committer=committer, message=commit.message
            )
        return onto.sha

    # Git itself

    def run(self, *arguments: str) -> str:
        done = subprocess.run(self._command(arguments), env=ENVIRONMENT, check=True, capture_output=True)
        return done.stdout.decode(errors="surrogateescape")

    async def arun(self, *arguments: str, check: bool = True) -> str:
        return (await self.araw(*arguments, check=check)).decode(errors="surrogateescape")

    async def araw(self, *arguments: str, check: bool = True) -> bytes:
        done = await anyio.run_process(self._command(arguments), env=ENVIRONMENT, check=check)
        return done.stdout

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [GIT, "-C", str(self.path), *arguments]


SETTINGS = {
    "http.receivepack": "true",
    "receive.denyDeleteCurrent": "refuse",
    "receive.autogc": "false",
    "gc.auto": "0",
    "core.logAllRefUpdates": "false",
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
    "merge.renames": "true",
}
TRUSTED = {"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}  # the user named the path themselves

STATUSES = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


def valid_ref(name: str) -> bool:
    return BAD_REF.search(name) is None and name.count("/") >= 2 and not too_long(name)


def too_long(name: str) -> bool:
    """Each part of a ref is a file's name, beside it the one of its lock."""
    return any(len(part.encode(errors="surrogateescape")) > PART_LIMIT for part in name.split("/"))


def parse_changes(output: bytes) -> tuple[Change, ...]:
    """`diff-tree -z --raw --numstat`: first all raw records, then the line counts in the same order."""
    parts = output.decode(errors="surrogateescape").split("\0")
    raw, at = [], 0
    while parts[at].startswith(":"):
        _, _, old, new, status = parts[at].split(" ")
        renamed = status[0] in "RC"
        previous = parts[at + 1] if renamed else None
        path = parts[at + 2] if renamed else parts[at + 1]
        raw.append((STATUSES[status[0]], path, previous, old if status[0] == "D" else new))
        at += 3 if renamed else 2
    changes = []
    for status, path, previous, oid in raw:
        added, deleted, rest = parts[at].split("\t", 2)
        at += 3 if rest == "" else 1
        changes.append(Change(status, path, previous, oid, count(added), count(deleted)))
    return tuple(sorted(changes, key=lambda change: change.path))


def count(text: str) -> int:
    return 0 if text == "-" else int(text)  # "-": binary


def remove_empty(directory: Path) -> None:
    for inner in directory.iterdir():
        remove_empty(inner)
    os.rmdir(directory)
