"""GitHub's log of the webhooks that it sent, or tried to: for the App, and for a repository's own webhook.

What belongs here: reading the log, and a delivery of it as GitHub had sent it. Whether we have it is recovery.py's
business. https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/viewing-webhook-deliveries
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

from telefonistka.github.auth import Identity
from telefonistka.github.client import Client

Headers = tuple[tuple[str, str], ...]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
SIGNATURE = "X-Hub-Signature-256"
SIGNATURES = frozenset({"x-hub-signature", "x-hub-signature-256"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to deliver; those of one delivery have the same GUID."""

    id: int
    guid: str
    at: float  # seconds since 1970, by GitHub's clock
    event: str
    action: str
    good: bool  # the receiver took it
    throttled: bool  # GitHub held it back


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent, as the log shows it: the payload is not the bytes any more."""

    headers: Mapping[str, str]
    payload: Mapping[str, Any] = field(repr=False)

    def rebuilt(self, secrets: Sequence[bytes]) -> tuple[Headers, bytes]:
        """Headers and body that pass a receiver's check of the signature.

        GitHub's own where its signature proves that these are its bytes; else the same JSON, signed by us.
        """
        given = next((value for name, value in self.headers.items() if name.lower() == SIGNATURE.lower()), "")
        is_form = _kind(self.headers) == FORM
        for text in _texts(self.payload):
            body = b"payload=" + quote_plus(text).encode() if is_form else text
            if any(hmac.compare_digest(given.encode(), signature(secret, body).encode()) for secret in secrets):
                return tuple(self.headers.items()), body
        body = orjson.dumps(self.payload)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in SIGNATURES}
        kept = {name: JSON if name.lower() == "content-type" else value for name, value in kept.items()}
        return (*kept.items(), (SIGNATURE, signature(secrets[0], body))), body


def _kind(headers: Mapping[str, str]) -> str:
    values = (value for name, value in headers.items() if name.lower() == "content-type")
    return next(values, "").partition(";")[0].strip().lower()


def _texts(payload: Mapping[str, Any]) -> Iterator[bytes]:
    """The payload as JSON in the ways in which GitHub may have written it: without spaces, its keys in this order."""
    plain = orjson.dumps(payload)
    yield plain
    yield json.dumps(payload, separators=(",", ":")).encode()
    # As Rails does: https://api.rubyonrails.org/classes/ActiveSupport/JSON/Encoding.html
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        plain = plain.replace(character.encode(), rf"\u{ord(character):04x}".encode())
    yield plain


def signature(secret: bytes, body: bytes) -> str:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    return "sha256=" + hmac.digest(secret, body, "sha256").hex()


class Log:
    """The deliveries of one webhook of the last three days."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path

    @property
    def now(self) -> float:
        """GitHub's time when it was asked last."""
        return self._client.now

    async def since(self, moment: float) -> list[Attempt]:
        """All attempts from this moment on, the oldest first; one that is still under way is not among them."""
        found: list[Attempt] = []
        # https://docs.github.com/en/rest/apps/webhooks#list-deliveries-for-an-app-webhook: the newest comes first
        async with aclosing(self._client.pages(f"{self._path}?per_page=100")) as rows:
            async for row in rows:
                attempt = _attempt(row)
                if attempt.at < moment:
                    break
                found.append(attempt)
        return found[::-1]

    async def request(self, attempt: Attempt) -> Request:
        """What the attempt sent; raises Refused where GitHub has forgotten it."""
        sent = (await self._client.get(f"{self._path}/{attempt.id}"))["request"]
        return Request(sent["headers"] or {}, sent["payload"] or {})


def of_app(identity: Identity) -> Log:
    """The log of the App's webhook, which it reads as itself and not for an installation."""
    return Log(identity.itself, "/app/hook/deliveries")


def of_hook(client: Client, owner: str, name: str, hook: int) -> Log:
    """The log of a repository's webhook: for those who administer it."""
    return Log(client, f"/repos/{quote(owner)}/{quote(name)}/hooks/{hook}/deliveries")


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        id=row["id"],
        guid=row["guid"],
        at=datetime.fromisoformat(row["delivered_at"]).timestamp(),
        event=row["event"],
        action=row.get("action") or "",
        good=row["status"] == "OK",
        throttled=row.get("throttled_at") is not None,
    )
