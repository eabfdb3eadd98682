"""GitHub's limits, odd names, and what people and operators do in the middle: each with what is said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from telefonistka.core import lineage
from telefonistka.core.events import PullRequest
from telefonistka.core.lineage import Hop, Lineage
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.repo import Repo
from telefonistka.handlers import Context, promote
from telefonistka.sandbox import control, lifecycle
from telefonistka.sandbox.box import Credentials
from telefonistka.sandbox.state import Token
from tests.core.values import flow
from tests.handlers.test_merge import APPROVED, config, guarded
from tests.handlers.world import NAME, OWNER, UNPACED, World, later, working, world

AUTO = config(flow("lab/", ["prod/"], auto=True))
FILES: dict[str, Any] = {"lab/x/f": "1", "prod/x/f": "1"}
TITLE = 256  # characters
BODY = 65_536  # characters


def _owner(place: World) -> Token:
    """Somebody who administers the repository."""
    return place.box.person("olga", access="admin")


async def promoted(place: World, *args: Any, **kwargs: Any) -> str:
    event = await place.merged(*args, **kwargs)
    async with working(place) as given:
        return (await promote.run(event, given)).text


async def test_three_hundred_targets_fit_in_one_pull_request(tmp_path: Path) -> None:
    """Title and body stay within GitHub's limits, and the metadata can still be read."""
    targets = [f"clusters/production/a-rather-long-region-name-{number:03}/c1/" for number in range(300)]
    async with world(tmp_path, config(flow("lab/", targets, auto=True)) | {"lab/x/f": "1"}) as place:
        assert await promoted(place, {"lab/x/f": "2"}) == "opened #2 (merged)"
        (pull,) = place.pulls()
        assert len(pull["title"]) <= TITLE
        assert len(pull["body"]) <= BODY
        assert sorted(lineage.parse(pull["body"]).hops) == [1]
        assert place.entry(f"{targets[299]}x") == place.entry("lab/x")


async def test_forty_components_fit_in_one_pull_request(tmp_path: Path) -> None:
    names = [f"a-component-with-a-long-name-{number:02}" for number in range(40)]
    files = AUTO | {f"lab/{name}/f": "1" for name in names}
    async with world(tmp_path, files) as place:
        assert await promoted(place, {f"lab/{name}/f": "2" for name in names}) == "opened #2 (merged)"
        (pull,) = place.pulls()
        assert len(pull["title"]) <= TITLE
        assert "component-with-a-long-name-39" in pull["body"]


async def test_a_long_chain_loses_its_oldest_hops_first(tmp_path: Path) -> None:
    """A hundred and eleven are more than a body holds beside all else; the newest are kept."""
    hops = {number: Hop(f"stage-{number}/", (f"target-{number}/" * 9,)) for number in range(1000, 1110)}
    body = lineage.marker(Lineage(author="alice", number=1000, hops=hops))
    async with world(tmp_path, AUTO | FILES) as place:
        assert len(body) < BODY
        place.repo.last_number = 2000
        assert await promoted(place, {"lab/x/f": "2"}, body=body) == "opened #2002 (merged)"
        (pull,) = place.pulls()
        assert len(pull["body"]) <= BODY
        known = lineage.parse(pull["body"])
        assert {1109, 2001} <= known.hops.keys()
        assert known.author == "alice"


async def test_a_branch_name_as_long_as_git_takes_it(tmp_path: Path) -> None:
    """Ours stays within 250 bytes, with multi-byte characters too."""
    async with world(tmp_path, AUTO | FILES) as place:
        number = await place.open("ü" * 120, {"lab/x/f": "2"})
        event = await place.merge(number)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        assert len(place.pulls()[0]["head"].encode()) <= 250


ODD = [
    "--upload-pack=touch",
    "$(reboot)",
    "`id`",
    "; rm -rf *",
    "@alice #1 closes #1",
    "<script>alert(1)</script>",
    "<!-- telefonistka plan -->",
    "[click](https:\\evil.example)",
    "</details>",
    "| a | b |",
    "{{ 7*7 }}",
    "{% raw %}",
    "\u202egnp.exe",
    "a\tb",
    "CON",
]


async def test_names_that_look_like_commands_or_markup_are_names(tmp_path: Path) -> None:
    """As components and as files; they are promoted to the bit and mention nobody."""
    files = (
        AUTO | {f"lab/{name}/f": "1" for name in ODD} | {f"lab/{name}/{other}": "" for name in ODD[:3] for other in ODD}
    )
    async with world(tmp_path, files) as place:
        assert await promoted(place, {f"lab/{name}/f": "2" for name in ODD}) == "opened #2 (merged)"
        assert place.entry("prod") == place.entry("lab")
        body = place.pulls()[0]["body"]
        for markup in ("@alice", "<script>", "<!-- telefonistka plan", "</details>", "\u202e"):
            assert markup not in body


