"""Git's trees as values: a snapshot of a commit's directories, the edits between two, the root tree that edits give.

What belongs here: everything that follows from object ids alone. How a snapshot is read is the gateways' business.
Paths are relative, with "/" between names and none at the end; "" is the root. A name that is not UTF-8 is decoded
with `surrogateescape`, so that it comes out as it went in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NewType

Sha = NewType("Sha", str)  # a commit's object id
Oid = NewType("Oid", str)  # a tree's or blob's object id

TREE = "040000"
SUBMODULE = "160000"
EMPTY_TREE = Oid("4b825dc642cb6eb9a060e54bf8d69288fbee4904")


class Unknown(LookupError):  # noqa: N818 - what it says of a path
    """The snapshot does not hold the directory that was asked about; this is never the same as absent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory: git's mode as six octal digits, and the object's id."""

    mode: str
    oid: Oid

    @property
    def is_tree(self) -> bool:
        return self.mode == TREE


@dataclass(frozen=True, slots=True)
class Edit:
    """A path of a tree to create: what it becomes, or None where it is removed."""

    path: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that differs between two directories, by its path in them; None stands for no file there.

    The path is "" where what is compared is no directory.
    """

    path: str
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True)
class Snapshot:
    """The directories of one tree: complete ones only.

    `directories` maps a directory's path to its entries by name. A directory that is missing there was not read.
    """

    root: Oid
    directories: Mapping[str, Mapping[str, Entry]] = field(repr=False)

    def entry(self, path: str) -> Entry | None:
        """What stands at `path`, None where nothing does; raises Unknown where that was not read."""
        parent, name = split(path)
        if not name:
            return Entry(TREE, self.root)
        names = self.directories.get(parent)
        if names is not None:
            return names.get(name)
        above = self.entry(parent)
        if above is not None and above.is_tree:
            raise Unknown(f"{parent}/ was not read")
        return None

    def names(self, directory: str) -> Mapping[str, Entry]:
        """The entries of a directory by name, none where there is no directory; raises Unknown as `entry` does."""
        above = self.entry(directory)
        if above is None or not above.is_tree:
            return {}
        try:
            return self.directories[directory]
        except KeyError:
            raise Unknown(f"{directory}/ was not read") from None

    def files(self, directory: str = "") -> Iterator[tuple[str, Entry]]:
        """Every path below a directory that is not a directory itself, sorted, with what stands there."""
        for name, entry in sorted(self.names(directory).items()):
            path = join(directory, name)
            if entry.is_tree:
                yield from self.files(path)
            else:
                yield path, entry


def split(path: str) -> tuple[str, str]:
    """A path's directory and its last name."""
    parent, _, name = path.rpartition("/")
    return parent, name


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def above(path: str) -> Iterator[str]:
    """The directories that a path lies in, from the root's child downwards; the root is left out."""
    names = path.split("/")[:-1]
    for count in range(1, len(names) + 1):
        yield "/".join(names[:count])


def within(path: str, directory: str) -> bool:
    """Whether a path is the directory or lies in it."""
    return path == directory or path.startswith(f"{directory}/")


def index(root: Oid, listing: Iterable[tuple[str, Entry]]) -> Snapshot:
    """The snapshot of a complete recursive listing that names directories too."""
    directories: dict[str, dict[str, Entry]] = {"": {}}
    for path, entry in listing:
        parent, name = split(path)
        directories.setdefault(parent, {})[name] = entry
        if entry.is_tree:
            directories.setdefault(path, {})
    return Snapshot(root, directories)


def parse_listing(output: bytes) -> Iterator[tuple[str, Entry]]:
    """The rows of `git ls-tree -r -t -z`, as `index` takes them."""
    for row in output.split(b"\0"):
        if row:
            meta, _, path = row.partition(b"\t")
            mode, _, oid = meta.decode().split()
            yield path.decode("utf-8", "surrogateescape"), Entry(mode, Oid(oid))


def changed(before: Snapshot, after: Snapshot, directory: str = "") -> Iterator[str]:
    """The paths of files that differ between two snapshots; a rename gives its old and its new path."""
    old, new = before.names(directory), after.names(directory)
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        path = join(directory, name)
        if any(entry is not None and entry.is_tree for entry in (was, now)):
            yield from changed(before, after, path)
        if any(entry is not None and not entry.is_tree for entry in (was, now)):
            yield path


def differences(before: Snapshot, old: str, after: Snapshot, new: str, path: str = "") -> Iterator[Difference]:
    """The files that differ between what stands at one path and what stands at another, sorted.

    Raises Unknown where a directory with a difference in it was not read.
    """
    was, now = before.entry(old), after.entry(new)
    if was == now:
        return
    files = [None if entry is None or entry.is_tree else entry for entry in (was, now)]
    if any(files):
        yield Difference(path, *files)
    for name in sorted(before.names(old).keys() | after.names(new).keys()):
        yield from differences(before, join(old, name), after, join(new, name), join(path, name))


def sync(snapshot: Snapshot, source: str, target: str) -> Iterator[Edit]:
    """The edits that make a target what its source is.

    GitHub is not clear on whether a directory entry replaces the directory that stands there or is merged into it
    (https://docs.github.com/en/rest/git/trees#create-a-tree), so names that the source lacks are removed one by one.
    """
    entry, current = snapshot.entry(source), snapshot.entry(target)
    if entry == current:
        return
    yield Edit(target, entry)
    if entry is not None and entry.is_tree and current is not None and current.is_tree:
        yield from _surplus(snapshot, source, target)


def _surplus(snapshot: Snapshot, source: str, target: str) -> Iterator[Edit]:
    wanted = snapshot.names(source)
    for name, entry in sorted(snapshot.names(target).items()):
        keep = wanted.get(name)
        if keep is None:
            yield Edit(join(target, name), None)
        elif keep != entry and keep.is_tree and entry.is_tree:
            yield from _surplus(snapshot, join(source, name), join(target, name))


def root_after(snapshot: Snapshot, grafts: Mapping[str, Entry | None]) -> Oid:
    """The root tree's id once each path of `grafts` holds its entry, or nothing where that is None.

    Raises Unknown where a directory on the way was not read, or where its names cannot be those that git has.
    """
    return _grafted(snapshot, "", grafts) or EMPTY_TREE


def _grafted(snapshot: Snapshot, directory: str, grafts: Mapping[str, Entry | None]) -> Oid | None:
    names = dict(snapshot.names(directory))
    standing = snapshot.entry(directory)
    if standing is not None and standing.is_tree and tree_id(names) != standing.oid:
        raise Unknown(f"the names in {directory or 'the root'} are not what git has: one of them is not UTF-8")
    below: dict[str, dict[str, Entry | None]] = {}
    for path, entry in grafts.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = entry
        elif entry is None:
            names.pop(name, None)
        else:
            names[name] = entry
    for name, deeper in below.items():
        path = join(directory, name)
        oid = _grafted(snapshot, path, deeper)
        if oid is None:
            names.pop(name, None)
        else:
            names[name] = Entry(TREE, oid)
    return tree_id(names) if names else None


def tree_id(names: Mapping[str, Entry]) -> Oid:
    """The object id that git gives a directory: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects"""
    rows = []
    for name, entry in names.items():
        raw = name.encode("utf-8", "surrogateescape")
        row = entry.mode.lstrip("0").encode() + b" " + raw + b"\0" + bytes.fromhex(entry.oid)
        # Git sorts a directory as if its name ended in a slash.
        rows.append((raw + b"/" if entry.is_tree else raw, row))
    body = b"".join(row for _, row in sorted(rows))
    return Oid(hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest())
