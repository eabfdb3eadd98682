"""What never arrived: webhooks that were dropped, and a daemon that was down or killed, with a token and as an App.

The daemon is a process, GitHub the sandbox with its delivery log; the sweep's interval is shortened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telefonistka.sandbox import scenes
from telefonistka.sandbox.state import Access, now
from tests.daemon import otlp
from tests.daemon.test_chain import Place, placed
from tests.daemon.values import until
from tests.faults.place import eventually

INTERVAL = 0.3  # seconds; five minutes in life
CONFIG = """
promotionPaths:
  - sourcePath: lab/
    promotionPrs: [{targetPaths: [staging/]}]
"""
CHANGES = 10  # pull requests that people merge
FILES = {"telefonistka.yaml": CONFIG, **{f"lab/app-{number}/values.yaml": "1" for number in range(CHANGES)}}
SWEPT = {"TELEFONISTKA_RECOVERY_INTERVAL": str(INTERVAL)}


@asynccontextmanager
async def swept(directory: Path, credentials: str, **more: str) -> AsyncIterator[Place]:
    """The daemon with one repository, which it sweeps often."""
    variables = SWEPT | {"TELEFONISTKA_GITHUB_REPOSITORIES": "acme/iac"} | more
    async with placed(directory, credentials, FILES, more=variables) as place:
        if credentials == "token":  # who reads a webhook's log administers the repository
            place.repo.collaborators["tel"] = Access.ADMIN
        yield place


async def opened(place: Place, number: int) -> int:
    """A person's pull request that changes one component."""
    branch = f"change-{number}"
    change = {f"lab/app-{number}/values.yaml": "2"}
    await scenes.commit(place.box, place.repo, change, by=place.alice.user, branch=branch)
    pull = await place.ask("POST", "/pulls", title=f"Change {number}", head=branch, base="main")
    return int(pull["number"])


async def merged(place: Place, number: int) -> None:
    """The same, merged; nobody waits for what follows."""
    await place.ask("PUT", f"/pulls/{await opened(place, number)}/merge")


def promotions(place: Place) -> list[str]:
    """The branches of the open promotion pull requests: there is one for each merge, by its number."""
    return sorted(pull["head"].split("-")[0] for pull in place.state()["pulls"] if pull["author"] == place.bot)


def merges(place: Place) -> list[str]:
    pulls = [pull for pull in place.state()["pulls"] if pull["author"] == "alice" and pull["merged"]]
    return sorted(f"promotions/{pull['number']}" for pull in pulls)


async def settled(place: Place) -> None:
    """Each merge has its promotion, nothing is left to do, and another sweep has found nothing more."""
    await eventually(lambda: merges(place) == promotions(place) and len(merges(place)) > 0)
    await sweep(place)
    await until(place.idle)
    assert merges(place) == promotions(place)


async def sweep(place: Place) -> None:
    """A sweep that began after now has ended."""
    before = await metric(place, "telefonistka_recovery_sweeps", result="complete")

    async def ended() -> bool:
        return await metric(place, "telefonistka_recovery_sweeps", result="complete") >= before + 2

    await until(ended)


async def metric(place: Place, name: str, **labels: str) -> float:
    async with place.http.get(f"{place.daemon.url}/metrics") as answer:
        text = await answer.text()
    family = next((one for one in text_string_to_metric_families(text) if one.name == name), None)
    samples: list[Any] = [] if family is None else family.samples
    wanted = (one.value for one in samples if one.labels == labels and not one.name.endswith("_created"))
    return float(next(wanted, 0.0))


@pytest.mark.parametrize("credentials", ["token", "App"])
async def test_a_fifth_of_the_webhooks_is_lost_and_every_promotion_stands(tmp_path: Path, credentials: str) -> None:
    """GitHub's log tells what never arrived; each merge has one promotion, and none has two."""
    async with swept(tmp_path, credentials) as place:
        place.box.post.change(drop_percent=20, seed=7)
        for number in range(CHANGES):
            await merged(place, number)
        await settled(place)
        lost = {one.guid for one in place.box.deliveries.values() if one.status != "OK" and one.event == "pull_request"}
        assert lost
        assert await metric(place, "telefonistka_recovery_missed_deliveries", event="pull_request") > 0
        assert await metric(place, "telefonistka_recovery_lag_seconds") == 0
        assert len(promotions(place)) == CHANGES


@pytest.mark.parametrize("credentials", ["token", "App"])
async def test_merges_while_the_daemon_was_down_are_promoted_after_its_start(tmp_path: Path, credentials: str) -> None:
    """Nobody sends anything again."""
    async with swept(tmp_path, credentials) as place:
        await merged(place, 0)
        await settled(place)
        await place.daemon.kill()
        for number in range(1, 4):
            await merged(place, number)
        await place.box.post.idle()
        await place.daemon.start()
        await settled(place)
        assert len(promotions(place)) == 4


