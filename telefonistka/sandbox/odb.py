"""Git objects of one bare repository: read, written, and kept in memory once read, because they never change.

Reading and writing is synchronous on purpose: it takes microseconds, and what is one step for GitHub stays one step
here. Names that are no UTF-8 travel as surrogate escapes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TREE = "040000"
FILE = "100644"
SUBMODULE = "160000"
KINDS = {"100644": "blob", "100755": "blob", "120000": "blob", TREE: "tree", SUBMODULE: "commit"}
CACHED_BLOB = 1_000_000  # bytes; larger blobs are read from disk each time
OBJECT_ID = re.compile(r"[0-9a-f]{40}")

GIT = shutil.which("git") or "git"

# Nobody's git configuration but the sandbox's own.
ENVIRONMENT = {
    "PATH": os.pathsep.join(dict.fromkeys([str(Path(GIT).parent), *os.defpath.split(os.pathsep)])),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "GitHub",
    "GIT_AUTHOR_EMAIL": "noreply@github.com",
    "GIT_COMMITTER_NAME": "GitHub",
    "GIT_COMMITTER_EMAIL": "noreply@github.com",
    "LC_ALL": "C.UTF-8",
}


class Missing(LookupError):  # noqa: N818 - what it says of an object or a ref
    """There is no such object, or it is of another kind."""


class Entry(NamedTuple):
    """What a directory says of one name."""

    mode: str
    oid: str

    @property
    def kind(self) -> str:
        return KINDS.get(self.mode, "blob")


class Person(NamedTuple):
    """An author or committer: `date` is git's own, as in "1700000000 +0100"."""

    name: str
    email: str
    date: str


@dataclass(frozen=True, slots=True)
class Commit:
    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str
    signature: str | None = None


