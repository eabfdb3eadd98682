"""The whole campaign: `.venv/bin/python -m tests.faults [--parallel 4]`. Exit code 1 where a run deviates."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.faults import campaign, place


async def run(directory: Path, parallel: int, only: str) -> bool:
    """Whether no run deviates; what was done is printed."""
    deviating = False
    for number, scenario in enumerate(one for one in place.ALL if only in one.name):
        here, started = directory / str(number), time.monotonic()
        wanted = await campaign.clean(scenario, here / "clean")
        parts = (campaign.kills, campaign.losses, campaign.answers)
        jobs = [job for part in parts for job in part(scenario, here, wanted)]
        runs = await campaign.carried_out(jobs, parallel=parallel)
        took = time.monotonic() - started
        print(f"\n{scenario.name}: {len(wanted.calls)} calls, {took:.0f} s\n{campaign.table(runs)}", flush=True)
        deviating |= any(run.deviations for run in runs)
    return not deviating


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    options.add_argument("--parallel", type=int, default=campaign.PARALLEL, help="runs at once")
    options.add_argument("--only", default="", help="the scenarios that have this in their name")
    given = options.parse_args()
    with TemporaryDirectory() as directory:
        good = anyio.run(partial(run, Path(directory), given.parallel, given.only))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
