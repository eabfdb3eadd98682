"""Every console block of README does what it says, but `make test`, which would run this test."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEADLINE = 300  # seconds for one block; `make demo` may have to install first
RUNS_ON = re.compile(rb"its log|\"event\":\"listening\"")  # said last by what waits to be stopped
INTERRUPTED = (0, -signal.SIGINT)  # make ends itself by the signal, whatever its command makes of it


def blocks() -> list[str]:
    """The commands of each console block, one line each."""
    found = re.findall(r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = ["\n".join(line[2:] for line in block.splitlines() if line.startswith("$ ")) for block in found]
    return [block for block in commands if block != "make test"]


def run(block: str, temporary: Path) -> tuple[bool, bytes]:
    """Whether a block ended well, and its output; what waits for Ctrl-C gets it."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TELEFONISTKA_LISTEN": "127.0.0.1:0",
        "TMPDIR": str(temporary),
    }
    process = subprocess.Popen(
        ["bash", "-e", "-c", block],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    output, asked, until = b"", False, time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < until:
            if selector.select(timeout=1):
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                output += chunk
            if not asked and RUNS_ON.search(output):
                os.killpg(process.pid, signal.SIGINT)
                asked = True
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    return process.wait(timeout=30) in (INTERRUPTED if asked else (0,)), output


@pytest.mark.parametrize("block", blocks())
def test_a_console_block_works(block: str, tmp_path: Path) -> None:
    """It ends well, by itself or after Ctrl-C."""
    ended_well, output = run(block, tmp_path)
    assert ended_well, output.decode(errors="replace")


def test_readme_has_blocks() -> None:
    """So that the test above cannot pass by finding none."""
    assert "make demo" in blocks()
    assert any("telefonistka server" in block for block in blocks())
