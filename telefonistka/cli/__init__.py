"""The commands: parse, call, print. Heavy modules are imported by the command that needs them.

One module per group of commands; what they share about terminals is in `terminal`. Only here is anything printed, the
environment read and the process ended.
"""

from __future__ import annotations

import sys

import click

from telefonistka import __version__
from telefonistka.cli import bumping, completion, deliveries, doctor, local, registering, running, storage, trying
from telefonistka.errors import Rejected, TryAgain

TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
click.UsageError.exit_code = 1  # as the original has it; click's own is 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.option("--debug", is_flag=True, help="Show where an error comes from, and log more.")
@click.version_option(__version__, "-v", "--version", message="telefonistka version %(version)s")
@click.pass_context
def commands(context: click.Context, debug: bool) -> None:
    """Promotion pull requests for GitOps repositories.

    \b
    telefonistka demo                            see how it works, on this machine
    telefonistka check                           find mistakes in telefonistka.yaml
    telefonistka explain lab/nginx/values.yaml   where a file is promoted to
    telefonistka plan --head my-branch           what a merge would promote
    telefonistka doctor --repo acme/deployments  what will not work there
    telefonistka server                          run the daemon
    """
    context.meta["telefonistka.debug"] = debug
    global _debug
    _debug = debug
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_debug = False  # for what happens after click has ended

for _module in (running, local, doctor, bumping, deliveries, storage, registering, trying, completion):
    for _command in _module.COMMANDS:
        commands.add_command(_command)


def main() -> None:
    """The console script: runs a command, and turns an ending into a line on stderr and an exit code."""
    try:
        commands(prog_name="telefonistka")
    except Exception as error:
        if _debug:
            import traceback

            traceback.print_exc()
        match _alone(error):
            case Rejected() as rejected:
                _end(1, str(rejected))
            case TryAgain() as waiting:
                _end(TRY_LATER, f"{waiting}; try again later")
            case bug:
                said = f"{type(bug).__name__}: {bug}"
                advice = "" if _debug else "\n`telefonistka --debug …` shows where it comes from."
                _end(1, f"this is a bug: {said}{advice}")


def _alone(error: Exception) -> Exception:
    """What a task group has put into a group, where it is one thing."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _end(code: int, text: str) -> None:
    click.echo(f"telefonistka: {text}", err=True)
    sys.exit(code)
