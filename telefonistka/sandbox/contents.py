"""REST: files by path. https://docs.github.com/en/rest/repos/contents"""

from __future__ import annotations

import base64
import binascii
import posixpath
from typing import Any
from urllib.parse import quote

from telefonistka.sandbox import gitobjects, moves, objects, requirements, trees
from telefonistka.sandbox.git import Locked
from telefonistka.sandbox.gitdata import REPO, commit_of, signer
from telefonistka.sandbox.objects import Json
from telefonistka.sandbox.odb import FILE, SUBMODULE, TREE, Commit, Entry
from telefonistka.sandbox.rest import Answer, Ask, Refused, not_found, printable, route, want

DIRECTORY_LIMIT = 1_000  # entries; the rest is left out without a word
JSON_LIMIT = 1_000_000  # bytes; larger files come without content
RAW_LIMIT = 100_000_000
SYMLINK = "120000"


@route("GET", REPO + "/contents/{path:.*}", "contents:read")
async def get_contents(ask: Ask) -> Answer:
    ref = ask.query("ref")
    commit = ask.repo.git.commit(commit_of(ask, ref or ask.repo.default_branch))
    path = ask.path("path").strip("/")
    found = ask.repo.git.lookup(commit.tree, path)
    if found is None:
        raise not_found()
    ref = ref or ask.repo.default_branch
    if found.mode == TREE:
        entries = list(ask.repo.git.tree(found.oid).items())[:DIRECTORY_LIMIT]
        prefix = f"{path}/" if path else ""
        return Answer([described(ask, prefix + name, entry, ref) for name, entry in entries])
    if found.mode == SYMLINK:
        path, found = followed(ask, commit, path, found)
    return file(ask, path, found, ref)


@route("GET", REPO + "/contents", "contents:read")
async def get_root(ask: Ask) -> Answer:
    ask.request.match_info["path"] = ""
    return await get_contents(ask)


def followed(ask: Ask, commit: Commit, path: str, link: Entry) -> tuple[str, Entry]:
    """What a symlink leads to, if that is a file of the repository; the link itself otherwise."""
    target = ask.repo.git.read("blob", link.oid).decode(errors="surrogateescape")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    entry = None if joined.startswith(("/", "..")) else ask.repo.git.lookup(commit.tree, joined)
    if entry is None or entry.kind != "blob" or entry.mode == SYMLINK:
        return path, link
    return joined, entry


def file(ask: Ask, path: str, entry: Entry, ref: str) -> Answer:
    shown = described(ask, path, entry, ref)
    if entry.mode == SUBMODULE:
        return Answer(shown | {"type": "submodule", "submodule_git_url": None})
    content = ask.repo.git.read("blob", entry.oid)
    if entry.mode == SYMLINK:
        return Answer(shown | {"target": content.decode(errors="replace")})
    if len(content) > RAW_LIMIT:
        raise Refused(403, "This API returns blobs up to 100 MB in size.")
    if "raw" in ask.request.headers.get("Accept", ""):
        return Answer(raw=content, headers={"Content-Type": "application/vnd.github.raw; charset=utf-8"})
    if len(content) > JSON_LIMIT:
        return Answer(shown | {"content": "", "encoding": "none"})
    return Answer(shown | {"content": base64.encodebytes(content).decode(), "encoding": "base64"})


def described(ask: Ask, path: str, entry: Entry, ref: str) -> Json:
    """One entry of a directory; a submodule is listed as a file, as GitHub does for old clients."""
    name, html = quote(printable(path)), f"{ask.box.url}/{ask.repo.full_name}"
    api = objects.repo_api(ask.box, ask.repo)
    kind = "dir" if entry.mode == TREE else "symlink" if entry.mode == SYMLINK else "file"
    git_url = f"{api}/git/{'trees' if entry.mode == TREE else 'blobs'}/{entry.oid}"
    url, html_url = f"{api}/contents/{name}?ref={ref}", f"{html}/{'tree' if kind == 'dir' else 'blob'}/{ref}/{name}"
    known = {} if entry.kind != "blob" else ask.repo.git.sizes([entry.oid])
    return {
        "name": printable(posixpath.basename(path)),
        "path": printable(path),
        "sha": entry.oid,
        "size": known.get(entry.oid, 0),
        "url": url,
        "html_url": html_url,
        "git_url": git_url,
        "download_url": None if entry.kind != "blob" else f"{html}/raw/{ref}/{name}",
        "type": kind,
        "_links": {"self": url, "git": git_url, "html": html_url},
    }


