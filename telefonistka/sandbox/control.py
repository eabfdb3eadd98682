"""`/_sandbox/…`: setting scenes, rules for faults, the call log, and the whole state, by HTTP.

POST   /_sandbox/users    {login, access?, type?}                     → {login, token}
POST   /_sandbox/repos    {owner, name, files? | origin?, default_branch?, private?, switches?, collaborators?}
PATCH  /_sandbox/repos    {repo, switches?, collaborators?, merge_methods?, rename?, archived?, protection?, rulesets?,
                           rename_branch?, by?}
POST   /_sandbox/commits  {repo, files, by, message?, branch?, start?}  → {sha}
POST   /_sandbox/teams    {name: "org/team", members: [login]}
POST   /_sandbox/apps     {slug, owner, webhook?, secret?, permissions?, events?, repositories?} → {id, private_key, …}
PATCH  /_sandbox/apps     {id, suspended?, permissions?, by?}
DELETE /_sandbox/tokens   {token} or {login}: revoked
POST   /_sandbox/proceed  {repo}: what `hold_merges` holds is merged now
POST   /_sandbox/dequeue  {repo, number, reason?}: its checks have failed in the merge queue, say
POST   /_sandbox/hooks    {repo, url, secret?, events?, content_type?}   → {id}
GET    /_sandbox/rules · POST (see faults.py) → {id} · DELETE, ?id=
GET    /_sandbox/held?count=1&wait=10 · POST /_sandbox/release {id?, drop?}
GET    /_sandbox/calls · DELETE
GET    /_sandbox/state?repo=owner/name

Of a repository: `switches` are those of state.Switches (`allow_auto_merge`, `late_mergeable`, `hold_merges`, …);
`merge_methods` is a list of merge, squash, rebase; `protection` is {branch: rules or null}; `rulesets` is a list of
{name?, branches?, rules} that replaces those there were; `rename_branch` is [old, new]. Rules are
{checks: [context], strict, reviews, approvals, dismiss_stale, code_owners, last_push, enforce_admins, queue, methods},
all of them optional; `queue` is the merge queue's method. `by` is the login of who does it, the owner if not given.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from telefonistka.sandbox import (
    deliveries,
    faults,
    lifecycle,
    mergequeue,
    rules,
    scenes,
    statuses,
    waiting,
    webhooks,
)
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Access, Hook, Pull, Repo, User

COMMIT_ID = re.compile(r"\b[0-9a-f]{40}\b|(?<=`)[0-9a-f]{7}(?=`)")
COMMENT_ID = re.compile(r"(?<=#issuecomment-)\d+")
HERE = re.compile(r"https?://127\.0\.0\.1:\d+")
DAY = re.compile(r"\b\d{4}-\d\d-\d\d\b")

WAIT = 30  # seconds; the longest that a question for held requests waits


class Unclear(ValueError):  # noqa: N818
    """The request does not say what to do; the text says what is missing."""


Action = Callable[[Box, dict[str, Any]], Awaitable[Any]]


def routes(box: Box) -> list[web.RouteDef]:
    table: list[tuple[str, str, Action]] = [
        ("POST", "users", add_user),
        ("POST", "repos", add_repo),
        ("PATCH", "repos", change_repo),
        ("POST", "commits", add_commit),
        ("POST", "teams", add_team),
        ("POST", "apps", add_app),
        ("PATCH", "apps", change_app),
        ("DELETE", "tokens", revoke),
        ("POST", "proceed", proceed),
        ("POST", "dequeue", dequeue),
        ("POST", "hooks", add_hook),
        ("GET", "rules", list_rules),
        ("POST", "rules", add_rule),
        ("DELETE", "rules", remove_rules),
        ("GET", "held", list_held),
        ("POST", "release", release),
        ("GET", "deliveries", list_deliveries),
        ("POST", "redeliver", redeliver),
        ("PATCH", "post", change_post),
        ("GET", "calls", list_calls),
        ("DELETE", "calls", clear_calls),
        ("GET", "state", get_state),
    ]
    return [web.RouteDef(method, f"/_sandbox/{name}", served(box, action), {}) for method, name, action in table]


def served(box: Box, action: Action) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The action as an HTTP handler: JSON (and the query) in, JSON out, 422 with a reason if it is unclear."""

    async def handle(request: web.Request) -> web.Response:
        raw = await request.read()
        try:
            fields = orjson.loads(raw) if raw.strip() else {}
            answer = await action(box, {**request.query, **fields})
        except (Unclear, faults.BadRule, TypeError, ValueError) as error:
            return web.json_response({"message": str(error)}, status=422)
        except KeyError as error:
            return web.json_response({"message": f"{error} is missing"}, status=422)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    return handle


# Scenes


