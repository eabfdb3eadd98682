"""What the commands share about terminals: colours, JSON, a line that says what takes so long, Ctrl-C.

Colours and progress are for a terminal that somebody looks at; files and pipes get plain text.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON.")
INTERRUPTED = 130  # what shells call a program that Ctrl-C ended
PATIENCE = 1.0  # seconds before anybody wants to know what is going on
STYLES: dict[str, dict[str, Any]] = {
    "strong": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "doubt": {"fg": "yellow"},
    "bad": {"fg": "red", "bold": True},
    "link": {"fg": "cyan"},
}


def print_line(spans: Sequence[tuple[str, str]]) -> None:
    """Text with tones, which only a terminal shows."""
    line = "".join(click.style(text, **STYLES.get(tone, {})) for text, tone in spans)
    # https://no-color.org
    click.echo(line.rstrip(), color=False if os.environ.get("NO_COLOR") else None)


def print_json(value: Any) -> None:
    click.echo(as_json(value, indent=2))


def as_json(value: Any, indent: int | None = None) -> str:
    from pydantic import TypeAdapter

    return TypeAdapter(type(value)).dump_json(value, indent=indent).decode()


def log_level(default: str = "warn") -> str:
    """How much a command logs to stderr: everything where --debug was given, else LOG_LEVEL."""
    context = click.get_current_context(silent=True)
    debug = context is not None and context.find_root().meta.get("telefonistka.debug")
    return "debug" if debug else os.environ.get("LOG_LEVEL") or default


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """What takes longer than a second is named on stderr, with its seconds, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()

    def tell() -> None:
        for seconds in itertools.count(1):
            if ended.wait(PATIENCE):
                break
            click.echo(f"\r{doing} … {seconds} s", err=True, nl=False)
        if seconds > 1:
            click.echo("\r\x1b[K", err=True, nl=False)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it cleans up; in the background of a script, too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
