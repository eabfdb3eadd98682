"""Where work and facts are kept: the Storage protocol, and the values that go in and come out.

What belongs here: what every engine promises. SQL belongs to the engines. `sqlite` is embedded and needs nothing;
an engine for several replicas keeps the same promises. Time is always an argument, in seconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

Headers = tuple[tuple[str, str], ...]  # as they came: repeated ones too, decoded as Latin-1, which loses no byte
Recipient = tuple[str, bool]  # a URL that the relay sends to, and whether its certificate is checked


class Unavailable(Exception):  # noqa: N818 - what it says of the storage
    """The storage cannot take or give it now: the disk is full, read-only or failing."""


class Full(Unavailable):
    """There is no room left on its disk."""


class Unusable(Exception):  # noqa: N818
    """The storage cannot be opened at all; the text tells the operator what to do."""


class State(IntEnum):
    """Where a work item is. Only the first two are work; numbers, because they are stored."""

    WAITING = 0
    RUNNING = 1
    DONE = 2
    REJECTED = 3
    DEAD = 4


class Acceptance(StrEnum):
    """What became of a delivery that was handed in."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REARMED = "rearmed"


class Verdict(StrEnum):
    DONE = "done"
    REJECTED = "rejected"
    TRY_AGAIN = "try again"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step of a work item ended, and in how many tries."""

    verdict: Verdict
    text: str
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook as GitHub sent it, with the lane that it belongs to."""

    id: str
    event: str
    lane: str
    headers: Headers
    body: bytes = field(repr=False)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.body).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """A delivery that was claimed, with what is known of earlier attempts."""

    seq: int
    id: str
    event: str
    lane: str
    headers: Headers
    body: bytes = field(repr=False)
    received: float
    attempts: int  # this one included
    crashes: int  # attempts that nobody ended: the process died
    outcomes: Mapping[str, Outcome]  # by step


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How much is stored: items by state, since when the oldest could be worked on, and what room there is."""

    items: Mapping[State, int]
    oldest: float | None  # seconds since 1970; None: nothing that could be claimed is left
    free: int  # bytes


# What the relay owes


@dataclass(frozen=True, slots=True)
class Post:
    """To whom a delivery is owed."""

    recipients: tuple[Recipient, ...] = ()
    routed: bool = True  # False: it is not known yet to whom else


class Fate(IntEnum):
    """What became of a delivery at one recipient; stored as numbers."""

    WAITING = 0  # tried, and to be tried again
    DEAD = 1
    DELIVERED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A recipient that is still owed a delivery."""

    delivery: str
    received: float
    recipient: Recipient
    attempts: int = 0
    due: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a delivery at one recipient."""

    delivery: str
    recipient: Recipient
    fate: Fate
    attempts: int
    at: float
    due: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrouted:
    """A delivery of which nobody has said yet to whom it goes."""

    delivery: str
    event: str
    received: float


# What an operator sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One stored delivery, in a line."""

    delivery: str
    event: str
    lane: str
    received: float
    size: int  # bytes of its body
    state: str  # of the work, in small letters
    reason: str
    owed: int  # recipients that wait for it
    dead: int  # recipients that never got it
    routed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One stored delivery with all that is known of it."""

    summary: Summary
    headers: Headers
    outcomes: Mapping[str, Outcome]
    owed: tuple[Due, ...]
    dead: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What may be forgotten: what ended before a time, and the oldest beyond a size."""

    before: float  # seconds since 1970, for what ended well
    dead_before: float  # for what the relay has given up
    size: int  # bytes


