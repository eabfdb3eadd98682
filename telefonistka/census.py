"""How many pull requests are open in the repositories that we know, as gauges, now and then."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio

from telefonistka import telemetry
from telefonistka.core.events import STATUS_CONTEXT, Repository
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github.repo import Repo
from telefonistka.repositories import Repositories
from telefonistka.storage import Unavailable
from telefonistka.telemetry import log

LATE = 20 * 60.0  # seconds that our status may be pending before it counts; the original's

Count = tuple[str, int, int, int]  # a repository, its open pull requests, promotions, and those late


class Census:
    """Counts for as long as it runs. What cannot be counted now keeps its last figures."""

    def __init__(
        self,
        repositories: Repositories,
        repo: Callable[[Repository], Awaitable[Repo]],
        *,
        interval: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._repositories = repositories
        self._repo = repo
        self._interval = interval
        self._clock = clock
        self._counts: dict[int, Count] = {}  # by the repository's number
        self._failing: set[str] = set()  # of which the log knows

    async def run(self) -> NoReturn:
        """Counts at once and after each interval."""
        while True:
            with telemetry.rounds("census"):
                await self.count()
            await anyio.sleep(self._interval)

    async def count(self) -> None:
        """The gauges say what GitHub says now, one call for each repository and hundred of its pull requests."""
        try:
            known = [one.repository for one in await self._repositories.all()]
        except (TryAgain, Rejected, Unavailable) as error:
            self._failed("", error)
            return
        counts = {}
        for repository in known:
            found = await self._counted(repository) or self._counts.get(repository.id)
            if found is not None:
                counts[repository.id] = found
        self._counts = counts
        telemetry.census(counts.values())

    async def _counted(self, repository: Repository) -> Count | None:
        try:
            found = await (await self._repo(repository)).census(STATUS_CONTEXT)
        except (TryAgain, Rejected, Unavailable) as error:
            self._failed(repository.slug, error)
            return None
        self._failing.discard(repository.slug)
        late = sum(since <= self._clock() - LATE for since in found.pending)
        return repository.slug, found.open, found.promotions, late

    def _failed(self, slug: str, error: Exception) -> None:
        if slug not in self._failing:
            log.warning("open pull requests cannot be counted", repo=slug, reason=str(error))
        self._failing.add(slug)
