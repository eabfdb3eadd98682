"""What people ask for in comments: who may, for which commit, and what they are answered."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from telefonistka.core import events
from telefonistka.core.commands import Act
from telefonistka.core.events import Comment, PullRequest
from telefonistka.errors import TryAgain
from telefonistka.handlers import COMMANDS, commands, route
from telefonistka.handlers.journal import Journal, Seen
from telefonistka.sandbox.state import Access, Token
from tests.core.values import flow
from tests.handlers.world import OWNER, World, later, working, world

FILES: dict[str, Any] = {
    "telefonistka.yaml": orjson.dumps(
        {"promotionPaths": [flow("lab/", ["prod/"])], "toggleCommitStatus": {"freeze": "ci/freeze"}}
    ).decode(),
    "lab/x/f": "1",
    "prod/x/f": "0",
}


async def comment(place: World, number: int, body: str, *, by: Token | None = None) -> Comment:
    """What the webhook says of a comment that somebody wrote."""
    made = await place.ask("POST", f"/issues/{number}/comments", by=by, body=body)
    issue, pull = await place.ask("GET", f"/issues/{number}"), await place.ask("GET", f"/pulls/{number}")
    payload = {"action": "created", "issue": issue, "comment": made, "repository": pull["base"]["repo"]}
    event = events.parse("issue_comment", payload | {"sender": made["user"]})
    assert isinstance(event, Comment)
    return event


async def seen(place: World, event: PullRequest, seq: int = 1) -> None:
    """The worker has noted what a delivery told."""
    async with working(place) as given:
        await Journal(given.ledger, event.repository.id).put_seen(event.number, Seen(head=event.head_sha, seq=seq))


async def asked(place: World, number: int, body: str, *, by: Token | None = None, **settings: Any) -> str:
    """What the bot does on a comment, in one line."""
    event = await comment(place, number, body, by=by)
    assert route(event) == (COMMANDS,)
    text = ""
    for _ in range(2):  # as after a crash: the end is the same
        async with working(place) as given:
            text = (await commands.run(event, replace(given, **settings))).text
            if not text.startswith(("refused", "not", "nothing")):
                assert reactions(place, number, event.id) == ["+1"]
    return text


def reactions(place: World, number: int, comment_id: int) -> list[str]:
    return [one.content for one in place.repo.pulls[number].comments[comment_id].reactions.values()]


def said(place: World, number: int) -> list[str]:
    """The bot's comments."""
    ours = [one for one in place.repo.pulls[number].comments.values() if one.user is place.bot.user]
    return [one.body for one in ours]


def statuses(place: World, number: int, context: str) -> list[tuple[str, str]]:
    found = place.repo.statuses.get(place.repo.pulls[number].head_sha, [])
    return [(one.state, one.description or "") for one in found if one.context == context]


async def proposed(place: World) -> int:
    """A pull request whose opening was told."""
    number = await place.open("change", {"lab/x/f": "2"})
    await seen(place, await place.event(number, "opened"))
    return number


@pytest.mark.parametrize("line", ["/retrigger", "/telefonistka retrigger\nplease", "/telefonistka drift"])
async def test_drift_is_looked_at_again(tmp_path: Path, line: str) -> None:
    """D81: as if somebody had pushed."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        assert await asked(place, number, line) in ("retrigger", "drift")
        assert "drift in 1 target, 0 in flight" in await later(place)
        (body,) = said(place, number)
        assert "### Drift" in body


async def test_a_plan_is_shown(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        assert await asked(place, number, "/telefonistka plan") == "plan"
        assert await later(place) == ["the plan is in a comment"]
        assert "### Promotion plan" in said(place, number)[0]


async def test_a_merge_of_which_nothing_was_heard_is_promoted(tmp_path: Path) -> None:
    """Asking again opens nothing twice."""
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        for _ in range(2):
            assert await asked(place, event.number, "/telefonistka promote") == "promote"
            assert (await later(place))[0] == "opened #2"
        assert len(place.pulls()) == 1


async def test_what_is_not_merged_is_not_promoted(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        assert "is not merged" in await asked(place, number, "/telefonistka promote")
        assert await later(place) == []
        (reply,) = said(place, number)
        assert "`/telefonistka promote` was not done: the pull request is not merged" in reply


async def test_help_names_every_command_and_every_word(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        assert await asked(place, number, "/telefonistka") == "help"
        (reply,) = said(place, number)
        for act in Act:
            assert f"`/telefonistka {act}`" in reply
        assert "`/freeze`: the commit status `ci/freeze`" in reply


# Who may


@pytest.mark.parametrize("access", [Access.NONE, Access.READ, Access.TRIAGE])
@pytest.mark.parametrize("line", ["/retrigger", "/telefonistka promote", "/freeze"])
async def test_who_may_not_write_is_refused(tmp_path: Path, access: Access, line: str) -> None:
    """D72: with one reply that says why; nothing is done."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        eve = place.box.person("eve", access=access)
        text = await asked(place, number, line, by=eve)
        assert text == "refused: it takes write permission to this repository"
        assert await later(place) == []
        (reply,) = said(place, number)
        assert f"`{line}` was not done: it takes write permission to this repository." in reply
        assert statuses(place, number, "ci/freeze") == []


