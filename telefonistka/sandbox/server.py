"""The sandbox's HTTP server: `async with running(directory) as box`.

One middleware sees every API request: it logs it, applies the fault rules, finds out who asks, counts it against
their rate limit, and turns refusals into GitHub's error objects. Requests to pages, git and `/_sandbox` pass it by.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from telefonistka.sandbox import (  # noqa: F401 - importing a route file registers its routes
    apps,
    auth,
    branches,
    checks,
    contents,
    control,
    gitdata,
    githttp,
    graphql,
    issues,
    limits,
    manifests,
    pages,
    pulls,
    refusals,
    repos,
    rest,
    reviews,
    statuses,
    tls,
    waiting,
    webhooks,
)
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.faults import Rule
from telefonistka.sandbox.limits import Bucket
from telefonistka.sandbox.post import ENTERPRISE_DEADLINE
from telefonistka.sandbox.rest import Answer, Ask, Refused
from telefonistka.sandbox.state import Call

API_ROOTS = frozenset(
    (
        "repos",
        "repositories",
        "user",
        "users",
        "app",
        "app-manifests",
        "apps",
        "installation",
        "rate_limit",
        "meta",
        "graphql",
        "api",
    )
)
GRAPHQL = ("/graphql", "/api/graphql")  # of which an Enterprise server has the second
BODY_LIMIT = 64 * 1024 * 1024  # bytes
# https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#user-agent-required
NAMELESS = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header."
SHUTDOWN = 0.5  # seconds for requests under way when the sandbox ends


class Cut(Exception):  # noqa: N818
    """The connection is to be cut without an answer."""


@asynccontextmanager
async def running(
    directory: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    middlewares: Sequence[Middleware] = (),
    enterprise: bool = False,
) -> AsyncIterator[Box]:
    """A sandbox that listens, at `box.url`; all that it keeps is below `directory`.

    `middlewares` see every request as it comes and every answer as it goes. An `enterprise` server speaks TLS with a
    certificate of its own authority (`box.authority`), has its API below `/api` only, and waits longer for webhooks.
    """
    await anyio.Path(directory).mkdir(parents=True, exist_ok=True)
    box = Box(directory, enterprise=enterprise)
    context = None
    if enterprise:
        box.post.deadline = ENTERPRISE_DEADLINE
        context, box.authority = tls.server(directory, host), directory / tls.AUTHORITY
    box.listeners += [webhooks.listener(box), waiting.listener(box)]  # in this order: told first, then acted upon
    runner = web.AppRunner(application(box, middlewares), access_log=None, shutdown_timeout=SHUTDOWN)
    async with anyio.create_task_group() as tasks:
        box.tasks = tasks
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=context).start()
            box.url = f"{'https' if enterprise else 'http'}://{host}:{runner.addresses[0][1]}"
            yield box
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                box.rules.release(drop=True)
                await runner.cleanup()
            for repo in box.repos.values():
                repo.git.close()


def application(box: Box, middlewares: Sequence[Middleware] = ()) -> web.Application:
    app = web.Application(middlewares=[*middlewares, api(box)], client_max_size=BODY_LIMIT)
    defined = [*rest.definitions(), *webhooks.routes(box)]
    app.add_routes([*prefixed("/api/v3", defined), *([] if box.enterprise else defined)])
    app.add_routes([web.post(path, graphql.endpoint(box)) for path in GRAPHQL[box.enterprise :]])
    app.add_routes(control.routes(box))
    app.add_routes(githttp.routes(box))
    app.add_routes([*manifests.routes(box), *pages.routes(box)])
    return app


def prefixed(prefix: str, routes: Iterable[web.RouteDef]) -> list[web.RouteDef]:
    return [web.RouteDef(one.method, prefix + one.path, one.handler, one.kwargs) for one in routes]


def api(box: Box) -> Middleware:
    """The middleware that makes a request one of GitHub's API."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        if path.split("/", 2)[1] not in API_ROOTS:
            return await handler(request)
        started = time.perf_counter()
        call = await logged(box, request)
        try:
            response = await answered(box, request, handler, call)
        except Cut:
            if request.transport is not None:  # else the client has gone first
                request.transport.abort()
            response = web.Response(status=500)
        else:
            call.status = response.status
        finally:
            box.under_way -= 1
            call.ms = round((time.perf_counter() - started) * 1000, 3)
        return response

    return middleware


