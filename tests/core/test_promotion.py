"""The planner: every worked case of the contract as one table, and the laws that hold for all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka.core import config, promotion, trees
from telefonistka.core.config import ComponentConfig, Parsed
from telefonistka.core.guards import Ceiling
from telefonistka.core.promotion import Component, Plan
from tests.core.values import flow, repo_config, snapshot

B = [flow("src/", ["a/", "b/"])]
LABELLED = [flow("src/", ["a/"], labels=["L"]), flow("src/", ["b/"])]
EVERY_ENVIRONMENT = "dev/[^/]*/"

CLUSTERS_DEV = ["clusters/dev/us-east4/c2/"]
STAGINGS = [
    "clusters/staging/europe-west4/c1/",
    "clusters/staging/us-central1/c1/",
    "clusters/staging/us-east4/c1/",
]
PRODUCTIONS = [
    "clusters/prod/europe-west3/c2/",
    "clusters/prod/europe-west4/c2/",
    "clusters/prod/us-central1/c2/",
    "clusters/prod/us-east4/c2/",
    "clusters/prod/us-west1/c2/",
]
DOCUMENTED = [
    flow("workspace/", CLUSTERS_DEV + STAGINGS + PRODUCTIONS[:1], auto=True),
    flow("clusters/staging/[^/]*/[^/]*/", *([target] for target in PRODUCTIONS)),
]
QUICK = [
    flow("clusters/staging/[^/]*/[^/]*/", PRODUCTIONS[:1], PRODUCTIONS[1:], labels=["quick_promotion"]),
    flow("clusters/staging/[^/]*/[^/]*/", *([target] for target in PRODUCTIONS)),
]


@dataclass
class Case:
    """What changed, and what is planned for it: one set of "target < source" for each pull request."""

    number: str
    flows: Sequence[Mapping[str, Any]]
    files: Sequence[str]
    prs: list[set[str]] = field(default_factory=list)
    labels: Sequence[str] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    tree: Mapping[str, str] | None = None
    skipped: set[tuple[str, str]] = field(default_factory=set)
    auto: list[bool] | None = None
    sources: list[str] | None = None
    titles: list[str] | None = None
    refused: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)
    untaken: int = 0


X, Y = "src/x/f", "src/y/f"
XA, XB = "a/x < src/x", "b/x < src/x"

CASES = [
    Case("1", B, ["src/x/f", "src/x/d/g", ".ci/z"], [{XA, XB}], strays={".ci/z"}),
    Case("2", B, [X, Y], [{XA, XB, "a/y < src/y", "b/y < src/y"}]),
    Case("3", B, [X], [{XB}], rules={"src/x": 'promotionTargetBlockList: ["a/.*"]'}, skipped={("x", "a/")}),
    Case("4", B, [X], [{XA}], rules={"src/x": 'promotionTargetAllowList: ["a/(x|)"]'}, skipped={("x", "b/")}),
    Case(
        "5",
        B,
        [X],
        [{XB}],
        rules={"src/x": 'promotionTargetBlockList: ["a"]\npromotionTargetAllowList: [".*"]'},
        skipped={("x", "a/")},
    ),
    Case("6", B, [X], rules={"src/x": "promotionTargetAllowList: []"}, skipped={("x", "a/"), ("x", "b/")}),
    Case("7", B, [X], [{XA, XB}], rules={"src/x": "promotionTargetAllowList: null"}),
    Case("8", B, [X], rules={"src/x": 'promotionTargetBlockList: [""]'}, skipped={("x", "a/"), ("x", "b/")}),
    Case("9", B, [X], rules={"src/x": 'promotionTargetBlockList: ["a/(", "a/"]'}, refused={"src/x"}),
    Case("10", B, [X], rules={"src/x": 'promotionTargetAllowList: ["a/(", "a/"]'}, refused={"src/x"}),
    Case("11 broken", B, [X], rules={"src/x": "promotionTargetBlockList: [a"}, refused={"src/x"}),
    Case("11 scalar", B, [X], rules={"src/x": "promotionTargetBlockList: a"}, refused={"src/x"}),
    Case(
        "12",
        B,
        [X, Y],
        [{"a/y < src/y", XB, "b/y < src/y"}],
        rules={"src/x": 'promotionTargetBlockList: ["a/"]'},
        skipped={("x", "a/")},
    ),
    Case("13", LABELLED, [X], [{XA}], labels=["L"]),
    Case("14", LABELLED, [X], [{XB}], untaken=1),
    Case("15", LABELLED, [X], [{XB}], labels=["l"], untaken=1),
    Case("16", [flow("src/", ["a/"], labels=[]), flow("src/", ["b/"])], [X], [{XB}], labels=["any"], untaken=1),
    Case(
        "17",
        [flow("src/", ["a/"], labels=["L"], auto=True), flow("src/", ["b/"])],
        [X],
        [{XB}],
        auto=[False],
        untaken=1,
    ),
    Case(
        "18",
        [flow("src/", ["a/"], labels=["L"]), flow("src/", ["b/"], auto=True)],
        [X],
        [{XB}],
        auto=[True],
        untaken=1,
    ),
    Case(
        "19",
        [flow("src/", ["t/"], labels=["L"], auto=True), flow("src/", ["t/"])],
        [X],
        [{"t/x < src/x"}],
        auto=[False],
        untaken=1,
    ),
    Case(
        "20 equal",
        [flow(EVERY_ENVIRONMENT, ["a/"])],
        ["dev/e1/x/f", "dev/e2/x/f"],
        [{"a/x < dev/e1/x"}],
        tree={"dev/e1/x/f": "same", "dev/e2/x/f": "same"},
    ),
    Case("20 different", [flow(EVERY_ENVIRONMENT, ["a/"])], ["dev/e1/x/f", "dev/e2/x/f"], conflicts={"a/x"}),
    Case(
        "21",
        [flow(EVERY_ENVIRONMENT, ["a/"])],
        ["dev/e1/x/f", "dev/e2/y/f"],
        [{"a/x < dev/e1/x", "a/y < dev/e2/y"}],
        sources=["dev/e1/"],
    ),
    Case(
        "22 equal",
        [flow("dev/", ["p/"]), flow("lab/", ["p/"])],
        ["dev/x/f", "lab/x/f"],
        [{"p/x < dev/x"}],
        tree={"dev/x/f": "same", "lab/x/f": "same"},
    ),
    Case("22 different", [flow("dev/", ["p/"]), flow("lab/", ["p/"])], ["dev/x/f", "lab/x/f"], conflicts={"p/x"}),
    Case(
        "22b",
        [flow("dev/", ["p/"]), flow("lab/", ["p/"])],
        ["dev/x/f", "lab/y/f"],
        [{"p/x < dev/x"}, {"p/y < lab/y"}],
    ),
    Case("23", [flow("src/", ["a/"], ["a/", "b/"])], [X], [{XA}, {XA, XB}]),
    Case("24", [flow("src/", ["a/", "b/"], ["b/", "a/"])], [X], [{XA, XB}]),
    Case("25", [flow("src/", ("one", ["a/"]), ("two", ["a/"]))], [X], [{XA}], titles=["one"]),
    Case(
        "26",
        [flow("src/", ["t/"], depth=2)],
        ["src/a/b/f", "src/a/f", "src/f"],
        strays={"src/a/b/f", "src/a/f", "src/f"},
    ),
    Case("27", [flow("src/", ["t/"])], ["src/README.md", X], [{"t/x < src/x"}], strays={"src/README.md"}),
    Case("28", [flow("space/", ["w/"]), flow("workspace/", ["r/"])], ["workspace/x/f"], [{"r/x < workspace/x"}]),
    Case("29", [flow("src/", ["a/"]), flow("src/team/", ["b/"])], ["src/team/x/f"], [{"a/team < src/team"}]),
    Case(
        "30",
        [flow("src/team/", ["b/"]), flow("src/", ["a/"])],
        ["src/team/x/f", "src/o/f"],
        [{"b/x < src/team/x"}, {"a/o < src/o"}],
    ),
    Case(
        "31",
        [flow("src/", ["a/"], labels=["L"]), flow("src/team/", ["b/"])],
        ["src/team/x/f"],
        [{"b/x < src/team/x"}],
        untaken=1,
    ),
    Case(
        "32",
        [flow("src/team/", ["b/"], labels=["L"]), flow("src/", ["a/"])],
        ["src/team/x/f"],
        [{"a/team < src/team"}],
        untaken=1,
    ),
    Case(
        "33",
        [flow("dev/us/", ["t/"], labels=["L"], auto=True), flow("dev/", ["t/"])],
        ["dev/us/x/f", "dev/y/f"],
        [{"t/us < dev/us", "t/y < dev/y"}],
        auto=[False],
        untaken=1,
    ),
    Case("34", [flow("src/$", ["a/"]), flow("src/", ["b/"])], [X], [{XB}]),
    Case(
        "36",
        [flow("src/", ["t/"])],
        [f"src/{name}/f" for name in ["c+app", "[z]", "a$b", "x|y", "a?b", "a*b", "app{2}", "^x", "a\\b", "(v1)"]],
        [
            {
                f"t/{name} < src/{name}"
                for name in ["c+app", "[z]", "a$b", "x|y", "a?b", "a*b", "app{2}", "^x", "a\\b", "(v1)"]
            }
        ],
    ),
    Case("37", [flow("src/", ["t/"])], ["src/c++app/f", "src/a(b/f"], [{"t/c++app < src/c++app", "t/a(b < src/a(b"}]),
    Case("38", [flow("src/", ["t/"])], ["src/a..b/f"], [{"t/a..b < src/a..b"}]),
    Case(
        "39",
        [flow("src/", ["t/"])],
        [f"src/{name}/f" for name in ["x.y", "a:b", "a#b", "my app"]],
        [{f"t/{name} < src/{name}" for name in ["x.y", "a:b", "a#b", "my app"]}],
    ),
    Case("40", [flow("src/", ["t/"])], ["src/x/a\nb"], [{"t/x < src/x"}]),
    Case("41", [flow("src/", ["t"])], [X], [{"tx < src/x"}]),
    Case("42", [flow("src/a", ["t/"])], ["src/a/f"], [{"t < src/a"}], titles=["src/a"]),
    Case("43", [flow("prod/[^/]*/", ["prod/e/", "prod/w/"])], ["prod/w/x/f"], [{"prod/e/x < prod/w/x"}]),
    Case("44", [flow("src/", ["src/"])], [X]),
    Case("45 no targets", [flow("src/", [])], [X]),
    Case("45 no pulls", [flow("src/")], [X]),
    Case("46", [flow("src/", ["a/"], labels=["L"])], [X], untaken=1, strays={X}),
    Case(
        "47",
        DOCUMENTED,
        ["workspace/nginx/v"],
        [{f"{target}nginx < workspace/nginx" for target in CLUSTERS_DEV + STAGINGS + PRODUCTIONS[:1]}],
        auto=[True],
    ),
    Case(
        "48",
        DOCUMENTED,
        [f"{staging}nginx/v" for staging in STAGINGS],
        [{f"{target}nginx < clusters/staging/europe-west4/c1/nginx"} for target in PRODUCTIONS],
        tree={f"{staging}nginx/v": "same" for staging in STAGINGS},
    ),
    Case(
        "49",
        QUICK,
        [f"{STAGINGS[0]}nginx/v"],
        [
            {f"{target}nginx < {STAGINGS[0]}nginx" for target in PRODUCTIONS[:1]},
            {f"{target}nginx < {STAGINGS[0]}nginx" for target in PRODUCTIONS[1:]},
        ],
        labels=["quick_promotion"],
    ),
    Case(
        "50",
        B,
        ["src/x/f", "src/y/f"],
        [{XA, XB, "a/y < src/y", "b/y < src/y"}],
        tree={"src/y/f": "1", "a/x/f": "1", "b/x/f": "1"},
    ),
    Case("51", B, [X], [{XA, XB}], tree={"a/x/f": "1", "b/x/f": "1"}),
    Case("51 gone on both sides", B, [X], tree={"other": "1"}),
    Case("48 (f): equal already", B, [X], tree={"src/x/f": "1", "a/x/f": "1", "b/x/f": "1"}),
    Case("(d) groups", [flow("(dev|lab)/", ["t/"])], ["dev/x/f", "lab/y/f"], [{"t/x < dev/x", "t/y < lab/y"}]),
    Case("(d) alternation", [flow("dev/|lab/", ["t/"])], ["dev/x/f"], [{"t/x < dev/x"}]),
    Case("(d) named", [flow("(?P<env>dev)/(?P<region>[^/]*)/", ["t/"])], ["dev/us/x/f"], [{"t/x < dev/us/x"}]),
    Case("(h) absolute", [flow("src/", ["/t/"])], [X], refused={"/t/x"}),
    Case("(h) climbs", [flow("src/", ["a/../b/"])], [X], refused={"a/../b/x"}),
    Case("(h) empty segment", [flow("src/", ["a//"])], [X], refused={"a//x"}),
    Case("(h) inside its source", [flow("src/", ["src/x/y/"])], [X], refused={"src/x/y/x"}),
    Case("(h) around its source", [flow("x/x/", ["x/"])], ["x/x/x/f"], refused={"x/x"}),
    Case("(h) workflows", [flow("src/", [".github/"])], [X], refused={".github/x"}),
    Case("(h) git's own", [flow("src/", ["a/.git/"])], [X], refused={"a/.git/x"}),
    Case("(h) below a file", [flow("src/", ["a/"])], [X], tree={X: "1", "a": "2"}, refused={"a/x"}),
    Case(
        "targets inside each other",
        [flow("src/", ["a/", "a/x/"], depth=0)],
        ["src/x/f", "src/y/f"],
        [{"a/y < src/y"}],
        conflicts={"a/x"},
    ),
]


def planned(case: Case, shuffle: random.Random | None = None) -> Plan:
    files = list(case.files)
    if shuffle is not None:
        shuffle.shuffle(files)
    configured = repo_config(*case.flows)
    before = snapshot(case.tree if case.tree is not None else {file: file for file in case.files})
    found = promotion.touched(files, case.labels, configured)
    rules: list[tuple[str, Parsed[ComponentConfig]]] = [
        (path, config.component(text.encode(), file=f"{path}/telefonistka.yaml")) for path, text in case.rules.items()
    ]
    if shuffle is not None:
        shuffle.shuffle(rules)
    return promotion.plan(found, configured, dict(rules), before)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_a_worked_case_of_the_contract(case: Case) -> None:
    """Section 4.3 of the contract: what ours does."""
    plan = planned(case)

    assert [{f"{pair.target} < {pair.source}" for pair in item.changes} for item in plan.to_open] == case.prs
    assert {(skip.component, skip.target) for item in plan.promotions for skip in item.skipped} == case.skipped
    assert {refusal.subject for refusal in plan.refusals} == case.refused
    assert {conflict.target for conflict in plan.conflicts} == case.conflicts
    assert set(plan.strays) == case.strays
    assert len(plan.untaken) == case.untaken
    assert plan.is_sound == (not case.refused and not case.conflicts)
    if case.auto is not None:
        assert [item.auto_merge for item in plan.to_open] == case.auto
    if case.sources is not None:
        assert [item.source for item in plan.to_open] == case.sources


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_the_order_of_the_facts_does_not_matter(case: Case) -> None:
    """Ten shuffles of the same facts give the same plan, to the last detail."""
    shuffle = random.Random(case.number)
    assert {repr(planned(case, shuffle)) for _ in range(10)} == {repr(planned(case))}


def test_a_broken_flow_is_no_configuration() -> None:
    """Case 35: an invalid expression is an error of the file, not a flow that is silently off."""
    parsed = config.repository(b"promotionPaths: [{sourcePath: 'src/('}, {sourcePath: src/}]")
    assert parsed.value is None


def test_a_pull_request_lists_only_components_that_it_changes() -> None:
    """D46: a fully blocked component is named neither in the title nor in the paths."""
    case = Case("", B, [X, Y], rules={"src/x": 'promotionTargetBlockList: [""]'})
    (item,) = planned(case).to_open
    assert item.components == ("y",)
    assert item.promoted_paths == ("a/y", "b/y")


def test_skips_name_the_line_that_said_so() -> None:
    """So that a person finds the rule without searching."""
    rules = {"src/x": "# why\npromotionTargetBlockList:\n  - other\n  - ^a/\n"}
    (item,) = planned(Case("", B, [X], rules=rules)).to_open
    (skip,) = item.skipped
    assert (skip.reason, skip.place) == ("blocked by '^a/'", "src/x/telefonistka.yaml:4")


def test_hidden_targets_are_those_of_the_component_that_skips_the_fewest() -> None:
    """A target is left out of the body only where every component skips something."""
    block = {"src/x": 'promotionTargetBlockList: ["a/"]'}
    (both,) = planned(Case("", B, [X, Y], rules=block)).to_open
    (alone,) = planned(Case("", B, [X], rules=block)).to_open
    assert both.hidden_targets == set()
    assert alone.hidden_targets == {"a/"}


@pytest.mark.parametrize(
    ("other", "ceiling"),
    [(".github/", Ceiling()), ("d/", Ceiling(targets=("a", "c/y")))],
    ids=["by us", "by the operator"],
)
def test_nobody_is_told_of_targets_that_are_refused_for_every_component(other: str, ceiling: Ceiling) -> None:
    """One that some component is promoted to is told, and the key of the branch's name stays the original's."""
    config = repo_config(flow("src/", ["a/", "c/", other]))
    files = snapshot(dict.fromkeys([X, Y], "1"))
    (item,) = promotion.plan(promotion.touched([X, Y], (), config), config, {}, files, ceiling).promotions
    assert item.told_targets == ("a/", "c/")
    assert item.targets == tuple(sorted(["a/", "c/", other]))


@pytest.mark.parametrize(
    ("number", "head", "targets", "expected"),
    [
        (11, "originBranch", ["targetPath1", "targetPath2"], "promotions/11-originBranch-676f02019f18"),
        (7, "feature/new-app", ["prod/eu-west-1/", "prod/eu-east-1/"], "promotions/7-feature-new-app-04c4d520b9e9"),
        (120, "renovate/nginx-1.x", ["clusters/prod/us-west1/c2"], "promotions/120-renovate-nginx-1.x-25edff1faece"),
        (
            101,
            "promotions/7-feat-140b47d44222",
            ["env/prod/us-central1/c2/"],
            "promotions/101-promotions-7-feat-140b47d44222-84671ca4c245",
        ),
    ],
)
def test_branch_names_are_the_originals(number: int, head: str, targets: list[str], expected: str) -> None:
    """Worked examples of the contract, section 1.5."""
    (item,) = planned(Case("", [flow("src/", targets)], [X])).promotions
    assert promotion.branch(number, head, item) == expected


def test_a_branch_name_fits_into_a_ref() -> None:
    """D69: cut at a character, not within one, where 200 characters are too many bytes."""
    (item,) = planned(Case("", [flow("src/", ["t/"])], [X])).promotions
    name = promotion.branch(12, "é/" * 300, item)
    assert name.startswith("promotions/12-é-é-")
    assert name.endswith("-5803be03c07d")
    assert 248 <= len(name.encode()) <= 250


def test_a_second_promotion_to_the_same_targets_has_its_own_branch() -> None:
    """D39: the first keeps the original's name, the other hashes its source path, too."""
    first, second = planned(next(case for case in CASES if case.number == "22b")).to_open
    alone = planned(Case("", [flow("dev/", ["p/"])], ["dev/x/f"])).to_open[0]
    assert first.key == alone.key
    assert second.key not in (first.key, alone.key)


NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..") and not name.lower().startswith(".git")
)


@given(st.sets(NAME, min_size=1, max_size=4), st.sets(st.sampled_from(["lab", "eu", "us"]), min_size=1), st.randoms())
def test_a_component_name_is_data(names: set[str], environments: set[str], shuffle: random.Random) -> None:
    """Whatever characters it has: the target is the configured prefix and the name, never another path."""
    prefixes = [f"to/{environment}/" for environment in environments]
    plan = planned(Case("", [flow("src/", prefixes)], [f"src/{name}/f" for name in names]), shuffle)
    assert {pair.target for item in plan.to_open for pair in item.changes} == {
        prefix + name for prefix in prefixes for name in names
    }
    assert not plan.refusals
    assert not plan.strays


@given(st.lists(st.text("abx/.*[]()", max_size=6), max_size=6), st.lists(st.text("ab/.", max_size=4), max_size=3))
def test_no_target_lies_outside_the_configured_ones(files: list[str], targets: list[str]) -> None:
    """Every planned path starts with a configured target, and is a path that git can hold."""
    paths = [f"src/{file}" for file in files]
    whole = repo_config(flow("src/", targets))
    before = snapshot({"src/a/f": "1", "src/b/f": "2"})
    plan = promotion.plan(promotion.touched(paths, (), whole), whole, {}, before)
    for item in plan.promotions:
        for pair in item.pairs:
            assert any(pair.target.startswith(target.removesuffix("/")) for target in targets)
            assert all(name not in ("", ".", "..") for name in pair.target.split("/"))
            assert not trees.within(pair.target, pair.source)


def test_a_component_without_a_name_is_its_source_path() -> None:
    """A flow without an end slash promotes whole directories; git knows no path that ends in a slash."""
    component = Component(source="clusters/staging", name="", flow=0)
    assert (component.title, component.path) == ("clusters/staging", "clusters/staging")
    assert Component(source="src/x/", name="", flow=0).config_file == "src/x/telefonistka.yaml"
