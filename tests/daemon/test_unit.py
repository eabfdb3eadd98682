"""The units of systemd/: what they allow, and the daemon as they start it, with systemd's own tools."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from subprocess import DEVNULL

import aiohttp
import anyio
import pytest
from anyio.abc import Process

from tests.daemon import manager
from tests.daemon.manager import SERVICE, SOCKET, Manager
from tests.daemon.test_process import EXIT_DEADLINE, SECRET, bodies, running, stored
from tests.daemon.values import DEADLINE, StatusBoard, headers, until
from tests.faults.place import reserved

PROGRAM = Path(sys.executable).parent / "telefonistka"
EXPOSURE = 12  # tenths; systemd's own hostnamed has 15
RESTARTS = 2
SENDERS = 8
GITHUBS_PATIENCE = 10  # seconds

# What systemd does: the socket stays open, and each daemon is told that it is meant.
KEEPER = 'for _ in $ROUNDS; do (echo $BASHPID >>"$PIDS"; export LISTEN_PID=$BASHPID; exec "$@"); done'


@pytest.fixture
def systemd_tool(request: pytest.FixtureRequest) -> None:
    """`systemd-analyze` and `systemd-socket-activate` are of Debian's package `systemd`."""
    if shutil.which("systemd-analyze") is None or shutil.which("systemd-socket-activate") is None:
        assert "CI" not in os.environ, "the package systemd is not installed; .ci/run does that"
        pytest.skip("the package systemd is not installed")


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Both, as they are where the program stands at its place."""
    installed = []
    for unit in (SERVICE, SOCKET):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/telefonistka/bin/telefonistka", str(PROGRAM)))
        installed.append(copy)
    return installed


def analysed(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.usefixtures("systemd_tool")
def test_systemd_has_nothing_to_say_about_the_units(units: list[Path]) -> None:
    """Neither an unknown name nor a program that is not there; a mistake is seen."""
    assert analysed("verify", *units) == (0, "")
    service = units[0]
    service.write_text(service.read_text() + "\n[Service]\nProtectEverything=yes\n")
    assert "'ProtectEverything'" in analysed("verify", *units)[1]


@pytest.mark.usefixtures("systemd_tool")
def test_the_service_may_do_little(units: list[Path]) -> None:
    """As systemd judges it; without one of the limits it would be too much."""
    judge = ["security", "--offline=true", f"--threshold={EXPOSURE}"]
    code, said = analysed(*judge, units[0])
    assert code == 0, said
    units[0].write_text(units[0].read_text().replace("DynamicUser=yes\n", "").replace("PrivateUsers=yes\n", ""))
    assert analysed(*judge, units[0])[0] != 0


def test_a_stop_takes_less_than_systemd_waits() -> None:
    """Else it would kill what is ending in order."""
    (patience,) = manager.told(SERVICE, "TimeoutStopSec")
    assert int(patience) > EXIT_DEADLINE


@dataclass
class Service:
    """The daemon as the unit has it, behind a socket that is somebody else's."""

    url: str
    manager: Manager
    pids: Path
    state: Path
    process: Process

    def stop(self) -> None:
        """The daemon of now is asked to end."""
        os.kill(int(self.pids.read_text().split()[-1]), signal.SIGTERM)


@asynccontextmanager
async def activated(directory: Path, github: str, *, rounds: int) -> AsyncIterator[Service]:
    """A socket of `systemd-socket-activate`, and the unit's command line on it, so many times one after the other."""
    credentials, settings, state = directory / "credentials", directory / "server.yaml", directory / "state"
    credentials.mkdir()
    (credentials / "telefonistka_github-webhook-secret").write_bytes(SECRET)
    (credentials / "telefonistka_github-oauth-token").write_text("token")
    settings.write_text(f"github: {{host: '{github}', writeInterval: 0, notifyInterval: 0}}\n")
    (watchdog,) = manager.told(SERVICE, "WatchdogSec")
    async with manager.listening(directory) as systemd:
        told = {
            "CREDENTIALS_DIRECTORY": str(credentials),
            "NOTIFY_SOCKET": systemd.address,
            "PIDS": str(directory / "pids"),
            "ROUNDS": " ".join(map(str, range(rounds))),
            "STATE_DIRECTORY": str(state),
            "WATCHDOG_USEC": f"{watchdog}000000",
        }
        with reserved() as port:
            listen = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}"]
            variables = [f"--setenv={name}={value}" for name, value in told.items()]
            line = manager.command(program=str(PROGRAM), settings=str(settings))
            with (directory / "log").open("wb") as log:
                process = await anyio.open_process(
                    [*listen, *variables, "bash", "-c", KEEPER, "keeper", *line], stdin=DEVNULL, stdout=log, stderr=log
                )
            try:
                url = f"http://127.0.0.1:{port}"
                await until(lambda: _listens(port))
                yield Service(url, systemd, directory / "pids", state, process)
            finally:
                if process.returncode is None:
                    process.kill()
                    service_pids = (directory / "pids").read_text().split()
                    for pid in service_pids[-1:]:
                        os.kill(int(pid), signal.SIGKILL)
                await process.aclose()


