"""REST: pull requests. https://docs.github.com/en/rest/pulls/pulls"""

from __future__ import annotations

from typing import Any

from telefonistka.sandbox import automerge, gitobjects, mergeability, merging, moves, objects
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.git import Conflict
from telefonistka.sandbox.gitdata import REPO
from telefonistka.sandbox.rest import Answer, Ask, Refused, invalid, route, want
from telefonistka.sandbox.state import Access, Pull, Repo, now

TITLE_LIMIT = 256
BODY_LIMIT = 65_536  # characters


@route("POST", REPO + "/pulls", "pull_requests:write")
async def create_pull(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request"""
    fields = await ask.json()
    title = want(fields, "title", str, resource="Issue")
    check_texts(title, fields.get("body"))
    head, head_sha = named_branch(ask, fields, "head")
    base, base_sha = named_branch(ask, fields, "base")
    if await ask.repo.git.contains(base_sha, head_sha):
        raise custom(f"No commits between {base} and {head}")
    # Nothing is awaited from here to the entry in the book, so of two at once one is refused.
    if any((one.head_ref, one.base_ref) == (head, base) for one in still_open(ask.repo)):
        raise custom(f"A pull request already exists for {ask.repo.owner.login}:{head}.")
    token = ask.identity.token
    pull = Pull(
        id=ask.box.next_id(),
        number=ask.repo.next_number(),
        title=title,
        body=fields.get("body"),
        user=ask.user,
        app=token.installation.app if token is not None and token.installation is not None else None,
        base_ref=base,
        base_sha=base_sha,
        head_ref=head,
        head_sha=head_sha,
        draft=fields.get("draft") is True,
    )
    ask.repo.pulls[pull.number] = pull
    moves.keep_head(ask.repo, pull)
    await ask.box.tell("pull_request", "opened", repo=ask.repo, sender=ask.user, pull=pull)
    shown = await mergeability.pull(ask.box, ask.repo, pull)
    return Answer(shown, 201, {"Location": shown["url"]})


def still_open(repo: Repo) -> list[Pull]:
    return [pull for pull in repo.pulls.values() if pull.state == "open"]


def custom(message: str) -> Refused:
    return Refused(422, "Validation Failed", errors=[{"resource": "PullRequest", "code": "custom", "message": message}])


def check_texts(title: Any, body: Any) -> None:
    if title is not None and (not isinstance(title, str) or not title.strip()):
        raise invalid("Issue", "title", code="missing_field")
    if title is not None and len(title) > TITLE_LIMIT:
        raise invalid("Issue", "title", message=f"title is too long (maximum is {TITLE_LIMIT} characters)")
    if body is not None and not isinstance(body, str):
        raise invalid("Issue", "body")
    if body is not None and len(body) > BODY_LIMIT:
        raise invalid("Issue", "body", message=f"body is too long (maximum is {BODY_LIMIT} characters)")


def named_branch(ask: Ask, fields: dict[str, Any], side: str) -> tuple[str, str]:
    """Name and commit of the branch that `head` or `base` names. Raises 422."""
    given = want(fields, side, str, resource="PullRequest")
    owner, colon, name = given.rpartition(":")
    name = name.removeprefix("refs/heads/")
    sha = ask.repo.git.branch(name)
    if sha is None or (colon and owner.lower() != ask.repo.owner.login.lower()):
        raise invalid("PullRequest", side)
    return name, sha


@route("GET", REPO + "/pulls", "pull_requests:read")
async def list_pulls(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/pulls/pulls#list-pull-requests"""
    chosen = [pull for pull in ask.repo.pulls.values() if matches(ask, pull)]
    key = "updated_at" if ask.query("sort") == "updated" else "created_at"
    descending = ask.query("direction", "asc" if ask.query("sort") not in ("", "created") else "desc") == "desc"
    chosen.sort(key=lambda pull: (getattr(pull, key), pull.number), reverse=descending)
    part, headers = ask.page(chosen)
    return Answer([objects.pull_simple(ask.box, ask.repo, pull) for pull in part], headers=headers)


def matches(ask: Ask, pull: Pull) -> bool:
    state, head, base = ask.query("state", "open"), ask.query("head"), ask.query("base")
    if state != "all" and pull.state != state:
        return False
    if base and pull.base_ref != base:
        return False
    owner, colon, name = head.partition(":")
    if not colon:  # GitHub ignores a head without its owner
        return True
    return owner.lower() == (pull.head_repo or ask.repo).owner.login.lower() and name == pull.head_ref


@route("GET", REPO + "/pulls/{number}", "pull_requests:read")
async def get_pull(ask: Ask) -> Answer:
    if "diff" in ask.request.headers.get("Accept", ""):
        return await diff(ask)
    return Answer(await mergeability.pull(ask.box, ask.repo, ask.pull(), asking=True))


async def diff(ask: Ask) -> Answer:
    pull = ask.pull()
    patch = await ask.repo.git.patch(await gitobjects.pull_base(ask.repo, pull), pull.head_sha)
    return Answer(raw=patch.encode(), headers={"Content-Type": "application/vnd.github.diff; charset=utf-8"})


@route("PATCH", REPO + "/pulls/{number}", "pull_requests:write")
async def update_pull(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/pulls/pulls#update-a-pull-request"""
    fields, pull = await ask.json(), ask.pull()
    if ask.user is not pull.user:
        ask.require(Access.WRITE)
    check_texts(fields.get("title"), fields.get("body"))
    changes = edit_texts(pull, fields)
    if "base" in fields and fields["base"] != pull.base_ref:
        name, sha = named_branch(ask, fields, "base")
        changes["base"] = {"ref": {"from": pull.base_ref}, "sha": {"from": pull.base_sha}}
        pull.base_ref, pull.base_sha = name, sha
        await automerge.disable(ask.box, ask.repo, pull, by=ask.user, reason=automerge.RETARGETED)
    if changes:
        pull.updated_at = now()
        await ask.box.tell("pull_request", "edited", repo=ask.repo, sender=ask.user, pull=pull, changes=changes)
    if "state" in fields:
        await set_state(ask, pull, want(fields, "state", str, resource="PullRequest"))
    return Answer(await mergeability.pull(ask.box, ask.repo, pull))


def edit_texts(pull: Pull, fields: dict[str, Any]) -> dict[str, Any]:
    """What differs from before, as the `edited` event tells it."""
    changes: dict[str, Any] = {}
    for name in ("title", "body"):
        before = getattr(pull, name)
        if name in fields and fields[name] != before:
            changes[name] = {"from": before or ""}
            setattr(pull, name, fields[name])
    return changes


async def set_state(ask: Ask, pull: Pull, state: str) -> None:
    """Open or closed as asked. Raises 422 where a pull request cannot be reopened."""
    if state not in ("open", "closed"):
        raise invalid("PullRequest", "state")
    if state == pull.state:
        return
    if state == "closed":
        await moves.close(ask.box, ask.repo, pull, sender=ask.user)
        return
    head = ask.repo.git.branch(pull.head_ref)
    if pull.merged or head is None:
        reason = "The pull request was merged." if pull.merged else f"The {pull.head_ref} branch has been deleted."
        raise invalid("PullRequest", "state", message=f"state cannot be changed. {reason}")
    if any((one.head_ref, one.base_ref) == (pull.head_ref, pull.base_ref) for one in still_open(ask.repo)):
        message = f"state cannot be changed. There is already an open pull request from {pull.head_ref}."
        raise invalid("PullRequest", "state", message=message)
    pull.state, pull.closed_at, pull.updated_at, pull.head_sha = "open", None, now(), head
    moves.keep_head(ask.repo, pull)
    await ask.box.tell("pull_request", "reopened", repo=ask.repo, sender=ask.user, pull=pull)


@route("GET", REPO + "/pulls/{number}/files", "pull_requests:read")
async def list_files(ask: Ask) -> Answer:
    """At most 3,000, without a word of the rest: https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files"""
    pull = ask.pull()
    changes = await gitobjects.pull_changes(ask.repo, pull)
    part, headers = ask.page(changes[: ask.repo.switches.pull_files_limit])
    shown = [gitobjects.changed_file(ask.box, ask.repo, pull.head_sha, change) for change in part]
    return Answer(shown, headers=headers)


@route("GET", REPO + "/pulls/{number}/commits", "pull_requests:read")
async def list_commits(ask: Ask) -> Answer:
    part, headers = ask.page(await gitobjects.pull_commits(ask.repo, ask.pull()))
    return Answer([gitobjects.commit(ask.box, ask.repo, commit) for commit in part], headers=headers)


@route("GET", REPO + "/pulls/{number}/merge", "pull_requests:read")
async def is_merged(ask: Ask) -> Answer:
    if not ask.pull().merged:
        raise Refused(404, "Not Found")
    return Answer(status=204)


@route("PUT", REPO + "/pulls/{number}/merge", "contents:write")
async def merge_pull(ask: Ask) -> Answer:
    fields, pull, switches = await ask.json(), ask.pull(), ask.repo.switches
    ask.require(Access.WRITE)
    if switches.base_modified and pull.state == "open" and fields.get("sha", pull.head_sha) == pull.head_sha:
        switches.base_modified -= 1
        raise Refused(405, "Base branch was modified. Review and try the merge again.")
    sha = await merging.merge(
        ask.box,
        ask.repo,
        pull,
        by=ask.user,
        method=fields.get("merge_method") or "merge",
        title=fields.get("commit_title"),
        message=fields.get("commit_message"),
        sha=fields.get("sha"),
    )
    return Answer({"sha": sha, "merged": True, "message": "Pull Request successfully merged"})


@route("PUT", REPO + "/pulls/{number}/update-branch", "pull_requests:write")
async def update_branch(ask: Ask) -> Answer:
    """The base branch merged into the head: https://docs.github.com/en/rest/pulls/pulls#update-a-pull-request-branch"""
    fields, pull, git = await ask.json(), ask.pull(), ask.repo.git
    ask.require(Access.WRITE)
    if fields.get("expected_head_sha", pull.head_sha) != pull.head_sha:
        raise Refused(422, "expected head sha didn’t match current head ref.")
    base = git.branch(pull.base_ref)
    if base is None or await git.contains(pull.head_sha, base):
        raise Refused(422, "There are no new commits on the base branch.")
    try:
        tree = await git.merged_tree(base, pull.head_sha)
    except Conflict as error:
        raise Refused(422, "merge conflict between base and head") from error
    commit = git.write_commit(
        tree=tree,
        parents=[pull.head_sha, base],
        author=gitobjects.signature_of(ask.user),
        committer=gitobjects.web_flow(),
        message=f"Merge branch '{pull.base_ref}' into {pull.head_ref}",
    )
    ref = f"refs/heads/{pull.head_ref}"
    await moves.move(ask.box, ask.repo, ref, commit.sha, expected=pull.head_sha, sender=ask.user)
    return Answer({"message": "Updating pull request branch.", "url": address(ask.box, ask.repo, pull)}, 202)


def address(box: Box, repo: Repo, pull: Pull) -> str:
    return f"{objects.repo_api(box, repo)}/pulls/{pull.number}"
