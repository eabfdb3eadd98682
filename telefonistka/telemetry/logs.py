"""The log: its format, and the fields that every record below has."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO

import orjson
import structlog

from telefonistka.telemetry import traces

RARELY = 300.0  # seconds between two records of the same kind about the export of traces

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound", default=MappingProxyType({}))

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}


class _Bound:
    """A block below which records have some more fields; each delivery is in several, so that they must cost little."""

    __slots__ = ("_fields", "_token")

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _bound.set({**_bound.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        _bound.reset(self._token)


def bound(**fields: object) -> AbstractContextManager[None]:
    """Every record below has these fields."""
    return _Bound(fields)


def configure(level: str = "info", *, form: str = "", stream: TextIO | None = None) -> None:
    """Log records go to stderr, as "json" or for the "console"; without a form as lines of JSON, unless stderr is a
    terminal. A level that is unknown is `info`, as in the original, with a warning."""
    number = LEVELS.get(level.lower(), logging.INFO)
    terminal = (stream or sys.stderr).isatty()
    structlog.configure(
        processors=[
            _add_bound,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_format(form or ("console" if terminal else "json"), colors=terminal),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_Forward()], force=True)
    if level.lower() not in LEVELS:
        log.warning("LOG_LEVEL is none that there is, so it is info", level=level, levels=list(LEVELS))


def _add_bound(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**_bound.get(), **record}


def _add_trace(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in traces.ids().items():
        record.setdefault(name, value)
    return record


def _format(form: str, *, colors: bool) -> list[Any]:
    # Plain tracebacks in both: the ones with local variables would show tokens.
    if form == "console":
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


def _json(record: Any, **_: Any) -> str:
    try:
        return orjson.dumps(record, default=repr).decode()
    except TypeError:  # a text that is not Unicode, such as a path of unknown encoding
        return orjson.dumps(_printable(record), default=repr).decode()


def _printable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_printable(str(key)): _printable(item) for key, item in value.items()}
        case list() | tuple():
            return [_printable(item) for item in value]
        case None | bool() | int() | float():
            return value
        case _:
            return _printable(repr(value))


class _Forward(logging.Handler):
    """Records of libraries, in our format. Of those about the export of traces one stands for many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name.startswith("opentelemetry"):
            if not self._is_news(record):
                return
            # Its complaint about OTEL_EXPORTER_OTLP_HEADERS quotes them, and they hold credentials.
            if record.name == "opentelemetry.util.re":
                text = "OTEL_EXPORTER_OTLP_HEADERS cannot be read: give name=value, with commas between"
        log.log(record.levelno, text, logger=record.name, exc_info=record.exc_info)

    def _is_news(self, record: logging.LogRecord) -> bool:
        kind, now = (record.name, str(record.msg)), self._clock()
        if now < self._said.get(kind, now - 1):
            return False
        self._said[kind] = now + RARELY
        return True
