"""From a push at GitHub to its receivers: what is asked of GitHub, which configuration counts, and what survives."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio

from telefonistka.relay import Pace
from telefonistka.sandbox import moves, scenes
from tests.daemon import values
from tests.relay import sinks
from tests.relay.sinks import OK
from tests.relay.street import DEADLINE, NOWHERE, QUICK, SECRET, heads, is_signed, paid, rules, street

FILE = "telefonistka.yaml"


async def test_a_push_reaches_the_receivers_of_its_files(tmp_path: Path) -> None:
    """GitHub's bytes, signature and headers; others hear nothing."""
    async with sinks.listening() as one, sinks.listening() as other:
        config = rules(("^clusters/one/.*", one), ("^clusters/other/.*", other))
        async with street(tmp_path, {FILE: config}) as place, place.office() as office:
            await place.hears(office)
            head = await place.push({"clusters/one/a.yaml": "x"})
            await one.got(1)
            await paid(office)
            assert await place.answered(1) == [202]
        assert heads(one) == [head]
        assert other.requests == []
        assert is_signed(one.requests[0])
        assert one.requests[0].header("X-GitHub-Event") == ["push"]


async def test_in_steady_state_a_push_costs_no_call(tmp_path: Path) -> None:
    """Not even after a restart, and with GitHub down."""
    async with sinks.listening() as sink, street(tmp_path, {FILE: rules(("^clusters/.*", sink))}) as place:
        async with place.office() as office:
            await place.hears(office)
            await place.push({"clusters/a": "1"})
            await sink.got(1)
            await paid(office)
            before = len(place.calls())
            await place.push({"clusters/a": "2"})
            await place.push({"elsewhere": "2"}, branch="other")
            await sink.got(2)
            assert await place.answered(3) == [202, 202, 200]
            assert len(place.calls()) == before
        async with place.office(github=NOWHERE) as office:
            await place.hears(office)
            await place.push({"clusters/a": "3"})
            await sink.got(3)
            await paid(office)
        assert len(set(heads(sink))) == 3


async def test_a_push_that_changes_the_rules_is_sent_by_the_new_ones(tmp_path: Path) -> None:
    """It and all after it."""
    async with sinks.listening() as old, sinks.listening() as new:
        async with (
            street(tmp_path, {FILE: rules(("^clusters/.*", old))}) as place,
            place.office() as office,
        ):
            await place.hears(office)
            await place.push({"clusters/a": "1"})
            await old.got(1)
            change = await place.push({FILE: rules(("^clusters/.*", new)), "clusters/a": "2"})
            later = await place.push({"clusters/a": "3"})
            await new.got(2)
            await paid(office)
        assert sorted(heads(new)) == sorted([change, later])
        assert len(old.requests) == 1


async def test_a_broken_configuration_leaves_the_last_good_one(tmp_path: Path) -> None:
    """Also after a restart; the repair counts at once."""
    async with sinks.listening() as sink, sinks.listening() as repaired:
        async with street(tmp_path, {FILE: rules(("^clusters/.*", sink))}) as place:
            async with place.office() as office:
                await place.hears(office)
                await place.push({"clusters/a": "1"})
                await sink.got(1)
                await place.push({FILE: "webhookEndpointRegexs: [", "clusters/a": "2"})
                await sink.got(2)
                await paid(office)
            async with place.office() as office:
                await place.hears(office)
                await place.push({"clusters/a": "3"})
                await sink.got(3)
                await place.push({FILE: rules(("^clusters/.*", repaired)), "clusters/a": "4"})
                await repaired.got(1)
                await paid(office)
        assert len(sink.requests) == 3


async def test_without_any_good_configuration_a_delivery_is_a_dead_letter(tmp_path: Path) -> None:
    """With the finding as its reason; once the file is repaired it can be sent."""
    async with sinks.listening() as sink, street(tmp_path, {FILE: "nonsense: ["}) as place, place.office() as office:
        await place.hears(office)
        await place.push({"clusters/a": "1"})
        await place.answered(1)
        await paid(office)
        (dead,) = await office.storage.deliveries(limit=9, dead=True)
        story = await office.storage.story(dead.delivery)
        assert story is not None
        assert "telefonistka.yaml:1" in story.dead[0].reason
        place.hook = None
        place.repo.hooks.clear()
        await place.push({FILE: rules(("^clusters/.*", sink))})
        replay = await office.exchange.replay(dead.delivery)
        assert replay is not None
        assert replay.rerouted
        await sink.got(1)
        await paid(office)


