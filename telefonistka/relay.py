"""Which endpoint gets which webhook next: order, retry and a breaker per endpoint.

What belongs here: the queues in memory, the decisions about answers, and what the journal must keep of both. Bytes
and connections are in `wire`. Endpoints share nothing but the loop: each has its own queue, its own requests in
flight, its own breaker. A delivery goes out at least once, or ends among the dead letters with a reason.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from telefonistka import telemetry, wire
from telefonistka.core.fanout import Endpoint
from telefonistka.storage import Headers, Unavailable
from telefonistka.telemetry import log
from telefonistka.wire import Answer, Letter

LINGER = 0.02  # seconds that results wait for others, to be written with them
HELD = 64 << 20  # bytes of bodies in memory; of more, those that wait are read again from the journal
IDLE = 60.0  # seconds between two looks for queues that nobody needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient the relay is, in seconds, and what it holds for one endpoint."""

    first: float = 1.0  # the longest wait after the first failure; it doubles with each
    longest: float = 300.0
    give_up: float = 24 * 3600.0  # after arrival
    failures: int = 5  # in a row; then the breaker opens
    probe: float = 5.0  # the first wait of an open breaker; it doubles with each failed probe
    longest_probe: float = 60.0
    storage: float = 1.0  # until a write that failed is tried again
    grace: float = 5.0  # for what is in flight when we stop
    in_flight: int = 8  # requests at once
    waiting: int = 1000  # deliveries; a day of a busy repository


# What an answer means


