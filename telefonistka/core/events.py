"""What a delivery or our own later work says, as one of our events. What to do about it is decided in `handlers/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from telefonistka.core import commands
from telefonistka.core.reviews import NOBODY, Awaited, Opinion
from telefonistka.core.trees import Sha

Payload = dict[str, Any]

# Our own events, by names that GitHub has not.
WAITING = "telefonistka_waiting"
PROGRESS = "telefonistka_progress"
AGAIN = "telefonistka_again"
LOOK = "telefonistka_look"
CONFLICT = "telefonistka_conflict"

# What a comment may ask for that no action of GitHub's stands for.
PLAN_ASKED = "plan asked"
DRIFT_ASKED = "drift asked"

STATUS_CONTEXT = "telefonistka"  # of the commit status that the worker sets

# https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
COMMITS = 2048  # in a payload; more are cut
FILES = 3000  # of one commit; more are cut


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
    label: str = ""  # the one that was added or removed
    labels: tuple[str, ...] = ()  # that it has, sorted
    awaited: Awaited = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A review was given or dismissed: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request_review"""

    repository: Repository
    number: int
    author: str
    opinion: Opinion
    awaited: Awaited


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A check or a status of a commit came to its end.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#status and `#check_suite`
    """

    repository: Repository
    sha: Sha


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """The default branch has moved: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push"""

    repository: Repository
    files: tuple[str, ...]  # sorted
    doubt: str = ""  # why there may be more files; empty: these are all


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """Somebody commented on a pull request, and its first line may be a command.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#issue_comment
    """

    repository: Repository
    number: int
    id: int
    body: str
    author: str
    by_app: bool  # no person wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Our own: a pull request of ours that is to be merged is to be looked at again."""

    repository: Repository
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Our own: what came of a merged pull request is further than its commit status says."""

    repository: Repository
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Our own: whether open pull requests of ours are in conflict is to be asked."""

    repository: Repository
    numbers: tuple[int, ...]
    looks: int = 0  # that GitHub did not know yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Our own: a pull request of ours is in conflict with the default branch."""

    repository: Repository
    number: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that asks nothing of us, and why."""

    reason: str


Own = Waiting | Progress | Look | Conflict | PullRequest  # the last one where somebody asks for what a delivery led to
Event = PullRequest | Review | Checked | Push | Comment | Waiting | Progress | Look | Conflict | Ignored


def parse(name: str, payload: Payload) -> Event:
    """The event of a payload; raises Malformed where the payload is not what `name` (X-GitHub-Event) promises.

    The header is not signed, so the shape of the payload decides, too.
    """
    reader = _READERS.get(name)
    if reader is None:
        return Ignored(f"nothing is done on '{name}' events")
    try:
        return reader(payload)
    except KeyError as error:
        raise Malformed(f"a {name} payload without {error}") from error
    except (AttributeError, TypeError) as error:
        raise Malformed(f"a {name} payload of another shape") from error


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
        label=(payload.get("label") or {}).get("name", ""),
        labels=tuple(sorted(label["name"] for label in pull.get("labels") or ())),
        awaited=_awaited(pull),
    )


def _review(payload: Payload) -> Review | Ignored:
    review, pull = payload["review"], payload["pull_request"]
    if review["state"] == "commented" or payload["action"] not in ("submitted", "dismissed"):
        return Ignored("a review that neither approves nor refuses")
    return Review(
        repository=_repository(payload),
        number=pull["number"],
        author=_login(review.get("user")),
        opinion=Opinion(review["id"], review["state"]),
        awaited=_awaited(pull),
    )


def _awaited(pull: Payload) -> Awaited:
    people = [one["login"] for one in pull.get("requested_reviewers") or ()]
    teams = [one["slug"] for one in pull.get("requested_teams") or ()]
    return Awaited(
        asked=tuple(sorted({*people, *teams})),
        draft=pull.get("draft") is True,
        as_of=pull.get("updated_at") or "",
    )


def _status(payload: Payload) -> Checked | Ignored:
    if payload["context"] == STATUS_CONTEXT:
        return Ignored("a status of our own")
    if payload["state"] == "pending":
        return Ignored("a check that has begun")
    return Checked(repository=_repository(payload), sha=Sha(payload["sha"]))


def _check_suite(payload: Payload) -> Checked | Ignored:
    if payload["action"] != "completed":
        return Ignored("checks that have begun")
    return Checked(repository=_repository(payload), sha=Sha(payload["check_suite"]["head_sha"]))


def _push(payload: Payload) -> Push | Ignored:
    repository = _repository(payload)
    if payload["ref"] != f"refs/heads/{repository.default_branch}" or payload.get("deleted") is True:
        return Ignored(f"a push to {payload['ref']} that no relay rule is about")
    files, doubt = pushed(payload)
    return Push(repository=repository, files=files, doubt=doubt)


def pushed(payload: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The files that the commits list, and why there may be others."""
    files: set[str] = set()
    commits = payload["commits"]
    doubt = ""
    for commit in commits:
        listed = [path for kind in ("added", "modified", "removed") for path in commit.get(kind) or ()]
        files.update(listed)
        if len(listed) >= FILES:
            doubt = f"a commit lists {len(listed):,} files, and GitHub lists no more than {FILES:,}"
    if len(commits) >= COMMITS:
        doubt = f"the push lists {len(commits):,} commits, and GitHub lists no more than {COMMITS:,}"
    elif payload.get("forced") is True:
        doubt = "the push was forced, and what it took away is not listed"
    elif payload.get("created") is True:
        doubt = "the branch is new, and only its newest commits are listed"
    elif not files:
        doubt = "the push lists no files"
    return tuple(sorted(files)), doubt