async def add_user(box: Box, fields: dict[str, Any]) -> Any:
    token = box.person(fields["login"], access=fields.get("access", Access.WRITE))
    return {"login": token.user.login, "token": token.value, "id": token.user.id}


async def add_repo(box: Box, fields: dict[str, Any]) -> Any:
    given = dict(fields)
    origin = given.pop("origin", None)
    repo = scenes.repository(
        box, given.pop("owner"), given.pop("name"), origin=None if origin is None else Path(origin), **given
    )
    head = repo.git.branch(repo.default_branch)
    return {"id": repo.id, "full_name": repo.full_name, "default_branch": repo.default_branch, "sha": head}


async def change_repo(box: Box, fields: dict[str, Any]) -> Any:
    repo = named(box, fields)
    repo.switches = replace(repo.switches, **fields.get("switches", {}))
    repo.collaborators |= {login.lower(): Access(access) for login, access in fields.get("collaborators", {}).items()}
    by = person(box, fields["by"]) if "by" in fields else repo.owner
    repo.merge_methods = set(fields.get("merge_methods", repo.merge_methods))
    set_rules(box, repo, fields)
    if "rename" in fields:
        await lifecycle.rename(box, repo, fields["rename"], by=by)
    if "rename_branch" in fields:
        old, new = fields["rename_branch"]
        await lifecycle.rename_branch(box, repo, old, new, by=by)
    if "archived" in fields:
        await lifecycle.archive(box, repo, archived=fields["archived"], by=by)
    return {"full_name": repo.full_name, "switches": asdict(repo.switches)}


def set_rules(box: Box, repo: Repo, fields: dict[str, Any]) -> None:
    for branch, values in fields.get("protection", {}).items():
        repo.protection.pop(branch, None)
        if values is not None:
            repo.protection[branch] = rules.parse(values)
    if "rulesets" in fields:
        repo.rulesets.clear()
    for one in fields.get("rulesets", ()):
        names = {"name": one.get("name", "ruleset"), "branches": tuple(one.get("branches", (rules.DEFAULT,)))}
        ruleset = rules.Ruleset(id=box.next_id(), rules=rules.parse(one["rules"]), **names)
        repo.rulesets[ruleset.id] = ruleset


async def add_commit(box: Box, fields: dict[str, Any]) -> Any:
    repo = named(box, fields)
    options = {name: fields[name] for name in ("message", "branch", "start") if name in fields}
    sha = await scenes.commit(box, repo, fields["files"], by=person(box, fields["by"]), **options)
    return {"sha": sha}


async def add_team(box: Box, fields: dict[str, Any]) -> Any:
    box.teams[fields["name"].lower()] = {login.lower() for login in fields["members"]}
    return {}


async def change_app(box: Box, fields: dict[str, Any]) -> Any:
    """Suspended or not: its tokens are refused, and it hears nothing more."""
    for one in [one for one in box.installations.values() if one.app.id == int(fields["id"])]:
        by = person(box, fields["by"]) if "by" in fields else one.account
        one.permissions |= fields.get("permissions", {})
        if "suspended" in fields:
            await lifecycle.suspend(box, one, suspended=fields["suspended"], by=by)
    return {}


async def revoke(box: Box, fields: dict[str, Any]) -> Any:
    gone = [
        token.value
        for token in box.tokens.values()
        if token.value == fields.get("token") or token.user.login == fields.get("login")
    ]
    for value in gone:
        del box.tokens[value]
    return {"revoked": len(gone)}


async def proceed(box: Box, fields: dict[str, Any]) -> Any:
    await waiting.proceed(box, named(box, fields))
    return {}


async def dequeue(box: Box, fields: dict[str, Any]) -> Any:
    """The pull request leaves the merge queue, as when its checks have failed there."""
    repo = named(box, fields)
    pull, reason = repo.pulls[int(fields["number"])], fields.get("reason", mergequeue.FAILED)
    await mergequeue.dequeue(box, repo, pull, by=box.account(mergequeue.BOT, type_="Bot"), reason=reason)
    return {}


async def add_app(box: Box, fields: dict[str, Any]) -> Any:
    options = {name: fields[name] for name in ("permissions", "events", "webhook") if name in fields}
    names = fields.get("repositories")
    made = box.new_app(
        fields["slug"],
        owner=fields["owner"],
        secret=fields.get("secret", ""),
        repositories=None if names is None else {named(box, {"repo": name}).id for name in names},
        **options,
    )
    return {
        "id": made.app.id,
        "slug": made.app.slug,
        "client_id": made.app.client_id,
        "installation_id": made.installation.id,
        "private_key": made.private_key,
    }


