"""When: which handlers a delivery's event calls for. One screen, pure.

What an event leads to is decided by its payload alone, so that an event that asks for nothing costs no API call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from telefonistka.core.events import (
    DRIFT_ASKED,
    PLAN_ASKED,
    Checked,
    Comment,
    Conflict,
    Event,
    Ignored,
    Look,
    Progress,
    PullRequest,
    Push,
    Review,
    Waiting,
)
from telefonistka.core.guards import Ceiling
from telefonistka.core.promotion import BRANCH_PREFIX, NO_CEILING
from telefonistka.handlers import ceiling as ceilings
from telefonistka.handlers import check, commands, conflict, drift, merge, plan, promote, result
from telefonistka.handlers.facts import Context, Done

__all__ = ["Context", "Done", "Handler", "route"]

# What may happen to a promotion pull request of ours that bears on its merge by itself.
MATTERS = frozenset(
    {
        "auto_merge_disabled",
        "closed",
        "converted_to_draft",
        "dequeued",
        "edited",
        "ready_for_review",
        "reopened",
        "synchronize",
    }
)
# What makes another pull request of it, as far as its files go.
CHANGES = frozenset({"opened", "reopened", "synchronize"})
# The same for what was open before; of a label that it is opened with an event of its own tells.
RENEWS = CHANGES - {"opened"}
# What changes for whose review it waits.
ASKS = frozenset({"converted_to_draft", "ready_for_review", "review_requested", "review_request_removed"})
# When one of our own pull requests comes to its end, or back from it.
ENDS = frozenset({"closed", "reopened"})


@dataclass(frozen=True, slots=True)
class Handler:
    """One behaviour: its name is stored with its outcome, so it is never changed."""

    name: str
    run: Callable[[Any, Context], Awaitable[Done]]
    reports: bool = True  # its ending is the commit status of the event's pull request
    beside: bool = False  # it only says something, so it neither waits for the event's other handlers nor holds them up


PROMOTE = Handler("promote", promote.run)
AUTO_MERGE = Handler("auto-merge", merge.run, reports=False)
REPORT = Handler("report", merge.report, reports=False)
RESULT = Handler("result", result.update, reports=False)
FOLLOW = Handler("follow", result.follow, reports=False)
PUSHED = Handler("pushed", conflict.pushed, reports=False)
LOOK = Handler("look", conflict.look, reports=False)
REBUILD = Handler("rebuild", conflict.rebuild, reports=False)
REVIEWED = Handler("reviewed", result.reviewed, reports=False)
COMMANDS = Handler("commands", commands.run, reports=False)
CHECK = Handler("check", check.run, beside=True)
CEILING = Handler("ceiling", ceilings.run, reports=False, beside=True)
DRIFT = Handler("drift", drift.run, beside=True)
PLAN = Handler("plan", plan.run, beside=True)


# Their work on a head is needless once there is a newer one, for which they run, too, or the pull request is closed.
OF_THE_HEAD = frozenset({"check", "ceiling", "drift", "plan"})


def supersedes(newer: Event, older: Event, handler: Handler) -> bool:
    """Whether what a handler would do for one event is needless because of a later one of the same lane."""
    return handler.name in OF_THE_HEAD and overtakes(newer, older)


def overtakes(newer: Event, older: Event) -> bool:
    """Whether the pull request has another head since, or came to its end."""
    return (
        isinstance(older, PullRequest)
        and older.action in CHANGES
        and isinstance(newer, PullRequest)
        and newer.action in {*CHANGES, "closed"}
    )


def begins_anew(event: PullRequest) -> bool:
    """Whether this event leads to all that is said of its head, whatever earlier ones led to."""
    return event.action in CHANGES or (event.action == "closed" and event.merged)


def route(event: Event, ceiling: Ceiling = NO_CEILING) -> tuple[Handler, ...]:
    """The handlers of an event; those that act run in this order."""
    if isinstance(event, Ignored) or not ceiling.serves(event.repository.slug):
        return ()
    match event:
        case PullRequest():
            return tuple(_of_pull(event, ceiling))
        case Review():
            return (AUTO_MERGE, REVIEWED)
        case Checked() | Waiting():
            return (AUTO_MERGE,)
        case Progress():
            return (REPORT, RESULT)
        case Push():
            return (PUSHED,)
        case Look():
            return (LOOK,)
        case Conflict():
            return (REBUILD,)
        case Comment():
            return (COMMANDS,)
        case _:
            return ()


def _of_pull(event: PullRequest, ceiling: Ceiling) -> Iterator[Handler]:
    into_default = event.base_ref == event.repository.default_branch
    merged = event.action == "closed" and event.merged
    if into_default and merged:
        yield PROMOTE
    if event.action in MATTERS and _may_be_ours(event):
        yield AUTO_MERGE
    if into_default and (merged or event.action in CHANGES) and not ceiling.lets_all_pass:
        yield CEILING
    if event.action in ENDS and _may_be_ours(event):
        yield FOLLOW
    if event.action in ASKS and _may_be_ours(event):
        yield REVIEWED
    if into_default and event.action in CHANGES:
        yield CHECK
    if into_default and event.action in {*CHANGES, DRIFT_ASKED}:
        yield DRIFT
    if into_default and _wants_plan(event):
        yield PLAN


def _wants_plan(event: PullRequest) -> bool:
    """Somebody asks for it, or has asked, and what it was made of may be another by now."""
    asked = event.action == PLAN_ASKED or (event.action, event.label) == ("labeled", plan.LABEL)
    return asked or (event.action in RENEWS and plan.LABEL in event.labels)


def _may_be_ours(event: PullRequest) -> bool:
    return event.head_ref.startswith(BRANCH_PREFIX)
