"""What happens to a whole repository, or an App there: other names, archived and opened again, suspended.

https://docs.github.com/en/repositories/creating-and-managing-repositories/renaming-a-repository
https://docs.github.com/en/repositories/archiving-a-github-repository/archiving-repositories
"""

from __future__ import annotations

from telefonistka.sandbox import automerge, moves
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Installation, Repo, User, now

HEADS = moves.HEADS


async def rename(box: Box, repo: Repo, name: str, *, by: User) -> None:
    """The repository has the new name, and requests to the old one are redirected."""
    before = repo.name
    if name == before:
        return
    box.rename(repo, name)
    changes = {"repository": {"name": {"from": before}}}
    await box.tell("repository", "renamed", repo=repo, sender=by, changes=changes)


async def archive(box: Box, repo: Repo, *, archived: bool, by: User) -> None:
    """Nobody may change anything in an archived repository but that it is archived."""
    if repo.archived is not archived:
        repo.archived = archived
        await box.tell("repository", "archived" if archived else "unarchived", repo=repo, sender=by)


async def set_default_branch(box: Box, repo: Repo, name: str, *, by: User) -> None:
    before, repo.default_branch = repo.default_branch, name
    if before != name:
        repo.git.run("symbolic-ref", "HEAD", HEADS + name)
        changes = {"default_branch": {"from": before}}
        await box.tell("repository", "edited", repo=repo, sender=by, changes=changes)


async def rename_branch(box: Box, repo: Repo, old: str, new: str, *, by: User) -> None:
    """The branch has the new name; pull requests into it follow, those from it are closed.

    https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-branches-in-your-repository/renaming-a-branch
    """
    sha = repo.git.branch(old)
    assert sha is not None, "whoever asks has looked"
    repo.git.set_ref(HEADS + new, sha, expected=None)
    if old in repo.protection:
        repo.protection[new] = repo.protection.pop(old)
    if repo.default_branch == old:
        await set_default_branch(box, repo, new, by=by)
    for pull in [one for one in repo.pulls.values() if one.state == "open" and one.base_ref == old]:
        pull.base_ref, pull.updated_at = new, now()
        changes = {"base": {"ref": {"from": old}, "sha": {"from": pull.base_sha}}}
        await box.tell("pull_request", "edited", repo=repo, sender=by, pull=pull, changes=changes)
        await automerge.disable(box, repo, pull, by=by, reason=automerge.RETARGETED)
    await moves.delete(box, repo, HEADS + old, sender=by)
    repo.renamed_branches[old] = new


async def suspend(box: Box, installation: Installation, *, suspended: bool, by: User) -> None:
    """Suspended: its tokens are refused. The App hears of it, and of nothing else until that ends.

    https://docs.github.com/en/apps/maintaining-github-apps/suspending-a-github-app-installation
    """
    if suspended is (installation.suspended_at is not None):
        return
    installation.suspended_at = now() if suspended else None
    installation.suspended_by = by if suspended else None
    await box.tell(
        "installation", "suspend" if suspended else "unsuspend", repo=None, sender=by, installation=installation
    )
