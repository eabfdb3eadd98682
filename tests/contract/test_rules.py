"""GitHub's rules that the daemon relies on, one test each, with the page that states the rule.

Numbers are lowered by the sandbox's switches where the real one would make a slow test; the real one is asserted, too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest

from telefonistka.sandbox import scenes, webhooks
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Delivery, Repo, Switches, now
from tests.contract.acts import branch, commit, entry, head, pull, root, tree
from tests.contract.conftest import REPO, SECRET, GitHub, Receiver, Reply

# Webhooks


async def hooked(github: GitHub, receiver: Receiver, *events: str, **config: str) -> int:
    """A hook of the repository whose ping has arrived."""
    settings = {"url": receiver.url, "content_type": "json", "secret": SECRET} | config
    body = {"config": settings, "events": list(events) or ["push", "pull_request"]}
    made = await github("POST", f"{REPO}/hooks", body)
    await receiver.until("ping")
    return int(made.body["id"])


async def ended(box: Box) -> list[Delivery]:
    """The deliveries of now, once none of them is under way."""
    await box.post.idle()
    return list(box.deliveries.values())


async def test_a_delivery_is_cut_off_when_the_receiver_takes_too_long(
    box: Box, github: GitHub, receiver: Receiver
) -> None:
    """A receiver has 10 seconds to answer.

    https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks#respond-within-10-seconds
    """
    assert box.post.deadline == 10
    await hooked(github, receiver)
    box.post.deadline, receiver.delay = 0.05, 30
    await branch(github, "work")
    assert [d.status for d in await ended(box)] == ["OK", "timed out"]


async def test_a_failed_delivery_is_not_sent_again_by_itself(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries"""
    await hooked(github, receiver, "push")
    receiver.answers = 500
    await branch(github, "work")
    await ended(box)
    assert receiver.names() == ["ping", "push"]
    assert [d.status for d in box.deliveries.values()] == ["OK", "Invalid HTTP Response: 500"]


