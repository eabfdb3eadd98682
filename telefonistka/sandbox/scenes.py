"""Setting a scene: repositories with files in them, and commits as people make them, in one step each."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from telefonistka.sandbox import gitobjects, moves, trees
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.git import Git
from telefonistka.sandbox.odb import FILE, SUBMODULE, Entry
from telefonistka.sandbox.state import Access, Pull, Repo, Switches, User

SYMLINK = "120000"
LAX = Switches(directory_entry="replace", delete_absent="ignore")

# What a file is: its text, its bytes, None where it goes away, or one of
# {"content": …, "mode": "100755"}, {"base64": …, "mode": …}, {"symlink": "target"}, {"submodule": "<commit id>"}
File = str | bytes | Mapping[str, Any] | None
Files = Mapping[str, File]


def repository(
    box: Box,
    owner: str,
    name: str,
    files: Files | None = None,
    *,
    origin: Path | None = None,
    default_branch: str = "main",
    private: bool = False,
    switches: Mapping[str, Any] | None = None,
    collaborators: Mapping[str, str] | None = None,
) -> Repo:
    """A new repository: with one commit of these files, or a clone of `origin`, which is only read; else empty."""
    if box.repo(owner, name) is not None:
        raise ValueError(f"{owner}/{name} is there already")
    account = box.account(owner)
    number = box.next_id()
    path = box.directory / "repos" / f"{number}.git"
    if origin is not None:
        git = Git.clone(origin, path)
        default_branch = chosen_branch(git, default_branch)
    else:
        git = Git.init(path, default_branch=default_branch)
    repo = Repo(
        id=number,
        owner=account,
        name=name,
        path=path,
        git=git,
        default_branch=default_branch,
        private=private,
        collaborators={login.lower(): Access(access) for login, access in (collaborators or {}).items()},
        switches=Switches(**(switches or {})),
    )
    if files is not None and origin is None:
        first = committed(repo, None, files, "Initial commit", account)
        git.set_ref(f"refs/heads/{default_branch}", first, expected=None)
    return box.add_repo(repo)


def chosen_branch(git: Git, wanted: str) -> str:
    """The default branch of a clone: what HEAD names, else the one wanted, else the first there is."""
    branches = git.branches()
    names = [git.head(), wanted, *sorted(branches)]
    found = next((name for name in names if name in branches), wanted)
    git.run("symbolic-ref", "HEAD", f"refs/heads/{found}")
    return found


async def commit(
    box: Box,
    repo: Repo,
    files: Files,
    *,
    by: User,
    message: str = "Change",
    branch: str | None = None,
    start: str | None = None,
) -> str:
    """The new commit on the branch (the default one if none is named), made from `start` where it is a new branch."""
    name = branch or repo.default_branch
    before = repo.git.branch(name)
    parent = before or repo.git.resolve(start or repo.default_branch, repo.default_branch)
    made = committed(repo, parent, files, message, by)
    await moves.move(box, repo, f"refs/heads/{name}", made, expected=before, sender=by)
    return made


async def from_fork(box: Box, repo: Repo, files: Files, *, by: User, branch: str, title: str = "A change") -> Pull:
    """A pull request from a fork that this person has: one commit of these files, on a branch of that name there.

    The fork has no API of its own; its objects are in the repository's git, as GitHub lets them be read there.
    """
    base = repo.git.branch(repo.default_branch)
    assert base is not None, "there is something to fork"
    fork = Repo(id=box.next_id(), owner=by, name=repo.name, path=repo.path, git=repo.git)
    pull = Pull(
        id=box.next_id(),
        number=repo.next_number(),
        title=title,
        body=None,
        user=by,
        base_ref=repo.default_branch,
        base_sha=base,
        head_ref=branch,
        head_sha=committed(repo, base, files, "Change", by),
        head_repo=fork,
    )
    repo.pulls[pull.number] = pull
    moves.keep_head(repo, pull)
    await box.tell("pull_request", "opened", repo=repo, sender=by, pull=pull)
    return pull


def committed(repo: Repo, parent: str | None, files: Files, message: str, by: User) -> str:
    base = None if parent is None else repo.git.commit(parent).tree
    puts = [trees.Put(path, entry(repo.git, file)) for path, file in files.items()]
    tree = trees.create(repo.git, base, puts, LAX)
    person = gitobjects.signature_of(by)
    parents = [] if parent is None else [parent]
    return repo.git.write_commit(tree=tree, parents=parents, author=person, committer=person, message=message).sha


def entry(git: Git, file: File) -> Entry | None:
    match file:
        case None:
            return None
        case str():
            return Entry(FILE, git.write("blob", file.encode()))
        case bytes():
            return Entry(FILE, git.write("blob", file))
        case {"symlink": str(target)}:
            return Entry(SYMLINK, git.write("blob", target.encode()))
        case {"submodule": str(sha)}:
            return Entry(SUBMODULE, sha)
        case {"base64": str(content)}:
            return Entry(file.get("mode", FILE), git.write("blob", base64.b64decode(content)))
        case {"content": str(content)}:
            return Entry(file.get("mode", FILE), git.write("blob", content.encode()))
    raise ValueError(f"not a file: {file!r}")
