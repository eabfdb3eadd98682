"""Regular expressions and replacement templates that mean what they mean to Go's regexp package.

RE2 does the matching, in time linear in the text; the templates are expanded here. Nothing else imports re2.
A text may hold what `surrogateescape` made of bytes that are no UTF-8: as in Go, each such byte is one character
that `.` matches, and it comes out as it went in.

Syntax: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import re2

MEMORY = 4 << 20  # bytes of a program and its automaton; beyond, the search turns slower, never wrong
SET_MEMORY = 64 << 20  # bytes; room for a thousand hard expressions at once
PROGRAM = 50_000  # instructions; an expression that people write has some hundred
EXPRESSIONS = 5_000  # in one file; each costs some 20 µs to compile
PROGRAMS = 500_000  # instructions of all expressions of a file: 10 MB
KEPT = 2_000  # compiled expressions; some ten repositories with large configurations
_REPLACEMENT: Final = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


class InvalidPattern(ValueError):  # noqa: N818 - what is true of the pattern
    """The text is no regular expression to RE2; says why."""


class TooLarge(InvalidPattern):
    """The expression would take more memory than anybody's expression should."""


@functools.lru_cache(maxsize=KEPT)
def compile(expression: str) -> Pattern:  # noqa: A001 - as re.compile
    """The expression, ready to search; raises InvalidPattern."""
    return Pattern(expression)