async def test_empty_files_are_files(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | {"lab/x/empty": "", "lab/x/.gitkeep": ""}) as place:
        assert await promoted(place, {"lab/x/other": ""}) == "opened #2 (merged)"
        assert place.entry("prod/x") == place.entry("lab/x")


# In the middle


async def test_a_repository_that_was_renamed_is_found(tmp_path: Path) -> None:
    """Between the event and the act: GitHub redirects, and the ledger goes by the id."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        await place.ask("PATCH", "", by=_owner(place), name="deployments")
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        # The redirects lead to /repositories/{id}, of which GitHub's description knows nothing.
        place.recorder.faults[:] = [fault for fault in place.recorder.faults if "/repositories/" not in fault]


async def test_a_default_branch_that_was_renamed_is_followed(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        await place.ask("POST", "/branches/main/rename", by=_owner(place), new_name="trunk")
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        assert place.text("prod/x/f", "trunk") == "2"


async def test_a_default_branch_that_is_renamed_before_the_pull_request_is_followed(tmp_path: Path) -> None:
    """The plan stays; only the base has another name."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add("answer", path="/pulls$", method="POST", status=502)
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(event, given)
        place.box.rules.remove(rule)
        await place.ask("POST", "/branches/main/rename", by=_owner(place), new_name="trunk")
        async with working(place) as given:
            with pytest.raises(TryAgain, match="the default branch is trunk by now"):
                await promote.run(event, given)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"


