"""Unified diffs: those that `diff` itself understands, and an end to the work however two texts differ."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka.core import textdiff

LINES = st.lists(st.sampled_from(["a", "b", "c", "", "\u2028", "x\r"]), max_size=30)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))


def patched(before: str, hunks: list[str]) -> str:
    """What becomes of a text by a diff; every line of the diff must fit."""
    old = re.findall("[^\n]*\n|[^\n]+", before)
    result: list[str] = []
    at, removed = 0, False
    for line in hunks:
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            begin = int(start) - (count != "0")
            result += old[at:begin]
            at = begin
        elif line.startswith("\\"):
            result[-1:] = [result[-1].removesuffix("\n")] if not removed else result[-1:]
        else:
            removed = line[0] == "-"
            if line[0] in " -":
                assert old[at].removesuffix("\n") == line[1:]
                at += 1
            if line[0] in " +":
                result.append(line[1:] + "\n")
    return "".join(result + old[at:])


@given(TEXTS, TEXTS)
def test_a_diff_turns_one_text_into_the_other(before: str, after: str) -> None:
    """Whatever characters and line ends are in them."""
    hunks = textdiff.unified(before, after)
    assert hunks is not None
    assert patched(before, hunks) == after
    assert (hunks == []) == (before == after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "a\n"),
        ("a\n", ""),
        ("a", "a\n"),
        ("".join(f"{n}\n" for n in range(40)), "".join(f"{n}\n" for n in range(40) if n not in (3, 9, 30))),
        ("x\n" * 9, "x\n" * 4 + "y\n" + "x\n" * 5),
    ],
)
def test_it_is_the_diff_that_git_makes(tmp_path: Path, before: str, after: str) -> None:
    """Hunks, ranges and the word on a missing line end."""
    (tmp_path / "a").write_text(before)
    (tmp_path / "b").write_text(after)
    made = subprocess.run(["git", "diff", "--no-index", "a", "b"], cwd=tmp_path, capture_output=True, check=False)
    theirs = made.stdout.decode().splitlines()
    start = next(at for at, line in enumerate(theirs) if line.startswith("@@"))
    ours = textdiff.unified(before, after)
    assert ours is not None
    # git adds the line that a hunk follows to its head.
    assert ours == [line[: line.index(" @@") + 3] if line.startswith("@@") else line for line in theirs[start:]]


def test_texts_that_are_shuffled_are_not_told() -> None:
    """The work has an end; a reader of a thousand lines would not see more, either."""
    lines = [f"{n}\n" for n in range(20_000)]
    start = time.thread_time()
    assert textdiff.unified("".join(lines), "".join(reversed(lines))) is None
    assert time.thread_time() - start < 60


def test_texts_that_have_nothing_in_common_are_replaced() -> None:
    before, after = ("".join(f"{side}{n}\n" for n in range(20_000)) for side in "ab")
    hunks = textdiff.unified(before, after)
    assert hunks is not None
    assert hunks[0] == "@@ -1,20000 +1,20000 @@"
    assert len(hunks) == 40_001


def test_a_line_in_the_middle_of_a_large_text_is_found_at_once() -> None:
    lines = [f"{n}\n" for n in range(50_000)]
    hunks = textdiff.unified("".join(lines), "".join([*lines[:25_000], "new\n", *lines[25_000:]]))
    assert hunks is not None
    assert hunks[0] == "@@ -24998,6 +24998,7 @@"
    assert hunks[4] == "+new"