async def logged(box: Box, request: web.Request) -> Call:
    """The request's line in the call log, its status still to come."""
    path = request.path.removeprefix("/api/v3")
    operation = None
    if path in ("/graphql", "/api/graphql"):
        path = "/graphql"
        operation = graphql.operation_name(await request.read())
    resource = request.match_info.route.resource
    canonical = None if resource is None else resource.canonical.removeprefix("/api/v3").removeprefix("/api/graphql")
    box.last_call += 1
    box.under_way += 1
    call = Call(
        n=box.last_call,
        method=request.method,
        path=path,
        query=request.query_string,
        route=None if canonical is None else f"{request.method} {canonical or '/graphql'}",
        operation=operation,
        under_way=box.under_way,
    )
    box.calls.append(call)
    return call


# Faults around the answer


async def answered(box: Box, request: web.Request, handler: Handler, call: Call) -> web.StreamResponse:
    rules = box.rules.hitting(call.method, call.path, call.operation)
    quirks: dict[str, Any] = {}
    call.effect = False
    for rule in rules:
        instead = await before(box, rule, call, quirks)
        if instead is not None:
            return instead
    call.effect = True
    response = await served(box, request, handler, call, quirks)
    for rule in rules:
        if rule.when == "after":
            response = await after(box, rule, call) or response
    return response


async def before(box: Box, rule: Rule, call: Call, quirks: dict[str, Any]) -> web.Response | None:
    """What the rule does before anything has happened: an answer in place of GitHub's, or nothing."""
    match rule.action:
        case "delay":
            await anyio.sleep(rule.ms / 1000)
        case "truncated":
            quirks["truncated"] = rule.entries
        case "stale":
            quirks["stale"] = True
        case "secondary":
            return refusal(refusals.secondary(rule.seconds))
        case "primary":
            resource = "graphql" if call.path == "/graphql" else "core"
            bucket = limits.empty(resource, rule.seconds)
            return refusal(refusals.exceeded(bucket, "user ID 1")) if resource == "core" else graphql.limited(bucket)
        case _ if rule.when == "before":
            return await after(box, rule, call)
    return None


async def after(box: Box, rule: Rule, call: Call) -> web.Response | None:
    """The rule's own answer; None where the request is to go on. Raises Cut."""
    match rule.action:
        case "answer":
            text = rule.body if isinstance(rule.body, str) else None
            body = text.encode() if text is not None else b"" if rule.body is None else orjson.dumps(rule.body)
            kind = "text/html" if text is not None else "application/json"
            return web.Response(status=rule.status, body=body, headers={"Content-Type": kind} | rule.headers)
        case "reset":
            raise Cut
        case "hold":
            if not await box.rules.hold(rule, call.n, call.method, call.path, call.operation):
                raise Cut
    return None


# GitHub's answer


async def served(
    box: Box, request: web.Request, handler: Handler, call: Call, quirks: dict[str, Any]
) -> web.StreamResponse:
    """The handler's answer, or the refusal, with the headers that every answer has."""
    resource = "graphql" if call.path == "/graphql" else "core"
    if not request.headers.get("User-Agent"):
        return finished(refusal(Refused(403, NAMELESS)))
    try:
        identity = auth.identify(box, request.headers.get("Authorization"))
    except Refused as error:
        return finished(refusal(error))
    call.identity = identity.name
    bucket = box.limits.bucket(identity.name, resource)
    bucket.charge(0)
    if bucket.remaining == 0:
        empty = graphql.limited(bucket) if resource == "graphql" else refusal(refusals.exceeded(bucket, identity.name))
        return finished(empty)
    ask = Ask(box, request, identity, quirks)
    request[rest.ASK] = ask
    response = conditional(request, await handled(request, handler))
    bucket.charge(0 if response.status == 304 else ask.cost)
    return finished(response, bucket)


async def handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return refusal(error)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return refusal(rest.not_found())
    except web.HTTPRequestEntityTooLarge:
        return refusal(Refused(413, "Payload Too Large"))


def refusal(error: Refused) -> web.Response:
    return rest.respond(Answer(error.body(), error.status, error.headers))


def conditional(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """With an ETag; a 304 if the client has this answer already.

    https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate
    """
    if request.method != "GET" or response.status != 200 or not isinstance(response, web.Response):
        return response
    assert isinstance(response.body, bytes)
    tag = f'"{hashlib.blake2b(response.body, digest_size=32).hexdigest()}"'
    given = [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]
    if tag in given:
        return web.Response(status=304, headers={"ETag": f"W/{tag}"})
    response.headers["ETag"] = f"W/{tag}"
    return response


def finished(response: web.StreamResponse, bucket: Bucket | None = None) -> web.StreamResponse:
    response.headers["X-GitHub-Request-Id"] = uuid.uuid4().hex[:24].upper()
    response.headers["X-GitHub-Api-Version-Selected"] = "2022-11-28"
    response.headers["X-GitHub-Media-Type"] = "github.v3; format=json"
    if bucket is not None:
        for name, value in bucket.headers().items():
            response.headers.setdefault(name, value)
    return response
