"""What GitHub and the operator's probes talk to: POST /webhook, /live, /ready, /metrics.

What belongs here: HTTP, and the check that a delivery is GitHub's. A delivery is answered with 202 once it is on
disk; what it means is the worker's business. Every refusal is one line of text that says why.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn, TypeVar

import aiohttp
import anyio
import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from telefonistka import inbox as inboxes
from telefonistka import telemetry
from telefonistka.core import events
from telefonistka.exchange import Dispatch, Exchange
from telefonistka.inbox import Acceptance, Delivery, Inbox, Unreadable
from telefonistka.storage import Headers, Unavailable
from telefonistka.telemetry import Span, log

T = TypeVar("T")
Check = Callable[[], Awaitable[str | None]]

# GitHub's deliveries have up to 25 MB, the form encoding adds to that:
# https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
BODY_LIMIT = 26 << 20  # bytes
BODIES_LIMIT = 8 * BODY_LIMIT  # bytes under way at once, because nothing is known of a sender before the last byte
LARGE = 1 << 20  # bytes; beyond that, hashing and parsing take more time than the event loop should stand still
READ_DEADLINE = (
    10  # seconds, as GitHub waits: https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks
)
GOODBYE = 1.0  # seconds in which who has connected may still ask when we stop
SHUTDOWN = 1.0  # seconds after that for requests under way
BACKLOG = socket.SOMAXCONN  # connections that wait while nobody accepts them, as during a restart; the kernel's limit
LOOK = 0.01  # seconds between two looks whether anybody is left
CHECK_DEADLINE = 3  # seconds; probes wait for five or ten

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
UNKEPT_HEADERS = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
NO_CACHE = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Expires": "0"}


class Refusal(Exception):  # noqa: N818 - an answer
    """Why a request is not taken: the status, one line for whoever reads the delivery log, the metric's label."""

    def __init__(self, status: int, reason: str, parsing: str = "validation_failed") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.parsing = parsing


@asynccontextmanager
async def serving(
    inbox: Inbox,
    secrets: Sequence[bytes],
    *,
    host: str,
    port: int,
    exchange: Exchange | None = None,
    checks: Sequence[Check] = (),
    sockets: Sequence[socket.socket] = (),
    pause: Callable[[int], object] = lambda descriptor: None,
) -> AsyncIterator[tuple[str, int]]:
    """The server runs; its address, which tells the port where 0 was asked for.

    It listens on `sockets` where there are any, which somebody else holds, too. `pause` makes the event loop accept
    no more connections on one: what comes later waits in the kernel for the next process.
    """
    ending = anyio.Event()
    app = application(inbox, secrets, exchange, checks=checks)
    app.on_response_prepare.append(partial(_let_go, ending))
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        for listener in sockets:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
        if not sockets:
            await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        address = runner.addresses[0]
        yield (address[0], address[1]) if isinstance(address, tuple) else (str(address), 0)
    finally:
        with anyio.CancelScope(shield=True):
            ending.set()
            for listener in sockets:
                pause(listener.fileno())
            await _served(runner)
            await runner.cleanup()


async def _let_go(ending: anyio.Event, request: web.Request, response: web.StreamResponse) -> None:
    """Once the server ends, who has an answer is not to ask again on the same connection."""
    if ending.is_set():
        response.force_close()


async def _served(runner: web.AppRunner) -> None:
    """Who has connected has an answer, or had time to ask for one."""
    assert runner.server is not None
    with anyio.move_on_after(GOODBYE):
        await anyio.sleep(LOOK)  # what the kernel has accepted is a connection of ours only a moment later
        while runner.server.connections:  # noqa: ASYNC110 - they do not tell
            await anyio.sleep(LOOK)


def application(
    inbox: Inbox, secrets: Sequence[bytes], exchange: Exchange | None = None, *, checks: Sequence[Check] = ()
) -> web.Application:
    """The routes over one inbox; a delivery is GitHub's where it is signed with any of the secrets.

    Without an exchange, nothing is relayed. Each of the checks says why we are not ready, or None.
    """
    if not secrets or not all(secrets):
        raise ValueError("a webhook secret is empty, so anybody could sign")
    server = Server(inbox, tuple(secrets), exchange, tuple(checks))
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post("/webhook", server.webhook)
    app.router.add_get("/live", server.live)
    app.router.add_get("/ready", server.ready)
    app.router.add_get("/metrics", server.metrics)
    return app


