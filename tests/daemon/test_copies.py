"""`telefonistka storage`: a copy while the daemon takes deliveries, the way back, and what is refused."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import stat
from pathlib import Path
from subprocess import CompletedProcess

import aiohttp
import anyio
import orjson
import pytest

from telefonistka.storage import State, Storage, Unusable, copies, sqlite
from tests.cli.shell import telefonistka
from tests.daemon.test_process import Daemon, bodies, running, stored
from tests.daemon.values import StatusBoard, delivery, pull_request, until

NOW = 1_700_000_000.0
CONNECTIONS = 8


async def storage_command(state: Path, *arguments: str) -> CompletedProcess[str]:
    def run() -> CompletedProcess[str]:
        return telefonistka("storage", *arguments, env={"TELEFONISTKA_STATE_DIR": str(state)})

    return await anyio.to_thread.run_sync(run)


async def filled(database: Path, count: int = 3) -> Path:
    """A storage that nobody has open, with deliveries that wait."""
    async with sqlite.opened(database) as storage:
        for number in range(count):
            await storage.accept(delivery(str(number)), now=NOW)
    return database


class Load:
    """Deliveries, one after the other on several connections, until somebody says that it is enough."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.acknowledged: list[bytes] = []
        self.over = False

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
            for start in range(CONNECTIONS):
                tasks.start_soon(self._connection, session, start)

    async def _connection(self, session: aiohttp.ClientSession, start: int) -> None:
        for number in itertools.count(start, CONNECTIONS):
            if self.over:
                return
            (body,) = bodies([number])
            assert await self.daemon.send(session, body) == 202
            self.acknowledged.append(body)

    async def reaches(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.acknowledged) >= count

        await until(enough)


async def test_a_backup_under_load_holds_what_was_acknowledged_before_it(tmp_path: Path, board: StatusBoard) -> None:
    """The daemon takes deliveries meanwhile; restored, each of them is there once, and the work goes on."""
    state, copy = tmp_path / "state", tmp_path / "copies" / "telefonistka.db"
    copy.parent.mkdir()
    board.gate = anyio.Event()  # the promotion of this one waits for GitHub's answer
    merged = orjson.dumps(pull_request(999_999_999))
    async with running(state, board.url) as daemon, anyio.create_task_group() as tasks:
        async with aiohttp.ClientSession() as session:
            assert await daemon.send(session, merged) == 202
        load = Load(daemon)
        tasks.start_soon(load.run)
        await load.reaches(100)
        before = set(load.acknowledged)
        made = await storage_command(state, "backup", str(copy))
        during = len(load.acknowledged) - len(before)
        await load.reaches(len(load.acknowledged) + 100)
        load.over = True
    assert (made.returncode, made.stderr) == (0, "")
    assert during > 0, "nothing was accepted while the copy was made"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert list(copy.parent.iterdir()) == [copy]

    assert (await storage_command(state, "restore", str(copy))).returncode == 0
    found = [body for body, _ in stored(state)]
    assert len(found) == len(set(found))
    assert before | {merged} <= set(found) < set(load.acknowledged) | {merged}
    board.gate.set()
    async with running(state, board.url):

        async def done() -> bool:
            return {number for _, number in stored(state)} <= {State.DONE, State.REJECTED}

        await until(done)
    assert board.statuses[-1][0] == "error"  # this GitHub has no such commit, and that is said


async def test_a_running_daemon_keeps_its_storage(tmp_path: Path, board: StatusBoard) -> None:
    """A restore is refused, the copy is refused a second time without --force, and a check reads along."""
    state, copy = tmp_path / "state", tmp_path / "copy.db"
    async with running(state, board.url) as daemon, aiohttp.ClientSession() as session:
        assert await daemon.send(session, bodies([1])[0]) == 202
        assert (await storage_command(state, "backup", str(copy))).returncode == 0
        assert await daemon.send(session, bodies([2])[0]) == 202
        refused = await storage_command(state, "restore", str(copy))
        assert (refused.returncode, "in use by another process" in refused.stderr) == (1, True), refused.stderr
        again = await storage_command(state, "backup", str(copy))
        assert (again.returncode, "--force" in again.stderr) == (1, True), again.stderr
        assert copies.check(copy).deliveries["done"] + copies.check(copy).deliveries["waiting"] <= 1
        assert (await storage_command(state, "backup", "--force", str(copy))).returncode == 0
        assert sum(copies.check(copy).deliveries.values()) == 2
        looked = await storage_command(state, "check", "--json")
        assert sum(orjson.loads(looked.stdout)["deliveries"].values()) == 2
        assert len(stored(state)) == 2
        assert await daemon.stop() == 0


async def test_a_restore_keeps_what_was_there(database: Path, tmp_path: Path) -> None:
    """Also what only the log beside the file holds, which must not be taken for the log of the copy."""
    await filled(database, 2)
    copies.backup(database, tmp_path / "copy.db")
    async with sqlite.opened(database) as storage:
        await storage.accept(delivery("later"), now=NOW)
        for path in database.parent.iterdir():  # as a power cut would leave it: the log is longer than the file
            shutil.copy(path, tmp_path / path.name)
    for name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
        shutil.copy(tmp_path / name, database.parent / name)
    assert Path(f"{database}-wal").stat().st_size > 0

    contents, old = copies.restore(database, tmp_path / "copy.db", name="before")
    assert old == database.with_name(f"{database.name}.before")
    assert sum(contents.deliveries.values()) == 2
    assert sum(copies.check(old).deliveries.values()) == 3
    async with sqlite.opened(database) as storage:
        assert await waiting(storage) == ["0", "1"]


async def waiting(storage: Storage) -> list[str]:
    return sorted(one.delivery for one in await storage.deliveries(limit=100) if one.state == "waiting")


