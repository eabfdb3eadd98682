"""Receivers of webhooks, as far as a sender can see Argo CD: they check the signature, and may be busy.

https://argo-cd.readthedocs.io/en/stable/operator-manual/webhook/
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from aiohttp import web

PATH = "/api/webhook"
BODY_LIMIT = 50 << 20  # bytes, as Argo CD has it


@dataclass(slots=True)
class Receiver:
    """One of them, with what it got."""

    name: str
    secret: str
    busy: int = 0  # requests that it still answers with 503
    url: str = ""
    requests: int = 0
    taken: list[bytes] = field(default_factory=list)  # bodies with a right signature
    delivered: list[str] = field(default_factory=list)  # the ids of their deliveries

    async def webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        expected = "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, request.headers.get("X-Hub-Signature-256", "")):
            return web.Response(status=400, text="Webhook processing failed: HMAC verification failed\n")
        if self.busy:
            self.busy -= 1
            return web.Response(status=503, text="Queue is full, discarding webhook payload\n")
        self.taken.append(body)
        self.delivered.append(request.headers.get("X-GitHub-Delivery", ""))
        return web.Response()


@asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[Receiver]:
    """It listens on a port of its own."""
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post(PATH, receiver.webhook)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        yield receiver
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()