class Ending(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an answer."""

    ending: Ending
    reason: str = ""
    after: float = 0.0  # seconds that the receiver asks us to wait


DELIVERED = Verdict(Ending.DELIVERED)
RETRIED = frozenset({408, 425, 429})  # and all of 5xx
LONGEST_WISH = 3600.0  # seconds; a receiver that asks for more is asked again all the same
SAID = 200  # characters of an answer that are kept

HINTS = {
    400: "Argo CD answers so to a wrong secret, to an event that it does not take, and to a body that is too large",
    401: "something in front of Argo CD wants credentials; the webhook's path must be open",
    403: "something in front of Argo CD refuses; the webhook's path must be open",
    404: "nothing takes webhooks there; Argo CD does at /api/webhook",
    405: "nothing takes webhooks there; Argo CD does at /api/webhook",
    413: "something in front of Argo CD takes no bodies of this size",
}
HEARD = (
    ("HMAC", "its webhook secret is not the one that this delivery is signed with"),
    ("missing X-Hub-Signature", "it has a webhook secret, and this delivery is not signed"),
    ("event not defined", "it does not take this event; only the ApplicationSet controller takes pull_request"),
)


def verdict(answer: Answer, *, now: float) -> Verdict:
    """What follows from an answer. Nothing that a person must change is tried again by itself."""
    status = answer.status
    if status is None:
        return Verdict(Ending.DEAD if answer.refused else Ending.RETRY, answer.error)
    if 200 <= status < 300:
        return DELIVERED
    reason = _reason(answer)
    if status in RETRIED or 500 <= status < 600:
        return Verdict(Ending.RETRY, reason, _wish(answer.retry_after, now=now))
    return Verdict(Ending.DEAD, reason)


def _reason(answer: Answer) -> str:
    status = answer.status or 0
    said = " ".join("".join(c if c.isprintable() else " " for c in answer.said).split())[:SAID]
    hint = HINTS.get(status, "")
    if 300 <= status < 400:
        hint = f"redirects are not followed; the URL must be the final one: {answer.location[:SAID]!r}"
    hint = next((meant for words, meant in HEARD if status == 400 and words in said), hint)
    return "; ".join(filter(None, (f"status {status}", hint, said and f"it says: {said}")))


def _wish(text: str, *, now: float) -> float:
    """The seconds of a Retry-After header: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3"""
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WISH)
    try:
        date: datetime = parsedate_to_datetime(text)
        return min(max(date.timestamp() - now, 0.0), LONGEST_WISH)
    except (ValueError, OverflowError, TypeError):
        return 0.0


def backoff(attempts: int, pace: Pace, chance: Callable[[], float]) -> float:
    """Seconds until the next try: anything up to a limit that doubles, so that endpoints do not try in step."""
    return chance() * min(pace.longest, pace.first * 2.0 ** min(attempts - 1, 60))


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Whether an endpoint may be tried: after some failures in a row only now and then, with one request."""

    __slots__ = ("_pace", "failures", "state", "until")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.state = State.CLOSED
        self.failures = 0  # in a row
        self.until = 0.0  # while open

    def allows(self, now: float) -> bool:
        """Whether a request may be made; whoever is told so of an open breaker must `probe`."""
        return self.state is State.CLOSED or (self.state is State.OPEN and now >= self.until)

    def probe(self) -> None:
        self.state = State.PROBING

    def unprobed(self) -> None:
        """What was to be the probe was not sent."""
        if self.state is State.PROBING:
            self.state = State.OPEN

    def succeeded(self) -> bool:
        """The endpoint lives. Whether that is news."""
        was = self.state
        self.state, self.failures = State.CLOSED, 0
        return was is not State.CLOSED

    def failed(self, now: float, chance: Callable[[], float]) -> bool:
        """A request failed. Whether the breaker opened by that."""
        if self.state is State.OPEN:  # what was still in flight when it opened says nothing new
            return False
        self.failures += 1
        if self.failures < self._pace.failures:
            return False
        was = self.state
        doubled = self._pace.probe * 2.0 ** min(self.failures - self._pace.failures, 60)
        self.until = now + min(doubled, self._pace.longest_probe) * (0.5 + chance() / 2)
        self.state = State.OPEN
        return was is State.CLOSED


# What waits


class Parcel:
    """One webhook on its way to some endpoints."""

    __slots__ = ("early", "id", "letter", "open", "received", "stored")

    def __init__(self, id: str, received: float, letter: Letter | None, open: int, *, stored: bool) -> None:  # noqa: A002
        self.id = id
        self.received = received
        self.letter = letter  # None: it is in the journal only
        self.open = open  # endpoints that it is still to reach
        self.stored = stored  # the journal knows that it is owed
        self.early: list[Result] = []  # results from before that


def _whose(parcel: Parcel) -> dict[str, str]:
    """What a log record says of the delivery that it is about."""
    return {"delivery": parcel.id, **telemetry.ids(parcel.letter.trace if parcel.letter is not None else "")}


class Item:
    """One parcel for one endpoint."""

    __slots__ = ("attempts", "parcel", "seq")

    def __init__(self, parcel: Parcel, seq: int, attempts: int = 0) -> None:
        self.parcel = parcel
        self.seq = seq  # order of arrival
        self.attempts = attempts


class Queue:
    """What waits for one endpoint. First attempts are made in order; a retry holds up nothing.

    The first request goes alone, and each that is taken doubles how many may be in flight: a hundred endpoints at
    once are a hundred TLS handshakes then, and not eight hundred that use up each other's time limits.
    """

    __slots__ = (
        "_most", "_retry_next", "alarm", "breaker", "endpoint", "fresh", "full", "limit", "retries", "workers",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, pace: Pace) -> None:
        self.endpoint = endpoint
        self.breaker = Breaker(pace)
        self._most = pace.waiting
        self.fresh: deque[Item] = deque()
        self.retries: list[tuple[float, int, Item]] = []  # a heap by the time when they are due
        self.workers = 0  # each has one request in flight
        self.limit = 1  # of workers
        self.alarm = float("inf")  # when somebody looks after the queue
        self.full = False  # it overflowed, and that was said
        self._retry_next = False

    def __len__(self) -> int:
        return len(self.fresh) + len(self.retries)

    def add(self, item: Item) -> Item | None:
        """Adds what was never tried; the item that had to make room."""
        self.fresh.append(item)
        return self._overflow()

    def add_retry(self, item: Item, due: float) -> Item | None:
        """Adds what is to be tried again; the item that had to make room."""
        heapq.heappush(self.retries, (due, item.seq, item))
        return self._overflow()

    def _overflow(self) -> Item | None:
        if len(self) <= self._most:
            return None
        oldest = min(self.retries, key=lambda retry: retry[1], default=None)
        if oldest is None or (self.fresh and self.fresh[0].seq < oldest[1]):
            return self.fresh.popleft()
        self.retries.remove(oldest)
        heapq.heapify(self.retries)
        return oldest[2]

    def take(self, now: float) -> Item | None:
        """What is to be sent now. Fresh items and retries take turns where there are both."""
        if not self.breaker.allows(now):
            return None
        if self.breaker.state is State.OPEN:
            item = self._next(float("inf"))
            if item is not None:
                self.breaker.probe()
            return item
        return self._next(now)

    def _next(self, now: float) -> Item | None:
        is_due = bool(self.retries) and self.retries[0][0] <= now
        if self.fresh and not (is_due and self._retry_next):
            self._retry_next = True
            return self.fresh.popleft()
        self._retry_next = False
        return heapq.heappop(self.retries)[2] if is_due else None

    def next_time(self) -> float:
        """When the next item may be sent."""
        if not len(self) or self.breaker.state is State.PROBING:
            return float("inf")
        if self.breaker.state is State.OPEN:
            return self.breaker.until
        return 0.0 if self.fresh else self.retries[0][0]

    def hasten(self) -> None:
        """Makes all retries due, in order of arrival: the endpoint is back."""
        self.retries = [(0.0, seq, item) for _, seq, item in self.retries]
        heapq.heapify(self.retries)

    def expired(self, before: float) -> list[Item]:
        """Takes out what arrived too long ago."""
        late = [item for _, _, item in self.retries if item.parcel.received <= before]
        if late:
            self.retries = [retry for retry in self.retries if retry[2].parcel.received > before]
            heapq.heapify(self.retries)
        while self.fresh and self.fresh[0].parcel.received <= before:
            late.append(self.fresh.popleft())
        return late


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How one endpoint is doing."""

    endpoint: Endpoint
    waiting: int
    in_flight: int
    breaker: State
    failures: int  # in a row
    oldest: float | None  # arrival of the oldest that waits, in seconds since 1970


# What the journal keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """An endpoint that a delivery has not reached yet."""

    delivery: str
    received: float
    endpoint: Endpoint
    attempts: int = 0
    due: float = 0.0  # of the next attempt


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a delivery at one endpoint, in one attempt or for good."""

    delivery: str
    endpoint: Endpoint
    ending: Ending
    attempts: int
    at: float
    due: float = 0.0  # of the next attempt, where the ending is RETRY
    reason: str = ""  # empty where it was delivered


class RelayStore(Protocol):
    """What the relay needs of the journal. Whatever returns is durable. All raise storage.Unavailable.

    The journal holds each delivery's headers and body once, under its id, as long as an endpoint is owed it or it is
    a dead letter. Beside that it holds, for each delivery, which endpoints are owed it. Calls for one delivery come
    in this order: `owe` once, then any number of `record`. It may be told the same result twice, after a write that
    failed half-way, and again `owe` for a delivery that was routed anew after a crash: that adds the endpoints which
    it does not know and leaves the others as they are.

    Cheapest lay-out: the endpoints of `owe` as one list in the delivery's own row (URL and `verify` of each, see
    `fanout.endpoint`), and a row of their own only for those with a RETRY or DEAD result. Then a delivery that all
    endpoints took at once costs one insert and one update that empties the list, and leaves one row.
    """

    async def owe(self, delivery: str, endpoints: Sequence[Endpoint], *, received: float) -> None:
        """The endpoints are owed the delivery. May well be part of the transaction that stores the delivery."""

    async def record(self, results: Sequence[Result]) -> None:
        """In one transaction, in order: DELIVERED ends a debt; RETRY sets its attempts and due time; DEAD turns it
        into a dead letter, kept with attempts, reason and time until it is revived or its retention ends."""

    async def owed(self) -> Sequence[Debt]:
        """All debts, by arrival of their deliveries; asked for once, on start."""

    async def fetch(self, delivery: str) -> tuple[Headers, bytes] | None:
        """Headers and body of a delivery; None: they are not there any more."""

    async def revive(self, delivery: str, endpoints: Sequence[Endpoint], *, now: float) -> Sequence[Debt]:
        """Makes debts of a delivery's dead letters for these endpoints (none given: for all), as if it arrived now,
        with no attempts made; what was revived."""


class Sender(Protocol):
    """What the relay needs of `wire.Wire`."""

    async def send(self, endpoint: Endpoint, letter: Letter) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, as it went; times in seconds since 1970."""

    endpoint: Endpoint
    delivery: str
    trace: str  # the W3C trace context of the delivery
    attempt: int
    answer: Answer
    verdict: Verdict
    began: float
    ended: float


Observer = Callable[[Tried], None]


# The relay


class Relay:
    """Deliveries in, requests out."""

    def __init__(
        self,
        sender: Sender,
        store: RelayStore,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        observe: Observer = lambda tried: None,
    ) -> None:
        self._sender = sender
        self._store = store
        self._pace = pace or Pace()
        self._clock = clock
        self._chance = chance
        self._observe = observe
        self._queues: dict[Endpoint, Queue] = {}
        self._seq = 0
        self._results: list[Result] = []
        self._written = anyio.Event()  # set where there is something to write
        self._alarms: list[tuple[float, int, Queue]] = []
        self._alarm_set = anyio.Event()
        self._bodies: deque[Parcel] = deque()  # whose bodies are in memory, oldest first
        self._bytes = 0
        self._fetching = anyio.Lock()
        self._in_flight = 0
        self._landed = anyio.Event()
        self._stopping = False
        self._tasks: TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Sends what the journal says is owed, and what is handed in, until the block ends."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._take_over(await self._store.owed())
            tasks.start_soon(self._keep_time)
            tasks.start_soon(self._write)
            try:
                yield self
            finally:
                self._stopping = True
                with anyio.move_on_after(self._pace.grace, shield=True):
                    await self._land()
                    await self._flush()
                tasks.cancel_scope.cancel()

    async def accept(self, delivery: str, letter: Letter, endpoints: Sequence[Endpoint], *, received: float) -> None:
        """Sends to all endpoints at once; returns when the journal knows of it."""
        parcel = self.send(delivery, letter, endpoints, received=received)
        await self._store.owe(delivery, endpoints, received=received)
        self.stored(parcel)

    def send(self, delivery: str, letter: Letter, endpoints: Iterable[Endpoint], *, received: float) -> Parcel:
        """Begins to send, beside the write to the journal; whoever writes must say when it is `stored`.

        If it never is, the parcel goes out all the same, as long as this process lives.
        """
        endpoints = tuple(endpoints)
        parcel = Parcel(delivery, received, letter, len(endpoints), stored=False)
        if endpoints:
            self._hold(parcel)
        for endpoint in endpoints:
            self._enqueue(endpoint, Item(parcel, self._next_seq()))
        return parcel

    def stored(self, parcel: Parcel) -> None:
        """The journal knows what is owed, so that it may hear of results."""
        parcel.stored = True
        self._note(parcel.early)
        parcel.early = []

    async def replay(self, delivery: str, endpoints: Sequence[Endpoint] = ()) -> int:
        """Sends dead letters of a delivery again, to some endpoints or to all; how many."""
        debts = await self._store.revive(delivery, endpoints, now=self._clock())
        self._take_over(debts)
        return len(debts)

    def statuses(self) -> Iterator[Status]:
        """How each endpoint is doing that something waits for, or that fails."""
        for queue in self._queues.values():
            waiting = [item.parcel.received for item in queue.fresh]
            waiting += [item.parcel.received for _, _, item in queue.retries]
            yield Status(
                endpoint=queue.endpoint,
                waiting=len(queue),
                in_flight=queue.workers,
                breaker=queue.breaker.state,
                failures=queue.breaker.failures,
                oldest=min(waiting, default=None),
            )

    # In

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _queue(self, endpoint: Endpoint) -> Queue:
        queue = self._queues.get(endpoint)
        if queue is None:
            queue = self._queues[endpoint] = Queue(endpoint, self._pace)
        return queue

    def _take_over(self, debts: Iterable[Debt]) -> None:
        """Debts from the journal, as they were left there."""
        parcels: dict[str, Parcel] = {}
        for debt in debts:
            parcel = parcels.get(debt.delivery)
            if parcel is None:
                parcel = parcels[debt.delivery] = Parcel(debt.delivery, debt.received, None, 0, stored=True)
            parcel.open += 1
            item = Item(parcel, self._next_seq(), debt.attempts)
            self._enqueue(debt.endpoint, item, due=debt.due if debt.attempts else None)

    def _enqueue(self, endpoint: Endpoint, item: Item, *, due: float | None = None) -> None:
        queue = self._queue(endpoint)
        dropped = queue.add(item) if due is None else queue.add_retry(item, due)
        if dropped is not None:
            self._drop(queue, dropped)
        self._wake(queue)

    def _drop(self, queue: Queue, item: Item) -> None:
        if not queue.full:
            queue.full = True
            log.warning("a queue is full, its oldest deliveries become dead letters", endpoint=queue.endpoint.name)
        self._end(queue, item, Ending.DEAD, f"more than {self._pace.waiting:,} deliveries waited for this endpoint")

    # Out

    def _wake(self, queue: Queue) -> None:
        """Starts a worker where there is something for it to do now, else sees to it that somebody looks later."""
        if queue.workers >= queue.limit or self._stopping:
            return
        when = queue.next_time()
        if when <= self._clock():
            assert self._tasks is not None, "the relay is not running"
            queue.workers += 1
            self._in_flight += 1
            # It goes on with other deliveries than the one that comes by now.
            telemetry.apart(self._tasks.start_soon, self._work, queue)
        elif when < queue.alarm:
            queue.alarm = when
            heapq.heappush(self._alarms, (when, self._next_seq(), queue))
            if self._alarms[0][2] is queue:
                self._alarm_set.set()

    def _wake_all(self, queue: Queue) -> None:
        for _ in range(min(len(queue), queue.limit - queue.workers)):
            self._wake(queue)

    async def _work(self, queue: Queue) -> None:
        """Sends one after the other, as long as there is something to send."""
        try:
            while not self._stopping and (item := queue.take(self._clock())) is not None:
                await self._attempt(queue, item)
        finally:
            queue.workers -= 1
            self._in_flight -= 1
            if self._stopping and not self._in_flight:
                self._landed.set()
        self._wake(queue)

    async def _attempt(self, queue: Queue, item: Item) -> None:
        began = self._clock()
        try:
            letter = item.parcel.letter or await self._fetched(item.parcel)
            if letter is None:
                queue.breaker.unprobed()
                self._end(queue, item, Ending.DEAD, "the delivery is not in the journal any more")
                return
            answer = await self._sender.send(queue.endpoint, letter)
        except Unavailable:
            queue.breaker.unprobed()
            self._retry(queue, item, began + self._pace.storage)
            return
        except Exception:
            log.exception("a bug in the relay", **_whose(item.parcel), endpoint=queue.endpoint.name)
            queue.breaker.unprobed()
            self._end(queue, item, Ending.DEAD, "a bug in the relay; the log has it")
            return
        now = self._clock()
        item.attempts += 1
        found = verdict(answer, now=now)
        if found.ending is Ending.RETRY:
            self._failed(queue, item, found, now)
        else:
            self._alive(queue, answer)
            self._end(queue, item, found.ending, found.reason)
        trace, delivery = letter.trace, item.parcel.id
        self._observe(Tried(queue.endpoint, delivery, trace, item.attempts, answer, found, began, now))

    def _alive(self, queue: Queue, answer: Answer) -> None:
        """The endpoint answered; a refusal of ours says nothing about it, and holds up nothing."""
        if queue.breaker.succeeded() and not answer.refused:
            log.info("an endpoint is back", endpoint=queue.endpoint.name, waiting=len(queue))
            queue.hasten()
        if queue.limit < self._pace.in_flight:
            queue.limit = min(2 * queue.limit, self._pace.in_flight)
            self._wake_all(queue)

    def _failed(self, queue: Queue, item: Item, found: Verdict, now: float) -> None:
        if queue.breaker.failed(now, self._chance):
            queue.limit = 1
            log.warning("an endpoint fails", **_whose(item.parcel), endpoint=queue.endpoint.name, reason=found.reason)
        deadline = item.parcel.received + self._pace.give_up
        if now >= deadline:
            self._end(queue, item, Ending.DEAD, f"given up after {item.attempts} attempts; the last: {found.reason}")
        else:
            wait = max(backoff(item.attempts, self._pace, self._chance), found.after)
            due = min(now + wait, deadline)
            self._retry(queue, item, due)
            result = Result(item.parcel.id, queue.endpoint, Ending.RETRY, item.attempts, now, due, found.reason)
            self._report(item.parcel, result)
        for late in queue.expired(now - self._pace.give_up):
            self._end(queue, late, Ending.DEAD, f"given up; the endpoint still fails: {found.reason}")

    def _retry(self, queue: Queue, item: Item, due: float) -> None:
        dropped = queue.add_retry(item, due)
        if dropped is not None:
            self._drop(queue, dropped)

    def _end(self, queue: Queue, item: Item, ending: Ending, reason: str) -> None:
        """A debt is settled, one way or the other."""
        parcel = item.parcel
        parcel.open -= 1
        if ending is Ending.DEAD:
            log.info("a dead letter", **_whose(parcel), endpoint=queue.endpoint.name, reason=reason)
        if not parcel.open and parcel.letter is not None:
            self._release(parcel)
        self._report(parcel, Result(parcel.id, queue.endpoint, ending, item.attempts, self._clock(), 0.0, reason))

    # Bodies

    def _hold(self, parcel: Parcel) -> None:
        """Keeps a body in memory, and puts older ones away where they are too many."""
        assert parcel.letter is not None
        self._bytes += len(parcel.letter.body)
        self._bodies.append(parcel)
        for _ in range(len(self._bodies) - 1):
            if self._bytes <= HELD and self._bodies[0].letter is not None:
                break
            oldest = self._bodies.popleft()
            if oldest.letter is None:
                continue
            if oldest.stored:
                self._release(oldest)
            else:
                self._bodies.append(oldest)

    def _release(self, parcel: Parcel) -> None:
        assert parcel.letter is not None
        self._bytes -= len(parcel.letter.body)
        parcel.letter = None

    async def _fetched(self, parcel: Parcel) -> Letter | None:
        """The letter from the journal, read once for all endpoints that want it now."""
        async with self._fetching:
            if parcel.letter is None and (found := await self._store.fetch(parcel.id)) is not None:
                parcel.letter = wire.letter(*found)
                self._hold(parcel)
            return parcel.letter

    # Time

    async def _keep_time(self) -> None:
        """Wakes queues when something of theirs is due, and forgets those that nobody needs."""
        sweep = anyio.current_time() + IDLE
        while True:
            now = self._clock()
            while self._alarms and self._alarms[0][0] <= now:
                when, _, queue = heapq.heappop(self._alarms)
                if when == queue.alarm:
                    queue.alarm = float("inf")
                    self._wake_all(queue)
            if anyio.current_time() >= sweep:
                sweep = anyio.current_time() + IDLE
                self._forget_idle()
            wait = min(self._alarms[0][0] - now if self._alarms else IDLE, IDLE)
            self._alarm_set = anyio.Event()
            with anyio.move_on_after(wait):
                await self._alarm_set.wait()

    def _forget_idle(self) -> None:
        idle = [e for e, queue in self._queues.items() if not (len(queue) or queue.workers or queue.breaker.failures)]
        for endpoint in idle:
            del self._queues[endpoint]
        for queue in self._queues.values():
            queue.full = queue.full and len(queue) > self._pace.waiting // 2

    # Results

    def _report(self, parcel: Parcel, result: Result) -> None:
        if parcel.stored:
            self._note([result])
        else:
            parcel.early.append(result)

    def _note(self, results: list[Result]) -> None:
        self._results += results
        self._written.set()

    async def _write(self) -> None:
        """Tells the journal what became of deliveries, many at a time."""
        while True:
            await self._written.wait()
            await anyio.sleep(LINGER)
            await self._flush()

    async def _flush(self) -> None:
        results, self._results = self._results, []
        self._written = anyio.Event()
        if not results:
            return
        try:
            await self._store.record(results)
        except Unavailable as error:
            log.warning("results of the relay cannot be stored yet", results=len(results), reason=str(error))
            self._results = results + self._results
            await anyio.sleep(self._pace.storage)
            self._written.set()

    async def _land(self) -> None:
        while self._in_flight:
            await self._landed.wait()
