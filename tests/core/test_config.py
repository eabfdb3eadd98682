"""telefonistka.yaml is read as the original reads it, and everything that is wrong is said at its place."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from telefonistka.core import config
from telefonistka.core.config import Severity

HERE = Path(__file__).parent
CONFIG = HERE.parent.parent / "config"
GO_CASES: list[tuple[str, dict[str, Any] | None]] = json.loads((HERE / "go_yaml_cases.json").read_text("utf-8"))

# What the original accepts and we refuse: depths that no path has, and a tab inside a plain text.
STRICTER = {
    "promotionPaths: [componentPathExtraDepth: 1_000]",
    "promotionPaths: [componentPathExtraDepth: 1e3]",
    "promotionPaths: [componentPathExtraDepth: 1E3]",
    "promotionPaths: [componentPathExtraDepth: 9223372036854775807]",
    "promotionPaths: [componentPathExtraDepth: -9223372036854775808]",
    "promotionPaths: [componentPathExtraDepth: -1]",
    "promotionPaths: [componentPathExtraDepth: -2.5]",
    "promotionPaths: [componentPathExtraDepth: -0x10]",
    "promotionPaths: [componentPathExtraDepth: -0b11]",
    "promotionPaths:\n- sourcePath:\ta\tb\t\n",
}
# What it refuses, or reads otherwise, and nobody writes: an escaped slash, odd line breaks, the tag `!`.
LOOSER = {
    'promotionPaths:\n- sourcePath: "a\\/b\\x41\\u00e9"\n',
    "a: \x85b",
    "a: \u2028b",
    "dryRunMode: ! yes",
    "promotionPaths:\n- sourcePath: ! ~",
    "promotionPaths: [{promotionPrs: [{targetPaths: [! ~]}]}]",
}


def repository(text: str) -> config.RepoConfig:
    parsed = config.repository(text.encode())
    assert parsed.value is not None, parsed.findings
    return parsed.value


def said(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [str(finding).removeprefix("telefonistka.yaml:") for finding in config.repository(data).findings]


@pytest.mark.parametrize(("text", "decoded"), [case for case in GO_CASES if case[0] not in STRICTER | LOOSER])
def test_a_text_is_decoded_as_the_originals_library_does(text: str, decoded: dict[str, Any] | None) -> None:
    """The answers of yaml.v2 2.4.0 (go_yaml_cases.go): booleans, strings, numbers, merges, aliases, documents."""
    value = config.repository(text.encode()).value
    assert (value and _original(value)) == (decoded and _without_nil(decoded))


@pytest.mark.parametrize("text", sorted(STRICTER))
def test_where_we_are_stricter_it_is_an_error(text: str) -> None:
    """A divergence is loud."""
    assert config.repository(text.encode()).value is None


def _original(value: config.RepoConfig) -> dict[str, Any]:
    return {
        "promotionPaths": [
            {
                "sourcePath": flow.source_path,
                "componentPathExtraDepth": flow.component_path_extra_depth,
                "conditions": {
                    "prHasLabels": _list(flow.conditions.pr_has_labels),
                    "autoMerge": flow.conditions.auto_merge,
                },
                "promotionPrs": [
                    {"targetPaths": list(pull.target_paths), "targetDescription": pull.target_description}
                    for pull in flow.promotion_prs
                ],
            }
            for flow in value.promotion_paths
        ],
        "dryRunMode": value.dry_run_mode,
        "toggleCommitStatus": value.toggle_commit_status,
        "argocd": {
            "commentDiffonPR": value.argocd.comment_diff_on_pr,
            "allowSyncfromBranchPathRegex": value.argocd.allow_sync_from_branch_path_regex,
        },
    }


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _without_nil(decoded: dict[str, Any]) -> dict[str, Any]:
    """Go's absent lists are null, ours empty; only for `prHasLabels` does the difference mean something."""
    flows = [
        flow
        | {"promotionPrs": [pull | {"targetPaths": pull["targetPaths"] or []} for pull in flow["promotionPrs"] or []]}
        for flow in decoded["promotionPaths"] or []
    ]
    return decoded | {"promotionPaths": flows, "toggleCommitStatus": decoded["toggleCommitStatus"] or {}}


