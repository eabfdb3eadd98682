"""The configuration that a pull request brings is checked before its merge."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import CHECK, DRIFT, check, route
from telefonistka.handlers.journal import Journal
from tests.core.values import flow
from tests.handlers.world import OWNER, World, working, world

GOOD = orjson.dumps({"promotionPaths": [flow("lab/", ["prod/"])]}).decode()
FILES: dict[str, Any] = {"telefonistka.yaml": GOOD, "lab/x/f": "1"}
BROKEN = "promotionPaths:\n  - sourcePath: lab(/\n"
WHOLE = """<!-- telefonistka_tag -->
<!-- telefonistka check -->
### Configuration

**With these files nothing could be promoted.** Correct them before this is merged:

- `telefonistka.yaml:2:17: error: 'lab(/' is no regular expression (RE2): missing ): lab(/`

Looked at: `{head}`. In a clone, `telefonistka check` says the same.
"""


async def judged(place: World, number: int, action: str = "opened") -> str:
    """What the bot says of the pull request's configuration; twice is as once."""
    event = await place.event(number, action)
    assert route(event)[:2] == (CHECK, DRIFT)
    text = ""
    for _ in range(2):
        async with working(place) as given:
            try:
                text = (await check.run(event, given)).text
            except Rejected as rejected:
                text = f"rejected: {rejected}"
    return text


def comments(place: World, number: int = 1) -> list[str]:
    return [one.body for one in place.repo.pulls[number].comments.values()]


async def by_app(place: World) -> World:
    """The same place with the bot as an App that may write checks."""
    allowed = {"contents": "write", "issues": "write", "pull_requests": "write", "statuses": "write", "checks": "write"}
    app = place.box.new_app("promoter", owner=OWNER, permissions=allowed)
    return replace(place, bot=place.box.installation_token(app.installation))


async def test_a_broken_file_is_red_before_its_merge(tmp_path: Path) -> None:
    """Named with its line, in the comment that a token leaves; green once it is corrected."""
    async with world(tmp_path, FILES) as place:
        number = await place.open("change", {"telefonistka.yaml": BROKEN})
        text = await judged(place, number)
        assert text.startswith("rejected: the configuration is broken: telefonistka.yaml:2:17: error: ")
        assert comments(place) == [WHOLE.format(head=place.repo.pulls[number].head_sha[:7])]
        async with working(place) as given:
            assert (await Journal(given.ledger, place.repo.id).page(number)).endswith(
                f"#issuecomment-{next(iter(place.repo.pulls[number].comments))}"
            )
        await place.commit({"telefonistka.yaml": GOOD}, "change")
        assert await judged(place, number, "synchronize") == "configuration: sound"
        assert "Nothing to remark" in comments(place)[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("promotionTargetBlockList: [prod(]\n", "rejected: the configuration is broken: lab/x/telefonistka.yaml:1:28"),
        ("promotionTargetBlocklist: [prod]\n", "configuration: 1 error, 0 warnings"),
        ("promotionTargetBlockList: [prod]\n", "configuration: sound"),
    ],
    ids=["broken", "unknown key", "sound"],
)
async def test_a_components_file_is_checked_too(tmp_path: Path, text: str, says: str) -> None:
    async with world(tmp_path, FILES) as place:
        number = await place.open("change", {"lab/x/telefonistka.yaml": text})
        assert (await judged(place, number)).startswith(says)


async def test_who_changes_no_configuration_is_told_nothing(tmp_path: Path) -> None:
    """Not even where the one on the default branch is broken; for one call."""
    async with world(tmp_path, {**FILES, "telefonistka.yaml": BROKEN}) as place:
        number = await place.open("change", {"lab/x/f": "2"})
        place.box.calls.clear()
        assert await judged(place, number) == ""
        assert len(place.calls()) == 2  # of two runs
        assert comments(place) == []


async def test_an_app_says_it_at_the_lines(tmp_path: Path) -> None:
    """As a check run, fifty remarks a request, once for each state of the files."""
    async with world(tmp_path, FILES) as someone:
        place = await by_app(someone)
        keys = "".join(f"unknown{number:03}: 1\n" for number in range(120))
        number = await place.open("change", {"telefonistka.yaml": "promotionPaths: 7\n" + keys})
        assert (await judged(place, number)).startswith("rejected: ")
        assert comments(place) == []
        (run,) = place.repo.check_runs.values()
        assert (run.name, run.status, run.conclusion) == ("telefonistka.yaml", "completed", "failure")
        assert run.sha == place.repo.pulls[number].head_sha
        assert len(run.annotations) == 121
        assert {one["path"] for one in run.annotations} == {"telefonistka.yaml"}
        assert [one["start_line"] for one in run.annotations] == list(range(1, 122))
        await place.commit({"telefonistka.yaml": GOOD}, "change")
        assert await judged(place, number, "synchronize") == "configuration: sound"
        assert [one.conclusion for one in place.repo.check_runs.values()] == ["failure", "success"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_end_is_the_same_wherever_it_is_cut_off(tmp_path: Path, when: str) -> None:
    """At each call in turn, and begun again: all remarks, each once."""
    for nth in range(1, 10):
        async with world(tmp_path / str(nth), FILES) as someone:
            place = await by_app(someone)
            keys = "".join(f"unknown{number:03}: 1\n" for number in range(60))
            number = await place.open("change", {"telefonistka.yaml": keys})
            event = await place.event(number, "opened")
            place.box.rules.add("answer", when=when, nth=nth, status=502)
            for _ in range(3):
                async with working(place) as given:
                    with suppress(TryAgain):
                        await check.run(event, given)
            newest = list(place.repo.check_runs.values())[-1]
            assert newest.conclusion == "neutral"
            assert sorted({one["start_line"] for one in newest.annotations}) == list(range(1, 61)), nth
