"""`telefonistka check`: what is wrong, what is idle, and what differs from the original."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka.core import lint
from telefonistka.core.config import Finding, Severity

L = "conditions: {prHasLabels: [L]}"
MERGE = "conditions: {autoMerge: true}"
L_MERGE = "conditions: {prHasLabels: [L], autoMerge: true}"


def flows(*given: tuple[str, ...]) -> str:
    """A root file; a flow is its source, its pull requests' targets (a/ b/), and further keys."""
    text = "promotionPaths:\n"
    for source, *rest in given:
        text += f"- sourcePath: '{source}'\n  promotionPrs:\n"
        text += "".join(f"  - targetPaths: [{', '.join(one.split())}]\n" for one in rest if ":" not in one)
        text += "".join(f"  {key}\n" for key in rest if ":" in key)
    return text


def said(root: str, *paths: str, components: dict[str, bytes] | None = None) -> list[str]:
    findings = lint.check(root.encode(), components or {}, paths)
    return [str(finding).removeprefix("telefonistka.yaml:") for finding in findings]


DIFFERS = "warning: differs from the original:"

# The cases of the contract, section 4.3, by their number: the flows, files of the tree, and how the findings start.
CASES: dict[str, tuple[str, tuple[str, ...], list[str]]] = {
    "1": (flows(("src/", "a/ b/")), ("src/x/f", "src/y/d/g", ".ci/z"), []),
    "13": (flows(("src/", "a/", L), ("src/", "b/")), (), []),
    "16": (
        flows(("src/", "a/", "conditions: {prHasLabels: []}"), ("src/", "b/")),
        (),
        ["5:29: error: prHasLabels is an empty list: this flow never applies"],
    ),
    "17": (
        flows(("src/", "a/", L_MERGE), ("src/", "b/")),
        (),
        [f"6:15: {DIFFERS} 'src/component/file', without labels: the original merges by itself, by the autoMerge of"],
    ),
    "18": (
        flows(("src/", "a/", L), ("src/", "b/", MERGE)),
        (),
        [f"6:15: {DIFFERS} 'src/component/file', without labels: the original does not merge by itself, by the"],
    ),
    "20": (
        flows(("dev/[^/]*/", "a/")),
        ("dev/e1/x/f", "dev/e2/x/f"),
        [f"2:15: {DIFFERS} several sources for one target: 'x' is in dev/e1/, dev/e2/; if more than one"],
    ),
    "21": (flows(("dev/[^/]*/", "a/")), ("dev/e1/x/f", "dev/e2/y/f"), []),
    "22": (
        flows(("dev/", "p/"), ("lab/", "p/")),
        (),
        [
            f"5:15: {DIFFERS} the flow of line 2 has the same targets (p/), for which the original needs",
            "5:15: warning: target path 'p/' has several sources: the flow of line 2 and this one; components of one",
        ],
    ),
    "23": (
        flows(("src/", "a/", "a/ b/")),
        (),
        ["5:19: warning: target path 'a/' is also in the pull request of line 4"],
    ),
    "24": (
        flows(("src/", "a/ b/", "b/ a/")),
        (),
        ["5:5: warning: the same targets as in line 4: both are one pull request, described there"],
    ),
    "26": (
        flows(("src/", "t/", "componentPathExtraDepth: 2")),
        ("src/a/b/f", "src/f"),
        [f"2:15: {DIFFERS} 'src/f' is a file beside its components, which the original names as one"],
    ),
    "27": (
        flows(("src/", "t/")),
        ("src/README.md", "src/x/f"),
        [f"2:15: {DIFFERS} 'src/README.md' is a file beside its components, which the original names as one"],
    ),
    "28": (
        flows(("space/", "w/"), ("workspace/", "r/")),
        (),
        [f"5:15: {DIFFERS} 'workspace/component/file', without labels: the original takes the targets of line 2"],
    ),
    "29": (
        flows(("src/", "a/"), ("src/team/", "b/")),
        (),
        ["5:15: error: this flow is never reached: the flow of line 2 takes all of its files"],
    ),
    "30": (flows(("src/team/", "b/"), ("src/", "a/")), (), []),
    "31": (
        flows(("src/", "a/", L), ("src/team/", "b/")),
        (),
        [f"6:15: {DIFFERS} 'src/team/component/file', without labels: the original promotes nothing, this flow 'src"],
    ),
    "32": (
        flows(("src/team/", "b/", L), ("src/", "a/")),
        (),
        [f"6:15: {DIFFERS} 'src/team/component/file', without labels: the original promotes 'src/team/component'"],
    ),
    "34": (
        flows(("src/$", "a/"), ("src/", "b/")),
        (),
        [f"5:15: {DIFFERS} 'src/component/file', without labels: the original takes the targets of line 2"],
    ),
    "36": (
        flows(("src/", "t/")),
        ("src/c+app/f",),
        [f"2:15: {DIFFERS} 'src/c+app/f', without labels: the original cannot tell the component, this flow promotes"],
    ),
    "41": (flows(("src/", "t")), (), ["4:19: error: target path 't' has no end slash: a component x goes to 'tx'"]),
    "43": (
        flows(("prod/[^/]*/", "prod/e/ prod/w/")),
        ("prod/w/x/f",),
        [f"2:15: {DIFFERS} 'prod/w/x' is among its own targets, and is not promoted onto itself here"],
    ),
    "44": (
        flows(("src/", "src/")),
        (),
        [f"2:15: {DIFFERS} 'src/component' is among its own targets, and is not promoted onto itself here"],
    ),
    "45": (
        flows(("src/",)),
        (),
        ["2:15: warning: this flow has no targets: it opens nothing, and keeps its files from the flows after it"],
    ),
    "group": (
        flows(("(dev|lab)/", "a/")),
        (),
        [f"2:15: {DIFFERS} its expression has a capture group, which the original takes for the component"],
    ),
    "group in a tree": (
        flows(("(dev|lab)/", "a/")),
        ("dev/x/f",),
        [
            f"2:15: {DIFFERS} 'dev/x/f', without labels: the original cannot tell the component",
            f"2:15: {DIFFERS} its expression has a capture group",
        ],
    ),
    "alternatives": (
        flows(("dev/|lab/", "a/")),
        (),
        [f"2:15: {DIFFERS} only the first alternative of its expression is anchored to the start there; here all are"],
    ),
    "whole directory": (
        flows(("src", "t/", MERGE)),
        (),
        [
            "2:15: error: sourcePath 'src' has no end slash: the directory as a whole is one component",
            f"2:15: {DIFFERS} a promotion of the directory as a whole is not merged by itself here if it deletes",
        ],
    ),
    "never reached, labels": (
        flows(("src/", "a/", "conditions: {prHasLabels: [L, M]}"), ("src/", "b/", L)),
        (),
        ["6:15: error: this flow is never reached: the flow of line 2 takes all of its files"],
    ),
    "never reached in this tree": (
        flows((".*/", "a/"), ("src/[a-z]*/", "b/")),
        ("src/x/y/f",),
        ["5:15: warning: no file of this tree reaches this flow: those of line 2 take all of its files"],
    ),
    "malformed": (
        flows(("src/", "/a/", "b//c/", "../d/", ".github/e/", "x/.git/f/", "''", "src/g/")),
        (),
        [
            "4:19: error: target path '/a/' is absolute: nothing is ever promoted to it",
            "5:19: error: target path 'b//c/' has an empty segment: nothing",
            "6:19: error: target path '../d/' has a segment '.' or '..': nothing",
            "7:19: error: target path '.github/e/' lies under .github/ or .git*: nothing",
            "8:19: error: target path 'x/.git/f/' lies under .github/ or .git*: nothing",
            "9:19: error: target path '' is empty: nothing",
            "10:19: error: target path 'src/g/' lies inside 'src/g', a component of the same flow",
        ],
    ),
    "around": (
        flows(("src/a/", "src/")),
        ("src/a/a/f",),
        ["4:19: error: target path 'src/' puts 'src/a' around its source 'src/a/a': that is refused"],
    ),
    "idle keys": (
        "whProxtSkipTLSVerifyUpstream: y\nargocd: {autoMergeNoDiffPRs: y, createTempAppObjectFromNewApps: y}\n",
        (),
        [
            "1:31: warning: 'whProxtSkipTLSVerifyUpstream' does nothing without 'webhookEndpointRegexs'",
            "2:30: warning: 'autoMergeNoDiffPRs' does nothing while 'commentDiffonPR' is off",
            "2:65: warning: 'createTempAppObjectFromNewApps' does nothing while 'commentDiffonPR' is off",
        ],
    ),
    "idle rule": (
        "webhookEndpointRegexs: [{expression: a}]",
        (),
        ["1:25: warning: this rule has no replacements: it calls nothing, and keeps its files from the rules after it"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_has_exactly_these_findings(name: str) -> None:
    """Each case of the contract in which the plans part is told at the flow, in one sentence; others are silent."""
    root, paths, expected = CASES[name]
    findings = said(root, *paths)
    assert len(findings) == len(expected), findings
    for finding, start in zip(findings, expected, strict=True):
        assert finding.startswith(start)


def test_the_documented_example_has_one_remark() -> None:
    """Labels over one source path are the documented use; several staging clusters are one too, and worth knowing."""
    staging, prod = "clusters/staging/[^/]*/[^/]*/", "clusters/prod/us/c1/"
    root = flows(
        ("workspace/", "clusters/dev/us/c1/ clusters/lab/", MERGE),
        (staging, f"{prod} clusters/prod/eu/c1/", "conditions: {prHasLabels: [quick_promotion]}"),
        (staging, prod, "clusters/prod/eu/c1/"),
    )
    assert said(root, "workspace/nginx/f", "clusters/staging/eu/c1/nginx/f") == []
    staging_1, staging_2 = "clusters/staging/eu/c1/", "clusters/staging/us/c1/"
    several = said(root, f"{staging_1}nginx/f", f"{staging_2}nginx/f")
    assert [finding.split(";")[0] for finding in several] == [
        f"{line}: {DIFFERS} several sources for one target: 'nginx' is in {staging_1}, {staging_2}"
        for line in ("6:15", "10:15")
    ]


def test_component_files_are_checked_and_must_lie_where_a_component_is() -> None:
    """Files below a target are copies; elsewhere nobody reads them."""
    findings = said(
        flows(("src/", "prod/")),
        components={
            "src/x/telefonistka.yaml": b"promotionTargetAllowList: []",
            "src/x/sub/telefonistka.yaml": b"",
            "prod/x/telefonistka.yaml": b"nope: 1",
            "src/telefonistka.yaml": b"",
            "else/where/telefonistka.yaml": b"",
        },
    )
    assert findings == [
        "else/where/telefonistka.yaml:1:1: warning: this file is not read: no flow has a component here",
        "prod/x/telefonistka.yaml:1:1: error: unknown key 'nope' is ignored",
        "src/telefonistka.yaml:1:1: warning: this file is not read: no flow has a component here",
        "src/x/sub/telefonistka.yaml:1:1: warning: this file is not read: the component is 'src/x'",
        "src/x/telefonistka.yaml:1:27: error: promotionTargetAllowList is an empty list: nothing is promoted",
    ]


def test_what_is_a_warning_at_run_time_is_an_error_here() -> None:
    """Stale keys, duplicates and missing end slashes fail the check."""
    findings = lint.check(b"nope: 1\ndryRunMode: y\ndryRunMode: n\npromtionPRlables: []\n", {}, ())
    assert {finding.severity for finding in findings} == {Severity.ERROR}
    assert len(findings) == 3


def test_a_tree_without_the_root_file_fails() -> None:
    """It is more likely the wrong directory than meant."""
    assert said_of(lint.check(None, {}, ["a"])) == [
        "telefonistka.yaml:1:1: error: there is no telefonistka.yaml in the root: nothing is promoted or relayed"
    ]


def said_of(findings: tuple[Finding, ...]) -> list[str]:
    return [str(finding) for finding in findings]


FINDINGS = (
    Finding(file="telefonistka.yaml", line=1, column=2, severity=Severity.ERROR, message="100 % 'a'\nb"),
    Finding(file="a,b:c\udcff/telefonistka.yaml", line=3, column=4, severity=Severity.WARNING, message="é"),
)


def test_text_ends_with_the_counts() -> None:
    """A line per finding, as compilers write them."""
    assert lint.as_text(FINDINGS[1:]) == "a,b:c\\udcff/telefonistka.yaml:3:4: warning: é\n0 errors, 1 warning\n"
    assert lint.as_text(()) == "0 errors, 0 warnings\n"


def test_json_is_a_list_of_findings() -> None:
    """For other programs."""
    assert json.loads(lint.as_json(FINDINGS[1:])) == [
        {"file": "a,b:c\udcff/telefonistka.yaml", "line": 3, "column": 4, "severity": "warning", "message": "é"}
    ]


def test_github_gets_workflow_commands() -> None:
    """Escaped as the runner expects it."""
    assert lint.as_github(FINDINGS) == (
        "::error file=telefonistka.yaml,line=1,col=2::100 %25 'a'%0Ab\n"
        "::warning file=a%2Cb%3Ac\\udcff/telefonistka.yaml,line=3,col=4::é\n"
    )


PATHS = st.lists(st.sampled_from(["src/x/f", "src/f", "src/a/b/f", "dev/x/y/f", "f", "\udcff/x/f"]), max_size=6)


@given(st.lists(st.tuples(st.text("srcdev/[^]*.|()$+", max_size=8), st.text("ab/.", max_size=5)), max_size=4), PATHS)
def test_any_configuration_can_be_checked(given: list[tuple[str, str]], paths: list[str]) -> None:
    """Nothing is raised, and the order of the paths does not matter."""
    root = json.dumps(
        {"promotionPaths": [{"sourcePath": s, "promotionPrs": [{"targetPaths": [t]}]} for s, t in given]}
    ).encode()
    assert lint.check(root, {}, paths) == lint.check(root, {}, paths[::-1])


def test_a_large_tree_is_checked() -> None:
    """200 flows, 12,000 files."""
    root = flows(*((f"clusters/dev{i}/", f"clusters/prod{i}/") for i in range(200)))
    paths = [f"clusters/dev{i}/app{j}/f{k}" for i in range(200) for j in range(20) for k in range(3)]
    assert said(root, *paths) == []


RELAY = """\
webhookEndpointRegexs:
- expression: ^clusters/([^/]*)/.*
  replacements:
  - https://argocd-{1}.example.com/api/webhook
  - https://argocd.${1}.com/api/webhook
  - https://argocd.example.com/api/webhook
"""


def test_a_relay_rule_that_looks_like_a_slip_is_an_error_here() -> None:
    """At run time it is a warning, since the original takes it as it stands."""
    braces, short = said(RELAY)
    assert braces == "4:5: error: '{1}' stays as it is in the URL; a capture is '${1}'"
    assert short.startswith("5:5: error: 'https://argocd.${1}.com/api/webhook' gives no URL: a host with captures must")
    allowed = lint.check(RELAY.encode(), {}, (), allowed_hosts=("com",))
    assert [finding.line for finding in allowed] == [4]
