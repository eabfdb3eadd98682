"""What becomes of a path: its flow, component, targets and endpoints, and every rule that said no, with its place.

Asked before there is a change, of the files of a working tree: it is what the rules say, not what a merge would do.
Whether a target equals its source already is the plan's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from telefonistka.core import config, fanout, patterns, promotion, trees
from telefonistka.core.config import ComponentConfig, Flow, Key, Parsed, RelayRule, RepoConfig
from telefonistka.core.fanout import Change, Routes
from telefonistka.core.findings import nearest, shown
from telefonistka.core.promotion import CONFIG_FILE, Component, Plan, Touched, concatenated
from telefonistka.core.trees import TREE, Entry, Oid, Snapshot

EVENTS: Final[tuple[fanout.Event, ...]] = ("push", "pull_request")

Line = Sequence[tuple[str, str]]  # text and its tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A path that the component is promoted to, and the line that says so."""

    path: str
    description: str
    place: str
    merged_by_itself: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL that hears of changes to the path, of which events, and by which rule."""

    url: str
    events: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A rule that said no."""

    place: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The flow that takes the path, and the component that it belongs to there."""

    flow: str  # its place
    source_path: str
    component: str  # its directory
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that the configuration says of one path."""

    path: str
    exists: bool
    taken: Taken | None
    targets: tuple[Target, ...]
    endpoints: tuple[Address, ...]
    denials: tuple[Denial, ...]  # of promotion, then of the relay, in the order of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked about: a path, as a change with these labels and on this branch would touch it."""

    path: str
    labels: Collection[str] = ()
    branch: str = "main"  # the default branch
    allowed_hosts: Collection[str] = ()


def explain(
    asked: Asked, root: Parsed[RepoConfig], components: Mapping[str, bytes], paths: Collection[str]
) -> Explanation:
    """What the rules say of the path. `root` is a usable configuration, `components` every component's file by path."""
    assert root.value is not None
    below = sorted(path for path in paths if path.startswith(f"{asked.path}/"))
    promoted = _Promotion(asked, root, components, paths)
    file = f"{asked.path}/" if below else asked.path  # a directory stands for any file in it
    taken = promoted.follow(file)
    relay = _Relay(asked, root.value, below or [asked.path])
    return Explanation(
        path=asked.path,
        exists=bool(below) or asked.path in paths,
        taken=taken,
        targets=tuple(promoted.targets),
        endpoints=tuple(relay.endpoints()),
        denials=(*promoted.denials, *relay.denials),
    )


