"""Programs of ours that run beside us, each with a log in a file; they end when we do."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import TypeVar

import anyio
import anyio.abc

DEADLINE = 15.0  # seconds for whatever is waited for; on an idle machine nothing takes two
LOOK = 0.02  # seconds between two looks
GRACE = 10.0  # seconds to end after SIGTERM; the daemon may take so long
LAST_LINES = 12  # of a log, to show what went wrong

# The same installation, and nothing that lies about in the current directory.
PROGRAM = (sys.executable, "-P", "-m", "telefonistka")

T = TypeVar("T")


class Failed(Exception):  # noqa: N818 - what it says of a step
    """Something did not come true: the text says what was expected, and what stands."""


@dataclass(frozen=True, slots=True)
class Process:
    """One running program."""

    name: str
    log: Path
    running: anyio.abc.Process

    async def listening(self, pattern: str) -> re.Match[str]:
        """The line of its log that says where it listens. Raises Failed, with its last words, where none comes."""
        expression = re.compile(pattern, re.MULTILINE)

        async def look() -> re.Match[str] | None:
            match = expression.search(self.log.read_text(errors="replace"))
            if match is None and self.running.returncode is not None:
                raise Failed(f"the {self.name} ended with exit code {self.running.returncode}")
            return match

        try:
            return await until(f"the {self.name} listens", look)
        except Failed as failed:
            raise Failed(f"{failed}. Its last words:\n\n{self.last_words()}") from failed

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])


@asynccontextmanager
async def running(
    name: str, arguments: Sequence[str], *, environment: Mapping[str, str], directory: Path
) -> AsyncIterator[Process]:
    """`telefonistka` with these arguments, in a process of its own that has ended when the block has."""
    path = directory / f"{name}.log"
    with path.open("wb") as log:
        process = await anyio.open_process(
            [*PROGRAM, *arguments], stdin=DEVNULL, stdout=log, stderr=STDOUT, env=environment
        )
    try:
        yield Process(name, path, process)
    finally:
        await ended(process)


async def ended(process: anyio.abc.Process) -> None:
    """The process has ended, of its own or by force."""
    try:
        if process.returncode is None:
            process.terminate()
        with anyio.move_on_after(GRACE, shield=True):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()


async def until(expected: str, look: Callable[[], Awaitable[T | None]], *, stands: Callable[[], str] = str) -> T:
    """What the look finds, as soon as it finds something. Raises Failed, with what stands, if that takes too long."""
    with anyio.move_on_after(DEADLINE):
        while (found := await look()) is None:  # noqa: ASYNC110 - what is waited for happens in another process
            await anyio.sleep(LOOK)
        return found
    raise Failed(f"expected within {DEADLINE:g} seconds: {expected}; found: {stands() or 'nothing'}")
