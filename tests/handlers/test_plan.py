"""The plan as a comment on an open pull request, for its label; the same words as in a dry run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telefonistka.core import comments
from telefonistka.core.guards import Ceiling
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import PLAN, plan, promote, route, supersedes
from tests.core.values import flow
from tests.handlers.test_drift import bodies, golden
from tests.handlers.test_merge import config
from tests.handlers.world import World, working, world

FLOWS = (
    flow("lab/", ["fast/"], labels=["quick"]),
    flow("lab/", ("Staging", ["staging/eu/", "staging/us/"]), ["prod/"], auto=True),
    flow("core/", ["prod/", "core/api/deep/"]),
    flow("base/[^/]*/", ["edge/"]),
)
FILES: dict[str, Any] = {
    "lab/nginx/values.yaml": "1",
    "lab/nginx/old.yaml": "1",
    "staging/eu/nginx/values.yaml": "1",
    "staging/eu/nginx/old.yaml": "1",
    "staging/us/nginx/values.yaml": "2",
    "lab/pay/values.yaml": "1",
    "lab/pay/telefonistka.yaml": "promotionTargetBlockList:\n  - ^prod/\n",
    "prod/pay/values.yaml": "1",
    "core/api/f": "1",
    "base/a/c/f": "1",
    "base/b/c/f": "2",
    "docs/index": "1",
}
CHANGE: dict[str, Any] = {
    "lab/nginx/values.yaml": "2",
    "lab/nginx/old.yaml": None,
    "lab/nginx/new.yaml": "1",
    "lab/pay/values.yaml": "2",
    "core/api/f": "2",
    "base/a/c/f": "3",
    "base/b/c/f": "4",
    "docs/index": "2",
}


async def labelled(place: World, number: int = 1) -> str:
    """What the bot says when somebody asks for the plan."""
    await place.ask("POST", f"/issues/{number}/labels", labels=[plan.LABEL])
    event = await place.event(number, "labeled", label=plan.LABEL)
    assert route(event) == (PLAN,)
    async with working(place) as given:
        return (await plan.run(event, given)).text


async def test_a_whole_plan(tmp_path: Path) -> None:
    """Chart, tables, counts, skipped targets, auto-merge, refusals, conflicts, flows not taken, files without one."""
    async with world(tmp_path, config(*FLOWS) | FILES) as place:
        await place.open("change", CHANGE)
        assert await labelled(place) == "the plan is in a comment"
        (comment,) = bodies(place)
        golden(place, "plan.md", comment)


async def test_a_dry_run_says_the_same(tmp_path: Path) -> None:
    """Word for word: on the pull request before its merge, and after it; in one comment that is edited."""
    flows = config(*FLOWS, dryRunMode=True)
    async with world(tmp_path, flows | FILES) as place:
        await place.open("change", CHANGE)
        await labelled(place)
        (before,) = bodies(place)
        event = await place.merge(1)
        async with working(place) as given:
            with pytest.raises(Rejected):
                await promote.run(event, given)
        assert bodies(place) == [before]


async def test_running_twice_writes_once(tmp_path: Path) -> None:
    """And a change of the answer is written into the same comment."""
    async with world(tmp_path, config(*FLOWS) | FILES) as place:
        await place.open("change", CHANGE)
        await labelled(place)
        state = place.state()
        place.box.calls.clear()
        await labelled(place)
        assert place.state() == state
        assert [call for call in place.calls() if call.method != "GET" and not call.operation] == []
        await place.commit({"staging/us/nginx/more": "1"})
        await labelled(place)
        (comment,) = bodies(place)
        assert "| `staging/us/nginx` | `lab/nginx` | 1 added, 1 removed |" in comment


@pytest.mark.parametrize("action", ["synchronize", "reopened"])
async def test_it_is_renewed_while_the_label_is_on(tmp_path: Path, action: str) -> None:
    """Whoever pushes once more finds the plan of what they pushed, in the same comment."""
    async with world(tmp_path, config(flow("lab/", ["prod/"])) | {"lab/x/f": "1"}) as place:
        number = await place.open("change", {"lab/x/f": "2"})
        assert PLAN not in route(await place.event(number, action))
        await labelled(place)
        await place.commit({"lab/x/g": "1"}, "change")
        event = await place.event(number, action)
        assert route(event)[-1] is PLAN
        for _ in range(2):
            async with working(place) as given:
                await plan.run(event, given)
        (comment,) = bodies(place)
        assert "| `prod/x` | `lab/x` | new: 2 added |" in comment
        await place.ask("DELETE", f"/issues/{number}/labels/{plan.LABEL}")
        assert PLAN not in route(await place.event(number, action))


async def test_only_the_newest_heads_plan_is_made(tmp_path: Path) -> None:
    """A label that was just put on is answered all the same."""
    async with world(tmp_path, FILES) as place:
        number = await place.open("change", {"lab/pay/values.yaml": "2"})
        older, newer = await place.event(number, "synchronize"), await place.event(number, "synchronize")
        assert supersedes(newer, older, PLAN)
        assert not supersedes(newer, replace(older, action="labeled", label=plan.LABEL), PLAN)


async def test_sources_are_the_heads_and_targets_the_bases(tmp_path: Path) -> None:
    """What the pull request does to a target is no part of what is promoted to it."""
    async with world(tmp_path, config(flow("lab/", ["prod/"])) | {"lab/x/f": "1", "prod/x/f": "1"}) as place:
        await place.open("change", {"lab/x/f": "2", "prod/x/f": "2"})
        await labelled(place)
        assert "| `prod/x` | `lab/x` | 1 changed |" in bodies(place)[0]


@pytest.mark.parametrize(
    ("before", "after", "skipped"),
    [
        ("promotionTargetBlockList: [prod]", None, "x/telefonistka.yaml:1"),
        ("promotionTargetBlockList: [prod]", "{}", "x/telefonistka.yaml:1"),
        ("{}", "promotionTargetBlockList: [prod]", "x/telefonistka.yaml:1"),
        (None, "promotionTargetBlockList: [prod]", "x/telefonistka.yaml:1"),
        ("{}", "{}", None),
    ],
    ids=["removed", "loosened", "tightened", "added", "neither"],
)
async def test_a_component_file_of_the_head_may_only_forbid(
    tmp_path: Path, before: str | None, after: str | None, skipped: str | None
) -> None:
    """Whoever opens a pull request has no say yet."""
    files = config(flow("lab/", ["prod/"])) | {"lab/x/f": "1"}
    async with world(tmp_path, files | ({"lab/x/telefonistka.yaml": before} if before else {})) as place:
        changed = {} if before == after else {"lab/x/telefonistka.yaml": after}
        await place.open("change", {"lab/x/f": "2", **changed})
        await labelled(place)
        (comment,) = bodies(place)
        assert ("blocked by 'prod' (`lab/x/telefonistka.yaml:1`)" in comment) == (skipped is not None)


async def test_a_component_file_of_the_head_that_is_broken_is_said(tmp_path: Path) -> None:
    """The merge would refuse the component."""
    async with world(tmp_path, config(flow("lab/", ["prod/"])) | {"lab/x/f": "1"}) as place:
        await place.open("change", {"lab/x/telefonistka.yaml": "a: ["})
        await labelled(place)
        assert "Nothing will be promoted." in bodies(place)[0]
        assert "`lab/x`: its own file may forbid this and cannot be used" in bodies(place)[0]


async def test_a_change_of_the_configuration_is_said(tmp_path: Path) -> None:
    """The plan goes by the base's file."""
    async with world(tmp_path, config(flow("lab/", ["prod/"])) | {"lab/x/f": "1"}) as place:
        await place.open("change", {"lab/x/f": "2"} | config(flow("lab/", ["elsewhere/"])))
        await labelled(place)
        (comment,) = bodies(place)
        assert "| `prod/x` | `lab/x` | new: 1 added |" in comment
        assert "This pull request changes telefonistka.yaml." in comment


