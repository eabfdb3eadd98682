"""What a handler is given and gives back, and the gathering that several handlers share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio

from telefonistka.core import config, promotion
from telefonistka.core.comments import Words
from telefonistka.core.config import ComponentConfig, Finding, Parsed, RepoConfig, Severity
from telefonistka.core.events import Own
from telefonistka.core.guards import Ceiling
from telefonistka.core.promotion import NO_CEILING, Component, Plan, Touched
from telefonistka.core.trees import Entry, Oid, Sha, Snapshot
from telefonistka.github.repo import Head, MergedPull, Repo
from telefonistka.ledger import Ledger

REGULAR_FILES = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Done:
    """A handler's good ending; the text says what happened, in one line."""

    text: str


class Later(Protocol):
    """Where later work of our own goes."""

    async def __call__(self, event: Own, *, after: float = 0.0) -> None: ...


async def never(event: Own, *, after: float = 0.0) -> None:
    """For a run that ends before anything is later."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use."""

    repo: Repo
    ledger: Ledger
    words: Words
    approver: Callable[[], Awaitable[Repo]] | None = None  # the repository as the second identity sees it
    ceiling: Ceiling = NO_CEILING
    later: Later = never  # work of our own, such as another look
    forgetful: bool = False  # the ledger begins with this run, and what earlier ones have opened is people's
    handle_self_comment: bool = False  # commands in our own comments count
    clock: Callable[[], float] = time.time  # seconds since 1970
    status_link: Callable[[], str] | None = None  # where a commit status leads now, if the operator says so


class Reader(Protocol):
    """Where facts come from: GitHub, or a local clone."""

    async def widen(self, snapshot: Snapshot, paths: Collection[str]) -> Snapshot: ...

    async def blobs(self, oids: Collection[Oid]) -> Mapping[Oid, bytes]: ...

    async def read(self, commit: Sha, paths: Collection[str]) -> Mapping[str, bytes | None]: ...


async def plan(
    reader: Reader,
    snapshot: Snapshot,
    config: RepoConfig,
    files: Collection[str],
    labels: Collection[str],
    *,
    before: Sha,
    ceiling: Ceiling = NO_CEILING,
    sources: Snapshot | None = None,
) -> Plan:
    """The plan for files that changed between the commit `before` and the snapshot.

    For what is not merged yet, `sources` is the tree that the components come from: what their files there forbid is
    forbidden, too.
    """
    found = promotion.touched(files, labels, config)
    needed = list(promotion.paths(found, config))
    snapshot = await reader.widen(snapshot, needed)
    rules = await component_rules(reader, snapshot, found, before)
    if sources is None:
        return promotion.plan(found, config, rules, snapshot, ceiling)
    sources = await reader.widen(sources, needed)
    tighter = await component_rules(reader, sources, found, before)
    return promotion.plan(found, config, rules, snapshot, ceiling, sources=sources, tighter=tighter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An open pull request into the default branch, and that branch at one commit: what it says of itself counts."""

    pull: MergedPull
    snapshot: Snapshot  # of the default branch
    config: Parsed[RepoConfig]
    files: tuple[str, ...]

    @property
    def base(self) -> Head:
        return self.pull.head


async def proposal(repo: Repo, number: int) -> Proposal | Done:
    """What there is to say something about, or why there is nothing."""
    pull = await repo.merged_pull(number)
    if pull.state != "open":
        return Done("nothing to say: the pull request is closed")
    if pull.base_ref != pull.default_branch:
        return Done(f"nothing to say: it goes into {pull.base_ref}, not into {pull.default_branch}")
    snapshot = await repo.snapshot(pull.head.tree)
    parsed = await repository_config(repo, snapshot)
    if parsed.value is None:
        return Proposal(pull=pull, snapshot=snapshot, config=parsed, files=())
    files = await repo.changed_files(number, base_sha=pull.head.sha, head_sha=pull.head_sha)
    return Proposal(pull=pull, snapshot=snapshot, config=parsed, files=files)


async def repository_config(reader: Reader, snapshot: Snapshot) -> Parsed[RepoConfig]:
    """The root configuration at a snapshot; the default one only where the file is proven absent."""
    file = promotion.CONFIG_FILE
    entry = snapshot.entry(file)
    if entry is None:
        return Parsed(value=RepoConfig(), findings=())
    if entry.mode not in REGULAR_FILES:
        return Parsed(value=None, findings=(_no_file(file, entry),))
    text = (await reader.blobs([entry.oid]))[entry.oid]
    return await anyio.to_thread.run_sync(lambda: config.repository(text, file=file))


async def config_at(reader: Reader, commit: Sha) -> RepoConfig:
    """The root configuration at a commit, read by itself; one that grants nothing where it cannot be used."""
    text = (await reader.read(commit, [promotion.CONFIG_FILE]))[promotion.CONFIG_FILE]
    parsed = await anyio.to_thread.run_sync(lambda: config.repository(text or b"", file=promotion.CONFIG_FILE))
    return parsed.value or RepoConfig()


async def component_rules(
    reader: Reader, snapshot: Snapshot, found: Touched, before: Sha
) -> Mapping[str, Parsed[ComponentConfig]]:
    """What each component's own file says, by the component's path; components without such a file are left out.

    A component that is gone from the snapshot is judged by the file that it had at the commit `before`: its block
    list must not end with it.
    """
    gone = [component for component in found.components if snapshot.entry(component.path) is None]
    files = {component: snapshot.entry(component.config_file) for component in found.components}
    present = {component: entry for component, entry in files.items() if entry is not None}
    regular = {component: entry.oid for component, entry in present.items() if entry.mode in REGULAR_FILES}
    texts = await reader.blobs(sorted(set(regular.values()))) if regular else {}
    earlier = await reader.read(before, sorted({component.config_file for component in gone})) if gone else {}
    rules: dict[str, Parsed[ComponentConfig]] = {
        component.path: Parsed(value=None, findings=(_no_file(component.config_file, entry),))
        for component, entry in present.items()
        if component not in regular
    }
    known = {component: texts[oid] for component, oid in regular.items()}
    known |= {component: text for component in gone if (text := earlier[component.config_file]) is not None}
    # A file takes milliseconds to read, a hostile one seconds: not on the event loop.
    return rules | await anyio.to_thread.run_sync(_components, known)


def _components(texts: Mapping[Component, bytes]) -> dict[str, Parsed[ComponentConfig]]:
    return {component.path: config.component(text, file=component.config_file) for component, text in texts.items()}


def _no_file(file: str, entry: Entry) -> Finding:
    kind = "a directory" if entry.is_tree else "a symbolic link or a submodule"
    return Finding(
        file=file, line=1, column=1, severity=Severity.ERROR, message=f"{kind} stands here, where a file is expected"
    )
