"""`telefonistka github-app`: from a page on this machine to an App with which the daemon does its work, and no more."""

from __future__ import annotations

import json
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from yarl import URL

from telefonistka.core import events
from telefonistka.github import manifest
from telefonistka.sandbox import auth, rest, scenes
from telefonistka.sandbox import server as sandbox
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules
from telefonistka.sandbox.state import App
from tests.contract.recorder import Recorder
from tests.daemon.test_chain import BY_ITSELF
from tests.faults.place import DAEMON, Daemon, eventually, reserved

MANIFEST = Path(__file__).parents[2] / "config" / "github-app-manifest.json"
WEBHOOK = "https://telefonistka.example.com/webhook"
DEADLINE = 60  # seconds


class Form(HTMLParser):
    """The only form of a page, as a browser would send it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given["action"]
        elif tag == "input":
            self.fields[given["name"]] = given["value"]


@asynccontextmanager
async def github(directory: Path) -> AsyncIterator[Box]:
    """The sandbox, whose answers are held against GitHub's descriptions."""
    recorder = Recorder()
    async with sandbox.running(directory / "github", middlewares=[recorder.watch]) as box:
        box.person("alice", access="admin")
        yield box
        assert recorder.faults == []


@asynccontextmanager
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@asynccontextmanager
async def command(box: Box, directory: Path, *arguments: str) -> AsyncIterator[tuple[Process, str, TextReceiveStream]]:
    """The running command, the page that it asks to open, and what else it says."""
    called = [sys.executable, "-m", "telefonistka", "github-app", "--directory", str(directory), *arguments]
    process = await anyio.open_process(called, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={"GITHUB_HOST": box.url})
    try:
        assert process.stdout is not None
        said, text = TextReceiveStream(process.stdout), ""
        with anyio.fail_after(DEADLINE):
            while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+\n", text)):
                text += await said.receive()
        yield process, found[0].strip(), said
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def ended(process: Process, said: TextReceiveStream) -> tuple[int, str]:
    """Its exit code and what it said on the way."""
    with anyio.fail_after(DEADLINE):
        text = "".join([part async for part in said])
        assert process.stderr is not None
        text += "".join([part async for part in TextReceiveStream(process.stderr)])
        return await process.wait(), text


async def sent(session: aiohttp.ClientSession, url: str | URL, form: Form) -> tuple[int, str]:
    """The page that a form leads to."""
    async with session.post(URL(str(url)).join(URL(form.action)), data=form.fields) as answer:
        return answer.status, await answer.text()


async def agreed(session: aiohttp.ClientSession, page: str) -> tuple[int, str]:
    """A person opens the page, goes to GitHub, and agrees there; the page to which GitHub sends them back."""
    async with session.get(page) as answer:
        start = await answer.text()
    leads = Form(start)
    status, text = await sent(session, page, leads)
    assert status == 200, text
    return await sent(session, leads.action, Form(text))


def only_app(box: Box) -> App:
    (app,) = box.apps.values()
    return app


@pytest.mark.parametrize("organization", ["", "acme"])
async def test_an_app_is_registered_in_a_browser(tmp_path: Path, organization: str) -> None:
    """Key and secret become files that only their owner may read; neither is said anywhere."""
    more = ["--organization", organization] if organization else []
    async with (
        github(tmp_path) as box,
        browser() as session,
        command(box, tmp_path, "--webhook", WEBHOOK, *more) as (process, page, said),
    ):
        status, text = await agreed(session, page)
        code, told = await ended(process, said)
        app = only_app(box)
    assert (status, code) == (200, 0), (text, told)
    assert (app.owner.login, app.name, app.slug) == (organization or "alice", "Telefonistka", "telefonistka")
    assert app.permissions == manifest.PERMISSIONS
    assert app.hook is not None
    assert (app.hook.url, app.hook.events) == (WEBHOOK, list(manifest.EVENTS))
    key, secret = tmp_path / "github-app-private-key", tmp_path / "github-webhook-secret"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (key, secret)] == [0o600, 0o600]
    assert secret.read_text().strip() == app.hook.secret
    assert f"GITHUB_APP_ID={app.id}" in told
    assert f"/apps/{app.slug}/installations/new" in told
    for hidden in (app.hook.secret, key.read_text().splitlines()[1]):
        assert hidden not in told + text


