"""Drift: what differs on the default branch before a merge, said on the pull request through real HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from telefonistka.core import comments, lineage, parts
from telefonistka.core.events import PullRequest
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import DRIFT, PLAN, drift, promote, route
from tests.core.values import flow
from tests.handlers.test_merge import config
from tests.handlers.world import World, working, world

GOLDEN = Path(__file__).parent / "golden"
ONE = config(flow("lab/", ["prod/"]))


async def happens(place: World, event: PullRequest) -> str:
    """What the bot says of an event."""
    assert route(event)[-1] is DRIFT
    async with working(place) as given:
        return (await drift.run(event, given)).text


async def opened(place: World, files: dict[str, Any], **fields: Any) -> PullRequest:
    number = await place.open("change", files, **fields)
    return await place.event(number, "opened")


def bodies(place: World, number: int = 1) -> list[str]:
    return [one.body for one in place.repo.pulls[number].comments.values() if one.minimized is None]


def normal(place: World, text: str) -> str:
    """A comment without what differs from run to run."""
    text = text.replace(f"http://127.0.0.1:{place.box.url.rpartition(':')[2]}", "https://github.example")
    text = re.sub(r"\b[0-9a-f]{40}\b", "<commit>", text)
    return re.sub(r"`[0-9a-f]{7}`", "`<short>`", re.sub(r"\d{4}-\d\d-\d\d", "<date>", text))


def golden(place: World, name: str, text: str) -> None:
    assert normal(place, text) == (GOLDEN / name).read_text()


DIFFERENT = {
    "lab/x/values.yaml": "".join(f"line: {n}\n" for n in range(9)),
    "prod/x/values.yaml": "".join(f"line: {n}\n" for n in (0, 1, 2, "three", 4, 5, 6, 7, 8)),
    "lab/x/run.sh": {"content": "#!/bin/sh\n", "mode": "100755"},
    "prod/x/run.sh": "#!/bin/sh\n",
    "lab/x/link": {"symlink": "values.yaml"},
    "prod/x/link": {"symlink": "elsewhere"},
    "lab/x/module": {"submodule": "1" * 40},
    "prod/x/module": {"submodule": "2" * 40},
    "lab/x/logo.png": b"\0\x01",
    "prod/x/logo.png": b"\0\x02\x03",
    "lab/x/large": "a" * 1_000_001,
    "prod/x/large": "b" * 1_000_002,
    "lab/x/latin": b"caf\xe9",
    "prod/x/latin": "café",
    "lab/x/only-here": "1",
    "prod/x/only-there": "1",
    "lab/x/kind": "file",
    "prod/x/kind": {"symlink": "x"},
    "lab/x/dir/f": "1",
    "prod/x/dir": "a file",
    "lab/x/same": "1",
    "prod/x/same": "1",
    "lab/y/f": "1",
    "lab/z/f": "1",
    "prod/z/f": "1",
}


async def test_every_kind_of_difference_is_shown(tmp_path: Path) -> None:
    """The whole comment: text, modes, links, submodules, binary and large files, one-sided ones, and why."""
    async with world(tmp_path, ONE | DIFFERENT) as place:
        event = await opened(place, {"lab/x/new": "1", "lab/y/f": "2", "lab/z/f": "2"})
        assert await happens(place, event) == "drift in 2 targets, 0 in flight"
        (comment,) = bodies(place)
        golden(place, "drift.md", comment)
        assert comment.startswith("<!-- telefonistka_tag -->\n<!-- telefonistka drift -->\n")
        main = place.repo.git.branch("main")
        assert f"{place.box.url}/acme/iac/blame/{main}/lab/x/values.yaml" in comment


async def test_the_pull_requests_own_content_is_not_looked_at(tmp_path: Path) -> None:
    """It would always differ; what matters is what stands before it. Nothing differs, nothing is said."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "1"}) as place:
        event = await opened(place, {"lab/x/f": "2", "prod/x/f": "3"})
        assert await happens(place, event) == "no drift"
        assert bodies(place) == []


