"""What deliveries say: reviews and checks, and in which lane they belong."""

from __future__ import annotations

from typing import Any

import pytest

from telefonistka.core import events
from telefonistka.core.events import (
    Checked,
    Conflict,
    Ignored,
    Look,
    Malformed,
    Progress,
    Push,
    Repository,
    Review,
    Waiting,
)
from telefonistka.core.reviews import Awaited, Opinion

HERE = {"repository": {"id": 5, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"}}
SHA = "a" * 40


def review(action: str = "submitted", state: str = "approved") -> dict[str, Any]:
    given = {"id": 1, "state": state, "user": {"login": "ada"}}
    pull = {"number": 7, "draft": True, "updated_at": "2026-01-01T00:00:00Z"}
    asked = {"requested_reviewers": [{"login": "grace"}], "requested_teams": [{"slug": "core"}]}
    return HERE | {"action": action, "review": given, "pull_request": pull | asked}


def status(state: str = "success", context: str = "ci") -> dict[str, Any]:
    return HERE | {"sha": SHA, "state": state, "context": context}


def suite(action: str = "completed") -> dict[str, Any]:
    return HERE | {"action": action, "check_suite": {"head_sha": SHA}}


def test_a_review_and_a_check_name_what_they_are_of() -> None:
    reviewed = events.parse("pull_request_review", review())
    assert isinstance(reviewed, Review)
    assert reviewed.number == 7
    assert (reviewed.author, reviewed.opinion) == ("ada", Opinion(1, "approved"))
    assert reviewed.awaited == Awaited(asked=("core", "grace"), draft=True, as_of="2026-01-01T00:00:00Z")
    for name, payload in (("status", status()), ("check_suite", suite())):
        checked = events.parse(name, payload)
        assert isinstance(checked, Checked)
        assert checked.sha == SHA


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("pull_request_review", review(state="commented")),
        ("pull_request_review", review(action="edited")),
        ("status", status(state="pending")),
        ("status", status(context="telefonistka")),
        ("check_suite", suite(action="requested")),
    ],
)
def test_what_cannot_let_a_merge_go_on_is_ignored(name: str, payload: dict[str, Any]) -> None:
    """Our own status most of all: it would wake us for ever."""
    assert isinstance(events.parse(name, payload), Ignored)


@pytest.mark.parametrize("name", ["pull_request_review", "status", "check_suite"])
def test_a_payload_of_another_event_is_malformed(name: str) -> None:
    """The header that names the event is not signed."""
    with pytest.raises(Malformed):
        events.parse(name, HERE | {"action": "completed", "ref": "refs/heads/main"})


@pytest.mark.parametrize("kind", [Waiting, Progress, Conflict])
@pytest.mark.parametrize("installation", [None, 9])
def test_our_own_events_are_read_as_they_were_written(
    kind: type[Waiting] | type[Progress] | type[Conflict], installation: int | None
) -> None:
    """And they are in the lane of their pull request."""
    repository = Repository(id=5, owner="acme", name="iac", default_branch="main", installation=installation)
    event = kind(repository=repository, number=7)
    name, payload = events.written(event)
    assert events.parse(name, payload) == event
    assert events.lane(payload) == "5/7"


def test_a_question_about_several_is_in_the_repositorys_lane() -> None:
    event = Look(repository=events.repository(HERE), numbers=(3, 7), looks=2)
    name, payload = events.written(event)
    assert events.parse(name, payload) == event
    assert events.lane(payload) == "5"


@pytest.mark.parametrize(
    ("ref", "fields"), [("refs/heads/other", {}), ("refs/tags/main", {}), ("refs/heads/main", {"deleted": True})]
)
def test_only_pushes_to_the_default_branch_count(ref: str, fields: dict[str, Any]) -> None:
    """In its repository's lane."""
    push = HERE | {"ref": "refs/heads/main", "commits": [{"added": ["b"]}, {"removed": ["a"], "modified": ["b"]}]}
    event = events.parse("push", push)
    assert isinstance(event, Push)
    assert (event.files, event.doubt) == (("a", "b"), "")
    assert events.lane(push) == "5"
    assert isinstance(events.parse("push", push | {"ref": ref} | fields), Ignored)


@pytest.mark.parametrize("name", [events.WAITING, events.PROGRESS, events.LOOK, events.CONFLICT])
def test_nothing_that_github_sends_passes_for_our_own(name: str) -> None:
    """Under a forged header."""
    with pytest.raises(Malformed):
        events.parse(name, review())
    other, payload = events.written(Waiting(repository=events.repository(HERE), number=7))
    if name != other:
        with pytest.raises(Malformed):
            events.parse(name, payload)


def test_checks_of_one_commit_have_a_lane_of_their_own() -> None:
    """So that they hold up no push, and a review waits for its pull request's other events."""
    assert events.lane(status()) == events.lane(suite()) == f"5/{SHA}"
    assert events.lane(review()) == "5/7"
