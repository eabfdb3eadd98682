"""The relay's rows: to whom deliveries are owed, what became of them, and what an operator sees of all that.

What belongs here: statements over a connection, each a job for the writer or the reader. A delivery that all its
recipients take at once costs one row of `owed`, made with the delivery itself and taken away again; recipients have
rows of their own, in `letter`, only while they are tried again or after they were given up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import orjson

from telefonistka.storage import (
    Attempt,
    Due,
    Fate,
    Headers,
    Outcome,
    Post,
    Recipient,
    Retention,
    State,
    Story,
    Summary,
    Unrouted,
    Verdict,
)

PRUNED = 500  # rows of one transaction, so that nobody waits for it

SCHEMA = """
CREATE TABLE owed (seq INTEGER PRIMARY KEY, received REAL NOT NULL, routed INTEGER NOT NULL, recipients BLOB NOT NULL);
CREATE TABLE letter (
    seq INTEGER NOT NULL,
    url TEXT NOT NULL,
    verify INTEGER NOT NULL,
    fate INTEGER NOT NULL,
    received REAL NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    at REAL NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (seq, url, verify)
) WITHOUT ROWID;
CREATE INDEX letter_fate ON letter (fate, seq);
CREATE INDEX inbox_ended ON inbox (ended) WHERE state IN (2, 3)
"""

WAITING = """
SELECT l.seq, i.id, l.received, l.url, l.verify, l.attempts, l.due FROM letter l JOIN inbox i ON i.seq = l.seq
WHERE l.fate = 0
"""
NOBODY: Recipient = ("", True)  # of a delivery that could not be routed
PUT_OWED = "INSERT OR REPLACE INTO owed (seq, received, routed, recipients) VALUES (?, ?, ?, ?)"
PUT_LETTER = (
    "INSERT OR REPLACE INTO letter (seq, url, verify, fate, received, attempts, due, at, reason) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SUMMARY = """
SELECT i.seq, i.id, i.event, i.lane, i.received, length(i.body), i.state, i.reason, o.routed, o.recipients,
    (SELECT count(*) FROM letter l WHERE l.seq = i.seq AND l.fate = 0),
    (SELECT count(*) FROM letter l WHERE l.seq = i.seq AND l.fate = 1)
