"""What a comment asks of us: its first line as one of our commands, or as a word that toggles a commit status.

Only the whole first line counts, so that a sentence about a command is not one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

NAME = "/telefonistka"

_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.IGNORECASE)  # as short as GitHub shows one


class Act(StrEnum):
    """What can be asked for by name."""

    PLAN = "plan"
    DRIFT = "drift"
    PROMOTE = "promote"
    RETRIGGER = "retrigger"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Command:
    """One of our own, and the head that it is meant for, where it says so."""

    act: Act
    head: str = ""


@dataclass(frozen=True, slots=True)
class Toggle:
    """A word that may be configured to toggle the commit status of a context."""

    word: str
    head: str = ""

    def context(self, configured: Mapping[str, str]) -> str | None:
        """The status' context; None: the word is not configured."""
        return configured.get(self.word)


@dataclass(frozen=True, slots=True)
class Unclear:
    """It is addressed to us, and we do not know what it asks."""

    text: str


def parse(body: str) -> Command | Toggle | Unclear | None:
    """What the first line of a comment asks for; None: nothing of us."""
    line = first_line(body)
    if not line.startswith("/"):
        return None
    words = line.split()
    if words[0] == NAME:
        return _named(words[1:], line)
    if words[0] == f"/{Act.RETRIGGER}":
        return _command(Act.RETRIGGER, words[1:], line)
    last = words[-1]
    # A configured word may have spaces in it.
    if len(words) > 1 and _COMMIT.fullmatch(last):
        return Toggle(line.removeprefix("/").removesuffix(last).rstrip(), last.lower())
    return Toggle(line.removeprefix("/"))


def first_line(body: str) -> str:
    return body.split("\n", 1)[0].strip()


def _named(words: list[str], line: str) -> Command | Unclear:
    if not words:
        return Command(Act.HELP)
    try:
        act = Act(words[0])
    except ValueError:
        return Unclear(line)
    return _command(act, words[1:], line)


def _command(act: Act, words: list[str], line: str) -> Command | Unclear:
    if not words:
        return Command(act)
    if len(words) == 1 and _COMMIT.fullmatch(words[0]):
        return Command(act, words[0].lower())
    return Unclear(line)


def toggled(state: str) -> str:
    """What a status becomes: a success a failure, anything else a success."""
    return "failure" if state == "success" else "success"
