"""What endpoints are owed, kept in the storage: the journal of the relay.

What belongs here: the relay's values as rows, and rows as the relay's values. When something is sent is the relay's
business, to whom the exchange's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from telefonistka.core import fanout
from telefonistka.core.fanout import Endpoint
from telefonistka.relay import Debt, Ending, Result
from telefonistka.storage import Attempt, Due, Fate, Headers, Post, Recipient, Storage, Unrouted
from telefonistka.telemetry import log

FATES = {Ending.DELIVERED: Fate.DELIVERED, Ending.RETRY: Fate.WAITING, Ending.DEAD: Fate.DEAD}


def post(endpoints: Iterable[Endpoint], *, routed: bool = True) -> Post:
    """What is to be stored with a delivery; `routed` says that these are all of its endpoints."""
    return Post(_recipients(endpoints), routed)


class Outbox:
    """The debts of one storage: relay.RelayStore, and the deliveries that have no route yet."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock

    async def owe(self, delivery: str, endpoints: Sequence[Endpoint], *, received: float, routed: bool = True) -> None:
        """The endpoints are owed the delivery, which arrived when the journal says so."""
        await self._storage.owe(delivery, _recipients(endpoints), routed=routed)

    async def record(self, results: Sequence[Result]) -> None:
        await self._storage.attempted([_attempt(result) for result in results])

    async def owed(self) -> Sequence[Debt]:
        return _debts(await self._storage.owed())

    async def fetch(self, delivery: str) -> tuple[Headers, bytes] | None:
        return await self._storage.fetch(delivery)

    async def revive(self, delivery: str, endpoints: Sequence[Endpoint], *, now: float) -> Sequence[Debt]:
        return _debts(await self._storage.revive(delivery, _recipients(endpoints), now=now))

    # What has no route

    async def unrouted(self) -> Sequence[Unrouted]:
        """The deliveries of which nobody has said to whom they go."""
        return await self._storage.unrouted()

    async def unroute(self, delivery: str) -> bool:
        """The delivery is to be routed anew; False: it is not there any more."""
        return await self._storage.unroute(delivery)

    async def misroute(self, delivery: str, reason: str) -> None:
        """The delivery is a dead letter that nobody got."""
        await self._storage.misroute(delivery, reason=reason, now=self._clock())


def _recipients(endpoints: Iterable[Endpoint]) -> tuple[Recipient, ...]:
    return tuple((endpoint.url, endpoint.verify) for endpoint in endpoints)


def _attempt(result: Result) -> Attempt:
    return Attempt(
        delivery=result.delivery,
        recipient=(result.endpoint.url, result.endpoint.verify),
        fate=FATES[result.ending],
        attempts=result.attempts,
        at=result.at,
        due=result.due,
        reason=result.reason,
    )


def _debts(dues: Iterable[Due]) -> list[Debt]:
    return [debt for due in dues if (debt := _debt(due)) is not None]


def _debt(due: Due) -> Debt | None:
    url, verify = due.recipient
    try:
        endpoint = fanout.endpoint(url, verify=verify)
    except fanout.Refusal as refusal:  # an earlier version of ours let it pass
        log.error("what is owed cannot be sent", delivery=due.delivery, reason=str(refusal))
        return None
    return Debt(delivery=due.delivery, received=due.received, endpoint=endpoint, attempts=due.attempts, due=due.due)
