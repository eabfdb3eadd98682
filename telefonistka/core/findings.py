"""What is wrong with a file, said at its line and column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

FINDINGS = 200  # of one file; people read the first ten
SHOWN = 60  # characters of an offending value

Key = tuple[str | int, ...]  # the way to a value: names of keys and numbers of list items


class Place(NamedTuple):
    line: int
    column: int


START = Place(1, 1)


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong at one place of one file."""

    file: str
    line: int
    column: int
    severity: Severity
    message: str

    def __str__(self) -> str:
        file = self.file.encode("utf-8", "backslashreplace").decode()
        return f"{file}:{self.line}:{self.column}: {self.severity}: {self.message}"


class Findings:
    """The findings of one file, each once, and no more than anybody reads."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[Finding, None] = {}
        self._left_out = 0

    @property
    def is_full(self) -> bool:
        """Whether a further warning is only counted."""
        return len(self._found) >= FINDINGS

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self._found)

    def error(self, place: Place, message: str) -> None:
        self._find(Severity.ERROR, place, message)

    def warning(self, place: Place, message: str) -> None:
        self._find(Severity.WARNING, place, message)

    def _find(self, severity: Severity, place: Place, message: str) -> None:
        finding = Finding(file=self._file, line=place.line, column=place.column, severity=severity, message=message)
        if finding in self._found:
            return
        # The first error is always told: it decides.
        if self.is_full and (severity is Severity.WARNING or self.has_errors):
            self._left_out += 1
        else:
            self._found[finding] = None

    def sorted(self) -> tuple[Finding, ...]:
        """By place; the last one counts those that are left out."""
        findings = sorted(self._found, key=lambda finding: (finding.line, finding.column, finding.message))
        if self._left_out:
            more = f"{self._left_out:,} more findings are not shown"
            findings.append(replace(findings[-1], severity=Severity.WARNING, message=more))
        return tuple(findings)


def nearest(places: Mapping[Key, Place], key: Key) -> Place:
    """Where the value stands, or the closest one around it that stands anywhere."""
    while key and key not in places:
        key = key[:-1]
    return places.get(key, START)


def named(key: Key) -> str:
    """How a message calls the value: by its own name, or as a part of a list."""
    if not key:
        return "this"
    if isinstance(key[-1], str):
        return f"{key[-1]!r}"
    return f"each of {key[-2]!r}"


def shown(text: str) -> str:
    """The text in quotes, shortened, on one line."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
