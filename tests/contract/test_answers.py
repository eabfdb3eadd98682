"""One story through the whole API: every answer and every webhook has the shape that GitHub describes."""

from __future__ import annotations

import json
import re

from telefonistka.sandbox import rest, webhooks
from telefonistka.sandbox.box import Box
from tests.contract import schemas
from tests.contract.acts import branch, commit, head, pull, root
from tests.contract.conftest import REPO, SECRET, GitHub, Receiver
from tests.contract.test_rules import signed


def test_every_route_of_the_sandbox_is_one_of_githubs() -> None:
    """What GitHub does not have, nobody can come to rely on."""
    paths = [
        (route.method, re.sub(r"\{(\w+)(:[^}]+)?\}", "1", route.path)) for route in (*rest.ROUTES, *webhooks.TABLE)
    ]
    unknown = {pair for pair in paths if schemas.operation(*pair) is None and not pair[1].startswith("/repositories/")}
    assert unknown <= UNDESCRIBED


# What GitHub has, but does not describe: where redirects lead (`/repositories/{id}/…`), and two older addresses.
UNDESCRIBED = {("GET", "/repos/1/1/contents"), ("GET", "/repos/1/1/statuses/1")}


async def test_answers_about_people_and_apps(box: Box, github: GitHub) -> None:
    """Who asks, what they may, what remains to them."""
    made = box.new_app("telefonistka", owner="acme")
    app = github.as_(signed(made.app.id, made.private_key))
    for path in ("/user", "/users/ada", "/users/acme", "/rate_limit", "/meta", "/apps/telefonistka"):
        assert (await github("GET", path)).status == 200, path
    for path in ("/app", "/app/installations", f"/app/installations/{made.installation.id}", f"{REPO}/installation"):
        assert (await app("GET", path)).status == 200, path
    narrow = {"repositories": ["iac"], "permissions": {"contents": "read"}}
    token = await app("POST", f"/app/installations/{made.installation.id}/access_tokens", narrow)
    bot = github.as_(token.body["token"])
    assert (await bot("GET", "/installation/repositories")).body["total_count"] == 1
    for path in ("", "/ada", "/ada/permission"):
        assert (await github("GET", f"{REPO}/collaborators{path}")).status in (200, 204)


async def test_answers_about_a_repository_and_its_git_objects(github: GitHub) -> None:
    """Reading it, and writing blobs, trees, commits and refs."""
    sha = await branch(github, "work")
    tree = await root(github)
    for path in (
        "",
        "/branches",
        "/branches/main",
        "/commits",
        "/commits?path=lab&per_page=1",
        f"/commits/{sha}",
        f"/commits/{sha}/pulls",
        f"/commits/{sha}/status",
        "/compare/main...work",
        "/contents/",
        "/contents/lab/web?ref=main",
        "/contents/lab/web/app.yaml",
        "/git/ref/heads/main",
        "/git/matching-refs/heads/",
        f"/git/trees/{tree}",
        f"/git/trees/{tree}?recursive=1",
    ):
        assert (await github("GET", REPO + path)).status == 200, path
    blob = await github("POST", f"{REPO}/git/blobs", {"content": "aGVsbG8=", "encoding": "base64"})
    assert (await github("GET", f"{REPO}/git/blobs/{blob.body['sha']}")).body["size"] == 5
    file = f"{REPO}/contents/notes/today.txt"
    written = (await github("PUT", file, {"message": "Note", "content": "aGVsbG8="})).body
    fields = {"message": "Not so", "sha": written["content"]["sha"]}
    assert (await github("PUT", file, fields | {"content": "aGVsbG8K"})).status == 200
    fields["sha"] = (await github("GET", file)).body["sha"]
    assert (await github("DELETE", file, fields)).status == 200
    assert (await github("PATCH", REPO, {"delete_branch_on_merge": True})).status == 200


