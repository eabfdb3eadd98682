"""The daemon with an event loop that SIGUSR1 stops until a file goes away: `python -m tests.daemon.stuck FILE server`.

It makes that file itself, so that it tells when it has stopped.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from telefonistka.cli import main


def stop(*_: object) -> None:
    """Python runs this in the main thread, between two instructions of the event loop."""
    held.touch()
    while held.exists():
        time.sleep(0.01)


if __name__ == "__main__":
    held = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, stop)
    main()
