"""Many endpoints, good and bad, through real sockets: order, retry, isolation, and what the journal is told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from telefonistka import wire
from telefonistka.core.fanout import Endpoint
from telefonistka.relay import Pace, Relay, State
from telefonistka.wire import Letter
from tests.relay import sinks
from tests.relay.sinks import BUSY, HEADERS, OK, Journal, Sink

QUICK = Pace(first=0.02, longest=0.2, probe=0.05, longest_probe=0.2, storage=0.02, grace=0.1)
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 49\r\n\r\nWebhook processing failed: HMAC verification fail"


def letter(number: int = 0) -> Letter:
    return wire.letter(HEADERS, b'{"number": %d}' % number)


def numbers(sink: Sink) -> list[int]:
    return [int(body[11:-1]) for body in sink.bodies]


@asynccontextmanager
async def relaying(
    journal: Journal, *, pace: Pace = QUICK, clock: Callable[[], float] = time.time
) -> AsyncIterator[Relay]:
    async with sinks.wired() as line, Relay(line, journal, pace=pace, clock=clock).running() as relay:
        yield relay


async def accept(relay: Relay, journal: Journal, number: int, endpoints: Sequence[Endpoint]) -> None:
    journal.letters[str(number)] = (HEADERS, letter(number).body)
    await relay.accept(str(number), letter(number), endpoints, received=time.time())


async def test_every_endpoint_gets_every_delivery_once() -> None:
    """In order of arrival, over few connections, and nothing is owed at the end."""
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(sinks.listening()) for _ in range(5)]
        journal = Journal()
        relay = await stack.enter_async_context(relaying(journal))
        for number in range(50):
            await accept(relay, journal, number, [sink.endpoint() for sink in receivers])
        await journal.until(debts=0)
    assert [sorted(numbers(sink)) for sink in receivers] == [list(range(50))] * 5
    assert all(sink.connections <= 8 for sink in receivers)
    assert journal.dead == {}


async def test_first_attempts_are_in_order_and_at_most_eight_are_in_flight() -> None:
    """An endpoint that takes its time is not pressed."""
    async with sinks.listening(*[OK] * 20, "hang") as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            for number in range(20):
                await accept(relay, journal, number, [sink.endpoint()])
            await journal.until(debts=0)
            for number in range(20, 50):
                await accept(relay, journal, number, [sink.endpoint()])
            await sink.got(28)
            [status] = relay.statuses()
            assert (status.in_flight, status.waiting) == (8, 22)
    assert sorted(numbers(sink)) == list(range(28))
    assert sink.most == 8


async def test_the_first_request_to_an_endpoint_goes_alone() -> None:
    """Until it is answered; then there are more and more at once."""
    async with sinks.listening("hang") as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            for number in range(10):
                await accept(relay, journal, number, [sink.endpoint()])
            await sink.got(1)
            [status] = relay.statuses()
            assert (status.in_flight, status.waiting) == (1, 9)
    assert numbers(sink) == [0]


async def test_a_full_queue_of_argo_cd_is_tried_again() -> None:
    """Until it has room; the journal is told of each attempt."""
    async with sinks.listening(BUSY, BUSY, BUSY, OK) as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            await accept(relay, journal, 1, [sink.endpoint()])
            await journal.until(debts=0)
    assert numbers(sink) == [1, 1, 1, 1]
    assert journal.dead == {}


async def test_a_retry_does_not_hold_newer_ones_back() -> None:
    """They pass it while it waits."""
    async with sinks.listening(BUSY, OK) as sink:
        journal = Journal()
        async with relaying(journal, pace=Pace(first=0.5, longest=0.5)) as relay:
            await accept(relay, journal, 1, [sink.endpoint()])
            await sink.got(1)
            for number in (2, 3):
                await accept(relay, journal, number, [sink.endpoint()])
            await journal.until(debts=0)
    assert sorted(numbers(sink)) == [1, 1, 2, 3]
    assert numbers(sink)[-1] == 1


async def test_a_refusal_is_a_dead_letter_at_once_and_can_be_replayed() -> None:
    """It says what to do; after that was done, it is sent again."""
    async with sinks.listening(BAD, OK) as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            await accept(relay, journal, 1, [sink.endpoint()])
            await journal.until(dead=1)
            [dead] = journal.dead.values()
            assert "webhook secret" in dead.reason
            assert await relay.replay("1") == 1
            await journal.until(debts=0, dead=0)
    assert numbers(sink) == [1, 1]


async def test_a_redirect_is_a_dead_letter() -> None:
    """It is not followed."""
    moved = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with sinks.listening(moved) as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            await accept(relay, journal, 1, [sink.endpoint()])
            await journal.until(dead=1)
    assert len(sink.requests) == 1


async def test_an_open_breaker_holds_all_and_probes_with_one() -> None:
    """Five failures open it; all that waited follows the first probe that succeeds."""
    async with sinks.listening(*[BUSY] * 8, OK) as sink:
        journal = Journal()
        async with relaying(journal, pace=Pace(first=0.01, longest=0.01, probe=0.3, longest_probe=0.3)) as relay:
            await accept(relay, journal, 0, [sink.endpoint()])
            await journal.until(attempts=5)
            for number in range(1, 20):
                await accept(relay, journal, number, [sink.endpoint()])
            [status] = relay.statuses()
            assert (status.breaker, status.waiting) == (State.OPEN, 20)
            assert len(sink.requests) == 5
            sink.most = 0
            await sink.got(8)
            assert sink.most == 1
            await journal.until(debts=0)
            [status] = relay.statuses()
            assert status.breaker is State.CLOSED
    assert set(numbers(sink)) == set(range(20))


async def test_after_a_day_a_delivery_is_given_up() -> None:
    """With the number of attempts and the last reason."""
    now = [1_000.0]
    async with sinks.listening(BUSY) as sink:
        journal = Journal()
        async with relaying(journal, clock=lambda: now[0]) as relay:
            parcel = relay.send("1", letter(), [sink.endpoint()], received=now[0] - 24 * 3600 + 1)
            await journal.owe("1", [sink.endpoint()], received=parcel.received)
            now[0] += 2
            relay.stored(parcel)
            await journal.until(dead=1)
    [dead] = journal.dead.values()
    assert "1 attempts" in dead.reason
    assert "503" in dead.reason


async def test_a_queue_that_is_too_long_loses_its_oldest_to_the_dead_letters() -> None:
    """The endpoint hangs; what came last has the best chance to matter."""
    async with sinks.listening("hang") as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            for number in range(1004):
                relay.stored(relay.send(str(number), letter(number), [sink.endpoint()], received=time.time()))
                if number == 0:
                    await sink.got(1)
            await journal.until(dead=3)
            dropped = [delivery for delivery, _ in journal.dead]
    assert dropped == ["1", "2", "3"]


async def test_what_is_held_for_one_endpoint_is_the_operators_choice() -> None:
    """How many requests are in flight, and how many deliveries wait."""
    async with sinks.listening(OK, OK, OK, OK, "hang") as sink:
        journal = Journal()
        async with relaying(journal, pace=Pace(grace=0.1, in_flight=2, waiting=3)) as relay:
            for number in range(4):
                await accept(relay, journal, number, [sink.endpoint()])
                await sink.got(number + 1)
            await journal.until(debts=0)
            for number in (4, 5):
                await accept(relay, journal, number, [sink.endpoint()])
            await sink.got(6)
            for number in range(6, 10):
                await accept(relay, journal, number, [sink.endpoint()])
            await journal.until(dead=1)
            [status] = relay.statuses()
            assert (status.in_flight, status.waiting) == (2, 3)
            assert [delivery for delivery, _ in journal.dead] == ["6"]


async def test_what_the_journal_owes_is_sent_after_a_restart() -> None:
    """Bodies are read again, each once; retries are made when they are due."""
    async with sinks.listening(OK) as sink, sinks.listening(BUSY) as busy:
        journal = Journal()
        async with relaying(journal, pace=Pace(first=0.001, longest=0.001, probe=60)) as relay:
            for number in range(10):
                await accept(relay, journal, number, [sink.endpoint(), busy.endpoint()])
            await journal.until(debts=10)
        busy.answers = [OK]
        busy.requests.clear()
        async with relaying(journal):
            await journal.until(debts=0)
    assert sorted(numbers(sink)) == list(range(10))
    assert sorted(numbers(busy)) == list(range(10))
    assert set(busy.bodies) == {letter(number).body for number in range(10)}


async def test_a_delivery_that_the_journal_lost_is_a_dead_letter() -> None:
    """It cannot be sent, and is not forgotten."""
    async with sinks.listening() as sink:
        journal = Journal()
        await journal.owe("1", [sink.endpoint()], received=time.time())
        async with relaying(journal):
            await journal.until(dead=1)
    assert sink.requests == []


async def test_results_wait_for_a_journal_that_cannot_write() -> None:
    """And for one that has not been told of the debt yet."""
    async with sinks.listening() as sink:
        journal = Journal()
        async with relaying(journal) as relay:
            parcel = relay.send("1", letter(1), [sink.endpoint()], received=time.time())
            await sink.got(1)
            assert journal.writes == 0
            await journal.owe("1", [sink.endpoint()], received=parcel.received)
            journal.fails = 2
            relay.stored(parcel)
            await journal.until(debts=0)
    assert journal.writes == 4


async def test_no_bad_endpoint_delays_a_good_one() -> None:
    """Of forty, one hangs, one resets, one is full and one sends a byte a second: the others never notice."""
    async with AsyncExitStack() as stack:
        good = [await stack.enter_async_context(sinks.listening()) for _ in range(36)]
        bad = [await stack.enter_async_context(sinks.listening(mode)) for mode in ("hang", "reset", BUSY, "drip")]
        journal = Journal()
        relay = await stack.enter_async_context(relaying(journal, pace=Pace(grace=0.1)))
        endpoints = [sink.endpoint() for sink in bad + good]
        for number in range(50):
            await accept(relay, journal, number, endpoints)
        for sink in good:
            await sink.got(50)
        hanging = next(status for status in relay.statuses() if status.endpoint == endpoints[0])
        assert hanging.failures == 0  # its first time limit has not passed
    assert all(sorted(numbers(sink)) == list(range(50)) for sink in good)
