"""Which webhook goes where: at once where everything is known, else as soon as GitHub has said what is missing.

What belongs here: routing, and what becomes of a delivery that cannot be routed yet. How it is sent is the relay's
business, what the rules mean core/fanout's. In steady state a push is routed from memory while it is being stored.
Else it is stored as one without a route, and a lane per repository works these off in order, through restarts.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from anyio.abc import TaskGroup

from telefonistka import inbox as inboxes
from telefonistka import outbox as outboxes
from telefonistka import telemetry, wire
from telefonistka.configs import Configs, Found, Kept
from telefonistka.core import config, events, fanout
from telefonistka.core.events import Malformed, Repository
from telefonistka.core.fanout import Change, Endpoint, Routes, Routing
from telefonistka.core.trees import Sha
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import NotFound
from telefonistka.github.repo import Repo
from telefonistka.inbox import Acceptance, Delivery
from telefonistka.outbox import Outbox
from telefonistka.relay import Parcel, Relay, State
from telefonistka.storage import Headers, Post, Storage, Unavailable
from telefonistka.telemetry import log

EVENTS = ("push", "pull_request")
KNOWN = "relay-endpoints"  # the kind of the documents with each repository's earlier endpoints
KNOWN_MOST = 1000  # of one repository
RECENT = 10_000  # deliveries that are not sent twice without a look into the journal
ASKING = 30.0  # seconds that GitHub has for one question
SETTLING = 3  # tries to learn which files changed; then `relay.onUnknownFiles` decides
LONGEST = 300.0  # seconds between two tries

Repos = Callable[[Repository], Awaitable[Repo]]


@dataclass(slots=True, eq=False)
class Pending:
    """A delivery that has no route yet."""

    delivery: str
    repository: Repository
    change: Change
    received: float
    headers: Headers = ()  # as they are stored
    is_early: bool = False  # it goes to who was known before, too
    sent: set[Endpoint] = field(default_factory=set)  # these
    tries: int = 0  # to settle its files


@dataclass(slots=True)
class Dispatch:
    """What is to be stored of a delivery, and what is under way already."""

    delivery: str
    post: Post
    parcel: Parcel | None = None
    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay has set in motion."""

    letters: int  # dead letters that are sent again
    rerouted: bool  # the delivery is routed anew


@dataclass(slots=True)
class _Lane:
    """What has no route yet, of one repository."""

    waiting: deque[Pending] = field(default_factory=deque)
    is_worked: bool = False
    routing: Pending | None = None  # what GitHub is being asked about
    trouble: str = ""  # why the first of them could not be routed at the last try


