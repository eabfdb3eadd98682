"""Open promotions that come into conflict because the default branch has moved: built anew once, then people's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.core import events
from telefonistka.core.events import Push
from telefonistka.core.guards import Ceiling
from telefonistka.errors import TryAgain
from telefonistka.handlers import FOLLOW, PUSHED, promote, route
from telefonistka.handlers.conflict import SETTLES
from telefonistka.handlers.journal import Journal
from tests.core.values import flow
from tests.handlers.test_merge import config
from tests.handlers.world import World, later, working, world

PEOPLES = config(flow("lab/", ["prod/"]))
FILES: dict[str, Any] = {"lab/x/f": "1", "prod/x/f": "1"}
ANEW = "Telefonistka has built it anew on `main`"
LEFT = "Telefonistka does not build it anew"


async def promoted(place: World, files: dict[str, Any]) -> str:
    event = await place.merged(files)
    async with working(place) as given:
        return (await promote.run(event, given)).text


async def pushed(place: World, files: dict[str, Any], *, forced: bool = False) -> str:
    """The default branch has these files, too, and the bot heard of it; what it says."""
    before = place.repo.git.branch("main")
    after = await place.commit(files)
    push = {
        "ref": "refs/heads/main",
        "before": before,
        "after": after,
        "forced": forced,
        "commits": [{"added": [] if forced else list(files)}],
        "repository": {"id": place.repo.id, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"},
    }
    return await heard(place, orjson.loads(orjson.dumps(push)))


async def heard(place: World, payload: dict[str, Any]) -> str:
    event = events.parse("push", payload)
    assert isinstance(event, Push)
    assert route(event) == (PUSHED,)
    async with working(place) as given:
        return (await PUSHED.run(event, given)).text


def comments(place: World, number: int) -> list[str]:
    return [one.body for one in place.repo.pulls[number].comments.values()]


async def test_one_that_people_merge_is_built_anew_once(tmp_path: Path) -> None:
    """Its targets become what the sources are by then; it says so, and people merge it as before."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        assert await promoted(place, {"lab/x/f": "2"}) == "opened #2"
        first = place.repo.pulls[2].head_sha
        assert await pushed(place, {"prod/x/f": "by hand", "lab/x/g": "later"}) == "to be looked at: #2"
        assert (await later(place, SETTLES))[:2] == ["#2: conflicting", "#2 stands on the default branch"]
        assert await place.repo.git.contains(place.repo.pulls[2].head_sha, first)
        (body,) = comments(place, 2)
        assert ANEW in body
        assert place.pulls()[0]["state"] == "open"
        await place.merge(2)
        assert place.entry("prod/x") == place.entry("lab/x")
        assert place.text("prod/x/g") == "later"


async def test_a_second_conflict_is_said_and_left_to_people(tmp_path: Path) -> None:
    """Also on the merged pull request; what comes after it costs one question and no word."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        await pushed(place, {"prod/x/f": "by hand"})
        await later(place, SETTLES)
        rebuilt = place.repo.pulls[2].head_sha
        await pushed(place, {"prod/x/f": "again"})
        assert "#2 is left to people: it was built anew before" in await later(place, SETTLES)
        assert place.repo.pulls[2].head_sha == rebuilt
        (body,) = comments(place, 2)
        assert LEFT in body
        assert "it conflicts with the default branch, which is for people to resolve" in comments(place, 1)[0]
        place.box.calls.clear()
        await pushed(place, {"prod/x/f": "and again"})
        assert await later(place, SETTLES) == ["#2: conflicting"]
        assert [call.operation for call in place.calls()] == ["query Mergeable"]


async def test_a_push_that_touches_no_open_ones_targets_costs_nothing(tmp_path: Path) -> None:
    """Not one call; nor does one to another branch."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        place.box.calls.clear()
        for path in ("lab/x/f", "prod/xy/f", "elsewhere"):
            assert await pushed(place, {path: "new"}) == "no open promotion is concerned"
        assert await later(place, SETTLES) == []
        assert place.calls() == []


async def test_the_merge_of_an_open_one_itself_costs_nothing(tmp_path: Path) -> None:
    """Its end may be told after the push that it is."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        event = await place.merge(2)
        assert await heard(place, push_of(place, "prod/x/f")) == "to be looked at: #2"
        async with working(place) as given:
            await FOLLOW.run(event, given)
        await later(place)  # what it says on the merge that it comes from
        place.box.calls.clear()
        assert await later(place, SETTLES) == ["they have ended"]
        assert place.calls() == []


@pytest.mark.parametrize("path", ["prod/x/f", "prod/x", "prod"])
async def test_files_in_a_target_and_in_its_place_concern_it(tmp_path: Path, path: str) -> None:
    """A directory may have become a file."""
    async with world(tmp_path, PEOPLES | {"lab/x/f": "1"}) as place:
        await promoted(place, {"lab/x/f": "2"})
        assert await pushed(place, {path: "new"}) == "to be looked at: #2"


async def test_where_the_files_are_not_known_all_open_ones_are_looked_at(tmp_path: Path) -> None:
    """As after a push that was forced, in one question."""
    async with world(tmp_path, config(flow("lab/", ["prod/"], ["edge/"])) | FILES | {"edge/x/f": "1"}) as place:
        await promoted(place, {"lab/x/f": "2"})
        assert await pushed(place, {"prod/x/f": "by hand"}, forced=True) == "to be looked at: #2, #3"
        place.box.calls.clear()
        said = await later(place, SETTLES)
        assert said[0] == "#2: conflicting; #3: mergeable"
        assert [call.operation for call in place.calls()].count("query Mergeable") == 1


async def test_it_is_asked_again_until_github_knows(tmp_path: Path) -> None:
    """Asking is what makes it compute."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        place.repo.switches.late_mergeable = 2
        await pushed(place, {"prod/x/f": "by hand"})
        assert await later(place, SETTLES) == ["#2: unknown"]
        assert await later(place, 5) == ["#2: unknown"]
        assert await later(place, 5) == []
        assert (await later(place, 5))[0] == "#2: conflicting"
        assert ANEW in comments(place, 2)[0]


