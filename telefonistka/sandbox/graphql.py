"""GraphQL: GitHub's schema, as far as schema.graphql holds it, executed over the records.

https://docs.github.com/en/graphql; errors come with HTTP 200, as GitHub sends them.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib import resources
from typing import Any, cast

import orjson
from aiohttp import web
from graphql import (
    DocumentNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_schema,
    execute,
    parse,
    validate,
)

from telefonistka.sandbox import graphmerging, objects
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.graphgit import RepoView
from telefonistka.sandbox.graphpulls import CommentView, PullView
from telefonistka.sandbox.graphviews import ActorView, View, refused
from telefonistka.sandbox.limits import Bucket
from telefonistka.sandbox.rest import ASK, Answer, Ask, Refused, respond

OPERATION = re.compile(r"^\s*(?:#.*\n\s*|fragment\b[^{]*\{.*\}\s*)*(query|mutation)\b\s*(\w*)", re.DOTALL)
PARSED = 256  # queries kept parsed and validated


@functools.cache
def schema() -> GraphQLSchema:
    text = resources.files("telefonistka.sandbox").joinpath("schema.graphql").read_text()
    return build_schema(text)


def operation_name(body: bytes) -> str:
    """The operation as the call log shows it: "query Merged", or "query" alone where it has no name."""
    try:
        fields = orjson.loads(body)
        found = OPERATION.match(fields["query"])
        name = fields.get("operationName") or (found[2] if found else "")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "query"
    return f"{found[1] if found else 'query'} {name}".strip()


def endpoint(box: Box) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        ask = request[ASK]
        if ask.identity.user is None:
            raise Refused(401, "This endpoint requires you to be authenticated.")
        fields = await ask.json()
        query = fields.get("query")
        if not isinstance(query, str):
            raise Refused(400, "A query attribute must be specified and must be a string.")
        document, errors = prepared(query)
        if errors:
            return answer({"errors": [shown(error) for error in errors]})
        assert document is not None
        outcome = execute(
            schema(),
            document,
            root_value=Root(ask),
            context_value=ask,
            variable_values=fields.get("variables") or {},
            operation_name=fields.get("operationName"),
            field_resolver=resolve,
            type_resolver=type_of,
        )
        result = await outcome if inspect.isawaitable(outcome) else outcome
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = [shown(error) for error in result.errors]
        return answer(body)

    return handle


@functools.lru_cache(PARSED)
def prepared(query: str) -> tuple[DocumentNode | None, tuple[GraphQLError, ...]]:
    """The query, if it fits the schema, or why not."""
    try:
        document = parse(query)
    except GraphQLError as error:
        return None, (error,)
    errors = validate(schema(), document)
    return (None, tuple(errors)) if errors else (document, ())


def answer(body: dict[str, Any]) -> web.Response:
    return respond(Answer(body))


def limited(bucket: Bucket) -> web.Response:
    """The primary limit: HTTP 200 and an error of its own type.

    https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api#exceeding-the-rate-limit
    """
    error = {"type": "RATE_LIMITED", "message": "API rate limit exceeded."}
    return respond(Answer({"errors": [error]}, headers=bucket.headers()))


def shown(error: GraphQLError) -> dict[str, Any]:
    """GitHub puts the error's type beside its message, not into `extensions`."""
    formatted = cast(dict[str, Any], error.formatted)
    kind = (formatted.pop("extensions", None) or {}).get("type")
    return {"type": kind, **formatted} if kind is not None else formatted


def resolve(source: Any, info: GraphQLResolveInfo[Ask], **arguments: Any) -> Any:
    """A field's value: of a dict by its name, of a view by its name in snake case."""
    value = source.get(info.field_name) if isinstance(source, dict) else getattr(source, snake(info.field_name))
    return value(**{snake(name): one for name, one in arguments.items()}) if callable(value) else value


def type_of(value: Any, info: Any, abstract: GraphQLAbstractType) -> str:
    return str(value.type_name)


