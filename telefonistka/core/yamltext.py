"""YAML as a text in which a place can be changed: only its own bytes differ afterwards.

What belongs here: where in the text every value stands, where an address leads, and what replaces what. Comments,
quotes, anchors, indentation, line ends and all other values stay: the result is read again and compared before
anybody gets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from telefonistka.core import quoting
from telefonistka.core.address import Each, Index, Key, Select, Step
from telefonistka.core.quoting import Context

STANDARD_TAG = "tag:yaml.org,2002:"
TEXT_TAGS = (None, "!", f"{STANDARD_TAG}str")
OUTSIDE = -1  # the column of what is part of no block
STEP = 2  # columns that new lines are indented by, where the text has no example
GAP = re.compile(r"(?:[ \t\r\n]+|(?:(?<=[ \t\r\n])|^)#[^\r\n]*)*")  # whitespace and comments
PROPERTY = re.compile(r"!<[^>]*>|[&!][^\s,\[\]{}]*")
BLOCK_HEADER = re.compile(r"[|>]([-+]?)([1-9]?)([-+]?)")


class Unreadable(ValueError):  # noqa: N818 - what is true of the text
    """The text is not YAML, with the place in it; or an address leads where nothing can be changed."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.line, self.column = line, column


@dataclass(eq=False, slots=True, kw_only=True)
class Node:
    """One value and where it stands. Offsets are characters of the text."""

    kind: Literal["scalar", "mapping", "sequence", "alias"]
    after: int  # where it may begin: behind the colon or dash it belongs to, and behind its anchor and tag
    start: int  # without anchor and tag
    end: int  # behind its last character: what comments follow is not its own
    context: Context
    column: int  # of the block that it is part of
    text: str = ""  # a scalar's; an alias's anchor
    style: str = ""  # a scalar's: plain, or one of ' " | >
    anchor: str | None = None
    tag: str | None = None
    tag_at: tuple[int, int] = (0, 0)
    braced: bool = False  # it has brackets or braces of its own
    loose: bool = False  # no indicator says where its value would have to stand
    items: list[Node] = field(default_factory=list)  # of a sequence; a mapping's values
    keys: list[Node] = field(default_factory=list)  # of a mapping
    target: Node | None = None  # what an alias stands for

    @property
    def is_empty(self) -> bool:
        return self.kind == "scalar" and self.start == self.end

    @property
    def is_null(self) -> bool:
        plain = self.kind == "scalar" and not self.style and self.tag in (None, f"{STANDARD_TAG}null")
        return plain and quoting.is_null(self.text)

    @property
    def is_string(self) -> bool:
        return bool(self.style) or self.tag is not None or quoting.is_string(self.text)

    @property
    def inner(self) -> Context:
        """The context of what this collection holds."""
        if not self.braced:
            return self.context
        quoted = any(key.style == '"' for key in self.keys)
        return Context.JSON if quoted or self.context is Context.JSON else Context.FLOW

    def resolved(self) -> Node:
        """The node itself, or what it is an alias of."""
        return self if self.target is None else self.target.resolved()

    def value(self, name: str) -> Node | None:
        """The value of a key of this mapping, as readers take it: of equal ones the last."""
        found = (item for key, item in zip(self.keys, self.items, strict=True) if _names(key, name))
        return next(reversed(list(found)), None)

    def merged(self, name: str) -> Node | None:
        """The value that a merge key (<<) gives for a name."""
        given = self.value("<<")
        if given is None:
            return None
        given = given.resolved()
        sources = given.items if given.kind == "sequence" else [given]
        found = (one.value(name) or one.merged(name) for one in map(Node.resolved, sources) if one.kind == "mapping")
        return next(filter(None, found), None)


