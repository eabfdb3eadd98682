"""Commands as people start them: a process of its own, with its output and exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DEADLINE = 120  # seconds

Run = subprocess.CompletedProcess[str]


def telefonistka(*arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Run:
    """One run of the console script's module, without any variable of ours from outside."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "TELEFONISTKA_"))}
    return subprocess.run(
        [sys.executable, "-m", "telefonistka", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=clean | dict(env or {}),
        timeout=DEADLINE,
        check=False,
    )


def git(repo: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Alice", "-c", "user.email=alice@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(repo), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def commit(repo: Path, files: Mapping[str, str | None], message: str = "A change") -> None:
    """A commit with these files; None takes one away."""
    for name, content in files.items():
        path = repo / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    git(repo, "add", "--all")
    git(repo, "commit", "-q", "-m", message)
