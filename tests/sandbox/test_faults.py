"""Faults by rule, over HTTP as a test harness uses them, and the call log."""

from __future__ import annotations

from typing import Any

import aiohttp
import anyio
import pytest

from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Repo
from tests.sandbox.conftest import IAC, GitHub


async def rule(github: GitHub, action: str, **settings: Any) -> int:
    return int((await github.ok("POST", "/_sandbox/rules", {"action": action, **settings}))["id"])


async def new_ref(github: GitHub, name: str) -> int:
    """The status of an attempt to make this branch, 0 where the connection was cut."""
    sha = github.box.repos["acme/iac"].git.branch("main")
    try:
        return (await github("POST", f"{IAC}/git/refs", {"ref": f"refs/heads/{name}", "sha": sha})).status
    except aiohttp.ServerDisconnectedError:
        return 0


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
async def test_an_answer_may_lie_about_what_was_done(github: GitHub, repo: Repo, when: str, there: bool) -> None:
    """A 502 before the effect, or after it."""
    await rule(github, "answer", when=when, method="POST", path="/git/refs$", status=502, body="<html>Unicorn</html>")
    assert await new_ref(github, "x") == 502
    assert (repo.git.branch("x") is not None) == there


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
async def test_a_connection_may_be_cut(github: GitHub, repo: Repo, when: str, there: bool) -> None:
    """Without an answer, before the effect or after it."""
    await rule(github, "reset", when=when, method="POST", path="/git/refs$")
    assert await new_ref(github, "x") == 0
    assert (repo.git.branch("x") is not None) == there
    assert github.box.calls[-1].status == 0


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
async def test_a_held_request_waits_until_it_is_released(github: GitHub, repo: Repo, when: str, there: bool) -> None:
    """A harness sees what is held, does what it wants, and lets it go."""
    await rule(github, "hold", when=when, method="POST", path="/git/refs$")
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append(await new_ref(github, "x"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        held = await github.ok("GET", "/_sandbox/held?count=1&wait=10")
        assert [(one["method"], one["path"], one["when"]) for one in held] == [("POST", f"{IAC}/git/refs", when)]
        assert (repo.git.branch("x") is not None) == there
        assert (await github.ok("POST", "/_sandbox/release", {"id": held[0]["id"]}))["released"] == 1
    assert statuses == [201]


async def test_a_held_request_may_be_dropped(github: GitHub, repo: Repo) -> None:
    """As if it had never arrived: what a kill before a call looks like."""
    await rule(github, "hold", method="POST", path="/git/refs$")
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append(await new_ref(github, "x"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await github.ok("GET", "/_sandbox/held?wait=10")
        await github.ok("POST", "/_sandbox/release", {"drop": True})
    assert statuses == [0]
    assert repo.git.branch("x") is None


async def test_a_request_whose_client_has_gone_still_has_its_effect(box: Box, github: GitHub, repo: Repo) -> None:
    """GitHub does not notice that its client was killed."""
    await rule(github, "hold", method="POST", path="/git/refs$")
    with anyio.move_on_after(10):
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                await new_ref(github, "x")

            tasks.start_soon(ask)
            await box.rules.wait_held(1, 10)
            tasks.cancel_scope.cancel()
    box.rules.release()
    with anyio.fail_after(60):
        while repo.git.branch("x") is None:
            await anyio.lowlevel.checkpoint()


async def test_the_nth_or_the_first_matches_are_hit(github: GitHub) -> None:
    """Counted per rule, from one."""
    second = await rule(github, "answer", method="POST", path="/git/refs$", nth=2, status=500)
    assert [await new_ref(github, name) for name in "abc"] == [201, 500, 201]
    await github.ok("DELETE", f"/_sandbox/rules?id={second}")
    await rule(github, "answer", method="POST", path="/git/refs$", first=2, status=503)
    assert [await new_ref(github, name) for name in "def"] == [503, 503, 201]


async def test_a_graphql_operation_is_hit_by_its_name(github: GitHub) -> None:
    """All of GraphQL is one path."""
    await rule(github, "answer", operation="Merged", status=502)
    query = {"query": "query Merged { viewer { login } }"}
    assert (await github("POST", "/api/graphql", query)).status == 502
    assert (await github("POST", "/graphql", {"query": "query Other { viewer { login } }"})).status == 200
    assert [call.operation for call in github.box.calls] == ["query Merged", "query Other"]


async def test_a_primary_limit_tells_when_it_ends(github: GitHub) -> None:
    """403 by REST, 200 with an error by GraphQL."""
    await rule(github, "primary", seconds=5)
    reply = await github("GET", IAC)
    assert (reply.status, reply.headers["X-RateLimit-Remaining"]) == (403, "0")
    reply = await github("POST", "/graphql", {"query": "{ viewer { login } }"})
    assert (reply.status, reply.body["errors"][0]["type"]) == (200, "RATE_LIMITED")


async def test_a_listing_is_cut_where_a_rule_says(github: GitHub) -> None:
    """A small repository does for what GitHub does to a large one."""
    await rule(github, "truncated", entries=2)
    shown = await github.ok("GET", f"{IAC}/git/trees/main?recursive=1")
    assert (len(shown["tree"]), shown["truncated"]) == (2, True)
    whole = await github.ok("GET", f"{IAC}/git/trees/main")
    assert whole["truncated"] is False


async def test_a_stale_read_shows_the_ref_as_it_was(github: GitHub) -> None:
    """By REST and GraphQL alike; reads by id are never stale."""
    before = await github.main()
    after = await github.branch("next", {"lab/a": "1"})
    await github.ok("PATCH", f"{IAC}/git/refs/heads/main", {"sha": after})
    await rule(github, "stale")
    assert await github.main() == before
    assert (await github.ok("GET", f"{IAC}/branches/main"))["commit"]["sha"] == before
    query = '{ repository(owner: "acme", name: "iac") { defaultBranchRef { target { oid } } } }'
    shown = await github.ok("POST", "/graphql", {"query": query})
    assert shown["data"]["repository"]["defaultBranchRef"]["target"]["oid"] == before
    assert (await github.ok("GET", f"{IAC}/git/commits/{after}"))["sha"] == after


@pytest.mark.parametrize(
    "wrong", [{"action": "explode"}, {"action": "hold", "pth": "x"}, {"action": "hold", "path": "("}, {}]
)
async def test_a_rule_that_says_nothing_is_refused(github: GitHub, wrong: dict[str, Any]) -> None:
    """With the reason, so that a test does not pass because its fault never came."""
    reply = await github("POST", "/_sandbox/rules", wrong)
    assert reply.status == 422
    assert reply.body["message"]


async def test_the_call_log_tells_what_was_asked_by_whom(github: GitHub) -> None:
    """One line per API call; what a harness asks the sandbox itself is not in it."""
    await github.ok("GET", f"/api/v3{IAC}/git/trees/main?recursive=1")
    await github("GET", "/repos/acme/nothing")
    await github("GET", "/api/v3/no/such/route")
    calls = await github.ok("GET", "/_sandbox/calls")
    assert [(call["route"], call["path"], call["status"], call["identity"]) for call in calls] == [
        ("GET /repos/{owner}/{repo}/git/trees/{sha}", f"{IAC}/git/trees/main", 200, "ada"),
        ("GET /repos/{owner}/{repo}", "/repos/acme/nothing", 404, "ada"),
        (None, "/no/such/route", 404, "ada"),
    ]
    assert all(call["under_way"] == 1 and call["at"] > 1e9 for call in calls)
    await github.ok("DELETE", "/_sandbox/calls")
    assert await github.ok("GET", "/_sandbox/calls") == []
