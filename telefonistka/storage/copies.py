"""Copies of the storage's file: made while the daemon runs, put back while it does not, looked through at any time.

A copy is one moment of the storage. SQLite's own backup reads it in one transaction, beside which the daemon goes on
writing: https://www.sqlite.org/backup.html
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from telefonistka.storage import State, Unusable
from telefonistka.storage.sqlite import SCHEMA_VERSION, alone, reader

LOG_FILES = ("-wal", "-shm")  # what SQLite keeps beside a file: https://www.sqlite.org/tempfiles.html
PARTS = ("outcome", "owed", "letter")  # tables whose rows belong to a delivery
SHOWN = 5  # faults; more of them say nothing more


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a sound file holds."""

    schema: int
    size: int  # bytes
    deliveries: Mapping[str, int]  # by state
    owed: int  # deliveries that the relay owes to somebody
    dead: int  # letters that it has given up
    documents: int  # of the ledger and of the relay's configurations


def check(path: Path) -> Contents:
    """What the file holds; raises Unusable where it is damaged, not ours, or newer than this Telefonistka."""
    if not path.is_file():
        raise Unusable(f"There is no {path}.")
    try:
        with _reading(path) as connection:
            return _contents(path, connection)
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read: {error}.") from error


def backup(database: Path, target: Path, *, replace: bool = False) -> Contents:
    """A copy in one file of its own, on disk, checked; raises Unusable and leaves what was there."""
    if target.exists() and (not replace or not target.is_file() or _same(database, target)):
        raise Unusable(f"{target} is there already.")
    with _copied(database, target) as (copy, contents):
        os.replace(copy, target)
    _settle(target.parent)
    return contents


def restore(database: Path, source: Path, *, name: str) -> tuple[Contents, Path | None]:
    """The copy is the storage, and the storage that was there lies beside it, under this ending of its name.

    Raises Unusable, and has changed nothing, where the copy is no good or a daemon has the storage open.
    """
    if source.exists() and _same(database, source):
        raise Unusable(f"{source} is the storage itself.")
    check(source)  # before anything is made, such as the directory
    with alone(database):
        _hand_over(database.with_name(f"{database.name}.lock"))
        with _copied(source, database) as (copy, contents):
            _hand_over(copy)
            old = _set_aside(database, name) if database.exists() else None
            os.replace(copy, database)
        _settle(database.parent)
    return contents, old


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = reader(path)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _copied(source: Path, target: Path) -> Iterator[tuple[Path, Contents]]:
    """A copy beside the target, checked and on disk, for the block to move; and what it holds."""
    if not source.is_file():
        raise Unusable(f"There is no {source}.")
    copy = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds what people wrote
        _copy(source, copy)
        yield copy, check(copy)
    except (sqlite3.Error, OSError) as error:
        raise Unusable(f"{source} cannot be copied to {target}: {error}.") from error
    finally:
        for ending in ("", *LOG_FILES):
            with suppress(FileNotFoundError):
                os.unlink(f"{copy}{ending}")


def _copy(source: Path, copy: Path) -> None:
    with _reading(source) as connection:
        written = sqlite3.connect(copy, isolation_level=None)
        try:
            connection.backup(written)
            # One file without a log beside it, which can be read where nothing may be written, too.
            written.execute("PRAGMA journal_mode = DELETE")
        finally:
            written.close()
    handle = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _contents(path: Path, connection: sqlite3.Connection) -> Contents:
    connection.execute("BEGIN")
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema > SCHEMA_VERSION:
        raise Unusable(f"{path} has schema version {schema}; this Telefonistka knows version {SCHEMA_VERSION}.")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not schema or not {"inbox", "document"} <= tables:
        raise Unusable(f"{path} is no storage of Telefonistka.")
    if faults := [*_damage(connection), *_strays(connection, tables)]:
        raise Unusable(f"{path} is damaged: {'; '.join(faults[:SHOWN])}.")
    states = dict(connection.execute("SELECT state, count(*) FROM inbox GROUP BY state"))
    return Contents(
        schema=schema,
        size=path.stat().st_size,
        deliveries={state.name.lower(): states.get(state, 0) for state in State},
        owed=_count(connection, tables, "owed", "SELECT seq FROM owed UNION SELECT seq FROM letter WHERE fate = 0"),
        dead=_count(connection, tables, "letter", "SELECT 1 FROM letter WHERE fate = 1"),
        documents=_count(connection, tables, "document", "SELECT 1 FROM document"),
    )


def _damage(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong: https://www.sqlite.org/pragma.html#pragma_integrity_check"""
    found = [text for (text,) in connection.execute(f"PRAGMA integrity_check({SHOWN})")]
    return [] if found == ["ok"] else found


def _strays(connection: sqlite3.Connection, tables: set[str]) -> list[str]:
    """Rows whose delivery is not there."""
    faults = []
    for table in (name for name in PARTS if name in tables):
        lost = f"SELECT 1 FROM {table} WHERE seq NOT IN (SELECT seq FROM inbox)"  # noqa: S608 - of PARTS
        if count := _count(connection, tables, table, lost):
            faults.append(f"{count} rows of {table} belong to no delivery")
    return faults


def _count(connection: sqlite3.Connection, tables: set[str], table: str, rows: str) -> int:
    """How many rows that gives, where the schema has the table."""
    if table not in tables:
        return 0
    (count,) = connection.execute(f"SELECT count(*) FROM ({rows})").fetchone()  # noqa: S608 - our own statements
    return int(count)


def _set_aside(database: Path, name: str) -> Path:
    """The file has a second name, and no log that would be taken for the log of what replaces it."""
    old = database.with_name(f"{database.name}.{name}")
    try:
        # Into the file goes what its log holds, and the log goes away with the last connection.
        connection = sqlite3.connect(database, isolation_level=None)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
    except sqlite3.Error:
        pass  # damaged: that may be why it is replaced
    for ending in LOG_FILES:
        with suppress(FileNotFoundError):
            os.replace(f"{database}{ending}", f"{old}{ending}")
    os.link(database, old)  # a second name, so that there is a storage at any moment
    return old


def _hand_over(path: Path) -> None:
    """Whoever owns the directory owns the file, so that the daemon can use what root has restored."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _settle(directory: Path) -> None:
    """The names in the directory are on disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
