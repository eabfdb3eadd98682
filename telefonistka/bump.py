"""Carries out a bump: one commit on a branch of its own, one pull request, merged where that is asked for.

What belongs here: finding what an earlier run has left, and going on from there. What a bump changes is core/bump.py's
business. Any number of runs, at once or again, end with the same pull request.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import anyio

from telefonistka.core import bump
from telefonistka.core.bump import Bump
from telefonistka.core.trees import Edit, Entry, Sha
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Refused
from telefonistka.github.repo import DefaultBranch, Head, Pull, Repo, Standing

FILE = "100644"  # the mode of whatever we write
MERGE_MESSAGE = "Auto-merge"
MERGE_PATIENCE = 15 * 60  # seconds until another run has to go on; as long as the original tries
BACKOFF = 0.5  # seconds; grows by half with every attempt, with jitter
LONGEST_WAIT = 10.0  # seconds between two looks at a pull request
STARTS = 3  # times that another run may take the branch's name before ours
# "Not mergeable", which GitHub also says where the base moved that moment, and "the head is another":
# https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request--status-codes
AGAIN = frozenset({405, 409})


class Outcome(StrEnum):
    """What became of a bump."""

    UNCHANGED = "unchanged"  # the default branch has all of it
    PREVIEW = "preview"  # nothing was done
    OPENED = "opened"
    EXISTS = "exists"  # an earlier run opened the same
    UPDATED = "updated"  # an open pull request has the new content
    MERGED = "merged"
    WAITING = "waiting"  # GitHub merges it once its rules are met


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome, and what there is to see of it."""

    outcome: Outcome
    diff: str
    pull: Pull | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a run before this one has left: a branch, and the pull request from it."""

    branch: str
    sha: Sha
    parent: Sha | None
    pull: Pull | None
    ours: bool  # nobody else has committed to it since


async def preview(repo: Repo, wanted: Bump) -> Result:
    """What the bump would change, with nothing done."""
    gathered = await _gather(repo, wanted)
    return Result(outcome=Outcome.PREVIEW if gathered.after else Outcome.UNCHANGED, diff=gathered.diff)


async def carry_out(repo: Repo, wanted: Bump, *, auto_merge: bool = False, update_open: bool = False) -> Result:
    """The bump is a pull request, or merged, or was there already; Rejected and TryAgain say what else."""
    gathered = await _gather(repo, wanted)
    running = _Running(repo, wanted, update_open=update_open)
    if not gathered.after:
        return Result(outcome=Outcome.UNCHANGED, diff="", pull=await running.known())
    result = await running.opened(gathered)
    return await running.merged(result) if auto_merge and result.outcome is not Outcome.UNCHANGED else result


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The files at one commit of the default branch, and what the bump makes of them."""

    base: DefaultBranch
    before: Mapping[str, bytes | None]
    after: Mapping[str, bytes]

    @property
    def diff(self) -> str:
        return bump.diff(self.before, self.after)


async def _gather(repo: Repo, wanted: Bump, base: DefaultBranch | None = None) -> _Gathered:
    base = base or await repo.default_branch()
    before = await repo.read(base.head.sha, wanted.files)
    return _Gathered(base, before, wanted.applied(before))


