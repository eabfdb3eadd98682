"""`storage`: copies of the daemon's journal and ledger, and whether they are sound."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from telefonistka.cli import terminal
from telefonistka.errors import Rejected

if TYPE_CHECKING:
    from telefonistka.storage.copies import Contents

COPY = click.Path(dir_okay=False, path_type=Path)


@click.group(short_help="Back up the daemon's storage, restore and check it.")
def storage() -> None:
    """Back up the daemon's storage, restore it, and check that it is sound.

    Its file is found as the daemon finds it, by TELEFONISTKA_STATE_DIR or TELEFONISTKA_STORAGE_URL.

    \b
    telefonistka storage backup /var/backups/telefonistka.db
    telefonistka storage check /var/backups/telefonistka.db
    telefonistka storage restore /var/backups/telefonistka.db
    """


@storage.command("backup")
@click.argument("path", type=COPY)
@click.option("--force", is_flag=True, help="Replace an earlier backup of this name.")
def storage_backup(path: Path, force: bool) -> None:
    """Copy the storage to PATH, also while the daemon runs.

    The copy is one file that only its owner may read. What was acknowledged before the command began is in it.
    """
    from telefonistka.storage import Unusable, copies

    database = _database(there=True)
    if path.exists() and not force:
        raise Rejected(f"{path} is there already. Give another name, or --force to replace it.")
    try:
        with terminal.progress(f"copying {database}"):
            contents = copies.backup(database, path, replace=force)
    except Unusable as error:
        raise Rejected(str(error)) from None
    click.echo(f"{path}: {_said(contents)}")


@storage.command("restore")
@click.argument("path", type=COPY)
def storage_restore(path: Path) -> None:
    """Put the backup at PATH in the place of the storage, while the daemon does not run.

    The storage that was there is kept beside it.
    """
    from datetime import UTC, datetime

    from telefonistka.storage import Unusable, copies

    database = _database()
    try:
        with terminal.progress(f"copying {path}"):
            name = f"before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            contents, old = copies.restore(database, path, name=name)
    except Unusable as error:
        raise Rejected(str(error)) from None
    click.echo(f"{database}: {_said(contents)}")
    if old is not None:
        click.echo(f"What was there before is {old}.")


@storage.command("check")
@click.argument("path", type=COPY, required=False)
@terminal.AS_JSON
def storage_check(path: Path | None, as_json: bool) -> None:
    """Look whether the storage, or the backup at PATH, is sound, and say what it holds.

    Exit code 1 if it is not. Reads only, also while the daemon runs.
    """
    from telefonistka.storage import Unusable, copies

    file = path or _database(there=True)
    try:
        with terminal.progress(f"reading {file}"):
            contents = copies.check(file)
    except Unusable as error:
        raise Rejected(str(error)) from None
    if as_json:
        return terminal.print_json({"file": str(file), **asdict(contents)})
    click.echo(f"{file} is sound: {_said(contents)}")
    return None


def _database(*, there: bool = False) -> Path:
    """Where the daemon has its storage; `there` refuses a place where there is none."""
    from telefonistka import settings

    try:
        found = settings.admin(os.environ)
    except settings.Invalid as error:
        raise Rejected(str(error)) from None
    if there and found.missing:
        raise Rejected(found.missing)
    return found.database


def _said(contents: Contents) -> str:
    states = ", ".join(f"{count} {state}" for state, count in contents.deliveries.items() if count)
    total = sum(contents.deliveries.values())
    return (
        f"{contents.size / 1e6:.1f} MB, schema {contents.schema}, {total} deliveries"
        + (f" ({states})" if states else "")
        + f", {contents.owed} owed to endpoints, {contents.dead} dead letters, {contents.documents} documents"
    )


COMMANDS = (storage,)