def _names(key: Node, name: str) -> bool:
    return key.kind == "scalar" and key.text == name


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an address leads: a node, or what is missing below it."""

    node: Node
    missing: tuple[Key | Index, ...] = ()
    shadows: bool = False  # a merge key gives what is missing


def change(text: str, steps: Sequence[Step], value: str) -> str | None:
    """The text with `value` wherever the steps lead; None where they lead nowhere. Raises Unreadable."""
    mark, text = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    documents = read(text)
    spots = _spots(documents, steps)
    if not spots:
        return None
    edits = _Edits(text, documents, value)
    for spot in spots:
        edits.put(spot)
    changed = edits.applied()
    expected = [_shape(root, {spot.node: spot for spot in spots}, value) for root in documents]
    if _shapes(changed) != expected:
        line = text.count("\n", 0, spots[0].node.start) + 1
        raise Unreadable("the value cannot be put there without changing anything else", line)
    return mark + changed


# Reading


def read(text: str) -> list[Node]:
    """The documents of a YAML stream; raises Unreadable."""
    try:
        return list(_Reader(text).documents())
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(f"not valid YAML: {error.reason}", line) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(" ".join(part for part in (error.context, error.problem) if part).split())
        place = (mark.line + 1, mark.column + 1) if mark is not None else ()
        raise Unreadable(f"not valid YAML: {said}", *place) from error
    except YAMLError as error:
        raise Unreadable(f"not valid YAML: {error}") from error


class _Reader:
    """Makes nodes of the parser's events."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.events: Iterator[Event] = iter(YAML(typ="safe", pure=True).parse(text))
        self.anchors: dict[str, Node] = {}

    def documents(self) -> Iterator[Node]:
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                self.anchors = {}
                yield self.node(next(self.events), after=event.end_mark.index, context=Context.BLOCK, column=OUTSIDE)

    def node(self, event: Event, *, after: int, context: Context, column: int) -> Node:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, AliasEvent):
            target = self.anchors.get(event.anchor)
            node = Node(kind="alias", after=after, start=start, end=end, context=context, column=column)
            node.text, node.target = event.anchor, target
            return node
        node = Node(kind="scalar", after=after, start=start, end=end, context=context, column=column)
        self._properties(node, event)
        match event:
            case ScalarEvent():
                self._scalar(node, event)
            case SequenceStartEvent():
                self._sequence(node, event)
            case MappingStartEvent():
                self._mapping(node, event)
        return node

    def _properties(self, node: Node, event: Any) -> None:
        node.anchor, node.tag = event.anchor, None if event.tag is None else str(event.tag)
        position = node.start
        for _ in range((node.anchor is not None) + (node.tag is not None)):
            found = PROPERTY.match(self.text, self._skip(position))
            assert found is not None
            position = node.after = found.end()
            if found[0].startswith("!"):
                node.tag_at = found.span()
        if position != node.start:
            node.start = self._skip(position)
        if node.anchor is not None:
            self.anchors[node.anchor] = node

    def _scalar(self, node: Node, event: Any) -> None:
        node.text, node.style = event.value, event.style or ""
        if not node.text and not node.style:  # the parser places it at what comes next
            node.start = node.end = node.after
        elif node.style in ("|", ">"):
            header = self.text[node.start : _line_end(self.text, node.start)]
            if "+" not in BLOCK_HEADER.match(header)[0]:  # type: ignore[index]
                body = self.text[node.start : node.end].rstrip()
                node.end = _line_end(self.text, node.start + len(body))

    def _sequence(self, node: Node, event: Any) -> None:
        node.kind, node.braced = "sequence", bool(event.flow_style)
        inner = Context.FLOW if node.braced and node.context is Context.BLOCK else node.context
        column = node.column if node.braced else _column(self.text, node.start)
        position = node.start
        while not isinstance(one := next(self.events), SequenceEndEvent):
            after = one.start_mark.index if node.braced else self._behind("-", position)
            item = self.node(one, after=position if after is None else after, context=inner, column=column)
            item.loose = after is None
            node.items.append(item)
            position = item.end
        node.end = one.end_mark.index if node.braced else position

    def _mapping(self, node: Node, event: Any) -> None:
        node.kind, node.braced = "mapping", bool(event.flow_style)
        inner = Context.FLOW if node.braced and node.context is Context.BLOCK else node.context
        column = node.column if node.braced else _column(self.text, node.start)
        position = node.start
        while not isinstance(one := next(self.events), MappingEndEvent):
            key = self.node(one, after=position, context=inner, column=column)
            colon = self._behind(":", key.end)
            within = Context.JSON if inner is Context.FLOW and key.style == '"' else inner
            after = key.end if colon is None else colon
            value = self.node(next(self.events), after=after, context=within, column=column)
            value.loose = colon is None
            node.keys.append(key)
            node.items.append(value)
            position = max(after, value.end)
        braces = node.braced and self.text[node.start] == "{"
        node.end = one.end_mark.index if braces else position

    def _skip(self, position: int) -> int:
        """Behind whitespace and comments."""
        found = GAP.match(self.text, position)
        assert found is not None
        return found.end()

    def _behind(self, indicator: str, position: int) -> int | None:
        """Behind the indicator that comes next, None where something else does."""
        start = self._skip(position)
        return start + 1 if self.text.startswith(indicator, start) else None