class _Promotion:
    """The way of one file through the flows."""

    def __init__(
        self, asked: Asked, root: Parsed[RepoConfig], components: Mapping[str, bytes], paths: Collection[str]
    ) -> None:
        assert root.value is not None
        self._config = root.value
        self._places = root.places
        self._asked = asked
        self._files = components
        self._snapshot = _snapshot(paths)
        self.targets: list[Target] = []
        self.denials: list[Denial] = []

    def follow(self, file: str) -> Taken | None:
        taken: tuple[Component, Flow] | None = None
        for number, flow in enumerate(self._config.promotion_paths):
            component = _component(file, number, flow)
            reason = self._refusal(file, flow, component, taken)
            if reason:
                self._deny(number, f"flow {shown(flow.source_path)}", reason)
            elif component is not None:
                taken = component, flow
        if taken is None:
            return None
        component, flow = taken
        self._promote(component, flow)
        if self._config.dry_run_mode:
            place = _at(nearest(self._places, ("dryRunMode",)).line)
            self.denials.append(Denial(place=place, subject="dryRunMode", reason="plans are commented, nothing opens"))
        return Taken(flow=_at(flow.line), source_path=flow.source_path, component=component.path, name=component.title)

    def _refusal(self, file: str, flow: Flow, component: Component | None, taken: tuple[Component, Flow] | None) -> str:
        """Why a flow does not take the file, "" where it does."""
        if component is None:
            return _mismatch(file, flow)
        if taken is not None:
            return f"the flow of line {taken[1].line} takes it first"
        wanted = flow.conditions.pr_has_labels
        if wanted is None or any(label in self._asked.labels for label in wanted):
            return ""
        if not wanted:
            return "prHasLabels is an empty list, so it never applies"
        return f"the pull request needs one of the labels {', '.join(wanted)}"

    def _promote(self, component: Component, flow: Flow) -> None:
        rules = self._rules(component)
        plan = promotion.plan(Touched(components=(component,)), self._config, rules, self._snapshot)
        wanted = {pair.target for each in plan.promotions for pair in each.pairs}
        for number, pull in enumerate(flow.promotion_prs):
            found = next((one for one in plan.promotions if one.targets == tuple(sorted(pull.target_paths))), None)
            for index, prefix in enumerate(pull.target_paths):
                place = self._place(component.flow, "promotionPrs", number, "targetPaths", index)
                path = concatenated(prefix, component.name)
                if path in wanted:
                    target = Target(
                        path=path,
                        description=pull.target_description,
                        place=place,
                        merged_by_itself=found is not None and found.merges_itself,
                    )
                    self.targets.append(target)
                else:
                    self.denials.append(_left_out(plan, component, prefix, place))
        self.denials += [
            Denial(place=_at(each.line), subject="autoMerge", reason=f"not merged by itself: {each.held}")
            for each in plan.promotions
            if each.auto_merge and each.held
        ]

    def _rules(self, component: Component) -> dict[str, Parsed[ComponentConfig]]:
        text = self._files.get(component.config_file)
        return {} if text is None else {component.path: config.component(text, file=component.config_file)}

    def _deny(self, number: int, subject: str, reason: str) -> None:
        self.denials.append(Denial(place=self._place(number, "sourcePath"), subject=subject, reason=reason))

    def _place(self, flow: int, *rest: str | int) -> str:
        key: Key = ("promotionPaths", flow, *rest)
        return _at(nearest(self._places, key).line)


def _component(file: str, number: int, flow: Flow) -> Component | None:
    match = flow.splitter.search(file)
    if match is None:
        return None
    name = flow.splitter.groups
    return Component(source=file[: match.start(name)], name=file[match.start(name) : match.end(name)], flow=number)


def _mismatch(file: str, flow: Flow) -> str:
    """Why a flow's expression does not match."""
    found = patterns.compile(flow.source_path).search(file)
    if patterns.compile(f"^(?:{flow.source_path})").search(file):
        depth = 1 + flow.component_path_extra_depth
        return f"it is not deep enough: a component is {depth} level{'s' * (depth > 1)} below the source"
    if found is not None:
        return "its sourcePath matches further on, and counts from the start of the path only"
    return "its sourcePath does not match"


def _left_out(plan: Plan, component: Component, prefix: str, place: str) -> Denial:
    """Why a configured target is none of the plan's."""
    path = concatenated(prefix, component.name)
    skips = (skip for each in plan.promotions for skip in each.skipped if skip.target == prefix)
    if (skip := next(skips, None)) is not None:
        return Denial(place=skip.place, subject=f"target {path}", reason=skip.reason)
    for refusal in plan.refusals:
        if refusal.subject in (path, prefix, component.path):
            return Denial(place=place, subject=f"target {path}", reason=refusal.reason)
    reason = "it is the component itself" if path == component.path else "it overlaps with another target"
    return Denial(place=place, subject=f"target {path}", reason=reason)


def _snapshot(paths: Iterable[str]) -> Snapshot:
    """The directories of these files, with ids that are made up: no two are equal."""
    files = {path: Entry("100644", _made_up(path)) for path in paths}
    directories = {directory for path in files for directory in trees.above(path)}
    listing = files | {directory: Entry(TREE, _made_up(directory)) for directory in directories}
    return trees.index(_made_up(""), listing.items())


