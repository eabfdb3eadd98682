"""What GitHub merges by itself, and what becomes of repositories and Apps: one test a rule, with its page."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telefonistka.sandbox import deliveries, lifecycle, scenes, server, waiting
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules, Ruleset
from tests.contract import schemas
from tests.contract.acts import pull
from tests.contract.conftest import FILES, REPO, SECRET, GitHub, Receiver, Reply
from tests.contract.test_protection import green, merge, person, push
from tests.contract.test_rules import hooked, iac

ENABLE = """mutation ($id: ID!, $head: GitObjectID, $method: PullRequestMergeMethod) {
  enablePullRequestAutoMerge(input: {pullRequestId: $id, expectedHeadOid: $head, mergeMethod: $method}) {
    pullRequest { autoMergeRequest { mergeMethod commitHeadline enabledBy { login } } isInMergeQueue }
  }
}"""
DISABLE = """mutation ($id: ID!) {
  disablePullRequestAutoMerge(input: {pullRequestId: $id}) { pullRequest { autoMergeRequest { mergeMethod } } }
}"""
ENQUEUE = """mutation ($id: ID!, $head: GitObjectID) {
  enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $head}) { mergeQueueEntry { position state } }
}"""
DEQUEUE = "mutation ($id: ID!) { dequeuePullRequest(input: {id: $id}) { mergeQueueEntry { id } } }"


@pytest.fixture
async def opened(box: Box, github: GitHub) -> dict[str, Any]:
    """A pull request that waits for its check, where auto-merge is allowed."""
    repo = iac(box)
    repo.protection, repo.switches.allow_auto_merge = {"main": Rules(checks=("ci",))}, True
    return await pull(github, "work")


def with_queue(box: Box, **asked: Any) -> None:
    """The default branch has a merge queue, and nothing else is asked for but this."""
    repo = iac(box)
    repo.protection, repo.rulesets = {}, {7: Ruleset(id=7, rules=Rules(queue="squash", **asked))}


async def shown(github: GitHub, opened: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = (await github("GET", f"{REPO}/pulls/{opened['number']}")).body
    return body


async def enable(github: GitHub, opened: dict[str, Any], **variables: Any) -> Reply:
    return await github.graphql(ENABLE, id=opened["node_id"], **variables)


def refusal(reply: Reply) -> tuple[str, str]:
    """The type and the message of the one error; GraphQL tells it with 200."""
    assert reply.status == 200
    [error] = reply.body["errors"]
    return error["type"], error["message"]


# Auto-merge


async def test_auto_merge_merges_as_soon_as_nothing_is_missing(
    box: Box, github: GitHub, receiver: Receiver, opened: dict[str, Any]
) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/automatically-merging-a-pull-request"""
    await hooked(github, receiver, "pull_request")
    reply = await enable(github, opened, head=opened["head"]["sha"], method="SQUASH")
    asked = reply.body["data"]["enablePullRequestAutoMerge"]["pullRequest"]["autoMergeRequest"]
    assert asked == {"mergeMethod": "SQUASH", "commitHeadline": "Add work (#1)", "enabledBy": {"login": "ada"}}
    assert (await shown(github, opened))["auto_merge"]["merge_method"] == "squash"
    await green(github, opened["head"]["sha"])
    await receiver.until("pull_request.auto_merge_enabled", "pull_request.closed")
    merged = await shown(github, opened)
    assert (merged["merged"], merged["merged_by"]["login"]) == (True, "ada")


