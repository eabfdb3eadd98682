"""A GitHub that answers what a test scripted, over real HTTP, and a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.github.scripted import Scripted, Stopwatch


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def github() -> AsyncIterator[Scripted]:
    async with Scripted().running() as server:
        yield server


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()
