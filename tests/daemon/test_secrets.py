"""Secrets are nowhere but where they belong: the daemon through success, failure, refusal and crash.

Each is a distinctive text, which is searched for in all that comes out of the process.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio
import pytest

from telefonistka.sandbox import scenes
from tests.daemon import otlp
from tests.daemon.otlp import Receiver
from tests.daemon.test_chain import BY_ITSELF, Place, placed
from tests.daemon.values import until
from tests.faults.place import SECRET, eventually
from tests.relay import sinks
from tests.relay.sinks import Sink
from tests.relay.test_daemon import BAD, HERE

MODULE = "tests.daemon.broken"
HEADER = "canary-of-the-collector"
RELAY = "canary-of-the-receivers"
NOT_MINE = "canary-of-somebody-else"  # what a stranger sends along
PATIENCE = 30  # seconds


def leaks(evidence: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """Where which secret is, plain or in Base64."""
    return [
        f"{name} in {where}"
        for where, text in evidence.items()
        for name, secret in secrets.items()
        if any(form in text for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")))
    ]


@pytest.mark.parametrize("credentials", ["token", "App"])
async def test_no_secret_comes_out(tmp_path: Path, credentials: str) -> None:
    """Not in a log, a traceback, a comment, a status, a title, a trace, a metric, or what the operator is shown."""
    async with otlp.receiving(tmp_path / "spans") as receiver, sinks.listening(BAD) as sink:
        more = environment(tmp_path, receiver)
        async with placed(tmp_path, credentials, files(sink), more=more, module=MODULE) as place:
            await live_through(place, sink)
            evidence = await seen(place, tmp_path)
            secrets = {"webhook": SECRET, "collector": HEADER, "relay": RELAY, "stranger": NOT_MINE}
            secrets |= {f"token {number}": token for number, token in enumerate(place.box.tokens)}
            secrets |= {f"line {n} of a key": line for n, line in enumerate(lines(tmp_path.glob("*.pem")))}
            await crash(place, tmp_path)
            evidence["log"] = place.daemon.log.read_text()
        evidence["trace"] = (tmp_path / "spans").read_text()
    assert len(secrets) >= 6
    assert set(place.daemon.credentials.values()) & set(secrets.values()) or credentials == "App"
    assert "a bug at #1" in evidence["log"]
    assert "RuntimeError: the daemon has a bug" in evidence["log"]
    assert "a bug at #1" in evidence["trace"]
    assert '"http.response.status_code":502' in evidence["trace"]
    assert '"status":401' in evidence["log"]
    assert "HMAC" in evidence["operator"]
    assert leaks(evidence, secrets) == []


async def test_a_secret_that_comes_out_is_found(tmp_path: Path) -> None:
    """The search looks where it says: a bug that tells the approver's token is in the log and in the trace."""
    async with otlp.receiving(tmp_path / "spans") as receiver, sinks.listening() as sink:
        more = {**environment(tmp_path, receiver), "LEAK": "APPROVER_GITHUB_OAUTH_TOKEN"}
        async with placed(tmp_path, "token", files(sink), more=more, module=MODULE) as place:
            await change(place)
            await receiver.got(lambda spans: any("a bug" in (span.error or "") for span in spans.all))
            evidence = {"log": place.daemon.log.read_text(), "trace": (tmp_path / "spans").read_text()}
            token = place.daemon.credentials["APPROVER_GITHUB_OAUTH_TOKEN"]
    assert leaks(evidence, {"token": token}) == ["token in log", "token in trace"]


def environment(directory: Path, receiver: Receiver) -> dict[str, str]:
    (directory / "credentials").mkdir()
    (directory / "credentials" / "relay-secret").write_text(RELAY)
    return {
        **receiver.environment,
        **HERE,
        "LOG_LEVEL": "debug",
        "BROKEN": str(directory / "broken"),
        "CREDENTIALS_DIRECTORY": str(directory / "credentials"),
        # The second of them is one that the SDK cannot read, and complains about.
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={HEADER},{HEADER} without a name",
    }


def files(sink: Sink) -> dict[str, str]:
    relay = f"webhookEndpointRegexs:\n  - expression: ^lab/.*\n    replacements: ['{sink.endpoint().url}']\n"
    return {**BY_ITSELF, "telefonistka.yaml": BY_ITSELF["telefonistka.yaml"] + relay}


def lines(keys: Iterable[Path]) -> list[str]:
    """What is distinctive of private keys."""
    return [line for key in keys for line in key.read_text().splitlines()[2:5]]


async def change(place: Place) -> None:
    await scenes.commit(place.box, place.repo, {"lab/nginx/values.yaml": "2"}, by=place.alice.user, branch="change")
    await place.ask("POST", "/pulls", title="A change", head="change", base="main")


async def live_through(place: Place, sink: Sink) -> None:
    """A chain that stands, calls that fail, deliveries that are refused, letters that are, and a token that is."""
    place.box.rules.add("answer", method="POST", path="/statuses/", first=2, status=502)
    await change(place)
    await place.merge(1)
    await eventually(lambda: place.status(2).get("description") == "opened #3 (merged), #4 (merged)")
    await sink.got(1)
    for headers in (
        {"Authorization": f"Bearer {NOT_MINE}", "Cookie": f"session={NOT_MINE}", "X-Hub-Signature-256": "sha256=00"},
        {"Content-Type": "text/plain", "Authorization": f"Bearer {NOT_MINE}"},
    ):
        given = {"X-GitHub-Event": "push", "Content-Type": "application/json", **headers}
        async with place.http.post(place.daemon.webhook, data=b"{}", headers=given) as response:
            assert response.status in (401, 415)
    await until(place.idle)
    place.box.rules.add("answer", path="/collaborators/", status=401, body={"message": "Bad credentials"})
    await place.ask("POST", "/issues/1/comments", body="/telefonistka plan")
    await eventually(lambda: "Bad credentials" in place.daemon.log.read_text())
    place.box.rules.clear()


async def seen(place: Place, directory: Path) -> dict[str, str]:
    """What people and machines see of the daemon while it runs."""
    evidence = {"GitHub": json.dumps([place.state(), [repr(one) for one in place.repo.statuses.values()]], default=str)}
    for path in ("metrics", "ready", "live"):
        async with place.http.get(f"{place.daemon.url}/{path}") as response:
            evidence[path] = await response.text()
    environ = {"TELEFONISTKA_STATE_DIR": str(directory / "state"), "PATH": ""}
    command = [sys.executable, "-m", "telefonistka", "deliveries"]
    listed = await anyio.run_process([*command, "dead", "--json"], env=environ)
    evidence["operator"] = listed.stdout.decode()
    for one in json.loads(listed.stdout)[:3]:
        shown = await anyio.run_process([*command, "show", one["delivery"], "--json"], env=environ)
        evidence["operator"] += shown.stdout.decode()
    return evidence


async def crash(place: Place, directory: Path) -> None:
    (directory / "broken").touch()
    process = place.daemon.process
    assert process is not None
    with anyio.fail_after(PATIENCE):
        assert await process.wait() != 0
