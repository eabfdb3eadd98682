"""A merge becomes promotion pull requests: through real HTTP, on real git, however GitHub behaves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.core import lineage, trees
from telefonistka.core.lineage import Hop
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import promote
from tests.core.values import flow
from tests.handlers.world import World, empty_ledger, working, world

CHAIN = """
promotionPaths:
  - sourcePath: lab/
    promotionPrs:
      - targetDescription: Staging
        targetPaths: [staging/eu/, staging/us/]
  - sourcePath: staging/[^/]*/
    promotionPrs:
      - targetPaths: [prod/eu/]
      - targetPaths: [prod/us/]
"""
ONE = {"telefonistka.yaml": "promotionPaths: [{sourcePath: lab/, promotionPrs: [{targetPaths: [prod/]}]}]"}


def config(*flows: Mapping[str, Any], **keys: Any) -> str:
    return orjson.dumps({"promotionPaths": flows, **keys}).decode()


SWITCHES = list(itertools.product(["merge", "replace"], ["refuse", "ignore"]))
LINES = "a long enough line for a rename\n" * 9


async def promoted(place: World, *args: Any, **kwargs: Any) -> str:
    """What the bot says of a merge of these files."""
    event = await place.merged(*args, **kwargs)
    async with working(place) as given:
        return (await promote.run(event, given)).text


async def test_a_chain_of_stages_reaches_production(tmp_path: Path) -> None:
    """Each stage follows when a person merges the one before; the chain is on every pull request."""
    files = {"telefonistka.yaml": CHAIN, "lab/nginx/values.yaml": "1", "staging/eu/nginx/values.yaml": "0"}
    async with world(tmp_path, files) as place:
        assert await promoted(place, {"lab/nginx/values.yaml": "2"}) == "opened #2"
        (staging,) = place.pulls()
        assert staging["title"] == "🚀 Promotion: nginx ➡️  Staging"
        assert staging["head"] == "promotions/1-change-183fd3f4eb14"
        assert (staging["labels"], staging["assignees"]) == (["promotion"], ["alice"])
        assert lineage.parse(staging["body"]).hops == {1: Hop("lab/", ("staging/eu/", "staging/us/"))}

        event = await place.merge(2)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #3, #4"
        eu, us = place.pulls()[1:]
        assert [eu["title"], us["title"]] == ["🚀 Promotion: nginx ➡️  prod/eu/", "🚀 Promotion: nginx ➡️  prod/us/"]
        known = lineage.parse(eu["body"])
        assert (known.author, known.number, sorted(known.hops)) == ("alice", 1, [1, 2])
        assert known.hops[2] == Hop("staging/eu/", ("prod/eu/",))

        for number in (3, 4):
            last = await place.merge(number)
        async with working(place) as given:
            assert "nothing to promote" in (await promote.run(last, given)).text
        for path in ("staging/eu", "staging/us", "prod/eu", "prod/us"):
            assert place.entry(f"{path}/nginx") == place.entry("lab/nginx")


ODD = {
    "lab/x/plain": "1",
    "lab/x/run.sh": {"content": "#!/bin/sh\n", "mode": "100755"},
    "lab/x/link": {"symlink": "plain"},
    "lab/x/module": {"submodule": "1" * 40},
    "lab/x/binary": b"\0\xff\xfe",
    "lab/x/empty": "",
    "lab/x/deep/er/still": "2",
    "lab/x/ü \U0001f680 'quoted' \"twice\"": "3",
    "lab/x/new\nline": "4",
    "lab/x/was-a-directory": "5",
    "lab/x/was-a-file/now": "6",
    "prod/x/plain": "old",
    "prod/x/gone": "7",
    "prod/x/gone-too/a/b": "8",
    "prod/x/deep/er/old": "9",
    "prod/x/link": {"content": "no link", "mode": "100644"},
    "prod/x/was-a-directory/f": "10",
    "prod/x/was-a-file": "11",
    "prod/x/old-link": {"symlink": "plain"},
    "prod/x/old-module": {"submodule": "2" * 40},
    "prod/other/f": "stays",
}


@pytest.mark.parametrize(("entry", "absent"), SWITCHES)
async def test_a_target_becomes_its_source_to_the_bit(tmp_path: Path, entry: str, absent: str) -> None:
    """Whether GitHub merges or replaces a directory entry, and whether it takes the removal of what is not there."""
    async with world(tmp_path, ONE | ODD, directory_entry=entry, delete_absent=absent) as place:
        before = place.snapshot()
        assert await promoted(place, {"lab/x/plain": "new"}) == "opened #2"
        await place.merge(2)
        after = place.snapshot()
        assert after.entry("prod/x") == after.entry("lab/x")
        assert after.entry("prod/x") != before.entry("prod/x")
        assert after.entry("prod/other") == before.entry("prod/other")
        assert {path for path in trees.changed(before, after) if not path.startswith(("prod/x/", "lab/x/"))} == set()


@pytest.mark.parametrize(("entry", "absent"), SWITCHES)
async def test_a_component_that_is_gone_goes_from_its_targets(tmp_path: Path, entry: str, absent: str) -> None:
    """Absent in a complete listing is a fact; the neighbours stay."""
    files = ONE | {
        "lab/x/a": "1",
        "lab/x/b/c": "1",
        "prod/x/a": "0",
        "prod/x/own/d": "0",
        "prod/y/e": "0",
        "lab/y/e": "0",
    }
    async with world(tmp_path, files, directory_entry=entry, delete_absent=absent) as place:
        assert await promoted(place, {"lab/x/a": None, "lab/x/b/c": None}) == "opened #2"
        await place.merge(2)
        assert place.entry("prod/x") is None
        assert place.text("prod/y/e") == "0"


async def test_the_block_list_of_a_component_that_is_gone_still_holds(tmp_path: Path) -> None:
    """It is read as it was before the merge: a rule that forbids does not end with its file."""
    rules = "promotionTargetBlockList: [prod]"
    files = ONE | {"lab/x/telefonistka.yaml": rules, "lab/x/a": "1", "prod/x/a": "own"}
    async with world(tmp_path, files) as place:
        text = await promoted(place, {"lab/x/a": None, "lab/x/telefonistka.yaml": None})
        assert text == "nothing to promote: the components' own files rule out every target"
        assert place.text("prod/x/a") == "own"


async def test_what_is_refused_is_not_told_as_promoted(tmp_path: Path) -> None:
    """Neither in title, body nor metadata, nor in what the merge is told; the plan's comment says why."""
    files = {"telefonistka.yaml": config(flow("lab/", ["prod/", ".github/"]))}
    async with world(tmp_path, files) as place:
        event = await place.merged({"lab/x/f": "1"})
        async with working(place) as given:
            with pytest.raises(Rejected, match=r"\.github/x"):
                await promote.run(event, given)
        (pull,) = place.pulls()
        assert pull["title"].endswith("➡️  prod/")
        assert ".github" not in pull["body"]
        known = lineage.parse(pull["body"])
        assert known.hops[1].targets == ("prod/",)
        merged = place.state()["pulls"][0]["comments"]
        (plan,) = (one["body"] for one in merged if "telefonistka plan" in one["body"])
        assert "to `prod/`" in plan
        assert "`.github/x`" in plan


