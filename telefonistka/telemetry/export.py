"""How spans get out: in a thread of their own, by OTLP over HTTP, as the OTEL_* variables say.

What belongs here: the SDK, which only a daemon that exports traces imports. Its queue is bounded, and what does not
fit is counted; a collector that is down, slow or gone holds up nothing.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from telefonistka.telemetry import metrics

SERVICE = "telefonistka"


def provider(version: str, queue: int) -> TracerProvider:
    """Where spans are made; of them `queue` wait at most. Raises ValueError where a variable cannot be used."""
    exporter = _Counting(OTLPSpanExporter())
    found = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    found.add_span_processor(_Bounded(exporter, queue))
    return found


def stop(provider: TracerProvider, seconds: float) -> None:
    """What waits is exported as far as the time allows."""
    # The SDK's own limit is not one: an export that hangs outlasts it. So it hangs alone, and ends with the process.
    thread = threading.Thread(target=provider.shutdown, name="traces end", daemon=True)
    thread.start()
    thread.join(seconds)


def _resource(version: str) -> Resource:
    """Who we are, where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say nothing else."""
    said = Resource.create().attributes
    # The SDK makes a name up where nobody has given one.
    named = {name: value for name, value in said.items() if not str(value).startswith("unknown_service")}
    return Resource({SERVICE_NAME: SERVICE, SERVICE_VERSION: version}).merge(Resource(named))


class _Counting(SpanExporter):
    """The exporter, with books."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = 0  # written by the exporting thread only

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            metrics.spans("exported" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Bounded(BatchSpanProcessor):
    """The queue, which says what it drops."""

    def __init__(self, exporter: _Counting, size: int) -> None:
        super().__init__(exporter, max_queue_size=size)
        self._books = exporter
        self._size = size
        self._put = 0  # written by the event loop only

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            if self._put - self._books.taken < self._size:
                self._put += 1
            else:
                # The oldest has to go, so as many wait as before.
                metrics.spans("dropped", 1)
        super().on_end(span)
