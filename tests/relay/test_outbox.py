"""What the relay's journal promises: each debt until it is paid or given up, through restarts, and in few rows."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from telefonistka import outbox as outboxes
from telefonistka.core import fanout
from telefonistka.core.fanout import Endpoint
from telefonistka.outbox import Outbox
from telefonistka.relay import Ending, Result
from telefonistka.storage import Acceptance, Delivery, Post, Retention, State, Storage, sqlite
from telefonistka.storage.sqlite import INBOX
from tests.relay.sinks import HEADERS

NOW = 1_700_000_000.0
ONE, TWO, THREE = (fanout.endpoint(f"https://{name}.example.com/api/webhook") for name in ("one", "three", "two"))
FOREVER = Retention(before=0, dead_before=0, size=1 << 40)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "telefonistka.db"


@pytest.fixture
async def storage(database: Path) -> AsyncIterator[Storage]:
    async with sqlite.opened(database) as opened:
        yield opened


@pytest.fixture
def outbox(storage: Storage) -> Outbox:
    return Outbox(storage, clock=lambda: NOW)


def push(id_: str = "1", size: int = 10) -> Delivery:
    body = id_.encode().rjust(size, b"x")
    return Delivery(id=id_, event="push", lane="1", headers=HEADERS, body=body)


async def accept(storage: Storage, *endpoints: Endpoint, id_: str = "1", now: float = NOW) -> None:
    post = outboxes.post(endpoints)
    assert await storage.accept(push(id_), now=now, work=False, post=post) is Acceptance.ACCEPTED


def result(endpoint: Endpoint, ending: Ending, *, delivery: str = "1", attempts: int = 1, reason: str = "") -> Result:
    return Result(delivery, endpoint, ending, attempts, NOW + 1, NOW + 5, reason)


async def owed(outbox: Outbox) -> list[tuple[str, str, int]]:
    return [(debt.delivery, debt.endpoint.host.split(".")[0], debt.attempts) for debt in await outbox.owed()]


def rows(database: Path, table: str) -> int:
    connection = sqlite3.connect(database)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


async def test_what_all_took_leaves_one_row(storage: Storage, outbox: Outbox, database: Path) -> None:
    """The delivery's own, with its bytes."""
    await accept(storage, ONE, TWO, THREE)
    assert len(await outbox.owed()) == 3
    await outbox.record([result(one, Ending.DELIVERED) for one in (ONE, TWO)])
    assert await owed(outbox) == [("1", "two", 0)]
    await outbox.record([result(THREE, Ending.DELIVERED)])
    assert [rows(database, table) for table in ("inbox", "owed", "letter")] == [1, 0, 0]
    assert await outbox.fetch("1") == (HEADERS, push().body)
    assert await storage.claim("worker", limit=9, lease=1, now=NOW) == ()


async def test_debts_outlive_the_process(database: Path) -> None:
    """With their attempts, the time of the next one, and the time of their arrival."""
    async with sqlite.opened(database) as storage:
        await accept(storage, ONE, TWO)
        await Outbox(storage).record([result(ONE, Ending.RETRY, attempts=3, reason="status 503")])
    async with sqlite.opened(database) as storage:
        debts = {debt.endpoint: debt for debt in await Outbox(storage).owed()}
    assert (debts[ONE].attempts, debts[ONE].due, debts[ONE].received) == (3, NOW + 5, NOW)
    assert (debts[TWO].attempts, debts[TWO].due, debts[TWO].received) == (0, 0.0, NOW)


async def test_debts_come_in_the_order_of_arrival(storage: Storage, outbox: Outbox) -> None:
    """Whether they were tried or not."""
    for id_ in ("a", "b", "c"):
        await accept(storage, ONE, id_=id_)
    await outbox.record([result(ONE, Ending.RETRY, delivery="b")])
    assert await owed(outbox) == [("a", "one", 0), ("b", "one", 1), ("c", "one", 0)]


async def test_a_result_may_be_told_twice(storage: Storage, outbox: Outbox) -> None:
    """After a write of which nobody knows whether it succeeded."""
    await accept(storage, ONE, TWO, THREE)
    results = [result(ONE, Ending.DELIVERED), result(TWO, Ending.RETRY), result(THREE, Ending.DEAD, reason="no")]
    await outbox.record(results)
    await outbox.record(results)
    assert await owed(outbox) == [("1", "three", 1)]
    story = await storage.story("1")
    assert story is not None
    assert [(dead.recipient[0], dead.reason) for dead in story.dead] == [(THREE.url, "no")]


async def test_a_second_route_adds_only_what_is_new(storage: Storage, outbox: Outbox) -> None:
    """What was tried or given up stays as it is."""
    await accept(storage, ONE, TWO)
    await outbox.record([result(ONE, Ending.RETRY), result(TWO, Ending.DEAD)])
    await outbox.owe("1", [ONE, TWO, THREE], received=NOW)
    assert sorted(await owed(outbox)) == [("1", "one", 1), ("1", "two", 0)]


