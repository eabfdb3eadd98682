"""What a pull request still lacks of what its base branch asks, in GitHub's sentences.

https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from telefonistka.sandbox import codeowners, gitobjects, rules
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules
from telefonistka.sandbox.state import Access, Pull, Repo, Review, User

OPINIONS = ("APPROVED", "CHANGES_REQUESTED", "DISMISSED")  # a comment leaves the earlier opinion as it is
WAITING = {"error": "failing", "failure": "failing", "pending": "pending"}
NOTHING = "expected"  # how GitHub calls a check of which it has not heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacks:
    """What is missing; without anything it is false."""

    checks: str = ""
    review: str = ""
    behind: str = ""  # the head lacks commits of the base, and all checks are expected anew

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.behind or self.checks, self.review)))

    def __bool__(self) -> bool:
        return bool(self.sentences)


async def lacking(box: Box, repo: Repo, pull: Pull) -> Lacks:
    asked = rules.of(repo, pull.base_ref)
    behind = asked.strict and asked.checks and not await contains_base(repo, pull)
    return Lacks(
        checks=checks(asked, dict.fromkeys(asked.checks, NOTHING) | waiting(repo, pull, asked)),
        review=await review(box, repo, pull, asked) if asked.reviewed else "",
        behind=checks(asked, dict.fromkeys(asked.checks, NOTHING)) if behind else "",
    )


async def contains_base(repo: Repo, pull: Pull) -> bool:
    base = repo.git.branch(pull.base_ref)
    return base is None or await repo.git.contains(pull.head_sha, base)


# Checks


def states(repo: Repo, sha: str) -> dict[str, str]:
    """The state of each context, of which the last status counts."""
    return {status.context: status.state for status in repo.statuses.get(sha, ())}


def waiting(repo: Repo, pull: Pull, asked: Rules) -> dict[str, str]:
    """The contexts of which the head has a status, with what is wrong with it: "" is nothing."""
    known = states(repo, pull.head_sha)
    return {name: WAITING.get(known[name], "") for name in asked.checks if name in known}


def checks(asked: Rules, troubles: dict[str, str]) -> str:
    """The sentence about checks: of one it says the name, of several the number."""
    wrong = {name: trouble for name, trouble in troubles.items() if trouble}
    if not wrong:
        return ""
    if len(asked.checks) == 1:
        [(name, trouble)] = wrong.items()
        return f'Required status check "{name}" is {trouble}.'
    kinds = Counter(wrong.values())
    if len(wrong) == len(asked.checks) and len(kinds) == 1:
        return f"{len(wrong)} of {len(wrong)} required status checks are {next(iter(kinds))}."
    listed = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{len(wrong)} of {len(asked.checks)} required status checks have not succeeded: {listed}."


# Reviews


def opinions(box: Box, repo: Repo, pull: Pull) -> list[Review]:
    """The last opinion of everybody who may write."""
    last = {one.user.id: one for one in pull.reviews.values() if one.state in OPINIONS}
    return [one for one in last.values() if box.writes(one.user, repo)]


async def decision(box: Box, repo: Repo, pull: Pull) -> str | None:
    """What GraphQL calls `reviewDecision`: nothing where no review is asked for and none was given."""
    states = {one.state for one in opinions(box, repo, pull)}
    if "CHANGES_REQUESTED" in states:
        return "CHANGES_REQUESTED"
    if await review(box, repo, pull, rules.of(repo, pull.base_ref)):
        return "REVIEW_REQUIRED"
    return "APPROVED" if "APPROVED" in states else None


async def review(box: Box, repo: Repo, pull: Pull, asked: Rules) -> str:
    """The sentence about reviews; GitHub says the first of its reasons only."""
    given = opinions(box, repo, pull)
    approvals = [one for one in given if one.state == "APPROVED"]
    against = sum(one.state == "CHANGES_REQUESTED" for one in given)
    if against:
        return f"{against} review{'s' * (against > 1)} requesting changes by reviewers with write access."
    owners = await missing_owners(box, repo, pull, {one.user for one in approvals}) if asked.code_owners else []
    if owners:
        return f"Waiting on code owner review from {' and/or '.join(owners)}."
    if len(approvals) < asked.approvals:
        what = "review is" if asked.approvals == 1 else "reviews are"
        return f"At least {asked.approvals} approving {what} required by reviewers with write access."
    if asked.last_push and not any(since_last_push(repo, pull, one) for one in approvals):
        pusher = pull.pusher or repo.pushers.get(f"refs/heads/{pull.head_ref}") or pull.user
        return f"New changes require approval from someone other than {pusher.login} because they were the last pusher."
    return ""


def since_last_push(repo: Repo, pull: Pull, one: Review) -> bool:
    """Whether the review is of what was pushed last, and not by who pushed it."""
    pusher = pull.pusher or repo.pushers.get(f"refs/heads/{pull.head_ref}") or pull.user
    return one.id > pull.pushed and one.user is not pusher


async def missing_owners(box: Box, repo: Repo, pull: Pull, approvers: set[User]) -> list[str]:
    """Owners of changed files of which none has approved, by name."""
    base = repo.git.branch(pull.base_ref)
    if base is None:
        return []
    logins = {user.login.lower() for user in approvers}
    missing: dict[str, None] = {}
    for change in await gitobjects.pull_changes(repo, pull):
        for path in filter(None, (change.path, change.previous)):
            names = codeowners.owners(repo.git, base, path)
            if names and not any(box.members(name) & logins for name in names):
                missing |= dict.fromkeys(names)
    return list(missing)


# Pushing past pull requests


def push_refusal(box: Box, repo: Repo, branch: str, sha: str, *, by: User) -> str:
    """Why the branch may not be moved to a commit by itself; "" where it may."""
    asked = rules.of(repo, branch)
    if not asked.enforce_admins and box.access(by, repo) is Access.ADMIN:
        return ""
    if asked.reviewed or asked.queue:
        return "Changes must be made through a pull request."
    known = states(repo, sha)
    return checks(asked, {name: WAITING.get(known[name], "") if name in known else NOTHING for name in asked.checks})
