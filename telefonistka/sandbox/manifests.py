"""Apps by manifest: the page on which a person agrees to one, and what its code is exchanged for.

https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from yarl import URL

from telefonistka.sandbox import objects, pages
from telefonistka.sandbox.auth import LEVELS
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rest import Answer, Ask, not_found, route
from telefonistka.sandbox.state import Registration, User, now

LIFETIME = timedelta(hours=1)  # of a code
LONGEST_NAME = 34
# The permission without which an App may not hear of an event; GitHub names it with each event:
# https://docs.github.com/en/webhooks/webhook-events-and-payloads
EVENTS = {
    "check_run": "checks",
    "check_suite": "checks",
    "issue_comment": "issues",
    "issues": "issues",
    "merge_group": "merge_queues",
    "pull_request": "pull_requests",
    "pull_request_review": "pull_requests",
    "push": "contents",
    "status": "statuses",
    "workflow_run": "actions",
}


def routes(box: Box) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        return await agreement(box, request)

    async def make(request: web.Request) -> web.StreamResponse:
        return await agreed(box, request)

    places = [f"{owner}/settings/apps" for owner in ("", "/organizations/{organization}")]
    return [web.post(f"{place}/new", ask) for place in places] + [web.post(place, make) for place in places]


async def agreement(box: Box, request: web.Request) -> web.StreamResponse:
    """What the manifest asks for, and the button that agrees to it."""
    given = await manifest(request)
    events = ((one, "event") for one in given.get("default_events", []))
    asked = [*given.get("default_permissions", {}).items(), *events]
    hidden = {"manifest": orjson.dumps(given).decode(), "state": request.query.get("state", "")}
    fields = "".join(f'<input type="hidden" name="{name}" value="{pages.text(one)}">' for name, one in hidden.items())
    name = f'<input name="name" value="{pages.text(str(given.get("name", "")))}">'
    action = pages.text(request.path.removesuffix("/new"))
    form = f'<form method="post" action="{action}">{fields}{name} <button>Create GitHub App</button></form>'
    rows = [(pages.text(str(what)), pages.text(str(level))) for what, level in asked]
    body = pages.page("Create GitHub App", form, pages.table(("it asks for", ""), rows))
    # The answer to the form leads on to where the manifest says, and browsers look at that as well.
    return pages.respond(body, leads_to=str(URL(given["redirect_url"]).origin()))


async def agreed(box: Box, request: web.Request) -> web.StreamResponse:
    """The App is made; its maker is sent back with a code."""
    pages.refuse_foreign(request)
    given, form = await manifest(request), await request.post()
    name = str(form.get("name") or given["name"])
    app, private_key = box.register(
        re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        name=name,
        owner=owner(box, request),
        permissions=dict(given.get("default_permissions", {})),
        events=list(given.get("default_events", [])),
    )
    secret, hook = secrets.token_hex(20), given.get("hook_attributes", {})
    if hook.get("active", True) and hook:
        box.listen(app, hook["url"], secret)
    code = secrets.token_hex(20)
    box.registrations[code] = Registration(
        app=app, private_key=private_key, webhook_secret=secret if app.hook else None, expires_at=now() + LIFETIME
    )
    back = URL(given["redirect_url"]).update_query(code=code, state=str(form.get("state", "")))
    raise web.HTTPSeeOther(back)


def owner(box: Box, request: web.Request) -> User:
    organization = request.match_info.get("organization")
    return box.account(organization) if organization else pages.person(box).user


async def manifest(request: web.Request) -> dict[str, Any]:
    """The form's manifest; raises what GitHub's page says of one that it does not take."""
    try:
        given = orjson.loads(str((await request.post())["manifest"]))
    except (KeyError, orjson.JSONDecodeError) as error:
        raise refused("it is no JSON") from error
    if faults := problems(given):
        raise refused("; ".join(faults))
    return dict(given)


def refused(why: str) -> web.HTTPUnprocessableEntity:
    return web.HTTPUnprocessableEntity(text=f"Invalid GitHub App configuration: {why}")


def problems(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return ["it is no object"]
    permissions, events = given.get("default_permissions", {}), given.get("default_events", [])
    hook = given.get("hook_attributes", {})
    faults = [f"{name} must be a URL" for name in ("url", "redirect_url") if not is_url(given.get(name))]
    faults += ["Hook url must be a URL"] * bool(hook and not is_url(hook.get("url")))
    faults += [f"Name is too long (maximum is {LONGEST_NAME} characters)"] * (len(given.get("name", "")) > LONGEST_NAME)
    faults += [f"Default permission {name} is wrong" for name, level in permissions.items() if level not in LEVELS]
    unknown = [event for event in events if event not in EVENTS]
    bare = [event for event in events if permissions.get(EVENTS.get(event, ""), "none") == "none"]
    faults += [f"Default events unsupported: {', '.join(unknown)}"] * bool(unknown)
    faults += [f"Default events are not supported by permissions: {', '.join(bare)}"] * bool(bare)
    return faults


def is_url(value: Any) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in ("http", "https") and bool(urlsplit(value).hostname)


@route("POST", "/app-manifests/{code}/conversions")
async def convert(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/apps/apps#create-a-github-app-from-a-manifest"""
    found = ask.box.registrations.pop(ask.path("code"), None)
    if found is None or found.expires_at < now():
        raise not_found()
    made = objects.app(ask.box, found.app) | {
        "client_secret": secrets.token_hex(20),
        "webhook_secret": found.webhook_secret,
        "pem": found.private_key,
    }
    return Answer(made, 201)
