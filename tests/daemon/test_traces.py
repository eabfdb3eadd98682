"""The daemon as a process that exports its traces to a receiver, which is a process, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson
import pytest

from telefonistka.core import lineage
from telefonistka.sandbox import scenes
from tests.daemon import otlp, values
from tests.daemon.otlp import Span, Spans
from tests.daemon.test_chain import BY_ITSELF, Place, placed
from tests.daemon.test_process import SECRET, Daemon, running
from tests.daemon.values import StatusBoard, pull_request, until
from tests.faults.place import eventually
from tests.relay import sinks
from tests.relay.test_daemon import HERE, boxed, config, github, push

THERE = "https://jaeger.example.com/trace"
PROXY = "0af7651916cd43dd8448eb211c80319c"  # a trace that somebody in front of us began
PROXY_SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{PROXY}-{PROXY_SPAN}-01"


async def change(place: Place) -> None:
    await scenes.commit(place.box, place.repo, {"lab/nginx/values.yaml": "2"}, by=place.alice.user, branch="change")
    await place.ask("POST", "/pulls", title="A change", head="change", base="main")


def records(log: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]


def merges(spans: Spans, number: int) -> list[Span]:
    """The work on the deliveries that tell of a pull request's merge."""
    works = spans.named("work pull_request", pull_request=number)
    return [work for work in works if any(child.name == "promote" for child in spans.below(work))]


async def test_a_chain_is_linked_from_the_lab_to_production(tmp_path: Path) -> None:
    """One trace per delivery, from the webhook to each API call; each merge names the one that led to it.

    The daemon is started by the command line of its unit.
    """
    async with (
        otlp.receiving(tmp_path / "spans") as receiver,
        placed(tmp_path, "unit", BY_ITSELF, more=receiver.environment) as place,
    ):
        await change(place)
        await place.merge(1)
        await eventually(lambda: place.status(2).get("description") == "opened #3 (merged), #4 (merged)")
        spans = await receiver.got(lambda spans: all(merges(spans, number) for number in (1, 2, 3, 4)))

        (lab,), (staging,) = merges(spans, 1), merges(spans, 2)
        for work, flow in ((lab, "lab/"), (staging, "staging/eu/")):
            is_whole(spans, work, flow, f"{place.box.url}/api/v3/repos/acme/iac/pulls")
        assert lab.links == ()
        opened = {span.id: span for span in spans.named("promotion")}
        assert [opened[id_].trace for trace, id_ in staging.links if trace == lab.trace] == [lab.trace]
        for number in (3, 4):
            (production,) = merges(spans, number)
            assert [opened[id_].trace for _, id_ in production.links] == [staging.trace]
        assert len({span.trace for number in (1, 2, 3, 4) for span in merges(spans, number)}) == 4
        assert lineage.parse(place.pull(2)["body"]).trace[3:35] == lab.trace
        delivery = lab.attributes["telefonistka.delivery"]
        found = [record for record in records(place.daemon.log) if record.get("delivery") == delivery]
        assert {(record["trace_id"], record["repo"], record["pull"]) for record in found} == {
            (lab.trace, "acme/iac", 1)
        }
        assert {record["span_id"] for record in found} <= {span.id for span in spans.all if span.trace == lab.trace}
        assert "step done" in {record["event"] for record in found}


def is_whole(spans: Spans, work: Span, flow: str, pulls: str) -> None:
    """The tree of a merge: webhook, journal, work, its steps, their promotions, their calls."""
    assert work.kind == "CONSUMER"
    assert work.has(repository="acme/iac", event="pull_request", outcome="done", attempt=1)
    assert work.resource["service.name"] == "telefonistka"
    (webhook,) = [span for span in spans.all if span.id == work.parent]
    assert (webhook.name, webhook.kind, webhook.parent, webhook.trace) == ("POST /webhook", "SERVER", "", work.trace)
    assert webhook.has(delivery=work.attributes["telefonistka.delivery"], repository="acme/iac", event="pull_request")
    assert webhook.attributes["http.response.status_code"] == 202
    assert [span.name for span in spans.below(webhook)].count("journal") == 1
    steps = {span.name: span for span in spans.below(work)}
    assert {"status: pending", "promote", "status: verdict"} <= set(steps)
    assert all(span.has(step=span.name, outcome="done") for span in steps.values())
    promotions = [span for span in spans.below(steps["promote"]) if span.name == "promotion"]
    assert all(span.has(flow=flow, components=["nginx"]) for span in promotions)
    opening = [
        span for one in promotions for span in spans.below(one) if span.name == "POST /repos/{owner}/{repo}/pulls"
    ]
    assert len(opening) == len(promotions) > 0
    for call in opening:
        assert call.kind == "CLIENT"
        assert call.attributes["url.full"] == pulls
        assert call.attributes["http.response.status_code"] == 201
        assert call.attributes["server.address"] == "127.0.0.1"
    queries = [span for span in spans.under(work) if span.name == "POST /graphql"]
    assert all(span.attributes["graphql.operation.name"] for span in queries)