async def test_a_rename_promotes_the_old_component_and_the_new(tmp_path: Path) -> None:
    """D42: the old one is removed where it was promoted to."""
    files = ONE | {
        "lab/x/a": "a long enough line for a rename\n" * 9,
        "prod/x/a": "a long enough line for a rename\n" * 9,
    }
    async with world(tmp_path, files) as place:
        await promoted(place, {"lab/x/a": None, "lab/y/a": LINES})
        await place.merge(2)
        assert place.entry("prod/x") is None
        assert place.entry("prod/y") == place.entry("lab/y")


async def test_a_dry_run_leaves_a_comment_and_nothing_else(tmp_path: Path) -> None:
    """The plan stands on the merged pull request; a second run does not repeat it."""
    files = {"telefonistka.yaml": CHAIN + "dryRunMode: true\n", "lab/x/f": "1"}
    async with world(tmp_path, files) as place:
        event = await place.merged({"lab/x/f": "2"})
        for _ in range(2):
            async with working(place) as given:
                assert (await promote.run(event, given)).text == "dry run: the plan is in a comment"
        state = place.state()
        (comment,) = state["pulls"][0]["comments"]
        assert comment["body"].startswith("<!-- telefonistka_tag -->\n")
        assert "| `staging/eu/x` | `lab/x` | new: 1 added |" in comment["body"]
        assert place.pulls() == []
        assert sorted(state["trees"]) == ["change", "main"]


async def test_a_broken_component_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    """D28: its file may forbid the promotion, so it is refused, loudly."""
    files = ONE | {"lab/x/f": "1", "lab/y/f": "1", "lab/x/telefonistka.yaml": "promotionTargetBlockList: prod/"}
    async with world(tmp_path, files) as place:
        with pytest.raises(Rejected, match=r"opened #2; 1 left out, first lab/x"):
            await promoted(place, {"lab/x/f": "2", "lab/y/f": "2"})
        (pull,) = place.pulls()
        assert pull["title"] == "🚀 Promotion: y ➡️  prod/"
        plan, result = place.state()["pulls"][0]["comments"]
        assert "lab/x/telefonistka.yaml:1:27: error" in plan["body"]
        assert "the plan in another comment says what and why" in result["body"]