def test_every_key_arrives() -> None:
    """The annotated examples hold every key there is, and are free of findings."""
    root = config.repository((CONFIG / "telefonistka.yaml").read_bytes())
    part = config.component((CONFIG / "component.yaml").read_bytes(), file="component.yaml")
    assert root.findings == part.findings == ()
    for model, text in ((config.RepoConfig, "telefonistka.yaml"), (config.ComponentConfig, "component.yaml")):
        data = YAML(typ="safe", pure=True).load((CONFIG / text).read_text("utf-8"))
        assert not {key for key in _keys(model) if not _holds(data, key)} - {"promtionPRlables"}


def _keys(model: type[BaseModel]) -> set[str]:
    described = config.schema(model)
    objects = [described, *described.get("$defs", {}).values()]
    return {key for part in objects for key in part.get("properties", {})}


def _holds(data: Any, key: str) -> bool:
    if isinstance(data, dict):
        return key in data or any(_holds(value, key) for value in data.values())
    return isinstance(data, list) and any(_holds(value, key) for value in data)


@pytest.mark.parametrize(
    ("model", "name"), [(config.RepoConfig, "telefonistka"), (config.ComponentConfig, "component")]
)
def test_the_committed_schema_is_the_models(model: type[BaseModel], name: str) -> None:
    """`python -m tests.core.test_config` writes the schemas; the examples are valid by them."""
    committed = json.loads((CONFIG / f"{name}.schema.json").read_text("utf-8"))
    assert committed == config.schema(model)
    data = YAML(typ="safe", pure=True).load((CONFIG / f"{name}.yaml").read_text("utf-8"))
    validator = jsonschema_rs.validator_for(committed)
    assert not [error.message for error in validator.iter_errors(data)]
    assert not validator.is_valid({"unknownKey": 1})


def test_lines_are_kept() -> None:
    """So that a plan can say which line decided."""
    flow = repository("promotionPaths:\n\n- sourcePath: a/\n  promotionPrs:\n  - targetPaths: [b/]\n").promotion_paths[
        0
    ]
    assert (flow.line, flow.promotion_prs[0].line) == (3, 5)
    rules = config.component(b"promotionTargetBlockList:\n- a\n- b\n", file="x").value
    assert rules is not None
    assert [(rule.text, rule.line) for rule in rules.promotion_target_block_list] == [("a", 2), ("b", 3)]
    assert rules.promotion_target_allow_list is None
    assert rules.promotion_target_block_list[0].pattern.search("prod/a")


def test_a_null_key_has_its_default() -> None:
    """As if it were absent, also where the default is not empty."""
    value = repository("relay:\n  onUnknownFiles:\nwebhookEndpointRegexs: [{events: ~}]\npromotionPaths: [{onNewer: }]")
    assert value.relay.on_unknown_files == "all"
    assert value.webhook_endpoint_regexs[0].events == ("push",)
    assert value.promotion_paths[0].on_newer == "keep"