async def test_what_github_never_computes_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        place.repo.switches.late_mergeable = 1000
        await pushed(place, {"prod/x/f": "by hand"})
        said = [await later(place, 3600) for _ in range(12)]
        assert sum(map(len, said)) == 9
        assert comments(place, 2) == []


async def test_what_somebody_has_pushed_to_is_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        mine = await place.commit({"prod/x/mine": "1"}, place.repo.pulls[2].head_ref)
        await pushed(place, {"prod/x/f": "by hand"})
        assert "#2 has somebody else's commits" in await later(place, SETTLES)
        assert place.repo.pulls[2].head_sha == mine
        assert comments(place, 2) == []


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"prod/x/f": "3", "lab/x/telefonistka.yaml": "{}"}, "its configuration has changed since"),
        ({"prod/x/f": "3", "lab/x/f": "3"}, "every target equals its source by now: close it"),
    ],
    ids=["another configuration", "nothing left"],
)
async def test_what_cannot_be_built_anew_says_why(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        await pushed(place, files)
        await later(place, SETTLES)
        (body,) = comments(place, 2)
        assert f"{LEFT}: {says}." in body


async def test_an_operator_who_allows_less_by_now_is_heeded(tmp_path: Path) -> None:
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        await pushed(place, {"prod/x/f": "by hand"})
        head = place.repo.pulls[2].head_sha
        await later(replace(place, ceiling=Ceiling(targets=("edge",))), SETTLES)
        assert place.repo.pulls[2].head_sha == head
        assert "the operator of Telefonistka does not allow it any more" in comments(place, 2)[0]


async def test_one_that_waits_for_its_merge_is_built_anew_and_merged(tmp_path: Path) -> None:
    """Though no event of its own tells of the conflict."""
    async with world(tmp_path, config(flow("lab/", ["prod/"], auto=True)) | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add("answer", path="/merge$", method="PUT", status=405, body={"message": "Not yet"})
        async with working(place) as given:
            with suppress(TryAgain):
                await promote.run(event, given)
        place.box.rules.remove(rule)
        await pushed(place, {"prod/x/f": "by hand"})
        said = await later(place, SETTLES)
        assert said[:2] == ["#2: conflicting", "#2 (merged)"]
        assert place.text("prod/x/f") == "2"
        assert ANEW in comments(place, 2)[1]


async def test_the_merge_of_another_promotion_counts(tmp_path: Path) -> None:
    """Two of one source are open; the older one has nothing left to bring once the newer one is merged."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        await promoted(place, {"lab/x/f": "3"})
        await place.merge(4)
        assert await heard(place, push_of(place, "prod/x/f")) == "to be looked at: #2, #4"
        assert "#2: conflicting" in await later(place, SETTLES)
        assert "every target equals its source by now: close it" in comments(place, 2)[0]


async def test_a_reopened_one_is_known_again(tmp_path: Path) -> None:
    """What has ended is not looked at."""
    async with world(tmp_path, PEOPLES | FILES) as place:
        await promoted(place, {"lab/x/f": "2"})
        for state, action, says in (
            ("closed", "closed", "no open promotion is concerned"),
            ("open", "reopened", "to be looked at: #2"),
        ):
            await place.ask("PATCH", "/pulls/2", state=state)
            event = await place.event(2, action)
            async with working(place) as given:
                await FOLLOW.run(event, given)
            # The branch of what was closed is gone: GitHub's button restores it.
            if state == "closed":
                await place.ask("POST", "/git/refs", ref=f"refs/heads/{event.head_ref}", sha=event.head_sha)
            assert await pushed(place, {"prod/x/g": state}) == says


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_end_is_the_same_wherever_it_is_cut_off(tmp_path: Path, when: str) -> None:
    """At each call in turn, and begun again: one rebuilt head, one comment."""
    ends = set()
    for nth in range(1, 15):
        async with world(tmp_path / str(nth), PEOPLES | FILES) as place:
            await promoted(place, {"lab/x/f": "2"})
            rule = place.box.rules.add("reset", when=when, nth=nth)
            with suppress(TryAgain):
                await pushed(place, {"prod/x/f": "by hand"})
                await later(place, SETTLES)
            place.box.rules.remove(rule)
            for _ in range(2):  # what was under way is begun again, and all of it once more
                with suppress(TryAgain):
                    await later(place, 61)
                await heard(place, push_of(place, "prod/x/f"))
                await later(place, SETTLES)
            async with working(place) as given:
                known = await Journal(given.ledger, place.repo.id).landing(2)
            assert known is not None
            ends.add((known.rebuilds, known.stuck, place.text("prod/x/f", place.repo.pulls[2].head_ref)))
            (body,) = comments(place, 2)
            assert ANEW in body, nth
    assert ends == {(1, "", "2")}


def push_of(place: World, path: str) -> dict[str, Any]:
    return {
        "ref": "refs/heads/main",
        "commits": [{"modified": [path]}],
        "repository": {"id": place.repo.id, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"},
    }
