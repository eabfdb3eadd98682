"""One sweep: what it reads of GitHub, what it journals, and what it leaves alone. Real parts, and a clock of ours."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import orjson
import pytest

from telefonistka import telemetry
from telefonistka.core.events import Repository
from telefonistka.github import auth
from telefonistka.github.auth import Identity
from telefonistka.github.deliveries import Request, signature
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.repo import Repo
from telefonistka.inbox import Inbox
from telefonistka.ledger import Ledger
from telefonistka.recovery import Doors, Recovery
from telefonistka.repositories import Repositories
from telefonistka.sandbox import scenes
from telefonistka.sandbox.state import Access, Delivery, Pull, now
from telefonistka.storage import State, Summary
from tests.daemon.values import pull_request
from tests.github.scripted import UNPACED, Stopwatch
from tests.relay import sinks
from tests.relay.street import NOWHERE, SECRET, Office, Street, heads, is_signed, paid, rules, street

EVENTS = ("pull_request", "issue_comment", "status", "check_suite", "pull_request_review")
KEY = SECRET.encode()


@dataclass
class Clock:
    """Our clock, ahead of GitHub's by what a test says."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Scene:
    """A repository whose webhook leads to nobody, and the recovery that looks after it."""

    street: Street
    office: Office
    recovery: Recovery
    repositories: Repositories
    clock: Clock
    looks: list[str]
    repo: Callable[[], Awaitable[Repo]]

    async def opened(self, name: str = "change") -> int:
        """A person's pull request."""
        box, repo, alice = self.street.box, self.street.repo, self.street.alice
        await scenes.commit(box, repo, {f"lab/{name}": "2"}, by=alice.user, branch=name)
        pull = await self.ask("POST", "/pulls", title=name, head=name, base="main")
        return int(pull["number"])

    async def merged(self, name: str = "change") -> Pull:
        number = await self.opened(name)
        await self.ask("PUT", f"/pulls/{number}/merge")
        return self.street.repo.pulls[number]

    async def ask(self, method: str, path: str, **fields: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.street.alice.value}"}
        url = f"{self.street.box.url}/api/v3/repos/acme/iac{path}"
        async with self.street.http.request(method, url, json=fields or None, headers=headers) as answer:
            assert answer.status < 400, await answer.text()
            return await answer.json()

    async def sweep(self) -> None:
        await self.street.box.post.idle()
        await self.recovery.sweep()

    async def journal(self, event: str = "") -> list[Summary]:
        """What is journalled, the oldest first."""
        found = await self.office.storage.deliveries(limit=500)
        return [one for one in found[::-1] if event in ("", one.event)]

    async def payload(self, one: Summary) -> Any:
        stored = await self.office.storage.fetch(one.delivery)
        assert stored is not None
        return orjson.loads(stored[1])

    def sent(self, event: str) -> list[Delivery]:
        return [one for one in self.street.box.deliveries.values() if one.event == event]

    def fetched(self) -> int:
        """How many deliveries the bot has read whole."""
        return sum("/deliveries/" in call for call in self.street.calls())


@asynccontextmanager
async def scene(
    directory: Path,
    files: Mapping[str, Any] | None = None,
    *,
    events: Sequence[str] = EVENTS,
    admin: bool = True,
    interval: float = 0.0,
    known_for: float = 0.0,
) -> AsyncIterator[Scene]:
    """By token; with `interval` nought a merge counts as missed at once, and waiting for GitHub takes no time."""
    async with street(directory, files or {"lab/a": "1"}) as place, place.office() as office:
        endpoint, clock, looks = Endpoint.of(place.box.url), Clock(), list[str]()
        place.repo.collaborators[place.bot.user.login] = Access.ADMIN if admin else Access.WRITE
        await place.hears(replace(office, url=NOWHERE), *events)
        async with auth.session(endpoint) as session:
            identity = Identity(auth.Token(place.bot.value), endpoint, session, pacing=UNPACED, clock=Stopwatch().clock)

            async def repo(repository: Repository) -> Repo:
                return Repo(await identity.client(repository.owner, repository.name), repository.owner, repository.name)

            async def look() -> None:
                looks.append("looked")

            async def unknown(owner: str, name: str) -> Repository:
                raise AssertionError("nothing is looked up")

            ledger = Ledger(office.storage)
            repositories = Repositories(ledger, unknown, clock=lambda: time.time() - known_for)
            acme = Repository(id=place.repo.id, owner="acme", name="iac", default_branch="main")
            await repositories.see(acme)
            recovery = Recovery(
                Doors(identity=identity, repo=repo),
                Inbox(office.storage),
                office.exchange,
                ledger,
                repositories,
                secrets=[KEY],
                interval=interval,
                look=look,
                clock=clock,
            )
            yield Scene(place, office, recovery, repositories, clock, looks, lambda: repo(acme))