def _line_end(text: str, position: int) -> int:
    """Where the line ends that holds a position; a carriage return belongs to the line break."""
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return end - 1 if end > position and text[end - 1] == "\r" else end


def _column(text: str, position: int) -> int:
    return position - (text.rfind("\n", 0, position) + 1)


# Finding


def _spots(documents: Sequence[Node], steps: Sequence[Step]) -> list[Spot]:
    """Every place that the steps lead to, each once; what is missing counts only where nothing is found."""
    found: dict[tuple[Node, tuple[Key | Index, ...]], Spot] = {}
    for root in documents:
        spots = [Spot(root)]
        for step in steps:
            spots = [reached for spot in spots for reached in _walk(spot, step)]
        found |= {(spot.node, spot.missing): spot for spot in spots}
    # A key that only some documents of a file have is not put into the others: they may be of another kind.
    standing = [spot for spot in found.values() if not spot.missing]
    several = len(documents) > 1 and not any(isinstance(step, Each) for step in steps)
    return standing if standing and several else list(found.values())


def _walk(spot: Spot, step: Step) -> list[Spot]:
    if isinstance(step, Select):
        return [spot] if not spot.missing and _selected(spot.node, step) else []
    if spot.missing:
        if spot.shadows:
            raise Unreadable("a merge key (<<) gives what the address leads through: address the place it comes from")
        return [] if isinstance(step, Each) else [Spot(spot.node, (*spot.missing, step))]
    node = spot.node.resolved()
    match step:
        case Each():
            return [Spot(item) for item in node.items]
        case Key(name) if node.kind == "mapping":
            value = node.value(name)
            if value is not None:
                return [Spot(value)]
            return [Spot(node, (step,), shadows=node.merged(name) is not None)]
        case Key(name) if node.kind == "sequence" and name.isascii() and name.isdecimal():
            return _walk(spot, Index(int(name)))
        case Index(number) if node.kind == "sequence":
            return [Spot(node.items[number]) if number < len(node.items) else Spot(node, (step,))]
        case _ if node.is_null:
            return [Spot(node, (step,))]
    return []


def _selected(node: Node, select: Select) -> bool:
    found: Node | None = node.resolved()
    for step in select.path:
        if found is None:
            return False
        found = found.resolved()
        match step:
            case Key(name) if found.kind == "mapping":
                found = found.value(name) or found.merged(name)
            case Index(number) if found.kind == "sequence" and number < len(found.items):
                found = found.items[number]
            case _:
                return False
    found = found and found.resolved()
    return found is not None and found.kind == "scalar" and not found.is_null and select.accepts(found.text)


# Changing


