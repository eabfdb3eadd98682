"""The commit status: said once, and leading where there is more to read."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

from telefonistka.handlers import statuses
from telefonistka.handlers.journal import Journal
from tests.handlers.world import working, world

FILES = {"lab/x/f": "1"}


async def test_an_unchanged_status_is_not_written_again(tmp_path: Path) -> None:
    """D80: GitHub takes a thousand of them."""
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        async with working(place) as given:
            journal = Journal(given.ledger, event.repository.id)
            for state, text in [
                ("pending", "…"),
                ("success", "opened #2"),
                ("success", "opened #2"),
                ("error", "x" * 200),
            ]:
                await statuses.tell(given, journal, 1, event.head_sha, state, text)
        found = [(one.state, one.description) for one in place.repo.statuses[event.head_sha]]
        assert found == [("pending", "…"), ("success", "opened #2"), ("error", "x" * 139 + "…")]


async def test_it_leads_to_the_comment_that_says_most(tmp_path: Path) -> None:
    """D111: and nowhere where there is none; a link that came later is a change."""
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        async with working(place) as given:
            journal = Journal(given.ledger, event.repository.id)
            await statuses.tell(given, journal, 1, event.head_sha, "success", "opened #2")
            await journal.put_page(1, "https://github.example.com/comment")
            await statuses.tell(given, journal, 1, event.head_sha, "success", "opened #2")
        links = [one.target_url for one in place.repo.statuses[event.head_sha]]
        assert links == [None, "https://github.example.com/comment"]


async def test_the_operators_template_comes_first(tmp_path: Path) -> None:
    """That it has another time in it does not make it another status."""
    async with world(tmp_path, FILES) as place:
        event = await place.merged({"lab/x/f": "2"})
        times = count(1)
        async with working(place) as given:
            linked = replace(given, status_link=lambda: f"https://logs.example.com/?t={next(times)}")
            journal = Journal(given.ledger, event.repository.id)
            await journal.put_page(1, "https://github.example.com/comment")
            for _ in range(2):
                await statuses.tell(linked, journal, 1, event.head_sha, "success", "opened #2")
        links = [one.target_url for one in place.repo.statuses[event.head_sha]]
        assert links == ["https://logs.example.com/?t=1"]