async def test_a_delivery_that_github_says_no_route_of_is_given_up(tmp_path: Path) -> None:
    """Once it is as old as the relay's setting allows, and not before; the dead letter says why, and can be sent."""
    pace = replace(QUICK, give_up=3600.0)
    late = 0.0
    async with sinks.listening() as sink, street(tmp_path, {FILE: rules(("^clusters/.*", sink))}) as place:
        async with place.office(github=NOWHERE, asking=0.1, pace=pace, clock=lambda: time.time() + late) as office:
            await place.hears(office)
            await place.push({"clusters/a": "1"})
            await place.answered(1)
            late = 3000.0
            await place.push({"clusters/a": "2"})
            await place.answered(2)
            late = 3700.0
            with anyio.fail_after(DEADLINE):
                while not (dead := await office.storage.deliveries(limit=9, dead=True)):  # noqa: ASYNC110 - a thread
                    await anyio.sleep(0.01)
            (waits,) = await office.storage.unrouted()
            assert waits.delivery != dead[0].delivery
            story = await office.storage.story(dead[0].delivery)
            assert story is not None
            assert story.dead[0].reason.startswith("GitHub could not be asked for 3,600 s: ")
        async with place.office() as office:
            await sink.got(1)
            await office.exchange.replay(dead[0].delivery)
            await sink.got(2)
            await paid(office)


async def test_a_change_that_no_webhook_told_of_is_found(tmp_path: Path) -> None:
    """Looking costs nothing of the limits while nothing has changed: GitHub answers 304."""
    async with sinks.listening() as old, sinks.listening() as new:
        async with (
            street(tmp_path, {FILE: rules(("^clusters/.*", old))}) as place,
            place.office() as office,
        ):
            await place.hears(office)
            await place.push({"clusters/a": "1"})
            await old.got(1)
            await paid(office)
            (kept,) = office.configs._kept.values()
            for _ in range(3):
                await office.configs.look(kept.repository)
            looks = [call.status for call in place.box.calls if "/contents/" in call.path]
            assert looks == [200, 304, 304, 304]
            assert place.hook is not None
            hook, place.repo.hooks = place.repo.hooks, {}
            await place.push({FILE: rules(("^clusters/.*", new))})
            place.repo.hooks = hook
            await office.configs.look(kept.repository)
            await place.push({"clusters/a": "2"})
            await new.got(1)
            await paid(office)
        assert len(old.requests) == 1


async def test_a_file_that_went_away_is_proven_to_be_gone(tmp_path: Path) -> None:
    """A 404 alone proves nothing; then nothing is relayed any more."""
    async with sinks.listening() as sink:
        async with (
            street(tmp_path, {FILE: rules(("^clusters/.*", sink)), "a": ""}) as place,
            place.office() as office,
        ):
            await place.hears(office)
            await place.push({"clusters/a": "1"})
            await sink.got(1)
            await place.push({FILE: None})
            await place.push({"clusters/a": "2"})
            assert len(await place.answered(3)) == 3
            await paid(office)
            (kept,) = office.configs._kept.values()
            await office.configs.look(kept.repository)
            assert office.configs.last(kept.repository).text is None  # type: ignore[union-attr]
        assert len(sink.requests) == 1


async def test_while_github_is_down_the_last_good_rules_count(tmp_path: Path) -> None:
    """And what the new ones add is sent once GitHub is back."""
    async with sinks.listening() as old, sinks.listening() as new:
        async with street(tmp_path, {FILE: rules(("^clusters/.*", old))}) as place:
            async with place.office() as office:
                await place.hears(office)
                await place.push({"clusters/a": "1"})
                await old.got(1)
                await paid(office)
            async with place.office(github=NOWHERE, asking=0.1) as office:
                await place.hears(office)
                change = await place.push({FILE: rules(("^clusters/.*", new)), "clusters/a": "2"})
                await old.got(2)
                assert [one.event for one in await office.storage.unrouted()] == ["push"]
            async with place.office() as office:
                await new.got(1)
                await paid(office)
        assert heads(new) == [change]


async def test_a_forced_push_is_compared(tmp_path: Path) -> None:
    """What it took away counts, too."""
    async with sinks.listening() as one, sinks.listening() as other, sinks.listening() as third:
        lines = (("^one/.*", one), ("^other/.*", other), ("^third/.*", third))
        async with street(tmp_path, {FILE: rules(*lines)}) as place, place.office() as office:
            await place.hears(office)
            start = place.repo.git.branch("main")
            await place.push({"one/a": "1"})
            await one.got(1)
            git = place.repo.git
            assert start is not None
            made = scenes.committed(place.repo, start, {"other/a": "1"}, "Other", place.alice.user)
            await moves.move(
                place.box, place.repo, "refs/heads/main", made, expected=git.branch("main"), sender=place.alice.user
            )
            await other.got(1)
            await one.got(2)
            await paid(office)
        assert heads(one)[-1] == heads(other)[-1] == made
        assert third.requests == []


