"""How long the daemon takes from its start until it is ready, and the memory that it has then.

    python -m tests.bench.start

Imports are measured by a process that does nothing else, and taken off: what is left is what the daemon does. The
quickest of some runs counts; resident memory is that of the last one, a moment after it was ready.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 10
IDLE = 3.0  # seconds after which nothing of the start is under way any more
IMPORTS = "import telefonistka.cli, telefonistka.daemon, telefonistka.settings"


def imported() -> float:
    """How many seconds an interpreter takes with our modules and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - began


def started(directory: Path, *, idle: float) -> tuple[float, float]:
    """Seconds from the daemon's start until it says that it is ready, and its megabytes after some more."""
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(directory / "notify"))
        environ = {
            "PATH": os.environ["PATH"],
            "GITHUB_HOST": "http://127.0.0.1:9",  # where nobody is
            "GITHUB_OAUTH_TOKEN": "token",
            "GITHUB_WEBHOOK_SECRET": "secret",
            "LOG_LEVEL": "fatal",
            "NOTIFY_SOCKET": str(directory / "notify"),
            "STATE_DIRECTORY": str(directory / "state"),
            "TELEFONISTKA_LISTEN": "127.0.0.1:0",
        }
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "telefonistka", "server"], env=environ)
        try:
            systemd.settimeout(60)
            assert systemd.recv(4096).startswith(b"READY=1")
            took = time.perf_counter() - began
            time.sleep(idle)
            return took, resident(process.pid)
        finally:
            process.terminate()
            process.wait()


def resident(pid: int) -> float:
    """https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def measure(directory: Path, *, runs: int = RUNS, idle: float = IDLE) -> None:
    imports = min(imported() for _ in range(runs))
    took = [started(directory / str(number), idle=idle if number == runs - 1 else 0) for number in range(runs)]
    ready = min(seconds for seconds, _ in took)
    print(f"imports                {1000 * imports:5.0f} ms")
    print(f"start to ready         {1000 * ready:5.0f} ms")
    print(f"of it after imports    {1000 * (ready - imports):5.0f} ms")
    print(f"idle, resident memory  {took[-1][1]:5.0f} MB")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="telefonistka-") as directory:
        measure(Path(directory))


if __name__ == "__main__":
    main()
