"""One scenario run again and again, each time with one fault at another place; every end state is the clean run's.

What is compared is what people see: the trees of all branches, pull requests with number, title, body, labels,
assignees, reviewers and comments, final statuses, and the daemon's own book of what could not be done. Not compared
are commit ids, other ids and times.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import anyio

from telefonistka.sandbox.state import Call
from tests.contract.recorder import Recorder
from tests.faults import door
from tests.faults.door import MOMENTS, Moment
from tests.faults.place import DAEMON, PATIENCE, Daemon, Scenario, Scene, placed

When = Literal["before", "after"]
WHENS: tuple[When, ...] = get_args(When)
PARALLEL = 4  # runs at once; half of a run is waiting
# Every path but those that Ada asks for, and the one by which the daemon learns whether it is known, whenever that is.
THEIRS = r"^(?!.*/(pulls/1/merge|deliveries|attempts|rate_limit)$)"
READS = re.compile("GET |POST graphql query ")

# Bad answers that the daemon lives through, as rules of the sandbox.
ANSWERS: dict[str, dict[str, Any]] = {
    "502 before the effect": {"action": "answer", "status": 502, "when": "before"},
    "502 after the effect": {"action": "answer", "status": 502, "when": "after"},
    "reset after the effect": {"action": "reset", "when": "after"},
    "secondary limit": {"action": "secondary", "seconds": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """What happens without faults: the daemon's calls in their order, and how it ends."""

    calls: tuple[str, ...]
    state: dict[str, Any]


@dataclass(slots=True)
class Run:
    """One run with one fault: where its end differs from the clean run's."""

    kind: str
    name: str
    deviations: list[str] = field(default_factory=list)
    seconds: float = 0.0


Job = Callable[[], Awaitable[Run]]


async def clean(scenario: Scenario, directory: Path, *, module: str = DAEMON) -> Clean:
    """A run without faults, every exchange of which is as GitHub describes it."""
    recorder = Recorder()
    async with placed(scenario, directory, module=module, middlewares=[recorder.watch]) as (scene, daemon):
        await scene.merge()
        await scene.settled(daemon)
        assert not recorder.faults, "\n".join(recorder.faults)
        return Clean(calls=tuple(map(called, scene.calls())), state=await ended(scene, daemon))


def kills(
    scenario: Scenario,
    directory: Path,
    wanted: Clean,
    *,
    module: str = DAEMON,
    whens: Sequence[When] = WHENS,
    ending: str | tuple[str, ...] = "",
    reads: bool = True,
) -> list[Job]:
    """A run for every call whose name has that ending, those that only read included or not, and every `when`."""
    chosen = [
        (n, call)
        for n, call in enumerate(wanted.calls, 1)
        if call.endswith(ending) and (reads or not READS.match(call))
    ]
    return [
        partial(killed, scenario, directory / f"kill-{n}-{when}", wanted, n, when, module=module)
        for n, call in chosen
        for when in whens
    ]


def losses(scenario: Scenario, directory: Path, wanted: Clean) -> list[Job]:
    """A run for every moment at which a delivery can be lost with the daemon."""
    return [partial(lost, scenario, directory / f"door-{n}", wanted, moment) for n, moment in enumerate(MOMENTS)]


def answers(
    scenario: Scenario, directory: Path, wanted: Clean, *, reads: bool = True, faults: Collection[str] = ANSWERS.keys()
) -> list[Job]:
    """A run for each of these bad answers and every call, those that only read included or not."""
    chosen = [n for n, call in enumerate(wanted.calls, 1) if reads or not READS.match(call)]
    return [
        partial(answered, scenario, directory / f"answer-{number}-{n}", wanted, n, fault)
        for number, fault in enumerate(faults)
        for n in chosen
    ]


async def carried_out(jobs: Sequence[Job], *, parallel: int = PARALLEL) -> list[Run]:
    """The runs of all jobs, in their order."""
    runs: dict[int, Run] = {}
    waiting = iter(enumerate(jobs))

    async def work() -> None:
        for place, job in waiting:
            runs[place] = await job()

    async with anyio.create_task_group() as tasks:
        for _ in range(parallel):
            tasks.start_soon(work)
    return [run for _, run in sorted(runs.items())]


async def killed(
    scenario: Scenario, directory: Path, wanted: Clean, n: int, when: When, *, module: str = DAEMON
) -> Run:
    """The daemon dies at its n-th call, before its effect or before its answer, and starts again."""
    run = Run(f"killed {when} a call's effect", f"{n} {wanted.calls[n - 1]}")
    async with placed(scenario, directory, module=module) as (scene, daemon):
        with judged(run, directory):
            rules = scene.box.rules
            rule = rules.add(
                "hold", when=when, **(place(wanted, n) if not scenario.ordered else {"path": THEIRS, "nth": n})
            )
            await scene.merge()
            if not scenario.ordered and not await reached(scene, daemon):
                run.deviations += deviations(wanted.state, await ended(scene, daemon))
                return run
            with anyio.fail_after(PATIENCE):
                (held,) = await rules.wait_held(1, math.inf)
            rules.remove(rule)
            (call,) = [call for call in scene.box.calls if call.n == held.call]
            await daemon.kill()
            rules.release(drop=True)
            await recovered(scene, daemon)
            expected = not scenario.ordered or called(call) == wanted.calls[n - 1]
            if not expected or call.effect is not (when == "after"):
                run.deviations.append(f"call {n} is {called(call)}, effect {call.effect}")
            run.deviations += deviations(wanted.state, await ended(scene, daemon))
    return run


