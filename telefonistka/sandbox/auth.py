"""Who asks: a person or bot by token, an App by its JWT, an installation by its token, or nobody.

https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from telefonistka.sandbox.box import Box
from telefonistka.sandbox.refusals import Refused, not_found
from telefonistka.sandbox.state import RANKS, Access, App, Repo, Token, User, now

JWT_LIFETIME = 600  # seconds; GitHub refuses an `exp` further away
CLOCK_DRIFT = 60  # seconds that GitHub forgives
LEVELS = ("none", "read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who made a request, and by what right."""

    name: str
    user: User | None = None
    token: Token | None = None
    app: App | None = None  # set for a JWT only

    def sees(self, box: Box, repo: Repo) -> bool:
        """Whether the repository exists for this identity."""
        if not repo.private or self.app is not None:
            return True
        if self.token is None:
            return False
        if self.token.installation is not None:
            return reaches(self.token, repo)
        return box.access(self.token.user, repo) is not Access.NONE

    def refusal(self, box: Box, repo: Repo | None, names: Sequence[str], level: str) -> Refused | None:
        """Why GitHub would not do it: None if one of the named permissions is held at that level."""
        if self.app is not None:
            return Refused(403, "Resource not accessible by integration")
        if self.token is None:
            return None if level == "read" else Refused(401, "Requires authentication")
        if self.token.installation is not None:
            if repo is not None and not reaches(self.token, repo):
                return Refused(403, "Resource not accessible by integration") if not repo.private else not_found()
            held = max(LEVELS.index(self.token.permissions.get(name, "none")) for name in names)
            return None if held >= LEVELS.index(level) else Refused(403, "Resource not accessible by integration")
        if repo is None:
            return None
        return personal_refusal(box.access(self.token.user, repo), names, level)


def personal_refusal(access: Access, names: Sequence[str], level: str) -> Refused | None:
    """People without enough rights see a 404 where they would write git data, a 403 elsewhere."""
    needed = {"read": Access.READ, "write": Access.WRITE, "admin": Access.ADMIN}[level]
    if level == "write" and "issues" in names:
        needed = Access.READ  # anyone who can read may comment; what needs more asks for it
    if RANKS.index(access) >= RANKS.index(needed):
        return None
    return Refused(403, "Must have admin rights to Repository.") if level == "admin" else not_found()


def reaches(token: Token, repo: Repo) -> bool:
    installation = token.installation
    assert installation is not None
    if installation.account is not repo.owner:
        return False
    return token.repositories is None or repo.id in token.repositories


ANONYMOUS = Identity("anonymous")


def identify(box: Box, header: str | None) -> Identity:
    """The identity behind an Authorization header. Raises 401 for one that names nobody."""
    if header is None or not header.strip():
        return ANONYMOUS
    value = secret(header)
    if value.count(".") == 2:
        return by_jwt(box, value)
    token = box.tokens.get(value)
    if token is None or (token.expires_at is not None and token.expires_at <= now()):
        raise Refused(401, "Bad credentials")
    if token.installation is not None and token.installation.suspended_at is not None:
        raise Refused(403, "This installation has been suspended")
    return Identity(token.user.login, token.user, token)


def secret(header: str) -> str:
    """The token of `token …`, `Bearer …` or `Basic …` (its password, or its user name if that is empty)."""
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() != "basic":
        return value
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused(401, "Bad credentials") from error
    return user if password in ("", "x-oauth-basic") else password


def by_jwt(box: Box, value: str) -> Identity:
    """The App that signed this; the rules for iat and exp are GitHub's.

    https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
    """
    undecodable = Refused(401, "A JSON web token could not be decoded")
    try:
        claims = jwt.decode(value, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise undecodable from error
    app = issuer(box, claims.get("iss"))
    if app is None:
        raise Refused(404, "Integration not found")
    try:
        jwt.decode(value, app.public_key, ["RS256"], options={"verify_exp": False, "verify_iat": False})
    except jwt.InvalidTokenError as error:
        raise undecodable from error
    check_times(claims)
    return Identity(f"app/{app.slug}", app=app)


def issuer(box: Box, iss: object) -> App | None:
    if str(iss).isdecimal():
        return box.apps.get(int(str(iss)))
    return next((app for app in box.apps.values() if app.client_id == iss), None)


def check_times(claims: dict[str, Any]) -> None:
    issued, expires = claims.get("iat"), claims.get("exp")
    moment = time.time()
    if not isinstance(issued, int) or issued > moment + CLOCK_DRIFT:
        raise Refused(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        )
    if not isinstance(expires, int | float) or expires <= moment:
        raise Refused(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the"
            " assertion expires",
        )
    if expires > moment + JWT_LIFETIME + CLOCK_DRIFT or expires - issued > JWT_LIFETIME + 2 * CLOCK_DRIFT:
        raise Refused(401, "'Expiration time' claim ('exp') is too far in the future")
