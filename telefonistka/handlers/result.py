"""What our own pull requests tell of themselves, so that what is said of the merge they come from stays true.

Only what the ledger says that we opened counts.
"""

from __future__ import annotations

from dataclasses import replace

from telefonistka.core.events import Progress, PullRequest, Review
from telefonistka.handlers import notice
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Fate, Journal, Origin


async def update(event: Progress, given: Context) -> Done:
    """The comment on a merged pull request says what is true now."""
    journal = Journal(given.ledger, event.repository.id)
    pin = await journal.pin(event.number)
    if pin is None or pin.dry_run or await journal.ending(event.number) is None:
        return Done("it is still under way, and tells by itself")
    await notice.tell(event.number, pin, given, journal)
    return Done("the result is in a comment")


async def follow(event: PullRequest, given: Context) -> Done:
    """A pull request of ours was merged, closed or opened again: its sources learn of it, and its branch goes."""
    journal = Journal(given.ledger, event.repository.id)
    origin = await journal.origin(event.number)
    if origin is None:
        return Done("not a pull request that Telefonistka opened")
    pull = await given.repo.pull(event.number)  # deliveries may come in another order than things happened
    fate = Fate.OPEN if pull.state == "open" else Fate.MERGED if pull.merged else Fate.CLOSED
    await journal.put_origin(event.number, replace(origin, fate=fate))
    if fate is Fate.OPEN:
        await journal.put_open(event.number)
    else:
        await _tidy(event.number, origin, given, journal)
    for source in origin.sources:
        await given.later(Progress(repository=event.repository, number=source))
    return Done(f"#{event.number} is {fate}")


async def reviewed(event: PullRequest | Review, given: Context) -> Done:
    """A pull request of ours was reviewed, or a review asked for: its sources learn of what is new."""
    journal = Journal(given.ledger, event.repository.id)
    origin = await journal.origin(event.number)
    if origin is None:
        return Done("not a pull request that Telefonistka opened")
    before = await journal.reviews(event.number)
    now = before.awaiting(event.awaited)
    if isinstance(event, Review):
        now = now.with_opinion(event.author, event.opinion)
    await journal.put_reviews(event.number, now)
    # Also where it was noted before: whoever noted it may have ended before telling.
    for source in origin.sources:
        await given.later(Progress(repository=event.repository, number=source))
    return Done(f"#{event.number}: {now.waits}")


async def _tidy(number: int, origin: Origin, given: Context, journal: Journal) -> None:
    """The branch of a pull request that has ended is gone, unless it holds what is not ours."""
    landing = await journal.landing(number)
    ours = {*origin.heads, *(landing.heads if landing is not None else ())}
    if await given.repo.branch(origin.branch) in ours:
        await given.repo.delete_branch(origin.branch)
