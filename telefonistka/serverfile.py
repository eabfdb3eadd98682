"""The server file: YAML text → the variables that its keys stand for, each with its place.

What belongs here: which keys there are, and what is said of others. What a value means is `settings`' business, which
reads variables, whoever has set them. A key is forever; none of them holds a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from telefonistka.core import documents
from telefonistka.core.documents import Each, Keys, Plain, Shape
from telefonistka.core.findings import Findings, Key, Place, Severity, nearest, shown

TEXT: Final = Plain.TEXT  # and numbers, whose text `settings` reads
SWITCH: Final = Plain.BOOLEAN
LIST: Final = Each(Plain.TEXT)

# Each key, the variable that comes before it, and what stands there. Ours are TELEFONISTKA_<SECTION>_<KEY>; the
# original's variables keep their names.
KEYS: Final[Mapping[str, tuple[str, Shape]]] = {
    "listen": ("TELEFONISTKA_LISTEN", TEXT),
    "stateDir": ("TELEFONISTKA_STATE_DIR", TEXT),
    "admin.listen": ("TELEFONISTKA_ADMIN_LISTEN", TEXT),
    "credentials.directory": ("CREDENTIALS_DIRECTORY", TEXT),
    "credentials.githubWebhookSecret": ("TELEFONISTKA_CREDENTIALS_GITHUB_WEBHOOK_SECRET", TEXT),
    "credentials.githubOauthToken": ("TELEFONISTKA_CREDENTIALS_GITHUB_OAUTH_TOKEN", TEXT),
    "credentials.githubAppPrivateKey": ("TELEFONISTKA_CREDENTIALS_GITHUB_APP_PRIVATE_KEY", TEXT),
    "credentials.approverGithubOauthToken": ("TELEFONISTKA_CREDENTIALS_APPROVER_GITHUB_OAUTH_TOKEN", TEXT),
    "credentials.approverGithubAppPrivateKey": ("TELEFONISTKA_CREDENTIALS_APPROVER_GITHUB_APP_PRIVATE_KEY", TEXT),
    "credentials.relaySecret": ("TELEFONISTKA_CREDENTIALS_RELAY_SECRET", TEXT),
    "github.host": ("GITHUB_HOST", TEXT),
    "github.caFile": ("TELEFONISTKA_GITHUB_CA_FILE", TEXT),
    "github.appId": ("GITHUB_APP_ID", TEXT),
    "github.appPrivateKeyPath": ("GITHUB_APP_PRIVATE_KEY_PATH", TEXT),
    "github.repositories": ("TELEFONISTKA_GITHUB_REPOSITORIES", LIST),
    "github.writeInterval": ("TELEFONISTKA_GITHUB_WRITE_INTERVAL", TEXT),
    "github.notifyInterval": ("TELEFONISTKA_GITHUB_NOTIFY_INTERVAL", TEXT),
    "github.handleSelfComment": ("HANDLE_SELF_COMMENT", SWITCH),
    "approver.appId": ("APPROVER_GITHUB_APP_ID", TEXT),
    "approver.appPrivateKeyPath": ("APPROVER_GITHUB_APP_PRIVATE_KEY_PATH", TEXT),
    "promotion.targets": ("TELEFONISTKA_PROMOTION_TARGETS", LIST),
    "promotion.autoMerge": ("TELEFONISTKA_PROMOTION_AUTO_MERGE", SWITCH),
    "promotion.autoApprove": ("TELEFONISTKA_PROMOTION_AUTO_APPROVE", SWITCH),
    "promotion.maxAutoMergeDeletions": ("TELEFONISTKA_PROMOTION_MAX_AUTO_MERGE_DELETIONS", TEXT),
    "relay.allowedHosts": ("TELEFONISTKA_RELAY_ALLOWED_HOSTS", LIST),
    "relay.allowedNetworks": ("TELEFONISTKA_RELAY_ALLOWED_NETWORKS", LIST),
    "relay.insecureTls": ("TELEFONISTKA_RELAY_INSECURE_TLS", SWITCH),
    "relay.caFile": ("TELEFONISTKA_RELAY_CA_FILE", TEXT),
    "relay.maxAge": ("TELEFONISTKA_RELAY_MAX_AGE", TEXT),
    "relay.maxWaiting": ("TELEFONISTKA_RELAY_MAX_WAITING", TEXT),
    "relay.maxInFlight": ("TELEFONISTKA_RELAY_MAX_IN_FLIGHT", TEXT),
    "recovery.interval": ("TELEFONISTKA_RECOVERY_INTERVAL", TEXT),
    "census.interval": ("TELEFONISTKA_CENSUS_INTERVAL", TEXT),
    "storage.url": ("TELEFONISTKA_STORAGE_URL", TEXT),
    "storage.maxAge": ("TELEFONISTKA_STORAGE_MAX_AGE", TEXT),
    "storage.maxSize": ("TELEFONISTKA_STORAGE_MAX_SIZE", TEXT),
    "templates.path": ("TEMPLATES_PATH", TEXT),
    "templates.statusUrlPath": ("CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH", TEXT),
    "log.level": ("LOG_LEVEL", TEXT),
    "log.format": ("LOG_FORMAT", TEXT),
    "trace.url": ("TELEFONISTKA_TRACE_URL", TEXT),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the file says for one variable."""

    key: str
    text: str
    at: str  # file:line:column


def read(text: bytes, *, file: str) -> tuple[Mapping[str, Given], tuple[str, ...]]:
    """What the file gives, by variable, and everything that is wrong with it as lines with file, line and column."""
    findings = Findings(file)

    def on_key(name: str, keys: Keys, place: Place) -> None:
        if name not in keys.of:
            findings.error(place, f"unknown key {shown(name)}{_hint(name, keys)}")

    document = documents.read(text, SHAPE, findings, on_key)
    given = {}
    for key, value in _leaves(document.data or {}, ()):
        dotted = ".".join(map(str, key))
        place = nearest(document.places, key)
        given[KEYS[dotted][0]] = Given(dotted, _text(value), f"{file}:{place.line}:{place.column}")
    # What is but a warning in a repository's file keeps the daemon from its start: here the operator looks on.
    return given, tuple(str(replace(finding, severity=Severity.ERROR)) for finding in findings.sorted())


def _shape() -> Keys:
    sections: dict[str, Shape] = {}
    within: dict[str, dict[str, Shape]] = {}
    for key, (_, shape) in KEYS.items():
        section, _, name = key.rpartition(".")
        if section:
            within.setdefault(section, {})[name] = shape
        else:
            sections[name] = shape
    return Keys(sections | {section: Keys(keys, wants_line=False) for section, keys in within.items()}, False)


SHAPE: Final = _shape()


def _leaves(data: Mapping[str, Any], above: Key) -> Iterator[tuple[Key, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _text(value: str | bool | list[str]) -> str:
    """As the variable would have it."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return ",".join(value)
        case _:
            return value.strip()


def _hint(name: str, keys: Keys) -> str:
    homes = [key.rpartition(".")[0] for key in KEYS if key.rpartition(".")[2] == name]
    if homes:
        return f" — it belongs {f'under {homes[0]!r}' if homes[0] else 'at the top'}"
    known = {key.casefold(): key for key in keys.of}
    close = difflib.get_close_matches(name.casefold(), known, n=1)
    return f" — did you mean {known[close[0]]!r}?" if close else ""
