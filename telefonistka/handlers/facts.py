"""What a handler is given and gives back, and the gathering that several handlers share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio

from telefonistka.core import config, promotion
from telefonistka.core.comments import Words
from telefonistka.core.config import ComponentConfig, Finding, Parsed, RepoConfig, Severity
from telefonistka.core.promotion import Component, Plan, Touched
from telefonistka.core.trees import Entry, Oid, Sha, Snapshot
from telefonistka.github.repo import Repo
from telefonistka.ledger import Ledger

REGULAR_FILES = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Done:
    """A handler's good ending; the text says what happened, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use."""

    repo: Repo
    ledger: Ledger
    words: Words


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
) -> Plan:
    """The plan for files that changed between the commit `before` and the snapshot."""
    found = promotion.touched(files, labels, config)
    snapshot = await reader.widen(snapshot, list(promotion.paths(found, config)))
    rules = await component_rules(reader, snapshot, found, before)
    return promotion.plan(found, config, rules, snapshot)


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
