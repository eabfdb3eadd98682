"""A promotion pull request on its way to its merge: approved, rebuilt, merged by itself, or left to people.

What belongs here: the steps that the merge of the source and later events of the pull request itself share. Only what
the ledger says that we opened is touched, at a head that we stored before we pushed it. That head is a commit of
ours on a commit of the default branch, with a tree computed here: it changes nothing outside of the planned targets.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio

from telefonistka import telemetry
from telefonistka.core import comments, guards, trees
from telefonistka.core.events import Conflict, PullRequest, Waiting
from telefonistka.core.guards import Deletion
from telefonistka.core.promotion import CONFIG_FILE, Pair, Promotion
from telefonistka.core.trees import Sha, Snapshot
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Forbidden, NotFound, Refused
from telefonistka.github.repo import Head, Repo, Standing
from telefonistka.handlers import graft
from telefonistka.handlers.facts import Context
from telefonistka.handlers.journal import Approval, Fate, Journal, Landing, Opened, Pin, Stage
from telefonistka.ledger import Ledger
from telefonistka.telemetry import log

MESSAGE = "Auto-merge"  # of the merge commit, as the original has it
METHOD = "merge"  # which is tried first
REBASE = "rebase"
IN_QUEUE = "it is in the merge queue"
IN_CONFLICT = "it conflicts with the default branch"
NOT_ENOUGH = "the branch's rules ask for another review, such as a code owner's or a second one"
ROUNDS = 3  # merges that are tried at once; what lasts longer is the inbox's
PAUSE = 1.0  # seconds between them, with jitter; GitHub is done with the merge before by then
CONFLICT_REBUILDS = 1  # then it is people's
BEHIND_REBUILDS = 3  # a busy branch moves while we rebuild
LOOK_FIRST, LOOK_LONGEST = 60.0, 3600.0  # seconds until what waits is looked at again, should no event say anything
FRESH = 10.0  # seconds from its opening in which it is as we opened it unless an event says otherwise
UNAUTHORIZED = 401
NOT_ALLOWED, CONFLICT, UNPROCESSABLE = 405, 409, 422

# GitHub gives all its reasons the one status 405, so its words must do for what passes.
MODIFIED = re.compile(r"(?i)branch was modified")


def first(event: PullRequest, pin: Pin, item: Promotion, opened: Opened, given: Context) -> Landing | None:
    """What is to become of a promotion that was just opened; None: nothing by itself."""
    merges = item.merges_itself and given.ceiling.auto_merge
    approves = pin.approve and given.ceiling.auto_approve
    if opened.over or not (merges or approves):
        return None
    if opened.pull is None or opened.commit is None or opened.branch is None:
        return None
    found = given.forgetful and opened.base is None
    return Landing(
        repository=event.repository,
        number=opened.pull,
        source=event.number,
        key=item.key,
        branch=opened.branch,
        heads=(opened.commit,),
        base=pin.commit,
        merges=merges,
        approval=Approval.WANTED if approves else Approval.ENDED,
        # Where the default branch has moved, it is looked at first what a merge would mean.
        tried=opened.base != pin.commit,
        since=opened.since,
        stage=Stage.LEFT if found else Stage.UNDER_WAY,
        reason="an earlier run has opened it" if found else "",
    )


def renewed(known: Landing, event: PullRequest, pin: Pin, item: Promotion, commit: Sha, given: Context) -> Landing:
    """The same with another commit, of a later merge; what was left to people stays with them."""
    approves = pin.approve and given.ceiling.auto_approve
    return replace(
        known,
        source=event.number,
        key=item.key,
        heads=(*known.heads, commit),
        base=pin.commit,
        merges=item.merges_itself and given.ceiling.auto_merge,
        approval=Approval.WANTED if approves else Approval.ENDED,
        tried=True,
        stage=known.stage if known.stage is Stage.LEFT else Stage.UNDER_WAY,
        reason=known.reason if known.stage is Stage.LEFT else "",
    )


async def unfinished(ledger: Ledger) -> list[Waiting]:
    """What was to be merged when the daemon ended: events may have been lost since."""
    known = await ledger.every("landing", Landing)
    return [Waiting(repository=one.repository, number=one.number) for one in known if not one.ended]


async def proceed(given: Context, journal: Journal, number: int, *, again: bool) -> Landing | None:
    """The pull request is as far as it can come now; None: it is not one that we land.

    Merges of one repository come one after the other: each moves the branch that the next one goes to.
    """
    landing = await journal.landing(number)
    if landing is None or landing.ended:
        return landing
    async with given.ledger.locked(f"merge {journal.repository}"):
        landing = await journal.landing(number)
        if landing is None or landing.ended:
            return landing
        looks = again or not await _as_opened(given, journal, landing)
        way = await _way(given, journal, replace(landing, tried=landing.tried or looks))
        with telemetry.part("landing", promotion=number, flow=way.item.source_path, components=way.item.components):
            await way.run()
        return way.landing


async def _as_opened(given: Context, journal: Journal, landing: Landing) -> bool:
    """Whether it may be merged without a look: GitHub is told which head it is, but not into which branch it goes."""
    if landing.tried or await journal.touched(landing.number):
        return False
    return 0 <= given.clock() - landing.since <= FRESH


async def resolve(given: Context, journal: Journal, event: Conflict) -> str:
    """A pull request in conflict is built anew, once, whoever is to merge it; returns what became of it."""
    async with given.ledger.locked(f"merge {journal.repository}"):
        landing = await journal.landing(event.number) or await _left_to_people(event, journal)
        if landing is None:
            return "is not an open pull request of ours"
        return await (await _way(given, journal, landing)).resolve()


async def _left_to_people(event: Conflict, journal: Journal) -> Landing | None:
    """Where a promotion stands that is neither approved nor merged by itself; None: it is not ours, or has ended."""
    origin = await journal.origin(event.number)
    pin = await journal.pin(origin.sources[-1]) if origin is not None and origin.fate is Fate.OPEN else None
    if origin is None or pin is None:
        return None
    return Landing(
        repository=event.repository,
        number=event.number,
        source=origin.sources[-1],
        key=origin.key,
        branch=origin.branch,
        heads=origin.heads,
        base=pin.commit,
        merges=False,
        approval=Approval.ENDED,
        tried=True,
    )


async def _way(given: Context, journal: Journal, landing: Landing) -> _Way:
    pin = await journal.pin(landing.source)
    assert pin is not None, "a landing is stored after its pin"
    (item,) = [one for one in pin.plan.promotions if one.key == landing.key]
    return _Way(given, journal, pin, item, landing)


class _Way:
    """One attempt to bring one pull request further."""

    def __init__(self, given: Context, journal: Journal, pin: Pin, item: Promotion, landing: Landing) -> None:
        self.given = given
        self.repo = given.repo
        self.journal = journal
        self.pin = pin
        self.item = item
        self.landing = landing
        self.refusal: Refused | None = None
        self.methods_refused: set[str] = set()

    async def run(self) -> None:
        if self.landing.merges and not self._allowed():
            await self._stop()
            return
        if self.landing.approval is Approval.GIVEN:
            await self._check_approval()
            return
        standing = None
        for _ in range(ROUNDS):
            standing = await self.repo.standing(self.landing.number) if self.landing.tried else None
            if standing is not None and await self._settled(standing):
                return
            await self._approve()
            if not self.landing.merges or (standing is not None and not await self._clear(standing)):
                return
            if await self._merged(self._method(standing)):
                return
            await anyio.sleep(random.uniform(PAUSE / 2, PAUSE))  # noqa: S311 - jitter
        if standing is None or MODIFIED.search(self._said()):
            raise TryAgain(f"GitHub does not merge #{self.landing.number} yet: {self._said()}")
        await self._wait(standing)

    async def resolve(self) -> str:
        """Where it was in conflict, and is as we left it, it is built anew; says what became of it."""
        standing = await self.repo.standing(self.landing.number)
        if standing.state != "open" or standing.base_ref != standing.default_branch:
            return "does not go into the default branch any more"
        if standing.head_sha not in self.landing.heads:
            return "has somebody else's commits"
        if standing.head_sha != self.landing.head:
            await self._push()
        elif standing.mergeable == "UNKNOWN":
            raise TryAgain(f"GitHub computes whether #{self.landing.number} can be merged")
        elif _conflicts(standing) and not self.landing.stuck:
            lost = not await self.repo.contains(standing.head.sha, self.landing.base)
            await self._rebuilt(standing, IN_CONFLICT, CONFLICT_REBUILDS, lost=lost)
        await self._approve()
        return f"is left to people: {self.landing.stuck}" if self.landing.stuck else "stands on the default branch"

    def _allowed(self) -> bool:
        return self.given.ceiling.auto_merge and self._writable()

    def _writable(self) -> bool:
        return all(self.given.ceiling.writable(pair.target) for pair in self.item.pairs)

    async def _stop(self) -> None:
        """The operator allows no more what was allowed when this began."""
        standing = await self.repo.standing(self.landing.number)
        if not await self._settled(standing):
            await self._leave(standing, "the operator of Telefonistka does not allow it")

    async def _rest(self, stage: Stage, reason: str) -> None:
        """It waits for an event, and is looked at again, less and less often, should none come."""
        same = (self.landing.stage, self.landing.reason) == (stage, reason)
        looks = self.landing.looks + 1 if same else 0
        event = Waiting(repository=self.landing.repository, number=self.landing.number)
        await self.given.later(event, after=min(LOOK_LONGEST, LOOK_FIRST * 2.0**looks))
        await self._save(stage=stage, reason=reason, looks=looks)

    async def _save(self, **steps: Any) -> None:
        self.landing = replace(self.landing, **steps)
        await self.journal.put_landing(self.landing)

    def _said(self) -> str:
        if self.refusal is None:
            return ""
        return " ".join(self.refusal.message.split()).removeprefix("Pull request ").rstrip(".")

    # Looking

    async def _settled(self, standing: Standing) -> bool:
        """Whether there is nothing more to do for us, because of what others did."""
        landing = self.landing
        if standing.merged:
            await self._save(stage=Stage.MERGED, reason="")
        elif standing.state != "open":
            await self._save(stage=Stage.CLOSED, reason="")
        elif standing.head_sha not in landing.heads:
            await self._leave(standing, "somebody else pushed to its branch")
        elif standing.base_ref != standing.default_branch:
            await self._leave(standing, f"its base was changed to {standing.base_ref}")
        elif standing.head_sha != landing.head:
            await self._push()
            raise TryAgain(f"GitHub does not show our push to #{landing.number} yet", after=PAUSE)
        return self.landing.ended

    async def _clear(self, standing: Standing) -> bool:
        """Whether a merge may be tried now. Where not, it is said who or what it waits for."""
        if not await self.repo.contains(standing.head.sha, self.landing.base):
            return await self._rebuilt(standing, "the default branch was force-pushed", CONFLICT_REBUILDS, lost=True)
        if _conflicts(standing):
            return await self._rebuilt(standing, IN_CONFLICT, CONFLICT_REBUILDS)
        # Of all that may be missing this is what GitHub's auto-merge waits for in vain.
        if standing.merge_state == "BEHIND" and not standing.queue:
            return await self._rebuilt(standing, "the default branch moves too fast", BEHIND_REBUILDS)
        if standing.auto_merge or standing.queued:
            await self._rest(Stage.HANDED_OVER, IN_QUEUE if standing.queued else _missing(standing, self._said()))
            return False
        if self.landing.stage is Stage.HANDED_OVER:
            gone = "it left the merge queue" if standing.queue else "GitHub's auto-merge was switched off"
            await self._leave(standing, gone)
            return False
        if self._method(standing) is None:
            await self._wait(standing)
            return False
        match standing.merge_state:
            case "BLOCKED" if not standing.queue and not self._told_what_is_missing():
                return True  # trying is how GitHub says what is missing
            case "BLOCKED" | "DRAFT":
                await self._wait(standing)
                return False
        if standing.mergeable == "UNKNOWN" or standing.merge_state == "UNKNOWN":
            raise TryAgain(f"GitHub computes whether #{self.landing.number} can be merged")
        if standing.queue:
            await self._wait(standing)
            return False
        return True

    def _told_what_is_missing(self) -> bool:
        return self.refusal is not None and not self.refusal.is_about_method

    def _method(self, standing: Standing | None) -> str | None:
        """The plain merge where it is allowed, else another way that is; None: every way was refused."""
        allowed = (METHOD,) if standing is None else standing.methods
        # A rebase leaves merge commits out, and a rebuilt head is one.
        refused = self.methods_refused | ({REBASE} if self.landing.rebuilds and allowed != (REBASE,) else set())
        return next((method for method in allowed if method not in refused), None)

    # Acting

    async def _approve(self) -> None:
        """The head has the second identity's approval, or it was said why not."""
        if self.landing.approval in (Approval.GIVEN, Approval.ENDED):
            return
        if not self.given.ceiling.auto_approve:
            await self._save(approval=Approval.ENDED)
            return
        if self.given.approver is None:
            await self._unapproved("the operator of Telefonistka has set no second identity (`APPROVER_…`)")
            return
        try:
            await self._give_approval(await self.given.approver())
        except Rejected as rejected:
            if isinstance(rejected, Refused) and rejected.status == UNAUTHORIZED:
                raise
            await self._unapproved(str(rejected))
            return
        if self.landing.merges:  # what is missing then is said for the merge
            await self._save(approval=Approval.ENDED)
            return
        await self._save(approval=Approval.GIVEN)
        if self.given.forgetful:
            await self._check_approval()
            return
        # The event of the review comes anyway, so that the look is not a call of the merge that led to this.
        event = Waiting(repository=self.landing.repository, number=self.landing.number)
        await self.given.later(event, after=LOOK_FIRST)

    async def _check_approval(self) -> None:
        """Where people merge: it was said if the branch's rules ask for more than the approval that was given."""
        standing = await self.repo.standing(self.landing.number)
        as_approved = (standing.state, standing.head_sha) == ("open", self.landing.head)
        if as_approved and standing.review == "REVIEW_REQUIRED":
            await self._unapproved(NOT_ENOUGH, given=True)
        else:
            await self._save(approval=Approval.ENDED)

    async def _give_approval(self, approver: Repo) -> None:
        if self.landing.approval is Approval.TRIED and await approver.approved(self.landing.number, self.landing.head):
            return
        await self._save(approval=Approval.TRIED)
        try:
            await approver.approve(self.landing.number, self.landing.head)
        except Refused as refused:
            if refused.status == UNPROCESSABLE and await approver.login() == await self.repo.login():
                raise Rejected("the second identity is the one that opened it; nobody approves their own") from refused
            raise

    async def _unapproved(self, reason: str, *, given: bool = False) -> None:
        log.warning("not approved", pull=self.landing.number, reason=reason)
        text = self.given.words.unapproved(reason, given=given)
        await self.repo.ensure_comment(self.landing.number, comments.marker("unapproved"), text)
        await self._save(approval=Approval.ENDED)

    async def _merged(self, method: str | None) -> bool:
        """Whether there is nothing more to try: it is merged, or we may not."""
        assert method is not None
        landing = self.landing
        await self._save(tried=True)
        try:
            await self.repo.merge(landing.number, sha=landing.head, method=method, message=MESSAGE)
        except (Forbidden, NotFound) as refused:
            if refused.status == UNAUTHORIZED:
                raise
            await self._leave(None, f"GitHub does not let Telefonistka merge it: {refused.message}")
            return True
        except Refused as refused:
            if refused.status not in (NOT_ALLOWED, CONFLICT):
                raise
            log.info("not merged yet", pull=landing.number, reason=refused.message)
            self.refusal = refused
            if refused.is_about_method:
                self.methods_refused.add(method)
            return False
        await self._save(stage=Stage.MERGED, reason="")
        return True

    async def _wait(self, standing: Standing) -> None:
        """GitHub merges it once its rules are met, where the repository has that; else events wake us."""
        if standing.queue and await self._queued(standing):
            await self._rest(Stage.HANDED_OVER, IN_QUEUE)
            return
        missing = _missing(standing, self._said())
        if await self._left_to_auto_merge(standing):
            await self._rest(Stage.HANDED_OVER, missing)
            return
        if (self.landing.stage, self.landing.reason) != (Stage.WAITING, missing):
            await self._tell(missing, waits=True)
        await self._rest(Stage.WAITING, missing)

    async def _queued(self, standing: Standing) -> bool:
        """Whether the merge queue has it now; where not, GitHub said why."""
        try:
            await self.repo.enqueue(standing)
        except Refused as refused:
            self.refusal = refused
            return False
        return True

    async def _left_to_auto_merge(self, standing: Standing) -> bool:
        """Whether GitHub merges it by itself now, or puts it into the queue."""
        method = self._method(standing)
        if not standing.auto_merge_allowed or method is None or standing.merge_state not in ("BLOCKED", "UNKNOWN"):
            return False
        try:
            await self.repo.enable_auto_merge(standing, method)
        except Refused as refused:
            log.info("GitHub does not take it over", pull=self.landing.number, reason=refused.message)
            return False
        return True

    async def _leave(self, standing: Standing | None, reason: str, *, stuck: str = "") -> None:
        """Nothing more is done by itself, and it is said why."""
        if standing is not None:
            await self._take_back(standing)
        await self._tell(reason, waits=False)
        await self._save(stage=Stage.LEFT, reason=reason, stuck=stuck)

    async def _take_back(self, standing: Standing) -> None:
        """GitHub does not merge by itself what we have left to it."""
        try:
            if standing.auto_merge_ours:
                await self.repo.disable_auto_merge(standing)
            if standing.queued and self.landing.stage is Stage.HANDED_OVER:
                await self.repo.dequeue(standing)
        except Refused as refused:  # somebody else may just have done it: the next look tells
            raise TryAgain(
                f"GitHub does not give #{self.landing.number} back: {refused.message}", after=PAUSE
            ) from refused

    async def _tell(self, reason: str, *, waits: bool) -> None:
        text = self.given.words.merge(reason, waits=waits)
        await self.repo.ensure_comment(self.landing.number, comments.marker("merge"), text)

    # Rebuilding

    async def _rebuilt(self, standing: Standing, why: str, limit: int, *, lost: bool = False) -> bool:
        """Whether the promotion stands on the default branch's head now; where not, it is left to people."""
        if self.landing.rebuilds >= limit:
            await self._give_up(standing, why, "it was built anew before")
            return False
        if self.pin.merge is None or not await self.repo.contains(standing.head.sha, self.pin.merge):
            gone = f"the default branch does not hold #{self.landing.source} any more"
            await self._give_up(standing, gone, gone)
            return False
        snapshot = await self._snapshot(standing.head)
        pairs = tuple(_now(pair, snapshot) for pair in self.item.pairs)
        obstacle = await self._changed_meanwhile(snapshot, pairs)
        if obstacle:
            await self._give_up(standing, f"{why}, and {obstacle}", obstacle)
            return False
        tree = await graft.tree(self.repo, snapshot, [pair for pair in pairs if not pair.in_sync])
        # On top of the old head, so that the push is refused where somebody else was faster.
        alone = lost or standing.methods == (REBASE,)
        parents = [standing.head.sha] if alone else [self.landing.head, standing.head.sha]
        commit = await self.repo.create_commit(comments.commit_message(self.item), tree, parents)
        if _conflicts(standing):
            # Before the push: after it there is no conflict by which whoever goes on would know that this is owed.
            await self._tell_of_conflict(standing, "")
        again = Approval.WANTED if self.pin.approve and self.given.ceiling.auto_approve else Approval.ENDED
        is_left = self.landing.stage is Stage.LEFT
        await self._save(
            heads=(*self.landing.heads, commit),
            base=standing.head.sha,
            rebuilds=self.landing.rebuilds + 1,
            approval=again,
            stage=Stage.LEFT if is_left else Stage.UNDER_WAY,
            reason=self.landing.reason if is_left else "",
        )
        await self._push()
        await self._approve()
        return True

    async def _give_up(self, standing: Standing, why: str, obstacle: str) -> None:
        """It is not built anew any more, and that was said."""
        if self.landing.lands:
            await self._leave(standing, why, stuck=obstacle)
            return
        await self._tell_of_conflict(standing, obstacle)
        await self._save(stuck=obstacle)

    async def _tell_of_conflict(self, standing: Standing, obstacle: str) -> None:
        text = self.given.words.conflict(obstacle, branch=standing.default_branch)
        await self.repo.ensure_comment(self.landing.number, comments.marker("conflict"), text)

    async def _snapshot(self, head: Head) -> Snapshot:
        paths = [path for pair in self.item.pairs for path in (pair.source, pair.target)]
        return await self.repo.widen(await self.repo.snapshot(head.tree), paths)

    async def _changed_meanwhile(self, snapshot: Snapshot, pairs: tuple[Pair, ...]) -> str:
        """Why a rebuilt promotion would not be the one that was planned, "" where it is."""
        before = await self.repo.widen(await self.repo.snapshot(self.pin.tree), [pair.source for pair in pairs])
        files = {CONFIG_FILE, *(trees.join(pair.source, CONFIG_FILE) for pair in pairs)}
        if any(before.entry(file) != snapshot.entry(file) for file in files):
            return "its configuration has changed since"
        if all(pair.in_sync for pair in pairs):
            return "every target equals its source by now: close it"
        if not self._writable():
            return "the operator of Telefonistka does not allow it any more"
        if not self.landing.lands:
            return ""  # people look at what it deletes
        return guards.too_much(list(_deletions(snapshot, pairs)), self.given.ceiling.max_deletions)

    async def _push(self) -> None:
        """The branch ends with our last head, unless somebody else has pushed to it."""
        landing = self.landing
        try:
            await self.repo.move_branch(landing.branch, landing.head)
        except Refused as refused:
            if refused.status != UNPROCESSABLE:
                raise
            if await self.repo.branch(landing.branch) not in landing.heads:
                raise TryAgain(f"the branch of #{landing.number} has moved", after=PAUSE) from refused
            await self.repo.move_branch(landing.branch, landing.head, force=True)


