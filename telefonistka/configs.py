"""The last good configuration of each repository, for who cannot wait for GitHub: the relay.

What belongs here: which configuration counts, when it must be read again, and what of it outlives the process. Who
reads it at GitHub is given. A configuration is known by the id of its blob, so nothing is parsed twice.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn, Protocol

import anyio
import orjson
from anyio import to_thread

from telefonistka import telemetry
from telefonistka.core import config
from telefonistka.core.config import Parsed, RepoConfig
from telefonistka.core.events import Repository
from telefonistka.core.fanout import Routes
from telefonistka.errors import Rejected, TryAgain
from telefonistka.storage import Storage, Unavailable
from telefonistka.telemetry import log

KIND = "relay-config"  # of the documents
INTERVAL = 300.0  # seconds between two looks for what no webhook told us
LOOK = 60.0  # seconds for one of these looks
SHOWN = 5  # findings that are logged

Text = bytes | None  # None: it is proven that there is no such file


@dataclass(frozen=True, slots=True)
class Found:
    """The file as it is now, and the ETag of that answer where it has one."""

    text: Text
    etag: str = ""


class Source(Protocol):
    """How the file is read. Both raise TryAgain and Rejected."""

    async def read(self, repository: Repository, commit: str) -> Found:
        """The file on the default branch, no older than the commit where one is given."""

    async def newer(self, repository: Repository, etag: str) -> Found | None:
        """The file on the default branch; None: nothing has changed since the answer with this ETag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The last good configuration of a repository, ready to route."""

    repository: Repository
    text: Text
    routes: Routes
    etag: str = ""  # of the newest answer, whether what it brought was good or not
    broken: str | None = None  # the blob of a newer file that cannot be used
    reason: str = ""  # why not

    @property
    def blob(self) -> str:
        return blob(self.text)


class Configs:
    """What is kept, by repository."""

    def __init__(
        self,
        storage: Storage,
        source: Source,
        *,
        allowed_hosts: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._source = source
        self._allowed_hosts = tuple(allowed_hosts)
        self._clock = clock
        self._kept: dict[int, Kept] = {}
        self._stale: dict[int, str] = {}  # the commit that the next reading must contain; empty: any
        self._looked: dict[int, float] = {}
        self._locks: dict[int, anyio.Lock] = {}

    async def load(self) -> None:
        """What an earlier process kept is there again."""
        for key, stored in (await self._storage.documents(KIND)).items():
            try:
                kept = await self._restored(orjson.loads(stored))
            except (ValueError, KeyError, TypeError) as error:
                log.warning(
                    "a stored configuration cannot be used; it is read again", repository=key, reason=str(error)
                )
            else:
                self._kept[kept.repository.id] = kept
                telemetry.configuration(kept.repository.slug, is_broken=bool(kept.broken))

    async def allow(self, hosts: Collection[str]) -> None:
        """What counts leads to these hosts alone from now on, or anywhere where there are none."""
        self._allowed_hosts = tuple(hosts)
        for id_ in tuple(self._kept):
            async with self._locks.setdefault(id_, anyio.Lock()):
                kept = self._kept[id_]
                value = (await to_thread.run_sync(_parsed, kept.text)).value
                assert value is not None, "what is kept was good"
                self._kept[id_] = replace(kept, routes=await self._routes(value))

    def current(self, repository: Repository) -> Kept | None:
        """What counts now, without a wait; None: it must be read first."""
        kept = self._kept.get(repository.id)
        if kept is None or repository.id in self._stale:
            return None
        return kept if kept.repository.default_branch == repository.default_branch else None

    def last(self, repository: Repository) -> Kept | None:
        """What counted last, be it stale or not."""
        return self._kept.get(repository.id)

    def changed(self, repository: Repository, commit: str) -> None:
        """A push has touched the file, or may have: what is kept counts no more."""
        self._stale[repository.id] = commit

    async def fresh(self, repository: Repository) -> Kept:
        """What counts now, read at GitHub where needed.

        Raises TryAgain, or Rejected where the file cannot be used and none before it is known.
        """
        async with self._locks.setdefault(repository.id, anyio.Lock()):
            kept = self.current(repository)
            if kept is None:
                commit = self._stale.get(repository.id, "")
                kept = await self._take(repository, await self._source.read(repository, commit))
                if self._stale.get(repository.id, "") == commit:
                    self._stale.pop(repository.id, None)
            return kept

    async def keep_fresh(self) -> NoReturn:
        """Looks again and again whether a file has changed of which no webhook told."""
        while True:
            for kept in list(self._kept.values()):
                if self._clock() - self._looked.get(kept.repository.id, 0.0) >= INTERVAL:
                    await self._look(kept.repository)
            await anyio.sleep(INTERVAL / 10)

    async def _look(self, repository: Repository) -> None:
        self._looked[repository.id] = self._clock()
        try:
            with anyio.fail_after(LOOK):
                await self.look(repository)
        except (TryAgain, Rejected, TimeoutError, Unavailable) as error:
            log.warning("the configuration cannot be checked for changes", repo=repository.slug, reason=str(error))

    async def look(self, repository: Repository) -> None:
        """The file is as it is now; costs nothing of GitHub's limits while it has not changed."""
        async with self._locks.setdefault(repository.id, anyio.Lock()):
            kept = self._kept[repository.id]
            found = await self._source.newer(repository, kept.etag)
            if found is not None:
                await self._take(repository, found)

    async def _take(self, repository: Repository, found: Found) -> Kept:
        """What was found counts if it can be used, else what counted before."""
        before = self._kept.get(repository.id)
        self._looked[repository.id] = self._clock()
        now = blob(found.text)
        if before is not None and now in (before.blob, before.broken):
            is_good = now == before.blob
            kept = replace(before, repository=repository, etag=found.etag)
            return await self._keep(replace(kept, broken=None, reason="") if is_good else kept, before)
        parsed = await to_thread.run_sync(_parsed, found.text)
        if parsed.value is not None:
            routes = await self._routes(parsed.value)
            self._tell(repository, parsed, routes)
            return await self._keep(
                Kept(repository=repository, text=found.text, routes=routes, etag=found.etag), before
            )
        reason = "; ".join(str(finding) for finding in parsed.findings[:SHOWN])
        telemetry.configuration(repository.slug, is_broken=True)
        if before is None:
            raise Rejected(f"The configuration cannot be used, and no earlier one is known: {reason}")
        log.error("the configuration is broken; the last good one stays in use", repo=repository.slug, reason=reason)
        return await self._keep(
            replace(before, repository=repository, etag=found.etag, broken=now, reason=reason), before
        )

    async def _keep(self, kept: Kept, before: Kept | None) -> Kept:
        self._kept[kept.repository.id] = kept
        telemetry.configuration(kept.repository.slug, is_broken=bool(kept.broken))
        if kept != before:
            try:
                await self._storage.put(KIND, str(kept.repository.id), _stored(kept))
            except Unavailable as error:
                log.error("the configuration is kept in memory only", repo=kept.repository.slug, reason=str(error))
        return kept

    def _tell(self, repository: Repository, parsed: Parsed[RepoConfig], routes: Routes) -> None:
        log.info(
            "a configuration is in use",
            repo=repository.slug,
            rules=len(parsed.value.webhook_endpoint_regexs) if parsed.value else 0,
        )
        for slip in routes.slips:
            log.warning(
                "a relay rule looks wrong",
                repo=repository.slug,
                place=f"{config.FILE}:{slip.line}",
                reason=slip.message,
            )
        for finding in parsed.findings[:SHOWN]:
            log.warning("the configuration has a finding", repo=repository.slug, reason=str(finding))

    async def _routes(self, value: RepoConfig) -> Routes:
        return await to_thread.run_sync(lambda: Routes(value, allowed_hosts=self._allowed_hosts))

    async def _restored(self, stored: dict[str, Any]) -> Kept:
        text = None if stored["text"] is None else base64.b64decode(stored["text"])
        value = (await to_thread.run_sync(_parsed, text)).value
        if value is None:
            raise ValueError("it is not valid any more")
        return Kept(
            repository=Repository(**stored["repository"]),
            text=text,
            routes=await self._routes(value),
            etag=stored["etag"],
            broken=stored["broken"],
            reason=stored["reason"],
        )


def blob(text: Text) -> str:
    """The id that git gives a file of this content; empty where there is no file."""
    if text is None:
        return ""
    return hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()


def _parsed(text: Text) -> Parsed[RepoConfig]:
    return Parsed(value=RepoConfig(), findings=()) if text is None else config.repository(text)


def _stored(kept: Kept) -> bytes:
    text = None if kept.text is None else base64.b64encode(kept.text).decode()
    document = {"repository": asdict(kept.repository), "text": text}
    return orjson.dumps(document | {"etag": kept.etag, "broken": kept.broken, "reason": kept.reason})
