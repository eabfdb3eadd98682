"""The log: its format, and the fields that every record below has."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any, TextIO

import orjson
import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}


def bound(**fields: object) -> AbstractContextManager[None]:
    """Every record below has these fields."""
    return structlog.contextvars.bound_contextvars(**fields)


def configure(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Log records go to stderr: JSON lines, or colours on a terminal. Unknown levels act as `info`."""
    number = LEVELS.get(level.lower(), logging.INFO)
    terminal = (stream or sys.stderr).isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_format(terminal=terminal),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_Forward()], force=True)


def _format(*, terminal: bool) -> list[Any]:
    # Plain tracebacks in both: the ones with local variables would show tokens.
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
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
    """Records of libraries, in our format."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