async def test_what_never_arrived_is_journalled_as_it_was_sent(tmp_path: Path) -> None:
    """With GitHub's id, bytes and signature, in the order in which it happened; and never again."""
    async with scene(tmp_path) as place:
        await place.merged()
        await place.sweep()
        sent = place.sent("pull_request")
        assert [one.action for one in sent] == ["opened", "closed"]
        kept = await place.journal("pull_request")
        assert [one.delivery for one in kept] == [one.guid for one in sent]
        stored = await place.office.storage.fetch(sent[1].guid)
        assert stored == (tuple(sent[1].request_headers.items()), sent[1].request_body)
        fetched = place.fetched()
        await place.sweep()
        assert [one.delivery for one in await place.journal("pull_request")] == [one.delivery for one in kept]
        assert place.fetched() == fetched


async def test_what_is_here_already_is_left_alone(tmp_path: Path) -> None:
    """GitHub waited for our answer in vain: the journal has the delivery all the same, and nothing is fetched."""
    async with scene(tmp_path) as place:
        await place.merged()
        await place.street.box.post.idle()
        for one in place.sent("pull_request"):
            await arrives(place, one)
        await place.sweep()
        assert [one.delivery for one in await place.journal()] == [one.guid for one in place.sent("pull_request")]
        assert place.fetched() == 0


async def test_a_redelivery_that_arrived_counts(tmp_path: Path) -> None:
    """Its attempts share an id; what was ignored when it arrived is not asked for again."""
    async with scene(tmp_path) as place:
        number = await place.opened()
        await place.ask("POST", f"/issues/{number}/comments", body="/telefonistka help")
        await place.sweep()
        (comment,) = place.sent("issue_comment")
        assert [one.delivery for one in await place.journal("issue_comment")] == [comment.guid]
        box = place.street.box
        for status, redelivery in (("OK", True), ("failed to connect", True)):
            again = replace(comment, id=box.next_id(), guid="g-2", status=status, redelivery=redelivery)
            box.deliveries[again.id] = again
        fetched = place.fetched()
        await place.sweep()
        assert place.fetched() == fetched


async def test_a_merge_that_github_calls_delivered_but_the_journal_lacks_is_journalled(tmp_path: Path) -> None:
    """As after a backup was put back: somebody took it, and it is not here."""
    async with scene(tmp_path) as place:
        await place.merged()
        await place.street.box.post.idle()
        for one in place.street.box.deliveries.values():
            one.status, one.status_code = "OK", 202
        await place.sweep()
        assert {one.event for one in await place.journal()} == {"pull_request"}


async def test_all_pages_of_the_log_are_read(tmp_path: Path) -> None:
    """By cursor, a hundred at a time."""
    async with scene(tmp_path) as place:
        await place.opened()
        await place.street.box.post.idle()
        (first,) = place.sent("pull_request")
        box = place.street.box
        for number in range(250):
            body = orjson.dumps(pull_request(number=number + 100, repository=place.street.repo.id))
            more = replace(first, id=box.next_id(), guid=str(uuid4()), request_body=body)
            box.deliveries[more.id] = more
        await place.sweep()
        assert len(await place.journal("pull_request")) == 251


