"""What systemd is to a service that it started: somebody who listens to it, and a reader of its unit file."""

from __future__ import annotations

import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute, UNIXDatagramSocket

from tests.daemon.test_process import Daemon
from tests.daemon.values import DEADLINE

SERVICE = Path(__file__).parent.parent.parent / "systemd" / "telefonistka.service"
SOCKET = SERVICE.with_suffix(".socket")

Notice = dict[str, str]


@dataclass
class Manager:
    """https://www.freedesktop.org/software/systemd/man/252/sd_notify.html"""

    address: str
    socket: UNIXDatagramSocket

    async def next(self) -> Notice:
        """The next notice, by names."""
        with anyio.fail_after(DEADLINE):
            text, _ = await self.socket.receive()
        return _read(text)

    def said(self) -> list[Notice]:
        """What was said already, and is heard only now."""
        raw, found = self.socket.extra(SocketAttribute.raw_socket), []
        with suppress(BlockingIOError):
            while True:
                found.append(_read(raw.recv(4096)))
        return found

    async def hears(self, name: str) -> list[Notice]:
        """The notices up to one that says this."""
        heard = [await self.next()]
        while name not in heard[-1]:
            heard.append(await self.next())
        return heard

    async def reloads(self, daemon: Daemon) -> list[Notice]:
        """What the daemon said of a reload, which has ended."""
        daemon.process.send_signal(signal.SIGHUP)
        return await self.hears("READY")


def _read(text: bytes) -> Notice:
    return dict(line.split("=", 1) for line in text.decode().splitlines())


@asynccontextmanager
async def listening(directory: Path) -> AsyncIterator[Manager]:
    path = directory / "notify"
    async with await anyio.create_unix_datagram_socket(local_path=path) as socket:
        yield Manager(str(path), socket)


def told(unit: Path, name: str) -> list[str]:
    """What a unit file says under this name."""
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def command(**places: str) -> list[str]:
    """The service's command line, with other places than on a machine where it is installed."""
    (line,) = told(SERVICE, "ExecStart")
    for place, ours in places.items():
        wanted = {"program": "/opt/telefonistka/bin/telefonistka", "settings": "/etc/telefonistka/server.yaml"}[place]
        assert line.count(wanted) == 1, line
        line = line.replace(wanted, ours)
    return shlex.split(line)
