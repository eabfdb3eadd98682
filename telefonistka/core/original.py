"""Where the original's plan parts from ours: both rules are worked out for the paths of a tree.

Ours takes a file by path and labels together. In the original the path decides without the labels, two expressions
tell source and component from the file's name, and the source is looked up once more among the flows.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from telefonistka.core import patterns
from telefonistka.core.config import Flow
from telefonistka.core.reach import Reach, Split

SAMPLES = 500  # paths for which both rules are worked out, with each set of labels; some 20 µs each and flow
LABELS = 10  # labels that are tried one by one


@dataclass(frozen=True, slots=True)
class _Taken:
    """Which flow carries a file out, from where, and whether it merges by itself."""

    by: Reach
    split: Split | None  # None: the component's name cannot be told
    auto_merge: bool


def differences(reaches: Sequence[Reach], paths: Sequence[str]) -> Iterator[tuple[Reach, str]]:
    """The flow and a sentence, once for each flow and way in which the two plans part."""
    original = _Original(reaches)
    label_sets = _label_sets(reaches)
    said: set[tuple[int, str]] = set()
    for file in _samples(reaches, paths, original):
        for labels in label_sets:
            ours, theirs = _takes(reaches, file, labels), original.takes(file, labels)
            if ours == theirs:
                continue
            reach, kind, message = _difference(f"{file!r}, {_with(labels)}", file, ours, theirs)
            if (reach.number, kind) not in said:
                said.add((reach.number, kind))
                yield reach, message


def _difference(when: str, file: str, ours: _Taken | None, theirs: _Taken | None) -> tuple[Reach, str, str]:
    """The flow that it is to be said of, the kind of difference, and the sentence."""
    if ours is None or ours.split is None:
        assert theirs is not None, "nothing is no difference from nothing"
        if theirs.split is None:
            return theirs.by, "junk", f"{file!r} is a file beside its components, which the original names as one"
        return theirs.by, "other", f"{when}: the original promotes {theirs.split.path!r}, here it is no component"
    own = repr(ours.split.path)
    if theirs is None:
        return ours.by, "nothing", f"{when}: the original promotes nothing, this flow {own}"
    if theirs.split is None:
        return ours.by, "name", f"{when}: the original cannot tell the component, this flow promotes {own}"
    if theirs.split != ours.split:
        return ours.by, "split", f"{when}: the original promotes {theirs.split.path!r}, this flow {own}"
    if theirs.by is not ours.by:
        return ours.by, "flow", f"{when}: the original takes the targets of line {theirs.by.flow.line}"
    merges, does = ("merges", "does not") if theirs.auto_merge else ("does not merge", "does")
    why = "by the autoMerge of the first flow with that path, whatever its labels"
    return ours.by, "merge", f"{when}: the original {merges} by itself, {why}; this flow {does}"


def _with(labels: Collection[str]) -> str:
    return f"with label{'s' * (len(labels) > 1)} {', '.join(sorted(labels))}" if labels else "without labels"


# The two rules


def _takes(reaches: Sequence[Reach], file: str, labels: Collection[str]) -> _Taken | None:
    directory = posixpath.dirname(file)
    for reach in reaches:
        if directory in reach.all and reach.holds(labels):
            return _Taken(reach, reach.all[directory], reach.auto_merge)
    return None


class _Original:
    """The original's rules over the same flows."""

    def __init__(self, reaches: Sequence[Reach]) -> None:
        self._reaches = reaches
        starts = ((reach, _compiled(f"^{reach.source_path}.*")) for reach in reaches)
        self._starts = [(reach, start) for reach, start in starts if start]

    def first(self, file: str) -> Reach | None:
        """The flow that the path alone decides for."""
        return next((reach for reach, start in self._starts if start.search(file)), None)

    def takes(self, file: str, labels: Collection[str]) -> _Taken | None:
        first = self.first(file)
        if first is None:
            return None
        split = _split(first.flow, file)
        source = split.source if split else file
        for reach in self._reaches:
            if reach.holds(labels) and patterns.compile(reach.source_path).search(source):
                return _Taken(reach, split, first.auto_merge)
        return None


def _split(flow: Flow, file: str) -> Split | None:
    """Source and name as the original's two expressions give them; None where they give the file itself, or none."""
    name = "/".join(["[^/]*"] * (1 + flow.component_path_extra_depth))
    named = _compiled(f"^{flow.source_path}({name})/.*")
    if named is None or named.search(file) is None:
        return None
    component = named.replace_all(file, "${1}")
    sourced = _compiled(f"^({flow.source_path}){component}/.*")
    if sourced is None or sourced.search(file) is None:
        return None
    return Split(sourced.replace_all(file, "${1}"), component)


def _compiled(expression: str) -> patterns.Pattern | None:
    try:
        return patterns.compile(expression)
    except patterns.InvalidPattern:
        return None


# What they are asked


def _label_sets(reaches: Sequence[Reach]) -> list[frozenset[str]]:
    """No label, each alone, and all together."""
    labels = sorted({label for reach in reaches for label in reach.labels or ()})[:LABELS]
    return list(dict.fromkeys([frozenset(), *(frozenset({label}) for label in labels), frozenset(labels)]))


def _samples(reaches: Sequence[Reach], paths: Sequence[str], original: _Original) -> list[str]:
    """Files that together show everything that the flows do with this tree, or would with another."""
    files = {posixpath.dirname(path): path for path in reversed(paths)}
    by_behaviour: dict[tuple[object, ...], str] = {}
    for directory in sorted({directory for reach in reaches for directory in reach.all}):
        splits = tuple((reach.number, reach.all[directory]) for reach in reaches if directory in reach.all)
        by_behaviour.setdefault(splits, files.get(directory, f"{directory}/file"))
    taken = {directory for reach in reaches for directory in reach.in_tree}
    beside = [file for directory, file in sorted(files.items()) if directory not in taken and original.first(file)]
    return [*list(by_behaviour.values())[:SAMPLES], *beside[:SAMPLES]]
