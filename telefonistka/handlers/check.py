"""The configuration that a pull request brings, checked before its merge: every finding at its line.

As a check run where our identity may make one, else as a comment. The head's files are only looked at, never acted on.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import anyio

from telefonistka.core import comments, config, lint, trees
from telefonistka.core.config import FILE, Finding, Severity
from telefonistka.core.events import PullRequest
from telefonistka.core.trees import Sha
from telefonistka.errors import Rejected
from telefonistka.github import Forbidden, NotFound
from telefonistka.github.repo import Annotation, CheckReport, Repo
from telefonistka.handlers.facts import Context, Done
from telefonistka.handlers.journal import Journal

NAME = "telefonistka.yaml"  # of the check run


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of the files that a pull request changes."""

    findings: tuple[Finding, ...]
    broken: Finding | None  # the first for which a file could not be used

    @property
    def title(self) -> str:
        errors = sum(one.severity is Severity.ERROR for one in self.findings)
        if not self.findings:
            return "sound"
        return f"{lint.counted(errors, 'error')}, {lint.counted(len(self.findings) - errors, 'warning')}"


async def run(event: PullRequest, given: Context) -> Done:
    """It is said what is wrong with the changed configuration; raises Rejected where it could not be used."""
    journal = Journal(given.ledger, event.repository.id)
    changed = await given.repo.changed_files(event.number, base_sha=event.base_sha, head_sha=event.head_sha)
    files = [file for file in changed if posixpath.basename(file) == FILE]
    was_said = await journal.checked(event.number)
    if not files and not was_said:
        return Done("")
    verdict = await _verdict(given.repo, event.head_sha, files)
    await _say(event, verdict, given, journal, was_said=was_said)
    if verdict.broken is not None:
        raise Rejected(f"the configuration is broken: {verdict.broken}")
    return Done(f"configuration: {verdict.title}")


async def _verdict(repo: Repo, head: Sha, files: Collection[str]) -> Verdict:
    texts = await repo.read(head, [FILE, *files])
    snapshot = await repo.snapshot(await repo.commit_tree(head))
    try:
        paths = [path for path, _ in snapshot.files("")]
    except trees.Unknown:  # too large to be listed in one piece
        paths = None
    # A hostile file takes seconds to read: not on the event loop.
    return await anyio.to_thread.run_sync(lambda: _judged(texts, files, paths))


def _judged(texts: Mapping[str, bytes | None], files: Collection[str], paths: Collection[str] | None) -> Verdict:
    broken = [finding for file in files for finding in _faults(file, texts[file])]
    components = {file: text for file in files if file != FILE and (text := texts[file]) is not None}
    root = texts[FILE]
    if root is None and FILE not in files:
        root = b""  # what is not there is not this pull request's
    found = {*broken} if paths is None else {*lint.check(root, components, paths)}
    findings = sorted((one for one in found if one.file in files), key=lambda one: (one.file, one.line, one.column))
    return Verdict(tuple(findings), broken[0] if broken else None)


def _faults(file: str, text: bytes | None) -> list[Finding]:
    """Why a file cannot be used; nothing where it can, or is removed."""
    if text is None:
        return []
    parsed = config.repository(text) if file == FILE else config.component(text, file=file)
    return [] if parsed.value is not None else [one for one in parsed.findings if one.severity is Severity.ERROR]


async def _say(event: PullRequest, verdict: Verdict, given: Context, journal: Journal, *, was_said: bool) -> None:
    try:
        page = await given.repo.ensure_check_run(event.head_sha, _report(verdict))
    except (Forbidden, NotFound):
        text = given.words.check(verdict.findings, head=event.head_sha, broken=verdict.broken is not None)
        create = bool(verdict.findings) or was_said
        page = await given.repo.ensure_comment(event.number, comments.marker("check"), text, create=create)
    await journal.put_checked(event.number)
    if page:
        await journal.put_page(event.number, page)


def _report(verdict: Verdict) -> CheckReport:
    conclusion = "failure" if verdict.broken else "neutral" if verdict.findings else "success"
    summary = "Each remark stands at its line." if verdict.findings else "Nothing to remark."
    if verdict.broken:
        summary = "With these files nothing could be promoted. Each remark stands at its line."
    return CheckReport(
        name=NAME,
        conclusion=conclusion,
        title=verdict.title,
        summary=summary,
        annotations=tuple(_annotation(finding) for finding in verdict.findings),
    )


def _annotation(finding: Finding) -> Annotation:
    return Annotation(
        path=finding.file,
        line=finding.line,
        column=finding.column,
        level="failure" if finding.severity is Severity.ERROR else "warning",
        message=finding.message,
    )