@pytest.mark.parametrize("credentials", ["token", "App"])
async def test_a_kill_in_the_middle_of_a_sweep_changes_nothing(tmp_path: Path, credentials: str) -> None:
    """Some of what was missed is journalled, the rest is not; the next start goes on."""
    async with swept(tmp_path, credentials) as place:
        await merged(place, 0)
        await settled(place)
        await place.daemon.kill()
        for number in range(1, 4):
            await merged(place, number)
        await place.box.post.idle()
        held = place.box.rules.add("hold", path=r"/deliveries/\d+$", nth=4)
        await place.daemon.start()
        assert len(await place.box.rules.wait_held(1, 20)) == 1
        await place.daemon.kill()
        place.box.rules.remove(held)
        place.box.rules.release(drop=True)
        await place.daemon.start()
        await settled(place)
        assert len(promotions(place)) == 4


async def test_a_token_that_may_not_read_webhooks_finds_the_merges(tmp_path: Path) -> None:
    """One warning, and every promotion stands."""
    async with swept(tmp_path, "token") as place:
        place.repo.collaborators["tel"] = Access.WRITE
        place.box.post.change(drop_percent=100)
        for number in range(2):
            await merged(place, number)
        await settled(place)
        await sweep(place)
        assert len(promotions(place)) == 2
        assert await metric(place, "telefonistka_recovery_missed_merges") == 2
        assert place.daemon.log.read_text().count("We may not read the webhooks of acme/iac") == 1


async def test_while_no_sweep_gets_through_we_are_not_ready(tmp_path: Path) -> None:
    """With the reason, until GitHub answers again."""
    async with swept(tmp_path, "token") as place:

        async def reasons() -> list[str]:
            async with place.http.get(f"{place.daemon.url}/ready") as answer:
                return list((await answer.json()).get("reasons", []))

        await merged(place, 0)
        await settled(place)
        down = place.box.rules.add("answer", path="/hooks$", status=503, body={"message": "down"})
        await until(lambda: holds(reasons, "what has not arrived: GitHub answered 503"))
        place.box.rules.remove(down)
        await until(lambda: equals(reasons, []))


async def holds(found: Callable[[], Awaitable[list[str]]], text: str) -> bool:
    return any(text in one for one in await found())


async def test_what_was_fetched_is_traced_like_all_else(tmp_path: Path) -> None:
    """From the log's entry to what the worker makes of it."""
    async with (
        otlp.receiving(tmp_path / "spans") as receiver,
        swept(tmp_path, "token", **receiver.environment) as place,
    ):
        place.box.post.change(drop_percent=100)
        await merged(place, 0)
        await settled(place)
        spans = await receiver.got(lambda spans: len(spans.named("promote")) == 1)
        (promote,) = spans.named("promote")
        (work,) = [span for span in spans.all if span.id == promote.parent]
        (fetched,) = [span for span in spans.all if span.id == work.parent]
        assert (work.name, fetched.name) == ("work pull_request", "recover")
        assert fetched.has(outcome="accepted", event="pull_request")
        assert {"journal", "GET /repos/{owner}/{repo}/hooks/{number}/deliveries/{number}"} <= {
            span.name for span in spans.below(fetched)
        }


@pytest.mark.parametrize("credentials", ["token", "App"])
async def test_open_pull_requests_are_counted(tmp_path: Path, credentials: str) -> None:
    """All of them, promotions, and those whose status is late; one call for all, and GitHub may fail."""
    async with swept(tmp_path, credentials, TELEFONISTKA_CENSUS_INTERVAL="0.2") as place:

        async def counts() -> list[float]:
            names = ("open_prs", "open_promotion_prs", "open_prs_with_pending_telefonistka_checks")
            return [await metric(place, f"telefonistka_github_{name}", repo_slug="acme/iac") for name in names]

        for number in range(3):
            await opened(place, number)
        await merged(place, 3)
        await settled(place)
        await until(place.idle)
        for number, age in ((1, 21), (2, 19)):
            status = {"state": "pending", "context": "telefonistka", "description": "Working on it"}
            head = place.repo.pulls[number].head_sha
            await place.ask("POST", f"/statuses/{head}", **status)
            place.repo.statuses[head][-1].created_at = now() - timedelta(minutes=age)
        await until(lambda: equals(counts, [4, 1, 1]))
        before = len(censuses(place))
        await until(lambda: more(place, before + 2))
        place.box.rules.add("answer", path="/graphql$", operation="Census", status=500, body={})
        await sweep(place)
        assert await counts() == [4, 1, 1]


async def equals(found: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    return bool(await found() == wanted)


async def more(place: Place, number: int) -> bool:
    """The census was taken so many times, and nothing was asked about single pull requests for it."""
    return len(censuses(place)) >= number


def censuses(place: Place) -> list[Any]:
    return [call for call in place.box.calls if call.operation == "query Census"]