def _comment(payload: Payload) -> Comment | Ignored:
    comment, issue = payload["comment"], payload["issue"]
    if payload["action"] != "created":
        return Ignored("a comment that was changed or removed asks for nothing")
    if not issue.get("pull_request"):
        return Ignored("a comment on an issue")
    if commands.parse(comment["body"] or "") is None:
        return Ignored("a comment that is no command")
    user = comment.get("user")
    return Comment(
        repository=_repository(payload),
        number=issue["number"],
        id=comment["id"],
        body=comment["body"],
        author=_login(user),
        by_app=(user or {}).get("type") == "Bot",
    )


def _again(payload: Payload) -> PullRequest:
    _own(payload, AGAIN)
    return _pull_request(payload)


def _waiting(payload: Payload) -> Waiting:
    return Waiting(repository=_own(payload, WAITING), number=payload["pull_request"]["number"])


def _progress(payload: Payload) -> Progress:
    return Progress(repository=_own(payload, PROGRESS), number=payload["pull_request"]["number"])


def _look(payload: Payload) -> Look:
    repository = _own(payload, LOOK)
    return Look(repository=repository, numbers=tuple(payload["numbers"]), looks=payload["looks"])


def _conflict(payload: Payload) -> Conflict:
    return Conflict(repository=_own(payload, CONFLICT), number=payload["pull_request"]["number"])


def _own(payload: Payload, name: str) -> Repository:
    # GitHub's payloads have no such key, so none of them passes for ours under a forged header.
    if payload["telefonistka"] != name:
        raise TypeError
    return _repository(payload)


def written(event: Own) -> tuple[str, Payload]:
    """The name and the payload that `parse` makes the event of again."""
    about: Payload
    match event:
        case Waiting():
            name, about = WAITING, {"pull_request": {"number": event.number}}
        case Progress():
            name, about = PROGRESS, {"pull_request": {"number": event.number}}
        case Conflict():
            name, about = CONFLICT, {"pull_request": {"number": event.number}}
        case Look():
            name, about = LOOK, {"numbers": list(event.numbers), "looks": event.looks}
        case PullRequest():
            name, about = AGAIN, _pull_payload(event)
    repository = event.repository
    payload: Payload = {
        "telefonistka": name,
        **about,
        "repository": {
            "id": repository.id,
            "name": repository.name,
            "owner": {"login": repository.owner},
            "default_branch": repository.default_branch,
        },
    }
    if repository.installation is not None:
        payload["installation"] = {"id": repository.installation}
    return name, payload


def _pull_payload(event: PullRequest) -> Payload:
    pull = {
        "number": event.number,
        "merged": event.merged,
        "base": {"ref": event.base_ref, "sha": event.base_sha},
        "head": {"ref": event.head_ref, "sha": event.head_sha},
        "merge_commit_sha": event.merge_sha,
        "title": event.title,
        "body": event.body,
        "user": {"login": event.author},
        "labels": [{"name": label} for label in event.labels],
    }
    label = {"label": {"name": event.label}} if event.label else {}
    return {"action": event.action, "pull_request": pull, "sender": {"login": event.sender}, **label}


_READERS: Mapping[str, Callable[[Payload], Event]] = {
    "push": _push,
    "pull_request": _pull_request,
    "pull_request_review": _review,
    "status": _status,
    "check_suite": _check_suite,
    "issue_comment": _comment,
    AGAIN: _again,
    WAITING: _waiting,
    PROGRESS: _progress,
    LOOK: _look,
    CONFLICT: _conflict,
}


def repository(payload: Mapping[str, Any]) -> Repository:
    """Which repository a payload is about; raises Malformed."""
    try:
        return _repository(payload)
    except KeyError as error:
        raise Malformed(f"a payload without {error}") from error
    except (AttributeError, TypeError) as error:
        raise Malformed("a payload of another shape") from error


def _repository(payload: Mapping[str, Any]) -> Repository:
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
    """What must happen in order: "<repository id>/<pull request>", for checks "<repository id>/<commit>".

    The repository alone where there is neither, "" where there is no repository.

    Never raises: what cannot be interpreted has a lane all the same.
    """
    repository = payload.get("repository")
    if not isinstance(repository, dict) or not isinstance(repository.get("id"), int):
        return ""
    for key in ("pull_request", "issue"):
        thread = payload.get(key)
        if isinstance(thread, dict) and isinstance(thread.get("number"), int):
            return f"{repository['id']}/{thread['number']}"
    suite = payload.get("check_suite")
    sha = suite.get("head_sha") if isinstance(suite, dict) else payload.get("sha")
    return f"{repository['id']}/{sha}" if isinstance(sha, str) else str(repository["id"])
