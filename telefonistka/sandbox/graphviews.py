"""What GraphQL's views have in common: one class per object type, one attribute or method per field
(`baseRefName` → `base_ref_name`). The types themselves are in schema.graphql, a slice of GitHub's.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from graphql import GraphQLError

from telefonistka.sandbox.rest import Ask
from telefonistka.sandbox.state import Pull, Repo, User

PAGE_LIMIT = 100

View = Any
VIEWS: dict[str, Callable[..., View]] = {}


def refused(kind: str, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"type": kind})


def connection(
    values: Sequence[Any],
    view: Callable[[Any], View],
    *,
    name: str,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """One page of a list. Raises GitHub's refusals of no limit, or one above 100.

    https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api#node-limit
    """
    if first is None and last is None:
        message = f"You must provide a `first` or `last` value to properly paginate the `{name}` connection."
        raise refused("MISSING_PAGINATION_BOUNDARIES", message)
    for side, size in (("first", first), ("last", last)):
        if size is not None and size > PAGE_LIMIT:
            message = f"Requesting {size} records on the `{name}` connection exceeds the `{side}` limit of 100 records."
            raise refused("EXCESSIVE_PAGINATION", message)
    start, end = position(after) if after else 0, position(before) - 1 if before else len(values)
    if first is not None:
        end = min(end, start + first)
    if last is not None:
        start = max(start, end - last)
    chosen = values[start:end]
    info = {
        "hasNextPage": end < len(values),
        "hasPreviousPage": start > 0,
        "startCursor": cursor(start + 1) if chosen else None,
        "endCursor": cursor(end) if chosen else None,
    }
    return {"nodes": [view(one) for one in chosen], "totalCount": len(values), "pageInfo": info}


def cursor(number: int) -> str:
    return base64.b64encode(f"cursor:{number}".encode()).decode()


def position(text: str) -> int:
    try:
        return int(base64.b64decode(text).decode().removeprefix("cursor:"))
    except ValueError as error:
        raise refused("INVALID_CURSOR_ARGUMENTS", f"`{text}` does not appear to be a valid cursor.") from error


@dataclass(frozen=True)
class ActorView:
    ask: Ask
    user: User
    whole: bool = False  # the viewer's login keeps the ending "[bot]", everyone else's loses it

    @property
    def type_name(self) -> str:
        return self.user.type

    def __getattr__(self, name: str) -> Any:
        match name:
            case "login":
                return self.user.login if self.whole else self.user.login.removesuffix("[bot]")
            case "id":
                return self.user.node_id
            case "database_id":
                return self.user.id
            case "name":
                return self.user.name
            case "email":
                return ""
            case "url" | "resource_path":
                path = f"/{self.user.login}"
                return self.ask.box.url + path if name == "url" else path
        raise AttributeError(name)

    def avatar_url(self, size: int | None = None) -> str:
        return f"{self.ask.box.url}/avatars/{self.user.id}"


@dataclass(frozen=True)
class InRepo:
    """What every thing inside a repository has."""

    ask: Ask
    repo: Repo
    type_name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if "type_name" in vars(cls):
            VIEWS[cls.type_name] = cls

    def view(self, type_name: str, *facts: Any) -> View:
        """Another thing of the same repository, by its type's name: views refer to each other in circles."""
        return VIEWS[type_name](self.ask, self.repo, *facts)

    @property
    def repository(self) -> View:
        return self.view("Repository")

    def actor(self, user: User | None) -> ActorView | None:
        return None if user is None else ActorView(self.ask, user)

    def commit_view(self, sha: str | None) -> View:
        return None if sha is None else self.view("Commit", self.repo.git.commit(sha))


def pull_connection(
    within: InRepo,
    pulls: Sequence[Pull],
    name: str,
    *,
    states: Sequence[str] | None = None,
    head_ref_name: str | None = None,
    base_ref_name: str | None = None,
    labels: Sequence[str] | None = None,
    order_by: dict[str, str] | None = None,
    **page: Any,
) -> dict[str, Any]:
    chosen = [
        pull
        for pull in pulls
        if (states is None or within.view("PullRequest", pull).state in states)
        and head_ref_name in (None, pull.head_ref)
        and base_ref_name in (None, pull.base_ref)
        and (labels is None or {label.name for label in pull.labels} & set(labels))
    ]
    if order_by is not None:
        key = "updated_at" if order_by["field"] == "UPDATED_AT" else "created_at"
        chosen.sort(key=lambda pull: (getattr(pull, key), pull.number), reverse=order_by["direction"] == "DESC")
    return connection(chosen, lambda pull: within.view("PullRequest", pull), name=name, **page)
