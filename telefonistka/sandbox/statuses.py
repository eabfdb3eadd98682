"""REST: commit statuses. https://docs.github.com/en/rest/commits/statuses"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from telefonistka.sandbox import objects
from telefonistka.sandbox.gitdata import REPO, commit_of
from telefonistka.sandbox.odb import OBJECT_ID
from telefonistka.sandbox.rest import Answer, Ask, Refused, invalid, route, want
from telefonistka.sandbox.state import Repo, Status

STATES = ("error", "failure", "pending", "success")
LIMITS = {"description": 140, "context": 255, "target_url": 65_535}  # characters


@route("POST", REPO + "/statuses/{sha}", "statuses:write")
async def create_status(ask: Ask) -> Answer:
    fields, sha = await ask.json(), ask.path("sha")
    if not OBJECT_ID.fullmatch(sha) or not ask.repo.git.is_a("commit", sha):
        raise Refused(422, f"No commit found for SHA: {sha}")
    if want(fields, "state", str, resource="Status") not in STATES:
        raise invalid("Status", "state")
    check_lengths(fields)
    context = fields.get("context") or "default"
    known = ask.repo.statuses.setdefault(sha, [])
    if sum(1 for one in known if one.context == context) >= ask.repo.switches.statuses_limit:
        message = "This SHA and context has reached the maximum number of statuses."
        raise Refused(422, "Validation Failed", errors=[{"resource": "Status", "code": "custom", "message": message}])
    status = Status(
        id=ask.box.next_id(),
        sha=sha,
        state=fields["state"],
        context=context,
        description=fields.get("description"),
        target_url=fields.get("target_url"),
        creator=ask.user,
    )
    known.append(status)
    await ask.box.tell("status", None, repo=ask.repo, sender=ask.user, status=status)
    shown = objects.status(ask.box, ask.repo, status)
    return Answer(shown, 201, {"Location": shown["url"]})


def check_lengths(fields: dict[str, Any]) -> None:
    for name, limit in LIMITS.items():
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid("Status", name)
        if value is not None and len(value) > limit:
            raise invalid("Status", name, message=f"{name} is too long (maximum is {limit} characters)")
    url = fields.get("target_url")
    if url and not url.startswith(("http://", "https://")):
        raise invalid("Status", "target_url", message="Target url must use http(s) scheme")


def latest(repo: Repo, sha: str) -> list[Status]:
    """The last status of each context, newest first."""
    by_context = {status.context: status for status in repo.statuses.get(sha, [])}
    return sorted(by_context.values(), key=lambda status: status.id, reverse=True)


def combined(statuses: list[Status]) -> str:
    """https://docs.github.com/en/rest/commits/statuses#get-the-combined-status-for-a-specific-reference"""
    states = {status.state for status in statuses}
    if states & {"error", "failure"}:
        return "failure"
    return "success" if states == {"success"} else "pending"


async def list_statuses(ask: Ask) -> Answer:
    known = ask.repo.statuses.get(commit_of(ask, ask.path("ref")), [])
    part, headers = ask.page(known[::-1])
    return Answer([objects.status(ask.box, ask.repo, status) for status in part], headers=headers)


route("GET", REPO + "/commits/{ref:.+}/statuses", "statuses:read")(list_statuses)
route("GET", REPO + "/statuses/{ref:.+}", "statuses:read")(list_statuses)


@route("GET", REPO + "/commits/{ref:.+}/status", "statuses:read")
async def combined_status(ask: Ask) -> Answer:
    sha = commit_of(ask, ask.path("ref"))
    statuses = latest(ask.repo, sha)
    part, headers = ask.page(statuses)
    api = objects.repo_api(ask.box, ask.repo)
    shown = {
        "state": combined(statuses),
        "statuses": [objects.simple_status(ask.box, ask.repo, status) for status in part],
        "sha": sha,
        "total_count": len(statuses),
        "repository": objects.repository(ask.box, ask.repo),
        "commit_url": f"{api}/commits/{sha}",
        "url": f"{api}/commits/{quote(ask.path('ref'))}/status",
    }
    return Answer(shown, headers=headers)


@route("GET", REPO + "/commits/{ref:.+}/pulls", "pull_requests:read")
async def pulls_of_commit(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/commits/commits#list-pull-requests-associated-with-a-commit"""
    sha = commit_of(ask, ask.path("ref"))
    chosen = [
        pull
        for pull in ask.repo.pulls.values()
        if sha in (pull.head_sha, pull.merge_commit_sha)
        or (await ask.repo.git.contains(pull.head_sha, sha) and not await ask.repo.git.contains(pull.base_sha, sha))
    ]
    part, headers = ask.page(chosen)
    return Answer([objects.pull_simple(ask.box, ask.repo, pull) for pull in part], headers=headers)
