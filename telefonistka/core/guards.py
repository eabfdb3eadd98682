"""What nothing does by itself: how much may be deleted, and the operator's ceiling over all configuration.

What belongs here: limits, and the sentence for what exceeds one. A guard never stops a promotion from being opened:
it leaves the merge to people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from telefonistka.core import trees
from telefonistka.core.config import RepoConfig
from telefonistka.core.trees import Entry, Snapshot

MAX_DELETIONS = 50  # files of one promotion that a merge by itself may delete
SHOWN = 100  # deleted files that are listed, so that people can look them through


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What the operator allows at most, whatever a repository's configuration asks for; by default all of it."""

    auto_merge: bool = True
    auto_approve: bool = True
    max_deletions: int = MAX_DELETIONS
    repositories: tuple[str, ...] = ()  # "owner/name" or "owner/*"; none: all
    targets: tuple[str, ...] = ()  # directories; none: all

    @property
    def lets_all_pass(self) -> bool:
        """Whether no configuration can ask for too much."""
        return self.auto_merge and self.auto_approve and not self.targets

    def serves(self, slug: str) -> bool:
        """Whether the repository is one that we work for."""
        owner, _, _ = slug.partition("/")
        names = {slug.lower(), f"{owner}/*".lower()}
        return not self.repositories or any(one.lower() in names for one in self.repositories)

    def writable(self, target: str) -> bool:
        """Whether a promotion may write there: whole names count, so `prod` does not allow `production`."""
        return not self.targets or any(trees.within(target, one.strip("/")) for one in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Deletion:
    """What a promotion removes from one target."""

    target: str
    count: int
    of: int  # files that the target has
    files: tuple[str, ...]  # sorted, the first of them
    components: tuple[str, ...] = ()  # that a promotion of a whole directory removes


def deletion(
    snapshot: Snapshot,
    target: str,
    becomes: Entry | None,
    source: str,
    *,
    whole: bool,
    sources: Snapshot | None = None,
) -> Deletion | None:
    """What goes when a target becomes its source, None where every file stays or is replaced.

    `whole` says that the source is no component, but a directory of them; `sources` where it stands, if elsewhere.
    """
    head = sources or snapshot
    stays = set() if becomes is None else _names(head, source)
    has = _names(snapshot, target)
    gone = sorted(has - stays)
    if not gone:
        return None
    return Deletion(
        target=target,
        count=len(gone),
        of=len(has),
        files=tuple(trees.join(target, name) if name else target for name in gone[:SHOWN]),
        components=tuple(_removed_directories(snapshot, target, head.names(source))) if whole else (),
    )


def _names(snapshot: Snapshot, path: str) -> set[str]:
    """The files at a path, relative to it; a path that is a file itself has the name ""."""
    entry = snapshot.entry(path)
    if entry is None:
        return set()
    if not entry.is_tree:
        return {""}
    return {file[len(path) :].removeprefix("/") for file, _ in snapshot.files(path)}


def _removed_directories(snapshot: Snapshot, target: str, stays: Mapping[str, Entry]) -> Iterator[str]:
    for name, entry in sorted(snapshot.names(target).items()):
        if entry.is_tree and name not in stays:
            yield trees.join(target, name)


def too_much(deletions: Collection[Deletion], limit: int = MAX_DELETIONS) -> str:
    """Why so many deletions are left to people, "" where they are not."""
    for one in deletions:
        if one.components:
            more = f" and {len(one.components) - 1} more" if len(one.components) > 1 else ""
            return f"a whole directory is promoted and deletes the component {one.components[0]}{more}"
    count = sum(one.count for one in deletions)
    if count > limit:
        return f"it deletes {count} files, more than {limit}"
    for one in deletions:
        if 2 * one.count > one.of:
            return f"it deletes {one.count} of {one.of} files in {one.target}"
    return ""


def excesses(config: RepoConfig, ceiling: Ceiling) -> Iterator[str]:
    """What a configuration asks for beyond the operator's ceiling, in sentences."""
    flows = config.promotion_paths
    if not ceiling.auto_merge and any(flow.conditions.auto_merge for flow in flows):
        yield "autoMerge: promotions are opened and wait for people to merge them."
    if not ceiling.auto_approve and config.auto_approve_promotion_prs:
        yield "autoApprovePromotionPrs: promotions are opened and wait for people to approve them."
    targets = {path for flow in flows for pull in flow.promotion_prs for path in pull.target_paths}
    refused = sorted(path for path in targets if not ceiling.writable(path.rstrip("/")))
    if refused:
        yield f"targetPaths: nothing is promoted to {', '.join(refused[:10])}{', …' if len(refused) > 10 else ''}."
