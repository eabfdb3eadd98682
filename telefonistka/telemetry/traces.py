"""Every span in one list: its name, its kind, its attributes.

One delivery is one trace. GitHub's request is its root, or goes on with the trace that a proxy in front of us has
begun; the journal keeps that span's context with the delivery, in the header `traceparent` that any proxy would have
set, so that the relay's requests and each attempt of the worker are below it, whenever and in whichever process they
take place. Attempts are siblings, by number. Work of our own may go on for days and lead to itself: each such item is
a trace of its own, with a link to the span that it comes from. So is what a pull request's hidden metadata says: a
link, never a parent, because anybody can edit it.

Without `start`, nothing is imported and nothing is made. With it, spans wait in a bounded queue for a thread that
exports them: whatever becomes of the collector, no work waits for it.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

Headers = tuple[tuple[str, str], ...]

HEADER = "traceparent"
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
# Where an attribute is not called as the log's field.
_NAMES = {"repo": "repository", "pull": "pull_request", "event_type": "event"}
_SEGMENTS = (
    (re.compile(r"^/repos/[^/]+/[^/]+"), "/repos/{owner}/{repo}"),
    (re.compile(r"/(git/(?:ref|refs|matching-refs)/heads)/.*"), r"/\1/{branch}"),
    (re.compile(r"/compare/.*"), "/compare/{range}"),
    (re.compile(r"/collaborators/[^/]+"), "/collaborators/{login}"),
    (re.compile(r"/statuses/[^/]+$"), "/statuses/{sha}"),
    (re.compile(r"/(contents)/.*"), r"/\1/{path}"),
    (re.compile(r"/[0-9a-f]{40}(?=/|$)"), "/{sha}"),
    (re.compile(r"/\d+(?=/|$)"), "/{number}"),
)


class Span:
    """A span that is under way, for what is known of it only later. Without traces it takes anything."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span | None) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Attributes by their full names; those without a value are left out."""
        if self._span is not None:
            for name, value in attributes.items():
                _put(self._span, name, value)

    def link(self, traceparent: str) -> None:
        """What led to this; nothing where the text is no trace context."""
        context = _context(traceparent) if self._span is not None else None
        if self._span is not None and context is not None:
            self._span.add_link(context)

    def failed(self, reason: str, error: BaseException | None = None) -> None:
        """It did not end well, and why."""
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        if error is not None:
            self._span.add_event("exception", _exception(error))
        self._span.set_status(Status(StatusCode.ERROR, _clean(reason)))

    def answered(self, status: int, *, failed_from: int = 400) -> None:
        """HTTP's answer."""
        self.set({"http.response.status_code": status})
        if status >= failed_from:
            self.set({"error.type": str(status)})
            self.failed("")


NOTHING = Span(None)
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None


# Whether there are any


def start(version: str, queue: int) -> None:
    """From now on spans are made and exported; raises ValueError where a variable cannot be used."""
    global _provider, _tracer
    from telefonistka.telemetry import export

    _provider = export.provider(version, queue)
    _tracer = _provider.get_tracer("telefonistka", version)


def stop(seconds: float) -> None:
    """No more spans are made, and those that wait are exported as far as the time allows. Blocks so long."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        from telefonistka.telemetry import export

        export.stop(provider, seconds)


# The spans


def received(headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """GitHub's request, in the trace that its header names."""
    attributes = {"http.request.method": "POST", "http.route": "/webhook", "url.path": "/webhook"}
    return _span("POST /webhook", "SERVER", attributes, parent=headers.get(HEADER, ""))


def journal() -> AbstractContextManager[Span]:
    """A delivery is made durable."""
    return _span("journal", "PRODUCER")


def rounds(name: str) -> AbstractContextManager[Span]:
    """What is asked of GitHub now and then, without any event: `sweep` and `census`."""
    return _span(name, "INTERNAL", root=True)


def recovered() -> AbstractContextManager[Span]:
    """A delivery that never arrived is fetched: the root of its trace."""
    return _span("recover", "INTERNAL", root=True)


def route(headers: Headers) -> AbstractContextManager[Span]:
    """The relay learns where a delivery goes, later than its request."""
    return _span("route", "INTERNAL", parent=_carried_by(headers))


def work(event: str, headers: Headers, *, own: bool) -> AbstractContextManager[Span]:
    """One attempt at a work item, of GitHub's or our own."""
    cause = _carried_by(headers)
    if own:
        return _span(f"work {event}", "CONSUMER", link=cause, root=True)
    return _span(f"work {event}", "CONSUMER", parent=cause, root=True)


def step(name: str) -> AbstractContextManager[Span]:
    """One try of one step of a work item: a handler, or the commit status."""
    return _span(name, "INTERNAL", {"telefonistka.step": name})


def part(name: str, **fields: object) -> AbstractContextManager[Span]:
    """A part of a step that takes calls of its own, such as one promotion."""
    return _span(name, "INTERNAL", _ours(fields))


def github_call(method: str, url: str, path: str, operation: str = "") -> AbstractContextManager[Span]:
    """One request to GitHub's API: its path below the API's address, and the name of a GraphQL operation.

    https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span
    """
    if _tracer is None:
        return _span("", "")
    template = _template(path)
    attributes = {"http.request.method": method, "url.full": url, "url.template": template, **_server(url)}
    if operation:
        attributes["graphql.operation.name"] = operation
    return _span(f"{method} {template}", "CLIENT", attributes)


