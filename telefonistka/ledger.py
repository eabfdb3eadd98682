"""What we pinned, opened and did, as typed documents over the storage.

What belongs here: documents go in and come out as the frozen dataclasses that handlers define. What they mean is
the handlers' business.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import anyio
from pydantic import TypeAdapter

from telefonistka.errors import TryAgain
from telefonistka.storage import Storage, Unavailable
from telefonistka.telemetry import log

T = TypeVar("T")

_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # building one costs milliseconds

LOCK_LEASE = 120.0  # seconds; renewed at a third of it, short enough after a crash
LOCK_WAIT = 60.0  # seconds; beyond that the inbox waits better than we do
LOCK_POLL = 0.2  # seconds


class Ledger:
    """Documents by kind and key, and the locks that keep two writers of the same thing apart."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time, lease: float = LOCK_LEASE) -> None:
        self._storage = storage
        self._clock = clock
        self._lease = lease

    async def get(self, kind: str, key: str, type_: type[T]) -> T | None:
        """The document; None: there is none. Raises ValueError where it is not a `type_`."""
        stored = await self._storage.get(kind, key)
        return None if stored is None else _adapter(type_).validate_python(json.loads(stored))

    async def every(self, kind: str, type_: type[T]) -> list[T]:
        """All documents of a kind; one that is not a `type_` is left out, with a word in the log."""
        found = []
        for key, stored in (await self._storage.documents(kind)).items():
            try:
                found.append(_adapter(type_).validate_python(json.loads(stored)))
            except ValueError as error:
                log.warning("a document cannot be read", kind=kind, key=key, reason=str(error))
        return found

    async def put(self, kind: str, key: str, value: object) -> None:
        """The document is on disk, in the place of an earlier one."""
        # The json module keeps what orjson and pydantic's own JSON refuse: paths that are not UTF-8, which we hold
        # as text with surrogate escapes.
        document = json.dumps(_adapter(type(value)).dump_python(value), default=sorted, separators=(",", ":"))
        await self._storage.put(kind, key, document.encode("ascii"))

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Nobody else holds the lock meanwhile, however long that takes.

        Raises TryAgain where it does not come free, and where it is lost, with the work stopped.
        """
        owner, failure = uuid4().hex, None
        try:
            held = await self._taken(name, owner)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep, held, tasks.cancel_scope)
                try:
                    yield
                except Exception as error:  # raised below, for out of here it would come as a group
                    failure = error
                tasks.cancel_scope.cancel()
            if failure is not None:
                raise failure
            if held.lost:
                raise TryAgain(f"someone else has taken the lock on {name}")
        finally:
            # Also after a cancelled wait, which may have taken the lock before it noticed.
            with anyio.CancelScope(shield=True):
                await self._storage.unlock(name, owner)

    async def _taken(self, name: str, owner: str) -> _Held:
        deadline = self._clock() + LOCK_WAIT
        while True:
            now = self._clock()
            if await self._storage.lock(name, owner, lease=self._lease, now=now):
                return _Held(name, owner, until=now + self._lease)
            if self._clock() >= deadline:
                raise TryAgain(f"someone else holds the lock on {name}")
            await anyio.sleep(LOCK_POLL)

    async def _keep(self, held: _Held, work: anyio.CancelScope) -> None:
        """The lock is renewed in time; returns where it is not ours any more, with the work cancelled."""
        while not held.lost:
            await anyio.sleep(self._lease / 3)
            now = self._clock()
            try:
                held.lost = not await self._storage.lock(held.name, held.owner, lease=self._lease, now=now)
            except Unavailable as error:
                log.warning("a lock cannot be renewed", name=held.name, reason=str(error))
                held.lost = now >= held.until
            else:
                held.until = now + self._lease
        work.cancel()


@dataclass(slots=True)
class _Held:
    """A lock of ours."""

    name: str
    owner: str
    until: float
    lost: bool = False


def _adapter(type_: Any) -> TypeAdapter[Any]:
    if type_ not in _ADAPTERS:
        _ADAPTERS[type_] = TypeAdapter(type_)
    return _ADAPTERS[type_]
