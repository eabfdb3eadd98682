"""How we call GitHub: one `_request` that every call passes through, REST and GraphQL alike.

What belongs here: retries, limits, pacing, redirects, and the translation of GitHub's answers into our endings. What
is asked, and what an answer means, is repo.py's business.

A call ends within PATIENCE or raises TryAgain: longer waits are the journal's. What may be sent twice is decided in
one place, `repeatable`.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NoReturn, Protocol
from urllib.parse import urljoin

import aiohttp
import anyio
import orjson
from gidgethub import abc as gidgethub
from gidgethub import sansio
from yarl import URL

from telefonistka import telemetry
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Forbidden, NotFound, Refused
from telefonistka.github.cache import TreeCache
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import LONGEST, Bucket, Clock, Limits

API_VERSION = "2022-11-28"  # https://docs.github.com/en/rest/about-the-rest-api/api-versions
USER_AGENT = "telefonistka"

PATIENCE = 90  # seconds for one call with all its waits; a lease of the worker is longer
ATTEMPTS = 5
BACKOFF = 0.5  # seconds; doubles with each attempt, with full jitter
REDIRECTS = 5
NAMED_WAITS = (1.0, 3.0, 6.0)  # seconds; GitHub's replicas lag behind its webhooks by less than that

READS = frozenset({"GET", "HEAD"})
REPEATABLE_POSTS = re.compile(
    r"/repos/[^/]+/[^/]+/(?:"
    r"git/(?:blobs|trees|commits)"  # an object nobody points to costs nothing
    r"|git/refs|pulls"  # the second is refused with 422, and its caller looks for the first
    r"|statuses/[^/]+"  # the latest counts
    r"|pulls/\d+/requested_reviewers|issues/\d+/(?:labels|assignees)"  # sets
    r")|/app/installations/\d+/access_tokens"
)
# https://github.com/octokit/plugin-throttling.js names the same paths.
NOTIFYING = re.compile(
    r"POST /repos/[^/]+/[^/]+/(?:pulls|pulls/\d+/(?:reviews|comments|requested_reviewers)|issues|issues/\d+/comments)"
    r"|PUT /repos/[^/]+/[^/]+/pulls/\d+/merge"
)
TRANSIENT_TYPES = frozenset({"INTERNAL", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"})


class Credential(Protocol):
    """Who calls. `refused` is told of a value that GitHub did not take, and answers whether there will be another."""

    async def authorization(self) -> str: ...

    async def refused(self, authorization: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Call:
    """What one request is, as far as limits and retries care."""

    method: str
    path: str
    graphql: bool
    mutates: bool
    body: bytes

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def resource(self) -> str:
        return "graphql" if self.graphql else "core"

    @property
    def writes(self) -> bool:
        return self.mutates and not self.path.endswith("/access_tokens")

    @property
    def notifies(self) -> bool:
        return NOTIFYING.fullmatch(self.name) is not None

    @property
    def repeatable(self) -> bool:
        """Whether the call may be sent again when nobody knows if GitHub carried out the first.

        POSTs that are not listed (comments, reviews) would be there twice: their callers look first on the next try.
        """
        return not self.mutates or self.method != "POST" or REPEATABLE_POSTS.fullmatch(self.path) is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """GitHub's reply, with names of headers in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, None where it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


