"""The operator's listener: which deliveries there are, what became of them, and sending them again.

What belongs here: HTTP on a unix socket or on loopback, its client for the CLI, and the JSON that both speak. While
the daemon runs, one process writes the storage, and that is the daemon; while it does not, the file can be read.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
import orjson
from aiohttp import web

from telefonistka.core import fanout
from telefonistka.core.fanout import Endpoint
from telefonistka.exchange import Exchange
from telefonistka.inbox import Inbox
from telefonistka.storage import Attempt, Due, Storage, Story, Summary, Unavailable, Unusable, sqlite
from telefonistka.telemetry import log

MODE = 0o117  # what a socket's group may not: it may connect, others may not
PATH_LENGTH = 100  # bytes; the kernel takes 107: https://man7.org/linux/man-pages/man7/unix.7.html
LIMIT = 50  # deliveries, if nobody says how many
MOST = 10_000
DEADLINE = 30.0  # seconds for an answer
SHUTDOWN = 0.5  # seconds for requests under way when we stop
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Where = Path | tuple[str, int]  # a unix socket, or host and port
Json = dict[str, Any]


class Down(Exception):  # noqa: N818 - what it says of the daemon
    """Nobody listens there."""


class Refused(Exception):  # noqa: N818
    """The daemon does not do it; the text says why."""


# Listening


@asynccontextmanager
async def serving(storage: Storage, inbox: Inbox, exchange: Exchange, where: Where) -> AsyncIterator[None]:
    """The listener runs; raises OSError where it cannot."""
    desk = _Desk(storage, inbox, exchange)
    app = web.Application(middlewares=[_answering, _local])
    app.router.add_get("/deliveries", desk.list)
    app.router.add_get("/deliveries/{id}", desk.show)
    app.router.add_post("/deliveries/{id}/replay", desk.replay)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        if isinstance(where, Path):
            with _bound(where) as listener:
                await web.SockSite(runner, listener).start()
                yield
        else:
            await web.TCPSite(runner, *where).start()
            yield
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """A socket that its group may connect to. One that a dead daemon has left is taken away."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # closed by the server that gets it
    mask = os.umask(MODE)
    try:
        with _short(path) as short:
            listener.bind(short)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of the socket that is short enough for the kernel."""
    if len(os.fsencode(path)) < PATH_LENGTH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors are JSON, too."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json({"error": error.text or error.reason}, error.status)
    except Unavailable as error:
        return _json({"error": f"the storage does not work: {error}"}, 503)
    except Exception:
        log.exception("the operator's listener has a bug")
        return _json({"error": "this is a bug; the log of the daemon has its details"}, 500)


@web.middleware
async def _local(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page in somebody's browser cannot call: neither by another name of this host, nor by a form."""
    if request.url.host not in LOOPBACK:
        raise web.HTTPForbidden(text="only as localhost")
    if request.method == "POST" and request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
    return await handler(request)


