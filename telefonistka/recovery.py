"""What never arrived: GitHub's delivery log and its merged pull requests, swept for what the journal lacks.

What belongs here: how far GitHub was compared with the journal, and what is journalled because of it. What it leads
to is decided where all deliveries are worked on. A sweep may end anywhere: how far it came is stored after what it
found is, never before, and what is in the journal already is left alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, NoReturn

import anyio

from telefonistka import handlers, telemetry
from telefonistka import inbox as inboxes
from telefonistka.core import events
from telefonistka.core.events import Comment, Event, Ignored, Malformed, PullRequest, Repository
from telefonistka.errors import Rejected, TryAgain
from telefonistka.exchange import Exchange
from telefonistka.github import Forbidden, NotFound, Refused, deliveries
from telefonistka.github.auth import Identity
from telefonistka.github.deliveries import Attempt, Log, Request
from telefonistka.github.inspection import Hook, Inspection
from telefonistka.github.repo import Merge, Repo
from telefonistka.handlers.journal import Journal
from telefonistka.inbox import Acceptance, Delivery, Inbox
from telefonistka.ledger import Ledger
from telefonistka.repositories import Known, Repositories
from telefonistka.storage import Unavailable
from telefonistka.telemetry import log

# https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks
KEPT = 3 * 86400.0  # seconds that GitHub's log reaches back
OVERLAP = 600.0  # seconds; GitHub lists an attempt once it has ended, and may be minutes late with it
GRACE = 120.0  # seconds that the webhook of a merge may still be on its way
LATE = 3  # intervals without a whole sweep, after which we say that something is wrong
SETTLED = 10_000  # deliveries that asked nothing of us, and are not fetched again
MARK, BEGAN = "watermark", "began"

# What is fetched, with its actions if only some may ask something of us.
FETCHED: Mapping[str, frozenset[str] | None] = {
    "push": None,
    "pull_request": None,
    "issue_comment": frozenset({"created"}),
}
# What only says that a merge which waits should be looked at, which is one look for all of them.
LOOKED_AT: Mapping[str, frozenset[str] | None] = {
    "pull_request_review": frozenset({"submitted", "dismissed"}),
    "status": None,
    "check_suite": frozenset({"completed"}),
}
MERGED = "pull_request"  # is always journalled when it arrives, so GitHub's word that it arrived is not needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What recovery reads GitHub by."""

    identity: Identity
    repo: Callable[[Repository], Awaitable[Repo]]


