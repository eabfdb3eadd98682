"""A bump: a new version in files of another repository, by overwriting, by a regular expression, or at a YAML address.

What belongs here: what a bump is called at GitHub, and texts before → texts after. A change that was made already
changes nothing; one that finds no place for itself is refused.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from telefonistka.core import address, patterns
from telefonistka.errors import Rejected

LABEL = "promotion"  # as the original has it; what is merged by itself is not chosen by it
TITLE = 256  # characters of a title at GitHub
PREFIX = "artifact_version_bump"


class NoMatch(Rejected):
    """The change found nothing in its file that it could change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overwrite:
    """The whole file is this."""

    file: str
    content: bytes

    def applied(self, before: bytes | None) -> bytes:
        return self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitute:
    """Every match of an expression is what the template makes of it, both as Go has them."""

    file: str
    expression: str
    template: str

    def applied(self, before: bytes | None) -> bytes:
        text = _present(self.file, before).decode("utf-8", "surrogateescape")
        pattern = compiled(self.expression)
        if pattern.search(text) is None:
            raise NoMatch(f"{self.file}: nothing matches {self.expression!r}")
        return pattern.replace_all(text, self.template).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScalar:
    """The scalar at a YAML address is this text."""

    file: str
    address: str
    value: str

    def applied(self, before: bytes | None) -> bytes:
        from telefonistka.core import yamltext  # the other changes need no YAML

        steps = parsed(self.address)
        try:
            text = _present(self.file, before).decode()
            self.value.encode()
            changed = yamltext.change(text, steps, self.value)
        except UnicodeDecodeError as error:
            raise Rejected(f"{self.file}: not UTF-8 (byte {error.start})") from error
        except UnicodeEncodeError as error:
            raise Rejected(f"the new value is not UTF-8: {self.value!r}") from error
        except yamltext.Unreadable as error:
            place = ":".join(str(part) for part in (self.file, error.line, error.column) if part is not None)
            raise Rejected(f"{place}: {error}") from error
        if changed is None:
            raise NoMatch(f"{self.file}: nothing is at {self.address}")
        return changed.encode()


Change = Overwrite | Substitute | SetScalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Bump:
    """The changes that one commit of a triggering repository asks for."""

    repository: str  # the triggering one
    sha: str  # its commit
    actor: str = ""  # who made that; becomes the assignee
    changes: tuple[Change, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The target files, each once, in the order of the changes."""
        return tuple(dict.fromkeys(change.file for change in self.changes))

    @property
    def branches(self) -> tuple[str, str]:
        """The branch, and the one to take where another file's bump of the same commit has the first."""
        name = f"{self.branches_of_repository}{self.sha}"
        digest = hashlib.sha1("\n".join(self.files).encode("utf-8", "surrogateescape"), usedforsecurity=False)
        return name, f"{name}-{digest.hexdigest()[:12]}"

    @property
    def branches_of_repository(self) -> str:
        """What the branches of all bumps of the triggering repository begin with."""
        return f"{PREFIX}/{self.repository}/"

    @property
    def message(self) -> str:
        """The commit's message; it tells bumps of the same commit apart."""
        return f"Bumping version @ {', '.join(self.files)}"

    @property
    def title(self) -> str:
        title = f"{self.repository}🚠 {self.message}"
        return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"

    @property
    def body(self) -> str:
        return f"Bumping version triggered by {self.repository}@{self.sha}"

    def applied(self, contents: Mapping[str, bytes | None]) -> dict[str, bytes]:
        """The files that are others afterwards; raises Rejected where a change cannot be made."""
        after = dict(contents)
        for change in self.changes:
            after[change.file] = change.applied(after[change.file])
        return {file: text for file, text in after.items() if text is not None and text != contents[file]}


def compiled(expression: str) -> patterns.Pattern:
    """The expression; Rejected where it is none."""
    try:
        return patterns.compile(expression)
    except patterns.InvalidPattern as error:
        raise Rejected(f"{expression!r} is not a regular expression of RE2: {error}") from error


def parsed(text: str) -> tuple[address.Step, ...]:
    """The steps of an address; Rejected where it is none."""
    try:
        return address.parse(text)
    except address.InvalidAddress as error:
        raise Rejected(str(error)) from error


def diff(before: Mapping[str, bytes | None], after: Mapping[str, bytes]) -> str:
    """The changes of every file as a unified diff."""
    return "".join(_diff(file, before[file], after[file]) for file in after)


def _diff(file: str, before: bytes | None, after: bytes) -> str:
    names = "/dev/null" if before is None else f"a/{file}", f"b/{file}"
    if b"\0" in (before or b"") + after:
        return f"Binary files {names[0]} and {names[1]} differ\n"
    old, new = (_lines(content) for content in (before or b"", after))
    rows = difflib.unified_diff(old, new, *names)
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


def _lines(content: bytes) -> list[str]:
    # Not splitlines(), which also splits at what is no line break to git.
    lines = content.decode("utf-8", "replace").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _present(file: str, content: bytes | None) -> bytes:
    if content is None:
        raise Rejected(f"{file}: there is no such file on the default branch")
    return content
