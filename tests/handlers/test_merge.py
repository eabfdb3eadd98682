"""Promotions are approved and merged by themselves, within limits; whatever stands in the way is said, never fought."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from telefonistka.core import lineage
from telefonistka.core.events import Checked, Event, PullRequest, Review
from telefonistka.core.guards import Ceiling
from telefonistka.core.lineage import Hop
from telefonistka.core.reviews import NOBODY, Opinion
from telefonistka.core.trees import Sha
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import AUTO_MERGE, CEILING, FOLLOW, PROMOTE, landing, merge, promote, route
from telefonistka.ledger import Ledger
from telefonistka.sandbox import mergequeue, waiting
from telefonistka.sandbox.rules import Rules, Ruleset
from telefonistka.sandbox.state import Access
from tests.core.values import flow
from tests.handlers.world import World, later, working, world


def config(*flows: Any, **keys: Any) -> dict[str, Any]:
    return {"telefonistka.yaml": orjson.dumps({"promotionPaths": flows, **keys}).decode()}


AUTO = config(flow("lab/", ["prod/"], auto=True))
APPROVED = config(flow("lab/", ["prod/"], auto=True), autoApprovePromotionPrs=True)
CHAIN = config(
    flow("lab/", ["staging/"], auto=True), flow("staging/", ["prod/"], auto=True), autoApprovePromotionPrs=True
)
FILES: dict[str, Any] = {"lab/x/f": "1", "prod/x/f": "1"}
HEADS = "refs/heads/promotions/1-change-ca57dbeec6a9"


async def promoted(place: World, *args: Any, **kwargs: Any) -> str:
    event = await place.merged(*args, **kwargs)
    async with working(place) as given:
        return (await promote.run(event, given)).text


async def happens(place: World, event: Event) -> str:
    """What the bot says of an event of its own pull request."""
    assert route(event)[0] is AUTO_MERGE
    async with working(place) as given:
        return (await AUTO_MERGE.run(event, given)).text


def approval(event: PullRequest, number: int) -> Review:
    """Somebody approves a pull request."""
    opinion = Opinion(1, "approved")
    return Review(repository=event.repository, number=number, author="alice", opinion=opinion, awaited=NOBODY)


async def push(place: World, branch: str, **files: Any) -> None:
    await place.commit(files, branch, message="Mine")


def comments(place: World, number: int) -> list[str]:
    pulls = {pull["number"]: pull for pull in place.state()["pulls"]}
    return [comment["body"] for comment in pulls[number]["comments"]]


def status(place: World, number: int = 1) -> str:
    """The description of the last status of a merged pull request."""
    found = place.repo.statuses.get(place.repo.pulls[number].head_sha, [])
    return found[-1].description or "" if found else ""


async def test_a_chain_reaches_production_from_one_merge(tmp_path: Path) -> None:
    """Approved by the second identity, merged by the first; each stage is an event of its own."""
    async with world(tmp_path, CHAIN | FILES) as place:
        assert await promoted(place, {"lab/x/f": "2"}) == "opened #2 (merged)"
        event = await place.event(2)
        assert route(event) == (PROMOTE, AUTO_MERGE, FOLLOW)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #3 (merged)"
            assert (await merge.run(event, given)).text == "#2 (merged)"
        assert place.text("prod/x/f") == "2"
        for pull in place.pulls():
            (review,) = place.repo.pulls[pull["number"]].reviews.values()
            assert (review.user.login, review.state) == ("the-approver", "APPROVED")
            assert review.commit_id == place.repo.pulls[pull["number"]].head_sha
        (result,) = comments(place, 1)
        assert "- #2: `x` from `lab/` to `staging/`, **merged**" in result


@pytest.mark.parametrize("pulls", [1, 5])
@pytest.mark.parametrize("approves", [False, True], ids=["", "approved"])
@pytest.mark.parametrize("merges", [False, True], ids=["", "merged"])
async def test_a_promotion_costs_what_is_promised(tmp_path: Path, pulls: int, approves: bool, merges: bool) -> None:
    """At most 6 + ⌈F/100⌉ + G·(5 + a + m) + 1 for the result, the second identity's calls included."""
    targets = [[f"prod/{number}/"] for number in range(pulls)]
    files = config(flow("lab/", *targets, auto=merges), autoApprovePromotionPrs=approves)
    async with world(tmp_path, files | {"lab/x/f": "1"}) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.box.calls.clear()
        async with working(place) as given:
            await given.repo.set_status(event.head_sha, "pending", "as the worker does")
            done = await promote.run(event, given)
            await given.repo.set_status(event.head_sha, "success", done.text)
        opened = [place.repo.pulls[pull["number"]] for pull in place.pulls()]
        assert [(one.merged, len(one.reviews)) for one in opened] == [(merges, int(approves))] * pulls
        ours = {place.bot.user.login, place.approver.user.login}
        assert len([call for call in place.box.calls if call.identity in ours]) <= (
            6 + 1 + pulls * (5 + approves + merges) + 1
        )


async def test_running_again_changes_nothing(tmp_path: Path) -> None:
    """Not even a look at GitHub: the ledger knows that it is merged."""
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        for _ in range(2):
            async with working(place) as given:
                assert (await promote.run(event, given)).text == "opened #2 (merged)"
            state = place.state()
        assert place.state() == state


