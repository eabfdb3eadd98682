"""A receiver of traces as a process: OTLP over HTTP, decoded with the protocol's own definitions.

    python -m tests.daemon.otlp FILE

prints its port and writes each span to the file, as a line of JSON. A process, so that it can be stopped in the middle
(SIGSTOP: it hangs) and killed. https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
import gzip
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Self

import anyio
import orjson
from aiohttp import web
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

ROOT = Path(__file__).parents[2]
PATIENCE = 30  # seconds; an export takes one

# In the test's process


@dataclass(frozen=True)
class Span:
    """What was exported."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]  # trace and span
    attributes: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    error: str | None  # the reason; None: it is none
    resource: dict[str, Any]

    def has(self, **attributes: object) -> bool:
        """Whether its attributes of our own are these, among others."""
        return all(self.attributes.get(f"telefonistka.{name}") == value for name, value in attributes.items())


@dataclass
class Receiver:
    """The process, and what it has."""

    process: Process
    port: int
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes a daemon export to it, and soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def spans(self) -> list[Span]:
        lines = self.file.read_bytes().splitlines() if self.file.exists() else ()
        return [Span(**_tuples(orjson.loads(line))) for line in lines]

    async def got(self, condition: Callable[[Spans], bool]) -> Spans:
        """What there is once the condition holds."""
        with anyio.fail_after(PATIENCE):
            while not condition(found := Spans(self.spans())):  # noqa: ASYNC110 - in another process
                await anyio.sleep(0.05)
        return found

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Spans:
    """All that was exported."""

    all: list[Span] = field(default_factory=list)

    def named(self, name: str, **attributes: object) -> list[Span]:
        return [span for span in self.all if span.name == name and span.has(**attributes)]

    def one(self, name: str, **attributes: object) -> Span:
        (span,) = self.named(name, **attributes)
        return span

    def below(self, span: Span) -> list[Span]:
        """Its children."""
        return [one for one in self.all if (one.trace, one.parent) == (span.trace, span.id)]

    def under(self, span: Span) -> Iterable[Span]:
        """Its children and theirs."""
        for child in self.below(span):
            yield child
            yield from self.under(child)


def _tuples(span: dict[str, Any]) -> dict[str, Any]:
    return span | {"links": tuple(map(tuple, span["links"])), "events": tuple(map(tuple, span["events"]))}


@asynccontextmanager
async def receiving(file: Path) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    process = await anyio.open_process(
        [sys.executable, "-m", "tests.daemon.otlp", str(file)], stdin=DEVNULL, stdout=PIPE, stderr=None, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        with anyio.fail_after(PATIENCE):
            port = int(await TextReceiveStream(process.stdout).receive())
        yield Receiver(process, port, file)
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


# In its own


@dataclass
class _Sink:
    file: Path

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.file.open("ab") as file:
            for line in _lines(ExportTraceServiceRequest.FromString(body)):
                file.write(line + b"\n")
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    @classmethod
    async def serve(cls, file: Path) -> Self:
        sink = cls(file)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/traces", sink.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        return sink


def _lines(request: ExportTraceServiceRequest) -> Iterable[bytes]:
    for group in request.resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield orjson.dumps(_span(span) | {"resource": resource})


def _span(span: Sent) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "links": [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        "attributes": _values(span.attributes),
        "events": [(event.name, _values(event.attributes)) for event in span.events],
        "error": span.status.message if span.status.code == 2 else None,
    }


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


async def _main() -> None:
    await _Sink.serve(Path(sys.argv[1]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