def test_all_findings_are_told_at_once() -> None:
    """Each at its line and column, with the value and a suggestion."""
    text = """\
promotionPath: []
promotionPaths:
  - sourcePath: src/(
    autoMerge: yes
    conditions:
      autoMerge: maybe
      prHasLabels: []
    componentPathExtraDepth: 300
    onNewer: never
    promotionPrs:
      - targetPaths: a
      - targetPaths: [b, {}]
DryRunMode: y
dryRunMode: n
dryRunMode: "n"
promtionPRlables: [a]
promtionPrLables: [a]
promotionTargetBlockList: [a]
argocd: {commentArgocdDiffonPR: true, allowSyncfromBranchPathRegex: '*'}
"""
    assert said(text) == [
        "1:1: warning: unknown key 'promotionPath' is ignored — did you mean 'promotionPaths'?",
        "3:17: error: 'src/(' is no regular expression (RE2): missing ): src/(",
        "3:17: warning: sourcePath 'src/(' has no end slash: the directory as a whole is one component",
        "4:5: warning: unknown key 'autoMerge' is ignored — it belongs under 'promotionPaths[].conditions'",
        "6:18: error: 'autoMerge' must be true or false, not 'maybe'",
        "7:20: warning: prHasLabels is an empty list: this flow never applies",
        "8:30: error: 'componentPathExtraDepth' must be at most 255, not 300",
        "9:14: error: 'onNewer' must be 'keep', 'update' or 'close', not 'never'",
        "11:22: error: 'targetPaths' must be a list, not 'a'",
        "12:23: warning: target path 'b' has no end slash: a component x goes to 'bx'",
        "12:26: error: each of 'targetPaths' must be text, not a mapping",
        "13:1: warning: unknown key 'DryRunMode' is ignored — did you mean 'dryRunMode'?",
        "15:1: warning: duplicate key 'dryRunMode', also in line 14: the later one counts",
        "15:13: error: 'dryRunMode' must be true or false, not the text 'n'",
        f"16:1: warning: 'promtionPRlables' {config.INERT['promtionPRlables']}",
        "17:1: warning: unknown key 'promtionPrLables' is ignored — did you mean 'promotionPrLabels'?",
        (
            "18:1: warning: unknown key 'promotionTargetBlockList' is ignored — it belongs in a component's "
            "telefonistka.yaml"
        ),
        "19:10: warning: unknown key 'commentArgocdDiffonPR' is ignored — did you mean 'commentDiffonPR'?",
        "19:69: error: '*' is no regular expression (RE2): no argument for repetition operator: *",
    ]


def test_a_components_file_has_its_own_keys() -> None:
    """Lists of expressions, compiled when they are read: a broken rule never opens a target."""
    parsed = config.component(b'promotionTargetBlockList: ["a/(", a/]\ndryRunMode: y\n', file="x/t.yaml")
    assert parsed.value is None
    assert [str(finding) for finding in parsed.findings] == [
        "x/t.yaml:1:28: error: 'a/(' is no regular expression (RE2): missing ): a/(",
        "x/t.yaml:2:1: warning: unknown key 'dryRunMode' is ignored — it belongs at the top of the root file",
    ]
    empty = config.component(b"promotionTargetAllowList: []", file="x")
    assert empty.value is not None
    assert empty.value.promotion_target_allow_list == ()
    assert "nothing is promoted" in str(empty.findings[0])
    assert config.component(b"promotionTargetBlockList: a", file="x").value is None


def test_warnings_leave_the_configuration_in_use() -> None:
    """A stale key must not stop a drop-in."""
    parsed = config.repository(b"nope: 1\ndryRunMode: yes\n")
    assert parsed.value == config.RepoConfig(dry_run_mode=True)
    assert [finding.severity for finding in parsed.findings] == [Severity.WARNING]


def test_keys_for_aliases_are_no_findings() -> None:
    """`x-…` at the top is where people keep what their aliases refer to."""
    text = "x-common: &common {sourcePath: a/}\npromotionPaths: [*common]\n"
    assert said(text) == []
    assert repository(text).promotion_paths[0].source_path == "a/"
    assert said("promotionPaths: [{x-y: 1}]") == ["1:19: warning: unknown key 'x-y' is ignored"]


