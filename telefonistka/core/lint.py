"""What `telefonistka check` says of the configuration in a working tree, beyond what reading it already finds.

Two questions are asked of every flow: can it do what it says, and does it do what the original did. The second is
answered by working both rules out for the paths of the tree, and for one made-up path per simple source path, so
that a flow is judged before its first component exists.
"""

from __future__ import annotations

import itertools
import json
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from telefonistka.core import config, patterns
from telefonistka.core.config import ComponentConfig, Finding, Flow, Key, Parsed, RepoConfig, Severity

SAMPLES = 500  # paths for which both rules are worked out, with each set of labels; some 20 µs each and flow
LABELS = 10  # labels that are tried one by one


def check(root: bytes | None, components: Mapping[str, bytes], paths: Collection[str]) -> tuple[Finding, ...]:
    """All findings, sorted by file and place. What reading the files finds counts as an error here."""
    if root is None:
        message = f"there is no {config.FILE} in the root: nothing is promoted or relayed"
        return (Finding(file=config.FILE, line=1, column=1, severity=Severity.ERROR, message=message),)
    parsed = config.repository(root)
    findings = list(_raised(parsed))
    for file, text in sorted(components.items()):
        findings += _raised(config.component(text, file=file))
    if parsed.value is not None:
        findings += _Lint(parsed.value, parsed.places, sorted(paths)).findings(components)
    return tuple(sorted(set(findings), key=lambda f: (f.file, f.line, f.column, f.severity, f.message)))


def _raised(parsed: Parsed[RepoConfig] | Parsed[ComponentConfig]) -> Iterator[Finding]:
    return (replace(finding, severity=Severity.ERROR) for finding in parsed.findings)


# Formats


def as_text(findings: Sequence[Finding]) -> str:
    """A line per finding, and a last one that counts them."""
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    counts = f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    return "".join(f"{line}\n" for line in (*map(str, findings), counts))


def as_json(findings: Sequence[Finding]) -> str:
    """A JSON list of objects with file, line, column, severity and message."""
    rows = [
        {"file": f.file, "line": f.line, "column": f.column, "severity": str(f.severity), "message": f.message}
        for f in findings
    ]
    return json.dumps(rows, indent=2) + "\n"


def as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands that annotate the lines of a pull request."""
    # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message
    return "".join(
        f"::{f.severity} file={_property(f.file)},line={f.line},col={f.column}::{_data(f.message)}\n" for f in findings
    )


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _data(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# Rules


@dataclass(frozen=True, slots=True)
class _Split:
    """How one flow takes a path: its source and the component's name."""

    source: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What becomes of one path: which flow carries it out, from where, and whether it merges by itself."""

    flow: int | None
    split: _Split | None
    auto_merge: bool = False


@dataclass(slots=True)
class _Seen:
    """A flow, and the directories that it takes by its path alone."""

    number: int
    flow: Flow
    all: dict[str, _Split] = field(default_factory=dict)
    in_tree: dict[str, _Split] = field(default_factory=dict)  # those of them that are not made up

    @property
    def splits(self) -> list[_Split]:
        """The components, of which there is at least a made-up one."""
        return sorted(set(self.all.values()), key=_path)

    @property
    def labels(self) -> tuple[str, ...] | None:
        return self.flow.conditions.pr_has_labels

    @property
    def title(self) -> str:
        return f"the flow of line {self.flow.line}"

    def holds(self, labels: Collection[str]) -> bool:
        return self.labels is None or any(label in labels for label in self.labels)

    def holds_whenever(self, other: _Seen) -> bool:
        """Whether the other's labels are enough for this one."""
        if self.labels is None:
            return True
        return other.labels is not None and set(other.labels) <= set(self.labels)