class _Trouble(Exception):  # noqa: N818 - never leaves this module
    """This attempt failed in a way that another may not."""

    def __init__(self, reason: str, *, wait: float | None = None, undone: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds; None is the next step of the backoff
        self.undone = undone  # GitHub certainly did not carry it out


class Client(gidgethub.GitHubAPI):
    """GitHub for one credential."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: Endpoint,
        credential: Credential,
        limits: Limits,
        at_once: anyio.CapacityLimiter,
        login: Callable[[], Awaitable[str]],
        tell: Callable[[str, int, int], None],
    ) -> None:
        super().__init__(USER_AGENT, base_url=endpoint.rest)
        self.endpoint = endpoint
        self.limits = limits
        self.login = login  # of whom we are
        self.trees = TreeCache()
        self.refused = False  # GitHub's last answer was that it does not know who calls
        self.heard: Mapping[str, str] = {}  # the headers of GitHub's last answer, whatever it was
        self._session = session
        self._credential = credential
        self._at_once = at_once
        self._tell = tell  # what is left of which of the credential's limits

    @property
    def clock(self) -> Clock:
        return self.limits.clock

    @property
    def now(self) -> float:
        """GitHub's time in seconds since 1970, as its last answer has it."""
        return self._time_in(self.heard)

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    # What callers use

    async def get(self, path: str, *, named: bool = False) -> Any:
        """The JSON of a GET. `named`: an event names this object, so a 404 is asked again for some seconds."""
        for wait in NAMED_WAITS if named else ():
            try:
                return await self.getitem(path)
            except NotFound:
                await self.sleep(wait)
        return await self.getitem(path)

    async def newer(self, path: str, etag: str) -> tuple[Any, str] | None:
        """The JSON of a GET and its ETag; None: it is as it was when it had this one, which costs no limit.

        https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate
        """
        url = sansio.format_url(path, None, base_url=self.base_url)
        headers = {"accept": sansio.accept_format(), "user-agent": USER_AGENT}
        status, answered, body = await self._request("GET", url, headers | ({"if-none-match": etag} if etag else {}))
        return None if status == HTTPStatus.NOT_MODIFIED else (orjson.loads(body), answered.get("etag", ""))

    async def pages(self, path: str, *, named: bool = False) -> AsyncGenerator[Any, None]:
        """Every item of every page."""
        for wait in (*NAMED_WAITS, None) if named else (None,):
            seen = False
            try:
                async for item in self.getiter(path, iterable_key=None):
                    seen = True
                    yield item
                return
            except NotFound:
                if seen or wait is None:
                    raise
                await self.sleep(wait)

    async def query(self, document: str, *, named: bool = False, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL document, whole: an error beside it raises."""
        for wait in NAMED_WAITS if named else ():
            try:
                return await self._query(document, variables)
            except NotFound:
                await self.sleep(wait)
        return await self._query(document, variables)

    async def _query(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        data = await self.graphql(document, endpoint=self.endpoint.graphql, **variables)
        assert isinstance(data, dict)
        return data

    # Below REST and GraphQL

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        call = self._call(method, url, body)
        until = self.clock.monotonic() + PATIENCE
        renewed = False
        for attempt in itertools.count(1):
            await self.limits.turn(call.resource, writes=call.writes, notifies=call.notifies, until=until)
            authorization = await self._credential.authorization()
            try:
                ours = {"authorization": authorization, "x-github-api-version": API_VERSION}
                answer = await self._exchange(call, url, {**headers, **ours})
                self._judge(call, answer)
            except Forbidden as error:
                unknown = error.status == HTTPStatus.UNAUTHORIZED
                if not unknown or renewed or not await self._credential.refused(authorization):
                    self.refused = unknown
                    raise
                renewed = True
            except _Trouble as trouble:
                await self._after(trouble, call, attempt, until)
            else:
                self.refused = False
                return answer.status, answer.headers, answer.body
        raise AssertionError("unreachable")

    def _call(self, method: str, url: str, body: bytes) -> Call:
        path = self.endpoint.path(url)
        if path is None:  # a link to the next page
            raise self._elsewhere(url)
        graphql = path == "/graphql"
        mutates = method not in READS
        if graphql:
            mutates = orjson.loads(body)["query"].lstrip().startswith("mutation")
        return Call(method, path, graphql, mutates, body)

    async def _after(self, trouble: _Trouble, call: Call, attempt: int, until: float) -> None:
        """The next attempt may start; raises TryAgain where there is none."""
        wait = trouble.wait if trouble.wait is not None else random.uniform(0, BACKOFF * 2.0**attempt)  # noqa: S311
        again = attempt < ATTEMPTS and (call.repeatable or trouble.undone)
        if not again or self.clock.monotonic() + wait > until:
            raise TryAgain(str(trouble), after=trouble.wait) from trouble.__cause__
        await self.limits.rest(wait, str(trouble))

    async def _exchange(self, call: Call, url: str, headers: Mapping[str, str]) -> Answer:
        """The answer to one attempt, redirects followed with the same method and body."""
        for _ in range(REDIRECTS):
            answer = await self._send(call, url, headers)
            # https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 307, 308) or not location:
                return answer
            url = urljoin(url, location)
            if self.endpoint.path(url) is None:
                raise self._elsewhere(url)
        raise Refused(call.name, answer.status, "redirected too often")

    def _elsewhere(self, url: str) -> Rejected:
        return Rejected(
            f"GitHub sends us on to {url}, which is not below {self.endpoint.rest}: our credentials do not follow. "
            "Set GITHUB_HOST to the name that the server itself uses."
        )

    async def _send(self, call: Call, url: str, headers: Mapping[str, str]) -> Answer:
        try:
            with anyio.fail_after(PATIENCE):
                async with self._at_once:
                    answer = await self._http(call.method, url, headers, call.body)
        except aiohttp.ClientConnectorCertificateError as error:
            raise TryAgain(f"The certificate of {self.endpoint.rest} is not trusted: {error}") from error
        except aiohttp.ClientConnectorError as error:
            raise _Trouble(f"GitHub cannot be reached: {error}", undone=True) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise _Trouble(f"The connection broke during `{call.name}`: {reason}") from error
        self._count(call, answer)
        return answer

    async def _http(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        timeout = aiohttp.ClientTimeout(total=self.limits.pacing.timeout)
        path = self.endpoint.path(url) or ""
        operation = _operation(body) if path == "/graphql" else ""
        with telemetry.github_call(method, url, path, operation) as span:
            async with self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False, timeout=timeout
            ) as response:
                span.answered(response.status)
                return Answer(response.status, response.headers, await response.read())

    def _count(self, call: Call, answer: Answer) -> None:
        """The metrics and our own books have this answer."""
        telemetry.github_request(method=call.method, path=call.path, status=answer.status)
        self.heard = answer.headers
        bucket = self._bucket(answer)
        if bucket is None:
            return
        resource = answer.headers.get("x-ratelimit-resource", call.resource)
        self.limits.seen(resource, bucket)
        self._tell(resource, bucket.limit, bucket.remaining)
        owner = _owner(call.path)
        if resource == "core" and owner:
            telemetry.rate_limit(owner, bucket.limit, bucket.remaining)

    def _bucket(self, answer: Answer) -> Bucket | None:
        try:
            limit = int(answer.headers["x-ratelimit-limit"])
            remaining = int(answer.headers["x-ratelimit-remaining"])
            reset = float(answer.headers["x-ratelimit-reset"])
        except (KeyError, ValueError):
            return None
        wait = min(LONGEST, max(1.0, reset - self._time_in(answer.headers) + 1))
        return Bucket(limit, remaining, self.clock.monotonic() + wait)

    def _time_in(self, headers: Mapping[str, str]) -> float:
        """GitHub's own time, so that our clock may be wrong."""
        try:
            return parsedate_to_datetime(headers["date"]).timestamp()
        except (KeyError, ValueError):
            return self.clock.wall()

    # What an answer means

    def _judge(self, call: Call, answer: Answer) -> None:
        """The answer is one to work with; all others raise."""
        if answer.status >= 400:
            self._refuse(call, answer)
        if answer.status not in (200, 201, 202, 204, 304):
            raise _Trouble(f"GitHub answered {answer.status} to `{call.name}`")
        if answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.limits.went_well()
            return
        reply = answer.json() if "json" in answer.headers.get("content-type", "") else None
        if not isinstance(reply, dict | list):
            raise _Trouble(f"What answered `{call.name}` is not GitHub's API: it sent no JSON")
        if call.graphql:
            self._judge_graphql(call, answer, reply)
        self.limits.went_well()

    def _refuse(self, call: Call, answer: Answer) -> NoReturn:
        message, errors = _said(answer)
        if answer.status >= 500 or answer.status == HTTPStatus.REQUEST_TIMEOUT:
            wait = _retry_after(answer)
            self.limits.pause(wait or 0)
            raise _Trouble(f"GitHub answered {answer.status} to `{call.name}`", wait=wait)
        if answer.status in (HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
            self._limited(call, answer)
        match answer.status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                needed = answer.headers.get("x-accepted-github-permissions", "")
                raise Forbidden(call.name, answer.status, message, needed=needed)
            case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
                raise NotFound(call.name, answer.status, message)
        raise Refused(call.name, answer.status, message, errors)

    def _judge_graphql(self, call: Call, answer: Answer, reply: Any) -> None:
        """GraphQL reports nearly every failure with 200: https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api"""
        errors = reply.get("errors") or ()
        if isinstance(reply.get("data"), dict) and "errors" not in reply:
            return
        types = {str(error.get("type", "")) for error in errors}
        if "RATE_LIMITED" in types:
            self._pause(call, answer, _retry_after(answer) or self._until_reset(answer) or self.limits.strike())
        self._limited(call, answer)
        asked = f"{call.name} {_operation(call.body)}"
        message = "; ".join(str(error.get("message", "")) for error in errors)
        if "FORBIDDEN" in types or "INSUFFICIENT_SCOPES" in types:
            raise Forbidden(asked, HTTPStatus.FORBIDDEN, message)
        if types & TRANSIENT_TYPES or not errors or any(map(_is_accident, errors)):
            raise _Trouble(f"GitHub could not answer `{asked}`: {message}")
        if "NOT_FOUND" in types:
            raise NotFound(asked, HTTPStatus.NOT_FOUND, message)
        raise Refused(asked, HTTPStatus.UNPROCESSABLE_ENTITY, message, errors)

    def _limited(self, call: Call, answer: Answer) -> None:
        """Raises where the answer is one of GitHub's limits: Retry-After counts, then the reset, then a minute."""
        wait = _retry_after(answer)
        if wait is None and answer.headers.get("x-ratelimit-remaining") == "0":
            wait = self._until_reset(answer)
        if wait is None and (answer.status == HTTPStatus.TOO_MANY_REQUESTS or _is_secondary(answer)):
            wait = self.limits.strike()
        if wait is not None:
            self._pause(call, answer, wait)

    def _until_reset(self, answer: Answer) -> float | None:
        bucket = self._bucket(answer)
        return None if bucket is None or bucket.remaining > 0 else bucket.reset - self.clock.monotonic()

    def _pause(self, call: Call, answer: Answer, wait: float) -> NoReturn:
        if answer.headers.get("x-ratelimit-remaining") != "0":  # else the bucket alone waits: GraphQL has its own
            self.limits.pause(wait)
        raise _Trouble(f"GitHub limits us at `{call.name}`", wait=wait, undone=True)


def _owner(path: str) -> str:
    """The repository's owner in an API path, empty where it names none."""
    _, first, second, *_ = (*path.split("/"), "")
    return second if first == "repos" else ""


def _is_accident(error: Mapping[str, Any]) -> bool:
    """Whether GitHub itself failed: it gives its refusals a type, and faults of a document a place in it."""
    of_document = "extensions" in error or ("locations" in error and "path" not in error)
    return "type" not in error and not of_document


def _said(answer: Answer) -> tuple[str, list[Any]]:
    """GitHub's message and its errors: https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api"""
    reply = answer.json()
    if not isinstance(reply, dict):
        return "", []
    errors = reply.get("errors") or []
    return str(reply.get("message") or ""), errors if isinstance(errors, list) else [errors]


def _is_secondary(answer: Answer) -> bool:
    # GitHub gives a secondary limit no status and no code of its own, so its words must do:
    # https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors
    words = answer.body.lower()
    return b"secondary rate limit" in words or b"secondary-rate-limits" in words or b"abuse detection" in words


def _retry_after(answer: Answer) -> float | None:
    try:
        return min(LONGEST, max(0.0, float(answer.headers["retry-after"])))
    except (KeyError, ValueError):
        return None


def _operation(body: bytes) -> str:
    """The name of the operation in a GraphQL request."""
    named = re.match(r"\s*(?:query|mutation)\s+(\w+)", orjson.loads(body)["query"])
    return named[1] if named else ""
