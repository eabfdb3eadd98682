"""The embedded engine: one SQLite file, one thread that writes it, many writes in one commit.

A commit costs one fsync however many rows it holds, so what arrives while one commit is under way shares the next.
Only one connection ever writes or checkpoints: SQLite before 3.51.3 can corrupt a WAL that two connections reset at
once (https://www.sqlite.org/wal.html#walresetbug), and a lock file keeps a second process out.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio
import orjson

from telefonistka.storage import (
    Acceptance,
    Attempt,
    Backlog,
    Delivery,
    Due,
    Full,
    Headers,
    Outcome,
    Post,
    Recipient,
    Retention,
    State,
    Storage,
    Story,
    Summary,
    Unavailable,
    Unrouted,
    Unusable,
    WorkItem,
    letters,
)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]
Result = Any | Exception

VERSION = sqlite3.sqlite_version
BATCH = 512  # rows in one commit; beyond that the wait of the first one grows for little gain
SPARE = 32 << 20  # bytes: below this much free disk we say so, while there is still room to end what runs

# Statements for SQLite 3.35 and later. Bodies come last in their row, so that a scan does not read through them.
INBOX = """
CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    lane TEXT NOT NULL,
    event TEXT NOT NULL,
    received REAL NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    blocks_until REAL,
    owner TEXT,
    lease_until REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    ended REAL,
    reason TEXT,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX inbox_digest ON inbox (digest);
CREATE INDEX inbox_state ON inbox (state, due);
CREATE INDEX inbox_lane ON inbox (lane, seq) WHERE state < 2;
CREATE TABLE outcome (
    seq INTEGER NOT NULL,
    step TEXT NOT NULL,
    verdict TEXT NOT NULL,
    text TEXT NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (seq, step)
) WITHOUT ROWID;
CREATE TABLE lock (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE document (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key))
"""
# All that a claim asks of what waits or runs, so that it reads no rows, between whose pages the bodies lie.
LANES = """
DROP INDEX inbox_lane;
CREATE INDEX inbox_lane ON inbox (lane, seq, due, blocks_until, state) WHERE state < 2
"""
SCHEMA = (INBOX, letters.SCHEMA, LANES)  # what each version adds to the one before it; never changed once released
SCHEMA_VERSION = len(SCHEMA)

# Of each lane, the one item that could be worked on now: the first that is due, unless one of the lane is under way,
# or one before it holds it back. One pass over the index: a look at each item's forerunners takes as long as the
# lane is deep, for each of its items.
CLAIMABLE = """
    SELECT min(seq) FILTER (WHERE due <= :now) AS first FROM inbox WHERE state < 2 GROUP BY lane
    HAVING max(state) = 0
        AND first < coalesce(min(seq) FILTER (WHERE due > :now AND coalesce(blocks_until, due) > :now), first + 1)
