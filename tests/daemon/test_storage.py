"""What the storage promises: durable once said so, each item once, in order inside a lane."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telefonistka.inbox import Inbox
from telefonistka.storage import (
    Acceptance,
    Delivery,
    Outcome,
    Retention,
    State,
    Storage,
    Unavailable,
    Unusable,
    Verdict,
    sqlite,
)
from telefonistka.storage.sqlite import SQLite
from tests.daemon.values import Clock, delivery

NOW = 1_700_000_000.0
LEASE = 60.0


async def claim(storage: Storage, owner: str = "me", *, now: float = NOW, limit: int = 100) -> list[str]:
    return [item.id for item in await storage.claim(owner, limit=limit, lease=LEASE, now=now)]


async def claim_one(storage: Storage, owner: str = "me", *, now: float = NOW) -> int:
    (item,) = await storage.claim(owner, limit=1, lease=LEASE, now=now)
    return item.seq


async def test_an_accepted_delivery_comes_back_as_it_was(storage: Storage) -> None:
    """Body and headers to the byte, repeated headers included."""
    given_ = Delivery(
        id="1", event="push", lane="9", headers=(("A", "1"), ("a", "\xff2")), body=b"\x00\xff not even JSON"
    )
    await storage.accept(given_, now=NOW)
    (item,) = await storage.claim("me", limit=5, lease=LEASE, now=NOW)
    assert (item.id, item.event, item.lane, item.headers, item.body) == ("1", "push", "9", given_.headers, given_.body)
    assert (item.attempts, item.crashes, item.outcomes, item.received) == (1, 0, {}, NOW)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (delivery("1", {"a": 1}), Acceptance.DUPLICATE),
        (delivery("2", {"a": 1}), Acceptance.DUPLICATE),
        (delivery("1", {"a": 2}), Acceptance.DUPLICATE),
        (delivery("2", {"a": 2}), Acceptance.ACCEPTED),
    ],
    ids=["both", "same body", "same id", "neither"],
)
async def test_the_same_id_or_the_same_body_is_a_duplicate(
    storage: Storage, second: Delivery, expected: Acceptance
) -> None:
    """The id is a header that nobody signs, so a replay under another one is a duplicate, too."""
    assert await storage.accept(delivery("1", {"a": 1}), now=NOW) is Acceptance.ACCEPTED
    assert await storage.accept(second, now=NOW) is expected


async def test_what_is_done_stays_done(storage: Storage) -> None:
    """GitHub may send a delivery again for three days."""
    await storage.accept(delivery("1"), now=NOW)
    assert await storage.finish("me", await claim_one(storage), state=State.DONE, now=NOW)
    assert await storage.accept(delivery("1"), now=NOW) is Acceptance.DUPLICATE
    assert await claim(storage) == []


async def test_what_failed_is_re_armed_as_new(storage: Storage) -> None:
    """A dead letter and a rejection alike; outcomes and attempts are forgotten."""
    for id_ in ("dead", "rejected"):
        await storage.accept(delivery(id_, lane=id_), now=NOW)
    dead, rejected = await storage.claim("me", limit=2, lease=LEASE, now=NOW)
    for item in (dead, rejected):
        await storage.record("me", item.seq, "promote", Outcome(Verdict.BROKEN, "a bug", 3))
    await storage.bury("me", dead.seq, reason="a bug", now=NOW)
    await storage.finish("me", rejected.seq, state=State.REJECTED, now=NOW)
    for id_ in ("dead", "rejected"):
        assert await storage.accept(delivery(id_, lane=id_), now=NOW) is Acceptance.REARMED
        assert await storage.accept(delivery(id_, lane=id_), now=NOW) is Acceptance.DUPLICATE
    again = await storage.claim("me", limit=2, lease=LEASE, now=NOW)
    assert [(item.id, item.attempts, item.outcomes) for item in again] == [("dead", 1, {}), ("rejected", 1, {})]


async def test_one_item_of_a_lane_at_a_time(storage: Storage) -> None:
    """Lanes run side by side."""
    for id_, lane in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")]:
        await storage.accept(delivery(id_, lane=lane), now=NOW)
    first = await storage.claim("me", limit=100, lease=LEASE, now=NOW)
    assert [item.id for item in first] == ["a1", "b1"]
    assert await claim(storage) == []
    await storage.finish("me", first[0].seq, state=State.DONE, now=NOW)
    assert await claim(storage) == ["a2"]


async def test_own_work_waits_until_it_is_due(storage: Storage) -> None:
    """Nothing of its lane waits with it, also when it is put off."""
    assert await storage.enqueue(delivery("own", lane="a"), due=NOW + 60, now=NOW)
    await storage.accept(delivery("1", lane="a"), now=NOW)
    (item,) = await storage.claim("me", limit=9, lease=LEASE, now=NOW)
    assert item.id == "1"
    await storage.finish("me", item.seq, state=State.DONE, now=NOW)
    assert await claim(storage, now=NOW + 59) == []
    assert (await storage.backlog(now=NOW + 59)).oldest is None
    own = await claim_one(storage, now=NOW + 60)
    await storage.postpone("me", own, due=NOW + 120, blocks_until=NOW + 600, reason="later")
    await storage.accept(delivery("2", lane="a"), now=NOW + 61)
    assert await claim(storage, now=NOW + 61) == ["2"]


async def test_own_work_that_waits_already_is_not_stored_twice(storage: Storage) -> None:
    """The earlier time counts; once it is worked on, it may wait again."""
    work = [delivery(id_, {"own": 1}, lane="a") for id_ in ("first", "second", "third")]
    assert await storage.enqueue(work[0], due=NOW + 60, now=NOW)
    assert not await storage.enqueue(work[1], due=NOW + 90, now=NOW)
    assert not await storage.enqueue(work[1], due=NOW + 30, now=NOW)
    running = await claim_one(storage, now=NOW + 30)
    assert await storage.enqueue(work[2], due=NOW + 60, now=NOW + 30)
    await storage.finish("me", running, state=State.DONE, now=NOW + 31)
    assert await claim(storage, now=NOW + 60) == ["third"]


async def test_a_waiting_item_holds_up_its_lane_for_a_bounded_time(storage: Storage) -> None:
    """And is never worked on beside a later one that overtook it."""
    for id_ in ("first", "second"):
        await storage.accept(delivery(id_), now=NOW)
    seq = await claim_one(storage)
    await storage.postpone("me", seq, due=NOW + 1000, blocks_until=NOW + 600, reason="GitHub is down")
    assert await claim(storage, now=NOW + 599) == []
    assert await claim(storage, now=NOW + 601) == ["second"]
    await storage.extend("me", [seq + 1], lease=LEASE, now=NOW + 990)
    assert await claim(storage, now=NOW + 1001) == []
    await storage.finish("me", seq + 1, state=State.DONE, now=NOW)
    assert await claim(storage, now=NOW + 1002) == ["first"]


async def test_the_patience_of_a_lane_is_counted_from_the_first_wait(storage: Storage) -> None:
    """Else an item that fails for ever would block for ever."""
    for id_ in ("first", "second"):
        await storage.accept(delivery(id_), now=NOW)
    await storage.postpone("me", await claim_one(storage), due=NOW + 500, blocks_until=NOW + 600, reason="")
    again = await claim_one(storage, now=NOW + 500)
    await storage.postpone("me", again, due=NOW + 1500, blocks_until=NOW + 1100, reason="")
    assert await claim(storage, now=NOW + 601) == ["second"]


async def test_a_lease_that_ran_out_gives_the_item_to_the_next(storage: Storage) -> None:
    """The first owner can no longer end it, and the crash is counted until something moves."""
    await storage.accept(delivery("1"), now=NOW)
    seq = await claim_one(storage, "dead")
    assert await claim(storage, "alive", now=NOW + LEASE - 1) == []
    (item,) = await storage.claim("alive", limit=1, lease=LEASE, now=NOW + LEASE)
    assert (item.attempts, item.crashes) == (2, 1)
    assert not await storage.record("dead", seq, "promote", Outcome(Verdict.DONE, ""))
    assert not await storage.finish("dead", seq, state=State.DONE, now=NOW)
    assert not await storage.postpone("dead", seq, due=NOW, blocks_until=NOW, reason="")
    assert not await storage.bury("dead", seq, reason="", now=NOW)
    assert await storage.extend("dead", [seq], lease=LEASE, now=NOW) == frozenset()
    assert await storage.finish("alive", seq, state=State.DONE, now=NOW)


async def test_an_extended_lease_does_not_run_out(storage: Storage) -> None:
    """Work may take longer than a lease."""
    await storage.accept(delivery("1"), now=NOW)
    seq = await claim_one(storage)
    assert await storage.extend("me", [seq, 99], lease=LEASE, now=NOW + 50) == {seq}
    assert await claim(storage, "other", now=NOW + 100) == []
    assert await claim(storage, "other", now=NOW + 110) == ["1"]


async def test_what_is_released_counts_as_never_claimed(storage: Storage) -> None:
    """A stop of ours is no failure of the item."""
    await storage.accept(delivery("1"), now=NOW)
    await claim(storage)
    await storage.release("me")
    (item,) = await storage.claim("next", limit=1, lease=LEASE, now=NOW)
    assert (item.attempts, item.crashes) == (1, 0)


async def test_outcomes_are_kept_by_step(storage: Storage) -> None:
    """The next attempt knows what earlier ones ended."""
    await storage.accept(delivery("1"), now=NOW)
    seq = await claim_one(storage)
    await storage.record("me", seq, "a", Outcome(Verdict.TRY_AGAIN, "GitHub is down", 1))
    await storage.record("me", seq, "a", Outcome(Verdict.DONE, "opened #5", 2))
    await storage.record("me", seq, "b", Outcome(Verdict.REJECTED, "no", 1))
    await storage.postpone("me", seq, due=NOW, blocks_until=NOW, reason="")
    (item,) = await storage.claim("me", limit=1, lease=LEASE, now=NOW)
    assert item.outcomes == {"a": Outcome(Verdict.DONE, "opened #5", 2), "b": Outcome(Verdict.REJECTED, "no", 1)}


async def test_old_work_is_forgotten_and_dead_letters_are_kept(storage: Storage) -> None:
    """A dead letter waits for a person, however long."""
    for id_ in ("done", "dead", "new"):
        await storage.accept(delivery(id_, lane=id_), now=NOW)
    done, dead, new = [item.seq for item in await storage.claim("me", limit=3, lease=LEASE, now=NOW)]
    await storage.finish("me", done, state=State.DONE, now=NOW)
    await storage.bury("me", dead, reason="", now=NOW)
    await storage.finish("me", new, state=State.DONE, now=NOW + 50)
    assert await storage.prune(Retention(before=NOW + 10, dead_before=NOW, size=1 << 30)) == 1
    backlog = await storage.backlog(now=NOW)
    assert (backlog.items[State.DONE], backlog.items[State.DEAD]) == (1, 1)


async def test_how_much_is_kept_can_change(inbox: Inbox, clock: Clock, storage: Storage) -> None:
    """For the next time that something is forgotten."""
    await inbox.accept(delivery("1"), work=False)
    clock.passes(3600)
    assert await inbox.prune() == 0
    inbox.retain(60, 1 << 30)
    assert await inbox.prune() == 1


async def test_the_backlog_tells_since_when_work_lies_about(storage: Storage) -> None:
    """What waits for its next try, or for its lane, does not count: it is where it should be."""
    assert (await storage.backlog(now=NOW)).oldest is None
    await storage.accept(delivery("1", lane="a"), now=NOW - 100)
    await storage.accept(delivery("2", lane="a"), now=NOW - 90)
    await storage.accept(delivery("3", lane="b"), now=NOW - 50)
    assert (await storage.backlog(now=NOW)).oldest == NOW - 100
    await claim_one(storage)
    backlog = await storage.backlog(now=NOW)
    assert (backlog.oldest, backlog.items[State.WAITING], backlog.items[State.RUNNING]) == (NOW - 50, 2, 1)


async def test_a_lock_has_one_owner(storage: Storage) -> None:
    """Until it is given back, or its lease runs out."""
    assert await storage.lock("refs/1", "a", lease=10, now=NOW)
    assert await storage.lock("refs/1", "a", lease=10, now=NOW + 5)
    assert not await storage.lock("refs/1", "b", lease=10, now=NOW + 14)
    assert await storage.lock("refs/2", "b", lease=10, now=NOW)
    await storage.unlock("refs/1", "b")
    assert not await storage.lock("refs/1", "b", lease=10, now=NOW + 14)
    assert await storage.lock("refs/1", "b", lease=10, now=NOW + 15)
    await storage.unlock("refs/1", "b")
    assert await storage.lock("refs/1", "c", lease=10, now=NOW + 15)


@settings(max_examples=25)
@given(
    lanes=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    chances=st.lists(st.sampled_from(["finish", "postpone", "bury", "lose"]), max_size=40),
    limit=st.integers(1, 4),
)
def test_any_history_keeps_the_order_of_its_lanes(
    tmp_path_factory: pytest.TempPathFactory, lanes: list[str], chances: list[str], limit: int
) -> None:
    """Whatever happens to the items, each ends once, and in its lane in the order in which it came."""

    async def history() -> None:
        path = tmp_path_factory.mktemp("history") / "state.db"
        now, ended, endings = NOW, list[tuple[str, int]](), iter(chances)
        async with sqlite.opened(path) as storage:
            for number, lane in enumerate(lanes):
                await storage.accept(delivery(f"{number}", lane=lane), now=now)
            while len(ended) < len(lanes):
                items = await storage.claim("me", limit=limit, lease=LEASE, now=now)
                assert len({item.lane for item in items}) == len(items)
                for item in items:
                    match next(endings, "finish"):
                        case "postpone":
                            await storage.postpone("me", item.seq, due=now + 9, blocks_until=now + 1e6, reason="")
                        case "lose":
                            pass
                        case "bury":
                            await storage.bury("me", item.seq, reason="", now=now)
                            ended.append((item.lane, item.seq))
                        case _:
                            await storage.finish("me", item.seq, state=State.DONE, now=now)
                            ended.append((item.lane, item.seq))
                now += LEASE
        assert [seq for _, seq in sorted(ended, key=lambda one: one[0])] == [seq for _, seq in sorted(ended)]
        assert len(set(ended)) == len(lanes)

    anyio.run(history)


# The engine


async def test_documents_replace_each_other(storage: Storage) -> None:
    """None is the proof that there is none."""
    assert await storage.get("pin", "1") is None
    await storage.put("pin", "1", b"one")
    await storage.put("pin", "1", b"two")
    assert await storage.get("pin", "1") == b"two"
    assert await storage.get("plan", "1") is None


async def test_one_bad_row_does_not_fail_those_beside_it(storage: Storage) -> None:
    """They share a commit, not a fate."""
    assert isinstance(storage, SQLite)
    endings: dict[str, object] = {}

    async def accept(id_: str) -> None:
        try:
            endings[id_] = await storage.accept(delivery(id_, body=ascii(id_).encode()), now=NOW)
        except Exception as error:
            endings[id_] = type(error)

    async with anyio.create_task_group() as tasks:
        for id_ in ("1", "bad \udcff", "2"):  # a text that SQLite cannot take
            tasks.start_soon(accept, id_)
    assert endings == {"1": Acceptance.ACCEPTED, "bad \udcff": UnicodeEncodeError, "2": Acceptance.ACCEPTED}


async def test_a_thousand_at_once_are_all_stored_when_the_storage_closes(database: Path) -> None:
    """The stop mark comes after them, and is not swallowed by a full batch."""
    async with sqlite.opened(database) as storage, anyio.create_task_group() as tasks:
        for number in range(1500):
            tasks.start_soon(lambda id_: storage.accept(delivery(id_, lane=id_), now=NOW), f"{number}")
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM inbox").fetchone() == (1500,)
    connection.close()


async def test_a_closed_storage_says_so(database: Path) -> None:
    """Nobody waits for an answer that never comes."""
    async with sqlite.opened(database) as storage:
        pass
    with pytest.raises(Unavailable, match="closed"):
        await storage.accept(delivery("1"), now=NOW)


async def test_a_newer_schema_is_refused_with_both_versions(database: Path) -> None:
    """Downgrades do not guess."""
    async with sqlite.opened(database):
        pass
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(Unusable, match=r"schema version 7, and this Telefonistka knows version 3"):
        async with sqlite.opened(database):
            pass


async def test_what_an_earlier_version_has_stored_is_worked_on(database: Path) -> None:
    """A newer schema is made of an older one when it is opened."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(database) as connection:
        for step in sqlite.SCHEMA[:2]:
            connection.executescript(step)
        connection.execute("PRAGMA user_version = 2")
        for seq, lane in enumerate(("7", "7", "8")):
            connection.execute(
                sqlite.INSERT, (f"{seq}", b"", lane, "push", NOW, NOW, State.WAITING, None, b"[]", b"{}")
            )
    connection.close()
    async with sqlite.opened(database) as storage:
        assert await claim(storage) == ["0", "2"]
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (sqlite.SCHEMA_VERSION,)
    connection.close()


