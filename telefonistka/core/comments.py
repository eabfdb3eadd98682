"""Every text that the bot writes to GitHub: what is said, how content is kept inert, and GitHub's limits.

The prose stands in `telefonistka/templates/`, one Markdown file per comment; whoever starts the program reads those
files and gives them to `Words`. A promotion pull request's title and body have the original's fixed form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from telefonistka.core import chart, markdown, parts
from telefonistka.core import drift as drifts
from telefonistka.core import lineage as lineages
from telefonistka.core import promotion as promotions
from telefonistka.core.config import Finding
from telefonistka.core.drift import Content, Drift
from telefonistka.core.lineage import Lineage
from telefonistka.core.markdown import code as code
from telefonistka.core.markdown import cut as _cut
from telefonistka.core.markdown import inert as inert
from telefonistka.core.parts import BUDGET as BUDGET
from telefonistka.core.promotion import Files, Plan, Promotion
from telefonistka.core.results import Result, Standing
from telefonistka.core.trees import Oid

TAG = "<!-- telefonistka_tag -->"
TITLE_RUNES = 250  # the original's cut; GitHub takes 256
DELETIONS_BUDGET = 15_000  # characters of a body for what is deleted
COMMIT_SUBJECT = "Syncing from "
STATUS_LIMIT = 140  # characters: https://docs.github.com/en/rest/commits/statuses#create-a-commit-status

_BLANK = "&nbsp;" * 4
_MARKER = re.compile(r"<!-- telefonistka (\S+) -->")
# A comment's last line may name the trace that wrote it, which is no news to anybody.
_TRACE = re.compile(r"\n<!-- trace \S* -->\s*\Z")


class Words:
    """The comments, filled from templates: file name → Markdown with Jinja2.

    `own` are an operator's in the place of ours. One that fails with what there is to say is not used for that, and
    `complain` is told. Raises jinja2.TemplateError where a template is broken.
    """

    def __init__(
        self,
        templates: Mapping[str, str],
        own: Mapping[str, str] = MappingProxyType({}),
        complain: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._templates = _compiled(templates)
        self._own = _compiled({**templates, **own}) if own else self._templates
        self._complain = complain

    def plan(self, plan: Plan) -> tuple[str, ...]:
        """What the merge of a pull request leads to, and why it leads to nothing else: one or more comments."""
        return self._parts("plan", **_facts(plan))

    def plan_text(self, plan: Plan) -> str:
        """The same for a terminal, in one piece."""
        return parts.whole(self._text("plan", **_facts(plan)))

    def chart(self, plan: Plan) -> str:
        """What is promoted where, as a Mermaid chart alone."""
        return self._text("chart", **_facts(plan))

    def no_plan(self, findings: Collection[Finding]) -> str:
        """Why there is no plan: what `broken_config` says, in its place."""
        return self._filled("broken_config", kind="plan", findings=findings)

    def drift(self, drift: Drift, contents: Mapping[Oid, Content], *, page: str, branch: str) -> tuple[str, ...]:
        """Which targets are not what their sources are: one or more comments.

        `page` is the repository's address for people, `branch` the default branch's name.
        """
        shown = [(one, list(drifts.files(one, contents))) for one in drift.unexplained]
        return self._parts("drift", drift=drift, shown=shown, page=page, branch=branch, reasons=drifts.Reason)

    def no_drift(self, *, branch: str) -> str:
        """What stands in the place of a drift that is gone."""
        return self._filled("no_drift", kind="drift", branch=branch)

    def broken_config(self, findings: Collection[Finding]) -> str:
        """Why nothing is promoted: the repository's own file cannot be used."""
        return self._filled("broken_config", findings=findings)

    def result(self, results: Collection[Result], plan: Plan) -> tuple[str, ...]:
        """What came of a merge, and where it stands now: one or more comments."""
        ended = all(one.has_ended for one in results)
        return self._parts("result", results=results, plan=plan, ended=ended, standings=Standing)

    def newer(self, by: int | None, *, changed: bool) -> str:
        """What becomes of an open promotion whose source has moved on."""
        return self._filled("newer", by=by, changed=changed)

    def command(self, kind: str, **facts: Any) -> str:
        """The reply to one comment: what can be asked for, or why something was not done."""
        return self._filled("command", kind=kind, **facts)

    def check(self, findings: Collection[Finding], *, head: str, broken: bool) -> str:
        """What is wrong with the configuration files that a pull request changes."""
        return self._filled("check", findings=findings, head=head, broken=broken)

    def merge(self, reason: str, *, waits: bool) -> str:
        """Why a promotion is not merged by itself: yet, or at all."""
        return self._filled("merge", reason=reason, waits=waits)

    def conflict(self, reason: str, *, branch: str) -> str:
        """That a promotion was in conflict with the default branch and is built anew, or why it is not."""
        return self._filled("conflict", reason=reason, branch=branch)

    def unapproved(self, reason: str, *, given: bool = False) -> str:
        """Why a promotion has no approval of the second identity, or why that is not enough."""
        return self._filled("unapproved", reason=reason, given=given)

    def ceiling(self, excesses: Collection[str]) -> str:
        """What a configuration asks for in vain."""
        return self._filled("ceiling", excesses=excesses)

    def _filled(self, name: str, *, kind: str | None = None, **facts: Any) -> str:
        start = f"{TAG}\n{marker(kind or name)}\n"
        return start + _cut(self._text(name, **facts), BUDGET - len(start))

    def _parts(self, kind: str, **facts: Any) -> tuple[str, ...]:
        def notice(names: Sequence[str], count: int) -> str:
            return self._text("left_out", kind=kind, names=names, count=count, **facts)

        head = f"{TAG}\n{marker(kind)}\n"
        return parts.packed(self._text(kind, **facts), head, self._text("continued") + "\n\n", notice)

    def _text(self, name: str, **facts: Any) -> str:
        file = f"{name}.md"
        try:
            text = self._own[file].render(facts)
        except Exception as error:
            if self._own is self._templates:
                raise
            # Whatever somebody wrote into it: better our words than none.
            self._complain(f"{file}: {type(error).__name__}: {error}")
            text = self._templates[file].render(facts)
        return re.sub(r"\n{3,}", "\n\n", text)


