"""What both benchmarks need: the daemon and the sinks as processes, a sender, percentiles, and what a process uses."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import os
import ssl
import sys
import time
import zlib
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

SECRET = b"secret"
SERVER = ("-m", "telefonistka", "server")
TICKS = os.sysconf("SC_CLK_TCK")
LISTENS = 30.0  # seconds that a process has until it listens
PIPE_LIMIT = 256 << 20  # bytes of one line of a sink's


# Figures


def percentile(values: Sequence[float], percent: float) -> float:
    """Of sorted values; nan where there are none."""
    return values[min(len(values) - 1, math.ceil(len(values) * percent / 100) - 1)] if values else math.nan


@dataclass(frozen=True)
class Spread:
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        values = sorted(value * 1000 for value in seconds)
        return cls(*(percentile(values, percent) for percent in (50, 90, 99, 100)))

    def __sub__(self, other: Spread) -> Spread:
        return Spread(self.p50 - other.p50, self.p90 - other.p90, self.p99 - other.p99, self.max - other.max)

    def __str__(self) -> str:
        return f"{self.p50:7.2f} {self.p90:7.2f} {self.p99:7.2f} {self.max:8.2f}"


@dataclass(frozen=True)
class Usage:
    """What a process has used, and uses."""

    cpu: float  # seconds
    rss: float  # MB
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        rss = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        return cls((int(fields[11]) + int(fields[12])) / TICKS, rss, len(os.listdir(f"/proc/{pid}/fd")))


# Deliveries


def push(id_: str, directory: str, size: int) -> tuple[bytes, bytes]:
    """A push that changes a file below the directory: its request's head but for the Host, and its body."""
    payload: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": "1" * 40,
        "after": "2" * 40,
        "created": False,
        "deleted": False,
        "forced": False,
        "commits": [{"id": id_, "added": [], "removed": [], "modified": [f"{directory}/values.yaml"]}],
        "repository": {"id": 1, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"},
        "id": id_,
    }
    return _request(id_, "push", payload, size)


def pull_request(id_: str, size: int) -> tuple[bytes, bytes]:
    """A change of a pull request's text, which asks nothing of anybody but to be kept; each is of another one."""
    number = zlib.crc32(id_.encode())
    pull = {
        "number": number,
        "title": id_,
        "body": None,
        "merged": False,
        "merge_commit_sha": None,
        "user": {"login": "alice"},
        "base": {"ref": "main", "sha": "a" * 40},
        "head": {"ref": "change", "sha": "b" * 40},
    }
    repository = {"id": 1, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"}
    payload = {"action": "edited", "number": number, "pull_request": pull, "repository": repository}
    return _request(id_, "pull_request", payload, size)


def _request(id_: str, event: str, payload: dict[str, Any], size: int) -> tuple[bytes, bytes]:
    payload["padding"] = "x" * max(0, size - len(orjson.dumps(payload)) - len(',"padding":""'))
    body = orjson.dumps(payload)
    head = (
        f"Content-Type: application/json\r\nUser-Agent: GitHub-Hookshot/bench\r\nX-GitHub-Event: {event}\r\n"
        f"X-GitHub-Delivery: {id_}\r\nContent-Length: {len(body)}\r\n"
        f"X-Hub-Signature-256: sha256={hmac.new(SECRET, body, hashlib.sha256).hexdigest()}\r\n\r\n"
    )
    return head.encode(), body


class Line:
    """Warm connections to one place; a request takes one that is free, or makes one."""

    def __init__(self, port: int, path: str = "/webhook", context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
        self._context = context
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def warm(self, connections: int) -> None:
        self._free += [await self._connected() for _ in range(connections)]

    async def send(self, head: bytes, body: bytes) -> int:
        """The answer's status."""
        reader, writer = self._free.pop() if self._free else await self._connected()
        writer.write(self._start + head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lower = answer.lower()
        if b"content-length: " in lower:
            await reader.readexactly(int(lower.partition(b"content-length: ")[2].partition(b"\r")[0]))
        self._free.append((reader, writer))
        return int(answer[9:12])

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context, limit=1 << 20)

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()


# Processes


@dataclass
class Sinks:
    """Receivers in a process of their own."""

    process: Process
    ports: list[int]

    async def ask(self, word: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n".encode())
        return json.loads(await self.process.stdout.readline())

    async def got(self, number: int, deadline: float = 60.0) -> list[tuple[str, int, float]]:
        """What came, once it is so much."""
        until = time.monotonic() + deadline
        while await self.ask("count") < number:
            if time.monotonic() > until:
                raise TimeoutError(f"{await self.ask('count')} of {number} deliveries came")
            await asyncio.sleep(0.02)
        return [(id_, port, at) for id_, port, at in await self.ask("take")]


@asynccontextmanager
async def sinks(good: int, *, tls: Path | None = None, bad: bool = False) -> AsyncIterator[Sinks]:
    arguments = [str(good), *(["--tls", str(tls)] if tls else []), *(["--bad"] if bad else [])]
    command = [sys.executable, "-m", "tests.bench.sink", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=PIPE_LIMIT)
    try:
        assert process.stdout is not None
        yield Sinks(process, json.loads(await asyncio.wait_for(process.stdout.readline(), LISTENS)))
    finally:
        await _ended(process)


@dataclass
class Daemon:
    """The daemon, as `telefonistka server` runs it."""

    process: Process
    port: int

    def usage(self) -> Usage:
        return Usage.of(self.process.pid)


@asynccontextmanager
async def daemon(
    state: Path, github: str, *, command: Sequence[str] = SERVER, **variables: str
) -> AsyncIterator[Daemon]:
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_WEBHOOK_SECRET": SECRET.decode(),
        "GITHUB_OAUTH_TOKEN": "token",
        "GITHUB_HOST": github,
        "LOG_LEVEL": "warn",
        "TELEFONISTKA_LISTEN": "127.0.0.1:0",
        "TELEFONISTKA_STATE_DIR": str(state),
        "TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/8",
        **variables,
    }
    with state.with_suffix(".log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        yield Daemon(process, await _port(process))
    finally:
        await _ended(process)


async def _port(process: Process) -> int:
    """The one on which the daemon listens: LOG_LEVEL keeps it from saying so."""
    until = time.monotonic() + LISTENS
    while time.monotonic() < until and process.returncode is None:
        inodes = {name.removeprefix("socket:[").removesuffix("]") for name in _descriptors(process.pid)}
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                return int(fields[1].rpartition(":")[2], 16)
        await asyncio.sleep(0.05)
    raise TimeoutError("the daemon does not listen")


def _descriptors(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 15)
    except TimeoutError:
        process.kill()
        await process.wait()


def pin(cores: Iterable[int], pid: int = 0) -> None:
    """The process runs on these cores only."""
    os.sched_setaffinity(pid, set(cores) & os.sched_getaffinity(0) or os.sched_getaffinity(0))
