"""What follows from an answer, how long to wait, and when to stop trying: without a network and without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka import relay
from telefonistka.core.fanout import Endpoint
from telefonistka.relay import Breaker, Ending, Item, Pace, Parcel, Queue, State, Verdict
from telefonistka.wire import Answer

NOW = 1_700_000_000.0
PACE = Pace()
ENDPOINT = Endpoint("https", "a.example.com", None, "/api/webhook")


@pytest.mark.parametrize(
    ("answer", "ending", "words"),
    [
        (Answer(status=200), Ending.DELIVERED, ""),
        (Answer(status=204), Ending.DELIVERED, ""),
        (Answer(error="no answer within 10 seconds"), Ending.RETRY, "no answer"),
        (Answer(error="10.0.0.1 is loopback", refused=True), Ending.DEAD, "loopback"),
        (Answer(status=408), Ending.RETRY, "408"),
        (Answer(status=425), Ending.RETRY, "425"),
        (Answer(status=429), Ending.RETRY, "429"),
        (Answer(status=500), Ending.RETRY, "500"),
        (Answer(status=503, said="Queue is full,\ndiscarding\x07"), Ending.RETRY, "it says: Queue is full, discarding"),
        (Answer(status=301, location="https://b/"), Ending.DEAD, "'https://b/'"),
        (Answer(status=400), Ending.DEAD, "wrong secret"),
        (Answer(status=400, said="Webhook processing failed: HMAC verification failed"), Ending.DEAD, "secret is not"),
        (Answer(status=400, said="event not defined to be parsed"), Ending.DEAD, "pull_request"),
        (Answer(status=404), Ending.DEAD, "/api/webhook"),
        (Answer(status=413), Ending.DEAD, "size"),
        (Answer(status=418), Ending.DEAD, "status 418"),
        (Answer(status=101), Ending.DEAD, "status 101"),
    ],
)
def test_an_answer_decides_what_becomes_of_a_delivery(answer: Answer, ending: Ending, words: str) -> None:
    """Delivered, tried again, or given up with a hint for the operator."""
    found = relay.verdict(answer, now=NOW)
    assert found.ending is ending
    assert words in found.reason


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", 0.0),
        ("7", 7.0),
        ("999999999999", 3600.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2022 22:13:50 GMT", 0.0),
        ("soon", 0.0),
        ("-1", 0.0),
        ("٣", 0.0),
    ],
)
def test_a_receiver_may_ask_for_time(text: str, after: float) -> None:
    """In seconds or until a date, and never for longer than an hour."""
    assert relay.verdict(Answer(status=429, retry_after=text), now=NOW).after == after


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_to_five_minutes(attempts: int, chance: float) -> None:
    """Full jitter: anything up to the limit."""
    longest = relay.backoff(attempts, PACE, lambda: 1.0)
    assert longest == min(300.0, 2.0 ** min(attempts - 1, 60))
    assert relay.backoff(attempts, PACE, lambda: chance) == chance * longest


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    """A success between them starts the count anew."""
    breaker = Breaker(PACE)
    assert [breaker.failed(NOW, lambda: 1.0) for _ in range(4)] == [False] * 4
    assert not breaker.succeeded()
    assert [breaker.failed(NOW, lambda: 1.0) for _ in range(5)] == [False] * 4 + [True]
    assert not breaker.allows(NOW + 4.9)
    assert breaker.allows(NOW + 5)


def test_an_open_breaker_probes_with_one_request() -> None:
    """Ever more seldom, up to a minute, and closes with the first success."""
    breaker, now, waits = Breaker(PACE), NOW, []
    for _ in range(5):
        breaker.failed(now, lambda: 1.0)
    for _ in range(6):
        waits.append(breaker.until - now)
        now = breaker.until
        assert breaker.allows(now)
        breaker.probe()
        assert not breaker.allows(now)
        assert not breaker.failed(now, lambda: 1.0)
    assert waits == [5, 10, 20, 40, 60, 60]
    breaker.probe()
    assert breaker.succeeded()
    assert breaker.allows(now)


def test_what_was_in_flight_when_the_breaker_opened_changes_nothing() -> None:
    """But a success does: the endpoint lives."""
    breaker = Breaker(PACE)
    for _ in range(8):
        breaker.failed(NOW, lambda: 1.0)
    assert breaker.until == NOW + 5
    assert breaker.succeeded()
    assert breaker.state is State.CLOSED


def item(seq: int, *, received: float = NOW, attempts: int = 0) -> Item:
    return Item(Parcel(str(seq), received, None, 1, stored=True), seq, attempts)


def taken(queue: Queue, now: float) -> list[int]:
    found = []
    while (next_one := queue.take(now)) is not None:
        found.append(next_one.seq)
    return found


def test_first_attempts_are_made_in_order_and_retries_between_them() -> None:
    """A retry that is not due is not there; those that are take turns with what is new."""
    queue = Queue(ENDPOINT, PACE)
    for seq in (1, 2):
        queue.add_retry(item(seq), NOW + seq)
    for seq in (3, 4, 5):
        queue.add(item(seq))
    assert taken(queue, NOW + 1) == [3, 1, 4, 5]
    assert queue.next_time() == NOW + 2
    assert taken(queue, NOW + 2) == [2]
    assert queue.next_time() == float("inf")


def test_a_full_queue_gives_up_its_oldest() -> None:
    """Whether that was tried already or not."""
    queue = Queue(ENDPOINT, PACE)
    queue.add_retry(item(1), NOW + 300)
    queue.add_retry(item(2), NOW + 1)
    for seq in range(3, 1001):
        assert queue.add(item(seq)) is None
    dropped = [queue.add(item(seq)) for seq in range(1001, 1005)]
    assert [gone.seq if gone else None for gone in dropped] == [1, 2, 3, 4]
    assert len(queue) == 1000


def test_an_open_breaker_holds_all_but_the_probe() -> None:
    """Which is the oldest of what was never tried, else the retry that is due first, even before its time."""
    queue = Queue(ENDPOINT, PACE)
    for _ in range(5):
        queue.breaker.failed(NOW, lambda: 1.0)
    queue.add_retry(item(1), NOW + 300)
    assert queue.take(NOW) is None
    assert queue.next_time() == NOW + 5
    assert taken(queue, NOW + 5) == [1]
    assert queue.take(NOW + 500) is None
    queue.add(item(2))
    assert queue.next_time() == float("inf")
    queue.breaker.failed(NOW + 5, lambda: 1.0)
    assert taken(queue, NOW + 15) == [2]


def test_an_endpoint_that_is_back_gets_its_retries_in_order_of_arrival() -> None:
    """Not in that of their waits."""
    queue = Queue(ENDPOINT, PACE)
    for seq in (3, 1, 2):
        queue.add_retry(item(seq), NOW + 300 - seq)
    queue.hasten()
    assert taken(queue, NOW) == [1, 2, 3]


def test_what_arrived_too_long_ago_is_taken_out() -> None:
    """Of what was tried and what was not."""
    queue = Queue(ENDPOINT, PACE)
    queue.add_retry(item(1, received=NOW - 10), NOW + 1)
    queue.add_retry(item(2, received=NOW), NOW + 1)
    queue.add(item(3, received=NOW - 5))
    queue.add(item(4, received=NOW))
    assert sorted(late.seq for late in queue.expired(NOW - 5)) == [1, 3]
    assert taken(queue, NOW + 1) == [4, 2]


def test_a_verdict_of_success_is_always_the_same() -> None:
    """Thousands a second need no objects of their own."""
    assert relay.verdict(Answer(status=200), now=NOW) is relay.DELIVERED == Verdict(Ending.DELIVERED)
