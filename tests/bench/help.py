"""How long `telefonistka --help` takes: nobody should notice.

    python -m tests.bench.help

Judged by the quickest of some runs: what else the machine does is not ours.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 20
LIMIT = 0.150  # seconds; the bare interpreter takes about 0.02 of it


def seconds(*arguments: str, runs: int) -> list[float]:
    """How long each of some runs took, after one that warms the caches."""
    taken = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return taken[1:]


def measure(*, runs: int) -> float:
    """The quickest run of `--help`, in seconds, after all of them and the bare interpreter's are printed."""
    for name, arguments in (("python", ("-c", "")), ("--help", ("-m", "telefonistka", "--help"))):
        taken = seconds(*arguments, runs=runs)
        print(
            f"{name:<7} {1000 * min(taken):4.0f} ms, median {1000 * statistics.median(taken):4.0f}, "
            f"longest {1000 * max(taken):4.0f}"
        )
    return min(taken)


def main() -> None:
    if measure(runs=RUNS) > LIMIT:
        sys.exit(f"more than {1000 * LIMIT:.0f} ms")


if __name__ == "__main__":
    main()
