"""What happens to a promotion pull request of ours that waits for its merge: a push, a review, a check, its end.

Only what the ledger says that we opened counts: neither author, label, branch name nor body make it ours.
"""

from __future__ import annotations

from telefonistka.core.events import Checked, Progress, PullRequest, Review, Waiting
from telefonistka.errors import Rejected
from telefonistka.handlers import landing, statuses
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Journal, Landing


async def run(event: PullRequest | Review | Checked | Waiting, given: Context) -> Done:
    """Bring the pull request further where that is possible now; the status of the merge it came from follows."""
    journal = Journal(given.ledger, event.repository.id)
    if isinstance(event, PullRequest):
        await _touch(event.number, journal)
    known = await _landing(event, journal)
    if known is None:
        return Done("not a pull request that Telefonistka merges")
    try:
        found = await landing.proceed(given, journal, known.number, again=True) or known
    except Rejected:
        if isinstance(event, Waiting):  # what refuses us may end without an event, as when an App was suspended
            await given.later(event, after=landing.LOOK_LONGEST)
        raise
    await _tell_source(found, given, journal)
    return Done(f"#{found.number}{found.note}")


async def report(event: Progress, given: Context) -> Done:
    """The commit status of a merge says what is true now of what came of it."""
    journal = Journal(given.ledger, event.repository.id)
    pin, ending = await journal.pin(event.number), await journal.ending(event.number)
    if pin is None or pin.head is None or ending is None:
        return Done("it is still under way, and tells by itself")
    text = await journal.report(event.number, pin)
    if text == ending.text:
        return Done("nothing new")
    state = "error" if ending.failures or not pin.plan.is_sound else "success"
    whole = "; ".join([text, *ending.failures])
    await statuses.tell(given, journal, event.number, pin.head, state, whole)
    await journal.put_ending(event.number, ending.saying(text))
    return Done(text)


async def _landing(event: PullRequest | Review | Checked | Waiting, journal: Journal) -> Landing | None:
    if isinstance(event, Checked):
        return await journal.landing_of(event.sha)
    return await journal.landing(event.number)


async def _touch(number: int, journal: Journal) -> None:
    """Whoever lands the pull request looks at it first: not all that people do to it changes its head.

    Noted before it is asked whether there is a landing, and read after that is stored, so that one sees the other.
    """
    landing = await journal.landing(number)
    untried = landing is None or not (landing.tried or landing.ended)
    if untried and await journal.origin(number) is not None:
        await journal.put_touched(number)


async def _tell_source(found: Landing, given: Context, journal: Journal) -> None:
    """The status of the merge that led to the pull request is looked at, where it says something else.

    Later, in the lane of that merge: what still works on it sets the status, too, and must not do so after us.
    """
    pin, ending = await journal.pin(found.source), await journal.ending(found.source)
    if pin is not None and ending is not None and ending.text == await journal.report(found.source, pin):
        return
    await given.later(Progress(repository=found.repository, number=found.source))