@pytest.mark.parametrize(
    ("files", "change", "says"),
    [
        ({"lab/x/f": "1"}, {"lab/x/f": "2"}, "no changed file belongs to a component of a flow"),
        (config(flow("lab/", ["prod/"])) | {"prod/x/f": "2"}, {"lab/x/f": "2"}, "every target already equals"),
        (config(flow("lab/", ["prod/"], labels=["go"])), {"lab/x/f": "2"}, "no flow's labels are on the pull request"),
        (
            config(flow("lab/", ["prod/"])) | {"lab/x/telefonistka.yaml": "promotionTargetAllowList: [a]"},
            {"lab/x/f": "2"},
            "the components' own files rule out every target",
        ),
    ],
    ids=["no flow", "equal", "label", "skipped"],
)
async def test_it_says_why_nothing_will_be_promoted(
    tmp_path: Path, files: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    async with world(tmp_path, files | {"README": "1"}) as place:
        await place.open("change", change)
        await labelled(place)
        assert f"Nothing will be promoted: {says}" in bodies(place)[0]


async def test_deletions_and_the_operators_ceiling_are_said(tmp_path: Path) -> None:
    """What keeps a promotion from being merged by itself."""
    many = {f"{side}/x/f{n}": "1" for side in ("lab", "prod") for n in range(60)}
    async with world(tmp_path, config(flow("lab/", ["prod/"], auto=True)) | many) as place:
        await place.open("change", {f"lab/x/f{n}": None for n in range(55)})
        await labelled(place)
        (comment,) = bodies(place)
        assert "- not merged by itself: it deletes 55 files, more than 50" in comment
        assert "- **please look:** deletes 55 of 60 files in `prod/x`" in comment
        place = replace(place, ceiling=Ceiling(auto_merge=False, targets=("staging",)))
        await labelled(place)
        assert "the operator of Telefonistka lets nothing be promoted to it" in bodies(place)[0]


async def test_a_broken_configuration_is_said_in_the_plans_place(tmp_path: Path) -> None:
    """With its line, and gone as soon as there is a plan."""
    async with world(tmp_path, {"telefonistka.yaml": "promotionPaths: 7\n", "lab/x/f": "1"}) as place:
        await place.open("change", {"lab/x/f": "2"})
        with pytest.raises(Rejected, match=r"telefonistka.yaml:1:17"):
            await labelled(place)
        assert "telefonistka.yaml:1:17: error" in bodies(place)[0]
        await place.commit(config(flow("lab/", ["prod/"])))
        await labelled(place)
        (comment,) = bodies(place)
        assert comment.startswith(f"{comments.TAG}\n<!-- telefonistka plan -->\n### Promotion plan\n")


async def test_a_plan_of_many_targets_goes_on_in_further_comments(tmp_path: Path) -> None:
    """Every row is there, and every table has its head."""
    targets = [f"clusters/production/region-with-a-long-name-{number:03}/" for number in range(150)]
    names = [f"component-{number}" for number in range(8)]
    files = config(flow("lab/", targets)) | {f"lab/{name}/f": "1" for name in names}
    async with world(tmp_path, files) as place:
        await place.open("change", {f"lab/{name}/f": "2" for name in names})
        await labelled(place)
        told = bodies(place)
        assert len(told) > 1
        assert sum(one.count(" | new: 1 added |") for one in told) == len(targets) * len(names)
        assert all(len(one) <= comments.BUDGET for one in told)


async def test_a_closed_pull_request_gets_no_plan(tmp_path: Path) -> None:
    async with world(tmp_path, config(flow("lab/", ["prod/"])) | {"lab/x/f": "1"}) as place:
        await place.open("change", {"lab/x/f": "2"})
        await place.ask("PATCH", "/pulls/1", state="closed")
        assert await labelled(place) == "nothing to say: the pull request is closed"


FAULTS: list[dict[str, Any]] = [{"action": "answer", "status": 502}, {"action": "reset", "when": "after"}]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(str(value) for value in fault.values()))
async def test_a_fault_at_any_call_changes_nothing_in_the_end(tmp_path: Path, fault: dict[str, Any]) -> None:
    """For each call in turn: killed there and begun again, the same comment stands at the end."""
    expected, calls = await _with_fault(tmp_path / "clean", None)
    for nth in range(1, calls + 1):
        found, _ = await _with_fault(tmp_path / str(nth), {**fault, "nth": nth})
        assert found == expected, f"call {nth} of {calls}"


async def _with_fault(directory: Path, fault: dict[str, Any] | None) -> tuple[Any, int]:
    async with world(directory, config(*FLOWS) | FILES) as place:
        await place.open("change", CHANGE)
        await place.ask("POST", "/issues/1/labels", labels=[plan.LABEL])
        event = await place.event(1, "labeled", label=plan.LABEL)
        place.box.calls.clear()
        if fault is not None:
            place.box.rules.add(**fault)
        for _ in range(3):
            try:
                async with working(place) as given:
                    await plan.run(event, given)
            except TryAgain:
                continue
            break
        return place.state(), len(place.calls())
