"""What the contract's tests do again and again: a branch with a commit, a pull request from it."""

from __future__ import annotations

from typing import Any

from tests.contract.conftest import REPO, GitHub


async def head(github: GitHub, branch: str = "main") -> str:
    """The commit that the branch points to."""
    return str((await github("GET", f"{REPO}/git/ref/heads/{branch}")).body["object"]["sha"])


async def root(github: GitHub, branch: str = "main") -> str:
    """The tree of the branch's commit."""
    return str((await github("GET", f"{REPO}/git/commits/{await head(github, branch)}")).body["tree"]["sha"])


async def tree(github: GitHub, entries: list[dict[str, Any]], *, base: str | None = None) -> dict[str, Any]:
    """The tree that these entries make of a base, as GitHub answers it."""
    body = {"tree": entries} | ({"base_tree": base} if base else {})
    made: dict[str, Any] = (await github("POST", f"{REPO}/git/trees", body)).body
    return made


async def commit(github: GitHub, files: dict[str, str | None], *, parent: str, message: str = "Change") -> str:
    """A commit on top of another that writes these files (None: removes them)."""
    old = (await github("GET", f"{REPO}/git/commits/{parent}")).body["tree"]["sha"]
    changed = await tree(github, [entry(path, text) for path, text in files.items()], base=old)
    body = {"message": message, "tree": changed["sha"], "parents": [parent]}
    return str((await github("POST", f"{REPO}/git/commits", body)).body["sha"])


def entry(path: str, text: str | None) -> dict[str, Any]:
    """A tree entry that writes the text, or removes the path."""
    shape = {"path": path, "mode": "100644", "type": "blob"}
    return shape | ({"sha": None} if text is None else {"content": text})


async def branch(github: GitHub, name: str, files: dict[str, str | None] | None = None, *, base: str = "main") -> str:
    """A new branch, one commit ahead of another; the commit's id."""
    sha = await commit(github, files or {f"{name}.txt": name}, parent=await head(github, base))
    await github("POST", f"{REPO}/git/refs", {"ref": f"refs/heads/{name}", "sha": sha})
    return sha


async def pull(github: GitHub, name: str, files: dict[str, str | None] | None = None) -> dict[str, Any]:
    """An open pull request from a new branch into main."""
    await branch(github, name, files)
    body = {"title": f"Add {name}", "head": name, "base": "main"}
    opened: dict[str, Any] = (await github("POST", f"{REPO}/pulls", body)).body
    return opened
