"""How much the relay adds, how much it carries, and what bad endpoints cost the others.

    python -m tests.bench.relay [--quick] [plain] [delayed] [tls] [bad] [full] [full-tls] [backlog]

Arrivals are open-loop: a delivery's time runs from when it was to be sent, whoever was slow. Blocks that send to the
sinks directly and blocks that send through the daemon alternate; what is added is the difference of their percentiles.
Three processes share the machine: this one, which sends, the daemon, and the sinks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from telefonistka.sandbox import scenes, server
from telefonistka.sandbox.faults import Rule
from telefonistka.sandbox.tls import AUTHORITY
from tests.bench import load
from tests.bench.load import Daemon, Line, Sinks, Spread

SINKS = 100
AHEAD = 200  # events that are sent before those before them have arrived
HEALTHY = 36  # endpoints beside the four bad ones


@dataclass(frozen=True)
class Scale:
    """How long it takes."""

    blocks: int = 5  # of each kind, alternating
    seconds: float = 2.0  # of a block
    burst: int = 30_000  # deliveries at saturation
    queued: int = 1000  # for each of 100 endpoints


QUICK = Scale(blocks=2, seconds=0.5, burst=2_000, queued=20)


@dataclass(frozen=True)
class Place:
    """What is different about it."""

    tls: bool = False
    bad: bool = False  # there are bad endpoints, too
    delay: int = 0  # milliseconds before GitHub answers


@dataclass
class Bench:
    """Everything that runs."""

    scale: Scale
    daemon: Daemon
    line: Line
    sinks: Sinks
    direct: list[Line]
    last: int = 0

    def id(self) -> str:
        self.last += 1
        return f"{os.getpid()}-{self.last}"

    async def through(self, directory: str, size: int, rate: float, seconds: float, fan_out: int) -> list[float]:
        """The latency of each delivery that went through the daemon."""
        requests = [(id_, *load.push(id_, directory, size)) for id_ in (self.id() for _ in range(int(rate * seconds)))]
        await self.sinks.ask("take")

        async def one(head: bytes, body: bytes) -> None:
            status = await self.line.send(head, body)
            assert status == 202, status

        meant = await _open_loop([lambda head=head, body=body: one(head, body) for _, head, body in requests], rate)
        came = await self.sinks.got(len(requests) * fan_out)
        started = dict(zip((id_ for id_, _, _ in requests), meant, strict=True))
        return [at - started[id_] for id_, _, at in came]

    async def straight(self, directory: str, size: int, rate: float, seconds: float, fan_out: int) -> list[float]:
        """The latency of each delivery that was sent to the sinks at once."""
        requests = [(id_, *load.push(id_, directory, size)) for id_ in (self.id() for _ in range(int(rate * seconds)))]
        await self.sinks.ask("take")

        async def one(head: bytes, body: bytes) -> None:
            await asyncio.gather(*(line.send(head, body) for line in self.direct[:fan_out]))

        meant = await _open_loop([lambda head=head, body=body: one(head, body) for _, head, body in requests], rate)
        came = await self.sinks.got(len(requests) * fan_out)
        started = dict(zip((id_ for id_, _, _ in requests), meant, strict=True))
        return [at - started[id_] for id_, _, at in came]

    async def latency(self, name: str, directory: str, size: int, rate: float, fan_out: int) -> Spread:
        """The alternating blocks, as a row of the table."""
        through: list[float] = []
        straight: list[float] = []
        await self.through(directory, size, rate, 0.2, fan_out)
        await self.straight(directory, size, rate, 0.2, fan_out)
        before, began = self.daemon.usage(), time.perf_counter()
        for _ in range(self.scale.blocks):
            straight += await self.straight(directory, size, rate, self.scale.seconds, fan_out)
            through += await self.through(directory, size, rate, self.scale.seconds, fan_out)
        used = self.daemon.usage()
        cpu = (used.cpu - before.cpu) / len(through) * 1e6
        busy = (used.cpu - before.cpu) / (time.perf_counter() - began) * 200
        one, other = Spread.of(straight), Spread.of(through)
        print(f"{name:<34} {one} | {other} | {other - one}   {cpu:5.0f} µs {busy:4.0f} %", flush=True)
        return other - one

    async def saturation(self, name: str, directory: str, fan_out: int) -> float:
        """Deliveries for each second of the daemon's CPU, in a burst."""
        await self._burst(directory, self.scale.burst // fan_out // 4, fan_out)  # makes the connections
        events = self.scale.burst // fan_out
        before, began = self.daemon.usage(), time.perf_counter()
        await self._burst(directory, events, fan_out)
        seconds, used = time.perf_counter() - began, self.daemon.usage()
        cpu = used.cpu - before.cpu
        total = events * fan_out
        print(
            f"{name:<34} {total:7,} deliveries in {seconds:5.2f} s: {total / seconds:7,.0f} a second; "
            f"{total / cpu:7,.0f} a second of CPU ({cpu / total * 1e6:.0f} µs each)",
            flush=True,
        )
        return total / cpu

    async def _burst(self, directory: str, events: int, fan_out: int) -> None:
        """So many events as fast as they are taken; returns when all have arrived."""
        requests = [load.push(self.id(), directory, 10_000) for _ in range(events)]
        await self.sinks.ask("take")
        for start in range(0, events, AHEAD // 4):
            await asyncio.gather(*(self.line.send(*one) for one in requests[start : start + AHEAD // 4]))
            # An endpoint's queue holds 1,000; what is beyond would be dropped.
            while start * fan_out - await self.sinks.ask("count") > AHEAD * fan_out // 2:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.005)
        await self.sinks.got(events * fan_out, deadline=120)

    async def backlog(self) -> None:
        """Every endpoint is busy until all is queued; then all of it goes out."""
        await self.sinks.ask("busy")
        before = self.daemon.usage()
        requests = [load.push(self.id(), "all", 10_000) for _ in range(self.scale.queued)]
        await self.sinks.ask("take")
        for start in range(0, len(requests), 16):
            await asyncio.gather(*(self.line.send(*one) for one in requests[start : start + 16]))
        queued = self.daemon.usage()
        await self.sinks.ask("open")
        began, most = time.perf_counter(), queued.rss
        total = self.scale.queued * SINKS
        while (count := await self.sinks.ask("count")) < total and time.perf_counter() - began < 240:
            most = max(most, self.daemon.usage().rss)
            await asyncio.sleep(0.2)
        first = min((at for _, _, at in await self.sinks.ask("take")), default=began)
        seconds, after = time.perf_counter() - first, self.daemon.usage()
        print(
            f"{count:,} of {total:,} queued deliveries went out in {seconds:.1f} s ({count / seconds:,.0f} a second; "
            f"the first {first - began:.1f} s after the endpoints were back); RSS {before.rss:.0f} MB at the start, "
            f"{queued.rss:.0f} queued, {most:.0f} at most, {after.rss:.0f} at the end; descriptors "
            f"{before.descriptors}, {queued.descriptors}, {after.descriptors}",
            flush=True,
        )


async def _open_loop(acts: Sequence[object], rate: float) -> list[float]:
    """Begins each act when it is its time, whatever became of the others; the times that were meant."""
    start, meant = time.perf_counter() + 0.02, []
    async with asyncio.TaskGroup() as tasks:
        for number, act in enumerate(acts):
            meant.append(start + number / rate)
            if (wait := meant[-1] - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(act())  # type: ignore[operator]
    return meant


@asynccontextmanager
async def running(scale: Scale, where: Path, place: Place) -> AsyncIterator[Bench]:
    tls, delay = place.tls, place.delay
    where.mkdir()
    async with AsyncExitStack() as stack:
        sinks = await stack.enter_async_context(load.sinks(SINKS, tls=where if tls else None, bad=place.bad))
        box = await stack.enter_async_context(server.running(where / "github"))
        box.tokens["token"] = box.bot("the-bot")
        scenes.repository(box, "acme", "iac", {"telefonistka.yaml": _rules(sinks.ports, tls=tls)})
        if delay:
            box.rules.rules.append(Rule(action="delay", ms=delay))
        more = {"TELEFONISTKA_RELAY_CA_FILE": str(where / AUTHORITY)} if tls else {}
        daemon = await stack.enter_async_context(load.daemon(where / "state", box.url, **more))
        context = ssl.create_default_context(cafile=where / AUTHORITY) if tls else None
        line = Line(daemon.port)
        direct = [Line(port, "/api/webhook", context) for port in sinks.ports[:SINKS]]
        stack.push_async_callback(line.close)
        for one in direct:
            stack.push_async_callback(one.close)
        yield Bench(scale, daemon, line, sinks, direct)


def _rules(ports: Sequence[int], *, tls: bool) -> str:
    """`one`, `ten` and `all` go to so many; `bad` to the healthy ones beside the bad, `well` to the healthy alone."""
    urls = [f"http{'s' * tls}://127.0.0.1:{port}/api/webhook" for port in ports]
    good, bad = urls[:SINKS], urls[SINKS:]
    groups = {"one": good[:1], "ten": good[:10], "all": good, "well": good[:HEALTHY], "bad": good[:HEALTHY] + bad}
    listed = "".join(
        f"- expression: ^{name}/.*\n  replacements:\n" + "".join(f"  - {url}\n" for url in group)
        for name, group in groups.items()
    )
    return f"webhookEndpointRegexs:\n{listed}"


HEAD = (
    f"{'':<34} {'sent directly':<32} | {'through the daemon':<32} | {'added':<32}   CPU of the daemon\n"
    f"{'milliseconds':<34} " + " | ".join(["    p50     p90     p99      max"] * 3) + "   each, of a core"
)


async def plain(bench: Bench) -> None:
    start = bench.daemon.usage()
    await bench.latency("10 KB to 1, 50/s", "one", 10_000, 50, 1)
    await bench.latency("10 KB to 10, 50/s", "ten", 10_000, 50, 10)
    await bench.latency("10 KB to 100, 10/s", "all", 10_000, 10, 100)
    await bench.latency("200 KB to 1, 50/s", "one", 200_000, 50, 1)
    await bench.latency("200 KB to 10, 20/s", "ten", 200_000, 20, 10)
    end = bench.daemon.usage()
    print(f"RSS {start.rss:.0f} → {end.rss:.0f} MB, descriptors {start.descriptors} → {end.descriptors}")


async def delayed(bench: Bench) -> None:
    await bench.latency("10 KB to 10, 50/s, GitHub 100 ms", "ten", 10_000, 50, 10)


async def tls(bench: Bench) -> None:
    await bench.latency("TLS, 10 KB to 10, 50/s", "ten", 10_000, 50, 10)
    await bench.latency("TLS, 10 KB to 100, 10/s", "all", 10_000, 10, 100)


async def bad(bench: Bench) -> None:
    await bench.latency(f"10 KB to {HEALTHY}, 10/s", "well", 10_000, 10, HEALTHY)
    await bench.latency(f"10 KB to {HEALTHY} beside 4 bad, 10/s", "bad", 10_000, 10, HEALTHY)


async def full(bench: Bench) -> None:
    start = bench.daemon.usage()
    await bench.saturation("10 KB to 10, saturated", "ten", 10)
    await bench.saturation("10 KB to 100, saturated", "all", 100)
    end = bench.daemon.usage()
    print(f"RSS {start.rss:.0f} → {end.rss:.0f} MB, descriptors {start.descriptors} → {end.descriptors}")


PARTS: dict[str, tuple[Place, Callable[[Bench], Awaitable[None]]]] = {
    "plain": (Place(), plain),
    "delayed": (Place(delay=100), delayed),
    "tls": (Place(tls=True), tls),
    "bad": (Place(bad=True), bad),
    "full": (Place(), full),
    "full-tls": (Place(tls=True), full),
    "backlog": (Place(), Bench.backlog),
}


async def measure(scale: Scale, directory: Path, parts: Sequence[str] = ()) -> None:
    print(HEAD)
    for name in parts or PARTS:
        place, part = PARTS[name]
        async with running(scale, directory / name, place) as bench:
            print(f"-- {name}", flush=True)
            await part(bench)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Seconds in the place of minutes; its figures say little.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"One of {', '.join(PARTS)}.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(QUICK if given.quick else Scale(), Path(directory), given.parts))


if __name__ == "__main__":
    main()
