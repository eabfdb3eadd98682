"""GitHub's limits as seen by one credential: when the next request may go out.

What belongs here: pauses that GitHub asked for, buckets, the pacing of writes. Not HTTP: answers come in as values.
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from telefonistka.errors import TryAgain
from telefonistka.telemetry import log

SECONDARY = 60.0  # seconds: the least that GitHub asks for where a secondary limit names no time
LONGEST = 3600.0  # seconds: no window of GitHub's is longer, so a reset further away is a wrong clock
NOTEWORTHY = 5.0  # seconds of waiting that the log should explain


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as an argument: seconds that only grow, seconds since 1970, and waiting."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How hard one identity may press GitHub, and how long it waits for an answer.

    https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api asks for a second between
    writes and for few requests at once; what notifies people has a lower limit that is not published, and GitHub's
    own clients keep three seconds between such writes.
    """

    write: float = 1.0  # seconds between two writes
    notify: float = 3.0  # seconds between two writes that notify people
    at_once: int = 10  # requests under way
    timeout: float = 30.0  # seconds for one answer; GitHub itself gives up on a request after 10


@dataclass(frozen=True, slots=True)
class Bucket:
    """One of GitHub's hourly budgets, as the last answer told."""

    limit: int
    remaining: int
    reset: float  # seconds, monotonic


@dataclass
class Limits:
    """The state of one credential. A pause holds for every request with it, however many tasks there are."""

    pacing: Pacing
    clock: Clock
    buckets: dict[str, Bucket] = field(default_factory=dict)  # by x-ratelimit-resource
    _paused: float = 0.0
    _strikes: int = 0  # secondary limits without a time, one after the other
    _next_write: float = 0.0
    _next_notice: float = 0.0

    async def turn(self, resource: str, *, writes: bool, notifies: bool, until: float) -> None:
        """It is this request's turn; raises TryAgain where that would be later than `until`."""
        while True:
            while (wait := self._wait(resource)) > 0:
                await self._sleep(wait, until, "GitHub asks us to wait")
            if not writes:
                return
            await self._place(notifies=notifies, until=until)
            if self._wait(resource) <= 0:
                return  # else a pause began meanwhile, and this place is lost

    async def _place(self, *, notifies: bool, until: float) -> None:
        """This write's place in the row was taken and waited for."""
        now = self.clock.monotonic()
        start = max(now, self._next_write, self._next_notice if notifies else now)
        if start <= until:
            # Taking the place before sleeping keeps several writers apart without a lock.
            self._next_write = start + self.pacing.write
            self._next_notice = start + self.pacing.notify if notifies else self._next_notice
        if start > now:
            await self._sleep(start - now, until, "Other writes to GitHub come first")

    async def rest(self, seconds: float, reason: str) -> None:
        """So long has passed."""
        if seconds >= NOTEWORTHY:
            log.info("waiting for GitHub", reason=reason, seconds=round(seconds))
        await self.clock.sleep(seconds)

    def seen(self, resource: str, bucket: Bucket) -> None:
        """The budget after an answer."""
        self.buckets[resource] = bucket

    def went_well(self) -> None:
        self._strikes = 0

    def pause(self, seconds: float) -> None:
        """No request goes out for so long."""
        self._paused = max(self._paused, self.clock.monotonic() + seconds)

    def strike(self) -> float:
        """Seconds to wait after a secondary limit that names no time: a minute, then twice that, and so on."""
        self._strikes += 1
        return min(LONGEST, SECONDARY * 2.0 ** (self._strikes - 1))

    def _wait(self, resource: str) -> float:
        now = self.clock.monotonic()
        bucket = self.buckets.get(resource)
        spent = bucket.reset if bucket is not None and bucket.remaining <= 0 else 0.0
        return max(self._paused, spent) - now

    async def _sleep(self, seconds: float, until: float, reason: str) -> None:
        if self.clock.monotonic() + seconds > until:
            raise TryAgain(f"{reason}: {seconds:.0f} s", after=seconds)
        await self.rest(seconds, reason)
