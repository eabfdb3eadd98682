"""What the ledger keeps comes back as it was."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest

from telefonistka.core.trees import Edit, Entry, Oid, Sha
from telefonistka.ledger import Ledger
from telefonistka.storage import Storage


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
