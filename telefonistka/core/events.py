"""What a delivery says: its payload as one of our events. What to do about it is decided in `handlers/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from telefonistka.core.trees import Sha

Payload = dict[str, Any]


class Malformed(ValueError):  # noqa: N818 - what it says of a payload
    """The payload has not the shape of its event; the text names what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    id: int
    owner: str
    name: str
    default_branch: str
    installation: int | None = None

    @property
    def slug(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A `pull_request` delivery: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request"""

    repository: Repository
    action: str
    number: int
    merged: bool
    base_ref: str
    base_sha: Sha
    head_ref: str
    head_sha: Sha
    merge_sha: Sha | None
    title: str
    body: str
    author: str
    sender: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that asks nothing of us, and why."""

    reason: str


Event = PullRequest | Ignored


def parse(name: str, payload: Payload) -> Event:
    """The event of a payload; raises Malformed where the payload is not what `name` (X-GitHub-Event) promises.

    The header is not signed, so the shape of the payload decides, too.
    """
    if name != "pull_request":
        return Ignored(f"nothing is done on '{name}' events")
    try:
        return _pull_request(payload)
    except KeyError as error:
        raise Malformed(f"a pull_request payload without {error}") from error
    except (AttributeError, TypeError) as error:
        raise Malformed("a pull_request payload of another shape") from error


def _pull_request(payload: Payload) -> PullRequest:
    pull = payload["pull_request"]
    return PullRequest(
        repository=_repository(payload),
        action=payload["action"],
        number=pull["number"],
        merged=pull.get("merged") is True,
        base_ref=pull["base"]["ref"],
        base_sha=Sha(pull["base"]["sha"]),
        head_ref=pull["head"]["ref"],
        head_sha=Sha(pull["head"]["sha"]),
        merge_sha=Sha(pull["merge_commit_sha"]) if pull.get("merge_commit_sha") else None,
        title=pull["title"],
        body=pull.get("body") or "",
        author=_login(pull.get("user")),
        sender=_login(payload.get("sender")),
    )


def _repository(payload: Payload) -> Repository:
    repository = payload["repository"]
    installation = payload.get("installation") or {}
    return Repository(
        id=repository["id"],
        owner=repository["owner"]["login"],
        name=repository["name"],
        default_branch=repository["default_branch"],
        installation=installation.get("id"),
    )


def _login(user: Payload | None) -> str:
    # A deleted account is null; GitHub shows its work as the user "ghost".
    return user["login"] if user else "ghost"


def lane(payload: Payload) -> str:
    """What must happen in order: "<repository id>/<pull request>", or the repository alone, or "" without one.

    Never raises: what cannot be interpreted has a lane all the same.
    """
    repository = payload.get("repository")
    if not isinstance(repository, dict) or not isinstance(repository.get("id"), int):
        return ""
    for key in ("pull_request", "issue"):
        thread = payload.get(key)
        if isinstance(thread, dict) and isinstance(thread.get("number"), int):
            return f"{repository['id']}/{thread['number']}"
    return str(repository["id"])
