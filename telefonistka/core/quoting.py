"""How a text is written as a YAML scalar, so that every reader has the same text back.

What belongs here: quotes, escapes, and what a plain scalar reads as. The style of the scalar that stood there is
kept; where the text cannot be written in it, it gets the quotes that go-yaml would give it.
"""

from __future__ import annotations

import re
from enum import Enum


class Context(Enum):
    """Where a scalar stands: what may be in it without quotes differs."""

    BLOCK = "block"
    FLOW = "flow"  # within [] or {}
    JSON = "json"  # the same, where keys have double quotes and readers may know nothing but JSON


NULLS = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
# To readers of YAML 1.1: https://yaml.org/type/merge.html and https://yaml.org/type/value.html
SPECIAL = frozenset({"<<", "="})
# What YAML 1.2 and go-yaml read as a number or a time; an underscore may stand between digits.
NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
TIME = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}.*)?")

UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
NOT_FIRST = frozenset(",[]{}#&*!|>'\"%@`")
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def is_null(plain: str) -> bool:
    """Whether a scalar without quotes stands for nothing."""
    return plain in NULLS


def is_string(plain: str) -> bool:
    """Whether a scalar without quotes reads as a text: not as nothing, a number, a truth value or a time."""
    if plain in NULLS or plain in BOOLEANS or plain in SPECIAL:
        return False
    digits = plain[:1] + plain[1:].replace("_", "")
    return NUMBER.fullmatch(digits) is None and TIME.fullmatch(plain) is None


def written(text: str, style: str, context: Context) -> str:
    """The text on one line, in this style (plain is the empty one) or the next that can hold it."""
    if style == '"' or (context is Context.JSON and style != "'"):
        return double_quoted(text)
    if style == "'":
        return _single_quoted(text)
    if not is_string(text):
        return double_quoted(text)
    return text if _fits_plain(text, context) else _single_quoted(text)


def key(text: str, context: Context) -> str:
    """The text as a mapping's key."""
    if context is Context.JSON or not text or text in SPECIAL:
        return double_quoted(text)
    return text if _fits_plain(text, context) else _single_quoted(text)


def fits_block(text: str) -> bool:
    """Whether `|` can hold the text without saying how far it is indented, and with at most one line break after it."""
    plain = text.removesuffix("\n")
    return bool(plain) and plain[0] not in " \t\n" and plain[-1] != "\n" and UNPRINTABLE.search(text) is None


def double_quoted(text: str) -> str:
    """The text with escapes for what has no other way to be in YAML."""
    return '"' + "".join(ESCAPES.get(one) or _escaped(one) for one in text) + '"'


def _escaped(character: str) -> str:
    if UNPRINTABLE.match(character) is None:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _single_quoted(text: str) -> str:
    if "\n" in text or "\t" in text or UNPRINTABLE.search(text) is not None:
        return double_quoted(text)
    return "'" + text.replace("'", "''") + "'"


def _fits_plain(text: str, context: Context) -> bool:
    """Whether the text can stand without quotes, as careful as go-yaml is."""
    if text != text.strip() or "\n" in text or "\t" in text or UNPRINTABLE.search(text) is not None:
        return False
    if text[0] in NOT_FIRST or (text[0] in "-?:" and text[1:2] in ("", " ")) or text.startswith(("---", "...")):
        return False
    if ": " in text or " #" in text or text.endswith(":"):
        return False
    return context is Context.BLOCK or (
        not set(text) & set(",?[]{}") and re.search(r":[,\[\]{}]", text) is None and text[0] not in "-:"
    )
