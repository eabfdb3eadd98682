"""Open promotion pull requests that come into conflict because the default branch has moved: built anew once.

A push concerns those whose targets it touches; which those are, the ledger knows. GitHub computes whether a pull
request is in conflict only after somebody has asked, so it is asked again until it says.
"""

from __future__ import annotations

from dataclasses import replace

from telefonistka.core import promotion
from telefonistka.core.events import Conflict, Look, Push, Waiting
from telefonistka.handlers import landing, newer
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Journal

SETTLES = 3.0  # seconds; right after a push GitHub may still say what was true before
LOOK_FIRST = 5.0  # seconds until it is asked again what it did not know
LOOKS = 8  # in twenty minutes; it takes seconds


async def pushed(event: Push, given: Context) -> Done:
    """The pull requests that a push may have brought into conflict are looked at; mostly there are none."""
    journal = Journal(given.ledger, event.repository.id)
    known = await journal.open_ones()
    numbers = tuple(known) if event.doubt else promotion.disturbed(known, event.files)
    if not numbers:
        return Done("no open promotion is concerned")
    await given.later(Look(repository=event.repository, numbers=numbers), after=SETTLES)
    return Done(f"to be looked at: {', '.join(f'#{number}' for number in numbers)}")


async def look(event: Look, given: Context) -> Done:
    """Those in conflict are on their way to be built anew; those of which GitHub does not know are asked for again."""
    journal = Journal(given.ledger, event.repository.id)
    known = await journal.open_ones()  # a merge has ended one of them itself, and that is told meanwhile
    numbers = [number for number in event.numbers if number in known]
    if not numbers:
        return Done("they have ended")
    found = await given.repo.mergeable(numbers)
    for number in (number for number, state in found.items() if state == "CONFLICTING"):
        landed = await journal.landing(number)
        if landed is not None and landed.stuck:
            continue
        kind = Waiting if landed is not None and landed.lands else Conflict
        await given.later(kind(repository=event.repository, number=number))
    unknown = tuple(number for number, state in found.items() if state == "UNKNOWN")
    if unknown and event.looks < LOOKS:
        again = replace(event, numbers=unknown, looks=event.looks + 1)
        await given.later(again, after=LOOK_FIRST * 2.0**event.looks)
    return Done("; ".join(f"#{number}: {state.lower()}" for number, state in found.items()))


async def rebuild(event: Conflict, given: Context) -> Done:
    """The pull request stands on the default branch of now, or people were told that they have to do it."""
    journal = Journal(given.ledger, event.repository.id)
    text = await landing.resolve(given, journal, event)
    origin = await journal.origin(event.number)
    if origin is not None:
        await newer.tell_sources(origin, event.repository, given)
    return Done(f"#{event.number} {text}")