@route("PUT", REPO + "/contents/{path:.+}", "contents:write")
async def put_contents(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/repos/contents#create-or-update-file-contents"""
    fields = await ask.json()
    want(fields, "message", str, resource="Commit")
    try:
        content = base64.b64decode(fields.get("content", ""), validate=False)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Refused(422, "content is not valid Base64") from error
    path = ask.path("path")
    existing = check_sha(ask, fields, path)
    mode = FILE if existing is None or existing.mode == TREE else existing.mode
    entry = Entry(mode, ask.repo.git.write("blob", content))
    commit, branch = await committed(ask, fields, trees.Put(path, entry))
    shown = file(ask, path, entry, branch).body
    return Answer(written(ask, commit, shown), 200 if existing else 201)


@route("DELETE", REPO + "/contents/{path:.+}", "contents:write")
async def delete_contents(ask: Ask) -> Answer:
    fields = await ask.json() or dict(ask.request.query)
    if check_sha(ask, fields, ask.path("path")) is None:
        raise not_found()
    commit, _ = await committed(ask, fields, trees.Put(ask.path("path"), None))
    return Answer(written(ask, commit, None))


def written(ask: Ask, commit: Commit, content: Json | None) -> Json:
    return {"content": content, "commit": gitobjects.git_commit(ask.box, ask.repo, commit)}


def tip(ask: Ask, fields: dict[str, Any]) -> tuple[str, str | None]:
    branch = fields.get("branch") or ask.repo.default_branch
    sha = ask.repo.git.branch(branch)
    if sha is None and (branch != ask.repo.default_branch or ask.repo.git.refs("refs/heads/")):
        raise Refused(404, f"Branch {branch} not found")
    return branch, sha


def check_sha(ask: Ask, fields: dict[str, Any], path: str) -> Entry | None:
    """The file as it is. Raises 409 or 422 unless the request names its blob."""
    _, sha = tip(ask, fields)
    existing = None if sha is None else ask.repo.git.lookup(ask.repo.git.commit(sha).tree, path)
    if existing is None:
        return None
    if "sha" not in fields:
        raise Refused(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    if fields["sha"] != existing.oid:
        raise Refused(409, f"{path} does not match {fields['sha']}")
    return existing


async def committed(ask: Ask, fields: dict[str, Any], put: trees.Put) -> tuple[Commit, str]:
    """The branch has one commit more."""
    branch, before = tip(ask, fields)
    git = ask.repo.git
    base = None if before is None else git.commit(before).tree
    try:
        tree = trees.create(git, base, [put], ask.repo.switches)
    except trees.Malformed as error:
        raise Refused(422, str(error)) from error
    author = signer(ask, fields.get("author") or fields.get("committer"))
    committer = signer(ask, fields["committer"]) if fields.get("committer") else gitobjects.web_flow()
    message = fields.get("message") or f"Update {put.path}"
    commit = git.write_commit(
        tree=tree, parents=[before] if before else [], author=author, committer=committer, message=message
    )
    refusal = requirements.push_refusal(ask.box, ask.repo, branch, commit.sha, by=ask.user) if before else ""
    if refusal:
        raise Refused(409, f"Could not update file: {refusal}")
    if not fields.get("committer"):
        ask.repo.verified.add(commit.sha)
    try:
        await moves.move(ask.box, ask.repo, f"refs/heads/{branch}", commit.sha, expected=before, sender=ask.user)
    except Locked as error:
        raise Refused(409, f"{branch} was updated at the same time") from error
    return commit, branch