def _environment(templates: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.DictLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        code=code,
        inert=inert,
        cell=markdown.cell,
        fenced=markdown.fenced,
        files=files,
        html=markdown.html,
        node=markdown.node,
        path=markdown.path,
    )
    environment.globals.update(part=parts.start)
    return environment


def _compiled(templates: Mapping[str, str]) -> dict[str, jinja2.Template]:
    environment = _environment(templates)
    return {name: environment.get_template(name) for name in templates}


def faults(templates: Mapping[str, str], own: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with an operator's templates, each by file and line: syntax, or a name that nothing stands for."""
    environment = _environment({**templates, **own})
    for name, text in sorted(own.items()):
        try:
            tree = environment.parse(text, name)
            environment.compile(tree, name)
            unknown = meta.find_undeclared_variables(tree) - _known(environment, templates[name])
        except jinja2.TemplateSyntaxError as error:
            yield f"{name}:{error.lineno}: {error.message}"
            continue
        used = [one for one in tree.find_all(nodes.Name) if one.name in unknown]
        for one in {one.name: one for one in reversed(used)}.values():
            yield f"{name}:{one.lineno}: nothing is called {one.name!r} here"
        for other in tree.find_all(nodes.Include):
            if isinstance(other.template, nodes.Const) and other.template.value not in {*templates, *own}:
                yield f"{name}:{other.lineno}: there is no template {other.template.value!r}"


def _known(environment: ImmutableSandboxedEnvironment, text: str) -> set[str]:
    """The names that our own template of a comment uses: all that there is to say of it."""
    return {*meta.find_undeclared_variables(environment.parse(text)), *environment.globals}


def _facts(plan: Plan) -> dict[str, Any]:
    return {"plan": plan, "chart": chart.of(plan), "why": promotions.why_nothing(plan)}


def files(count: Files) -> str:
    """How many files of a target are touched, in words."""
    told = {"added": count.added, "changed": count.changed, "removed": count.removed}
    return ", ".join(f"{number} {word}" for word, number in told.items() if number) or "no files"


def marker(kind: str) -> str:
    """The line by which the one comment of a kind is found again."""
    return f"<!-- telefonistka {kind} -->"


def is_marked(body: str, line: str) -> bool:
    """Whether a comment of ours is of the kind with this marker; what stands further below is content."""
    return any(one.startswith(line) for one in body.splitlines()[:2])


def is_the_originals(body: str) -> bool:
    """Whether a comment under our name was left by the original Telefonistka."""
    lines = body.splitlines()
    return lines[:1] == [TAG] and not (lines[1:2] and _MARKER.fullmatch(lines[1].strip()))


def says_the_same(one: str, other: str) -> bool:
    """Whether two comments differ in nothing that people would want to know."""
    first, second = (_TRACE.sub("", text.replace("\r\n", "\n")).rstrip() for text in (one, other))
    return first == second


def traced(text: str, trace: str) -> str:
    """The comment with a last line that people do not see; the same comment where there is no trace."""
    return f"{text}\n<!-- trace {trace} -->" if trace else text


def title(promotion: Promotion) -> str:
    whole = markdown.plain(_whole_title(promotion))
    return whole if len(whole) <= TITLE_RUNES else whole[:TITLE_RUNES] + "..."


def _whole_title(promotion: Promotion) -> str:
    description = promotion.description or " ".join(promotion.told_targets)
    return f"🚀 Promotion: {','.join(promotion.components)} ➡️  {description}"


def body(promotion: Promotion, lineage: Lineage) -> str:
    """A promotion pull request's body: the chain for people, and the same as hidden metadata.

    What exceeds GitHub's limit goes in this order: the oldest hops, the promoted paths of the metadata, the end of
    the list of targets.
    """
    for smaller in _shrinking(lineage):
        text = _body(promotion, smaller)
        if len(text) <= BUDGET:
            return text
    return text[:BUDGET]


def _shrinking(lineage: Lineage) -> Iterator[Lineage]:
    yield lineage
    while len(lineage.hops) > 1:
        lineage = lineage.without_oldest_hop()
        yield lineage
    lineage = replace(lineage, promoted_paths=())
    yield lineage
    for number, hop in lineage.hops.items():
        for count in (len(hop.targets) // 2**halvings for halvings in range(1, 16)):
            yield replace(lineage, hops={number: replace(hop, targets=hop.targets[:count])})


def _body(promotion: Promotion, lineage: Lineage) -> str:
    rest = markdown.plain(_whole_title(promotion))[TITLE_RUNES:].replace(markdown.BREAK, "")
    start = f"...{inert(rest)}\n" if rest else ""
    components = ",".join(inert(name) for name in promotion.components)
    chain = flow(lineage, promotion.hidden_targets)
    return f"{start}Promotion path({components}):\n\n{chain}\n{lineages.marker(lineage)}{_deletions(promotion)}"


def _deletions(promotion: Promotion) -> str:
    """What people should look at before they merge; empty where that is nothing out of the ordinary."""
    if not promotion.deletions:
        return ""
    lines = ["\n\n**Please look before you merge:** this deletes many files, so it is never merged by itself.\n"]
    for deletion in promotion.deletions:
        lines.append(f"- {code(deletion.target)}: {deletion.count} of {deletion.of} files\n")
        lines += [f"  - {code(path)}, the whole component\n" for path in deletion.components]
        lines += [f"  - {code(path)}\n" for path in deletion.files]
        if deletion.count > len(deletion.files):
            lines.append(f"  - and {deletion.count - len(deletion.files)} more\n")
    return _cut("".join(lines), DELETIONS_BUDGET)


def flow(lineage: Lineage, hidden: Collection[str] = ()) -> str:
    """The chain as people see it: one block per hop, oldest first, without the targets that are hidden."""
    lines = []
    for depth, (number, hop) in enumerate(sorted(lineage.hops.items())):
        lines.append(f"{_BLANK * depth}↘️  #{number}  {code(hop.source)} ➡️  \n")
        lines += [
            f"{_BLANK * (depth + 1)}{code(target)}  \n" for target in sorted(set(hop.targets)) if target not in hidden
        ]
    return "".join(lines)


def commit_message(promotion: Promotion) -> str:
    return f"{COMMIT_SUBJECT}{markdown.plain(promotion.source)}"


def status(text: str) -> str:
    """A sentence as a commit status shows it: one line, without Markdown, cut to what GitHub takes."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).replace("`", "").replace("**", "").strip()
    return plain if len(plain) <= STATUS_LIMIT else plain[: STATUS_LIMIT - 1] + "…"
