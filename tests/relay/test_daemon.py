"""The daemon as a process: a burst with a kill in the middle, and the operator's commands while it runs and after."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson

from telefonistka.sandbox import scenes
from telefonistka.sandbox import server as sandbox
from telefonistka.sandbox.box import Box
from tests.daemon import values
from tests.daemon.test_process import SECRET, Daemon, environment, running
from tests.relay import sinks
from tests.relay.sinks import Sink
from tests.relay.street import DEADLINE

PUSHES = 500
ENDPOINTS = 5
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 46\r\n\r\nWebhook processing failed: HMAC verification f"
HERE = {"TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/8"}


def config(*receivers: Sink) -> str:
    urls = ", ".join(f"'{sink.endpoint().url}'" for sink in receivers)
    return f"webhookEndpointRegexs:\n  - expression: ^clusters/.*\n    replacements: [{urls}]\n"


def push(number: int) -> bytes:
    payload = {
        "ref": "refs/heads/main",
        "before": f"{number:040x}",
        "after": f"{number + 1:040x}",
        "created": False,
        "deleted": False,
        "forced": False,
        "commits": [{"id": f"{number + 1:040x}", "added": [], "removed": [], "modified": ["clusters/a/values.yaml"]}],
        "repository": {"id": 1, "name": "iac", "owner": {"login": "acme"}, "default_branch": "main"},
        "padding": "x" * 8000,
    }
    return orjson.dumps(payload)


async def send(daemon: Daemon, session: aiohttp.ClientSession, body: bytes) -> bool:
    """Whether GitHub was told that the delivery is taken."""
    headers = values.headers(body, SECRET, X_GitHub_Event="push")
    try:
        async with session.post(f"{daemon.url}/webhook", data=body, headers=headers) as response:
            return response.status in (200, 202)
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def boxed(directory: Path, text: str) -> AsyncIterator[Box]:
    """GitHub with a repository of this configuration, which the daemon's token may read."""
    async with sandbox.running(directory / "github") as box:
        scenes.repository(box, "acme", "iac", {"telefonistka.yaml": text})
        token = box.bot("the-bot")
        box.tokens["token"] = token
        yield box


@asynccontextmanager
async def github(directory: Path, text: str) -> AsyncIterator[str]:
    """Its address."""
    async with boxed(directory, text) as box:
        yield box.url


