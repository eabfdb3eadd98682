"""How items are brought to their end: with a real storage, real small handlers, and statuses over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from telefonistka.core.events import Event, PullRequest
from telefonistka.errors import Rejected, TryAgain
from telefonistka.handlers import Context, Done, Handler
from telefonistka.inbox import BACKOFF_LONGEST, PATIENCE, Inbox
from telefonistka.ledger import Ledger
from telefonistka.storage import Acceptance, State, Storage, Unavailable
from telefonistka.storage.sqlite import SQLite
from telefonistka.worker import CRASHES, TRIES, TRIES_BROKEN, Contexts, Worker
from tests.daemon.values import DEADLINE, Clock, StatusBoard, delivery, pull_request, until

Run = Callable[[PullRequest, Context], Awaitable[Done]]
PENDING = ("pending", "Working on it")


@pytest.fixture
async def contexts(board: StatusBoard, storage: Storage) -> AsyncIterator[Contexts]:
    async with board.contexts(storage) as made:
        yield made


def ends(*endings: str | Exception) -> Run:
    """A handler that ends so, each time in the next way; the last one stays."""
    left = list(endings)

    async def run(event: PullRequest, given: Context) -> Done:
        ending = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(ending, Exception):
            raise ending
        return Done(ending)

    return run


def routes(**handlers: Run) -> Callable[[Event], tuple[Handler, ...]]:
    """Merged pull requests go to these."""

    def route(event: Event) -> tuple[Handler, ...]:
        if not isinstance(event, PullRequest) or not event.merged:
            return ()
        return tuple(Handler(name, run) for name, run in handlers.items())

    return route


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield
            worker.stop()


async def rest(inbox: Inbox) -> None:
    """Returns once nothing runs and nothing could."""

    async def resting() -> bool:
        backlog = await inbox.backlog()
        return backlog.oldest is None and not backlog.items[State.RUNNING]

    await until(resting)


async def states(inbox: Inbox) -> dict[State, int]:
    return {state: count for state, count in (await inbox.backlog()).items.items() if count}


async def test_a_clean_run_sets_two_statuses(inbox: Inbox, contexts: Contexts, board: StatusBoard) -> None:
    """Pending first, then what happened."""
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=ends("opened [#8](https://x), **#9**")))):
        await rest(inbox)
    assert board.statuses == [PENDING, ("success", "opened #8, #9")]
    assert await states(inbox) == {State.DONE: 1}


@pytest.mark.parametrize(
    "payload",
    [pull_request(action="labeled", merged=False), pull_request(action="closed", merged=False)],
)
async def test_an_event_without_handlers_costs_no_call(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, payload: dict[str, object]
) -> None:
    """Not even a status."""
    board.failures = [500] * 9
    await inbox.accept(delivery("1", payload))
    async with working(Worker(inbox, contexts, route=routes(promote=ends("done")))):
        await rest(inbox)
    assert len(board.failures) == 9
    assert await states(inbox) == {State.DONE: 1}


async def test_what_is_rejected_is_said_and_not_tried_again(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """The person reads the first line; sending the delivery again tries again."""
    await inbox.accept(delivery("1"))
    reason = "`telefonistka.yaml:3`: no such key\n\nMore in the comment."
    async with working(Worker(inbox, contexts, route=routes(promote=ends(Rejected(reason), "opened #8")))):
        await rest(inbox)
        assert board.statuses == [PENDING, ("error", "telefonistka.yaml:3: no such key")]
        assert await states(inbox) == {State.REJECTED: 1}
        assert await inbox.accept(delivery("1")) is Acceptance.REARMED
        await rest(inbox)
    assert board.statuses[2:] == [PENDING, ("success", "opened #8")]


async def test_a_long_text_is_cut_for_the_status(inbox: Inbox, contexts: Contexts, board: StatusBoard) -> None:
    """GitHub takes 140 characters: https://docs.github.com/en/rest/commits/statuses#create-a-commit-status"""
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=ends("é" * 500)))):
        await rest(inbox)
    assert board.statuses[-1] == ("success", "é" * 139 + "…")


async def test_what_may_succeed_later_is_tried_again_and_stays_pending(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock
) -> None:
    """One pending, one success, however many tries lie between."""
    await inbox.accept(delivery("1"))
    handler = ends(TryAgain("GitHub is down"), TryAgain("GitHub is down"), "opened #8")
    async with working(Worker(inbox, contexts, route=routes(promote=handler))):
        for wait in (2, 4):
            await rest(inbox)
            assert board.statuses == [PENDING]
            assert await states(inbox) == {State.WAITING: 1}
            clock.passes(wait)
            inbox.nudge()
        await rest(inbox)
    assert board.statuses == [PENDING, ("success", "opened #8")]


