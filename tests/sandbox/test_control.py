"""Setting scenes and comparing end states by HTTP alone, as a harness in another process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telefonistka.sandbox import server
from tests.sandbox.conftest import FILES, IAC, GitHub


async def scene(github: GitHub, order: list[str]) -> Any:
    """The state after some branches and pull requests, made in this order."""
    for name in order:
        sha = await github.branch(name, {f"prod/{name}": "x"})
        pull = await github.pull(name, title="T", body="b")
        await github.ok("PATCH", f"{IAC}/issues/{pull['number']}", {"labels": ["promotion"], "assignees": ["ada"]})
        for state in ("pending", "success"):
            await github.ok("POST", f"{IAC}/statuses/{sha}", {"state": state, "context": "telefonistka"})
    return await github.ok("GET", "/_sandbox/state?repo=acme/iac")


async def test_a_scene_is_set_without_touching_python(tmp_path: Path) -> None:
    """People, repository, commit, App, hook: all that another process needs."""
    async with server.running(tmp_path) as box, aiohttp.ClientSession() as session:
        nobody = GitHub(box, session, "")

        async def post(name: str, body: Any) -> Any:
            async with session.post(f"{box.url}/_sandbox/{name}", json=body) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        ada = await post("users", {"login": "ada"})
        made = await post("repos", {"owner": "acme", "name": "iac", "files": FILES})
        assert made["full_name"] == "acme/iac"
        github = GitHub(box, session, ada["token"])
        assert (await github.ok("GET", "/user"))["login"] == "ada"
        commit = {"repo": "acme/iac", "files": {"lab/new": "x"}, "by": "ada", "branch": "topic", "message": "hello"}
        sha = (await post("commits", commit))["sha"]
        assert (await github.ok("GET", f"{IAC}/commits/topic"))["sha"] == sha
        app = await post("apps", {"slug": "telefonistka", "owner": "acme", "repositories": ["acme/iac"]})
        assert "PRIVATE KEY" in app["private_key"]
        hook = await post("hooks", {"repo": "acme/iac", "url": "http://127.0.0.1:9/", "events": ["push"]})
        assert hook["id"]
        assert nobody.token == ""


async def test_rules_names_and_rights_are_changed_without_touching_python(github: GitHub) -> None:
    """What a branch asks, what the repository allows, auto-merge held and let go, renames, Apps and tokens."""

    async def change(method: str, what: str, **fields: Any) -> Any:
        return await github.ok(method, f"/_sandbox/{what}", fields)

    here = {"repo": "acme/iac"}
    sha = await github.branch("topic", {"lab/a": "1"})
    await github.pull("topic")
    await change("POST", "teams", name="acme/lab", members=["bob"])
    asked = {"checks": ["ci"], "strict": True}
    switches = {"allow_auto_merge": True, "hold_merges": True}
    await change("PATCH", "repos", **here, switches=switches, merge_methods=["squash"], protection={"main": asked})
    await change("PATCH", "repos", **here, rulesets=[{"rules": {"queue": "squash"}}])
    assert [rule["type"] for rule in await github.ok("GET", f"{IAC}/rules/branches/main")] == ["merge_queue"]
    wrong = await github("PATCH", "/_sandbox/repos", here | {"protection": {"main": {"check": ["ci"]}}})
    assert (wrong.status, "unknown key 'check'" in wrong.body["message"]) == (422, True)
    await github.ok("POST", f"{IAC}/statuses/{sha}", {"state": "success", "context": "ci"})
    query = 'query { repository(owner: "acme", name: "iac") { pullRequest(number: 1) { id isInMergeQueue } } }'
    shown = (await github.ok("POST", "/api/graphql", {"query": query}))["data"]["repository"]["pullRequest"]
    queue = "mutation($id: ID!) { enqueuePullRequest(input: {pullRequestId: $id}) { clientMutationId } }"
    enqueue = {"query": queue, "variables": {"id": shown["id"]}}
    await github.ok("POST", "/api/graphql", enqueue)
    await change("POST", "dequeue", **here, number=1)
    await github.ok("POST", "/api/graphql", enqueue)
    await change("POST", "proceed", **here)
    assert (await github.ok("GET", f"{IAC}/pulls/1"))["merged"] is True
    app = await change("POST", "apps", slug="telefonistka", owner="acme")
    await change("PATCH", "apps", id=app["id"], suspended=True)
    await change("PATCH", "repos", **here, rename_branch=["main", "trunk"], rename="infra", archived=True)
    shown = await github.ok("GET", "/api/v3/repos/acme/infra")
    assert (shown["default_branch"], shown["archived"]) == ("trunk", True)
    assert (await change("DELETE", "tokens", login="ada"))["revoked"] == 1


async def test_equal_work_gives_an_equal_state(github: GitHub) -> None:
    """No commit ids, no times: what a person would notice, final statuses by what they are on."""
    state = await scene(github, ["b", "a"])
    assert [pull["head"] for pull in state["pulls"]] == ["a", "b"]
    assert state["pulls"][0]["labels"] == ["promotion"]
    final = {"telefonistka": {"state": "success", "description": None, "target_url": None}}
    assert state["statuses"] == {"#1": final, "#2": final}
    assert set(state["trees"]) == {"main", "a", "b"}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("commits", {"repo": "acme/none", "files": {}, "by": "ada"}),
        ("commits", {"repo": "acme/iac", "files": {"a": 1}, "by": "ada"}),
        ("commits", {"repo": "acme/iac", "files": {}, "by": "stranger"}),
        ("repos", {"owner": "acme", "name": "iac"}),
        ("repos", {"owner": "acme"}),
        ("repos", {"owner": "acme", "name": "x", "switches": {"no_such": 1}}),
        ("users", {"login": "x", "access": "emperor"}),
    ],
)
async def test_an_unclear_scene_is_refused_with_its_reason(github: GitHub, name: str, body: Any) -> None:
    """Nothing is guessed."""
    reply = await github("POST", f"/_sandbox/{name}", body)
    assert reply.status == 422
    assert reply.body["message"]


async def test_switches_are_changed_while_it_runs(github: GitHub) -> None:
    """So that one test can see both behaviours."""
    body = {"repo": "acme/iac", "switches": {"unknown_assignee": "refuse"}}
    await github.ok("PATCH", "/_sandbox/repos", body)
    await github.branch("topic", {"lab/a": "1"})
    await github.pull("topic")
    assert (await github("PATCH", f"{IAC}/issues/1", {"assignees": ["nobody"]})).status == 422


async def test_a_renamed_repository_is_found_by_following(github: GitHub) -> None:
    """301 for reads, 307 for writes, to an address by id that serves both."""
    await github.ok("PATCH", "/_sandbox/repos", {"repo": "acme/iac", "rename": "infra"})
    reply = await github("GET", f"/api/v3{IAC}/git/ref/heads/main")
    assert reply.status == 301
    sha = (await github.ok("GET", reply.headers["Location"]))["object"]["sha"]
    body = {"ref": "refs/heads/x", "sha": sha}
    reply = await github("POST", f"{IAC}/git/refs", body)
    assert reply.status == 307
    eve = GitHub(github.box, github.session, github.box.person("eve", access="none").value)
    assert (await eve("POST", reply.headers["Location"], body)).status == 404
    await github.ok("POST", reply.headers["Location"], body)
    assert (await github.ok("GET", "/repos/acme/infra/git/ref/heads/x"))["object"]["sha"] == sha
