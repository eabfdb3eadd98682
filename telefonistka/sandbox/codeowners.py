"""Who owns a file: GitHub's CODEOWNERS, of which the last line that matches counts.

https://docs.github.com/en/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from telefonistka.sandbox.git import Git

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")  # the first that is there counts
SIZE_LIMIT = 3 * 1024 * 1024  # bytes; a larger file is not loaded


def owners(git: Git, base: str, path: str) -> tuple[str, ...]:
    """`login`, `org/team` or an address, as the base commit's file names them; () where nobody owns the path."""
    found: tuple[str, ...] = ()
    for expression, names in rules(text_at(git, base)):
        if expression.fullmatch(path):
            found = names
    return found


def text_at(git: Git, commit: str) -> str:
    tree = git.commit(commit).tree
    for place in PLACES:
        entry = git.lookup(tree, place)
        if entry is not None and entry.kind == "blob":
            content = git.read("blob", entry.oid)
            return content.decode(errors="replace") if len(content) < SIZE_LIMIT else ""
    return ""


@lru_cache(64)
def rules(text: str) -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    return tuple(_lines(text))


def _lines(text: str) -> Iterator[tuple[re.Pattern[str], tuple[str, ...]]]:
    for line in text.splitlines():
        words = line.partition("#")[0].replace("\\ ", "\0").split()
        if not words or words[0].startswith("!") or "[" in words[0]:
            continue  # what gitignore has and CODEOWNERS has not: such a line is skipped
        pattern, *names = (word.replace("\0", " ") for word in words)
        yield re.compile(_expression(pattern)), tuple(name.removeprefix("@") for name in names)


def _expression(pattern: str) -> str:
    """A pattern of gitignore as an expression that paths match in full."""
    anchored = "/" in pattern.rstrip("/")
    parts = [_part(part) for part in re.split(r"(\*\*/|/\*\*|\*|\?)", pattern.lstrip("/").rstrip("/"))]
    inside = "/.+" if pattern.endswith("/") else "" if pattern.endswith("/*") else "(?:/.+)?"
    return ("" if anchored else "(?:.*/)?") + "".join(parts) + inside


def _part(text: str) -> str:
    wild = {"**/": "(?:.*/)?", "/**": "/.+", "*": "[^/]*", "?": "[^/]"}
    return wild.get(text) or re.escape(text)