async def test_the_second_identity_is_registered_too(tmp_path: Path) -> None:
    """It hears nothing, has no secret, and its key goes by another name."""
    async with (
        github(tmp_path) as box,
        browser() as session,
        command(box, tmp_path, "--webhook", WEBHOOK, "--approver") as (process, page, said),
    ):
        assert (await agreed(session, page))[0] == 200
        code, told = await ended(process, said)
        app = only_app(box)
    assert (code, app.hook, app.events, app.name) == (0, None, [], "Telefonistka approver")
    assert f"APPROVER_GITHUB_APP_ID={app.id}" in told
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["approver-github-app-private-key"]


async def test_only_the_answer_to_our_own_question_is_taken(tmp_path: Path) -> None:
    """Whoever guesses has neither the page's path nor the state; the command goes on waiting for the right answer."""
    async with (
        github(tmp_path) as box,
        browser() as session,
        command(box, tmp_path, "--webhook", WEBHOOK) as (process, page, said),
    ):
        for url, status in ((URL(page).with_path("/"), 404), (f"{page}/done?code=theirs&state=guessed", 403)):
            async with session.get(url) as answer:
                assert answer.status == status
        assert not (tmp_path / "github-app-private-key").exists()
        assert (await agreed(session, page))[0] == 200
        assert (await ended(process, said))[0] == 0


async def test_what_github_refuses_is_said(tmp_path: Path) -> None:
    """In the browser and in the terminal: exit code 1, no files."""
    async with (
        github(tmp_path) as box,
        browser() as session,
        command(box, tmp_path, "--webhook", WEBHOOK) as (process, page, said),
    ):
        async with session.get(page) as answer:
            leads = Form(await answer.text())
        state = URL(leads.action).query["state"]
        async with session.get(f"{page}/done", params={"code": "expired", "state": state}) as answer:
            assert (answer.status, "404 Not Found" in await answer.text()) == (502, True)
        code, told = await ended(process, said)
    assert (code, "GitHub does not hand out the App: 404 Not Found. Begin again." in told) == (1, True), told
    assert [one.name for one in tmp_path.iterdir()] == ["github"]


