"""Pull requests from forks: what is said goes by the base's configuration, and nothing is done on the head's word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.core.events import PullRequest
from telefonistka.errors import Rejected
from telefonistka.handlers import check, drift, merge, plan, promote, result, route
from telefonistka.sandbox import scenes
from telefonistka.sandbox.state import Access, Pull
from tests.core.values import flow
from tests.handlers.world import World, working, world

FILES: dict[str, Any] = {
    "telefonistka.yaml": orjson.dumps({"promotionPaths": [flow("lab/", ["prod/"])]}).decode(),
    "lab/x/f": "1",
    "lab/y/f": "1",
    "lab/y/telefonistka.yaml": "promotionTargetBlockList: [prod]",
    "prod/x/f": "0",
}
GREEDY = orjson.dumps({"promotionPaths": [flow("lab/", ["everywhere/"], auto=True)]}).decode()


async def forked(place: World, files: dict[str, Any], branch: str = "main") -> tuple[Pull, PullRequest]:
    """A stranger proposes these files from a fork."""
    eve = place.box.person("eve", access=Access.NONE).user
    pull = await scenes.from_fork(place.box, place.repo, files, by=eve, branch=branch)
    return pull, await place.event(pull.number, "opened")


def comments(place: World, number: int) -> list[str]:
    return [one.body for one in place.repo.pulls[number].comments.values()]


async def test_the_plan_and_the_drift_go_by_the_bases_configuration(tmp_path: Path) -> None:
    """Whatever the head's files allow themselves."""
    async with world(tmp_path, FILES) as place:
        hostile = {"telefonistka.yaml": GREEDY, "lab/x/f": "2", "lab/y/f": "2", "lab/y/telefonistka.yaml": ""}
        pull, event = await forked(place, hostile)
        async with working(place) as given:
            await plan.tell(pull.number, given)
            await drift.run(event, given)
        shown, found = comments(place, pull.number)
        assert "`prod/x`" in shown
        assert "`prod/y`" not in shown
        assert "everywhere" not in shown + found
        assert "lab/y/telefonistka.yaml:1" in shown


async def test_a_broken_file_is_red_there_too(tmp_path: Path) -> None:
    """It is read from the base repository, where GitHub keeps the head."""
    async with world(tmp_path, FILES) as place:
        _, event = await forked(place, {"telefonistka.yaml": "promotionPaths: 7"})
        async with working(place) as given:
            with pytest.raises(Rejected, match=r"the configuration is broken: telefonistka\.yaml:1"):
                await check.run(event, given)


async def test_a_forks_branch_of_such_a_name_is_not_ours(tmp_path: Path) -> None:
    """Neither merged, nor closed, nor taken for a promotion; the branch of that name here stays."""
    async with world(tmp_path, FILES) as place:
        merged = await place.merged({"lab/x/f": "2"})
        async with working(place) as given:
            await promote.run(merged, given)
        ours = place.repo.pulls[2].head_ref
        pull, event = await forked(place, {"prod/x/f": "evil"}, ours)
        async with working(place) as given:
            assert (await merge.run(event, given)).text == "not a pull request that Telefonistka merges"
            assert (await result.follow(event, given)).text == "not a pull request that Telefonistka opened"
        assert pull.state == "open"
        assert ours in place.repo.git.branches()


async def test_once_a_person_has_merged_it_it_is_promoted_as_any_other(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        pull, _ = await forked(place, {"lab/x/f": "2"})
        event = await place.merge(pull.number)
        assert "promote" in [handler.name for handler in route(event)]
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (GitHub does not let eve be assigned)"
