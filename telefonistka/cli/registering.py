"""`github-app`: a GitHub App for the daemon, registered in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from telefonistka.errors import Rejected

if TYPE_CHECKING:
    from telefonistka.github.manifest import Registered
    from telefonistka.registration import Wanted


@click.command("github-app", short_help="Register a GitHub App for the daemon.")
@click.option("--webhook", required=True, metavar="URL", help="Where GitHub reaches the daemon, with /webhook.")
@click.option("--organization", default="", help="Whose App it is.  [default: yours]")
@click.option("--name", default="", help="What it is called; you can change it at GitHub.")
@click.option("--approver", is_flag=True, help="The second identity, which approves promotions and hears nothing.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where its secrets are written to.  [default: here]",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the page on this machine.  [default: any]")
def github_app(webhook: str, organization: str, name: str, approver: bool, directory: Path, port: int) -> None:
    """Register a GitHub App that may do what the daemon needs, and no more.

    A page on this machine leads your browser to GitHub, where you see what is asked for and agree. The App's private
    key and its webhook's secret become files that only you may read, by the names that the daemon's credentials
    have. GITHUB_HOST and TELEFONISTKA_GITHUB_CA_FILE count.

    \b
    telefonistka github-app --webhook https://telefonistka.example.com/webhook --organization acme
    """
    import anyio

    from telefonistka import registration
    from telefonistka.github import auth
    from telefonistka.github.endpoint import Endpoint

    parts = urlsplit(webhook)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith("/webhook"):
        raise click.UsageError(f"--webhook is {webhook!r}: give it as https://telefonistka.example.com/webhook.")
    wanted = registration.Wanted(
        name=name or f"Telefonistka{' approver' * approver}",
        webhook=webhook,
        organization=organization,
        approver=approver,
        directory=directory,
    )

    async def run() -> Registered:
        endpoint = Endpoint.of(os.environ.get("GITHUB_HOST", ""))
        ca_file = os.environ.get("TELEFONISTKA_GITHUB_CA_FILE")
        async with auth.session(endpoint, ca_file=Path(ca_file) if ca_file else None) as session:

            def announce(url: str) -> None:
                click.echo(f"Open this page in a browser in which you are signed in at {endpoint.web}:\n\n  {url}\n")

            return await registration.register(session, endpoint, wanted, port=port, announce=announce)

    try:
        made = anyio.run(run)
    except (ValueError, OSError) as error:
        raise Rejected(f"GitHub cannot be asked: {error}") from None
    _say(wanted, made)


def _say(wanted: Wanted, made: Registered) -> None:
    prefix = "APPROVER_" * wanted.approver
    click.echo(f"The App {made.slug} is registered: {made.url}\n")
    click.echo(f"  {prefix}GITHUB_APP_ID={made.id}")
    for path in (wanted.key_file, wanted.secret_file):
        if path is not None:
            click.echo(f"  {path}")
    click.echo(f"\nInstall it on the repositories that it is for: {made.url}/installations/new")
    click.echo("Then give the daemon the id as a variable and the files as credentials: systemd/README.md.")


COMMANDS = (github_app,)
