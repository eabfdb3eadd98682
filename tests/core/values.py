"""Values for the core's tests: snapshots of made-up files, configurations from made-up flows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from telefonistka.core import config, trees
from telefonistka.core.config import RepoConfig
from telefonistka.core.trees import TREE, Entry, Oid, Snapshot


def blob(text: str, mode: str = "100644") -> Entry:
    content = text.encode()
    return Entry(mode, Oid(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()))


def snapshot(files: Mapping[str, str | Entry]) -> Snapshot:
    """The complete snapshot of files given as path → content or entry."""
    directories: dict[str, dict[str, Entry]] = {"": {}}
    for path, content in files.items():
        for directory in trees.above(path):
            directories.setdefault(directory, {})
        parent, name = trees.split(path)
        directories[parent][name] = blob(content) if isinstance(content, str) else content
    for directory in sorted(filter(None, directories), key=lambda path: path.count("/"), reverse=True):
        parent, name = trees.split(directory)
        directories[parent][name] = Entry(TREE, trees.tree_id(directories[directory]))
    return Snapshot(trees.tree_id(directories[""]), directories)


def flow(
    source: str, *pulls: Any, labels: list[str] | None = None, auto: bool = False, depth: int = 0
) -> dict[str, Any]:
    """One entry of `promotionPaths`; each of `pulls` is a list of targets, or (description, targets)."""
    conditions: dict[str, Any] = {"autoMerge": auto}
    if labels is not None:
        conditions["prHasLabels"] = labels
    return {
        "sourcePath": source,
        "componentPathExtraDepth": depth,
        "conditions": conditions,
        "promotionPrs": [
            {"targetPaths": pull} if isinstance(pull, list) else {"targetDescription": pull[0], "targetPaths": pull[1]}
            for pull in pulls
        ],
    }


def repo_config(*flows: Mapping[str, Any], **keys: Any) -> RepoConfig:
    parsed = config.repository(orjson.dumps({"promotionPaths": flows, **keys}))
    assert parsed.value is not None, parsed.findings
    return parsed.value
