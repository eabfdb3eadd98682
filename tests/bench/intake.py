"""How many deliveries the daemon makes durable in a second, and how long an answer takes.

    python -m tests.bench.intake [--quick]

The daemon has one core, and the sender the others. First it is kept busy by a number of connections; then half of
what it did arrives open-loop: a delivery's time runs from when it was to be sent. Every answer is a 202, which says
that the delivery is on disk; at the end they are counted there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from telefonistka.sandbox import scenes, server
from tests.bench import load
from tests.bench.load import Daemon, Line, Spread

CONNECTIONS = 64
SIZE = 10_000  # bytes
IDLE = 0.05  # seconds of CPU in half a second

Make = Callable[[str], tuple[bytes, bytes]]
ALONE = "nothing but the intake"
KINDS: dict[str, Make] = {
    ALONE: lambda id_: load.pull_request(id_, SIZE),
    "pull_request, done by the worker": lambda id_: load.pull_request(id_, SIZE),
    "push, relayed to one sink": lambda id_: load.push(id_, "one", SIZE),
}


async def saturated(line: Line, made: list[tuple[bytes, bytes]]) -> float:
    """Deliveries a second, by so many connections that always wait for one answer each."""
    left = iter(made)

    async def one() -> None:
        for head, body in left:
            status = await line.send(head, body)
            assert status == 202, status

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return len(made) / (time.perf_counter() - began)


async def open_loop(line: Line, made: list[tuple[bytes, bytes]], rate: float) -> list[float]:
    """How long each answer took, in seconds since it was to be sent."""
    start, took = time.perf_counter() + 0.05, []

    async def one(number: int, head: bytes, body: bytes) -> None:
        await line.send(head, body)
        took.append(time.perf_counter() - start - number / rate)

    async with asyncio.TaskGroup() as tasks:
        for number, (head, body) in enumerate(made):
            if (wait := start + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(one(number, head, body))
    return took


async def idle(daemon: Daemon) -> None:
    """The daemon has done what was left to do."""
    while True:
        before = daemon.usage().cpu
        await asyncio.sleep(0.5)
        if daemon.usage().cpu - before < IDLE:
            return


async def measure(directory: Path, *, most: int, half: float) -> None:
    print(f"{'10 KB, durable':<36} {'a second':>9} {'CPU each':>9}   at half load: a second, p50 p90 p99 max in ms")
    cores = sorted(os.sched_getaffinity(0))
    load.pin(cores[1:])
    async with server.running(directory / "github") as box, load.sinks(1) as sinks:
        box.tokens["token"] = box.bot("the-bot")
        rule = f"- expression: ^one/.*\n  replacements: ['http://127.0.0.1:{sinks.ports[0]}/api/webhook']\n"
        scenes.repository(box, "acme", "iac", {"telefonistka.yaml": f"webhookEndpointRegexs:\n{rule}"})
        for number, (name, make) in enumerate(KINDS.items()):
            state = directory / f"state-{number}"
            state.mkdir()
            command = ("-m", "tests.bench.door", str(state)) if name == ALONE else load.SERVER
            async with load.daemon(state, box.url, command=command) as daemon:
                load.pin(cores[:1], daemon.process.pid)
                for thread in os.listdir(f"/proc/{daemon.process.pid}/task"):
                    load.pin(cores[:1], int(thread))
                await _row(name, make, daemon, most=most, half=half)
            print(f"{'':<36} {_stored(state / 'telefonistka.db'):,} on disk")


async def _row(name: str, make: Make, daemon: Daemon, *, most: int, half: float) -> None:
    line = Line(daemon.port)
    await line.warm(CONNECTIONS)
    await saturated(line, [make(f"{name}-warm-{number}".replace(" ", "-").replace(",", "")) for number in range(200)])
    await asyncio.sleep(0.5)
    safe = name.replace(" ", "-").replace(",", "")
    made = [make(f"{safe}-full-{number}") for number in range(most)]
    before = daemon.usage()
    rate = await saturated(line, made)
    cpu = (daemon.usage().cpu - before.cpu) / len(made)
    await idle(daemon)
    made = [make(f"{safe}-half-{number}") for number in range(int(rate / 2 * half))]
    took = Spread.of(await open_loop(line, made, rate / 2))
    print(f"{name:<36} {rate:9,.0f} {cpu * 1e6:6.0f} µs   {rate / 2:9,.0f} {took}", flush=True)
    await line.close()


def _stored(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        return int(connection.execute("SELECT count(*) FROM inbox").fetchone()[0])
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A second in the place of many; its figures say little.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        most, half = (500, 0.5) if given.quick else (20_000, 5.0)
        asyncio.run(measure(Path(directory), most=most, half=half))


if __name__ == "__main__":
    main()
