"""REST: a repository, its commits, comparisons, labels and collaborators."""

from __future__ import annotations

import re
from collections.abc import Iterator

from telefonistka.sandbox import gitobjects, lifecycle, objects
from telefonistka.sandbox.gitdata import REPO, commit_of
from telefonistka.sandbox.refusals import read_only
from telefonistka.sandbox.rest import ROUTES, Answer, Ask, Refused, Route, invalid, not_found, ordered, route, want
from telefonistka.sandbox.state import RANKS, Access, Label, Repo, User

COMPARED_FILES = 300
COMPARED_COMMITS = 250
DEFAULT_COLOR = "ededed"


@route("GET", REPO, "metadata:read")
async def get_repository(ask: Ask) -> Answer:
    return Answer(objects.full_repository(ask.box, ask.repo, ask.identity.user))


@route("PATCH", REPO, "administration:admin")
async def update_repository(ask: Ask) -> Answer:
    fields = await ask.json()
    ask.require(Access.ADMIN)
    if ask.repo.archived and fields.get("archived") is not False:
        raise read_only()
    if isinstance(fields.get("archived"), bool):
        await lifecycle.archive(ask.box, ask.repo, archived=fields["archived"], by=ask.user)
    if "name" in fields:
        name = want(fields, "name", str, resource="Repository")
        await lifecycle.rename(ask.box, ask.repo, name, by=ask.user)
    if "default_branch" in fields:
        branch = want(fields, "default_branch", str, resource="Repository")
        if ask.repo.git.branch(branch) is None:
            raise Refused(422, f"The branch {branch} was not found. Please push that ref first or create it.")
        await lifecycle.set_default_branch(ask.box, ask.repo, branch, by=ask.user)
    if isinstance(fields.get("private"), bool):
        ask.repo.private = fields["private"]
    for name, method in objects.MERGE_SETTINGS.items():
        if f"allow_{name}" in fields:
            (ask.repo.merge_methods.add if fields[f"allow_{name}"] else ask.repo.merge_methods.discard)(method)
    for name in ("allow_auto_merge", "delete_branch_on_merge"):
        if isinstance(fields.get(name), bool):
            setattr(ask.repo.switches, name, fields[name])
    return Answer(objects.full_repository(ask.box, ask.repo, ask.user))


async def by_id(ask: Ask) -> Answer:
    """`/repositories/{id}/…`: where a renamed repository's redirect leads; the same routes as by name."""
    repo = next((one for one in ask.box.repos.values() if one.id == ask.number("id")), None)
    if repo is None:
        raise not_found()
    rest = ask.path("rest")
    found = next(candidates(ask.request.method, rest), None)
    if found is None or not ask.identity.sees(ask.box, repo):
        raise not_found()
    one, values = found
    ask.found = repo
    ask.request.match_info.update(values)
    return await one.answer(ask)


def candidates(method: str, rest: str) -> Iterator[tuple[Route, dict[str, str]]]:
    """Routes whose path below the repository matches this rest, with the path's values."""
    for one in ordered(ROUTES):
        if one.method != method or not one.path.startswith(REPO):
            continue
        pattern = re.sub(r"\{(\w+)(?::([^}]+))?\}", lambda m: f"(?P<{m[1]}>{m[2] or '[^/]+'})", one.path[len(REPO) :])
        matched = re.fullmatch(pattern, rest)
        if matched is not None:
            yield one, matched.groupdict()


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    route(_method, "/repositories/{id}{rest:.*}")(by_id)


# Commits


@route("GET", REPO + "/commits", "contents:read")
async def list_commits(ask: Ask) -> Answer:
    start = commit_of(ask, ask.query("sha") or ask.repo.default_branch)
    path = ask.query("path")
    listed = await ask.repo.git.arun("rev-list", "--topo-order", start, *(["--", path] if path else []))
    part, headers = ask.page(listed.split())
    shown = [gitobjects.commit(ask.box, ask.repo, ask.repo.git.commit(sha)) for sha in part]
    return Answer(shown, headers=headers)