async def _listens(port: int) -> bool:
    """Whether the kernel has a socket there: to connect would already start the daemon."""
    wanted = f":{port:04X} 00000000:0000 0A"
    return wanted in await anyio.Path("/proc/net/tcp").read_text()


@pytest.mark.usefixtures("systemd_tool")
async def test_a_restart_refuses_no_connection(tmp_path: Path, board: StatusBoard) -> None:
    """Who connects while no daemon is there waits for the next one: every webhook is taken, and none is lost."""
    answers: list[int] = []
    sent: set[bytes] = set()
    numbers, enough = count(), anyio.Event()

    async def send(session: aiohttp.ClientSession) -> None:
        while not enough.is_set():
            (body,) = bodies([next(numbers)])
            sent.add(body)
            async with session.post(f"{service.url}/webhook", data=body, headers=headers(body, SECRET)) as answer:
                answers.append(answer.status)

    async def more() -> None:
        until_now = len(answers)
        with anyio.fail_after(DEADLINE):
            while len(answers) < until_now + 100:  # noqa: ASYNC110 - they come from eight tasks
                await anyio.sleep(0.01)

    patience = aiohttp.ClientTimeout(total=GITHUBS_PATIENCE)
    each_anew = aiohttp.TCPConnector(force_close=True)
    async with (
        activated(tmp_path, board.url, rounds=RESTARTS + 1) as service,
        aiohttp.ClientSession(timeout=patience, connector=each_anew) as session,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(SENDERS):
            tasks.start_soon(send, session)
        for _ in range(RESTARTS):
            await service.manager.hears("READY")
            await more()
            service.stop()
            with anyio.fail_after(EXIT_DEADLINE):
                await service.manager.hears("STOPPING")
        await service.manager.hears("READY")
        await more()
        enough.set()
    assert set(answers) == {202}
    assert {body for body, _ in stored(service.state)} == sent


@pytest.mark.usefixtures("systemd_tool")
async def test_the_units_command_line_tells_systemd_how_it_is(tmp_path: Path, board: StatusBoard) -> None:
    """Ready once it listens, alive, stopping; its secrets are those of the directory, and it ends with 0."""
    async with activated(tmp_path, board.url, rounds=1) as service, aiohttp.ClientSession() as session:
        async with session.get(f"{service.url}/live") as answer:
            assert answer.status == 200
        heard = await service.manager.hears("READY")
        assert heard[-1]["STATUS"].startswith("serving")
        heard += await service.manager.hears("WATCHDOG")
        service.stop()
        heard += await service.manager.hears("STOPPING")
        assert [name for notice in heard for name in notice if name != "STATUS"] == ["READY", "WATCHDOG", "STOPPING"]
        with anyio.fail_after(EXIT_DEADLINE):
            assert await service.process.wait() == 0


async def test_the_watchdog_is_told_nothing_while_the_journal_does_not_answer(
    tmp_path: Path, board: StatusBoard
) -> None:
    """Somebody else has it locked; once it is free, all is well again."""
    async with manager.listening(tmp_path) as systemd:
        told = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
        async with running(tmp_path / "state", board.url, **told) as daemon, aiohttp.ClientSession() as session:
            await systemd.hears("WATCHDOG")
            other = sqlite3.connect(tmp_path / "state" / "telefonistka.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            systemd.said()
            async with session.get(f"{daemon.url}/ready") as answer:  # which takes many of its intervals
                assert answer.status == 503
            assert len(systemd.said()) <= 1  # what the journal had answered just before
            other.execute("ROLLBACK")
            other.close()
            await systemd.hears("WATCHDOG")


async def test_the_watchdog_is_told_nothing_while_the_event_loop_stands_still(
    tmp_path: Path, board: StatusBoard
) -> None:
    """It is the loop itself that tells."""
    held = tmp_path / "held"
    async with manager.listening(tmp_path) as systemd:
        told = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
        stuck = [sys.executable, "-m", "tests.daemon.stuck", str(held), "server"]
        async with running(tmp_path / "state", board.url, command=stuck, **told) as daemon:
            await systemd.hears("WATCHDOG")
            daemon.process.send_signal(signal.SIGUSR1)
            await until(anyio.Path(held).exists)
            systemd.said()
            heard = []
            with anyio.move_on_after(1):  # ten of its intervals
                heard.append(await systemd.next())
            assert heard == []
            held.unlink()
            await systemd.hears("WATCHDOG")