def test_what_a_later_merge_replaces_is_told() -> None:
    """The original's library lets `<<` replace what stands before it."""
    assert said("dryRunMode: no\n<<: {dryRunMode: yes}") == [
        "2:1: warning: this '<<' replaces 'dryRunMode' of line 1, which stands before it"
    ]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (b"a: b\nc: \xe9", "2:4: error: the file is no UTF-8 text: byte 0xe9"),
        (b"dryRunMode: y\x00", "1:14: error: not valid YAML: special characters are not allowed: '\\x00'"),
        (
            b"a:\n\t- b",
            "2:1: error: not valid YAML: while scanning for the next token found character '\\t' that cannot",
        ),
        (b"a: [b\nc: d", "2:2: error: not valid YAML: while parsing a flow sequence expected ',' or ']', but got ':'"),
        (b"a: *b", "1:4: error: not valid YAML: found undefined alias 'b'"),
        (b"- a", "1:1: error: this must be a mapping, not a list"),
        (b"#" * (config.SIZE + 1), "1:1: error: the file has 262,145 bytes; 262,144 are allowed"),
        (b"a: y\n---\nb: y", "1:1: warning: unknown key 'a' is ignored"),
        (b"{}\n---\nb: y", "3:1: warning: a second document starts here; only the first one counts"),
        (b"{} x", "1:4: warning: only the first document counts, and it ends before this: not valid YAML"),
        (
            b'promotionPaths: [{sourcePath: "\\uDC80/"}]',
            "1:31: error: 'sourcePath' must be Unicode text, not the text '\\udc80/'",
        ),
        (
            rb"promotionPaths: [{sourcePath: 'a/\Qb/'}]",
            "1:18: error: sourcePath 'a/\\\\Qb/' cannot precede a component: ",
        ),
        (
            b"promotionPaths: [{componentPathExtraDepth: -1}]",
            "1:44: error: 'componentPathExtraDepth' must be at least 0",
        ),
    ],
)
def test_a_broken_file_is_a_finding(text: bytes, finding: str) -> None:
    """Whatever the file holds, it says where and what."""
    assert said(text)[0].startswith(finding)


def test_the_size_of_a_byte_order_mark_is_no_column() -> None:
    """A mark is skipped, in UTF-8 and in UTF-16."""
    for encoding in ("utf-8-sig", "utf-16"):
        assert said("nope: é".encode(encoding)) == ["1:1: warning: unknown key 'nope' is ignored"]