async def test_only_the_flow_that_is_taken_decides(tmp_path: Path) -> None:
    """D36: the first flow by path merges by itself, but its label is missing."""
    flows = config(flow("lab/", ["prod/"], labels=["quick"], auto=True), flow("lab/", ["prod/"]))
    async with world(tmp_path, flows | FILES) as place:
        assert await promoted(place, {"lab/x/f": "2"}) == "opened #2"


async def test_a_branch_that_was_just_modified_is_tried_again(tmp_path: Path) -> None:
    """GitHub's 405 of a moment ago is no refusal."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.switches.base_modified = 2
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"


async def test_the_repositorys_method_is_used(tmp_path: Path) -> None:
    """D64: where merge commits are not allowed, another way that is."""
    async with world(tmp_path, AUTO | FILES) as place:
        place.repo.merge_methods = {"rebase", "squash"}
        number = await place.open("change", {"lab/x/f": "2"})
        event = await place.merge(number, merge_method="squash")
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"


# Attacks


async def test_forged_metadata_merges_nothing(tmp_path: Path) -> None:
    """D71: a body, a label and a branch name like ours are not ours; not a single call is made for it."""
    async with world(tmp_path, AUTO | FILES) as place:
        body = lineage.marker(lineage.Lineage(author="alice", promoted_paths=("prod/x",), hops={7: Hop("lab/", ())}))
        number = await place.open("promotions/7-mine-ca57dbeec6a9", {"prod/x/f": "evil"}, body=body)
        await place.ask("POST", f"/issues/{number}/labels", labels=["promotion"])
        place.box.calls.clear()
        event = await place.event(number, "synchronize")
        for one in (event, approval(event, number)):
            assert await happens(place, one) == "not a pull request that Telefonistka merges"
        head = Sha(place.repo.pulls[number].head_sha)
        assert "not a pull" in await happens(place, Checked(repository=event.repository, sha=head))
        assert place.calls() == []


async def _waiting(place: World, says: str = "Base branch was modified.") -> None:
    """#2 is open and not merged yet: GitHub refused it."""
    event = await place.merged({"lab/x/f": "2"})
    rule = place.box.rules.add("answer", path="/merge$", method="PUT", status=405, body={"message": says})
    async with working(place) as given:
        with pytest.raises(TryAgain, match="does not merge #2 yet"):
            await promote.run(event, given)
    place.box.rules.remove(rule)


async def test_a_foreign_push_ends_the_merge_by_itself(tmp_path: Path) -> None:
    """What somebody else put on our branch is theirs to merge; said once, whatever comes after."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"prod/x/f": "evil"}, place.pulls()[0]["head"])
        event = await place.event(2, "synchronize")
        for _ in range(2):
            assert await happens(place, event) == "#2 (left to people: somebody else pushed to its branch)"
        assert place.text("prod/x/f") == "1"
        (comment,) = comments(place, 2)
        assert "somebody else pushed to its branch" in comment
        async with working(place) as given:
            text = (await promote.run(await place.event(1), given)).text
        assert text == "opened #2 (left to people: somebody else pushed to its branch)"


async def test_a_push_between_opening_and_merging_is_not_merged(tmp_path: Path) -> None:
    """The merge names the head that we made, so GitHub refuses another."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add("hold", path="/merge$", method="PUT", when="before")
        async with working(place) as given, anyio.create_task_group() as tasks:

            async def run() -> None:
                assert "somebody else pushed" in (await promote.run(event, given)).text

            tasks.start_soon(run)
            await place.box.rules.wait_held(1, 20)
            await place.commit({"prod/x/f": "evil"}, place.pulls()[0]["head"])
            place.box.rules.remove(rule)
            place.box.rules.release()
        assert place.text("prod/x/f") == "1"


async def test_a_head_put_back_in_time_is_not_taken_for_ours(tmp_path: Path) -> None:
    """A stale head is somebody's doing, too."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        main = place.repo.git.branch("main")
        await place.commit({"prod/x/f": "evil"}, "elsewhere")
        await place.ask(
            "PATCH", f"/git/refs/heads/{place.pulls()[0]['head']}", sha=place.repo.git.branch("elsewhere"), force=True
        )
        assert main is not None
        assert "left to people" in await happens(place, await place.event(2, "synchronize"))
        assert place.text("prod/x/f") == "1"


async def test_a_head_of_ours_from_before_a_rebuild_is_not_merged(tmp_path: Path) -> None:
    """Whoever puts the branch back to it finds the newest one there again."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        first = place.repo.pulls[2].head_sha
        await place.commit({"prod/x/f": "by hand", "lab/x/f": "3"})
        place.repo.switches.base_modified = 9
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(await place.event(1), given)
        place.repo.switches.base_modified = 0
        rebuilt = place.repo.pulls[2].head_sha
        await place.ask("PATCH", f"/git/refs/heads/{place.pulls()[0]['head']}", sha=first, force=True)
        async with working(place) as given:
            with pytest.raises(TryAgain, match="does not show our push"):
                await merge.run(await place.event(2, "synchronize"), given)
        assert await happens(place, await place.event(2, "synchronize")) == "#2 (merged)"
        assert place.repo.pulls[2].head_sha == rebuilt != first
        assert place.text("prod/x/f") == "3"