async def test_a_trace_goes_on_after_a_kill_between_journal_and_worker(tmp_path: Path, board: StatusBoard) -> None:
    """What one process took the next one works on, in the trace that a proxy in front of us had begun."""
    state, body = tmp_path / "state", orjson.dumps(pull_request())
    board.gate = anyio.Event()  # the first process does not come beyond its first call
    async with otlp.receiving(tmp_path / "spans") as receiver, aiohttp.ClientSession() as session:
        async with running(state, board.url, **receiver.environment) as daemon:
            await send(daemon, session, body, traceparent=TRACEPARENT)
            await board.asked.wait()
            await receiver.got(lambda spans: bool(spans.named("POST /webhook")))
            daemon.process.kill()
            await daemon.process.wait()
        board.gate.set()
        async with running(state, board.url, **receiver.environment):
            spans = await receiver.got(lambda spans: bool(spans.named("work pull_request")))
        (webhook,), work = spans.named("POST /webhook"), spans.one("work pull_request")
        assert (webhook.trace, webhook.parent) == (PROXY, PROXY_SPAN)
        assert (work.trace, work.parent) == (PROXY, webhook.id)
        assert work.has(attempt=2, repository="acme/infra", pull_request=7)
        assert "status: pending" in {span.name for span in spans.below(work)}


async def test_what_fails_is_recorded_with_its_error(tmp_path: Path, board: StatusBoard) -> None:
    """On the call that failed, on the step that it was for, and on the work that waits for another try."""
    board.failures = [500] * 50
    async with (
        otlp.receiving(tmp_path / "spans") as receiver,
        aiohttp.ClientSession() as session,
        running(tmp_path / "state", board.url, **receiver.environment) as daemon,
    ):
        await send(daemon, session, orjson.dumps(pull_request()))
        spans = await receiver.got(lambda spans: bool(spans.named("work pull_request")))
    work = spans.one("work pull_request")
    assert work.has(outcome="postponed")
    step = next(span for span in spans.below(work) if span.name == "status: pending")
    assert step.has(outcome="try again")
    assert "GitHub answered 500" in (step.error or "")
    ((name, exception),) = step.events
    assert (name, exception["exception.type"]) == ("exception", "TryAgain")
    assert "Traceback" in exception["exception.stacktrace"]
    call = spans.below(step)[0]
    assert (call.name, call.attributes["error.type"]) == ("POST /repos/{owner}/{repo}/statuses/{sha}", "500")
    assert call.error is not None


async def test_a_relayed_delivery_shows_each_attempt_and_nothing_of_it_leaves(tmp_path: Path) -> None:
    """Below the webhook, whether it was routed at once or later; the receiver's request has GitHub's headers alone."""
    async with (
        otlp.receiving(tmp_path / "spans") as receiver,
        sinks.listening() as good,
        sinks.listening(sinks.BUSY, sinks.OK) as busy,
        github(tmp_path, config(good, busy)) as url,
        aiohttp.ClientSession() as session,
        running(tmp_path / "state", url, **HERE, **receiver.environment) as daemon,
    ):
        for number in (1, 2):
            await send(daemon, session, push(number), "push", traceparent=TRACEPARENT)
            await good.got(number)
        await busy.got(3)
        spans = await receiver.got(lambda spans: len(spans.named("relay POST")) == 5)
        webhooks = {span.id: span for span in spans.named("POST /webhook")}
        for attempt in spans.named("relay POST"):
            assert attempt.kind == "CLIENT"
            assert attempt.trace == PROXY
            assert webhooks[attempt.parent].has(delivery=attempt.attributes["telefonistka.delivery"])
        (failed,) = spans.named("relay POST", outcome="retry")
        assert failed.attributes["http.response.status_code"] == 503
        assert "Queue is full" in (failed.error or "")
        assert failed.attributes["server.port"] == busy.port
        assert [len(spans.named("relay POST", attempt=number)) for number in (1, 2)] == [4, 1]
        # What was not known for the first one was asked for below it.
        (route,) = spans.named("route")
        assert route.parent in webhooks
        assert [span.kind for span in spans.below(route)]
        assert not any(request.header("traceparent") for request in [*good.requests, *busy.requests])