@pytest.mark.parametrize(
    "rules", [{"symlink": "../elsewhere"}, {"submodule": "1" * 40}, {"content": "a: [", "mode": "100755"}, b"\xff"]
)
async def test_a_component_file_that_is_no_file_refuses_the_component(tmp_path: Path, rules: Any) -> None:
    """Whatever stands in its place, nothing is promoted past it."""
    async with world(tmp_path, ONE | {"lab/x/f": "1", "lab/x/telefonistka.yaml": rules}) as place:
        with pytest.raises(Rejected, match="left out, first lab/x"):
            await promoted(place, {"lab/x/f": "2"})
        assert place.pulls() == []


async def test_a_broken_configuration_is_said_on_the_pull_request(tmp_path: Path) -> None:
    """D21: nothing is promoted, and the one comment names the line."""
    async with world(tmp_path, {"telefonistka.yaml": "promotionPaths: 7\n", "lab/x/f": "1"}) as place:
        event = await place.merged({"lab/x/f": "2"})
        for _ in range(2):
            async with working(place) as given:
                with pytest.raises(Rejected, match="configuration is broken"):
                    await promote.run(event, given)
        (comment,) = place.state()["pulls"][0]["comments"]
        assert "telefonistka.yaml:1:17: error" in comment["body"]