async def test_drift_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    """The one comment is edited, and a person who comes later is not misled."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "0"}) as place:
        event = await opened(place, {"lab/x/f": "2"})
        await happens(place, event)
        await place.commit({"prod/x/f": "1"})
        assert await happens(place, event) == "no drift"
        (comment,) = bodies(place)
        golden(place, "no_drift.md", comment)


async def test_running_twice_writes_once(tmp_path: Path) -> None:
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "0"}) as place:
        event = await opened(place, {"lab/x/f": "2"})
        await happens(place, event)
        state = place.state()
        place.box.calls.clear()
        await happens(place, event)
        assert place.state() == state
        assert {call.method for call in place.calls()} <= {"GET", "POST"}
        assert not [call for call in place.calls() if call.method == "POST" and not call.operation]


async def test_a_promotion_on_its_way_explains_drift_in_one_line(tmp_path: Path) -> None:
    """Its head has at the target what the source is: that is looked up, not believed."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "1", "lab/y/f": "1", "prod/y/f": "0"}) as place:
        async with working(place) as given:
            await promote.run(await place.merged({"lab/x/f": "2"}), given)
        event = await place.event(await place.open("later", {"lab/x/f": "3", "lab/y/f": "2"}), "opened")
        assert await happens(place, event) == "drift in 1 target, 1 in flight"
        (comment,) = bodies(place, event.number)
        golden(place, "drift_in_flight.md", comment)


async def test_a_promotion_that_brings_something_else_explains_nothing(tmp_path: Path) -> None:
    """The source has moved on since, or its body was forged."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "1"}) as place:
        async with working(place) as given:
            await promote.run(await place.merged({"lab/x/f": "2"}), given)
        await place.commit({"lab/x/f": "2b"})
        event = await place.event(await place.open("later", {"lab/x/f": "3"}), "opened")
        assert await happens(place, event) == "drift in 1 target, 0 in flight"
        (comment,) = bodies(place, event.number)
        assert "#2 is open and changes it, but not to what the source is now." in comment


async def test_a_persons_pull_request_is_no_promotion(tmp_path: Path) -> None:
    """Label, branch and metadata are easily made; our name is not."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "0"}) as place:
        body = lineage.marker(lineage.Lineage(promoted_paths=("prod/x",)))
        number = await place.open("promotions/9-forged", {"prod/x/f": "1"}, body=body)
        await place.ask("POST", f"/issues/{number}/labels", labels=["promotion"])
        event = await opened(place, {"lab/x/f": "2"})
        assert await happens(place, event) == "drift in 1 target, 0 in flight"


async def test_a_source_that_is_gone_is_drift(tmp_path: Path) -> None:
    """Its target still stands, since nobody promoted the removal."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/y/f": "1"}) as place:
        event = await opened(place, {"lab/y/g": "2"})
        assert await happens(place, event) == "drift in 1 target, 0 in flight"
        assert "The source is gone." in bodies(place)[0]


async def test_labels_of_now_choose_the_flow(tmp_path: Path) -> None:
    """D81: as they do when the pull request is merged."""
    flows = config(flow("lab/", ["fast/"], labels=["quick"]), flow("lab/", ["prod/"]))
    async with world(tmp_path, flows | {"lab/x/f": "1", "prod/x/f": "1", "fast/x/f": "0"}) as place:
        event = await opened(place, {"lab/x/f": "2"})
        assert await happens(place, event) == "no drift"
        await place.ask("POST", "/issues/1/labels", labels=["quick"])
        assert await happens(place, event) == "drift in 1 target, 0 in flight"


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize"])
async def test_pull_requests_into_other_branches_have_no_drift(tmp_path: Path, action: str) -> None:
    """D44; the default branch of now decides, even if the payload was older."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "0"}) as place:
        await place.commit({"lab/x/f": "1"}, "release")
        await opened(place, {"lab/x/f": "2"}, base="release")
        event = await place.event(1, action)
        assert route(event) == ()
        async with working(place) as given:
            assert (await drift.run(event, given)).text == "nothing to say: it goes into release, not into main"
        assert bodies(place) == []


