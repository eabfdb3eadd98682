"""What the scalars of YAML 1.1 mean to a key that wants text, a boolean or a number.

https://yaml.org/spec/1.1/, as far as gopkg.in/yaml.v2 follows it. An untagged plain scalar means nothing by itself:
its tag is PLAIN until a key asks.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Final

from ruamel.yaml import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node

from telefonistka.core.findings import shown

PLAIN: Final = "?"
_CORE: Final = "tag:yaml.org,2002:"
_STR, _BOOL, _INT, _FLOAT, _NULL, _MERGE, _BINARY = (
    _CORE + name for name in ("str", "bool", "int", "float", "null", "merge", "binary")
)
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_BOOLS: Final = {
    spelling: value
    for value, words in ((True, ("y", "yes", "true", "on")), (False, ("n", "no", "false", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_WHOLE: Final = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FRACTION: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_DIGITS: Final = 100  # of a number, at most; 64 bits have 64


class Mistyped(Exception):  # noqa: N818 - what is true of the value
    """The node is not what its key wants."""

    def __init__(self, node: Node, wanted: str) -> None:
        super().__init__(f"must be {wanted}, not {_described(node)}")
        self.node = node


def is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value in _NULLS and node.tag in (PLAIN, _NULL)


def is_merge(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == "<<" and node.tag in (PLAIN, _MERGE)


def text(node: Node) -> str:
    """The scalar's literal text, whatever it would be elsewhere; null is empty."""
    if not isinstance(node, ScalarNode):
        raise Mistyped(node, "text")
    if is_null(node):
        return ""
    if node.tag == _BINARY:
        return _from_base64(node)
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise Mistyped(node, "Unicode text")
    tag = str(node.tag)
    if (reads := _BY_TAG.get(tag)) and reads(node.value) is None:
        raise Mistyped(node, f"what its tag {tag.replace(_CORE, '!!')} says")
    return str(node.value)


def boolean(node: Node) -> bool:
    is_one = isinstance(node, ScalarNode) and node.tag in (PLAIN, _BOOL)
    value = _BOOLS.get(node.value) if is_one else None
    if value is None:
        raise Mistyped(node, "true or false")
    return value


def number(node: Node) -> int:
    """The whole number; a fraction is cut to one, unless its tag says that it is whole."""
    is_one = isinstance(node, ScalarNode) and node.tag in (PLAIN, _FLOAT, _INT)
    reads = _whole if node.tag == _INT else _number
    value = reads(node.value) if is_one else None
    if value is None:
        raise Mistyped(node, "a whole number")
    return value


def _from_base64(node: ScalarNode) -> str:
    try:
        return base64.b64decode("".join(node.value.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Mistyped(node, "text in base64") from None


def _whole(digits: str) -> int | None:
    """The 64-bit integer that Go reads; a leading zero means octal."""
    match = _WHOLE.fullmatch(digits.replace("_", "")) if digits[:1] in "+-0123456789" else None
    if match is None or len(digits) > _DIGITS:
        return None
    sign, *found = match.groups()
    base = next(base for base, part in zip((16, 2, 8, 10), found, strict=True) if part)
    return _in_64_bits(int(f"{sign}{''.join(part or '' for part in found)}", base))


def _number(digits: str) -> int | None:
    """The integer, or what a fraction is cut to."""
    whole = _whole(digits)
    plain = digits.replace("_", "") if digits[:1] in "+-.0123456789" else ""
    if whole is not None or len(digits) > _DIGITS or not _FRACTION.fullmatch(plain):
        return whole
    return _in_64_bits(float(plain))


def _in_64_bits(value: float) -> int | None:
    return int(value) if -(1 << 63) <= value < 1 << 63 else None


_BY_TAG: Final[Mapping[str, Callable[[str], object]]] = {
    _BOOL: _BOOLS.get,
    _INT: _whole,
    _FLOAT: _number,
    _NULL: lambda _: None,
}


def _described(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.value in _NULLS and node.tag == PLAIN:
        return "nothing"
    return f"the text {shown(node.value)}" if node.tag == _STR else shown(node.value)
