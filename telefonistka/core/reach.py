"""Which directories each flow of a configuration takes: those of a tree, and one made up per simple source path.

The made-up ones let a flow be judged before its first component exists.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from telefonistka.core import patterns
from telefonistka.core.config import Flow, RepoConfig
from telefonistka.core.promotion import concatenated


@dataclass(frozen=True, slots=True)
class Split:
    """How one flow takes a path: its source and the component's name."""

    source: str
    name: str

    @property
    def path(self) -> str:
        return concatenated(self.source, self.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reach:
    """A flow, and the directories that it takes by its path alone."""

    number: int
    flow: Flow
    all: Mapping[str, Split]
    in_tree: Mapping[str, Split]  # those of them that are not made up

    @property
    def splits(self) -> list[Split]:
        """The components, of which there is at least a made-up one."""
        return sorted(set(self.all.values()), key=lambda split: split.path)

    @property
    def source_path(self) -> str:
        return self.flow.source_path

    @property
    def labels(self) -> tuple[str, ...] | None:
        return self.flow.conditions.pr_has_labels

    @property
    def auto_merge(self) -> bool:
        return self.flow.conditions.auto_merge

    @property
    def title(self) -> str:
        return f"the flow of line {self.flow.line}"

    @property
    def target_sets(self) -> set[tuple[str, ...]]:
        """The targets of each pull request that has any."""
        return {tuple(sorted(pull.target_paths)) for pull in self.flow.promotion_prs if pull.target_paths}

    @property
    def targets(self) -> set[str]:
        return {target for pull in self.flow.promotion_prs for target in pull.target_paths}

    def split(self, path: str) -> Split | None:
        """How the flow takes the path; None if it does not. A directory's path ends in a slash."""
        return _split(self.flow, path)

    def holds(self, labels: Collection[str]) -> bool:
        return self.labels is None or any(label in labels for label in self.labels)

    def holds_whenever(self, other: Reach) -> bool:
        """Whether the other's labels are enough for this one."""
        if self.labels is None:
            return True
        return other.labels is not None and set(other.labels) <= set(self.labels)

    def covers(self, other: Reach) -> bool:
        """Whether it is certain that this flow's path matches whatever the other's does."""
        depth, limit = self.flow.component_path_extra_depth, other.flow.component_path_extra_depth
        if self.source_path == other.source_path:
            return depth <= limit
        start = patterns.literal(self.source_path)
        rest = patterns.prefix(other.source_path)
        if start is None or not rest.startswith(start):
            return False
        return depth <= limit + rest.removeprefix(start).count("/")

    def shares_a_directory(self, other: Reach) -> bool:
        """Whether some path belongs to both, so that the first of them takes it and the second does not."""
        return not self.all.keys().isdisjoint(other.all)


def over(config: RepoConfig, paths: Iterable[str]) -> list[Reach]:
    """Each flow's reach over the directories of these files, and over the made-up ones of all flows."""
    flows = config.promotion_paths
    in_tree = sorted({posixpath.dirname(path) for path in paths} - {""})
    made_up = {sample for flow in flows if (sample := _sample(flow))} - set(in_tree)
    return [_reach(number, flow, in_tree, made_up) for number, flow in enumerate(flows)]


def _split(flow: Flow, path: str) -> Split | None:
    match = flow.splitter.search(path)
    if match is None:
        return None
    start, end = match.start(flow.splitter.groups), match.end(flow.splitter.groups)
    return Split(path[:start], path[start:end])


def _reach(number: int, flow: Flow, in_tree: Iterable[str], made_up: Collection[str]) -> Reach:
    start = patterns.prefix(flow.source_path)
    paths = ((directory, f"{directory}/") for directory in (*in_tree, *made_up))
    taken = {
        directory: found
        for directory, path in paths
        if path.startswith(start) and (found := _split(flow, path)) is not None
    }
    real = {directory: found for directory, found in taken.items() if directory not in made_up}
    return Reach(number=number, flow=flow, all=taken, in_tree=real)


def _sample(flow: Flow) -> str | None:
    """A directory that the flow takes, made up from an expression without groups; None if that does not succeed."""
    source = ""
    for part in patterns.tokens(flow.source_path):
        match part.kind:
            case "open" | "flags" | "bar":
                return None
            case "char":
                source += part.text
            case "any" | "class":
                source += "x"
    deep = source + "/".join(["component"] * (1 + flow.component_path_extra_depth))
    for made_up in (deep, f"{source}/component"):
        if "//" not in made_up and not made_up.startswith("/") and _split(flow, f"{made_up}/"):
            return made_up
    return None
