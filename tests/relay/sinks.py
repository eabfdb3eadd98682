"""Receivers on loopback that behave as Argo CDs do on their good and bad days, and a journal that remembers."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio

from telefonistka import wire
from telefonistka.core.fanout import Endpoint
from telefonistka.relay import Debt, Ending, Result
from telefonistka.storage import Headers, Unavailable
from telefonistka.wire import Policy

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
HERE = Policy(allowed_networks=LOOPBACK)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 43\r\n\r\nQueue is full, discarding webhook payload\r\n"
HEADERS = (
    ("Content-Type", "application/json"),
    ("User-Agent", "GitHub-Hookshot/044aadd"),
    ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
    ("X-GitHub-Event", "push"),
    ("X-GitHub-Hook-ID", "292430182"),
    ("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
)


@dataclass(frozen=True)
class Request:
    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Sink:
    """A receiver. `answers` are given in turn, the last one for ever: bytes, or "reset", "hang", "drip"."""

    answers: list[bytes | str] = field(default_factory=lambda: [OK])
    port: int = 0
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    most: int = 0  # requests that were open at once
    _open: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def endpoint(self, target: str = "/api/webhook", host: str = "127.0.0.1", *, verify: bool = True) -> Endpoint:
        return Endpoint(self.scheme, host, self.port, target, verify)

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]

    async def got(self, number: int) -> None:
        """Waits until so many requests are there."""
        with anyio.fail_after(20):
            while len(self.requests) < number:
                self._news = asyncio.Event()
                await self._news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                request = await _request(reader)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                self.requests.append(request)
                self._news.set()
                self._open += 1
                self.most = max(self.most, self._open)
                try:
                    if not await _answered(answer, reader, writer):
                        break
                finally:
                    self._open -= 1
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def _request(reader: asyncio.StreamReader) -> Request:
    line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    pairs = tuple((name, value) for name, _, value in (header.partition(": ") for header in headers))
    length = next(int(value) for name, value in pairs if name == "Content-Length")
    return Request(line, pairs, await reader.readexactly(length))


async def _answered(answer: bytes | str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Gives the answer; whether the connection goes on."""
    match answer:
        case bytes():
            writer.write(answer)
            await writer.drain()
            return b"Connection: close" not in answer
        case "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        case "hang":
            await reader.read()
            return False
        case "drip":
            with suppress(ConnectionError):
                for byte in OK:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1)
            return False
    raise AssertionError(answer)


@asynccontextmanager
async def listening(*answers: bytes | str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Sink]:
    sink = Sink(list(answers) or [OK], scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await sink.serve(reader, writer)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def wired(policy: Policy = HERE) -> AsyncIterator[wire.Wire]:
    line = wire.Wire(policy)
    try:
        yield line
    finally:
        await line.close()


class Journal:
    """What the relay asks of a storage, in memory."""

    def __init__(self) -> None:
        self.debts: dict[tuple[str, Endpoint], Debt] = {}
        self.dead: dict[tuple[str, Endpoint], Result] = {}
        self.letters: dict[str, tuple[Headers, bytes]] = {}
        self.writes = 0
        self.fails = 0  # writes that fail from now on
        self._news = asyncio.Event()

    async def owe(self, delivery: str, endpoints: Sequence[Endpoint], *, received: float) -> None:
        self._write()
        for endpoint in endpoints:
            debt = Debt(delivery=delivery, received=received, endpoint=endpoint)
            self.debts.setdefault((delivery, endpoint), debt)

    async def record(self, results: Sequence[Result]) -> None:
        self._write()
        for result in results:
            debt = self.debts.pop((result.delivery, result.endpoint), None)
            if result.ending is Ending.RETRY:
                assert debt is not None
                self.debts[result.delivery, result.endpoint] = Debt(
                    delivery=debt.delivery,
                    received=debt.received,
                    endpoint=debt.endpoint,
                    attempts=result.attempts,
                    due=result.due,
                )
            elif result.ending is Ending.DEAD:
                self.dead[result.delivery, result.endpoint] = result
        self._news.set()

    async def owed(self) -> Sequence[Debt]:
        return sorted(self.debts.values(), key=lambda debt: debt.received)

    async def fetch(self, delivery: str) -> tuple[Headers, bytes] | None:
        return self.letters.get(delivery)

    async def revive(self, delivery: str, endpoints: Sequence[Endpoint], *, now: float) -> Sequence[Debt]:
        keys = [key for key in self.dead if key[0] == delivery and (not endpoints or key[1] in endpoints)]
        for key in keys:
            del self.dead[key]
            self.debts[key] = Debt(delivery=delivery, received=now, endpoint=key[1])
        return [self.debts[key] for key in keys]

    def _write(self) -> None:
        self.writes += 1
        if self.fails:
            self.fails -= 1
            raise Unavailable("the disk is full")

    async def until(self, *, debts: int | None = None, dead: int | None = None, attempts: int = 0) -> None:
        """Waits until so much is left, and a debt has had so many attempts."""

        def reached() -> bool:
            return (
                debts in (None, len(self.debts))
                and dead in (None, len(self.dead))
                and (not attempts or any(debt.attempts >= attempts for debt in self.debts.values()))
            )

        with anyio.fail_after(20):
            while not reached():
                self._news = asyncio.Event()
                await self._news.wait()
