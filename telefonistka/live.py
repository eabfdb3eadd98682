"""What the daemon goes by while it runs, and what a reload may put in its place.

What belongs here: which settings change without a restart, and the values made of them that are read anew for each
event. A reload changes all of them or, where something is wrong, none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime

from telefonistka import telemetry, templates
from telefonistka.core import comments, statuslink
from telefonistka.core.comments import Words
from telefonistka.core.guards import Ceiling
from telefonistka.settings import Invalid, Settings
from telefonistka.telemetry import log

# The others are what the process was built with: its listeners, its storage, its connections and who it is.
RELOADED = frozenset(
    {
        "github_notify_interval",
        "github_repositories",
        "github_write_interval",
        "handle_self_comment",
        "log_format",
        "log_level",
        "promotion_auto_approve",
        "promotion_auto_merge",
        "promotion_max_auto_merge_deletions",
        "promotion_targets",
        "relay_allowed_hosts",
        "relay_allowed_networks",
        "relay_insecure_tls",
        "status_url_template",
        "storage_max_age",
        "storage_max_size",
        "templates_path",
        "trace_url",
    }
)


@dataclass(frozen=True, slots=True)
class _Made:
    """What is made of the settings."""

    settings: Settings
    words: Words
    ceiling: Ceiling
    status_link: Callable[[], str] | None


class Live:
    """The settings that count now; raises Invalid where they cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._made = _made(settings)

    @property
    def settings(self) -> Settings:
        return self._made.settings

    @property
    def words(self) -> Words:
        return self._made.words

    @property
    def ceiling(self) -> Ceiling:
        return self._made.ceiling

    @property
    def status_link(self) -> Callable[[], str] | None:
        return self._made.status_link

    def reload(self, fresh: Settings) -> tuple[str, ...]:
        """What may change counts from now on; the names of what is other than it was and needs a restart.

        Raises Invalid where the fresh ones cannot be used: then nothing has changed.
        """
        before = self.settings
        self._made = _made(replace(before, **{name: getattr(fresh, name) for name in RELOADED}))
        names = (field.name for field in fields(Settings))
        return tuple(name for name in names if getattr(fresh, name) != getattr(self.settings, name))


def _made(settings: Settings) -> _Made:
    return _Made(settings, _words(settings), _ceiling(settings), _status_link(settings))


def _words(settings: Settings) -> Words:
    """What we say, with the operator's own templates in the place of ours; raises Invalid where one is broken."""
    ours, path = templates.load(), settings.templates_path
    if path is None:
        return Words(ours)
    try:
        found = templates.found(path)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid((f"TEMPLATES_PATH is {str(path)!r}, where a template cannot be read: {error}.",)) from error
    problems = tuple(f"TEMPLATES_PATH: {path}/{fault}." for fault in comments.faults(ours, found.texts))
    if problems:
        raise Invalid(problems)
    if found.originals:
        log.warning("templates of the original are not used", files=found.originals, ours=sorted(ours))
    if found.unknown:
        log.warning("templates that nothing is said by are not used", files=found.unknown, ours=sorted(ours))
    return Words(ours, found.texts, lambda text: log.error("a template of TEMPLATES_PATH has failed", reason=text))


def _status_link(settings: Settings) -> Callable[[], str] | None:
    """Where commit statuses lead by the operator's template, else to the trace; None or "": to our comments."""
    path = settings.status_url_template
    if path is None:
        return _trace_link(settings.trace_url) if settings.trace_url else None
    try:
        template = statuslink.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, statuslink.Invalid) as error:
        name = "CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH"
        log.warning("commit statuses lead to our comments: the template is not used", variable=name, reason=str(error))
        return _trace_link(settings.trace_url) if settings.trace_url else None
    return lambda: template.render(datetime.now().astimezone())


def _trace_link(url: str) -> Callable[[], str]:
    def link() -> str:
        trace = telemetry.trace_id()
        return url.replace("{trace_id}", trace) if trace else ""

    return link


def _ceiling(settings: Settings) -> Ceiling:
    return Ceiling(
        auto_merge=settings.promotion_auto_merge,
        auto_approve=settings.promotion_auto_approve,
        max_deletions=settings.promotion_max_auto_merge_deletions,
        repositories=settings.github_repositories,
        targets=settings.promotion_targets,
    )