class _Lint:
    """One check of one configuration against one tree."""

    def __init__(self, value: RepoConfig, places: Mapping[Key, config.Place], paths: Sequence[str]) -> None:
        self._value = value
        self._places = places
        self._paths = paths
        self._flows = [_Seen(number, flow) for number, flow in enumerate(value.promotion_paths)]
        self._original_splits: dict[tuple[int, str], _Split | None] = {}
        self._spread()

    def _spread(self) -> None:
        """Find out which flow takes which directory."""
        in_tree = sorted({posixpath.dirname(path) for path in self._paths} - {""})
        made_up = {sample for seen in self._flows if (sample := _sample(seen.flow))} - set(in_tree)
        for seen in self._flows:
            start = patterns.prefix(seen.flow.source_path)
            for directory in (*in_tree, *made_up):
                path = f"{directory}/"
                if path.startswith(start) and (split := _split(seen.flow, path)):
                    seen.all[directory] = split
            seen.in_tree = {directory: split for directory, split in seen.all.items() if directory not in made_up}

    def findings(self, components: Iterable[str]) -> Iterator[Finding]:
        for seen in self._flows:
            yield from self._targets(seen)
            yield from self._own_targets(seen)
            yield from self._idle(seen)
            yield from self._unreachable(seen)
            yield from self._several_sources(seen)
            yield from self._expressions(seen)
        yield from self._shared_targets()
        yield from self._differences()
        yield from self._inert_keys()
        yield from self._stray_components(components)

    def _find(self, severity: Severity, at: Key, message: str) -> Finding:
        while at and at not in self._places:
            at = at[:-1]
        line, column = self._places.get(at, (1, 1))
        return Finding(file=config.FILE, line=line, column=column, severity=severity, message=message)

    def _error(self, at: Key, message: str) -> Finding:
        return self._find(Severity.ERROR, at, message)

    def _warning(self, at: Key, message: str) -> Finding:
        return self._find(Severity.WARNING, at, message)

    def _differs(self, seen: _Seen, message: str) -> Finding:
        return self._warning(_source_key(seen), f"differs from the original: {message}")

    # Targets

    def _targets(self, seen: _Seen) -> Iterator[Finding]:
        lists: dict[tuple[str, ...], int] = {}
        lines: dict[str, int] = {}
        for pull, promotion in enumerate(seen.flow.promotion_prs):
            at: Key = (*_key(seen), "promotionPrs", pull)
            same = lists.setdefault(tuple(sorted(promotion.target_paths)), promotion.line)
            if same != promotion.line:
                yield self._warning(
                    at, f"the same targets as in line {same}: both are one pull request, described there"
                )
                continue
            for number, target in enumerate(promotion.target_paths):
                where = (*at, "targetPaths", number)
                yield from self._target(seen, target, where)
                line = lines.setdefault(target, promotion.line)
                if line != promotion.line:
                    yield self._warning(where, f"target path {target!r} is also in the pull request of line {line}")

    def _target(self, seen: _Seen, target: str, at: Key) -> Iterator[Finding]:
        fault = _fault(target)
        if fault:
            yield self._error(at, f"target path {target!r} {fault}: nothing is ever promoted to it")
            return
        for split in seen.splits:
            here, there = _path(split), _target_path(target, split)
            if here != there and (relation := _nested(there, here)):
                message = f"target path {target!r} puts {there!r} {relation} its source {here!r}: that is refused"
                yield self._error(at, message)
                return
        around = _split(seen.flow, f"{target.removesuffix('/')}/component/")
        if around and target.startswith(f"{_path(around)}/"):
            yield self._error(at, f"target path {target!r} lies inside {_path(around)!r}, a component of the same flow")

    def _own_targets(self, seen: _Seen) -> Iterator[Finding]:
        targets = {target for targets in _target_sets(seen) for target in targets}
        own = [_path(split) for split in seen.splits if _path(split) in {_target_path(t, split) for t in targets}]
        if own:
            yield self._differs(seen, f"{own[0]!r} is among its own targets, and is not promoted onto itself here")

    def _shared_targets(self) -> Iterator[Finding]:
        """Different flows that write to the same places."""
        for one, other in itertools.combinations(self._flows, 2):
            if one.flow.source_path == other.flow.source_path:
                continue
            mine, theirs = _target_sets(one), _target_sets(other)
            for targets in sorted(mine & theirs):
                names = ", ".join(targets)
                yield self._differs(
                    other,
                    f"{one.title} has the same targets ({names}), for which the original needs the same branch: the "
                    "second pull request fails there; here its branch has a name of its own",
                )
            shared = {t for targets in mine for t in targets} & {t for targets in theirs for t in targets}
            if shared and not _share_a_directory(one, other):
                what = f"target path {min(shared)!r} has several sources: {one.title} and this one"
                yield self._warning(
                    _source_key(other), f"{what}; components of one name conflict unless they are equal"
                )

    def _several_sources(self, seen: _Seen) -> Iterator[Finding]:
        """Whether components of one name come from more than one source of the flow."""
        sources: dict[str, set[str]] = defaultdict(set)
        for split in seen.in_tree.values():
            sources[split.name].add(split.source)
        several = sorted(name for name, found in sources.items() if len(found) > 1)
        targets = sorted({target for targets in _target_sets(seen) for target in targets})
        if not several or not targets:
            return
        yield self._differs(
            seen,
            f"several sources for one target: {several[0]!r} is in {_joined(sorted(sources[several[0]]))}; if more "
            "than one of them changes, the original takes any; here they must be equal, else none is promoted",
        )

    # Flows that do nothing

    def _idle(self, seen: _Seen) -> Iterator[Finding]:
        if not any(promotion.target_paths for promotion in seen.flow.promotion_prs):
            message = "this flow has no targets: it opens nothing, and keeps its files from the flows after it"
            yield self._warning(_source_key(seen), message)
        if not seen.flow.source_path:
            message = "sourcePath is empty: every directory in the root is a component"
            yield self._warning(_source_key(seen), message)

    def _unreachable(self, seen: _Seen) -> Iterator[Finding]:
        if seen.labels == ():
            return
        earlier = [one for one in self._flows[: seen.number] if one.holds_whenever(seen)]
        for one in earlier:
            if _covers(one.flow, seen.flow):
                message = f"this flow is never reached: {one.title} takes all of its files"
                yield self._error(_source_key(seen), message)
                return
        if seen.in_tree and all(any(directory in one.in_tree for one in earlier) for directory in seen.in_tree):
            lines = sorted({one.flow.line for one in earlier if seen.in_tree.keys() & one.in_tree.keys()})
            message = f"no file of this tree reaches this flow: those of line {_joined(lines)} take all of its files"
            yield self._warning(_source_key(seen), message)

    # What differs from the original

    def _expressions(self, seen: _Seen) -> Iterator[Finding]:
        parts = list(patterns.tokens(seen.flow.source_path))
        if any(part.text == "(" or part.text.startswith(("(?P<", "(?<")) for part in parts if part.kind == "open"):
            yield self._differs(
                seen, "its expression has a capture group, which the original takes for the component; here it is none"
            )
        if seen.flow.conditions.auto_merge and not patterns.ends_with(seen.flow.source_path, "/"):
            yield self._differs(
                seen, "a promotion of the directory as a whole is not merged by itself here if it deletes components"
            )
        level = 0
        for part in parts:
            level += {"open": 1, "close": -1}.get(part.kind, 0)
            if part.kind == "bar" and level == 0:
                yield self._differs(
                    seen, "only the first alternative of its expression is anchored to the start there; here all are"
                )
                return

    def _differences(self) -> Iterator[Finding]:
        """One finding for each flow and way in which the two plans part."""
        said: set[tuple[int, str]] = set()
        for file in self._samples():
            for labels in self._label_sets:
                ours, theirs = self._ours(file, labels), self._original(file, labels)
                if ours == theirs:
                    continue
                seen, kind, message = self._difference(file, labels, ours, theirs)
                if (seen.number, kind) not in said:
                    said.add((seen.number, kind))
                    yield self._differs(seen, message)

    def _difference(self, file: str, labels: frozenset[str], ours: _Taken, theirs: _Taken) -> tuple[_Seen, str, str]:
        """The flow that it is to be said of, the kind of difference, and the sentence."""
        when = f"{file!r}, {_with(labels)}"
        if ours.flow is None or ours.split is None:
            seen = self._flows[self._by_path(file) if theirs.flow is None else theirs.flow]
            if theirs.split is None:
                return seen, "junk", f"{file!r} is a file beside its components, which the original names as one"
            return seen, "other", f"{when}: the original promotes {_path(theirs.split)!r}, here it is no component"
        seen = self._flows[ours.flow]
        if theirs.flow is None:
            return seen, "nothing", f"{when}: the original promotes nothing, this flow {_path(ours.split)!r}"
        if theirs.split is None:
            return (
                seen,
                "name",
                f"{when}: the original cannot tell the component, this flow promotes {_path(ours.split)!r}",
            )
        if theirs.split != ours.split:
            what = f"the original promotes {_path(theirs.split)!r}, this flow {_path(ours.split)!r}"
            return seen, "split", f"{when}: {what}"
        if theirs.flow != ours.flow:
            return seen, "flow", f"{when}: the original takes the targets of line {self._flows[theirs.flow].flow.line}"
        merges, here = ("merges", "does not") if theirs.auto_merge else ("does not merge", "does")
        why = "by the autoMerge of the first flow with that path, whatever its labels"
        return seen, "merge", f"{when}: the original {merges} by itself, {why}; this flow {here}"

    def _samples(self) -> list[str]:
        """Files that together show everything that the flows do with this tree, or would with another."""
        files = {posixpath.dirname(path): path for path in reversed(self._paths)}
        by_behaviour: dict[tuple[object, ...], str] = {}
        directories = sorted({directory for seen in self._flows for directory in seen.all})
        for directory in directories:
            splits = tuple((seen.number, seen.all.get(directory)) for seen in self._flows if directory in seen.all)
            by_behaviour.setdefault(splits, files.get(directory, f"{directory}/file"))
        beside = [
            file
            for directory, file in sorted(files.items())
            if not any(directory in seen.in_tree for seen in self._flows) and self._is_original(file)
        ]
        return [*list(by_behaviour.values())[:SAMPLES], *beside[:SAMPLES]]

    @cached_property
    def _label_sets(self) -> list[frozenset[str]]:
        labels = sorted({label for seen in self._flows for label in seen.labels or ()})[:LABELS]
        return list(dict.fromkeys([frozenset(), *(frozenset({label}) for label in labels), frozenset(labels)]))

    def _ours(self, file: str, labels: Collection[str]) -> _Taken:
        directory = posixpath.dirname(file)
        for seen in self._flows:
            if directory in seen.all and seen.holds(labels):
                split = seen.all[directory]
                return _Taken(flow=seen.number, split=split, auto_merge=seen.flow.conditions.auto_merge)
        return _Taken(flow=None, split=None)

    # The original's rules: the path decides without the labels, then the source path is looked up once more.

    @cached_property
    def _starts(self) -> list[patterns.Pattern | None]:
        return [_compiled(f"^{seen.flow.source_path}.*") for seen in self._flows]

    def _is_original(self, file: str) -> bool:
        return any(start and start.search(file) for start in self._starts)

    def _by_path(self, file: str) -> int:
        return next(number for number, start in enumerate(self._starts) if start and start.search(file))

    def _original(self, file: str, labels: Collection[str]) -> _Taken:
        if not self._is_original(file):
            return _Taken(flow=None, split=None)
        first = self._flows[self._by_path(file)]
        split = self._original_split(first, file)
        source = split.source if split else file
        for seen in self._flows:
            if seen.holds(labels) and patterns.compile(seen.flow.source_path).search(source):
                return _Taken(flow=seen.number, split=split, auto_merge=first.flow.conditions.auto_merge)
        return _Taken(flow=None, split=None)

    def _original_split(self, seen: _Seen, file: str) -> _Split | None:
        if (seen.number, file) not in self._original_splits:
            self._original_splits[seen.number, file] = _original_split(seen.flow, file)
        return self._original_splits[seen.number, file]

    # The rest

    def _inert_keys(self) -> Iterator[Finding]:
        argocd = self._value.argocd
        for name, is_on in (
            ("autoMergeNoDiffPRs", argocd.auto_merge_no_diff_prs),
            ("createTempAppObjectFromNewApps", argocd.create_temp_app_object_from_new_apps),
        ):
            if is_on and not argocd.comment_diff_on_pr:
                yield self._warning(("argocd", name), f"{name!r} does nothing while 'commentDiffonPR' is off")
        for number, rule in enumerate(self._value.webhook_endpoint_regexs):
            if not rule.replacements:
                message = "this rule has no replacements: it calls nothing, and keeps its files from the rules after it"
                yield self._warning(("webhookEndpointRegexs", number), message)
        if self._value.wh_proxt_skip_tls_verify_upstream and not self._value.webhook_endpoint_regexs:
            name = "whProxtSkipTLSVerifyUpstream"
            yield self._warning((name,), f"{name!r} does nothing without 'webhookEndpointRegexs'")

    def _stray_components(self, files: Iterable[str]) -> Iterator[Finding]:
        """Component files that nobody reads. Those below a target are copies, or may become some."""
        targets = tuple({t for seen in self._flows for targets in _target_sets(seen) for t in targets if t})
        for file in sorted(files):
            directory = posixpath.dirname(file)
            if not directory or directory.startswith(targets):
                continue
            splits = [split for seen in self._flows if (split := _split(seen.flow, f"{directory}/"))]
            if any(_path(split) == directory for split in splits):
                continue
            reason = f"the component is {_path(splits[0])!r}" if splits else "no flow has a component here"
            message = f"this file is not read: {reason}"
            yield Finding(file=file, line=1, column=1, severity=Severity.WARNING, message=message)


