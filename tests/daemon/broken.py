"""The daemon with two bugs: `python -m tests.daemon.broken server`.

A handler raises while it holds what GitHub is called with; and as soon as the file BROKEN exists, a task of the daemon
itself raises, which ends the process. With LEAK the first one also says a secret, so that a search which finds none is
known to find one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from telefonistka.cli import main
from telefonistka.handlers import drift
from telefonistka.handlers.facts import Context, Done
from telefonistka.inbox import Inbox


async def tell(number: int, given: Context) -> Done:
    """Raises with a client in reach, as a library's bug may."""
    raise RuntimeError(f"a bug at #{number} {os.environ.get(os.environ.get('LEAK', ''), '')}")


async def prune(self: Inbox) -> int:
    """Raises once it is told to."""
    while not Path(os.environ["BROKEN"]).exists():  # noqa: ASYNC110 - whoever makes it is another process
        await anyio.sleep(0.05)
    raise RuntimeError("the daemon has a bug")


if __name__ == "__main__":
    drift.tell = tell
    Inbox.prune = prune  # type: ignore[method-assign]
    sys.argv.insert(1, "--debug")  # so that the traceback is shown, too
    main()