class _Edits:
    """What is to be cut out of a text, and put in."""

    def __init__(self, text: str, documents: Sequence[Node], value: str) -> None:
        self.text = text
        self.value = value
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.step = next(filter(None, map(_step, documents)), STEP)
        self.pieces: list[tuple[int, int, str]] = []

    def put(self, spot: Spot) -> None:
        """The value stands at the spot."""
        node = spot.node
        if node.loose or (node.braced and self.text[node.start] not in "[{"):
            raise Unreadable("a value cannot be put there", self.text.count("\n", 0, node.start) + 1)
        if not spot.missing:
            self._replace(node)
        elif node.kind == "scalar":
            self._fill(node, spot.missing)
        elif node.braced:
            self._insert_in_braces(node, spot.missing)
        else:
            self._insert_line(node, spot.missing)

    def applied(self) -> str:
        """The text, changed."""
        result, position = [], 0
        for start, end, new in sorted(self.pieces):
            assert start >= position
            result += [self.text[position:start], new]
            position = end
        return "".join([*result, self.text[position:]])

    def _cut(self, start: int, end: int, new: str = "") -> None:
        self.pieces.append((start, end, new))

    # A value in place of another

    def _replace(self, node: Node) -> None:
        if node.kind == "scalar" and node.text == self.value and node.is_string and node.tag in TEXT_TAGS:
            return
        if node.tag is not None and node.tag not in TEXT_TAGS and node.tag.startswith(STANDARD_TAG):
            self._drop_tag(node)
        if node.kind == "scalar" and node.style in ("|", ">") and quoting.fits_block(self.value):
            self._replace_block(node)
            return
        style = node.style if node.style in ("'", '"') else '"' if node.style else ""
        self._set(node, quoting.written(self.value, style, node.context))

    def _drop_tag(self, node: Node) -> None:
        start, end = node.tag_at
        while start < end and self.text[end : end + 1] == " ":
            end += 1
        if self.text[end : end + 1] in ("", "\r", "\n") and self.text[start - 1] == " ":
            start -= 1
        self._cut(start, end)

    def _set(self, node: Node, new: str) -> None:
        """The node is `new`; where it had lines of its own, on the line of its indicator."""
        lines = node.kind in ("mapping", "sequence") and not node.braced and "\n" in self.text[node.after : node.start]
        if not node.is_empty and not lines:
            self._cut(node.start, node.end, new)
            return
        self._cut(node.after, node.after, f" {new}")
        if lines:
            self._cut(_line_end(self.text, node.after), node.end)

    def _replace_block(self, node: Node) -> None:
        header = BLOCK_HEADER.match(self.text, node.start)
        assert header is not None
        line_end = _line_end(self.text, node.start)
        column = self._block_column(node, int(header[2] or 0), self.text[line_end : node.end])
        style = "|" if "\n" in self.value.removesuffix("\n") else header[0][0]
        chomping = "" if self.value.endswith("\n") else "-"
        self._cut(node.start, header.end(), style + header[2] + chomping)
        body = "".join(
            f"{self.newline}{' ' * column if line else ''}{line}" for line in self.value.removesuffix("\n").split("\n")
        )
        end = node.end
        if self.text[:end].endswith("\n") and end > line_end:  # it keeps the line breaks after it
            body += self.newline
        self._cut(line_end, end, body)

    def _block_column(self, node: Node, indicated: int, lines: str) -> int:
        """The column of a block scalar's lines."""
        if indicated:
            return max(node.column, 0) + indicated
        columns = (len(line) - len(line.lstrip(" ")) for line in lines.splitlines() if line.strip())
        return next(columns, max(node.column, 0) + self.step)

    # A value where there is none

    def _fill(self, node: Node, missing: Sequence[Key | Index]) -> None:
        """What was nothing is a collection now."""
        if node.context is not Context.BLOCK:
            self._set(node, self._braced(missing, node.context))
            return
        if not node.is_empty:
            start = node.start
            while start > node.after and self.text[start - 1] == " ":
                start -= 1
            self._cut(start, node.end)
        line_end = _line_end(self.text, node.end)
        column = 0 if node.column == OUTSIDE else node.column + self.step
        self._cut(line_end, line_end, self._block(missing, column))

    def _insert_in_braces(self, node: Node, missing: Sequence[Key | Index]) -> None:
        new = self._braced(missing, node.inner, existing=len(node.items))[1:-1]
        if not node.items:
            self._cut(node.start + 1, node.start + 1, new)
            return
        last = node.items[-1]
        end = max(last.end, last.after)
        self._cut(end, end, f", {new}")

    def _insert_line(self, node: Node, missing: Sequence[Key | Index]) -> None:
        column = _column(self.text, node.start)
        new = self._block(missing, column, existing=len(node.items) if node.kind == "sequence" else 0)
        if self.text[: node.end].endswith("\n"):  # a block scalar that keeps the line breaks after it
            self._cut(node.end, node.end, new.removeprefix(self.newline) + self.newline)
        else:
            end = _line_end(self.text, node.end)
            self._cut(end, end, new)

    def _block(self, missing: Sequence[Key | Index], column: int, *, existing: int = 0) -> str:
        """Lines that hold the value at its path: each begins with a line break."""
        if not missing:
            return " " + quoting.written(self.value, "", Context.BLOCK)
        margin = self.newline + " " * column
        match missing[0]:
            case Key(name):
                below = self._block(missing[1:], column + self.step)
                return f"{margin}{quoting.key(name, Context.BLOCK)}:{below}"
            case Index(number):
                padding = f"{margin}- null" * (number - existing)
                return f"{padding}{margin}-{self._item(missing[1:], column)}"

    def _item(self, missing: Sequence[Key | Index], column: int) -> str:
        """What stands behind a dash: a mapping begins on the same line."""
        below = self._block(missing, column + 2)
        first = missing and isinstance(missing[0], Key)
        return " " + below.removeprefix(self.newline).lstrip(" ") if first else below

    def _braced(self, missing: Sequence[Key | Index], context: Context, *, existing: int = 0) -> str:
        """The value at its path, in braces and brackets."""
        if not missing:
            return quoting.written(self.value, "", context)
        below = self._braced(missing[1:], context)
        match missing[0]:
            case Key(name):
                return f"{{{quoting.key(name, context)}: {below}}}"
            case Index(number):
                return "[" + "null, " * (number - existing) + below + "]"