async def test_a_push_while_it_is_approved_is_neither_approved_nor_merged(tmp_path: Path) -> None:
    """The approval names the commit that we made."""
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add("hold", path="/reviews$", method="POST", when="before")
        async with working(place) as given, anyio.create_task_group() as tasks:

            async def run() -> None:
                assert "somebody else pushed" in (await promote.run(event, given)).text

            tasks.start_soon(run)
            await place.box.rules.wait_held(1, 20)
            ours = place.repo.pulls[2].head_sha
            await place.commit({"prod/x/f": "evil"}, place.pulls()[0]["head"])
            place.box.rules.remove(rule)
            place.box.rules.release()
        assert [one.commit_id for one in place.repo.pulls[2].reviews.values()] == [ours]
        assert place.text("prod/x/f") == "1"


async def test_a_changed_base_ends_the_merge_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"a": "1"}, "release")
        await place.ask("PATCH", "/pulls/2", base="release")
        text = await happens(place, await place.event(2, "edited"))
        assert text == "#2 (left to people: its base was changed to release)"


TWO = config(flow("lab/", ["prod/"], ["spare/"], auto=True))


@asynccontextmanager
async def opening_the_second(place: World) -> AsyncIterator[None]:
    """#2 is open, and #3 is about to be; both are merged by themselves once the block has ended."""
    event = await place.merged({"lab/x/f": "2"})
    rule = place.box.rules.add("hold", path="/pulls$", method="POST", when="before", nth=2)
    async with working(place) as given, anyio.create_task_group() as tasks:

        async def run() -> None:
            await promote.run(event, given)

        tasks.start_soon(run)
        await place.box.rules.wait_held(1, 20)
        yield
        place.box.rules.remove(rule)
        place.box.rules.release()


async def retargeted(place: World, number: int) -> str:
    """Somebody makes the pull request go into another branch; returns which one."""
    await place.commit({"a": "1"}, "release")
    await place.ask("PATCH", f"/pulls/{number}", base="release")
    return "release"


async def test_a_base_that_is_changed_while_others_are_opened_is_not_merged_into(tmp_path: Path) -> None:
    """Whoever lands it has learned by the event that it is not as it was opened; the others need no look."""
    async with world(tmp_path, TWO | FILES) as place:
        async with opening_the_second(place):
            branch = await retargeted(place, 2)
            said = await happens(place, await place.event(2, "edited"))
            assert said == "not a pull request that Telefonistka merges"
        assert [place.repo.pulls[number].merged for number in (2, 3)] == [False, True]
        assert place.text("prod/x/f", branch) == place.text("prod/x/f") == "1"
        (comment,) = comments(place, 2)
        assert "its base was changed to release" in comment


async def test_what_was_opened_a_while_ago_is_looked_at_before_its_merge(tmp_path: Path) -> None:
    """The event may be late, or have got lost."""
    async with world(tmp_path, TWO | FILES) as place:
        async with opening_the_second(place):
            branch = await retargeted(place, 2)
            place.clock.passes(landing.FRESH + 1)
        assert [place.repo.pulls[number].merged for number in (2, 3)] == [False, True]
        assert place.text("prod/x/f", branch) == "1"


async def test_a_configuration_does_not_grant_rights_to_its_own_merge(tmp_path: Path) -> None:
    """D23: the change that brings autoMerge is merged by itself nowhere; the next one is."""
    files = config(flow("lab/", ["prod/"]))
    async with world(tmp_path, files | FILES) as place:
        text = await promoted(place, {"lab/x/f": "2", **APPROVED})
        assert (
            text
            == "opened #2 (left to people: its configuration came with the same merge, and counts from the next one on)"
        )
        assert not place.repo.pulls[2].reviews
        await place.merge(2)
        assert (await promoted(place, {"lab/x/f": "3"})).endswith("(merged)")


TAKEN_AWAY = """\
promotionPaths:
  - sourcePath: lab/
    # The words between what
    # two people change keep
    # git from a conflict.
    promotionPrs:
      - targetPaths: [prod/]
"""
GRANTED = TAKEN_AWAY.replace("  - source", "  - conditions: {autoMerge: true}\n    source")
GRANTED = f"autoApprovePromotionPrs: true\n{GRANTED}"
GRANTED_BELOW = "    conditions: {autoMerge: true}\nautoApprovePromotionPrs: true\n"


@pytest.mark.parametrize("at_once", [True, False], ids=["one commit", "two commits"])
@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
async def test_an_older_pull_request_does_not_bring_back_a_right_that_was_taken_away(
    tmp_path: Path, method: str, at_once: bool
) -> None:
    """GitHub's event names the base branch as it was when the head was pushed: the right was still there."""
    async with world(tmp_path, {"telefonistka.yaml": GRANTED} | FILES, stale_base=True) as place:
        change = {"telefonistka.yaml": GRANTED + GRANTED_BELOW, "lab/x/f": "2"}
        for files in [change] if at_once else [{name: text} for name, text in change.items()]:
            await place.commit(files, "change")
        number = await place.open("change")
        granted = place.repo.git.branch("main")
        await place.commit({"telefonistka.yaml": TAKEN_AWAY})
        event = await place.merge(number, merge_method=method)
        assert event.base_sha == granted
        assert place.text("telefonistka.yaml") == TAKEN_AWAY + GRANTED_BELOW
        async with working(place) as given:
            text = (await promote.run(event, given)).text
        assert text.startswith("opened #2 (left to people: its configuration came with the same merge")
        assert not place.repo.pulls[2].reviews


# People