class Recovery:
    """Compares what GitHub remembers with the journal, now and then."""

    def __init__(
        self,
        doors: Doors,
        inbox: Inbox,
        exchange: Exchange,
        ledger: Ledger,
        repositories: Repositories,
        *,
        secrets: Sequence[bytes],
        interval: float,
        look: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._doors = doors
        self._inbox = inbox
        self._exchange = exchange
        self._ledger = ledger
        self._repositories = repositories
        self._secrets = secrets
        self._interval = interval
        self._look = look
        self._clock = clock
        self._whole = clock()  # when the last sweep that got through began
        self._troubles: list[str] = []  # of the last sweep
        self._lag = 0.0  # seconds; age of the oldest delivery that we could not fetch
        self._said: set[str] = set()
        self._settled: OrderedDict[str, None] = OrderedDict()

    async def run(self) -> NoReturn:
        """Sweeps at once and after each interval."""
        telemetry.recovery_interval(self._interval)
        while True:
            with telemetry.rounds("sweep"):
                await self.sweep()
            await anyio.sleep(self._interval)

    async def trouble(self) -> str | None:
        """Why what never arrived would not be found now; None: it would."""
        age = self._clock() - self._whole
        if age <= LATE * self._interval:
            return None
        reason = self._troubles[0] if self._troubles else "the last sweep does not end"
        return f"GitHub could not be asked for {age:.0f} s what has not arrived: {reason}"

    async def sweep(self) -> None:
        """All that GitHub remembers is in the journal, or the next sweep goes on where this one could not."""
        began, self._lag, self._troubles = self._clock(), 0.0, []
        await self._try(self._logs)
        await self._try(self._all_merges)
        if self._troubles:
            log.warning("a sweep for what never arrived is not complete", reasons=self._troubles)
        else:
            self._whole = began
        telemetry.recovery_sweep(complete=not self._troubles, at=self._clock(), lag=self._lag)

    async def _try(self, part: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """What goes wrong with one part holds up no other; what is refused is for people, and said once."""
        try:
            await part(*arguments)
        except Rejected as error:
            self._warn(str(error))
            if isinstance(error, Refused) and error.status == HTTPStatus.UNAUTHORIZED:
                self._troubles.append(str(error))
        except (TryAgain, Unavailable) as error:
            self._troubles.append(str(error))
        except Exception as error:
            log.exception("recovery has a bug")
            self._troubles.append(f"a bug, {type(error).__name__}")

    def _warn(self, reason: str) -> None:
        if reason not in self._said:
            log.warning("some of what never arrives cannot be found", reason=reason)
        self._said.add(reason)

    # GitHub's log of deliveries

    async def _logs(self) -> None:
        if not self._doors.identity.is_app:
            for known in await self._repositories.all():
                await self._try(self._hooks, known)
            return
        try:
            await self._compare("app", deliveries.of_app(self._doors.identity), await self._began())
        except NotFound as error:
            raise Rejected("The App has no webhook, so only merges are looked at.") from error

    async def _began(self) -> float:
        """When we first ran on this ledger: what happened before is not ours."""
        began = await self._ledger.get(MARK, BEGAN, float)
        if began is None:
            began = float(int(self._clock()))
            await self._ledger.put(MARK, BEGAN, began)
        return began

    async def _hooks(self, known: Known) -> None:
        repository = known.repository
        try:
            hooks = await Inspection(self._doors.identity, repository.owner, repository.name).hooks()
        except (NotFound, Forbidden) as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                raise
            what = f"We may not read the webhooks of {repository.slug}, so only merges are looked at"
            raise Rejected(f"{what}: let the token administer them (admin:repo_hook). {error}") from error
        ours = _ours(hooks, await self._inbox.hooks(repository.id))
        if not ours:
            raise Rejected(f"{repository.slug} has no webhook that leads to /webhook, so only merges are looked at.")
        client = await self._doors.identity.client(repository.owner, repository.name)
        for number in ours:
            source = deliveries.of_hook(client, repository.owner, repository.name, number)
            await self._compare(f"hook {repository.id}/{number}", source, known.since)

    async def _compare(self, key: str, source: Log, began: float) -> None:
        """What the log has and the journal lacks is journalled, the oldest first. Raises TryAgain and Unavailable."""
        mark = await self._ledger.get(MARK, key, float)
        reach = self._clock() - KEPT
        if mark is not None and mark < reach:
            log.warning("GitHub's log does not reach back to the last sweep", log=key, since=mark)
        since = max(began, reach, began if mark is None else mark - OVERLAP)
        try:
            attempts = await source.since(since)
        except TryAgain:
            self._lag = max(self._lag, self._clock() - (mark or began))
            raise
        until = source.now
        telemetry.recovery_throttled(sum(one.throttled and one.at >= (mark or began) for one in attempts))
        missing = await self._missing(attempts)
        if any(_matches(LOOKED_AT, attempt) for attempt in missing):
            await self._look()
        for attempt in missing:
            try:
                await self._recover(source, attempt)
            except Exception:
                self._lag = max(self._lag, until - attempt.at)
                raise
        await self._ledger.put(MARK, key, until)

    async def _missing(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """The first attempt of each delivery that may ask something of us and did not arrive, in order."""
        first: dict[str, Attempt] = {}
        for attempt in attempts:
            first.setdefault(attempt.guid, attempt)
        arrived = {attempt.guid for attempt in attempts if attempt.good}
        wanted = [
            attempt
            for guid, attempt in first.items()
            if guid not in self._settled
            and (_matches(FETCHED, attempt) or _matches(LOOKED_AT, attempt))
            and (guid not in arrived or attempt.event == MERGED)
        ]
        known = await self._inbox.known([attempt.guid for attempt in wanted])
        return [attempt for attempt in wanted if attempt.guid not in known]

    async def _recover(self, source: Log, attempt: Attempt) -> None:
        if _matches(FETCHED, attempt):
            with telemetry.recovered(), telemetry.bound(delivery=attempt.guid, event_type=attempt.event):
                await self._fetch(source, attempt)
        self._settled[attempt.guid] = None
        if len(self._settled) > SETTLED:
            self._settled.popitem(last=False)

    async def _fetch(self, source: Log, attempt: Attempt) -> None:
        try:
            request = await source.request(attempt)
        except Rejected as error:
            telemetry.ended("refused", error)
            log.error("a delivery that never arrived cannot be fetched", reason=str(error))
            return
        acceptance = await self._journal(attempt, request)
        telemetry.ended(acceptance or "ignored")
        if acceptance is Acceptance.ACCEPTED:
            telemetry.recovery_missed(attempt.event)
            log.info("a delivery that never arrived is journalled", delivered=_shown(attempt.at))

    async def _journal(self, attempt: Attempt, request: Request) -> Acceptance | None:
        """What became of the delivery in the journal; None: it asks nothing of us."""
        headers, body = request.rebuilt(self._secrets)
        payload = inboxes.payload(headers, body)
        headers, lane = telemetry.carried(headers), events.lane(payload)
        delivery = Delivery(id=attempt.guid, event=attempt.event, lane=lane, headers=headers, body=body)
        try:
            event = events.parse(attempt.event, payload)
            dispatch = self._exchange.begin(delivery, payload)
        except Exception as error:
            if not isinstance(error, Malformed):
                log.exception("a delivery that never arrived meets a bug")
            return await self._inbox.accept(delivery)  # it is kept, and the worker says what is wrong with it
        if isinstance(event, Ignored) and dispatch is None:
            return None
        kept = [] if isinstance(event, Ignored) else await self._inbox.kept(lane)
        if isinstance(event, Comment) and _has_moved(payload, kept):
            log.warning("a command came too late: somebody may have pushed since")
            return None
        work = not isinstance(event, Ignored) and not _is_overtaken(event, payload, kept)
        with telemetry.journal():
            acceptance = await self._inbox.accept(delivery, work=work, post=dispatch.post if dispatch else None)
        return await self._exchange.stored(dispatch, acceptance) if dispatch else acceptance

    # Merges

    async def _all_merges(self) -> None:
        for known in await self._repositories.all():
            await self._try(self._merges, known)

    async def _merges(self, known: Known) -> None:
        """Every merge into the default branch has been journalled, by whatever told of it."""
        repository, key = known.repository, f"merges {known.repository.id}"
        mark = await self._ledger.get(MARK, key, float)
        repo = await self._doors.repo(repository)
        found = await repo.merges(known.since if mark is None else max(known.since, mark - OVERLAP))
        ripe = found.until - min(GRACE, self._interval)
        for merge in found.merges:
            if merge.at > ripe or merge.base_ref != found.default_branch:
                continue
            if not await self._is_journalled(repository, merge.number):
                await self._inbox.enqueue(_closed(repository, found.default_branch, merge))
                telemetry.recovery_missed_merge()
                log.info("a merge that nothing told of is journalled", repo=repository.slug, pull=merge.number)
        await self._ledger.put(MARK, key, ripe)

    async def _is_journalled(self, repository: Repository, number: int) -> bool:
        if await Journal(self._ledger, repository.id).pin(number) is not None:
            return True
        return any(_tells_of_merge(name, one) for name, one in await self._inbox.kept(f"{repository.id}/{number}"))


def _matches(wanted: Mapping[str, frozenset[str] | None], attempt: Attempt) -> bool:
    if attempt.event not in wanted:
        return False
    actions = wanted[attempt.event]
    return actions is None or attempt.action in actions


def _ours(hooks: Sequence[Hook], seen: frozenset[int]) -> list[int]:
    """The webhooks that bring us deliveries: those that have, else those that lead to our path."""
    numbered = [(hook.id, hook) for hook in hooks if hook.id is not None]
    by_path = [number for number, hook in numbered if hook.leads_to_us]
    return [number for number, _ in numbered if number in seen] or by_path


def _tells_of_merge(name: str, payload: dict[str, Any]) -> bool:
    event = _pull(name, payload)
    return event is not None and event.action == "closed" and event.merged


def _pull(name: str, payload: dict[str, Any]) -> PullRequest | None:
    try:
        event = events.parse(name, payload)
    except Malformed:
        return None
    return event if isinstance(event, PullRequest) else None


def _closed(repository: Repository, default_branch: str, merge: Merge) -> PullRequest:
    """The event that a webhook would have been."""
    return PullRequest(
        repository=replace(repository, default_branch=default_branch),
        action="closed",
        number=merge.number,
        merged=True,
        base_ref=merge.base_ref,
        base_sha=merge.base_sha,
        head_ref=merge.head_ref,
        head_sha=merge.head_sha,
        merge_sha=merge.merge_sha,
        title=merge.title,
        body=merge.body,
        author=merge.author,
        sender=merge.author,
    )


def _is_overtaken(event: Event, payload: Mapping[str, Any], kept: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    """Whether a newer delivery has led to all that this one would lead to."""
    at = _updated(payload)
    newer = (_pull(name, one) for name, one in kept if name == MERGED and at < _updated(one))
    return any(handlers.overtakes(one, event) for one in newer if one is not None)


def _has_moved(comment: Mapping[str, Any], kept: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    """Whether the head that a comment's author saw may not be the one that the journal knows by now."""
    written = str(comment["comment"].get("created_at", ""))
    told = [(_updated(one), one["action"], one["pull_request"]["head"]["sha"]) for name, one in kept if name == MERGED]
    before = [head for at, action, head in sorted(told) if at < written or action == "opened"]
    since = {head for at, action, head in told if at >= written and action != "opened"}
    return bool(since) and since != set(before[-1:])


def _updated(payload: Mapping[str, Any]) -> str:
    """When the pull request of a payload was as it says, in GitHub's notation, which sorts."""
    return str((payload.get("pull_request") or {}).get("updated_at", ""))


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
