"""What came of a merge, in one comment on the merged pull request: there is one, and it is edited in place."""

from __future__ import annotations

from telefonistka.core import comments
from telefonistka.handlers.facts import Context
from telefonistka.handlers.journal import Journal, Pin, Said


async def tell(number: int, pin: Pin, given: Context, journal: Journal) -> None:
    """It stands on the merged pull request what came of it, as far as that is known now."""
    results = await journal.results(number, pin)
    if not results:
        return
    bodies = given.words.result(results, pin.plan)
    text = "\n".join(bodies)
    said = await journal.said(number)
    if said is not None and comments.says_the_same(said.text, text):
        return
    if said is None and len(bodies) == 1 and not await journal.told(number):
        await journal.put_told(number)
        page = await given.repo.comment(number, text)
    else:
        page = await given.repo.ensure_comment(number, comments.marker("result"), *bodies)
    await journal.put_said(number, Said(page=page, text=text))
