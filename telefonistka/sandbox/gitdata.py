"""REST: git's database — trees, commits, refs, blobs. https://docs.github.com/en/rest/git"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from telefonistka.sandbox import gitobjects, moves, requirements, trees
from telefonistka.sandbox.git import Locked, valid_ref
from telefonistka.sandbox.odb import KINDS, OBJECT_ID, SUBMODULE, Commit, Entry, Missing, Person
from telefonistka.sandbox.rest import Answer, Ask, Refused, not_found, route, want
from telefonistka.sandbox.state import Repo

REPO = "/repos/{owner}/{repo}"


# Trees


@route("GET", REPO + "/git/trees/{sha:.+}", "contents:read")
async def get_tree(ask: Ask) -> Answer:
    git, switches = ask.repo.git, ask.repo.switches
    oid = tree_of(ask, ask.path("sha"))
    recursive = "recursive" in ask.request.query  # whatever its value, as GitHub documents
    count = ask.quirks.get("truncated", switches.tree_limit) if recursive else switches.tree_limit
    entries = trees.listing(git, oid, recursive=recursive)
    kept, truncated = trees.limited(entries, count=count, size=switches.tree_limit_bytes)
    return Answer(gitobjects.tree(ask.box, ask.repo, oid, kept, truncated=truncated))


def tree_of(ask: Ask, text: str) -> str:
    """The tree that a tree id, a commit id or a ref stands for."""
    git = ask.repo.git
    if OBJECT_ID.fullmatch(text) and git.is_a("tree", text):
        return text
    return git.commit(commit_of(ask, text)).tree


def commit_of(ask: Ask, text: str) -> str:
    """The commit that a ref or an id stands for. Raises 404, or 409 in an empty repository."""
    git = ask.repo.git
    try:
        sha = git.resolve(text, ask.repo.default_branch)
    except Missing as error:
        raise not_found() if git.refs() else Refused(409, "Git Repository is empty.") from error
    return stale(ask, sha)


def stale(ask: Ask, sha: str) -> str:
    """The commit itself, or the one before it where a rule makes ref reads lag behind."""
    if "stale" not in ask.quirks:
        return sha
    before = {ask.repo.git.ref(name): old for name, old in ask.repo.before.items()}
    return before.get(sha, sha)


@route("POST", REPO + "/git/trees", "contents:write")
async def create_tree(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/git/trees#create-a-tree"""
    fields = await ask.json()
    entries = want(fields, "tree", list, resource="Tree")
    if not entries:
        raise Refused(422, "Invalid tree info")
    base = base_tree(ask, fields.get("base_tree"))
    puts = [put_of(ask.repo, entry) for entry in entries]
    try:
        oid = trees.create(ask.repo.git, base, puts, ask.repo.switches)
    except trees.Malformed as error:
        raise Refused(422, str(error)) from error
    listed = list(trees.listing(ask.repo.git, oid, recursive=False))
    return Answer(gitobjects.tree(ask.box, ask.repo, oid, listed, truncated=False), 201)


def base_tree(ask: Ask, sha: Any) -> str | None:
    if sha is None:
        return None
    git = ask.repo.git
    if isinstance(sha, str) and git.is_a("tree", sha):
        return sha
    if isinstance(sha, str) and git.is_a("commit", sha):
        return git.commit(sha).tree
    raise Refused(422, "base_tree is not a valid tree oid")


def put_of(repo: Repo, fields: Any) -> trees.Put:
    """What one entry of the request asks for. Raises 422."""
    if not isinstance(fields, dict) or not isinstance(fields.get("path"), str):
        raise Refused(422, "Must supply a valid tree.path")
    path, content = fields["path"], fields.get("content")
    if "sha" in fields and fields["sha"] is None and content is None:
        return trees.Put(path, None)  # mode and type do not matter when something is deleted
    mode = fields.get("mode")
    kind = KINDS.get(mode) if isinstance(mode, str) else None
    if not isinstance(mode, str) or kind is None:
        raise Refused(422, "Must supply a valid tree.mode")
    if fields.get("type", kind) != kind:
        raise Refused(422, f"tree.type {fields['type']} does not match tree.mode {mode}")
    if content is not None:
        return trees.Put(path, written(repo, kind, mode, content, also_sha=fields.get("sha") is not None))
    sha = fields.get("sha")
    if not isinstance(sha, str):
        raise Refused(422, "Must supply either tree.sha or tree.content")
    if not OBJECT_ID.fullmatch(sha) or (mode != SUBMODULE and not repo.git.is_a(kind, sha)):
        raise Refused(422, f"tree.sha {sha} is not a valid {kind}")
    return trees.Put(path, Entry(mode, sha))


