"""A merged pull request becomes promotion pull requests, or, in a dry run, a comment with the plan and nothing else.

The first attempt pins a commit and stores it with the plan; every later one carries out that same plan. Each act
looks for what an earlier attempt may have done, so that any repetition ends as one clean run does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from telefonistka import telemetry
from telefonistka.core import comments, lineage, promotion
from telefonistka.core.config import RepoConfig
from telefonistka.core.events import PullRequest
from telefonistka.core.lineage import Hop, Lineage
from telefonistka.core.promotion import Plan, Promotion
from telefonistka.core.reviews import Awaited
from telefonistka.core.trees import Sha
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Refused
from telefonistka.github.repo import Pull
from telefonistka.handlers import facts, graft, landing, newer, notice
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Ending, Fate, Journal, Opened, Origin, Pin
from telefonistka.telemetry import log

LABEL = "promotion"
BRANCH_NAMES = 9  # that are tried where somebody else has the first


async def run(event: PullRequest, given: Context) -> Done:
    """Promote what a merged pull request changed; returns what was opened.

    Raises Rejected where something that the configuration asks for was left out, after all the rest was done.
    """
    journal = Journal(given.ledger, event.repository.id)
    pin = await journal.pin(event.number)
    if pin is None:
        decided = await _decide(event, given, journal)
        if isinstance(decided, Done):
            return decided
        pin = decided
        await journal.put_pin(event.number, pin)
    if pin.dry_run or not pin.plan.is_sound:
        page = await given.repo.ensure_comment(event.number, comments.marker("plan"), *given.words.plan(pin.plan))
        await journal.put_page(event.number, page)
    if pin.dry_run:
        return _judged("dry run: the plan is in a comment", pin.plan)
    return _judged(await _carry_out(event, pin, given, journal), pin.plan)


async def _decide(event: PullRequest, given: Context, journal: Journal) -> Pin | Done:
    """The pin and plan of a merge, or why there is nothing to plan."""
    repo = given.repo
    pull = await repo.merged_pull(event.number)
    elsewhere = Done(f"nothing to promote: merged into {pull.base_ref}, not into {pull.default_branch}")
    renamed = pull.base_ref != pull.default_branch and event.base_ref == event.repository.default_branch
    if pull.base_ref != pull.default_branch and not renamed:
        return elsewhere
    merge = pull.merge_sha or event.merge_sha
    if merge is None:
        raise TryAgain(f"GitHub does not say yet which commit merged pull request {event.number}")
    if not await repo.contains(pull.head.sha, merge):
        if renamed:
            return elsewhere
        raise TryAgain(f"{pull.default_branch} does not hold the merge commit {merge[:12]}; was it force-pushed?")
    snapshot = await repo.snapshot(pull.head.tree)
    parsed = await facts.repository_config(repo, snapshot)
    config = parsed.value
    if config is None:
        text = given.words.broken_config(parsed.findings)
        await repo.ensure_comment(event.number, comments.marker("broken_config"), text)
        raise Rejected(f"nothing is promoted, the configuration is broken: {parsed.findings[0]}")
    files = await repo.changed_files(event.number, base_sha=event.base_sha, head_sha=event.head_sha)

    async def planned(config: RepoConfig, files: Collection[str]) -> Plan:
        # What that removes is still as it was there: a change of it since then would have been a conflict.
        before, ceiling = event.base_sha, given.ceiling
        return await facts.plan(repo, snapshot, config, files, pull.labels, before=before, ceiling=ceiling)

    plan, approve = await planned(config, files), config.auto_approve_promotion_prs
    overtakes = await newer.overtaken(plan, journal)
    if overtakes:
        whole = await planned(config, [*files, *await newer.files(overtakes, journal)])
        plan = newer.widened(plan, whole, overtakes)
    if promotion.CONFIG_FILE in files:
        # The event names the base branch as it was when the head was pushed last, which may be long before the merge.
        for commit in dict.fromkeys((event.base_sha, *pull.before)):
            earlier = await facts.config_at(repo, commit)
            plan = promotion.allowed_before(plan, await planned(earlier, files))
            approve = approve and earlier.auto_approve_promotion_prs
    warnings = tuple(str(finding) for finding in parsed.findings)
    return Pin(
        commit=pull.head.sha,
        tree=pull.head.tree,
        default_branch=pull.default_branch,
        plan=replace(plan, warnings=warnings + plan.warnings),
        dry_run=config.dry_run_mode,
        approve=approve,
        overtakes=overtakes,
        merge=merge,
        head=event.head_sha,
    )


def _judged(text: str, plan: Plan) -> Done:
    if plan.is_sound:
        return Done(text)
    left_out = len(plan.refusals) + len(plan.conflicts)
    first = plan.refusals[0].subject if plan.refusals else plan.conflicts[0].target
    raise Rejected(f"{text}; {left_out} left out, first {first}: see the plan in the comment")


async def _carry_out(event: PullRequest, pin: Pin, given: Context, journal: Journal) -> str:
    """Open every promotion of the plan, then land those that land by themselves; returns what happened, in a sentence.

    Each goes as far as it can, whatever becomes of the others.
    """
    failed = await _each(_Opening(event, pin, given, journal, item).run for item in _to_do(pin))
    failed += await _land(event, pin, given, journal)
    failed += await _each([lambda: notice.tell(event.number, pin, given, journal)])
    bugs = [error for error in failed if not isinstance(error, TryAgain | Rejected)]
    waiting = [error for error in failed if isinstance(error, TryAgain)]
    if bugs or waiting:
        raise (bugs or waiting)[0]
    text = await journal.report(event.number, pin)
    await journal.put_ending(event.number, Ending(text=text, failures=tuple(map(str, failed))))
    if failed:
        raise Rejected("; ".join(filter(None, [text, *map(str, failed)]))) from failed[0]
    return text or _why_nothing(pin.plan)


def _to_do(pin: Pin) -> list[Promotion]:
    """What is to be opened, and what has nothing to open but takes the place of something."""
    return [item for item in pin.plan.promotions if item.changes or item.key in pin.overtakes]


async def _each(acts: Iterable[Callable[[], Awaitable[None]]]) -> list[Exception]:
    """Every act was tried; what they raised."""
    failed: list[Exception] = []
    for act in acts:
        try:
            await act()
        except Exception as error:
            failed.append(error)
    return failed


async def _land(event: PullRequest, pin: Pin, given: Context, journal: Journal) -> list[Exception]:
    """Approve and merge what was opened, as far as it is to land by itself; what that raised."""
    numbers: dict[int, bool] = {}  # whether it was begun by an earlier attempt
    for item in pin.plan.to_open:
        opened = await journal.opened(event.number, item)
        if opened is None or opened.pull is None or not opened.labelled:
            continue
        known = await journal.landing(opened.pull)
        wanted = known or landing.first(event, pin, item, opened, given)
        if wanted is not None:
            if known is None:
                await journal.put_landing(wanted)
            numbers[opened.pull] = known is not None

    def proceed(number: int, *, again: bool) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            await landing.proceed(given, journal, number, again=again)

        return act

    return await _each(proceed(number, again=again) for number, again in numbers.items())


def _why_nothing(plan: Plan) -> str:
    why = promotion.why_nothing(plan)
    return f"nothing to promote: {why}" if why else "nothing was promoted"


class _Opening:
    """One promotion on its way: tree, commit, branch, pull request, labels. Every step is stored before the next."""

    def __init__(self, event: PullRequest, pin: Pin, given: Context, journal: Journal, item: Promotion) -> None:
        self.event = event
        self.pin = pin
        self.given = given
        self.repo = given.repo
        self.journal = journal
        self.item = item
        self.state = Opened()
        self.look_first = False

    async def run(self) -> None:
        """The promotion is open, with all that belongs on it."""
        item = self.item
        with telemetry.part("promotion", flow=item.source_path, components=item.components, targets=item.targets):
            await self._run()

    async def _run(self) -> None:
        stored = await self.journal.opened(self.event.number, self.item)
        if stored is not None:
            self.state, self.look_first = stored, True
        if self.item.changes:
            await self._open()
        await self._retire()

    async def _open(self) -> None:
        try:
            if self.item.on_newer == "update" and self.state.pull is None:
                await self._update()
            commit = self.state.commit or await self._commit()
            branch = self.state.branch or await self._branch(commit)
            number = self.state.pull or await self._pull(branch, commit)
        except Rejected as rejected:
            await self._save(refused=str(rejected))
            raise
        if not self.state.labelled:
            await self._label(number)

    async def _retire(self) -> None:
        """What has older content is closed, or it is said there why not."""
        older = self.pin.overtakes.get(self.item.key, ())
        if not older or self.state.retired:
            return
        for number in older:
            if number != self.state.pull:
                await newer.retire(number, self.state.pull, self.event.repository, self.given)
        await self._save(retired=True)

    async def _update(self) -> None:
        """The newest of the open pull requests with older content has the newer, unless people have changed it."""
        older = self.pin.overtakes.get(self.item.key, ())
        if not older:
            return
        # Nobody merges it meanwhile.
        async with self.given.ledger.locked(f"merge {self.journal.repository}"):
            number = older[-1]
            origin, pull = await self.journal.origin(number), await self.repo.pull(number)
            assert origin is not None, "it was found by it"
            ours = await newer.our_heads(number, origin, self.journal)
            if pull.state == "open" and pull.head_sha in ours and pull.base_ref == self.pin.default_branch:
                await self._bring_up(pull, origin)
            elif self.state.commit is not None:
                await self._save(commit=None)  # it was made for that one

    async def _bring_up(self, pull: Pull, origin: Origin) -> None:
        """Our commit is the end of the pull request's branch; title and body say what it brings now."""
        # On top of the old head, so that the push is refused where somebody else was faster.
        commit = self.state.commit or await self._commit(pull.head_sha)
        heads = tuple(dict.fromkeys((*origin.heads, commit)))
        sources = tuple(dict.fromkeys((*origin.sources, self.event.number)))
        note = f"it has what came of {', '.join(f'#{one}' for one in sources)}"
        updated = replace(origin, sources=sources, key=self.item.key, heads=heads, note=note)
        await self.journal.put_origin(pull.number, updated)
        known = await self.journal.landing(pull.number)
        if known is not None and commit not in known.heads:
            again = landing.renewed(known, self.event, self.pin, self.item, commit, self.given)
            await self.journal.put_landing(again)
        try:
            await self.repo.move_branch(origin.branch, commit)
        except Refused as refused:
            if refused.status != graft.UNPROCESSABLE:
                raise
            raise TryAgain(f"the branch of #{pull.number} has moved", after=1) from refused
        so_far = lineage.parse(pull.body)
        chain = replace(self._lineage(), author=so_far.author, number=so_far.number)
        chain = replace(chain, hops={**so_far.hops, **chain.hops})
        title, body = comments.title(self.item), comments.body(self.item, chain)
        await self.repo.update_pull(pull.number, title=title, body=body)
        self.look_first = True
        await self.journal.put_into_line(self.item, pull.number)
        await self._save(branch=origin.branch, pull=pull.number)
        await newer.tell_sources(origin, self.event.repository, self.given)

    async def _save(self, **steps: Any) -> None:
        self.state = replace(self.state, **steps)
        await self.journal.put_opened(self.event.number, self.item, self.state)

    async def _commit(self, *onto: Sha) -> Sha:
        pairs = self.item.changes
        paths = [path for pair in pairs for path in (pair.source, pair.target)]
        snapshot = await self.repo.widen(await self.repo.snapshot(self.pin.tree), paths)
        tree = await graft.tree(self.repo, snapshot, pairs)
        commit = await self.repo.create_commit(comments.commit_message(self.item), tree, [*onto, self.pin.commit])
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
        base, since = None, self.given.clock()
        if pull is None:
            lineage = self._lineage()
            title, body = comments.title(self.item), comments.body(self.item, lineage)
            try:
                pull = await self.repo.create_pull(title, body, head=branch, base=self.pin.default_branch)
                base = pull.base_sha
            except Refused as refused:
                pull = await self._standing(branch, commit)
                if pull is None:
                    await self._follow_default_branch()
                    raise Rejected(f"no pull request for {comments.code(branch)}: {refused}") from refused
        over = pull.state != "open"
        note = f" ({'merged' if pull.merged else 'closed'} meanwhile)" if over else ""
        fate = Fate.OPEN if not over else Fate.MERGED if pull.merged else Fate.CLOSED
        origin = Origin(sources=(self.event.number,), key=self.item.key, branch=branch, heads=(commit,), fate=fate)
        await self.journal.put_origin(pull.number, origin)
        await self.journal.put_into_line(self.item, pull.number)
        await self._save(pull=pull.number, base=base, since=since, note=note, over=over, labelled=over)
        return pull.number

    async def _follow_default_branch(self) -> None:
        """Raises TryAgain where the default branch has another name by now."""
        name = (await self.repo.merged_pull(self.event.number)).default_branch
        if name != self.pin.default_branch:
            await self.journal.put_pin(self.event.number, replace(self.pin, default_branch=name))
            raise TryAgain(f"the default branch is {name} by now", after=0)

    async def _standing(self, branch: str, commit: Sha) -> Pull | None:
        """The pull request that an earlier attempt opened for the commit, whatever people have done with it since."""
        pulls = await self.repo.pulls(branch)
        return next((pull for pull in pulls if pull.state == "open" or pull.head_sha == commit), None)

    async def _await_reviews(self, number: int) -> None:
        """It is known at once whose review it waits for, unless GitHub has told something newer."""
        asked = tuple(sorted({one.rpartition("/")[2] for one in self.item.reviewers}))
        known = await self.journal.reviews(number)
        await self.journal.put_reviews(number, known.awaiting(Awaited(asked=asked)))

    def _lineage(self) -> Lineage:
        hop = Hop(self.item.source, self.item.told_targets)
        so_far = lineage.parse(self.event.body)
        trace = telemetry.traceparent()
        return so_far.followed_by(self.event.number, self.event.author, hop, self.item.promoted_paths, trace)

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
                await self._await_reviews(number)
        except Refused as refused:
            note += f" (no review was requested: {refused.message})"
        await self._save(labelled=True, note=note)
