"""What a branch asks of a pull request before it lets it in: by branch protection, by rulesets, by both together.

https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches
https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/managing-rulesets/available-rules-for-rulesets
Whether a pull request has it is said by requirements.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

EVERY = "~ALL"
DEFAULT = "~DEFAULT_BRANCH"  # how a ruleset names the default branch, whatever it is called


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked; all empty, nothing is. The names are those of `PATCH /_sandbox/repos`."""

    checks: tuple[str, ...] = ()  # contexts that must be green
    strict: bool = False  # the head must contain the base
    reviews: bool = False  # changes need a pull request, even without approvals
    approvals: int = 0
    dismiss_stale: bool = False
    code_owners: bool = False
    last_push: bool = False  # by somebody else than who pushed last
    enforce_admins: bool = True
    queue: str = ""  # the merge queue's method; "": no queue
    methods: tuple[str, ...] = ()  # that are allowed, by a ruleset; (): all of the repository's

    @property
    def reviewed(self) -> bool:
        """Whether reviews matter at all."""
        return self.reviews or self.approvals > 0 or self.code_owners or self.last_push


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """Rules for the branches that match; `~DEFAULT_BRANCH`, `~ALL`, or patterns of names."""

    id: int
    name: str = "ruleset"
    branches: tuple[str, ...] = (DEFAULT,)
    rules: Rules = Rules()

    def covers(self, repo: Ruled, branch: str) -> bool:
        return any(
            pattern == EVERY or (pattern == DEFAULT and branch == repo.default_branch) or fnmatchcase(branch, pattern)
            for pattern in self.branches
        )


class Ruled(Protocol):
    """What is known of a repository here."""

    default_branch: str
    protection: dict[str, Rules]  # by branch
    rulesets: dict[int, Ruleset]


def parse(values: Mapping[str, Any]) -> Rules:
    """Rules as JSON writes them. Raises ValueError for a key that there is not."""
    known = {one.name for one in fields(Rules)}
    if unknown := values.keys() - known:
        raise ValueError(f"unknown key {min(unknown)!r}; known are {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
    return Rules(**given)


def rulesets(repo: Ruled, branch: str) -> list[Ruleset]:
    return [one for one in repo.rulesets.values() if one.covers(repo, branch)]


def ruled(repo: Ruled, branch: str) -> bool:
    """Whether anything is configured for the branch."""
    return branch in repo.protection or bool(rulesets(repo, branch))


def of(repo: Ruled, branch: str) -> Rules:
    """All that is asked at once; of two that differ the stricter one counts."""
    sources = [one.rules for one in rulesets(repo, branch)]
    if branch in repo.protection:
        sources.append(repo.protection[branch])
    combined = replace(Rules(), enforce_admins=any(one.enforce_admins for one in sources))
    for one in sources:
        combined = _stricter(combined, one)
    return combined


def _stricter(one: Rules, other: Rules) -> Rules:
    allowed = [set(rules.methods) for rules in (one, other) if rules.methods]
    return Rules(
        checks=tuple(dict.fromkeys((*one.checks, *other.checks))),
        strict=one.strict or other.strict,
        reviews=one.reviews or other.reviews,
        approvals=max(one.approvals, other.approvals),
        dismiss_stale=one.dismiss_stale or other.dismiss_stale,
        code_owners=one.code_owners or other.code_owners,
        last_push=one.last_push or other.last_push,
        enforce_admins=one.enforce_admins,
        queue=one.queue or other.queue,
        methods=tuple(sorted(set.intersection(*allowed))) if allowed else (),
    )
