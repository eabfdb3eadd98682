"""Work items: deliveries and our own later work go in once, come out by lane, and are tried until they end.

What belongs here: when an item is due, how long it may hold up its lane, what its body says. Where it is kept is
the storage's business, what it means the worker's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import anyio
import orjson

from telefonistka import telemetry
from telefonistka.core import events
from telefonistka.core.events import Event, Own
from telefonistka.storage import (
    Acceptance,
    Backlog,
    Delivery,
    Headers,
    Outcome,
    Post,
    Retention,
    State,
    Storage,
    Verdict,
    WorkItem,
)

__all__ = ["Acceptance", "Backlog", "Delivery", "Inbox", "Outcome", "State", "Unreadable", "Verdict", "WorkItem"]

LEASE = 60.0  # seconds; renewed three times in it while the work goes on
BACKOFF_FIRST = 2.0  # seconds; GitHub's short troubles are over by then
BACKOFF_LONGEST = 600.0  # seconds; how late we may notice that a long trouble is over
AFTER_LONGEST = 2 * 3600.0  # seconds; GitHub's windows are an hour, so a longer wait is a mistake
PATIENCE = 600.0  # seconds for which an item that waits holds up the later ones of its lane
RETENTION = 4 * 86400.0  # seconds; GitHub lets a delivery be sent again for three days:
# https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks
SIZE = 1 << 30  # bytes; a hundred thousand pushes of 10 KB
DEAD_RETENTION = 8  # times as long, for what people may want to look at
STALE = 300.0  # seconds; work lies about, and nobody takes or ends any for so long: then nobody works

OWN = "own-"  # how the ids of our own work begin
NEWEST = 100  # deliveries that tell which webhook is ours

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Unreadable(ValueError):  # noqa: N818 - what it says of a body
    """The body is no JSON object; the text says why."""


class Inbox:
    """The work items of one storage, with our policy of when to try again."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        retention: float = RETENTION,
        size: int = SIZE,
    ) -> None:
        self._storage = storage
        self._retention = retention
        self._size = size
        self._clock = clock
        self._chance = chance
        self._news = anyio.Event()
        self._moved = clock()  # when work was last taken or brought further

    async def accept(self, delivery: Delivery, *, work: bool = True, post: Post | None = None) -> Acceptance:
        """The delivery is on disk, with what the relay owes of it; what that changed."""
        acceptance = await self._storage.accept(delivery, now=self._clock(), work=work, post=post)
        if work:
            self._news.set()
        return acceptance

    async def enqueue(self, event: Own, *, after: float = 0.0) -> None:
        """An event of our own is on disk, to be worked on after so many seconds."""
        now = self._clock()
        await self._storage.enqueue(own(event), due=now + after, now=now)
        self._news.set()

    async def claim(self, owner: str, *, limit: int) -> tuple[WorkItem, ...]:
        """Up to `limit` items that are the owner's until it ends them, or stops extending them."""
        items = await self._storage.claim(owner, limit=limit, lease=LEASE, now=self._clock())
        if items:
            self._moved = self._clock()
        return items

    async def behind(self, item: WorkItem) -> list[Event]:
        """The events that wait in the item's lane behind it; what cannot be understood is left out."""
        found = []
        for name, headers, body in await self._storage.behind(item.lane, item.seq):
            try:
                found.append(events.parse(name, payload(headers, body)))
            except (Unreadable, events.Malformed):
                continue
        return found

    async def known(self, deliveries: Collection[str]) -> frozenset[str]:
        """Those of the deliveries that are in the journal."""
        return await self._storage.known(deliveries)

    async def kept(self, lane: str) -> list[tuple[str, dict[str, Any]]]:
        """All that the journal has of a lane, in its order: events and payloads; what is unreadable is left out."""
        found = []
        for name, headers, body in await self._storage.lane(lane):
            try:
                found.append((name, payload(headers, body)))
            except Unreadable:
                continue
        return found

    async def hooks(self, repository: int) -> frozenset[int]:
        """The numbers of the webhooks that brought the newest deliveries about a repository."""
        found = set()
        for one in await self._storage.deliveries(limit=NEWEST):
            stored = await self._storage.fetch(one.delivery) if one.lane.split("/")[0] == str(repository) else None
            values = {name.lower(): value for name, value in stored[0]} if stored else {}
            number = values.get("x-github-hook-id", "")
            found |= {int(number)} if number.isascii() and number.isdecimal() else set()
        return frozenset(found)

    async def extend(self, owner: str, seqs: Iterable[int]) -> frozenset[int]:
        """The items that are still the owner's, for another lease."""
        return await self._storage.extend(owner, seqs, lease=LEASE, now=self._clock())

    async def record(self, owner: str, item: WorkItem, step: str, outcome: Outcome) -> bool:
        """The outcome of one step is on disk; False: the item is no longer the owner's."""
        self._moved = self._clock()
        return await self._storage.record(owner, item.seq, step, outcome)

    async def finish(self, owner: str, item: WorkItem, *, rejected: bool = False) -> bool:
        """The item has ended; a rejected one can be re-armed by sending it again."""
        state = State.REJECTED if rejected else State.DONE
        ended = await self._storage.finish(owner, item.seq, state=state, now=self._clock())
        self._news.set()
        return ended

    async def postpone(self, owner: str, item: WorkItem, *, delay: float, reason: str, blocks: bool = True) -> bool:
        """The item waits for its next try, and holds up its lane for a bounded time only, or not at all."""
        now = self._clock()
        given = await self._storage.postpone(
            owner, item.seq, due=now + delay, blocks_until=now + PATIENCE if blocks else now, reason=reason
        )
        self._news.set()
        return given

    async def bury(self, owner: str, item: WorkItem, *, reason: str) -> bool:
        """The item is a dead letter: kept whole with its reason, and re-armed by sending it again."""
        ended = await self._storage.bury(owner, item.seq, reason=reason, now=self._clock())
        self._news.set()
        return ended

    async def release(self, owner: str) -> None:
        """Everything that the owner still has waits for another one."""
        await self._storage.release(owner)

    async def rearm(self, delivery: str) -> bool:
        """An item that was rejected or given up is as new; False: there is no such item."""
        rearmed = await self._storage.rearm(delivery, now=self._clock())
        self._news.set()
        return rearmed

    def retain(self, retention: float, size: int) -> None:
        """From now on, what has ended is kept for so many seconds and up to so many bytes."""
        self._retention = retention
        self._size = size

    async def prune(self) -> int:
        """How many items were forgotten because nobody can send them again, or because they are too many."""
        now, total = self._clock(), 0
        dead_before = now - DEAD_RETENTION * self._retention
        retention = Retention(before=now - self._retention, dead_before=dead_before, size=self._size)
        while pruned := await self._storage.prune(retention):
            total += pruned
        return total

    async def wait(self, seconds: float) -> None:
        """Something changed since the last wait, or the time is over."""
        with anyio.move_on_after(seconds):
            await self._news.wait()
        self._news = anyio.Event()

    def nudge(self) -> None:
        """There may be something to claim."""
        self._news.set()

    async def backlog(self) -> Backlog:
        """How much there is."""
        return await self._storage.backlog(now=self._clock())

    def age(self, backlog: Backlog) -> float:
        """For how many seconds the oldest item could have been worked on."""
        return 0.0 if backlog.oldest is None else max(0.0, self._clock() - backlog.oldest)

    async def check(self) -> str | None:
        """Why deliveries are not stored or not worked on; None: they are. Raises Unavailable as the storage does."""
        await self._storage.check()
        age = self.age(await self.backlog())
        still = self._clock() - self._moved
        if min(age, still) <= STALE:
            return None
        return f"work waits for {age:.0f} s, and for {still:.0f} s nothing was taken or done"

    def delay(self, tries: int, after: float | None) -> float:
        """Seconds until the try after this many, where `after` is what was asked for."""
        return backoff(tries, after, self._chance())


