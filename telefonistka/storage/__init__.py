"""Where work and facts are kept: the Storage protocol, and the values that go in and come out.

What belongs here: what every engine promises. SQL belongs to the engines. `sqlite` is embedded and needs nothing;
an engine for several replicas keeps the same promises. Time is always an argument, in seconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

Headers = tuple[tuple[str, str], ...]  # as they came: repeated ones too, decoded as Latin-1, which loses no byte


class Unavailable(Exception):  # noqa: N818 - what it says of the storage
    """The storage cannot take or give it now: the disk is full, read-only or failing."""


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
    """How much is stored: items by state, and since when the oldest could be worked on."""

    items: Mapping[State, int]
    oldest: float | None  # seconds since 1970; None: nothing that could be claimed is left


class Storage(Protocol):
    """What the inbox and the ledger need of an engine.

    A method that returns has made its effect durable. A claimed item belongs to its owner until the lease ends;
    methods that take an owner do nothing and say False once it belongs to someone else.
    """

    async def accept(self, delivery: Delivery, *, now: float) -> Acceptance:
        """Stores a delivery once: the same id or the same body again is a duplicate, or re-arms what had failed.

        What is re-armed is as new: earlier outcomes are forgotten, its place in its lane is kept.
        """

    async def claim(self, owner: str, *, limit: int, lease: float, now: float) -> tuple[WorkItem, ...]:
        """Items to work on, at most one of each lane, in the order in which they came.

        An item is held back by an earlier one of its lane that is being worked on, that could be claimed, or that
        waits for its next try; by the last kind only until the time that `postpone` was given.
        """

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

    async def prune(self, *, before: float) -> int:
        """Forgets items that ended DONE or REJECTED before; how many. Dead ones stay."""

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
