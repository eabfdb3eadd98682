"""YAML text → plain values, decoded by what each key wants, with the place of each.

As the original's YAML library does it: strings by their literal text, the last of two equal keys, the first document
only. The library is gopkg.in/yaml.v2 2.4.0; tests/core/go_yaml_cases.json holds its answers. What the keys mean, and
whether the values make sense, is not decided here.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from ruamel.yaml import YAML, MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import Node
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tag import Tag

from telefonistka.core import scalars
from telefonistka.core.findings import START, Findings, Key, Place, named, shown
from telefonistka.core.scalars import Mistyped

SIZE = 256 << 10  # bytes; the largest configuration known to us has 30 KiB
DEPTH = 32  # levels; the keys need 6
VALUES = 50_000  # keys and values after aliases are expanded; a file of that size without aliases has 25,000

TOO_MANY: Final = f"the file has more than {VALUES:,} keys and values once its aliases are expanded"
TOO_DEEP: Final = f"nested deeper than {DEPTH} levels, or a mapping that contains itself"


class Plain(Enum):
    """Shapes that need no further description."""

    TEXT = auto()
    BOOLEAN = auto()
    NUMBER = auto()
    TEXTS = auto()  # a mapping of any keys to texts
    LINE = auto()  # a text that is decoded to a mapping: the `text`, and the `line` where it stands


@dataclass(frozen=True, slots=True)
class Each:
    """A list."""

    of: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """A mapping whose keys are known. The `line` where it stands is added if it wants that."""

    of: Mapping[str, Shape]
    wants_line: bool


Shape = Plain | Each | Keys
OnKey = Callable[[str, Keys, Place], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file's values, or None if it is refused as a whole; and where each of them stands."""

    data: dict[str, Any] | None
    places: Mapping[Key, Place]


def read(text: bytes, keys: Keys, findings: Findings, on_key: OnKey) -> Document:
    """The text's values. What is not as `keys` wants it is a finding and left out; unknown keys are left out.

    `on_key` is called for each key of each mapping, known or not, so that more can be said of it.
    """
    reading = _Reading(findings, on_key)
    data = None
    try:
        root = _composed(_decoded(text), findings)
        with reading.left_out_if_mistyped(()):
            data = {} if root is None else reading.keys(root, keys, {}, ())
    except _Refused as refused:
        findings.error(refused.place, str(refused))
    return Document(data=data, places=reading.places)


# From bytes to nodes


class _Refused(Exception):  # noqa: N818
    """The file as a whole is refused; more of it is not read."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


class _Tabbed(Scanner):
    """Lets tabs stand between a key and its value, as the original's scanner does."""

    def scan_to_next_token(self) -> None:
        super().scan_to_next_token()
        while self.reader.peek() == "\t" and not self.allow_simple_key:
            self.reader.forward()
            super().scan_to_next_token()


class _Bounded(Composer):
    """Refuses what is nested too deep or has too many nodes."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > VALUES or self.depth > DEPTH:
            message = TOO_MANY if self.nodes > VALUES else TOO_DEEP
            raise _Refused(message, _marked(self.parser.peek_event().start_mark))
        return super().compose_node(parent, index)


class _Undecided(VersionedResolver):
    """Leaves untagged plain scalars undecided: what they mean depends on the key that they stand under."""

    PLAIN: Final = Tag(suffix=scalars.PLAIN)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode:
            return self.PLAIN if implicit[0] else self.DEFAULT_SCALAR_TAG
        return super().resolve(kind, value, implicit)


def _decoded(text: bytes) -> str:
    if len(text) > SIZE:
        raise _Refused(f"the file has {len(text):,} bytes; {SIZE:,} are allowed", START)
    encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line_start = before.rfind(b"\n") + 1
        place = Place(before.count(b"\n") + 1, len(before[line_start:].decode(encoding, "replace")) + 1)
        message = f"the file is no {encoding.removesuffix('-sig').upper()} text: byte {text[error.start]:#04x}"
        raise _Refused(message, place) from error


def _composed(text: str, findings: Findings) -> Node | None:
    """The first document's root."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    yaml.Resolver = _Undecided
    yaml.Scanner = _Tabbed
    yaml.Composer = _Bounded
    yaml.composer.warn_double_anchors = False
    documents = yaml.compose_all(text)
    root = _next(documents, text)
    try:
        if further := _next(documents, text):
            findings.warning(_place(further), "a second document starts here; only the first one counts")
    except _Refused as refused:
        message = f"only the first document counts, and it ends before this: {refused}"
        findings.warning(refused.place, message)
    return root


def _next(documents: Iterator[Node], text: str) -> Node | None:
    try:
        return next(documents, None)
    except _Refused:
        raise
    # The parser is not ours and the text is anybody's: whatever it trips over is a fault of the file.
    except Exception as error:
        raise _Refused(f"not valid YAML: {_reason(error)}", _spot(error, text)) from error


def _reason(error: Exception) -> str:
    """What the YAML parser says, in one line."""
    if isinstance(error, MarkedYAMLError):
        said = " ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, ReaderError):
        said = f"{error.reason}: {shown(chr(error.character))}" if isinstance(error.character, int) else error.reason
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return " ".join(said.split())


