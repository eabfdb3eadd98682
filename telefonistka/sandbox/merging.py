"""Merging a pull request: by merge commit, squashed, or rebased. https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request"""

from __future__ import annotations

from telefonistka.sandbox import gitobjects, moves, requirements, rules
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.git import Conflict, Locked
from telefonistka.sandbox.rest import Refused
from telefonistka.sandbox.state import Access, Pull, Repo, User, now

REFUSED_METHODS = {
    "merge": "Merge commits are not allowed on this repository.",
    "squash": "Squash merges are not allowed on this repository.",
    "rebase": "Rebase merges are not allowed on this repository.",
}


async def merge(
    box: Box,
    repo: Repo,
    pull: Pull,
    *,
    by: User,
    method: str = "merge",
    title: str | None = None,
    message: str | None = None,
    sha: str | None = None,
    queued: bool = False,
) -> str:
    """The commit that the base branch points to now. Raises Refused with 405 or 409 as GitHub does.

    `queued` is a merge by the merge queue, which brings the head up to date by itself.
    """
    check(repo, pull, method, sha)
    await check_rules(box, repo, pull, by=by, queued=queued)
    head = pull.head_sha
    base = repo.git.branch(pull.base_ref)
    if base is None:
        raise Refused(405, "Pull Request is not mergeable")
    try:
        commit = await prepared(repo, pull, base, by=by, method=method, title=title, message=message)
    except Conflict as error:
        raise Refused(405, "Pull Request is not mergeable") from error
    ref = f"refs/heads/{pull.base_ref}"
    if pull.state != "open":  # someone else merged it meanwhile
        raise Refused(405, "Pull Request is not mergeable")
    if pull.head_sha != head:
        raise Refused(409, "Head branch was modified. Review and try the merge again.")
    try:
        repo.git.set_ref(ref, commit, expected=base)
    except Locked as error:
        raise Refused(405, "Base branch was modified. Review and try the merge again.") from error
    pull.state = "closed"  # before anyone looks at what the push has merged
    pull.merge_commit_sha, pull.merged_by = commit, by
    if not repo.switches.stale_base:
        pull.base_sha = base
    pull.merged_at = pull.closed_at = pull.updated_at = now()
    await moves.moved(box, repo, ref, base, commit, sender=by)
    await box.tell("pull_request", "closed", repo=repo, sender=by, pull=pull)
    ours = pull.head_repo is None and repo.git.branch(pull.head_ref) is not None
    if repo.switches.delete_branch_on_merge and ours:
        await moves.delete(box, repo, f"refs/heads/{pull.head_ref}", sender=by)
    return commit


def check(repo: Repo, pull: Pull, method: str, sha: str | None) -> None:
    if pull.state != "open":
        raise Refused(405, "Pull Request is not mergeable")
    if pull.draft:
        raise Refused(405, "Pull Request is still a work in progress")
    if method not in REFUSED_METHODS:
        raise Refused(422, f"Invalid request.\n\n{method} is not a member of [merge, squash, rebase].")
    if method not in allowed_methods(repo, pull.base_ref):
        raise Refused(405, REFUSED_METHODS[method])
    if sha is not None and sha != pull.head_sha:
        raise Refused(409, "Head branch was modified. Review and try the merge again.")


def allowed_methods(repo: Repo, branch: str) -> set[str]:
    """The repository's, narrowed by the branch's rules."""
    narrowed = rules.of(repo, branch).methods
    return repo.merge_methods & set(narrowed) if narrowed else repo.merge_methods


async def check_rules(box: Box, repo: Repo, pull: Pull, *, by: User, queued: bool) -> None:
    """Nothing is missing of what the base branch asks, or the person may pass that over. Raises 405 with all of it."""
    asked = rules.of(repo, pull.base_ref)
    if not asked.enforce_admins and box.access(by, repo) is Access.ADMIN:
        return
    sentences = [] if queued else list((await requirements.lacking(box, repo, pull)).sentences)
    if asked.queue and not queued:
        sentences.append("Changes must be made through the merge queue")
    if not sentences:
        return
    if pull.base_ref in repo.protection:
        raise Refused(405, " ".join(sentences))
    raise Refused(405, "Repository rule violations found\n\n" + "".join(f"{one}\n\n" for one in sentences))


async def prepared(
    repo: Repo, pull: Pull, base: str, *, by: User, method: str, title: str | None, message: str | None
) -> str:
    """The commit to which the base branch will move; nothing points to it yet."""
    if method == "rebase":
        return await repo.git.rebased(base, pull.head_sha, gitobjects.signature_of(by))
    head = pull.head_sha
    tree = await repo.git.merged_tree(base, head)
    if method == "squash":
        parents = [base]
        author = gitobjects.signature_of(pull.user)
        text = full_message(title or f"{pull.title} (#{pull.number})", await squashed(repo, pull, message))
    else:
        parents = [base, head]
        author = gitobjects.signature_of(by)
        default = f"Merge pull request #{pull.number} from {repo.owner.login}/{pull.head_ref}"
        text = full_message(title or default, pull.title if message is None else message)
    committer = gitobjects.web_flow()
    commit = repo.git.write_commit(tree=tree, parents=parents, author=author, committer=committer, message=text)
    repo.verified.add(commit.sha)
    return commit.sha


async def squashed(repo: Repo, pull: Pull, message: str | None) -> str:
    """The body of a squash commit: as given, or made of the messages of its commits."""
    if message is not None:
        return message
    commits = await gitobjects.pull_commits(repo, pull)
    if len(commits) == 1:
        return commits[0].message.partition("\n")[2].strip()
    return "\n\n".join(f"* {commit.message.strip()}" for commit in commits)


def full_message(title: str, body: str) -> str:
    return f"{title}\n\n{body}" if body else title
