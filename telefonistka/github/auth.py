"""Who we are to GitHub: a token or an App, and the clients that call in its name.

What belongs here: credentials and their renewal, finding installations, the HTTP session. Not retries or limits.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
from gidgethub import apps

from telefonistka import telemetry
from telefonistka.errors import Rejected
from telefonistka.github import Forbidden, NotFound, Refused
from telefonistka.github.client import Client
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Clock, Limits, Pacing

JWT_LIFETIME = 9 * 60  # seconds from its issue, dated back a minute; GitHub takes no more than ten minutes
TOKEN_LIFETIME = (
    60 * 60
)  # seconds: https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
EARLY = 5 * 60  # seconds before its end that an installation token is renewed
REMEMBERED = 10 * 60  # seconds that a looked-up installation is trusted; Apps are removed and installed again
CONNECTIONS_KEPT = 75  # seconds that an idle connection stays open; aiohttp's 15 cost a handshake per event

VIEWER = "query Viewer { viewer { login } }"


@dataclass(frozen=True, slots=True)
class Token:
    """A personal access token, or any other that does not change."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class App:
    """A GitHub App and its private key in PEM."""

    id: int
    private_key: str = field(repr=False)

    def check(self) -> None:
        """The key can sign; raises ValueError with the reason where it cannot."""
        try:
            self.jwt()
        except Exception as error:  # PyJWT and cryptography have many ways to dislike a key
            raise ValueError(f"the private key of App {self.id} is not an RSA key in PEM: {error}") from error

    def jwt(self) -> str:
        """A fresh proof that we are the App: https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app"""
        return apps.get_jwt(app_id=str(self.id), private_key=self.private_key, expiration=JWT_LIFETIME)


def session(endpoint: Endpoint, *, ca_file: Path | None = None) -> aiohttp.ClientSession:
    """The HTTP session for one GitHub; the caller closes it. Proxy variables count, and so does NO_PROXY."""
    trust = ssl.create_default_context()
    if ca_file is not None:
        trust.load_verify_locations(cafile=ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust, limit=0, keepalive_timeout=CONNECTIONS_KEPT, ttl_dns_cache=300),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Not trust_env: with a ~/.netrc that names GitHub, aiohttp refuses every request that has an Authorization.
        proxy=proxy(endpoint.rest),
    )