async def test_a_damaged_storage_can_be_replaced(database: Path, tmp_path: Path) -> None:
    """It is set aside as it is, with its log."""
    copies.backup(await filled(database), tmp_path / "copy.db")
    database.write_bytes(b"not a database at all" * 1000)
    Path(f"{database}-wal").write_bytes(b"nor a log")
    with pytest.raises(Unusable, match=r"file is not a database"):
        copies.check(database)
    _, old = copies.restore(database, tmp_path / "copy.db", name="before")
    assert old is not None
    assert old.read_bytes().startswith(b"not a database")
    assert sum(copies.check(database).deliveries.values()) == 3
    assert not Path(f"{database}-wal").exists()


async def test_a_storage_is_restored_where_there_is_none(database: Path, tmp_path: Path) -> None:
    """On a new machine."""
    copy = tmp_path / "copy.db"
    copies.backup(await filled(database), copy)
    fresh = tmp_path / "fresh" / "telefonistka.db"
    contents, old = copies.restore(fresh, copy, name="before")
    assert (sum(contents.deliveries.values()), old) == (3, None)
    async with sqlite.opened(fresh) as storage:
        assert await waiting(storage) == ["0", "1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_what_root_restores_belongs_to_the_daemon(database: Path, tmp_path: Path) -> None:
    """By the owner of the state directory, which systemd chooses; so does the lock, also where the restore fails."""
    copy, state = tmp_path / "copy.db", tmp_path / "new"
    copies.backup(await filled(database), copy)
    state.mkdir()
    os.chown(state, 4711, 4712)
    (state / "telefonistka.db").mkdir()  # which no file can replace
    with pytest.raises(Unusable, match=r"cannot be copied"):
        copies.restore(state / "telefonistka.db", copy, name="before")
    (state / "telefonistka.db").rmdir()
    assert [(one.name, one.stat().st_uid) for one in state.iterdir()] == [("telefonistka.db.lock", 4711)]
    copies.restore(state / "telefonistka.db", copy, name="before")
    assert {(one.stat().st_uid, one.stat().st_gid) for one in state.iterdir()} == {(4711, 4712)}


def spoilt(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def torn(path: Path) -> Path:
    """A page in the middle is lost."""
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(os.urandom(4096))
    return path


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.with_name("nothing"), r"There is no "),
        (lambda path: spoilt(path, "PRAGMA user_version = 99"), r"schema version 99; this Telefonistka knows"),
        (lambda path: spoilt(path, "DELETE FROM inbox", "INSERT INTO owed VALUES (1, 0, 1, '')"), r"1 rows of owed"),
        (lambda path: spoilt(path, "DROP TABLE inbox"), r"is no storage of Telefonistka"),
        (lambda path: spoilt(path.with_name("other.db"), "CREATE TABLE mine (a)"), r"is no storage of Telefonistka"),
        (torn, r"is damaged|cannot be read"),
    ],
    ids=["missing", "newer", "strays", "half", "foreign", "torn"],
)
async def test_a_copy_that_is_no_good_changes_nothing(database: Path, tmp_path: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    """It is neither restored nor called sound, and as a storage it is not copied over a good backup."""
    await filled(database)
    good = tmp_path / "good.db"
    copies.backup(database, good)
    before = {path.name for path in database.parent.iterdir()}
    (tmp_path / "copies").mkdir()
    bad = spoil(Path(shutil.copy(good, tmp_path / "copies" / "bad.db")))
    with pytest.raises(Unusable, match=says):
        copies.check(bad)
    for place in (database, tmp_path / "fresh" / "telefonistka.db"):
        with pytest.raises(Unusable):
            copies.restore(place, bad, name="before")
    assert not (tmp_path / "fresh").exists()
    with pytest.raises(Unusable):
        copies.backup(bad, good, replace=True)
    assert {path.name for path in database.parent.iterdir()} == before
    assert sum(copies.check(database).deliveries.values()) == sum(copies.check(good).deliveries.values()) == 3


async def test_the_storage_is_no_place_for_its_own_copy(database: Path) -> None:
    """Nor is its copy's place the storage."""
    await filled(database)
    with pytest.raises(Unusable, match=r"is there already"):
        copies.backup(database, database, replace=True)
    with pytest.raises(Unusable, match=r"is the storage itself"):
        copies.restore(database, database, name="before")


@pytest.mark.parametrize("command", [("backup", "copy.db"), ("check",)])
async def test_a_storage_that_is_not_there_is_told_with_what_to_set(tmp_path: Path, command: tuple[str, ...]) -> None:
    """As in a shell that knows nothing of the daemon; nothing is made."""
    done = await storage_command(tmp_path / "nowhere", *command)
    assert done.returncode == 1
    assert f"There is no {tmp_path}/nowhere/telefonistka.db. Set TELEFONISTKA_STATE_DIR to " in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_deliveries_of_nowhere_are_told_with_what_to_set(tmp_path: Path) -> None:
    """Neither a daemon nor its file."""
    environ = {"TELEFONISTKA_STATE_DIR": str(tmp_path / "nowhere")}
    done = await anyio.to_thread.run_sync(lambda: telefonistka("deliveries", "dead", env=environ))
    assert done.returncode == 1
    assert "the daemon does not run, or not there: There is no " in done.stderr
    assert "Set TELEFONISTKA_STATE_DIR to " in done.stderr


async def test_a_place_that_cannot_be_written_is_a_sentence(database: Path, tmp_path: Path) -> None:
    """No traceback, exit code 1."""
    await filled(database)
    done = await storage_command(database.parent, "backup", str(tmp_path / "no" / "such" / "directory.db"))
    assert (done.returncode, "No such file or directory" in done.stderr) == (1, True), done.stderr
    assert "bug" not in done.stderr
