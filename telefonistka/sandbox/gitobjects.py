"""Git's objects, and what is computed from them, as GitHub's JSON: commits, trees, refs, comparisons, changes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

from telefonistka.sandbox import objects
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.git import Change
from telefonistka.sandbox.objects import Json, repo_api
from telefonistka.sandbox.odb import Commit, Entry, Person
from telefonistka.sandbox.rest import printable
from telefonistka.sandbox.state import Pull, Repo, User, now

WEB_FLOW = ("GitHub", "noreply@github.com")  # commits what people do on the site

# Reading people and times


def git_time(date: str) -> str:
    """Git's "1700000000 +0100" as GitHub shows it, in UTC."""
    return str(objects.time(datetime.fromtimestamp(int(date.split(" ")[0]), UTC)))


def to_git_time(text: str | None) -> str:
    """An ISO 8601 time, or now, as git writes it. Raises ValueError."""
    moment = now() if text is None else datetime.fromisoformat(text)
    offset = moment.utcoffset() or timedelta()
    zone = moment.replace(tzinfo=moment.tzinfo or timezone(offset)).strftime("%z")
    return f"{int(moment.timestamp())} {zone}"


def signature_of(user: User) -> Person:
    return Person(user.name or user.login, user.email, to_git_time(None))


def web_flow() -> Person:
    return Person(*WEB_FLOW, to_git_time(None))


def account(box: Box, person: Person) -> User | None:
    """The account whose noreply address signed, if any."""
    return next((user for user in box.users.values() if user.email == person.email), None)


# Commits


def person(one: Person) -> Json:
    return {"name": printable(one.name), "email": printable(one.email), "date": git_time(one.date)}


def verification(repo: Repo, commit: Commit) -> Json:
    if commit.sha not in repo.verified:
        return {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    return {
        "verified": True,
        "reason": "valid",
        "signature": "-----BEGIN PGP SIGNATURE-----\n\nsandbox\n-----END PGP SIGNATURE-----\n",
        "payload": f"tree {commit.tree}\n",
        "verified_at": git_time(commit.committer.date),
    }


def git_commit(box: Box, repo: Repo, commit: Commit) -> Json:
    """A commit as `git/commits` shows it."""
    url, html = repo_api(box, repo), f"{box.url}/{repo.full_name}"
    return {
        "sha": commit.sha,
        "node_id": f"C_{repo.id}_{commit.sha}",
        "url": f"{url}/git/commits/{commit.sha}",
        "html_url": f"{html}/commit/{commit.sha}",
        "author": person(commit.author),
        "committer": person(commit.committer),
        "tree": {"sha": commit.tree, "url": f"{url}/git/trees/{commit.tree}"},
        "message": printable(commit.message),
        "parents": [
            {"sha": sha, "url": f"{url}/git/commits/{sha}", "html_url": f"{html}/commit/{sha}"}
            for sha in commit.parents
        ],
        "verification": verification(repo, commit),
    }


def commit(box: Box, repo: Repo, one: Commit) -> Json:
    """A commit as the rest of the API shows it: git's part inside, the accounts beside."""
    url, html = repo_api(box, repo), f"{box.url}/{repo.full_name}"
    author, committer = account(box, one.author), account(box, one.committer)
    inner = git_commit(box, repo, one)
    kept = ("author", "committer", "message", "tree", "url", "verification")
    return {
        "sha": one.sha,
        "node_id": inner["node_id"],
        "commit": {name: inner[name] for name in kept} | {"comment_count": 0},
        "url": f"{url}/commits/{one.sha}",
        "html_url": inner["html_url"],
        "comments_url": f"{url}/commits/{one.sha}/comments",
        "author": None if author is None else objects.user(box, author),
        "committer": None if committer is None else objects.user(box, committer),
        "parents": [
            {"sha": sha, "url": f"{url}/commits/{sha}", "html_url": f"{html}/commit/{sha}"} for sha in one.parents
        ],
    }


def changed_file(box: Box, repo: Repo, sha: str, change: Change) -> Json:
    path = quote(printable(change.path))
    html = f"{box.url}/{repo.full_name}"
    shown = {
        "sha": change.oid,
        "filename": printable(change.path),
        "status": change.status,
        "additions": change.additions,
        "deletions": change.deletions,
        "changes": change.additions + change.deletions,
        "blob_url": f"{html}/blob/{sha}/{path}",
        "raw_url": f"{html}/raw/{sha}/{path}",
        "contents_url": f"{repo_api(box, repo)}/contents/{path}?ref={sha}",
    }
    if change.previous is not None:
        shown["previous_filename"] = printable(change.previous)
    return shown


def comparison(ahead: int, behind: int) -> str:
    if ahead and behind:
        return "diverged"
    return "ahead" if ahead else "behind" if behind else "identical"


# Trees, blobs, refs


def tree(box: Box, repo: Repo, oid: str, entries: Sequence[tuple[str, Entry]], *, truncated: bool) -> Json:
    url = f"{repo_api(box, repo)}/git"
    sizes = repo.git.sizes(entry.oid for _, entry in entries if entry.kind == "blob")
    shown = []
    for path, entry in entries:
        one: Json = {"path": printable(path), "mode": entry.mode, "type": entry.kind, "sha": entry.oid}
        match entry.kind:
            case "blob":
                one |= {"size": sizes.get(entry.oid, 0), "url": f"{url}/blobs/{entry.oid}"}
            case "tree":
                one["url"] = f"{url}/trees/{entry.oid}"
        shown.append(one)
    return {"sha": oid, "url": f"{url}/trees/{oid}", "tree": shown, "truncated": truncated}


def blob(box: Box, repo: Repo, oid: str, content: bytes) -> Json:
    return {
        "sha": oid,
        "node_id": f"B_{repo.id}_{oid}",
        "size": len(content),
        "url": f"{repo_api(box, repo)}/git/blobs/{oid}",
        "content": base64.encodebytes(content).decode(),
        "encoding": "base64",
    }


def ref(box: Box, repo: Repo, name: str, oid: str) -> Json:
    found = repo.git.find(oid)
    kind = "commit" if found is None else found[0]
    return {
        "ref": name,
        "node_id": f"REF_{repo.id}_{name}",
        "url": f"{repo_api(box, repo)}/git/{quote(name)}",
        "object": {"sha": oid, "type": kind, "url": f"{repo_api(box, repo)}/git/{kind}s/{oid}"},
    }


# What git says of pull requests


async def pull_base(repo: Repo, pull: Pull) -> str:
    """The commit that the pull request's changes are counted from: where its head left the base branch."""
    tip = repo.git.branch(pull.base_ref) if pull.state == "open" else None
    base = tip or pull.base_sha
    return await repo.git.merge_base(base, pull.head_sha) or base


async def pull_changes(repo: Repo, pull: Pull) -> tuple[Change, ...]:
    return await repo.git.changes(await pull_base(repo, pull), pull.head_sha)


async def pull_commits(repo: Repo, pull: Pull) -> list[Commit]:
    return await repo.git.between(await pull_base(repo, pull), pull.head_sha, limit=250)
