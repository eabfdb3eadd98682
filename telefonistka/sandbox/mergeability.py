"""Whether a pull request can be merged, as GitHub says it: a while after the last push, and in one word.

https://docs.github.com/en/rest/guides/using-the-rest-api-to-interact-with-your-git-database#checking-mergeability-of-pull-requests
https://docs.github.com/en/graphql/reference/enums#mergestatestatus
"""

from __future__ import annotations

from telefonistka.sandbox import gitobjects, objects, requirements
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.git import Conflict
from telefonistka.sandbox.objects import Json
from telefonistka.sandbox.state import Pull, Repo


async def mergeable(repo: Repo, pull: Pull) -> bool | None:
    """Whether the head merges into the base branch as it is now; None once it is closed."""
    base = repo.git.branch(pull.base_ref)
    if pull.state != "open" or base is None:
        return None
    try:
        await repo.git.merged_tree(base, pull.head_sha)
    except Conflict:
        return False
    return True


def computed(repo: Repo, pull: Pull, *, asking: bool) -> bool:
    """Whether GitHub has found out by now: not in the first readings (`late_mergeable`) after either branch moved.

    Asking is what makes it compute, so only that counts.
    """
    pair = (repo.git.branch(pull.base_ref) or "", pull.head_sha)
    if pull.computing != pair:
        pull.computing, pull.late = pair, repo.switches.late_mergeable
    if not pull.late:
        return True
    pull.late -= asking
    return False


async def state(box: Box, repo: Repo, pull: Pull, *, can: bool | None) -> str:
    """`mergeable_state`, of which GraphQL's mergeStateStatus is the upper case."""
    if can is None:
        return "unknown"
    if not can:
        return "dirty"
    if pull.draft:
        return "draft"
    lacks = await requirements.lacking(box, repo, pull)
    if lacks.checks or lacks.review:
        return "blocked"
    if lacks.behind:
        return "behind"
    green = set(requirements.states(repo, pull.head_sha).values()) <= {"success"}
    return "clean" if green else "unstable"


async def pull(box: Box, repo: Repo, pull: Pull, *, asking: bool = False) -> Json:
    """A pull request in full; `asking` is a reading of it, by which a late `mergeable` comes nearer."""
    changes = await gitobjects.pull_changes(repo, pull)
    can = await mergeable(repo, pull) if computed(repo, pull, asking=asking) else None
    return objects.pull_simple(box, repo, pull) | {
        "merged": pull.merged,
        "mergeable": can,
        "rebaseable": can,
        "mergeable_state": await state(box, repo, pull, can=can),
        "merged_by": None if pull.merged_by is None else objects.user(box, pull.merged_by),
        "comments": len(pull.comments),
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": len(await gitobjects.pull_commits(repo, pull)),
        "additions": sum(change.additions for change in changes),
        "deletions": sum(change.deletions for change in changes),
        "changed_files": len(changes),
    }
