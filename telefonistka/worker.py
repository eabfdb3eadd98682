"""Work items are claimed by lane and brought to their end: handlers run, their outcomes are stored, the status is set.

What belongs here: how an ending becomes an outcome, what is tried again and how often, and what the pull request's
commit status says. What a handler does is its own business, when an item is due the inbox's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn
from uuid import uuid4

import anyio

from telefonistka import handlers, telemetry
from telefonistka import inbox as inboxes
from telefonistka.core import comments, events, lineage
from telefonistka.core.events import Checked, Comment, Event, Ignored, Own, PullRequest, Push, Repository, Review
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import Context, Done, Handler, statuses
from telefonistka.handlers.journal import Journal, Seen
from telefonistka.inbox import Inbox, Outcome, Unreadable, Verdict, WorkItem
from telefonistka.ledger import Ledger
from telefonistka.storage import Unavailable
from telefonistka.telemetry import Span, log

PARALLEL = 8  # lanes at once; GitHub's own limits on what one identity may do are kept in github/
POLL = 1.0  # seconds; how late we may notice that a lease or a wait is over
HEARTBEAT = inboxes.LEASE / 3  # seconds
TRIES = 20  # with the inbox's backoff two to three hours, longer where GitHub says how long to wait
TRIES_BROKEN = 3  # a bug rarely goes away, but what it met may
CRASHES = 20  # times that the process died with the item before it is the item's fault; progress resets them
DEADLINE = 3600.0  # seconds for one try of a handler; a hundred paced promotions take a third of it
LOOK = 2.0  # seconds between two looks whether what runs is outdated by now

# Steps of an item beside its handlers; no handler has such a name.
PENDING = "status: pending"
VERDICT = "status: verdict"
SUPERSEDED = "superseded by what came after"

Contexts = Callable[[Repository], Awaitable[Context]]
Route = Callable[[Event], tuple[Handler, ...]]
Step = Callable[[], Awaitable[Done]]
Known = PullRequest | Review | Checked | Push | Comment | Own


class Lost(Exception):  # noqa: N818 - never leaves this module
    """The item is no longer ours: our lease ran out, and someone else may work on it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When the next try of a step is asked for: None is the usual backoff."""

    step: str
    tries: int
    after: float | None
    reason: str


@dataclass(slots=True)
class Work:
    """One item while it is worked on: its outcomes so far, and what has to be tried again."""

    item: WorkItem
    outcomes: dict[str, Outcome]
    retries: list[Retry] = field(default_factory=list)

    def ended(self, step: str) -> bool:
        """The step has ended for good."""
        return step in self.outcomes and _is_final(self.outcomes[step])


class Worker:
    """Claims items of one inbox until it is told to stop."""

    def __init__(
        self,
        inbox: Inbox,
        contexts: Contexts,
        *,
        route: Route = handlers.route,
        ledger: Ledger | None = None,
        parallel: int = PARALLEL,
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._contexts = contexts
        self._route = route
        self._parallel = parallel
        self._owner = uuid4().hex
        self._running: dict[int, anyio.CancelScope] = {}
        self._stopping = False
        self._idle = anyio.Event()

    def stop(self) -> None:
        """Nothing more is claimed; `run` returns when what runs has ended, or is cancelled."""
        self._stopping = True
        self._inbox.nudge()

    async def idle(self) -> None:
        """Returns once the worker was stopped and nothing runs any more."""
        await self._idle.wait()

    async def run(self) -> None:
        """Works until stopped; whatever is left then waits in the storage for the next worker."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_leases)
                async with anyio.create_task_group() as works:
                    await self._claim_all(works)
                self._idle.set()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._release()

    async def _claim_all(self, works: anyio.abc.TaskGroup) -> None:
        while not self._stopping:
            items = await self._claim()
            for item in items:
                self._running[item.seq] = anyio.CancelScope()
                works.start_soon(self._attend, item)
            if not items:
                await self._inbox.wait(POLL)

    async def _claim(self) -> list[WorkItem]:
        free = self._parallel - len(self._running)
        if not free:
            return []
        try:
            items = await self._inbox.claim(self._owner, limit=free)
        except Unavailable as error:
            log.error("no work can be claimed", reason=str(error))
            return []
        # After a pause of the whole machine our own leases may have run out; that work goes on.
        return [item for item in items if item.seq not in self._running]

    async def _keep_leases(self) -> NoReturn:
        while True:
            await anyio.sleep(HEARTBEAT)
            claimed = frozenset(self._running)
            try:
                ours = await self._inbox.extend(self._owner, claimed)
            except Unavailable as error:
                log.error("leases cannot be renewed", reason=str(error))
                continue
            for seq in claimed - ours:
                if seq in self._running:
                    log.warning("work was taken over", seq=seq)
                    self._running[seq].cancel()

    async def _release(self) -> None:
        try:
            await self._inbox.release(self._owner)
        except Unavailable as error:
            log.warning("work is given back when its lease ends", reason=str(error))

    async def _attend(self, item: WorkItem) -> None:
        """One attempt at an item; nothing that it does ends the others."""
        own = item.id.startswith(inboxes.OWN)
        fields = {"delivery": item.id, "lane": item.lane, "event_type": item.event, "attempt": item.attempts}
        try:
            with telemetry.work(item.event, item.headers, own=own) as span, telemetry.bound(**fields):
                await self._bring_to_its_end(item, span)
        finally:
            del self._running[item.seq]
            self._inbox.nudge()

    async def _bring_to_its_end(self, item: WorkItem, span: Span) -> None:
        try:
            with self._running[item.seq]:
                await self._attempt(item, span)
        except Lost as error:
            log.warning("work was taken over")
            telemetry.ended("taken over", error)
        except Unavailable as error:
            log.error("an outcome cannot be stored", reason=str(error))
            telemetry.ended("not stored", error)
        except Exception as error:
            log.exception("the worker has a bug")
            telemetry.ended("broken", error)
            await self._give_up(item, f"the worker has a bug: {type(error).__name__}: {error}")

    async def _give_up(self, item: WorkItem, reason: str) -> None:
        try:
            await self._bury(item, reason)
        except (Lost, Unavailable) as error:
            log.warning("no dead letter", reason=str(error))

    async def _attempt(self, item: WorkItem, span: Span) -> None:
        try:
            event = events.parse(item.event, inboxes.payload(item.headers, item.body))
        except (Unreadable, events.Malformed) as error:
            await self._bury(item, f"not understood: {error}")
            return
        if isinstance(event, PullRequest):
            span.link(lineage.parse(event.body).trace)  # the merge that it comes from
        if isinstance(event, PullRequest) and item.event == "pull_request":
            await self._see(item, event)
        wanted = self._route(event)
        if isinstance(event, Ignored) or not wanted:
            _held(await self._inbox.finish(self._owner, item))
            return
        with telemetry.bound(repo=event.repository.slug, pull=getattr(event, "number", None)):
            await self._handle(item, event, wanted)

    async def _see(self, item: WorkItem, event: PullRequest) -> None:
        """The head that the delivery tells of is noted: what people ask for next is meant for that one."""
        if self._ledger is None:
            return
        journal = Journal(self._ledger, event.repository.id)
        seen = await journal.seen(event.number)
        if seen is None or seen.seq < item.seq:
            turns = handlers.begins_anew(event) and _reporting(event, self._route(event))
            turn = item.seq if turns else seen.turn if seen else 0
            await journal.put_seen(event.number, Seen(head=event.head_sha, seq=item.seq, turn=turn))

    async def _outdated(self, item: WorkItem, event: Known, wanted: Collection[Handler]) -> list[Handler]:
        """Those whose work is done anew for a newer head."""
        if not isinstance(event, PullRequest):
            return []
        may_be = [handler for handler in wanted if handlers.supersedes(event, event, handler)]
        newer = [*await self._inbox.behind(item), *await self._passed(item, event)] if may_be else []
        return [handler for handler in may_be if any(handlers.supersedes(one, event, handler) for one in newer)]

    async def _passed(self, item: WorkItem, event: PullRequest) -> list[Event]:
        """The event that all is said for by now, where that one went past while this one waited."""
        seen = await Journal(self._ledger, event.repository.id).seen(event.number) if self._ledger else None
        passed = seen is not None and seen.turn > item.seq
        return [replace(event, head_sha=seen.head)] if passed and seen else []

    async def _reporting(self, item: WorkItem, event: Known, wanted: Collection[Handler]) -> list[Handler]:
        """The handlers whose ending is the status of the event's head; none once that is a later event's business."""
        reporting = _reporting(event, wanted)
        passed = await self._passed(item, event) if reporting and isinstance(event, PullRequest) else []
        return [] if event in passed else reporting

    async def _handle(self, item: WorkItem, event: Known, wanted: Collection[Handler]) -> None:
        work = Work(item, dict(item.outcomes))
        unfinished = [handler for handler in wanted if not work.ended(handler.name)]
        if item.crashes >= CRASHES:
            for handler in unfinished:
                await self._store(work, handler.name, Outcome(Verdict.BROKEN, "the process died with it", TRIES_BROKEN))
        elif unfinished:
            outdated = await self._outdated(item, event, unfinished)
            for handler in outdated:
                await self._store(work, handler.name, Outcome(Verdict.DONE, SUPERSEDED))
            await self._try(work, event, [handler for handler in unfinished if handler not in outdated])
        if not work.retries:
            await self._conclude(work, event, wanted)
        if work.retries:
            await self._postpone(work)

    async def _try(self, work: Work, event: Known, wanted: Sequence[Handler]) -> None:
        """Every handler was tried: those that act one after another, and what is only said beside them."""
        if not work.ended(PENDING) and await self._reporting(work.item, event, wanted):
            await self._step(work, PENDING, self._status(event, "pending", "Working on it"), may_fail=True)
        acting = [handler for handler in wanted if not handler.beside]
        lines = [acting, *([handler] for handler in wanted if handler.beside)]
        scopes = {handler: anyio.CancelScope() for handler in wanted}
        try:
            async with anyio.create_task_group() as watch:
                watch.start_soon(self._give_way, work.item, event, scopes)
                async with anyio.create_task_group() as tasks:
                    for line in lines:
                        tasks.start_soon(self._in_turn, work, event, line, scopes)
                watch.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise _first(group) from group

    async def _in_turn(
        self, work: Work, event: Known, line: Iterable[Handler], scopes: Mapping[Handler, anyio.CancelScope]
    ) -> None:
        for handler in line:
            with scopes[handler] as scope:
                await self._step(work, handler.name, self._handler(event, handler))
            if scope.cancelled_caught:
                log.info("step " + SUPERSEDED, step=handler.name)
                await self._store(work, handler.name, Outcome(Verdict.DONE, SUPERSEDED))

    async def _give_way(self, item: WorkItem, event: Known, scopes: Mapping[Handler, anyio.CancelScope]) -> NoReturn:
        """What runs ends as soon as there is a newer head."""
        while True:
            await anyio.sleep(LOOK)
            for handler in await self._outdated(item, event, scopes):
                scopes[handler].cancel()

    async def _conclude(self, work: Work, event: Known, wanted: Collection[Handler]) -> None:
        """Every handler has ended: the status says how, then the item ends, too."""
        reporting = [work.outcomes[handler.name] for handler in await self._reporting(work.item, event, wanted)]
        untouched = PENDING not in work.outcomes and all(outcome.text == SUPERSEDED for outcome in reporting)
        if reporting and not untouched and not work.ended(VERDICT):
            failed = [outcome for outcome in reporting if outcome.verdict is not Verdict.DONE]
            told = failed or [outcome for outcome in reporting if outcome.text != SUPERSEDED] or reporting
            texts = "; ".join(filter(None, (comments.status(outcome.text) for outcome in told)))
            state = "error" if failed else "success"
            await self._step(work, VERDICT, self._status(event, state, texts))
        if work.retries:
            return
        dead = {step: outcome for step, outcome in work.outcomes.items() if _is_dead(step, outcome)}
        if dead:
            await self._bury(work.item, "; ".join(f"{step}: {outcome.text}" for step, outcome in dead.items()))
        else:
            rejected = any(work.outcomes[handler.name].verdict is not Verdict.DONE for handler in wanted)
            telemetry.ended("rejected" if rejected else "done")
            _held(await self._inbox.finish(self._owner, work.item, rejected=rejected))

    async def _step(self, work: Work, name: str, step: Step, *, may_fail: bool = False) -> None:
        """The step was tried; its outcome is stored, and a try that is to follow noted unless the step may fail."""
        with telemetry.step(name):
            retry = await self._once(work, name, step)
        if retry is not None and not may_fail:
            work.retries.append(retry)

    async def _once(self, work: Work, name: str, step: Step) -> Retry | None:
        before = work.outcomes.get(name)
        tries = before.tries + 1 if before else 1
        started = time.monotonic()
        ending = await _ending(step)
        # The one place that says what an ending is.
        match ending:
            case Done(text=text):
                outcome, after = Outcome(Verdict.DONE, text, tries), None
            case Rejected():
                outcome, after = Outcome(Verdict.REJECTED, str(ending), tries), None
            case TryAgain():
                outcome, after = Outcome(Verdict.TRY_AGAIN, str(ending), tries), ending.after
            case _:
                text = f"Telefonistka has a bug ({type(ending).__name__}); its operator's log has the details"
                outcome, after = Outcome(Verdict.BROKEN, text, tries), None
        telemetry.outcome(name, outcome.verdict, time.monotonic() - started)
        telemetry.ended(outcome.verdict, ending if isinstance(ending, Exception) else None)
        self._log(name, outcome, ending)
        await self._store(work, name, outcome)
        return None if _is_final(outcome) else Retry(name, tries, after, f"{name}: {outcome.text}")

    def _log(self, step: str, outcome: Outcome, ending: Done | Exception) -> None:
        match outcome.verdict:
            case Verdict.DONE:
                log.info("step done", step=step, text=outcome.text)
            case Verdict.BROKEN if isinstance(ending, Exception):
                log.error("step broken", step=step, tries=outcome.tries, exc_info=ending)
            case _:
                log.warning(f"step {outcome.verdict}", step=step, tries=outcome.tries, reason=outcome.text)

    async def _store(self, work: Work, step: str, outcome: Outcome) -> None:
        _held(await self._inbox.record(self._owner, work.item, step, outcome))
        work.outcomes[step] = outcome

    async def _postpone(self, work: Work) -> None:
        """The item waits as long as the most patient of its steps; no newer head waits for what it supersedes."""
        delay = max(self._inbox.delay(retry.tries, retry.after) for retry in work.retries)
        reason = "; ".join(retry.reason for retry in work.retries)
        log.info("work postponed", seconds=round(delay, 1), reason=reason)
        telemetry.ended("postponed")
        blocks = any(retry.step not in handlers.OF_THE_HEAD for retry in work.retries)
        _held(await self._inbox.postpone(self._owner, work.item, delay=delay, reason=reason, blocks=blocks))

    async def _bury(self, item: WorkItem, reason: str) -> None:
        _held(await self._inbox.bury(self._owner, item, reason=reason))
        telemetry.dead_letter()
        telemetry.ended("dead", reason)
        log.error("dead letter", reason=reason)

    def _handler(self, event: Known, handler: Handler) -> Step:
        async def step() -> Done:
            with anyio.fail_after(DEADLINE):
                return await handler.run(event, await self._contexts(event.repository))

        return step

    def _status(self, event: Known, state: str, text: str) -> Step:
        assert isinstance(event, PullRequest)

        async def step() -> Done:
            context = await self._contexts(event.repository)
            journal = Journal(context.ledger, event.repository.id)
            await statuses.tell(context, journal, event.number, event.head_sha, state, text)
            return Done(state)

        return step