async def test_what_github_holds_back_is_counted(tmp_path: Path) -> None:
    """Its log says so of a delivery."""
    name = "telefonistka_recovery_throttled_deliveries_total"
    async with scene(tmp_path) as place:
        before = counted(name)
        place.street.box.post.change(throttle=1)
        await place.merged()
        await place.sweep()
        assert counted(name) == before + 1


def counted(name: str) -> float:
    """Of this process: other tests count, too."""
    lines = telemetry.render().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


async def test_events_that_ask_nothing_are_not_fetched(tmp_path: Path) -> None:
    """Other people's checks lead to one look at what waits for its merge, edited comments to nothing."""
    async with scene(tmp_path) as place:
        number = await place.opened()
        await place.sweep()
        fetched, head = place.fetched(), place.street.repo.pulls[number].head_sha
        for state in ("pending", "success"):
            await place.ask("POST", f"/statuses/{head}", state=state, context="ci")
        comment = await place.ask("POST", f"/issues/{number}/comments", body="/telefonistka plan")
        await place.sweep()
        assert (place.fetched(), place.looks) == (fetched + 1, ["looked"])
        await place.ask("PATCH", f"/issues/comments/{comment['id']}", body="Hello")
        await place.sweep()
        assert (place.fetched(), place.looks) == (fetched + 1, ["looked"])


async def test_the_watermark_stays_behind_what_could_not_be_fetched(tmp_path: Path) -> None:
    """GitHub answers about one delivery, then not about the next; a later sweep has all, once, also after a restart."""
    async with scene(tmp_path, interval=60) as place:
        await place.merged()
        box = place.street.box
        await box.post.idle()
        first, second = place.sent("pull_request")
        down = box.rules.add("answer", path=rf"/deliveries/{second.id}$", status=503, body={})
        await place.sweep()
        assert [one.delivery for one in await place.journal()] == [first.guid]
        place.clock.ahead = 181
        assert "has not arrived: GitHub answered 503" in (await place.recovery.trouble() or "")
        box.rules.remove(down)
        await place.sweep()
        assert [one.delivery for one in await place.journal()] == [first.guid, second.guid]
        assert await place.recovery.trouble() is None


async def test_what_happened_before_we_were_there_is_not_ours(tmp_path: Path) -> None:
    """A new installation promotes nothing that was merged before it; neither by the log nor by what was merged."""
    async with scene(tmp_path) as place:
        pull = await place.merged()
        await place.street.box.post.idle()
        earlier = now() - timedelta(minutes=5)
        pull.merged_at = pull.updated_at = earlier
        for one in place.street.box.deliveries.values():
            one.delivered_at = earlier
        await place.sweep()
        await place.sweep()
        assert await place.journal() == []


async def test_a_merge_that_no_log_tells_of_is_journalled_once(tmp_path: Path) -> None:
    """GitHub neither sends nor logs what is too large."""
    async with scene(tmp_path, admin=False) as place:
        place.street.box.post.change(largest=10)
        pull = await place.merged()
        await place.opened("open")
        await place.sweep()
        (own,) = await place.journal()
        payload = await place.payload(own)
        assert (own.event, own.lane) == ("telefonistka_again", f"{place.street.repo.id}/{pull.number}")
        assert payload["pull_request"]["merge_commit_sha"] == pull.merge_commit_sha
        assert payload["pull_request"]["user"] == {"login": "alice"}
        await place.sweep()
        await end(place, own)
        await place.sweep()
        assert len(await place.journal()) == 1


async def end(place: Scene, one: Summary) -> None:
    """The item was worked on, and nothing came of it."""
    (item,) = await place.office.storage.claim("me", limit=1, lease=60, now=time.time())
    assert item.id == one.delivery
    assert await place.office.storage.finish("me", item.seq, state=State.REJECTED, now=time.time())


