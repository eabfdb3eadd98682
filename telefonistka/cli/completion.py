"""Help and completion for shells, as the original's commands of these names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print what a shell needs to complete commands.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what a shell needs to complete commands and options.

    \b
    source <(telefonistka completion bash)                                in ~/.bashrc
    source <(telefonistka completion zsh)                                 in ~/.zshrc, after compinit
    telefonistka completion fish > ~/.config/fish/completions/telefonistka.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # `source` of bash asks the bash that is found for its version, which need not be the one that reads this.
    found = kind(context.find_root().command, {}, "telefonistka", "_TELEFONISTKA_COMPLETE")
    click.echo(found.source_template % found.source_vars())


@click.command("help")
@click.argument("command", nargs=-1)
@click.pass_context
def help_(context: click.Context, command: Sequence[str]) -> None:
    """Show the help of a command.

    \b
    telefonistka help bump-yaml
    """
    root = context.find_root()
    here, found = root, root.command
    for name in command:
        inner = found.get_command(here, name) if isinstance(found, click.Group) else None
        if inner is None:
            click.echo(f"telefonistka: there is no command {' '.join(command)!r}", err=True)
            sys.exit(1)
        here, found = click.Context(inner, info_name=name, parent=here), inner
    click.echo(found.get_help(here))


COMMANDS = (completion, help_)