async def test_a_claim_reads_only_what_it_takes(storage: Storage, database: Path) -> None:
    """Whatever waits beside that, with bodies of any size, is looked up in an index that says all there is to ask."""
    await storage.accept(delivery("1"), now=NOW)
    with sqlite3.connect(database) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sqlite.CLAIMABLE}", {"now": NOW}).fetchall()
    connection.close()
    assert [step[-1] for step in plan] == ["SCAN inbox USING COVERING INDEX inbox_lane"]


async def test_a_file_that_is_no_database_is_refused(database: Path) -> None:
    """And left as it is."""
    text = b"my shopping list " * 100
    path = anyio.Path(database)
    await path.parent.mkdir()
    await path.write_bytes(text)
    with pytest.raises(Unusable, match="cannot be opened: file is not a database"):
        async with sqlite.opened(database):
            pass
    assert await path.read_bytes() == text


async def test_a_second_process_is_kept_out(storage: Storage, database: Path) -> None:
    """Two writers could corrupt the file, and would do everything twice."""
    with pytest.raises(Unusable, match="in use by another process"):
        async with sqlite.opened(database):
            pass


async def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """With the operating system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(Unusable, match="file cannot be written"):
        async with sqlite.opened(tmp_path / "file" / "state.db"):
            pass


async def test_a_full_disk_is_unavailable_and_heals(storage: Storage) -> None:
    """SQLite's own page limit is a disk that is full for it alone; nothing of what failed is left behind."""
    assert isinstance(storage, SQLite)
    pages = await storage._writer.submit(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await storage._writer.submit(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 3}").fetchone())
    large = delivery("large", body=b"x" * 100_000)
    with pytest.raises(Unavailable, match="full"):
        await storage.accept(large, now=NOW)
    assert await storage.accept(delivery("small", body=b"x"), now=NOW) is Acceptance.ACCEPTED
    await storage._writer.submit(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert await storage.accept(large, now=NOW) is Acceptance.ACCEPTED


async def test_a_read_only_database_is_unavailable(storage: Storage) -> None:
    """As a file system that was remounted read-only after trouble."""
    assert isinstance(storage, SQLite)
    assert storage._writer._connection is not None
    storage._writer._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(Unavailable, match="readonly"):
        await storage.accept(delivery("1"), now=NOW)
    with pytest.raises(Unavailable, match="readonly"):
        await storage.check()


WRITER = """
import sys, anyio
from pathlib import Path
from telefonistka.storage import sqlite
from tests.daemon.values import delivery

async def accept(storage, number):
    await storage.accept(delivery(str(number), lane=str(number)), now=1.0)
    print(number, flush=True)

async def main():
    async with sqlite.opened(Path(sys.argv[1])) as storage:
        for start in range(0, 1_000_000, 50):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + 50):
                    tasks.start_soon(accept, storage, number)

anyio.run(main)
"""


def acknowledged_until_sigkill(database: Path) -> set[str]:
    """The deliveries that a process said it had stored before it was killed in the middle of it."""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", WRITER, str(database)], stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(777)]
        process.send_signal(signal.SIGKILL)
        said += [line for line in process.stdout if line.endswith(b"\n")]
    return {line.decode().strip() for line in said}


async def test_what_was_acknowledged_survives_sigkill(database: Path) -> None:
    """However the process ends, and whatever it was writing meanwhile."""
    acknowledged = await anyio.to_thread.run_sync(acknowledged_until_sigkill, database)
    async with sqlite.opened(database) as storage:
        kept = await storage.claim("me", limit=1_000_000, lease=LEASE, now=NOW)
    assert acknowledged <= {item.id for item in kept}


async def test_leases_of_a_dead_process_end_at_once(database: Path) -> None:
    """The file is ours alone, so nobody else can still be working."""
    async with sqlite.opened(database) as storage:
        await storage.accept(delivery("1"), now=NOW)
        await storage.lock("refs", "dead", lease=1e9, now=NOW)
        await claim(storage, "dead")
    async with sqlite.opened(database) as storage:
        (item,) = await storage.claim("alive", limit=1, lease=LEASE, now=NOW)
        assert (item.attempts, item.crashes) == (2, 1)
        assert await storage.lock("refs", "alive", lease=1, now=NOW)


async def test_a_lane_is_read_whole_and_ids_are_looked_up(storage: Storage) -> None:
    """Ended work, too; other lanes are left out."""
    for id_, lane in (("one", "1/7"), ("two", "1/8"), ("three", "1/7")):
        await storage.accept(delivery(id_, lane=lane), now=NOW)
    (item, _) = await storage.claim("me", limit=9, lease=60, now=NOW)
    await storage.finish("me", item.seq, state=State.DONE, now=NOW)
    found = await storage.lane("1/7")
    assert [json.loads(body)["pull_request"]["title"] for _, _, body in found] == ["one", "three"]
    assert [event for event, _, _ in found] == ["pull_request"] * 2
    assert await storage.known(["one", "three", "four"]) == {"one", "three"}
    assert await storage.known([]) == frozenset()
