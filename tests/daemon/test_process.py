"""The daemon as a process: how it starts, how it stops, and what a kill costs."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import aiohttp
import anyio
import orjson
import pytest
from anyio.abc import Process

from telefonistka.storage import State
from tests.daemon.values import DEADLINE, StatusBoard, headers, pull_request, until

SECRET = b"secret"
COMMAND = (sys.executable, "-m", "telefonistka", "server")
EXIT_DEADLINE = 10  # seconds that a supervisor gives


@dataclass
class Daemon:
    """A running daemon, as seen from outside."""

    process: Process
    url: str
    log: Path

    def records(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]

    async def send(self, session: aiohttp.ClientSession, body: bytes) -> int:
        """The status of a delivery, 0 where there was no answer."""
        try:
            async with session.post(f"{self.url}/webhook", data=body, headers=headers(body, SECRET)) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        with anyio.fail_after(EXIT_DEADLINE):
            return await self.process.wait()


def environment(state: Path, github: str, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "GITHUB_WEBHOOK_SECRET": SECRET.decode(),
        "GITHUB_OAUTH_TOKEN": "token",
        "GITHUB_HOST": github,
        "TELEFONISTKA_LISTEN": "127.0.0.1:0",
        "TELEFONISTKA_STATE_DIR": str(state),
        "TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0",
        "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "0",
        **more,
    }


@asynccontextmanager
async def running(state: Path, github: str, *, command: Sequence[str] = COMMAND, **more: str) -> AsyncIterator[Daemon]:
    """A daemon that listens; killed at the end where it still runs."""
    log = state.with_suffix(".log")
    with log.open("wb") as stderr:
        process = await anyio.open_process(
            command, stdin=DEVNULL, stdout=DEVNULL, stderr=stderr, env=environment(state, github, **more)
        )
    try:
        daemon = Daemon(process, "", log)

        async def listening() -> bool:
            assert process.returncode is None, log.read_text()
            return any(record["event"] == "listening" for record in daemon.records())

        await until(listening)
        (port,) = (record["port"] for record in daemon.records() if record["event"] == "listening")
        daemon.url = f"http://127.0.0.1:{port}"
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


def bodies(numbers: Iterable[int]) -> list[bytes]:
    """Deliveries that ask for nothing, so that each is done without a call."""
    return [orjson.dumps(pull_request(number, action="edited", merged=False)) for number in numbers]


def stored(state: Path) -> list[tuple[bytes, State]]:
    connection = sqlite3.connect(state / "telefonistka.db")
    try:
        return [(body, State(number)) for body, number in connection.execute("SELECT body, state FROM inbox")]
    finally:
        connection.close()


async def test_it_answers_and_stops_when_asked(tmp_path: Path, board: StatusBoard) -> None:
    """Exit code 0, logs as JSON lines on stderr."""
    async with running(tmp_path / "state", board.url) as daemon, aiohttp.ClientSession() as session:
        async with session.get(f"{daemon.url}/ready") as response:
            assert (response.status, await response.json()) == (200, {"status": "up"})
        assert await daemon.stop() == 0
        assert [record["event"] for record in daemon.records()] == ["listening", "stopping", "stopped"]


async def test_a_stop_under_load_loses_nothing(tmp_path: Path, board: StatusBoard) -> None:
    """Every delivery was either acknowledged and is there, or GitHub knows that it failed."""
    acknowledged: list[bytes] = []
    answers: list[int] = []
    enough = anyio.Event()

    async with running(tmp_path / "state", board.url) as daemon, aiohttp.ClientSession() as session:

        async def send(body: bytes) -> None:
            status = await daemon.send(session, body)
            answers.append(status)
            if status == 202:
                acknowledged.append(body)
            if len(acknowledged) == 100:
                enough.set()

        async with anyio.create_task_group() as tasks:
            for body in bodies(range(1000)):
                tasks.start_soon(send, body)
            with anyio.fail_after(DEADLINE):
                await enough.wait()
            assert await daemon.stop() == 0
    assert set(answers) <= {202, 0}
    assert set(acknowledged) <= {body for body, _ in stored(tmp_path / "state")}


async def acknowledged_until_kill(daemon: Daemon, waiting: Collection[bytes], enough: int) -> set[bytes]:
    """What the daemon took before it was killed in the middle of taking more."""
    acknowledged: set[bytes] = set()
    killed = anyio.Event()

    async def send(body: bytes) -> None:
        if await daemon.send(session, body) in (200, 202):
            acknowledged.add(body)
        if len(acknowledged) >= enough and not killed.is_set():
            killed.set()
            daemon.process.kill()

    async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
        for body in waiting:
            tasks.start_soon(send, body)
    await daemon.process.wait()
    return acknowledged


async def test_kill_and_restart_lose_nothing_and_repeat_nothing(tmp_path: Path, board: StatusBoard) -> None:
    """What was not acknowledged is sent again, as from GitHub's list; each is there once, and is done."""
    state, waiting = tmp_path / "state", set(bodies(range(300)))
    for enough in (100, 50):
        async with running(state, board.url) as daemon:
            waiting -= await acknowledged_until_kill(daemon, waiting, enough)
    assert waiting

    async def done() -> bool:
        return {number for _, number in stored(state)} == {State.DONE}

    async with running(state, board.url) as daemon, aiohttp.ClientSession() as session:
        for body in waiting:
            assert await daemon.send(session, body) in (200, 202)
        await until(done)
    assert sorted(body for body, _ in stored(state)) == sorted(bodies(range(300)))