async def test_merges_and_open_pull_requests_are_read_to_the_last_page(tmp_path: Path) -> None:
    """A hundred a call; what was merged earlier is not read."""
    async with scene(tmp_path, events=["push"], known_for=60) as place:
        pull = await place.merged()
        repo, box = place.street.repo, place.street.box
        head = await place.opened("open")
        for number in range(100, 350):
            copy = replace(pull, id=box.next_id(), number=number, labels=[])
            repo.pulls[number] = copy
            if number >= 250:
                copy.merged_at = copy.updated_at = now() - timedelta(days=1)
        for number in range(400, 550):
            repo.pulls[number] = replace(repo.pulls[head], id=box.next_id(), number=number)
        await place.sweep()
        assert len(await place.journal("telefonistka_again")) == 151
        assert [call.operation for call in box.calls].count("query Merges") == 2
        counted = await (await place.repo()).census("telefonistka")
        assert (counted.open, counted.promotions, counted.pending) == (151, 0, ())
        assert [call.operation for call in box.calls].count("query Census") == 2


async def test_a_merge_whose_delivery_is_here_is_left_alone(tmp_path: Path) -> None:
    """Also while nobody has worked on it yet."""
    async with scene(tmp_path) as place:
        await place.merged()
        await place.sweep()
        await place.sweep()
        assert [one.event for one in await place.journal()] == ["pull_request", "pull_request"]


async def test_a_merge_into_another_branch_is_left_alone(tmp_path: Path) -> None:
    """It promotes nothing."""
    async with scene(tmp_path, events=["push"]) as place:
        (await place.merged()).base_ref = "release"
        await place.sweep()
        assert await place.journal("telefonistka_again") == []


async def test_the_webhook_of_a_fresh_merge_may_still_come(tmp_path: Path) -> None:
    """For two minutes, and no sweep in between passes over it for good."""
    async with scene(tmp_path, events=["push"], interval=300, known_for=200) as place:
        pull = await place.merged()
        await place.sweep()
        assert await place.journal("telefonistka_again") == []
        assert pull.merged_at is not None
        # As two minutes later, when all of it is older.
        pull.merged_at = pull.updated_at = pull.merged_at - timedelta(minutes=2, seconds=1)
        await place.sweep()
        assert len(await place.journal("telefonistka_again")) == 1


async def test_a_command_is_not_carried_out_for_another_head(tmp_path: Path) -> None:
    """What its author saw is not what the journal knows of by now: nobody does anything."""
    async with scene(tmp_path) as place:
        number = await place.opened()
        await place.sweep()
        await place.ask("POST", f"/issues/{number}/comments", body="/retrigger")
        await place.street.box.post.idle()
        (comment,) = place.street.repo.pulls[number].comments.values()
        edit(place.sent("issue_comment")[0], lambda payload: payload["comment"].update(created_at=shown(comment, -5)))
        edit(place.sent("pull_request")[0], lambda payload: None)
        await scenes.commit(
            place.street.box, place.street.repo, {"lab/b": "3"}, by=place.street.alice.user, branch="change"
        )
        await place.street.box.post.idle()
        (push,) = [one for one in place.sent("pull_request") if one.action == "synchronize"]
        await arrives(place, push)
        await place.sweep()
        assert await place.journal("issue_comment") == []


def shown(comment: Any, seconds: float) -> str:
    moment = comment.created_at + timedelta(seconds=seconds)
    return str(moment.isoformat()).replace("+00:00", "Z")


def edit(one: Delivery, change: Any) -> None:
    payload = orjson.loads(one.request_body)
    change(payload)
    one.request_body = orjson.dumps(payload)


async def arrives(place: Scene, one: Delivery) -> None:
    """The delivery reaches us after all, by the webhook."""
    number = list(place.street.box.deliveries.values()).index(one)
    assert await place.street.replay(place.office, number) == 202