def relayed(
    traceparent: str, url: str, *, delivery: str, attempt: int, began: float, ended: float, status: int | None,
    outcome: str, reason: str,
) -> None:  # fmt: skip
    """One attempt of the relay, as a span below the delivery's; begun and ended in seconds since 1970.

    Its URL may hold a secret in its path, so only the host is told. Made when all is known, and without a context: the
    relay sends hundreds at once, and what it sends are GitHub's headers and no others.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind

    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        **_server(url),
        "telefonistka.delivery": delivery,
        "telefonistka.attempt": attempt,
        "telefonistka.outcome": outcome,
    }
    span = _tracer.start_span(
        "relay POST",
        context=_remote(traceparent),
        kind=SpanKind.CLIENT,
        attributes=attributes,
        start_time=int(began * 1e9),
    )
    told = Span(span)
    if status is not None:
        told.answered(status)
    if reason:
        told.failed(reason)
    span.end(int(ended * 1e9))


# What goes on from one to the next


def carried(headers: Headers) -> Headers:
    """The headers with the current span's context in the place of one that came along."""
    current = _current()
    if current is None:
        return headers
    return (*((name, value) for name, value in headers if name.lower() != HEADER), (HEADER, _written(current)))


def traceparent() -> str:
    """The current span's context for others to link to; "" where there is none, or nobody will see it."""
    current = _current()
    return _written(current) if current is not None and current.trace_flags.sampled else ""


def trace_id() -> str:
    """The current trace in 32 digits; "" where there is none, or nobody will see it."""
    return traceparent()[3:35]


def ids(traceparent: str = "") -> dict[str, str]:
    """What a log record says of the span that it belongs to: the current one, or the one that a text names."""
    current = _context(traceparent) if traceparent and _tracer is not None else _current()
    if current is None:
        return {}
    return {"trace_id": f"{current.trace_id:032x}", "span_id": f"{current.span_id:016x}"}


def describe(fields: Mapping[str, object]) -> None:
    """The current span has these fields of the log as attributes."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        Span(get_current_span()).set(_ours(fields))


def ended(outcome: str, why: Exception | str | None = None) -> None:
    """How what the current span is about has ended; and why, where that is not well."""
    describe({"outcome": outcome})
    if why is not None and _tracer is not None:
        from opentelemetry.trace import get_current_span

        Span(get_current_span()).failed(str(why), why if isinstance(why, Exception) else None)


def _current() -> trace.SpanContext | None:
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    current = get_current_span().get_span_context()
    return current if current.is_valid else None


def _written(context: trace.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _carried_by(headers: Headers) -> str:
    return next((value for name, value in headers if name.lower() == HEADER), "")


def _context(text: str) -> trace.SpanContext | None:
    """What a `traceparent` says; None where it is none."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(int(found[3], 16) & TraceFlags.SAMPLED)
    return SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)


def _remote(text: str) -> Context:
    """The context of a span that is elsewhere; where the text names none, one without a span."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    found = _context(text)
    return Context() if found is None else set_span_in_context(NonRecordingSpan(found), Context())


# A span


@contextmanager
def _span(
    name: str,
    kind: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    parent: str = "",
    link: str = "",
    root: bool = False,
) -> Iterator[Span]:
    """A span around a block, below the current one; below `parent`, where one is given, or below none.

    An exception that leaves the block is recorded with it.
    """
    if _tracer is None:
        yield NOTHING
        return
    from opentelemetry.trace import SpanKind

    context = _remote(parent) if parent or root else None
    with _tracer.start_as_current_span(
        _clean(name), context=context, kind=SpanKind[kind], record_exception=False, set_status_on_exception=False
    ) as made:
        span = Span(made)
        span.set(attributes or {})
        span.link(link)
        try:
            yield span
        except Exception as error:
            span.set({"error.type": type(error).__qualname__})
            span.failed(str(error), error)
            raise


def _put(span: trace.Span, name: str, value: object) -> None:
    match value:
        case None | "":
            return
        case bool() | int() | float():
            span.set_attribute(name, value)
        case list() | tuple():
            span.set_attribute(name, [_clean(str(one)) for one in value])
        case _:
            span.set_attribute(name, _clean(str(value)))


def _ours(fields: Mapping[str, object]) -> dict[str, object]:
    return {f"telefonistka.{_NAMES.get(name, name)}": value for name, value in fields.items()}


def _exception(error: BaseException) -> dict[str, str]:
    """https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/"""
    return {
        "exception.type": type(error).__qualname__,
        "exception.message": _clean(str(error)),
        "exception.stacktrace": _clean("".join(traceback.format_exception(error))),
    }


def _clean(text: str) -> str:
    """The text as Unicode: one that is not would cost the whole batch that it is exported with."""
    return text.encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=1024)
def _server(url: str) -> Mapping[str, Any]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port, "url.scheme": parts.scheme}


def _template(path: str) -> str:
    """The path without what differs from call to call."""
    for pattern, instead in _SEGMENTS:
        path = pattern.sub(instead, path)
    return path
