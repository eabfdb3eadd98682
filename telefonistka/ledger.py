"""What we pinned, opened and did, as typed documents over the storage.

What belongs here: documents go in and come out as the frozen dataclasses that handlers define. What they mean is
the handlers' business.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import anyio
from pydantic import TypeAdapter

from telefonistka.errors import TryAgain
from telefonistka.storage import Storage
from telefonistka.telemetry import log

T = TypeVar("T")

_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # building one costs milliseconds

LOCK_LEASE = 120.0  # seconds; longer than the few calls that need one, short enough after a crash
LOCK_WAIT = 60.0  # seconds; beyond that the inbox waits better than we do
LOCK_POLL = 0.2  # seconds


class Ledger:
    """Documents by kind and key, and the locks that keep two writers of the same thing apart."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock

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
        """Nobody else holds the lock meanwhile; raises TryAgain where it does not come free."""
        owner, deadline = uuid4().hex, self._clock() + LOCK_WAIT
        try:
            while not await self._storage.lock(name, owner, lease=LOCK_LEASE, now=self._clock()):
                if self._clock() >= deadline:
                    raise TryAgain(f"someone else holds the lock on {name}")
                await anyio.sleep(LOCK_POLL)
            yield
        finally:
            # Also after a cancelled wait, which may have taken the lock before it noticed.
            with anyio.CancelScope(shield=True):
                await self._storage.unlock(name, owner)


def _adapter(type_: Any) -> TypeAdapter[Any]:
    if type_ not in _ADAPTERS:
        _ADAPTERS[type_] = TypeAdapter(type_)
    return _ADAPTERS[type_]