async def test_the_wait_that_github_asks_for_is_kept(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock
) -> None:
    """To the second, and a little jitter more."""
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=ends(TryAgain("limit", after=90), "opened")))):
        await rest(inbox)
        clock.passes(89)
        inbox.nudge()
        await rest(inbox)
        assert board.statuses == [PENDING]
        clock.passes(3)
        inbox.nudge()
        await rest(inbox)
    assert board.statuses[-1] == ("success", "opened")


async def test_after_the_last_try_it_is_a_dead_letter_and_an_error(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock, storage: Storage
) -> None:
    """With the reason in both places."""
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=ends(TryAgain("GitHub is down"))))):
        for _ in range(TRIES):
            await rest(inbox)
            clock.passes(BACKOFF_LONGEST)
            inbox.nudge()
        await rest(inbox)
    assert board.statuses == [PENDING, ("error", "GitHub is down")]
    assert await states(inbox) == {State.DEAD: 1}
    assert isinstance(storage, SQLite)
    reason = await storage._read(lambda c: c.execute("SELECT reason FROM inbox").fetchone()[0])
    assert reason == "promote: GitHub is down"


async def test_a_bug_is_logged_tried_a_few_times_and_buried(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the other lanes go on."""
    await inbox.accept(delivery("poison", lane="1/1"))
    await inbox.accept(delivery("good", pull_request(8), lane="1/8"))

    async def promote(event: PullRequest, given: Context) -> Done:
        if event.number == 7:
            raise ZeroDivisionError("a bug")
        return Done("opened #9")

    async with working(Worker(inbox, contexts, route=routes(promote=promote))):
        for _ in range(TRIES_BROKEN):
            await rest(inbox)
            clock.passes(BACKOFF_LONGEST)
            inbox.nudge()
        await rest(inbox)
    assert await states(inbox) == {State.DONE: 1, State.DEAD: 1}
    text = "Telefonistka has a bug (ZeroDivisionError); its operator's log has the details"
    assert board.statuses[-1] == ("error", text)
    assert ("success", "opened #9") in board.statuses
    assert capsys.readouterr().out.count("Traceback") == TRIES_BROKEN


async def test_siblings_run_on_and_only_the_unfinished_is_tried_again(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock
) -> None:
    """Success needs every one of them."""
    runs: list[str] = []

    def counted(name: str, run: Run) -> Run:
        async def counting(event: PullRequest, given: Context) -> Done:
            runs.append(name)
            return await run(event, given)

        return counting

    await inbox.accept(delivery("1"))
    route = routes(
        first=counted("first", ends(Rejected("no"))),
        second=counted("second", ends(TryAgain("later"), "went well")),
        third=counted("third", ends("went well, too")),
    )
    async with working(Worker(inbox, contexts, route=route)):
        await rest(inbox)
        assert runs == ["first", "second", "third"]
        clock.passes(2)
        inbox.nudge()
        await rest(inbox)
    assert runs == ["first", "second", "third", "second"]
    assert board.statuses == [PENDING, ("error", "no")]


@pytest.mark.parametrize(
    ("group", "state"),
    [
        (ExceptionGroup("", [TryAgain("later"), Rejected("no")]), State.WAITING),
        (ExceptionGroup("", [ExceptionGroup("", [Rejected("no")])]), State.REJECTED),
        (ExceptionGroup("", [ValueError("a bug"), Rejected("no")]), State.WAITING),
    ],
)
async def test_endings_of_a_task_group_count_as_the_heaviest(
    inbox: Inbox, contexts: Contexts, group: ExceptionGroup, state: State
) -> None:
    """A handler may do things side by side."""
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=ends(group)))):
        await rest(inbox)
    assert await states(inbox) == {state: 1}


async def test_a_status_that_fails_does_not_repeat_the_handlers(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock, storage: Storage
) -> None:
    """It is a step of its own, tried again as others are."""
    runs: list[int] = []

    async def promote(event: PullRequest, given: Context) -> Done:
        runs.append(event.number)
        board.failures = [429]  # for the next status
        return Done("opened #8")

    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=promote))):
        await rest(inbox)
        assert (board.statuses, await states(inbox)) == ([PENDING], {State.WAITING: 1})
    # This client keeps GitHub's wait by a clock that we do not move; the next process has a new one.
    async with board.contexts(storage) as fresh, working(Worker(inbox, fresh, route=routes(promote=promote))):
        clock.passes(700)
        inbox.nudge()
        await rest(inbox)
    assert board.statuses == [PENDING, ("success", "opened #8")]
    assert runs == [7]


async def test_a_status_that_github_refuses_does_not_stop_the_work(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """The head may be gone; what was promoted stands."""
    board.failures = [422, 422]
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=routes(promote=ends("opened #8")))):
        await rest(inbox)
    assert (board.failures, board.statuses, await states(inbox)) == ([], [], {State.DONE: 1})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"repository": {"id": 1}}', "not understood: a pull_request payload without 'pull_request'"),
        (b"not JSON", "not understood: the body is not JSON"),
    ],
)
async def test_what_is_not_understood_is_a_dead_letter(
    inbox: Inbox, contexts: Contexts, storage: Storage, body: bytes, reason: str
) -> None:
    """At once: reading it again does not make it clearer."""
    await inbox.accept(delivery("1", body=body))
    async with working(Worker(inbox, contexts)):
        await rest(inbox)
    assert isinstance(storage, SQLite)
    kept = await storage._read(lambda c: c.execute("SELECT state, reason, body FROM inbox").fetchone())
    assert (kept[0], kept[1].startswith(reason), kept[2]) == (State.DEAD, True, body)


async def test_a_lane_is_worked_on_in_order_and_others_beside_it(inbox: Inbox, contexts: Contexts) -> None:
    """Two pull requests at once, each delivery of one after the other."""
    order: list[str] = []
    both = anyio.Event()
    running: set[int] = set()

    async def promote(event: PullRequest, given: Context) -> Done:
        assert event.number not in running
        running.add(event.number)
        if len(running) == 2:
            both.set()
        await both.wait()
        order.append(event.title)
        running.discard(event.number)
        return Done("")

    for number in (1, 2):
        for nth in "abc":
            payload = pull_request(number, title=f"{number}{nth}")
            await inbox.accept(delivery(f"{number}{nth}", payload, lane=f"1/{number}"))
    async with working(Worker(inbox, contexts, route=routes(promote=promote))):
        await rest(inbox)
    for lane in "12":
        assert [title for title in order if title[0] == lane] == [f"{lane}{nth}" for nth in "abc"]


async def test_an_item_that_waits_lets_the_later_ones_pass_after_a_while(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock
) -> None:
    """One event that GitHub keeps refusing does not stop its pull request for hours."""
    await inbox.accept(delivery("first", pull_request(7, title="first")))
    await inbox.accept(delivery("second", pull_request(7, title="second")))

    async def promote(event: PullRequest, given: Context) -> Done:
        if event.title == "first":
            raise TryAgain("limit", after=7000)
        return Done("second")

    async with working(Worker(inbox, contexts, route=routes(promote=promote))):
        await rest(inbox)
        assert board.statuses == [PENDING]
        clock.passes(PATIENCE + 1)
        inbox.nudge()
        await rest(inbox)
    assert board.statuses == [PENDING, ("success", "second")]
    assert await states(inbox) == {State.WAITING: 1, State.DONE: 1}


async def test_what_kills_the_process_again_and_again_is_given_up(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, clock: Clock
) -> None:
    """Without running it once more."""
    await inbox.accept(delivery("1"))
    for _ in range(CRASHES):
        assert await inbox.claim("dead", limit=1)
        clock.passes(61)
    async with working(Worker(inbox, contexts, route=routes(promote=ends("never reached")))):
        await rest(inbox)
    assert board.statuses == [("error", "the process died with it")]
    assert await states(inbox) == {State.DEAD: 1}


async def test_a_stop_lets_what_runs_end_and_claims_nothing_more(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """The rest is there for the next process."""
    started, go_on = anyio.Event(), anyio.Event()

    async def promote(event: PullRequest, given: Context) -> Done:
        started.set()
        await go_on.wait()
        return Done("opened #8")

    await inbox.accept(delivery("1"))
    worker = Worker(inbox, contexts, route=routes(promote=promote))
    async with working(worker):
        await started.wait()
        worker.stop()
        await inbox.accept(delivery("2", lane="other"))
        go_on.set()
        await worker.idle()
    assert board.statuses == [PENDING, ("success", "opened #8")]
    assert await states(inbox) == {State.WAITING: 1, State.DONE: 1}


async def test_a_cancelled_item_is_whole_for_the_next_worker(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """At once, without waiting for a lease; what was stored stays."""
    started = anyio.Event()

    async def hangs(event: PullRequest, given: Context) -> Done:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError

    await inbox.accept(delivery("1"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Worker(inbox, contexts, route=routes(a=ends("a went well"), b=hangs)).run)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert await states(inbox) == {State.WAITING: 1}
    async with working(Worker(inbox, contexts, route=routes(a=ends(Rejected("a ran twice")), b=ends("b, too")))):
        await rest(inbox)
    assert board.statuses == [PENDING, ("success", "a went well; b, too")]


async def test_a_storage_that_fails_for_a_while_does_not_end_the_worker(
    inbox: Inbox, contexts: Contexts, board: StatusBoard, storage: Storage
) -> None:
    """It claims again when the disk is back."""
    assert isinstance(storage, SQLite)
    await inbox.accept(delivery("1"))
    connection = storage._writer._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = 1")
    async with working(Worker(inbox, contexts, route=routes(promote=ends("opened #8")))):
        with pytest.raises(Unavailable):
            await inbox.accept(delivery("2"))
        connection.execute("PRAGMA query_only = 0")
        await rest(inbox)
    assert board.statuses[-1] == ("success", "opened #8")


async def test_a_handler_that_does_not_report_sets_no_status(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """What concerns a pull request of our own is said where it came from."""
    ran = anyio.Event()

    async def run(event: PullRequest, given: Context) -> Done:
        ran.set()
        return Done("nothing to do")

    def route(event: Event) -> tuple[Handler, ...]:
        return (Handler("auto-merge", run, reports=False),)

    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=route)):
        await rest(inbox)
    assert ran.is_set()
    assert board.statuses == []
    assert await states(inbox) == {State.DONE: 1}


async def test_a_check_has_no_pull_request_and_no_status(inbox: Inbox, contexts: Contexts, board: StatusBoard) -> None:
    """Its handler runs all the same, and costs no call where the commit is not ours."""
    payload = {
        "sha": "e" * 40,
        "context": "ci",
        "state": "success",
        "repository": {"id": 1, "name": "infra", "owner": {"login": "acme"}, "default_branch": "main"},
    }
    board.calls.clear()
    await inbox.accept(delivery("1", payload, event="status", lane="1/" + "e" * 40))
    async with working(Worker(inbox, contexts)):
        await rest(inbox)
    assert board.calls == []
    assert await states(inbox) == {State.DONE: 1}


def heads(*handlers: tuple[str, Run]) -> Callable[[Event], tuple[Handler, ...]]:
    """Pull requests go to these, whatever happened to them."""

    def route(event: Event) -> tuple[Handler, ...]:
        return tuple(Handler(name, run) for name, run in handlers) if isinstance(event, PullRequest) else ()

    return route


def pushed(number: int, head: str) -> dict[str, Any]:
    """A push to a pull request's head."""
    payload = pull_request(number, action="synchronize", merged=False, title=head)
    payload["pull_request"]["head"]["sha"] = head * 40
    return payload


async def test_a_newer_head_supersedes_the_work_on_an_older_one(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """Of three pushes that wait, only the last is looked at, and only it has a status; other work is done for each."""
    seen: list[str] = []

    async def drift(event: PullRequest, given: Context) -> Done:
        seen.append(f"drift {event.title}")
        return Done("")

    async def merge(event: PullRequest, given: Context) -> Done:
        seen.append(f"merge {event.title}")
        return Done("")

    for head in "abc":
        await inbox.accept(delivery(head, pushed(7, head)))
    async with working(Worker(inbox, contexts, route=heads(("drift", drift)))):
        await rest(inbox)
    assert seen == ["drift c"]
    assert {path.rpartition("/")[2] for path in board.calls} == {"c" * 40}
    seen.clear()
    for head in "def":
        await inbox.accept(delivery(head, pushed(7, head)))
    async with working(Worker(inbox, contexts, route=heads(("auto-merge", merge), ("drift", drift)))):
        await rest(inbox)
    assert seen == ["merge d", "merge e", "merge f", "drift f"]


async def test_what_was_overtaken_while_it_waited_is_not_done_any_more(
    inbox: Inbox, contexts: Contexts, storage: Storage, clock: Clock
) -> None:
    """The later push went past at once; the earlier one is not looked at again when its time has come."""
    seen: list[str] = []

    async def drift(event: PullRequest, given: Context) -> Done:
        seen.append(event.title)
        if event.title == "a":
            raise TryAgain("limit", after=7000)
        return Done("")

    await inbox.accept(delivery("a", pushed(7, "a")))
    async with working(Worker(inbox, contexts, route=heads(("drift", drift)), ledger=Ledger(storage))):
        await rest(inbox)
        await inbox.accept(delivery("b", pushed(7, "b")))
        await rest(inbox)
        assert seen == ["a", "b"]
        clock.passes(7010)
        inbox.nudge()
        await rest(inbox)
    assert seen == ["a", "b"]
    assert await states(inbox) == {State.DONE: 2}


async def test_what_was_overtaken_does_not_unsay_the_merge(
    inbox: Inbox, contexts: Contexts, storage: Storage, board: StatusBoard, clock: Clock
) -> None:
    """A look at the head that had to wait ends after the merge of that head, whose status stands."""
    handlers = {
        "synchronize": (Handler("drift", ends(TryAgain("limit", after=7000), "no drift"), beside=True),),
        "closed": (Handler("promote", ends("opened #9")),),
    }

    def route(event: Event) -> tuple[Handler, ...]:
        return handlers[event.action] if isinstance(event, PullRequest) else ()

    merged = pushed(7, "a")
    merged["action"] = "closed"
    merged["pull_request"] |= {"merged": True, "merge_commit_sha": "c" * 40}
    await inbox.accept(delivery("a", pushed(7, "a")))
    async with working(Worker(inbox, contexts, route=route, ledger=Ledger(storage))):
        await rest(inbox)
        await inbox.accept(delivery("b", merged))
        await rest(inbox)
        assert board.statuses[-1] == ("success", "opened #9")
        said = len(board.statuses)
        clock.passes(7010)
        inbox.nudge()
        await rest(inbox)
    assert len(board.statuses) == said
    assert await states(inbox) == {State.DONE: 2}


async def test_a_slow_part_holds_back_and_repeats_no_other(
    inbox: Inbox, contexts: Contexts, board: StatusBoard
) -> None:
    """What acts goes on in its order beside what is only said; the status waits for all of it."""
    seen: list[str] = []
    others_ended, released = anyio.Event(), anyio.Event()

    async def slow(event: PullRequest, given: Context) -> Done:
        seen.append("slow")
        await released.wait()
        return Done("looked")

    def quick(name: str) -> Run:
        async def run(event: PullRequest, given: Context) -> Done:
            seen.append(name)
            if {"first", "second", "beside"} <= set(seen):
                others_ended.set()
            return Done(name)

        return run

    handlers = (
        Handler("slow", slow, beside=True),
        Handler("first", quick("first")),
        Handler("second", quick("second")),
        Handler("beside", quick("beside"), beside=True),
    )
    await inbox.accept(delivery("1"))
    async with working(Worker(inbox, contexts, route=lambda _: handlers)):
        await others_ended.wait()
        assert board.statuses == [PENDING]
        released.set()
        await rest(inbox)
    assert sorted(seen) == ["beside", "first", "second", "slow"]
    assert seen.index("first") < seen.index("second")
    assert board.statuses == [PENDING, ("success", "looked; first; second; beside")]


async def test_what_runs_gives_way_to_a_newer_head(inbox: Inbox, contexts: Contexts, board: StatusBoard) -> None:
    """The older one's work ends in the middle; what acts is not cut short by it."""
    seen: list[str] = []
    begun, acted = anyio.Event(), anyio.Event()

    async def drift(event: PullRequest, given: Context) -> Done:
        seen.append(f"drift {event.title}")
        if event.title == "a":
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                acted.set()
        return Done("")

    async def merge(event: PullRequest, given: Context) -> Done:
        if event.title == "a":
            await acted.wait()
        seen.append(f"merge {event.title}")
        return Done("")

    route = (Handler("auto-merge", merge), Handler("drift", drift, beside=True))
    await inbox.accept(delivery("a", pushed(7, "a")))
    async with working(Worker(inbox, contexts, route=lambda _: route)):
        await begun.wait()
        await inbox.accept(delivery("b", pushed(7, "b")))
        await rest(inbox)
    assert seen[:2] == ["drift a", "merge a"]
    assert sorted(seen[2:]) == ["drift b", "merge b"]
    assert await states(inbox) == {State.DONE: 2}
