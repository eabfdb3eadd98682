"""What a webhook says: an event of the sandbox as the payload that GitHub would send.

https://docs.github.com/en/webhooks/webhook-events-and-payloads
The shapes are those of the published webhook schemas; what only the REST answers have is left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from telefonistka.sandbox import gitobjects, mergeability, objects
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.git import Git
from telefonistka.sandbox.objects import Json
from telefonistka.sandbox.odb import Commit
from telefonistka.sandbox.rest import printable
from telefonistka.sandbox.state import ZEROS, Event, Hook, Installation, Repo, User

COMMITS = 2048  # of one push: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
REST_ONLY = {"client_id", "closed_by", "user_view_type", "verified_at"}  # fields that the webhook schemas do not know
ZEN = "Keep it logically awesome."  # a ping's payload has a line of GitHub's own design philosophy


async def build(box: Box, event: Event) -> Json:
    """The payload for a repository's own hook; of_installation() makes it an App's."""
    found = await EVENTS[event.name](box, event)
    if event.action is not None:
        found = {"action": event.action} | found
    if event.repo is not None:
        found = {"repository": objects.repository(box, event.repo)} | found
        if event.repo.owner.type == "Organization":
            found["organization"] = organization(box, event.repo.owner)
    told: Json = known(found | {"sender": objects.user(box, event.sender)})
    return told


def of_installation(payload: Json, installation: Installation) -> Json:
    """An App is told through which installation it hears; `installation` events say so themselves."""
    lite = {"id": installation.id, "node_id": f"MDIz_{installation.id}"}
    return {"installation": lite} | payload


async def pull_request(box: Box, event: Event) -> Json:
    pull, repo = event.facts["pull"], whole(event)
    facts = {name: value for name, value in event.facts.items() if name in ("changes", "before", "after", "reason")}
    for name in ("assignee", "requested_reviewer"):
        if name in event.facts:
            facts[name] = objects.user(box, event.facts[name])
    if "label" in event.facts:
        facts["label"] = objects.label(box, repo, event.facts["label"])
    return {"number": pull.number, "pull_request": await mergeability.pull(box, repo, pull)} | facts


async def pull_request_review(box: Box, event: Event) -> Json:
    pull, repo = event.facts["pull"], whole(event)
    review = objects.review(box, repo, pull, event.facts["review"])
    shown = review | {"state": review["state"].lower()}
    return {"review": shown, "pull_request": objects.pull_simple(box, repo, pull)}


async def issue_comment(box: Box, event: Event) -> Json:
    pull, repo = event.facts["pull"], whole(event)
    comment = objects.comment(box, repo, pull, event.facts["comment"])
    changes = {"changes": event.facts["changes"]} if event.action == "edited" else {}
    return {"issue": objects.issue(box, repo, pull), "comment": comment} | changes


async def status(box: Box, event: Event) -> Json:
    repo, told = whole(event), event.facts["status"]
    names = ("id", "state", "description", "target_url", "context", "created_at", "updated_at", "avatar_url")
    shown = objects.status(box, repo, told)
    tips = [name for name, sha in repo.git.branches().items() if sha == told.sha]
    return {name: shown[name] for name in names} | {
        "sha": told.sha,
        "name": repo.full_name,
        "commit": gitobjects.commit(box, repo, repo.git.commit(told.sha)),
        "branches": [{"name": name, "commit": commit_link(box, repo, told.sha), "protected": False} for name in tips],
    }


def commit_link(box: Box, repo: Repo, sha: str) -> Json:
    return {"sha": sha, "url": f"{objects.repo_api(box, repo)}/commits/{sha}"}


async def push(box: Box, event: Event) -> Json:
    repo, facts = whole(event), event.facts
    before, after = facts["before"], facts["after"]
    commits = await pushed(repo, facts["ref"], before, after)
    html = f"{box.url}/{repo.full_name}"
    told = [await pushed_commit(box, repo, commit) for commit in commits]
    head = None if after == ZEROS else await pushed_commit(box, repo, repo.git.commit(repo.git.peel(after)))
    return {
        "ref": facts["ref"],
        "before": before,
        "after": after,
        "created": before == ZEROS,
        "deleted": after == ZEROS,
        "forced": bool(facts.get("forced")),
        "base_ref": base_ref(repo, facts["ref"], after) if before == ZEROS else None,
        "compare": f"{html}/compare/{before[:12]}...{after[:12]}",
        "commits": told,
        "head_commit": head,
        "repository": pushed_repository(box, repo),
        "pusher": {"name": event.sender.login, "email": event.sender.email},
    }


async def pushed(repo: Repo, ref: str, before: str, after: str) -> list[Commit]:
    """The commits that are new on the ref: on a new one, those that the default branch does not have."""
    if after == ZEROS:
        return []
    head = repo.git.peel(after)
    base = before if before != ZEROS else repo.git.branch(repo.default_branch)
    if base is None or (ref == f"refs/heads/{repo.default_branch}" and before == ZEROS):
        return [commit for _, commit in zip(range(COMMITS), repo.git.walk(head), strict=False)][::-1]
    return await repo.git.between(repo.git.peel(base), head, limit=COMMITS)


def base_ref(repo: Repo, ref: str, after: str) -> str | None:
    """The branch that a new ref was made from, if that still stands where it stood."""
    names = [f"refs/heads/{name}" for name, sha in repo.git.branches().items() if sha == after]
    return next((name for name in names if name != ref), None)


async def pushed_commit(box: Box, repo: Repo, commit: Commit) -> Json:
    added, removed, modified = await files(repo.git, commit)
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message,
        "timestamp": gitobjects.git_time(commit.committer.date),
        "url": f"{box.url}/{repo.full_name}/commit/{commit.sha}",
        "author": signer(box, commit.author.name, commit.author.email),
        "committer": signer(box, commit.committer.name, commit.committer.email),
        "added": added,
        "removed": removed,
        "modified": modified,
    }


async def files(git: Git, commit: Commit) -> tuple[list[str], list[str], list[str]]:
    """Paths that a commit added, removed and modified against its first parent; a rename is one of each."""
    if not commit.parents:
        return [printable(path) for path in paths(git, commit.tree)], [], []
    added, removed, modified = [], [], []
    for change in await git.changes(commit.parents[0], commit.sha):
        path = printable(change.path)
        match change.status:
            case "added" | "copied":
                added.append(path)
            case "removed":
                removed.append(path)
            case "renamed":
                added.append(path)
                removed.append(printable(change.previous or ""))
            case _:
                modified.append(path)
    return added, removed, modified


def paths(git: Git, tree: str, above: str = "") -> Iterator[str]:
    for name, entry in git.tree(tree).items():
        if entry.kind == "tree":
            yield from paths(git, entry.oid, f"{above}{name}/")
        else:
            yield above + name


def signer(box: Box, name: str, email: str) -> Json:
    account = next((user for user in box.users.values() if user.email == email), None)
    return {"name": name, "email": email} | ({"username": account.login} if account else {})


def pushed_repository(box: Box, repo: Repo) -> Json:
    """In a push, unlike elsewhere, times are numbers and the owner has an address."""
    shown = objects.repository(box, repo)
    return shown | {
        "owner": shown["owner"] | {"name": repo.owner.login, "email": repo.owner.email},
        "url": shown["html_url"],
        "created_at": int(repo.created_at.timestamp()),
        "pushed_at": int(repo.pushed_at.timestamp()),
        "stargazers": 0,
        "master_branch": repo.default_branch,
    }


async def ping(box: Box, event: Event) -> Json:
    hook: Hook = event.facts["hook"]
    url = f"{objects.api(box)}/app/hook"
    if hook.repo is not None:
        url = f"{objects.repo_api(box, hook.repo)}/hooks/{hook.id}"
    about = {"type": "Repository"} if hook.app is None else {"type": "App", "app_id": hook.app.id}
    shown = about | {
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": list(hook.events),
        "config": hook_config(hook),
        "created_at": objects.time(hook.created_at),
        "updated_at": objects.time(hook.updated_at),
        "url": url,
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": {"code": None, "status": "unused", "message": None},
    }
    return {"zen": ZEN, "hook_id": hook.id, "hook": shown}


def hook_config(hook: Hook) -> Json:
    """A hook's settings as GitHub shows them: that there is a secret, not which."""
    secret = {"secret": "********"} if hook.secret else {}
    return {"content_type": hook.content_type, "insecure_ssl": str(int(hook.insecure_ssl)), "url": hook.url} | secret