def place(wanted: Clean, n: int) -> dict[str, Any]:
    """The clean run's n-th call as a rule: by its kind, and its place among those of its kind."""
    name = wanted.calls[n - 1]
    nth = wanted.calls[:n].count(name)
    if name.startswith("POST graphql "):
        return {"operation": f"^{re.escape(name.removeprefix('POST graphql '))}$", "nth": nth}
    method, _, route = name.partition(" ")
    path = re.sub(r"\{[^}]+\}", "[^/]+", route) + "$"
    return {"method": method, "path": THEIRS + f".*{path}", "nth": nth}


async def reached(scene: Scene, daemon: Daemon) -> bool:
    """Whether the daemon made the call; what is only looked at may not be looked at where something newer came."""
    held = False

    async def wait(rules: Any) -> None:
        nonlocal held
        await rules.wait_held(1, math.inf)
        held = True
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, scene.box.rules)
        await scene.settled(daemon)
        tasks.cancel_scope.cancel()
    return held


async def lost(scenario: Scenario, directory: Path, wanted: Clean, moment: Moment) -> Run:
    """The daemon dies while GitHub delivers the merge, and GitHub never hears an answer."""
    run = Run("killed at the webhook", moment)
    async with (
        placed(scenario, directory) as (scene, daemon),
        door.opened(moment, daemon.port) as entrance,
    ):
        with judged(run, directory):
            scene.hook.url = f"http://127.0.0.1:{entrance.port}/webhook"
            scene.hook.events = ["pull_request"]
            await scene.merge()
            with anyio.fail_after(PATIENCE):
                await entrance.reached.wait()
            await daemon.kill()
            entrance.lost.set()
            scene.hook.url = daemon.webhook
            if not await recovered(scene, daemon):
                run.deviations.append("the delivery did not fail")
            run.deviations += deviations(wanted.state, await ended(scene, daemon))
    return run


async def answered(scenario: Scenario, directory: Path, wanted: Clean, n: int, fault: str) -> Run:
    """The daemon lives, and its n-th call is answered by the fault."""
    run = Run(fault, f"{n} {wanted.calls[n - 1]}")
    async with placed(scenario, directory) as (scene, daemon):
        with judged(run, directory):
            rule = scene.box.rules.add(path=THEIRS, nth=n, **ANSWERS[fault])
            await scene.merge()
            await scene.settled(daemon)
            if scenario.ordered and rule.matched < n:
                run.deviations.append("the call was never made")
            run.deviations += deviations(wanted.state, await ended(scene, daemon))
    return run


async def recovered(scene: Scene, daemon: Daemon) -> int:
    """A new daemon has what failed delivered again and has done its work; how many deliveries that were."""
    await daemon.start()
    redelivered = await scene.redeliver()
    await scene.settled(daemon)
    return redelivered


async def ended(scene: Scene, daemon: Daemon) -> dict[str, Any]:
    """What people see at the end, and how many items the daemon has given up."""
    items = await daemon.items()
    return scene.state() | {"given up": items["rejected"] + items["dead"]}


def called(call: Call) -> str:
    return f"POST graphql {call.operation}" if call.operation else str(call.route)


def deviations(wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Where two ends differ, a line each; of drift that stands apart, what both have a word of."""
    both = wanted["drift"].keys() & found["drift"].keys()
    apart = [{"drift": {number: end["drift"][number] for number in both}} for end in (wanted, found)]
    yield from differences(wanted | apart[0], found | apart[1])


def differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where two states differ, a line each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from differences(wanted.get(key), found.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif wanted != found:
        yield f"{where}: {wanted!r} became {found!r}"


@contextmanager
def judged(run: Run, directory: Path) -> Iterator[None]:
    """The run with its time; one that does not end deviates, too."""
    started = time.monotonic()
    try:
        yield
    except TimeoutError:
        log = (directory / "daemon.log").read_text().splitlines()
        run.deviations.append("\n".join(["the work did not end; the daemon's last words:", *log[-5:]]))
    finally:
        run.seconds = time.monotonic() - started


def table(runs: Sequence[Run]) -> str:
    """The runs by kind, then every deviation."""
    kinds = list(dict.fromkeys(run.kind for run in runs))
    by_kind = [_row(kind, [run for run in runs if run.kind == kind]) for kind in kinds]
    rows = [("", "runs", "deviating", "seconds"), *by_kind, _row("all", runs)]
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:{width}}  {row[1]:>5}  {row[2]:>9}  {row[3]:>7}" for row in rows]
    found = [f"{run.kind}, {run.name}: {deviation}" for run in runs for deviation in run.deviations]
    return "\n".join([*lines, *found])


def _row(name: str, runs: Sequence[Run]) -> tuple[str, str, str, str]:
    deviating = sum(bool(run.deviations) for run in runs)
    return name, str(len(runs)), str(deviating), f"{sum(run.seconds for run in runs):.1f}"
