"""What is known of a pull request's reviews, in whatever order webhooks come."""

from __future__ import annotations

from itertools import permutations

import pytest

from telefonistka.core.reviews import Awaited, Opinion, Reviews

GIVEN = (
    ("ada", Opinion(1, "changes_requested")),
    ("ada", Opinion(3, "approved")),
    ("bob", Opinion(2, "approved")),
    ("bob", Opinion(2, "dismissed")),
)


@pytest.mark.parametrize("order", list(permutations(range(len(GIVEN)))))
def test_the_newest_opinion_of_each_counts_in_any_order(order: tuple[int, ...]) -> None:
    """And what was dismissed does not come back."""
    reviews = Reviews()
    for place in order * 2:
        reviews = reviews.with_opinion(*GIVEN[place])
    assert reviews.opinions == {"ada": Opinion(3, "approved"), "bob": Opinion(2, "dismissed")}
    assert reviews.waits == "approved by ada; waits for people to merge it"


def test_an_older_webhook_does_not_bring_back_who_was_asked() -> None:
    newer, older = Awaited(asked=("bob",), as_of="2026-01-02"), Awaited(asked=("ada",), as_of="2026-01-01")
    for order in ((older, newer), (newer, older)):
        reviews = Reviews()
        for awaited in order:
            reviews = reviews.awaiting(awaited)
        assert reviews.waits == "waits for a review by bob"


def test_many_people_are_counted() -> None:
    reviews = Reviews(awaited=Awaited(asked=tuple("abcdefg")))
    assert reviews.waits == "waits for a review by a, b, c, d, e and 2 more"
