"""The sandbox as a program of its own: one repository, a person, a bot, a webhook, and how to use them.

The repository is a clone of the user's own, or the example that the demo shows.
"""

from __future__ import annotations

import errno
import re
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from telefonistka.sandbox import example, scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.githttp import PUSHER
from telefonistka.sandbox.state import Access, Hook, Repo

BOT = "telefonistka-bot"
APPROVER = "telefonistka-approver"
EVENTS = ["check_suite", "issue_comment", "pull_request", "pull_request_review", "push", "status"]


class Unusable(Exception):  # noqa: N818
    """Why the sandbox cannot start, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may use the API."""

    login: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one needs to know of a running sandbox."""

    url: str
    repository: str  # owner/name
    default_branch: str
    origin: str | None  # the path that was cloned
    directory: str
    person: Account
    bot: Account
    approver: Account
    secret: str  # of the webhook
    webhook: str
    authority: str | None = None  # of an Enterprise server: the certificate to trust


async def serve(
    tell: Callable[[Place], None],
    *,
    origin: Path | None,
    port: int,
    directory: Path | None,
    webhook: str,
    enterprise: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM; tell once, when everything is there. Raises Unusable."""
    with _room(directory) as room:
        try:
            async with server.running(room, port=port, enterprise=enterprise) as box:
                place = _furnish(box, origin, webhook)
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    tell(place)
                    await anext(aiter(signals))
        except ExceptionGroup as group:  # what ends a task group comes in one
            raise _explained(group, origin, port) from group


@contextmanager
def _room(directory: Path | None) -> Iterator[Path]:
    """An empty directory: the one given, which stays, or a temporary one."""
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="telefonistka-") as name:
            yield Path(name)
        return
    if directory.exists() and any(directory.iterdir()):
        raise Unusable(f"{directory} is not empty. Give --dir a directory that is new or empty, or leave it out.")
    yield directory.absolute()


def _furnish(box: Box, origin: Path | None, webhook: str) -> Place:
    box.anonymous_push = True  # whoever is on this machine may try things out without setting git up
    person, bot, approver = box.person(PUSHER, access=Access.ADMIN), box.bot(BOT), box.bot(APPROVER)
    if origin is None:
        repo = scenes.repository(box, example.OWNER, example.NAME, example.files())
    else:
        repo = scenes.repository(box, example.OWNER, _name(origin), origin=origin.absolute())
    secret = secrets.token_hex(16)
    if webhook:
        _subscribe(box, repo, webhook, secret)
    return Place(
        url=box.url,
        repository=repo.full_name,
        default_branch=repo.default_branch,
        origin=None if origin is None else str(origin.absolute()),
        directory=str(box.directory),
        person=Account(login=person.user.login, token=person.value),
        bot=Account(login=bot.user.login, token=bot.value),
        approver=Account(login=approver.user.login, token=approver.value),
        secret=secret,
        webhook=webhook,
        authority=None if box.authority is None else str(box.authority),
    )


def _name(origin: Path) -> str:
    # https://docs.github.com/en/repositories/creating-and-managing-repositories: other characters become dashes
    return re.sub(r"[^A-Za-z0-9._-]+", "-", origin.absolute().resolve().name.removesuffix(".git")) or example.NAME


def _subscribe(box: Box, repo: Repo, webhook: str, secret: str) -> None:
    hook = Hook(id=box.next_id(), repo=repo, app=None, url=webhook, secret=secret, events=EVENTS)
    repo.hooks[hook.id] = hook


def _explained(group: ExceptionGroup, origin: Path | None, port: int) -> Exception:
    match group.exceptions:
        case [OSError(errno=errno.EADDRINUSE | errno.EACCES)]:
            return Unusable(f"port {port} is taken. Choose another with --port, or leave it out for a free one.")
        case [subprocess.CalledProcessError(stderr=bytes() as said)]:
            reason = (said.decode(errors="replace").strip().splitlines() or ["git gave no reason"])[-1]
            return Unusable(f"{origin} cannot be cloned. Give --repo the root of a git repository. ({reason})")
        case _:
            return group


def words(place: Place) -> str:
    """What a person needs, to read on a terminal."""
    page = f"{place.url}/{place.repository}"
    name = place.repository.rpartition("/")[2]
    trust = f"\n  export SSL_CERT_FILE={place.authority}" if place.authority else ""
    source = f"a clone of {place.origin}, which is never written to" if place.origin else "an example"
    return f"""\
A local GitHub is at {place.url}

  repository   {place.repository}, {source}; default branch {place.default_branch}
  pages        {page}   files and pull requests, with buttons to merge
               {place.url}/_sandbox   every API call and webhook delivery
  API          {place.url}/api/v3
  tokens       {place.person.token}   a person, {place.person.login}
               {place.bot.token}   a bot, {place.bot.login}
               {place.approver.token}   another, {place.approver.login}
  webhook      {place.webhook or "none"}

To promote what is merged there, run the daemon in another terminal:

  export GITHUB_HOST={place.url}{trust}
  export GITHUB_OAUTH_TOKEN={place.bot.token} APPROVER_GITHUB_OAUTH_TOKEN={place.approver.token}
  export GITHUB_WEBHOOK_SECRET={place.secret}
  export TELEFONISTKA_LISTEN={urlsplit(place.webhook).netloc or "127.0.0.1:8080"} TELEFONISTKA_STATE_DIR=$(mktemp -d)
  export TELEFONISTKA_GITHUB_WRITE_INTERVAL=0 TELEFONISTKA_GITHUB_NOTIFY_INTERVAL=0
  telefonistka server

To change something, clone, push a branch and open a pull request; its page has the button to merge:

  git clone {page}.git && cd {name}
  git switch --create change   # edit and commit, then
  git push origin change
  curl --header 'Authorization: Bearer {place.person.token}' \\
    --data '{{"title": "Change", "head": "change", "base": "{place.default_branch}"}}' \\
    {place.url}/api/v3/repos/{place.repository}/pulls

Ctrl-C ends it."""
