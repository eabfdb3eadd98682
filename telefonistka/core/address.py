"""Addresses of scalars in YAML: the part of yq's path language that names places.

    .image.tag   .a-b   ."a.b"   .["a.b"]   .list[0]   .list[]   .list.[]   ( … )
    .list[] | select(.name == "db").image.tag          the wildcards * and ? work in what is compared, as in yq

What belongs here: text → steps. Where the steps lead in a document is yamltext.py's business.
https://mikefarah.gitbook.io/yq/operators/traverse-read
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn


class InvalidAddress(ValueError):  # noqa: N818 - what is true of the address
    """The text is no address of the part of yq that we know; says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """The value of a mapping's key."""

    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """The item of a list, counted from 0."""

    number: int


@dataclass(frozen=True, slots=True)
class Each:
    """Every item of a list, every value of a mapping."""


@dataclass(frozen=True, slots=True)
class Select:
    """Only what has a certain text at a path below it."""

    path: tuple[Key | Index, ...]
    text: str

    def accepts(self, text: str) -> bool:
        # As yq compares: https://mikefarah.gitbook.io/yq/operators/equals
        pattern = re.escape(self.text).replace(r"\*", ".*").replace(r"\?", ".")
        return re.fullmatch(pattern, text, re.DOTALL) is not None


Step = Key | Index | Each | Select

TOKENS = re.compile(
    r"""\s*(?:
        \.(?P<name>[^\s."'\[\](){}|,;:=!?*]+)
      | \.?\[\s*"(?P<in_brackets>(?:[^"\\]|\\["\\])*)"\s*\]
      | \."(?P<quoted>(?:[^"\\]|\\["\\])*)"
      | (?P<open>\.?\[)
      | (?P<punctuation>==|[()|\]])
      | (?P<dot>\.)(?=\s*(?:==|[()|]|$))
      | "(?P<text>(?:[^"\\]|\\["\\])*)"
      | (?P<word>[^\s."'\[\](){}|,;:=!?*]+(?:\.[0-9]+)?)
    )""",
    re.VERBOSE,
)


def parse(text: str) -> tuple[Step, ...]:
    """The steps of an address; raises InvalidAddress."""
    steps = _Parser(text).address()
    if not any(isinstance(step, Key | Index | Each) for step in steps):
        raise InvalidAddress(f"{text!r} names the whole file, not a place in it")
    return steps


class _Parser:
    """Reads an address from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def address(self) -> tuple[Step, ...]:
        steps = self._pipe()
        if self.text[self.position :].strip():
            self._refuse()
        return steps

    def _pipe(self) -> tuple[Step, ...]:
        steps = self._path()
        while self._take("punctuation", "|"):
            steps += self._path()
        return steps

    def _path(self) -> tuple[Step, ...]:
        """What stands between two bars: a place, a group, a selection, and the places below it."""
        if self._take("punctuation", "("):
            steps = self._pipe()
            self._want(")")
        elif self._take("word", "select"):
            steps = (self._select(),)
        elif self._take("dot"):
            return ()
        else:
            steps = (self._place(),)
        while (step := self._place_or_none()) is not None:
            steps += (step,)
        return steps

    def _place(self) -> Step:
        if not self.text[self.position :].lstrip().startswith("."):
            self._refuse()
        return self._place_or_none() or self._refuse()

    def _place_or_none(self) -> Key | Index | Each | None:
        if (name := self._take("name")) is not None:
            return Key(name)
        for kind in ("quoted", "in_brackets"):
            if (quoted := self._take(kind)) is not None:
                return Key(_unescaped(quoted))
        if self._take("open") is None:
            return None
        if self._take("punctuation", "]"):
            return Each()
        start, number = self.position, self._take("word")
        if number is None or not (number.isascii() and number.isdecimal()):
            self._refuse(start)
        self._want("]")
        return Index(int(number))

    def _select(self) -> Select:
        self._want("(")
        start, path = self.position, self._path()
        if any(isinstance(step, Each | Select) for step in path):
            self._refuse(start)
        self._want("==")
        quoted = self._take("text")
        text = _unescaped(quoted) if quoted is not None else self._take("word")
        if text is None:
            self._refuse()
        self._want(")")
        return Select(tuple(step for step in path if isinstance(step, Key | Index)), text)

    def _take(self, kind: str, text: str | None = None) -> str | None:
        """The next token where it is of this kind and has this text; else nothing happens."""
        found = TOKENS.match(self.text, self.position)
        if found is None or found[kind] is None or text not in (None, found[kind]):
            return None
        self.position = found.end()
        return found[kind]

    def _want(self, text: str) -> None:
        if self._take("punctuation", text) is None:
            self._refuse()

    def _refuse(self, position: int | None = None) -> NoReturn:
        start = self.position if position is None else position
        rest = self.text[start:].strip()
        what = f"{rest!r} is not understood there" if rest else "it ends too early"
        raise InvalidAddress(
            f"{self.text!r} is not an address: {what}. "
            'Addresses are paths such as .image.tag, ."a.b"[0] or .list[] | select(.name == "db").tag'
        )


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
