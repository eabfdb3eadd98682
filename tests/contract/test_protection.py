"""GitHub's rules of when a pull request may be merged, one test each, with the page that states the rule."""

from __future__ import annotations

from typing import Any

import pytest

from telefonistka.sandbox import codeowners, scenes
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules, Ruleset
from tests.contract.acts import branch, commit, head, pull
from tests.contract.conftest import REPO, GitHub, Reply
from tests.contract.test_rules import iac

STATE = 'query ($number: Int!) { repository(owner: "acme", name: "iac") { pullRequest(number: $number) {'
STATE += " mergeable mergeStateStatus reviewDecision } } }"


def protect(box: Box, **asked: Any) -> None:
    """The default branch asks for this; nothing where nothing is given."""
    iac(box).protection = {"main": Rules(**asked)} if asked else {}


async def merge(github: GitHub, opened: dict[str, Any], **fields: Any) -> Reply:
    return await github("PUT", f"{REPO}/pulls/{opened['number']}/merge", fields)


async def state(github: GitHub, opened: dict[str, Any]) -> str:
    shown: str = (await github("GET", f"{REPO}/pulls/{opened['number']}")).body["mergeable_state"]
    return shown


async def green(github: GitHub, sha: str, context: str = "ci", state: str = "success") -> None:
    assert (await github("POST", f"{REPO}/statuses/{sha}", {"state": state, "context": context})).status == 201


async def approve(github: GitHub, opened: dict[str, Any], event: str = "APPROVE") -> dict[str, Any]:
    fields = {"event": event, "body": "Well."}
    reviewed: dict[str, Any] = (await github("POST", f"{REPO}/pulls/{opened['number']}/reviews", fields)).body
    return reviewed


async def push(github: GitHub, branch: str, files: dict[str, str | None]) -> str:
    sha = await commit(github, files, parent=await head(github, branch))
    assert (await github("PATCH", f"{REPO}/git/refs/heads/{branch}", {"sha": sha})).status == 200
    return sha


def person(box: Box, github: GitHub, login: str, access: str = "write") -> GitHub:
    return github.as_(box.person(login, access=access).value)


# A repository's settings


@pytest.mark.parametrize(("name", "method"), [("merge_commit", "merge"), ("squash_merge", "squash")])
async def test_a_merge_method_can_be_forbidden(github: GitHub, name: str, method: str) -> None:
    """https://docs.github.com/en/rest/repos/repos#update-a-repository"""
    assert (await github("GET", REPO)).body[f"allow_{name}"] is True
    assert (await github("PATCH", REPO, {f"allow_{name}": False})).body[f"allow_{name}"] is False
    refused = await merge(github, await pull(github, "work"), merge_method=method)
    assert (refused.status, "not allowed on this repository" in refused.body["message"]) == (405, True)