def _key(seen: _Seen) -> Key:
    return ("promotionPaths", seen.number)


def _source_key(seen: _Seen) -> Key:
    return (*_key(seen), "sourcePath")


def _target_sets(seen: _Seen) -> set[tuple[str, ...]]:
    return {tuple(sorted(promotion.target_paths)) for promotion in seen.flow.promotion_prs if promotion.target_paths}


def _share_a_directory(one: _Seen, other: _Seen) -> bool:
    """Whether some path belongs to both, so that the first of them takes it and the second does not."""
    return any(directory in one.all for directory in other.all)


def _path(split: _Split) -> str:
    return split.source + split.name if split.name else split.source.removesuffix("/")


def _joined(things: Sequence[object]) -> str:
    return ", ".join(map(str, things[:4])) + (" …" if len(things) > 4 else "")


def _with(labels: Collection[str]) -> str:
    return f"with label{'s' * (len(labels) > 1)} {', '.join(sorted(labels))}" if labels else "without labels"


def _split(flow: Flow, path: str) -> _Split | None:
    match = flow.splitter.search(path)
    if match is None:
        return None
    start, end = match.start(flow.splitter.groups), match.end(flow.splitter.groups)
    return _Split(match.text[:start], match.text[start:end])


def _original_split(flow: Flow, file: str) -> _Split | None:
    """Source and name as the original's two expressions give them; None where they give the file itself, or none."""
    name = "/".join(["[^/]*"] * (1 + flow.component_path_extra_depth))
    named = _compiled(f"^{flow.source_path}({name})/.*")
    if named is None or named.search(file) is None:
        return None
    component = named.replace_all(file, "${1}")
    sourced = _compiled(f"^({flow.source_path}){component}/.*")
    if sourced is None or sourced.search(file) is None:
        return None
    return _Split(sourced.replace_all(file, "${1}"), component)


