"""Who hears of an event, and GitHub's REST of hooks and their deliveries.

https://docs.github.com/en/rest/repos/webhooks, https://docs.github.com/en/rest/apps/webhooks
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from telefonistka.sandbox import deliveries, objects, payloads, rest
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rest import Answer, Ask, Refused, Route, invalid, not_found, whole
from telefonistka.sandbox.state import Access, App, Delivery, Event, Hook, Installation, User, now

# https://docs.github.com/en/webhooks/types-of-webhooks
HOOKS_PER_EVENT = 20  # of one repository


def listener(box: Box) -> Callable[[Event], Awaitable[None]]:
    """Hears what happens in the sandbox; every hook that wants the event is sent its payload in the background."""

    async def hear(event: Event) -> None:
        hooks = list(hooks_for(box, event))
        if not hooks or event.name not in payloads.EVENTS:
            return
        payload = await payloads.build(box, event)
        guid = str(uuid.uuid1())  # the event's: all hooks that hear of it are told the same
        for hook, installation in hooks:
            told = payload if installation is None else payloads.of_installation(payload, installation)
            deliveries.deliver(box, hook, event, told, guid=guid, installation=installation)

    return hear


def hooks_for(box: Box, event: Event) -> Iterator[tuple[Hook, Installation | None]]:
    """The active hooks that are subscribed to an event: the repository's own, then the Apps' installed there."""
    if event.repo is not None:
        for hook in event.repo.hooks.values():
            if hook.active and wants(hook, event.name):
                yield hook, None
    for app in list(box.apps.values()):
        installation = _installation(box, event, app)
        if app.hook is not None and app.hook.active and installation is not None and wants(app.hook, event.name):
            yield app.hook, installation


def _installation(box: Box, event: Event, app: App) -> Installation | None:
    if event.repo is None:
        installation = event.facts.get("installation")
        return installation if installation is not None and installation.app is app else None
    found = box.installation_of(app, event.repo)
    return found if found is not None and found.suspended_at is None else None


def wants(hook: Hook, event: str) -> bool:
    """Whether a hook is subscribed: an App always hears of its own installations, every hook of its ping."""
    always = event == "ping" or (hook.app is not None and event.startswith("installation"))
    return always or event in hook.events or "*" in hook.events


async def ping(box: Box, hook: Hook, sender: User) -> None:
    """What a new hook is sent, and whenever its owner asks."""
    event = Event(name="ping", action=None, repo=hook.repo, sender=sender, facts={"hook": hook})
    payload = await payloads.build(box, event)
    deliveries.deliver(box, hook, event, payload, guid=str(uuid.uuid1()))


# REST: hooks


def shown(box: Box, hook: Hook) -> dict[str, Any]:
    """A repository's hook as GitHub shows it."""
    assert hook.repo is not None
    url = f"{objects.repo_api(box, hook.repo)}/hooks/{hook.id}"
    return {
        "type": "Repository",
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": list(hook.events),
        "config": payloads.hook_config(hook),
        "created_at": objects.time(hook.created_at),
        "updated_at": objects.time(hook.updated_at),
        "url": url,
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": last_response(box, hook),
    }


def last_response(box: Box, hook: Hook) -> dict[str, Any]:
    last = next((d for d in deliveries.log(box, hook) if d.status), None)
    if last is None:
        return {"code": None, "status": "unused", "message": None}
    return {"code": last.status_code, "status": "active", "message": last.status}


async def list_hooks(ask: Ask) -> Answer:
    admin(ask)
    page, headers = ask.page([shown(ask.box, hook) for hook in ask.repo.hooks.values()])
    return Answer(page, headers=headers)


async def create_hook(ask: Ask) -> Answer:
    admin(ask)
    body = await ask.json()
    given = body.get("config") or {}
    if not str(given.get("url") or "").startswith(("http://", "https://")):
        raise invalid("Hook", "url", message="url is missing or is no http address")
    events = rest.texts(body, "events", "Hook") or ["push"]
    full = [e for e in events if sum(e in hook.events for hook in ask.repo.hooks.values()) >= HOOKS_PER_EVENT]
    if full:
        raise invalid("Hook", "base", message=f'The "{full[0]}" event cannot have more than {HOOKS_PER_EVENT} hooks')
    if any(hook.url == given["url"] and set(hook.events) & set(events) for hook in ask.repo.hooks.values()):
        raise invalid("Hook", "base", message="Hook already exists on this repository")
    hook = Hook(id=ask.box.next_id(), repo=ask.repo, app=None, url="", secret="", events=events)
    hook.content_type = "form"  # GitHub's default, not ours
    hook.active = body.get("active", True) is not False
    configure(hook, given)
    ask.repo.hooks[hook.id] = hook
    await ping(ask.box, hook, ask.user)
    return Answer(shown(ask.box, hook), 201)


async def get_hook(ask: Ask) -> Answer:
    return Answer(shown(ask.box, repository_hook(ask)))


async def update_hook(ask: Ask) -> Answer:
    hook = repository_hook(ask)
    body = await ask.json()
    configure(hook, body.get("config") or {})
    events = set(rest.texts(body, "events", "Hook") or hook.events)
    events |= set(rest.texts(body, "add_events", "Hook"))
    hook.events = sorted(events - set(rest.texts(body, "remove_events", "Hook")))
    hook.active = body.get("active", hook.active) is not False
    return Answer(shown(ask.box, hook))


async def delete_hook(ask: Ask) -> Answer:
    del ask.repo.hooks[repository_hook(ask).id]
    return Answer(status=204)


async def ping_hook(ask: Ask) -> Answer:
    await ping(ask.box, repository_hook(ask), ask.user)
    return Answer(status=204)


async def get_config(ask: Ask) -> Answer:
    return Answer(payloads.hook_config(app_hook(ask)))