@route("GET", REPO + "/commits/{ref:.+}", "contents:read")
async def get_commit(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/commits/commits#get-a-commit: up to 3,000 files, 300 a page"""
    git = ask.repo.git
    try:
        sha = commit_of(ask, ask.path("ref"))
    except Refused as error:
        if error.status != 404:
            raise
        raise Refused(422, f"No commit found for SHA: {ask.path('ref')}") from error
    if "sha" in ask.request.headers.get("Accept", ""):
        return Answer(raw=sha.encode(), headers={"Content-Type": "application/vnd.github.sha"})
    commit = git.commit(sha)
    parent = commit.parents[0] if commit.parents else None
    changes = () if parent is None else await git.changes(parent, sha)
    part, headers = ask.page(changes[:3000])
    added, deleted = sum(one.additions for one in changes), sum(one.deletions for one in changes)
    shown = gitobjects.commit(ask.box, ask.repo, commit) | {
        "stats": {"total": added + deleted, "additions": added, "deletions": deleted},
        "files": [gitobjects.changed_file(ask.box, ask.repo, sha, change) for change in part],
    }
    return Answer(shown, headers=headers)


@route("GET", REPO + "/compare/{basehead:.+}", "contents:read")
async def compare(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/commits/commits#compare-two-commits"""
    base_name, dots, head_name = ask.path("basehead").partition("...")
    if not dots:
        raise not_found()
    git, box, repo = ask.repo.git, ask.box, ask.repo
    base, head = (commit_of(ask, name.rpartition(":")[2]) for name in (base_name, head_name))
    common = await git.merge_base(base, head)
    if common is None:
        raise Refused(404, f"No common ancestor between {base_name} and {head_name}.")
    ahead = [] if common == head else await git.between(base, head)
    behind = [] if common == base else await git.between(head, base)
    part, headers = ask.page(ahead)
    if "page" not in ask.request.query and "per_page" not in ask.request.query:
        part, headers = ahead[-COMPARED_COMMITS:], {}
    files = await git.changes(common, head) if ask.query("page", "1") == "1" else ()
    url, html = (
        f"{objects.repo_api(box, repo)}/compare/{base_name}...{head_name}",
        f"{box.url}/{repo.full_name}/compare",
    )
    shown = {
        "url": url,
        "html_url": f"{html}/{base_name}...{head_name}",
        "permalink_url": f"{html}/{base[:7]}...{head[:7]}",
        "diff_url": f"{html}/{base_name}...{head_name}.diff",
        "patch_url": f"{html}/{base_name}...{head_name}.patch",
        "base_commit": gitobjects.commit(box, repo, git.commit(base)),
        "merge_base_commit": gitobjects.commit(box, repo, git.commit(common)),
        "status": gitobjects.comparison(len(ahead), len(behind)),
        "ahead_by": len(ahead),
        "behind_by": len(behind),
        "total_commits": len(ahead),
        "commits": [gitobjects.commit(box, repo, one) for one in part],
        "files": [gitobjects.changed_file(box, repo, head, change) for change in files[:COMPARED_FILES]],
    }
    return Answer(shown, headers=headers)


# Labels


@route("GET", REPO + "/labels", "issues,pull_requests:read")
async def list_labels(ask: Ask) -> Answer:
    part, headers = ask.page(list(ask.repo.labels.values()))
    return Answer([objects.label(ask.box, ask.repo, one) for one in part], headers=headers)


@route("POST", REPO + "/labels", "issues,pull_requests:write")
async def create_label(ask: Ask) -> Answer:
    fields = await ask.json()
    ask.require(Access.WRITE)
    name = want(fields, "name", str, resource="Label")
    if name.lower() in ask.repo.labels:
        raise invalid("Label", "name", code="already_exists")
    label = await ensure_label(ask, name)
    label.color = want(fields, "color", str, resource="Label", default=DEFAULT_COLOR).lstrip("#")
    label.description = want(fields, "description", str, resource="Label", default="")
    return Answer(objects.label(ask.box, ask.repo, label), 201)


@route("GET", REPO + "/labels/{name}", "issues,pull_requests:read")
async def get_label(ask: Ask) -> Answer:
    label = ask.repo.labels.get(ask.path("name").lower())
    if label is None:
        raise not_found()
    return Answer(objects.label(ask.box, ask.repo, label))


async def ensure_label(ask: Ask, name: str) -> Label:
    """The repository's label of this name, made as GitHub makes one when it is first put on something."""
    known = ask.repo.labels.get(name.lower())
    if known is not None:
        return known
    if len(name) > 50:
        raise invalid("Label", "name", message="name is too long (maximum is 50 characters)")
    label = Label(id=ask.box.next_id(), name=name)
    ask.repo.labels[name.lower()] = label
    await ask.box.tell("label", "created", repo=ask.repo, sender=ask.user, label=label)
    return label


# Collaborators

OLD_NAMES = {Access.MAINTAIN: "write", Access.TRIAGE: "read"}  # `permission` knows four, `role_name` all


@route("GET", REPO + "/collaborators/{username}/permission", "metadata:read")
async def permission(ask: Ask) -> Answer:
    user = ask.box.user(ask.path("username"))
    if user is None:
        raise Refused(404, f"{ask.path('username')} is not a user")
    access = ask.box.access(user, ask.repo)
    shown = objects.user(ask.box, user) | {"permissions": objects.permissions(access), "role_name": str(access)}
    return Answer({"permission": OLD_NAMES.get(access, str(access)), "role_name": str(access), "user": shown})


@route("GET", REPO + "/collaborators", "metadata:read")
async def list_collaborators(ask: Ask) -> Answer:
    part, headers = ask.page(collaborators(ask, ask.repo))
    shown = []
    for user in part:
        access = ask.box.access(user, ask.repo)
        shown.append(
            objects.user(ask.box, user) | {"permissions": objects.permissions(access), "role_name": str(access)}
        )
    return Answer(shown, headers=headers)


def collaborators(ask: Ask, repo: Repo) -> list[User]:
    people = [user for user in ask.box.users.values() if user.type == "User"]
    return [user for user in people if ask.box.is_collaborator(user, repo)]


@route("GET", REPO + "/collaborators/{username}", "metadata:read")
async def is_collaborator(ask: Ask) -> Answer:
    user = ask.box.user(ask.path("username"))
    if user is None or not ask.box.is_collaborator(user, ask.repo):
        raise not_found()
    return Answer(status=204)


@route("PUT", REPO + "/collaborators/{username}", "administration:admin")
async def add_collaborator(ask: Ask) -> Answer:
    ask.require(Access.ADMIN)
    names = {"pull": "read", "push": "write"}
    asked = str((await ask.json()).get("permission", "push"))
    role = names.get(asked, asked)
    if role not in RANKS:
        raise invalid("Repository", "permission")
    ask.repo.collaborators[ask.path("username").lower()] = Access(role)
    return Answer(status=204)
