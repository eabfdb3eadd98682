"""Which repositories we know: by events and by name, through restarts and renames."""

from __future__ import annotations

from dataclasses import replace

from telefonistka.core.events import Repository
from telefonistka.github import NotFound
from telefonistka.ledger import Ledger
from telefonistka.repositories import Repositories
from telefonistka.storage import Storage
from tests.daemon.values import Clock

INFRA = Repository(id=1, owner="acme", name="infra", default_branch="main", installation=7)
ASKED: list[str] = []


async def look_up(owner: str, name: str) -> Repository:
    ASKED.append(f"{owner}/{name}")
    if name == "gone":
        raise NotFound("GET /repos/acme/gone", 404)
    return Repository(id=2, owner=owner, name=name, default_branch="trunk")


def known(storage: Storage, clock: Clock, *named: str) -> Repositories:
    ASKED.clear()
    return Repositories(
        Ledger(storage), look_up, named=lambda: named, serves=lambda slug: "other" not in slug, clock=clock
    )


async def test_a_repository_is_known_since_its_first_event(storage: Storage, clock: Clock) -> None:
    """Also after a restart; a new name or default branch takes the place of the old one."""
    begun = clock.now
    await known(storage, clock).see(INFRA)
    clock.passes(60)
    repositories = known(storage, clock)
    renamed = replace(INFRA, name="platform", default_branch="trunk", installation=None)
    await repositories.see(renamed)
    (one,) = await repositories.all()
    assert (one.repository, one.since) == (replace(renamed, installation=7), begun)
    assert await known(storage, clock).all() == [one]


async def test_what_is_not_served_is_left_out(storage: Storage, clock: Clock) -> None:
    """It is remembered: the ceiling may change."""
    repositories = known(storage, clock)
    await repositories.see(replace(INFRA, name="other"))
    assert await repositories.all() == []


async def test_a_named_repository_is_asked_for_once(storage: Storage, clock: Clock) -> None:
    """Owners with all that they have are no names; one that is not found holds up no other."""
    repositories = known(storage, clock, "acme/gone", "acme/new", "acme/*")
    for _ in range(2):
        assert [one.repository.slug for one in await repositories.all()] == ["acme/new"]
    assert ASKED.count("acme/new") == 1