async def test_a_dead_letter_is_revived_as_if_it_came_now(storage: Storage, outbox: Outbox) -> None:
    """To the endpoints that are named, or to all."""
    await accept(storage, ONE, TWO)
    await outbox.record([result(one, Ending.DEAD, attempts=9) for one in (ONE, TWO)])
    (debt,) = await outbox.revive("1", [TWO], now=NOW + 100)
    assert (debt.endpoint, debt.attempts, debt.received) == (TWO, 0, NOW + 100)
    assert [one.endpoint for one in await outbox.revive("1", [], now=NOW)] == [ONE]
    assert await outbox.revive("1", [], now=NOW) == []
    await outbox.record([result(one, Ending.DELIVERED) for one in (ONE, TWO)])
    assert await outbox.owed() == []


async def test_a_delivery_without_a_route_waits_for_one(storage: Storage, outbox: Outbox) -> None:
    """It is not lost, and can be sent to some before all are known."""
    await storage.accept(push(), now=NOW, work=False, post=Post(routed=False))
    await outbox.owe("1", [ONE], received=NOW, routed=False)
    await outbox.record([result(ONE, Ending.DELIVERED)])
    assert [one.delivery for one in await outbox.unrouted()] == ["1"]
    await outbox.owe("1", [TWO], received=NOW)
    assert await outbox.unrouted() == []
    assert await owed(outbox) == [("1", "three", 0)]


async def test_what_cannot_be_routed_is_a_dead_letter_to_nobody(storage: Storage, outbox: Outbox) -> None:
    """It says why, and may be routed anew."""
    await storage.accept(push(), now=NOW, work=False, post=Post(routed=False))
    await outbox.misroute("1", "no configuration")
    assert await outbox.unrouted() == []
    (summary,) = await storage.deliveries(limit=9, dead=True)
    assert (summary.delivery, summary.dead, summary.state) == ("1", 1, "done")
    assert await outbox.revive("1", [], now=NOW) == []
    assert [one.delivery for one in await outbox.unrouted()] == ["1"]


async def test_what_is_owed_is_never_forgotten(storage: Storage, outbox: Outbox) -> None:
    """Neither by age nor by size; what ended well and what was given up is, the oldest first."""
    old = Retention(before=NOW + 100, dead_before=0, size=1 << 40)
    for id_ in ("owed", "dead", "done"):
        await accept(storage, ONE, id_=id_)
    await outbox.record([result(ONE, Ending.DEAD, delivery="dead"), result(ONE, Ending.DELIVERED, delivery="done")])
    assert [await storage.prune(old) for _ in range(2)] == [1, 0]
    assert [one.delivery for one in await storage.deliveries(limit=9)] == ["dead", "owed"]
    older = replace(old, dead_before=NOW + 100)
    assert await storage.prune(older) == 1
    assert [one.delivery for one in await storage.deliveries(limit=9)] == ["owed"]
    assert await storage.prune(replace(older, size=1)) == 0


async def test_the_oldest_go_where_the_size_is_exceeded(storage: Storage) -> None:
    """Until the rest fits; dead work stays."""
    for number in range(20):
        delivery = push(str(number), size=100_000)
        await storage.accept(delivery, now=NOW + number, work=False)
    while await storage.prune(replace(FOREVER, size=1_000_000)):
        pass
    kept = [int(one.delivery) for one in await storage.deliveries(limit=99)]
    assert 5 <= len(kept) <= 10
    assert kept == list(range(19, 19 - len(kept), -1))


async def test_a_database_of_version_1_is_taken_over(database: Path) -> None:
    """Its work is there as it was, and the relay's tables are new."""
    connection = sqlite3.connect(database)
    for statement in INBOX.split(";"):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO inbox (id, digest, lane, event, received, due, headers, body) "
        "VALUES ('old', x'00', '1/7', 'pull_request', 1.0, 1.0, '[]', x'7b7d')"
    )
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    async with sqlite.opened(database) as storage:
        await accept(storage, ONE)
        (item,) = await storage.claim("me", limit=9, lease=1, now=NOW)
        assert (item.id, item.body) == ("old", b"{}")
        assert len(await Outbox(storage).owed()) == 1
    async with sqlite.opened(database) as storage:
        assert (await storage.backlog(now=NOW)).items[State.DONE] == 1


async def test_a_duplicate_owes_nothing_anew(storage: Storage, outbox: Outbox) -> None:
    """What was delivered once is not owed again because GitHub sends it twice."""
    await accept(storage, ONE)
    await outbox.record([result(ONE, Ending.DELIVERED)])
    post = outboxes.post([ONE, TWO])
    assert await storage.accept(push(), now=NOW, work=False, post=post) is Acceptance.DUPLICATE
    assert await outbox.owed() == []