async def test_secrets_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    """It is said before anybody goes to GitHub, which shows them only once."""
    (tmp_path / "github-webhook-secret").write_text("in use")
    called = [sys.executable, "-m", "telefonistka", "github-app", "--webhook", WEBHOOK, "--directory", str(tmp_path)]
    done = await anyio.run_process(called, check=False, env={})
    assert (done.returncode, b"is there already" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"default_permissions": {"pull_requests": "write"}},
            "by permissions: check_suite, issue_comment",
        ),
        ({"default_events": ["installation"]}, "Default events unsupported: installation"),
        ({"redirect_url": "no"}, "redirect_url must be a URL"),
    ],
)
async def test_the_sandbox_refuses_what_github_refuses(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    """An event needs its permission, as GitHub's page says with these words."""
    good = manifest.manifest("Telefonistka", WEBHOOK) | {"redirect_url": "http://127.0.0.1:1/"}
    async with github(tmp_path) as box, browser() as session:
        for given, status in ((good, 200), (good | change, 422)):
            async with session.post(f"{box.url}/settings/apps/new", data={"manifest": json.dumps(given)}) as answer:
                assert (answer.status, says in await answer.text()) == (status, status == 422)


def test_the_manifest_to_copy_is_the_one_that_is_sent() -> None:
    """And it asks for the events that are handled."""
    assert json.loads(MANIFEST.read_text()) == manifest.manifest("Telefonistka", WEBHOOK)
    assert set(manifest.EVENTS) == {name for name in events._READERS if not name.startswith("telefonistka_")}


async def test_the_daemon_needs_what_the_manifest_asks_for(tmp_path: Path) -> None:
    """With Apps from both manifests a change goes from lab to production, with checks, reviews and comments.

    Nothing is refused, and each permission is needed by one of the calls, at its level.
    """
    recorder = Recorder()
    async with sandbox.running(tmp_path / "github", middlewares=[recorder.watch]) as box, browser() as session:
        alice = box.person("alice", access="admin")
        repo = scenes.repository(box, "acme", "iac", dict(BY_ITSELF))
        repo.protection["main"] = Rules(approvals=1, enforce_admins=False)
        with reserved() as port:
            daemon = Daemon(tmp_path, box.url, {}, DAEMON, session, port)
            daemon.credentials = await registered(box, session, tmp_path, daemon.webhook)
            try:
                await daemon.start()

                async def ask(method: str, path: str, **fields: Any) -> None:
                    url, bearer = f"{box.url}/repos/acme/iac{path}", {"Authorization": f"Bearer {alice.value}"}
                    async with session.request(method, url, json=fields, headers=bearer) as answer:
                        assert answer.status < 400, await answer.text()

                broken = {"lab/nginx/telefonistka.yaml": "disableArgoCDDif: true", "lab/nginx/values.yaml": "2"}
                await scenes.commit(box, repo, broken, by=alice.user, branch="change")
                await ask("POST", "/pulls", title="A change", head="change", base="main")
                await ask("POST", "/issues/1/comments", body="/telefonistka plan")
                await eventually(lambda: len(repo.pulls[1].comments) >= 2)
                await ask("PUT", "/pulls/1/merge")
                await eventually(lambda: len(repo.pulls) == 4 and all(pull.merged for pull in repo.pulls.values()))
                await box.post.idle()
            finally:
                await daemon.kill()
    assert recorder.faults == []
    asked = [call for call in box.calls if call.identity.endswith("[bot]")]
    assert [(call.route, call.status) for call in asked if call.status in (401, 403)] == []
    needed = union(call.route or "" for call in asked if call.identity == "telefonistka[bot]")
    assert needed | {"issues": "read", "metadata": "read"} == manifest.PERMISSIONS  # these two GitHub wants


async def registered(box: Box, session: aiohttp.ClientSession, directory: Path, webhook: str) -> dict[str, str]:
    """Both Apps are registered by the command and installed; what the operator sets."""
    for more in ([], ["--approver"]):
        asked = ["--webhook", webhook, "--organization", "acme", *more]
        async with command(box, directory, *asked) as (process, page, said):
            assert (await agreed(session, page))[0] == 200
            code, told = await ended(process, said)
            assert code == 0, told
    for app in box.apps.values():
        box.install(app, app.owner)
    ids = {app.slug: str(app.id) for app in box.apps.values()}
    return {
        "GITHUB_APP_ID": ids["telefonistka"],
        "GITHUB_APP_PRIVATE_KEY_PATH": str(directory / "github-app-private-key"),
        "APPROVER_GITHUB_APP_ID": ids["telefonistka-approver"],
        "APPROVER_GITHUB_APP_PRIVATE_KEY_PATH": str(directory / "approver-github-app-private-key"),
        "GITHUB_WEBHOOK_SECRET": (directory / "github-webhook-secret").read_text().strip(),
    }


def union(routes: Iterable[str]) -> dict[str, str]:
    """The permissions that the routes need, each at its highest level; where either of two will do, ours."""
    needs = {re.sub(r":[^}/]*}", "}", f"{one.method} {one.path}"): one.needs for one in rest.ROUTES}
    found: dict[str, str] = {}
    for route in routes:
        names, _, level = (needs.get(route) or "").partition(":")
        name = "pull_requests" if "pull_requests" in names.split(",") else names
        if name and auth.LEVELS.index(level) > auth.LEVELS.index(found.get(name, "none")):
            found[name] = level
    return found