@functools.cache
def snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda found: "_" + found[1].lower(), name)


class Root:
    """The fields of Query and Mutation."""

    id = "Q_1"

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    @property
    def viewer(self) -> ActorView:
        return ActorView(self.ask, self.ask.user, whole=True)

    def user(self, login: str) -> ActorView:
        found = self.ask.box.user(login)
        if found is None:
            raise refused("NOT_FOUND", f"Could not resolve to a User with the login of '{login}'.")
        return ActorView(self.ask, found)

    def rate_limit(self, dry_run: bool = False) -> dict[str, Any]:
        bucket = self.ask.box.limits.bucket(self.ask.identity.name, "graphql")
        reset = datetime.fromtimestamp(bucket.reset, UTC)
        known = bucket.shown() | {"cost": 1, "nodeCount": 0, "resetAt": objects.time(reset)}
        return known | {"used": bucket.used + 1, "remaining": max(bucket.remaining - 1, 0)}

    def repository(self, owner: str, name: str, follow_renames: bool = True) -> RepoView:
        box = self.ask.box
        repo = box.repo(owner, name)
        if repo is None and follow_renames:
            repo = box.renamed.get(f"{owner}/{name}".lower())
        if repo is None or not self.ask.identity.sees(box, repo):
            raise refused("NOT_FOUND", f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        refusal = self.ask.identity.refusal(box, repo, ["contents", "metadata"], "read")
        if refusal is not None:
            raise refused("FORBIDDEN", "Resource not accessible by integration")
        return RepoView(self.ask, repo)

    def node(self, id: str) -> View:  # noqa: A002
        for repo in self.ask.box.repos.values():
            if not self.ask.identity.sees(self.ask.box, repo):
                continue
            if repo.node_id == id:
                return RepoView(self.ask, repo)
            for pull in repo.pulls.values():
                if pull.node_id == id:
                    return PullView(self.ask, repo, pull)
                for comment in pull.comments.values():
                    if comment.node_id == id:
                        return CommentView(self.ask, repo, pull, comment)
        raise refused("NOT_FOUND", f"Could not resolve to a node with the global id of '{id}'")

    def nodes(self, ids: list[str]) -> list[View]:
        return [self.node(id=one) for one in ids]

    def pull(self, id_: str) -> PullView:
        view = self.node(id=id_)
        if not isinstance(view, PullView):
            raise refused("NOT_FOUND", f"Could not resolve to a PullRequest with the global id of '{id_}'")
        return view

    async def enable_pull_request_auto_merge(self, input: dict[str, Any]) -> View:  # noqa: A002
        view = self.pull(input["pullRequestId"])
        return await graphmerging.enable(self.ask, view.repo, view.pull, input)

    async def disable_pull_request_auto_merge(self, input: dict[str, Any]) -> View:  # noqa: A002
        view = self.pull(input["pullRequestId"])
        return await graphmerging.disable(self.ask, view.repo, view.pull, input)

    async def enqueue_pull_request(self, input: dict[str, Any]) -> View:  # noqa: A002
        view = self.pull(input["pullRequestId"])
        return await graphmerging.enqueue(self.ask, view.repo, view.pull, input)

    async def dequeue_pull_request(self, input: dict[str, Any]) -> View:  # noqa: A002
        view = self.pull(input["id"])
        return await graphmerging.dequeue(self.ask, view.repo, view.pull, input)

    def minimize_comment(self, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        return self.minimized(input, input["classifier"])

    def unminimize_comment(self, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        return self.minimized(input, None)

    def minimized(self, fields: dict[str, Any], classifier: str | None) -> dict[str, Any]:
        view = self.node(id=fields["subjectId"])
        if not isinstance(view, CommentView) or not view.viewer_can_minimize:
            raise refused("FORBIDDEN", f"{self.ask.user.login} does not have permission to minimize this comment.")
        view.comment.minimized = classifier
        key = "unminimizedComment" if classifier is None else "minimizedComment"
        return {key: view, "clientMutationId": fields.get("clientMutationId")}