class Server:
    """The handlers of the routes."""

    def __init__(
        self, inbox: Inbox, secrets: tuple[bytes, ...], exchange: Exchange | None, checks: tuple[Check, ...]
    ) -> None:
        self._inbox = inbox
        self._checks = (self._storage, *checks)
        self._exchange = exchange
        self._secrets = secrets
        self._held = 0  # bytes of bodies that are being read or parsed

    async def webhook(self, request: web.Request) -> web.Response:
        """The delivery is on disk (202), was already (200), asks nothing of us (200), or is refused with a reason."""
        event = _name(request.headers.get("X-GitHub-Event", ""))
        id_ = _name(request.headers.get("X-GitHub-Delivery", ""))
        with telemetry.received(request.headers) as span, telemetry.bound(delivery=id_, event_type=event):
            response = await self._answer(request, event, span)
            span.answered(response.status, failed_from=500)
            return response

    async def _answer(self, request: web.Request, event: str, span: Span) -> web.Response:
        try:
            status, text = await self._take(request)
        except Refusal as refusal:
            telemetry.webhook(refusal.parsing)
            telemetry.delivery(event, "refused")
            log.warning("delivery refused", status=refusal.status, reason=refusal.reason, peer=request.remote)
            return _line(refusal.status, refusal.reason)
        except Exception as error:
            log.exception("delivery failed")
            span.failed("this is a bug", error)
            return _line(500, "this is a bug; the log of the daemon has its details")
        telemetry.webhook("successful")
        return _line(status, text)

    async def _take(self, request: web.Request) -> tuple[int, str]:
        event, headers = _checked(request)
        async with self._body(request) as body:
            if not await _aside(len(body), lambda: self._signed(request, body)):
                raise Refusal(401, "X-Hub-Signature-256 is not this body's signature with our secret")
            try:
                payload = await _aside(len(body), lambda: inboxes.payload(headers, body))
            except Unreadable as error:
                raise Refusal(400, str(error), "parsing_failed") from error
            if event == "ping":
                return self._ignored(event, "pong")
            lane = events.lane(payload)
            id_ = request.headers.get("X-GitHub-Delivery") or hashlib.sha256(body).hexdigest()
            delivery = Delivery(id=id_, event=event, lane=lane, headers=telemetry.carried(headers), body=body)
            with telemetry.bound(**_subject(payload)):
                reason = _ignorable(event, payload)
                dispatch = self._dispatch(delivery, payload)
                if reason is not None and dispatch is None:
                    return self._ignored(event, f"ignored: {reason}")
                return await self._store(delivery, dispatch, work=reason is None)

    def _dispatch(self, delivery: Delivery, payload: events.Payload) -> Dispatch | None:
        """What the relay makes of the delivery, which it may be sending already; None: nothing."""
        try:
            return self._exchange.begin(delivery, payload) if self._exchange else None
        except events.Malformed:
            return None  # the worker says so
        except Exception:
            log.exception("the relay has a bug")
            return None

    def _ignored(self, event: str, reason: str) -> tuple[int, str]:
        telemetry.delivery(event, "ignored")
        return 200, reason

    async def _store(self, delivery: Delivery, dispatch: Dispatch | None, *, work: bool) -> tuple[int, str]:
        try:
            with telemetry.journal():
                acceptance = await self._inbox.accept(delivery, work=work, post=dispatch.post if dispatch else None)
            if self._exchange and dispatch:
                acceptance = await self._exchange.stored(dispatch, acceptance)
        except Unavailable as error:
            raise Refusal(503, f"the delivery cannot be stored: {error}", "successful") from error
        telemetry.delivery(delivery.event, acceptance)
        log.info("delivery " + acceptance, lane=delivery.lane, size=len(delivery.body))
        match acceptance:
            case Acceptance.ACCEPTED:
                return 202, "accepted"
            case Acceptance.REARMED:
                return 202, "accepted again: it had failed"
            case Acceptance.DUPLICATE:
                return 200, "duplicate: this delivery is here already"

    def _signed(self, request: web.Request, body: bytes) -> bool:
        """Whether any secret gives the signature that came along; takes the same time whichever it is."""
        # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
        claimed = request.headers.get("X-Hub-Signature-256", "")
        if not SIGNATURE.fullmatch(claimed):
            return False
        given = bytes.fromhex(claimed.removeprefix("sha256="))
        matches = [hmac.compare_digest(given, hmac.digest(secret, body, "sha256")) for secret in self._secrets]
        return any(matches)

    @asynccontextmanager
    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body, which counts as held until its delivery is stored."""
        if (request.content_length or 0) > BODY_LIMIT:
            _too_large()
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _read(self, request: web.Request, body: bytearray) -> None:
        """The whole body was added; raises Refusal where it is too large, too slow or broken."""
        if request.content.is_eof():  # a small one that came along with its headers
            body += request.content.read_nowait()
            self._held += len(body)
            return
        try:
            with anyio.fail_after(READ_DEADLINE):
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > BODY_LIMIT:
                        _too_large()
                    if self._held > BODIES_LIMIT:
                        raise Refusal(503, "too many large bodies at once; send it again")
        except TimeoutError as error:
            raise Refusal(408, f"the body did not arrive within {READ_DEADLINE} s") from error
        except (OSError, aiohttp.ClientError, web.RequestPayloadError, HttpProcessingError) as error:
            raise Refusal(400, "the body broke off") from error

    async def live(self, request: web.Request) -> web.Response:
        """The process answers."""
        return _health(())

    async def ready(self, request: web.Request) -> web.Response:
        """Deliveries can be stored and are worked on, and nothing is in the way, or the reasons why not."""
        return _health(await self._reasons())

    async def _reasons(self) -> tuple[str, ...]:
        """Why we are not ready."""
        reasons = [await check() for check in self._checks]
        return tuple(reason for reason in reasons if reason is not None)

    async def _storage(self) -> str | None:
        try:
            with anyio.fail_after(CHECK_DEADLINE):
                return await self._inbox.check()
        except TimeoutError:
            return f"the storage does not answer within {CHECK_DEADLINE} s"
        except Unavailable as error:
            return f"the storage does not work: {error}"

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics in Prometheus' text format."""
        try:
            backlog = await self._inbox.backlog()
        except Unavailable as error:
            log.warning("the inbox cannot be counted", reason=str(error))
        else:
            items = {state.name.lower(): count for state, count in backlog.items.items()}
            telemetry.inbox(items, self._inbox.age(backlog), backlog.free)
        telemetry.readiness(is_ready=not await self._reasons())
        if self._exchange:
            self._exchange.gauges()
        body = await anyio.to_thread.run_sync(telemetry.render)
        return web.Response(body=body, headers={"Content-Type": telemetry.METRICS_TYPE})