def _spot(error: Exception, text: str) -> Place:
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        return _marked(mark)
    if isinstance(error, ReaderError):
        before = text[: error.position]
        return Place(before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
    return START


def _marked(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _place(node: Node) -> Place:
    return _marked(node.start_mark)


# From nodes to values


class _Reading:
    """One reading of one file: the places so far, and the budget left."""

    def __init__(self, findings: Findings, on_key: OnKey) -> None:
        self.places: dict[Key, Place] = {}
        self._findings = findings
        self._on_key = on_key
        self._values = VALUES
        self._depth = 0

    @contextmanager
    def left_out_if_mistyped(self, at: Key) -> Iterator[None]:
        try:
            yield
        except Mistyped as fault:
            self._findings.error(_place(fault.node), f"{named(at)} {fault}")

    def keys(self, node: Node, wanted: Keys, into: dict[str, Any], at: Key) -> dict[str, Any]:
        """`into` with the node's keys: a second mapping under one key adds to the first."""
        if wanted.wants_line:
            into.setdefault("line", _place(node).line)
        for name, key_node, value_node in self._pairs(node):
            self._on_key(name, wanted, _place(key_node))
            if name not in wanted.of:
                continue
            if scalars.is_null(value_node):
                self._spend(value_node)
                into.pop(name, None)
                continue
            key = (*at, name)
            with self.left_out_if_mistyped(key):
                into[name] = self._value(value_node, wanted.of[name], into.get(name), key)
        return into

    def _texts(self, node: Node, into: dict[str, str], at: Key) -> dict[str, str]:
        for name, _, value_node in self._pairs(node):
            key = (*at, name)
            with self.left_out_if_mistyped(key):
                into[name] = self._value(value_node, Plain.TEXT, None, key)
        return into

    def _list(self, node: Node, wanted: Shape, at: Key) -> list[Any]:
        if not isinstance(node, SequenceNode):
            raise Mistyped(node, "a list")
        found: list[Any] = []
        for one in node.value:
            key = (*at, len(found))
            with self.left_out_if_mistyped(key):
                found.append(self._value(one, wanted, None, key))
        return found

    def _value(self, node: Node, wanted: Shape, into: Any, at: Key) -> Any:
        self._spend(node)
        self.places[at] = _place(node)
        match wanted:
            case Plain.TEXT:
                return scalars.text(node)
            case Plain.LINE:
                return {"text": scalars.text(node), "line": _place(node).line}
            case Plain.BOOLEAN:
                return scalars.boolean(node)
            case Plain.NUMBER:
                return scalars.number(node)
            case Plain.TEXTS:
                return self._texts(node, into or {}, at)
            case Each():
                return self._list(node, wanted.of, at)
            case Keys():
                return self.keys(node, wanted, into or {}, at)

    # Mappings

    def _pairs(self, node: Node) -> Iterator[tuple[str, Node, Node]]:
        """The keys of a mapping in the file's order; what `<<` brings takes its place among them. Null has none."""
        if scalars.is_null(node):
            return
        if not isinstance(node, MappingNode):
            raise Mistyped(node, "a mapping")
        lines: dict[str, int] = {}
        self._descend(node)
        for key_node, value_node in node.value:
            self._spend(key_node)
            if scalars.is_merge(key_node):
                self._warn_of_replaced(key_node, value_node, lines)
                for merged in self._merged(value_node):
                    yield from self._pairs(merged)
                continue
            with self.left_out_if_mistyped(()):
                name = scalars.text(key_node)
                self._warn_of_duplicate(name, key_node, lines)
                yield name, key_node, value_node
        self._depth -= 1

    def _merged(self, node: Node) -> list[Node]:
        """The mappings that a `<<` brings, the weakest first."""
        brought = node.value[::-1] if isinstance(node, SequenceNode) else [node]
        for one in brought:
            self._spend(one)
            if not isinstance(one, MappingNode):
                raise _Refused("'<<' takes a mapping or a list of mappings", _place(one))
        return brought

    def _warn_of_duplicate(self, name: str, node: Node, lines: dict[str, int]) -> None:
        place = _place(node)
        if name in lines:
            message = f"duplicate key {shown(name)}, also in line {lines[name]}: the later one counts"
            self._findings.warning(place, message)
        lines[name] = place.line

    def _warn_of_replaced(self, key_node: Node, value_node: Node, lines: Mapping[str, int]) -> None:
        if not lines or not isinstance(value_node, MappingNode):
            return
        for inner, _ in value_node.value:
            self._spend(inner)
            if isinstance(inner, ScalarNode) and inner.value in lines:
                name, line = shown(inner.value), lines[inner.value]
                message = f"this '<<' replaces {name} of line {line}, which stands before it"
                self._findings.warning(_place(key_node), message)

    # Budgets: what an alias brings is paid for wherever it is brought.

    def _spend(self, node: Node) -> None:
        self._values -= 1
        if self._values < 0:
            raise _Refused(TOO_MANY, _place(node))

    def _descend(self, node: Node) -> None:
        self._depth += 1
        if self._depth > DEPTH:
            raise _Refused(TOO_DEEP, _place(node))