class Pattern:
    """A compiled expression."""

    __slots__ = ("_names", "_regexp", "groups", "size", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._regexp = _compiled(text)
        self._names: dict[str, int] = {name.decode(): number for name, number in self._regexp.groupindex.items()}
        self.groups: int = self._regexp.groups
        self.size: int = self._regexp.programsize
        if self.size > PROGRAM:
            raise TooLarge("expression is too large")

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def search(self, text: str) -> Match | None:
        """The leftmost match, of several there the one that Perl would prefer."""
        data = _encoded(text)
        found = self._regexp.search(data)
        return None if found is None else self._match(text, data, found, byte=0, character=0)

    def replace_all(self, text: str, template: str) -> str:
        """The text with the expanded template in place of every match; what lies between the matches stays."""
        data = _encoded(text)
        pieces = []
        position = last = character = 0  # bytes, bytes, and the character at byte `last`
        while position <= len(data) and (found := self._regexp.search(data, position)):
            match = self._match(text, data, found, byte=last, character=character)
            start, end = found.span()
            pieces.append(text[character : match.start()])
            # An empty match right after a match is none: https://pkg.go.dev/regexp#pkg-overview
            if end > last or start == 0:
                pieces.append(match.expand(template))
            last, character = end, match.end()
            position = end if end > position else position + _width(data, position)
        pieces.append(text[character:])
        return "".join(pieces)

    def _match(self, text: str, data: bytes, found: re2._Match, *, byte: int, character: int) -> Match:
        """`found` in characters, counted from a place that is known in both."""

        def place(offset: int) -> int:
            return offset if offset < 0 else character + len(data[byte:offset].decode())

        spans = tuple(map(found.span, range(self.groups + 1)))
        if len(data) != len(text):
            spans = tuple((place(start), place(end)) for start, end in spans)
        return Match(text=text, spans=spans, names=self._names)


@dataclass(slots=True)
class Budget:
    """What the expressions of one file may still cost."""

    expressions: int = EXPRESSIONS
    instructions: int = PROGRAMS

    @property
    def is_spent(self) -> bool:
        return self.expressions < 0 or self.instructions < 0

    def compile(self, expression: str) -> None:
        """Compile and count; once too much is spent, nothing more is compiled: the file is refused."""
        if self.is_spent:
            return
        self.expressions -= 1
        try:
            self.instructions -= compile(expression).size
        except TooLarge:
            self.instructions -= PROGRAM  # the attempt is what costs
            raise
        if self.is_spent:
            raise ValueError("the expressions of this file are too many or too large together")


class Choice:
    """Several expressions, of which the first that matches a text counts; they are searched all at once."""

    __slots__ = ("_patterns", "_set")

    def __init__(self, expressions: Iterable[str]) -> None:
        self._patterns = tuple(map(compile, expressions))
        self._set = _set(self._patterns)

    def first(self, text: str) -> int | None:
        """The number of the first expression that matches; None: none does."""
        if self._set is not None:
            found = self._set.Match(_encoded(text))
            return min(found) if found else None
        return next((number for number, pattern in enumerate(self._patterns) if pattern.search(text)), None)


def _set(patterns: tuple[Pattern, ...]) -> re2.Set | None:
    """All expressions as one automaton; None if there is no use for one, or no room."""
    if len(patterns) < 2:
        return None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = SET_MEMORY
    together = re2.Set.SearchSet(options)
    try:
        for pattern in patterns:
            together.Add(pattern.text.encode())
        together.Compile()
    except re2.error:
        return None
    return together


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Where an expression matched. Group 0 is all of it; offsets are those of the text that was searched."""

    text: str
    spans: tuple[tuple[int, int], ...]
    names: dict[str, int]

    def start(self, n: int = 0) -> int:
        return self.spans[n][0]

    def end(self, n: int = 0) -> int:
        return self.spans[n][1]

    def group(self, n: int = 0) -> str | None:
        """The group's text; None if the group took no part in the match."""
        start, end = self.spans[n]
        return None if start < 0 else self.text[start:end]

    def expand(self, template: str) -> str:
        """The template with `$1`, `${1}` and `${name}` filled; what names no group is empty."""
        return "".join(part if isinstance(part, str) else self._filled(part) for part in _parts(template))

    def _filled(self, reference: _Reference) -> str:
        number = self.names.get(reference.name) if reference.number is None else reference.number
        if number is None or number >= len(self.spans):
            return ""
        return self.group(number) or ""


class _Reference(NamedTuple):
    name: str
    number: int | None


@functools.lru_cache(maxsize=KEPT)
def _parts(template: str) -> tuple[str | _Reference, ...]:
    """Literal text and references to groups: https://pkg.go.dev/regexp#Regexp.Expand"""
    parts: list[str | _Reference] = []
    before, dollar, rest = template.partition("$")
    while dollar:
        parts.append(before)
        if rest.startswith("$"):
            parts.append("$")
            rest = rest[1:]
        elif (reference := _reference(rest)) is None:
            parts.append("$")
        else:
            part, length = reference
            parts.append(part)
            rest = rest[length:]
        before, dollar, rest = rest.partition("$")
    parts.append(before)
    return tuple(part for part in parts if part)


def _reference(text: str) -> tuple[_Reference, int] | None:
    """The name that follows a dollar, and how many characters it takes; None if there is none."""
    brace = int(text.startswith("{"))
    end = brace
    while end < len(text) and _is_word(text[end]):
        end += 1
    name = text[brace:end]
    if not name or (brace and not text.startswith("}", end)):
        return None
    is_number = name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") and len(name) < 9
    return _Reference(name, int(name) if is_number else None), end + brace


def _is_word(character: str) -> bool:
    return character == "_" or character.isalpha() or unicodedata.category(character) == "Nd"


def _compiled(text: str) -> re2._Regexp:
    if any(token.kind == "byte" for token in tokens(text)):
        raise InvalidPattern(r"invalid escape sequence: \C")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidPattern("invalid UTF-8") from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        return re2.compile(data, options)
    except re2.error as error:
        reason: str = error.args[0].decode(errors="replace")
        raise (TooLarge if "too large" in reason else InvalidPattern)(reason) from None


def _encoded(text: str) -> bytes:
    """UTF-8 with as many characters as the text has, whatever it holds."""
    return text.encode() if text.isascii() else text.translate(_REPLACEMENT).encode()


def _width(data: bytes, position: int) -> int:
    lead = data[position] if position < len(data) else 0
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


# What can be said of an expression without searching: enough for advice, never for a decision.


class Token(NamedTuple):
    kind: str  # char, any, class, anchor, open, flags, close, bar, repeat, byte
    text: str


_LEVELS: Final = {"open": 1, "close": -1}

# A group's name is that of the token's kind; `quoted` and `escaped` are characters.
_TOKEN: Final = re.compile(
    r"""
      \\Q (?P<quoted> .*? ) (?: \\E | \Z )
    | (?P<byte>    \\C )
    | (?P<anchor>  \\[AzbB] | [\^$] )
    | (?P<class>   \\[pPx]\{ [^}]* \}? | \\[pP].? | \\x.{0,2} | \\[^\W_] | \\\Z
                 | \[ \^? \]? (?: \\.? | \[(?=:).{0,11}?:\] | [^\]] )* \]? )
    | (?P<escaped> \\. )
    | (?P<flags>   \(\? [^:>)]* \) )
    | (?P<open>    \(\? [^:>)]* [:>]? | \( )
    | (?P<close>   \) )
    | (?P<bar>     \| )
    | (?P<repeat>  (?: [*+?] | \{ \d+ (?: ,\d* )? \} ) \?? )
    | (?P<any>     \. )
    | (?P<char>    . )
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(expression: str) -> Iterator[Token]:
    """The expression's parts in order; of one that is no expression, whatever comes out."""
    for match in _TOKEN.finditer(expression):
        kind, text = match.lastgroup or "", match.group()
        match kind:
            case "quoted":
                yield from (Token("char", character) for character in match.group(kind))
            case "escaped":
                yield Token("char", text[1:])
            case _:
                yield Token(kind, text)


def literal(expression: str) -> str | None:
    """The one text that the expression stands for at the start of a path; None if it may be several."""
    parts = _unanchored(expression)
    return "".join(part.text for part in parts) if all(part.kind == "char" for part in parts) else None


def prefix(expression: str) -> str:
    """A text that every match at the start of a path begins with."""
    parts = _unanchored(expression)
    if any(part.kind in ("bar", "flags") for part in parts):
        return ""
    found: list[str] = []
    for part in parts:
        if part.kind == "repeat" and found:
            found.pop()
        if part.kind != "char":
            break
        found.append(part.text)
    return "".join(found)


def _unanchored(expression: str) -> list[Token]:
    parts = list(tokens(expression))
    return parts[1:] if parts[:1] == [Token("anchor", "^")] else parts


def ends_with(expression: str, character: str) -> bool:
    """Whether every match ends with the character, as far as a look at the text tells."""
    return _end_with(list(tokens(expression)), character, depth=0)


def _end_with(parts: list[Token], character: str, *, depth: int) -> bool:
    if depth > 20:
        return False
    branches = alternatives(parts)
    if len(branches) > 1:
        return all(_end_with(branch, character, depth=depth + 1) for branch in branches)
    while parts and parts[-1].kind == "anchor":
        parts = parts[:-1]
    if parts and parts[-1].kind == "repeat":
        if parts[-1].text.startswith(("*", "?", "{0")):
            return False
        parts = parts[:-1]
    if parts and parts[-1].kind == "close":
        return _end_with(_last_group(parts), character, depth=depth + 1)
    return parts[-1:] == [Token("char", character)]


def _last_group(parts: list[Token]) -> list[Token]:
    """What stands within the parentheses that end the parts."""
    opening, level = len(parts) - 1, 1
    while opening and level:
        opening -= 1
        level -= _LEVELS.get(parts[opening].kind, 0)
    return parts[opening + 1 : -1]


def alternatives(parts: Iterable[Token]) -> list[list[Token]]:
    """The parts between the bars that stand in no group."""
    found: list[list[Token]] = [[]]
    level = 0
    for part in parts:
        level += _LEVELS.get(part.kind, 0)
        if part.kind == "bar" and level == 0:
            found.append([])
        else:
            found[-1].append(part)
    return found
