"""Metrics under the original's names, and log records that can always be written."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import anyio
import orjson
import pytest
import structlog
from opentelemetry.util.re import parse_env_headers

from telefonistka import telemetry
from telefonistka.telemetry import log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the records go; the rest of the tests keep their own set-up."""
    written, handlers = io.StringIO(), logging.getLogger().handlers[:]
    telemetry.configure("warn", stream=written)
    yield written
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/repos/o/r1/pulls/5/files", 'api_group="repos",api_path="pulls",method="GET",repo_slug="o/r1",status="200"'),
        ("/api/v3/repos/o/r2/git/trees", 'api_group="repos",api_path="git",method="GET",repo_slug="o/r2",status="200"'),
        ("/repos/o/r3", 'api_group="repos",api_path="",method="GET",repo_slug="o/r3",status="200"'),
        ("/user", 'api_group="user",api_path="",method="GET",repo_slug="",status="200"'),
    ],
)
def test_operations_have_the_originals_labels(path: str, labels: str) -> None:
    """Taken from the path, without the prefix of an Enterprise Server."""
    before = counted(labels)
    telemetry.github_request(method="GET", path=path, status=200)
    assert counted(labels) == before + 1


def counted(labels: str) -> float:
    """The counter's value; other tests of the same process count, too."""
    name = f"telefonistka_github_github_operations_total{{{labels}}} "
    lines = telemetry.render().decode().splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@pytest.mark.parametrize("path", ["/graphql", "/app/installations/5/access_tokens"])
def test_graphql_and_tokens_are_not_counted(path: str) -> None:
    """The original does not, either."""
    before = telemetry.render().count(b"operations_total{")
    telemetry.github_request(method="POST", path=path, status=201)
    assert telemetry.render().count(b"operations_total{") == before


def test_the_originals_other_metrics_keep_their_names() -> None:
    """They are on people's dashboards."""
    telemetry.rate_limit("acme", 5000, 4999)
    telemetry.commit_status("acme/infra", "pending")
    text = telemetry.render().decode()
    assert 'telefonistka_github_github_rest_api_client_rate_limit{repo_owner="acme"} 5000.0' in text
    assert 'telefonistka_github_github_rest_api_client_rate_remaining{repo_owner="acme"} 4999.0' in text
    assert 'telefonistka_github_commit_status_updates_total{repo_slug="acme/infra",status="pending"}' in text


def test_an_event_that_nobody_knows_makes_no_time_series() -> None:
    """Its name is not signed, so anybody could make any number of them."""
    telemetry.delivery("nonsense", "ignored")
    text = telemetry.render().decode()
    assert "nonsense" not in text
    assert 'telefonistka_deliveries_total{event="other",result="ignored"}' in text


# What fills the process' own registry does so in a process of its own.
MANY = """
from telefonistka import telemetry
for number in range(1005):
    telemetry.commit_status(f"acme/r{number}", "success")
    telemetry.relay_attempt(f"https://h{number}", 200, "delivered", 0.1)
    telemetry.configuration(f"acme/r{number}", is_broken=False)
telemetry.relay_endpoints((f"https://h{number}", 1, float(number), number == 1004) for number in range(1005))
telemetry.commit_status("acme/r0", "success")
print(telemetry.render().decode(), end="")
"""


def test_there_are_no_more_than_a_thousand_repositories_and_endpoints_in_labels() -> None:
    """Each would be a time series for ever; those beyond are one, and a known one goes on being known."""
    done = subprocess.run([sys.executable, "-c", MANY], check=True, capture_output=True, text=True)
    series = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if not line.startswith("#"))
    for name, others in {
        "telefonistka_github_commit_status_updates_total{repo_slug=": 5,
        "telefonistka_relay_attempts_total{endpoint=": 5,
        "telefonistka_relay_waiting{endpoint=": 5,
        "telefonistka_relay_oldest_seconds{endpoint=": 1004,
        "telefonistka_relay_breaker_open{endpoint=": 1,
        "telefonistka_config_broken{repo_slug=": 0,
    }.items():
        found = {key: float(value) for key, value in series.items() if key.startswith(name)}
        assert len(found) == 1001, name
        assert [value for key, value in found.items() if '"other"' in key] == [others], name
    urls = {url[1] for key in series if (url := re.search(r'upstream_requests_total{.*url="([^"]*)"', key))}
    assert len(urls) == 1001
    assert series['telefonistka_github_commit_status_updates_total{repo_slug="acme/r0",status="success"}'] == "2.0"


