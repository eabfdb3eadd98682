"""Trees that were read already: what has an object id never changes, so this cannot be stale."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from telefonistka.core.trees import Snapshot

ENTRIES = 400_000  # names kept in all; four of GitHub's largest listings, about 100 MB


class TreeCache:
    """The listings used last, as many as ENTRIES allow. One that GitHub cut off is remembered as None."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._kept: OrderedDict[Hashable, Snapshot | None] = OrderedDict()
        self._entries = entries
        self._held = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __getitem__(self, key: Hashable) -> Snapshot | None:
        self._kept.move_to_end(key)
        return self._kept[key]

    def __setitem__(self, key: Hashable, listing: Snapshot | None) -> None:
        if key in self._kept:
            self._held -= _weight(self._kept.pop(key))
        self._kept[key] = listing
        self._held += _weight(listing)
        while self._held > self._entries:
            _, oldest = self._kept.popitem(last=False)
            self._held -= _weight(oldest)


def _weight(listing: Snapshot | None) -> int:
    return 1 if listing is None else 1 + sum(map(len, listing.directories.values()))
