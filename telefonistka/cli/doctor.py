"""`doctor`: what will not work for a repository, before it does not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from telefonistka.cli import identity, terminal
from telefonistka.errors import Rejected

if TYPE_CHECKING:
    from telefonistka import doctor as doctors

TONES = {"good": "good", "look": "doubt", "broken": "bad", "not seen": "dim"}


@click.command(short_help="Say what will not work for a repository, and how to mend it.")
@click.option("--repo", required=True, metavar="OWNER/NAME", help="The repository to look at.")
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON.")
def doctor(repo: str, as_json: bool) -> None:
    """Say what will not work for a repository, and how to mend it.

    Looked at are the rights of the token or App, the rules of the default branch, webhooks and their last deliveries,
    the configuration, the second identity, every relay endpoint (its name, its certificate, its answer to a ping) and
    the clock, with the daemon's own settings from the environment. What our rights do not show is said, too. Nothing
    is changed. Exit code 1 if something will not work.

    \b
    telefonistka doctor --repo acme/deployments
    """
    import anyio

    from telefonistka import doctor as doctors

    owner, _, name = repo.partition("/")
    if not owner or not name or "/" in name:
        raise click.UsageError(f"--repo is {repo!r}: give it as owner/name.")
    with terminal.progress(f"looking at {repo}"):
        checks = anyio.run(_examine, owner, name)
    if as_json:
        terminal.print_json(checks)
    else:
        _print(checks)
    if not doctors.is_well(checks):
        sys.exit(1)


def _print(checks: tuple[doctors.Check, ...]) -> None:
    for check in checks:
        mark = [(f"{check.verdict:<8}", TONES[check.verdict]), ("  ", "")]
        terminal.print_line([*mark, (check.subject, "strong"), (f": {check.text}", "")])
        if check.advice:
            terminal.print_line([(f"{'':<10}→ {check.advice}", "")])
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in TONES}
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))


async def _examine(owner: str, name: str) -> tuple[doctors.Check, ...]:
    from telefonistka import doctor as doctors
    from telefonistka import settings, wire
    from telefonistka.core.guards import Ceiling

    try:
        given = settings.outside(os.environ)
    except settings.Invalid as invalid:
        raise Rejected(
            "the daemon's settings are wrong:\n" + "\n".join(f"  {one}" for one in invalid.problems)
        ) from None
    credentials = {"main": given.github.credentials}
    if given.approver is not None:
        credentials["approver"] = given.approver
    policy = wire.Policy(
        allowed_hosts=given.relay_allowed_hosts,
        allowed_networks=given.relay_allowed_networks,
        insecure_tls=given.relay_insecure_tls,
        ca_file=given.relay_ca_file,
        secret=lambda endpoint: given.relay_secrets.get(endpoint.host, given.relay_secrets.get("")),
    )
    async with identity.of(credentials, given.github) as identities:
        patient = doctors.Patient(
            identity=identities["main"],
            approver=identities.get("approver"),
            owner=owner,
            name=name,
            ceiling=Ceiling(repositories=given.github_repositories),
            policy=policy,
            webhook_secret=given.webhook_secret,
        )
        return await doctors.examine(patient)


COMMANDS = (doctor,)
