"""Every text that we write, whole: `golden/<template>.<case>.md`, several comments with a line between them.

A text that is meant to change is written by `python -m tests.core.test_words`, and read before it is committed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from telefonistka import templates
from telefonistka.core import drift, promotion
from telefonistka.core.comments import Words
from telefonistka.core.config import Finding, Severity
from telefonistka.core.drift import Content, Divergence, Drift, LastCommit, OpenPromotion
from telefonistka.core.promotion import Pair, Plan
from telefonistka.core.results import Result, Standing
from telefonistka.core.trees import Oid, Sha, Snapshot
from tests.core.values import flow, repo_config, snapshot

GOLDEN = Path(__file__).parent / "golden"
OURS = templates.load()
BETWEEN = "\n==== another comment ====\n\n"

PAGE = "https://github.example/acme/iac"
HEAD = "0123456789abcdef0123456789abcdef01234567"
LONG = "long " * 8_000  # half a comment

WRONG = (
    Finding(file="telefonistka.yaml", line=3, column=5, severity=Severity.ERROR, message="expected a list"),
    Finding(file="lab/`x`/telefonistka.yaml", line=1, column=1, severity=Severity.WARNING, message="unknown key '@b'"),
)
FILES = {
    "lab/web/app.yaml": "image: 2\nport: 80\n",
    "lab/web/new.yaml": "a\n",
    "prod/web/app.yaml": "image: 1\nport: 80\n",
    "prod/web/gone.yaml": "b\n",
    "eu/web/app.yaml": "image: 1\nport: 80\n",
}


def plan(*targets: str, files: Mapping[str, str] = FILES, auto: bool = False) -> Plan:
    rules = repo_config(
        flow("lab/", ["edge/"], labels=["go"]), flow("lab/", *([target] for target in targets), auto=auto)
    )
    found = promotion.touched(["lab/web/app.yaml", "docs/a"], [], rules)
    return promotion.plan(found, rules, {}, snapshot(files))


def drifting(*divergences: Divergence) -> Drift:
    return Drift(commit=Sha(HEAD), divergences=divergences)


def pair(tree: Snapshot, target: str) -> Pair:
    return Pair(
        target=target, source="lab/web", component="web", becomes=tree.entry("lab/web"), current=tree.entry(target)
    )


def some_drift(words: Words) -> tuple[str, ...]:
    """One target that people changed, one that an open promotion brings up, one that is not there yet."""
    tree = snapshot(FILES)
    becomes = tree.entry("lab/web")
    assert becomes is not None
    last = LastCommit(sha=Sha("f" * 40), author="grace`", date="2026-01-02T03:04:05Z")
    found = drifting(
        drift.between(tree, pair(tree, "prod/web"), [OpenPromotion(number=8, holds={"prod/web": Oid("a" * 40)})], last),
        drift.between(tree, pair(tree, "eu/web"), [OpenPromotion(number=7, holds={"eu/web": becomes.oid})]),
        drift.between(tree, pair(tree, "us/web")),
    )
    return words.drift(found, contents(FILES), page=PAGE, branch="main")


def contents(files: Mapping[str, str]) -> Mapping[Oid, Content]:
    tree = snapshot(files)
    entries = {path: tree.entry(path) for path in files}
    return {one.oid: Content(size=len(files[path]), text=files[path]) for path, one in entries.items() if one}


def long_drift(words: Words) -> tuple[str, ...]:
    """More than five comments hold."""
    files = {f"{side}/web/{name}": f"{side}\n" * 6_000 for side in ("lab", "prod") for name in "abcdefghijkl"}
    tree = snapshot(files)
    return words.drift(drifting(drift.between(tree, pair(tree, "prod/web"))), contents(files), page=PAGE, branch="main")


def long_plan(words: Words) -> tuple[str, ...]:
    made = plan(*(f"{name}/" for name in "abcdefgh"))
    return words.plan(replace(made, promotions=tuple(replace(one, description=LONG) for one in made.promotions)))


def result(standing: Standing, number: int | None = 7, reason: str = "", *remarks: str) -> Result:
    return Result(
        source="lab/",
        description="prod/",
        components=("@scope", "b`c"),
        standing=standing,
        number=number,
        reason=reason,
        remarks=remarks,
    )


UNDER_WAY = (
    result(Standing.OPEN, 7, "approved by ada; waits for a review by grace"),
    result(Standing.MERGED, 8),
    result(Standing.CLOSED, 9, "", "#10 took its place"),
    result(Standing.REFUSED, None, "no pull request for `x`"),
    result(Standing.TO_COME, None),
)
EXCESSES = (
    "autoMerge: promotions are opened and wait for people to merge them.",
    "targetPaths: nothing is promoted to @prod/.",
)
TOGGLES = {"freeze": "ci/frozen", "a word": "ci/`b`"}

CASES: Mapping[str, Callable[[Words], str | tuple[str, ...]]] = {
    "broken_config": lambda words: words.broken_config(WRONG),
    "broken_config.no_plan": lambda words: words.no_plan(WRONG[:1]),
    "ceiling": lambda words: words.ceiling(EXCESSES),
    "ceiling.over": lambda words: words.ceiling(()),
    "chart": lambda words: words.chart(plan("prod/", "eu/")),
    "check": lambda words: words.check(WRONG[1:], head=HEAD, broken=False),
    "check.broken": lambda words: words.check(WRONG, head=HEAD, broken=True),
    "check.many": lambda words: words.check(WRONG[:1] * 203, head=HEAD, broken=True),
    "check.sound": lambda words: words.check((), head=HEAD, broken=False),
    "command.help": lambda words: words.command("command-5", help=True, toggles=TOGGLES, head=HEAD),
    "command.refused": lambda words: words.command(
        "command-5", help=False, line="/freeze <b>", reason="it was for @you", instead="/freeze 89abcdef0123"
    ),
    "command.refused_for_good": lambda words: words.command(
        "command-5", help=False, line="/retrigger", reason="it takes write permission to this repository", instead=""
    ),
    "conflict": lambda words: words.conflict("", branch="main"),
    "conflict.left": lambda words: words.conflict("the default branch does not hold #3 any more", branch="main"),
    "drift": some_drift,
    "left_out.drift": long_drift,
    "left_out.plan": long_plan,
    "merge": lambda words: words.merge("it is for @alice", waits=False),
    "merge.waits": lambda words: words.merge("a review has to approve it", waits=True),
    "newer": lambda words: words.newer(4, changed=False),
    "newer.changed": lambda words: words.newer(4, changed=True),
    "newer.changed_by_nothing": lambda words: words.newer(None, changed=True),
    "newer.needless": lambda words: words.newer(None, changed=False),
    "no_drift": lambda words: words.no_drift(branch="main"),
    "plan": lambda words: words.plan(plan("prod/", "eu/", "lab/", auto=True)),
    "plan.nothing": lambda words: words.plan(plan("lab/web/")),
    "result": lambda words: words.result(UNDER_WAY, plan("prod/")),
    "result.ended": lambda words: words.result(UNDER_WAY[1:3], plan("prod/")),
    "result.left_out": lambda words: words.result(UNDER_WAY[:1], plan("lab/web/")),
    "unapproved": lambda words: words.unapproved("the second identity is @bot, which opened it"),
    "unapproved.given": lambda words: words.unapproved("the branch's rules ask for another review", given=True),
}


def text(case: str, words: Words | None = None) -> str:
    """The comments of a case, with what is only long cut short."""
    said = CASES[case](words or Words(OURS))
    whole = said if isinstance(said, str) else BETWEEN.join(said)
    short = re.sub(r"(long ){100,}", "long … ", whole)
    return re.sub(r"^(.*\n)\1{10,}", r"\1…\n", short, flags=re.MULTILINE)


def files() -> Iterator[Path]:
    return GOLDEN.glob("*.md")


@pytest.mark.parametrize("case", CASES)
def test_each_text_is_the_one_that_was_read(case: str) -> None:
    assert text(case) == (GOLDEN / f"{case}.md").read_text(encoding="utf-8")


def test_no_golden_is_forgotten() -> None:
    assert {file.stem for file in files()} == {*CASES}


@pytest.mark.parametrize("template", OURS)
def test_each_template_has_a_golden(template: str) -> None:
    """One that would not be as it is if the template said something else."""
    other = Words({**OURS, template: OURS[template] + "Something else.\n"})
    short_ones_first = sorted(CASES, key=lambda case: case.startswith("left_out"))
    assert any(text(case, other) != (GOLDEN / f"{case}.md").read_text(encoding="utf-8") for case in short_ones_first)


if __name__ == "__main__":
    for file in files():
        file.unlink()
    for name in CASES:
        (GOLDEN / f"{name}.md").write_text(text(name), encoding="utf-8")