@pytest.mark.parametrize("fate", ["closed", "merged"])
async def test_what_people_do_meanwhile_stands(tmp_path: Path, fate: str) -> None:
    """And the status of the merge that led to it follows."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await (place.merge(2) if fate == "merged" else place.ask("PATCH", "/pulls/2", state="closed"))
        async with working(place) as given:
            text = (await promote.run(await place.event(1), given)).text
        assert text == f"opened #2 ({'merged' if fate == 'merged' else 'closed without a merge'})"


async def test_a_conflict_is_rebuilt_once(tmp_path: Path) -> None:
    """On the default branch of now: the target becomes what its source is by then."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"prod/x/f": "by hand", "lab/x/g": "later"})
        async with working(place) as given:
            assert (await promote.run(await place.event(1), given)).text == "opened #2 (merged)"
        assert place.entry("prod/x") == place.entry("lab/x")
        assert place.text("prod/x/g") == "later"


async def test_a_second_conflict_is_left_to_people(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"prod/x/f": "by hand"})
        place.repo.switches.base_modified = 9
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(await place.event(1), given)
        place.repo.switches.base_modified = 0
        await place.commit({"prod/x/f": "again"})
        async with working(place) as given:
            text = (await promote.run(await place.event(1), given)).text
        assert text == "opened #2 (left to people: it conflicts with the default branch)"
        assert place.text("prod/x/f") == "again"


async def test_nothing_is_rebuilt_under_another_configuration(tmp_path: Path) -> None:
    """A rule that came meanwhile may forbid what was planned."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"prod/x/f": "by hand", "lab/x/telefonistka.yaml": "promotionTargetBlockList: [prod]"})
        async with working(place) as given:
            text = (await promote.run(await place.event(1), given)).text
        assert text.endswith("it conflicts with the default branch, and its configuration has changed since)")


async def test_a_force_pushed_default_branch_does_not_bring_back_what_was_lost(tmp_path: Path) -> None:
    """The promotion is rebuilt on the new head where that holds its source's merge, else it is left to people."""
    async with world(tmp_path, AUTO | FILES) as place:
        await place.commit({"secret": "1"})
        lost = place.repo.git.branch("main")
        await _waiting(place)
        first = place.repo.git.commit(lost or "").parents[0]
        await place.ask("PATCH", "/git/refs/heads/main", sha=first, force=True)
        async with working(place) as given:
            text = (await promote.run(await place.event(1), given)).text
        assert text == "opened #2 (left to people: the default branch does not hold #1 any more)"
        assert place.text("secret") is None