async def test_a_closed_pull_request_is_left_alone(tmp_path: Path) -> None:
    """It was closed before its turn came."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "0"}) as place:
        event = await opened(place, {"lab/x/f": "2"})
        await place.ask("PATCH", "/pulls/1", state="closed")
        assert await happens(place, event) == "nothing to say: the pull request is closed"


async def test_a_broken_configuration_is_an_ending_with_its_line(tmp_path: Path) -> None:
    """D110: an error is never no drift."""
    async with world(tmp_path, {"telefonistka.yaml": "promotionPaths: 7\n", "lab/x/f": "1"}) as place:
        event = await opened(place, {"lab/x/f": "2"})
        with pytest.raises(Rejected, match=r"telefonistka.yaml:1:17"):
            await happens(place, event)


async def test_what_the_original_said_is_minimized(tmp_path: Path) -> None:
    """Its comments bear the same tag and no kind; a person's are never touched."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "prod/x/f": "0"}) as place:
        event = await opened(place, {"lab/x/f": "2"})
        for who in (place.bot, place.alice):
            await place.ask("POST", "/issues/1/comments", by=who, body=f"{comments.TAG}\nDrift, as of old")
        for _ in range(2):
            await happens(place, event)
        first, second, ours = place.repo.pulls[1].comments.values()
        assert (first.minimized, second.minimized, ours.minimized) == ("OUTDATED", None, None)


async def test_a_long_drift_goes_on_in_further_comments_and_shrinks_again(tmp_path: Path) -> None:
    """Torn between files, edited in place; what is too much in the end is taken away."""
    many = {f"{side}/x/f{n:02}": f"{side} {n} `@alice` \n" * 300 for side in ("lab", "prod") for n in range(20)}
    async with world(tmp_path, ONE | many) as place:
        event = await opened(place, {"lab/x/new": "1"})
        await happens(place, event)
        first = list(place.repo.pulls[1].comments)
        told = bodies(place)
        assert len(told) > 1
        assert all(len(one) <= parts.BUDGET for one in told)
        assert all(one.startswith(f"{comments.TAG}\n<!-- telefonistka drift -->\n") for one in told)
        assert all(one.count("<details>") == one.count("</details>") for one in told)
        for n in range(20):
            (file,) = [one for one in told if f"<summary><code>prod/x/f{n:02}</code>" in one]
            assert f"+prod {n} `@alice` " in file
        await place.commit({f"prod/x/f{n:02}": many[f"lab/x/f{n:02}"] for n in range(19)})
        await happens(place, event)
        assert list(place.repo.pulls[1].comments) == first[:1]
        await place.commit({f"prod/x/f{n:02}": many[f"prod/x/f{n:02}"] for n in range(19)})
        await happens(place, event)
        assert [body.count("<summary>") for body in bodies(place)] == [body.count("<summary>") for body in told]


async def test_what_fits_no_comment_is_named_with_where_to_see_it(tmp_path: Path) -> None:
    many = {f"{side}/x/f{n:02}": f"{side} {n} and more of it\n" * 490 for side in ("lab", "prod") for n in range(40)}
    async with world(tmp_path, ONE | many) as place:
        event = await opened(place, {"lab/x/new": "1"})
        await happens(place, event)
        told = bodies(place)
        assert len(told) == parts.PARTS
        shown = sum(one.count("<summary>") for one in told)
        assert f"**{40 - shown} more parts are left out**" in told[-1]
        assert f"`prod/x/f{shown:02}`" in told[-1]
        assert f"`git diff {place.repo.git.branch('main')}:<source>" in told[-1]


