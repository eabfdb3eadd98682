"""The commit status of a pull request's head: what it says, and where it leads.

It leads where the operator's template says, else to the trace that tells how it came to be, else to the comment on
the pull request that says most.
"""

from __future__ import annotations

from telefonistka.core import comments
from telefonistka.core.trees import Sha
from telefonistka.handlers.facts import Context
from telefonistka.handlers.journal import Journal, Status


async def tell(given: Context, journal: Journal, number: int, head: Sha, state: str, text: str) -> None:
    """The head of the pull request has this status. Nothing is written where it has it already.

    GitHub takes a thousand of one context on a commit: https://docs.github.com/en/rest/commits/statuses
    """
    templated = given.status_link() if given.status_link is not None else ""
    # A template may have the time in it, and each delivery has a trace of its own, so such a link counts as the same.
    link = "" if templated else await journal.page(number)
    status = Status(state=state, text=comments.status(text), link=link)
    if await journal.status(head) == status:
        return
    await given.repo.set_status(head, status.state, status.text, templated or link or None)
    await journal.put_status(head, status)