def _conflicts(standing: Standing) -> bool:
    return standing.mergeable == "CONFLICTING" or standing.merge_state == "DIRTY"


def _now(pair: Pair, snapshot: Snapshot) -> Pair:
    return replace(pair, becomes=snapshot.entry(pair.source), current=snapshot.entry(pair.target))


def _deletions(snapshot: Snapshot, pairs: tuple[Pair, ...]) -> Iterator[Deletion]:
    for pair in pairs:
        whole = pair.component.removesuffix("/") == pair.source  # a component without a name is called as its source
        found = guards.deletion(snapshot, pair.target, pair.becomes, pair.source, whole=whole)
        if found is not None and not pair.in_sync:
            yield found


def _missing(standing: Standing, said: str) -> str:
    """For whom or what a pull request waits: GitHub's own sentence, where it said one."""
    if standing.draft:
        return "somebody has to take it out of draft"
    if said:
        return said
    reasons = []
    match standing.review:
        case "REVIEW_REQUIRED":
            reasons.append("a review has to approve it")
        case "CHANGES_REQUESTED":
            reasons.append("a review requests changes")
    match standing.checks:
        case "PENDING" | "EXPECTED":
            reasons.append("checks are under way")
        case "FAILURE" | "ERROR":
            reasons.append("checks have failed")
    if not reasons:
        reasons.append("a rule of the branch is not met")
    return " and ".join(reasons)