class _Desk:
    """The handlers of the routes."""

    def __init__(self, storage: Storage, inbox: Inbox, exchange: Exchange) -> None:
        self._storage = storage
        self._inbox = inbox
        self._exchange = exchange

    async def list(self, request: web.Request) -> web.Response:
        """The newest deliveries, or those with something dead, which are told in full."""
        text = request.query.get("limit", str(LIMIT))
        limit = min(int(text), MOST) if text.isascii() and text.isdecimal() else LIMIT
        if "dead" not in request.query:
            return _json([summary(one) for one in await self._storage.deliveries(limit=limit)])
        dead = await self._storage.deliveries(limit=limit, dead=True)
        stories = [await self._storage.story(one.delivery) for one in dead]
        return _json([story(one) for one in stories if one is not None])

    async def show(self, request: web.Request) -> web.Response:
        found = await self._storage.story(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound(text="there is no such delivery")
        return _json(story(found))

    async def replay(self, request: web.Request) -> web.Response:
        """What failed of the delivery is done again: its work, its dead letters, or its routing."""
        id_ = request.match_info["id"]
        endpoints = await _endpoints(request)
        rearmed = not endpoints and await self._inbox.rearm(id_)
        replay = await self._exchange.replay(id_, endpoints, anew=not rearmed)
        if replay is None:
            raise web.HTTPNotFound(text="there is no such delivery")
        log.info("replayed", delivery=id_, letters=replay.letters, rerouted=replay.rerouted, rearmed=rearmed)
        return _json({"letters": replay.letters, "rerouted": replay.rerouted, "rearmed": rearmed})


async def _endpoints(request: web.Request) -> list[Endpoint]:
    body = await request.read()
    try:
        urls = orjson.loads(body).get("endpoints", []) if body else []
        found = [fanout.endpoint(url) for url in urls]
    except (ValueError, AttributeError, TypeError) as error:
        raise web.HTTPBadRequest(text=f"`endpoints` must be a list of URLs: {error}") from error
    return [one for url in found for one in (url, Endpoint(url.scheme, url.host, url.port, url.target, verify=False))]


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


# Asking


async def ask(where: Where, method: str, path: str, body: Json | None = None) -> Any:
    """The daemon's answer; raises Down and Refused."""
    with _address(where) as (connector, host):
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            try:
                async with session.request(method, f"http://{host}{path}", json=body) as response:
                    answer = orjson.loads(await response.read())
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, PermissionError):
                    raise Refused(f"{where} may not be connected to: be its group, or the daemon's user") from error
                raise Down(f"{error}") from error
            except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
                raise Refused(f"the daemon did not answer: {error}") from error
    if response.status >= 400:
        raise Refused(answer["error"])
    return answer


@contextmanager
def _address(where: Where) -> Iterator[tuple[aiohttp.BaseConnector, str]]:
    if isinstance(where, Path):
        if not where.parent.is_dir():
            raise Down(f"there is no {where.parent}")
        with _short(where) as short:
            yield aiohttp.UnixConnector(short), "localhost"
    else:
        host, port = where
        yield aiohttp.TCPConnector(), f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def path(delivery: str, act: str = "") -> str:
    """The delivery's address."""
    return f"/deliveries/{quote(delivery, safe='')}{act}"


# Reading the file


def listed(database: Path, *, limit: int, dead: bool = False) -> list[Json]:
    """As GET /deliveries, of the file of a daemon that does not run; raises Unusable."""
    found = sqlite.deliveries(database, limit=limit, dead=dead)
    return _told(database, found) if dead else [summary(one) for one in found]


def _told(database: Path, found: Iterable[Summary]) -> list[Json]:
    stories = [sqlite.story(database, one.delivery) for one in found]
    return [story(one) for one in stories if one is not None]


def shown(database: Path, delivery: str) -> Json:
    """As GET /deliveries/<id>; raises Unusable and Refused."""
    found = sqlite.story(database, delivery)
    if found is None:
        raise Refused("there is no such delivery")
    return story(found)


# Values as JSON


def summary(one: Summary) -> Json:
    return {
        "delivery": one.delivery,
        "event": one.event,
        "received": _time(one.received),
        "size": one.size,
        "state": one.state,
        "reason": one.reason,
        "routed": one.routed,
        "owed": one.owed,
        "dead": one.dead,
    }


def story(one: Story) -> Json:
    outcomes = {
        step: {"verdict": outcome.verdict, "text": outcome.text, "tries": outcome.tries}
        for step, outcome in one.outcomes.items()
    }
    return summary(one.summary) | {
        "lane": one.summary.lane,
        "headers": _headers(one),
        "outcomes": outcomes,
        "owed": [_due(due) for due in one.owed],
        "dead": [_dead(letter) for letter in one.dead],
    }


def _headers(one: Story) -> Mapping[str, str]:
    # A signature proves to others that a body is GitHub's: it stays where it is needed.
    return {name: value for name, value in one.headers if not name.lower().startswith("x-hub-signature")}


def _due(due: Due) -> Json:
    return {"url": due.recipient[0], "attempts": due.attempts, "due": _time(due.due) if due.due else None}


def _dead(letter: Attempt) -> Json:
    url = letter.recipient[0]
    return {"url": url or None, "attempts": letter.attempts, "at": _time(letter.at), "reason": letter.reason}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


__all__ = ["Down", "Refused", "Unusable", "ask", "listed", "path", "serving", "shown"]