FROM inbox i LEFT JOIN owed o ON o.seq = i.seq
"""
FREE = (
    "NOT EXISTS (SELECT 1 FROM owed o WHERE o.seq = i.seq) AND NOT EXISTS (SELECT 1 FROM letter l WHERE l.seq = i.seq)"
)


# Owing


def post(c: sqlite3.Connection, seq: int, wanted: Post, received: float) -> None:
    """The row of a delivery that is new or came again."""
    if wanted.recipients or not wanted.routed:
        c.execute(PUT_OWED, (seq, received, wanted.routed, _packed(wanted.recipients)))


def owe(c: sqlite3.Connection, delivery: str, recipients: Iterable[Recipient], *, routed: bool) -> None:
    seq, received = _place(c, delivery)
    if seq is None:
        return
    before, since = _owed(c, seq)
    known = {*before, *((url, bool(verify)) for url, verify in _letters(c, seq))}
    every = [*before, *(one for one in recipients if one not in known)]
    _put(c, seq, since or received, every, routed=routed)


def attempted(c: sqlite3.Connection, attempts: Sequence[Attempt]) -> None:
    """In the order given; those of one delivery that stand together are written together."""
    for delivery, group in groupby(attempts, key=lambda attempt: attempt.delivery):
        seq, received = _place(c, delivery)
        if seq is not None:
            _attempted(c, seq, received, list(group))


def _attempted(c: sqlite3.Connection, seq: int, received: float, attempts: Sequence[Attempt]) -> None:
    row = c.execute("SELECT received, routed, recipients FROM owed WHERE seq = ?", (seq,)).fetchone()
    since, routed, waiting = (row[0], row[1], _unpacked(row[2])) if row else (received, 1, [])
    left = dict.fromkeys(waiting)
    for attempt in attempts:
        was_waiting = attempt.recipient in left
        left.pop(attempt.recipient, None)
        url, verify = attempt.recipient
        if attempt.fate is not Fate.DELIVERED:
            arrived = since if was_waiting else _arrived(c, seq, attempt.recipient) or since
            letter = (attempt.fate, arrived, attempt.attempts, attempt.due, attempt.at, attempt.reason)
            c.execute(PUT_LETTER, (seq, url, verify, *letter))
        elif not was_waiting:
            c.execute("DELETE FROM letter WHERE seq = ? AND url = ? AND verify = ?", (seq, url, verify))
    if len(left) < len(waiting):
        _put(c, seq, since, list(left), routed=bool(routed))


def _arrived(c: sqlite3.Connection, seq: int, recipient: Recipient) -> float | None:
    found = c.execute("SELECT received FROM letter WHERE seq = ? AND url = ? AND verify = ?", (seq, *recipient))
    row = found.fetchone()
    return None if row is None else float(row[0])


def _put(c: sqlite3.Connection, seq: int, received: float, recipients: Sequence[Recipient], *, routed: bool) -> None:
    if recipients or not routed:
        c.execute(PUT_OWED, (seq, received, routed, _packed(recipients)))
    else:
        c.execute("DELETE FROM owed WHERE seq = ?", (seq,))


def owed(c: sqlite3.Connection) -> list[Due]:
    listed = c.execute("SELECT o.seq, i.id, o.received, o.recipients FROM owed o JOIN inbox i ON i.seq = o.seq")
    found = [
        (seq, Due(delivery=id_, received=received, recipient=recipient))
        for seq, id_, received, recipients in listed
        for recipient in _unpacked(recipients)
    ]
    found += [(seq, one) for seq, one in _retried(c)]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _retried(c: sqlite3.Connection, seq: int | None = None) -> Iterator[tuple[int, Due]]:
    """What is to be tried again, of one delivery or of all."""
    rows = c.execute(WAITING) if seq is None else c.execute(f"{WAITING} AND l.seq = ?", (seq,))
    for number, id_, received, url, verify, attempts, due in rows:
        recipient = (url, bool(verify))
        yield number, Due(delivery=id_, received=received, recipient=recipient, attempts=attempts, due=due)


# Routing


def unrouted(c: sqlite3.Connection) -> list[Unrouted]:
    rows = c.execute(
        "SELECT i.id, i.event, o.received FROM owed o JOIN inbox i ON i.seq = o.seq WHERE o.routed = 0 ORDER BY o.seq"
    )
    return [Unrouted(delivery=id_, event=event, received=received) for id_, event, received in rows]


def unroute(c: sqlite3.Connection, delivery: str, now: float | None = None) -> bool:
    seq, received = _place(c, delivery)
    if seq is None:
        return False
    before, since = _owed(c, seq)
    _put(c, seq, now or since or received, before, routed=False)
    return True


def misroute(c: sqlite3.Connection, delivery: str, reason: str, now: float) -> None:
    seq, received = _place(c, delivery)
    if seq is not None:
        _put(c, seq, received, _owed(c, seq)[0], routed=True)
        c.execute(PUT_LETTER, (seq, *NOBODY, Fate.DEAD, received, 0, 0.0, now, reason))


# Dead letters


def revive(c: sqlite3.Connection, delivery: str, recipients: Collection[Recipient], now: float) -> list[Due]:
    seq, _ = _place(c, delivery)
    if seq is None:
        return []
    dead = [(url, bool(verify)) for url, verify in _letters(c, seq, fate=Fate.DEAD)]
    wanted = [one for one in dead if not recipients or one in recipients]
    for recipient in wanted:
        if recipient == NOBODY:
            c.execute("DELETE FROM letter WHERE seq = ? AND url = ? AND verify = ?", (seq, *recipient))
            unroute(c, delivery, now)
        else:
            c.execute(PUT_LETTER, (seq, *recipient, Fate.WAITING, now, 0, 0.0, now, ""))
    return [Due(delivery=delivery, received=now, recipient=one) for one in wanted if one != NOBODY]


def fetch(c: sqlite3.Connection, delivery: str) -> tuple[Headers, bytes] | None:
    row = c.execute("SELECT headers, body FROM inbox WHERE id = ?", (delivery,)).fetchone()
    return None if row is None else (headers(row[0]), row[1])


# Forgetting


def prune(c: sqlite3.Connection, retention: Retention) -> int:
    """One transaction's worth of what may be forgotten; how many deliveries."""
    c.execute(
        "DELETE FROM letter WHERE fate = 1 AND (seq, url, verify) IN "
        "(SELECT seq, url, verify FROM letter WHERE fate = 1 AND at < ? LIMIT ?)",
        (retention.dead_before, PRUNED),
    )
    found = c.execute(
        f"SELECT i.seq FROM inbox i WHERE i.state IN (2, 3) AND i.ended < ? AND {FREE} LIMIT ?",  # noqa: S608
        (retention.before, PRUNED),
    )
    return _forget(c, [seq for (seq,) in found] or _surplus(c, retention.size))