async def test_auto_merge_must_be_allowed_by_the_repository(box: Box, github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-auto-merge-for-pull-requests-in-your-repository"""
    assert (await github("PATCH", REPO, {"allow_auto_merge": False})).body["allow_auto_merge"] is False
    told = "Pull request Auto merge is not allowed for this repository"
    assert refusal(await enable(github, opened)) == ("UNPROCESSABLE", told)


async def test_auto_merge_is_refused_where_there_is_nothing_to_wait_for(
    box: Box, github: GitHub, opened: dict[str, Any]
) -> None:
    """Seen widely. https://docs.github.com/en/graphql/reference/mutations#enablepullrequestautomerge"""
    await green(github, opened["head"]["sha"])
    assert refusal(await enable(github, opened)) == ("UNPROCESSABLE", "Pull request Pull request is in clean status")
    await green(github, opened["head"]["sha"], "lint", "failure")
    assert refusal(await enable(github, opened))[1] == "Pull request Pull request is in unstable status"


async def test_auto_merge_is_bound_to_the_head_it_was_asked_for(github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/graphql/reference/input-objects#enablepullrequestautomergeinput"""
    await push(github, "work", {"more.txt": "more"})
    kind, told = refusal(await enable(github, opened, head=opened["head"]["sha"]))
    assert (kind, "head oid" in told) == ("UNPROCESSABLE", True)


async def test_auto_merge_is_for_those_who_may_write(box: Box, github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/automatically-merging-a-pull-request"""
    assert refusal(await enable(person(box, github, "mallory", "read"), opened))[0] == "FORBIDDEN"
    app = box.new_app("reviewer", owner="acme", permissions={"contents": "read", "pull_requests": "write"})
    bot = github.as_(box.installation_token(app.installation).value)
    assert refusal(await enable(bot, opened)) == ("FORBIDDEN", "Resource not accessible by integration")


async def test_auto_merge_ends_when_somebody_without_write_access_pushes(
    box: Box, github: GitHub, receiver: Receiver, opened: dict[str, Any]
) -> None:
    """A push by those who may write leaves it.

    https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/automatically-merging-a-pull-request
    """
    await hooked(github, receiver, "pull_request")
    await enable(github, opened)
    await push(github, "work", {"more.txt": "more"})
    assert (await shown(github, opened))["auto_merge"] is not None
    mallory = box.person("mallory", access="read").user
    await scenes.commit(box, iac(box), {"evil.txt": "evil"}, by=mallory, branch="work")
    assert (await shown(github, opened))["auto_merge"] is None
    *_, told = await receiver.until("pull_request.auto_merge_disabled")
    assert "without write access" in told["reason"]


async def test_auto_merge_can_be_taken_back_while_it_waits(github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/graphql/reference/mutations#disablepullrequestautomerge"""
    await enable(github, opened)
    reply = await github.graphql(DISABLE, id=opened["node_id"])
    assert reply.body["data"]["disablePullRequestAutoMerge"]["pullRequest"] == {"autoMergeRequest": None}
    told = "Can't disable auto-merge for this pull request."
    assert refusal(await github.graphql(DISABLE, id=opened["node_id"])) == ("UNPROCESSABLE", told)


async def test_auto_merge_can_be_held_to_see_what_happens_before_it(
    box: Box, github: GitHub, opened: dict[str, Any]
) -> None:
    """GitHub merges some time after the last check. https://docs.github.com/en/graphql/reference/objects#automergerequest"""
    iac(box).switches.hold_merges = True
    await enable(github, opened)
    await green(github, opened["head"]["sha"])
    await box.errands.idle()
    assert (await shown(github, opened))["merged"] is False
    await waiting.proceed(box, iac(box))
    assert (await shown(github, opened))["merged"] is True


# The merge queue


async def test_where_there_is_a_queue_nobody_merges_past_it(box: Box, github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue"""
    with_queue(box)
    refused = await merge(github, opened)
    assert (refused.status, "Changes must be made through the merge queue" in refused.body["message"]) == (405, True)


async def test_the_queue_merges_one_after_the_other(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/merging-a-pull-request-with-a-merge-queue"""
    with_queue(box)
    iac(box).switches.hold_merges = True
    await hooked(github, receiver, "pull_request")
    one, two = await pull(github, "one"), await pull(github, "two")
    replies = [await github.graphql(ENQUEUE, id=each["node_id"], head=each["head"]["sha"]) for each in (one, two)]
    entries = [reply.body["data"]["enqueuePullRequest"]["mergeQueueEntry"] for reply in replies]
    assert [entry["position"] for entry in entries] == [1, 2]
    await waiting.proceed(box, iac(box))
    merged = [await shown(github, each) for each in (one, two)]
    assert [each["merged"] for each in merged] == [True, True]
    assert merged[0]["merged_by"]["login"] == "github-merge-queue[bot]"
    await box.post.idle()
    assert receiver.payload("pull_request.dequeued")["reason"] == "MERGE"


async def test_the_queue_takes_what_has_all_that_is_asked_for(box: Box, github: GitHub) -> None:
    """Seen widely. https://docs.github.com/en/graphql/reference/mutations#enqueuepullrequest"""
    with_queue(box, checks=("ci",))
    opened = await pull(github, "work")
    told = 'Pull request Required status check "ci" is expected.'
    assert refusal(await github.graphql(ENQUEUE, id=opened["node_id"])) == ("UNPROCESSABLE", told)


async def test_auto_merge_goes_through_the_queue(box: Box, github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/merging-a-pull-request-with-a-merge-queue"""
    with_queue(box, checks=("ci",))
    await enable(github, opened)
    await green(github, opened["head"]["sha"])
    await box.errands.idle()
    merged = await shown(github, opened)
    assert (merged["merged"], merged["merged_by"]["login"]) == (True, "github-merge-queue[bot]")


async def test_a_push_takes_a_pull_request_out_of_the_queue(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/merging-a-pull-request-with-a-merge-queue"""
    with_queue(box)
    iac(box).switches.hold_merges = True
    opened = await pull(github, "work")
    await github.graphql(ENQUEUE, id=opened["node_id"])
    await push(github, "work", {"more.txt": "more"})
    assert iac(box).queue == []
    await github.graphql(ENQUEUE, id=opened["node_id"])
    left = await github.graphql(DEQUEUE, id=opened["node_id"])
    assert left.body["data"]["dequeuePullRequest"]["mergeQueueEntry"] is not None
    assert iac(box).queue == []


# Repositories and Apps


async def test_a_rename_is_told_and_the_old_name_redirects(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/repositories/creating-and-managing-repositories/renaming-a-repository"""
    await hooked(github, receiver, "repository")
    assert (await github("PATCH", REPO, {"name": "infra"})).body["full_name"] == "acme/infra"
    [told] = await receiver.until("repository.renamed")
    assert told["changes"] == {"repository": {"name": {"from": "iac"}}}
    assert told["repository"]["full_name"] == "acme/infra"
    assert (await github("GET", REPO)).status == 301


async def test_a_branch_takes_its_pull_requests_and_its_rules_with_it(
    box: Box, github: GitHub, receiver: Receiver, opened: dict[str, Any]
) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-branches-in-your-repository/renaming-a-branch"""
    await hooked(github, receiver, "repository", "pull_request")
    assert (await github("POST", f"{REPO}/branches/main/rename", {"new_name": "trunk"})).status == 201
    edited, retargeted = await receiver.until("repository.edited", "pull_request.edited")
    assert edited["changes"] == {"default_branch": {"from": "main"}}
    assert retargeted["changes"]["base"]["ref"] == {"from": "main"}
    assert (await shown(github, opened))["base"]["ref"] == "trunk"
    assert (await github("GET", REPO)).body["default_branch"] == "trunk"
    assert (await github("GET", f"{REPO}/branches/main")).status == 301
    assert (await github("GET", f"{REPO}/git/ref/heads/main")).status == 404
    assert (await merge(github, opened)).status == 405  # what was asked of main is asked of trunk


async def test_an_archived_repository_can_only_be_read(
    box: Box, github: GitHub, receiver: Receiver, opened: dict[str, Any]
) -> None:
    """https://docs.github.com/en/repositories/archiving-a-github-repository/archiving-repositories"""
    await hooked(github, receiver, "repository")
    assert (await github("PATCH", REPO, {"archived": True})).body["archived"] is True
    await receiver.until("repository.archived")
    refused = await github("POST", f"{REPO}/issues/{opened['number']}/comments", {"body": "Hm."})
    assert (refused.status, refused.body["message"]) == (403, "Repository was archived so is read-only.")
    assert refusal(await enable(github, opened)) == ("FORBIDDEN", "Repository was archived so is read-only.")
    assert (await shown(github, opened))["state"] == "open"
    assert (await github("PATCH", REPO, {"archived": False})).status == 200
    assert (await github("POST", f"{REPO}/issues/{opened['number']}/comments", {"body": "Hm."})).status == 201


async def test_a_suspended_app_is_refused_and_told(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/apps/maintaining-github-apps/suspending-a-github-app-installation"""
    made = box.new_app("telefonistka", owner="acme", webhook=receiver.url, secret=SECRET)
    bot = github.as_(box.installation_token(made.installation).value)
    await lifecycle.suspend(box, made.installation, suspended=True, by=box.users["ada"])
    refused = await bot("GET", REPO)
    assert (refused.status, refused.body["message"]) == (403, "This installation has been suspended")
    await lifecycle.suspend(box, made.installation, suspended=False, by=box.users["ada"])
    suspended, back = await receiver.until("installation.suspend", "installation.unsuspend")
    assert suspended["installation"]["suspended_by"]["login"] == "ada"
    assert back["installation"]["suspended_at"] is None
    assert (await bot("GET", REPO)).status == 200


async def test_a_revoked_token_is_a_401(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/token-expiration-and-revocation"""
    grace = person(box, github, "grace")
    async with github.session.delete(f"{box.url}/_sandbox/tokens", json={"login": "grace"}) as reply:
        assert (await reply.json())["revoked"] == 1
    assert (await grace("GET", REPO)).body["message"] == "Bad credentials"


async def test_what_github_tells_of_all_this_has_its_shape(
    box: Box, github: GitHub, receiver: Receiver, opened: dict[str, Any]
) -> None:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads"""
    await hooked(github, receiver, "*")
    await enable(github, opened)
    await github.graphql(DISABLE, id=opened["node_id"])
    await enable(github, opened)
    with_queue(box)
    await github.graphql(ENQUEUE, id=opened["node_id"])
    await box.errands.idle()
    repository = f"/repositories/{iac(box).id}"  # whatever it is called
    for fields in ({"name": "infra"}, {"name": "iac"}, {"archived": True}, {"archived": False}):
        await github("PATCH", repository, fields, odd=True)
    await box.post.idle()
    told = {f"{d.event}.{d.action}" for d in box.deliveries.values() if d.action}
    assert told >= {
        *(f"pull_request.{name}" for name in ("auto_merge_enabled", "auto_merge_disabled", "enqueued", "dequeued")),
        *(f"repository.{name}" for name in ("renamed", "archived", "unarchived")),
    }
    faults = [fault for d in box.deliveries.values() for fault in schemas.webhook(d.event, json.loads(d.request_body))]
    assert not faults, "\n".join(faults)


# Enterprise


async def test_an_enterprise_server_has_its_own_authority_and_its_api_below_one_path(tmp_path: Path) -> None:
    """https://docs.github.com/en/enterprise-server@latest/rest/enterprise-admin#endpoint-urls"""
    async with server.running(tmp_path, enterprise=True) as box:
        scenes.repository(box, "acme", "iac", FILES)
        trusted = ssl.create_default_context(cafile=str(box.authority))
        header = {"Authorization": f"Bearer {box.person('ada').value}"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted), headers=header) as session:
            found = [(await session.get(box.url + path)).status for path in (f"/api/v3{REPO}", REPO)]
            query = {"query": "query { viewer { login } }"}
            asked = [(await session.post(box.url + path, json=query)).status for path in ("/api/graphql", "/graphql")]
        assert (found, asked) == ([200, 404], [200, 404])
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(box.url)


async def test_an_enterprise_server_waits_thirty_seconds_for_a_receiver(tmp_path: Path, receiver: Receiver) -> None:
    """And keeps its log for a week.

    https://docs.github.com/en/enterprise-server@latest/webhooks/using-webhooks/best-practices-for-using-webhooks
    """
    async with server.running(tmp_path, enterprise=True) as box:
        assert (box.post.deadline, deliveries.ENTERPRISE_KEPT.days) == (30, 7)
        repo = scenes.repository(box, "acme", "iac", FILES)
        box.new_app("telefonistka", owner="acme", webhook=receiver.url, events=["push"])
        await scenes.commit(box, repo, {"x": "x"}, by=box.person("ada").user)
        await receiver.until("push")
        headers, body = receiver.got[-1]
        assert headers["X-GitHub-Enterprise-Host"] == "127.0.0.1"
        assert json.loads(body)["repository"]["url"].startswith("https://")
