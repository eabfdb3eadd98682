"""`deliveries`: what the daemon's journal knows of webhooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from telefonistka.cli import terminal
from telefonistka.errors import Rejected


@click.group(short_help="See which webhooks came, and send them again.")
def deliveries() -> None:
    """See which webhooks came, what became of them, and send them again.

    These commands talk to the running daemon, by TELEFONISTKA_ADMIN_LISTEN or the socket in TELEFONISTKA_STATE_DIR.
    Where it does not run, all but `replay` read its file.

    \b
    telefonistka deliveries list -n 10
    telefonistka deliveries dead
    telefonistka deliveries show 72d3162e-cc78-11e3-81ab-4c9367dc0958
    telefonistka deliveries replay 72d3162e-cc78-11e3-81ab-4c9367dc0958
    """


LIMIT = click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")


@deliveries.command("list")
@LIMIT
@terminal.AS_JSON
def deliveries_list(limit: int, as_json: bool) -> None:
    """The newest deliveries, a line each."""
    from telefonistka import admin

    found = _from_daemon(f"/deliveries?limit={limit}", lambda file: admin.listed(file, limit=limit))
    if as_json:
        return terminal.print_json(found)
    for one in found:
        click.echo(f"{one['received']}  {one['delivery']}  {one['event']:<14}  {_standing(one)}")
    return None


@deliveries.command("show")
@click.argument("delivery")
@terminal.AS_JSON
def deliveries_show(delivery: str, as_json: bool) -> None:
    """All that is known of one delivery but its body."""
    from telefonistka import admin

    found = _from_daemon(admin.path(delivery), lambda file: admin.shown(file, delivery))
    if as_json:
        return terminal.print_json(found)
    for name in ("delivery", "event", "received", "size"):
        click.echo(f"{name:<10} {found[name]}")
    click.echo(f"{'state':<10} {_standing(found)}")
    for step, outcome in found["outcomes"].items():
        click.echo(f"{step:<10} {outcome['verdict']} after {outcome['tries']}: {outcome['text']}")
    for due in found["owed"]:
        click.echo(f"{'owed':<10} {due['url']}  {_tried(due)}" + (f", next {due['due']}" if due["due"] else ""))
    _print_dead(found)
    return None


@deliveries.command("dead")
@LIMIT
@terminal.AS_JSON
def deliveries_dead(limit: int, as_json: bool) -> None:
    """What was given up, with the reasons."""
    from telefonistka import admin

    found = _from_daemon(f"/deliveries?dead=1&limit={limit}", lambda file: admin.listed(file, limit=limit, dead=True))
    if as_json:
        return terminal.print_json(found)
    for one in found:
        click.echo(f"{one['received']}  {one['delivery']}  {one['event']}")
        if one["state"] == "dead":
            click.echo(f"  work: {one['reason']}")
        _print_dead(one)
    return None


@deliveries.command("replay", short_help="Do again what failed, or relay anew.")
@click.argument("delivery", nargs=-1, required=True)
@click.option("--endpoint", "endpoints", multiple=True, metavar="URL", help="Only there.  [default: all that are dead]")
@terminal.AS_JSON
def deliveries_replay(delivery: Sequence[str], endpoints: Sequence[str], as_json: bool) -> None:
    """Do again what failed of deliveries, or relay them anew where nothing failed.

    The daemon must run.

    \b
    telefonistka deliveries replay 72d3162e-cc78-11e3-81ab-4c9367dc0958
    """
    from telefonistka import admin

    done = {one: _from_daemon(admin.path(one, "/replay"), None, {"endpoints": list(endpoints)}) for one in delivery}
    if as_json:
        return terminal.print_json(done)
    for one, answer in done.items():
        what = [f"{answer['letters']} letters are sent again"] * bool(answer["letters"])
        what += ["its work is done again"] * answer["rearmed"] + ["it is routed anew"] * answer["rerouted"]
        click.echo(f"{one}  {', '.join(what) or 'nothing to do'}")
    return None


def _from_daemon(path: str, otherwise: Callable[[Path], Any] | None, body: dict[str, Any] | None = None) -> Any:
    """The daemon's answer, or what its file says where it does not run."""
    import anyio

    from telefonistka import admin, settings

    try:
        given = settings.admin(os.environ)
        where = given.listen if isinstance(given.listen, Path) else (given.listen.host, given.listen.port)
        try:
            return anyio.run(admin.ask, where, "GET" if otherwise else "POST", path, body)
        except admin.Down as down:
            if otherwise is None:
                raise Rejected(f"the daemon does not run, or not there: {down}") from None
            if given.missing:
                raise Rejected(f"the daemon does not run, or not there: {given.missing}") from None
            return otherwise(given.database)
    except (settings.Invalid, admin.Unusable, admin.Refused) as error:
        raise Rejected(str(error)) from None


def _standing(one: dict[str, Any]) -> str:
    parts = [one["state"]] + ["not routed yet"] * (not one["routed"])
    dead = one["dead"] if isinstance(one["dead"], int) else len(one["dead"])
    owed = one["owed"] if isinstance(one["owed"], int) else len(one["owed"])
    return ", ".join(parts + [f"{owed} owed"] * bool(owed) + [f"{dead} dead"] * bool(dead))


def _print_dead(one: dict[str, Any]) -> None:
    for letter in one["dead"]:
        click.echo(f"  {letter['url'] or 'to nobody'}  {_tried(letter)}, given up {letter['at']}: {letter['reason']}")


def _tried(one: dict[str, Any]) -> str:
    return f"{one['attempts']} attempt{'s' * (one['attempts'] != 1)}"


COMMANDS = (deliveries,)
