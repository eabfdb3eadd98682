"""Every text that the bot writes to GitHub: what is said, how content is kept inert, and GitHub's limits.

The prose stands in `telefonistka/templates/`, one Markdown file per comment; whoever starts the program reads those
files and gives them to `Words`. A promotion pull request's title and body have the original's fixed form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from telefonistka.core import lineage as lineages
from telefonistka.core.config import Finding
from telefonistka.core.lineage import Lineage
from telefonistka.core.promotion import Plan, Promotion

TAG = "<!-- telefonistka_tag -->"
TITLE_RUNES = 250  # the original's cut; GitHub takes 256
BUDGET = 65_000  # characters of a body or comment; GitHub refuses more than 65,536
COMMIT_SUBJECT = "Syncing from "
STATUS_LIMIT = 140  # characters: https://docs.github.com/en/rest/commits/statuses#create-a-commit-status

_BLANK = "&nbsp;" * 4
_BREAK = "&#8203;"  # a space without width: it ends what GitHub would turn into a link or a mention
_SPECIAL = re.compile(r"[\\`*\[\]|~]|^[-+>=]", re.MULTILINE)
_REFERENCE = re.compile(r"(?i)@|#|\bGH-|://|[0-9a-f]{6}(?=[0-9a-f])")  # six digits are too few for a commit


class Words:
    """The comments, filled from templates: file name → Markdown with Jinja2.

    Raises jinja2.TemplateError where a template is broken.
    """

    def __init__(self, templates: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            loader=jinja2.DictLoader(templates),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(code=code, inert=inert)
        self._templates = {name: environment.get_template(name) for name in templates}

    def plan(self, plan: Plan) -> str:
        """What the merge of a pull request leads to, and why it leads to nothing else."""
        return self._filled("plan", plan=plan)

    def broken_config(self, findings: Collection[Finding]) -> str:
        """Why nothing is promoted: the repository's own file cannot be used."""
        return self._filled("broken_config", findings=findings)

    def _filled(self, kind: str, **facts: Any) -> str:
        start = f"{TAG}\n{marker(kind)}\n"
        text = re.sub(r"\n{3,}", "\n\n", self._templates[f"{kind}.md"].render(facts))
        return start + _cut(text, BUDGET - len(start))


def marker(kind: str) -> str:
    """The line by which the one comment of a kind is found again."""
    return f"<!-- telefonistka {kind} -->"


def title(promotion: Promotion) -> str:
    whole = _whole_title(promotion)
    return whole if len(whole) <= TITLE_RUNES else whole[:TITLE_RUNES] + "..."


def _whole_title(promotion: Promotion) -> str:
    description = promotion.description or " ".join(promotion.targets)
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
    rest = _whole_title(promotion)[TITLE_RUNES:]
    start = f"...{inert(rest)}\n" if rest else ""
    components = ",".join(inert(name) for name in promotion.components)
    chain = flow(lineage, promotion.hidden_targets)
    return f"{start}Promotion path({components}):\n\n{chain}\n{lineages.marker(lineage)}"


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
    return f"{COMMIT_SUBJECT}{promotion.source}"


def status(text: str) -> str:
    """A sentence as a commit status shows it: one line, without Markdown, cut to what GitHub takes."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).replace("`", "").replace("**", "").strip()
    return plain if len(plain) <= STATUS_LIMIT else plain[: STATUS_LIMIT - 1] + "…"


def code(text: str) -> str:
    """Text as inert inline code: on one line, in a fence longer than any run of backticks in it.

    https://github.github.com/gfm/#code-spans
    """
    line = _printable(text)
    runs = re.findall("`+", line)
    if not runs:
        return f"`{line}`"
    fence = "`" * (max(map(len, runs)) + 1)
    return f"{fence} {line} {fence}"


def inert(text: str) -> str:
    """Text that GitHub shows as it is: no mention, reference, link, HTML or markup comes of it."""
    plain = _printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _SPECIAL.sub(lambda found: "\\" + found[0], plain)
    return _REFERENCE.sub(lambda found: found[0] + _BREAK, plain)


def _printable(text: str) -> str:
    # Line ends would leave the construct, bidirectional controls would reorder what people read.
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _cut(text: str, limit: int) -> str:
    """The text, or its first whole lines with a word on how many are left out."""
    if len(text) <= limit:
        return text
    lines = text.splitlines(keepends=True)
    kept, size = 0, 100  # characters for the last line
    while size + len(lines[kept]) <= limit:
        size += len(lines[kept])
        kept += 1
    return "".join(lines[:kept]) + f"\n… {len(lines) - kept} more lines are left out: GitHub takes no longer comment.\n"
