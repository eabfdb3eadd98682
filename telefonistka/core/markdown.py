"""Content in Markdown as GitHub shows it: text that others wrote stays text, and its characters stay in place.

What belongs here: one function per place where content may stand. None of them lets a mention, a reference, a link,
HTML, a marker of ours or a bidirectional control character come of it.
"""

from __future__ import annotations

import html as escaping
import re
from urllib.parse import quote

BREAK = "\u200b"  # a space without width: it ends what GitHub would turn into a link or a mention

_ENTITY = "&#8203;"  # the same, as people see it in a comment's source
_SPECIAL = re.compile(r"[\\`*_\[\]|~$]|^[-+>=]")
_NUMBERED = re.compile(r"^(\d+)([.)])")
_REFERENCE = re.compile(r"(?i)@|#|GH-|://|www\.|[0-9a-f]{6}(?=[0-9a-f])")  # six digits are too few for a commit
_IN_PLAIN = re.compile(r"(?i)@|#|GH-|://|www\.|[0-9a-f]{39}(?=[0-9a-f])")


def code(text: str) -> str:
    """Inline code: on one line, in a fence longer than any run of backticks in it.

    https://github.github.com/gfm/#code-spans
    """
    line = printable(text) or " "
    fence = "`" * (_longest_run(line) + 1)
    return f"`{line}`" if fence == "`" else f"{fence} {line} {fence}"


def inert(text: str) -> str:
    """Prose that is shown as it is."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(lambda found: "\\" + found[0], plain))
    return _REFERENCE.sub(lambda found: found[0] + _ENTITY, plain)


def plain(text: str) -> str:
    """Text where there is no Markdown, but references count all the same: titles, messages of commits."""
    return _IN_PLAIN.sub(lambda found: found[0] + BREAK, printable(text))


def cell(text: str) -> str:
    """Code in a table; where a bar could end the cell, prose."""
    # GitHub's parser takes "\|" in code for a bar, and has changed its mind on what "\\|" is.
    return inert(text) if "|" in text else code(text)


def html(text: str) -> str:
    """Code where Markdown does not count, as in a <summary>."""
    return f"<code>{escaping.escape(printable(text))}</code>"


def fenced(text: str, language: str = "") -> str:
    """A block of code, in a fence longer than any run of backticks in it."""
    body = "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
    fence = "`" * max(3, _longest_run(body) + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def node(text: str) -> str:
    """A label in a Mermaid chart, without its quotes: https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters"""
    return "".join(one if one.isalnum() or one in " /.-_" else f"#{ord(one)};" for one in printable(text))


def path(text: str) -> str:
    """A path in a link's address."""
    return quote(text.encode("utf-8", "surrogateescape"))


def printable(text: str) -> str:
    """The text on one line; what cannot be seen, or changes how the rest is seen, is shown as a replacement."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def cut(text: str, limit: int) -> str:
    """The text, or its first whole lines with a word on how many are left out; what they open is closed."""
    if len(text) <= limit:
        return text
    lines = text.splitlines(keepends=True)
    kept, size = 0, 200  # characters for the last lines
    while size + len(lines[kept]) <= limit:
        size += len(lines[kept])
        kept += 1
    said = f"… {len(lines) - kept} more lines are left out: GitHub takes no longer comment.\n"
    return "".join(lines[:kept]) + "".join(_closing(lines[:kept])) + f"\n{said}"


def _closing(lines: list[str]) -> list[str]:
    fence, folds = "", 0
    for line in lines:
        text = line.rstrip("\n")
        found = re.match("`{3,}", text)
        if fence:
            fence = "" if text == fence else fence
        elif found:
            fence = found[0]
        else:
            folds += text.startswith("<details>") - text.startswith("</details>")
    return ([f"{fence}\n"] if fence else []) + ["\n</details>\n"] * folds


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