async def test_a_stop_lets_the_call_under_way_end(tmp_path: Path, board: StatusBoard) -> None:
    """And begins no other: the rest is done by the next process, without the call that was made."""
    board.gate = anyio.Event()
    body = orjson.dumps(pull_request())
    async with running(tmp_path / "state", board.url) as daemon, aiohttp.ClientSession() as session:
        assert await daemon.send(session, body) == 202
        with anyio.fail_after(DEADLINE):
            await board.asked.wait()
        daemon.process.terminate()

        async def stopping() -> bool:
            return any(record["event"] == "stopping" for record in daemon.records())

        await until(stopping)
        calls = list(board.calls)
        board.gate.set()
        with anyio.fail_after(EXIT_DEADLINE):
            assert await daemon.process.wait() == 0
    assert board.calls == calls
    assert board.statuses == [("pending", "Working on it")]
    assert stored(tmp_path / "state") == [(body, State.WAITING)]
    async with running(tmp_path / "state", board.url):

        async def told() -> bool:
            return len(board.statuses) == 2

        await until(told)
    assert [state for state, _ in board.statuses] == ["pending", "error"]


async def test_a_call_that_never_ends_does_not_hold_up_the_stop(tmp_path: Path, board: StatusBoard) -> None:
    """Supervisors kill after ten seconds."""
    board.gate = anyio.Event()
    async with running(tmp_path / "state", board.url) as daemon, aiohttp.ClientSession() as session:
        assert await daemon.send(session, orjson.dumps(pull_request())) == 202
        with anyio.fail_after(DEADLINE):
            await board.asked.wait()
        assert await daemon.stop() == 0
    board.gate.set()


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (
            {"GITHUB_WEBHOOK_SECRET": "", "GITHUB_OAUTH_TOKEN": "", "TELEFONISTKA_LISTEN": "x"},
            ["GITHUB_WEBHOOK_SECRET", "GITHUB_OAUTH_TOKEN", "TELEFONISTKA_LISTEN"],
        ),
        ({"GITHUB_APP_ID": "1", "GITHUB_APP_PRIVATE_KEY_PATH": "{tmp}/key.pem"}, ["GITHUB_APP_PRIVATE_KEY_PATH"]),
        ({"TELEFONISTKA_GITHUB_CA_FILE": "{tmp}/key.pem"}, ["TELEFONISTKA_GITHUB_CA_FILE"]),
        ({"TELEFONISTKA_LISTEN": "192.0.2.1:1"}, ["TELEFONISTKA_LISTEN"]),
        ({"TELEFONISTKA_STORAGE_URL": "sqlite://{tmp}/key.pem"}, ["key.pem cannot be opened"]),
    ],
)
async def test_what_is_wrong_ends_it_at_the_start(
    tmp_path: Path, board: StatusBoard, wrong: dict[str, str], names: list[str]
) -> None:
    """Exit code 1 and sentences, no traceback."""
    key = "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\n" + "not really\n" * 100
    await anyio.Path(tmp_path, "key.pem").write_text(key)
    given = {name: value.format(tmp=tmp_path) for name, value in wrong.items()}
    ended = await anyio.run_process(
        [sys.executable, "-m", "telefonistka", "server"],
        env=environment(tmp_path / "state", board.url, **given),
        check=False,
    )
    text = ended.stderr.decode()
    assert (ended.returncode, "Traceback" in text) == (1, False), text
    assert [name for name in names if name not in text] == []


async def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path, board: StatusBoard) -> None:
    """The first goes on."""
    async with running(tmp_path / "state", board.url) as daemon:
        ended = await anyio.run_process(
            [sys.executable, "-m", "telefonistka", "server"],
            env=environment(tmp_path / "state", board.url),
            check=False,
        )
        assert (ended.returncode, b"in use by another process" in ended.stderr) == (1, True), ended.stderr
        assert await daemon.stop() == 0


async def test_the_operators_words_are_checked_at_the_start(tmp_path: Path, board: StatusBoard) -> None:
    """A broken template ends it with file and line; the original's are named in a warning, and so is a broken link."""
    words, link = tmp_path / "words", tmp_path / "link.gotmpl"
    words.mkdir()
    (words / "drift-pr-comment.gotmpl").write_text("{{ define }}")
    (words / "result.md").write_text("fine\n{% if results %}\n")
    link.write_text("https://logs.example.com/{{.CommitSha}}")
    told = {"TEMPLATES_PATH": f"{words}/", "CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH": str(link)}
    process = await anyio.run_process(
        [sys.executable, "-m", "telefonistka", "server"],
        env=environment(tmp_path / "state", board.url, **told),
        check=False,
    )
    assert process.returncode == 1
    assert f"TEMPLATES_PATH: {words}/result.md:2: " in process.stderr.decode()
    (words / "result.md").write_text("fine")
    async with running(tmp_path / "state", board.url, **told) as daemon:
        warnings = [one for one in daemon.records() if one["level"] == "warning"]
        assert [one.get("files", one.get("reason")) for one in warnings] == [
            ["drift-pr-comment.gotmpl"],
            "line 1: '{{.CommitSha}}' is not understood",
        ]
