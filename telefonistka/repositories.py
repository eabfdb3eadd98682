"""The repositories that we know: those that events have told of, and those that the operator names.

What belongs here: remembering them over restarts. What is looked at in them is up to recovery and census.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from telefonistka.core.events import Repository
from telefonistka.errors import Rejected
from telefonistka.ledger import Ledger
from telefonistka.storage import Unavailable
from telefonistka.telemetry import log

KIND = "repository"  # of the documents, by the repository's number


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A repository, and when we first heard of it: what happened there before is not ours."""

    repository: Repository
    since: float  # seconds since 1970


class Repositories:
    """The repositories of one ledger, less those that are not served.

    `named` are the operator's, as "owner/name"; `look_up` asks GitHub for one of which no event has told yet.
    """

    def __init__(
        self,
        ledger: Ledger,
        look_up: Callable[[str, str], Awaitable[Repository]],
        *,
        named: Callable[[], Sequence[str]] = tuple,
        serves: Callable[[str], bool] = lambda slug: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._look_up = look_up
        self._named = named
        self._serves = serves
        self._clock = clock
        self._start = float(int(clock()))  # GitHub's times have no fractions
        self._known: dict[int, Known] | None = None
        self._refused: set[str] = set()

    async def see(self, repository: Repository) -> None:
        """An event told of the repository; where that cannot be stored now, the next one will do."""
        try:
            await self._see(repository, float(int(self._clock())))
        except Unavailable as error:
            log.warning("a repository cannot be remembered", repo=repository.slug, reason=str(error))

    async def all(self) -> list[Known]:
        """Those that are served, by name. Raises TryAgain and Unavailable."""
        known = await self._load()
        slugs = {one.repository.slug.lower() for one in known.values()}
        for name in self._named():
            if name.lower() not in slugs and not name.endswith("/*"):
                await self._find(name)
        return sorted(
            (one for one in known.values() if self._serves(one.repository.slug)), key=lambda one: one.repository.slug
        )

    async def _find(self, name: str) -> None:
        owner, _, rest = name.partition("/")
        try:
            found = await self._look_up(owner, rest)
            if found.id not in await self._load():  # else it is known by a newer name
                await self._see(found, self._start)
        except Rejected as error:
            if name not in self._refused:
                log.warning("a repository that is named to us cannot be found", repo=name, reason=str(error))
            self._refused.add(name)

    async def _see(self, repository: Repository, since: float) -> None:
        known = await self._load()
        before = known.get(repository.id)
        if before is not None:
            if repository.installation is None:
                repository = replace(repository, installation=before.repository.installation)
            if repository == before.repository:
                return
            since = before.since
        seen = Known(repository=repository, since=since)
        await self._ledger.put(KIND, str(repository.id), seen)
        known[repository.id] = seen

    async def _load(self) -> dict[int, Known]:
        if self._known is None:
            stored = await self._ledger.every(KIND, Known)
            self._known = self._known or {one.repository.id: one for one in stored}
        return self._known