async def test_a_force_push_before_anything_was_planned_is_waited_for(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        before = place.repo.git.branch("main")
        event = await place.merged({"lab/x/f": "2"})
        await place.ask("PATCH", "/git/refs/heads/main", sha=before, force=True)
        async with working(place) as given:
            with pytest.raises(TryAgain, match="was it force-pushed"):
                await promote.run(event, given)
        assert place.pulls() == []


async def test_an_archived_repository_says_so(tmp_path: Path) -> None:
    """Nothing can be written, and GitHub's own sentence is the reason; it goes on where it stopped."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        owner = _owner(place).user
        async with interrupted(place, event, "/pulls$", "POST"):
            await lifecycle.archive(place.box, place.repo, archived=True, by=owner)
        async with working(place) as given:
            with pytest.raises(Rejected, match="archived so is read-only"):
                await promote.run(event, given)
        assert place.pulls() == []
        await lifecycle.archive(place.box, place.repo, archived=False, by=owner)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"


async def test_what_waits_in_an_archived_repository_is_merged_when_it_is_opened_again(tmp_path: Path) -> None:
    """Of which no event tells: it is looked at again."""
    async with world(tmp_path, AUTO | FILES) as place:
        await guarded(place, checks=("ci",))
        await place.ask("POST", f"/statuses/{place.repo.pulls[2].head_sha}", state="success", context="ci")
        await lifecycle.archive(place.box, place.repo, archived=True, by=_owner(place).user)
        with pytest.raises(Rejected, match="archived so is read-only"):
            await later(place, 60)
        await lifecycle.archive(place.box, place.repo, archived=False, by=_owner(place).user)
        assert "#2 (merged)" in await later(place, 3600)


@asynccontextmanager
async def interrupted(place: World, event: PullRequest, path: str, method: str) -> AsyncIterator[None]:
    """The bot promotes, and the block runs while GitHub has got that request and not acted on it; it is refused."""
    rule = place.box.rules.add("hold", path=path, method=method, when="before", nth=1)
    async with working(place) as given, anyio.create_task_group() as tasks:

        async def run() -> None:
            with pytest.raises(Rejected):
                await promote.run(event, given)

        tasks.start_soon(run)
        await place.box.rules.wait_held(1, 20)
        yield
        place.box.rules.remove(rule)
        place.box.rules.release()


@pytest.mark.parametrize(
    ("path", "method"),
    [("/graphql$", "POST"), ("/git/refs$", "POST"), ("/pulls$", "POST"), ("/merge$", "PUT")],
    ids=["reading", "branch", "pull request", "merge"],
)
async def test_a_revoked_token_is_the_operators_and_nothing_is_lost(tmp_path: Path, path: str, method: str) -> None:
    """Whenever it is revoked: what was begun goes on with the next token."""
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        async with interrupted(place, event, path, method):
            await control.revoke(place.box, {"token": place.bot.value})
        async with working(place) as given:
            with pytest.raises(Rejected, match=r"Bad credentials.*or the token"):
                await promote.run(event, given)
        place.bot = place.box.token(place.bot.user)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        assert len(place.pulls()) == 1


async def test_a_revoked_token_of_the_second_identity_holds_nothing_else_up(tmp_path: Path) -> None:
    """All but the approval is done; the sentence goes to the operator, who sends the event again."""
    async with world(tmp_path, APPROVED | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        await control.revoke(place.box, {"token": place.approver.value})
        async with working(place) as given:
            with pytest.raises(Rejected, match="Bad credentials"):
                await promote.run(event, given)
        assert [pull["state"] for pull in place.pulls()] == ["open"]
        place.approver = place.box.token(place.approver.user)
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        assert len(place.repo.pulls[2].reviews) == 1


@asynccontextmanager
async def as_app(place: World, made: Credentials) -> AsyncIterator[Context]:
    """The bot at work as a GitHub App."""
    endpoint = Endpoint.of(place.box.url)
    async with auth.session(endpoint) as session:
        identity = Identity(auth.App(made.app.id, made.private_key), endpoint, session, pacing=UNPACED)
        repo = Repo(await identity.client(OWNER, NAME), OWNER, NAME)
        yield place.given(repo, repo)


async def test_a_suspended_app_is_the_operators(tmp_path: Path) -> None:
    """Before and in the middle of the work; when it may go on, nothing is done twice."""
    async with world(tmp_path, AUTO | FILES) as place:
        event, made, owner = await place.merged({"lab/x/f": "2"}), place.box.new_app("tel", owner=OWNER), _owner(place)
        await lifecycle.suspend(place.box, made.installation, suspended=True, by=owner.user)
        async with as_app(place, made) as given:
            with pytest.raises(Rejected, match=r"has been suspended.*its installation"):
                await promote.run(event, given)
            await lifecycle.suspend(place.box, made.installation, suspended=False, by=owner.user)
            rule = place.box.rules.add("hold", path="/pulls$", method="POST", when="before", nth=1)
            async with anyio.create_task_group() as tasks:

                async def run() -> None:
                    with pytest.raises(Rejected, match="has been suspended"):
                        await promote.run(event, given)

                tasks.start_soon(run)
                await place.box.rules.wait_held(1, 20)
                await lifecycle.suspend(place.box, made.installation, suspended=True, by=owner.user)
                place.box.rules.remove(rule)
                place.box.rules.release()
            await lifecycle.suspend(place.box, made.installation, suspended=False, by=owner.user)
            assert (await promote.run(event, given)).text == "opened #2 (merged)"


async def test_a_deleted_branch_closes_its_pull_request_and_is_not_fought(tmp_path: Path) -> None:
    async with world(tmp_path, AUTO | FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        rule = place.box.rules.add(
            "answer", path="/merge$", method="PUT", status=405, body={"message": "Base branch was modified."}
        )
        async with working(place) as given:
            with pytest.raises(TryAgain):
                await promote.run(event, given)
        place.box.rules.remove(rule)
        await place.ask("DELETE", f"/git/refs/heads/{place.pulls()[0]['head']}")
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (closed without a merge)"
        assert len(place.pulls()) == 1


@pytest.mark.parametrize(
    ("source", "target"),
    [("lab/", ".github/workflows/"), ("lab/", ".gitlab/"), ("lab/", "lab/x/below/"), ("lab/x", "lab")],
    ids=["GitHub", "git", "inside", "around"],
)
async def test_a_target_that_would_hurt_is_refused(tmp_path: Path, source: str, target: str) -> None:
    """GitHub's and git's own places, and targets inside or around their source."""
    async with world(tmp_path, config(flow(source, [target], auto=True)) | {"lab/x/f": "1"}) as place:
        with pytest.raises(Rejected, match="left out"):
            await promoted(place, {"lab/x/f": "2"})
        assert place.pulls() == []


async def test_three_thousand_changed_files_and_more_are_all_promoted(tmp_path: Path) -> None:
    """GitHub lists 3,000 of them; the rest is told by the trees."""
    change = {f"lab/{number:04}/f": "2" for number in range(3_001)}
    async with world(tmp_path, AUTO | FILES) as place:
        assert await promoted(place, change) == "opened #2 (merged)"
        assert place.entry("prod/3000") == place.entry("lab/3000") is not None
        assert place.text("prod/x/f") == "1"


async def test_a_tree_of_a_hundred_thousand_entries_is_promoted_from(tmp_path: Path) -> None:
    """GitHub cuts its listing off; what lies in the parts that are read level by level is promoted all the same."""
    many = {f"archive/{first:03}/{second:03}": "1" for first in range(400) for second in range(250)}
    async with world(tmp_path, AUTO | FILES | many) as place:
        event = await place.merged({"lab/x/f": "2"})
        place.box.calls.clear()
        async with working(place) as given:
            assert (await promote.run(event, given)).text == "opened #2 (merged)"
        assert place.entry("prod/x") == place.entry("lab/x")
        assert place.entry("archive") is not None
        assert len([call for call in place.calls() if call.route and "git/trees/" in call.route]) <= 8
