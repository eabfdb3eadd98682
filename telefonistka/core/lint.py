"""What `telefonistka check` says of the configuration in a working tree, beyond what reading it already finds.

Two questions are asked of every flow: can it do what it says, and does it do what the original did.
"""

from __future__ import annotations

import itertools
import json
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from telefonistka.core import config, fanout, original, patterns, reach, trees
from telefonistka.core.config import ComponentConfig, Finding, Key, Parsed, Place, RepoConfig, Severity
from telefonistka.core.findings import nearest
from telefonistka.core.promotion import concatenated, misplaced
from telefonistka.core.reach import Reach


def check(
    root: bytes | None,
    components: Mapping[str, bytes],
    paths: Collection[str],
    *,
    allowed_hosts: Collection[str] = (),
) -> tuple[Finding, ...]:
    """All findings, sorted by file and place. What reading the files finds counts as an error here.

    `allowed_hosts` are those to which the operator lets the relay send.
    """
    if root is None:
        message = f"there is no {config.FILE} in the root: nothing is promoted or relayed"
        return (Finding(file=config.FILE, line=1, column=1, severity=Severity.ERROR, message=message),)
    parsed = config.repository(root)
    findings = list(_raised(parsed))
    for file, text in sorted(components.items()):
        findings += _raised(config.component(text, file=file))
    if parsed.value is not None:
        findings += _Lint(parsed.value, parsed.places, sorted(paths)).findings(components)
        findings += _slips(parsed.value, parsed.places, allowed_hosts)
    return tuple(sorted(set(findings), key=lambda f: (f.file, f.line, f.column, f.severity, f.message)))


def _raised(parsed: Parsed[RepoConfig] | Parsed[ComponentConfig]) -> Iterator[Finding]:
    return (replace(finding, severity=Severity.ERROR) for finding in parsed.findings)


# Formats


