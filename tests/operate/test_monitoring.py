"""The alerts and the dashboard: what they ask for exists, the alerts fire in trouble and only then."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import aiohttp
import anyio
import prometheus_client
import pytest
from prometheus_client import Counter, Gauge, Histogram
from ruamel.yaml import YAML

from telefonistka.telemetry import metrics
from tests.daemon import manager
from tests.daemon.test_process import SECRET, Daemon, running
from tests.daemon.values import headers
from tests.relay.street import NOWHERE
from tests.relay.test_daemon import HERE, github, push
from tests.tools import tool

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "config" / "prometheus-alerts.yaml"
DASHBOARD = ROOT / "config" / "grafana-dashboard.json"
CASES = Path(__file__).parent / "alerts.yaml"
TARGET = frozenset({"job", "instance"})  # what Prometheus adds to each series
DEADLINE = 60  # seconds; Prometheus asks every second here
METRIC = re.compile(r"\b((?:telefonistka|process)_\w+)\s*(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    (group,) = YAML(typ="safe").load(ALERTS)["groups"]
    return list(group["rules"])


def queries() -> Iterator[str]:
    """Every expression of both files, with the dashboard's variables filled in."""
    yield from (rule["expr"] for rule in rules())
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [one["expr"] for one in dashboard["annotations"]["list"]]
    yield from (query.replace("$job", "telefonistka").replace("$__rate_interval", "5m") for query in asked)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), \w+\)", r"\1", variable["query"]["query"])


def exported() -> dict[str, frozenset[str]]:
    """The labels of each series that the daemon can have."""
    found: dict[str, frozenset[str]] = {}
    for one in vars(metrics).values():
        if isinstance(one, Counter | Gauge | Histogram):
            (family,), labels = one.describe(), frozenset(one._labelnames)
            match one:
                case Counter():
                    found[f"{family.name}_total"] = labels
                case Gauge():
                    found[family.name] = labels
                case Histogram():
                    found |= {f"{family.name}_{part}": labels for part in ("sum", "count")}
                    found[f"{family.name}_bucket"] = labels | {"le"}
    for family in prometheus_client.REGISTRY.collect():
        found |= {sample.name: frozenset() for sample in family.samples if sample.name.startswith("process_")}
    return found


def faults(query: str, known: Mapping[str, frozenset[str]]) -> list[str]:
    """What the query asks for and nobody exports."""
    found, labels = [], set(TARGET)
    for name, matchers in METRIC.findall(query):
        if name not in known:
            found.append(f"there is no metric {name}")
            continue
        labels |= known[name]
        given = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers)
        found += [f"{name} has no label {one}" for one in given if one not in known[name] | TARGET]
    for named in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", query):
        found += [f"no label {one.strip()}" for one in named.split(",") if one.strip() not in labels]
    return found


def test_each_query_names_what_is_exported() -> None:
    """Metrics and labels, in alerts and dashboard; one that is misspelt would be silent for ever."""
    known = exported()
    assert [fault for query in queries() for fault in faults(query, known)] == []
    assert len(set(queries())) > 30


def test_each_metric_is_documented() -> None:
    """In config/README.md, by its name or the end of it that follows another one's."""
    named = set(re.findall(r"`(telefonistka_\w+|…_\w+)`", (ROOT / "config" / "README.md").read_text()))
    ends = tuple(name.removeprefix("…") for name in named if name.startswith("…"))
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported() if name.startswith("telefonistka_")}
    assert {name for name in ours - named if not name.endswith(ends)} == set()


def test_the_unit_hides_nothing_that_the_queries_ask_for() -> None:
    """What is told of the process comes from /proc, of which systemd shows the daemon as much as its unit says."""
    asked = {name for query in queries() for name, _ in METRIC.findall(query) if name.startswith("process_")}
    # https://www.freedesktop.org/software/systemd/man/252/systemd.exec.html#ProtectProc=
    limits = [f"hidepid={value}" for value in manager.told(manager.SERVICE, "ProtectProc")]
    limits += [f"subset={value}" for value in manager.told(manager.SERVICE, "ProcSubset") if value != "all"]
    told = "import prometheus_client as p; print(p.generate_latest().decode())"
    names = set(re.findall(r"^(process_\w+) ", behind(limits, told), re.MULTILINE))
    assert len(asked) >= 3
    assert asked <= names
    assert not asked & set(re.findall(r"^(process_\w+) ", behind([*limits, "subset=pid"], told), re.MULTILINE))