async def test_a_burst_with_a_kill_in_the_middle_reaches_everybody(tmp_path: Path) -> None:
    """Every push, at every endpoint, at least once; GitHub's failed ones are delivered again."""
    bodies = [push(number) for number in range(PUSHES)]
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(sinks.listening()) for _ in range(ENDPOINTS)]
        url = await stack.enter_async_context(github(tmp_path, config(*receivers)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        taken: set[bytes] = set()

        async def burst(daemon: Daemon, some: list[bytes]) -> None:
            async def one(body: bytes) -> None:
                if await send(daemon, session, body):
                    taken.add(body)
                if len(taken) == PUSHES // 2 and daemon.process.returncode is None:
                    daemon.process.kill()

            async with anyio.create_task_group() as tasks:
                for body in some:
                    tasks.start_soon(one, body)

        async with running(tmp_path / "state", url, **HERE) as daemon:
            await burst(daemon, bodies)
            with anyio.fail_after(DEADLINE):
                await daemon.process.wait()
        assert PUSHES // 2 <= len(taken) < PUSHES
        async with running(tmp_path / "state", url, **HERE) as daemon:
            with anyio.fail_after(60):
                for body in bodies:
                    if body not in taken:
                        assert await send(daemon, session, body)
                for sink in receivers:
                    while set(bodies) - set(sink.bodies):  # noqa: ASYNC110 - in another process
                        await anyio.sleep(0.05)
            assert await daemon.stop() == 0
        assert [set(sink.bodies) for sink in receivers] == [set(bodies)] * ENDPOINTS


async def telefonistka(state: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and what was said."""
    done = await anyio.run_process(
        [sys.executable, "-m", "telefonistka", "deliveries", *arguments], env=environment(state, ""), check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()


async def told(state: Path, *arguments: str) -> Any:
    code, text = await telefonistka(state, *arguments, "--json")
    assert code == 0, text
    return json.loads(text)


async def test_the_operator_sees_and_repeats(tmp_path: Path) -> None:
    """From the running daemon, and from its file after a kill; only a replay needs the daemon."""
    state = tmp_path / "state"
    async with (
        sinks.listening() as good,
        sinks.listening(BAD, BAD, sinks.OK) as wrong,
        aiohttp.ClientSession() as session,
        github(tmp_path, config(good, wrong)) as url,
    ):
        async with running(state, url, **HERE) as daemon:
            assert stat.S_IMODE(os.stat(state / "admin.sock").st_mode) == 0o660
            assert await send(daemon, session, push(1))
            await wrong.got(1)
            (dead,) = await _dead(state)
            (letter,) = dead["dead"]
            assert letter["url"] == wrong.endpoint().url
            assert "webhook secret" in letter["reason"]
            assert await told(state, "replay", dead["delivery"]) == {
                dead["delivery"]: {"letters": 1, "rerouted": False, "rearmed": False}
            }
            await wrong.got(2)
            await _dead(state)
            code, text = await telefonistka(state, "dead")
            assert code == 0
            assert wrong.endpoint().url in text
            async with session.get(f"{daemon.url}/metrics") as response:
                metrics = await response.text()
            host = wrong.endpoint().name
            asked = f'telefonistka_webhook_proxy_upstream_requests_total{{method="POST",status="400",url="{host}"}} 2.0'
            assert asked in metrics
            daemon.process.kill()
            await daemon.process.wait()
        (listed,) = await told(state, "list")
        assert (listed["delivery"], listed["dead"], listed["owed"], listed["state"]) == (
            dead["delivery"],
            1,
            0,
            "done",
        )
        shown = await told(state, "show", dead["delivery"])
        assert shown["headers"]["X-GitHub-Event"] == "push"
        assert "X-Hub-Signature-256" not in shown["headers"]
        assert "does not run" in (await telefonistka(state, "replay", dead["delivery"]))[1]
        code, text = await telefonistka(state, "show", "unknown")
        assert (code, "no such delivery" in text) == (1, True)
        async with running(state, url, **HERE):
            await told(state, "replay", dead["delivery"])
            await wrong.got(3)
            assert len(good.requests) == 1
            await told(state, "replay", dead["delivery"])
            await good.got(2)


async def _owed(state: Path) -> None:
    """Returns once it stands in the journal that the one delivery is owed to somebody."""
    with anyio.fail_after(DEADLINE):
        while not (await told(state, "list"))[0]["owed"]:
            pass


async def _dead(state: Path) -> Any:
    """What was given up, as soon as there is something."""
    with anyio.fail_after(DEADLINE):
        while not (found := await told(state, "dead")):
            pass
    return found


async def test_what_waits_for_a_host_that_is_not_allowed_any_more_is_not_sent(tmp_path: Path) -> None:
    """After a restart it is a dead letter that says why, and a replay leads to the same."""
    state = tmp_path / "state"
    async with (
        sinks.listening(sinks.BUSY) as sink,
        aiohttp.ClientSession() as session,
        github(tmp_path, config(sink)) as url,
    ):
        async with running(state, url, **HERE) as daemon:
            assert await send(daemon, session, push(1))
            await sink.got(1)
            await _owed(state)  # what has no route in the journal yet would be routed anew
            daemon.process.kill()
            await daemon.process.wait()
        before = len(sink.requests)
        async with running(state, url, **HERE, TELEFONISTKA_RELAY_ALLOWED_HOSTS="example.com"):
            for _ in range(2):
                (dead,) = await _dead(state)
                (letter,) = dead["dead"]
                assert "is no host that the operator allows" in letter["reason"]
                assert (await told(state, "replay", dead["delivery"]))[dead["delivery"]]["letters"] == 1
        assert len(sink.requests) == before


async def test_the_listener_of_the_operator_is_for_this_machine(tmp_path: Path) -> None:
    """A name that a browser could be led to by DNS is refused, and so is a form."""
    port = await _free_port()
    async with (
        github(tmp_path, "") as url,
        running(tmp_path / "state", url, TELEFONISTKA_ADMIN_LISTEN=f"127.0.0.1:{port}"),
        aiohttp.ClientSession() as session,
    ):
        at = f"http://127.0.0.1:{port}"
        async with session.get(f"{at}/deliveries") as response:
            assert (response.status, await response.json()) == (200, [])
        async with session.get(f"{at}/deliveries", headers={"Host": "evil.example.com"}) as response:
            assert response.status == 403
        async with session.post(f"{at}/deliveries/1/replay", data={"a": "b"}) as response:
            assert response.status == 415
        async with session.post(f"{at}/deliveries/1/replay", json={}) as response:
            assert response.status == 404


async def _free_port() -> int:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        return int(listener.extra(anyio.abc.SocketAttribute.local_port))