def own(event: Own) -> Delivery:
    """An event of our own as it is stored."""
    name, about = events.written(event)
    return Delivery(
        id=f"{OWN}{uuid4()}",
        event=name,
        lane=events.lane(about),
        headers=telemetry.carried(()),
        body=orjson.dumps(about),
    )


def backoff(tries: int, after: float | None, chance: float) -> float:
    """What was asked for, else twice as long each time; with jitter, so that what failed together parts."""
    if after is not None:
        return min(after, AFTER_LONGEST) + chance * BACKOFF_FIRST
    doublings = min(tries - 1, 30)
    return min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0**doublings) * (0.5 + chance / 2)


def media_type(headers: Headers) -> str:
    """The Content-Type without its parameters, in lower case."""
    values = (value for name, value in headers if name.lower() == "content-type")
    return next(values, "").partition(";")[0].strip().lower()


def payload(headers: Headers, body: bytes) -> dict[str, Any]:
    """The JSON object that a delivery carries; raises Unreadable."""
    text = _form_field(body) if media_type(headers) == FORM else body
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unreadable("the body is JSON, but no object")
    return value


def _form_field(body: bytes) -> str:
    # https://docs.github.com/en/webhooks/using-webhooks/creating-webhooks: the JSON is the form's parameter `payload`
    try:
        fields = parse_qs(body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=8)
    except ValueError as error:
        raise Unreadable("the body is not a form") from error
    values = fields.get("payload", [])
    if len(values) != 1:
        raise Unreadable("the form has no field `payload`")
    return values[0]
