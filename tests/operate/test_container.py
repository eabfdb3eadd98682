"""The container's description: the original's facts, and a health check that can tell.

Building it takes a network and buildah; how, its first lines say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.daemon.test_process import running
from tests.daemon.values import StatusBoard

ROOT = Path(__file__).parents[2]
TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Containerfile").read_text())
INSTRUCTIONS = [line.split(" ", 1) for line in TEXT.splitlines() if line and not line.startswith("#")]


@pytest.fixture
async def board() -> AsyncIterator[StatusBoard]:
    async with StatusBoard().running() as running_board:
        yield running_board


def given(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def test_it_is_started_as_the_originals() -> None:
    """https://github.com/commercetools/telefonistka: the same entry point, argument, user and directory."""
    assert (json.loads(given("ENTRYPOINT")[0]), json.loads(given("CMD")[0])) == (["telefonistka"], ["server"])
    assert (given("USER"), given("WORKDIR")) == (["1001:1001"], ["/srv"])
    assert given("VOLUME") == ["/var/lib/telefonistka"]
    assert "TELEFONISTKA_STATE_DIR=/var/lib/telefonistka" in given("ENV")[0]


def test_both_stages_have_the_base_that_is_given() -> None:
    """By an argument, which is to be a digest, so that there is no default; what is installed is locked."""
    assert given("ARG") == ["BASE"]
    assert {rest.split(" ")[0] for rest in given("FROM")} == {"${BASE}"}
    installed = [rest for rest in given("RUN") if "pip install" in rest]
    assert all("--require-hashes" in rest or "--no-index" in rest for rest in installed)
    assert len(installed) == 2


def test_only_what_is_copied_goes_into_the_build() -> None:
    """The history, secrets in a checkout and virtual environments stay where they are."""
    lines = (ROOT / ".containerignore").read_text().splitlines()
    everything, *rules = [line for line in lines if line and not line.startswith("#")]
    let_in = [rule.removeprefix("!") for rule in rules if rule.startswith("!") and not rule.endswith("/")]
    copied = [words.split()[0] for words in given("COPY") if not words.startswith("--from")]
    assert (everything, let_in) == ("*", copied)
    # A directory that is let in lets nothing else in.
    opened = [rule for rule in rules if rule.startswith("!") and rule.endswith("/")]
    assert [rules[rules.index(rule) + 1] for rule in opened] == [f"{rule[1:]}*" for rule in opened]


async def test_the_health_check_can_tell(tmp_path: Path, board: StatusBoard) -> None:
    """A daemon that runs from one that does not."""
    check = json.loads(given("HEALTHCHECK")[0].partition("CMD ")[2])
    async with running(tmp_path / "state", board.url) as daemon:
        command = [sys.executable, *(word.replace("http://127.0.0.1:8080", daemon.url) for word in check[1:])]
        assert daemon.url in command[-1]
        assert (await anyio.run_process(command, check=False)).returncode == 0
        assert await daemon.stop() == 0
        assert (await anyio.run_process(command, check=False)).returncode != 0
