"""The bump commands: a change to files of another repository, as one pull request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from telefonistka.cli import identity, terminal

if TYPE_CHECKING:
    from telefonistka.bump import Result
    from telefonistka.core.bump import Change


def _bumping(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all bump commands have."""
    options = (
        click.option("-t", "--target-repo", envvar="TARGET_REPO", show_envvar=True, metavar="OWNER/NAME"),
        click.option("-f", "--target-file", envvar="TARGET_FILE", show_envvar=True, help="A path from the root."),
        click.option("-g", "--github-host", metavar="HOST", help="GitHub Enterprise Server.  [env var: GITHUB_HOST]"),
        click.option("-p", "--triggering-repo", envvar="GITHUB_REPOSITORY", show_envvar=True, metavar="OWNER/NAME"),
        click.option("-s", "--triggering-repo-sha", envvar="GITHUB_SHA", show_envvar=True, metavar="SHA"),
        click.option("-a", "--triggering-actor", envvar="GITHUB_ACTOR", show_envvar=True, help="Becomes the assignee."),
        click.option("--auto-merge", is_flag=True, help="Merge the pull request."),
        click.option("--update-open", is_flag=True, help="Put it into an open bump of the same file by the same repo."),
        click.option("--dry-run", is_flag=True, help="Print the changes as a diff and do nothing."),
        click.option("--json", "as_json", is_flag=True, help="The result as JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("bump-overwrite", short_help="Replace a file of another repository.")
@click.option("-c", "--file", "content", type=click.File("rb"), help="The new content; may be a pipe.  [required]")
@_bumping
def bump_overwrite(content: BinaryIO | None, **options: Any) -> None:
    """Replace a file in another repository, by a pull request.

    The target file may be a new one. Who we are at GitHub is told by GITHUB_OAUTH_TOKEN, or by GITHUB_APP_ID and
    GITHUB_APP_PRIVATE_KEY_PATH. Run it again and nothing happens: it prints the pull request that is there.

    \b
    telefonistka bump-overwrite -t acme/deployments -f lab/api/values.yaml -c values.yaml
    """
    from telefonistka.core.bump import Overwrite

    if content is None:
        raise click.UsageError("Say with --file what the new content is.")
    _bump([Overwrite(file=_target_file(**options), content=content.read())], **options)


@click.command("bump-regex", short_help="Replace what matches in a file of another repository.")
@click.option("-r", "--regex-string", metavar="REGEX", help="What to look for, in RE2's syntax.  [required]")
@click.option("-n", "--replacement-string", default="", metavar="TEMPLATE", help="What it becomes; ${1} is a group.")
@_bumping
def bump_regex(regex_string: str | None, replacement_string: str, **options: Any) -> None:
    """Replace every match of a regular expression in a file of another repository, by a pull request.

    Expressions and templates are Go's. Where nothing matches, the exit code is 1.

    \b
    telefonistka bump-regex -t acme/deployments -f lab/api/values.yaml -r 'tag: v[0-9.]+' -n 'tag: v1.2.3'
    """
    from telefonistka.core.bump import Substitute

    if not regex_string:
        raise click.UsageError("Say with --regex-string what to look for.")
    file = _target_file(**options)
    _bump([Substitute(file=file, expression=regex_string, template=replacement_string)], **options)


@click.command("bump-yaml", short_help="Set a value in a YAML file of another repository.")
@click.option("--address", metavar="ADDRESS", help="Where the value is, such as .image.tag")
@click.option("-n", "--replacement-string", metavar="VALUE", help="The new value, always a string.")
@click.option(
    "--edit", "edits", nargs=3, multiple=True, metavar="FILE ADDRESS VALUE", help="One more; may be repeated."
)
@_bumping
def bump_yaml(
    address: str | None, replacement_string: str | None, edits: Sequence[tuple[str, str, str]], **options: Any
) -> None:
    """Set a value in a YAML file of another repository, by a pull request.

    Nothing else in the file changes. Addresses are yq's: .image.tag, ."a.b"[0], .list[] and
    .list[] | select(.name == "db").tag; a missing key is created. Where nothing is found, the exit code is 1.

    \b
    telefonistka bump-yaml -t acme/deployments -f lab/api/values.yaml --address .image.tag -n v1.2.3
    telefonistka bump-yaml -t acme/deployments --edit lab/a.yaml .tag v2 --edit lab/b.yaml .tag v2 --auto-merge
    """
    from telefonistka.core.bump import SetScalar, parsed

    changes = [SetScalar(file=_path(file), address=where, value=value) for file, where, value in edits]
    if address is not None:
        if replacement_string is None:
            raise click.UsageError("Say with --replacement-string what the new value is; an empty one is -n ''.")
        changes.insert(0, SetScalar(file=_target_file(**options), address=address, value=replacement_string))
    if not changes:
        raise click.UsageError("Say with --address which value to set, or give an --edit.")
    for change in changes:
        parsed(change.address)
    _bump(changes, **options)


def _target_file(target_file: str | None, **_: Any) -> str:
    if not target_file:
        raise click.UsageError("Say with --target-file (or TARGET_FILE) which file to change.")
    return _path(target_file)


def _path(text: str) -> str:
    path = text.removeprefix("./")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise click.UsageError(f"{text!r} is not a path from the root of the repository, such as lab/api/values.yaml.")
    return path


def _bump(
    changes: Sequence[Change],
    *,
    target_repo: str | None,
    github_host: str | None,
    triggering_repo: str | None,
    triggering_repo_sha: str | None,
    triggering_actor: str | None,
    auto_merge: bool,
    update_open: bool,
    dry_run: bool,
    as_json: bool,
    **_: Any,
) -> None:
    import anyio

    from telefonistka import bump
    from telefonistka.core.bump import Bump
    from telefonistka.github.repo import Repo

    owner, _slash, name = (target_repo or "").partition("/")
    if not owner or not name or "/" in name:
        raise click.UsageError(f"--target-repo (or TARGET_REPO) is {target_repo or ''!r}: give it as owner/name.")
    if not triggering_repo or not triggering_repo_sha:
        raise click.UsageError(
            "Say with --triggering-repo and --triggering-repo-sha (or GITHUB_REPOSITORY and GITHUB_SHA) "
            "which commit asks for this."
        )
    wanted = Bump(
        repository=triggering_repo, sha=triggering_repo_sha, actor=triggering_actor or "", changes=tuple(changes)
    )

    async def run() -> bump.Result:
        async with identity.main(github_host) as ours:
            repo = Repo(await ours.client(owner, name), owner, name)
            if dry_run:
                return await bump.preview(repo, wanted)
            return await bump.carry_out(repo, wanted, auto_merge=auto_merge, update_open=update_open)

    with terminal.progress(f"bumping {target_repo}"):
        result = anyio.run(run)
    _tell_bump(result, wanted.files, as_json=as_json)


def _tell_bump(result: Result, files: Sequence[str], *, as_json: bool) -> None:
    pull = result.pull
    if as_json:
        shown = {
            "outcome": result.outcome,
            "pull": None if pull is None else {"number": pull.number, "url": pull.url},
            "files": files,
            "diff": result.diff,
            "notes": result.notes,
        }
        click.echo(json.dumps(shown, indent=2))
        return
    # In a dry run the diff is the result, else it goes where logs go.
    click.echo(result.diff, nl=False, err=result.outcome != "preview")
    for note in result.notes:
        click.echo(f"telefonistka: {note}", err=True)
    link = "" if pull is None else f"#{pull.number}: {pull.url}"
    match result.outcome:
        case "unchanged":
            click.echo("nothing to change: the default branch has it already" + (f" ({link})" if link else ""))
        case "exists":
            click.echo(f"there is already {link}")
        case "waiting":
            click.echo(f"GitHub merges {link} once its checks and reviews allow it")
        case "opened" | "updated" | "merged":
            click.echo(f"{result.outcome} {link}")


COMMANDS = (bump_overwrite, bump_regex, bump_yaml)