async def test_a_redirect_is_a_failed_delivery(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/troubleshooting-webhooks"""
    await hooked(github, receiver, "push")
    receiver.answers = 302
    await branch(github, "work")
    assert (await ended(box))[-1].status == "Invalid HTTP Response: 302"


async def test_a_redelivery_keeps_the_guid_and_the_bytes(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks#use-the-x-github-delivery-header"""
    hook = await hooked(github, receiver, "push")
    await branch(github, "work")
    await ended(box)
    log = f"{REPO}/hooks/{hook}/deliveries"
    first = (await github("GET", log)).body[0]
    assert (await github("POST", f"{log}/{first['id']}/attempts")).status == 202
    await ended(box)
    (old_headers, old_body), (headers, body) = receiver.got[-2:]
    assert (headers["X-GitHub-Delivery"], body) == (old_headers["X-GitHub-Delivery"], old_body)
    again = (await github("GET", log)).body[0]
    assert (again["guid"], again["redelivery"]) == (first["guid"], True)
    assert again["id"] != first["id"]


async def test_deliveries_are_listed_newest_first_by_cursor(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/rest/repos/webhooks#list-deliveries-for-a-repository-webhook"""
    hook = await hooked(github, receiver, "push")
    for name in ("one", "two", "three", "four"):
        await branch(github, name)
    await ended(box)
    seen, path = [], f"{REPO}/hooks/{hook}/deliveries?per_page=2"
    while path:
        page = await github("GET", path)
        assert len(page.body) <= 2
        seen += [row["id"] for row in page.body]
        path = page.links.get("next", "")
    assert seen == sorted(box.deliveries, reverse=True)


async def test_failed_deliveries_can_be_listed_alone(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/rest/repos/webhooks#list-deliveries-for-a-repository-webhook"""
    hook = await hooked(github, receiver, "push")
    box.post.drop = 1
    await branch(github, "lost")
    await branch(github, "kept")
    await ended(box)
    failed = (await github("GET", f"{REPO}/hooks/{hook}/deliveries?status=failure")).body
    assert [(row["status"], row["status_code"]) for row in failed] == [("failed to connect", 502)]


async def test_the_delivery_log_holds_three_days(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks"""
    hook = await hooked(github, receiver, "push")
    await branch(github, "old")
    await branch(github, "older")
    ping, old, older = await ended(box)
    old.delivered_at = now() - timedelta(days=3) + timedelta(minutes=1)
    older.delivered_at = now() - timedelta(days=3, minutes=1)
    log = f"{REPO}/hooks/{hook}/deliveries"
    assert {row["id"] for row in (await github("GET", log)).body} == {ping.id, old.id}
    assert (await github("POST", f"{log}/{older.id}/attempts")).status == 404


async def test_a_delivery_tells_what_was_sent_and_answered(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/rest/repos/webhooks#get-a-delivery-for-a-repository-webhook"""
    hook = await hooked(github, receiver, "push")
    await branch(github, "work")
    delivery = (await ended(box))[-1]
    shown = (await github("GET", f"{REPO}/hooks/{hook}/deliveries/{delivery.id}")).body
    headers, body = receiver.got[-1]
    assert shown["request"]["payload"] == json.loads(body)
    assert shown["request"]["headers"]["X-GitHub-Delivery"] == headers["X-GitHub-Delivery"] == shown["guid"]
    assert (shown["status"], shown["status_code"]) == ("OK", 200)


async def test_the_signature_covers_the_raw_body(github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    await hooked(github, receiver)
    headers, body = receiver.got[0]
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature"] == "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()


async def test_a_hook_without_secret_sends_no_signature(github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers"""
    await hooked(github, receiver, secret="")
    headers, _ = receiver.got[0]
    assert not [name for name in headers if name.startswith("X-Hub-Signature")]


async def test_delivery_headers_name_event_delivery_and_hook(github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers"""
    hook = await hooked(github, receiver)
    headers, _ = receiver.got[0]
    assert headers["X-GitHub-Event"] == "ping"
    assert headers["X-GitHub-Hook-ID"] == str(hook)
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "repository"
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert headers["Content-Type"] == "application/json"


async def test_a_form_hook_sends_the_json_as_one_field(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/creating-webhooks"""
    settings = {"url": receiver.url, "content_type": "form", "secret": SECRET}
    await github("POST", f"{REPO}/hooks", {"config": settings, "events": ["push"]})
    await ended(box)
    headers, body = receiver.got[0]
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert "zen" in json.loads(parse_qs(body.decode())["payload"][0])


async def test_a_payload_above_the_cap_is_neither_sent_nor_logged(box: Box, github: GitHub, receiver: Receiver) -> None:
    """Payloads end at 25 MB. https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap"""
    assert box.post.largest == 25 * 2**20
    await hooked(github, receiver, "push")
    box.post.largest = 1000
    await branch(github, "work")
    assert len(await ended(box)) == 1  # the ping


async def test_a_repository_has_no_more_than_twenty_hooks_of_an_event(github: GitHub) -> None:
    """https://docs.github.com/en/webhooks/types-of-webhooks#repository-webhooks"""
    assert webhooks.HOOKS_PER_EVENT == 20
    config = {"content_type": "json"}
    for number in range(20):
        body = {"config": config | {"url": f"http://127.0.0.1:9/{number}"}, "events": ["push"], "active": False}
        assert (await github("POST", f"{REPO}/hooks", body)).status == 201
    body = {"config": config | {"url": "http://127.0.0.1:9/20"}, "events": ["push"]}
    assert (await github("POST", f"{REPO}/hooks", body)).status == 422


async def test_a_hook_needs_administration(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/webhooks"""
    writer = github.as_(box.person("grace", access="write").value)
    assert (await writer("GET", f"{REPO}/hooks")).status == 404


async def test_a_merge_is_told_as_a_push_and_a_closed_pull_request(
    box: Box, github: GitHub, receiver: Receiver
) -> None:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request"""
    opened = await pull(github, "work")
    await hooked(github, receiver)
    await github("PUT", f"{REPO}/pulls/{opened['number']}/merge", {})
    push, closed = await receiver.until("push", "pull_request.closed")
    await ended(box)
    assert closed["pull_request"]["merged"] is True
    assert push["after"] == closed["pull_request"]["merge_commit_sha"]
    assert [d.event for d in box.deliveries.values()] == ["ping", "push", "pull_request"]


async def test_a_push_names_its_commits_and_their_files(github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#push"""
    await hooked(github, receiver, "push")
    before = await head(github)
    sha = await commit(github, {"new.txt": "new", "README.md": None, "lab/web/app.yaml": "image: 9"}, parent=before)
    await github("PATCH", f"{REPO}/git/refs/heads/main", {"sha": sha})
    [push] = await receiver.until("push")
    [told] = push["commits"]
    assert (push["before"], push["after"], push["ref"]) == (before, sha, "refs/heads/main")
    assert (told["added"], told["removed"], told["modified"]) == (["new.txt"], ["README.md"], ["lab/web/app.yaml"])


async def test_bytes_that_are_no_utf8_are_told_as_replaced(box: Box, github: GitHub, receiver: Receiver) -> None:
    """Git keeps any bytes, JSON does not. https://docs.github.com/en/webhooks/webhook-events-and-payloads#push"""
    await hooked(github, receiver, "push")
    latin = "caf\udce9"  # how Python holds a byte that is none of UTF-8's
    sha = await scenes.commit(box, iac(box), {f"{latin}.txt": "x"}, by=box.users["ada"], message=latin)
    [push] = await receiver.until("push")
    assert (push["head_commit"]["message"], push["head_commit"]["added"]) == ("caf\ufffd", ["caf\ufffd.txt"])
    assert (await github("GET", f"{REPO}/git/commits/{sha}")).body["message"] == "caf\ufffd"


async def test_a_push_that_creates_or_deletes_a_branch_has_zeros(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#push"""
    await hooked(github, receiver, "push")
    await branch(github, "work")
    [created] = await receiver.until("push")
    await github("DELETE", f"{REPO}/git/refs/heads/work")
    await ended(box)
    deleted = receiver.payload("push")
    assert (created["before"], created["created"]) == ("0" * 40, True)
    assert (deleted["after"], deleted["deleted"], deleted["head_commit"]) == ("0" * 40, True, None)


async def test_an_app_hears_through_its_one_hook_by_which_installation(
    box: Box, github: GitHub, receiver: Receiver
) -> None:
    """https://docs.github.com/en/webhooks/types-of-webhooks#github-app-webhooks"""
    made = box.new_app("telefonistka", owner="acme", webhook=receiver.url, secret=SECRET)
    await pull(github, "work")
    [opened] = await receiver.until("pull_request.opened")
    headers, _ = receiver.got[-1]
    assert opened["installation"]["id"] == made.installation.id
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "integration"
    assert headers["X-GitHub-Hook-Installation-Target-ID"] == str(made.app.id)


async def test_an_app_reads_and_redelivers_its_deliveries_with_its_jwt(
    box: Box, github: GitHub, receiver: Receiver
) -> None:
    """https://docs.github.com/en/rest/apps/webhooks"""
    made = box.new_app("telefonistka", owner="acme", webhook=receiver.url, secret=SECRET)
    box.post.drop = 1
    await branch(github, "work")
    await ended(box)
    app = github.as_(signed(made.app.id, made.private_key))
    [lost] = (await app("GET", "/app/hook/deliveries")).body
    assert lost["status"] != "OK"
    assert lost["installation_id"] == made.installation.id
    assert (await app("POST", f"/app/hook/deliveries/{lost['id']}/attempts")).status == 202
    await receiver.until("push")
    assert (await github("GET", "/app/hook/deliveries")).status == 401  # a person has no JWT


async def test_a_suspended_installation_hears_nothing(box: Box, github: GitHub, receiver: Receiver) -> None:
    """https://docs.github.com/en/apps/maintaining-github-apps/suspending-a-github-app-installation"""
    made = box.new_app("telefonistka", owner="acme", webhook=receiver.url, secret=SECRET)
    made.installation.suspended_at = now()
    await branch(github, "work")
    assert await ended(box) == []


# Faults of deliveries, that GitHub has, too: "can be delivered out of order", "may take a few minutes"


async def test_lost_late_doubled_and_reordered_deliveries_can_be_asked_for(
    box: Box, github: GitHub, receiver: Receiver
) -> None:
    """https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/troubleshooting-webhooks"""
    await hooked(github, receiver, "push")
    box.post.reorder = 3
    for name in ("one", "two", "three"):
        await branch(github, name)
    await ended(box)
    refs = [json.loads(body)["ref"] for _, body in receiver.got[1:]]
    assert refs == ["refs/heads/three", "refs/heads/two", "refs/heads/one"]
    box.post.duplicate = 1
    await branch(github, "twice")
    await ended(box)
    (one, _), (other, _) = receiver.got[-2:]
    assert one["X-GitHub-Delivery"] == other["X-GitHub-Delivery"]


# Pagination, limits, rights


async def test_pages_hold_thirty_and_no_more_than_a_hundred(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api"""
    sha = await head(github)
    for number in range(105):
        await github("POST", f"{REPO}/git/refs", {"ref": f"refs/heads/b{number:03}", "sha": sha})
    assert len((await github("GET", f"{REPO}/branches")).body) == 30
    assert len((await github("GET", f"{REPO}/branches?per_page=1000")).body) == 100
    second = await github("GET", f"{REPO}/branches?per_page=50&page=2")
    assert set(second.links) == {"prev", "next", "first", "last"}
    last = await github("GET", second.links["last"])
    assert len(last.body) == 6
    assert set(last.links) == {"prev", "first"}


async def test_every_answer_carries_the_rate_limit(github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#checking-the-status-of-your-rate-limit"""
    one, two = await github("GET", REPO), await github("GET", REPO)
    assert one.headers["X-RateLimit-Limit"] == "5000"
    assert int(one.headers["X-RateLimit-Remaining"]) - int(two.headers["X-RateLimit-Remaining"]) == 1
    assert one.headers["X-RateLimit-Resource"] == "core"
    assert int(one.headers["X-RateLimit-Reset"]) > time.time()
    assert "X-RateLimit-Used" in one.headers


async def test_asking_for_the_rate_limit_is_free(github: GitHub) -> None:
    """https://docs.github.com/en/rest/rate-limit/rate-limit"""
    before = (await github("GET", "/rate_limit")).body["resources"]["core"]["remaining"]
    assert (await github("GET", "/rate_limit")).body["resources"]["core"]["remaining"] == before


async def test_an_unchanged_answer_is_304_and_free(github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate"""
    first = await github("GET", REPO)
    again = await github("GET", REPO, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, None)
    assert again.headers["X-RateLimit-Remaining"] == first.headers["X-RateLimit-Remaining"]


async def test_the_primary_limit_is_a_403_with_nothing_remaining(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"""
    box.limits.limits["core"] = 2
    replies = [await github("GET", REPO) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 403]
    assert replies[2].headers["X-RateLimit-Remaining"] == "0"
    assert "rate limit" in replies[2].body["message"]


async def test_a_secondary_limit_is_a_403_with_retry_after(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"""
    box.rules.add("secondary", method="POST", path="/git/refs$", first=1, seconds=7)
    body = {"ref": "refs/heads/x", "sha": await head(github)}
    refused = await github("POST", f"{REPO}/git/refs", body)
    assert (refused.status, refused.headers["Retry-After"]) == (403, "7")
    assert refused.headers.get("X-RateLimit-Remaining") != "0"
    assert (await github("POST", f"{REPO}/git/refs", body)).status == 201


async def test_graphql_tells_its_limit_with_200(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api"""
    box.rules.add("primary", path="graphql", first=1)
    reply = await github.graphql("query { viewer { login } }")
    assert reply.status == 200
    assert reply.body["errors"][0]["type"] == "RATE_LIMITED"
    assert reply.headers["X-RateLimit-Resource"] == "graphql"


async def test_graphql_tells_what_is_missing_with_200(github: GitHub) -> None:
    """https://docs.github.com/en/graphql/guides/forming-calls-with-graphql"""
    query = 'query { repository(owner: "acme", name: "nothing") { id } }'
    reply = await github.graphql(query)
    assert (reply.status, reply.body["data"]) == (200, {"repository": None})
    assert reply.body["errors"][0]["type"] == "NOT_FOUND"


async def test_a_private_repository_is_not_found_without_permission(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#404-not-found-for-an-existing-resource"""
    iac(box).private = True
    stranger = github.as_(box.person("mallory", access="none").value)
    assert (await stranger("GET", REPO)).status == 404
    assert (await github.as_(None)("GET", REPO)).status == 404


async def test_a_bad_token_is_a_401(github: GitHub) -> None:
    """https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api#failed-login-limit"""
    assert (await github.as_("ghp_nonsense")("GET", REPO)).body["message"] == "Bad credentials"


async def test_a_renamed_repository_redirects(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects"""
    sha = await head(github)
    box.rename(iac(box), "infrastructure")
    read = await github("GET", f"{REPO}/git/commits/{sha}")
    assert read.status == 301
    assert (await github.send("GET", read.headers["Location"].removeprefix(box.url), None, None)).body["sha"] == sha
    written = await github("POST", f"{REPO}/git/refs", {"ref": "refs/heads/x", "sha": sha})
    assert written.status == 307


async def test_a_body_that_is_no_json_is_a_400(github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api"""
    refused = await github("POST", f"{REPO}/pulls", b"{", odd=True)
    assert (refused.status, refused.body["message"]) == (400, "Problems parsing JSON")


# Apps


def signed(app: int, key: str, *, issued: int = -60, lifetime: int = 540) -> str:
    """The App's JWT."""
    moment = int(time.time())
    claims = {"iss": str(app), "iat": moment + issued, "exp": moment + lifetime}
    return jwt.encode(claims, key, algorithm="RS256")


async def test_a_jwt_lives_ten_minutes_at_most(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app"""
    made = box.new_app("telefonistka", owner="acme")
    assert (await github.as_(signed(made.app.id, made.private_key))("GET", "/app")).status == 200
    long = github.as_(signed(made.app.id, made.private_key, lifetime=900))
    assert (await long("GET", "/app")).status == 401
    stale = github.as_(signed(made.app.id, made.private_key, issued=-700, lifetime=-100))
    assert (await stale("GET", "/app")).status == 401


async def test_an_installation_token_lives_an_hour(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app"""
    made = box.new_app("telefonistka", owner="acme")
    app = github.as_(signed(made.app.id, made.private_key))
    token = (await app("POST", f"/app/installations/{made.installation.id}/access_tokens", {})).body
    left = datetime.fromisoformat(token["expires_at"]) - now()
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    bot = github.as_(token["token"])
    assert (await bot("GET", REPO)).status == 200
    box.tokens[token["token"]].expires_at = now() - timedelta(seconds=1)
    assert (await bot("GET", REPO)).status == 401


async def test_an_app_finds_its_installation_of_a_repository(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/apps/apps#get-a-repository-installation-for-the-authenticated-app"""
    made = box.new_app("telefonistka", owner="acme")
    app = github.as_(signed(made.app.id, made.private_key))
    assert (await app("GET", f"{REPO}/installation")).body["id"] == made.installation.id
    assert [one["id"] for one in (await app("GET", "/app/installations")).body] == [made.installation.id]


async def test_an_app_may_do_what_its_permissions_say(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#resource-not-accessible"""
    made = box.new_app("reader", owner="acme", permissions={"contents": "read"})
    bot = github.as_(box.installation_token(made.installation).value)
    sha = (await bot("GET", f"{REPO}/git/ref/heads/main")).body["object"]["sha"]
    refused = await bot("POST", f"{REPO}/git/refs", {"ref": "refs/heads/x", "sha": sha})
    assert (refused.status, refused.body["message"]) == (403, "Resource not accessible by integration")


# Trees, blobs, contents


def iac(box: Box) -> Repo:
    repo = box.repo("acme", "iac")
    assert repo is not None
    return repo


async def listed(github: GitHub, sha: str) -> dict[str, str]:
    """The blobs and submodules of a tree, by path."""
    found = (await github("GET", f"{REPO}/git/trees/{sha}?recursive=1")).body
    return {row["path"]: row["sha"] for row in found["tree"] if row["type"] != "tree"}


async def test_a_long_recursive_listing_is_truncated_and_says_so(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/trees#get-a-tree"""
    assert (Switches().tree_limit, Switches().tree_limit_bytes) == (100_000, 7_000_000)
    sha = await root(github)
    assert (await github("GET", f"{REPO}/git/trees/{sha}?recursive=1")).body["truncated"] is False
    iac(box).switches.tree_limit = 3
    cut = (await github("GET", f"{REPO}/git/trees/{sha}?recursive=1")).body
    assert (cut["truncated"], len(cut["tree"])) == (True, 3)


async def test_a_tree_on_a_base_keeps_what_it_does_not_name(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/trees#create-a-tree"""
    base = await root(github)
    before = await listed(github, base)
    made = await tree(github, [entry("new/file.txt", "x")], base=base)
    after = await listed(github, made["sha"])
    assert set(after) - set(before) == {"new/file.txt"}
    assert all(after[path] == sha for path, sha in before.items())


async def test_a_tree_without_base_is_only_what_it_names(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/trees#create-a-tree"""
    made = await tree(github, [entry("only.txt", "x")])
    assert list(await listed(github, made["sha"])) == ["only.txt"]


async def test_a_null_sha_removes_a_file_or_a_directory(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/trees#create-a-tree"""
    base = await root(github)
    gone = {"path": "lab", "mode": "040000", "type": "tree", "sha": None}
    made = await tree(github, [gone, entry("README.md", None)], base=base)
    assert not [p for p in await listed(github, made["sha"]) if p == "README.md" or p.startswith("lab/")]


@pytest.mark.parametrize(("switch", "status"), [("refuse", 422), ("ignore", 201)])
async def test_removing_an_absent_path_may_be_refused(box: Box, github: GitHub, switch: Any, status: int) -> None:
    """Seen both ways; the daemon must bear either. https://docs.github.com/en/rest/git/trees#create-a-tree"""
    iac(box).switches.delete_absent = switch
    body = {"base_tree": await root(github), "tree": [entry("no/such/file", None)]}
    assert (await github("POST", f"{REPO}/git/trees", body)).status == status


@pytest.mark.parametrize(("switch", "kept"), [("merge", True), ("replace", False)])
async def test_a_directory_put_over_another_merges_or_replaces(
    box: Box, github: GitHub, switch: Any, kept: bool
) -> None:
    """Not documented; the daemon must bear either. https://docs.github.com/en/rest/git/trees#create-a-tree"""
    iac(box).switches.directory_entry = switch
    source = (await tree(github, [entry("app.yaml", "image: 2")]))["sha"]
    put = {"path": "staging/web", "mode": "040000", "type": "tree", "sha": source}
    made = await tree(github, [put], base=await root(github))
    files = await listed(github, made["sha"])
    assert ("staging/web/old.yaml" in files) is kept
    assert "staging/web/app.yaml" in files


async def test_the_last_entry_of_a_path_counts(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/trees#create-a-tree"""
    made = await tree(github, [entry("a", "first"), entry("a", "last")])
    blob = (await listed(github, made["sha"]))["a"]
    shown = await github("GET", f"{REPO}/git/blobs/{blob}", headers={"Accept": "application/vnd.github.raw+json"})
    assert shown.body == "last"


async def test_a_tree_of_unknown_objects_is_refused(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/trees#create-a-tree"""
    unknown = {"path": "a", "mode": "100644", "type": "blob", "sha": "1" * 40}
    assert (await github("POST", f"{REPO}/git/trees", {"tree": [unknown]})).status == 422


async def test_contents_list_a_thousand_entries_of_a_directory(github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/contents#get-repository-content"""
    await branch(github, "many", {f"many/{n:04}": "x" for n in range(1001)})
    assert len((await github("GET", f"{REPO}/contents/many?ref=many")).body) == 1000


async def test_contents_of_a_file_above_a_megabyte_are_not_in_the_json(github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/contents#get-repository-content"""
    await branch(github, "big", {"big.txt": "x" * (2**20 + 1)})
    shown = (await github("GET", f"{REPO}/contents/big.txt?ref=big")).body
    assert (shown["encoding"], shown["content"], shown["size"]) == ("none", "", 2**20 + 1)


async def test_contents_follow_a_symlink_to_a_file(github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/contents#get-repository-content"""
    link = {"path": "link", "mode": "120000", "type": "blob", "content": "README.md"}
    made = await tree(github, [link, entry("README.md", "hello")])
    body = {"message": "link", "tree": made["sha"], "parents": [await head(github)]}
    sha = (await github("POST", f"{REPO}/git/commits", body)).body["sha"]
    shown = (await github("GET", f"{REPO}/contents/link?ref={sha}")).body
    assert (shown["type"], shown["size"]) == ("file", 5)


async def test_contents_list_a_submodule_as_a_file(github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/contents#get-repository-content"""
    module = {"path": "dir/module", "mode": "160000", "type": "commit", "sha": "2" * 40}
    made = await tree(github, [module])
    body = {"message": "module", "tree": made["sha"], "parents": [await head(github)]}
    sha = (await github("POST", f"{REPO}/git/commits", body)).body["sha"]
    [shown] = (await github("GET", f"{REPO}/contents/dir?ref={sha}")).body
    assert (shown["type"], shown["sha"]) == ("file", "2" * 40)


async def test_a_directory_that_is_not_there_is_a_404(github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/contents#get-repository-content"""
    assert (await github("GET", f"{REPO}/contents/no/such")).status == 404


# Refs


async def test_a_ref_that_exists_is_a_422(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/refs#create-a-reference"""
    body = {"ref": "refs/heads/main", "sha": await head(github)}
    refused = await github("POST", f"{REPO}/git/refs", body)
    assert (refused.status, refused.body["message"]) == (422, "Reference already exists")


async def test_a_ref_to_nothing_is_a_422(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/refs#create-a-reference"""
    refused = await github("POST", f"{REPO}/git/refs", {"ref": "refs/heads/x", "sha": "1" * 40})
    assert (refused.status, refused.body["message"]) == (422, "Object does not exist")


async def test_a_missing_ref_is_a_404_to_read_and_a_422_to_change(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/refs#update-a-reference"""
    sha = await head(github)
    assert (await github("GET", f"{REPO}/git/ref/heads/none")).status == 404
    assert (await github("PATCH", f"{REPO}/git/refs/heads/none", {"sha": sha})).status == 422
    assert (await github("DELETE", f"{REPO}/git/refs/heads/none")).status == 422


async def test_a_ref_moves_back_by_force_only(github: GitHub) -> None:
    """https://docs.github.com/en/rest/git/refs#update-a-reference"""
    before = await head(github)
    await branch(github, "work")
    ref = f"{REPO}/git/refs/heads/work"
    assert (await github("PATCH", ref, {"sha": before})).body["message"] == "Update is not a fast forward"
    assert (await github("PATCH", ref, {"sha": before, "force": True})).status == 200


async def test_a_ref_is_written_only_by_those_with_write_access(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#404-not-found-for-an-existing-resource"""
    reader = github.as_(box.person("mallory", access="read").value)
    body = {"ref": "refs/heads/x", "sha": await head(github)}
    assert (await reader("POST", f"{REPO}/git/refs", body)).status == 404


# Comparing


async def test_comparing_tells_which_side_is_ahead(github: GitHub) -> None:
    """https://docs.github.com/en/rest/commits/commits#compare-two-commits"""
    base = await head(github)
    sha = await branch(github, "work")
    states = [
        (await github("GET", f"{REPO}/compare/{one}...{other}")).body["status"]
        for one, other in ((base, base), (base, sha), (sha, base))
    ]
    assert states == ["identical", "ahead", "behind"]


async def test_comparing_lists_three_hundred_files(github: GitHub) -> None:
    """https://docs.github.com/en/rest/commits/commits#compare-two-commits"""
    sha = await branch(github, "many", {f"many/{n:04}": "x" for n in range(301)})
    assert len((await github("GET", f"{REPO}/compare/main...{sha}")).body["files"]) == 300


# Pull requests


def said(reply: Reply) -> str:
    """All that a refusal says, as one text."""
    return json.dumps(reply.body)


async def test_one_open_pull_request_of_a_branch(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request"""
    await pull(github, "work")
    refused = await github("POST", f"{REPO}/pulls", {"title": "Again", "head": "work", "base": "main"})
    assert refused.status == 422
    assert "A pull request already exists for acme:work." in said(refused)


async def test_a_pull_request_needs_commits(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request"""
    await github("POST", f"{REPO}/git/refs", {"ref": "refs/heads/same", "sha": await head(github)})
    refused = await github("POST", f"{REPO}/pulls", {"title": "Nothing", "head": "same", "base": "main"})
    assert refused.status == 422
    assert "No commits between main and same" in said(refused)


async def test_a_pull_request_needs_its_branches(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request"""
    await branch(github, "work")
    for body in ({"head": "none", "base": "main"}, {"head": "work", "base": "none"}):
        assert (await github("POST", f"{REPO}/pulls", {"title": "No"} | body)).status == 422


async def test_a_title_ends_at_256_and_a_body_at_65536_characters(github: GitHub) -> None:
    """Not documented, seen widely. https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request"""
    await branch(github, "work")
    fields = {"head": "work", "base": "main", "title": "t" * 256, "body": "b" * 65_536}
    for long in ({"title": "t" * 257}, {"body": "b" * 65_537}):
        assert (await github("POST", f"{REPO}/pulls", fields | long)).status == 422
    opened = await github("POST", f"{REPO}/pulls", fields)
    assert opened.status == 201
    comments = f"{REPO}/issues/{opened.body['number']}/comments"
    assert (await github("POST", comments, {"body": "c" * 65_537})).status == 422
    assert (await github("POST", comments, {"body": "c" * 65_536})).status == 201


async def test_a_pull_request_lists_three_thousand_files(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files"""
    assert Switches().pull_files_limit == 3000
    iac(box).switches.pull_files_limit = 4
    opened = await pull(github, "many", {f"many/{n}": "x" for n in range(6)})
    assert opened["changed_files"] == 6
    assert len((await github("GET", f"{REPO}/pulls/{opened['number']}/files?per_page=100")).body) == 4


async def test_a_renamed_file_tells_its_previous_name(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files"""
    text = "".join(f"line {n}\n" for n in range(20))
    await branch(github, "base", {"one/file.txt": text})
    sha = await commit(github, {"one/file.txt": None, "two/file.txt": text}, parent=await head(github, "base"))
    await github("POST", f"{REPO}/git/refs", {"ref": "refs/heads/moved", "sha": sha})
    opened = (await github("POST", f"{REPO}/pulls", {"title": "Move", "head": "moved", "base": "base"})).body
    [file] = (await github("GET", f"{REPO}/pulls/{opened['number']}/files")).body
    assert (file["status"], file["filename"], file["previous_filename"]) == ("renamed", "two/file.txt", "one/file.txt")


async def test_a_pull_request_lists_250_commits(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#list-commits-on-a-pull-request"""
    for number in range(251):
        await scenes.commit(box, iac(box), {"n.txt": str(number)}, by=box.users["ada"], branch="long")
    opened = (await github("POST", f"{REPO}/pulls", {"title": "Long", "head": "long", "base": "main"})).body
    pages = [
        (await github("GET", f"{REPO}/pulls/{opened['number']}/commits?per_page=100&page={page}")).body
        for page in (1, 2, 3)
    ]
    assert [len(page) for page in pages] == [100, 100, 50]


async def test_pull_requests_are_found_by_their_head(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#list-pull-requests"""
    one = await pull(github, "one")
    await pull(github, "two")
    found = (await github("GET", f"{REPO}/pulls?head=acme:one&state=all")).body
    assert [row["number"] for row in found] == [one["number"]]


# Merging


async def test_a_merge_of_another_head_is_a_409(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request"""
    opened = await pull(github, "work")
    refused = await github("PUT", f"{REPO}/pulls/{opened['number']}/merge", {"sha": "1" * 40})
    assert refused.status == 409
    assert "Head branch was modified" in refused.body["message"]


async def test_a_conflict_is_a_405(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request"""
    one = await pull(github, "one", {"README.md": "one"})
    two = await pull(github, "two", {"README.md": "two"})
    merged = await github("PUT", f"{REPO}/pulls/{one['number']}/merge", {})
    assert (merged.status, merged.body["merged"]) == (200, True)
    refused = await github("PUT", f"{REPO}/pulls/{two['number']}/merge", {})
    assert refused.status == 405
    shown = (await github("GET", f"{REPO}/pulls/{two['number']}")).body
    assert (shown["mergeable"], shown["mergeable_state"]) == (False, "dirty")


async def test_a_moving_base_is_a_405_that_passes(box: Box, github: GitHub) -> None:
    """Seen widely. https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request"""
    opened = await pull(github, "work")
    iac(box).switches.base_modified = 1
    merge = f"{REPO}/pulls/{opened['number']}/merge"
    refused = await github("PUT", merge, {})
    assert refused.status == 405
    assert "Base branch was modified" in refused.body["message"]
    assert (await github("PUT", merge, {})).status == 200


async def test_merging_twice_is_a_405(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request"""
    merge = f"{REPO}/pulls/{(await pull(github, 'work'))['number']}/merge"
    assert [(await github("PUT", merge, {})).status for _ in range(2)] == [200, 405]


@pytest.mark.parametrize(("method", "parents"), [("merge", 2), ("squash", 1), ("rebase", 1)])
async def test_a_pull_request_is_merged_in_three_ways(github: GitHub, method: str, parents: int) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/about-merge-methods-on-github"""
    opened = await pull(github, "work")
    merged = (await github("PUT", f"{REPO}/pulls/{opened['number']}/merge", {"merge_method": method})).body
    made = (await github("GET", f"{REPO}/git/commits/{merged['sha']}")).body
    assert len(made["parents"]) == parents
    assert await head(github) == merged["sha"]


async def test_a_forbidden_merge_method_is_a_405(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request"""
    iac(box).merge_methods = {"squash"}
    opened = await pull(github, "work")
    assert (await github("PUT", f"{REPO}/pulls/{opened['number']}/merge", {"merge_method": "merge"})).status == 405


# What hangs on them


async def test_a_status_description_ends_at_140_characters(github: GitHub) -> None:
    """https://docs.github.com/en/rest/commits/statuses#create-a-commit-status"""
    statuses = f"{REPO}/statuses/{await head(github)}"
    fits = {"state": "success", "context": "telefonistka", "description": "d" * 140}
    assert (await github("POST", statuses, fits)).status == 201
    assert (await github("POST", statuses, fits | {"description": "d" * 141})).status == 422


async def test_a_commit_takes_a_thousand_statuses_of_a_context(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/commits/statuses#create-a-commit-status"""
    assert Switches().statuses_limit == 1000
    iac(box).switches.statuses_limit = 2
    statuses = f"{REPO}/statuses/{await head(github)}"
    body = {"state": "pending", "context": "telefonistka"}
    assert [(await github("POST", statuses, body)).status for _ in range(3)] == [201, 201, 422]
    assert (await github("POST", statuses, body | {"context": "other"})).status == 201


async def test_the_newest_status_of_a_context_counts(github: GitHub) -> None:
    """https://docs.github.com/en/rest/commits/statuses#get-the-combined-status-for-a-specific-reference"""
    sha = await head(github)
    for state in ("pending", "success"):
        await github("POST", f"{REPO}/statuses/{sha}", {"state": state, "context": "telefonistka"})
    shown = (await github("GET", f"{REPO}/commits/{sha}/status")).body
    assert (shown["state"], [s["state"] for s in shown["statuses"]]) == ("success", ["success"])


async def test_those_who_cannot_be_assigned_are_left_out(github: GitHub) -> None:
    """https://docs.github.com/en/rest/issues/assignees#add-assignees-to-an-issue"""
    opened = await pull(github, "work")
    path = f"{REPO}/issues/{opened['number']}/assignees"
    reply = await github("POST", path, {"assignees": ["ada", "nobody-here"]})
    assert (reply.status, [user["login"] for user in reply.body["assignees"]]) == (201, ["ada"])


async def test_ten_people_can_be_assigned(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/issues/assignees#add-assignees-to-an-issue"""
    people = [box.person(f"person{number}").user.login for number in range(11)]
    opened = await pull(github, "work")
    reply = await github("POST", f"{REPO}/issues/{opened['number']}/assignees", {"assignees": people})
    assert len(reply.body.get("assignees", [])) <= 10


async def test_an_unknown_assignee_may_be_refused(box: Box, github: GitHub) -> None:
    """Seen on some servers; the daemon tries again without. https://docs.github.com/en/rest/issues/issues#update-an-issue"""
    iac(box).switches.unknown_assignee = "refuse"
    opened = await pull(github, "work")
    body = {"labels": ["promotion"], "assignees": ["nobody-here"]}
    assert (await github("PATCH", f"{REPO}/issues/{opened['number']}", body)).status == 422
    assert (await github("GET", f"{REPO}/issues/{opened['number']}")).body["labels"] == []


async def test_an_issue_takes_labels_and_assignees_in_one_call(github: GitHub) -> None:
    """https://docs.github.com/en/rest/issues/issues#update-an-issue"""
    opened = await pull(github, "work")
    body = {"labels": ["promotion"], "assignees": ["ada"]}
    shown = (await github("PATCH", f"{REPO}/issues/{opened['number']}", body)).body
    assert [label["name"] for label in shown["labels"]] == ["promotion"]
    assert [user["login"] for user in shown["assignees"]] == ["ada"]


async def test_a_deleted_head_branch_closes_its_pull_request(github: GitHub) -> None:
    """https://docs.github.com/en/pull-requests/committing-changes-to-your-project/creating-and-deleting-branches/creating-and-deleting-branches-within-your-repository"""
    opened = await pull(github, "work")
    await github("DELETE", f"{REPO}/git/refs/heads/work")
    shown = (await github("GET", f"{REPO}/pulls/{opened['number']}")).body
    assert (shown["state"], shown["merged"]) == ("closed", False)
