"""Targets that are not what their sources are, each with the reason: a value that a comment can show.

What belongs here: which files differ, why, and what of that a diff shows. Where entries, contents and commits come
from is the gateways' business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from telefonistka.core import textdiff, trees
from telefonistka.core.promotion import Pair, Plan
from telefonistka.core.trees import SUBMODULE, Difference, Entry, Oid, Sha, Snapshot

LINK = "120000"
LARGE = 1_000_000  # bytes; of a larger file it is only said that it differs
WIDE = 500  # characters of a line that are shown
LONG = 20_000  # characters of one file's diff


class Reason(StrEnum):
    """Why a target is not what its source is."""

    IN_FLIGHT = "in flight"
    CHANGED = "changed in the target"
    NEVER_PROMOTED = "never promoted"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCommit:
    """The last commit that changed a path."""

    sha: Sha
    author: str  # login, or the name in the commit where GitHub knows no account
    date: str  # ISO 8601


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPromotion:
    """A promotion pull request of ours that is not merged: what its head has at the targets asked about."""

    number: int
    holds: Mapping[str, Oid | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file's content as far as a diff needs it."""

    size: int
    text: str | None  # None: it is no text, or too large
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """A target that is not what its source is on the default branch; `differences` goes from source to target."""

    pair: Pair
    differences: tuple[Difference, ...]
    brought_by: tuple[int, ...] = ()  # open promotions that make the target what the source is
    touched_by: tuple[int, ...] = ()  # open promotions that make something else of it
    last: LastCommit | None = None  # in the target

    @property
    def reason(self) -> Reason:
        if self.brought_by:
            return Reason.IN_FLIGHT
        return Reason.NEVER_PROMOTED if self.pair.current is None else Reason.CHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All divergences of a plan's pairs at one commit."""

    commit: Sha
    divergences: tuple[Divergence, ...] = ()

    @property
    def unexplained(self) -> tuple[Divergence, ...]:
        """Those that need people's eyes, changes in targets first."""
        found = [one for one in self.divergences if one.reason is not Reason.IN_FLIGHT]
        return tuple(sorted(found, key=lambda one: one.reason is Reason.NEVER_PROMOTED))

    @property
    def in_flight(self) -> Mapping[int, tuple[str, ...]]:
        """The targets that open promotions bring up to date, by the newest such pull request."""
        found: dict[int, list[str]] = {}
        for one in self.divergences:
            if one.brought_by:
                found.setdefault(max(one.brought_by), []).append(one.pair.target)
        return {number: tuple(targets) for number, targets in sorted(found.items())}


def pairs(plan: Plan) -> tuple[Pair, ...]:
    """The pairs of a plan that differ, each once: those with equal object ids are not looked at."""
    found = {pair.target: pair for promotion in plan.promotions for pair in promotion.changes}
    return tuple(found[target] for target in sorted(found))


def between(
    snapshot: Snapshot, pair: Pair, promotions: Iterable[OpenPromotion] = (), last: LastCommit | None = None
) -> Divergence:
    """How a target differs from its source, and which open promotions there are for it."""
    becomes = None if pair.becomes is None else pair.becomes.oid
    current = None if pair.current is None else pair.current.oid
    holding = {one.number: one.holds[pair.target] for one in promotions if pair.target in one.holds}
    return Divergence(
        pair=pair,
        differences=tuple(trees.differences(snapshot, pair.source, snapshot, pair.target)),
        brought_by=tuple(sorted(number for number, oid in holding.items() if oid == becomes)),
        touched_by=tuple(sorted(number for number, oid in holding.items() if oid not in (becomes, current))),
        last=last,
    )


def contents_of(divergences: Iterable[Divergence]) -> Iterator[Oid]:
    """The blobs whose contents `files` needs, in the order in which they are shown."""
    for divergence in divergences:
        for one in divergence.differences:
            if one.before and one.after and one.before.oid != one.after.oid:
                yield from (entry.oid for entry in (one.before, one.after) if entry.mode != SUBMODULE)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file's part of a diff; None stands for no file."""

    source: str | None
    target: str | None
    text: str
    brief: bool  # a line or two that need no fold of their own
    blamed: tuple[str, ...]  # the paths whose history can be looked at

    @property
    def name(self) -> str:
        return self.target or self.source or ""