def _hostile() -> dict[str, str]:
    bomb = "x-0: &a0 {dryRunMode: y}\n"
    lists = "x-0: &a0 [a, a]\n"
    for i in range(1, 40):
        bomb += f"x-{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n"
        lists += f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n"
    chain = "x-0: &a0 {}\n" + "".join(f"x-{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 3000))
    flow = "x-f: &f {promotionPrs: [" + ", ".join(["{targetPaths: [a/, b/]}"] * 99) + "]}\n"
    return {
        "merges": bomb + "<<: *a39",
        "lists": lists + "promotionPrLabels: *a39",
        "chain": chain + "<<: *a2999",
        "flows": flow + f"promotionPaths: [{', '.join(['*f'] * 999)}]",
        "itself": "&a\n<<: *a",
        "itself in a list": "promotionPaths: &a [*a]",
        "itself in a key": "? &a {*a : b}\n: c",
        "deep lists": "[" * 99_999,
        "deep mappings": "{a: " * 60_000,
        "deep blocks": "- " * 99_999,
        "anchors": "".join(f"x-{i}: &a\n" for i in range(9_999)),
        "keys": "".join(f"dryRunMod{i}:\n" for i in range(15_000)),
        "duplicates": "dryRunMode: y\n" * 15_000,
        "number": f"promotionPaths: [{{componentPathExtraDepth: {'9' * 99_999}}}]",
        "exponent": "promotionPaths: [{componentPathExtraDepth: 1e999999999}]",
        "directive": f"%YAML {'9' * 9_999}.1\n---\n",
        "huge expressions": "promotionPaths:\n" + "".join(f"- sourcePath: '\\pL{{1000}}{i}/'\n" for i in range(5_000)),
        "large expressions": "promotionPaths:\n" + "".join(f"- sourcePath: '.{{1,999}}{i}/'\n" for i in range(5_000)),
        "many expressions": "promotionPaths:\n" + "".join(f"- sourcePath: {i}/\n" for i in range(9_000)),
        "depths": "promotionPaths:\n" + "- componentPathExtraDepth: 255\n" * 7_000,
    }


@pytest.mark.parametrize("name", _hostile())
def test_a_hostile_file_is_refused_in_bounded_time(name: str) -> None:
    """Bombs, depth and size are findings; the bound is generous, the unbounded cases take minutes or never end."""
    start = time.thread_time()
    parsed = config.repository(_hostile()[name].encode())
    assert time.thread_time() - start < 60
    assert parsed.findings or name in ("anchors", "depths")
    assert len(parsed.findings) <= config.FINDINGS + 2


def test_an_error_is_told_however_many_warnings_there_are() -> None:
    """The number of findings is bounded; that the file is refused is never left out."""
    parsed = config.repository(b"".join(b"a%d: 1\n" % i for i in range(999)) + b"dryRunMode: 7\nargocd: 7\n")
    assert parsed.value is None
    assert [str(f) for f in parsed.findings if f.severity is Severity.ERROR] == [
        "telefonistka.yaml:1000:13: error: 'dryRunMode' must be true or false, not '7'"
    ]
    assert "800 more findings are not shown" in str(parsed.findings[-1])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_a_finding(text: bytes) -> None:
    """Nothing is raised."""
    parsed = config.repository(text)
    assert parsed.value is not None or parsed.findings


PIECES = [
    *"[]{},:-?|>&*!%@`'\"#~ \n\t",
    *(
        "a: ",
        "- ",
        "<<: ",
        "&a ",
        "*a",
        "---\n",
        "...\n",
        "!!str ",
        "!!int ",
        "\n  ",
        "é",
        "yes",
        "0x1",
        "\\u00",
        "%TAG ",
    ),
    *(
        "promotionPaths:\n- ",
        "sourcePath: ",
        "promotionPrs: ",
        "targetPaths: ",
        "conditions: ",
        "prHasLabels: ",
        "argocd: ",
    ),
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_yaml_like_text_is_a_configuration_or_a_finding(text: str) -> None:
    """Nothing is raised, the findings are in order, and their places lie in the text."""
    parsed = config.repository(text.encode())
    assert (parsed.value is None) == any(finding.severity is Severity.ERROR for finding in parsed.findings)
    places = [(finding.line, finding.column) for finding in parsed.findings]
    assert places == sorted(places)
    lines = text.count("\n") + 1
    assert all(1 <= line <= lines and column >= 1 for line, column in places)


paths = st.text(alphabet="abc/-é.", min_size=1, max_size=8).map(lambda path: path + "/")


@given(st.lists(st.tuples(paths, st.lists(paths, max_size=3), st.booleans()), max_size=4))
def test_what_is_written_is_read(flows: list[tuple[str, list[str], bool]]) -> None:
    """A configuration written as JSON, which is YAML, comes back as it was."""
    data = {
        "promotionPaths": [
            {"sourcePath": source, "conditions": {"autoMerge": merge}, "promotionPrs": [{"targetPaths": targets}]}
            for source, targets, merge in flows
        ]
    }
    parsed = config.repository(json.dumps(data).encode())
    assert parsed.value is not None
    read = parsed.value.promotion_paths
    assert [(f.source_path, list(f.promotion_prs[0].target_paths), f.conditions.auto_merge) for f in read] == flows
    assert parsed.findings == ()


if __name__ == "__main__":
    for model, name in ((config.RepoConfig, "telefonistka"), (config.ComponentConfig, "component")):
        text = json.dumps(config.schema(model), indent=2, ensure_ascii=False) + "\n"
        (CONFIG / f"{name}.schema.json").write_text(text, "utf-8")