async def test_a_kill_between_storing_and_pushing_a_rebuilt_head_is_mended(tmp_path: Path) -> None:
    """The head that is stored is pushed by the next attempt."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"prod/x/f": "by hand"})
        rule = place.box.rules.add("answer", path="/git/refs/heads/promotions", method="PATCH", status=502)
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(await place.event(1), given)
        place.box.rules.remove(rule)
        async with working(place) as given:
            with pytest.raises(TryAgain, match="does not show our push"):
                await promote.run(await place.event(1), given)
        async with working(place) as given:
            assert (await promote.run(await place.event(1), given)).text == "opened #2 (merged)"


# Approval


async def test_an_approver_that_opened_it_is_said_once(tmp_path: Path) -> None:
    """The same identity twice: the merge goes on, the missing approval is explained."""
    async with world(tmp_path, APPROVED | FILES) as place:
        same = replace(place, approver=place.bot)
        assert await promoted(same, {"lab/x/f": "2"}) == "opened #2 (merged)"
        (comment,) = comments(place, 2)
        assert "the second identity is the one that opened it" in comment


async def test_a_missing_second_identity_is_said_once(tmp_path: Path) -> None:
    """Only where a repository asks for approval."""
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        async with working(place) as given:
            assert "opened #2" in (await promote.run(event, replace(given, approver=None))).text
        (comment,) = comments(place, 2)
        assert "has set no second identity" in comment


async def test_an_approver_without_the_right_is_said_once(tmp_path: Path) -> None:
    async with world(tmp_path, APPROVED | FILES) as place:
        place.box.rules.add(
            "answer",
            path="/reviews$",
            method="POST",
            status=403,
            body={"message": "Resource not accessible by integration"},
        )
        assert await promoted(place, {"lab/x/f": "2"}) == "opened #2 (merged)"
        (comment,) = comments(place, 2)
        assert "not accessible by integration" in comment


async def test_a_lost_answer_does_not_approve_twice(tmp_path: Path) -> None:
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.box.rules.add("answer", path="/reviews$", method="POST", status=502, when="after", nth=1)
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(event, given)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        assert len(place.repo.pulls[2].reviews) == 1


# Guards and the ceiling


async def test_a_mass_deletion_is_opened_and_left_to_people(tmp_path: Path) -> None:
    """D57: the deletions are in the body."""
    many = {f"prod/x/old{number:02}": "1" for number in range(51)} | {
        f"prod/x/k{number:02}": "1" for number in range(60)
    }
    keep = {f"lab/x/k{number:02}": "1" for number in range(60)}
    async with world(tmp_path, AUTO | FILES | many | keep) as place:
        text = await promoted(place, {"lab/x/f": "2"})
        assert text == "opened #2 (left to people: it deletes 51 files, more than 50)"
        body = place.pulls()[0]["body"]
        assert "`prod/x/old00`" in body
        assert "51 of 112 files" in body
        assert "left to people, because it deletes 51 files, more than 50" in comments(place, 1)[0]


async def test_a_whole_directory_that_loses_components_is_left_to_people(tmp_path: Path) -> None:
    """D41: without its end slash the source is the whole directory."""
    files = config(flow("lab", ["prod"], auto=True)) | {f"prod/keep/{n}": "1" for n in range(9)}
    async with world(tmp_path, files | FILES | {f"lab/keep/{n}": "1" for n in range(9)} | {"prod/own/f": "1"}) as place:
        text = await promoted(place, {"lab/x/f": "2"})
        assert text == ("opened #2 (left to people: a whole directory is promoted and deletes the component prod/own)")


async def test_the_operator_may_allow_fewer_deletions(tmp_path: Path) -> None:
    files = {"prod/x/a": "1", "prod/x/b": "1", "lab/x/a": "1", "lab/x/b": "1", "prod/x/gone": "1"}
    async with world(tmp_path, AUTO | FILES | files) as place:
        strict = replace(place, ceiling=Ceiling(max_deletions=0))
        assert "it deletes 1 files, more than 0" in await promoted(strict, {"lab/x/f": "2"})


STRICT = Ceiling(auto_merge=False, auto_approve=False, targets=("staging",))


async def told(place: World, event: PullRequest) -> str:
    """What the bot says of the configuration in a pull request."""
    async with working(replace(place, ceiling=STRICT)) as given:
        return (await CEILING.run(event, given)).text


async def test_the_operator_may_forbid_merges_and_approvals(tmp_path: Path) -> None:
    async with world(tmp_path, config() | FILES) as place:
        with pytest.raises(Rejected, match="left out, first prod/x"):
            await promoted(replace(place, ceiling=STRICT), {"lab/x/f": "2", **APPROVED})


async def test_whoever_asks_for_more_is_told_on_that_pull_request(tmp_path: Path) -> None:
    """When it is opened, in place when it changes, and when it is over; after its merge without another call."""
    async with world(tmp_path, config() | FILES) as place:
        number = await place.open("change", {"lab/x/f": "2", **APPROVED})
        event = await place.event(number, "opened")
        assert CEILING in route(event, STRICT)
        assert CEILING not in route(event)
        assert await told(place, event) == "it asks for 3 beyond what is allowed"
        (said,) = comments(place, number)
        for words in ("autoMerge: promotions are opened", "autoApprovePromotionPrs", "nothing is promoted to prod/"):
            assert words in said
        await place.commit(AUTO, "change")
        event = await place.event(number, "synchronize")
        assert await told(place, event) == "it asks for 2 beyond what is allowed"
        (said,) = comments(place, number)
        assert "autoApprovePromotionPrs" not in said
        await place.commit(config(flow("lab/", ["staging/"])), "change")
        await told(place, await place.event(number, "synchronize"))
        (said,) = comments(place, number)
        assert "asks for nothing any more" in said
        event = await place.merge(number)
        assert CEILING in route(event, STRICT)
        place.box.calls.clear()
        assert await told(place, event) == "this head was looked at before"
        assert place.calls() == []


async def test_who_does_not_change_the_configuration_is_told_nothing(tmp_path: Path) -> None:
    """Though it asks for too much already; where it does not, that is one call."""
    async with world(tmp_path, APPROVED | FILES) as place:
        number = await place.open("change", {"lab/x/f": "2"})
        assert await told(place, await place.event(number, "opened")) == "it asks for nothing beyond what is allowed"
        await place.commit(config())
        number = await place.open("another", {"lab/x/f": "3"})
        place.box.calls.clear()
        await told(place, await place.event(number, "opened"))
        assert len(place.calls()) == 1
        assert comments(place, 1) == comments(place, number) == []


@pytest.mark.parametrize("ceiling", [Ceiling(auto_merge=False), Ceiling(targets=("staging",))], ids=["all", "there"])
async def test_an_operator_who_changes_their_mind_stops_what_waits(tmp_path: Path, ceiling: Ceiling) -> None:
    """What was handed over to GitHub before is taken back."""
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=True) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            await promote.run(event, given)
        strict = replace(place, ceiling=ceiling)
        said = await happens(strict, approval(event, 2))
        assert said == "#2 (left to people: the operator of Telefonistka does not allow it)"
        assert place.repo.pulls[2].auto_merge is None


async def test_a_repository_that_is_not_served_is_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        assert route(event, Ceiling(repositories=("acme/*",))) == (PROMOTE,)
        assert route(event, Ceiling(repositories=("ACME/IAC",))) == (PROMOTE,)
        assert route(event, Ceiling(repositories=("acme/other", "other/*"))) == ()


# Rules of the branch


async def checked(place: World, number: int, state: str = "success", context: str = "ci") -> str:
    """What the bot says of a check's end."""
    pull = place.repo.pulls[number]
    await place.ask("POST", f"/statuses/{pull.head_sha}", state=state, context=context)
    event = await place.event(number)
    return await happens(place, Checked(repository=event.repository, sha=Sha(pull.head_sha)))


async def guarded(place: World, **rules: Any) -> str:
    """What the bot says of a merge whose promotion waits for these rules; its status says the same."""
    event = await place.merged({"lab/x/f": "2"})
    place.repo.protection["main"] = Rules(**rules)
    async with working(place) as given:
        done = await promote.run(event, given)
        await given.repo.set_status(event.head_sha, "success", done.text)
    return done.text


