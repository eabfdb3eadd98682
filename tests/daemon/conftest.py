"""A storage in a file, a clock that only tests move, and a GitHub that takes commit statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telefonistka.inbox import Inbox
from telefonistka.storage import Storage, sqlite
from tests.daemon.values import Clock, StatusBoard


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state" / "telefonistka.db"


@pytest.fixture
async def storage(database: Path) -> AsyncIterator[Storage]:
    async with sqlite.opened(database) as opened:
        yield opened


@pytest.fixture
def inbox(storage: Storage, clock: Clock) -> Inbox:
    return Inbox(storage, clock=clock, chance=lambda: 1.0)


@pytest.fixture
async def board() -> AsyncIterator[StatusBoard]:
    async with StatusBoard().running() as running:
        yield running


@pytest.fixture
def secret() -> bytes:
    return b"It's a Secret to Everybody"
