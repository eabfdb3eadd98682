"""A text that is longer than GitHub takes, as several comments.

A text may say where it can be taken apart, by `start`; what is between two such places is never torn unless it is
itself too long. What does not even fit in several comments is left out, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from telefonistka.core import markdown

BUDGET = 65_000  # characters of a body or comment; GitHub refuses more than 65,536
PARTS = 5  # comments for one text; nobody reads more
NAMED = 10  # of the things that are left out
SHORT = 100  # characters of a name that is among them
NOTICE = 4_000  # characters for what is left out

# Neither is in content: it is made printable.
_START, _END = "\f", "\v"


@dataclass(frozen=True, slots=True)
class Section:
    """What is not torn, and what it is about, for the notice where it is left out."""

    name: str
    text: str


def start(name: str) -> str:
    """What a template writes where another section begins."""
    return f"{_START}{markdown.printable(name)}{_END}"


def whole(text: str) -> str:
    """The text in one piece, for where there is no limit."""
    return "".join(section.text for section in sections(text)).rstrip("\n") + "\n"


def sections(text: str) -> Iterator[Section]:
    """The sections with their names, the first one without; each is a paragraph of its own."""
    first, *others = text.split(_START)
    for name, _, body in (("", "", first), *(other.partition(_END) for other in others)):
        if body.strip():
            yield Section(name, body.strip("\n") + "\n\n")


def packed(text: str, head: str, again: str, notice: Callable[[Sequence[str], int], str]) -> tuple[str, ...]:
    """The comments that hold the text: each begins with `head`, all but the first go on with `again`.

    `notice` says which sections are left out, by the names of the first ones and the number of all.
    """
    room = BUDGET - NOTICE
    parts = [head]
    left_out: list[str] = []
    for section in sections(text):
        body = markdown.cut(section.text, room - len(head) - len(again))
        if not left_out and len(parts[-1]) + len(body) <= room:
            parts[-1] += body
        elif not left_out and len(parts) < PARTS:
            parts.append(head + again + body)
        else:
            left_out.append(section.name)
    if left_out:
        names = [name for name in left_out if name and len(name) <= SHORT][:NAMED]
        parts[-1] += notice(names, len(left_out))
    return tuple(part.rstrip("\n") + "\n" for part in parts)
