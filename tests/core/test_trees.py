"""Snapshots, edits and root tree ids, against git itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka.core import trees
from telefonistka.core.trees import TREE, Edit, Entry, Snapshot, Unknown
from tests.core.values import blob, snapshot

NAMES = st.sampled_from(["a", "b", "a.b", "a-b", "ab", "a0", "é", "x y", "\U0001f680"])
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.sampled_from(["one", "two", "three"]), max_size=8
).filter(lambda files: not any(other.startswith(f"{path}/") for path in files for other in files))


def git(repo: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    environment = {"PATH": os.environ["PATH"], "HOME": str(repo), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", "-C", str(repo), *arguments], input=stdin, capture_output=True, check=True, env=environment
    ).stdout


def test_a_tree_gets_the_id_that_git_gives_it(tmp_path: Path) -> None:
    """Names that sort right only if a directory ends in a slash, modes, a link, and bytes that are no text."""
    git(tmp_path, "init", "-q")
    for path in ("a/f", "a.b", "a0/g", "ab", "é/ü", "x y", "deep/er/still"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "ab").chmod(0o755)
    (tmp_path / "link").symlink_to("a/f")
    (tmp_path / "a" / os.fsdecode(b"\xff\xfe")).write_text("no UTF-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    root = git(tmp_path, "write-tree").decode().strip()

    found = trees.index(trees.Oid(root), trees.parse_listing(git(tmp_path, "ls-tree", "-r", "-t", "-z", root)))

    for directory, names in found.directories.items():
        entry = found.entry(directory)
        assert entry is not None
        assert trees.tree_id(names) == entry.oid
    assert {"100755", "120000", "160000"} <= {entry.mode for _, entry in found.files()}


def test_absent_and_unknown_are_told_apart() -> None:
    """A directory that was not read is never taken for one that is not there."""
    known = snapshot({"a/b/c": "1"})
    partial = Snapshot(known.root, {"": known.directories[""]})

    assert partial.entry("nothing/here") is None
    assert partial.entry("a") == known.entry("a")
    with pytest.raises(Unknown):
        partial.entry("a/b")
    with pytest.raises(Unknown):
        partial.names("a")
    assert known.entry("a/b/c/d") is None


def merged(before: Snapshot, edits: list[Edit]) -> Snapshot:
    """The tree that edits give where a directory entry is merged into the directory at its path."""
    objects = {entry.oid: path for path, entry in _everything(before)}
    files: dict[str, Entry] = dict(before.files())
    for edit in edits:
        if edit.entry is None:
            files = {path: entry for path, entry in files.items() if not trees.within(path, edit.path)}
        elif edit.entry.mode == TREE:
            source = objects[edit.entry.oid]
            files.pop(edit.path, None)
            for path, entry in before.files(source):
                files[edit.path + path[len(source) :]] = entry
        else:
            files[edit.path] = edit.entry
    return snapshot(files)


def _everything(of: Snapshot) -> list[tuple[str, Entry]]:
    return [
        (trees.join(directory, name), entry)
        for directory, names in of.directories.items()
        for name, entry in names.items()
    ]


@given(FILES, FILES, FILES)
def test_synced_targets_equal_their_source_and_nothing_else_changes(
    source: dict[str, str], target: dict[str, str], rest: dict[str, str]
) -> None:
    """The edits and the computed root agree, where names of the same kind stand on both sides."""
    before = snapshot(
        {f"src/{path}": text for path, text in source.items()}
        | {f"dst/{path}": text for path, text in target.items()}
        | {f"rest/{path}": text for path, text in rest.items()}
    )
    edits = list(trees.sync(before, "src", "dst"))
    expected = trees.root_after(before, {"dst": before.entry("src")})
    wanted = snapshot(
        {f"{side}/{path}": text for side in ("src", "dst") for path, text in source.items()}
        | {f"rest/{path}": text for path, text in rest.items()}
    )

    assert expected == wanted.root
    if not _kinds_differ(source, target):
        assert merged(before, edits).root == expected


def _kinds_differ(one: dict[str, str], other: dict[str, str]) -> bool:
    directories = {path for files in (one, other) for file in files for path in trees.above(file)}
    return bool(directories & (one.keys() | other.keys()))


def test_the_last_file_of_a_directory_takes_it_along() -> None:
    """Git knows no empty directory."""
    before = snapshot({"a/b/c": "1", "z": "2"})
    assert trees.root_after(before, {"a/b": None}) == snapshot({"z": "2"}).root
    assert trees.root_after(snapshot({"a/b": "1"}), {"a": None}) == trees.EMPTY_TREE


def test_a_name_that_a_listing_cannot_carry_is_noticed() -> None:
    """Where a listing's names do not give the directory's own id, no result is computed from them."""
    known = snapshot({"a/b": "1"})
    garbled = Snapshot(known.root, {"": known.directories[""], "a": {"�": blob("1")}})
    with pytest.raises(Unknown, match="not UTF-8"):
        trees.root_after(garbled, {"a/t": blob("2")})


@given(FILES, FILES)
def test_changed_paths_are_those_whose_content_differs(one: dict[str, str], other: dict[str, str]) -> None:
    """Whatever directories and files they are in, before or after."""
    expected = {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    assert set(trees.changed(snapshot(one), snapshot(other))) == expected