async def test_a_required_check_is_waited_for_by_events(tmp_path: Path) -> None:
    """It is said what is missing, once; the merge's own status tells the truth before and after."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            done = await promote.run(event, given)
            await given.repo.set_status(event.head_sha, "success", done.text)
        expected = 'Required status check "ci" is expected'
        assert done.text == f"opened #2 (waiting: {expected})"
        assert len(comments(place, 2)) == 1
        assert "is failing" in await checked(place, 2, "failure")
        await later(place)
        assert status(place) == 'opened #2 (waiting: Required status check "ci" is failing)'
        assert await checked(place, 2) == "#2 (merged)"
        await later(place)
        assert status(place) == "opened #2 (merged)"
        place.box.calls.clear()
        assert await happens(place, approval(event, 2)) == "#2 (merged)"
        assert place.calls() == []
        assert len(comments(place, 2)) == 1


async def test_a_required_review_is_given_by_the_second_identity(tmp_path: Path) -> None:
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(approvals=1)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (Rules(approvals=2), "At least 2 approving reviews are required by reviewers with write access"),
        (Rules(approvals=1, code_owners=True), "Waiting on code owner review from alice"),
    ],
    ids=["two approvals", "code owners"],
)
async def test_a_review_that_the_second_identity_cannot_give_is_asked_for(
    tmp_path: Path, rules: Rules, says: str
) -> None:
    """GitHub's sentence stands on the pull request, and a person's review goes on from there."""
    owners = {"CODEOWNERS": "* @alice\n"}
    async with world(tmp_path, APPROVED | FILES | owners) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = rules
        async with working(place) as given:
            assert (await promote.run(event, given)).text == f"opened #2 (waiting: {says})"
        await place.ask("POST", "/pulls/2/reviews", event="APPROVE")
        assert await happens(place, approval(event, 2)) == "#2 (merged)"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (Rules(approvals=1), ""),
        (Rules(approvals=2), "ask for another review"),
        (Rules(approvals=1, code_owners=True), "ask for another review"),
        (Rules(code_owners=True), "ask for another review"),
    ],
    ids=["one approval", "two approvals", "code owners", "code owners alone"],
)
@pytest.mark.parametrize("event", [True, False], ids=["by its event", "without it"])
async def test_an_approval_that_is_not_enough_is_said_where_people_merge(
    tmp_path: Path, rules: Rules, says: str, event: bool
) -> None:
    """Once, after the review's own event, or a minute later where that was lost."""
    files = config(flow("lab/", ["prod/"]), autoApprovePromotionPrs=True) | {"CODEOWNERS": "* @alice\n"}
    async with world(tmp_path, files | FILES) as place:
        source = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = rules
        async with working(place) as given:
            assert (await promote.run(source, given)).text == "opened #2"
        (review,) = place.repo.pulls[2].reviews.values()
        assert review.state == "APPROVED"
        for _ in range(2):
            if event:
                await happens(place, approval(source, 2))
        await later(place, landing.LOOK_FIRST)
        said = comments(place, 2)
        assert len(said) == bool(says)
        assert says in "".join(said)
        place.box.calls.clear()
        await happens(place, approval(source, 2))
        assert place.calls() == []


async def test_githubs_auto_merge_takes_over_where_the_repository_has_it(tmp_path: Path) -> None:
    """With the head that we made; GitHub merges, and the status follows its event."""
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=True) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            text = (await promote.run(event, given)).text
        assert text == 'opened #2 (left to GitHub: Required status check "ci" is expected)'
        assert comments(place, 2) == []
        assert place.repo.pulls[2].auto_merge is not None
        await place.ask("POST", f"/statuses/{place.repo.pulls[2].head_sha}", state="success", context="ci")
        await place.box.errands.idle()
        assert place.repo.pulls[2].merged
        async with working(place) as given:
            assert (await merge.run(await place.event(2), given)).text == "#2 (merged)"
        await later(place)
        assert status(place) == "opened #2 (merged)"


async def test_a_foreign_push_takes_the_pull_request_away_from_githubs_auto_merge(tmp_path: Path) -> None:
    """At once, before it is said."""
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=True) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            await promote.run(event, given)
        await place.commit({"prod/x/f": "evil"}, place.pulls()[0]["head"])
        assert "somebody else pushed" in await happens(place, await place.event(2, "synchronize"))
        assert place.repo.pulls[2].auto_merge is None


async def test_a_person_who_switches_githubs_auto_merge_off_has_the_last_word(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=True) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            await promote.run(event, given)
        place.repo.pulls[2].auto_merge = None
        assert "was switched off" in await happens(place, await place.event(2, "auto_merge_disabled"))
        assert place.repo.pulls[2].auto_merge is None


async def test_a_branch_that_must_be_up_to_date_is_not_left_to_an_auto_merge_in_vain(tmp_path: Path) -> None:
    """GitHub merges nothing that is behind, and brings nothing up to date by itself."""
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=True) as place:
        await guarded(place, checks=("ci",), strict=True)
        assert place.repo.pulls[2].auto_merge is not None
        await place.commit({"elsewhere": "1"})
        await checked(place, 2)
        assert not place.repo.pulls[2].merged
        assert await place.repo.git.contains(place.repo.pulls[2].head_sha, place.repo.git.branch("main") or "")
        assert place.repo.pulls[2].auto_merge is not None
        await place.ask("POST", f"/statuses/{place.repo.pulls[2].head_sha}", state="success", context="ci")
        await place.box.errands.idle()
        assert place.repo.pulls[2].merged


