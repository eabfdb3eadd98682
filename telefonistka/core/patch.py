"""What a plan does to the files of its targets, as `git diff` shows it: for people, not for `git apply`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from telefonistka.core import textdiff, trees
from telefonistka.core.promotion import Pair, Plan
from telefonistka.core.trees import SUBMODULE, Difference, Entry, Oid, Snapshot

NOWHERE = "/dev/null"


def pairs(plan: Plan) -> tuple[Pair, ...]:
    """Every target that changes, once, in the order of the plan."""
    return tuple(dict.fromkeys(pair for promotion in plan.to_open for pair in promotion.changes))


def blobs(plan: Plan, snapshot: Snapshot) -> frozenset[Oid]:
    """What has to be read for `lines`."""
    entries = (
        entry for pair in pairs(plan) for one in _files(pair, snapshot) for entry in (one.before, one.after) if entry
    )
    return frozenset(entry.oid for entry in entries if entry.mode != SUBMODULE)


def lines(plan: Plan, snapshot: Snapshot, contents: Mapping[Oid, bytes]) -> Iterator[str]:
    """The change of every file of every target, without line ends."""
    for pair in pairs(plan):
        yield f"diff {pair.target} ← {pair.source}"
        for one in _files(pair, snapshot):
            yield from _file(trees.join(pair.target, one.path) if one.path else pair.target, one, contents)


def _files(pair: Pair, snapshot: Snapshot) -> Iterator[Difference]:
    return trees.differences(snapshot, pair.target, snapshot, pair.source)


def _file(path: str, one: Difference, contents: Mapping[Oid, bytes]) -> Iterator[str]:
    names = f"a/{path}" if one.before else NOWHERE, f"b/{path}" if one.after else NOWHERE
    if one.before and one.after and one.before.mode != one.after.mode:
        yield f"mode of {path}: {one.before.mode} → {one.after.mode}"
        if one.before.oid == one.after.oid:
            return
    before, after = (_content(entry, contents) for entry in (one.before, one.after))
    if b"\0" in before + after:
        yield f"Binary files {names[0]} and {names[1]} differ"
        return
    yield from (f"--- {names[0]}", f"+++ {names[1]}")
    # Line ends of other systems would move the cursor; "replace", because what is shown need not be exact.
    hunks = textdiff.unified(before.decode(errors="replace"), after.decode(errors="replace"))
    yield from ["(too different to be shown)"] if hunks is None else hunks


def _content(entry: Entry | None, contents: Mapping[Oid, bytes]) -> bytes:
    if entry is None:
        return b""
    return f"Subproject commit {entry.oid}\n".encode() if entry.mode == SUBMODULE else contents[entry.oid]
