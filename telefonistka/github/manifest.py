"""A GitHub App by its manifest: what ours asks for, and what GitHub hands out once a person has agreed to it.

https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from telefonistka.errors import Rejected
from telefonistka.github.endpoint import Endpoint

DEADLINE = 30  # seconds for GitHub's answer

PERMISSIONS: Mapping[str, str] = {
    "checks": "write",  # findings at the lines of a configuration that a pull request changes
    "contents": "write",
    "issues": "read",  # nothing is asked by it, but GitHub takes no manifest with issue_comment without it
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}
EVENTS = ("check_suite", "issue_comment", "pull_request", "pull_request_review", "push", "status")
# A review counts towards a branch's rules if its author may push there.
APPROVER_PERMISSIONS: Mapping[str, str] = {"contents": "write", "metadata": "read", "pull_requests": "write"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An App that was made, and the secrets that GitHub shows this once."""

    id: int
    slug: str
    url: str
    private_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)


def manifest(name: str, webhook: str, *, approver: bool = False) -> dict[str, Any]:
    """What we ask for: the daemon's App with its webhook, or the one that approves and hears nothing."""
    parts = urlsplit(webhook)
    return {
        "name": name,
        "url": f"{parts.scheme}://{parts.netloc}",
        "hook_attributes": {"url": webhook, "active": not approver},
        "public": False,
        "default_permissions": dict(APPROVER_PERMISSIONS if approver else PERMISSIONS),
        "default_events": [] if approver else list(EVENTS),
    }


def page(endpoint: Endpoint, organization: str) -> str:
    """Where a person agrees to a manifest; the App is the organization's, or the person's own if that is empty."""
    owner = f"/organizations/{quote(organization)}" if organization else ""
    return f"{endpoint.web}{owner}/settings/apps/new"


async def convert(session: aiohttp.ClientSession, endpoint: Endpoint, code: str) -> Registered:
    """The App that the code stands for, which counts once and for an hour; raises Rejected.

    https://docs.github.com/en/rest/apps/apps#create-a-github-app-from-a-manifest
    """
    url = f"{endpoint.rest}/app-manifests/{quote(code, safe='')}/conversions"
    headers = {"Accept": "application/vnd.github+json", "User-Agent": "telefonistka"}
    try:
        async with session.post(url, headers=headers, timeout=aiohttp.ClientTimeout(DEADLINE)) as answer:
            status, made = answer.status, await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Rejected(f"GitHub cannot be asked for the App: {error or type(error).__name__}.") from error
    if status != HTTPStatus.CREATED:
        said = made.get("message", "") if isinstance(made, dict) else ""
        raise Rejected(f"GitHub does not hand out the App: {status} {said}. Begin again.")
    return Registered(
        id=int(made["id"]),
        slug=str(made["slug"]),
        url=str(made["html_url"]),
        private_key=str(made["pem"]),
        webhook_secret=str(made["webhook_secret"] or ""),
    )
