"""Registers a GitHub App for us: a page for a person's browser, and the files that GitHub's answer becomes.

What belongs here: the page on this machine from which the browser goes to GitHub and to which GitHub sends it back.
Neither key nor secret is ever part of a page.
"""

from __future__ import annotations

import hmac
import html
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson
from aiohttp import web

from telefonistka.errors import Rejected
from telefonistka.github import manifest
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.manifest import Registered

HOST = "127.0.0.1"
PATIENCE = 1800  # seconds for a person to agree; signing in at GitHub may take a while
SHUTDOWN = 2.0  # seconds for the last page to arrive

PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Telefonistka</title><style>:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
pre {{ border: 1px solid; border-radius: 6px; padding: 1rem; overflow-x: auto }}
button {{ font: inherit; padding: .4rem 1.2rem }}</style><h1>{title}</h1>{body}
"""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The App to register, and where its secrets go."""

    name: str
    webhook: str
    organization: str  # empty: the person's own
    approver: bool
    directory: Path

    @property
    def key_file(self) -> Path:
        return self.directory / f"{'approver-' * self.approver}github-app-private-key"

    @property
    def secret_file(self) -> Path | None:
        return None if self.approver else self.directory / "github-webhook-secret"


async def register(
    session: aiohttp.ClientSession, endpoint: Endpoint, wanted: Wanted, *, port: int, announce: Callable[[str], None]
) -> Registered:
    """The App is registered and its secrets are in their files; raises Rejected.

    `announce` is told the address that a person has to open.
    """
    _look(wanted)
    desk = Desk(session, endpoint, wanted)
    runner = web.AppRunner(desk.application(), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        desk.url = f"http://{HOST}:{runner.addresses[0][1]}"
        announce(f"{desk.url}{desk.path}")
        with anyio.fail_after(PATIENCE):
            return await desk.ended()
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise Rejected(f"Nobody agreed within {PATIENCE // 60} minutes. Begin again.") from error
        raise Rejected(f"{HOST}:{port} cannot be listened on: {error.strerror}. Give another --port.") from error
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


class Desk:
    """The pages of one registration, below a path that only who started it knows."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, wanted: Wanted) -> None:
        self.url = ""
        self.path = f"/{secrets.token_urlsafe(16)}"
        self._session = session
        self._endpoint = endpoint
        self._wanted = wanted
        self._state = secrets.token_urlsafe(32)
        self._taken = False
        self._end = anyio.Event()
        self._made: Registered | None = None
        self._failure: Rejected | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get(self.path, self.start)
        app.router.add_get(f"{self.path}/done", self.done)
        return app

    async def ended(self) -> Registered:
        await self._end.wait()
        if self._failure is not None:
            raise self._failure
        assert self._made is not None
        return self._made

    async def start(self, request: web.Request) -> web.Response:
        """What will be asked for, and the button that leads to GitHub."""
        asked = self.manifest()
        action = f"{manifest.page(self._endpoint, self._wanted.organization)}?state={self._state}"
        shown = html.escape(orjson.dumps(asked, option=orjson.OPT_INDENT_2).decode())
        form = (
            f'<form method="post" action="{html.escape(action)}">'
            f'<input type="hidden" name="manifest" value="{html.escape(orjson.dumps(asked).decode())}">'
            f"<button>Go to {html.escape(self._endpoint.web)}</button></form>"
        )
        text = "<p>GitHub will show you what the App may do, let you change its name, and register it.</p>"
        return _page("Register a GitHub App", f"{text}{form}<p>It is asked for this:</p><pre>{shown}</pre>")

    def manifest(self) -> dict[str, Any]:
        wanted = self._wanted
        asked = manifest.manifest(wanted.name, wanted.webhook, approver=wanted.approver)
        return asked | {"redirect_url": f"{self.url}{self.path}/done"}

    async def done(self, request: web.Request) -> web.Response:
        """Where GitHub sends the browser back to, with a code for what was registered."""
        # Whoever sends us another's code would have us act as their App.
        if not hmac.compare_digest(request.query.get("state", "").encode(), self._state.encode()):
            return _page("This is not the answer to our question", "<p>Begin again in the terminal.</p>", 403)
        code = request.query.get("code", "")
        if not code or self._taken:
            return _page("There is nothing to do", "<p>Look into the terminal.</p>", 400)
        self._taken = True
        try:
            made = await manifest.convert(self._session, self._endpoint, code)
            _store(self._wanted, made)
        except Rejected as rejected:
            self._failure = rejected
            self._end.set()
            return _page("It did not work", f"<p>{html.escape(str(rejected))}</p>", 502)
        self._made = made
        self._end.set()
        return _page(f"{html.escape(made.slug)} is registered", "<p>What is left to do stands in the terminal.</p>")


def _page(title: str, body: str, status: int = 200) -> web.Response:
    text = PAGE.format(title=title, body=body)
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)


def _look(wanted: Wanted) -> None:
    """The files can be written; raises Rejected, because GitHub shows the secrets only once."""
    for path in (wanted.key_file, wanted.secret_file):
        if path is not None and path.exists():
            raise Rejected(f"{path} is there already. Move it away, or give another --directory.")
    if not os.access(wanted.directory, os.W_OK | os.X_OK):
        raise Rejected(f"{wanted.directory} cannot be written. Give another --directory.")


def _store(wanted: Wanted, made: Registered) -> None:
    files: Mapping[Path | None, str] = {wanted.key_file: made.private_key, wanted.secret_file: made.webhook_secret}
    try:
        for path, text in files.items():
            if path is not None:
                _write(path, text)
    except OSError as error:
        raise Rejected(
            f"The App {made.id} is registered at {made.url}, but its secrets cannot be written: {error}. "
            "Make new ones on its settings page."
        ) from error


def _write(path: Path, text: str) -> None:
    """The file is new, on disk, and its owner's alone."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        file.write(text.strip() + "\n")
        file.flush()
        os.fsync(handle)
