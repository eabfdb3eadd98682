"""A process that takes webhooks on many ports and remembers when each came; told by lines on its standard input.

    python -m tests.bench.sink GOOD [--tls DIRECTORY] [--bad]

It says its ports as a line of JSON, then for each line "take" what came since the last one. "busy" and "open" say
whether it answers 503 or 200. With --bad, four more ports hang, reset, are busy and drip.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from pathlib import Path

from telefonistka.sandbox import tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
BAD = ("hang", "reset", "busy", "drip")


class Sink:
    """What all ports share."""

    def __init__(self) -> None:
        self.came: list[tuple[str, int, float]] = []  # delivery, port, time of its last byte
        self.answer = OK


class Connection(asyncio.Protocol):
    """One connection of a sender; requests come one after the other."""

    def __init__(self, sink: Sink, number: int, behaviour: str) -> None:
        self._sink = sink
        self._number = number
        self._behaviour = behaviour
        self._buffer = bytearray()
        self._missing = -1  # bytes of the request under way; -1: its head is not complete
        self._id = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            if self._missing < 0:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self._buffer[:end]).lower()
                self._id = _header(head, b"x-github-delivery")
                self._missing = end + 4 + int(_header(head, b"content-length"))
            if len(self._buffer) < self._missing:
                return
            del self._buffer[: self._missing]
            self._missing = -1
            self._came()

    def _came(self) -> None:
        match self._behaviour:
            case "good":
                if self._sink.answer is OK:
                    self._sink.came.append((self._id, self._number, time.perf_counter()))
                self._transport.write(self._sink.answer)
            case "busy":
                self._transport.write(BUSY)
            case "reset":
                self._transport.abort()
            case "drip":
                self._drip(0)

    def _drip(self, sent: int) -> None:
        if not self._transport.is_closing():
            self._transport.write(OK[sent : sent + 1])
            asyncio.get_running_loop().call_later(1, self._drip, sent + 1)


def _header(head: bytes, name: bytes) -> str:
    start = head.index(b"\r\n" + name + b": ") + len(name) + 4
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].decode()


async def serve(good: int, context: ssl.SSLContext | None, *, bad: bool) -> None:
    sink, loop = Sink(), asyncio.get_running_loop()
    behaviours = ["good"] * good + list(BAD) * bad
    ports = []
    for number, behaviour in enumerate(behaviours):

        def connection(number: int = number, behaviour: str = behaviour) -> Connection:
            return Connection(sink, number, behaviour)

        server = await loop.create_server(connection, "127.0.0.1", 0, ssl=context, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        match line:
            case "take":
                came, sink.came = sink.came, []
                print(json.dumps(came), flush=True)
            case "count":
                print(len(sink.came), flush=True)
            case "busy" | "open":
                sink.answer = BUSY if line == "busy" else OK
                print("null", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("good", type=int)
    parser.add_argument("--tls", type=Path)
    parser.add_argument("--bad", action="store_true")
    given = parser.parse_args()
    context = tls.server(given.tls, "127.0.0.1") if given.tls else None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.good, context, bad=given.bad))


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