@pytest.mark.parametrize(
    ("files", "change", "says"),
    [
        ({"lab/x/f": "1"}, {"lab/x/f": "2"}, "no changed file belongs to a component of a flow"),
        (ONE, {"docs/f": "2"}, "no changed file belongs to a component of a flow"),
        (ONE | {"prod/x/f": "2"}, {"lab/x/f": "2"}, "every target already equals its source"),
        (
            {"telefonistka.yaml": config(flow("lab/", ["prod/"], labels=["go"]))},
            {"lab/x/f": "2"},
            "no flow's labels are on the pull request",
        ),
    ],
    ids=["no configuration", "no component", "equal", "label"],
)
async def test_it_says_why_it_does_nothing(
    tmp_path: Path, files: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    """Doing nothing is an ending with a reason, not a silence."""
    async with world(tmp_path, files | {"README": "1"}) as place:
        assert await promoted(place, change) == f"nothing to promote: {says}"
        assert place.pulls() == []


async def test_labels_are_read_when_acting(tmp_path: Path) -> None:
    """D47: a label that came after the merge counts, whatever the payload says."""
    files = {"telefonistka.yaml": config(flow("lab/", ["prod/"], labels=["go"])), "lab/x/f": "1"}
    async with world(tmp_path, files) as place:
        event = await place.merged({"lab/x/f": "2"})
        await place.ask("POST", "/issues/1/labels", labels=["go"])
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2"


async def test_a_merge_into_another_branch_promotes_nothing(tmp_path: Path) -> None:
    """D44: the default branch of now decides, even if the payload was older."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        await place.commit({"lab/x/f": "1"}, "release")
        number = await place.open("change", {"lab/x/f": "2"}, base="release")
        event = await place.merge(number)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == ("nothing to promote: merged into release, not into main")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
async def test_every_way_to_merge_promotes(tmp_path: Path, method: str) -> None:
    """The content comes from the default branch, whatever became of the pull request's own commits."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        number = await place.open("change", {"lab/x/f": "2"})
        await place.commit({"lab/x/g": "3"}, "change")
        await place.commit({"elsewhere": "4"})
        event = await place.merge(number, merge_method=method)
        async with working(place) as given:
            await promote.run(event, given)
        await place.merge(2)
        assert place.entry("prod/x") == place.entry("lab/x")
        assert place.text("prod/x/g") == "3"


async def test_the_head_is_promoted_where_it_has_moved_past_the_merge(tmp_path: Path) -> None:
    """One commit is pinned that holds the merge; the content is that commit's."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        event = await place.merged({"lab/x/f": "2"})
        await place.commit({"lab/x/g": "later"})
        async with working(place) as given:
            await promote.run(event, given)
        await place.merge(2)
        assert place.text("prod/x/g") == "later"


async def test_a_default_branch_without_the_merge_is_waited_for(tmp_path: Path) -> None:
    """GitHub may answer with an older head for a while; nothing is planned from it."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        before = place.repo.git.branch("main")
        event = await place.merged({"lab/x/f": "2"})
        place.repo.git.set_ref("refs/heads/main", before or "", expected=place.repo.git.branch("main"))
        async with working(place) as given:
            with pytest.raises(TryAgain, match="does not hold the merge commit"):
                await promote.run(event, given)
        assert place.pulls() == []


async def test_a_tree_that_github_cuts_off_is_read_where_it_is_needed(tmp_path: Path) -> None:
    """D52: a truncated listing is never the whole."""
    files = (
        ONE
        | {f"lab/x/d{number % 5}/f{number}": str(number) for number in range(30)}
        | {"prod/x/old": "1", "prod/y/f": "1"}
    )
    async with world(
        tmp_path, files | {"lab/x/telefonistka.yaml": "promotionTargetBlockList: [nowhere]"}, tree_limit=10
    ) as place:
        assert await promoted(place, {"lab/x/d0/f0": "new"}) == "opened #2"
        await place.merge(2)
        assert place.entry("prod/x") == place.entry("lab/x")
        assert place.text("prod/y/f") == "1"


async def test_files_beyond_githubs_cap_are_found_by_their_trees(tmp_path: Path) -> None:
    """D43: the file list ends at 3,000; what comes after it is promoted all the same."""
    files = ONE | {"lab/a/f": "1", "lab/z/f": "1"}
    change = {f"lab/a/{number:04}": "x" for number in range(3_010)} | {"lab/z/f": "2"}
    async with world(tmp_path, files) as place:
        assert await promoted(place, change) == "opened #2"
        assert place.pulls()[0]["title"] == "🚀 Promotion: a,z ➡️  prod/"


async def test_running_twice_is_running_once(tmp_path: Path) -> None:
    """With its ledger, the second run writes nothing; without it, it finds what stands."""
    files = {"telefonistka.yaml": CHAIN, "lab/x/f": "1"}
    async with world(tmp_path, files) as place:
        event = await place.merged({"lab/x/f": "2"})
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2"
        state = place.state()
        place.box.calls.clear()
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2"
        assert place.calls() == []
        assert place.state() == state


async def test_a_lost_ledger_does_not_open_a_pull_request_twice(tmp_path: Path) -> None:
    """The branch is ours by its commit, and its pull request is adopted with what people put on it."""
    files = {"telefonistka.yaml": CHAIN, "lab/x/f": "1"}
    async with world(tmp_path, files) as place:
        event = await place.merged({"lab/x/f": "2"})
        async with working(place) as given:
            await promote.run(event, given)
        await place.ask("POST", "/issues/2/labels", labels=["urgent"])
        async with empty_ledger(place, tmp_path) as given:
            assert (await promote.run(event, given)).text == "opened #2"
        (pull,) = place.pulls()
        assert pull["labels"] == ["promotion", "urgent"]


async def test_a_foreign_branch_of_our_name_is_left_alone(tmp_path: Path) -> None:
    """A person's commits are not overwritten; ours goes beside them."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        name = "promotions/1-change-ca57dbeec6a9"
        await place.commit({"mine": "1"}, name)
        theirs = place.repo.git.branch(name)
        assert await promoted(place, {"lab/x/f": "2"}) == "opened #2"
        assert place.pulls()[0]["head"] == f"{name}-2"
        assert place.repo.git.branch(name) == theirs


@pytest.mark.parametrize("fate", ["closed", "merged"])
async def test_what_people_did_meanwhile_stands(tmp_path: Path, fate: str) -> None:
    """Between our opening and our labelling a person closes or merges it: nothing is opened again."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add("answer", path="/issues/2$", method="PATCH", status=502)
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(event, given)
        place.box.rules.remove(rule)
        await (place.merge(2) if fate == "merged" else place.ask("PATCH", "/pulls/2", state="closed"))
        async with working(place) as given:
            await promote.run(event, given)
        assert len(place.pulls()) == 1


async def test_one_promotion_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """Each is opened, the endings are collected, and the next attempt does only what is left."""
    flows = config(flow("lab/", ["eu/"], ["us/"], ["asia/"]))
    async with world(tmp_path, {"telefonistka.yaml": flows, "lab/x/f": "1"}) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add(
            "answer", path="/git/trees$", method="POST", first=1, status=409, body={"message": "no"}
        )
        async with working(place) as given:
            with pytest.raises(Rejected, match=r"opened #2, #3; .*409"):
                await promote.run(event, given)
        place.box.rules.remove(rule)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #4, #2, #3"


@pytest.mark.parametrize("assignee", ["drop", "refuse"])
async def test_who_cannot_be_assigned_is_said(tmp_path: Path, assignee: str) -> None:
    """The label is set all the same, whether GitHub refuses the person or drops them silently."""
    async with world(tmp_path, ONE | {"lab/x/f": "1"}, unknown_assignee=assignee) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.alice.user.access = type(place.alice.user.access).NONE
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (GitHub does not let alice be assigned)"
        assert place.pulls()[0]["labels"] == ["promotion"]


async def test_labels_and_reviewers_of_the_configuration_are_set(tmp_path: Path) -> None:
    """`promotionPrLabels`, and `labels` and `reviewers` of a pull request."""
    text = """
promotionPrLabels: [bot]
promotionPaths:
  - sourcePath: lab/
    promotionPrs: [{targetPaths: [prod/], labels: [production], reviewers: [bob]}]
"""
    async with world(tmp_path, {"telefonistka.yaml": text, "lab/x/f": "1"}) as place:
        place.box.person("bob")
        await promoted(place, {"lab/x/f": "2"})
        (pull,) = place.pulls()
        assert pull["labels"] == ["bot", "production", "promotion"]
        assert pull["requested_reviewers"] == ["bob"]


async def test_the_originals_pull_requests_are_promoted_onward(tmp_path: Path) -> None:
    """A body that the Go program wrote gives the chain its past."""
    worked = lineage.Lineage(author="carol", promoted_paths=("lab/x",), hops={7: Hop("dev/", ("lab/",))})
    async with world(tmp_path, ONE | {"lab/x/f": "1"}) as place:
        place.box.person("carol")
        await promoted(place, {"lab/x/f": "2"}, body=f"Promotion path(x):\n\n{lineage.marker(worked)}")
        (pull,) = place.pulls()
        assert pull["assignees"] == ["carol"]
        assert sorted(lineage.parse(pull["body"]).hops) == [1, 7]


TRANSIENT: list[dict[str, Any]] = [
    {"action": "answer", "status": 502},
    {"action": "answer", "status": 500, "when": "after"},
    {"action": "reset", "when": "after"},
    {"action": "secondary", "seconds": 1},
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: "-".join(str(value) for value in fault.values()))
async def test_a_fault_at_any_call_changes_nothing_in_the_end(tmp_path: Path, fault: dict[str, Any]) -> None:
    """For each call in turn: whatever the fault does to it, the same pull requests stand at the end."""
    files = {"telefonistka.yaml": CHAIN, "staging/eu/x/f": "1", "lab/x/f": "0"}
    expected = await _run_with_fault(tmp_path / "clean", files, None)
    for nth in range(1, expected.calls + 1):
        found = await _run_with_fault(tmp_path / str(nth), files, {**fault, "nth": nth})
        assert found.state == expected.state, f"call {nth} of {expected.calls}"


@dataclass
class Run:
    state: Any
    calls: int


async def _run_with_fault(directory: Path, files: Mapping[str, Any], fault: Mapping[str, Any] | None) -> Run:
    """A promotion that is tried until it is done."""
    async with world(directory, files) as place:
        event = await place.merged({"staging/eu/x/f": "2"})
        place.box.calls.clear()
        if fault is not None:
            place.box.rules.add(**fault)
        for _ in range(3):
            try:
                async with working(place) as given:
                    await promote.run(event, given)
            except TryAgain:
                continue
            break
        return Run(place.state(), len(place.calls()))


@pytest.mark.parametrize(("components", "pulls"), [(1, 1), (2, 5), (10, 20)], ids=lambda number: str(number))
async def test_a_promotion_costs_what_is_promised(tmp_path: Path, components: int, pulls: int) -> None:
    """At most 6 + ⌈F/100⌉ + 5·G calls, whatever the number and size of the components."""
    targets = [[f"prod/{number:02}/"] for number in range(pulls)]
    files: dict[str, Any] = {"telefonistka.yaml": config(flow("lab/", *targets))}
    for number in range(components):
        files |= {f"lab/app{number}/d{file}/f": "1" for file in range(6)}
        files[f"lab/app{number}/telefonistka.yaml"] = "promotionTargetBlockList: [nowhere]"
    change = {f"lab/app{number}/d{file}/f": "2" for number in range(components) for file in range(6)}
    async with world(tmp_path, files) as place:
        event = await place.merged(change)
        place.box.calls.clear()
        async with working(place) as given:
            await given.repo.set_status(event.head_sha, "pending", "as the worker does")
            done = await promote.run(event, given)
            await given.repo.set_status(event.head_sha, "success", done.text)
        assert len(place.pulls()) == pulls
        assert len(place.calls()) <= 6 + -(-len(change) // 100) + 5 * pulls
        print(f"{components} components x {pulls} pull requests: {len(place.calls())} calls")
