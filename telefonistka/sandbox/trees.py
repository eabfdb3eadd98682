"""Listing trees, and making a new one from an old one and a list of entries, as `POST git/trees` does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from telefonistka.sandbox.git import Git
from telefonistka.sandbox.odb import TREE, Entry
from telefonistka.sandbox.state import Switches

BAD_NAME = re.compile(r"|\.|\.\.|\.git|.*[\x00/].*", re.IGNORECASE | re.DOTALL)


class Malformed(ValueError):  # noqa: N818
    """The entry cannot be carried out; the text says which of GitHub's refusals it is."""


@dataclass(frozen=True, slots=True)
class Put:
    """One entry of the request: what the path becomes, or None where it goes away."""

    path: str
    entry: Entry | None


@dataclass(slots=True)
class Directory:
    """A directory under change: what is not loaded yet is read when it is touched."""

    entries: dict[str, Entry]
    opened: dict[str, Directory] = field(default_factory=dict)


def listing(git: Git, root: str, *, recursive: bool) -> Iterator[tuple[str, Entry]]:
    """Paths and entries below the tree; a directory comes before what is in it."""
    stack = [("", iter(git.tree(root).items()))]
    while stack:
        prefix, entries = stack[-1]
        for name, entry in entries:
            yield prefix + name, entry
            if recursive and entry.mode == TREE:
                stack.append((f"{prefix}{name}/", iter(git.tree(entry.oid).items())))
                break
        else:
            stack.pop()


def limited(entries: Iterator[tuple[str, Entry]], *, count: int, size: int) -> tuple[Sequence[tuple[str, Entry]], bool]:
    """The first so many entries and bytes of a listing, and whether that leaves some out."""
    kept: list[tuple[str, Entry]] = []
    used = 0
    for path, entry in entries:
        used += len(path) + 60
        if len(kept) >= count or used > size:
            return kept, True
        kept.append((path, entry))
    return kept, False


def create(git: Git, base: str | None, puts: Sequence[Put], switches: Switches) -> str:
    """The id of the tree that the entries make of `base`. The last entry of a path counts. Raises Malformed."""
    root = Directory(dict(git.tree(base)) if base is not None else {})
    for put in {put.path: put for put in puts}.values():
        check_path(put.path)
        if put.entry is None:
            remove(git, root, put.path, ignore_absent=switches.delete_absent == "ignore" or base is None)
        else:
            place(git, root, put.path, put.entry, merge=switches.directory_entry == "merge")
    return write(git, root)


def check_path(path: str) -> None:
    if any(BAD_NAME.fullmatch(part) for part in path.split("/")):
        raise Malformed("tree.path contains a malformed path component")


def place(git: Git, root: Directory, path: str, entry: Entry, *, merge: bool) -> None:
    parent, name = descend(git, root, path, make=True)
    assert parent is not None
    existing = resolved(git, parent, name)
    if merge and entry.mode == TREE and existing is not None and existing.mode == TREE:
        entry = Entry(TREE, union(git, existing.oid, entry.oid))
    parent.entries[name] = entry
    parent.opened.pop(name, None)


def remove(git: Git, root: Directory, path: str, *, ignore_absent: bool) -> None:
    parent, name = descend(git, root, path, make=False)
    if parent is None or name not in parent.entries:
        if ignore_absent:
            return
        raise Malformed("GitRPC::BadObjectState")
    del parent.entries[name]
    parent.opened.pop(name, None)


def descend(git: Git, root: Directory, path: str, *, make: bool) -> tuple[Directory | None, str]:
    """The directory that holds the path's last name; None if there is none and none is to be made."""
    *above, name = path.split("/")
    at = root
    for step in above:
        inner = at.opened.get(step)
        if inner is None:
            entry = at.entries.get(step)
            known = entry is not None and entry.mode == TREE
            if not known and not make:
                return None, name
            inner = Directory(dict(git.tree(entry.oid)) if known and entry is not None else {})
            at.opened[step] = inner
            at.entries[step] = Entry(TREE, "")  # written with its content in the end
        at = inner
    return at, name


def resolved(git: Git, parent: Directory, name: str) -> Entry | None:
    """The entry as it is now, a changed directory written first."""
    if name in parent.opened:
        return Entry(TREE, write(git, parent.opened[name]))
    return parent.entries.get(name)


def union(git: Git, old: str, new: str) -> str:
    """Both directories in one; where both have a name, the new one wins, directories being united again."""
    if old == new:
        return new
    entries = dict(git.tree(old))
    for name, entry in git.tree(new).items():
        before = entries.get(name)
        if before is not None and before.mode == entry.mode == TREE:
            entry = Entry(TREE, union(git, before.oid, entry.oid))
        entries[name] = entry
    return git.write_tree(entries)


def write(git: Git, directory: Directory) -> str:
    """The directory's tree id; directories that became empty are left out, as git knows none."""
    entries = dict(directory.entries)
    for name, inner in directory.opened.items():
        oid = write(git, inner)
        if git.tree(oid):
            entries[name] = Entry(TREE, oid)
        else:
            entries.pop(name, None)
    return git.write_tree(entries)