async def test_unknown_files_go_to_all_that_are_known(tmp_path: Path) -> None:
    """Where GitHub cannot say what a push changed, `relay.onUnknownFiles` decides."""
    async with sinks.listening() as one, sinks.listening() as other:
        config = rules(("^one/(.*)", one), ("^other/.*", other))
        async with street(tmp_path, {FILE: config}) as place:
            async with place.office() as office:
                await place.hears(office)
                await place.push({"one/a": "1"})
                await one.got(1)
                await paid(office)
            body = list(place.box.deliveries.values())[-1].request_body.replace(b'"forced":false', b'"forced":true')
            headers = values.headers(body, SECRET.encode(), X_GitHub_Event="push")
            async with place.office(github=NOWHERE, asking=0.05) as office:
                async with place.http.post(f"{office.url}/webhook", data=body, headers=headers) as response:
                    assert response.status == 202
                await one.got(2)
                await other.got(1)


async def test_a_pull_request_reaches_who_wants_it(tmp_path: Path) -> None:
    """ApplicationSet controllers, by the pull request's files; pushes do not reach them."""
    async with sinks.listening() as argo, sinks.listening() as sets:
        config = rules(("^apps/.*", argo)) + (
            f"  - expression: ^apps/.*\n    replacements: ['{sets.endpoint().url}']\n    events: [pull_request]\n"
        )
        async with street(tmp_path, {FILE: config}) as place, place.office() as office:
            await place.hears(office, "pull_request", "push")
            await place.push({"apps/a": "1"}, branch="change")
            headers = {"Authorization": f"Bearer {place.alice.value}"}
            fields = {"title": "A change", "head": "change", "base": "main"}
            async with place.http.post(f"{place.box.url}/repos/acme/iac/pulls", json=fields, headers=headers) as answer:
                assert answer.status == 201
            await sets.got(1)
            await paid(office)
        assert sets.requests[0].header("X-GitHub-Event") == ["pull_request"]
        assert argo.requests == []


async def test_a_duplicate_is_not_sent_again_unless_it_failed(tmp_path: Path) -> None:
    """GitHub may send a delivery twice; a person may, after a repair."""
    bad = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    async with sinks.listening(OK) as sink, sinks.listening(bad, OK) as wrong:
        config = rules(("^clusters/.*", sink)).replace("']", f"', '{wrong.endpoint().url}']")
        async with street(tmp_path, {FILE: config}) as place, place.office() as office:
            await place.hears(office)
            await place.push({"clusters/a": "1"})
            await sink.got(1)
            await wrong.got(1)
            await paid(office)
            with anyio.fail_after(DEADLINE):
                while not await office.storage.deliveries(limit=1, dead=True):  # noqa: ASYNC110 - another thread
                    await anyio.sleep(0.01)
            assert await place.replay(office) == 202
            await wrong.got(2)
            await paid(office)
            assert await place.replay(office) == 200
        assert (len(sink.requests), len(wrong.requests)) == (1, 2)


async def test_every_healthy_receiver_has_all_before_the_first_timeout(tmp_path: Path) -> None:
    """Forty of them, of which one hangs, one resets, one is busy and one drips."""
    bad: list[bytes | str] = ["hang", "reset", sinks.BUSY, "drip"]
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(sinks.listening()) for _ in range(36)]
        others = [await stack.enter_async_context(sinks.listening(answer)) for answer in bad]
        urls = ", ".join(f"'{sink.endpoint().url}'" for sink in (*others, *receivers))
        config = f"webhookEndpointRegexs:\n  - expression: ^clusters/.*\n    replacements: [{urls}]\n"
        place = await stack.enter_async_context(street(tmp_path, {FILE: config}))
        office = await stack.enter_async_context(place.office(pace=Pace(grace=0.1)))
        await place.hears(office)
        await place.push({"clusters/a": "0"})
        for sink in receivers:
            await sink.got(1)
        with anyio.fail_after(8):  # an attempt at the hanging one takes 10
            for number in range(1, 20):
                await place.push({"clusters/a": str(number)})
            for sink in receivers:
                await sink.got(20)
        slow = {status.endpoint for status in office.relay.statuses() if status.waiting}
        assert slow == {sink.endpoint() for sink in others}
