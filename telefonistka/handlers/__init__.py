"""When: which handlers a delivery's event calls for. One screen, pure.

What an event leads to is decided by its payload alone, so that an event that asks for nothing costs no API call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from telefonistka.core.events import Event, PullRequest
from telefonistka.handlers import promote
from telefonistka.handlers.facts import Context, Done

__all__ = ["Context", "Done", "Handler", "route"]


@dataclass(frozen=True, slots=True)
class Handler:
    """One behaviour: its name is stored with its outcome, so it is never changed."""

    name: str
    run: Callable[[PullRequest, Context], Awaitable[Done]]


def route(event: Event) -> tuple[Handler, ...]:
    """The handlers of an event, in the order in which they run."""
    match event:
        case PullRequest(action="closed", merged=True) if event.base_ref == event.repository.default_branch:
            return (Handler("promote", promote.run),)
        case _:
            return ()