def _step(node: Node) -> int | None:
    """By how many columns a mapping in a mapping is indented, None where there is no example."""
    for item in node.items:
        if node.kind == item.kind == "mapping" and not item.braced and not node.braced and item.items:
            return item.items[0].column - node.items[0].column
    return next(filter(None, map(_step, node.items)), None)


# Comparing

Shape = tuple[Any, ...]


def _shapes(text: str) -> list[Shape] | None:
    try:
        return [_shape(root, {}, "") for root in read(text)]
    except Unreadable:
        return None


def _shape(node: Node, changed: Mapping[Node, Spot], value: str) -> Shape:
    """What a reader makes of a node, once the changed ones have the value."""
    spot = changed.get(node)
    tag = node.tag
    if spot is not None and not spot.missing:
        kept = tag if tag in TEXT_TAGS or not str(tag).startswith(STANDARD_TAG) else None
        return "scalar", node.anchor, kept, value, True
    if spot is not None and node.kind == "scalar":
        return (_new(spot.missing, value)[0], node.anchor, *_new(spot.missing, value)[2:])
    match node.kind:
        case "alias":
            return "alias", node.text
        case "scalar":
            return "scalar", node.anchor, tag, node.text, node.is_string
    items = [_shape(item, changed, value) for item in node.items]
    keys = [_shape(key, changed, value)[:4] for key in node.keys]
    if spot is not None:
        more = _new(spot.missing, value, existing=len(items))
        items, keys = items + more[4], keys + more[3]
    return node.kind, node.anchor, tag, keys, items


def _new(missing: Sequence[Key | Index], value: str, *, existing: int = 0) -> Shape:
    if not missing:
        return "scalar", None, None, value, True
    below = _new(missing[1:], value)
    match missing[0]:
        case Key(name):
            return "mapping", None, None, [("scalar", None, None, name)], [below]
        case Index(number):
            nothing = ("scalar", None, None, "null", False)
            return "sequence", None, None, [], [nothing] * (number - existing) + [below]
