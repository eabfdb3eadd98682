"""What became of a merge: each promotion that it led to, and where that stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    TO_COME = "to be opened"
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One promotion, and what there is to know of it now."""

    source: str
    description: str  # of its targets
    components: tuple[str, ...]
    standing: Standing
    number: int | None = None  # of its pull request
    reason: str = ""  # for what an open one waits, or why there is none
    remarks: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.standing in (Standing.MERGED, Standing.CLOSED)
