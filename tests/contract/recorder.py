"""Holds every exchange between a client and the sandbox against GitHub's descriptions.

recorder = Recorder()
async with sandbox.running(path, middlewares=[recorder.watch]) as box:
    …
assert not recorder.faults
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from telefonistka.sandbox.box import Box
from tests.contract import schemas


@dataclass
class Recorder:
    """Every fault that was found so far; `seen` counts the exchanges by operation."""

    faults: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def watch(self) -> Middleware:
        """The middleware for sandbox.running()."""

        @web.middleware
        async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
            body = await request.read()
            answer = await handler(request)
            path = request.rel_url.raw_path
            if path.endswith("/graphql"):
                self.judge_graphql(body)
            elif path.startswith(("/api/v3/", "/repos/", "/app/")):
                self.judge(request, path, body, answer)
            return answer

        return watched

    def judge(self, request: web.Request, path: str, body: bytes, answer: web.StreamResponse) -> None:
        """Both sides of one REST call."""
        raw = answer.body if isinstance(answer, web.Response) else None
        text = raw if isinstance(raw, bytes) else b""
        is_json = answer.content_type == "application/json"
        shown = (json.loads(text) if is_json else text.decode(errors="replace")) if text else None
        kind = answer.content_type if text else "application/json"
        self._note(str(schemas.operation(request.method, path) or path))
        self.faults += schemas.request(request.method, path, request.rel_url.raw_query_string, _json(body))
        if answer.status < 500:  # GitHub's own failures are described nowhere
            self.faults += schemas.response(request.method, path, answer.status, shown, content_type=kind)

    def judge_graphql(self, body: bytes) -> None:
        """A GraphQL call's document and variables; its answer is built from the same schema."""
        asked = _json(body)
        self._note("GraphQL")
        self.faults += schemas.query(asked["query"], asked.get("variables") or {})

    def judge_webhooks(self, box: Box) -> None:
        """Every payload that the sandbox sent as JSON."""
        for delivery in box.deliveries.values():
            if delivery.hook.content_type == "json":
                self._note(f"webhook {delivery.event}")
                self.faults += schemas.webhook(delivery.event, json.loads(delivery.request_body))

    def _note(self, operation: str) -> None:
        self.seen[operation] = self.seen.get(operation, 0) + 1


def _json(body: bytes) -> Any:
    return json.loads(body) if body.strip() else None
