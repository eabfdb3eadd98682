"""The benchmarks run: everything that they start works together. Their figures here say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import help as helps
from tests.bench import intake, relay, start


async def test_the_relays_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain and saturated, each for a moment."""
    await relay.measure(relay.Scale(blocks=1, seconds=0.2, burst=400, queued=10), tmp_path, ["bad", "full"])
    text = capsys.readouterr().out
    assert "beside 4 bad" in text
    assert "400 deliveries" in text


async def test_the_intakes_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every answer was a 202, and all of them are on disk."""
    await intake.measure(tmp_path, most=200, half=0.2)
    assert capsys.readouterr().out.count("on disk") == len(intake.KINDS)


def test_the_starts_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, and it has said how much memory that took."""
    start.measure(tmp_path, runs=1, idle=0)
    assert "resident memory" in capsys.readouterr().out


def test_the_helps_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, beside the bare interpreter; how long it may take is no matter of this run."""
    helps.measure(runs=1)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["python", "--help"]
