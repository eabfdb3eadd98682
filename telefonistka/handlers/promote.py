"""A merged pull request becomes promotion pull requests, or, in a dry run, a comment with the plan and nothing else.

The first attempt pins a commit and stores it with the plan; every later one carries out that same plan. Each act
looks for what an earlier attempt may have done, so that any repetition ends as one clean run does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from telefonistka.core import comments, lineage, promotion, trees
from telefonistka.core.events import PullRequest
from telefonistka.core.lineage import Hop, Lineage
from telefonistka.core.promotion import Pair, Plan, Promotion
from telefonistka.core.trees import Edit, Oid, Sha, Snapshot
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Refused
from telefonistka.github.repo import Pull, Repo
from telefonistka.handlers import facts
from telefonistka.handlers.facts import Context, Done
from telefonistka.telemetry import log

LABEL = "promotion"
BRANCH_NAMES = 9  # that are tried where somebody else has the first
UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The commit that one merge is promoted from, and the plan at it."""

    commit: Sha
    tree: Oid
    default_branch: str
    plan: Plan
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """How far one promotion has come."""

    commit: Sha | None = None
    branch: str | None = None
    pull: int | None = None
    labelled: bool = False
    note: str = ""


async def run(event: PullRequest, given: Context) -> Done:
    """Promote what a merged pull request changed; returns what was opened.

    Raises Rejected where something that the configuration asks for was left out, after all the rest was done.
    """
    key = f"{event.repository.id}/{event.number}"
    pin = await given.ledger.get("pin", key, Pin)
    if pin is None:
        decided = await _decide(event, given)
        if isinstance(decided, Done):
            return decided
        pin = decided
        await given.ledger.put("pin", key, pin)
    if pin.dry_run or not pin.plan.is_sound:
        await given.repo.ensure_comment(event.number, comments.marker("plan"), given.words.plan(pin.plan))
    if pin.dry_run:
        return _judged("dry run: the plan is in a comment", pin.plan)
    return _judged(await _open_all(event, pin, given), pin.plan)


async def _decide(event: PullRequest, given: Context) -> Pin | Done:
    """The pin and plan of a merge, or why there is nothing to plan."""
    repo = given.repo
    pull = await repo.merged_pull(event.number)
    if pull.base_ref != pull.default_branch:
        return Done(f"nothing to promote: merged into {pull.base_ref}, not into {pull.default_branch}")
    merge = pull.merge_sha or event.merge_sha
    if merge is None:
        raise TryAgain(f"GitHub does not say yet which commit merged pull request {event.number}")
    if not await repo.contains(pull.head.sha, merge):
        raise TryAgain(f"{pull.default_branch} does not hold the merge commit {merge[:12]}; was it force-pushed?")
    snapshot = await repo.snapshot(pull.head.tree)
    config = await facts.repository_config(repo, snapshot)
    if config.value is None:
        text = given.words.broken_config(config.findings)
        await repo.ensure_comment(event.number, comments.marker("broken_config"), text)
        raise Rejected(f"nothing is promoted, the configuration is broken: {config.findings[0]}")
    files = await repo.changed_files(event.number, base_sha=event.base_sha, head_sha=event.head_sha)
    plan = await facts.plan(repo, snapshot, config.value, files, pull.labels, before=event.base_sha)
    warnings = tuple(str(finding) for finding in config.findings)
    return Pin(
        commit=pull.head.sha,
        tree=pull.head.tree,
        default_branch=pull.default_branch,
        plan=replace(plan, warnings=warnings + plan.warnings),
        dry_run=config.value.dry_run_mode,
    )


def _judged(text: str, plan: Plan) -> Done:
    if plan.is_sound:
        return Done(text)
    left_out = len(plan.refusals) + len(plan.conflicts)
    first = plan.refusals[0].subject if plan.refusals else plan.conflicts[0].target
    raise Rejected(f"{text}; {left_out} left out, first {first}: see the plan in the comment")