def as_text(findings: Sequence[Finding]) -> str:
    """A line per finding, and a last one that counts them."""
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    counts = f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"
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


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _data(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# Rules


class _Lint:
    """One check of one configuration against one tree."""

    def __init__(self, value: RepoConfig, places: Mapping[Key, Place], paths: Sequence[str]) -> None:
        self._value = value
        self._places = places
        self._paths = paths
        self._flows = reach.over(value, paths)

    def findings(self, components: Iterable[str]) -> Iterator[Finding]:
        for flow in self._flows:
            yield from self._pulls(flow)
            yield from self._own_targets(flow)
            yield from self._idle(flow)
            yield from self._unreachable(flow)
            yield from self._several_sources(flow)
            yield from self._expressions(flow)
        for one, other in itertools.combinations(self._flows, 2):
            yield from self._shared_targets(one, other)
        for flow, message in original.differences(self._flows, self._paths):
            yield self._differs(flow, message)
        yield from self._inert_keys()
        yield from self._idle_rules()
        yield from self._stray_components(components)

    def _find(self, severity: Severity, at: Key, message: str) -> Finding:
        line, column = nearest(self._places, at)
        return Finding(file=config.FILE, line=line, column=column, severity=severity, message=message)

    def _error(self, at: Key, message: str) -> Finding:
        return self._find(Severity.ERROR, at, message)

    def _warning(self, at: Key, message: str) -> Finding:
        return self._find(Severity.WARNING, at, message)

    def _differs(self, flow: Reach, message: str) -> Finding:
        return self._warning(_source_key(flow), f"differs from the original: {message}")

    # Targets

    def _pulls(self, flow: Reach) -> Iterator[Finding]:
        lists: dict[tuple[str, ...], int] = {}
        lines: dict[str, int] = {}
        for number, pull in enumerate(flow.flow.promotion_prs):
            at: Key = (*_key(flow), "promotionPrs", number)
            same = lists.setdefault(tuple(sorted(pull.target_paths)), pull.line)
            if same != pull.line:
                message = f"the same targets as in line {same}: both are one pull request, described there"
                yield self._warning(at, message)
                continue
            for index, target in enumerate(pull.target_paths):
                where = (*at, "targetPaths", index)
                yield from self._target(flow, target, where)
                line = lines.setdefault(target, pull.line)
                if line != pull.line:
                    yield self._warning(where, f"target path {target!r} is also in the pull request of line {line}")

    def _target(self, flow: Reach, target: str, at: Key) -> Iterator[Finding]:
        if fault := misplaced(target.removesuffix("/")):
            yield self._error(at, f"target path {target!r} {fault}: nothing is ever promoted to it")
        elif overlap := _overlap(flow, target):
            yield self._error(at, f"target path {target!r} {overlap}")

    def _own_targets(self, flow: Reach) -> Iterator[Finding]:
        targets = flow.targets
        for split in flow.splits:
            if split.path in {concatenated(target, split.name) for target in targets}:
                message = f"{split.path!r} is among its own targets, and is not promoted onto itself here"
                yield self._differs(flow, message)
                return

    def _shared_targets(self, one: Reach, other: Reach) -> Iterator[Finding]:
        """Whether two flows write to the same places."""
        if one.source_path == other.source_path:
            return
        for targets in sorted(one.target_sets & other.target_sets):
            names = ", ".join(targets)
            yield self._differs(
                other,
                f"{one.title} has the same targets ({names}), for which the original needs the same branch: the "
                "second pull request fails there; here its branch has a name of its own",
            )
        shared = one.targets & other.targets
        if shared and not one.shares_a_directory(other):
            what = f"target path {min(shared)!r} has several sources: {one.title} and this one"
            message = f"{what}; components of one name conflict unless they are equal"
            yield self._warning(_source_key(other), message)

    def _several_sources(self, flow: Reach) -> Iterator[Finding]:
        """Whether components of one name come from more than one source of the flow."""
        sources: dict[str, set[str]] = defaultdict(set)
        for split in flow.in_tree.values():
            sources[split.name].add(split.source)
        several = sorted(name for name, found in sources.items() if len(found) > 1)
        if not several or not flow.targets:
            return
        yield self._differs(
            flow,
            f"several sources for one target: {several[0]!r} is in {_joined(sorted(sources[several[0]]))}; if more "
            "than one of them changes, the original takes any; here they must be equal, else none is promoted",
        )

    # Flows that do nothing

    def _idle(self, flow: Reach) -> Iterator[Finding]:
        if not flow.targets:
            message = "this flow has no targets: it opens nothing, and keeps its files from the flows after it"
            yield self._warning(_source_key(flow), message)
        if not flow.source_path:
            message = "sourcePath is empty: every directory in the root is a component"
            yield self._warning(_source_key(flow), message)

    def _unreachable(self, flow: Reach) -> Iterator[Finding]:
        if flow.labels == ():
            return
        earlier = [one for one in self._flows[: flow.number] if one.holds_whenever(flow)]
        for one in earlier:
            if one.covers(flow):
                message = f"this flow is never reached: {one.title} takes all of its files"
                yield self._error(_source_key(flow), message)
                return
        if flow.in_tree and all(any(directory in one.in_tree for one in earlier) for directory in flow.in_tree):
            lines = sorted({one.flow.line for one in earlier if flow.in_tree.keys() & one.in_tree.keys()})
            message = f"no file of this tree reaches this flow: those of line {_joined(lines)} take all of its files"
            yield self._warning(_source_key(flow), message)

    # What differs from the original, whatever the tree

    def _expressions(self, flow: Reach) -> Iterator[Finding]:
        expression = flow.source_path
        if patterns.compile(expression).groups:
            message = "its expression has a capture group, which the original takes for the component; here it is none"
            yield self._differs(flow, message)
        if flow.auto_merge and not patterns.ends_with(expression, "/"):
            message = "a promotion of the directory as a whole is not merged by itself here if it deletes components"
            yield self._differs(flow, message)
        if len(patterns.alternatives(patterns.tokens(expression))) > 1:
            message = "only the first alternative of its expression is anchored to the start there; here all are"
            yield self._differs(flow, message)

    # The rest

    def _inert_keys(self) -> Iterator[Finding]:
        argocd = self._value.argocd
        for name, is_on in (
            ("autoMergeNoDiffPRs", argocd.auto_merge_no_diff_prs),
            ("createTempAppObjectFromNewApps", argocd.create_temp_app_object_from_new_apps),
        ):
            if is_on and not argocd.comment_diff_on_pr:
                yield self._warning(("argocd", name), f"{name!r} does nothing while 'commentDiffonPR' is off")
        if self._value.wh_proxt_skip_tls_verify_upstream and not self._value.webhook_endpoint_regexs:
            name = "whProxtSkipTLSVerifyUpstream"
            yield self._warning((name,), f"{name!r} does nothing without 'webhookEndpointRegexs'")

    def _idle_rules(self) -> Iterator[Finding]:
        for number, rule in enumerate(self._value.webhook_endpoint_regexs):
            if not rule.replacements:
                message = "this rule has no replacements: it calls nothing, and keeps its files from the rules after it"
                yield self._warning(("webhookEndpointRegexs", number), message)

    def _stray_components(self, files: Iterable[str]) -> Iterator[Finding]:
        """Component files that nobody reads. Those below a target are copies, or may become some."""
        targets = tuple({target for flow in self._flows for target in flow.targets if target})
        for file in sorted(files):
            directory = posixpath.dirname(file)
            if not directory or directory.startswith(targets):
                continue
            splits = [split for flow in self._flows if (split := flow.split(f"{directory}/"))]
            if any(split.path == directory for split in splits):
                continue
            reason = f"the component is {splits[0].path!r}" if splits else "no flow has a component here"
            message = f"this file is not read: {reason}"
            yield Finding(file=file, line=1, column=1, severity=Severity.WARNING, message=message)


def _slips(value: RepoConfig, places: Mapping[Key, Place], allowed_hosts: Collection[str]) -> Iterator[Finding]:
    """What is wrong with the relay's replacements: at run time a warning, because the original takes them."""
    for slip in fanout.slips(value, allowed_hosts=allowed_hosts):
        line, column = nearest(places, slip.key)
        yield Finding(file=config.FILE, line=line, column=column, severity=Severity.ERROR, message=slip.message)


def _key(flow: Reach) -> Key:
    return ("promotionPaths", flow.number)


def _source_key(flow: Reach) -> Key:
    return (*_key(flow), "sourcePath")


def _joined(things: Sequence[object]) -> str:
    return ", ".join(map(str, things[:4])) + (" …" if len(things) > 4 else "")


def _overlap(flow: Reach, target: str) -> str | None:
    """How the target path and a component of the flow lie in each other; None if they do not."""
    for split in flow.splits:
        here, there = split.path, concatenated(target, split.name)
        if here == there:
            continue
        if trees.within(there, here):
            return f"puts {there!r} inside its source {here!r}: that is refused"
        if trees.within(here, there):
            return f"puts {there!r} around its source {here!r}: that is refused"
    around = flow.split(f"{target.removesuffix('/')}/component/")
    if around and target.startswith(f"{around.path}/"):
        return f"lies inside {around.path!r}, a component of the same flow"
    return None