async def test_a_merge_queue_is_used_where_the_branch_has_one(tmp_path: Path) -> None:
    """It merges by its own method; the merge's status follows."""
    async with world(tmp_path, AUTO | FILES, hold_merges=True) as place:
        assert await guarded(place, queue="squash") == "opened #2 (left to GitHub: it is in the merge queue)"
        assert [entry.pull.number for entry in place.repo.queue] == [2]
        assert "in the merge queue" in await happens(place, await place.event(2, "edited"))
        await waiting.proceed(place.box, place.repo)
        async with working(place) as given:
            assert (await merge.run(await place.event(2), given)).text == "#2 (merged)"
        await later(place)
        assert status(place) == "opened #2 (merged)"


async def test_a_merge_queue_that_gives_a_pull_request_back_leaves_it_to_people(tmp_path: Path) -> None:
    """Its checks have failed there, say: nothing is queued again and again."""
    async with world(tmp_path, AUTO | FILES, hold_merges=True) as place:
        await guarded(place, queue="merge")
        bot = place.box.account(mergequeue.BOT, type_="Bot")
        await mergequeue.dequeue(place.box, place.repo, place.repo.pulls[2], by=bot, reason=mergequeue.FAILED)
        text = await happens(place, await place.event(2, "dequeued"))
        assert text == "#2 (left to people: it left the merge queue)"
        assert place.repo.queue == []


async def test_an_operator_who_changes_their_mind_has_nothing_more_approved(tmp_path: Path) -> None:
    """A rebuilt head neither."""
    async with world(tmp_path, APPROVED | FILES) as place:
        await _waiting(place)
        await place.commit({"prod/x/f": "by hand"})
        async with working(replace(place, ceiling=Ceiling(auto_approve=False))) as given:
            assert (await promote.run(await place.event(1), given)).text == "opened #2 (merged)"
        assert len(place.repo.pulls[2].reviews) == 1


async def test_an_operator_who_changes_their_mind_takes_it_out_of_the_queue(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES, hold_merges=True) as place:
        await guarded(place, queue="merge")
        strict = replace(place, ceiling=Ceiling(auto_merge=False))
        assert "does not allow it" in await happens(strict, await place.event(2, "edited"))
        assert place.repo.queue == []


@pytest.mark.parametrize("native", [False, True], ids=["by events", "by auto-merge"])
async def test_what_the_queue_asks_for_is_waited_for(tmp_path: Path, native: bool) -> None:
    """GitHub's auto-merge leads into the queue; without it the check's event does."""
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=native, hold_merges=True) as place:
        text = await guarded(place, checks=("ci",), queue="merge")
        what = "left to GitHub" if native else "waiting"
        assert text == f'opened #2 ({what}: Required status check "ci" is expected)'
        assert place.repo.queue == []
        await checked(place, 2)
        await waiting.proceed(place.box, place.repo)
        await waiting.proceed(place.box, place.repo)
        assert place.repo.pulls[2].merged


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (Rules(checks=("ci", "lint")), "2 of 2 required status checks are expected"),
        (Rules(approvals=1), "At least 1 approving review is required by reviewers with write access"),
        (Rules(code_owners=True), "Waiting on code owner review from alice"),
        (
            Rules(last_push=True),
            "New changes require approval from someone other than the-bot because they were the last pusher",
        ),
        (
            Rules(checks=("ci",), approvals=1),
            (
                'Required status check "ci" is expected. '
                "At least 1 approving review is required by reviewers with write access"
            ),
        ),
    ],
    ids=["checks", "review", "code owners", "last push", "both"],
)
@pytest.mark.parametrize("by", ["protection", "ruleset"])
async def test_it_is_said_for_whom_a_merge_waits(tmp_path: Path, by: str, rules: Rules, says: str) -> None:
    """In GitHub's own words, in the merge's status and on the pull request; once it is there, it is merged."""
    async with world(tmp_path, AUTO | FILES | {"CODEOWNERS": "* @alice\n"}) as place:
        event = await place.merged({"lab/x/f": "2"})
        if by == "protection":
            place.repo.protection["main"] = rules
        else:
            place.repo.rulesets[1] = Ruleset(id=1, rules=rules)
        async with working(place) as given:
            text = (await promote.run(event, given)).text
        start = "" if by == "protection" else "Repository rule violations found "
        assert text == f"opened #2 (waiting: {start}{says})"
        (comment,) = comments(place, 2)
        assert "but not yet: " in comment
        for context in rules.checks:
            await checked(place, 2, context=context)
        if rules.reviewed:
            await place.ask("POST", "/pulls/2/reviews", event="APPROVE")
        assert await happens(place, approval(event, 2)) == "#2 (merged)"


async def test_the_second_identity_is_someone_else_than_the_last_pusher(tmp_path: Path) -> None:
    """After a rebuild, too, which is a push that makes earlier approvals stale."""
    async with world(tmp_path, APPROVED | FILES) as place:
        place.repo.protection["main"] = Rules(approvals=1, last_push=True, dismiss_stale=True)
        place.repo.protection["main"] = replace(place.repo.protection["main"], enforce_admins=False)
        place.alice.user.access = Access.ADMIN
        await _waiting(place)
        await place.commit({"prod/x/f": "by hand"})
        async with working(place) as given:
            assert (await promote.run(await place.event(1), given)).text == "opened #2 (merged)"
        given_ = [(one.user.login, one.commit_id) for one in place.repo.pulls[2].reviews.values()]
        assert given_[-1] == ("the-approver", place.repo.pulls[2].head_sha)
        assert len(given_) == 2