def _compiled(expression: str) -> patterns.Pattern | None:
    try:
        return patterns.compile(expression)
    except patterns.InvalidPattern:
        return None


def _sample(flow: Flow) -> str | None:
    """A directory that the flow takes, made up from an expression without groups; None if that does not succeed."""
    parts: list[str] = []
    for part in patterns.tokens(flow.source_path):
        if part.kind in ("open", "flags", "bar"):
            return None
        parts += {"char": part.text, "any": "x", "class": "x"}.get(part.kind, "")
    directory = "".join(parts) + "/".join(["component"] * (1 + flow.component_path_extra_depth))
    for made_up in (directory, f"{''.join(parts)}/component"):
        if "//" not in made_up and not made_up.startswith("/") and _split(flow, f"{made_up}/"):
            return made_up
    return None


def _covers(earlier: Flow, later: Flow) -> bool:
    """Whether it is certain that the earlier flow's path matches whatever the later one's does."""
    depth, limit = earlier.component_path_extra_depth, later.component_path_extra_depth
    if earlier.source_path == later.source_path:
        return depth <= limit
    start = patterns.literal(earlier.source_path)
    rest = patterns.prefix(later.source_path)
    if start is None or not rest.startswith(start):
        return False
    return depth <= limit + rest.removeprefix(start).count("/")


def _fault(target: str) -> str | None:
    """What is wrong with a target path wherever it comes from; None if nothing is."""
    segments = target.removesuffix("/").split("/")
    if not target:
        return "is empty"
    if target.startswith("/"):
        return "is absolute"
    if "" in segments:
        return "has an empty segment"
    if "." in segments or ".." in segments:
        return "has a segment '.' or '..'"
    if "\0" in target:
        return "holds a NUL"
    if segments[0].lower().startswith(".git") or any(segment.lower() == ".git" for segment in segments):
        return "lies under .github/ or .git*"
    return None


def _target_path(target: str, split: _Split) -> str:
    return target + split.name if split.name else target.removesuffix("/")


def _nested(there: str, here: str) -> str | None:
    if f"{there}/".startswith(f"{here}/"):
        return "inside"
    return "around" if f"{here}/".startswith(f"{there}/") else None