class Exchange:
    """Deliveries in, letters to the relay."""

    def __init__(
        self,
        relay: Relay,
        outbox: Outbox,
        configs: Configs,
        storage: Storage,
        repos: Repos,
        *,
        give_up: float,
        serves: Callable[[str], bool] = lambda slug: True,
        clock: Callable[[], float] = time.time,
        asking: float = ASKING,
    ) -> None:
        self._relay = relay
        self._outbox = outbox
        self._configs = configs
        self._storage = storage
        self._repos = repos
        self._give_up = give_up  # seconds after arrival
        self._serves = serves
        self._clock = clock
        self._asking = asking
        self._lanes: dict[int, _Lane] = {}
        self._known: dict[int, dict[Endpoint, None]] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._tasks: TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Exchange]:
        """Takes over what an earlier process has left without a route, and works until the block ends."""
        await self._configs.load()
        await self._load_known()
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for left in await self._outbox.unrouted():
                await self._resume(left.delivery, left.event, left.received)
            tasks.start_soon(self._configs.keep_fresh)
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()

    # While a delivery is being stored

    def begin(self, delivery: Delivery, payload: Mapping[str, Any]) -> Dispatch | None:
        """Sends the delivery where its route is known, and says what is to be stored; None: it goes nowhere.

        Raises Malformed.
        """
        change = fanout.change(delivery.event, payload)
        if change is None:
            return None
        repository = events.repository(payload)
        if not self._serves(repository.slug):
            return None
        pending = Pending(delivery.id, repository, change, self._clock(), delivery.headers)
        is_new = self._is_new(delivery.id)
        if self._touches_config(change):
            self._configs.changed(repository, change.after)
        kept = self._configs.current(repository)
        if kept is not None and not kept.routes.wants(change):
            return None
        if kept is None or change.doubt or not is_new:
            return Dispatch(delivery.id, Post(routed=False), pending=pending)
        routing = self._routed(pending, kept.routes)
        if not routing.endpoints:
            return None
        letter = wire.letter(delivery.headers, delivery.body)
        parcel = self._relay.send(delivery.id, letter, routing.endpoints, received=pending.received)
        return Dispatch(delivery.id, outboxes.post(routing.endpoints), parcel=parcel)

    async def stored(self, dispatch: Dispatch, acceptance: Acceptance) -> Acceptance:
        """The journal knows of the delivery; a duplicate whose letters are dead is sent again."""
        if acceptance is Acceptance.DUPLICATE:
            revived = await self._relay.replay(dispatch.delivery)
            return Acceptance.REARMED if revived else acceptance
        if dispatch.parcel is not None:
            self._relay.stored(dispatch.parcel)
        elif dispatch.pending is not None:
            self._put(dispatch.pending)
        return acceptance

    def _touches_config(self, change: Change) -> bool:
        on_default = change.event == "push" and change.branch == change.default_branch
        return on_default and bool(change.doubt or config.FILE in change.files)

    def _is_new(self, delivery: str) -> bool:
        """Whether the delivery was not here lately; whether it was here earlier, the journal knows."""
        if delivery in self._recent:
            return False
        self._recent[delivery] = None
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return True

    # Routing

    def _routed(self, pending: Pending, routes: Routes) -> Routing:
        """Where the change goes, said where that is not what the rules alone say."""
        repository, change = pending.repository, pending.change
        known = self._known.setdefault(repository.id, {})
        routing = routes.endpoints(change, known=known)
        where = {"delivery": pending.delivery, "repo": repository.slug}
        for refused in routing.refused:
            place = f"{config.FILE}:{refused.line}"
            log.warning("a replacement is refused", **where, place=place, path=refused.path, reason=refused.reason)
        telemetry.relay_refused(len(routing.refused) + routing.uncounted)
        if routing.unknown:
            telemetry.relay_unknown_files(repository.slug)
            telemetry.describe({"unknown_files": routing.unknown})
            log.warning("changed files unknown", **where, reason=routing.unknown, endpoints=len(routing.endpoints))
        self._learn(repository, [one for one in routing.endpoints if one not in known])
        return routing

    def _learn(self, repository: Repository, endpoints: Sequence[Endpoint]) -> None:
        if not endpoints:
            return
        known = self._known[repository.id]
        known.update(dict.fromkeys(endpoints))
        while len(known) > KNOWN_MOST:
            del known[next(iter(known))]
        assert self._tasks is not None, "the exchange is not running"
        self._tasks.start_soon(self._store_known, repository.id)

    async def _store_known(self, repository: int) -> None:
        listed = [(endpoint.url, endpoint.verify) for endpoint in self._known[repository]]
        try:
            await self._storage.put(KNOWN, str(repository), orjson.dumps(listed))
        except Unavailable as error:
            log.warning("known endpoints cannot be stored", reason=str(error))

    async def _load_known(self) -> None:
        for key, stored in (await self._storage.documents(KNOWN)).items():
            known = self._known.setdefault(int(key), {})
            known.update((fanout.endpoint(url, verify=verify), None) for url, verify in orjson.loads(stored))

    # What has no route yet

    async def _resume(self, delivery: str, event: str, received: float) -> None:
        """A stored delivery waits for its route again."""
        found = await self._outbox.fetch(delivery)
        if found is None:
            return
        try:
            payload = inboxes.payload(*found)
            change = fanout.change(event, payload)
            if change is None:
                await self._outbox.owe(delivery, (), received=received)
                return
            pending = Pending(delivery, events.repository(payload), change, received, found[0])
        except (inboxes.Unreadable, Malformed) as error:
            await self._outbox.misroute(delivery, f"not understood: {error}")
            return
        if self._touches_config(pending.change):
            self._configs.changed(pending.repository, pending.change.after)
        self._put(pending)

    def _put(self, pending: Pending) -> None:
        lane = self._lanes.setdefault(pending.repository.id, _Lane())
        lane.waiting.append(pending)
        assert self._tasks is not None, "the exchange is not running"
        if lane.trouble:
            self._tasks.start_soon(self._meanwhile, lane)
        if not lane.is_worked:
            lane.is_worked = True
            # It goes on with other deliveries than this one.
            telemetry.apart(self._tasks.start_soon, self._work, lane)

    async def _work(self, lane: _Lane) -> None:
        """Routes one after the other; what GitHub cannot say now is asked again later."""
        tries = 0
        while lane.waiting:
            pending = lane.routing = lane.waiting[0]
            try:
                with telemetry.route(pending.headers), _named(pending):
                    await self._route(pending)
            except (TryAgain, Unavailable) as error:
                tries += 1
                after = getattr(error, "after", None) or min(LONGEST, 2.0**tries) * random.uniform(0.5, 1)  # noqa: S311
                log.warning("not routed yet", delivery=pending.delivery, reason=str(error), seconds=round(after, 1))
                lane.trouble, lane.routing = str(error), None
                await self._meanwhile(lane)
                await anyio.sleep(min(after, LONGEST))
            except Exception as error:
                if not isinstance(error, Rejected):
                    log.exception("a bug in the exchange", delivery=pending.delivery)
                lane.waiting.popleft()
                await self._misroute(pending, str(error))
            else:
                tries, lane.trouble = 0, ""
                lane.waiting.popleft()
        lane.is_worked, lane.routing = False, None

    async def _route(self, pending: Pending) -> None:
        """The delivery is owed to all its endpoints. Raises TryAgain and Rejected."""
        kept = await self._config(pending.repository)
        if not kept.routes.wants(pending.change):
            await self._outbox.owe(pending.delivery, (), received=pending.received)
            return
        await self._settle(pending)
        endpoints = [one for one in self._routed(pending, kept.routes).endpoints if one not in pending.sent]
        found = await self._outbox.fetch(pending.delivery)
        if found is not None:
            await self._relay.accept(pending.delivery, wire.letter(*found), endpoints, received=pending.received)
            log.info("delivery routed", delivery=pending.delivery, endpoints=len(endpoints))

    async def _config(self, repository: Repository) -> Kept:
        """What counts now; what counted last, where GitHub refuses to say."""
        try:
            with _answering(self._asking):
                return await self._configs.fresh(repository)
        except Rejected as error:
            kept = self._configs.last(repository)
            if kept is None:
                raise
            log.error("the last good configuration is in use", repo=repository.slug, reason=str(error))
            return kept

    async def _settle(self, pending: Pending) -> None:
        """The changed files are known, or it is known that they will not be. Raises TryAgain."""
        if not pending.change.doubt:
            return
        pending.tries += 1
        try:
            with _answering(self._asking):
                repo = await self._repos(pending.repository)
                pending.change = pending.change.of(await _files(repo, pending.change))
        except TryAgain as error:
            if pending.tries < SETTLING:
                raise
            log.warning("GitHub does not say which files changed", delivery=pending.delivery, reason=str(error))
        except Rejected as error:
            log.warning("GitHub does not know which files changed", delivery=pending.delivery, reason=str(error))

    async def _meanwhile(self, lane: _Lane) -> None:
        """While GitHub says nothing, the last good configuration counts; what a newer one adds is sent later."""
        for pending in list(lane.waiting):
            if self._clock() - pending.received > self._give_up and pending is not lane.routing:
                lane.waiting.remove(pending)
                await self._misroute(pending, f"GitHub could not be asked for {self._give_up:,.0f} s: {lane.trouble}")
                continue
            kept = None if pending is lane.routing else self._configs.last(pending.repository)
            if kept is None or pending.is_early or not kept.routes.wants(pending.change):
                continue
            if pending.change.doubt and pending.tries < SETTLING and self._configs.current(pending.repository):
                continue
            pending.is_early = True
            try:
                await self._send_early(pending, kept)
            except Unavailable as error:
                pending.is_early = False
                log.warning("not sent early", delivery=pending.delivery, reason=str(error))

    async def _send_early(self, pending: Pending, kept: Kept) -> None:
        with telemetry.route(pending.headers), _named(pending):
            endpoints = self._routed(pending, kept.routes).endpoints
        found = await self._outbox.fetch(pending.delivery)
        if not endpoints or found is None:
            return
        log.warning("sent by the last good configuration", delivery=pending.delivery, endpoints=len(endpoints))
        parcel = self._relay.send(pending.delivery, wire.letter(*found), endpoints, received=pending.received)
        pending.sent.update(endpoints)
        await self._outbox.owe(pending.delivery, endpoints, received=pending.received, routed=False)
        self._relay.stored(parcel)

    async def _misroute(self, pending: Pending, reason: str) -> None:
        log.error("a delivery cannot be routed", delivery=pending.delivery, repo=pending.repository.slug, reason=reason)
        telemetry.relay_unrouted()
        try:
            await self._outbox.misroute(pending.delivery, reason)
        except Unavailable as error:
            log.warning("no dead letter", delivery=pending.delivery, reason=str(error))

    # What an operator does and sees

    async def replay(self, delivery: str, endpoints: Iterable[Endpoint] = (), *, anew: bool = True) -> Replay | None:
        """Dead letters are sent again, to some endpoints or to all; where there are none, it may be routed anew.

        None: there is no such delivery.
        """
        wanted = tuple(endpoints)
        story = await self._storage.story(delivery)
        if story is None:
            return None
        letters = await self._relay.replay(delivery, wanted)
        has_route = all(dead.recipient[0] for dead in story.dead)
        anew = anew and not letters and story.summary.routed and story.summary.event in EVENTS
        if wanted or (has_route and not anew):
            return Replay(letters, rerouted=False)
        await self._outbox.unroute(delivery)
        await self._resume(delivery, story.summary.event, self._clock())
        return Replay(letters, rerouted=True)

    def gauges(self) -> None:
        """The metrics say how each endpoint is doing now."""
        now = self._clock()
        statuses = list(self._relay.statuses())
        telemetry.relay_endpoints(
            (
                status.endpoint.name,
                status.waiting + status.in_flight,
                0.0 if status.oldest is None else max(0.0, now - status.oldest),
                status.breaker is not State.CLOSED,
            )
            for status in statuses
        )


