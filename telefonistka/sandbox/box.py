"""The sandbox's memory in one place: who is there, which repositories, what happened, which calls were made.

What belongs here: finding and creating records, and telling listeners what happened. Not HTTP, not JSON, not git.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.abc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from telefonistka.sandbox.errands import Errands
from telefonistka.sandbox.faults import Rules
from telefonistka.sandbox.limits import Limits
from telefonistka.sandbox.post import Post
from telefonistka.sandbox.state import (
    RANKS,
    Access,
    App,
    Call,
    Delivery,
    Event,
    Hook,
    Installation,
    Registration,
    Repo,
    Token,
    User,
    now,
)

Listener = Callable[[Event], Awaitable[None]]

TOKEN_LIFETIME = timedelta(hours=1)  # of an installation token

APP_PERMISSIONS = {
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}
APP_EVENTS = ["issue_comment", "pull_request", "push"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a new App's owner gets: the App, its private key (PEM), and its installation."""

    app: App
    private_key: str
    installation: Installation


@dataclass(eq=False)
class Box:
    """One sandbox. Everything on disk is below `directory`; the rest is gone when it ends."""

    directory: Path
    url: str = ""  # "http://127.0.0.1:8000", known once it listens
    enterprise: bool = False
    authority: Path | None = None  # the certificate that clients of an Enterprise server must trust
    users: dict[str, User] = field(default_factory=dict)  # by lower-case login
    tokens: dict[str, Token] = field(default_factory=dict)  # by value
    apps: dict[int, App] = field(default_factory=dict)
    installations: dict[int, Installation] = field(default_factory=dict)
    registrations: dict[str, Registration] = field(default_factory=dict)  # by the code that stands for each, once
    repos: dict[str, Repo] = field(default_factory=dict)  # by lower-case owner/name
    renamed: dict[str, Repo] = field(default_factory=dict)  # old lower-case owner/name → where it went
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    rules: Rules = field(default_factory=Rules)
    post: Post = field(default_factory=Post)
    errands: Errands = field(default_factory=Errands)
    teams: dict[str, set[str]] = field(default_factory=dict)  # lower-case "org/team" → lower-case logins
    listeners: list[Listener] = field(default_factory=list)
    tasks: anyio.abc.TaskGroup | None = None  # for what outlives a request, such as deliveries; set while running
    anonymous_push: bool = False  # whether git may push without a token, as the person called "you"
    last_id: int = 1000
    last_call: int = 0
    under_way: int = 0  # API requests

    def next_id(self) -> int:
        """A number that nothing else here has; even, because a pull request's issue takes the odd one after it."""
        self.last_id += 2
        return self.last_id

    # People, bots, apps

    def user(self, login: str) -> User | None:
        return self.users.get(login.lower())

    def account(self, login: str, *, type_: str = "Organization") -> User:
        """The account of this name, made if it is new."""
        known = self.user(login)
        if known is not None:
            return known
        user = User(id=self.next_id(), login=login, type=type_)  # type: ignore[arg-type]
        self.users[login.lower()] = user
        return user

    def person(self, login: str, *, access: Access | str = Access.WRITE) -> Token:
        """A token of this person, who may do `access` in every repository that does not say otherwise."""
        user = self.account(login, type_="User")
        user.access = Access(access)
        return self.token(user)

    def bot(self, login: str, *, access: Access | str = Access.WRITE) -> Token:
        """A machine user's token: for GitHub, an account like any other."""
        return self.person(login, access=access)

    def token(self, user: User) -> Token:
        token = Token(value="ghp_" + secrets.token_hex(18), user=user)
        self.tokens[token.value] = token
        return token

    def new_app(
        self,
        slug: str,
        *,
        owner: str,
        permissions: dict[str, str] | None = None,
        events: list[str] | None = None,
        webhook: str | None = None,
        secret: str = "",
        repositories: set[int] | None = None,
    ) -> Credentials:
        """A GitHub App installed on `owner`'s account, on all its repositories or on those named by id."""
        account = self.account(owner)
        app, key = self.register(
            slug,
            name=slug,
            owner=account,
            permissions=APP_PERMISSIONS if permissions is None else permissions,
            events=APP_EVENTS if events is None else events,
        )
        if webhook is not None:
            self.listen(app, webhook, secret)
        return Credentials(app=app, private_key=key, installation=self.install(app, account, repositories))

    def register(
        self, slug: str, *, name: str, owner: User, permissions: dict[str, str], events: list[str]
    ) -> tuple[App, str]:
        """A GitHub App that is installed nowhere yet, and its private key in PEM."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        app = App(
            id=self.next_id(),
            slug=slug,
            name=name,
            owner=owner,
            bot=self.account(f"{slug}[bot]", type_="Bot"),
            client_id=f"Iv1.{secrets.token_hex(8)}",
            public_key=public_pem(key),
            permissions={"metadata": "read"} | permissions,
            events=events,
        )
        app.bot.access = Access.NONE  # an App may what its installation may, never more
        self.apps[app.id] = app
        return app, private_pem(key)

    def listen(self, app: App, webhook: str, secret: str) -> None:
        """The App's events are sent there."""
        app.hook = Hook(id=self.next_id(), repo=None, app=app, url=webhook, secret=secret, events=app.events)

    def install(self, app: App, account: User, repositories: set[int] | None = None) -> Installation:
        installation = Installation(
            id=self.next_id(),
            app=app,
            account=account,
            repositories=repositories,
            permissions=dict(app.permissions),
        )
        self.installations[installation.id] = installation
        return installation

    def installation_token(
        self,
        installation: Installation,
        *,
        permissions: dict[str, str] | None = None,
        repositories: set[int] | None = None,
    ) -> Token:
        token = Token(
            value="ghs_" + secrets.token_hex(18),
            user=installation.app.bot,
            installation=installation,
            expires_at=now() + TOKEN_LIFETIME,
            permissions=dict(installation.permissions if permissions is None else permissions),
            repositories=installation.repositories if repositories is None else repositories,
        )
        self.tokens[token.value] = token
        return token

    def installation_of(self, app: App, repo: Repo) -> Installation | None:
        """The App's installation that reaches this repository."""
        for one in self.installations.values():
            reaches = one.repositories is None or repo.id in one.repositories
            if one.app is app and one.account is repo.owner and reaches:
                return one
        return None

    # Repositories

    def repo(self, owner: str, name: str) -> Repo | None:
        return self.repos.get(f"{owner}/{name}".lower())

    def add_repo(self, repo: Repo) -> Repo:
        self.repos[repo.full_name.lower()] = repo
        return repo

    def rename(self, repo: Repo, name: str) -> None:
        """The repository under its new name; requests to the old one are redirected."""
        old = repo.full_name.lower()
        del self.repos[old]
        repo.name = name
        self.repos[repo.full_name.lower()] = repo
        self.renamed[old] = repo

    def access(self, user: User, repo: Repo) -> Access:
        """What this person may do there; everyone may read what is public."""
        if user is repo.owner:
            return Access.ADMIN
        granted = repo.collaborators.get(user.login.lower(), user.access)
        floor = Access.NONE if repo.private else Access.READ
        return max(granted, floor, key=RANKS.index)

    def writes(self, user: User, repo: Repo) -> bool:
        """Whether this person may push there, and so their reviews count; an App may by its permissions."""
        if user.type != "Bot":
            return RANKS.index(self.access(user, repo)) >= RANKS.index(Access.WRITE)
        app = next((one for one in self.apps.values() if one.bot is user), None)
        found = None if app is None else self.installation_of(app, repo)
        return found is not None and found.permissions.get("contents") == "write"

    def members(self, name: str) -> set[str]:
        """The lower-case logins behind a name in CODEOWNERS: a team's, or the person's."""
        return self.teams.get(name.lower(), {name.lower()})

    def is_collaborator(self, user: User, repo: Repo) -> bool:
        """Whether one may assign this person, or ask them for a review: more than reading what everyone may."""
        if user is repo.owner and user.type == "User":
            return True
        return repo.collaborators.get(user.login.lower(), user.access) is not Access.NONE

    # What happened

    async def tell(self, name: str, action: str | None, *, repo: Repo | None, sender: User, **facts: Any) -> None:
        """Every listener has heard of it; the facts by event are listed in state.py."""
        event = Event(name=name, action=action, repo=repo, sender=sender, facts=facts)
        for listener in self.listeners:
            await listener(event)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
