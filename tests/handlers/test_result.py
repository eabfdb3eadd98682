"""What came of a merge: one comment on the merged pull request, true until all has ended."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.core import events
from telefonistka.core.events import Ignored
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import FOLLOW, REVIEWED, promote, result, route
from telefonistka.handlers.journal import Journal
from telefonistka.sandbox.rules import Rules
from tests.core.values import flow
from tests.handlers.test_merge import approval
from tests.handlers.world import World, later, working, world

FILES: dict[str, Any] = {
    "telefonistka.yaml": orjson.dumps(
        {"promotionPaths": [flow("lab/", ["eu/"], ["us/"]), flow("auto/", ["there/"], auto=True)]}
    ).decode(),
    "lab/x/f": "1",
    "auto/x/f": "1",
}
WHOLE = """<!-- telefonistka_tag -->
<!-- telefonistka result -->
### What came of this merge

- #2: `x` from `lab/` to `eu/`, **open**: waits for people to review and merge it
- #3: `x` from `lab/` to `us/`, **open**: waits for people to review and merge it

This comment follows what happens to them.
"""


async def promoted(place: World, *args: Any, **kwargs: Any) -> str:
    event = await place.merged(*args, **kwargs)
    async with working(place) as given:
        return (await promote.run(event, given)).text


def comments(place: World, number: int = 1) -> list[str]:
    return [one.body for one in place.repo.pulls[number].comments.values()]


async def told(place: World, number: int, action: str = "closed") -> str:
    """The bot heard of an event of its own pull request, and did what follows."""
    event = await place.event(number, action)
    assert FOLLOW in route(event)
    async with working(place) as given:
        text = (await result.follow(event, given)).text
    await later(place)
    return text


async def test_each_promotion_is_there_with_its_state(tmp_path: Path) -> None:
    """From its opening to its end, and back, in one comment."""
    async with world(tmp_path, FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        assert comments(place) == [WHOLE]
        await place.merge(2)
        assert await told(place, 2) == "#2 is merged"
        await place.ask("PATCH", "/pulls/3", state="closed")
        assert await told(place, 3) == "#3 is closed"
        (body,) = comments(place)
        assert "- #2: `x` from `lab/` to `eu/`, **merged**\n" in body
        assert "- #3: `x` from `lab/` to `us/`, **closed** without a merge" in body
        assert body.endswith("\nAll of it has ended.\n")


async def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    """The same event twice, and the same merge twice."""
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        for _ in range(2):
            async with working(place) as given:
                await promote.run(event, given)
        await place.merge(2)
        await told(place, 2)
        place.box.calls.clear()
        await told(place, 2)
        assert [call for call in place.calls() if "comments" in call.path] == []
        assert len(comments(place)) == 1


async def test_what_waits_for_somebody_says_so(tmp_path: Path) -> None:
    """D112: in the place of a notice about each."""
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"auto/x/f": "2"})
        place.repo.protection["main"] = Rules(checks=("ci",))
        async with working(place) as given:
            await promote.run(event, given)
        (body,) = comments(place)
        assert "**open**: " in body
        assert "then Telefonistka merges it by itself" in body


async def test_a_refusal_says_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add("answer", path="/pulls$", method="POST", status=403, body={"message": "not you"})
        async with working(place) as given:
            with pytest.raises(Rejected):
                await promote.run(event, given)
        assert comments(place)[0].count("- no pull request: `x` from `lab/` to ") == 2
        assert "**refused**: no pull request for" in comments(place)[0]
        place.box.rules.remove(rule)
        async with working(place) as given:
            await promote.run(event, given)
        assert comments(place) == [WHOLE]


async def test_the_status_leads_to_it(tmp_path: Path) -> None:
    """D111: and a template is the operator's."""
    async with world(tmp_path, FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        async with working(place) as given:
            page = await Journal(given.ledger, place.repo.id).page(1)
        (comment,) = place.repo.pulls[1].comments
        assert page == f"{place.box.url}/acme/iac/pull/1#issuecomment-{comment}"


# Reviews


async def heard(place: World, number: int, action: str, review: dict[str, Any] | None = None) -> str:
    """The bot heard what GitHub says of a review; what the comment on the merge says then of the first promotion."""
    pull = await place.ask("GET", f"/pulls/{number}")
    shown = {} if review is None else {"review": {**review, "state": review["state"].lower()}}
    name = "pull_request" if review is None else "pull_request_review"
    payload = {"action": action, "pull_request": pull, "repository": pull["base"]["repo"], **shown}
    event = events.parse(name, payload)
    assert not isinstance(event, Ignored)
    assert REVIEWED in route(event)
    for _ in range(2):
        async with working(place) as given:
            await REVIEWED.run(event, given)
        await later(place)
    (body,) = comments(place)
    return next(line.partition("**open**: ")[2] for line in body.splitlines() if f"- #{number}:" in line)


async def test_it_says_who_has_reviewed_and_who_has_not(tmp_path: Path) -> None:
    """Asked, refused, asked again, approved, dismissed: one comment, written when something is new."""
    async with world(tmp_path, FILES) as place:
        bob, carol = place.box.person("bob"), place.box.person("carol")
        await promoted(place, {"lab/x/f": "2"})
        await place.ask("POST", "/pulls/2/requested_reviewers", reviewers=["bob"])
        assert await heard(place, 2, "review_requested") == "waits for a review by bob"
        place.box.calls.clear()
        no = await place.ask("POST", "/pulls/2/reviews", by=bob, event="REQUEST_CHANGES", body="No")
        assert await heard(place, 2, "submitted", no) == "changes requested by bob"
        assert [call.method for call in place.calls() if call.path != "/user"] == ["POST", "PATCH"]  # found, and edited
        await place.ask("POST", "/pulls/2/requested_reviewers", reviewers=["bob"])
        assert await heard(place, 2, "review_requested") == "waits for a review by bob"
        yes = await place.ask("POST", "/pulls/2/reviews", by=carol, event="APPROVE")
        assert await heard(place, 2, "submitted", yes) == "approved by carol; waits for a review by bob"
        again = await place.ask("POST", "/pulls/2/reviews", by=bob, event="APPROVE")
        assert await heard(place, 2, "submitted", again) == "approved by bob, carol; waits for people to merge it"
        gone = await place.ask("PUT", f"/pulls/2/reviews/{yes['id']}/dismissals", message="Too fast")
        assert await heard(place, 2, "dismissed", gone) == "approved by bob; waits for people to merge it"
        assert await heard(place, 2, "submitted", yes) == "approved by bob; waits for people to merge it"
        assert "- #3: `x` from `lab/` to `us/`, **open**: waits for people to review and merge it" in comments(place)[0]


async def test_a_draft_says_so(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        place.repo.pulls[2].draft = True
        assert await heard(place, 2, "converted_to_draft") == "it is a draft"
        place.repo.pulls[2].draft = False
        assert await heard(place, 2, "ready_for_review") == "waits for people to review and merge it"


async def test_who_is_asked_by_the_configuration_is_waited_for_at_once(tmp_path: Path) -> None:
    """And the event that tells of it changes nothing."""
    target = {"targetPaths": ["eu/"], "reviewers": ["bob"]}
    flows = {"promotionPaths": [{"sourcePath": "lab/", "promotionPrs": [target]}]}
    async with world(tmp_path, FILES | {"telefonistka.yaml": orjson.dumps(flows).decode()}) as place:
        place.box.person("bob")
        await promoted(place, {"lab/x/f": "2"})
        assert "**open**: waits for a review by bob\n" in comments(place)[0]
        place.box.calls.clear()
        assert await heard(place, 2, "review_requested") == "waits for a review by bob"
        assert place.calls() == []


async def test_reviews_of_others_pull_requests_cost_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        number = await place.open("mine", {"lab/x/f": "2"})
        event = approval(await place.event(number, "opened"), number)
        assert route(event)[-1] is REVIEWED
        place.box.calls.clear()
        async with working(place) as given:
            assert "not a pull request" in (await REVIEWED.run(event, given)).text
        assert (await later(place), place.calls()) == ([], [])


# Branches


@pytest.mark.parametrize("merges", [False, True], ids=["closed", "merged"])
async def test_the_branch_of_what_has_ended_goes(tmp_path: Path, merges: bool) -> None:
    async with world(tmp_path, FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        branch = place.repo.pulls[2].head_ref
        await (place.merge(2) if merges else place.ask("PATCH", "/pulls/2", state="closed"))
        assert branch in place.repo.git.branches()
        for _ in range(2):
            await told(place, 2)
        assert branch not in place.repo.git.branches()
        assert place.repo.pulls[3].head_ref in place.repo.git.branches()


async def test_a_branch_with_somebody_elses_work_stays(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        branch = place.repo.pulls[2].head_ref
        await place.commit({"eu/x/mine": "1"}, branch)
        await place.ask("PATCH", "/pulls/2", state="closed")
        await told(place, 2)
        assert branch in place.repo.git.branches()


async def test_somebody_elses_pull_request_of_such_a_name_is_left_alone(tmp_path: Path) -> None:
    """Neither its name nor its label makes it ours."""
    async with world(tmp_path, FILES) as place:
        number = await place.open("promotions/1-x-000000000000", {"lab/x/f": "2"})
        await place.ask("PATCH", f"/pulls/{number}", state="closed")
        assert await told(place, number) == "not a pull request that Telefonistka opened"
        assert "promotions/1-x-000000000000" in place.repo.git.branches()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_end_is_the_same_wherever_it_is_cut_off(tmp_path: Path, when: str) -> None:
    """At each call of the merge's end in turn, and begun again: one comment, the branch gone."""
    for nth in range(1, 8):
        async with world(tmp_path / str(nth), FILES) as place:
            await promoted(place, {"lab/x/f": "2"})
            await place.merge(2)
            event = await place.event(2)
            place.box.rules.add("reset", when=when, nth=nth)
            for _ in range(2):
                with suppress(TryAgain):
                    async with working(place) as given:
                        await result.follow(event, given)
                    await later(place)
            place.box.rules.rules.clear()
            await told(place, 2)
            (body,) = comments(place)
            assert "- #2: `x` from `lab/` to `eu/`, **merged**\n" in body
            assert place.repo.pulls[2].head_ref not in place.repo.git.branches()
