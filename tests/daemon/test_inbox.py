"""When an item is tried again, and how a delivery's body is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka import inbox
from telefonistka.inbox import AFTER_LONGEST, BACKOFF_FIRST, BACKOFF_LONGEST, Unreadable, backoff
from telefonistka.storage import Headers
from tests.daemon.values import JSON


@given(tries=st.integers(1, 2000), chance=st.floats(0, 1))
def test_the_backoff_grows_and_is_bounded(tries: int, chance: float) -> None:
    """Half of it is certain, half is chance, so that what failed together does not come back together."""
    delay = backoff(tries, None, chance)
    longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2 ** (min(tries, 30) - 1))
    assert longest / 2 <= delay <= longest


@given(after=st.floats(0, 1e9), chance=st.floats(0, 1))
def test_the_wait_that_was_asked_for_is_the_least(after: float, chance: float) -> None:
    """Up to what GitHub's windows allow."""
    delay = backoff(1, after, chance)
    assert min(after, AFTER_LONGEST) <= delay <= AFTER_LONGEST + BACKOFF_FIRST


@given(st.binary(max_size=200))
def test_any_body_is_an_object_or_unreadable(body: bytes) -> None:
    """In both encodings; nothing else is raised."""
    for kind in (inbox.JSON, inbox.FORM):
        try:
            assert isinstance(inbox.payload((("content-type", kind),), body), dict)
        except Unreadable as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        (JSON, "application/json"),
        ((("CONTENT-TYPE", "Application/JSON; charset=x"),), "application/json"),
        ((), ""),
    ],
)
def test_the_media_type_is_the_type_alone(headers: Headers, kind: str) -> None:
    """Without parameters, in lower case."""
    assert inbox.media_type(headers) == kind
