"""The commands: parse, call, print. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from telefonistka import __version__
from telefonistka.errors import Rejected, TryAgain

if TYPE_CHECKING:
    from telefonistka.core.promotion import Plan

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130  # what shells call a program that Ctrl-C ended
KEPT = (
    "HOME",
    "LANG",
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
)  # variables for the demo's processes; a proxy would be in the way
STYLES: dict[str, dict[str, Any]] = {
    "strong": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "link": {"fg": "cyan"},
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-v", "--version", message="telefonistka version %(version)s")
def commands() -> None:
    """Promotion pull requests for GitOps repositories."""


def main() -> None:
    """The console script: runs a command, and turns an ending into a line on stderr and an exit code."""
    try:
        commands(prog_name="telefonistka")
    except Rejected as rejected:
        sys.exit(f"telefonistka: {rejected}")
    except TryAgain as waiting:
        click.echo(f"telefonistka: {waiting}; try again later", err=True)
        sys.exit(TRY_LATER)


@commands.command()
def server() -> None:
    """Run the daemon: receive GitHub's webhooks and promote.

    It is configured by environment variables; config/README.md lists them. At least GITHUB_WEBHOOK_SECRET and
    either GITHUB_OAUTH_TOKEN or GITHUB_APP_ID with GITHUB_APP_PRIVATE_KEY_PATH are needed.
    """
    import anyio

    from telefonistka import daemon, settings

    try:
        anyio.run(daemon.run, settings.read(os.environ))
    except settings.Invalid as invalid:
        raise Rejected(
            "the daemon cannot start:\n" + "\n".join(f"  {problem}" for problem in invalid.problems)
        ) from None


@commands.command()
@click.argument("path", type=DIRECTORY, default=".")
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
    from telefonistka.core import lint

    root, components, paths = _configuration(path)
    findings = lint.check(root, components, paths)
    render = {"text": lint.as_text, "json": lint.as_json, "github": lint.as_github}[form]
    click.echo(render(findings), nl=False)
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


def _configuration(path: Path) -> tuple[bytes | None, dict[str, bytes], list[str]]:
    """The root file, the component files by path, and every file's path."""
    from telefonistka.core.promotion import CONFIG_FILE

    paths, texts = [], {}
    for directory, names, files in os.walk(path):
        names[:] = [name for name in names if name != ".git"]
        for name in files:
            file = Path(directory, name)
            relative = file.relative_to(path).as_posix()
            paths.append(relative)
            if name == CONFIG_FILE:
                texts[relative] = file.read_bytes()
    return texts.pop(CONFIG_FILE, None), texts, paths


@commands.command()
@click.option("--repo", type=DIRECTORY, default=".", help="A clone of the repository.  [default: .]")
@click.option("--base", default="main", show_default=True, help="The default branch, or any revision of it.")
@click.option("--head", default="HEAD", show_default=True, help="What would be merged.")
@click.option("--labels", default="", metavar="A,B", help="Labels of the pull request.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(repo: Path, base: str, head: str, labels: str, as_json: bool) -> None:
    """Show what a merge would promote, from a local clone alone.

    The plan is the one that the daemon would make if HEAD were merged into the base now.

    \b
    telefonistka plan --base origin/main --head my-branch --labels quick_promotion
    """
    import anyio

    from telefonistka import templates
    from telefonistka.core.comments import Words

    made = anyio.run(_plan, repo, base, head, [label.strip() for label in labels.split(",") if label.strip()])
    if as_json:
        _print_json(made)
    else:
        click.echo("\n".join(Words(templates.load()).plan(made).splitlines()[2:]))


async def _plan(path: Path, base: str, head: str, labels: list[str]) -> Plan:
    from dataclasses import replace

    from telefonistka import git
    from telefonistka.core import trees
    from telefonistka.handlers import facts

    repository = git.Repository(path)
    into, change = repository.commit(base), repository.commit(head)
    start = repository.merge_base(into, change)
    after = repository.merged(into, change)
    config = await facts.repository_config(repository, after)
    if config.value is None:
        raise Rejected("the configuration cannot be used:\n" + "\n".join(map(str, config.findings)))
    files = list(trees.changed(repository.snapshot(start), repository.snapshot(change)))
    made = await facts.plan(repository, after, config.value, files, labels, before=start)
    return replace(made, warnings=(*map(str, config.findings), *made.warnings))


@commands.command()
@click.option("--exit", "leave", is_flag=True, help="End after the last step, for scripts.")
def demo(leave: bool) -> None:
    """Show the whole way of a change, from the lab to production, on this machine.

    A local GitHub (see `telefonistka sandbox`) and the daemon run as two processes. A pull request is merged as a
    person would do it, then each promotion that follows. What happened is printed step by step, and where to look
    around. Nothing outside of a temporary directory is touched.
    """
    import anyio

    with _sandbox_installed():
        from telefonistka.sandbox import demo
        from telefonistka.sandbox.processes import Failed

    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        with _interruptible():
            anyio.run(partial(demo.run, _print_line, environment, stay=not leave))
    except Failed as failed:
        raise Rejected(f"the demo went wrong: {failed}") from None


@commands.command()
@click.option("--repo", type=DIRECTORY, help="Your git repository; a clone of it is served.  [default: an example]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to listen on 127.0.0.1.  [default: free]")
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep the data there.")
@click.option("--webhook", metavar="URL", default="http://127.0.0.1:8080/webhook", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Addresses and tokens as one line of JSON.")
def sandbox(repo: Path | None, port: int, directory: Path | None, webhook: str, as_json: bool) -> None:
    """Run a local GitHub to try things out, with your repository in it.

    It serves a clone, so yours is never touched: with pages to look at, an API, git over HTTP, and webhooks to a
    daemon that you point at it. What to do next is printed. All data is gone when it ends, unless --dir is given.

    \b
    telefonistka sandbox --repo ../deployments
    """
    import anyio

    with _sandbox_installed():
        from telefonistka.sandbox import hosting

    def tell(place: hosting.Place) -> None:
        click.echo(_json(place) if as_json else hosting.words(place))

    try:
        with _interruptible():
            anyio.run(partial(hosting.serve, tell, origin=repo, port=port, directory=directory, webhook=webhook))
    except hosting.Unusable as unusable:
        raise Rejected(str(unusable)) from None


@contextmanager
def _sandbox_installed() -> Iterator[None]:
    """What the sandbox needs beside the daemon's own dependencies is there, or it is said how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "graphql":
            raise
        raise Rejected(
            "the sandbox needs graphql-core, which is not installed. Install telefonistka with its extra: "
            "pip install 'telefonistka[sandbox]'"
        ) from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it cleans up; in the background of a script, too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _print_line(spans: Sequence[tuple[str, str]]) -> None:
    click.echo("".join(click.style(text, **STYLES.get(tone, {})) for text, tone in spans).rstrip())


def _print_json(value: Any) -> None:
    click.echo(_json(value, indent=2))


def _json(value: Any, indent: int | None = None) -> str:
    from pydantic import TypeAdapter

    return TypeAdapter(type(value)).dump_json(value, indent=indent).decode()