async def add_hook(box: Box, fields: dict[str, Any]) -> Any:
    """A repository's webhook, without the ping that GitHub's own API sends."""
    repo = named(box, fields)
    hook = Hook(
        id=box.next_id(),
        repo=repo,
        app=None,
        url=fields["url"],
        secret=fields.get("secret", ""),
        events=fields.get("events", ["*"]),
        content_type=fields.get("content_type", "json"),
    )
    repo.hooks[hook.id] = hook
    return {"id": hook.id}


def named(box: Box, fields: dict[str, Any]) -> Repo:
    owner, _, name = fields["repo"].partition("/")
    repo = box.repo(owner, name)
    if repo is None:
        raise Unclear(f"there is no repository {fields['repo']}")
    return repo


def person(box: Box, login: str) -> User:
    user = box.user(login)
    if user is None:
        raise Unclear(f"there is nobody called {login}")
    return user


# Faults, deliveries and calls


async def list_rules(box: Box, fields: dict[str, Any]) -> Any:
    return [asdict(rule) for rule in box.rules]


async def add_rule(box: Box, fields: dict[str, Any]) -> Any:
    return {"id": box.rules.add(**fields).id}


async def remove_rules(box: Box, fields: dict[str, Any]) -> Any:
    if "id" in fields:
        box.rules.remove(int(fields["id"]))
    else:
        box.rules.clear()
    return {}


async def list_held(box: Box, fields: dict[str, Any]) -> Any:
    wait = min(float(fields.get("wait", 0)), WAIT)
    return [held.shown() for held in await box.rules.wait_held(int(fields.get("count", 1)), wait)]


async def release(box: Box, fields: dict[str, Any]) -> Any:
    held = fields.get("id")
    return {"released": box.rules.release(None if held is None else int(held), drop=fields.get("drop") is True)}


async def list_deliveries(box: Box, fields: dict[str, Any]) -> Any:
    return [webhooks.item(delivery) | {"url": delivery.hook.url} for delivery in box.deliveries.values()]


async def redeliver(box: Box, fields: dict[str, Any]) -> Any:
    delivery = box.deliveries.get(int(fields["id"]))
    if delivery is None:
        raise Unclear(f"there is no delivery {fields['id']}")
    return {"id": deliveries.redeliver(box, delivery).id}


async def change_post(box: Box, fields: dict[str, Any]) -> Any:
    return box.post.change(**fields)


async def list_calls(box: Box, fields: dict[str, Any]) -> Any:
    return [asdict(call) for call in box.calls]


async def clear_calls(box: Box, fields: dict[str, Any]) -> Any:
    box.calls.clear()
    return {}


# State


async def get_state(box: Box, fields: dict[str, Any]) -> Any:
    return state(named(box, fields))


def state(repo: Repo) -> dict[str, Any]:
    """What two runs are compared by: everything a person would notice, without ids, times and commit ids."""
    pulls = sorted(repo.pulls.values(), key=lambda pull: (pull.head_ref, pull.base_ref, pull.number))
    return {
        "trees": {name: repo.git.commit(sha).tree for name, sha in sorted(repo.git.branches().items())},
        "pulls": [pull_state(pull) for pull in pulls],
        "statuses": statuses_state(repo),
        "labels": sorted(repo.labels),
    }


def without_ids(text: str) -> str:
    """A comment or an address without what is another one in every sandbox: where it listens, ids, days."""
    for pattern in (HERE, COMMENT_ID, COMMIT_ID, DAY):
        text = pattern.sub("…", text)
    return text


def pull_state(pull: Pull) -> dict[str, Any]:
    return {
        "number": pull.number,
        "title": pull.title,
        "body": pull.body,
        "author": pull.user.login,
        "head": pull.head_ref,
        "base": pull.base_ref,
        "state": pull.state,
        "merged": pull.merged,
        "draft": pull.draft,
        "labels": sorted(label.name for label in pull.labels),
        "assignees": sorted(user.login for user in pull.assignees),
        "requested_reviewers": sorted(user.login for user in pull.requested_reviewers),
        "reviews": [{"author": one.user.login, "state": one.state, "body": one.body} for one in pull.reviews.values()],
        "comments": [
            {"author": one.user.login, "body": without_ids(one.body), "minimized": one.minimized}
            for one in pull.comments.values()
        ],
    }


def statuses_state(repo: Repo) -> dict[str, dict[str, Any]]:
    """The final status of each context, by what the commit is called: the pull request with this head, or its tree."""
    names = {pull.head_sha: f"#{pull.number}" for pull in repo.pulls.values()}
    shown: dict[str, dict[str, Any]] = {}
    for sha in repo.statuses:
        for status in reversed(statuses.latest(repo, sha)):
            link = None if status.target_url is None else without_ids(status.target_url)
            final = {"state": status.state, "description": status.description, "target_url": link}
            shown.setdefault(names.get(sha, repo.git.commit(sha).tree), {})[status.context] = final
    return shown
