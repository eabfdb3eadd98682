"""What GitHub does a while after it has answered: one thing after the other, in the background."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.abc


@dataclass(eq=False)
class Errands:
    """The work that is under way; a test waits for `idle()`."""

    under_way: int = 0
    _turn: anyio.Lock = field(default_factory=anyio.Lock)
    _idle: anyio.Event | None = None

    def start(self, tasks: anyio.abc.TaskGroup | None, do: Callable[[], Awaitable[None]]) -> None:
        """It is done as soon as what was begun before is; where nothing runs in the background, never."""
        if tasks is None:
            return
        self.under_way += 1
        tasks.start_soon(self._run, do)

    async def idle(self) -> None:
        """Returns when nothing is under way."""
        while self.under_way:
            self._idle = self._idle or anyio.Event()
            await self._idle.wait()

    async def _run(self, do: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._turn:
                await do()
        finally:
            self.under_way -= 1
            if not self.under_way and self._idle is not None:
                self._idle.set()
                self._idle = None