def _checked(request: web.Request) -> tuple[str, Headers]:
    """The event's name and the headers to keep; raises Refusal where they rule the request out."""
    kept = (pair for pair in request.raw_headers if pair[0].lower() not in UNKEPT_HEADERS)
    headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in kept])
    kind = inboxes.media_type(headers)
    if kind not in (inboxes.JSON, inboxes.FORM):
        raise Refusal(415, f"Content-Type must be {inboxes.JSON} or {inboxes.FORM}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(415, "Content-Encoding must not be set: the signature is over the bytes as they are")
    event = request.headers.get("X-GitHub-Event", "")
    if not NAME.fullmatch(event):
        raise Refusal(400, "X-GitHub-Event must name the event")
    if not NAME.fullmatch(request.headers.get("X-GitHub-Delivery", "-")):
        raise Refusal(400, "X-GitHub-Delivery must be a GUID")
    return event, headers


def _ignorable(event: str, payload: events.Payload) -> str | None:
    """Why the delivery asks nothing of us; None where it does, or where we do not understand it."""
    try:
        parsed = events.parse(event, payload)
    except Exception:
        return None  # kept: the worker says what is wrong with it, and a later version may know better
    return parsed.reason if isinstance(parsed, events.Ignored) else None


def _subject(payload: events.Payload) -> dict[str, object]:
    """What the delivery is about, for whoever reads log and trace; nothing where it does not say."""
    try:
        repository = events.repository(payload).slug
    except events.Malformed:
        return {}
    about = payload.get("pull_request", payload.get("issue"))
    number = about.get("number") if isinstance(about, dict) else None
    return {"repo": repository, "pull": number} if type(number) is int else {"repo": repository}


async def _aside(size: int, work: Callable[[], T]) -> T:
    """The work's result; large work is done in a thread."""
    return work() if size <= LARGE else await anyio.to_thread.run_sync(work)


def _too_large() -> NoReturn:
    raise Refusal(413, f"the body has more than {BODY_LIMIT >> 20} MiB")


def _name(text: str) -> str:
    """A header's value for logs and labels: only what a name may hold."""
    return text if NAME.fullmatch(text) else ""


def _line(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=" ".join(text.split()) + "\n")


def _health(reasons: Sequence[str]) -> web.Response:
    answer: dict[str, object] = {"status": "down", "reasons": list(reasons)} if reasons else {"status": "up"}
    headers = NO_CACHE | {"Content-Type": "application/json; charset=utf-8"}
    return web.Response(status=503 if reasons else 200, body=orjson.dumps(answer), headers=headers)