async def test_answers_about_a_pull_request(box: Box, github: GitHub) -> None:
    """From opening to merging, with all that hangs on it."""
    grace = github.as_(box.person("grace", access="write").value)
    opened = await pull(github, "work")
    one, issue = f"{REPO}/pulls/{opened['number']}", f"{REPO}/issues/{opened['number']}"
    for path in (
        one,
        f"{one}/files",
        f"{one}/commits",
        issue,
        f"{issue}/comments",
        f"{REPO}/pulls?state=all",
        f"{REPO}/issues",
    ):
        assert (await github("GET", path)).status == 200, path
    assert (await github("PATCH", one, {"title": "Better", "body": "Because."})).body["title"] == "Better"

    comment = (await github("POST", f"{issue}/comments", {"body": "Hm."})).body
    said = f"{REPO}/issues/comments/{comment['id']}"
    assert (await github("PATCH", said, {"body": "Well."})).body["body"] == "Well."
    assert (await github("GET", said)).status == 200
    assert (await github("DELETE", said)).status == 204

    assert (await github("POST", f"{REPO}/labels", {"name": "promotion", "color": "0e8a16"})).status == 201
    assert (await github("GET", f"{REPO}/labels")).status == 200
    assert (await github("GET", f"{REPO}/labels/promotion")).status == 200
    assert (await github("POST", f"{issue}/labels", {"labels": ["promotion", "later"]})).status == 200
    assert (await github("DELETE", f"{issue}/labels/later")).status == 200
    assert (await github("PUT", f"{issue}/labels", {"labels": ["now"]})).status == 200
    assert (await github("GET", f"{issue}/labels")).status == 200
    assert (await github("DELETE", f"{issue}/labels")).status == 204
    assert (await github("POST", f"{issue}/assignees", {"assignees": ["ada"]})).status == 201
    assert (await github("DELETE", f"{issue}/assignees", {"assignees": ["ada"]})).status == 200
    assert (await github("GET", f"{REPO}/assignees/ada")).status == 204

    assert (await github("POST", f"{one}/requested_reviewers", {"reviewers": ["grace"]})).status == 201
    assert (await github("GET", f"{one}/requested_reviewers")).status == 200
    assert (await github("DELETE", f"{one}/requested_reviewers", {"reviewers": ["grace"]})).status == 200
    review = (await grace("POST", f"{one}/reviews", {"event": "APPROVE", "body": "Yes."})).body
    assert (await github("GET", f"{one}/reviews")).status == 200
    assert (await github("GET", f"{one}/reviews/{review['id']}")).status == 200
    assert (await github("PUT", f"{one}/reviews/{review['id']}/dismissals", {"message": "No."})).status == 200

    status = {"state": "success", "context": "ci", "description": "fine", "target_url": "https://ci.example.com/1"}
    assert (await github("POST", f"{REPO}/statuses/{opened['head']['sha']}", status)).status == 201
    assert (await github("GET", f"{one}/merge")).status == 404
    assert (await github("PATCH", one, {"state": "closed"})).body["state"] == "closed"
    assert (await github("PATCH", one, {"state": "open"})).body["state"] == "open"
    assert (await github("PUT", f"{one}/merge", {"commit_title": "Work", "merge_method": "squash"})).status == 200
    assert (await github("GET", f"{one}/merge")).status == 204
    assert (await github("GET", one)).body["merged"] is True


async def test_answers_about_reactions_and_check_runs(box: Box, github: GitHub) -> None:
    """A reaction is there once; only an App makes check runs, fifty remarks a request."""
    opened = await pull(github, "work")
    issue, sha = f"{REPO}/issues/{opened['number']}", opened["head"]["sha"]
    said = (await github("POST", f"{issue}/comments", {"body": "/retrigger"})).body
    reactions = f"{REPO}/issues/comments/{said['id']}/reactions"
    assert [(await github("POST", reactions, {"content": "+1"})).status for _ in range(2)] == [201, 200]
    shown = (await github("GET", f"{REPO}/issues/comments/{said['id']}")).body["reactions"]
    assert (shown["+1"], shown["total_count"]) == (1, 1)

    remark = {"path": "f", "start_line": 1, "end_line": 1, "annotation_level": "warning", "message": "Hm."}
    run = {"name": "a check", "head_sha": sha, "status": "completed", "conclusion": "neutral"}
    output = {"title": "Found", "summary": "Something", "annotations": [remark] * 50}
    assert (await github("POST", f"{REPO}/check-runs", run | {"output": output})).status == 403
    made = box.new_app("checker", owner="acme", permissions={"checks": "write", "contents": "read"})
    app = github.as_(box.installation_token(made.installation).value)
    created = await app("POST", f"{REPO}/check-runs", run | {"output": output})
    assert (created.status, created.body["output"]["annotations_count"]) == (201, 50)
    one = f"{REPO}/check-runs/{created.body['id']}"
    assert (await app("PATCH", one, {"output": output})).body["output"]["annotations_count"] == 100
    assert (await github("GET", one)).body["conclusion"] == "neutral"
    assert len((await github("GET", f"{one}/annotations?per_page=100")).body) == 100
    listed = await github("GET", f"{REPO}/commits/{sha}/check-runs?check_name=a%20check")
    assert (listed.body["total_count"], listed.body["check_runs"][0]["id"]) == (1, created.body["id"])