class Objects:
    """The object database below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[str, bytes]] = {}
        self._sizes: dict[str, int] = {}
        self._trees: dict[str, dict[str, Entry]] = {}
        self._commits: dict[str, Commit] = {}
        self._batch: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        if self._batch is None:
            return
        self._batch.communicate()
        self._batch = None

    # Any kind

    def find(self, oid: str) -> tuple[str, bytes] | None:
        """Kind and content of the object with this full id."""
        known = self._known.get(oid)
        if known is not None:
            return known
        if not OBJECT_ID.fullmatch(oid):
            return None
        found = self._loose(oid) or self._packed(oid)
        if found is not None:
            self._sizes[oid] = len(found[1])
        if found is not None and len(found[1]) <= CACHED_BLOB:
            self._known[oid] = found
        return found

    def read(self, kind: str, oid: str) -> bytes:
        found = self.find(oid)
        if found is None or found[0] != kind:
            raise Missing(f"no {kind} {oid}")
        return found[1]

    def is_a(self, kind: str, oid: str) -> bool:
        found = self.find(oid)
        return found is not None and found[0] == kind

    def sizes(self, oids: Iterable[str]) -> dict[str, int]:
        """The length of each of these objects that exists."""
        wanted = set(oids)
        missing = [oid for oid in wanted if oid not in self._sizes]
        if missing:
            command = [GIT, "-C", str(self.path), "cat-file", "--batch-check=%(objectname) %(objectsize)"]
            question = "\n".join(missing).encode()
            done = subprocess.run(command, input=question, env=ENVIRONMENT, check=True, capture_output=True)
            lines = (line.split() for line in done.stdout.decode().splitlines())
            self._sizes.update({oid: int(size) for oid, size in lines if size.isdecimal()})
        return {oid: self._sizes[oid] for oid in wanted if oid in self._sizes}

    def write(self, kind: str, content: bytes) -> str:
        """The id of this object, which is stored now if it was not yet."""
        raw = f"{kind} {len(content)}\0".encode() + content
        oid = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        file = self._file(oid)
        if oid not in self._known and not file.exists():
            file.parent.mkdir(exist_ok=True)
            part = file.with_name(f"tmp_{oid}")
            part.write_bytes(zlib.compress(raw, 1))
            part.rename(file)
        self._sizes[oid] = len(content)
        if len(content) <= CACHED_BLOB:
            self._known[oid] = (kind, content)
        return oid

    def _file(self, oid: str) -> Path:
        return self.path / "objects" / oid[:2] / oid[2:]

    def _loose(self, oid: str) -> tuple[str, bytes] | None:
        try:
            raw = zlib.decompress(self._file(oid).read_bytes())
        except FileNotFoundError:
            return None
        header, _, content = raw.partition(b"\0")
        return header.split(b" ")[0].decode(), content

    def _packed(self, oid: str) -> tuple[str, bytes] | None:
        """The object as git finds it in the packs; one process of git serves all such questions."""
        if not any((self.path / "objects" / "pack").glob("*.idx")):
            return None
        if self._batch is None:
            self._batch = subprocess.Popen(
                [GIT, "-C", str(self.path), "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=ENVIRONMENT,
            )
        assert self._batch.stdin is not None
        assert self._batch.stdout is not None
        self._batch.stdin.write(f"{oid}\n".encode())
        self._batch.stdin.flush()
        header = self._batch.stdout.readline().split()
        if len(header) != 3:  # "<id> missing"
            return None
        content = self._batch.stdout.read(int(header[2]) + 1)[:-1]
        return header[1].decode(), content

    # Trees

    def tree(self, oid: str) -> dict[str, Entry]:
        """The directory's entries by name, in git's order; not to be changed."""
        known = self._trees.get(oid)
        if known is None:
            known = self._trees[oid] = parse_tree(self.read("tree", oid))
        return known

    def write_tree(self, entries: Mapping[str, Entry]) -> str:
        return self.write("tree", render_tree(entries))

    def lookup(self, root: str, path: str) -> Entry | None:
        """What lies at this path below the tree `root`; the root itself for an empty path."""
        entry = Entry(TREE, root)
        for name in filter(None, path.split("/")):
            if entry.mode != TREE:
                return None
            found = self.tree(entry.oid).get(name)
            if found is None:
                return None
            entry = found
        return entry

    # Commits

    def commit(self, sha: str) -> Commit:
        known = self._commits.get(sha)
        if known is None:
            known = self._commits[sha] = parse_commit(sha, self.read("commit", sha))
        return known

    def write_commit(
        self, *, tree: str, parents: Iterable[str], author: Person, committer: Person, message: str
    ) -> Commit:
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {signed(author)}", f"committer {signed(committer)}", "", message]
        return self.commit(self.write("commit", "\n".join(lines).encode(errors="surrogateescape")))


def signed(person: Person) -> str:
    name = re.sub(r"[<>\n]", "", person.name).strip() or "nobody"
    return f"{name} <{re.sub(r'[<> ]', '', person.email)}> {person.date}"


def parse_tree(content: bytes) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    at = 0
    while at < len(content):
        space = content.index(b" ", at)
        end = content.index(b"\0", space)
        mode = content[at:space].decode().zfill(6)
        name = content[space + 1 : end].decode(errors="surrogateescape")
        entries[name] = Entry(mode, content[end + 1 : end + 21].hex())
        at = end + 21
    return entries


def render_tree(entries: Mapping[str, Entry]) -> bytes:
    """Git sorts directories as if their names ended in a slash."""
    raw = [(name.encode(errors="surrogateescape"), entry) for name, entry in entries.items()]
    raw.sort(key=lambda one: one[0] + b"/" if one[1].mode == TREE else one[0])
    return b"".join(
        entry.mode.lstrip("0").encode() + b" " + name + b"\0" + bytes.fromhex(entry.oid) for name, entry in raw
    )


def parse_commit(sha: str, content: bytes) -> Commit:
    head, _, message = content.decode(errors="surrogateescape").partition("\n\n")
    tree, parents, people, signature = "", [], {}, None
    for line in re.split(r"\n(?! )", head):  # a signature's further lines start with a space
        key, _, value = line.partition(" ")
        match key:
            case "tree":
                tree = value
            case "parent":
                parents.append(value)
            case "author" | "committer":
                people[key] = parse_person(value)
            case "gpgsig":
                signature = value.replace("\n ", "\n")
    return Commit(sha, tree, tuple(parents), people["author"], people["committer"], message, signature)


def parse_person(text: str) -> Person:
    found = re.fullmatch(r"(.*?) ?<(.*)> (-?\d+ [+-]\d{4})", text, re.DOTALL)
    if found is None:
        return Person(text, "", "0 +0000")
    return Person(*found.groups())
