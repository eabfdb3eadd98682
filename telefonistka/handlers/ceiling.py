"""Whoever changes the configuration learns on that very pull request what the operator does not allow."""

from __future__ import annotations

from telefonistka.core import comments, guards
from telefonistka.core.events import PullRequest
from telefonistka.core.promotion import CONFIG_FILE
from telefonistka.handlers import facts
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Asked, Journal


async def run(event: PullRequest, given: Context) -> Done:
    """It is said what the head's configuration asks for in vain; where that is over, that is said, too."""
    journal = Journal(given.ledger, event.repository.id)
    before = await journal.asked(event.number)
    if before is not None and before.head == event.head_sha:
        return Done("this head was looked at before")
    excesses = await _excesses(event, given)
    if excesses != (before.excesses if before else ()):
        await given.repo.ensure_comment(event.number, comments.marker("ceiling"), given.words.ceiling(excesses))
    await journal.put_asked(event.number, Asked(head=event.head_sha, excesses=excesses))
    return Done(f"it asks for {len(excesses) or 'nothing'} beyond what is allowed")


async def _excesses(event: PullRequest, given: Context) -> tuple[str, ...]:
    """What the pull request's own change asks for; the files are listed only where there is anything."""
    config = await facts.config_at(given.repo, event.head_sha)
    excesses = tuple(guards.excesses(config, given.ceiling))
    if not excesses:
        return ()
    files = await given.repo.changed_files(event.number, base_sha=event.base_sha, head_sha=event.head_sha)
    return excesses if CONFIG_FILE in files else ()