async def test_an_older_head_leads_to_nothing_once_a_newer_one_is_here(tmp_path: Path) -> None:
    """It is journalled as one on which nothing is to be done."""
    async with scene(tmp_path) as place:
        await place.opened()
        await place.street.box.post.idle()
        (opened,) = place.sent("pull_request")
        edit(opened, lambda payload: payload["pull_request"].update(updated_at="2020-01-01T00:00:00Z"))
        await scenes.commit(
            place.street.box, place.street.repo, {"lab/b": "3"}, by=place.street.alice.user, branch="change"
        )
        await place.street.box.post.idle()
        await arrives(place, place.sent("pull_request")[1])
        await place.sweep()
        states = {one.delivery: one.state for one in await place.journal("pull_request")}
        assert states[opened.guid] == "done"
        assert len(states) == 2


async def test_a_missed_push_is_relayed_with_a_signature_that_holds(tmp_path: Path) -> None:
    """GitHub's own where its bytes can be made again."""
    async with sinks.listening() as sink:
        config = rules(("^clusters/.*", sink))
        async with scene(tmp_path, {"telefonistka.yaml": config}, events=["push"]) as place:
            head = await place.street.push({"clusters/a": "<&>é"})
            await place.sweep()
            await sink.got(1)
            await paid(place.office)
            (push,) = place.sent("push")
        assert heads(sink) == [head]
        assert is_signed(sink.requests[0])
        assert sink.requests[0].header("X-Hub-Signature-256") == [push.request_headers["X-Hub-Signature-256"]]


async def test_without_the_right_to_webhooks_merges_are_found_all_the_same(tmp_path: Path) -> None:
    """That the log may not be read is no trouble; that GitHub knows us no more is."""
    async with scene(tmp_path, admin=False, interval=0.0) as place:
        await place.merged()
        await place.sweep()
        assert [one.event for one in await place.journal()] == ["telefonistka_again"]
        before = await place.recovery.trouble()
        del place.street.box.tokens[place.street.bot.value]
        await place.sweep()
        place.clock.ahead = 1
        assert "401" in (await place.recovery.trouble() or "")
        assert before is None or "401" not in before


async def test_another_webhook_of_the_repository_is_not_read(tmp_path: Path) -> None:
    """Argo CD has one, too, whose deliveries may fail for reasons of its own."""
    async with scene(tmp_path) as place:
        assert place.street.hook is not None
        place.street.hook.url = f"{NOWHERE}/api/webhook"
        await place.merged()
        await place.sweep()
        assert {one.event for one in await place.journal()} == {"telefonistka_again"}


@pytest.mark.parametrize("payload", [{"a": "<é>&\u2028", "b": [1, None, True], "c": {"d": 1.5}}], ids=["payload"])
@pytest.mark.parametrize(
    ("written", "is_its_own"),
    [
        (lambda payload: orjson.dumps(payload), True),
        (lambda payload: json.dumps(payload, separators=(",", ":")).encode(), True),
        (
            lambda payload: (
                orjson.dumps(payload)
                .replace(b"<", rb"\u003c")
                .replace(b">", rb"\u003e")
                .replace(b"&", rb"\u0026")
                .replace("\u2028".encode(), rb"\u2028")
            ),
            True,
        ),
        (lambda payload: json.dumps(payload, indent=2).encode(), False),
    ],
    ids=["plain", "ASCII", "escaped for HTML", "with spaces"],
)
@pytest.mark.parametrize("form", [False, True], ids=["JSON", "form"])
def test_a_rebuilt_delivery_is_signed(payload: Any, written: Any, is_its_own: bool, form: bool) -> None:
    """Whichever secret it was; what GitHub's signature does not prove is signed by us, as JSON."""
    body = b"payload=" + quote_plus(written(payload)).encode() if form else written(payload)
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    sent = {"Content-Type": kind, "X-Hub-Signature": "sha1=0", "X-Hub-Signature-256": signature(b"old", body)}
    headers, rebuilt = Request(sent, payload).rebuilt((b"new", b"old"))
    if is_its_own:
        assert (dict(headers), rebuilt) == (sent, body)
    else:
        assert dict(headers) == {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": signature(b"new", rebuilt),
        }
        assert orjson.loads(rebuilt) == payload