async def test_permission_counts_at_the_moment_of_the_act(tmp_path: Path) -> None:
    """Not what the payload says of the author."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        event = await comment(place, number, "/retrigger")
        place.repo.collaborators["alice"] = Access.READ
        async with working(place) as given:
            assert (await commands.run(event, given)).text.startswith("refused")


async def test_bots_are_not_heard(tmp_path: Path) -> None:
    """Ours neither, unless the operator wants it; others never."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        app = place.box.new_app("renovate", owner=OWNER)
        renovate = place.box.installation_token(app.installation)
        for who, wanted in ((renovate, False), (renovate, True), (place.bot, False)):
            text = await asked(place, number, "/retrigger", by=who, handle_self_comment=wanted)
            assert text == "nothing that we are asked for"
        assert await later(place) == []
        assert await asked(place, number, "/retrigger", by=place.bot, handle_self_comment=True) == "retrigger"


async def test_words_that_are_not_ours_cost_nothing(tmp_path: Path) -> None:
    """Neither a call nor an answer."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        issue, pull = await place.ask("GET", f"/issues/{number}"), await place.ask("GET", f"/pulls/{number}")
        made = await place.ask("POST", f"/issues/{number}/comments", body="I would /retrigger this")
        payload = {"action": "created", "issue": issue, "comment": made, "repository": pull["base"]["repo"]}
        for action in ("created", "edited", "deleted"):
            for body in ("I would /retrigger this", "/retrigger"):
                told = payload | {"action": action, "comment": made | {"body": body}}
                if (action, body) != ("created", "/retrigger"):
                    assert route(events.parse("issue_comment", told)) == ()
        assert await asked(place, number, "/approve") == "not a word that is configured"
        assert said(place, number) == []


# For which commit


async def test_a_command_is_for_the_commit_that_was_seen(tmp_path: Path) -> None:
    """Who pushed behind the author's back gets nothing of it; naming the commit overrides that."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        old = place.repo.pulls[number].head_sha
        new = await place.commit({"lab/x/f": "3"}, "change")
        text = await asked(place, number, "/retrigger")
        assert text == f"refused: it was for {old[:12]}, and somebody has pushed {new[:12]} since"
        assert f"write `/retrigger {new[:12]}`." in said(place, number)[0]
        assert "refused" in await asked(place, number, f"/retrigger {old}")
        assert await asked(place, number, f"/retrigger {new[:12]}") == "retrigger"


async def test_a_commit_of_which_nothing_was_told_must_be_named(tmp_path: Path) -> None:
    """As after an installation: the pull request was there before us."""
    async with world(tmp_path, FILES) as place:
        number = await place.open("change", {"lab/x/f": "2"})
        assert "cannot tell for which commit" in await asked(place, number, "/retrigger")


async def test_what_is_closed_is_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        await seen(place, event)
        assert await asked(place, event.number, "/retrigger") == "refused: the pull request is not open"


# Toggling


async def status(place: World, number: int, state: str, context: str = "ci/freeze", **fields: Any) -> None:
    sha = place.repo.pulls[number].head_sha
    await place.ask("POST", f"/statuses/{sha}", state=state, context=context, **fields)


@pytest.mark.parametrize(("state", "then"), [("success", "failure"), ("failure", "success"), ("pending", "success")])
async def test_a_word_toggles_the_newest_status(tmp_path: Path, state: str, then: str) -> None:
    """However many others were set since; once, although the work is done twice; and it is said who did it."""
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        await status(place, number, "error")
        await status(place, number, state, description="by CI", target_url="https://ci.example.com/7")
        for other in range(120):
            await status(place, number, "pending", f"other/{other}")
        assert await asked(place, number, "/freeze\nbecause") == f"ci/freeze: {then}"
        assert statuses(place, number, "ci/freeze")[2:] == [(then, f"set to {then} by alice; it was {state}: by CI")]
        assert await asked(place, number, "/freeze") == f"ci/freeze: {'success' if then == 'failure' else 'failure'}"
        assert place.repo.statuses[place.repo.pulls[number].head_sha][-1].target_url == "https://ci.example.com/7"


async def test_a_status_that_is_not_there_is_not_toggled(tmp_path: Path) -> None:
    async with world(tmp_path, FILES) as place:
        number = await proposed(place)
        assert "has no commit status ci/freeze" in await asked(place, number, "/freeze")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_end_is_the_same_wherever_it_is_cut_off(tmp_path: Path, when: str) -> None:
    """At each call in turn, and begun again: the status is toggled once, and the answer given."""
    for nth in range(1, 9):
        async with world(tmp_path / str(nth), FILES) as place:
            number = await proposed(place)
            await status(place, number, "success", description="by CI")
            event = await comment(place, number, "/freeze")
            place.box.rules.add("reset", when=when, nth=nth)
            for _ in range(3):
                async with working(place) as given:
                    with suppress(TryAgain):
                        await commands.run(event, given)
            found = statuses(place, number, "ci/freeze")
            # A write whose answer was lost may be written again.
            assert list(dict.fromkeys(state for state, _ in found)) == ["success", "failure"], nth
            assert found[-1] == ("failure", "set to failure by alice; it was success: by CI")
            assert reactions(place, number, event.id) == ["+1"]
