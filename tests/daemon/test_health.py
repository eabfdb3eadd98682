"""/ready: red with its reason where the daemon cannot do its work, green again when it can."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import anyio
import anyio.abc
import orjson
import pytest

from telefonistka.sandbox import scenes
from telefonistka.sandbox import server as sandbox
from tests.daemon.test_process import Daemon, running
from tests.daemon.values import StatusBoard, pull_request, until

SMALL = 40  # megabytes; the storage wants 32 to be free


async def health(daemon: Daemon, path: str = "/ready") -> tuple[int, list[str]]:
    async with aiohttp.ClientSession() as session, session.get(f"{daemon.url}{path}") as answer:
        found = await answer.json()
        assert found["status"] == ("down" if found.get("reasons") else "up")
        return answer.status, found.get("reasons", [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "tmpfs", place], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted: {made.stderr}")
    yield place
    subprocess.run(["umount", place], check=True)


async def test_a_full_disk_makes_it_unready(small_disk: Path, board: StatusBoard) -> None:
    """Before the last byte is gone; deliveries are refused when it is, and taken again when there is room."""
    body = orjson.dumps(pull_request(1, action="edited", merged=False))
    async with running(small_disk / "state", board.url) as daemon, aiohttp.ClientSession() as http:
        assert await health(daemon) == (200, [])
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            file.write(bytes(20 << 20))
        status, (reason,) = await health(daemon)
        assert (status, reason.split(" MB")[0][:-2]) == (503, "the storage does not work: only ")
        with filler.open("ab", buffering=0) as file:
            while shutil.disk_usage(small_disk).free:
                file.write(bytes(4096))
        assert await daemon.send(http, body) == 503
        assert (await health(daemon, "/live"))[0] == 200
        filler.unlink()
        assert await daemon.send(http, body) == 202
        assert not [reason for reason in (await health(daemon))[1] if "storage" in reason]
        assert await daemon.stop() == 0


async def test_a_journal_that_does_not_answer_makes_it_unready(tmp_path: Path, board: StatusBoard) -> None:
    """The probe gets an answer all the same."""
    async with running(tmp_path / "state", board.url) as daemon:
        other = sqlite3.connect(tmp_path / "state" / "telefonistka.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert await health(daemon) == (503, ["the storage does not answer within 3 s"])
        assert await health(daemon, "/live") == (200, [])
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: ready(daemon))


@pytest.mark.parametrize(
    ("wrong", "whose"), [("GITHUB_OAUTH_TOKEN", "our"), ("APPROVER_GITHUB_OAUTH_TOKEN", "the approver's")]
)
async def test_a_token_that_is_wrong_makes_a_new_installation_unready(tmp_path: Path, wrong: str, whose: str) -> None:
    """Soon after its start, before GitHub has sent anything; the log says what GitHub said."""
    async with sandbox.running(tmp_path / "github") as box:
        tokens = {
            "GITHUB_OAUTH_TOKEN": box.bot("the-bot").value,
            "APPROVER_GITHUB_OAUTH_TOKEN": box.bot("the-approver").value,
        }
        async with running(tmp_path / "state", box.url, **tokens | {wrong: "ghp_wrong"}) as daemon:

            async def refused() -> bool:
                return await health(daemon) == (503, [f"GitHub does not accept {whose} credentials"])

            await until(refused)
            (told,) = [record for record in daemon.records() if record["event"] == "GitHub refuses our credentials"]
            assert "401" in told["reason"]
            assert "ghp_wrong" not in daemon.log.read_text()
            assert await daemon.stop() == 0


async def test_a_github_that_does_not_answer_holds_up_no_start(tmp_path: Path) -> None:
    """Nor a stop: whether it knows us shows once it says so."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:  # connections wait there for ever
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        async with running(tmp_path / "state", f"http://127.0.0.1:{port}") as daemon:
            assert await health(daemon) == (200, [])
            assert await daemon.stop() == 0


async def test_a_token_that_was_revoked_makes_it_unready(tmp_path: Path) -> None:
    """From GitHub's next answer on, until it takes it again."""
    async with sandbox.running(tmp_path / "github") as box, aiohttp.ClientSession() as http:
        scenes.repository(box, "acme", "infra", {"README.md": "1"})
        token = box.bot("the-bot")
        async with running(tmp_path / "state", box.url, GITHUB_OAUTH_TOKEN=token.value) as daemon:
            assert await health(daemon) == (200, [])
            del box.tokens[token.value]
            assert await daemon.send(http, orjson.dumps(pull_request(1, merged=True))) == 202

            async def refused() -> bool:
                return await health(daemon) == (503, ["GitHub does not accept our credentials"])

            await until(refused)
            box.tokens[token.value] = token
            assert await daemon.send(http, orjson.dumps(pull_request(2, merged=True))) == 202
            await until(lambda: ready(daemon))


async def ready(daemon: Daemon) -> bool:
    return await health(daemon) == (200, [])
