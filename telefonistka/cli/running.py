"""The daemon: `server`, and `event`, which handles one recorded event as the daemon would."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from telefonistka.cli import terminal
from telefonistka.errors import Rejected

if TYPE_CHECKING:
    from telefonistka.storage import Story

TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
WAIT = 300  # seconds; GitHub's short troubles are over by then


@click.command(short_help="Run the daemon.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    envvar="TELEFONISTKA_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="The server file.",
)
@click.option("--check", is_flag=True, help="Say what is wrong with the settings, then end.")
def server(config: str | None, check: bool) -> None:
    """Run the daemon: receive GitHub's webhooks and promote.

    It is configured by a server file and environment variables, which come before it; config/README.md lists them.
    At least GITHUB_WEBHOOK_SECRET and either GITHUB_OAUTH_TOKEN or GITHUB_APP_ID with GITHUB_APP_PRIVATE_KEY_PATH
    are needed, or credential files in their place. SIGHUP reloads the server file.

    \b
    GITHUB_WEBHOOK_SECRET=… GITHUB_OAUTH_TOKEN=… telefonistka server
    telefonistka server --config /etc/telefonistka/server.yaml
    """
    import anyio

    from telefonistka import daemon, settings

    environ = {**os.environ, "TELEFONISTKA_CONFIG": config or "", "LOG_LEVEL": terminal.log_level("")}
    try:
        if check:
            daemon.check(settings.read(environ, make=False))
        else:
            anyio.run(daemon.run, settings.read(environ), lambda: settings.read(environ, make=False))
    except settings.Invalid as invalid:
        raise _unstartable("the daemon cannot start", invalid.problems) from None


def _unstartable(what: str, problems: tuple[str, ...]) -> Rejected:
    return Rejected(f"{what}:\n" + "\n".join(f"  {problem}" for problem in problems))


@click.command(short_help="Handle one recorded event, then end.")
@click.option("-t", "--type", "name", envvar="GITHUB_EVENT_NAME", show_envvar=True, help="As X-GitHub-Event has it.")
@click.option(
    "-f",
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="GITHUB_EVENT_PATH",
    show_envvar=True,
    help="The payload, JSON.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=WAIT,
    show_default=True,
    metavar="SECONDS",
    help="How long to try again where GitHub is in trouble.",
)
@click.option("--json", "as_json", is_flag=True, help="What happened as JSON.")
def event(name: str | None, file: Path | None, wait: float, as_json: bool) -> None:
    """Handle one recorded event as the daemon would, then end: for GitHub Actions.

    Settings are the daemon's; nothing is kept afterwards. Only pull requests that this run opens are merged by
    themselves, and those that wait for checks only where the repository allows GitHub's auto-merge. Exit code 0:
    done, or nothing to do; 1: rejected, or broken; 75: GitHub is in trouble, try again later.

    \b
    telefonistka event
    telefonistka event --type pull_request --file merged.json
    """
    if not name:
        raise click.UsageError("Say with --type (or GITHUB_EVENT_NAME) which event it is.")
    if file is None:
        raise click.UsageError("Say with --file (or GITHUB_EVENT_PATH) where its payload is.")
    try:
        body = file.read_bytes()
    except OSError as error:
        raise Rejected(f"{file} cannot be read: {error.strerror}") from None
    story = _handled(name, body, wait)
    if as_json:
        terminal.print_json(_told(story))
    else:
        _print(story)
    sys.exit(_code(story))


def _handled(name: str, body: bytes, wait: float) -> Story:
    import tempfile
    from functools import partial
    from uuid import uuid4

    import anyio

    from telefonistka import daemon, settings
    from telefonistka.core import events
    from telefonistka.inbox import Delivery, Unreadable, payload

    headers = (("Content-Type", "application/json"), ("X-GitHub-Event", name))
    try:
        lane = events.lane(payload(headers, body))
    except Unreadable as error:
        raise Rejected(f"the payload is of no use: {error}") from None
    delivery = Delivery(id=str(uuid4()), event=name, lane=lane, headers=headers, body=body)
    with tempfile.TemporaryDirectory(prefix="telefonistka-") as state:
        try:
            given = settings.read(_environment(state))
            with terminal.progress(f"handling {name}"):
                return anyio.run(partial(daemon.handle, given, delivery, patience=wait))
        except settings.Invalid as invalid:
            raise _unstartable("the event cannot be handled", invalid.problems) from None


def _environment(state: str) -> Mapping[str, str]:
    """The daemon's settings, with a journal that is gone afterwards, and nothing to listen to."""
    ours = {
        "GITHUB_WEBHOOK_SECRET": os.environ.get("GITHUB_WEBHOOK_SECRET") or "nobody sends us anything",
        "LOG_LEVEL": terminal.log_level(),
        # Not empty: then the server file would count.
        "TELEFONISTKA_ADMIN_LISTEN": f"{state}/admin.sock",
        "TELEFONISTKA_LISTEN": "127.0.0.1:0",
        "TELEFONISTKA_STATE_DIR": state,
        "TELEFONISTKA_STORAGE_URL": f"sqlite://{state}/telefonistka.db",
    }
    return {**os.environ, **ours}


def _told(story: Story) -> dict[str, object]:
    summary = story.summary
    return {
        "event": summary.event,
        "state": summary.state,
        "reason": summary.reason,
        "steps": {
            step: {"verdict": str(one.verdict), "text": one.text, "tries": one.tries}
            for step, one in story.outcomes.items()
        },
        "relay": {
            "owed": [due.recipient[0] for due in story.owed],
            "dead": [{"url": letter.recipient[0], "reason": letter.reason} for letter in story.dead],
        },
    }


def _print(story: Story) -> None:
    tones = {"done": "good", "rejected": "doubt", "try again": "doubt", "broken": "bad"}
    for step, one in story.outcomes.items():
        if not step.startswith("status"):
            terminal.print_line([(f"{step}: ", ""), (one.verdict, tones[one.verdict]), (f": {one.text}", "")])
    for letter in story.dead:
        terminal.print_line([("relay: ", ""), ("dead", "bad"), (f": {letter.recipient[0]}: {letter.reason}", "")])
    for due in story.owed:
        terminal.print_line([("relay: ", ""), ("try again", "doubt"), (f": {due.recipient[0]}", "")])
    if not story.outcomes and not story.dead and not story.owed:
        reason = story.summary.reason
        click.echo(reason or f"nothing to do on this {story.summary.event} event")


def _code(story: Story) -> int:
    """As sysexits.h has it where it is worth another try."""
    if story.summary.state in ("rejected", "dead") or story.dead:
        return 1
    return TRY_LATER if story.summary.state == "waiting" or story.owed or not story.summary.routed else 0


COMMANDS = (server, event)