class _Running:
    """One run of a bump."""

    def __init__(self, repo: Repo, wanted: Bump, *, update_open: bool) -> None:
        self.repo = repo
        self.wanted = wanted
        self.update_open = update_open
        self.branch = ""
        self.sha = Sha("")  # what we know or made the branch to point to
        self.foreign = False  # somebody else has committed to it
        self.attempt = 0  # at the merge, since the branch was last rebuilt
        self.said = ""  # by GitHub, of the last attempt
        self.methods_refused: set[str] = set()
        self.notes: list[str] = []

    async def known(self) -> Pull | None:
        """The pull request of an earlier run, whatever became of it."""
        for branch in self.wanted.branches:
            for pull in await self.repo.pulls(branch):
                if pull.title == self.wanted.title:
                    return pull
        return None

    # The pull request

    async def opened(self, gathered: _Gathered) -> Result:
        """The pull request stands open, with the bump in it."""
        for _ in range(STARTS):
            earlier = await self._earlier(gathered.base)
            if earlier is not None:
                going_on = await self._continued(earlier, gathered)
                if going_on is None:
                    continue
                outcome, pull = going_on
                break
            self.sha = await self._commit(gathered)
            if await self.repo.create_branch(self.branch, self.sha):
                outcome, pull = Outcome.OPENED, await self._pull(gathered.base)
                break
        else:
            raise TryAgain(f"other runs keep taking the branch {self.branch}", after=5)
        if outcome is Outcome.UNCHANGED:
            return Result(outcome=outcome, diff="", pull=pull)
        await self._label(pull)
        return Result(outcome=outcome, diff=gathered.diff, pull=pull, notes=tuple(self.notes))

    async def _earlier(self, base: DefaultBranch) -> Earlier | None:
        """What is to be gone on with; where there is nothing, `branch` is free for it."""
        first, second = self.wanted.branches
        standing = await self.repo.branches(first)
        for name in (second, first):
            if name in standing:
                found = await self._left(name, standing[name])
                if found is not None:
                    return found
        if second in standing:
            raise Rejected(f"the branch {second} belongs to somebody else: delete or rename it")
        if self.update_open and (found := await self._open_one(base)) is not None:
            return found
        self.branch = second if first in standing else first
        return None

    async def _left(self, branch: str, sha: Sha) -> Earlier | None:
        """An earlier run's branch for the same files, None where it is another's."""
        commit = await self.repo.commit(sha)
        pulls = await self.repo.pulls(branch)
        pull = next((one for one in pulls if one.state == "open"), pulls[0] if pulls else None)
        ours = commit.message == self.wanted.message
        if not ours and (pull is None or pull.title != self.wanted.title):
            return None
        return Earlier(branch, sha, commit.parents[0] if commit.parents else None, pull, ours)

    async def _open_one(self, base: DefaultBranch) -> Earlier | None:
        """The newest open bump of the same files by the same repository, whichever commit triggered it."""
        for pull in await self.repo.open_pulls():
            ours = pull.head_ref.startswith(self.wanted.branches_of_repository) and pull.base_ref == base.name
            if ours and pull.title == self.wanted.title:
                return await self._left(pull.head_ref, pull.head_sha)
        return None

    async def _continued(self, earlier: Earlier, gathered: _Gathered) -> tuple[Outcome, Pull] | None:
        """What came of an earlier run's branch; None where yet another run was in between."""
        self.branch, self.sha = earlier.branch, earlier.sha
        pull = earlier.pull
        if pull is not None and pull.state == "open":
            return await self._kept(pull, earlier, gathered)
        same = await self._holds(earlier)
        if pull is not None and pull.merged:
            gathered = await _gather(self.repo, self.wanted)  # it may have been merged since
            if not gathered.after:
                return Outcome.UNCHANGED, pull
        elif pull is not None and same:
            raise Rejected(
                f"#{pull.number} was closed without being merged: {pull.url}. Reopen it, or delete its branch"
            )
        if (pull is not None or not same) and not await self._rebuilt(gathered):
            return None
        return Outcome.OPENED, await self._pull(gathered.base)

    async def _kept(self, pull: Pull, earlier: Earlier, gathered: _Gathered) -> tuple[Outcome, Pull] | None:
        """The open pull request has the bump, unless people have made it theirs."""
        if not earlier.ours:
            self.foreign = True
            self.notes.append("somebody else has committed to it, so it is left as it is")
            return Outcome.EXISTS, pull
        same = await self._holds(earlier)
        if not same and not await self._rebuilt(gathered):
            return None
        if pull.body != self.wanted.body and self.update_open:
            await self.repo.update_pull(pull.number, title=self.wanted.title, body=self.wanted.body)
        return (Outcome.EXISTS if same else Outcome.UPDATED), pull

    async def _holds(self, earlier: Earlier) -> bool:
        """Whether the earlier commit is what this bump would have made in its place."""
        if earlier.parent is None or not earlier.ours:
            return False
        before = await self.repo.read(earlier.parent, self.wanted.files)
        now = await self.repo.read(earlier.sha, self.wanted.files)
        try:
            return {**before, **self.wanted.applied(before)} == now
        except Rejected:
            return False

    async def _pull(self, base: DefaultBranch) -> Pull:
        wanted = self.wanted
        try:
            return await self.repo.create_pull(wanted.title, wanted.body, head=self.branch, base=base.name)
        except Refused as refused:
            # 422 stands for a pull request that another run has opened meanwhile, too.
            for pull in await self.repo.pulls(self.branch) if refused.status == 422 else ():
                if pull.state == "open":
                    return pull
            raise

    async def _label(self, pull: Pull) -> None:
        """The pull request has our label and the actor; people may have given it others."""
        if bump.LABEL in pull.labels:
            return
        actor = {self.wanted.actor} - {""}
        if not await self.repo.label_and_assign(pull.number, {bump.LABEL, *pull.labels}, actor | {*pull.assignees}):
            self.notes.append(f"GitHub does not let {self.wanted.actor} be assigned")

    # The branch

    async def _commit(self, gathered: _Gathered) -> Sha:
        edits = [
            Edit(file, Entry(FILE, await self.repo.create_blob(content))) for file, content in gathered.after.items()
        ]
        tree = await self.repo.create_tree(gathered.base.head.tree, edits)
        return await self.repo.create_commit(self.wanted.message, tree, [gathered.base.head.sha])

    async def _rebuilt(self, gathered: _Gathered) -> bool:
        """The branch holds the bump as one commit on the default branch's head; False where others moved it."""
        commit = await self._commit(gathered)
        if await self.repo.branch(self.branch) != self.sha:
            return False
        await self.repo.move_branch(self.branch, commit, force=True)
        self.sha = commit
        return True

    # The merge

    async def merged(self, result: Result) -> Result:
        """The pull request is merged, or will be by GitHub; with what it is based on rebuilt as often as it takes."""
        pull = result.pull
        assert pull is not None
        if self.foreign:
            raise Rejected(f"somebody else has committed to #{pull.number}, so it is not merged by itself: {pull.url}")
        until = time.monotonic() + MERGE_PATIENCE
        while (outcome := await self._step(pull, await self.repo.standing(pull.number))) is None:
            wait = min(LONGEST_WAIT, BACKOFF * 1.5**self.attempt) * random.uniform(0.5, 1.5)  # noqa: S311
            self.attempt += 1
            if time.monotonic() + wait > until:
                said = f" ({self.said})" if self.said else ""
                raise TryAgain(f"#{pull.number} could not be merged yet{said}: {pull.url}", after=wait)
            await anyio.sleep(wait)
        return replace(result, outcome=outcome, notes=tuple(self.notes))

    async def _step(self, pull: Pull, standing: Standing) -> Outcome | None:
        """One look at the pull request and one act; None where another is needed."""
        if standing.merged:
            return Outcome.MERGED
        if standing.state != "open":
            raise Rejected(f"somebody has closed #{pull.number}: {pull.url}")
        if standing.queued or standing.auto_merge:
            return Outcome.WAITING
        if standing.head_sha != self.sha:
            await self._follow(pull)
            return None
        if standing.mergeable == "CONFLICTING" or standing.merge_state == "BEHIND":
            return await self._catch_up(standing)
        if standing.mergeable == "UNKNOWN":
            return None
        if standing.merge_state == "BLOCKED" or standing.draft:
            return await self._leave(pull, standing)
        return await self._try(pull, standing)

    async def _catch_up(self, standing: Standing) -> Outcome | None:
        """The branch is rebuilt on the default branch as it is now."""
        base = DefaultBranch(standing.default_branch, Head(standing.head.sha, standing.head.tree))
        gathered = await _gather(self.repo, self.wanted, base)
        if not gathered.after:
            self.notes.append("the default branch has the same content meanwhile; the pull request is left open")
            return Outcome.UNCHANGED
        if await self._rebuilt(gathered):
            self.attempt = 0
        return None

    async def _follow(self, pull: Pull) -> None:
        """The branch is where we, or another run of the same bump, have put it: GitHub may not have noticed yet."""
        now = await self.repo.branch(self.branch)
        if now is None or now == self.sha:
            return
        other = await self._left(self.branch, now)
        if other is None or not await self._holds(other):
            raise Rejected(f"somebody else has pushed to #{pull.number}, so it is not merged by itself: {pull.url}")
        self.sha = now

    async def _leave(self, pull: Pull, standing: Standing) -> Outcome:
        """GitHub merges it once checks and reviews allow that, where the repository has that."""
        if standing.auto_merge_allowed and not standing.draft:
            return await self._handed_over(standing)
        raise Rejected(
            f"#{pull.number} is open, but checks, reviews or rules of the branch forbid its merge now: {pull.url}. "
            "Allow auto-merge in the repository's settings, or merge it when they are met"
        )

    async def _try(self, pull: Pull, standing: Standing) -> Outcome | None:
        method = self._method(standing)
        try:
            await self.repo.merge(pull.number, sha=self.sha, method=method, message=MERGE_MESSAGE)
        except Refused as refused:
            if refused.status not in AGAIN:
                raise
            self.said = refused.message
            if refused.is_about_method:
                self.methods_refused.add(method)
                return None
            return await self._queued(standing) if self.attempt and standing.auto_merge_allowed else None
        return Outcome.MERGED

    async def _queued(self, standing: Standing) -> Outcome | None:
        """GitHub has taken it, where it merges by a queue alone; that it refuses it says nothing new."""
        try:
            return await self._handed_over(standing)
        except Refused:
            return None

    async def _handed_over(self, standing: Standing) -> Outcome:
        """GitHub merges it once it may; raises Refused where it does not take it."""
        while True:
            method = self._method(standing)
            try:
                await self.repo.enable_auto_merge(standing, method)
            except Refused as refused:
                if not refused.is_about_method:
                    raise
                self.said = refused.message
                self.methods_refused.add(method)
            else:
                return Outcome.WAITING

    def _method(self, standing: Standing) -> str:
        """The first way of merging that the repository allows and that GitHub has not refused: a ruleset may."""
        left = (method for method in standing.methods if method not in self.methods_refused)
        method = next(left, None)
        if method is None:
            raise Rejected(f"no way of merging is allowed for it: {self.said or 'see the repository settings'}")
        return method