class Hub:
    """configs.Source over GitHub."""

    LAGS = (1.0, 2.0)  # seconds; GitHub's replicas lag behind its webhooks

    def __init__(self, repos: Repos) -> None:
        self._repos = repos

    async def read(self, repository: Repository, commit: str) -> Found:
        """The file at the head of the default branch, which holds the commit unless it was pushed away."""
        if not commit:
            found = await self.newer(repository, "")
            assert found is not None, "nothing is older than what was never asked for"
            return found
        repo = await self._repos(repository)
        head = (await repo.default_branch()).head.sha
        for lag in self.LAGS:
            if head == commit or await _holds(repo, head, Sha(commit)):
                break
            await anyio.sleep(lag)
            head = (await repo.default_branch()).head.sha
        return Found((await repo.read(head, [config.FILE]))[config.FILE])

    async def newer(self, repository: Repository, etag: str) -> Found | None:
        repo = await self._repos(repository)
        try:
            found = await repo.newer(config.FILE, repository.default_branch, etag)
        except NotFound:  # which proves nothing
            head = (await repo.default_branch()).head.sha
            return Found((await repo.read(head, [config.FILE]))[config.FILE])
        return None if found is None else Found(*found)


async def _holds(repo: Repo, head: Sha, commit: Sha) -> bool:
    try:
        return await repo.contains(head, commit)
    except NotFound:
        return False


async def _files(repo: Repo, change: Change) -> Iterable[str]:
    if change.number is not None:
        return await repo.changed_files(change.number, base_sha=Sha(change.before), head_sha=Sha(change.after))
    return await repo.pushed_files(change.before or change.default_branch, Sha(change.after))


def _named(pending: Pending) -> AbstractContextManager[None]:
    return telemetry.bound(delivery=pending.delivery, repo=pending.repository.slug, pull=pending.change.number)


@contextmanager
def _answering(seconds: float) -> Iterator[None]:
    """TryAgain where GitHub takes longer."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise TryAgain(f"GitHub did not answer within {seconds:g} s") from error