def _surplus(c: sqlite3.Connection, size: int) -> list[int]:
    """The oldest deliveries without which the size is kept; where none has ended well, dead letters go."""
    pages, free, page = (
        c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    excess = (pages - free) * page - size
    if excess <= 0:
        return []
    rows = c.execute(
        f"SELECT i.seq, length(i.body) FROM inbox i WHERE i.state IN (2, 3) AND {FREE} ORDER BY i.seq LIMIT ?",  # noqa: S608
        (PRUNED,),
    ).fetchall()
    if not rows:
        oldest = "SELECT DISTINCT seq FROM letter WHERE fate = 1 ORDER BY seq LIMIT ?"
        c.execute(f"DELETE FROM letter WHERE fate = 1 AND seq IN ({oldest})", (PRUNED,))  # noqa: S608
        return []
    surplus = []
    for seq, length in rows:
        if excess <= 0:
            break
        surplus.append(seq)
        excess -= length
    return surplus


def _forget(c: sqlite3.Connection, seqs: Sequence[int]) -> int:
    rows = [(seq,) for seq in seqs]
    c.executemany("DELETE FROM outcome WHERE seq = ?", rows)
    c.executemany("DELETE FROM inbox WHERE seq = ?", rows)
    return len(rows)


# Showing


def deliveries(c: sqlite3.Connection, limit: int, *, dead: bool) -> list[Summary]:
    where = "WHERE i.state = 4 OR EXISTS (SELECT 1 FROM letter l WHERE l.seq = i.seq AND l.fate = 1)" if dead else ""
    rows = c.execute(f"{SUMMARY} {where} ORDER BY i.seq DESC LIMIT ?", (limit,))
    return [_summary(row) for row in rows]


def story(c: sqlite3.Connection, delivery: str) -> Story | None:
    row = c.execute(f"{SUMMARY} WHERE i.id = ?", (delivery,)).fetchone()
    if row is None:
        return None
    seq, summary = row[0], _summary(row)
    (stored,) = c.execute("SELECT headers FROM inbox WHERE seq = ?", (seq,)).fetchone()
    before, since = _owed(c, seq)
    waiting = [Due(delivery=delivery, received=since or summary.received, recipient=one) for one in before]
    waiting += [due for _, due in _retried(c, seq)]
    return Story(
        summary=summary,
        headers=headers(stored),
        outcomes=outcomes(c, seq),
        owed=tuple(waiting),
        dead=_dead(c, seq, delivery),
    )


def _dead(c: sqlite3.Connection, seq: int, delivery: str) -> tuple[Attempt, ...]:
    rows = c.execute("SELECT url, verify, attempts, at, reason FROM letter WHERE seq = ? AND fate = 1", (seq,))
    return tuple(
        Attempt(
            delivery=delivery, recipient=(url, bool(verify)), fate=Fate.DEAD, attempts=attempts, at=at, reason=reason
        )
        for url, verify, attempts, at, reason in rows
    )


def _summary(row: tuple[Any, ...]) -> Summary:
    _, id_, event, lane, received, size, state, reason, routed, recipients, retried, dead = row
    return Summary(
        delivery=id_,
        event=event,
        lane=lane,
        received=received,
        size=size,
        state=State(state).name.lower(),
        reason=reason or "",
        owed=retried + (len(_unpacked(recipients)) if recipients else 0),
        dead=dead,
        routed=routed is None or bool(routed),
    )


# Rows


def outcomes(c: sqlite3.Connection, seq: int) -> dict[str, Outcome]:
    rows = c.execute("SELECT step, verdict, text, tries FROM outcome WHERE seq = ?", (seq,))
    return {step: Outcome(Verdict(verdict), text, tries) for step, verdict, text, tries in rows}


def headers(stored: bytes) -> Headers:
    return tuple((name, value) for name, value in orjson.loads(stored))


def _place(c: sqlite3.Connection, delivery: str) -> tuple[int | None, float]:
    row = c.execute("SELECT seq, received FROM inbox WHERE id = ?", (delivery,)).fetchone()
    return (None, 0.0) if row is None else (row[0], row[1])


def _owed(c: sqlite3.Connection, seq: int) -> tuple[list[Recipient], float | None]:
    row = c.execute("SELECT recipients, received FROM owed WHERE seq = ?", (seq,)).fetchone()
    return ([], None) if row is None else (_unpacked(row[0]), row[1])


def _letters(c: sqlite3.Connection, seq: int, *, fate: Fate | None = None) -> list[tuple[str, int]]:
    rows = c.execute("SELECT url, verify FROM letter WHERE seq = ? AND fate = coalesce(?, fate)", (seq, fate))
    return list(rows)


def _packed(recipients: Iterable[Recipient]) -> bytes:
    return orjson.dumps([*recipients])


def _unpacked(stored: bytes) -> list[Recipient]:
    return [(url, verify) for url, verify in orjson.loads(stored)]
