"""The workflows in config/ and the hook for pre-commit: well-formed, and their commands do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from ruamel.yaml import YAML

from tests.cli.shell import Run, commit, git
from tests.handlers.world import World, world

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "config").glob("workflow-*.yaml"))
CONFIG = """\
promotionPaths:
  - sourcePath: lab/
    conditions: {prHasLabels: [fast]}
    promotionPrs: [{targetPaths: [staging/]}]
"""
INTERPOLATED = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def loaded(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def job(path: Path) -> Mapping[str, Any]:
    (found,) = loaded(path)["jobs"].values()
    return dict(found)


def commands(path: Path) -> Iterator[str]:
    """The lines that run, but for the installation, which is this tree already."""
    lines = [step["run"] for step in job(path)["steps"] if "run" in step]
    assert lines[0] == 'pip install "$TELEFONISTKA"'
    yield from lines[1:]


def run(line: str, path: Path, cwd: Path, values: Mapping[str, str], **given: str) -> Run:
    """One command, with the workflow's variables and what GitHub puts into `${{ … }}`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "TELEFONISTKA_"))}
    own = {key: INTERPOLATED.sub(lambda m: values[m[1]], text) for key, text in job(path)["env"].items()}
    bin_ = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean, **own, "PATH": bin_, **given}
    # As GitHub does: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
async def github(tmp_path: Path) -> AsyncIterator[tuple[World, dict[str, str]]]:
    files = {"telefonistka.yaml": CONFIG, "lab/api/values.yaml": "image:\n  tag: v1\n"}
    async with world(tmp_path, files) as made:
        variables = {
            "GITHUB_HOST": made.box.url,
            "TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0",
            "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "0",
        }
        yield made, variables


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_one(path: Path) -> None:
    """Triggers, the fewest rights, pinned steps; no interpolation in a command, which people's texts could change."""
    workflow = loaded(path)
    assert {"name", "on", "permissions", "jobs"} == workflow.keys()
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for step in job(path)["steps"]:
        assert step.keys() <= {"run", "uses", "with"}
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v4"))


def test_the_check_annotates_and_shows_the_plan(tmp_path: Path) -> None:
    """In a clone as GitHub checks it out: the merge, with the base branch beside it."""
    path = ROOT / "config" / "workflow-check.yaml"
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    commit(origin, {"telefonistka.yaml": CONFIG, "lab/nginx/v": "1"})
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    git(clone, "checkout", "-q", "-b", "change")
    commit(clone, {"lab/nginx/v": "2"})
    summary = tmp_path / "summary"
    values = {"join(github.event.pull_request.labels.*.name, ',')": "fast,other"}
    check, plan = commands(path)
    given = {"GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(summary)}
    assert run(check, path, clone, values, **given).returncode == 0
    done = run(plan, path, clone, values, **given)
    assert done.returncode == 0, done.stderr
    assert "`staging/nginx`" in summary.read_text()
    commit(clone, {"telefonistka.yaml": "promotionPath: []\n"})
    broken = run(check, path, clone, values, **given)
    assert broken.returncode == 1
    assert broken.stdout.startswith("::error file=telefonistka.yaml,line=1,col=1::")


async def test_the_bump_sets_the_tag(github: tuple[World, dict[str, str]], tmp_path: Path) -> None:
    """In another repository, by a pull request that is merged."""
    world, variables = github
    path = ROOT / "config" / "workflow-bump.yaml"
    (line,) = commands(path)
    values = {"secrets.DEPLOYMENTS_TOKEN": world.bot.value}
    given = {
        "GITHUB_REPOSITORY": "acme/api",
        "GITHUB_SHA": "0" * 40,
        "GITHUB_REF_NAME": "v2",
        "TARGET_REPO": "acme/iac",
    }
    done = await to_thread.run_sync(partial(run, line, path, tmp_path, values, **variables, **given))
    assert done.stdout.startswith("merged #1"), done.stderr
    assert world.text("lab/api/values.yaml") == "image:\n  tag: v2\n"


async def test_the_event_is_promoted(github: tuple[World, dict[str, str]], tmp_path: Path) -> None:
    """As the runner hands it over."""
    world, variables = github
    path = ROOT / "config" / "workflow-event.yaml"
    (line,) = commands(path)
    event = await world.merged({"lab/api/values.yaml": "image:\n  tag: v2\n"}, labels=["fast"])
    pull = await world.ask("GET", f"/pulls/{event.number}")
    file = tmp_path / "event.json"
    payload = {"action": "closed", "pull_request": pull, "repository": pull["base"]["repo"], "number": event.number}
    file.write_text(json.dumps(payload))
    values = {"secrets.TELEFONISTKA_TOKEN": world.bot.value}
    given = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(file)}
    done = await to_thread.run_sync(partial(run, line, path, tmp_path, values, **variables, **given))
    assert (done.returncode, done.stdout) == (0, "promote: done: opened #2\n"), done.stderr


def test_the_hook_finds_mistakes(tmp_path: Path) -> None:
    """What pre-commit would run, for the files that it would run it for."""
    (hook,) = loaded(ROOT / ".pre-commit-hooks.yaml")
    assert {"id", "name", "entry", "language"} <= hook.keys()
    for file, matches in (
        ("telefonistka.yaml", True),
        ("lab/a/telefonistka.yaml", True),
        ("x-telefonistka.yaml", False),
    ):
        assert (re.search(hook["files"], file) is not None) is matches
    (tmp_path / "telefonistka.yaml").write_text("promotionPath: []\n")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        hook["entry"].split(), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "unknown key 'promotionPath'" in done.stdout) == (1, True)
