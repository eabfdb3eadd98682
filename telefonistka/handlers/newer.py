"""Open promotion pull requests whose source has moved on, and what a newer merge does to them.

Only what the ledger says that we opened is touched, and only while nobody else has changed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from telefonistka.core import comments, trees
from telefonistka.core.events import Progress, Repository
from telefonistka.core.promotion import CONFIG_FILE, Plan, Promotion
from telefonistka.core.trees import Sha
from telefonistka.handlers.facts import Context
from telefonistka.handlers.journal import Fate, Journal, Origin

Overtakes = Mapping[str, tuple[int, ...]]  # a promotion's key → the open pull requests that it overtakes


async def overtaken(plan: Plan, journal: Journal) -> dict[str, tuple[int, ...]]:
    """The open pull requests that a plan has newer content for, where their flows want that to matter."""
    found = {}
    for item in plan.promotions:
        if item.on_newer == "keep":
            continue
        numbers = [number for number in await journal.line(item) if await _has_moved_on(number, item, journal)]
        if numbers:
            found[item.key] = tuple(numbers)
    return found


async def _has_moved_on(number: int, item: Promotion, journal: Journal) -> bool:
    older = await journal.brings(number)
    before = {pair.target: pair.becomes for pair in older.pairs} if older is not None else {}
    return any(pair.target in before and pair.becomes != before[pair.target] for pair in item.pairs)


async def files(overtakes: Overtakes, journal: Journal) -> list[str]:
    """A path in each component that the overtaken pull requests bring, so that nothing of them is lost."""
    items = [await journal.brings(number) for numbers in overtakes.values() for number in numbers]
    return [trees.join(pair.source, CONFIG_FILE) for item in items if item is not None for pair in item.pairs]


def widened(plan: Plan, whole: Plan, overtakes: Overtakes) -> Plan:
    """The plan, with the promotions that overtake others as a plan for all components has them."""
    by_key = {item.key: item for item in whole.promotions if item.key in overtakes}
    return replace(plan, promotions=tuple(by_key.get(item.key, item) for item in plan.promotions))


async def our_heads(number: int, origin: Origin, journal: Journal) -> frozenset[Sha]:
    """The commits of ours that a pull request may end with."""
    landing = await journal.landing(number)
    return frozenset({*origin.heads, *(landing.heads if landing is not None else ())})


async def tell_sources(origin: Origin, repository: Repository, given: Context) -> None:
    """What is said on the merges that a pull request came from is looked at again."""
    for source in origin.sources:
        await given.later(Progress(repository=repository, number=source))


async def retire(number: int, by: int | None, repository: Repository, given: Context) -> None:
    """An open pull request is closed, with a link to the one that took its place; one that people changed is not.

    `by` is None where there is nothing to promote any more.
    """
    journal = Journal(given.ledger, repository.id)
    origin, pull = await journal.origin(number), await given.repo.pull(number)
    if origin is None or pull.state != "open":
        return
    changed = pull.head_sha not in await our_heads(number, origin, journal)
    text = given.words.newer(by, changed=changed)
    await given.repo.ensure_comment(number, comments.marker("newer"), text)
    if changed:
        note = f"its source has moved on{f', see #{by}' if by else ''}; it stays, because somebody has changed it"
    else:
        await given.repo.close_pull(number)
        note = f"#{by} took its place" if by else "its source became what the target is"
    await journal.put_origin(number, replace(origin, note=note, fate=Fate.OPEN if changed else Fate.CLOSED))
    await tell_sources(origin, repository, given)