def proxy(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY give for an address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


class _TokenCredential:
    def __init__(self, token: Token) -> None:
        self._authorization = f"token {token.value}"

    async def authorization(self) -> str:
        return self._authorization

    async def refused(self, authorization: str) -> bool:
        return False


class _AppCredential:
    def __init__(self, app: App) -> None:
        self._app = app

    async def authorization(self) -> str:
        return f"bearer {self._app.jwt()}"

    async def refused(self, authorization: str) -> bool:
        return False


class _InstallationCredential:
    """An installation's token: renewed before it ends, once however many wait for it."""

    def __init__(self, app: Client, installation: int, clock: Clock) -> None:
        self._app = app
        self._installation = installation
        self._clock = clock
        self._renewing = anyio.Lock()
        self._authorization = ""
        self._until = 0.0  # seconds, monotonic

    async def authorization(self) -> str:
        async with self._renewing:
            if not self._authorization or self._clock.monotonic() >= self._until:
                await self._renew()
            return self._authorization

    async def refused(self, authorization: str) -> bool:
        if authorization == self._authorization:  # else somebody has renewed it since
            self._authorization = ""
        return True

    async def _renew(self) -> None:
        # https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app
        try:
            answer = await self._app.post(f"/app/installations/{self._installation}/access_tokens", data=b"")
        except NotFound as error:
            raise Rejected(f"The App's installation {self._installation} is gone: install the App again.") from error
        left = datetime.fromisoformat(answer["expires_at"]).timestamp() - self._clock.wall()
        # GitHub's clock and ours may differ by more than a token lives; a 401 renews it anyway.
        left = min(TOKEN_LIFETIME, max(2 * EARLY, left))
        self._until = self._clock.monotonic() + left - EARLY
        self._authorization = f"token {answer['token']}"


class Identity:
    """One of ours at GitHub, and its clients: one per installation, or one alone for a token."""

    def __init__(
        self,
        credentials: Token | App,
        endpoint: Endpoint,
        session: aiohttp.ClientSession,
        *,
        pacing: Pacing | None = None,
        clock: Clock | None = None,
        name: str = "main",
    ) -> None:
        self._credentials = credentials
        self.name = name  # in metrics and in the log
        self._endpoint = endpoint
        self._session = session
        self._pacing = pacing or Pacing()
        self._clock = clock or Clock()
        self._at_once = anyio.CapacityLimiter(self._pacing.at_once)
        self._installations: dict[int, Client] = {}
        self._found: dict[str, tuple[int, float]] = {}  # owner, lower case → installation, seconds until forgotten
        self._login = ""
        match credentials:
            case Token():
                self._self = self._client(_TokenCredential(credentials))
            case App():
                self._self = self._client(_AppCredential(credentials))

    @property
    def is_app(self) -> bool:
        return isinstance(self._credentials, App)

    @property
    def itself(self) -> Client:
        """The client of the token, or the one that speaks as the App and not for an installation of it."""
        return self._self

    @property
    def refused(self) -> bool:
        """Whether GitHub's last answer to any of our clients was that it does not know us."""
        return any(client.refused for client in self._clients())

    def pace(self, pacing: Pacing) -> None:
        """From now on, writes keep these distances."""
        self._pacing = pacing
        for client in self._clients():
            client.limits.pacing = pacing

    def _clients(self) -> tuple[Client, ...]:
        return self._self, *self._installations.values()

    async def greet(self) -> None:
        """GitHub has been asked whether it knows us, which costs none of its limits; raises as any call does.

        https://docs.github.com/en/rest/rate-limit/rate-limit, https://docs.github.com/en/rest/apps/apps#get-the-authenticated-app
        """
        with suppress(NotFound):  # an Enterprise Server without limits
            await self._self.get("/app" if self.is_app else "/rate_limit")

    async def login(self) -> str:
        """The name under which our comments and commits appear; an App's ends in "[bot]"."""
        if not self._login:
            if self.is_app:
                self._login = (await self._self.get("/app"))["slug"] + "[bot]"
            else:
                self._login = await self._owner()
        return self._login

    async def _owner(self) -> str:
        """Whose token it is; that of a run of GitHub Actions is an installation's, which REST does not say."""
        try:
            return str((await self._self.get("/user"))["login"])
        except Forbidden as refused:
            if refused.status != HTTPStatus.FORBIDDEN:
                raise
            return str((await self._self.query(VIEWER))["viewer"]["login"])

    async def client(self, owner: str, repo: str, installation: int | None = None) -> Client:
        """The client for a repository; `installation` is what the payload says, else it is looked up."""
        if isinstance(self._credentials, Token):
            return self._self
        if installation is None:
            installation = await self._installation(owner, repo)
        if installation not in self._installations:
            credential = _InstallationCredential(self._self, installation, self._clock)
            self._installations[installation] = self._client(credential, owner)
        return self._installations[installation]

    def _client(
        self, credential: _TokenCredential | _AppCredential | _InstallationCredential, owner: str = ""
    ) -> Client:
        limits = Limits(self._pacing, self._clock)  # GitHub counts per installation
        tell = partial(telemetry.budget, self.name, owner)
        return Client(self._session, self._endpoint, credential, limits, self._at_once, self.login, tell)

    async def _installation(self, owner: str, repo: str) -> int:
        known, until = self._found.get(owner.lower(), (0, 0.0))
        if known and self._clock.monotonic() < until:
            return known
        found = await self._look_up(owner, repo)
        self._found[owner.lower()] = found, self._clock.monotonic() + REMEMBERED
        return found

    async def _look_up(self, owner: str, repo: str) -> int:
        # https://docs.github.com/en/rest/apps/apps#get-a-repository-installation-for-the-authenticated-app
        try:
            return int((await self._self.get(f"/repos/{quote(owner)}/{quote(repo)}/installation"))["id"])
        except Refused:  # renamed, or not among the repositories of the installation: its owner still tells
            pass
        ours = [one async for one in self._self.pages("/app/installations?per_page=100")]
        for one in ours:
            if str(one["account"].get("login")).lower() == owner.lower():  # an enterprise has none
                return int(one["id"])
        raise Rejected(f"The App is not installed on `{owner}`: install it there.")
