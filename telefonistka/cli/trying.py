"""Commands to try things out with: the demo, and the local GitHub under it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from telefonistka.cli import terminal
from telefonistka.errors import Rejected

# Variables for the demo's processes; a proxy would be in the way.
KEPT = ("HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR")


@click.command(short_help="Show the way of a change, on this machine alone.")
@click.option("--exit", "leave", is_flag=True, help="End after the last step, for scripts.")
def demo(leave: bool) -> None:
    """Show the whole way of a change, from the lab to production, on this machine.

    A local GitHub (see `telefonistka sandbox`) and the daemon run as two processes. A pull request is merged as a
    person would do it, then each promotion that follows. What happened is printed step by step, and where to look
    around. Nothing outside of a temporary directory is touched.

    \b
    telefonistka demo
    """
    import anyio

    _need_sandbox()
    from telefonistka.sandbox import demo
    from telefonistka.sandbox.processes import Failed

    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        with terminal.interruptible():
            anyio.run(partial(demo.run, terminal.print_line, environment, stay=not leave))
    except Failed as failed:
        raise Rejected(f"the demo went wrong: {failed}") from None


@click.command(short_help="Run a local GitHub to try things out.")
@click.option(
    "--repo", type=terminal.DIRECTORY, help="Your git repository; a clone of it is served.  [default: an example]"
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to listen on 127.0.0.1.  [default: free]")
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep the data there; new or empty."
)
@click.option(
    "--webhook",
    metavar="URL",
    default="http://127.0.0.1:8080/webhook",
    show_default=True,
    help="Where webhooks are sent; empty for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Addresses and tokens as one line of JSON.")
def sandbox(repo: Path | None, port: int, directory: Path | None, webhook: str, as_json: bool) -> None:
    """Run a local GitHub to try things out, with your repository in it.

    It serves a clone, so yours is never touched: with pages to look at, an API, git over HTTP, and webhooks to a
    daemon that you point at it. What to do next is printed. All data is gone when it ends, unless --dir is given.

    \b
    telefonistka sandbox --repo ../deployments
    """
    import anyio

    _need_sandbox()
    from telefonistka.sandbox import hosting

    def tell(place: hosting.Place) -> None:
        click.echo(terminal.as_json(place) if as_json else hosting.words(place))

    try:
        with terminal.interruptible():
            anyio.run(partial(hosting.serve, tell, origin=repo, port=port, directory=directory, webhook=webhook))
    except hosting.Unusable as unusable:
        raise Rejected(str(unusable)) from None


def _need_sandbox() -> None:
    """The sandbox can be imported. Raises Rejected where what it needs beside the daemon's dependencies is missing."""
    try:
        from telefonistka.sandbox import server  # noqa: F401 - it imports all the others
    except ModuleNotFoundError as error:
        if error.name != "graphql":
            raise
        raise Rejected(
            "the sandbox needs graphql-core, which is not installed. Install telefonistka with its extra: "
            "pip install 'telefonistka[sandbox]'"
        ) from None


COMMANDS = (demo, sandbox)
