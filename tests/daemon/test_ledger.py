"""What the ledger keeps comes back as it was."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest

from telefonistka.core.trees import Edit, Entry, Oid, Sha
from telefonistka.errors import TryAgain
from telefonistka.ledger import Ledger
from telefonistka.storage import Storage
from tests.daemon.values import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    commit: Sha | None
    edits: tuple[Edit, ...] = ()
    hops: dict[int, tuple[str, ...]] | None = None
    names: frozenset[str] = frozenset()


async def test_a_document_comes_back_equal(storage: Storage) -> None:
    """Nested values, keys that are numbers, and paths that are not UTF-8."""
    odd = b"caf\xe9/\xff".decode("utf-8", "surrogateescape")
    record = Record(
        commit=Sha("a" * 40),
        edits=(Edit(odd, Entry("100644", Oid("b" * 40))), Edit("é\u2028/x", None)),
        hops={10: (odd,), 9: ()},
        names=frozenset({"b", odd}),
    )
    ledger = Ledger(storage)
    assert await ledger.get("record", "1", Record) is None
    await ledger.put("record", "1", record)
    assert await ledger.get("record", "1", Record) == record


async def test_a_document_of_another_shape_is_an_error(storage: Storage) -> None:
    """Never half a value."""
    await storage.put("record", "1", b'{"edits": 5}')
    with pytest.raises(ValueError, match="2 validation errors for Record"):
        await Ledger(storage).get("record", "1", Record)


async def test_a_lock_keeps_two_apart(storage: Storage) -> None:
    """One after the other, whoever comes first."""
    inside: list[str] = []

    async def act(ledger: Ledger, name: str) -> None:
        async with ledger.locked("refs/1"):
            inside.append(f"{name} in")
            await anyio.lowlevel.checkpoint()
            inside.append(f"{name} out")

    async with anyio.create_task_group() as tasks:
        for name in "ab":
            tasks.start_soon(act, Ledger(storage), name)
    assert inside in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


LEASE = 0.3  # seconds


class Watched(Clock):
    """A clock that tells when it is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.look = anyio.Event()

    def __call__(self) -> float:
        self.look.set()
        return super().__call__()

    async def seen(self) -> None:
        """Somebody has looked at it."""
        self.look = anyio.Event()
        with anyio.fail_after(20):
            await self.look.wait()


async def test_a_lock_is_held_beyond_its_lease(storage: Storage) -> None:
    """Whoever holds it renews it, so that slow work stays alone."""
    clock = Watched()
    async with Ledger(storage, clock=clock, lease=LEASE).locked("refs/1"):
        for _ in range(4):
            clock.passes(LEASE / 2)
            for _ in range(2):  # with the second one the renewal of the first has ended
                await clock.seen()
            assert not await storage.lock("refs/1", "somebody else", lease=LEASE, now=clock.now)
    assert await storage.lock("refs/1", "somebody else", lease=LEASE, now=clock.now)


async def test_work_stops_when_its_lock_is_lost(storage: Storage) -> None:
    """Somebody else has it: the work is done again later, and their lock stays theirs."""
    clock = Clock()

    async def work() -> None:
        async with Ledger(storage, clock=clock, lease=LEASE).locked("refs/1"):
            assert await storage.lock("refs/1", "somebody else", lease=LEASE, now=clock.now + LEASE)
            await anyio.sleep_forever()

    with anyio.fail_after(20), pytest.raises(TryAgain, match="has taken the lock on refs/1"):
        await work()
    assert not await storage.lock("refs/1", "a third", lease=LEASE, now=clock.now)


async def test_what_fails_under_a_lock_fails_as_without_it(storage: Storage) -> None:
    """The very error, and the lock is free."""
    ledger, error = Ledger(storage), TryAgain("later")
    with pytest.raises(TryAgain) as raised:
        async with ledger.locked("refs/1"):
            raise error
    assert raised.value is error
    async with ledger.locked("refs/1"):
        pass