def test_records_have_what_was_bound(stream: io.StringIO) -> None:
    """One JSON object a line, levels below the chosen one left out."""
    with telemetry.bound(delivery="1", repo="acme/infra", pull=7):
        log.info("not shown")
        log.warning("shown", targets=3)
    (record,) = lines(stream)
    assert record.items() >= {"event": "shown", "level": "warning", "delivery": "1", "pull": 7, "targets": 3}.items()


def test_any_value_can_be_logged(stream: io.StringIO) -> None:
    """Also paths that are not UTF-8, and what JSON does not know."""
    log.error("odd", path="caf\udce9", inside=["\udcff", {"\udcff": object}])
    (record,) = lines(stream)
    assert record["path"] == "caf\\udce9"


def test_libraries_log_in_the_same_form(stream: io.StringIO) -> None:
    """With their traceback, if there is one."""
    try:
        raise ValueError("from a library")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("trouble with %s", "a request")
    (record,) = lines(stream)
    assert (record["event"], record["logger"]) == ("trouble with a request", "aiohttp.server")
    assert "ValueError: from a library" in str(record["exception"])


def test_trouble_with_the_export_of_traces_is_said_once(stream: io.StringIO) -> None:
    """An exporter that fails does so every few seconds; each kind of its complaints is one record in five minutes."""
    exporter = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    for second in range(3):
        exporter.error("Failed to export %s batch after %s s", "spans", second)
        logging.getLogger("aiohttp.client").error("trouble")
    exporter.error("Failed to encode")
    assert [line["event"] for line in lines(stream)] == [
        "Failed to export spans batch after 0 s",
        "trouble",
        "trouble",
        "trouble",
        "Failed to encode",
    ]


def test_headers_of_the_exporter_are_not_logged(stream: io.StringIO) -> None:
    """The SDK quotes those that it cannot read, and they hold credentials."""
    parse_env_headers("api-key hunter2", liberal=True)
    (record,) = lines(stream)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in str(record["event"])
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(("form", "is_json"), [("", True), ("json", True), ("console", False)])
def test_the_form_of_the_log_can_be_chosen(stream: io.StringIO, form: str, *, is_json: bool) -> None:
    """Without a choice it is JSON where nobody reads along; text has no colours there."""
    telemetry.configure("warn", form=form, stream=stream)
    log.error("seen", pull=7)
    text = stream.getvalue()
    assert text.startswith("{") is is_json
    assert "seen" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("level", "warnings"), [("verbose", 1), ("info", 0), ("WARN", 0)])
def test_a_level_that_there_is_not_is_info_with_a_warning(stream: io.StringIO, level: str, warnings: int) -> None:
    """As the original takes it, which says nothing."""
    telemetry.configure(level, stream=stream)
    log.info("seen")
    told = [line for line in lines(stream) if line.get("level") == "warning"]
    assert len(told) == warnings
    assert ("seen" in stream.getvalue()) is (level != "WARN")
    assert all("LOG_LEVEL" in str(line["event"]) for line in told)


async def test_a_task_that_outlives_its_cause_has_none_of_its_fields(stream: io.StringIO) -> None:
    """It goes on with what others caused; a task beside it has them."""

    async def say(text: str) -> None:
        log.warning(text)

    async with anyio.create_task_group() as tasks:
        with telemetry.bound(delivery="1"):
            tasks.start_soon(say, "beside")
            telemetry.apart(tasks.start_soon, say, "apart")
    assert {line["event"]: line.get("delivery") for line in lines(stream)} == {"beside": "1", "apart": None}
