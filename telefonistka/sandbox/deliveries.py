"""Webhooks on their way: signed, sent once in the background, logged, redelivered when asked.

https://docs.github.com/en/webhooks/about-webhooks
What belongs here: the delivery and its record. Not here: who hears of what, and how the log is read over REST
(webhooks.py), what the payload says (payloads.py), and what may go wrong on the way (post.py).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import anyio
import orjson
from yarl import URL

from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Delivery, Event, Hook, Installation, now

# https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks
KEPT = timedelta(days=3)  # how long the log holds a delivery, and it may be redelivered
ENTERPRISE_KEPT = timedelta(days=7)
VERSION = "3.17.0"  # of an Enterprise server
ANSWER_KEPT = 64 * 1024  # bytes of the receiver's answer that the log holds

# How the log words what never got an answer, and the status it gives it.
UNREACHABLE = ("failed to connect", 502)
TOO_LATE = ("timed out", 504)


def deliver(
    box: Box,
    hook: Hook,
    event: Event,
    payload: dict[str, Any],
    *,
    guid: str,
    installation: Installation | None = None,
) -> Delivery | None:
    """One event on its way to one hook; None where GitHub would not send it, as it is too large."""
    text = orjson.dumps(payload)
    if len(text) > box.post.largest:
        return None
    body = text if hook.content_type == "json" else b"payload=" + quote_plus(text).encode()
    delivery = Delivery(
        id=box.next_id(),
        guid=guid,
        hook=hook,
        event=event.name,
        action=event.action,
        repository_id=event.repo.id if event.repo is not None else None,
        installation_id=installation.id if installation is not None else None,
        request_headers=headers(hook, event.name, guid, body) | enterprise(box),
        request_body=body,
    )
    post(box, delivery)
    return delivery


def headers(hook: Hook, event: str, guid: str, body: bytes) -> dict[str, str]:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers"""
    kind = "application/json" if hook.content_type == "json" else "application/x-www-form-urlencoded"
    owner = hook.repo.id if hook.repo is not None else hook.app.id if hook.app is not None else 0
    found = {
        "Accept": "*/*",
        "Content-Type": kind,
        "User-Agent": "GitHub-Hookshot/5a4d0b8",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": str(hook.id),
        "X-GitHub-Hook-Installation-Target-ID": str(owner),
        "X-GitHub-Hook-Installation-Target-Type": "integration" if hook.app is not None else "repository",
    }
    return found | signatures(hook.secret, body)


def enterprise(box: Box) -> dict[str, str]:
    """https://docs.github.com/en/enterprise-server@latest/webhooks/webhook-events-and-payloads#delivery-headers"""
    host = URL(box.url).host or ""
    return {"X-GitHub-Enterprise-Version": VERSION, "X-GitHub-Enterprise-Host": host} if box.enterprise else {}


def signatures(secret: str, body: bytes) -> dict[str, str]:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries; none without a secret."""
    if not secret:
        return {}
    key = secret.encode()
    return {
        "X-Hub-Signature": "sha1=" + hmac.new(key, body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
    }


def redeliver(box: Box, delivery: Delivery) -> Delivery:
    """The same delivery once more: a record of its own, the same GUID, the same bytes signed anew."""
    hook = delivery.hook
    again = replace(
        delivery,
        id=box.next_id(),
        redelivery=True,
        delivered_at=now(),
        request_headers=delivery.request_headers | signatures(hook.secret, delivery.request_body),
        **UNSENT,
    )
    post(box, again)
    return again


UNSENT: dict[str, Any] = {
    "duration": 0.0,
    "status": "",
    "status_code": 0,
    "response_headers": {},
    "response_body": "",
    "throttled_at": None,
}


def post(box: Box, delivery: Delivery) -> None:
    """The delivery is logged and leaves in the background, or goes wrong as the test asked."""
    assert box.tasks is not None, "deliveries are sent while the sandbox runs"
    box.deliveries[delivery.id] = delivery
    if box.post.throttles():
        delivery.throttled_at = now()
    if box.post.drops():
        delivery.status, delivery.status_code = UNREACHABLE
        return
    copies = [delivery]
    if box.post.duplicates():
        copies.append(replace(delivery, id=box.next_id()))
        box.deliveries[copies[1].id] = copies[1]
    ready = [each for copy in copies for each in box.post.ready(copy)]
    if ready:
        box.post.under_way += len(ready)
        box.tasks.start_soon(send_in_turn, box, ready)


async def send_in_turn(box: Box, deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        try:
            await anyio.sleep(box.post.delay)
            await send(delivery, deadline=box.post.deadline)
        finally:
            box.post.ended()


async def send(delivery: Delivery, *, deadline: float) -> None:
    """One POST, never repeated; its record says how it ended."""
    started = anyio.current_time()
    try:
        with anyio.fail_after(deadline):
            await _exchange(delivery)
    except TimeoutError:
        delivery.status, delivery.status_code = TOO_LATE
    except (aiohttp.ClientError, OSError, ValueError):  # ValueError: the hook's URL is none
        delivery.status, delivery.status_code = UNREACHABLE
    delivery.duration = round(anyio.current_time() - started, 2)


async def _exchange(delivery: Delivery) -> None:
    hook = delivery.hook
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.post(
            URL(hook.url, encoded=True),
            data=delivery.request_body,
            headers=delivery.request_headers,
            allow_redirects=False,  # a redirect is a failed delivery
            ssl=not hook.insecure_ssl,
        ) as answer,
    ):
        kept = b"".join([chunk async for chunk in _first(answer, ANSWER_KEPT)])
        delivery.status_code = answer.status
        delivery.status = "OK" if answer.ok and answer.status < 300 else f"Invalid HTTP Response: {answer.status}"
        delivery.response_headers = {str(name): value for name, value in answer.headers.items()}  # of plain str
        delivery.response_body = kept.decode(errors="replace")


async def _first(answer: aiohttp.ClientResponse, limit: int) -> AsyncIterator[bytes]:
    async for chunk in answer.content.iter_chunked(limit):
        yield chunk[:limit]
        limit -= len(chunk)
        if limit <= 0:
            return


def log(box: Box, hook: Hook) -> list[Delivery]:
    """The hook's deliveries of the last days, newest first."""
    since = now() - (ENTERPRISE_KEPT if box.enterprise else KEPT)
    kept = [d for d in box.deliveries.values() if d.hook is hook and d.delivered_at >= since]
    return sorted(kept, key=lambda delivery: -delivery.id)