async def _open_all(event: PullRequest, pin: Pin, given: Context) -> str:
    """Open every promotion of the plan, each whatever becomes of the others; returns what happened, in a sentence."""
    opened: list[str] = []
    failed: list[Exception] = []
    for item in pin.plan.to_open:
        try:
            opened.append(await _Opening(event, pin, given, item).run())
        except Exception as error:
            failed.append(error)
    text = f"opened {', '.join(opened)}" if opened else _why_nothing(pin.plan)
    bugs = [error for error in failed if not isinstance(error, TryAgain | Rejected)]
    waiting = [error for error in failed if isinstance(error, TryAgain)]
    if bugs or waiting:
        raise (bugs or waiting)[0]
    if failed:
        raise Rejected("; ".join([*([text] if opened else []), *map(str, failed)])) from failed[0]
    return text


def _why_nothing(plan: Plan) -> str:
    if any(promotion.pairs for promotion in plan.promotions):
        return "nothing to promote: every target already equals its source"
    if any(promotion.skipped for promotion in plan.promotions):
        return "nothing to promote: the components' own files rule out every target"
    if plan.untaken:
        return "nothing to promote: no flow's labels are on the pull request"
    if plan.refusals or plan.conflicts:
        return "nothing was promoted"
    return "nothing to promote: no changed file belongs to a component of a flow"


class _Opening:
    """One promotion on its way: tree, commit, branch, pull request, labels. Every step is stored before the next."""

    def __init__(self, event: PullRequest, pin: Pin, given: Context, item: Promotion) -> None:
        self.event = event
        self.pin = pin
        self.repo = given.repo
        self.ledger = given.ledger
        self.item = item
        self.key = f"{event.repository.id}/{event.number}/{item.key}"
        self.state = Opened()
        self.look_first = False

    async def run(self) -> str:
        """The promotion, opened, as a link and what there is to say of it."""
        stored = await self.ledger.get("promotion", self.key, Opened)
        if stored is not None:
            self.state, self.look_first = stored, True
        commit = self.state.commit or await self._commit()
        branch = self.state.branch or await self._branch(commit)
        number = self.state.pull or await self._pull(branch, commit)
        if not self.state.labelled:
            await self._label(number)
        return f"#{number}{self.state.note}"

    async def _save(self, **steps: Any) -> None:
        self.state = replace(self.state, **steps)
        await self.ledger.put("promotion", self.key, self.state)

    async def _commit(self) -> Sha:
        pairs = self.item.changes
        paths = [path for pair in pairs for path in (pair.source, pair.target)]
        snapshot = await self.repo.widen(await self.repo.snapshot(self.pin.tree), paths)
        tree = await _tree(self.repo, snapshot, pairs)
        commit = await self.repo.create_commit(comments.commit_message(self.item), tree, [self.pin.commit])
        await self._save(commit=commit)
        return commit

    async def _branch(self, commit: Sha) -> str:
        name = promotion.branch(self.event.number, self.event.head_ref, self.item)
        for attempt in range(1, BRANCH_NAMES + 1):
            branch = name if attempt == 1 else f"{name}-{attempt}"
            if await self._claim(branch, commit):
                await self._save(branch=branch)
                return branch
        raise Rejected(
            f"the branch {comments.code(name)} and its {BRANCH_NAMES - 1} substitutes belong to somebody else"
        )

    async def _claim(self, branch: str, commit: Sha) -> bool:
        """Whether the branch is ours, and holds the commit."""
        if await self.repo.create_branch(branch, commit):
            return True
        self.look_first = True
        standing = await self.repo.branch(branch)
        if standing is None:
            raise TryAgain(f"the branch {branch} exists and does not: GitHub is behind", after=5)
        if standing == commit:
            return True
        if not await self._is_ours(standing):
            log.warning("branch name is taken", branch=branch)
            return False
        await self.repo.move_branch(branch, commit, force=True)
        return True

    async def _is_ours(self, sha: Sha) -> bool:
        """Whether a branch still ends with a promotion's commit of our own: nobody else committed to it."""
        commit = await self.repo.commit(sha)
        return commit.author == await self.repo.login() and commit.message.startswith(comments.COMMIT_SUBJECT)

    async def _pull(self, branch: str, commit: Sha) -> int:
        pull = await self._standing(branch, commit) if self.look_first else None
        if pull is None:
            lineage = self._lineage()
            title, body = comments.title(self.item), comments.body(self.item, lineage)
            try:
                pull = await self.repo.create_pull(title, body, head=branch, base=self.pin.default_branch)
            except Refused as refused:
                pull = await self._standing(branch, commit)
                if pull is None:
                    raise Rejected(f"no pull request for {comments.code(branch)}: {refused}") from refused
        note = "" if pull.state == "open" else f" ({'merged' if pull.merged else 'closed'} meanwhile)"
        await self._save(pull=pull.number, note=note, labelled=pull.state != "open")
        return pull.number

    async def _standing(self, branch: str, commit: Sha) -> Pull | None:
        """The pull request that an earlier attempt opened for the commit, whatever people have done with it since."""
        pulls = await self.repo.pulls(branch)
        return next((pull for pull in pulls if pull.state == "open" or pull.head_sha == commit), None)

    def _lineage(self) -> Lineage:
        hop = Hop(self.item.source, self.item.targets)
        so_far = lineage.parse(self.event.body)
        return so_far.followed_by(self.event.number, self.event.author, hop, self.item.promoted_paths)

    async def _label(self, number: int) -> None:
        author = self._lineage().author
        labels, assignees = {LABEL, *self.item.labels}, {author}
        if self.look_first:
            # People may have been here since an earlier attempt, and labels and assignees are set as a whole.
            (standing,) = [pull for pull in await self.repo.pulls(self.state.branch or "") if pull.number == number]
            labels.update(standing.labels)
            assignees.update(standing.assignees)
        assigned = await self.repo.label_and_assign(number, labels, assignees)
        note = "" if assigned else f" (GitHub does not let {author} be assigned)"
        try:
            if self.item.reviewers:
                await self.repo.request_reviewers(number, self.item.reviewers)
        except Refused as refused:
            note += f" (no review was requested: {refused.message})"
        await self._save(labelled=True, note=note)


