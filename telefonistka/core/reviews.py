"""Who has reviewed a promotion pull request, and whose review it waits for, as webhooks tell it.

Webhooks may come late, twice and out of order: what is older than what is known changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

APPROVED, CHANGES_REQUESTED = "approved", "changes_requested"
NAMED = 5  # people; more are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """Whose review was asked for at a moment."""

    asked: tuple[str, ...] = ()  # people by login, teams by slug; sorted
    draft: bool = False
    as_of: str = ""  # GitHub's time of the pull request, which sorts as text


NOBODY = Awaited()


@dataclass(frozen=True, slots=True)
class Opinion:
    """The newest review of one person that approves, refuses, or did before it was dismissed."""

    review: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """All of it, of one pull request."""

    awaited: Awaited = NOBODY
    opinions: Mapping[str, Opinion] = field(default_factory=dict)

    def awaiting(self, awaited: Awaited) -> Reviews:
        return self if awaited.as_of < self.awaited.as_of else replace(self, awaited=awaited)

    def with_opinion(self, author: str, opinion: Opinion) -> Reviews:
        """With a review that was given or dismissed; a dismissed one does not come back."""
        known = self.opinions.get(author)
        if known is not None and (known.review > opinion.review or known == opinion):
            return self
        if known is not None and known.review == opinion.review and opinion.state in (APPROVED, CHANGES_REQUESTED):
            return self
        return replace(self, opinions={**self.opinions, author: opinion})

    @property
    def waits(self) -> str:
        """For whom or what a pull request waits that people merge."""
        if self.awaited.draft:
            return "it is a draft"
        refusing, approving = self._by(CHANGES_REQUESTED), self._by(APPROVED)
        if refusing:
            return f"changes requested by {_named(refusing)}"
        said = [f"approved by {_named(approving)}"] if approving else []
        if self.awaited.asked:
            return "; ".join([*said, f"waits for a review by {_named(self.awaited.asked)}"])
        return "; ".join([*said, f"waits for people to {'' if said else 'review and '}merge it"])

    def _by(self, state: str) -> list[str]:
        """Whose review says so; who was asked once more is only waited for."""
        return sorted(
            author for author, one in self.opinions.items() if one.state == state and author not in self.awaited.asked
        )


def _named(people: Collection[str]) -> str:
    named = ", ".join(list(people)[:NAMED])
    return named if len(people) <= NAMED else f"{named} and {len(people) - NAMED} more"
