"""What a path's explanation says: where it goes, and the line of every rule that says no."""

from __future__ import annotations

from typing import Any

import pytest

from telefonistka.core import config, explain
from telefonistka.core.explain import Explanation

ROOT = """\
promotionPaths:
  - sourcePath: lab/
    conditions: {prHasLabels: [fast]}
    promotionPrs:
      - targetPaths: [prod/]
  - sourcePath: lab/
    conditions: {autoMerge: true}
    promotionPrs:
      - targetDescription: Staging
        targetPaths:
          - staging/eu/
          - staging/us/
      - targetPaths: [prod/, lab/, .github/]
  - sourcePath: l.b/
    promotionPrs: [{targetPaths: [x/]}]
  - sourcePath: nginx/
    promotionPrs: [{targetPaths: [y/]}]
  - sourcePath: elsewhere/
    promotionPrs: [{targetPaths: [z/]}]
  - sourcePath: lab/
    componentPathExtraDepth: 2
    promotionPrs: [{targetPaths: [deep/]}]
webhookEndpointRegexs:
  - expression: ^prod/.*
    replacements: [https://prod.example.com/api/webhook]
  - expression: ^(lab)/.*
    branches: [release]
    replacements: ["https://${1}.example.com/release"]
  - expression: ^(lab)/.*
    replacements: ["https://${1}.example.com/api/webhook", "https://${1}/api/webhook"]
  - expression: ^lab/nginx/.*
    events: [push, pull_request]
    replacements: [https://argo.example.com/api/webhook]
"""
HOST = (
    "a host with captures must end in 2 or more literal labels, such as .example.com, or the operator must allow it "
    "(TELEFONISTKA_RELAY_ALLOWED_HOSTS)"
)
COMPONENT = b"promotionTargetBlockList:\n  - ^staging/us/\n"
PATHS = ("lab/nginx/telefonistka.yaml", "lab/nginx/v", "lab/pay/v", "staging/eu/nginx/v", "telefonistka.yaml")


def explained(path: str, root: str = ROOT, **asked: Any) -> Explanation:
    components = {"lab/nginx/telefonistka.yaml": COMPONENT}
    return explain.explain(explain.Asked(path=path, **asked), config.repository(root.encode()), components, PATHS)


def test_targets_are_named_with_the_line_that_asks_for_them() -> None:
    """The first flow by path and labels."""
    found = explained("lab/nginx/v")
    assert found.taken is not None
    assert (found.taken.component, found.taken.flow) == ("lab/nginx", "telefonistka.yaml:6")
    assert [(one.path, one.description, one.place, one.merged_by_itself) for one in found.targets] == [
        ("staging/eu/nginx", "Staging", "telefonistka.yaml:11", True),
        ("prod/nginx", "", "telefonistka.yaml:13", True),
    ]


def test_every_rule_that_says_no_is_named_with_its_line() -> None:
    """Flows that do not take it, targets that are left out, then the relay's rules: each in the order of the file."""
    assert [(one.place, one.subject, one.reason) for one in explained("lab/nginx/v").denials] == [
        ("telefonistka.yaml:2", "flow 'lab/'", "the pull request needs one of the labels fast"),
        ("telefonistka.yaml:14", "flow 'l.b/'", "the flow of line 6 takes it first"),
        (
            "telefonistka.yaml:16",
            "flow 'nginx/'",
            "its sourcePath matches further on, and counts from the start of the path only",
        ),
        ("telefonistka.yaml:18", "flow 'elsewhere/'", "its sourcePath does not match"),
        (
            "telefonistka.yaml:20",
            "flow 'lab/'",
            "it is not deep enough: a component is 3 levels below the source",
        ),
        ("lab/nginx/telefonistka.yaml:2", "target staging/us/nginx", "blocked by '^staging/us/'"),
        ("telefonistka.yaml:13", "target lab/nginx", "it is the component itself"),
        (
            "telefonistka.yaml:13",
            "target .github/nginx",
            "it lies under .github/ or .git*",
        ),
        ("telefonistka.yaml:24", "relay rule '^prod/.*'", "its expression is not found in the path"),
        ("telefonistka.yaml:26", "relay rule '^(lab)/.*'", "it is for the branches release, and this is main"),
        (
            "telefonistka.yaml:29",
            "replacement 'https://${1}/api/webhook'",
            HOST,
        ),
    ]


def test_labels_choose_the_flow() -> None:
    """As a pull request's would."""
    found = explained("lab/pay/v", labels=["fast"])
    assert found.taken is not None
    assert found.taken.flow == "telefonistka.yaml:2"
    assert [one.path for one in found.targets] == ["prod/pay"]


def test_a_directory_stands_for_the_files_in_it() -> None:
    """Also one that there is not yet."""
    assert explained("lab/nginx").targets == explained("lab/nginx/v").targets
    assert not explained("lab/new/v").exists
    assert [one.path for one in explained("lab/new/v").targets] == ["staging/eu/new", "staging/us/new", "prod/new"]
    assert explained("lab").taken is None


@pytest.mark.parametrize(
    ("path", "branch", "urls"),
    [
        ("lab/pay/v", "main", {"https://lab.example.com/api/webhook": ("push",)}),
        ("lab/pay/v", "release", {"https://lab.example.com/release": ("push",)}),
        (
            "lab/nginx/v",
            "main",
            {
                "https://lab.example.com/api/webhook": ("push",),
                "https://argo.example.com/api/webhook": ("pull_request",),
            },
        ),
        ("docs/x", "main", {}),
    ],
)
def test_endpoints_are_those_of_the_first_rule_for_each_event(
    path: str, branch: str, urls: dict[str, tuple[str, ...]]
) -> None:
    """A later rule gets what the earlier ones leave."""
    assert {one.url: one.events for one in explained(path, branch=branch).endpoints} == urls


def test_a_dry_run_says_no() -> None:
    assert ("telefonistka.yaml:1", "dryRunMode") in [
        (one.place, one.subject) for one in explained("lab/pay/v", f"dryRunMode: true\n{ROOT}").denials
    ]


def test_words_are_for_people() -> None:
    """The whole text."""
    text = ["".join(part for part, _ in line).rstrip() for line in explain.lines(explained("docs/x", "{}"))]
    assert text == [
        "docs/x  (there is no such file; if there were:)",
        "promoted  nowhere: no flow takes it",
        "relayed  nowhere",
    ]
