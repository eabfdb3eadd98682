"""The intake alone: the server over a storage, without a worker and a relay. `python -m tests.bench.door STATE`."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from telefonistka import daemon, server, telemetry
from telefonistka.inbox import Inbox
from telefonistka.storage import sqlite
from tests.bench.load import SECRET


async def serve(state: Path) -> None:
    telemetry.configure("warn")
    async with (
        sqlite.opened(state / "telefonistka.db") as storage,
        server.serving(Inbox(storage), [SECRET], host="127.0.0.1", port=0),
    ):
        daemon.collect_rarely()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(serve, Path(sys.argv[1]))
