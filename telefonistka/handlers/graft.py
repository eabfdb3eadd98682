"""The tree of a promotion: what both its first commit and a rebuilt one are made of."""

from __future__ import annotations

from collections.abc import Collection

from telefonistka.core import trees
from telefonistka.core.promotion import Pair
from telefonistka.core.trees import Edit, Oid, Snapshot
from telefonistka.errors import Rejected
from telefonistka.github import Refused
from telefonistka.github.repo import Repo
from telefonistka.telemetry import log

UNPROCESSABLE = 422


async def tree(repo: Repo, snapshot: Snapshot, pairs: Collection[Pair]) -> Oid:
    """A tree in which every target is its source, to the bit, and nothing else differs from the snapshot.

    GitHub does not say whether a directory entry replaces the directory at its path or is merged into it, nor
    whether a path that is not there may be removed. So the id that the tree must have is computed here, and
    where one request does not give it, the targets are taken away first and put in their place afterwards.
    """
    grafts = {pair.target: pair.becomes for pair in pairs}
    try:
        expected = trees.root_after(snapshot, grafts)
    except trees.Unknown as unknown:
        raise Rejected(f"the result of the promotion cannot be checked beforehand: {unknown}") from unknown
    edits = [edit for pair in pairs for edit in trees.sync(snapshot, pair.source, pair.target)]
    try:
        if await repo.create_tree(snapshot.root, edits) == expected:
            return expected
        log.info("one tree does not do, making two", promotion=[pair.target for pair in pairs])
    except Refused as refused:
        if refused.status != UNPROCESSABLE:
            raise
    removals = [Edit(pair.target, None) for pair in pairs if pair.current is not None]
    additions = [Edit(pair.target, pair.becomes) for pair in pairs if pair.becomes is not None]
    made = await repo.create_tree(snapshot.root, removals) if removals else snapshot.root
    made = await repo.create_tree(made, additions) if additions else made
    if made != expected:
        raise Rejected(f"GitHub made the tree {made} where {expected} is right; nothing was made of it")
    return made