def files(divergence: Divergence, contents: Mapping[Oid, Content]) -> Iterator[File]:
    """What there is to see of a divergence, the files with hunks last."""
    shown = [_file(divergence.pair, one, contents) for one in divergence.differences]
    yield from sorted(shown, key=lambda one: not one.brief)


def _file(pair: Pair, one: Difference, contents: Mapping[Oid, Content]) -> File:
    source = None if one.before is None else trees.join(pair.source, one.path) if one.path else pair.source
    target = None if one.after is None else trees.join(pair.target, one.path) if one.path else pair.target
    lines, brief = list(_lines(pair, source, target, one, contents)), True
    if len(lines) > 2:
        lines, brief = _bounded(lines), False
    sides = ((source, one.before), (target, one.after))
    blamed = tuple(path for path, entry in sides if path and entry and entry.mode not in (SUBMODULE, LINK))
    return File(source=source, target=target, text="\n".join(lines), brief=brief, blamed=blamed)


def _lines(
    pair: Pair, source: str | None, target: str | None, one: Difference, contents: Mapping[Oid, Content]
) -> Iterator[str]:
    if source is None or one.before is None:
        yield f"+++ {_line(target)} (missing from source dir {_line(pair.source)})"
        return
    if target is None or one.after is None:
        yield f"--- {_line(source)} (missing from target dir {_line(pair.target)})"
        return
    hunks = _hunks(one, contents)
    notes = [_note(entry, one, contents, seen=bool(hunks)) for entry in (one.before, one.after)]
    yield f"--- {_line(source)}{notes[0]}"
    yield f"+++ {_line(target)}{notes[1]}"
    yield from hunks


def _hunks(one: Difference, contents: Mapping[Oid, Content]) -> list[str]:
    """The changed lines of two files with text in them, none for all else."""
    assert one.before is not None
    assert one.after is not None
    if not _is_file(one.before) or not _is_file(one.after) or one.before.oid == one.after.oid:
        return []
    before, after = contents.get(one.before.oid), contents.get(one.after.oid)
    if before is None or after is None or before.text is None or after.text is None:
        return []
    return textdiff.unified(before.text, after.text) or []


def _note(entry: Entry, one: Difference, contents: Mapping[Oid, Content], *, seen: bool) -> str:
    """What is to be said of one side beside its name."""
    sides = [side for side in (one.before, one.after) if side is not None]
    notes = []
    if not _is_file(entry):
        notes.append(_elsewhere(entry, contents))
    elif not all(map(_is_file, sides)):
        notes.append("regular file")
    else:
        if len({side.mode for side in sides}) > 1:
            notes.append(f"mode {entry.mode}")
        if not seen and len({side.oid for side in sides}) > 1:
            notes.append(_unseen(contents.get(entry.oid), all_text=_all_text(sides, contents)))
    return f" ({', '.join(notes)})" if notes else ""


def _elsewhere(entry: Entry, contents: Mapping[Oid, Content]) -> str:
    if entry.mode == SUBMODULE:
        return f"submodule at {entry.oid}"
    content = contents.get(entry.oid)
    return "symbolic link" + (f" to {_line(content.text)}" if content and content.text else "")


def _all_text(sides: Iterable[Entry], contents: Mapping[Oid, Content]) -> bool:
    known = [contents.get(side.oid) for side in sides]
    return all(content is not None and content.text is not None for content in known)


def _unseen(content: Content | None, *, all_text: bool) -> str:
    """Why a file's lines are not shown."""
    if content is None:
        return "one of too many to read"
    if all_text:
        return "too many of its lines stand elsewhere"
    kind = "text" if content.text is not None else "binary" if content.binary else "too large to show"
    return f"{kind}, {content.size} bytes"


def _is_file(entry: Entry) -> bool:
    return entry.mode not in (SUBMODULE, LINK)


def _line(text: str | None) -> str:
    """A name as one line of a diff."""
    return (text or "").replace("\n", "\ufffd").replace("\r", "\ufffd")


def _bounded(lines: Collection[str]) -> list[str]:
    kept: list[str] = []
    size = 0
    for line in lines:
        shown = line if len(line) <= WIDE else f"{line[:WIDE]}…"
        size += len(shown) + 1
        if size > LONG:
            return [*kept, f"… {len(lines) - len(kept)} more lines"]
        kept.append(shown)
    return kept