def written(repo: Repo, kind: str, mode: str, content: Any, *, also_sha: bool) -> Entry:
    if also_sha:
        raise Refused(422, "Must supply either tree.sha or tree.content, not both")
    if kind != "blob" or not isinstance(content, str):
        raise Refused(422, "tree.content is only valid for blobs")
    return Entry(mode, repo.git.write("blob", content.encode()))


# Commits


@route("GET", REPO + "/git/commits/{sha}", "contents:read")
async def get_commit(ask: Ask) -> Answer:
    return Answer(gitobjects.git_commit(ask.box, ask.repo, known_commit(ask, ask.path("sha"))))


def known_commit(ask: Ask, sha: str) -> Commit:
    try:
        return ask.repo.git.commit(sha)
    except Missing as error:
        raise not_found() from error


@route("POST", REPO + "/git/commits", "contents:write")
async def create_commit(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/git/commits#create-a-commit"""
    fields = await ask.json()
    git = ask.repo.git
    message = want(fields, "message", str, resource="Commit")
    tree = want(fields, "tree", str, resource="Commit")
    parents = want(fields, "parents", list, resource="Commit", default=[])
    if not git.is_a("tree", tree):
        raise Refused(422, "Tree SHA does not exist")
    if not all(isinstance(parent, str) and git.is_a("commit", parent) for parent in parents):
        raise Refused(422, "Parent SHA does not exist or is not a commit object")
    author = signer(ask, fields.get("author"))
    committer = signer(ask, fields.get("committer") or fields.get("author"))
    made = git.write_commit(tree=tree, parents=parents, author=author, committer=committer, message=message)
    if ask.user.type == "Bot" and not {"author", "committer", "signature"} & fields.keys():
        ask.repo.verified.add(made.sha)
    return Answer(gitobjects.git_commit(ask.box, ask.repo, made), 201)


def signer(ask: Ask, given: Any) -> Person:
    """The person given, or the one who asks. Raises 422."""
    if given is None:
        return gitobjects.signature_of(ask.user)
    if not isinstance(given, dict) or not all(isinstance(given.get(key), str) for key in ("name", "email")):
        raise Refused(422, 'Invalid request.\n\n"email", "name" weren\'t supplied.')
    try:
        return Person(given["name"], given["email"], gitobjects.to_git_time(given.get("date")))
    except (TypeError, ValueError) as error:
        raise Refused(422, "Invalid request.\n\nThe date is not a timestamp in ISO 8601 format.") from error


# Refs


@route("GET", REPO + "/git/ref/{ref:.+}", "contents:read")
async def get_ref(ask: Ask) -> Answer:
    name = full_name(ask.path("ref"))
    oid = ask.repo.git.ref(name)
    if oid is None:
        raise not_found()
    return Answer(gitobjects.ref(ask.box, ask.repo, name, stale(ask, oid)))


@route("GET", REPO + "/git/matching-refs/{ref:.*}", "contents:read")
async def matching_refs(ask: Ask) -> Answer:
    found = sorted(ask.repo.git.refs(full_name(ask.path("ref"))).items())
    part, headers = ask.page(found)
    return Answer([gitobjects.ref(ask.box, ask.repo, name, stale(ask, oid)) for name, oid in part], headers=headers)


@route("POST", REPO + "/git/refs", "contents:write")
async def create_ref(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/git/refs#create-a-reference"""
    fields = await ask.json()
    name = want(fields, "ref", str, resource="Reference")
    sha = want(fields, "sha", str, resource="Reference")
    if not name.startswith("refs/") or not valid_ref(name):
        raise Refused(422, f"{name} is not a valid ref name.")
    check_target(ask.repo, name, sha)
    if ask.repo.git.ref(name) is not None:
        raise Refused(422, "Reference already exists")
    await moved(ask, name, sha, expected=None)
    shown = gitobjects.ref(ask.box, ask.repo, name, sha)
    return Answer(shown, 201, {"Location": shown["url"]})


@route("PATCH", REPO + "/git/refs/{ref:.+}", "contents:write")
async def update_ref(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/git/refs#update-a-reference"""
    fields = await ask.json()
    name = full_name(ask.path("ref"))
    sha = want(fields, "sha", str, resource="Reference")
    before = ask.repo.git.ref(name)
    if before is None:
        raise Refused(422, "Reference does not exist")
    check_target(ask.repo, name, sha)
    if not fields.get("force") and not await ask.repo.git.contains(sha, before):
        raise Refused(422, "Update is not a fast forward")
    refusal = requirements.push_refusal(ask.box, ask.repo, name.removeprefix("refs/heads/"), sha, by=ask.user)
    if refusal:
        raise Refused(422, refusal)
    await moved(ask, name, sha, expected=before)
    return Answer(gitobjects.ref(ask.box, ask.repo, name, sha))


@route("DELETE", REPO + "/git/refs/{ref:.+}", "contents:write")
async def delete_ref(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/git/refs#delete-a-reference"""
    name = full_name(ask.path("ref"))
    before = ask.repo.git.ref(name)
    if before is None:
        raise Refused(422, "Reference does not exist")
    if name == f"refs/heads/{ask.repo.default_branch}":
        raise Refused(422, "Cannot delete the default branch")
    if name.removeprefix("refs/heads/") in ask.repo.protection:
        raise Refused(422, "Cannot delete this protected branch")
    await moves.delete(ask.box, ask.repo, name, sender=ask.user)
    return Answer(status=204)


def full_name(ref: str) -> str:
    return ref if ref.startswith("refs/") else f"refs/{ref}"


def check_target(repo: Repo, name: str, sha: str) -> None:
    if not OBJECT_ID.fullmatch(sha):
        raise Refused(422, "The sha parameter must be exactly 40 characters and contain only [0-9a-f].")
    found = repo.git.find(sha)
    if found is None or (name.startswith("refs/heads/") and found[0] != "commit"):
        raise Refused(422, "Object does not exist")


async def moved(ask: Ask, name: str, sha: str, *, expected: str | None) -> None:
    try:
        await moves.move(ask.box, ask.repo, name, sha, expected=expected, sender=ask.user)
    except Locked as error:
        raise Refused(422, "Reference cannot be updated") from error


# Blobs


@route("GET", REPO + "/git/blobs/{sha}", "contents:read")
async def get_blob(ask: Ask) -> Answer:
    oid = ask.path("sha")
    try:
        content = ask.repo.git.read("blob", oid)
    except Missing as error:
        raise not_found() from error
    if "raw" in ask.request.headers.get("Accept", ""):
        return Answer(raw=content, headers={"Content-Type": "application/vnd.github.raw; charset=utf-8"})
    return Answer(gitobjects.blob(ask.box, ask.repo, oid, content))


@route("POST", REPO + "/git/blobs", "contents:write")
async def create_blob(ask: Ask) -> Answer:
    fields = await ask.json()
    content = want(fields, "content", str, resource="Blob")
    encoding = want(fields, "encoding", str, resource="Blob", default="utf-8")
    try:
        raw = base64.b64decode(content) if encoding == "base64" else content.encode()
    except binascii.Error as error:
        raise Refused(422, "content is not valid Base64") from error
    oid = ask.repo.git.write("blob", raw)
    url = gitobjects.blob(ask.box, ask.repo, oid, b"")["url"]
    return Answer({"sha": oid, "url": url}, 201, {"Location": url})