def _made_up(path: str) -> Oid:
    return Oid(hashlib.sha1(path.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest())


class _Relay:
    """The way of some files through the relay's rules."""

    def __init__(self, asked: Asked, value: RepoConfig, files: Sequence[str]) -> None:
        self._asked = asked
        self._config = value
        self._files = files
        self._taken: dict[tuple[str, str], int] = {}  # event and file → the line of the rule that has it
        self.denials: list[Denial] = []

    def endpoints(self) -> Iterator[Address]:
        for rule in self._config.webhook_endpoint_regexs:
            free = self._free(rule)
            if isinstance(free, str):
                self._deny(rule, free)
                continue
            urls: dict[str, list[str]] = {}
            for event, files in free.items():
                self._taken |= {(event, file): rule.line for file in files}
                for url in self._urls(rule, event, files):
                    urls.setdefault(url, []).append(event)
            yield from (Address(url=url, events=tuple(urls[url]), place=_at(rule.line)) for url in sorted(urls))

    def _free(self, rule: RelayRule) -> dict[fanout.Event, list[str]] | str:
        """The files that the rule gets of each event, or why it gets none."""
        if rule.branches and self._asked.branch not in rule.branches:
            return f"it is for the branches {', '.join(rule.branches)}, and this is {self._asked.branch}"
        pattern = patterns.compile(rule.expression)
        matching = [file for file in self._files if pattern.search(file)]
        if not matching:
            return "its expression is not found in the path"
        free = {
            event: [file for file in matching if (event, file) not in self._taken]
            for event in EVENTS
            if event in rule.events
        }
        if not any(free.values()):
            lines = {line for (event, file), line in self._taken.items() if event in free and file in matching}
            return f"the rule of line {min(lines)} takes it first" if lines else "it is for no event"
        if not rule.replacements:
            return "it has no replacements"
        return {event: files for event, files in free.items() if files}

    def _urls(self, rule: RelayRule, event: fanout.Event, files: Sequence[str]) -> Iterator[str]:
        alone = self._config.model_copy(update={"webhook_endpoint_regexs": (rule,)})
        branch = self._asked.branch
        change = Change(event=event, branch=branch, default_branch=branch, files=tuple(files))
        routing = Routes(alone, allowed_hosts=self._asked.allowed_hosts).endpoints(change)
        for refused in routing.refused:
            denial = Denial(
                place=_at(refused.line), subject=f"replacement {shown(refused.template)}", reason=refused.reason
            )
            if denial not in self.denials:
                self.denials.append(denial)
        yield from (endpoint.url for endpoint in routing.endpoints)

    def _deny(self, rule: RelayRule, reason: str) -> None:
        subject = f"relay rule {shown(rule.expression)}"
        self.denials.append(Denial(place=_at(rule.line), subject=subject, reason=reason))


def _at(line: int) -> str:
    return f"{CONFIG_FILE}:{line}"


# Words


def lines(found: Explanation) -> Iterator[Line]:
    """The explanation for people, in lines of text with tones."""
    yield [(found.path, "strong"), ("" if found.exists else "  (there is no such file; if there were:)", "dim")]
    yield from _promotion_lines(found)
    yield from _relay_lines(found)
    if found.denials:
        yield [("said no", "strong")]
        for denial in found.denials:
            yield [(f"  {denial.subject}: {denial.reason}", ""), (f"  {denial.place}", "dim")]


def _promotion_lines(found: Explanation) -> Iterator[Line]:
    if found.taken is None:
        yield [("promoted", "strong"), ("  nowhere: no flow takes it", "")]
        return
    taken = found.taken
    yield [
        ("promoted", "strong"),
        (f"  as part of the component {taken.component}, by the flow {shown(taken.source_path)}", ""),
        (f"  {taken.flow}", "dim"),
    ]
    for target in found.targets:
        words = " ".join(filter(None, (target.description, "(merged by itself)" * target.merged_by_itself)))
        yield [("  → ", ""), (target.path, "good"), (f"  {words}" if words else "", ""), (f"  {target.place}", "dim")]
    if not found.targets:
        yield [("  to no target", "")]


def _relay_lines(found: Explanation) -> Iterator[Line]:
    if not found.endpoints:
        yield [("relayed", "strong"), ("  nowhere", "")]
        return
    yield [("relayed", "strong")]
    for address in found.endpoints:
        yield [("  → ", ""), (address.url, "good"), (f"  {', '.join(address.events)}  {address.place}", "dim")]