async def test_requested_changes_are_waited_out(tmp_path: Path) -> None:
    """A person's word counts more than the second identity's."""
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",), approvals=1)
        async with working(place) as given:
            await promote.run(event, given)
        review = await place.ask("POST", "/pulls/2/reviews", event="REQUEST_CHANGES", body="No")
        said = await checked(place, 2)
        assert said == "#2 (waiting: 1 review requesting changes by reviewers with write access)"
        await place.ask("PUT", f"/pulls/2/reviews/{review['id']}/dismissals", message="Yes")
        assert await happens(place, approval(event, 2)) == "#2 (merged)"


async def test_a_draft_is_not_merged(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        place.repo.pulls[2].draft = True
        text = await happens(place, await place.event(2, "converted_to_draft"))
        assert text == "#2 (waiting: somebody has to take it out of draft)"
        place.repo.pulls[2].draft = False
        assert await happens(place, await place.event(2, "ready_for_review")) == "#2 (merged)"


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("rebuilt", [False, True], ids=["as opened", "rebuilt"])
async def test_a_branch_that_allows_one_method_gets_that_one(tmp_path: Path, method: str, rebuilt: bool) -> None:
    """However it is merged, the target is its source, to the bit."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        if rebuilt:
            await place.commit({"prod/x/f": "by hand", "lab/x/g": "later"})
        place.repo.merge_methods = {method}
        async with working(place) as given:
            assert (await promote.run(await place.event(1), given)).text == "opened #2 (merged)"
        assert place.entry("prod/x") == place.entry("lab/x")


async def test_a_ruleset_may_allow_fewer_methods_than_the_repository(tmp_path: Path) -> None:
    """What is missing is said, not that the first method was refused."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.rulesets[1] = Ruleset(id=1, rules=Rules(methods=("squash",), checks=("ci",)))
        async with working(place) as given:
            assert 'check "ci" is expected' in (await promote.run(event, given)).text
        assert await checked(place, 2) == "#2 (merged)"


# Waiting


async def test_what_waits_is_looked_at_again_without_an_event(tmp_path: Path) -> None:
    """After a minute, then less and less often; the status of the merge that led to it follows."""
    async with world(tmp_path, AUTO | FILES) as place:
        text = await guarded(place, checks=("ci",))
        seconds = 60.0
        for _ in range(9):
            assert await later(place, seconds - 1) == []
            assert await later(place, 1) == [text.removeprefix("opened ")]
            seconds = min(3600.0, seconds * 2)
        assert len(comments(place, 2)) == 1
        await place.ask("POST", f"/statuses/{place.repo.pulls[2].head_sha}", state="success", context="ci")
        assert await later(place, 3600) == ["#2 (merged)", "opened #2 (merged)", "the result is in a comment"]
        assert status(place) == "opened #2 (merged)"
        assert await later(place, 1e6) == []


async def test_a_push_of_which_no_event_came_is_noticed(tmp_path: Path) -> None:
    """By the look at the start of a daemon, and by the next look of one that runs: GitHub does not merge it then."""
    async with world(tmp_path, AUTO | FILES, allow_auto_merge=True) as place:
        await guarded(place, checks=("ci",))
        await place.commit({"prod/x/f": "evil"}, place.pulls()[0]["head"])
        for event in await landing.unfinished(Ledger(place.storage)):
            await place.inbox.enqueue(event)
        assert (await later(place))[0] == "#2 (left to people: somebody else pushed to its branch)"
        assert place.repo.pulls[2].auto_merge is None
        assert await landing.unfinished(Ledger(place.storage)) == []
        assert await later(place, 3600) == []


async def test_the_status_of_a_merge_is_not_overtaken_by_its_past(tmp_path: Path) -> None:
    """An event may be done with before the worker has written what the merge's own handler said."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            done = await promote.run(event, given)
            assert await checked(place, 2) == "#2 (merged)"
            await given.repo.set_status(event.head_sha, "success", done.text)
        assert "waiting" in status(place)
        await later(place)
        assert status(place) == "opened #2 (merged)"


async def test_a_branch_that_must_be_up_to_date_is_brought_there(tmp_path: Path) -> None:
    """Strict checks: the default branch moves between the opening and the merge."""
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        await place.commit({"elsewhere": "1"})
        place.repo.protection["main"] = Rules(checks=("ci",), strict=True)
        async with working(place) as given:
            assert "is expected" in (await promote.run(await place.event(1), given)).text
        assert "is expected" in await checked(place, 2)
        assert await place.repo.git.contains(place.repo.pulls[2].head_sha, place.repo.git.branch("main") or "")
        assert await checked(place, 2) == "#2 (merged)"


async def test_a_late_mergeable_is_waited_for(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        await _waiting(place)
        place.repo.switches.late_mergeable = 2
        await place.commit({"elsewhere": "1"})
        async with working(place) as given:
            with pytest.raises(TryAgain, match="computes whether #2 can be merged"):
                await promote.run(await place.event(1), given)
        for _ in range(3):
            try:
                async with working(place) as given:
                    text = (await promote.run(await place.event(1), given)).text
            except TryAgain:
                continue
        assert text == "opened #2 (merged)"
