"""`telefonistka server`: its flags, as far as the daemon does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENOUGH = {"GITHUB_WEBHOOK_SECRET": "s", "GITHUB_OAUTH_TOKEN": "t"}


def server(directory: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "telefonistka", "server", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_check_says_nothing_of_settings_that_are_right(tmp_path: Path) -> None:
    """And leaves no trace: it may be run by another user than the daemon's."""
    (tmp_path / "server.yaml").write_text("stateDir: state\n")
    assert server(tmp_path, "--check", "--config", "server.yaml", **ENOUGH) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["server.yaml"]


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    """Of the file, of what it names, and of what is missing."""
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "result.md").write_text("{% if %}")
    (tmp_path / "server.yaml").write_text("templates: {path: words}\n")
    code, said = server(tmp_path, "--check", "--config", "server.yaml", **ENOUGH)
    assert (code, "TEMPLATES_PATH: words/result.md:1: " in said) == (1, True), said
    (tmp_path / "server.yaml").write_text("lisen: x\n")
    code, said = server(tmp_path, "--check", "--config", "server.yaml")
    assert (code, "server.yaml:1:1: error: unknown key 'lisen'" in said, "GITHUB_WEBHOOK_SECRET" in said) == (
        1,
        True,
        True,
    )


def test_the_flag_comes_before_the_variable(tmp_path: Path) -> None:
    """And where only the variable is set, it counts."""
    (tmp_path / "wrong.yaml").write_text("lisen: x\n")
    (tmp_path / "right.yaml").write_text("")
    assert server(tmp_path, "--check", TELEFONISTKA_CONFIG="wrong.yaml", **ENOUGH)[0] == 1
    assert server(tmp_path, "--check", "--config", "right.yaml", TELEFONISTKA_CONFIG="wrong.yaml", **ENOUGH) == (0, "")
