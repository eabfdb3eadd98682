"""Commands that need nothing but a clone: check, explain, plan."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from telefonistka.cli import terminal
from telefonistka.errors import Rejected

if TYPE_CHECKING:
    from telefonistka.core.promotion import Plan

TONES = {"+": "good", "-": "bad", "@": "link", "d": "strong"}  # by the first character of a line
FILE = "telefonistka.yaml"


@click.command(short_help="Find mistakes in the configuration files.")
@click.argument("path", type=terminal.DIRECTORY, default=".")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
def check(path: Path, form: str) -> None:
    """Find mistakes in the configuration files of a working tree.

    PATH is the root of the repository, by default the current directory. All that is wrong is said at once, each with
    file, line and column; exit code 1 if there is an error. The format "github" annotates a pull request from GitHub
    Actions.

    \b
    telefonistka check
    telefonistka check ../deployments --format json
    """
    from telefonistka import settings
    from telefonistka.core import lint

    with terminal.progress("reading the tree"):
        root, components, paths = _configuration(path)
        findings = lint.check(root, components, paths, allowed_hosts=settings.relay_allowed_hosts(os.environ))
    render = {"text": lint.as_text, "json": lint.as_json, "github": lint.as_github}[form]
    click.echo(render(findings), nl=False)
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


def _configuration(path: Path) -> tuple[bytes | None, dict[str, bytes], list[str]]:
    """The root file, the component files by path, and every file's path."""
    paths, texts = [], {}
    for directory, names, files in os.walk(path):
        names[:] = [name for name in names if name != ".git"]
        for name in files:
            file = Path(directory, name)
            relative = file.relative_to(path).as_posix()
            paths.append(relative)
            if name == FILE:
                texts[relative] = file.read_bytes()
    return texts.pop(FILE, None), texts, paths


def _labels(text: str) -> list[str]:
    return [label.strip() for label in text.split(",") if label.strip()]


@click.command(short_help="Show what becomes of a file, and by which rules.")
@click.argument("path")
@click.option("--repo", type=terminal.DIRECTORY, default=".", help="The root of the repository.  [default: .]")
@click.option("--labels", default="", metavar="A,B", help="Labels of the pull request that changes it.")
@click.option("--branch", default="main", show_default=True, help="The default branch, for the relay's rules.")
@click.option("--json", "as_json", is_flag=True, help="The explanation as JSON.")
def explain(path: str, repo: Path, labels: str, branch: str, as_json: bool) -> None:
    """Show what becomes of a file: its component, targets and relay endpoints, and every rule that says no.

    PATH is a file or directory of the repository, which need not exist. Rules are read from the working tree, and each
    is named with its file and line. What a whole change leads to is said by `plan`.

    \b
    telefonistka explain lab/nginx/values.yaml
    telefonistka explain lab/nginx --labels quick_promotion --repo ../deployments
    """
    from telefonistka import settings
    from telefonistka.core import config
    from telefonistka.core import explain as explaining

    with terminal.progress("reading the tree"):
        text, components, paths = _configuration(repo)
    if text is None:
        raise Rejected(f"{repo} has no {FILE} in its root: nothing is promoted or relayed")
    root = config.repository(text)
    if root.value is None:
        raise Rejected("the configuration cannot be used:\n" + "\n".join(map(str, root.findings)))
    asked = explaining.Asked(
        path=_inside(path, repo),
        labels=_labels(labels),
        branch=branch,
        allowed_hosts=settings.relay_allowed_hosts(os.environ),
    )
    found = explaining.explain(asked, root, components, paths)
    if as_json:
        terminal.print_json(found)
        return
    for line in explaining.lines(found):
        terminal.print_line(line)


def _inside(path: str, repo: Path) -> str:
    """A path from the root of the repository, whether it was given from there, from here, or in full."""
    root = repo.resolve()
    # An absolute path stays what it is when it is joined.
    clean = [Path(os.path.normpath(base / path)) for base in (root, Path.cwd())]
    inside = [one for one in clean if one.is_relative_to(root)]
    if not inside:
        raise Rejected(f"{path} does not lie in {repo}; give it from the repository's root")
    return next((one for one in inside if one.exists()), inside[0]).relative_to(root).as_posix()


class Asked(NamedTuple):
    """What a plan is made of."""

    repo: Path
    base: str
    head: str
    labels: list[str]
    diff: bool


@click.command(short_help="Show what a merge would promote.")
@click.option("--repo", type=terminal.DIRECTORY, default=".", help="A clone of the repository.  [default: .]")
@click.option("--base", default="main", show_default=True, help="The default branch, or any revision of it.")
@click.option("--head", default="HEAD", show_default=True, help="What would be merged.")
@click.option("--labels", default="", metavar="A,B", help="Labels of the pull request.")
@click.option("--diff", is_flag=True, help="And what changes in the files of each target.")
@click.option("--mermaid", is_flag=True, help="The plan as a Mermaid chart.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(repo: Path, base: str, head: str, labels: str, diff: bool, mermaid: bool, as_json: bool) -> None:
    """Show what a merge would promote, from a local clone alone.

    The plan is the one that the daemon would make if HEAD were merged into the base now.

    \b
    telefonistka plan --base origin/main --head my-branch --labels quick_promotion
    telefonistka plan --diff
    telefonistka plan --mermaid > plan.mmd
    """
    import anyio

    from telefonistka import templates
    from telefonistka.core.comments import Words

    if diff + mermaid + as_json > 1:
        raise click.UsageError("Give one of --diff, --mermaid and --json.")
    with terminal.progress("planning"):
        made, changes = anyio.run(_plan, Asked(repo, base, head, _labels(labels), diff))
    if as_json:
        return terminal.print_json(made)
    words = Words(templates.load())
    if mermaid:
        click.echo(words.chart(made), nl=False)
        return None
    click.echo(words.plan_text(made), nl=False)
    for line in changes:
        terminal.print_line([(_printable(line), TONES.get(line[:1], ""))])
    return None


def _printable(line: str) -> str:
    """A line of a file, without what would move a terminal's cursor."""
    return "".join(one if one == "\t" or one.isprintable() else "\ufffd" for one in line)


async def _plan(asked: Asked) -> tuple[Plan, list[str]]:
    """The plan, and the change of every target's files where that is asked for."""
    from dataclasses import replace

    from telefonistka import git
    from telefonistka.core import patch, trees
    from telefonistka.handlers import facts

    repository = git.Repository(asked.repo)
    into, change = repository.commit(asked.base), repository.commit(asked.head)
    start = repository.merge_base(into, change)
    after = repository.merged(into, change)
    config = await facts.repository_config(repository, after)
    if config.value is None:
        raise Rejected("the configuration cannot be used:\n" + "\n".join(map(str, config.findings)))
    files = list(trees.changed(repository.snapshot(start), repository.snapshot(change)))
    made = await facts.plan(repository, after, config.value, files, asked.labels, before=start)
    made = replace(made, warnings=(*map(str, config.findings), *made.warnings))
    if not asked.diff:
        return made, []
    return made, list(patch.lines(made, after, await repository.blobs(patch.blobs(made, after))))


COMMANDS = (check, explain, plan)