async def installation(box: Box, event: Event) -> Json:
    one: Installation = event.facts["installation"]
    there = [repo for repo in box.repos.values() if repo.owner is one.account]
    reached = [repo for repo in there if one.repositories is None or repo.id in one.repositories]
    names = ("id", "node_id", "name", "full_name", "private")
    return {
        "installation": objects.installation(box, one),
        "repositories": [{name: getattr(repo, name) for name in names} for repo in reached],
    }


async def repository(box: Box, event: Event) -> Json:
    return {"changes": event.facts["changes"]} if "changes" in event.facts else {}


def organization(box: Box, owner: User) -> Json:
    url = f"{objects.api(box)}/orgs/{owner.login}"
    links = {
        name: f"{url}/{name.removesuffix('_url')}" for name in ("repos_url", "events_url", "hooks_url", "issues_url")
    }
    return links | {
        "login": owner.login,
        "id": owner.id,
        "node_id": owner.node_id,
        "url": url,
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{box.url}/avatars/{owner.id}",
        "description": "",
    }


def known(node: Any) -> Any:
    """What the webhook schemas know of a REST object; of repositories they also expect the custom properties."""
    if isinstance(node, list):
        return [known(item) for item in node]
    if not isinstance(node, dict):
        return printable(node) if isinstance(node, str) else node
    kept = {name: known(value) for name, value in node.items() if name not in REST_ONLY}
    return kept | {"custom_properties": {}} if "archive_url" in node else kept


def whole(event: Event) -> Repo:
    assert event.repo is not None, f"{event.name} is of a repository"
    return event.repo


EVENTS: dict[str, Callable[[Box, Event], Awaitable[Json]]] = {
    "installation": installation,
    "issue_comment": issue_comment,
    "ping": ping,
    "pull_request": pull_request,
    "pull_request_review": pull_request_review,
    "push": push,
    "repository": repository,
    "status": status,
}