async def _tree(repo: Repo, snapshot: Snapshot, pairs: Collection[Pair]) -> Oid:
    """A tree in which every target is its source, to the bit, and nothing else differs from the snapshot.

    GitHub does not say whether a directory entry replaces the directory at its path or is merged into it, nor
    whether a path that is not there may be removed. So the id that the tree must have is computed here, and
    where one request does not give it, the targets are taken away first and put in their place afterwards.
    """
    grafts = {pair.target: pair.becomes for pair in pairs}
    try:
        expected = trees.root_after(snapshot, grafts)
    except trees.Unknown as unknown:
        raise Rejected(f"the result of the promotion cannot be checked beforehand: {unknown}") from unknown
    edits = [edit for pair in pairs for edit in trees.sync(snapshot, pair.source, pair.target)]
    try:
        if await repo.create_tree(snapshot.root, edits) == expected:
            return expected
        log.info("one tree does not do, making two", promotion=[pair.target for pair in pairs])
    except Refused as refused:
        if refused.status != UNPROCESSABLE:
            raise
    removals = [Edit(pair.target, None) for pair in pairs if pair.current is not None]
    additions = [Edit(pair.target, pair.becomes) for pair in pairs if pair.becomes is not None]
    tree = await repo.create_tree(snapshot.root, removals) if removals else snapshot.root
    tree = await repo.create_tree(tree, additions) if additions else tree
    if tree != expected:
        raise Rejected(f"GitHub made the tree {tree} where {expected} is right; nothing was opened from it")
    return tree