async def test_answers_about_hooks(box: Box, github: GitHub, receiver: Receiver) -> None:
    """A repository's hooks and an App's, and what they delivered."""
    made = box.new_app("telefonistka", owner="acme", webhook=receiver.url, secret=SECRET)
    app = github.as_(signed(made.app.id, made.private_key))
    config = {"url": receiver.url, "content_type": "json", "insecure_ssl": "0", "secret": SECRET}
    hook = (await github("POST", f"{REPO}/hooks", {"name": "web", "config": config, "events": ["push"]})).body
    one = f"{REPO}/hooks/{hook['id']}"
    assert (await github("PATCH", one, {"add_events": ["status"]})).body["events"] == ["push", "status"]
    assert (await github("POST", f"{one}/pings")).status == 204
    await branch(github, "work")
    await box.post.idle()
    for path in (f"{REPO}/hooks", one, f"{one}/deliveries"):
        assert (await github("GET", path)).status == 200
    for path in ("/app/hook/config", "/app/hook/deliveries"):
        assert (await app("GET", path)).status == 200
    assert (await app("PATCH", "/app/hook/config", {"insecure_ssl": "1"})).body["insecure_ssl"] == "1"
    for asking, log in ((github, f"{one}/deliveries"), (app, "/app/hook/deliveries")):
        delivery = f"{log}/{(await asking('GET', log)).body[0]['id']}"
        assert (await asking("GET", delivery)).body["status"] == "OK"
        assert (await asking("POST", f"{delivery}/attempts")).status == 202
    await box.post.idle()
    assert (await github("DELETE", one)).status == 204


async def test_webhooks_have_githubs_shape(box: Box, github: GitHub, receiver: Receiver) -> None:
    """Every event and action that the sandbox tells, to a repository's hook and to an App's."""
    grace = github.as_(box.person("grace", access="write").value)
    box.new_app("telefonistka", owner="acme", webhook=receiver.url, secret=SECRET, events=["*"])
    config = {"url": receiver.url, "content_type": "json", "secret": SECRET}
    await github("POST", f"{REPO}/hooks", {"config": config, "events": ["*"]})

    opened = await pull(github, "work")
    one, issue = f"{REPO}/pulls/{opened['number']}", f"{REPO}/issues/{opened['number']}"
    await github("PATCH", one, {"title": "Better", "body": "Because."})
    await github("PATCH", issue, {"labels": ["promotion"], "assignees": ["ada"]})
    await github("PATCH", issue, {"labels": [], "assignees": []})
    await github("POST", f"{one}/requested_reviewers", {"reviewers": ["grace"]})
    await github("DELETE", f"{one}/requested_reviewers", {"reviewers": ["grace"]})
    review = (await grace("POST", f"{one}/reviews", {"event": "APPROVE", "body": "Yes."})).body
    await github("PUT", f"{one}/reviews/{review['id']}/dismissals", {"message": "No."})
    comment = (await github("POST", f"{issue}/comments", {"body": "Hm."})).body
    await github("PATCH", f"{REPO}/issues/comments/{comment['id']}", {"body": "Well."})
    await github("DELETE", f"{REPO}/issues/comments/{comment['id']}")
    sha = await commit(github, {"more.txt": "more"}, parent=await head(github, "work"))
    await github("PATCH", f"{REPO}/git/refs/heads/work", {"sha": sha})
    await github("POST", f"{REPO}/statuses/{sha}", {"state": "success", "context": "ci"})
    await github("PATCH", one, {"state": "closed"})
    await github("PATCH", one, {"state": "open"})
    await github("PUT", f"{one}/merge", {"merge_method": "rebase"})
    await github("DELETE", f"{REPO}/git/refs/heads/work")
    await box.post.idle()

    told = {(d.event, d.action) for d in box.deliveries.values()}
    assert told == EXPECTED
    faults = [fault for d in box.deliveries.values() for fault in schemas.webhook(d.event, json.loads(d.request_body))]
    assert not faults, "\n".join(faults)
    assert {d.status for d in box.deliveries.values()} == {"OK"}


EXPECTED = {
    ("ping", None),
    ("push", None),
    ("status", None),
    *(("issue_comment", action) for action in ("created", "edited", "deleted")),
    *(("pull_request_review", action) for action in ("submitted", "dismissed")),
    *(("pull_request", action) for action in ("opened", "closed", "reopened", "synchronize", "edited")),
    *(("pull_request", action) for action in ("labeled", "unlabeled", "assigned", "unassigned")),
    *(("pull_request", action) for action in ("review_requested", "review_request_removed")),
}