class Storage(Protocol):
    """What the inbox, the outbox and the ledger need of an engine.

    A method that returns has made its effect durable. A claimed item belongs to its owner until the lease ends;
    methods that take an owner do nothing and say False once it belongs to someone else.
    """

    async def accept(
        self, delivery: Delivery, *, now: float, work: bool = True, post: Post | None = None
    ) -> Acceptance:
        """Stores a delivery once: the same id or the same body again is a duplicate, or re-arms what had failed.

        What is re-armed is as new: earlier outcomes are forgotten, its place in its lane is kept. Without `work` it
        is stored as DONE, for the relay's sake alone; `post` is what the relay owes.
        """

    async def enqueue(self, delivery: Delivery, *, due: float, now: float) -> bool:
        """Stores work of our own, which holds up nothing of its lane before it is due.

        False: such work with the same body waits already; it is due at the earlier of the two times.
        """

    async def claim(self, owner: str, *, limit: int, lease: float, now: float) -> tuple[WorkItem, ...]:
        """Items to work on, at most one of each lane, in the order in which they came.

        An item is held back by an earlier one of its lane that is being worked on, that could be claimed, or that
        waits for its next try; by the last kind only until the time that `postpone` was given.
        """

    async def behind(self, lane: str, seq: int) -> Sequence[tuple[str, Headers, bytes]]:
        """What waits in a lane behind an item: each one's event, headers and body."""

    async def lane(self, lane: str) -> Sequence[tuple[str, Headers, bytes]]:
        """All that is kept of a lane, ended or not, in its order: each one's event, headers and body."""

    async def known(self, deliveries: Collection[str]) -> frozenset[str]:
        """Those of the deliveries that are kept."""

    async def extend(self, owner: str, seqs: Iterable[int], *, lease: float, now: float) -> frozenset[int]:
        """Renews leases; the items that still belong to the owner."""

    async def record(self, owner: str, seq: int, step: str, outcome: Outcome) -> bool:
        """Stores how one step ended."""

    async def finish(self, owner: str, seq: int, *, state: State, now: float) -> bool:
        """Ends an item as DONE or REJECTED."""

    async def postpone(self, owner: str, seq: int, *, due: float, blocks_until: float, reason: str) -> bool:
        """Gives an item back for a later try; its first `blocks_until` counts, later ones do not."""

    async def bury(self, owner: str, seq: int, *, reason: str, now: float) -> bool:
        """Ends an item as DEAD: kept whole, never claimed, until it is re-armed."""

    async def release(self, owner: str) -> None:
        """Gives back all that the owner has, as if it had not been claimed."""

    async def rearm(self, delivery: str, *, now: float) -> bool:
        """An item that ended REJECTED or DEAD is as new; False: there is no such item."""

    async def prune(self, retention: Retention) -> int:
        """Forgets items that ended DONE or REJECTED, and what the relay has given up; how many deliveries.

        What is owed to anybody stays, and so do DEAD items.
        """

    async def owe(self, delivery: str, recipients: Sequence[Recipient], *, routed: bool = True) -> None:
        """The delivery is owed to these, too; those that are known already stay as they are."""

    async def attempted(self, attempts: Sequence[Attempt]) -> None:
        """Stores what became of deliveries, in order."""

    async def owed(self) -> Sequence[Due]:
        """All that is owed, by arrival of the deliveries."""

    async def unrouted(self) -> Sequence[Unrouted]:
        """The deliveries that have no route yet, by arrival."""

    async def unroute(self, delivery: str) -> bool:
        """The delivery is to be routed anew; False: there is no such delivery."""

    async def misroute(self, delivery: str, *, reason: str, now: float) -> None:
        """The delivery cannot be routed: it is a dead letter to nobody, with this reason."""

    async def fetch(self, delivery: str) -> tuple[Headers, bytes] | None:
        """Headers and body; None: there is no such delivery."""

    async def revive(self, delivery: str, recipients: Sequence[Recipient], *, now: float) -> Sequence[Due]:
        """The dead letters to these recipients, or to all if none are given, are owed again, as if they came now.

        A dead letter to nobody is to be routed anew, if none are given, and is not among those that are returned.
        """

    async def deliveries(self, *, limit: int, dead: bool = False) -> Sequence[Summary]:
        """The newest deliveries, or those of them that something of is dead."""

    async def story(self, delivery: str) -> Story | None:
        """All that is known of a delivery."""

    async def backlog(self, *, now: float) -> Backlog:
        """How much is stored."""

    async def check(self) -> None:
        """Raises Unavailable where a delivery could not be stored now."""

    async def lock(self, name: str, owner: str, *, lease: float, now: float) -> bool:
        """Takes a lock, or renews one's own; False: someone else has it."""

    async def unlock(self, name: str, owner: str) -> None:
        """Gives one's own lock back."""

    async def get(self, kind: str, key: str) -> bytes | None:
        """A document; None: there is no such document."""

    async def put(self, kind: str, key: str, value: bytes) -> None:
        """Stores a document in the place of an earlier one."""

    async def documents(self, kind: str) -> Mapping[str, bytes]:
        """All documents of a kind, by key."""
