"""What every command says of itself, compared as a whole, and how errors, colours and progress reach people.

After a change of a text: `python -m tests.cli.test_help` writes the golden files anew; look at what changed.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from telefonistka import __version__
from telefonistka.cli import commands
from tests.cli.shell import git, telefonistka

GOLDEN = Path(__file__).parent / "help"
SHELLS = ("bash", "zsh", "fish")


def names(group: click.Group = commands, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, by the words that call it."""
    yield before
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from names(command, (*before, name))
        else:
            yield (*before, name)


def golden(words: tuple[str, ...]) -> Path:
    return GOLDEN / f"{'-'.join(('telefonistka', *words))}.txt"


@pytest.mark.parametrize("words", list(names()), ids="-".join)
def test_help_is_what_it_was(words: tuple[str, ...]) -> None:
    """As a process, eighty characters wide."""
    done = telefonistka(*words, "--help")
    assert (done.stdout, done.stderr, done.returncode) == (golden(words).read_text(), "", 0)


def test_help_costs_nothing_that_it_does_not_need() -> None:
    """What takes long to import is imported by the commands that use it; the bench beside this says what that saves."""
    asked = "import sys; from telefonistka import cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "anyio", "asyncio", "gidgethub", "jinja2", "pydantic", "re2", "ruamel", "sqlite3", "structlog"}
    assert heavy & set(done.stdout.split()) == set()


def test_every_golden_file_has_its_command() -> None:
    assert set(GOLDEN.iterdir()) == {golden(words) for words in names()}


@pytest.mark.parametrize("words", [words for words in names() if words], ids="-".join)
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    """In its own text, or in its group's."""
    texts = [golden(words[:count]).read_text().partition("\n")[2] for count in range(1, len(words) + 1)]
    assert any(f"telefonistka {' '.join(words)}" in text for text in texts)


def test_help_is_a_command_too() -> None:
    """As in the original; without a command nothing fails."""
    assert telefonistka("help", "deliveries", "show").stdout == golden(("deliveries", "show")).read_text()
    assert telefonistka("help").stdout == telefonistka().stdout == golden(()).read_text()
    assert telefonistka().returncode == 0
    nothing = telefonistka("help", "nothing")
    assert (nothing.returncode, nothing.stderr) == (1, "telefonistka: there is no command 'nothing'\n")


def test_the_version_is_said() -> None:
    """As the original says it, by either option."""
    for option in ("--version", "-v"):
        assert telefonistka(option).stdout == f"telefonistka version {__version__}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_what_the_shell_reads(shell: str) -> None:
    """Each shell's own syntax; whichever of them is installed reads it."""
    done = telefonistka("completion", shell)
    assert done.returncode == 0, done.stderr
    assert "_TELEFONISTKA_COMPLETE" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True, capture_output=True)


def test_completion_knows_commands_and_options() -> None:
    """Asked as bash asks."""
    asking = {"_TELEFONISTKA_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    found = telefonistka(env={**asking, "COMP_WORDS": "telefonistka bump"}).stdout.split()
    assert found == ["plain,bump-overwrite", "plain,bump-regex", "plain,bump-yaml"]
    options = telefonistka(env={**asking, "COMP_WORDS": "telefonistka plan --m", "COMP_CWORD": "2"}).stdout.split()
    assert options == ["plain,--mermaid"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["check", "--nope"], "No such option"),
        (["plan", "one-too-many"], "Got unexpected extra argument"),
        (["plan", "--diff", "--json"], "Give one of --diff, --mermaid and --json"),
        (["bump-yaml", "-t", "no-slash", "--edit", "a", ".b", "c"], "give it as owner/name"),
        (["doctor", "--repo", "no-slash"], "give it as owner/name"),
    ],
)
def test_a_usage_error_exits_one(arguments: list[str], says: str) -> None:
    """As in the original, where click's own code would be 2."""
    done = telefonistka(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    """And without it there is a sentence alone."""
    git(tmp_path, "init", "-q")
    plain, debug = telefonistka("plan", cwd=tmp_path), telefonistka("--debug", "plan", cwd=tmp_path)
    assert plain.returncode == debug.returncode == 1
    assert plain.stderr.startswith("telefonistka: . has no commit called 'main'")
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert debug.stderr.endswith(plain.stderr)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A clone whose git takes its time, and a rule that says no."""
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "telefonistka.yaml").write_text("promotionPaths: [{sourcePath: lab/, promotionPrs: []}]\n")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "-q", "-m", "First")
    wrapper = tmp_path / ".bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\n[ "$3" = merge-base ] && sleep 2\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    return tmp_path


def looked_at(*arguments: str, cwd: Path, **variables: str) -> str:
    """What a terminal gets that somebody looks at: stdout and stderr together."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PATH": f"{cwd / '.bin'}{os.pathsep}{os.environ['PATH']}", **variables}
    command = [sys.executable, "-m", "telefonistka", *arguments]
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed, as Linux says it
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    process.wait(timeout=30)
    return seen.decode()


def test_a_terminal_sees_what_takes_so_long(slow: Path) -> None:
    """After a second, on one line that is gone in the end; a pipe sees nothing of it."""
    assert re.search(r"\rplanning … 1 s.*\r\x1b\[K", looked_at("plan", cwd=slow), re.DOTALL)
    path = f"{slow / '.bin'}{os.pathsep}{os.environ['PATH']}"
    assert telefonistka("plan", cwd=slow, env={"PATH": path}).stderr == ""


def test_colours_are_for_terminals_only(slow: Path) -> None:
    """And not where NO_COLOR is set: https://no-color.org"""
    assert "\x1b[1m" in looked_at("explain", "lab/a/v", cwd=slow)
    assert "\x1b[" not in looked_at("explain", "lab/a/v", cwd=slow, NO_COLOR="1")
    assert "\x1b[" not in telefonistka("explain", "lab/a/v", cwd=slow).stdout


if __name__ == "__main__":
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    for one in names():
        golden(one).write_text(telefonistka(*one, "--help").stdout)