"""
CLAIM = f"""
UPDATE inbox SET state = 1, owner = :owner, lease_until = :now + :lease, attempts = attempts + 1
WHERE seq IN ({CLAIMABLE} ORDER BY first LIMIT :limit)
RETURNING seq, id, event, lane, headers, body, received, attempts, crashes
"""  # noqa: S608 - put together from constants
INSERT = (
    "INSERT INTO inbox (id, digest, lane, event, received, due, state, ended, headers, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
ENQUEUE = (
    "INSERT INTO inbox (id, digest, lane, event, received, due, blocks_until, headers, body) "
    "VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)"
)
HASTEN = "UPDATE inbox SET due = min(due, ?) WHERE digest = ? AND state = 0"
REAP = """
UPDATE inbox SET state = 0, owner = NULL, lease_until = NULL, crashes = crashes + 1
WHERE state = 1 AND lease_until <= ?
"""
REARM = """
UPDATE inbox SET state = 0, due = ?, blocks_until = NULL, attempts = 0, crashes = 0, ended = NULL, reason = NULL
WHERE seq = ?
"""
OWNED = "WHERE seq = ? AND owner = ? AND state = 1"

# What the disk or the file system does to us. Anything else that SQLite raises is a bug of ours.
TROUBLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Storage]:
    """The storage in this file, created where there is none; raises Unusable where it must not be used."""
    with alone(path):
        writer = Writer(path)
        try:
            await _prepared(writer, path)
            engine = SQLite(path, writer)
            try:
                yield engine
            finally:
                with anyio.CancelScope(shield=True):
                    await engine.close_reader()
        finally:
            with anyio.CancelScope(shield=True):
                await writer.close()


async def _prepared(writer: Writer, path: Path) -> None:
    try:
        await writer.submit(_prepare)
    except (Unavailable, Unusable) as error:
        raise Unusable(f"{path} cannot be opened: {error}.") from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else has the storage open meanwhile."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unusable(f"{path.parent} cannot be written: {error.strerror}. Give a directory of our own.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Unusable(f"{path} is in use by another process. Stop that one, or give another directory.") from error
    finally:
        os.close(handle)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout = 5000")
    # Of a new file: a body of 10 KB takes two pages then, in the place of three, and each is two writes to the log.
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL would survive a crash of ours, but not a power cut: https://www.sqlite.org/pragma.html#pragma_synchronous
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 1000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _prepare(c: sqlite3.Connection) -> None:
    """The schema is there and ours; what a process that died had claimed is free again."""
    (version,) = c.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise Unusable(
            f"it has schema version {version}, and this Telefonistka knows version {SCHEMA_VERSION}; "
            "run the newer Telefonistka, or give this one another state directory"
        )
    for step in SCHEMA[version:]:
        for statement in step.split(";"):
            c.execute(statement)
    c.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    # The file is ours alone, so no lease in it has a living owner.
    c.execute(REAP, (float("inf"),))
    c.execute("DELETE FROM lock")


class Writer:
    """The thread that writes. Jobs that wait together are committed together; one that fails fails alone.

    A job may run twice: once with others, and again alone where one of them failed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Job, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self._thread.start()

    async def submit(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """The job's result, once it is on disk."""
        if self._closed:
            raise Unavailable("the storage is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return await future

    async def close(self) -> None:
        """Everything submitted is on disk, or has failed."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (batch := self._batch()) is not None:
            results = self._commit([job for job, _ in batch])
            futures = [future for _, future in batch]
            self._loop.call_soon_threadsafe(_deliver, futures, results)
        self._disconnect()

    def _batch(self) -> list[tuple[Job, asyncio.Future[Any]]] | None:
        """What waits, at least one; None after the stop mark."""
        first = self._jobs.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._jobs.put(None)  # the stop mark is for the next round
                break
            batch.append(more)
        return batch

    def _commit(self, jobs: list[Job]) -> list[Result]:
        try:
            return self._transaction(jobs)
        except Exception as error:
            if len(jobs) == 1:
                return [_translated(error)]
        return [result for job in jobs for result in self._commit([job])]

    def _transaction(self, jobs: list[Job]) -> list[Any]:
        if self._connection is None:
            self._connection = _connect(self._path)
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [job(connection) for job in jobs]
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo(connection, error)
            raise
        return results

    def _undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        # What a failed fsync left in memory is not what is on disk, so after an I/O error only a new connection,
        # which reads the log again, tells the truth.
        if _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT):
            self._disconnect()
        elif connection.in_transaction:
            connection.execute("ROLLBACK")

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()


def _deliver(futures: list[asyncio.Future[Any]], results: list[Result]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():  # its caller was cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code: https://www.sqlite.org/rescode.html"""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _translated(error: Exception) -> Exception:
    if _code(error) not in TROUBLE:
        return error
    return Full(str(error)) if _code(error) == sqlite3.SQLITE_FULL else Unavailable(str(error))


class SQLite:
    """The Storage protocol over one file."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="storage-reader")
        self._reading: sqlite3.Connection | None = None

    async def accept(
        self, delivery: Delivery, *, now: float, work: bool = True, post: Post | None = None
    ) -> Acceptance:
        row = (
            delivery.id,
            delivery.digest,
            delivery.lane,
            delivery.event,
            now,
            now,
            State.WAITING if work else State.DONE,
            None if work else now,
            orjson.dumps(delivery.headers),
            delivery.body,
        )

        def job(c: sqlite3.Connection) -> Acceptance:
            known = c.execute(
                "SELECT seq, state FROM inbox WHERE id = ? OR digest = ? ORDER BY id = ? DESC, seq DESC LIMIT 1",
                (row[0], row[1], row[0]),
            ).fetchone()
            if known is None:
                inserted = c.execute(INSERT, row).lastrowid
                if post is not None and inserted is not None:
                    letters.post(c, inserted, post, now)
                return Acceptance.ACCEPTED
            seq, state = known
            if state not in (State.REJECTED, State.DEAD):
                return Acceptance.DUPLICATE
            _rearm(c, seq, now)
            if post is not None:
                letters.post(c, seq, post, now)
            return Acceptance.REARMED

        return await self._writer.submit(job)

    async def enqueue(self, delivery: Delivery, *, due: float, now: float) -> bool:
        row = (delivery.id, delivery.digest, delivery.lane, delivery.event, now, due)
        content = (orjson.dumps(delivery.headers), delivery.body)

        def job(c: sqlite3.Connection) -> bool:
            if c.execute(HASTEN, (due, delivery.digest)).rowcount:
                return False
            c.execute(ENQUEUE, (*row, *content))
            return True

        return await self._writer.submit(job)

    async def claim(self, owner: str, *, limit: int, lease: float, now: float) -> tuple[WorkItem, ...]:
        def job(c: sqlite3.Connection) -> tuple[WorkItem, ...]:
            c.execute(REAP, (now,))
            rows = c.execute(CLAIM, {"owner": owner, "lease": lease, "limit": limit, "now": now}).fetchall()
            return tuple(_item(row, letters.outcomes(c, row[0])) for row in sorted(rows))

        return await self._writer.submit(job)

    async def behind(self, lane: str, seq: int) -> Sequence[tuple[str, Headers, bytes]]:
        asked = "SELECT event, headers, body FROM inbox WHERE lane = ? AND seq > ? AND state < 2 ORDER BY seq"
        return await self._read(lambda c: _events(c.execute(asked, (lane, seq))))

    async def lane(self, lane: str) -> Sequence[tuple[str, Headers, bytes]]:
        # No index serves this: it is asked only of merges that nothing came of, which are few.
        asked = "SELECT event, headers, body FROM inbox WHERE lane = ? ORDER BY seq"
        return await self._read(lambda c: _events(c.execute(asked, (lane,))))

    async def known(self, deliveries: Collection[str]) -> frozenset[str]:
        asked = "SELECT id FROM inbox WHERE id IN (SELECT value FROM json_each(?))"
        wanted = orjson.dumps(list(deliveries)).decode()
        return await self._read(lambda c: frozenset(id_ for (id_,) in c.execute(asked, (wanted,))))

    async def extend(self, owner: str, seqs: Iterable[int], *, lease: float, now: float) -> frozenset[int]:
        wanted = tuple(seqs)

        def job(c: sqlite3.Connection) -> frozenset[int]:
            return frozenset(seq for seq in wanted if _changed(c, "lease_until = ?", (now + lease,), owner, seq))

        return await self._writer.submit(job)

    async def record(self, owner: str, seq: int, step: str, outcome: Outcome) -> bool:
        def job(c: sqlite3.Connection) -> bool:
            if not c.execute(f"SELECT 1 FROM inbox {OWNED}", (seq, owner)).fetchone():  # noqa: S608
                return False
            c.execute(
                "INSERT OR REPLACE INTO outcome (seq, step, verdict, text, tries) VALUES (?, ?, ?, ?, ?)",
                (seq, step, outcome.verdict, outcome.text, outcome.tries),
            )
            # Progress: whatever killed the process earlier, it was not this.
            c.execute("UPDATE inbox SET crashes = 0 WHERE seq = ?", (seq,))
            return True

        return await self._writer.submit(job)

    async def finish(self, owner: str, seq: int, *, state: State, now: float) -> bool:
        return await self._end(owner, seq, "state = ?, ended = ?", (state, now))

    async def postpone(self, owner: str, seq: int, *, due: float, blocks_until: float, reason: str) -> bool:
        change = "state = 0, due = ?, blocks_until = coalesce(blocks_until, ?), reason = ?"
        return await self._end(owner, seq, change, (due, blocks_until, reason))

    async def bury(self, owner: str, seq: int, *, reason: str, now: float) -> bool:
        return await self._end(owner, seq, "state = ?, reason = ?, ended = ?", (State.DEAD, reason, now))

    async def _end(self, owner: str, seq: int, change: str, values: tuple[object, ...]) -> bool:
        ending = f"{change}, owner = NULL, lease_until = NULL"
        return await self._writer.submit(lambda c: _changed(c, ending, values, owner, seq))

    async def release(self, owner: str) -> None:
        def job(c: sqlite3.Connection) -> None:
            c.execute(
                "UPDATE inbox SET state = 0, owner = NULL, lease_until = NULL, attempts = attempts - 1 "
                "WHERE state = 1 AND owner = ?",
                (owner,),
            )
            c.execute("DELETE FROM lock WHERE owner = ?", (owner,))

        await self._writer.submit(job)

    async def rearm(self, delivery: str, *, now: float) -> bool:
        def job(c: sqlite3.Connection) -> bool:
            known = c.execute("SELECT seq, state FROM inbox WHERE id = ?", (delivery,)).fetchone()
            if known is None or known[1] not in (State.REJECTED, State.DEAD):
                return False
            _rearm(c, known[0], now)
            return True

        return await self._writer.submit(job)

    async def prune(self, retention: Retention) -> int:
        return await self._writer.submit(lambda c: letters.prune(c, retention))

    async def owe(self, delivery: str, recipients: Sequence[Recipient], *, routed: bool = True) -> None:
        await self._writer.submit(lambda c: letters.owe(c, delivery, recipients, routed=routed))

    async def attempted(self, attempts: Sequence[Attempt]) -> None:
        await self._writer.submit(lambda c: letters.attempted(c, attempts))

    async def owed(self) -> Sequence[Due]:
        return await self._read(letters.owed)

    async def unrouted(self) -> Sequence[Unrouted]:
        return await self._read(letters.unrouted)

    async def unroute(self, delivery: str) -> bool:
        return await self._writer.submit(lambda c: letters.unroute(c, delivery))

    async def misroute(self, delivery: str, *, reason: str, now: float) -> None:
        await self._writer.submit(lambda c: letters.misroute(c, delivery, reason, now))

    async def fetch(self, delivery: str) -> tuple[Headers, bytes] | None:
        return await self._read(lambda c: letters.fetch(c, delivery))

    async def revive(self, delivery: str, recipients: Sequence[Recipient], *, now: float) -> Sequence[Due]:
        return await self._writer.submit(lambda c: letters.revive(c, delivery, recipients, now))

    async def deliveries(self, *, limit: int, dead: bool = False) -> Sequence[Summary]:
        return await self._read(lambda c: letters.deliveries(c, limit, dead=dead))

    async def story(self, delivery: str) -> Story | None:
        return await self._read(lambda c: letters.story(c, delivery))

    async def backlog(self, *, now: float) -> Backlog:
        def job(c: sqlite3.Connection) -> Backlog:
            counts = dict(c.execute("SELECT state, count(*) FROM inbox GROUP BY state"))
            (oldest,) = c.execute(f"SELECT min(due) FROM inbox WHERE seq IN ({CLAIMABLE})", {"now": now}).fetchone()  # noqa: S608
            free = shutil.disk_usage(self._path.parent).free
            return Backlog(items={state: counts.get(state, 0) for state in State}, oldest=oldest, free=free)

        return await self._read(job)

    async def check(self) -> None:
        free = (await asyncio.to_thread(shutil.disk_usage, self._path.parent)).free
        if free < SPARE:
            raise Full(f"only {free >> 20} MB are free on the disk of {self._path.parent}")
        await self.put("check", "check", os.urandom(16))

    async def lock(self, name: str, owner: str, *, lease: float, now: float) -> bool:
        def job(c: sqlite3.Connection) -> bool:
            taken = c.execute(
                "INSERT INTO lock (name, owner, until) VALUES (:name, :owner, :until) ON CONFLICT (name) DO UPDATE "
                "SET owner = :owner, until = :until WHERE lock.owner = :owner OR lock.until <= :now",
                {"name": name, "owner": owner, "until": now + lease, "now": now},
            )
            return taken.rowcount == 1

        return await self._writer.submit(job)

    async def unlock(self, name: str, owner: str) -> None:
        await self._writer.submit(
            lambda c: c.execute("DELETE FROM lock WHERE name = ? AND owner = ?", (name, owner)).rowcount
        )

    async def get(self, kind: str, key: str) -> bytes | None:
        def job(c: sqlite3.Connection) -> bytes | None:
            row = c.execute("SELECT value FROM document WHERE kind = ? AND key = ?", (kind, key)).fetchone()
            return None if row is None else cast(bytes, row[0])

        return await self._read(job)

    async def put(self, kind: str, key: str, value: bytes) -> None:
        statement = "INSERT OR REPLACE INTO document (kind, key, value) VALUES (?, ?, ?)"
        await self._writer.submit(lambda c: c.execute(statement, (kind, key, value)).rowcount)

    async def documents(self, kind: str) -> Mapping[str, bytes]:
        return await self._read(lambda c: dict(c.execute("SELECT key, value FROM document WHERE kind = ?", (kind,))))

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._reads, job)

    def _reads(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._reading is None:
                self._reading = reader(self._path)
            self._reading.execute("BEGIN")  # one moment for all that the job reads
            try:
                return job(self._reading)
            finally:
                if self._reading.in_transaction:
                    self._reading.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _translated(error) from None

    async def close_reader(self) -> None:
        """The writer is the last connection, so that the checkpoint at the end is its own."""
        await asyncio.to_thread(self._reader.shutdown)
        if self._reading is not None:
            self._reading.close()


def _changed(c: sqlite3.Connection, change: str, values: tuple[object, ...], owner: str, seq: int) -> bool:
    """The owner's item is changed; False: it is not the owner's."""
    return c.execute(f"UPDATE inbox SET {change} {OWNED}", (*values, seq, owner)).rowcount == 1  # noqa: S608


def _events(rows: Iterable[tuple[str, bytes, bytes]]) -> Sequence[tuple[str, Headers, bytes]]:
    return [(event, letters.headers(headers), body) for event, headers, body in rows]


def _rearm(c: sqlite3.Connection, seq: int, now: float) -> None:
    c.execute(REARM, (now, seq))
    c.execute("DELETE FROM outcome WHERE seq = ?", (seq,))


def _item(row: tuple[Any, ...], outcomes: dict[str, Outcome]) -> WorkItem:
    seq, id_, event, lane, headers, body, received, attempts, crashes = row
    return WorkItem(
        seq=seq,
        id=id_,
        event=event,
        lane=lane,
        headers=letters.headers(headers),
        body=body,
        received=received,
        attempts=attempts,
        crashes=crashes,
        outcomes=outcomes,
    )


def reader(path: Path) -> sqlite3.Connection:
    """A connection that never writes, and never checkpoints."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


@contextmanager
def _looking(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as it lies there, for a moment; raises Unusable where it cannot be read."""
    if not path.is_file():
        raise Unusable(f"There is no {path}.")
    try:
        connection = reader(path)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise Unusable(
                    f"{path} has schema version {version}; this Telefonistka knows version {SCHEMA_VERSION}."
                )
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read: {error}.") from error


def deliveries(path: Path, *, limit: int, dead: bool = False) -> Sequence[Summary]:
    """As SQLite.deliveries, of a file that nobody has open."""
    with _looking(path) as connection:
        return letters.deliveries(connection, limit, dead=dead)


def story(path: Path, delivery: str) -> Story | None:
    """As SQLite.story, of a file that nobody has open."""
    with _looking(path) as connection:
        return letters.story(connection, delivery)