async def update_config(ask: Ask) -> Answer:
    hook = app_hook(ask)
    configure(hook, await ask.json())
    return Answer(payloads.hook_config(hook))


def configure(hook: Hook, given: Mapping[str, Any]) -> None:
    """The hook with what is given; the rest stays."""
    if given.get("content_type", hook.content_type) not in ("json", "form"):
        raise invalid("Hook", "content_type")
    hook.url = str(given.get("url", hook.url))
    hook.secret = str(given.get("secret", hook.secret))
    hook.content_type = given.get("content_type", hook.content_type)
    hook.insecure_ssl = str(given.get("insecure_ssl", int(hook.insecure_ssl))) == "1"
    hook.updated_at = now()


# REST: deliveries


def item(delivery: Delivery) -> dict[str, Any]:
    """One row of the log."""
    return {
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": objects.time(delivery.delivered_at),
        "redelivery": delivery.redelivery,
        "duration": delivery.duration,
        "status": delivery.status,
        "status_code": delivery.status_code,
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": delivery.installation_id,
        "repository_id": delivery.repository_id,
        "throttled_at": objects.time(delivery.throttled_at),
    }


def whole_delivery(delivery: Delivery) -> dict[str, Any]:
    """The row with what was sent and answered."""
    body = delivery.request_body
    text = body if delivery.hook.content_type == "json" else parse_qs(body.decode())["payload"][0]
    return item(delivery) | {
        "url": delivery.hook.url,
        "request": {"headers": delivery.request_headers, "payload": orjson.loads(text)},
        "response": {"headers": delivery.response_headers, "payload": delivery.response_body},
    }


def listed(ask: Ask, hook: Hook) -> Answer:
    """A page of the log, newest first; the Link header's cursor names the delivery that the next one starts with."""
    found = [d for d in deliveries.log(ask.box, hook) if d.status]
    wanted = ask.query("status")
    if wanted:
        found = [d for d in found if (d.status == "OK") == (wanted == "success")]
    cursor = whole(ask.query("cursor").removeprefix("v1_"), 0)
    if ask.query("cursor") and not cursor:
        raise Refused(422, "Invalid cursor")
    size = min(max(whole(ask.query("per_page"), rest.PER_PAGE), 1), rest.MAX_PER_PAGE)
    here = [d for d in found if not cursor or d.id <= cursor]
    following = here[size : size + 1]
    links = [f'<{ask.link(cursor=f"v1_{d.id}")}>; rel="next"' for d in following]
    return Answer([item(d) for d in here[:size]], headers={"Link": links[0]} if links else {})


async def list_deliveries(ask: Ask) -> Answer:
    return listed(ask, repository_hook(ask))


async def get_delivery(ask: Ask) -> Answer:
    return Answer(whole_delivery(delivery_of(ask, repository_hook(ask))))


async def redeliver(ask: Ask) -> Answer:
    deliveries.redeliver(ask.box, delivery_of(ask, repository_hook(ask)))
    return Answer({}, 202)


async def list_app_deliveries(ask: Ask) -> Answer:
    return listed(ask, app_hook(ask))


async def get_app_delivery(ask: Ask) -> Answer:
    return Answer(whole_delivery(delivery_of(ask, app_hook(ask))))


async def redeliver_app(ask: Ask) -> Answer:
    deliveries.redeliver(ask.box, delivery_of(ask, app_hook(ask)))
    return Answer({}, 202)


# Who may


def admin(ask: Ask) -> None:
    """Hooks are for those who administer the repository; for others they are not there."""
    try:
        ask.require(Access.ADMIN)
    except Refused as error:
        raise not_found() from error


def repository_hook(ask: Ask) -> Hook:
    admin(ask)
    hook = ask.repo.hooks.get(ask.number("hook"))
    if hook is None:
        raise not_found()
    return hook


def app_hook(ask: Ask) -> Hook:
    """The one hook of the App whose JWT this is."""
    if ask.identity.app is None:
        raise Refused(401, "A JSON web token could not be decoded")
    if ask.identity.app.hook is None:
        raise not_found()
    return ask.identity.app.hook


def delivery_of(ask: Ask, hook: Hook) -> Delivery:
    number = ask.number("delivery")
    found = next((d for d in deliveries.log(ask.box, hook) if d.id == number), None)
    if found is None:
        raise not_found()
    return found


HOOKS = "/repos/{owner}/{repo}/hooks"
HOOK = HOOKS + "/{hook}"
READ, WRITE = "repository_hooks:read", "repository_hooks:write"

TABLE = (
    Route("GET", "/app/hook/config", get_config, None),
    Route("PATCH", "/app/hook/config", update_config, None),
    Route("GET", "/app/hook/deliveries", list_app_deliveries, None),
    Route("GET", "/app/hook/deliveries/{delivery}", get_app_delivery, None),
    Route("POST", "/app/hook/deliveries/{delivery}/attempts", redeliver_app, None),
    Route("GET", HOOKS, list_hooks, READ),
    Route("POST", HOOKS, create_hook, WRITE),
    Route("GET", HOOK, get_hook, READ),
    Route("PATCH", HOOK, update_hook, WRITE),
    Route("DELETE", HOOK, delete_hook, WRITE),
    Route("POST", HOOK + "/pings", ping_hook, WRITE),
    Route("GET", HOOK + "/deliveries", list_deliveries, READ),
    Route("GET", HOOK + "/deliveries/{delivery}", get_delivery, READ),
    Route("POST", HOOK + "/deliveries/{delivery}/attempts", redeliver, WRITE),
)


def routes(box: Box) -> list[web.RouteDef]:
    """The REST routes of hooks, without a prefix."""
    return rest.definitions(TABLE)
