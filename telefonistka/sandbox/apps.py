"""REST: who asks, Apps and their installations, limits. https://docs.github.com/en/rest/apps"""

from __future__ import annotations

from typing import Any

from telefonistka.sandbox import objects
from telefonistka.sandbox.auth import LEVELS
from telefonistka.sandbox.gitdata import REPO
from telefonistka.sandbox.rest import Answer, Ask, Refused, not_found, route
from telefonistka.sandbox.state import App, Installation, Repo, Token

NO_JWT = "A JSON web token could not be decoded"


@route("GET", "/user")
async def viewer(ask: Ask) -> Answer:
    if ask.identity.token is None or ask.identity.token.installation is not None:
        raise (
            Refused(403, "Resource not accessible by integration")
            if ask.identity.user
            else Refused(401, "Requires authentication")
        )
    more = {
        "private_gists": 0,
        "total_private_repos": 0,
        "owned_private_repos": 0,
        "disk_usage": 0,
        "collaborators": 0,
        "two_factor_authentication": True,
    }
    return Answer(objects.profile(ask.box, ask.user) | more)


@route("GET", "/users/{username}")
async def get_user(ask: Ask) -> Answer:
    user = ask.box.user(ask.path("username"))
    if user is None:
        raise not_found()
    return Answer(objects.profile(ask.box, user))


@route("GET", "/rate_limit")
async def rate_limit(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/rate-limit/rate-limit: asking costs nothing"""
    ask.cost = 0
    shown = {name: ask.box.limits.bucket(ask.identity.name, name).shown() for name in ("core", "graphql", "search")}
    return Answer({"resources": shown, "rate": shown["core"]})


@route("GET", "/meta")
async def meta(ask: Ask) -> Answer:
    ranges = ["127.0.0.0/8"]
    kinds = ("hooks", "web", "api", "git")
    return Answer({"verifiable_password_authentication": False, **dict.fromkeys(kinds, ranges)})


def signed_by(ask: Ask) -> App:
    """The App whose JWT signed this request. Raises 401."""
    if ask.identity.app is None:
        raise Refused(401, NO_JWT)
    return ask.identity.app


@route("GET", "/app")
async def get_app(ask: Ask) -> Answer:
    app = signed_by(ask)
    count = sum(1 for one in ask.box.installations.values() if one.app is app)
    return Answer(objects.app(ask.box, app) | {"installations_count": count})


@route("GET", "/apps/{slug}")
async def get_app_by_slug(ask: Ask) -> Answer:
    app = next((one for one in ask.box.apps.values() if one.slug == ask.path("slug")), None)
    if app is None:
        raise not_found()
    return Answer(objects.app(ask.box, app))


@route("GET", "/app/installations")
async def list_installations(ask: Ask) -> Answer:
    app = signed_by(ask)
    part, headers = ask.page([one for one in ask.box.installations.values() if one.app is app])
    return Answer([objects.installation(ask.box, one) for one in part], headers=headers)


def own_installation(ask: Ask) -> Installation:
    found = ask.box.installations.get(ask.number("installation_id"))
    if found is None or found.app is not signed_by(ask):
        raise not_found()
    return found


@route("GET", "/app/installations/{installation_id}")
async def get_installation(ask: Ask) -> Answer:
    signed_by(ask)
    return Answer(objects.installation(ask.box, own_installation(ask)))


@route("GET", REPO + "/installation")
async def repo_installation(ask: Ask) -> Answer:
    found = ask.box.installation_of(signed_by(ask), ask.repo)
    if found is None:
        raise not_found()
    return Answer(objects.installation(ask.box, found))


@route("POST", "/app/installations/{installation_id}/access_tokens")
async def create_token(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app"""
    signed_by(ask)
    installation = own_installation(ask)
    if installation.suspended_at is not None:
        raise Refused(403, "This installation has been suspended")
    fields = await ask.json()
    token = ask.box.installation_token(
        installation,
        permissions=narrowed(installation, fields.get("permissions")),
        repositories=chosen(ask, installation, fields),
    )
    return Answer(shown_token(ask, token), 201)


def narrowed(installation: Installation, asked: Any) -> dict[str, str] | None:
    if not asked:  # an empty object, which some clients send, narrows nothing
        return None
    for name, level in asked.items():
        if level not in LEVELS or LEVELS.index(level) > LEVELS.index(installation.permissions.get(name, "none")):
            raise Refused(422, "The permissions requested are not granted to this installation.")
    return {"metadata": "read", **asked}


def chosen(ask: Ask, installation: Installation, fields: dict[str, Any]) -> set[int] | None:
    """The ids of the repositories that the token is narrowed to. Raises 422 for one out of reach."""
    if "repositories" not in fields and "repository_ids" not in fields:
        return None
    reachable = repositories_of(ask, installation, None)
    by_name = {repo.name.lower(): repo.id for repo in reachable}
    ids = {by_name.get(str(name).lower()) for name in fields.get("repositories", [])}
    ids |= {one if one in by_name.values() else None for one in fields.get("repository_ids", [])}
    if None in ids:
        raise Refused(
            422, "There is at least one repository that does not exist or is not accessible to the parent installation."
        )
    return {one for one in ids if one is not None}


def repositories_of(ask: Ask, installation: Installation, narrower: set[int] | None) -> list[Repo]:
    allowed = installation.repositories if narrower is None else narrower
    repos = [repo for repo in ask.box.repos.values() if repo.owner is installation.account]
    return [repo for repo in repos if allowed is None or repo.id in allowed]


def shown_token(ask: Ask, token: Token) -> dict[str, Any]:
    assert token.installation is not None
    shown: dict[str, Any] = {
        "token": token.value,
        "expires_at": objects.time(token.expires_at),
        "permissions": token.permissions,
        "repository_selection": "all" if token.repositories is None else "selected",
    }
    if token.repositories is not None:
        reached = repositories_of(ask, token.installation, token.repositories)
        shown["repositories"] = [objects.repository(ask.box, repo) for repo in reached]
    return shown


@route("GET", "/installation/repositories")
async def list_reachable(ask: Ask) -> Answer:
    token = ask.identity.token
    if token is None or token.installation is None:
        raise Refused(403, "You must authenticate with an installation access token in order to list repositories.")
    repos = repositories_of(ask, token.installation, token.repositories)
    part, headers = ask.page(repos)
    shown = [objects.repository(ask.box, repo) for repo in part]
    selection = "all" if token.repositories is None else "selected"
    return Answer(
        {"total_count": len(repos), "repository_selection": selection, "repositories": shown}, headers=headers
    )