async def test_files_that_stay_unknown_are_said_where_the_delivery_is_routed(tmp_path: Path) -> None:
    """With the reason; here GitHub refuses to compare the commits."""
    async with (
        otlp.receiving(tmp_path / "spans") as receiver,
        sinks.listening() as sink,
        boxed(tmp_path, config(sink)) as box,
        aiohttp.ClientSession() as session,
        running(tmp_path / "state", box.url, **HERE, **receiver.environment) as daemon,
    ):
        box.rules.add("answer", method="GET", path="/compare/", status=422, body={"message": "Too much"})
        await send(daemon, session, push(1), "push")
        await send(daemon, session, push(2).replace(b'"forced":false', b'"forced":true'), "push")
        await sink.got(2)
        spans = await receiver.got(lambda spans: len(spans.named("route")) == 2)
    unknown = [span.attributes.get("telefonistka.unknown_files") for span in spans.named("route")]
    assert unknown == [None, "the push was forced, and what it took away is not listed"]
    assert not spans.named("POST /webhook", unknown_files=unknown[1])


async def test_the_status_leads_to_the_trace(tmp_path: Path) -> None:
    """And the comments name it, where people do not see it."""
    async with (
        otlp.receiving(tmp_path / "spans") as receiver,
        placed(
            tmp_path, "token", more={**receiver.environment, "TELEFONISTKA_TRACE_URL": f"{THERE}/{{trace_id}}"}
        ) as place,
    ):
        await change(place)
        await place.merge(1)
        spans = await receiver.got(lambda spans: bool(merges(spans, 1)))
        (work,) = merges(spans, 1)
        links = [one.target_url for one in place.repo.statuses[place.repo.pulls[1].head_sha]]
        assert links[-1] == f"{THERE}/{work.trace}"
        bodies = [one["body"] for one in place.pull(1)["comments"]]
        assert any(body.endswith(f"<!-- trace {work.trace} -->") for body in bodies)


async def test_nothing_waits_for_a_receiver_that_hangs_or_is_gone(tmp_path: Path) -> None:
    """Work goes on as without one, and so does the stop; the log says of each kind of trouble once what it is."""
    async with otlp.receiving(tmp_path / "spans") as receiver:
        more = {**receiver.environment, "OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_BSP_MAX_QUEUE_SIZE": "64"}
        more |= {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"}
        async with placed(tmp_path, "token", BY_ITSELF, more=more) as place:
            receiver.hang()
            await change(place)
            assert (await place.merge(1))["description"] == "opened #2 (merged)"
            await eventually(lambda: place.status(2).get("description") == "opened #3 (merged), #4 (merged)")

            async def counted(result: str) -> bool:
                return await metric(place.http, place.daemon.url, result) > 0

            await until(lambda: counted("failed"))
            await until(lambda: counted("dropped"))
            receiver.process.kill()
            await place.ask("POST", "/issues/1/comments", body="/telefonistka plan")
            await until(place.idle)
            process = place.daemon.process
            assert process is not None
            process.terminate()
            with anyio.fail_after(10):
                assert await process.wait() == 0
            said = [one["event"] for one in records(place.daemon.log) if one.get("logger", "").startswith("opentele")]
            assert said
            assert not [one for one in said if said.count(one) > 1]


async def test_without_an_endpoint_there_are_no_traces(tmp_path: Path, board: StatusBoard) -> None:
    """Neither ids in the log nor a thread that would export."""
    async with aiohttp.ClientSession() as session, running(tmp_path / "state", board.url) as daemon:
        await send(daemon, session, orjson.dumps(pull_request()), traceparent=TRACEPARENT)
        await board.asked.wait()
        tasks = Path(f"/proc/{daemon.process.pid}/task").iterdir()
        assert not [task for task in tasks if "Otel" in (task / "comm").read_text()]
        assert not [record for record in daemon.records() if "trace_id" in record]


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "OTEL_"),
    ],
)
async def test_what_cannot_be_exported_by_is_said_at_start(
    tmp_path: Path, variables: Mapping[str, str], complaint: str
) -> None:
    """One sentence, and no traceback."""
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **variables}
    with pytest.raises(AssertionError) as ended:
        async with running(tmp_path / "state", "http://127.0.0.1:1", **more):
            pass
    assert complaint in str(ended.value)
    assert "Traceback" not in str(ended.value)


async def send(
    daemon: Daemon, session: aiohttp.ClientSession, body: bytes, event: str = "pull_request", **more: str
) -> None:
    """The delivery is taken."""
    headers = values.headers(body, SECRET, X_GitHub_Event=event, **more)
    async with session.post(f"{daemon.url}/webhook", data=body, headers=headers) as response:
        assert response.status == 202, await response.text()


async def metric(session: aiohttp.ClientSession, url: str, result: str) -> float:
    async with session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    found = [line for line in lines if line.startswith(f'telefonistka_spans_total{{result="{result}"}}')]
    return float(found[0].split()[-1]) if found else 0.0
