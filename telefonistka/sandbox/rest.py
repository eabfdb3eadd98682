"""The frame of the REST API: the table of routes, what a handler is given, what it answers, how it refuses.

Handlers live in repos.py, branches.py, gitdata.py, contents.py, pulls.py, reviews.py, issues.py, statuses.py, checks.py
and apps.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from aiohttp import web

from telefonistka.sandbox.auth import Identity
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.refusals import Refused as Refused  # handlers find here all that they need
from telefonistka.sandbox.refusals import invalid as invalid
from telefonistka.sandbox.refusals import not_found as not_found
from telefonistka.sandbox.refusals import read_only
from telefonistka.sandbox.state import RANKS, Access, Pull, Repo, User

REPOSITORY = "/repos/{owner}/{repo}"  # whose PATCH can open what is archived
PER_PAGE = 30
MAX_PER_PAGE = 100

T = TypeVar("T")


@dataclass(slots=True)
class Answer:
    """A status and the value that becomes the JSON body, or `raw` bytes as they are."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(eq=False)
class Ask:
    """One request with what is known about it: who asks, about which repository."""

    box: Box
    request: web.Request
    identity: Identity
    quirks: dict[str, Any] = field(default_factory=dict)  # set by fault rules: "truncated", "stale"
    cost: int = 1  # points against the rate limit
    found: Repo | None = None

    @property
    def repo(self) -> Repo:
        assert self.found is not None, "only routes with {owner}/{repo} have one"
        return self.found

    @property
    def user(self) -> User:
        """Who acts. Raises the 401 of an anonymous write."""
        if self.identity.user is None:
            raise Refused(401, "Requires authentication")
        return self.identity.user

    def path(self, name: str) -> str:
        return self.request.match_info[name]

    def number(self, name: str = "number") -> int:
        text = self.path(name)
        if not text.isdecimal():
            raise not_found()
        return int(text)

    def query(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def pull(self) -> Pull:
        """The pull request (or the issue that it is) of the path's {number}."""
        pull = self.repo.pulls.get(self.number())
        if pull is None:
            raise not_found()
        return pull

    async def value(self) -> Any:
        """The JSON of the body; of an empty one, an empty object."""
        raw = await self.request.read()
        if not raw.strip():
            return {}
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Refused(400, "Problems parsing JSON") from error

    async def json(self) -> dict[str, Any]:
        value = await self.value()
        if not isinstance(value, dict):
            raise Refused(400, "Body should be a JSON object")
        return value

    def page(self, values: Sequence[T]) -> tuple[Sequence[T], dict[str, str]]:
        """The part of the list that was asked for, and the Link header.

        https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api
        """
        size = min(max(whole(self.query("per_page"), PER_PAGE), 1), MAX_PER_PAGE)
        number = max(whole(self.query("page"), 1), 1)
        last = max(-(-len(values) // size), 1)
        links: dict[str, int] = {}
        if number > 1:
            links |= {"prev": min(number - 1, last), "first": 1}
        if number < last:
            links |= {"next": number + 1, "last": last}
        header = ", ".join(f'<{self.link(page=n)}>; rel="{rel}"' for rel, n in links.items())
        return values[(number - 1) * size : number * size], {"Link": header} if header else {}

    def link(self, **query: int | str) -> str:
        """This request's address with other query parameters."""
        url = self.request.rel_url.update_query({key: str(value) for key, value in query.items()})
        return f"{self.box.url}{url}"

    def require(self, access: Access) -> None:
        """The person may do at least this here; an App's permissions were checked by its route."""
        if self.identity.token is not None and self.identity.token.installation is not None:
            return
        if RANKS.index(self.box.access(self.user, self.repo)) < RANKS.index(access):
            raise Refused(403, f"Must have {access} rights to Repository.")


def whole(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default


def want(fields: Mapping[str, Any], name: str, type_: type[T], *, resource: str, default: T | None = None) -> T:
    """The field's value. Raises 422 where it is missing (and has no default) or of another type."""
    value = fields.get(name)
    if value is None:
        if default is None:
            raise invalid(resource, name, code="missing_field")
        return default
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise invalid(resource, name)
    return value


def texts(fields: Mapping[str, Any], name: str, resource: str) -> list[str]:
    values = fields.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(resource, name)
    return values


ASK = web.RequestKey("ask", Ask)  # where server.py puts it

Handler = Callable[[Ask], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. `needs` is "contents:read", or "issues,pull_requests:write" where either will do."""

    method: str
    path: str
    handler: Handler
    needs: str | None

    async def serve(self, request: web.Request) -> web.Response:
        ask = request[ASK]
        if "{repo}" in self.path:
            ask.found = find(ask)
        return respond(await self.answer(ask))

    async def answer(self, ask: Ask) -> Answer:
        if self.needs is not None:
            permit(ask, self.needs)
        if ask.found is not None and ask.found.archived and self.method != "GET" and self.path != REPOSITORY:
            raise read_only()
        return await self.handler(ask)


ROUTES: list[Route] = []


def route(method: str, path: str, needs: str | None = None) -> Callable[[Handler], Handler]:
    """Registers the handler under this method and path, root and `/api/v3` alike."""

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, path, handler, needs))
        return handler

    return register


def ordered(routes: Iterable[Route]) -> list[Route]:
    """Routes whose last part swallows everything come last: `/commits/{ref}/status` goes before `/commits/{ref}`."""
    return sorted(routes, key=lambda one: one.path.endswith(("+}", "*}")))


def definitions(routes: Iterable[Route] = ROUTES) -> list[web.RouteDef]:
    return [web.RouteDef(one.method, one.path, one.serve, {}) for one in ordered(routes)]


def find(ask: Ask) -> Repo:
    """The repository of the path, if the one who asks may see it. Raises 404, or 301 where it has moved."""
    owner, name = ask.path("owner"), ask.path("repo")
    repo = ask.box.repo(owner, name)
    if repo is None:
        moved = ask.box.renamed.get(f"{owner}/{name}".lower())
        if moved is None:
            raise not_found()
        raise redirect(ask, moved, f"{owner}/{name}")
    if not ask.identity.sees(ask.box, repo):
        raise not_found()
    return repo


def redirect(ask: Ask, repo: Repo, old: str) -> Refused:
    """GitHub redirects to the repository's id, which no later rename changes; 307 keeps the method of a write."""
    status = 301 if ask.request.method in ("GET", "HEAD") else 307
    prefix, _, rest = ask.request.rel_url.raw_path.partition(f"/repos/{old}")
    query = f"?{ask.request.rel_url.raw_query_string}" if ask.request.rel_url.raw_query_string else ""
    location = f"{ask.box.url}{prefix}/repositories/{repo.id}{rest}{query}"
    message = "Moved Permanently" if status == 301 else "Temporary Redirect"
    return Refused(status, message, headers={"Location": location})


def permit(ask: Ask, needs: str) -> None:
    names, _, level = needs.partition(":")
    refusal = ask.identity.refusal(ask.box, ask.found, names.split(","), level)
    if refusal is not None:
        raise refusal


def respond(answer: Answer) -> web.Response:
    if answer.raw is not None:
        return web.Response(body=answer.raw, status=answer.status, headers=answer.headers)
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return web.Response(
        body=orjson.dumps(answer.body),
        status=answer.status,
        headers={"Content-Type": "application/json; charset=utf-8"} | answer.headers,
    )


def printable(name: str) -> str:
    """A path as JSON can carry it: bytes that are no UTF-8 become U+FFFD, as in GitHub's answers."""
    return name if name.isascii() else name.encode(errors="surrogateescape").decode(errors="replace")