async def test_a_merged_branch_can_be_deleted_by_itself(github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-the-automatic-deletion-of-branches"""
    assert (await github("PATCH", REPO, {"delete_branch_on_merge": True})).body["delete_branch_on_merge"] is True
    await merge(github, await pull(github, "work"))
    assert (await github("GET", f"{REPO}/git/ref/heads/work")).status == 404


async def test_merge_settings_are_shown_to_those_who_may_write(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/repos#get-a-repository"""
    writer, reader = (box.new_app(f"{level}r", owner="acme", permissions={"contents": level}) for level in SEEN)
    shown = [
        await github.as_(box.installation_token(made.installation).value)("GET", REPO) for made in (writer, reader)
    ]
    assert ["allow_auto_merge" in reply.body for reply in shown] == list(SEEN.values())


SEEN = {"write": True, "read": False}


# Whether it can be merged


async def test_whether_it_can_be_merged_is_known_a_while_after_a_push(box: Box, github: GitHub) -> None:
    """Asking makes GitHub find out, asking again later is answered.

    https://docs.github.com/en/rest/guides/using-the-rest-api-to-interact-with-your-git-database#checking-mergeability-of-pull-requests
    """
    opened = await pull(github, "work")
    iac(box).switches.late_mergeable = 2
    await push(github, "work", {"more.txt": "more"})
    path = f"{REPO}/pulls/{opened['number']}"
    shown = [(await github("GET", path)).body for _ in range(3)]
    assert [one["mergeable"] for one in shown] == [None, None, True]
    assert [one["mergeable_state"] for one in shown] == ["unknown", "unknown", "clean"]


async def test_a_graphql_query_asks_once_however_many_fields_it_has(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/graphql/reference/enums#mergeablestate"""
    iac(box).switches.late_mergeable = 2
    opened = await pull(github, "work")
    replies = [await github.graphql(STATE, number=opened["number"]) for _ in range(3)]
    shown = [reply.body["data"]["repository"]["pullRequest"] for reply in replies]
    assert [one["mergeable"] for one in shown] == ["UNKNOWN", "UNKNOWN", "MERGEABLE"]
    assert [one["mergeStateStatus"] for one in shown] == ["UNKNOWN", "UNKNOWN", "CLEAN"]


async def test_a_status_that_is_not_required_makes_a_pull_request_unstable(github: GitHub) -> None:
    """It can be merged all the same. https://docs.github.com/en/graphql/reference/enums#mergestatestatus"""
    opened = await pull(github, "work")
    await green(github, opened["head"]["sha"], "lint", "failure")
    assert await state(github, opened) == "unstable"
    assert (await merge(github, opened)).status == 200


# Required checks


async def test_a_required_check_blocks_until_it_is_green(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-status-checks-before-merging"""
    protect(box, checks=("ci",))
    opened = await pull(github, "work")
    said = []
    for now in ("", "pending", "failure"):
        if now:
            await green(github, opened["head"]["sha"], state=now)
        refused = await merge(github, opened)
        said.append((refused.status, refused.body["message"]))
    assert said == [(405, f'Required status check "ci" is {word}.') for word in ("expected", "pending", "failing")]
    assert await state(github, opened) == "blocked"
    await green(github, opened["head"]["sha"])
    assert await state(github, opened) == "clean"
    assert (await merge(github, opened)).status == 200


async def test_several_missing_checks_are_counted_not_named(box: Box, github: GitHub) -> None:
    """Seen widely. https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/collaborating-on-repositories-with-code-quality-features/troubleshooting-required-status-checks"""
    protect(box, checks=("a", "b", "c"))
    opened = await pull(github, "work")
    assert (await merge(github, opened)).body["message"] == "3 of 3 required status checks are expected."
    await green(github, opened["head"]["sha"], "a")
    await green(github, opened["head"]["sha"], "b", "error")
    told = "2 of 3 required status checks have not succeeded: 1 expected and 1 failing."
    assert (await merge(github, opened)).body["message"] == told


async def test_where_checks_are_strict_the_head_must_contain_the_base(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/troubleshooting-required-status-checks"""
    opened = await pull(github, "work")
    await green(github, opened["head"]["sha"])
    await push(github, "main", {"other.txt": "meanwhile"})
    protect(box, checks=("ci",), strict=True)
    assert await state(github, opened) == "behind"
    assert (await merge(github, opened)).body["message"] == 'Required status check "ci" is expected.'
    assert (await github("PUT", f"{REPO}/pulls/{opened['number']}/update-branch", {})).status == 202
    await green(github, await head(github, "work"))
    assert (await merge(github, opened)).status == 200


async def test_administrators_are_exempt_unless_they_are_included(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#do-not-allow-bypassing-the-above-settings"""
    protect(box, checks=("ci",), enforce_admins=False)
    opened = await pull(github, "work")
    assert (await merge(person(box, github, "grace"), opened)).status == 405
    assert (await merge(github, opened)).status == 200


async def test_a_protected_branch_takes_no_pushes_past_pull_requests(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-pull-request-reviews-before-merging"""
    sha = await branch(github, "work")
    protect(box, reviews=True)
    refused = await github("PATCH", f"{REPO}/git/refs/heads/main", {"sha": sha})
    assert (refused.status, refused.body["message"]) == (422, "Changes must be made through a pull request.")
    written = await github("PUT", f"{REPO}/contents/x", {"message": "x", "content": "eA=="})
    assert (written.status, "through a pull request" in written.body["message"]) == (409, True)


# Required reviews


async def test_approvals_of_those_who_may_write_count(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/reviewing-changes-in-pull-requests/about-pull-request-reviews"""
    protect(box, approvals=1)
    opened = await pull(github, "work")
    await approve(person(box, github, "reader", "read"), opened)
    refused = await merge(github, opened)
    told = "At least 1 approving review is required by reviewers with write access."
    assert (refused.status, refused.body["message"]) == (405, told)
    await approve(person(box, github, "grace"), opened)
    shown = (await github.graphql(STATE, number=opened["number"])).body["data"]["repository"]["pullRequest"]
    assert (shown["reviewDecision"], shown["mergeStateStatus"]) == ("APPROVED", "CLEAN")
    assert (await merge(github, opened)).status == 200


async def test_an_apps_approval_counts_if_it_may_write(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-pull-request-reviews-before-merging"""
    protect(box, approvals=1)
    opened = await pull(github, "work")
    for level, status in (("read", 405), ("write", 200)):
        made = box.new_app(f"approver-{level}", owner="acme", permissions={"contents": level, "pull_requests": "write"})
        await approve(github.as_(box.installation_token(made.installation).value), opened)
        assert (await merge(github, opened)).status == status


async def test_requested_changes_block_until_they_are_dismissed(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/reviewing-changes-in-pull-requests/dismissing-a-pull-request-review"""
    protect(box, approvals=1)
    opened = await pull(github, "work")
    await approve(person(box, github, "grace"), opened)
    asked = await approve(person(box, github, "alan"), opened, "REQUEST_CHANGES")
    assert (await merge(github, opened)).status == 405
    path = f"{REPO}/pulls/{opened['number']}/reviews/{asked['id']}/dismissals"
    assert (await github("PUT", path, {"message": "Done."})).status == 200
    assert (await merge(github, opened)).status == 200


async def test_nobody_approves_their_own_pull_request(github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/reviews#create-a-review-for-a-pull-request"""
    opened = await pull(github, "work")
    refused = await github("POST", f"{REPO}/pulls/{opened['number']}/reviews", {"event": "APPROVE"})
    assert (refused.status, refused.body["errors"]) == (422, ["Can not approve your own pull request"])


async def test_a_review_is_bound_to_a_commit(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/pulls/reviews#create-a-review-for-a-pull-request"""
    opened, grace = await pull(github, "work"), person(box, github, "grace")
    path = f"{REPO}/pulls/{opened['number']}/reviews"
    fields = {"event": "APPROVE", "commit_id": opened["head"]["sha"]}
    assert (await grace("POST", path, fields)).body["commit_id"] == opened["head"]["sha"]
    assert (await grace("POST", path, fields | {"commit_id": "1" * 40})).status == 422


@pytest.mark.parametrize("dismissed", [True, False])
async def test_a_push_dismisses_approvals_where_they_grow_stale(box: Box, github: GitHub, *, dismissed: bool) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-pull-request-reviews-before-merging"""
    protect(box, approvals=1, dismiss_stale=dismissed)
    opened = await pull(github, "work")
    await approve(person(box, github, "grace"), opened)
    await push(github, "work", {"more.txt": "more"})
    [review] = (await github("GET", f"{REPO}/pulls/{opened['number']}/reviews")).body
    assert review["state"] == ("DISMISSED" if dismissed else "APPROVED")
    assert (await merge(github, opened)).status == (405 if dismissed else 200)


async def test_a_merge_of_the_base_leaves_approvals_as_they_are(box: Box, github: GitHub) -> None:
    """It changes nothing of what is proposed.

    https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-pull-request-reviews-before-merging
    """
    opened = await pull(github, "work")
    await push(github, "main", {"other.txt": "meanwhile"})
    protect(box, approvals=1, dismiss_stale=True, last_push=True)
    await approve(person(box, github, "grace"), opened)
    assert (await github("PUT", f"{REPO}/pulls/{opened['number']}/update-branch", {})).status == 202
    assert (await merge(github, opened)).status == 200


async def test_the_last_push_needs_the_approval_of_somebody_else(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches#require-approval-of-the-most-recent-reviewable-push"""
    protect(box, approvals=1, last_push=True)
    opened, grace = await pull(github, "work"), person(box, github, "grace")
    await push(grace, "work", {"more.txt": "more"})
    await approve(grace, opened)
    told = "New changes require approval from someone other than grace because they were the last pusher."
    assert (await merge(github, opened)).body["message"] == told
    await approve(person(box, github, "alan"), opened)
    assert (await merge(github, opened)).status == 200


async def test_code_owners_of_changed_files_must_approve(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners"""
    owners = "* @ada\n/lab/ @acme/lab # the team\n/lab/db/\n"
    await scenes.commit(box, iac(box), {".github/CODEOWNERS": owners}, by=box.users["ada"])
    box.teams["acme/lab"] = {"linus"}
    protect(box, code_owners=True)
    opened = await pull(github, "work", {"lab/web/app.yaml": "image: 2\n", "lab/db/app.yaml": "image: 2\n"})
    await approve(person(box, github, "grace"), opened)
    assert (await merge(github, opened)).body["message"] == "Waiting on code owner review from acme/lab."
    await approve(person(box, github, "linus"), opened)
    assert (await merge(github, opened)).status == 200


@pytest.mark.parametrize(
    ("pattern", "path", "owned"),
    [
        ("*", "any/where.txt", True),
        ("*.js", "deep/er/file.js", True),
        ("/build/logs/", "build/logs/one/two.txt", True),
        ("/build/logs/", "more/build/logs/one.txt", False),
        ("docs/*", "docs/start.md", True),
        ("docs/*", "docs/deep/start.md", False),
        ("apps/", "some/apps/one/file", True),
        ("apps", "apps/one/file", True),
        ("**/logs", "build/logs/one", True),
        ("/apps/**/x", "apps/one/two/x", True),
        ("/apps/github", "apps/github-actions", False),
    ],
)
def test_code_owners_are_found_by_pattern(pattern: str, path: str, *, owned: bool) -> None:
    """https://docs.github.com/en/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners#codeowners-syntax"""
    [(expression, names)] = codeowners.rules(f"# who\n{pattern} @ada\n!not @this\n")
    assert (expression.fullmatch(path) is not None, names) == (owned, ("ada",))


# Reading the rules


async def test_protection_is_set_and_read_by_administrators(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/branches/branch-protection#get-branch-protection"""
    path = f"{REPO}/branches/main/protection"
    unprotected = await github("GET", path)
    assert (unprotected.status, unprotected.body["message"]) == (404, "Branch not protected")
    reviews = {"required_approving_review_count": 2, "require_code_owner_reviews": True}
    fields = {
        "required_status_checks": {"strict": True, "contexts": ["ci"]},
        "enforce_admins": True,
        "required_pull_request_reviews": reviews,
        "restrictions": None,
    }
    assert (await github("PUT", path, fields)).status == 200
    shown = (await github("GET", path)).body
    assert shown["required_status_checks"]["contexts"] == ["ci"]
    assert shown["required_pull_request_reviews"]["required_approving_review_count"] == 2
    assert (await person(box, github, "grace")("GET", path)).status == 404
    app = box.new_app("telefonistka", owner="acme")
    assert (await github.as_(box.installation_token(app.installation).value)("GET", path)).status == 403
    assert (await github("DELETE", path)).status == 204
    assert (await github("GET", path)).status == 404


async def test_whoever_may_read_sees_which_checks_a_branch_requires(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/branches/branches#get-a-branch"""
    protect(box, checks=("ci",), approvals=1)
    shown = (await person(box, github, "mallory", "read")("GET", f"{REPO}/branches/main")).body
    assert shown["protected"] is True
    assert shown["protection"]["required_status_checks"]["contexts"] == ["ci"]
    [listed] = (await github("GET", f"{REPO}/branches")).body
    assert listed["protected"] is True


async def test_whoever_may_read_sees_the_rules_of_rulesets(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/rest/repos/rules#get-rules-for-a-branch"""
    asked = Rules(checks=("ci",), approvals=1, methods=("squash",))
    iac(box).rulesets = {7: Ruleset(id=7, rules=asked)}
    reader = person(box, github, "mallory", "read")
    found = (await reader("GET", f"{REPO}/rules/branches/main")).body
    assert [(rule["type"], rule["ruleset_id"]) for rule in found] == [
        ("pull_request", 7),
        ("required_status_checks", 7),
    ]
    assert found[0]["parameters"]["allowed_merge_methods"] == ["squash"]
    assert (await reader("GET", f"{REPO}/rules/branches/other")).body == []


async def test_rulesets_narrow_the_merge_methods_and_name_themselves(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-rulesets/available-rules-for-rulesets#require-a-pull-request-before-merging"""
    iac(box).rulesets = {7: Ruleset(id=7, branches=("~ALL",), rules=Rules(approvals=1, methods=("squash",)))}
    opened = await pull(github, "work")
    assert (await merge(github, opened, merge_method="merge")).status == 405
    refused = await merge(github, opened, merge_method="squash")
    told = "At least 1 approving review is required by reviewers with write access."
    assert (refused.status, refused.body["message"]) == (405, f"Repository rule violations found\n\n{told}\n\n")


async def test_graphql_shows_readers_what_a_branch_requires(box: Box, github: GitHub) -> None:
    """https://docs.github.com/en/graphql/reference/objects#refupdaterule"""
    protect(box, checks=("ci",), approvals=2)
    query = 'query { repository(owner: "acme", name: "iac") { defaultBranchRef { refUpdateRule {'
    query += " requiredApprovingReviewCount requiredStatusCheckContexts } } } }"
    shown = (await person(box, github, "mallory", "read").graphql(query)).body["data"]["repository"]
    asked = {"requiredApprovingReviewCount": 2, "requiredStatusCheckContexts": ["ci"]}
    assert shown["defaultBranchRef"]["refUpdateRule"] == asked
