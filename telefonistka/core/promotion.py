"""Changed files and configuration become a plan: the promotion pull requests to open, and every reason.

Two steps, because what a component may do stands in its own directory: `touched` finds the components of the changed
files; once their files are read, `plan` decides. Equal facts give equal plans, in whatever order they come.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from telefonistka.core import guards, patterns, trees
from telefonistka.core.config import FILE, ComponentConfig, Flow, Parsed, PromotionPr, RepoConfig, Rule, Severity
from telefonistka.core.guards import Ceiling, Deletion
from telefonistka.core.trees import Difference, Entry, Snapshot

CONFIG_FILE = FILE
BRANCH_PREFIX = "promotions/"
BRANCH_RUNES = 200  # of the merged pull request's branch name that go into ours, as the original counts
BRANCH_BYTES = 250  # of the whole name; GitHub stores a ref as a path, whose names end at 255 bytes
NO_CEILING = Ceiling()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Component:
    """A directory that changed, split where the flow's `sourcePath` ends."""

    source: str
    name: str
    flow: int

    @property
    def path(self) -> str:
        return concatenated(self.source, self.name)

    @property
    def title(self) -> str:
        """How the component is called in front of people: one without a name is its source path."""
        return self.name or self.source

    @property
    def config_file(self) -> str:
        return trees.join(self.path, CONFIG_FILE)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Untaken:
    """A flow whose path matched and whose labels did not."""

    flow: int
    line: int
    source_path: str
    labels: tuple[str, ...]
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What the changed files belong to."""

    components: tuple[Component, ...] = ()
    untaken: tuple[Untaken, ...] = ()
    strays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Files:
    """How many files of a target a promotion touches."""

    added: int = 0
    changed: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Pair:
    """A target directory and the source that it is to equal; None stands for nothing at that path."""

    target: str
    source: str
    component: str
    becomes: Entry | None
    current: Entry | None
    files: Files = Files()  # what that does to the target

    @property
    def in_sync(self) -> bool:
        return self.becomes == self.current


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Skip:
    """A configured target that a component's own file rules out; `place` is that file and line."""

    component: str
    target: str
    reason: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Refusal:
    """A component or target path that is not promoted because that could be wrong."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Conflict:
    """A target path that several sources with different content would become."""

    target: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One pull request to open: what goes where."""

    source: str
    source_path: str
    line: int
    targets: tuple[str, ...]
    description: str
    key: str
    components: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    skipped: tuple[Skip, ...] = ()
    refused: tuple[str, ...] = ()  # targets to which no component may be promoted, sorted
    auto_merge: bool = False
    held: str = ""  # why it is not merged by itself, though its flow asks for that
    deletions: tuple[Deletion, ...] = ()  # those that people should look at
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    on_newer: str = "keep"  # what becomes of it, while it is open, when its source has moved on

    @property
    def merges_itself(self) -> bool:
        return self.auto_merge and not self.held

    @property
    def told_targets(self) -> tuple[str, ...]:
        """The targets as its title, body and metadata tell them: nobody is told that it goes where nothing may."""
        return tuple(target for target in self.targets if target not in self.refused)

    @property
    def changes(self) -> tuple[Pair, ...]:
        """The pairs that differ; a promotion without any opens nothing."""
        return tuple(pair for pair in self.pairs if not pair.in_sync)

    @property
    def hidden_targets(self) -> frozenset[str]:
        """The targets that the body leaves out: those skipped by the component that skips the fewest."""
        skips: dict[str, set[str]] = {name: set() for name in self.components}
        for skip in self.skipped:
            skips.setdefault(skip.component, set()).add(skip.target)
        if not skips:
            return frozenset()
        fewest = min(sorted(skips), key=lambda name: len(skips[name]))
        return frozenset(skips[fewest])

    @property
    def promoted_paths(self) -> tuple[str, ...]:
        return tuple(pair.target for pair in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a merged pull request leads to, and why it leads to nothing else."""

    promotions: tuple[Promotion, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    untaken: tuple[Untaken, ...] = ()
    strays: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def to_open(self) -> tuple[Promotion, ...]:
        return tuple(promotion for promotion in self.promotions if promotion.changes)

    @property
    def is_sound(self) -> bool:
        """Whether nothing had to be left out that the configuration asks for."""
        return not self.refusals and not self.conflicts


def concatenated(prefix: str, name: str) -> str:
    """The path that a prefix and a component's name make: plain text, as configured.

    One end slash goes where there is no name, since no path of git has one.
    """
    return prefix + name if name else prefix.removesuffix("/")


def touched(files: Iterable[str], labels: Collection[str], config: RepoConfig) -> Touched:
    """The components that the files belong to: for each file the first flow by path and labels."""
    components: set[Component] = set()
    strays: list[str] = []
    passed_over: dict[int, int] = defaultdict(int)
    for file in sorted(set(files)):
        for number, flow in enumerate(config.promotion_paths):
            component = _component(file, number, flow)
            if component is None:
                continue
            if _applies(flow, labels):
                components.add(component)
                break
            passed_over[number] += 1
        else:
            strays.append(file)
    return Touched(
        components=tuple(sorted(components)),
        untaken=tuple(
            _untaken(number, config.promotion_paths[number], passed_over[number]) for number in sorted(passed_over)
        ),
        strays=tuple(strays),
    )


def _component(file: str, number: int, flow: Flow) -> Component | None:
    match = flow.splitter.search(file)
    if match is None:
        return None
    # The component's name is the last group, however many groups the configured expression has.
    name = flow.splitter.groups
    return Component(source=file[: match.start(name)], name=file[match.start(name) : match.end(name)], flow=number)


def _applies(flow: Flow, labels: Collection[str]) -> bool:
    wanted = flow.conditions.pr_has_labels
    return wanted is None or any(label in labels for label in wanted)


def _untaken(number: int, flow: Flow, files: int) -> Untaken:
    return Untaken(
        flow=number,
        line=flow.line,
        source_path=flow.source_path,
        labels=flow.conditions.pr_has_labels or (),
        files=files,
    )


def disturbed(promotions: Mapping[int, Promotion], files: Iterable[str]) -> tuple[int, ...]:
    """The open pull requests, by number, that changes of these files may have brought into conflict."""
    changed = set(files)
    around = changed.union(*(trees.above(file) for file in changed))  # a file may lie in a target

    def is_touched(target: str) -> bool:
        # Or the target in what is a file now.
        return target in around or not changed.isdisjoint(trees.above(target))

    return tuple(sorted(n for n, one in promotions.items() if any(is_touched(pair.target) for pair in one.pairs)))


def paths(found: Touched, config: RepoConfig) -> Iterator[str]:
    """Every path that `plan` asks the snapshot about."""
    for component in found.components:
        yield component.path
        yield component.config_file
        for pull in config.promotion_paths[component.flow].promotion_prs:
            for target in pull.target_paths:
                yield concatenated(target, component.name)


def plan(
    found: Touched,
    config: RepoConfig,
    rules: Mapping[str, Parsed[ComponentConfig]],
    snapshot: Snapshot,
    ceiling: Ceiling = NO_CEILING,
    *,
    sources: Snapshot | None = None,
    tighter: Mapping[str, Parsed[ComponentConfig]] = MappingProxyType({}),
) -> Plan:
    """What to open for the components found, with the reasons for everything that is left out.

    `rules` maps a component's path to what its own file says; a component without such a file is missing there.
    For what is not merged yet, `sources` is where the components come from, and `tighter` holds their files there:
    these may forbid more, and allow nothing.
    Raises trees.Unknown where a snapshot lacks a directory that `paths` names.
    """
    head = sources or snapshot
    refusals = {*_unreadable(found, rules), *_unreadable(found, tighter)}
    unreadable = {refusal.subject for refusal in refusals}
    groups = _groups([component for component in found.components if component.path not in unreadable], config)
    for group in groups:
        for component in group.components:
            for prefix in dict.fromkeys(group.targets):
                own = [known[component.path] for known in (rules, tighter) if component.path in known]
                match _decide(component, prefix, own, head, snapshot, ceiling):
                    case Pair() as pair:
                        group.pairs[pair] = component
                        group.open.add(prefix)
                    case Skip() as skip:
                        group.skipped.append(skip)
                    case Refusal() as refusal:
                        refusals.add(refusal)
                        group.refused.add(prefix)
    conflicts = _drop_rivals(groups) | {conflict for group in groups for conflict in _drop_overlaps(group)}
    return Plan(
        promotions=tuple(_promotions(groups, config, head, snapshot, ceiling)),
        refusals=tuple(sorted(refusals)),
        conflicts=tuple(sorted(conflicts)),
        untaken=found.untaken,
        strays=found.strays,
        warnings=tuple(dict.fromkeys((*_warnings(rules), *_warnings(tighter)))),
    )


def _unreadable(found: Touched, rules: Mapping[str, Parsed[ComponentConfig]]) -> Iterator[Refusal]:
    for component in found.components:
        parsed = rules.get(component.path)
        if parsed is not None and parsed.value is None:
            faults = "; ".join(str(finding) for finding in parsed.findings if finding.severity is Severity.ERROR)
            yield Refusal(subject=component.path, reason=f"its own file may forbid this and cannot be used: {faults}")


def _warnings(rules: Mapping[str, Parsed[ComponentConfig]]) -> Iterator[str]:
    for _, parsed in sorted(rules.items(), key=lambda item: item[0]):
        for finding in parsed.findings:
            if finding.severity is Severity.WARNING:
                yield str(finding)


@dataclass(slots=True)
class _Group:
    """The components that share one list of targets under one `sourcePath`: a promotion in the making."""

    flow: Flow
    pull: PromotionPr
    targets: tuple[str, ...]
    auto_merge: bool = True
    components: list[Component] = field(default_factory=list)
    pairs: dict[Pair, Component] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)  # targets, of at least one component
    open: set[str] = field(default_factory=set)  # targets that at least one component may be promoted to


def _groups(components: Collection[Component], config: RepoConfig) -> list[_Group]:
    """The groups in the order of the configuration; the first description of equal lists of targets wins."""
    groups: dict[tuple[str, tuple[str, ...]], _Group] = {}
    for number, flow in enumerate(config.promotion_paths):
        members = sorted(component for component in components if component.flow == number)
        for pull in flow.promotion_prs if members else ():
            targets = tuple(sorted(pull.target_paths))
            group = groups.setdefault((flow.source_path, targets), _Group(flow, pull, targets))
            group.components += [component for component in members if component not in group.components]
            group.auto_merge &= flow.conditions.auto_merge
    return list(groups.values())


def _decide(
    component: Component,
    prefix: str,
    rules: Iterable[Parsed[ComponentConfig]],
    head: Snapshot,
    snapshot: Snapshot,
    ceiling: Ceiling,
) -> Pair | Skip | Refusal | None:
    skip = next(filter(None, (_skip(component, prefix, parsed) for parsed in rules)), None)
    if skip is not None:
        return skip
    target = concatenated(prefix, component.name)
    if target == component.path:
        return None
    fault = _fault(target, component.path, snapshot)
    if fault is None and not ceiling.writable(target):
        fault = "the operator of Telefonistka lets nothing be promoted to it"
    if fault is not None:
        return Refusal(subject=target or prefix, reason=fault)
    return Pair(
        target=target,
        source=component.path,
        component=component.title,
        becomes=head.entry(component.path),
        current=snapshot.entry(target),
        files=_files(trees.differences(snapshot, target, head, component.path)),
    )


def _files(differences: Iterable[Difference]) -> Files:
    found = list(differences)
    added = sum(one.before is None for one in found)
    removed = sum(one.after is None for one in found)
    return Files(added=added, changed=len(found) - added - removed, removed=removed)


def _skip(component: Component, prefix: str, parsed: Parsed[ComponentConfig]) -> Skip | None:
    own = parsed.value or ComponentConfig()
    blocked_by = _first_match(own.promotion_target_block_list, prefix)
    allowed = own.promotion_target_allow_list
    if blocked_by is not None:
        reason, line = f"blocked by '{blocked_by.text}'", blocked_by.line
    elif allowed is not None and _first_match(allowed, prefix) is None:
        reason, line = "not on the allow list", parsed.places[("promotionTargetAllowList",)].line
    else:
        return None
    place = f"{component.config_file}:{line}"
    return Skip(component=component.title, target=prefix, reason=reason, place=place)


def _first_match(rules: Iterable[Rule], prefix: str) -> Rule | None:
    # The lists are searched in the target as configured, without the component's name: compatibility with the original.
    return next((rule for rule in rules if patterns.compile(rule.text).search(prefix)), None)


def misplaced(path: str) -> str | None:
    """What is wrong with a path as a target, whatever its source; None where nothing is."""
    names = path.split("/")
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if "" in names:
        return "has an empty segment"
    if "." in names or ".." in names:
        return "has a segment '.' or '..'"
    if "\0" in path:
        return "holds a NUL"
    if names[0].lower().startswith(".git") or any(name.lower() == ".git" for name in names):
        return "lies under .github/ or .git*"
    return None


def _fault(target: str, source: str, snapshot: Snapshot) -> str | None:
    """Why a target must not be written, None where it may be."""
    wrong = misplaced(target)
    if wrong is not None:
        return f"it {wrong}"
    if trees.within(target, source):
        return f"it lies inside its source {source}"
    if trees.within(source, target):
        return f"its source {source} lies inside of it"
    for directory in trees.above(target):
        entry = snapshot.entry(directory)
        if entry is not None and not entry.is_tree:
            return f"{directory} is a file, and no directory can be made there"
    return None


def _drop_rivals(groups: Collection[_Group]) -> set[Conflict]:
    """Leave one source for each target: the smallest of equal ones, none where they differ."""
    rivals: dict[str, set[Pair]] = defaultdict(set)
    for group in groups:
        for pair in group.pairs:
            rivals[pair.target].add(pair)
    conflicts = set()
    for target, pairs in rivals.items():
        sources = sorted({pair.source for pair in pairs})
        if len(sources) == 1:
            continue
        agreed = len({pair.becomes for pair in pairs}) == 1
        for group in groups:
            for pair in pairs & group.pairs.keys():
                if not agreed or pair.source != sources[0]:
                    del group.pairs[pair]
        if not agreed:
            conflicts.add(Conflict(target=target, sources=tuple(sources)))
    return conflicts


def _drop_overlaps(group: _Group) -> set[Conflict]:
    """A directory cannot equal one source while a directory inside of it equals another."""
    at = {pair.target: pair for pair in group.pairs}
    overlapping = {
        (at[directory], pair) for pair in group.pairs for directory in trees.above(pair.target) if directory in at
    }
    for pair in {pair for both in overlapping for pair in both}:
        del group.pairs[pair]
    return {
        Conflict(target=outer.target, sources=tuple(sorted({outer.source, inner.source})))
        for outer, inner in overlapping
    }


def _promotions(
    groups: Iterable[_Group], config: RepoConfig, head: Snapshot, snapshot: Snapshot, ceiling: Ceiling
) -> Iterator[Promotion]:
    named: set[tuple[str, ...]] = set()
    for group in groups:
        pairs = tuple(sorted(group.pairs, key=lambda pair: pair.target))
        shown = [pair for pair in pairs if not pair.in_sync] or pairs
        sources = [group.pairs[pair].source for pair in shown] or [component.source for component in group.components]
        deletions = _deletions(group, head, snapshot)
        too_much = guards.too_much(deletions, ceiling.max_deletions)
        yield Promotion(
            source=min(sources),
            source_path=group.flow.source_path,
            line=group.pull.line,
            targets=group.targets,
            description=group.pull.target_description,
            key=_key(group, alone=group.targets not in named),
            components=tuple(sorted({pair.component for pair in shown})),
            pairs=pairs,
            skipped=tuple(sorted(group.skipped)),
            refused=tuple(sorted(group.refused - group.open)),
            auto_merge=group.auto_merge,
            held=too_much if ceiling.auto_merge else "the operator of Telefonistka does not allow it",
            deletions=deletions if too_much else (),
            labels=tuple(dict.fromkeys((*config.promotion_pr_labels, *group.pull.labels))),
            reviewers=group.pull.reviewers,
            on_newer=group.flow.on_newer,
        )
        named.add(group.targets)


def _deletions(group: _Group, head: Snapshot, snapshot: Snapshot) -> tuple[Deletion, ...]:
    found = (
        guards.deletion(snapshot, pair.target, pair.becomes, pair.source, whole=not component.name, sources=head)
        for pair, component in group.pairs.items()
        if not pair.in_sync
    )
    return tuple(sorted(one for one in found if one is not None))


def allowed_before(plan: Plan, earlier: Plan) -> Plan:
    """The plan, with merges by itself only where an earlier configuration's plan has them, too.

    A pull request that changes the configuration does not grant rights to its own merge.
    """
    merged = {promotion.key for promotion in earlier.promotions if promotion.auto_merge}
    late = "its configuration came with the same merge, and counts from the next one on"
    promotions = tuple(
        promotion if promotion.key in merged or promotion.held else replace(promotion, held=late)
        for promotion in plan.promotions
    )
    return replace(plan, promotions=promotions)


def why_nothing(plan: Plan) -> str:
    """Why a plan opens nothing, in words; "" where it does, or where what is left out says why."""
    if plan.to_open:
        return ""
    if any(promotion.pairs for promotion in plan.promotions):
        return "every target already equals its source"
    if any(promotion.skipped for promotion in plan.promotions):
        return "the components' own files rule out every target"
    if plan.untaken:
        return "no flow's labels are on the pull request"
    if plan.refusals or plan.conflicts:
        return ""
    return "no changed file belongs to a component of a flow"


def _key(group: _Group, *, alone: bool) -> str:
    """The hash in the branch's name: the original's, but for a second promotion to the same targets."""
    text = "_".join(group.targets) + ("" if alone else f"\n{group.flow.source_path}")
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


def branch(number: int, head_ref: str, promotion: Promotion) -> str:
    """The promotion's branch name, the original's but where that exceeds what GitHub can store."""
    start, end = f"{BRANCH_PREFIX}{number}-", f"-{promotion.key}"
    ref = head_ref.replace("/", "-")[:BRANCH_RUNES].encode()
    room = BRANCH_BYTES - len(start) - len(end)
    return start + ref[:room].decode(errors="ignore") + end