def _reporting(event: Known, wanted: Collection[Handler]) -> list[Handler]:
    """The handlers whose ending is the commit status of the event's pull request."""
    return [handler for handler in wanted if handler.reports and isinstance(event, PullRequest)]


async def _ending(step: Step) -> Done | Exception:
    """How the step ended; of the endings of a task group the one that counts most."""
    try:
        return await step()
    except ExceptionGroup as group:
        return _heaviest(group)
    except Exception as error:
        return error


def _first(group: ExceptionGroup) -> Exception:
    """Of what kept outcomes from being stored, that the item is not ours any more, else the first."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if isinstance(leaf, Lost)), leaves[0])


def _heaviest(group: ExceptionGroup) -> Exception:
    """A bug, else what has to be tried again, else a rejection."""
    bugs = group.split((TryAgain, Rejected))[1]
    if bugs is not None:
        return group
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if isinstance(leaf, TryAgain)), leaves[0])


def _leaves(group: ExceptionGroup) -> list[Exception]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, ExceptionGroup) else [error])
    ]


def _is_final(outcome: Outcome) -> bool:
    """The step is not tried again."""
    match outcome.verdict:
        case Verdict.DONE | Verdict.REJECTED:
            return True
        case Verdict.TRY_AGAIN:
            return outcome.tries >= TRIES
        case Verdict.BROKEN:
            return outcome.tries >= TRIES_BROKEN


def _is_dead(step: str, outcome: Outcome) -> bool:
    return step != PENDING and outcome.verdict in (Verdict.TRY_AGAIN, Verdict.BROKEN)


def _held(ours: bool) -> None:
    if not ours:
        raise Lost
