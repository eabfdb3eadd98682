"""`telefonistka plan` and `telefonistka check` on local clones, from a shell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.shell import commit, git, telefonistka

CONFIG = """\
promotionPaths:
  - sourcePath: lab/
    conditions: {prHasLabels: [fast]}
    promotionPrs: [{targetPaths: [prod/]}]
  - sourcePath: lab/
    promotionPrs:
      - targetDescription: Staging
        targetPaths: [staging/eu/, staging/us/]
      - targetPaths: [prod/]
"""
PLAN = """\
### Promotion plan

2 promotion pull requests:

```mermaid
flowchart LR
  s0["lab/"]
  t0["staging/eu/"]
  t1["staging/us/"]
  t2["prod/"]
  s0 --> t0
  s0 --> t1
  s0 --> t2
```

#### 1. `nginx`, `pay` from `lab/` to `Staging`

| Target | Source | Files |
|---|---|---|
| `staging/eu/nginx` | `lab/nginx` | 1 changed |
| `staging/eu/pay` | `lab/pay` | new: 2 added |
| `staging/us/nginx` | `lab/nginx` | already equal, nothing to do |
| `staging/us/pay` | `lab/pay` | new: 2 added |

- waits for people to merge it
- configured at `telefonistka.yaml:7`

#### 2. `nginx` from `lab/` to `prod/`

| Target | Source | Files |
|---|---|---|
| `prod/nginx` | `lab/nginx` | new: 1 added |

- skipped: `prod/` for `pay`, blocked by '^prod/' (`lab/pay/telefonistka.yaml:2`)
- waits for people to merge it
- configured at `telefonistka.yaml:9`

Flows not taken:

- `lab/` (`telefonistka.yaml:2`) needs one of the labels `fast`; files concerned: 2

Files without a component: 1 – `docs/x`
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose branch `change` touches two components; its main branch has moved on."""
    git(tmp_path, "init", "-q", "-b", "main")
    files = {
        "telefonistka.yaml": CONFIG,
        "lab/nginx/v": "1",
        "lab/pay/v": "1",
        "lab/pay/telefonistka.yaml": "promotionTargetBlockList:\n  - ^prod/\n",
        "staging/eu/nginx/v": "0",
        "staging/us/nginx/v": "2",
    }
    commit(tmp_path, files)
    git(tmp_path, "checkout", "-q", "-b", "change")
    commit(tmp_path, {"lab/nginx/v": "2", "lab/pay/v": "2", "docs/x": "1"})
    git(tmp_path, "checkout", "-q", "main")
    commit(tmp_path, {"elsewhere": "1"})
    return tmp_path


def test_plan_shows_what_a_merge_would_promote(clone: Path) -> None:
    """The whole text: what goes where, what does not, and which line says so."""
    done = telefonistka("plan", "--base", "main", "--head", "change", cwd=clone)
    assert (done.stdout, done.stderr, done.returncode) == (PLAN, "", 0)


def test_plan_reads_and_does_not_write(clone: Path) -> None:
    """Also where it has to merge to see the result: no object, no ref, no file is added."""
    before = {path: path.stat().st_mtime_ns for path in clone.rglob("*")}
    telefonistka("plan", "--repo", str(clone), "--head", "change")
    assert {path: path.stat().st_mtime_ns for path in clone.rglob("*")} == before


def test_plan_takes_labels(clone: Path) -> None:
    """The first flow by path and labels."""
    done = telefonistka("plan", "--head", "change", "--labels", "other, fast", "--json", cwd=clone)
    plan = json.loads(done.stdout)
    assert [promotion["line"] for promotion in plan["promotions"]] == [4]
    assert [pair["target"] for pair in plan["promotions"][0]["pairs"]] == ["prod/nginx"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "nope"], "has no commit called 'nope'"),
        (["--repo", "/nowhere"], "does not exist"),
        (["--head", "conflicting"], "conflicts with"),
    ],
)
def test_plan_says_what_is_wrong(clone: Path, arguments: list[str], says: str) -> None:
    """One line on stderr, no traceback, an exit code that a pipeline sees."""
    git(clone, "checkout", "-q", "-b", "conflicting", "change")
    commit(clone, {"elsewhere": "2"})
    git(clone, "checkout", "-q", "main")
    done = telefonistka("plan", *arguments, cwd=clone)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


def test_plan_carries_names_that_are_not_utf8(clone: Path) -> None:
    """A path is bytes; one that is no text is planned like any other."""
    git(clone, "checkout", "-q", "change")
    odd = os.fsencode(clone) + b"/lab/nginx/\xff"
    Path(os.fsdecode(odd)).write_text("1")
    commit(clone, {"lab/nginx/v": "3"})
    done = telefonistka("plan", "--base", "main", "--json", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "staging/eu/nginx" in done.stdout


def test_a_broken_configuration_has_no_plan(clone: Path) -> None:
    """The findings, as `check` says them."""
    git(clone, "checkout", "-q", "change")
    commit(clone, {"telefonistka.yaml": "promotionPaths: 7\n"})
    done = telefonistka("plan", cwd=clone)
    assert "telefonistka.yaml:1:17: error:" in done.stderr
    assert done.returncode == 1


def test_check_finds_nothing_in_a_sound_tree(clone: Path) -> None:
    done = telefonistka("check", str(clone))
    assert (done.stdout, done.returncode) == ("0 errors, 0 warnings\n", 0)


def test_check_says_every_fault_with_its_place(clone: Path) -> None:
    """Root and components at once; unknown keys, which the daemon only warns of, are errors here."""
    (clone / "telefonistka.yaml").write_text(CONFIG + "promotionPath: 1\ndryRunMode: 7\n")
    (clone / "lab/nginx/telefonistka.yaml").write_text("promotionTargetBlockList: ['(']\n")
    done = telefonistka("check", cwd=clone)
    assert done.returncode == 1
    assert "telefonistka.yaml:10:1: error: unknown key 'promotionPath'" in done.stdout
    assert "did you mean 'promotionPaths'?" in done.stdout
    assert "telefonistka.yaml:11:13: error:" in done.stdout
    assert "lab/nginx/telefonistka.yaml:1:28: error:" in done.stdout


def test_check_speaks_json_and_githubs_annotations(clone: Path) -> None:
    """For pipelines."""
    (clone / "telefonistka.yaml").write_text("dryRunMod: yes\n")
    findings = json.loads(telefonistka("check", "--format", "json", cwd=clone).stdout)
    assert ("telefonistka.yaml", 1, "error") in [(each["file"], each["line"], each["severity"]) for each in findings]
    annotated = telefonistka("check", "--format", "github", cwd=clone).stdout
    assert "::error file=telefonistka.yaml,line=1,col=1::unknown key 'dryRunMod'" in annotated


def test_a_daemon_without_settings_names_them_all() -> None:
    """Every missing variable in one go, and what to do."""
    done = telefonistka("server")
    assert done.returncode == 1
    assert "GITHUB_WEBHOOK_SECRET is not set" in done.stderr
    assert "GITHUB_APP_ID and GITHUB_OAUTH_TOKEN are not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_said() -> None:
    assert telefonistka("--version").stdout.startswith("telefonistka version ")