def behind(limits: list[str], code: str) -> str:
    """What a Python says that sees /proc with these mount options, which takes a mount of its own."""
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    own = [tool("unshare", "util-linux"), *root, "--mount", "--pid", "--fork"]
    mount = f"mount -t proc {'-o ' if limits else ''}{','.join(limits)} proc /proc"
    if subprocess.run([*own, "sh", "-c", mount], check=False, capture_output=True).returncode:
        pytest.skip("/proc cannot be mounted anew here")
    run = [*own, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(telefonistka_deliveries[5m])", "there is no metric telefonistka_deliveries"),
        ('telefonistka_inbox_items{kind="x"}', "telefonistka_inbox_items has no label kind"),
        ("sum by (endpoint) (telefonistka_inbox_items)", "no label endpoint"),
    ],
)
def test_a_misspelt_query_is_found(query: str, fault: str) -> None:
    """The check can fail."""
    assert faults(query, exported()) == [fault]


def test_the_labels_in_an_alerts_text_are_there() -> None:
    """Where its expression leaves them."""
    known = exported()
    for rule in rules():
        text = " ".join(rule["annotations"].values())
        have = {label for name, _ in METRIC.findall(rule["expr"]) for label in known[name]}
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= have, rule["alert"]


def promtool(*arguments: str | Path) -> None:
    """https://prometheus.io/docs/prometheus/latest/command-line/promtool/"""
    done = subprocess.run([tool("promtool", "prometheus"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    """The alerts as they are, the dashboard's as rules of their own."""
    promtool("check", "rules", ALERTS)
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "queries.yaml").write_text(json.dumps({"groups": [{"name": "all", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "queries.yaml")


def test_each_alert_fires_in_trouble_and_not_else() -> None:
    """By promtool's own tests, which have both cases of each."""
    promtool("test", "rules", CASES)
    fires: set[str] = set()
    silent: set[str] = set()
    for group in YAML(typ="safe").load(CASES)["tests"]:
        for case in group["alert_rule_test"]:
            (fires if case.get("exp_alerts") else silent).add(case["alertname"])
    assert fires == silent == {rule["alert"] for rule in rules()}


@asynccontextmanager
async def prometheus(directory: Path, daemon: Daemon) -> AsyncIterator[str]:
    """A Prometheus with our alerts, which asks the daemon every second and waits for nothing; its address."""
    (directory / "alerts.yaml").write_text(re.sub(r"\bfor: \w+", "for: 0s", ALERTS.read_text()))
    target = daemon.url.removeprefix("http://")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{"job_name": "telefonistka", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        tool("prometheus", "prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = await anyio.open_process(command, stdin=DEVNULL, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.kill()
        await process.aclose()


async def firing(session: aiohttp.ClientSession, url: str) -> set[str]:
    """The names of the alerts that fire; none while Prometheus starts."""
    try:
        async with session.get(f"{url}/api/v1/alerts") as answer:
            alerts = (await answer.json(content_type=None))["data"]["alerts"] if answer.status == 200 else []
    except aiohttp.ClientConnectionError:
        return set()
    return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


async def forged(session: aiohttp.ClientSession, daemon: Daemon) -> None:
    """Five deliveries that somebody else has signed."""
    for number in range(5):
        body = push(number)
        async with session.post(f"{daemon.url}/webhook", data=body, headers=headers(body, b"guessed")) as answer:
            assert answer.status == 401


async def test_a_daemon_in_trouble_is_seen_by_prometheus(tmp_path: Path) -> None:
    """An endpoint that is down, somebody who guesses at the secret, and in the end nobody who answers."""
    tool("prometheus", "prometheus")
    rule = f"webhookEndpointRegexs:\n  - expression: ^clusters/.*\n    replacements: ['{NOWHERE}/']\n"
    async with (
        github(tmp_path, rule) as url,
        running(tmp_path / "state", url, **HERE) as daemon,
        prometheus(tmp_path, daemon) as server,
        aiohttp.ClientSession() as session,
    ):
        with anyio.fail_after(DEADLINE):
            for number in range(10):
                body = push(number)
                given = headers(body, SECRET, X_GitHub_Event="push")
                async with session.post(f"{daemon.url}/webhook", data=body, headers=given) as answer:
                    assert answer.status == 202
            wanted = {"TelefonistkaRelayBreakerOpen", "TelefonistkaDeliveriesRefused"}
            while not wanted <= (found := await firing(session, server)):
                await forged(session, daemon)
                await anyio.sleep(0.2)
            assert not found & {"TelefonistkaDown", "TelefonistkaNotReady", "TelefonistkaDeadLetters"}
            assert await daemon.stop() == 0
            while "TelefonistkaDown" not in await firing(session, server):  # noqa: ASYNC110 - another process's state
                await anyio.sleep(0.2)
