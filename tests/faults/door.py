"""What stands between GitHub and the daemon's webhook, and loses a delivery at a chosen moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream

Moment = Literal["before it is read", "when half of it is read", "after it is stored"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)


@dataclass(eq=False)
class Door:
    """A connection that comes is kept at the moment, and lost without an answer once `lost` is set."""

    moment: Moment
    daemon: int  # its port
    port: int = 0
    reached: anyio.Event = field(default_factory=anyio.Event)
    lost: anyio.Event = field(default_factory=anyio.Event)

    async def pass_through(self, github: SocketStream) -> None:
        async with github, await anyio.connect_tcp("127.0.0.1", self.daemon) as daemon:
            match self.moment:
                case "when half of it is read":
                    first = await github.receive()
                    await daemon.send(first[: len(first) // 2])
                case "after it is stored":
                    await answered(github, daemon)
            self.reached.set()
            await self.lost.wait()


async def answered(github: SocketStream, daemon: SocketStream) -> None:
    """The daemon has the whole request and has begun to answer."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pump, github, daemon)
        await daemon.receive()
        tasks.cancel_scope.cancel()


async def pump(source: ByteReceiveStream, sink: ByteSendStream) -> None:
    async for part in source:
        await sink.send(part)


@asynccontextmanager
async def opened(moment: Moment, daemon: int) -> AsyncIterator[Door]:
    """A door before the daemon's port, closed at the end."""
    door = Door(moment, daemon)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        door.port = listener.extra(SocketAttribute.local_port)
        tasks.start_soon(listener.serve, door.pass_through)
        try:
            yield door
        finally:
            tasks.cancel_scope.cancel()
