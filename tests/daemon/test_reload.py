"""SIGHUP: what changes without a restart, what does not, and what a mistake in the file does."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from telefonistka import serverfile
from telefonistka.live import RELOADED
from telefonistka.settings import Settings
from tests.daemon import manager
from tests.daemon.manager import Manager
from tests.daemon.test_process import Daemon, running
from tests.daemon.values import StatusBoard, pull_request, until
from tests.relay import sinks
from tests.relay.test_daemon import config, github, push, send

README = Path(__file__).parent.parent.parent / "config" / "README.md"


@dataclass
class Place:
    daemon: Daemon
    manager: Manager
    file: Path
    http: aiohttp.ClientSession

    async def reload(self, text: str) -> dict[str, Any] | None:
        """The server file has this text, and the daemon has seen it; what it logged of that last."""
        self.file.write_text(text)
        before = len(self.daemon.records())
        await self.manager.reloads(self.daemon)
        new = self.daemon.records()[before:]
        return new[-1] if new else None


@asynccontextmanager
async def placed(tmp_path: Path, github_host: str, text: str, **more: str) -> AsyncIterator[Place]:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    async with manager.listening(tmp_path) as systemd, aiohttp.ClientSession() as http:
        told = {"TELEFONISTKA_CONFIG": str(file), "NOTIFY_SOCKET": systemd.address, **more}
        async with running(tmp_path / "state", github_host, **told) as daemon:
            await systemd.hears("READY")
            yield Place(daemon, systemd, file, http)


async def test_a_reload_is_told_from_its_beginning_to_its_end(tmp_path: Path, board: StatusBoard) -> None:
    """As `Type=notify-reload` wants it, too: with the time at which it began."""
    async with placed(tmp_path, board.url, "") as place:
        begun, ended = await place.manager.reloads(place.daemon)
        assert begun["RELOADING"] == "1"
        assert int(begun["MONOTONIC_USEC"]) > 0
        assert ended["READY"] == "1"
        assert place.daemon.records()[-1]["event"] == "settings reloaded"
        assert await place.daemon.stop() == 0


async def test_the_relays_limits_change_at_once(tmp_path: Path) -> None:
    """Networks, hosts and repositories: opened, and closed again, without a restart."""
    open_ = "relay: {allowedNetworks: [127.0.0.0/8]}"
    async with (
        sinks.listening() as sink,
        github(tmp_path, config(sink)) as url,
        placed(tmp_path, url, "") as place,
    ):
        number = 0

        async def arrives() -> bool:
            """A push was relayed; else it ended, or nobody was to get it."""
            nonlocal number
            number += 1
            before = len(sink.requests)
            assert await send(place.daemon, place.http, push(number))

            async def paid() -> bool:
                async with place.http.get(f"{place.daemon.url}/metrics") as answer:
                    text = await answer.text()
                waiting = re.findall(r"^telefonistka_relay_waiting\{.*\} (\S+)$", text, re.MULTILINE)
                return not any(float(one) for one in waiting)

            await until(paid)
            return len(sink.requests) > before

        assert not await arrives()
        await place.reload(open_)
        assert await arrives()
        await place.reload("relay: {allowedNetworks: [127.0.0.0/8], allowedHosts: [example.com]}")
        assert not await arrives()
        await place.reload(open_)
        assert await arrives()
        await place.reload(f"{open_}\ngithub: {{repositories: [other/*]}}")
        assert not await arrives()


async def test_the_logs_level_changes_at_once(tmp_path: Path, board: StatusBoard) -> None:
    """In both directions."""
    async with placed(tmp_path, board.url, "") as place:
        said = []
        for number, level in enumerate(["error", "info"]):
            await place.reload(f"log: {{level: {level}}}")
            body = orjson.dumps(pull_request(number, action="edited", merged=False))
            assert await place.daemon.send(place.http, body) == 202
            said.append("delivery accepted" in [record["event"] for record in place.daemon.records()])
    assert said == [False, True]


async def test_the_operators_words_are_read_again(tmp_path: Path, board: StatusBoard) -> None:
    """A template that is broken now leaves all as it was, and so does one that cannot be read."""
    words = tmp_path / "words"
    words.mkdir()
    async with placed(tmp_path, board.url, "", TEMPLATES_PATH=str(words)) as place:
        (words / "result.md").write_text("fine\n{% if results %}\n")
        said = await place.reload("")
        assert said is not None
        assert (said["level"], said["event"]) == ("error", "the settings stay as they were")
        assert f"{words}/result.md:2: " in said["problems"][0]
        (words / "result.md").write_text("fine")
        said = await place.reload("")
        assert said is not None
        assert said["event"] == "settings reloaded"


async def test_a_mistake_leaves_all_as_it_was(tmp_path: Path, board: StatusBoard) -> None:
    """It is in the log with its place, and the daemon is ready again; what is right in the file waits, too."""
    async with placed(tmp_path, board.url, "") as place:
        said = await place.reload("log: {level: error}\nlisten: 8080\nlisen: x\n")
        assert said is not None
        assert (said["level"], said["event"]) == ("error", "the settings stay as they were")
        assert said["problems"] == [
            f"{place.file}:3:1: error: unknown key 'lisen' — did you mean 'listen'?",
        ]
        body = orjson.dumps(pull_request(1, action="edited", merged=False))
        assert await place.daemon.send(place.http, body) == 202
        assert "delivery accepted" in [record["event"] for record in place.daemon.records()]


async def test_what_needs_a_restart_is_named(tmp_path: Path, board: StatusBoard) -> None:
    """And stays as it is until then; a secret is named without what it is."""
    directory = tmp_path / "c"
    directory.mkdir()
    (directory / "approver-github-oauth-token").write_text("hunter2")
    async with placed(tmp_path, board.url, "", CREDENTIALS_DIRECTORY=str(directory)) as place:
        (directory / "approver-github-oauth-token").write_text("hunter3")
        text = "admin: {listen: 127.0.0.1:8081}\nstorage: {url: sqlite:///elsewhere.db, maxAge: 60}"
        said = await place.reload(text)
        assert said is not None
        assert (said["level"], sorted(said["settings"])) == ("warning", ["admin_listen", "approver", "database"])
        assert "hunter" not in place.daemon.log.read_text()
        place.daemon.process.send_signal(signal.SIGTERM)
        assert await place.daemon.process.wait() == 0


def test_the_reference_says_what_a_reload_changes() -> None:
    """The keys of the settings that it does, and no others."""
    section = README.read_text().split("### A reload")[1].split("\n#")[0]
    list_ = section.split("These change at once")[1].split("All others")[0]
    documented = set(re.findall(r"`([a-z]+\.(?:[a-zA-Z]+|\*))`", list_))
    assert {field.name for field in fields(Settings)} >= RELOADED
    told = {key for key in serverfile.KEYS if {key, f"{key.split('.')[0]}.*"} & documented}
    named = {
        "log.level": "log_level",
        "log.format": "log_format",
        "github.handleSelfComment": "handle_self_comment",
        "templates.path": "templates_path",
        "templates.statusUrlPath": "status_url_template",
    }
    assert {named.get(key) or re.sub(r"\.|(?=[A-Z])", "_", key).lower() for key in told} == RELOADED


@pytest.mark.parametrize(
    "settings", [{"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}]
)
async def test_what_is_meant_for_another_process_is_left_alone(
    tmp_path: Path, board: StatusBoard, settings: dict[str, str]
) -> None:
    """A shell that systemd started hands its variables on."""
    async with running(tmp_path / "state", board.url, **settings) as daemon:
        assert await daemon.stop() == 0
