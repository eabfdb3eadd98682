"""What a newer merge does to open promotions of the same source: nothing, an update in place, or their end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.core import lineage
from telefonistka.errors import TryAgain
from telefonistka.handlers import promote
from tests.core.values import flow
from tests.handlers.world import World, later, working, world

LAB: dict[str, Any] = {f"lab/{name}/f": "1" for name in "abc"} | {"lab/a/deep/g": "1"}


def config(mode: str, **flags: Any) -> dict[str, Any]:
    return {
        "telefonistka.yaml": orjson.dumps(
            {"promotionPaths": [flow("lab/", ["prod/"], **flags) | {"onNewer": mode}]}
        ).decode()
    }


async def promoted(place: World, files: dict[str, Any]) -> str:
    """The merge of these files, promoted as often as a crash may have it; and what follows from that."""
    event = await place.merged(files)
    text = ""
    for _ in range(2):
        async with working(place) as given:
            text = (await promote.run(event, given)).text
    await later(place)
    return text


def comments(place: World, number: int) -> list[str]:
    return [one.body for one in place.repo.pulls[number].comments.values()]


async def test_by_default_the_newer_one_is_another(tmp_path: Path) -> None:
    """As in the original."""
    async with world(tmp_path, config("keep") | LAB) as place:
        assert await promoted(place, {"lab/a/f": "2"}) == "opened #2"
        assert await promoted(place, {"lab/a/f": "3"}) == "opened #4"
        assert [pull["state"] for pull in place.pulls()] == ["open", "open"]


async def test_an_open_one_is_updated_in_place(tmp_path: Path) -> None:
    """It has what both merges brought, says so, and its merge makes the targets what the sources are."""
    async with world(tmp_path, config("update") | LAB) as place:
        await promoted(place, {"lab/a/f": "2", "lab/b/f": "2"})
        assert await promoted(place, {"lab/b/f": "3", "lab/c/f": "3"}) == "opened #2"
        (pull,) = place.pulls()
        assert pull["title"] == "🚀 Promotion: a,b,c ➡️  prod/"
        known = lineage.parse(pull["body"])
        assert (known.author, known.number, sorted(known.hops)) == ("alice", 1, [1, 3])
        assert known.promoted_paths == ("prod/a", "prod/b", "prod/c")
        for number in (1, 3):
            assert "- #2: " in comments(place, number)[0]
            assert "it has what came of #&#8203;1, #&#8203;3" in comments(place, number)[0]
        await place.merge(2)
        for name in "abc":
            assert place.entry(f"prod/{name}") == place.entry(f"lab/{name}")


async def test_what_has_other_components_is_left_alone(tmp_path: Path) -> None:
    """Its source has not moved on."""
    async with world(tmp_path, config("update") | LAB) as place:
        assert await promoted(place, {"lab/a/f": "2"}) == "opened #2"
        assert await promoted(place, {"lab/b/f": "2"}) == "opened #4"


async def test_an_open_one_is_closed_for_the_newer(tmp_path: Path) -> None:
    """With a link; the newer one has what the older had."""
    async with world(tmp_path, config("close") | LAB) as place:
        await promoted(place, {"lab/a/f": "2", "lab/b/f": "2"})
        assert await promoted(place, {"lab/b/f": "3"}) == "opened #4"
        old, new = place.pulls()
        assert (old["state"], new["state"]) == ("closed", "open")
        assert "#4 takes the place of this pull request" in comments(place, 2)[0]
        assert lineage.parse(new["body"]).promoted_paths == ("prod/a", "prod/b")
        assert "**closed** without a merge" in comments(place, 1)[0]
        assert "#&#8203;4 took its place" in comments(place, 1)[0]


@pytest.mark.parametrize("mode", ["update", "close"])
async def test_what_somebody_has_changed_is_never_overwritten(tmp_path: Path, mode: str) -> None:
    """It stays, says so, and the newer content has a pull request of its own."""
    async with world(tmp_path, config(mode) | LAB) as place:
        await promoted(place, {"lab/a/f": "2"})
        branch = place.repo.pulls[2].head_ref
        mine = await place.commit({"prod/a/mine": "1"}, branch)
        assert await promoted(place, {"lab/a/f": "3"}) == "opened #4"
        assert place.repo.git.branches()[branch] == mine
        assert [pull["state"] for pull in place.pulls()] == ["open", "open"]
        assert "Somebody has changed this pull request" in comments(place, 2)[0]


@pytest.mark.parametrize("mode", ["update", "close"])
async def test_what_became_needless_is_closed(tmp_path: Path, mode: str) -> None:
    """Its source went back to what the target is: nothing is left to promote."""
    async with world(tmp_path, config(mode) | LAB | {"prod/b/f": "1"}) as place:
        await promoted(place, {"lab/b/f": "2"})
        assert "nothing to promote" in await promoted(place, {"lab/b/f": "1"})
        assert [pull["state"] for pull in place.pulls()] == ["closed"]
        assert "nothing left to promote" in comments(place, 2)[0]


async def test_one_that_waits_for_its_merge_is_merged_with_the_newer_content(tmp_path: Path) -> None:
    """By itself, at the head that was made last."""
    async with world(tmp_path, config("update", auto=True) | LAB) as place:
        event = await place.merged({"lab/a/f": "2"})
        rule = place.box.rules.add("answer", path="/merge$", method="PUT", status=405, body={"message": "Not yet"})
        async with working(place) as given:
            with suppress(TryAgain):
                await promote.run(event, given)
        place.box.rules.remove(rule)
        assert await promoted(place, {"lab/a/f": "3"}) == "opened #2 (merged)"
        assert place.text("prod/a/f") == "3"


@pytest.mark.parametrize("mode", ["update", "close"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_end_is_the_same_wherever_it_is_cut_off(tmp_path: Path, mode: str, when: str) -> None:
    """At each write in turn, and begun again: one open pull request, with all that both brought."""
    for nth in range(1, 9):
        async with world(tmp_path / str(nth), config(mode) | LAB) as place:
            await promoted(place, {"lab/a/f": "2", "lab/b/f": "2"})
            event = await place.merged({"lab/b/f": "3"})
            place.box.rules.add("reset", when=when, nth=nth, path="/(git|pulls|issues)/?", method="POST")
            place.box.rules.add("reset", when=when, nth=nth, method="PATCH")
            for _ in range(4):
                async with working(place) as given:
                    with suppress(TryAgain):
                        await promote.run(event, given)
            opened = [pull for pull in place.pulls() if pull["state"] == "open"]
            assert [pull["number"] for pull in opened] == ([2] if mode == "update" else [4]), nth
            head = opened[0]["head"]
            assert place.entry("prod/a", head) == place.entry("lab/a")
            assert place.entry("prod/b", head) == place.entry("lab/b")
            assert lineage.parse(opened[0]["body"]).promoted_paths == ("prod/a", "prod/b")
