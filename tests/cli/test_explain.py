"""`telefonistka explain` and the other forms of `plan`, from a shell in a clone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.shell import commit, git, telefonistka

CONFIG = """\
promotionPaths:
  - sourcePath: lab/
    conditions: {autoMerge: true}
    promotionPrs:
      - targetDescription: Staging
        targetPaths: [staging/eu/]
      - targetPaths: [prod/]
webhookEndpointRegexs:
  - expression: ^lab/.*
    replacements: [https://argo.example.com/api/webhook]
"""
EXPLAINED = """\
lab/pay/v
promoted  as part of the component lab/pay, by the flow 'lab/'  telefonistka.yaml:2
  → staging/eu/pay  Staging (merged by itself)  telefonistka.yaml:6
relayed
  → https://argo.example.com/api/webhook  push  telefonistka.yaml:9
said no
  target prod/pay: blocked by '^prod/'  lab/pay/telefonistka.yaml:2
"""
DIFF = """\
diff staging/eu/nginx ← lab/nginx
--- a/staging/eu/nginx/gone
+++ /dev/null
@@ -1 +0,0 @@
-old
\\ No newline at end of file
--- a/staging/eu/nginx/v
+++ b/staging/eu/nginx/v
@@ -1,3 +1,3 @@
 one
-2
+two
 three
diff prod/nginx ← lab/nginx
--- /dev/null
+++ b/prod/nginx/v
@@ -0,0 +1,3 @@
+one
+two
+three
"""
CHART = """\
flowchart LR
  s0["lab/"]
  t0["staging/eu/"]
  t1["prod/"]
  s0 --> t0
  s0 --> t1
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose branch `change` touches one component."""
    git(tmp_path, "init", "-q", "-b", "main")
    files = {
        "telefonistka.yaml": CONFIG,
        "lab/nginx/v": "one\n2\nthree\n",
        "lab/pay/v": "1",
        "lab/pay/telefonistka.yaml": "promotionTargetBlockList:\n  - ^prod/\n",
        "staging/eu/nginx/v": "one\n2\nthree\n",
        "staging/eu/nginx/gone": "old",
    }
    commit(tmp_path, files)
    git(tmp_path, "checkout", "-q", "-b", "change")
    commit(tmp_path, {"lab/nginx/v": "one\ntwo\nthree\n"})
    return tmp_path


@pytest.mark.parametrize(
    ("path", "arguments", "inside"),
    [
        ("lab/pay/v", [], "."),
        ("pay/v", ["--repo", ".."], "lab"),
        ("lab/pay/v", ["--repo", ".."], "staging"),
        ("./v", ["--repo", "../.."], "lab/pay"),
    ],
)
def test_a_path_is_explained_with_every_line(clone: Path, path: str, arguments: list[str], inside: str) -> None:
    """Given from the root or from where one stands; the whole text."""
    done = telefonistka("explain", path, *arguments, cwd=clone / inside)
    assert (done.stdout, done.stderr, done.returncode) == (EXPLAINED, "", 0)


def test_an_explanation_is_json_too(clone: Path) -> None:
    told = json.loads(telefonistka("explain", str(clone / "lab" / "pay" / "v"), "--json", cwd=clone).stdout)
    assert told["path"] == "lab/pay/v"
    assert [target["path"] for target in told["targets"]] == ["staging/eu/pay"]
    assert told["denials"] == [
        {"place": "lab/pay/telefonistka.yaml:2", "subject": "target prod/pay", "reason": "blocked by '^prod/'"}
    ]


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"telefonistka.yaml": None}, "lab/pay/v", "has no telefonistka.yaml in its root"),
        ({"telefonistka.yaml": "promotionPaths: 7\n"}, "lab/pay/v", "telefonistka.yaml:1:17: error:"),
        ({}, "/etc/passwd", "/etc/passwd does not lie in ."),
    ],
)
def test_what_cannot_be_explained_is_an_error(clone: Path, change: dict[str, str | None], path: str, says: str) -> None:
    """In one sentence."""
    if change:
        commit(clone, change)
    done = telefonistka("explain", path, cwd=clone)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_shows_the_change_of_each_target(clone: Path) -> None:
    """After the plan, as a diff of the target's files."""
    plain = telefonistka("plan", cwd=clone)
    done = telefonistka("plan", "--diff", cwd=clone)
    assert (done.stdout, done.returncode) == (plain.stdout + DIFF, 0), done.stderr


def test_a_diff_tells_what_is_no_text(clone: Path) -> None:
    """Binary files, modes and what would move the cursor."""
    (clone / "lab/nginx/run").write_bytes(b"\0\1")
    (clone / "lab/nginx/esc").write_text("\x1b[31mred\n")
    (clone / "lab/nginx/v").chmod(0o755)
    commit(clone, {"lab/nginx/v": "one\n2\nthree\n"})
    shown = telefonistka("plan", "--diff", cwd=clone).stdout
    assert "Binary files /dev/null and b/staging/eu/nginx/run differ\n" in shown
    assert "mode of staging/eu/nginx/v: 100644 → 100755\n" in shown
    assert "+\N{REPLACEMENT CHARACTER}[31mred\n" in shown


def test_plan_is_a_chart_too(clone: Path) -> None:
    """For whatever draws Mermaid."""
    done = telefonistka("plan", "--mermaid", cwd=clone)
    assert (done.stdout, done.returncode) == (CHART, 0), done.stderr