FAULTS: list[dict[str, Any]] = [
    {"action": "answer", "status": 502},
    {"action": "reset", "when": "after"},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(str(value) for value in fault.values()))
async def test_a_fault_at_any_call_changes_nothing_in_the_end(tmp_path: Path, fault: dict[str, Any]) -> None:
    """For each call in turn: killed there and begun again, the same comments stand at the end."""
    clean, calls = await _with_fault(tmp_path / "clean", None)
    for nth in range(1, calls + 1):
        found, _ = await _with_fault(tmp_path / str(nth), {**fault, "nth": nth})
        assert found == clean, f"call {nth} of {calls}"


async def _with_fault(directory: Path, fault: dict[str, Any] | None) -> tuple[list[str], int]:
    """What stands after a long drift became a short one, with the original's comment before both."""
    many = {f"{side}/x/f{n:02}": f"{side} {n}\n" * 400 for side in ("lab", "prod") for n in range(10)}
    async with world(directory, ONE | many) as place:
        event = await opened(place, {"lab/x/new": "1"})
        await place.ask("POST", "/issues/1/comments", by=place.bot, body=f"{comments.TAG}\nof old")
        place.box.calls.clear()
        if fault is not None:
            place.box.rules.add(**fault)
        told = []
        for step in range(2):
            await _until_done(place, event)
            told += [normal(place, body) for body in bodies(place)]
            if not step:
                await place.commit({f"prod/x/f{n:02}": many[f"lab/x/f{n:02}"] for n in range(9)})
        assert len(told) > 2
        return told, len(place.calls())


async def _until_done(place: World, event: PullRequest) -> None:
    for _ in range(4):
        try:
            await happens(place, event)
        except TryAgain:
            continue
        return
    raise AssertionError("it does not end")


@pytest.mark.parametrize("drifting", [0, 4, 200], ids=lambda number: str(number))
async def test_drift_costs_what_is_promised(tmp_path: Path, drifting: int) -> None:
    """At most 10 + ⌈differing blobs/100⌉ + ⌈changed pairs/50⌉ calls for 10 components and 20 targets."""
    components, targets = 10, 20
    files: dict[str, Any] = config(flow("lab/", [f"prod/{number:02}/" for number in range(targets)]))
    pairs = [(f"app{c}", f"prod/{t:02}") for c in range(components) for t in range(targets)]
    for c in range(components):
        files[f"lab/app{c}/telefonistka.yaml"] = "promotionTargetBlockList: [nowhere]"
        files |= {f"lab/app{c}/f{n}": f"{c} {n}\n" for n in range(3)}
    for number, (name, target) in enumerate(pairs):
        own = f"{name} {target}\n" if number < drifting else f"{name[3:]} 0\n"
        files |= {f"{target}/{name}/f{n}": f"{name[3:]} {n}\n" for n in range(1, 3)}
        files |= {
            f"{target}/{name}/f0": own,
            f"{target}/{name}/telefonistka.yaml": "promotionTargetBlockList: [nowhere]",
        }
    async with world(tmp_path, files) as place:
        event = await opened(place, {f"lab/app{c}/new": "1" for c in range(components)})
        place.box.calls.clear()
        assert await happens(place, event) == (f"drift in {drifting} targets, 0 in flight" if drifting else "no drift")
        blobs = drifting + min(components, -(-drifting // targets))
        assert len(place.calls()) <= 10 + -(-blobs // 100) + -(-drifting // 50)
        print(f"{drifting} of {len(pairs)} pairs differ: {len(place.calls())} calls")


async def test_the_label_for_a_plan_and_no_other_asks_for_one(tmp_path: Path) -> None:
    """D90: another label that is added beside it is no question."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        await opened(place, {"lab/x/f": "2"})
        event = await place.event(1, "labeled", label="show-plan")
        assert route(event) == (PLAN,)
        assert route(await place.event(1, "labeled", label="other")) == ()
        assert route(await place.event(1, "unlabeled", label="show-plan")) == ()
